"""The figure of the benchmark: a panel for each thing that was varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from mptt.experiments.bench.common import Figure
from mptt.experiments.figures.common import BLACK, BLUE, SMALL, VERMILION, start_axes

GREY = "#999999"
COLOURS = (VERMILION, BLUE, BLACK)
MARKERS = ("o", "s", "^")
RATIO = "MPTT epoch / epoch\nfrom zero state"


@dataclass(frozen=True)
class Panel:
    """How the points of one panel are drawn.

    Attributes:
        x: label of its axis, which is logarithmic.
        y: label of its axis: logarithmic, or linear for a ratio.
        ratio: whether values are ratios, for which 1 is marked; others get a line of linear growth.
    """

    x: str
    y: str
    ratio: bool = False


PANELS: dict[str, Panel] = {
    "window": Panel("window length (steps)", RATIO, ratio=True),
    "batch_size": Panel("batch size (windows)", RATIO, ratio=True),
    "hidden_size": Panel("hidden size (units)", RATIO, ratio=True),
    "read and write": Panel("windows", "read and write of a batch\nof 256 messages (ms)"),
    "keymap": Panel("windows", "building the key-map (s)"),
    "scale": Panel("windows", "whole MPTT epoch,\ntiny network (s)"),
}


def draw(figures: Sequence[Figure]) -> Drawing | None:
    """The panels that have points: medians, bars for the range of the repeats. None where there is none."""
    found = {name: [one for one in figures if one.panel == name] for name in PANELS}
    found = {name: points for name, points in found.items() if points}
    if not found:
        return None
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    drawing = Drawing(figsize=(2.45 * columns, 2.2 * rows), layout="constrained")
    every = drawing.subplots(rows, columns, squeeze=False).ravel()
    for letter, axes, (name, points) in zip("abcdefghijkl", every, found.items(), strict=False):
        _draw_panel(start_axes(axes), PANELS[name], points)
        axes.set_title(f"({letter})", loc="left", fontsize=SMALL + 1)
    for axes in every[len(found) :]:
        axes.set_axis_off()
    return drawing


def _draw_panel(axes: Axes, panel: Panel, points: Sequence[Figure]) -> None:
    curves = list(dict.fromkeys(one.curve for one in points))
    if panel.ratio:
        axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        chosen = sorted((one for one in points if one.curve == curve), key=lambda one: one.at)
        at, median = [one.at for one in chosen], [one.value for one in chosen]
        reach = [[one.value - one.low for one in chosen], [one.high - one.value for one in chosen]]
        axes.plot(at, median, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=curve)
        axes.errorbar(at, median, reach, fmt="none", ecolor=colour, elinewidth=0.8, capsize=2)
    axes.set(xscale="log", xlabel=panel.x, ylabel=panel.y)
    if panel.ratio:
        ticks = sorted({one.at for one in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.margins(x=0.12)
    else:
        axes.set_yscale("log")
        _linear_guide(axes, points)
    if len(curves) > 1 or not panel.ratio:
        axes.legend(frameon=False, fontsize=SMALL - 1, loc="upper left", handlelength=2)


def _linear_guide(axes: Axes, points: Sequence[Figure]) -> None:
    """A line of linear growth through the last point, as far down as the points go."""
    last = max(points, key=lambda one: one.at)
    at = np.array(sorted({one.at for one in points}))
    line = last.value * at / last.at
    kept = line >= min(one.low for one in points) / 3
    axes.plot(at[kept], line[kept], color=GREY, linewidth=1, linestyle="--", label="linear", zorder=0)

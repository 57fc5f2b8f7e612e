"""The figure of the benchmark: a panel for each thing that was varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from mptt.experiments.bench.common import Figure
from mptt.experiments.figures.common import BLACK, BLUE, SMALL, VERMILION, start_axes

GREY = "#999999"
COLOURS = (VERMILION, BLUE, BLACK)
MARKERS = ("o", "s", "^")
LINES = ("-", "--", ":")
RATIO = "MPTT epoch / epoch\nfrom zero state"


@dataclass(frozen=True)
class Panel:
    """How the points of one panel are drawn.

    Attributes:
        x: label of its axis, which is logarithmic.
        y: label of its axis.
        shows: a "ratio": 1 is marked, and all such panels have one scale; a "level": the axis begins at 0; or "growth":
            the axis is logarithmic and has the slope of linear growth beside the points.
    """

    x: str
    y: str
    shows: Literal["ratio", "level", "growth"]


MANY = "number of windows"
PANELS: dict[str, Panel] = {
    "window": Panel("window length (steps)", RATIO, "ratio"),
    "batch_size": Panel("batch size (windows)", RATIO, "ratio"),
    "hidden_size": Panel("hidden size (units)", RATIO, "ratio"),
    "read and write": Panel(MANY, "read and write of a batch\nof 256 messages (ms)", "level"),
    "keymap": Panel(MANY, "building the key-map (s)", "growth"),
    "scale": Panel(MANY, "whole MPTT epoch,\ntiny network (s)", "growth"),
}


def draw(figures: Sequence[Figure]) -> Drawing | None:
    """The panels that have points: medians, bars for the middle half of the repeats. None where there is none."""
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
    _share_scale([axes for axes, name in zip(every, found, strict=False) if PANELS[name].shows == "ratio"])
    for axes in every[len(found) :]:
        axes.set_axis_off()
    return drawing


def _draw_panel(axes: Axes, panel: Panel, points: Sequence[Figure]) -> None:
    curves = list(dict.fromkeys(one.curve for one in points))
    if panel.shows == "ratio":
        axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
    for curve, colour, marker, line in zip(curves, COLOURS, MARKERS, LINES, strict=False):
        chosen = sorted((one for one in points if one.curve == curve), key=lambda one: one.at)
        at, median = [one.at for one in chosen], [one.value for one in chosen]
        lower, upper = np.transpose([np.quantile(one.values, (0.25, 0.75)) for one in chosen])
        reach = [np.subtract(median, lower), np.subtract(upper, median)]
        axes.plot(at, median, line, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=curve)
        axes.errorbar(at, median, reach, fmt="none", ecolor=colour, elinewidth=0.8, capsize=2)
    axes.set(xscale="log", xlabel=panel.x, ylabel=panel.y)
    if panel.shows == "growth":
        axes.set_yscale("log")
        _linear_guide(axes, points)
        axes.set_ylim(bottom=min(one.value for one in points) / 4)  # room for the legend
    else:
        ticks = sorted({one.at for one in points})
        if panel.shows == "ratio":
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        else:
            axes.set_ylim(0, 1.3 * max(one.value for one in points))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.margins(x=0.12)
    if panel.shows == "growth" or len(curves) > 1:
        axes.legend(frameon=False, fontsize=SMALL - 1, loc="lower right", handlelength=2, borderaxespad=0.1)


def _linear_guide(axes: Axes, points: Sequence[Figure]) -> None:
    """The slope of linear growth, above the points."""
    last = max(points, key=lambda one: one.at)
    at = np.array(sorted({one.at for one in points}))
    axes.plot(at, 3 * last.value * at / last.at, color=GREY, linewidth=1, linestyle="--", label="linear", zorder=0)


def _share_scale(panels: Sequence[Axes]) -> None:
    """One scale for all, so that they can be compared."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))

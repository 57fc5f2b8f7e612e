"""Figures of the units of a network: their responses, and what is lost without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    BLACK,
    BLUE,
    SMALL,
    VERMILION,
    legend_beside,
    log_scale,
    one_panel,
    start_axes,
)

_GREEN, _GREY = "#009E73", "#999999"
_ORDERS = {
    "settling time": "longest settling\ntime first",
    "change": "largest change first",
    "annual gain": "largest gain at\na year first",
    "each alone": "most missed\nalone first",
}
_LOOKS = ((VERMILION, "-"), (BLUE, "--"), (_GREEN, "-."), ("#CC79A7", ":"))


def unit_figure(
    units: pd.DataFrame, frequencies: pd.DataFrame, paths: npt.NDArray[np.float64], horizon: int, per: str
) -> Figure:
    """Responses of the units by themselves: after a step, and gain and lag against the period of a sine.

    Each to the input that moves it most; coloured by settling time, grey where it does not settle.

    Args:
        units: as of `UnitResponses.units`.
        frequencies: likewise.
        paths: likewise.
        horizon: in steps.
        per: what a step is: "days".
    """
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    panels = [start_axes(axes) for axes in figure.subplots(1, 3)]
    settling = units["settling"].to_numpy()
    known = settling[np.isfinite(settling) & (settling > 0)]
    longest = max(float(known.max(initial=2)), 2.0)
    norm = LogNorm(max(float(known.min()), 1.0) if len(known) else 1.0, longest)
    colours = [colormaps["viridis_r"](norm(max(one, 1))) if np.isfinite(one) else _GREY for one in settling]
    waves = units[["core", "layer", "unit", "input"]].merge(frequencies, how="left")
    each = [one for _, one in waves.groupby(["core", "layer", "unit"], sort=False)]
    for path, wave, colour in zip(paths, each, colours, strict=True):
        look: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.9}
        panels[0].plot(np.arange(1, horizon + 1), path[:horizon], **look)
        panels[1].plot(wave["period"], wave["gain"] / wave["gain"].max(), **look)
        panels[2].plot(wave["period"], wave["lag"], **look)
    panels[0].set(xlabel=f"{per} after the step", ylabel="response (part of the whole)")
    # An overshoot is shown; a unit that goes to and fro between its limits is cut off.
    top = float(np.nanmax(np.where(np.isfinite(paths), paths, np.nan), initial=1.0))
    panels[0].set_ylim(-0.05, min(max(1.05, top + 0.05), 2.0))
    # Three decades at least, or their ticks would be too many for a panel so narrow.
    panels[0].set_xlim(1, max(1000.0, min(horizon, 3 * longest) if np.isfinite(settling).all() else horizon))
    panels[1].set(xlabel=f"period ({per})", ylabel="gain (part of the largest)", ylim=(0, 1.05))
    panels[2].set(xlabel=f"period ({per})", ylabel=f"lag ({per})")
    for axes in panels:
        log_scale(axes, "x")
    for axes, letter in zip(panels, "abc", strict=True):
        axes.set_title(letter, loc="left", fontsize=SMALL + 1, fontweight="bold")
    bar = figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=panels, pad=0.01, aspect=30)
    grey = "" if np.isfinite(settling).all() else f"; grey: more than {horizon}"
    bar.set_label(f"settling time ({per}{grey})", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    _plain_ticks(bar.ax)
    return figure


def ablation_figure(scores: pd.DataFrame, orders: Sequence[str], target: str, held_at: str = "their mean") -> Figure:
    """NSE of a target against the number of units held at a constant: in the given orders, and in random ones.

    Args:
        scores: as of `scores_in_order`; random orders are called "random 1" and so on.
        orders: to draw, by name.
        target: which.
        held_at: what the constant is, for the axis.
    """
    figure, axes = one_panel(3.0)
    some = scores[scores["target"] == target]
    by_order = some.pivot(index="held", columns="order", values="nse")
    random = by_order[[name for name in by_order if str(name).startswith("random ")]]
    if random.shape[1]:
        label = f"{random.shape[1]} random orders:\nrange and median"
        axes.fill_between(by_order.index, random.min(axis=1), random.max(axis=1), color=_GREY, alpha=0.35, lw=0)
        axes.plot(by_order.index, random.median(axis=1), color="#555555", linewidth=1.2, label=label)
    for name, (colour, line) in zip(orders, _LOOKS, strict=False):
        axes.plot(
            by_order.index, by_order[name], color=colour, linestyle=line, linewidth=1.5, label=_ORDERS.get(name, name)
        )
    whole = float(some.loc[some["held"] == 0, "nse"].to_numpy()[0])
    axes.axhline(whole, color=BLACK, linewidth=0.6, linestyle=":")
    axes.set(xlabel=f"units held at {held_at}", ylabel=f"NSE of {target}", xlim=(0, by_order.index.max()))
    # Far below the mean of the observations one model is as useless as another.
    axes.set_ylim(max(float(by_order.min().min()), -0.5) - 0.05, max(whole, float(by_order.max().max())) + 0.05)
    legend_beside(figure, axes)
    return figure


def _plain_ticks(axes: Axes) -> None:
    low, high = axes.get_ylim()
    ticks = [
        tick for power in range(-1, 5) for tick in (10**power, 2 * 10**power, 5 * 10**power) if low <= tick <= high
    ]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()

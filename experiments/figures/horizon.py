"""Figures of a horizon: how a wrong initial state fades, by season too, and the half-lives of units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.analysis.horizon import band
from mptt.errors import MPTTError
from mptt.experiments.figures.common import BLACK, BLUE, SMALL, VERMILION, log_scale, start_axes, style_of
from mptt.experiments.strategies import find_strategy

GREY = "#999999"
LOWEST = 1e-3  # of the axes of shares, where two thresholds of 5 and 1 % are
SEASONS = {"DJF": "#0072B2", "MAM": "#009E73", "JJA": "#D55E00", "SON": "#E69F00"}
OTHERS = ("#56B4E9", "#CC79A7", "#009E73")


def fading(found: Mapping[str, xr.Dataset]) -> Figure:
    """Distance against steps, of states and of predictions: medians over starts, bands from 10 to 90 %.

    Args:
        found: Datasets of `mptt.experiments.memory.horizon`, by what the legend calls them; one without states, such as
            the truth of a simulation, is drawn in black, its band as thin lines, where it has predictions.
    """
    first = next(iter(found.values()))
    panels = [
        "state",
        *(str(name).removesuffix("_spread") for name in first.data_vars if str(name).endswith("_spread")),
    ]
    figure = Figure(figsize=(3.4 * len(panels) + 0.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, what in zip(axes, panels, strict=True):
        looks = _looks(found)
        for name, one in found.items():
            if f"{what}_distance" not in one:
                continue
            low, middle, high = _shares(one, what)
            steps = np.arange(1, len(middle) + 1)
            panel.plot(steps, middle, label=name, linewidth=1.6, **looks[name])
            if looks[name]["color"] == BLACK:  # a filled band more would hide the others
                panel.plot(steps, np.stack([low, high], axis=1), linewidth=0.6, **looks[name])
            else:
                # The bands of many would hide each other.
                alpha = min(0.18, 0.4 / len(found))
                panel.fill_between(steps, low, high, color=looks[name]["color"], alpha=alpha, linewidth=0)
        _finish(panel, first, what)
    axes[0].set_ylabel("distance", fontsize=SMALL + 1)
    handles = {
        label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL, handlelength=3
    )
    return figure


def fading_by_season(found: xr.Dataset) -> Figure:
    """The same by the season in which the runs start: medians alone.

    Args:
        found: of `mptt.experiments.memory.horizon`.
    """
    panels = [
        "state",
        *(str(name).removesuffix("_spread") for name in found.data_vars if str(name).endswith("_spread")),
    ]
    figure = Figure(figsize=(3.4 * len(panels) + 0.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, what in zip(axes, panels, strict=True):
        for season, colour in SEASONS.items():
            if not (found["season"] == season).any():
                continue
            middle = _shares(found, what, season)[1]
            panel.plot(np.arange(1, len(middle) + 1), middle, color=colour, linewidth=1.4, label=f"start in {season}")
        _finish(panel, found, what)
    axes[0].set_ylabel("distance, median", fontsize=SMALL + 1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL)
    return figure


def unit_half_lives(units: pd.DataFrame, steps: int, unit: str) -> Figure:
    """The half-life of each unit, from the shortest to the longest.

    Args:
        units: of `unit_table`: half_life, part.
        steps: of the run; longer half-lives are drawn there, as arrows.
        unit: of a step.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = start_axes(figure.subplots())
    ordered = units.dropna(subset="half_life").sort_values("half_life", kind="stable").reset_index(drop=True)
    for part, colour in (("h", BLUE), ("c", VERMILION)):
        own = ordered[ordered["part"] == part]
        known, beyond = own[np.isfinite(own["half_life"])], own[np.isinf(own["half_life"])]
        label = {"h": "hidden state", "c": "cell"}[part]
        # Under a tenth of a step the number says no more than "at once".
        height = known["half_life"].clip(lower=0.1)
        axes.plot(known.index + 1, height, "o", color=colour, ms=4, label=label if len(own) else None)
        axes.plot(beyond.index + 1, np.full(len(beyond), steps), "^", color=colour, ms=5)
    if np.isinf(ordered["half_life"]).any():
        axes.axhline(steps, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(f"longer than {steps} {unit}", (0.02, steps), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=SMALL, color="#555555")  # fmt: skip
    log_scale(axes)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set(xlabel="unit, sorted", ylabel=f"half-life ({unit})")
    if (ordered["part"] == "c").any():
        axes.legend(frameon=False, fontsize=SMALL, loc="lower right")
    return figure


def _shares(found: xr.Dataset, what: str, season: str | None = None) -> np.ndarray:
    """(3, steps) quantiles over all starts of a distance: of states relative to the first, of targets to the spread."""
    apart = found[f"{what}_distance"].values[..., 1:]
    if what != "state":
        apart = apart / found[f"{what}_spread"].values[:, None, None]
    chosen = found["season"].values != "" if season is None else found["season"].values == season
    return np.clip(band(apart[chosen]), LOWEST / 10, None)


def _finish(axes: Axes, found: xr.Dataset, what: str) -> None:
    start_axes(axes)
    unit, steps = found.attrs["step_unit"], int(found.attrs["steps"])
    for threshold in (0.05, 0.01):
        axes.axhline(threshold, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(f"{100 * threshold:g} %", (1, threshold), xytext=(-2, 2), textcoords="offset points",
                      xycoords=("axes fraction", "data"), fontsize=SMALL - 1, color="#555555", ha="right")  # fmt: skip
    if found.attrs["window"] < steps:
        axes.axvline(found.attrs["window"], color=GREY, linewidth=0.8, linestyle="--")
        axes.annotate("window", (found.attrs["window"], 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
                      textcoords="offset points", fontsize=SMALL - 1, color="#555555",
                      rotation=90, va="top")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(1, steps), ylim=(LOWEST, 10))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel(f"{unit} after the start")
    axes.set_title(
        "hidden state,\nshare of the initial distance"
        if what == "state"
        else f"{what},\nshare of its standard deviation",
        fontsize=SMALL + 1,
    )


def _looks(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A look for each: a strategy's own, black for what has no states, and others."""
    looks: dict[str, dict[str, Any]] = {}
    others = iter(OTHERS * len(found))
    for name, one in found.items():
        if "state_distance" not in one:
            looks[name] = {"color": BLACK, "linestyle": (0, (4, 2))}
            continue
        try:
            find_strategy(name)
            looks[name] = style_of(name)
        except MPTTError:
            looks[name] = {"color": next(others), "linestyle": "-"}
    return looks

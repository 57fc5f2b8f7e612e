"""Figure of linear probes: what they read, which unit carries it, and true against probed series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.experiments.figures.common import BLACK, BLUE, SMALL, VERMILION, last_observed, mark_dates, start_axes, years

READERS = {
    "nse": ("all units", VERMILION, "o"),
    "nse_best_unit": ("best unit", "#E69F00", "D"),
    "nse_moving_inputs": ("inputs, means to a year", BLUE, "s"),
    "nse_inputs": ("inputs of the day", "#56B4E9", "v"),
    "nse_untrained": ("untrained network", "#999999", "X"),
    "nse_season": ("season", BLACK, "|"),
}
_LOWEST = -0.25


def probe_figure(table: pd.DataFrame, units: pd.DataFrame, series: xr.Dataset, steps: int = 1461) -> Figure:
    """NSE of every reader, |r| of every unit, and the last years of true and probed series of the first site.

    Args:
        table: as of `Probed.table`.
        units: as of `Probed.units`.
        series: as of `Probed.series`.
        steps: of the series to show.
    """
    names = table["variable"].tolist()
    figure = Figure(figsize=(7, 1.7 + 0.22 * len(names) + 1.05 * len(names)), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.7 + 0.22 * len(names), 1.05 * len(names)))
    upper, lower = halves
    left, right = upper.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    _readers(start_axes(left), table)
    _matrix(upper, right, units, names)
    handles, labels = left.get_legend_handles_labels()
    upper.legend(
        handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=SMALL - 1, columnspacing=1
    )
    panels = lower.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    first = series.isel(site=0)
    # All panels have the same years: the last in which all variables are known, or else the last of any.
    known = [first[name].notnull() for name in names]
    together = np.logical_and.reduce(known) if np.logical_and.reduce(known).any() else np.logical_or.reduce(known)
    first = first.isel(time=last_observed(first[names[0]].copy(data=np.where(together, 0.0, np.nan)), steps))
    for axes, row in zip(panels, table.to_dict("records"), strict=True):
        _series(start_axes(axes), first, row)
    handles, labels = panels[0].get_legend_handles_labels()
    lower.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=SMALL)
    for axes, letter in zip((left, right, panels[0]), "abc", strict=True):
        axes.set_title(letter, loc="left", fontsize=SMALL + 1, fontweight="bold")
    return figure


def _readers(axes: Axes, table: pd.DataFrame) -> None:
    place = np.arange(len(table))
    for column, (label, colour, marker) in READERS.items():
        if table[column].notnull().any():
            shown = table[column].clip(lower=_LOWEST)
            axes.plot(shown, place, marker, color=colour, label=label, markersize=5, markeredgewidth=1.2, clip_on=False)
    axes.axvline(0, color=BLACK, linewidth=0.6, linestyle=":")
    below = " (lower at the edge)" if (table[list(READERS)] < _LOWEST).to_numpy().any() else ""
    axes.set(xlabel=f"NSE{below}", yticks=place, ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(place, table["variable"].tolist())
    axes.set_xlim(min(-0.05, max(_LOWEST, float(table[list(READERS)].min().min()) - 0.02)), 1)


def _matrix(figure: Figure, axes: Axes, units: pd.DataFrame, names: list[str]) -> None:
    """Units beside each other that carry the same variable, the best of them first."""
    r = units.pivot_table(
        index="variable", columns=["core", "layer", "part", "unit"], values="r", sort=False, aggfunc="first"
    )
    size = r.loc[names].abs().to_numpy()
    order = np.lexsort((-size.max(axis=0), size.argmax(axis=0)))
    image = axes.imshow(size[:, order], aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    several = units[["core", "layer", "part"]].drop_duplicates().shape[0] > 1
    columns: list[Any] = r.columns[order].tolist()
    labels = [f"{part}{layer}.{unit}" if several else str(unit) for _, layer, part, unit in columns]
    every = int(np.ceil(len(labels) / 40))
    axes.set_xticks(range(0, len(labels), every), labels[::every], fontsize=SMALL - 2, rotation=90)
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.tick_params(axis="x", length=2, pad=1)
    axes.set_xlabel("hidden unit", fontsize=SMALL + 1)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
    bar.set_label("|r|", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _series(axes: Axes, series: xr.Dataset, row: dict[Any, Any]) -> None:
    name = str(row["variable"])
    time = years(series["time"])
    axes.plot(time, series[name], color=BLACK, linewidth=1.2, label="true")
    axes.plot(time, series[f"{name}_probed"], color=VERMILION, linewidth=0.9, label="read off all units")
    unit = series[name].attrs.get("units", "")
    axes.set_ylabel(unit, fontsize=SMALL)
    axes.set_xlim(time[0], time[-1])
    mark_dates(axes, series["time"])
    axes.text(
        1, 1.02, f"{name}, NSE {row['nse']:.2f}", transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL - 1
    )

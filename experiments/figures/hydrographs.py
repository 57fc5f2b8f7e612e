"""Predictions and observations along time: of one run, and of strategies against each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    BLACK,
    SMALL,
    TOLD_APART,
    VERMILION,
    colour_of,
    last_observed,
    legend_beside,
    mark_dates,
    name_of,
    scored_steps,
    start_axes,
    style_of,
    targets_of,
    years,
)

COLUMNS = 4


def hydrographs(predictions: xr.Dataset, steps: int = 3 * 365, most_sites: int = 6) -> Figure:
    """Prediction and observation of each target and site, over the last steps that have observations.

    Each panel's title has the NSE over all scored steps of its site, not only those shown.

    Args:
        predictions: as `predictions.nc`: NAME and NAME_observed on (site, time).
        steps: shown.
        most_sites: shown; the first ones.
    """
    targets = targets_of(predictions)
    scored = scored_steps(predictions)
    panels = [(site, target) for site in range(min(predictions.sizes["site"], most_sites)) for target in targets]
    figure = Figure(figsize=(7.5, 0.6 + 1.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (site, target) in zip(grid, panels, strict=True):
        _hydrograph(start_axes(axes), predictions.isel(site=site), scored.isel(site=site), target, steps)
    grid[0].legend(frameon=False, fontsize=SMALL, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)
    grid[-1].set_xlabel("date")
    return figure


def hydrograph_of_strategies(
    predictions: Mapping[str, xr.Dataset], target: str, steps: int = 2 * 365, most_sites: int = 4
) -> Figure:
    """Predictions of a target by each strategy and its observation, over the last steps that have observations.

    Few strategies share a panel for each site. More than can be told apart get a panel each, with the first site alone
    and the NSE over all its scored steps.

    Args:
        predictions: for each strategy, `predictions.nc` of a run; of one test part.
        target: name.
        steps: shown.
        most_sites: shown; the first ones.
    """
    if len(predictions) > TOLD_APART:
        return _panel_for_each(predictions, target, steps)
    first = next(iter(predictions.values()))
    scored = scored_steps(first)
    sites = range(min(first.sizes["site"], most_sites))
    figure = Figure(figsize=(7.5, max(2.5, 0.6 + 1.9 * len(sites))), layout="constrained")
    grid = figure.subplots(len(sites), squeeze=False)[:, 0]
    for axes, site in zip(grid, sites, strict=True):
        start_axes(axes)
        observed = first[f"{target}_observed"].isel(site=site)
        shown = last_observed(observed.where(scored.isel(site=site)), steps)
        dates = years(first["time"][shown])
        axes.plot(dates, observed[shown], color=BLACK, linewidth=2.2, label="observed")
        for name, dataset in predictions.items():
            axes.plot(dates, dataset[target].isel(site=site)[shown], label=name, linewidth=0.9, **style_of(name))
        axes.set_ylabel(name_of(observed, target), fontsize=SMALL)
        axes.set_title(str(first["site"].values[site]), fontsize=SMALL, loc="left")
        mark_dates(axes, first["time"][shown])
        axes.margins(x=0)
    grid[-1].set_xlabel("date")
    legend_beside(figure, grid[0])
    return figure


def _panel_for_each(predictions: Mapping[str, xr.Dataset], target: str, steps: int) -> Figure:
    rows = -(-len(predictions) // COLUMNS)
    figure = Figure(figsize=(7.5, 0.8 + 1.35 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    first = next(iter(predictions.values())).isel(site=0)
    observed = first[f"{target}_observed"]
    counted = observed.where(scored_steps(first))
    shown = last_observed(counted, steps)
    dates = years(first["time"][shown])
    for axes, (name, dataset) in zip(grid.flat, predictions.items(), strict=False):
        predicted = dataset[target].isel(site=0)
        start_axes(axes)
        axes.plot(dates, observed[shown], color=BLACK, linewidth=1.4, label="observed")
        axes.plot(dates, predicted[shown], color=colour_of(name), linewidth=0.9, label=name)
        axes.set_title(f"{name}\n{_nse(predicted, counted)}", fontsize=SMALL, loc="left")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=3))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.margins(x=0)
    for axes in grid.flat[len(predictions) :]:
        axes.set_axis_off()
    figure.supxlabel(f"year; observed in black; {first['site'].item()}", fontsize=SMALL + 1)
    figure.supylabel(name_of(observed, target).replace("\n", " "), fontsize=SMALL + 1)
    return figure


def _hydrograph(axes: Axes, predictions: xr.Dataset, scored: xr.DataArray, target: str, steps: int) -> None:
    observed = predictions[f"{target}_observed"]
    counted = observed.where(scored)
    shown = predictions.isel(time=last_observed(counted, steps))
    dates = years(shown["time"])
    axes.plot(dates, shown[f"{target}_observed"], color=BLACK, linewidth=1.8, label="observed")
    axes.plot(dates, shown[target], color=VERMILION, linewidth=1.0, label="predicted")
    axes.set_ylabel(name_of(observed, target), fontsize=SMALL)
    what = _nse(predictions[target], counted)
    axes.set_title(f"{predictions['site'].item()}, {what} over the scored part", fontsize=SMALL, loc="left")
    mark_dates(axes, shown["time"])
    axes.margins(x=0)


def _nse(predicted: xr.DataArray, counted: xr.DataArray) -> str:
    """The NSE of a series over the observations that count."""
    spread = float(((counted - counted.mean()) ** 2).sum())
    score = 1 - float(((predicted - counted) ** 2).sum()) / spread if spread > 0 else np.nan
    return "NSE not defined" if np.isnan(score) else f"NSE {score:.2f}"

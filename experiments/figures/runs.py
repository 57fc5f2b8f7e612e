"""Figures of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    BLACK,
    BLUE,
    SMALL,
    VERMILION,
    count_from_one,
    last_observed,
    line_width,
    log_scale,
    name_of,
    scored_steps,
    start_axes,
    targets_of,
    whole_numbers,
    years,
)


def learning_curve(metrics: pd.DataFrame) -> Figure:
    """Training and validation loss against epoch, the best epoch marked.

    Args:
        metrics: of `metrics.csv`: epoch, train_loss, val_loss.
    """
    figure = Figure(figsize=(5, 3.2))
    axes = start_axes(figure.subplots())
    epochs = metrics["epoch"] + 1
    axes.plot(epochs, metrics["train_loss"], color=BLUE, label="training windows", **line_width(len(metrics)))
    if "val_loss" in metrics and metrics["val_loss"].notna().any():
        axes.plot(epochs, metrics["val_loss"], color=VERMILION, label="validation part", **line_width(len(metrics)))
        best = metrics.iloc[int(np.nanargmin(metrics["val_loss"]))]
        label = f"best, epoch {int(best['epoch']) + 1}"
        axes.plot(best["epoch"] + 1, best["val_loss"], "o", color=VERMILION, mec=BLACK, ms=6, ls="", label=label)
    axes.set(xlabel="epoch", ylabel="mean squared error\n(standardised target)")
    log_scale(axes)
    count_from_one(axes, int(epochs.max()))
    axes.legend(frameon=False, fontsize=SMALL, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)
    return figure


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
    grid[-1].set_xlabel("year")
    return figure


def _hydrograph(axes: Axes, predictions: xr.Dataset, scored: xr.DataArray, target: str, steps: int) -> None:
    observed, predicted = predictions[f"{target}_observed"], predictions[target]
    counted = observed.where(scored & observed.notnull())
    spread = float(((counted - counted.mean()) ** 2).sum())
    score = 1 - float(((predicted - counted) ** 2).sum()) / spread if spread > 0 else np.nan
    shown = predictions.isel(time=last_observed(counted, steps))
    dates = years(shown["time"])
    axes.plot(dates, shown[f"{target}_observed"], color=BLACK, linewidth=1.8, label="observed")
    axes.plot(dates, shown[target], color=VERMILION, linewidth=1.0, label="predicted")
    axes.set_ylabel(name_of(observed, target), fontsize=SMALL)
    what = "NSE not defined" if np.isnan(score) else f"NSE {score:.2f}"
    axes.set_title(f"{predictions['site'].item()}, {what} over the scored part", fontsize=SMALL, loc="left")
    whole_numbers(axes)
    axes.margins(x=0)

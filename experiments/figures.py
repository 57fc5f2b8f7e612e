"""Figures of a run and of a comparison: units on the axes, one colour for one strategy, PNG and PDF."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.experiments.strategies import STRATEGIES

# Okabe and Ito's palette: told apart by the colour-blind.
BLACK, BLUE, VERMILION = "#000000", "#0072B2", "#D55E00"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and PDF beside each other."""
    for suffix in (".png", ".pdf"):
        # Without the date the same figure is the same file.
        metadata = {"CreationDate": None} if suffix == ".pdf" else None
        figure.savefig(path.with_name(path.name + suffix), dpi=200, bbox_inches="tight", metadata=metadata)


def learning_curve(metrics: pd.DataFrame) -> Figure:
    """Training and validation loss against epoch, the best epoch marked.

    Args:
        metrics: of `metrics.csv`: epoch, train_loss, val_loss.
    """
    figure = Figure(figsize=(5, 3.2))
    axes = _axes(figure.subplots())
    epochs = metrics["epoch"] + 1
    axes.plot(epochs, metrics["train_loss"], color=BLUE, label="training windows", **_line(len(metrics)))
    if "val_loss" in metrics and metrics["val_loss"].notna().any():
        axes.plot(epochs, metrics["val_loss"], color=VERMILION, label="validation part", **_line(len(metrics)))
        best = metrics.iloc[int(np.nanargmin(metrics["val_loss"]))]
        label = f"best, epoch {int(best['epoch']) + 1}"
        axes.plot(best["epoch"] + 1, best["val_loss"], "o", color=VERMILION, mec=BLACK, ms=6, ls="", label=label)
    axes.set(xlabel="epoch", ylabel="mean squared error\n(standardised target)")
    _log_scale(axes)
    _whole_numbers(axes)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)
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
        _hydrograph(_axes(axes), predictions.isel(site=site), scored.isel(site=site), target, steps)
    grid[0].legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)
    grid[-1].set_xlabel("year", fontsize=8)
    return figure


def scores_by_strategy(results: pd.DataFrame, unit: str, title: str = "") -> Figure:
    """Test RMSE of each run, and the mean of each strategy.

    Args:
        results: a row a run: strategy, rmse; strategies in the order to draw.
        unit: of the RMSE.
        title: over the figure.
    """
    names = list(dict.fromkeys(results["strategy"]))
    figure = Figure(figsize=(6, 0.9 + 0.42 * len(names)))
    axes = _axes(figure.subplots())
    for row, name in enumerate(names):
        values = results.loc[results["strategy"] == name, "rmse"].to_numpy()
        colour = colour_of(name)
        axes.barh(row, values.mean(), color=colour, height=0.6, alpha=0.55)
        axes.plot(values, np.full(len(values), row), "o", color=colour, mec=BLACK, mew=0.7, ms=5, clip_on=False)
        text = f"{values.mean():#.3g}".rstrip(".")
        axes.annotate(text, (values.max(), row), textcoords="offset points", xytext=(7, 0), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, results["rmse"].max() * 1.12)
    axes.set_xlabel(f"test RMSE ({unit})" if unit else "test RMSE")
    axes.set_title(title, fontsize=10)
    return figure


def learning_curves(curves: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Validation loss against epoch: the mean over seeds of each strategy, and the range.

    Args:
        curves: for each strategy, `metrics.csv` of each seed.
    """
    figure = Figure(figsize=(6, 3.6))
    axes = _axes(figure.subplots())
    for name, tables in curves.items():
        # Runs that stopped early are as long as they are.
        losses = pd.concat([table.set_index("epoch")["val_loss"] for table in tables], axis=1)
        epochs, colour = losses.index.to_numpy() + 1, colour_of(name)
        axes.plot(epochs, losses.mean(axis=1), color=colour, label=name, **_line(len(epochs)))
        axes.fill_between(epochs, losses.min(axis=1), losses.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel="mean squared error of the\nvalidation part (standardised target)")
    _log_scale(axes)
    _whole_numbers(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def colour_of(strategy: str) -> str:
    """The colour of a strategy in every figure."""
    return STRATEGIES[strategy].colour if strategy in STRATEGIES else BLACK


def targets_of(predictions: xr.Dataset) -> list[str]:
    """The targets of `predictions.nc`."""
    return [str(name) for name in predictions.data_vars if f"{name}_observed" in predictions]


def scored_steps(predictions: xr.Dataset) -> xr.DataArray:
    """Whether a step counts, (site, time): where the site has predictions, after its warm-up."""
    predicted = predictions[targets_of(predictions)[0]].notnull()
    warmup = int(predictions.attrs.get("warmup_steps", 0))
    # A part is one stretch of its site, and the warm-up its first steps.
    return predicted & (predicted.cumsum("time") > warmup)


def _hydrograph(axes: Axes, predictions: xr.Dataset, scored: xr.DataArray, target: str, steps: int) -> None:
    observed, predicted = predictions[f"{target}_observed"], predictions[target]
    counted = observed.where(scored & observed.notnull())
    spread = float(((counted - counted.mean()) ** 2).sum())
    score = 1 - float(((predicted - counted) ** 2).sum()) / spread if spread > 0 else np.nan
    seen = np.flatnonzero(counted.notnull().values)
    stop = int(seen[-1]) + 1 if len(seen) else observed.sizes["time"]
    shown = predictions.isel(time=slice(max(stop - steps, 0), stop))
    years = _years(shown["time"])
    axes.plot(years, shown[f"{target}_observed"], color=BLACK, linewidth=1.8, label="observed")
    axes.plot(years, shown[target], color=VERMILION, linewidth=1.0, label="predicted")
    unit = observed.attrs.get("units", "")
    name = observed.attrs.get("long_name", target).removesuffix("observed").rstrip(" ,") or target
    axes.set_ylabel(textwrap.fill(name, 24) + (f"\n({unit})" if unit else ""), fontsize=8)
    what = "NSE not defined" if np.isnan(score) else f"NSE {score:.2f}"
    axes.set_title(f"{predictions['site'].item()}, {what} over the scored part", fontsize=8, loc="left")
    _whole_numbers(axes)
    axes.margins(x=0)
    axes.tick_params(labelsize=8)


def _years(time: xr.DataArray) -> np.ndarray:
    """Dates as years with fractions: matplotlib's own dates end where nanoseconds do, and know one calendar."""
    return np.asarray(time.dt.year + (time.dt.dayofyear - 1 + time.dt.hour / 24) / 366)


def _line(points: int) -> dict[str, Any]:
    return {"linewidth": 1.6, "marker": "o" if points < 3 else None, "markersize": 3}


def _log_scale(axes: Axes) -> None:
    """A logarithmic axis that has numbers on it also where it spans a decade or less."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(6))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    elif high < 1000 * low:
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)


def _axes(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    return axes

"""Figures of a comparison that are curves: error against window, record, epoch, time, step and day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    TOLD_APART,
    count_from_one,
    legend_beside,
    line_width,
    log_scale,
    one_panel,
    one_stands_apart,
    style_of,
    with_unit,
)

Curves = Mapping[str, Sequence[pd.DataFrame]]
AGAINST = {"window": "window length (steps)", "train_steps": "training steps of each site"}
# First days of every other month, of a year of 365.
MONTHS = {1: "Jan", 60: "Mar", 121: "May", 182: "Jul", 244: "Sep", 305: "Nov"}


def learning_curves(curves: Curves) -> Figure:
    """Validation loss against epoch: the mean over seeds of each strategy, and of a few strategies the range.

    Args:
        curves: for each strategy, `metrics.csv` of each seed.
    """
    figure, axes = one_panel()
    for name, tables in curves.items():
        # Runs that stopped early are as long as they are.
        losses = _side_by_side(tables, "epoch", "val_loss")
        epochs, style = losses.index.to_numpy() + 1, style_of(name)
        axes.plot(epochs, losses.mean(axis=1), label=name, **style, **line_width(len(epochs)))
        _range(axes, epochs, losses, style["color"], len(curves))
    axes.set(xlabel="epoch", ylabel="mean squared error of the\nvalidation part (standardised target)")
    log_scale(axes)
    count_from_one(axes, 1 + max(int(table["epoch"].max()) for tables in curves.values() for table in tables))
    legend_beside(figure, axes)
    return figure


def rmse_against(results: pd.DataFrame, by: Literal["window", "train_steps"], unit: str) -> Figure:
    """Test RMSE of each strategy against the length of windows or of the record: mean over seeds, bars for the range.

    Args:
        results: a row a run: strategy, seed, rmse, and the column `by`.
        by: "window" or "train_steps"; the values that occur are the ticks.
        unit: of the RMSE.
    """
    figure, axes = one_panel()
    for name, rows in _by_strategy(results):
        rmse, style = rows.groupby(by)["rmse"], style_of(name)
        mean = rmse.mean()
        reach = [mean - rmse.min(), rmse.max() - mean]
        axes.plot(mean.index, mean, label=name, marker="o", markersize=3.5, linewidth=1.4, **style)
        axes.errorbar(mean.index, mean, reach, fmt="none", ecolor=style["color"], elinewidth=1)
    if one_stands_apart(results["rmse"]):
        log_scale(axes)
    values = sorted(results[by].unique())
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" if value < 1e6 else f"{value:.3g}" for value in values])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set(xlabel=AGAINST[by], ylabel=with_unit("test RMSE", unit))
    legend_beside(figure, axes)
    return figure


def rmse_by_step(errors: Curves, unit: str) -> Figure:
    """RMSE of each strategy by position in the window: the mean over seeds.

    Args:
        errors: for each strategy a table of each seed: step, from 0, and rmse.
        unit: of the RMSE.
    """
    figure, axes = one_panel()
    for name, tables in errors.items():
        rmse = _side_by_side(tables, "step", "rmse").mean(axis=1)
        axes.plot(rmse.index + 1, rmse, label=name, **style_of(name), **line_width(len(rmse)))
    if one_stands_apart(table["rmse"].max() for tables in errors.values() for table in tables):
        log_scale(axes)
    axes.set(xlabel="step in the window", ylabel=with_unit("test RMSE", unit))
    axes.margins(x=0.01)
    count_from_one(axes, 1 + max(int(table["step"].max()) for tables in errors.values() for table in tables))
    legend_beside(figure, axes)
    return figure


def rmse_by_day(errors: Curves, unit: str) -> Figure:
    """RMSE of each strategy by day of the year: the mean over seeds.

    Args:
        errors: for each strategy a table of each seed: day, from 1, and rmse.
        unit: of the RMSE.
    """
    figure, axes = one_panel()
    for name, tables in errors.items():
        rmse = _side_by_side(tables, "day", "rmse").mean(axis=1)
        axes.plot(rmse.index, rmse, label=name, **style_of(name), **line_width(len(rmse)))
    if one_stands_apart(table["rmse"].max() for tables in errors.values() for table in tables):
        log_scale(axes)
    axes.set_xticks(list(MONTHS), list(MONTHS.values()))
    axes.set(xlabel="day of the year", ylabel=with_unit("test RMSE", unit), xlim=(1, 366))
    legend_beside(figure, axes)
    return figure


def rmse_against_time(curves: Curves, unit: str) -> Figure:
    """Best validation RMSE so far against seconds of training: the mean over seeds of each strategy.

    A curve begins when the last of its seeds has finished an epoch; a run that has ended keeps its best.

    Args:
        curves: for each strategy, `metrics.csv` of each seed: train_seconds, val_rmse.
        unit: of the RMSE.
    """
    figure, axes = one_panel()
    for name, tables in curves.items():
        seconds, rmse = _best_so_far(tables)
        axes.step(seconds, rmse, where="post", label=name, **style_of(name), **line_width(len(seconds)))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="training time (s)", ylabel=with_unit("best validation RMSE so far", unit))
    log_scale(axes)
    legend_beside(figure, axes)
    return figure


def _best_so_far(tables: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds at which the best of any seed may change, and the mean over seeds of the best until then."""
    runs = []
    for table in tables:
        best = pd.Series(table["val_rmse"].to_numpy(), table["train_seconds"].cumsum()).dropna().cummin()
        if len(best):
            runs.append(best)
    if not runs:
        return np.empty(0), np.empty(0)
    seconds = np.unique(np.concatenate([run.index.to_numpy() for run in runs]))
    seconds = seconds[seconds >= max(run.index.min() for run in runs)]
    # Of each, the epoch finished last before each time.
    held = [run.to_numpy()[np.searchsorted(run.index, seconds, side="right") - 1] for run in runs]
    return seconds, np.mean(held, axis=0)


def _side_by_side(tables: Sequence[pd.DataFrame], along: str, column: str) -> pd.DataFrame:
    """A column of each table, in columns, along another that they may share in part."""
    return pd.concat([table.set_index(along)[column] for table in tables], axis=1).sort_index()


def _by_strategy(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each strategy, in the order in which they come."""
    for name in dict.fromkeys(results["strategy"]):
        yield name, results[results["strategy"] == name]


def _range(axes: Axes, at: np.ndarray, values: pd.DataFrame, colour: str, curves: int) -> None:
    """The range over columns as a band, where the curves are few enough for bands to be told apart."""
    if curves <= TOLD_APART:
        axes.fill_between(at, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)

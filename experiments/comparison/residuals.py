"""Squared errors of a run's test part, summed by year, by position in the window and by day of the year."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.experiments import figures
from mptt.experiments.configs import read_config
from mptt.experiments.predictions import open_predictions, read_table
from mptt.experiments.records import CONFIG

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DAYS = 366


def errors_by_year(predictions: xr.Dataset, target: str) -> tuple[Floats, Ints]:
    """Sums of squared errors and numbers of scored observations, each (sites, years); years with none are left out.

    Args:
        predictions: as `predictions.nc`.
        target: one of its targets.
    """
    squared, counted = _squared_errors(predictions, target)
    years = predictions["time"].dt.year.values
    first = np.flatnonzero(np.r_[True, years[1:] != years[:-1]])
    sums, counts = np.add.reduceat(squared, first, axis=1), np.add.reduceat(counted.astype(np.int64), first, axis=1)
    present = counts.any(axis=0)
    return sums[:, present], counts[:, present]


def errors_by_step(folder: Path, target: str) -> pd.DataFrame:
    """RMSE at each position of a window, the median over sites.

    Inference that goes window by window left `steps.csv`. In other inference a scored step has no window; it counts at
    the positions that it would have in half-overlapping windows over the test part.

    Args:
        folder: of the run.
        target: one of its targets.

    Returns:
        step (from 0) and rmse, a row for each position; no row where the run's DataModule has no windows.
    """
    sums = folder / "steps.csv"
    if sums.exists():
        table = read_table(sums, ["target", "step", "squared_error", "count"])
        table = table[(table["target"] == target) & (table["count"] > 0)]
        table = table.assign(rmse=np.sqrt(table["squared_error"] / table["count"]))
        return table.groupby("step")["rmse"].median().reset_index()
    window = data_settings(folder).get("window")
    if window is None:
        return pd.DataFrame({"step": [], "rmse": []})
    stride = max(window // 2, 1)
    with open_predictions(folder) as predictions:
        squared, counted = _squared_errors(predictions, target)
        # A part is one stretch of its site; its steps are counted from there.
        step = np.maximum(predictions[target].notnull().cumsum("time").values - 1, 0)
    phase = _by_column(squared, counted, step % stride, stride)
    return pd.DataFrame({"step": np.arange(window), "rmse": phase[np.arange(window) % stride]})


def errors_by_day(predictions: xr.Dataset, target: str, smooth: int = 15) -> pd.DataFrame:
    """RMSE by day of the year over all scored steps, the median over sites.

    Args:
        predictions: as `predictions.nc`.
        target: one of its targets.
        smooth: days around each, itself in the middle, whose squared errors are taken together; the year is a circle.

    Returns:
        day (1 to 366) and rmse.
    """
    squared, counted = _squared_errors(predictions, target)
    day = np.broadcast_to(predictions["time"].dt.dayofyear.values - 1, squared.shape)
    return pd.DataFrame({"day": np.arange(1, DAYS + 1), "rmse": _by_column(squared, counted, day, DAYS, smooth)})


def data_settings(folder: Path) -> dict[str, Any]:
    """Settings of the DataModule as a run had them, from its configuration."""
    settings: dict[str, Any] = (read_config(folder / CONFIG).get("data") or {}).get("init_args") or {}
    return settings


def _squared_errors(predictions: xr.Dataset, target: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Squared errors, 0 where none counts, and whether one does; (sites, time)."""
    error = predictions[target].values.astype(np.float64) - predictions[f"{target}_observed"].values
    counted = figures.scored_steps(predictions).values & ~np.isnan(error)
    return np.where(counted, error, 0.0) ** 2, counted


def _by_column(
    squared: Floats, counted: npt.NDArray[np.bool_], column: npt.NDArray[Any], columns: int, smooth: int = 1
) -> Floats:
    """RMSE (columns,) over all steps of a column, the median over sites; NaN where no step counts."""
    at = (np.arange(len(squared))[:, None] * columns + column).ravel()
    sums = np.bincount(at, squared.ravel(), len(squared) * columns).reshape(-1, columns)
    counts = np.bincount(at, counted.ravel(), len(squared) * columns).reshape(-1, columns)
    shifts = range(-(smooth // 2), smooth - smooth // 2)
    sums, counts = (np.sum([np.roll(values, shift, axis=1) for shift in shifts], axis=0) for values in (sums, counts))
    rmse = np.sqrt(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))
    return median_over_sites(rmse.T)


def median_over_sites(values: Floats) -> Floats:
    """The median along the last axis of what is not NaN; NaN where nothing is."""
    present = ~np.isnan(values).all(axis=-1)
    median = np.full(values.shape[:-1], np.nan)
    median[present] = np.nanmedian(values[present], axis=-1)
    return median

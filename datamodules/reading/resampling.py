"""Days from half-hours or hours."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.errors import MPTTError

_DAY = 86400


def daily(
    table: xr.Dataset,
    least_good: float,
    sums: Collection[str] = (),
    flags: Collection[str] = (),
    stamps_end: bool = False,
    offset_hours: float = 0.0,
) -> xr.Dataset:
    """Means over days, from the values that are there.

    Args:
        table: one site's variables on (time,), at equal steps within a day, missing NaN; dates may be left out.
        least_good: smallest share of a day's steps that must have a value; days with less are missing.
        sums: variables to sum: the mean of the values that are there, times the steps of a day.
        flags: quality flags 0 to 3, which become the share of the day's steps with 0 or 1.
        stamps_end: whether a date is the end of its step, so that midnight belongs to the day before.
        offset_hours: hours to add to the dates, so that days are those of another time zone.

    Returns:
        float32 variables on (time,), at the start of each day, from the first to the last that has a step.

    Raises:
        MPTTError: a share that is none; steps that are not parts of a day, or of which there are too few to tell.
    """
    if not 0 < least_good <= 1:
        raise MPTTError(f"least_good is a share of a day, above 0 and at most 1; found {least_good!r}.")
    seconds = table.indexes["time"].to_numpy().astype("datetime64[s]").astype(np.int64)
    step = step_seconds(seconds)
    begin = seconds + round(offset_hours * 3600) - (step if stamps_end else 0)
    day = begin // _DAY
    nth = day - day[0]
    count = int(nth[-1]) + 1
    per_day = _DAY // step
    days = pd.Index((np.arange(count) + day[0]).astype("datetime64[D]").astype("datetime64[s]"))
    found = {}
    for name, values in table.data_vars.items():
        numbers = values.to_numpy().astype(np.float64)
        if name in flags:
            numbers = np.where(np.isfinite(numbers), np.rint(numbers) <= 1, np.nan).astype(np.float64)
        mean = _means(numbers, nth, count, 0.0 if name in flags else least_good * per_day)
        mean = mean * per_day if name in sums else mean
        found[name] = xr.Variable(("time",), mean.astype(np.float32), values.attrs)
    return xr.Dataset(found, {"time": days})


def step_seconds(seconds: npt.NDArray[np.int64]) -> int:
    """The usual step, a whole part of a day.

    Raises:
        MPTTError: there is none.
    """
    steps, times = np.unique(np.diff(seconds), return_counts=True)
    step = int(steps[times.argmax()]) if len(steps) else 0
    if step <= 0 or _DAY % step or step == _DAY:
        raise MPTTError(f"Days are made from steps that are parts of a day; found {step} seconds.")
    return step


def _means(
    numbers: npt.NDArray[np.float64], nth: npt.NDArray[np.int64], count: int, least: float
) -> npt.NDArray[np.float64]:
    known = np.isfinite(numbers)
    there = np.bincount(nth[known], minlength=count)
    total = np.bincount(nth[known], weights=numbers[known], minlength=count)
    enough = (there >= least - 1e-9) & (there > 0)
    return np.where(enough, total / np.maximum(there, 1), np.nan)

"""Dates of any calendar as whole seconds, and back."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np

from mptt.errors import MPTTError
from mptt.windows import Int64Array

SINCE = "seconds since 1970-01-01"
_SAME = {"gregorian": "standard", "proleptic_gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}


def calendar_name(calendar: str) -> str:
    """One name for each calendar: CF has two or three for some."""
    return _SAME.get(calendar.lower(), calendar.lower())


def seconds_of(dates: Any) -> tuple[Int64Array, str]:
    """Dates as seconds since 1970, and the name of their calendar.

    Args:
        dates: (n,) datetime64 or cftime dates, at least one.

    Raises:
        MPTTError: they are neither.

    Example:
        >>> seconds_of(np.array(["1970-01-02"], dtype="datetime64[D]"))
        (array([86400]), 'standard')
    """
    values = np.asarray(dates)
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64), "standard"
    if not all(isinstance(value, cftime.datetime) for value in values):
        raise MPTTError(f"Dates are datetime64 or cftime, found {values.dtype}: {values[0]!r}.")
    calendar = calendar_name(values[0].calendar)
    if calendar == "standard":
        return seconds_of(np.array([value.isoformat() for value in values], dtype="datetime64[s]"))
    return np.rint(cftime.date2num(values, SINCE, calendar=calendar)).astype(np.int64), calendar


def dates_of(seconds: Int64Array, calendar: str) -> Any:
    """The inverse: datetime64[s] (n,), or cftime dates (n,) of other calendars."""
    if calendar == "standard":
        return np.asarray(seconds, dtype=np.int64).astype("datetime64[s]")
    return np.atleast_1d(cftime.num2date(seconds, SINCE, calendar=calendar))


def date_text(second: int, calendar: str) -> str:
    """A date as in 2000-01-31, with the time of the day where it is not midnight."""
    written = str(dates_of(np.array([second]), calendar)[0]).replace(" ", "T")
    return written.removesuffix("T00:00:00")


def step_seconds(dates: Any) -> tuple[int, int] | None:
    """The shortest and longest step between the first dates of an axis, which differ for months; None of one date."""
    first, _ = seconds_of(dates[:25])
    return None if len(first) < 2 else (int(np.diff(first).min()), int(np.diff(first).max()))

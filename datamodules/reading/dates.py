"""Dates written as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.errors import MPTTError

_STANDARD = ("standard", "gregorian", "proleptic_gregorian")
_OTHERS = {  # the types that xarray's index of dates understands
    "noleap": cftime.DatetimeNoLeap,
    "365_day": cftime.DatetimeNoLeap,
    "360_day": cftime.Datetime360Day,
    "all_leap": cftime.DatetimeAllLeap,
    "366_day": cftime.DatetimeAllLeap,
    "julian": cftime.DatetimeJulian,
}
CALENDARS = (*_STANDARD, *_OTHERS)
_DATE = re.compile(
    r"(\d{4})(?:([-/]?)(\d{2})(?:\2(\d{2}))?)?(?:[T ]?(\d{2}):?(\d{2})(?::?(\d{2})(?:\.0+)?)?)?(?:Z|\+00:?00)?"
)
_FORMS = "YYYY-MM-DD, YYYY-MM-DD HH:MM:SS, YYYYMMDD, YYYYMMDDHHMM, YYYY-MM"


def read_dates(texts: npt.NDArray[Any], calendar: str = "standard", form: str | None = None) -> pd.Index:
    """Dates from text.

    Args:
        texts: as "2000-01-31", "2000/01/31", "20000131", "2000-01" or "200001", with or without a time of the day.
        calendar: one of `CALENDARS`.
        form: of other dates, as for strptime: "%d.%m.%Y".

    Returns:
        datetime64[s], or cftime where the calendar is another.

    Raises:
        MPTTError: a calendar that there is not; a text that is no date.

    Example:
        >>> read_dates(np.array(["20000131", "2000-02-01"])).values.astype("datetime64[D]").astype(str).tolist()
        ['2000-01-31', '2000-02-01']
    """
    check_calendar(calendar)
    if form is not None:
        read: Callable[[str], Any] = lambda text: _by_form(text, form, calendar)  # noqa: E731
    elif calendar in _STANDARD:
        read = _moment
    else:
        read = lambda text: _of_calendar(text, calendar)  # noqa: E731
    if form is None and calendar in _STANDARD and (quick := _iso(texts)) is not None:
        return pd.Index(quick)
    numbers, known = pd.factorize(np.asarray(texts, dtype=object))
    moments = [read(str(text)) for text in known]
    if calendar in _STANDARD:
        return pd.Index(np.array(moments, dtype="datetime64[s]")[numbers])
    return xr.CFTimeIndex(np.array(moments, dtype=object)[numbers])


def date_fault(text: str, calendar: str = "standard", form: str | None = None) -> str | None:
    """What is wrong with a date; None if nothing is."""
    try:
        read_dates(np.array([text], dtype=object), calendar, form)
    except MPTTError as error:
        return str(error)
    return None


def check_calendar(calendar: str) -> None:
    """Check that there is such a calendar.

    Raises:
        MPTTError: there is not.
    """
    if calendar not in CALENDARS:
        raise MPTTError(f"There is no calendar {calendar!r}; there are {', '.join(CALENDARS)}.")


def _iso(texts: npt.NDArray[Any]) -> npt.NDArray[np.datetime64] | None:
    """Dates that all are YYYY-MM-DD, with or without HH:MM or HH:MM:SS, at once; None if they are something else."""
    written = np.asarray(texts, dtype=np.str_)
    length = int(written.dtype.itemsize // 4)
    if not written.size or length not in (10, 16, 19) or (np.char.str_len(written) != length).any():
        return None
    if (np.char.find(written, "-") != 4).any():
        return None
    try:
        return written.astype("datetime64[s]")
    except ValueError:
        return None


def _parts(text: str) -> list[int]:
    found = _DATE.fullmatch(text.strip())
    if not found:
        raise MPTTError(f"{text!r} is not a date of the forms {_FORMS}; say another with time_format='%d.%m.%Y'")
    year, _, *rest = found.groups()
    defaults = (1, 1, 0, 0, 0)
    return [int(year), *(default if part is None else int(part) for part, default in zip(rest, defaults, strict=True))]


def _moment(text: str) -> np.datetime64:
    year, month, day, hour, minute, second = _parts(text)
    later = hour == 24 and not minute and not second  # midnight at the end of the day
    written = f"{year:04d}-{month:02d}-{day:02d}T{0 if later else hour:02d}:{minute:02d}:{second:02d}"
    try:
        return np.datetime64(written, "s") + np.timedelta64(86400 * later, "s")
    except ValueError as error:
        raise MPTTError(f"{text!r} is not in the calendar") from error


def _of_calendar(text: str, calendar: str) -> Any:
    try:
        return _OTHERS[calendar](*_parts(text))
    except ValueError as error:
        raise MPTTError(f"{text!r} is not in the calendar {calendar}") from error


def _by_form(text: str, form: str, calendar: str) -> Any:
    try:
        moment = cftime.datetime.strptime(text.strip(), form, calendar=calendar)
    except ValueError as error:
        raise MPTTError(f"{text!r} is not a date of the form {form!r}, calendar {calendar}") from error
    if calendar in _STANDARD:
        return np.datetime64(moment.isoformat(), "s")
    return _OTHERS[calendar](*moment.timetuple()[:6])

"""A CSV file with a row a day: rows in any order, columns found by name."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.datamodules.preparing.checks import listed, moments
from mptt.datamodules.reading.markers import without_markers
from mptt.datamodules.reading.tables import TextTable, likely_separator, read_text
from mptt.errors import MPTTError, MPTTWarning

Days = npt.NDArray[np.datetime64]
_MIDNIGHT = ("", " 00:00", "T00:00", " 00:00:00", "T00:00:00")


@dataclass(frozen=True)
class DailyTable:
    """What a daily file holds.

    Attributes:
        days: (T,) datetime64[s], going up; days may be missing.
        columns: (T,) float32 by name, missing NaN.
    """

    days: Days
    columns: Mapping[str, npt.NDArray[np.float32]]


def read_daily_csv(
    path: Path,
    date: str = "date",
    numeric: Callable[[str], bool] = lambda name: True,
    wanted: Callable[[str], bool] = lambda name: True,
) -> DailyTable:
    """Read a CSV file with a row a day.

    Rows may come in any order, and are sorted by date. Lines that begin with # above the header are passed over, and so
    are columns without a name. Fields stand between commas, semicolons or tabs. Empty fields, NA and NaN are missing,
    and so are -999 and the like, with a note. A note also names a file whose last line has no end: it may be cut short.

    Args:
        path: of the file, UTF-8.
        date: the column with the dates, YYYY-MM-DD (a time of 00:00 may follow).
        numeric: of a column's name, whether it must hold numbers. Others may also hold text; those are left out, with a
            warning.
        wanted: of a column's name, whether it is read.

    Raises:
        MPTTError: no such file, not a text file, no row, no such column, a line that is not a row of the table, a date
            that comes twice, or rows that are usually more than a day apart.
    """
    content = read_text(path)
    skip, separator, header = _header(path, content, date)
    names = [name or f"(column {nth} without a name)" for nth, name in enumerate(header, start=1)]
    read = [name for name in header if name and name != date and wanted(name)]
    strict = [name for name in read if numeric(name)]
    text = TextTable(path, content, _kinds(names, [date, *read], strict), skip, separator, _date_fault(date))
    table = text.read()
    if table.empty:
        raise MPTTError(f"{path} has no row below its header. Get an intact copy.")
    if not content.endswith((b"\n", b"\r")):
        line = len(content.splitlines())
        warnings.warn(f"{path}, line {line}, the last, has no end: it may be cut short.", MPTTWarning, stacklevel=3)
    days = _parse(text, table[date])
    order = np.argsort(days, kind="stable")
    step = np.diff(days[order]).astype(np.int64)
    if (step == 0).any():
        _again(date, text)
    check_daily(path, step)
    loose = {name: _numbers(text, table[name]) for name in read if name not in strict}
    if words := [name for name, numbers in loose.items() if numbers is None]:
        warnings.warn(
            f"Columns of text among the series in {path.parent} are left out: {listed(words)}.",
            MPTTWarning,
            stacklevel=3,
        )
    known = {name: table[name].to_numpy() for name in strict}
    known |= {name: numbers for name, numbers in loose.items() if numbers is not None}
    columns = {name: known[name][order] for name in header if name in known}
    return DailyTable(days[order].astype("datetime64[s]"), without_markers(path.parent, columns))


def check_daily(path: Path, step: npt.NDArray[np.int64]) -> None:
    """Check that most rows are a day apart.

    Args:
        path: of the file, for the message.
        step: from each row to the next, in days.

    Raises:
        MPTTError: they are not.
    """
    steps, count = np.unique(step, return_counts=True)
    if len(steps) and (usual := int(steps[count.argmax()])) != 1:
        raise MPTTError(f"The rows of {path} are usually {usual} days apart; a row a day is due.")


def sorted_days(path: Path, time: pd.Index) -> tuple[npt.NDArray[np.int64], pd.Index]:
    """The dates of a NetCDF file in order.

    Returns:
        The order in which they go up, and the dates in that order; datetime64 is put at the start of the day.

    Raises:
        MPTTError: no dates, one that comes twice, a time of day that changes, or dates that are not days.
    """
    try:
        moment = moments(time)[0]
    except MPTTError as error:
        raise MPTTError(f"{path}: {error}") from error
    order = np.argsort(moment, kind="stable")
    step = np.diff(moment[order])
    if (again := step == 0).any():
        raise MPTTError(f"{path}: the date {time[order[int(again.argmax())]]} comes twice. Keep one of them.")
    if (odd := step % 86_400_000_000 != 0).any():
        date = time[order[int(odd.argmax()) + 1]]
        raise MPTTError(f"{path}: the date {date} is no whole number of days after the one before it.")
    check_daily(path, step // 86_400_000_000)
    dates = time[order]
    if isinstance(dates, pd.DatetimeIndex):
        dates = pd.DatetimeIndex(dates.to_numpy().astype("datetime64[D]").astype("datetime64[s]"))
    return order, dates


def _header(path: Path, content: bytes, date: str) -> tuple[int, str, list[str]]:
    """Lines above the first row, what stands between fields, and the names in the last of these lines."""
    lines = enumerate(io.StringIO(content.decode("utf-8-sig"), newline=None))
    above, line = next(((nth, line) for nth, line in lines if line.strip() and not line.startswith("#")), (0, ""))
    separator = likely_separator(line)
    header = [name.strip() for name in next(csv.reader([line.rstrip("\n")], delimiter=separator), [])]
    if date not in header:
        raise MPTTError(
            f"{path} has no column {date}; its header, line {above + 1}, is {line.strip()[:200]!r}. Get an intact copy."
        )
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise MPTTError(f"{path} has more than one column {listed(twice)}. Rename or remove one.")
    return above + 1, separator, header


def _kinds(names: Sequence[str], read: Collection[str], numbers: Collection[str]) -> dict[str, str]:
    return {name: "float32" if name in numbers else "str" if name in read else "skip" for name in names}


def _numbers(text: TextTable, column: pd.Series[str]) -> npt.NDArray[np.float32] | None:
    """A column as numbers; None if it holds text throughout."""
    known = column.notna()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    right = int(np.isfinite(numbers).sum())
    if right == int(known.sum()):
        return numbers.astype(np.float32)
    if 2 * right >= int(known.sum()):
        kinds = _kinds(list(text.columns), list(text.columns), [str(column.name)])
        strict = TextTable(text.path, text.content, kinds, text.skip, text.separator, text.date_fault)
        strict.refuse(f"{column.name} holds numbers and text")
    return None


def _date_fault(date: str) -> Callable[[Mapping[str, str]], str | None]:
    return lambda row: None if _day(row[date]) else f"{row[date]!r} is not a date YYYY-MM-DD"


def _day(text: str) -> np.datetime64 | None:
    text = text.strip()
    try:
        day = np.datetime64(text[:10], "D") if len(text) >= 10 and text[10:] in _MIDNIGHT else None
    except ValueError:
        return None
    return None if day is None or np.isnat(day) else day


def _parse(text: TextTable, dates: pd.Series[str]) -> Days:
    plain = dates.str.strip()
    try:
        if not plain.str.slice(10).isin(_MIDNIGHT).all() or not plain.str.len().ge(10).all():
            raise ValueError("not all dates have ten characters")
        days: Days = plain.str.slice(0, 10).to_numpy(dtype="U10").astype("datetime64[D]")
        if np.isnat(days).any():
            raise ValueError("a date is missing")
    except ValueError as error:
        text.refuse(f"a date is not YYYY-MM-DD ({error})")
    return days


def _again(date: str, text: TextTable) -> None:
    """Name the first line whose date an earlier one has."""
    seen: set[np.datetime64] = set()

    def fault(row: Mapping[str, str]) -> str | None:
        day = _day(row[date])
        if day is None or day not in seen:
            seen.update([] if day is None else [day])
            return None
        return f"the date {day} stands in an earlier line too"

    TextTable(text.path, text.content, text.columns, text.skip, text.separator, fault).refuse("a date comes twice")

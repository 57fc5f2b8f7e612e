"""Reading a FLUXNET product file: dates in digits, -9999 for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.formats.fluxnet_files import ProductFile
from mptt.datamodules.formats.fluxnet_quality import Quality, needed_columns
from mptt.datamodules.formats.fluxnet_variables import FINE, description, is_quality
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.frames import csv_header
from mptt.datamodules.reading.resampling import daily
from mptt.datamodules.reading.tables import TextTable, note_cut
from mptt.errors import MPTTError

_STAMPS = ("TIMESTAMP_START", "TIMESTAMP", "TIMESTAMP_END")
_DIGITS = {"HH": 12, "HR": 12, "DD": 8, "WW": 8, "MM": 6, "YY": 4}
_MINUTES = {"HH": 30, "HR": 60}
_MISSING = -9999


def read_product(file: ProductFile, variables: Sequence[str] | None, quality: Quality) -> xr.Dataset:
    """The columns wanted, and their qualities, on (time,).

    Args:
        file: the file.
        variables: columns; None: all.
        quality: limits of quality, whose columns are read too.

    Raises:
        MPTTError: a line that is no row of the table, dates that do not go up or are not the starts of equal steps.
    """
    content = file.content()
    header, separator = csv_header(str(file), content, None)
    stamp = _stamp(file, header)
    columns = [name for name in header if name not in _STAMPS and not name.startswith("(column ")]
    wanted = needed_columns(variables, quality, columns)
    kinds = {name: "str" if name == stamp else "float32" if name in wanted else "skip" for name in header}

    def fault(row: Mapping[str, str]) -> str | None:
        good = _dates(np.array([row[stamp].strip()]), file.step) is not None
        form = "yyyymmddHHMM"[: _DIGITS[file.step]]
        return None if good else f"{stamp} is {row[stamp]!r}, not a date {form}"

    text = TextTable(str(file), content, kinds, 1, separator, fault)
    table = text.read()
    if table.empty:
        raise MPTTError(f"{file} has no row below its header.")
    note_cut(str(file), content)
    time = _dates(table[stamp].fillna("").str.strip().to_numpy(dtype=np.str_), file.step)
    if time is None:
        text.refuse("a row has no date of its step")
    if (back := np.diff(time) <= np.timedelta64(0, "s")).any():
        nth = int(back.argmax())
        raise MPTTError(
            f"{file}, line {text.line_of(nth + 1)}: the date {time[nth + 1]} stands after {time[nth]}; dates must go"
            " up. Get an intact copy."
        )
    _check_weeks(file, time)
    if stamp == "TIMESTAMP_END":
        time = time - np.timedelta64(_MINUTES[file.step], "m")
    values = {
        name: ("time", table[name].where(table[name] != _MISSING).to_numpy(np.float32), description(name, file.step))
        for name in map(str, table.columns)
        if name != stamp
    }
    return xr.Dataset(values, {"time": pd.Index(time)})


def make_days(table: xr.Dataset, file: ProductFile, least_good: float) -> xr.Dataset:
    """Days from half-hours or hours: means, sums of precipitation, shares of good quality.

    Raises:
        MPTTError: steps of which no days can be made.
    """
    names = [str(name) for name in table.data_vars]
    sums = [name for name in names if name == "P" or (name.startswith("P_") and not is_quality(name))]
    try:
        made = daily(table, least_good, sums, [name for name in names if is_quality(name)])
    except MPTTError as error:
        raise MPTTError(f"{file}: {error}") from error
    for name in names:
        if name in sums or is_quality(name):
            made[name].attrs = description(name, "DD")
    return made


def _stamp(file: ProductFile, header: Sequence[str]) -> str:
    """The column that dates the rows."""
    found = next((name for name in _STAMPS if name in header), None)
    if found is None or (found == "TIMESTAMP_END" and file.step not in FINE):
        raise MPTTError(f"{file} has no column TIMESTAMP, nor TIMESTAMP_START; its first line holds {listed(header)}.")
    return found


def _check_weeks(file: ProductFile, time: npt.NDArray[np.datetime64]) -> None:
    """A year of FLUXNET has 52 weeks, of which the last is longer: those of several years are no equal steps."""
    steps = np.diff(time).astype("timedelta64[D]").astype(np.int64)
    if file.step == "WW" and (longer := np.isin(steps, (8, 9))).any():
        raise MPTTError(
            f"{file}: the week that begins on {time[int(longer.argmax())].astype('datetime64[D]')} has"
            f" {steps[int(longer.argmax())]} days, as the last of each year in FLUXNET. Networks here need equal steps:"
            ' read days, step="DD", or months, step="MM".'
        )


def _dates(stamps: npt.NDArray[np.str_], step: str) -> npt.NDArray[np.datetime64] | None:
    """Dates from digits; None if one is none."""
    digits = _DIGITS[step]
    if (np.char.str_len(stamps) != digits).any() or not np.char.isdecimal(stamps).all():
        return None
    number = stamps.astype(np.int64) * 10 ** (12 - digits)
    year, month, day = number // 10**8, number // 10**6 % 100, number // 10**4 % 100
    month, day = (np.maximum(part, 1) if digits < least else part for part, least in ((month, 6), (day, 8)))
    hour, minute = number // 100 % 100, number % 100
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    if not (valid & (hour < 24) & (minute < 60)).all():
        return None
    seconds: npt.NDArray[np.datetime64] = days.astype("datetime64[s]")
    return seconds + (3600 * hour + 60 * minute).astype("timedelta64[s]")

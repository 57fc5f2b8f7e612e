"""CSV and Parquet tables: a row a step of one site, or a row a step and site."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.arrays import SITE_NAMES, text_of
from mptt.datamodules.reading.dates import check_calendar, date_fault, read_dates
from mptt.datamodules.reading.places import Place, name_of, read_bytes
from mptt.datamodules.reading.tables import TextTable, check_text, note_cut
from mptt.errors import MPTTError

TIME_NAMES = ("time", "date", "datetime", "timestamp", "day", "dates", "valid_time")
PARQUET = (".parquet", ".pq")
# Numbers; numbers of four digits and more behind a word; towers, as DE-Tha.
_IDENTITY = re.compile(r"\d+|[A-Za-z]*[ _.-]?\d{4,}|[A-Z]{2}-[A-Za-z0-9]{3}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableForm:
    """How tables are to be read.

    Attributes:
        site: the column that names the site of a row; None: one that is called so, if there is.
        time: the column of dates; None: one that is called so.
        calendar: of dates written as text.
        time_format: of dates written in another way, as for strptime.
        separator: of CSV fields; None: the one that the header has most of.
        columns: to keep beside those two, by their name in the file; None: all.
    """

    site: str | None = None
    time: str | None = None
    calendar: str = "standard"
    time_format: str | None = None
    separator: str | None = None
    columns: Collection[str] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of a file, sorted by date.

    Attributes:
        place: of the file.
        site: (rows,) the site of each, or None where the table does not say.
        time: (rows,) dates.
        values: float32, a column a variable.
        row: (rows,) where each stood in the file.
        line_of: given where a row stood, its line; None where the file has no lines.
    """

    place: Place
    site: np.ndarray[Any, Any] | None
    time: pd.Index
    values: pd.DataFrame
    row: np.ndarray[Any, Any]
    line_of: Callable[[int], int] | None

    def of(self, site: str) -> xr.Dataset:
        """One site's rows, as variables on (time,)."""
        rows = np.arange(len(self.time)) if self.site is None else np.flatnonzero(self.site == site)
        time = self.time[rows]
        if (twice := time.duplicated()).any():
            line = "" if self.line_of is None else f", line {self.line_of(int(self.row[rows[twice.argmax()]]))}"
            raise MPTTError(
                f"{self.place}{line}: {int(twice.sum())} further row(s) of a date of site {site}, the first of"
                f" {time[twice][0]}. Drop repeated rows, or name the column of sites with site=..."
            )
        values = self.values.iloc[rows]
        columns = {str(name): ("time", values[name].to_numpy(np.float32)) for name in values.columns}
        return xr.Dataset(columns, {"time": time})


def read_table(place: Place, form: TableForm) -> Table:
    """Read a CSV or Parquet file.

    Raises:
        MPTTError: it is no such table; for CSV, the line.
    """
    check_calendar(form.calendar)
    if name_of(place).casefold().endswith(PARQUET):
        return _read_parquet(place, form)
    return _read_csv(place, form)


def csv_header(place: Place, content: bytes, separator: str | None) -> tuple[list[str], str]:
    """Column names and the separator."""
    first = content.partition(b"\n")[0].decode("utf-8-sig").strip("\r")
    used = separator or max(",;\t|", key=first.count)
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=used), [])]
    except csv.Error as error:
        raise MPTTError(f"{place}, line 1: {error}. End lines with a line feed, or get an intact copy.") from error
    if not names:
        raise MPTTError(f"{place}, line 1: no names of columns, an empty line. Remove the lines above them.")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise MPTTError(f"{place} has several columns of one name: {listed(twice)}. Rename them.")
    return [name or f"(column {nth})" for nth, name in enumerate(names, start=1)], used


def content_of(place: Place) -> bytes:
    """The text of a CSV file, unpacked if it is gzipped."""
    content = read_bytes(place)
    if name_of(place).casefold().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise MPTTError(f"{place} cannot be unpacked: {error}. Get an intact copy.") from error
    return check_text(str(place), content)


def _read_csv(place: Place, form: TableForm) -> Table:
    content = content_of(place)
    header, separator = csv_header(place, content, form.separator)
    time, site = _columns(place, header, form)
    wanted = [name for name in header if name not in (time, site) and _wanted(name, form)]
    kinds = {name: "float32" if name in wanted else "str" if name in (time, site) else "skip" for name in header}

    def fault(row: Mapping[str, str]) -> str | None:
        if site is not None and not row[site].strip():
            return f"no site in the column {site}"
        wrong = date_fault(row[time].strip(), form.calendar, form.time_format)
        return None if wrong is None else f"{time}: {wrong}"

    text = TextTable(str(place), content, kinds, 1, separator, fault)
    try:
        table = text.read()
        if table.empty:
            raise MPTTError(f"{place} has no row below its header.")
        if table[time].isna().any() or (site is not None and table[site].isna().any()):
            text.refuse("a row has no date, or no site")
        try:
            dates = read_dates(table[time].str.strip().to_numpy(dtype=object), form.calendar, form.time_format)
        except MPTTError as error:
            text.refuse(str(error))
    except MPTTError as error:
        hint = " Columns that hold no numbers are left out with variables=[...]; a line of units with units_in_file."
        raise MPTTError(f"{error}{hint if 'not a number' in str(error) else ''}") from error
    note_cut(str(place), content)
    sites = None if site is None else table[site].str.strip().to_numpy(dtype=np.str_)
    return _sorted(place, sites, dates, table[wanted], text.line_of)


def _read_parquet(place: Place, form: TableForm) -> Table:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MPTTError(f'{place} cannot be read without pyarrow: pip install "mptt[parquet]".') from error
    try:
        table = pd.read_parquet(io.BytesIO(read_bytes(place)), engine="pyarrow")
    except MPTTError:
        raise
    except Exception as error:  # of pyarrow, several
        raise MPTTError(f"{place} cannot be read as a Parquet file: {error}. Get an intact copy.") from error
    named = [name for name in table.index.names if name is not None]
    table = table.reset_index(level=named) if named else table
    if isinstance(table.index, pd.DatetimeIndex):
        table = table.rename_axis("time").reset_index()
    table.columns = table.columns.map(str)
    if table.empty:
        raise MPTTError(f"{place} has no row.")
    time, site = _columns(place, list(table.columns), form)
    wanted = [name for name in table.columns if name not in (time, site) and _wanted(name, form)]
    if wrong := [f"{name} ({table[name].dtype})" for name in wanted if table[name].dtype.kind not in "fiub"]:
        raise MPTTError(
            f"{place} has columns that are not numbers: {listed(wrong)}; leave them out with variables=[...]."
        )
    values = table[wanted].astype(np.float32)
    if table[time].isna().any() or (site is not None and table[site].isna().any()):
        raise MPTTError(f"{place} has rows without a date in {time}{f' or a site in {site}' if site else ''}.")
    sites = None if site is None else np.array([text_of(one) for one in table[site].to_numpy()], dtype=np.str_)
    return _sorted(place, sites, _parquet_dates(place, table[time], form), values)


def _parquet_dates(place: Place, column: pd.Series[Any], form: TableForm) -> pd.Index:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        local = column.dt.tz_localize(None)
        # Days stay those of the place: in universal time, summer time would make some of 23 hours.
        column = local if (local == local.dt.normalize()).all() else column.dt.tz_convert("UTC").dt.tz_localize(None)
    if column.dtype.kind == "M":
        return pd.Index(column.to_numpy().astype("datetime64[s]"))
    try:
        return read_dates(column.astype(str).to_numpy(dtype=object), form.calendar, form.time_format)
    except MPTTError as error:
        raise MPTTError(f"{place}, column {column.name}: {error}") from error


def _wanted(name: str, form: TableForm) -> bool:
    if form.columns is None:
        return not name.startswith(("(column ", "Unnamed:", "__index_level"))  # a row number that was written along
    return name in form.columns


def _columns(place: Place, header: list[str], form: TableForm) -> tuple[str, str | None]:
    """The columns of dates and of sites."""
    time = _called(place, header, form.time, TIME_NAMES, "time")
    if time is None:
        raise MPTTError(f"{place} has no column of dates; its columns are {listed(header)}. Say which with time=...")
    site = _called(place, [name for name in header if name != time], form.site, SITE_NAMES, "site")
    others = [name for name in header if name not in (time, site)]
    if site is None and len(others) > 1 and all(_IDENTITY.fullmatch(name) for name in others):
        raise MPTTError(
            f"{place} has columns that are called by numbers or ids ({listed(others, 3)}), as a table with a column a"
            " site has. Tables are read with a column a variable, and one that names the site: pandas.melt makes it."
        )
    return time, site


def _called(place: Place, header: list[str], asked: str | None, usual: tuple[str, ...], what: str) -> str | None:
    if asked is not None:
        if asked not in header:
            raise MPTTError(f"{place} has no column {asked!r} for the {what}; its columns are {listed(header)}.")
        return asked
    found = [name for name in header if name.casefold() in usual]
    if len(found) > 1:
        raise MPTTError(f"{place}: which column is the {what}, {' or '.join(found)}? Say it with {what}=...")
    if found and found[0] != what:
        _log.info("%s: the column %s is taken for the %s.", place, found[0], what)
    return found[0] if found else None


def _sorted(
    place: Place,
    site: np.ndarray[Any, Any] | None,
    time: pd.Index,
    values: pd.DataFrame,
    line_of: Callable[[int], int] | None = None,
) -> Table:
    order = np.argsort(np.asarray(time), kind="stable")
    values = values.iloc[order].reset_index(drop=True)
    return Table(place, None if site is None else site[order], time[order], values, order, line_of)

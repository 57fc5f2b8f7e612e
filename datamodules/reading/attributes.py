"""Tables of attributes, a row a site, from many files of which any may hold any column."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.reading.markers import marks_missing, note_of_markers
from mptt.datamodules.reading.tables import MISSING, described, likely_separator, read_file
from mptt.errors import MPTTError


def attribute_table(path: Path, key: str = "gauge_id", numbers: Container[str] = ()) -> pd.DataFrame | None:
    """Read a CSV file of attributes.

    Lines that begin with # above the header, columns without a name and empty rows are passed over. Fields stand
    between commas, semicolons or tabs. The file is UTF-8, or else Latin-1. An id that is written as a number with a
    decimal point, 2004.0, is the whole number. -999 and the like are missing, with a note.

    Args:
        path: of the file.
        key: the column of site ids.
        numbers: columns that must hold numbers.

    Returns:
        Fields as text, "" where missing, indexed by site id; None where the file has no such column.

    Raises:
        MPTTError: it cannot be opened, is empty or binary, has a line of too many or few fields, or with something else
            where a number is due, a column or an id twice.
    """
    content = read_file(path)
    if not content.strip() or b"\0" in content:
        raise MPTTError(f"{path} is {'not a text file' if content.strip() else 'empty'}. Get an intact copy.")
    remarks, top, below = _from_header(_decoded(content))
    separator = likely_separator(top)
    reader = csv.reader(io.StringIO(top + below, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    rows, lines = [], []
    try:
        for fields in reader:
            if not any(map(str.strip, fields)):
                continue
            if not header:
                header = [name.strip() for name in fields]
                if key not in header:
                    return None
            elif len(fields) != len(header):
                raise MPTTError(
                    f"{path}, line {remarks + reader.line_num}: {len(fields)} fields where the header names"
                    f" {len(header)}, in {separator.join(fields)[:120]!r}. Get an intact copy."
                )
            else:
                rows.append([field.strip() for field in fields])
                lines.append(remarks + reader.line_num)
    except csv.Error as error:
        raise MPTTError(f"{path}, line {remarks + reader.line_num}: {error}. Get an intact copy.") from error
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise MPTTError(f"{path} has more than one column {', '.join(twice)}. Rename or remove one.")
    table = pd.DataFrame(rows, columns=header, dtype="str")
    table = table.assign(**{key: table[key].str.replace(r"^(\d+)\.0+$", r"\1", regex=True)}).set_index(key)
    if (again := table.index.duplicated()).any():
        nth = int(again.argmax())
        raise MPTTError(f"{path}, line {lines[nth]}: a second row of {key} {table.index[nth]}. Keep one of them.")
    table = table[[name for name in table.columns if name]]
    table = table.mask(table.isin(MISSING), "")
    for name in table.columns:
        if name in numbers:
            _check_numbers(path, table[name], lines)
    marked = marks_missing(table)
    if found := [str(name) for name in table.columns if marked[name].any()]:
        note_of_markers(path, found)
    return table.mask(marked, "")


def joined(tables: Mapping[Path, pd.DataFrame]) -> pd.DataFrame:
    """Tables put side by side by site id; a column that several have is kept once.

    Raises:
        MPTTError: two files say other things of a site.
    """
    columns: dict[str, pd.Series[str]] = {}
    first: dict[str, Path] = {}
    for path, table in tables.items():
        for name in map(str, table.columns):
            column = table[name]
            if name in columns:
                column = _agreed(name, columns[name], column, first[name], path)
            columns[name] = column
            first.setdefault(name, path)
    ids = list(dict.fromkeys(site for table in tables.values() for site in table.index))
    return pd.DataFrame({name: column.reindex(ids, fill_value="") for name, column in columns.items()}, index=ids)


def variables_on_sites(
    table: pd.DataFrame, sites: Sequence[str], texts: Mapping[str, tuple[str, str]], words: Collection[str]
) -> dict[str, xr.Variable]:
    """The columns as variables on (site,).

    Whether a column is of numbers is said by all its rows, not only by those of the sites. A code with a leading zero,
    as 01, is text.

    Args:
        table: fields as text, missing "", indexed by site id.
        sites: ids, of which the table may lack some.
        texts: units and long name of columns, where they are known.
        words: columns that are text whatever they hold.

    Returns:
        float32 with NaN, or text with "".
    """
    found = {}
    for name in map(str, table.columns):
        numeric = texts.get(name, ("", ""))[0] != ""
        numbers = None if name in words else numbers_of(table[name], numeric)
        column: pd.Series[Any] = table[name] if numbers is None else numbers
        chosen = column.reindex(list(sites), fill_value="" if numbers is None else np.nan)
        array = chosen.to_numpy(np.str_) if numbers is None else chosen.to_numpy(np.float32)
        found[name] = xr.Variable("site", array, described(*texts.get(name, ("", name))))
    return found


def numbers_of(column: pd.Series[str], zeros: bool = False) -> pd.Series[float] | None:
    """A column of text as numbers, if every field that is not missing is one; leading zeros make it text, or do not."""
    known = column != ""
    numbers = pd.to_numeric(column.where(known), errors="coerce").astype("float64")
    coded = not zeros and column.str.match(r"[+-]?0\d").any()
    return None if coded or (numbers.isna() & known).any() else numbers


def _check_numbers(path: Path, column: pd.Series[str], lines: Sequence[int]) -> None:
    values = pd.to_numeric(column.where(column != "", "0"), errors="coerce").to_numpy(np.float64)
    if (wrong := ~np.isfinite(values)).any():
        nth = int(wrong.argmax())
        raise MPTTError(
            f"{path}, line {lines[nth]}: {column.name} of {column.index[nth]} is {column.iloc[nth]!r}, not a number."
            " Correct it, or leave the field empty."
        )


def _from_header(text: str) -> tuple[int, str, str]:
    """Number of lines above the header, the header, and what is below."""
    lines = text.splitlines(keepends=True)
    above = next((nth for nth, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines) - 1)
    return above, lines[above], "".join(lines[above + 1 :])


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _agreed(name: str, one: pd.Series[str], other: pd.Series[str], first: Path, second: Path) -> pd.Series[str]:
    """Two columns of one name as one."""
    ids = one.index.union(other.index, sort=False)
    left, right = one.reindex(ids, fill_value=""), other.reindex(ids, fill_value="")
    differ = (left != right) & (left != "") & (right != "")
    numbers = numbers_of(left.where(differ, "")), numbers_of(right.where(differ, ""))
    if numbers[0] is not None and numbers[1] is not None:
        with np.errstate(over="ignore"):
            differ &= numbers[0].astype(np.float32) != numbers[1].astype(np.float32)
    if differ.any():
        site = differ.index[int(differ.argmax())]
        raise MPTTError(
            f"{first} and {second} both have a column {name}, and differ at {int(differ.sum())} site(s), first at"
            f" {site}: {left[site]!r} and {right[site]!r}. Rename one of them, or remove it."
        )
    return left.where(left != "", right)

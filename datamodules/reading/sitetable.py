"""A table of attributes with a row a site."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.arrays import SITE_NAMES
from mptt.datamodules.reading.frames import content_of, csv_header
from mptt.datamodules.reading.places import Place, exists
from mptt.datamodules.reading.tables import MISSING, TextTable
from mptt.errors import MPTTError, MPTTWarning


def read_site_table(place: Place, sites: Sequence[str], site: str | None = None) -> xr.Dataset:
    """Read a CSV of attributes and put its rows to the sites, by id.

    Ids are text: 01013500 keeps its zero. A column is numbers if all its fields are, or are missing; else text.

    Args:
        place: of the CSV file, a row a site.
        sites: to keep, in their order.
        site: the column of ids; by default the one that is called so, else the first.

    Returns:
        Variables on (site,): float32, or text; NaN and "" where the table has no such site or value.

    Raises:
        MPTTError: no such file or column, an id twice, no site of ours.
    """
    if not exists(place):
        raise MPTTError(f"No attributes_file at {place}; give the path of a CSV with a row a site.")
    content = content_of(place)
    header, separator = csv_header(place, content, None)
    column = _id_column(place, header, site)
    text = TextTable(str(place), content, dict.fromkeys(header, "str"), 1, separator, _no_fault)
    table = text.read()
    ids = table[column].fillna("").str.strip()
    if (twice := ids[ids.duplicated()]).size:
        raise MPTTError(f"{place} has sites in more than one row: {listed(dict.fromkeys(twice))}. Keep one of each.")
    table = table.drop(columns=column).set_index(ids)
    if absent := [name for name in sites if name not in table.index]:
        if len(absent) == len(sites):
            raise MPTTError(
                f"{place} has no site of the data: its column {column} holds {listed(table.index, 3)}, the data have"
                f" {listed(sites, 3)}. Ids are compared as text, leading zeros and all; say the column with site=..."
            )
        there = {name.lstrip("0"): name for name in table.index}
        if (
            lost := next((name for name in absent if name.startswith("0") and name.lstrip("0") in there), None)
        ) is not None:
            raise MPTTError(
                f"{place} has no row of site {lost}, but one of {there[lost.lstrip('0')]}: the zeros are lost, as"
                f" spreadsheets lose them. Ids are compared as text; write them in the column {column} as the data do."
            )
        warnings.warn(
            f"{place} has no row of {len(absent)} of {len(sites)} site(s), whose attributes are missing:"
            f" {listed(absent)}.",
            MPTTWarning,
            stacklevel=2,
        )
    rows = table.reindex(list(sites))
    kept = {name: ("site", _values(rows[name])) for name in rows.columns if not name.startswith("(column ")}
    return xr.Dataset(kept, {"site": ("site", np.array(list(sites), dtype=np.str_))})


def _id_column(place: Place, header: list[str], site: str | None) -> str:
    found = [name for name in header if name.casefold() in SITE_NAMES]
    if site is not None and site in header:
        return site
    if len(found) > 1:
        raise MPTTError(f"{place}: which column names the site, {' or '.join(found)}? Keep one of them.")
    return found[0] if found else header[0]


def _values(column: pd.Series[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    texts = column.fillna("").str.strip()
    try:
        numbers = pd.to_numeric(texts.mask(texts.isin(MISSING)))
    except ValueError:
        return texts.to_numpy(dtype=np.str_)
    return numbers.to_numpy(dtype=np.float32)


def _no_fault(row: Mapping[str, str]) -> str | None:
    return None

"""Parts by dates: those of all sites, or of each."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.tables import read_text
from mptt.errors import MPTTError, MPTTWarning
from mptt.windows import Int64Array

PARTS = ("train", "validation", "test")
Bounds = dict[str, tuple[Int64Array, Int64Array]]  # of a part, the first steps of the sites and those after the last


def bounds_of_dates(time: pd.Index, split: Mapping[str, Any], sites: int) -> Bounds:
    """First and last date of each part, the same for all of so many sites.

    Raises:
        MPTTError: it is no such mapping, or its dates are none of the time axis.
    """
    if set(split) != set(PARTS) or not all(map(_is_pair, split.values())):
        raise MPTTError(
            f"A split by dates gives the first and last date of each of {', '.join(PARTS)}; found {dict(split)}."
        )
    calendar = Calendar(time)
    bounds: Bounds = {}
    for name in PARTS:
        begin, end = calendar.steps(f"{name} part", *split[name])
        bounds[name] = np.full(sites, begin), np.full(sites, end)
    calendar.warn()
    return bounds


def bounds_of_site_dates(
    time: pd.Index, split: Mapping[str, Any], sites: Sequence[str], known: Sequence[str]
) -> Bounds:
    """First and last date of parts of each site; a part that is not there has no steps.

    Args:
        time: the common time axis.
        split: of each site, dates of its parts.
        sites: that need dates.
        known: that may have dates.

    Raises:
        MPTTError: it is no such mapping; a site that is not there or that it lacks; dates that are none.
    """
    if unknown := [site for site in split if site not in set(known)]:
        raise MPTTError(
            f"split names {len(unknown)} site(s) that the data set does not have: {listed(unknown)}. There are"
            f" {listed(known)}."
        )
    if lacking := [site for site in sites if site not in split]:
        raise MPTTError(f"split has no dates for {len(lacking)} site(s): {listed(lacking)}. Add them, or leave them.")
    calendar = Calendar(time)
    bounds: Bounds = {name: (np.zeros(len(sites), np.int64), np.zeros(len(sites), np.int64)) for name in PARTS}
    for nth, site in enumerate(sites):
        dates = split[site]
        if set(dates) - set(PARTS) or not all(map(_is_pair, dates.values())):
            raise MPTTError(
                f"A split by dates gives the first and last date of {', '.join(PARTS)}; found {dict(dates)} for"
                f" site {site}."
            )
        for name, pair in dates.items():
            bounds[name][0][nth], bounds[name][1][nth] = calendar.steps(f"{name} part of site {site}", *pair)
    calendar.warn()
    return bounds


def _is_pair(dates: Any) -> bool:
    return isinstance(dates, Sequence) and not isinstance(dates, str) and len(dates) == 2


def read_site_dates(path: str | Path) -> dict[str, dict[str, tuple[str, str]]]:
    """First and last date of each part of each site, from a CSV table.

    Its columns are site, train_start, train_end, validation_start, validation_end, test_start and test_end; others are
    left out. Both dates of a part may be empty: the site is not in it.

    Raises:
        MPTTError: no such file, or one of another form; which line.
    """
    path = Path(path)
    if not path.is_file():
        raise MPTTError(f"split: no table of dates at {path} (looked from {Path.cwd()}).")
    text = read_text(path).decode("utf-8-sig")
    rows = [[field.strip() for field in row] for row in csv.reader(io.StringIO(text, newline=""))]
    header = rows[0]
    due = ["site", *(f"{part}_{end}" for part in PARTS for end in ("start", "end"))]
    if lacking := [name for name in due if header.count(name) != 1]:
        raise MPTTError(f"{path}, line 1: column(s) {', '.join(lacking)} not there once; found {', '.join(header)}.")
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for number, fields in enumerate(rows[1:], start=2):
        if not any(fields):
            continue
        row = dict(zip(header, fields, strict=False))
        site = row.get("site", "")
        if len(fields) != len(header) or not site or site in found:
            fault = f"{len(fields)} fields of {len(header)}" if len(fields) != len(header) else f"the site {site!r}"
            raise MPTTError(f"{path}, line {number}: {fault}, where a row for one more site is due.")
        dates = {part: (row[f"{part}_start"], row[f"{part}_end"]) for part in PARTS}
        if half := [part for part, (begin, end) in dates.items() if bool(begin) != bool(end)]:
            raise MPTTError(f"{path}, line {number}: only one of the dates of {', '.join(half)}, of site {site}.")
        found[site] = {part: pair for part, pair in dates.items() if pair[0]}
    return found


class Calendar:
    """Finds the steps of a time axis that dates stand for."""

    def __init__(self, time: pd.Index) -> None:
        axis = np.asarray(time)
        beyond = 2 * (axis[1] - axis[0])  # a date that the axis just misses, as midnight before noon, is no slip
        self.time = time
        self.axis: npt.NDArray[Any] = np.concatenate([[axis[0] - beyond], axis, [axis[-1] + beyond]])
        self.index = xr.CFTimeIndex(self.axis) if isinstance(time, xr.CFTimeIndex) else None
        self.beyond: list[str] = []

    def steps(self, what: str, begin: Any, end: Any) -> tuple[int, int]:
        """The first step of what runs from one date to another, and the step after its last.

        Raises:
            MPTTError: they are no dates, or have no step.
        """
        try:
            if self.index is not None:
                found = self.index.slice_indexer(str(begin), str(end))
                low, high = int(found.start or 0), len(self.axis) if found.stop is None else int(found.stop)
            else:  # NumPy's own dates: pandas cannot look up a day after 2262
                first, last = np.datetime64(str(begin)), np.datetime64(str(end))
                if np.isnat(first) or np.isnat(last):
                    raise ValueError("a date is missing")
                # "2000-06" is the whole month: its end is that of its unit.
                low, high = int(self.axis.searchsorted(first)), int(self.axis.searchsorted(last + 1))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise MPTTError(
                f"The {what} runs from {begin!r} to {end!r}, which cannot be read as dates YYYY-MM-DD: {error}."
            ) from error
        inside = max(low - 1, 0), min(high - 1, len(self.time))
        if inside[0] >= inside[1]:
            raise MPTTError(
                f"The {what}, {begin} to {end}, has no step: the data run from {self.time[0]} to {self.time[-1]}. Give"
                " dates within, the first before the last."
            )
        if low == 0 or high == len(self.axis):
            self.beyond.append(
                f"The {what}, {begin} to {end}, reaches beyond the data, which run from {self.time[0]} to"
                f" {self.time[-1]}; it is {self.time[inside[0]]} to {self.time[inside[1] - 1]}."
            )
        return inside

    def warn(self) -> None:
        """Say which parts reach beyond the data."""
        more = f" So do {len(self.beyond) - 3} other(s)." if len(self.beyond) > 3 else ""
        if self.beyond:
            warnings.warn(" ".join(self.beyond[:3]) + more, MPTTWarning, stacklevel=4)

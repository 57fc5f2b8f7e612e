"""The training, validation and test part of each site."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
Dates = Mapping[str, Sequence[str]]  # of a part, first and last
Split = Sequence[float] | Dates | Mapping[str, Dates] | str | Path | None
Bounds = dict[str, tuple[Int64Array, Int64Array]]  # of a part, the first steps of the sites and those after the last


@dataclass(frozen=True)
class Part:
    """One stretch of each site that has data in a part.

    Attributes:
        site: (n,) site numbers.
        begin: (n,) first step on the common time axis.
        length: (n,) number of steps.
    """

    site: Int64Array
    begin: Int64Array
    length: Int64Array

    def __len__(self) -> int:
        return len(self.site)

    def latest(self, steps: int) -> Part:
        """The last so many steps of each stretch; all of a shorter one."""
        length = np.minimum(self.length, steps)
        return Part(self.site, self.begin + self.length - length, length)


def split_parts(
    time: pd.Index,
    first: Int64Array,
    last: Int64Array,
    split: Split,
    warmup: int,
    sites: Sequence[str] = (),
    members: Mapping[str, Sequence[str]] | None = None,
    gap: int = 0,
) -> dict[str, Part]:
    """Cut each site's record into parts.

    Args:
        time: the common time axis, dates or cftime dates.
        first: (sites,) first step of each site's record.
        last: (sites,) step after its last.
        split: three fractions of each site's record for train, validation and test, in this order; or the first and
            last date of each part by name, the last included; "1999" and "1999-06" are the whole year and month; or
            such dates for each site by its name, or the path of a table of them as of `read_site_dates`; None: each
            part is the whole record.
        warmup: steps at the start of validation and test that are fed but not scored. Parts may overlap there.
        sites: names; needed for dates by site and for `members`.
        members: names of the sites of each part, no site in two; by default every site is in every part.
        gap: steps left out between two parts of a site: the part that is named first, of train, validation and test,
            gives way.

    Raises:
        MPTTError: fractions or dates that are no split; a part without data; parts of one site that overlap.
    """
    if split is None:
        bounds = _whole(first, last, members, gap)
    elif isinstance(split, str | Path) or (isinstance(split, Mapping) and _is_by_site(split)):
        by_site = read_site_dates(split) if isinstance(split, str | Path) else split
        bounds = _by_site_dates(time, by_site, sites)
    elif isinstance(split, Mapping):
        bounds = _by_dates(time, split, len(first))
    else:
        bounds = _by_fractions(split, first, last)
    if members is None:  # else no site is in two parts
        _check_apart(time, bounds, warmup, sites)
    if gap:
        _leave_out(bounds, warmup, gap)
    parts = {}
    for name, (begin, end) in bounds.items():
        begin, end = np.maximum(begin, first), np.minimum(end, last)
        inside = np.ones(len(first), dtype=bool) if members is None else np.isin(sites, members[name])
        here = np.flatnonzero((end > begin) & inside)
        if not len(here):
            raise MPTTError(
                f"The {name} part is empty: no site has data in it. The records run from {time[first.min()]} to"
                f" {time[last.max() - 1]}; change the split{f' or the gap of {gap} steps' if gap else ''}."
            )
        parts[name] = Part(here, begin[here], (end - begin)[here])
    return parts


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
    try:
        text = read_text(path).decode("utf-8-sig")
    except OSError as error:
        raise MPTTError(f"split: {path} cannot be read: {error}.") from error
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


def _whole(first: Int64Array, last: Int64Array, members: Any, gap: int) -> Bounds:
    if members is None or gap:
        what = f"a gap of {gap} steps" if members is not None else "no site_split"
        raise MPTTError(
            f"split=None makes each part the whole record, and there is {what}: give fractions or dates"
            f"{', or a site_split, which keeps the parts apart' if members is None else ', or no gap'}."
        )
    return dict.fromkeys(PARTS, (first, last))


def _is_by_site(split: Mapping[str, Any]) -> bool:
    return bool(split) and all(isinstance(dates, Mapping) for dates in split.values())


def _by_fractions(split: Any, first: Int64Array, last: Int64Array) -> Bounds:
    try:
        shares = np.array([float(share) for share in split])
    except (TypeError, ValueError):
        shares = np.empty(0)
    if len(shares) != len(PARTS) or not (shares >= 0).all() or shares.sum() > 1 + 1e-9:
        raise MPTTError(
            f"A split is three fractions, 0 or more, that sum to at most 1, for {', '.join(PARTS)}; or the first and"
            f" last date of each. Found {split!r}."
        )
    edges = [first + np.floor((last - first) * share + 1e-9).astype(np.int64) for share in (0, *shares.cumsum())]
    return {name: (edges[nth], edges[nth + 1]) for nth, name in enumerate(PARTS)}


def _by_dates(time: pd.Index, split: Mapping[str, Any], sites: int) -> Bounds:
    if set(split) != set(PARTS) or not all(map(_is_pair, split.values())):
        raise MPTTError(
            f"A split by dates gives the first and last date of each of {', '.join(PARTS)}; found {dict(split)}."
        )
    calendar = _Calendar(time)
    bounds: Bounds = {}
    for name in PARTS:
        begin, end = calendar.steps(f"{name} part", *split[name])
        bounds[name] = np.full(sites, begin), np.full(sites, end)
    calendar.warn()
    return bounds


def _by_site_dates(time: pd.Index, split: Mapping[str, Any], sites: Sequence[str]) -> Bounds:
    if unknown := [site for site in split if site not in set(sites)]:
        raise MPTTError(
            f"split names {len(unknown)} site(s) that the data set does not have: {listed(unknown)}. There are"
            f" {listed(sites)}."
        )
    if lacking := [site for site in sites if site not in split]:
        raise MPTTError(f"split has no dates for {len(lacking)} site(s): {listed(lacking)}. Add them, or leave them.")
    calendar = _Calendar(time)
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


def _check_apart(time: pd.Index, bounds: Bounds, warmup: int, sites: Sequence[str]) -> None:
    """Refuse parts of a site that share steps, except in the warm-up."""
    for one, other in PAIRS:
        (begin, end), (other_begin, other_end) = (_scored(bounds, name, warmup) for name in (one, other))
        low, high = np.maximum(begin, other_begin), np.minimum(end, other_end)
        if (shared := low < high).any():
            site = int(shared.argmax())
            same = (low == low[0]).all() and (high == high[0]).all()
            where = "" if same else f" of site {sites[site]}"
            raise MPTTError(
                f"The {one} and {other} parts{where} share the steps {time[low[site]]} to {time[high[site] - 1]}, which"
                f" would be both {'fitted' if one == 'train' else 'chosen by'} and scored. Parts may overlap only in"
                f" the warm-up ({warmup} steps)."
            )


def _scored(bounds: Bounds, name: str, warmup: int) -> tuple[Int64Array, Int64Array]:
    begin, end = bounds[name]
    return begin + (warmup if name != "train" else 0), end


def _leave_out(bounds: Bounds, warmup: int, gap: int) -> None:
    """Shorten the part that is named first, so that so many steps lie between it and another, in place."""
    for one, other in PAIRS:
        (begin, end), (other_begin, other_end) = bounds[one], bounds[other]
        scored, other_scored = (_scored(bounds, name, warmup)[0] for name in (one, other))
        both = (end > begin) & (other_end > other_begin)
        # Where parts overlap, they do so in the warm-up of the later one, which is not scored.
        edge = np.where(end <= other_begin, other_begin, other_scored) - gap
        earlier, later = both & (end <= other_scored), both & (other_end <= scored)
        end = np.where(earlier, np.minimum(end, edge), end)
        edge = other_end + gap - np.where(other_end <= begin, 0, scored - begin)
        begin = np.where(later, np.maximum(begin, edge), begin)
        bounds[one] = begin, np.maximum(end, begin)


class _Calendar:
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

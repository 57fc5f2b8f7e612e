"""The training, validation and test part of each site."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.datamodules.preparing.checks import Mask, listed
from mptt.datamodules.preparing.dates import PARTS as PARTS
from mptt.datamodules.preparing.dates import Bounds, bounds_of_dates, bounds_of_site_dates, read_site_dates
from mptt.errors import MPTTError, MPTTWarning
from mptt.windows import Int64Array

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
Dates = Mapping[str, Sequence[str]]  # of a part, first and last
Split = Sequence[float] | Dates | Mapping[str, Dates] | str | Path | None


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

    def choose(self, entries: npt.NDArray[np.bool_]) -> Part:
        """Some of the stretches, those that are True."""
        return Part(self.site[entries], self.begin[entries], self.length[entries])


class TimeSplit:
    """Where each site's record is cut into parts.

    Args:
        time: the common time axis, dates or cftime dates.
        split: three fractions of each site's record for train, validation and test, in this order; or the first and
            last date of each part by name, the last included; "1999" and "1999-06" are the whole year and month; or
            such dates for each site by its name, or the path of a table of them as of `read_site_dates`; None: each
            part is the whole record.
        sites: names.
        warmup: steps at the start of validation and test that are fed but not scored. Parts may overlap there.
        members: names of the sites of each part, no site in two; by default every site is in every part.
        gap: steps left out between two parts of a site: the part that is named first, of train, validation and test,
            gives way.
        known: names of sites that dates by site may also be given for; by default none other.

    Raises:
        MPTTError: fractions or dates that are no split; parts of one site that overlap; sites that are not there.
    """

    def __init__(
        self,
        time: pd.Index,
        split: Split,
        sites: Sequence[str],
        warmup: int = 0,
        members: Mapping[str, Sequence[str]] | None = None,
        gap: int = 0,
        known: Sequence[str] | None = None,
    ) -> None:
        self.time, self.split, self.sites = time, split, list(sites)
        self.warmup, self.gap = warmup, gap
        self.members = None if members is None else {name: np.isin(self.sites, members[name]) for name in PARTS}
        self._shares: npt.NDArray[np.float64] | None = None
        self._dated: Bounds | None = None
        if split is None:
            _check_whole(self.members is not None, gap)
        elif isinstance(split, str | Path):
            self._dated = bounds_of_site_dates(time, read_site_dates(split), self.sites, known or self.sites)
        elif _is_by_site(split):
            self._dated = bounds_of_site_dates(time, split, self.sites, known or self.sites)
        elif isinstance(split, Mapping):
            self._dated = bounds_of_dates(time, split, len(self.sites))
        else:
            self._shares = _as_shares(split)
        if self._dated is not None:
            if self.members is None:  # else no site is in two parts
                _check_apart(time, self._dated, warmup, self.sites)
            _leave_out(self._dated, warmup, gap)

    def bounds(self, numbers: slice | Int64Array, first: Int64Array, last: Int64Array) -> Bounds:
        """First steps of the parts of some sites and the steps after their last, inside the records.

        Args:
            numbers: (n,) of the sites.
            first: (n,) first step of their records.
            last: (n,) step after the last.
        """
        bounds: Bounds = dict.fromkeys(PARTS, (first, last))
        if self._dated is not None:
            bounds = {name: (begin[numbers], end[numbers]) for name, (begin, end) in self._dated.items()}
        elif self._shares is not None:
            edges = [first + np.floor((last - first) * share + 1e-9).astype(np.int64) for share in self._shares]
            bounds = {name: (edges[nth], edges[nth + 1]) for nth, name in enumerate(PARTS)}
            _leave_out(bounds, self.warmup, self.gap)
        return {name: (np.maximum(begin, first), np.minimum(end, last)) for name, (begin, end) in bounds.items()}

    def parts(self, first: Int64Array, last: Int64Array, latest: int | None = None) -> dict[str, Part]:
        """The parts, given the records of all sites, and of each site's training part only so many steps at its end.

        Warns of sites that a part should have and that have no step in it.

        Raises:
            MPTTError: a part without data.
        """
        parts = {}
        for name, (begin, end) in self.bounds(slice(None), first, last).items():
            inside = np.ones(len(first), dtype=bool) if self.members is None else self.members[name]
            here = np.flatnonzero((end > begin) & inside)
            if not len(here):
                raise MPTTError(
                    f"The {name} part is empty: no site has data in it. The records run from {self.time[first.min()]}"
                    f" to {self.time[last.max() - 1]}; change the split"
                    f"{f' or the gap of {self.gap} steps' if self.gap else ''}."
                )
            parts[name] = Part(here, begin[here], (end - begin)[here])
        for name, part in parts.items():
            absent = np.ones(len(first), dtype=bool) if self.members is None else self.members[name].copy()
            absent[part.site] = False
            if absent.any():
                _warn_of_absent(name, np.array(self.sites)[absent].tolist())
        return parts if latest is None else {**parts, "train": parts["train"].latest(latest)}

    def training(self, numbers: slice | Int64Array, recorded: Mask, latest: int | None = None) -> Mask:
        """Whether each step (n, time) is in the training dates of its site, also of sites that do not train.

        Without dates or fractions, sites that do not train have no such steps.

        Args:
            numbers: (n,) of the sites.
            recorded: (n, time) whether each step is in the record.
            latest: only so many steps at the end of each.
        """
        first = recorded.argmax(axis=1)
        begin, end = self.bounds(numbers, first, first + recorded.sum(axis=1))["train"]
        if latest is not None:
            begin = np.maximum(begin, end - latest)
        if self.split is None and self.members is not None:
            end = np.where(self.members["train"][numbers], end, begin)
        step = np.arange(recorded.shape[1])
        inside: Mask = (step >= begin[:, None]) & (step < end[:, None])
        return inside


def split_parts(
    time: pd.Index,
    first: Int64Array,
    last: Int64Array,
    split: Split,
    warmup: int,
    sites: Sequence[str] | None = None,
    members: Mapping[str, Sequence[str]] | None = None,
    gap: int = 0,
) -> dict[str, Part]:
    """The parts of a `TimeSplit`, given the first steps of the sites' records and the steps after their last."""
    names = [str(site) for site in range(len(first))] if sites is None else sites
    return TimeSplit(time, split, names, warmup, members, gap).parts(first, last)


def _warn_of_absent(part: str, sites: Sequence[str]) -> None:
    so = "they do not train" if part == "train" else "they are not predicted there"
    warnings.warn(
        f"No step of {len(sites)} site(s) lies in the {part} part, so {so}: {listed(sites)}.", MPTTWarning, stacklevel=4
    )


def _check_whole(by_site: bool, gap: int) -> None:
    if not by_site or gap:
        what = f"a gap of {gap} steps" if by_site else "no site_split"
        raise MPTTError(
            f"split=None makes each part the whole record, and there is {what}: give fractions or dates"
            f"{', or no gap' if by_site else ', or a site_split, which keeps the parts apart'}."
        )


def _is_by_site(split: Any) -> TypeGuard[Mapping[str, Dates]]:
    return isinstance(split, Mapping) and bool(split) and all(isinstance(one, Mapping) for one in split.values())


def _as_shares(split: Any) -> npt.NDArray[np.float64]:
    """Edges between the parts, as shares of the record."""
    try:
        shares = np.array([float(share) for share in split])
    except (TypeError, ValueError):
        shares = np.empty(0)
    if len(shares) != len(PARTS) or not (shares >= 0).all() or shares.sum() > 1 + 1e-9:
        raise MPTTError(
            f"A split is three fractions, 0 or more, that sum to at most 1, for {', '.join(PARTS)}; or the first and"
            f" last date of each. Found {split!r}."
        )
    return np.array([0.0, *shares.cumsum()])


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
    if not gap:
        return
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

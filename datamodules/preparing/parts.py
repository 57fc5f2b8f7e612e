"""The training, validation and test part of each site."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.errors import MPTTError, MPTTWarning
from mptt.windows import Int64Array

PARTS = ("train", "validation", "test")
Split = Sequence[float] | Mapping[str, Sequence[str]]


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


def split_parts(time: pd.Index, first: Int64Array, last: Int64Array, split: Split, warmup: int) -> dict[str, Part]:
    """Cut each site's record into parts.

    Args:
        time: the common time axis, dates or cftime dates.
        first: (sites,) first step of each site's record.
        last: (sites,) step after its last.
        split: three fractions of each site's record for train, validation and test, in this order; or the first and
            last date of each part by name, the last included; "1999" and "1999-06" are the whole year and month.
        warmup: steps at the start of validation and test that are fed but not scored. Parts may overlap there.

    Raises:
        MPTTError: fractions or dates that are no split; a part without data.
    """
    bounds = _by_dates(time, split, warmup) if isinstance(split, Mapping) else _by_fractions(split, first, last)
    parts = {}
    for name, (begin, end) in bounds.items():
        begin, end = np.maximum(begin, first), np.minimum(end, last)
        here = np.flatnonzero(end > begin)
        if not len(here):
            raise MPTTError(
                f"The {name} part is empty: no site has data in it. The records run from {time[first.min()]} to"
                f" {time[last.max() - 1]}; change the split."
            )
        parts[name] = Part(here, begin[here], (end - begin)[here])
    return parts


def _by_fractions(
    split: Sequence[float], first: Int64Array, last: Int64Array
) -> dict[str, tuple[Int64Array, Int64Array]]:
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


def _by_dates(time: pd.Index, split: Mapping[str, Sequence[str]], warmup: int) -> dict[str, tuple[int, int]]:
    if set(split) != set(PARTS) or any(isinstance(dates, str) or len(dates) != 2 for dates in split.values()):
        raise MPTTError(
            f"A split by dates gives the first and last date of each of {', '.join(PARTS)}; found {dict(split)}."
        )
    bounds = {name: _steps_between(time, name, *split[name]) for name in PARTS}
    scored = {name: (begin + (warmup if name != "train" else 0), end) for name, (begin, end) in bounds.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        begin, end = max(scored[one][0], scored[other][0]), min(scored[one][1], scored[other][1])
        if begin < end:
            raise MPTTError(
                f"The {one} and {other} parts share the steps {time[begin]} to {time[end - 1]}, which would be both"
                f" {'fitted' if one == 'train' else 'chosen by'} and scored. Parts may overlap only in the warm-up"
                f" ({warmup} steps)."
            )
    return bounds


def _steps_between(time: pd.Index, part: str, begin: str, end: str) -> tuple[int, int]:
    """The first step of a part and the step after its last."""
    axis = np.asarray(time)
    beyond = 2 * (axis[1] - axis[0])  # a date that the axis just misses, as midnight before noon, is no slip
    wider = np.concatenate([[axis[0] - beyond], axis, [axis[-1] + beyond]])
    try:
        if isinstance(time, xr.CFTimeIndex):
            found = xr.CFTimeIndex(wider).slice_indexer(str(begin), str(end))
            low, high = int(found.start or 0), len(wider) if found.stop is None else int(found.stop)
        else:  # NumPy's own dates: pandas cannot look up a day after 2262
            first, last = np.datetime64(str(begin)), np.datetime64(str(end))
            if np.isnat(first) or np.isnat(last):
                raise ValueError("a date is missing")
            # "2000-06" is the whole month: its end is that of its unit.
            low, high = int(wider.searchsorted(first)), int(wider.searchsorted(last + 1))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise MPTTError(
            f"The {part} part runs from {begin!r} to {end!r}, which cannot be read as dates YYYY-MM-DD: {error}."
        ) from error
    inside = max(low - 1, 0), min(high - 1, len(axis))
    if inside[0] >= inside[1]:
        raise MPTTError(
            f"The {part} part, {begin} to {end}, has no step: the data run from {time[0]} to {time[-1]}. Give dates"
            " within, the first before the last."
        )
    if low == 0 or high == len(wider):
        warnings.warn(
            f"The {part} part, {begin} to {end}, reaches beyond the data, which run from {time[0]} to {time[-1]}; it"
            f" is {time[inside[0]]} to {time[inside[1] - 1]}.",
            MPTTWarning,
            stacklevel=2,
        )
    return inside

"""What a data set holds, found out site by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import as_float32
from mptt.datamodules.reading.axes import Axis, Period, date_numbers
from mptt.datamodules.reading.source import Source
from mptt.datamodules.storing.converting import Progress
from mptt.errors import MPTTError

_ROWS = 256  # of the map of available values, at most: neighbouring sites share one
_SAMPLE = 40_000  # values of a variable that are kept for its distribution, about
_MANY_MONTHS = 150 * 12  # from here on values are counted by year

Date = tuple[int, int]  # in microseconds, and in months


@dataclass
class Variable:
    """A series over all sites.

    Attributes:
        name: of it.
        attrs: as at the first site that has it.
        count: of values at each site that has any.
        spans: of each such site, the dates of the first and the last value.
        gaps: of each such site, the two dates of values farthest apart with none between them.
        low, high, total: smallest, largest and sum of the values.
        sample: some values of each site.
        available: (row, bin) values by stretch of sites and of time.
    """

    name: str
    attrs: Mapping[str, Any]
    available: npt.NDArray[np.int64]
    count: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[Date, Date]] = field(default_factory=dict)
    gaps: dict[str, tuple[Date, Date]] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    sample: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @property
    def units(self) -> str:
        """Units, "" where none are given."""
        return str(self.attrs.get("units", ""))

    @property
    def long_name(self) -> str:
        """What it is, "" where nothing is said."""
        return str(self.attrs.get("long_name", ""))

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """Some values of all sites."""
        return np.concatenate(self.sample) if self.sample else np.empty(0, np.float32)


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        source: the data set.
        axis: its dates.
        spans: first and last place on the axis at which a site has any value; sites without any are left out.
        variables: in the order in which they came up.
        first_bin: number of the first month, or year, in which values are counted, from the year 0.
        months: in a bin.
        expected: (bin,) steps of the axis.
    """

    source: Source
    axis: Axis
    spans: Mapping[str, tuple[int, int]]
    variables: Sequence[Variable]
    first_bin: int
    months: int
    expected: npt.NDArray[np.int64]

    @property
    def years(self) -> npt.NDArray[np.float64]:
        """(bin + 1,) where bins begin and end."""
        return (self.first_bin + np.arange(len(self.expected) + 1)) * self.months / 12

    def missing(self) -> pd.DataFrame:
        """The share of steps without a value: a row a site, a column a variable.

        A site's steps are those from its first to its last value of any variable; a site without any value lacks all.
        """
        names = list(self.source.sites)
        steps = np.array([last - first + 1 for first, last in (self.spans.get(site, (0, 0)) for site in names)])
        shares = {one.name: 1 - np.array([one.count.get(site, 0) for site in names]) / steps for one in self.variables}
        return pd.DataFrame(shares, index=pd.Index(names, name="site"))

    def complete(self, variable: Variable) -> bool:
        """Whether every site has a value of a variable at each step from its first to its last."""
        return len(variable.count) == len(self.source.sites) and all(
            variable.count[site] == self.axis.place(last) - self.axis.place(first) + 1
            for site, (first, last) in variable.spans.items()
        )

    def share(self, variable: Variable) -> npt.NDArray[np.float64]:
        """(row, bin) the share of steps with a value of a variable; a row is a stretch of sites."""
        sites = np.bincount(_rows(len(self.source.sites)))
        with np.errstate(invalid="ignore"):
            share: npt.NDArray[np.float64] = variable.available / (sites[:, None] * self.expected)
        return share


def survey(source: Source, progress: Progress) -> Survey:
    """Read a data set once, site by site, and keep what is needed to describe it.

    Args:
        source: the data set.
        progress: as of `convert`.

    Raises:
        MPTTError: no site has a value, a variable is not numeric, or what reading raises.
    """
    counter = _Counter(len(source.sites))
    for nth, site in enumerate(progress(source.sites, "values")):
        counter.add(nth, site, source.read(site))
    if not counter.spans:
        raise MPTTError(f"None of the {len(source.sites)} site(s) of {source.path} has a value.")
    axis = source.axis(counter.periods)
    bins = date_numbers(axis.index)[1] // counter.months
    counter.reach(int(bins[0]), int(bins[-1]))
    spans = {site: (axis.place(first), axis.place(last)) for site, (first, last) in counter.spans.items()}
    expected = np.bincount(bins - counter.first, minlength=counter.bins)
    return Survey(source, axis, spans, list(counter.variables.values()), counter.first, counter.months, expected)


class _Counter:
    """Takes in sites one by one."""

    def __init__(self, sites: int) -> None:
        self.rows = _rows(sites)
        self.picked = max(_SAMPLE // sites, 20)
        self.periods: dict[str, Period] = {}
        self.spans: dict[str, tuple[Date, Date]] = {}
        self.variables: dict[str, Variable] = {}
        self.months = self.first = self.bins = 0

    def add(self, nth: int, site: str, table: xr.Dataset) -> None:
        time = table.indexes["time"]
        self.periods[site] = Period.of(site, time)
        moment, month = date_numbers(time)
        self.months = self.months or (12 if month[-1] - month[0] > _MANY_MONTHS else 1)
        self.reach(int(month[0]) // self.months, int(month[-1]) // self.months)
        bins = month // self.months - self.first
        everywhere = np.bincount(bins, minlength=self.bins)
        widest = _widest(np.arange(len(time)), moment, month)
        any_value = np.zeros(len(time), dtype=bool)
        for name, series in table.data_vars.items():
            if series.dtype.kind not in "fiub":
                raise MPTTError(f"{name} at site {site} is not numeric ({series.dtype}).")
            values = as_float32(series.values)
            known = np.isfinite(values)
            one = self._variable(str(name), series.attrs)
            count = int(np.count_nonzero(known))
            if not count:
                continue
            any_value |= known
            if count == len(known):
                numbers, there, counted = values, np.array([0, count - 1]), everywhere
                one.gaps[site] = widest
            else:
                numbers, there = values[known], np.flatnonzero(known)
                counted = np.bincount(bins[there], minlength=self.bins)
                one.gaps[site] = _widest(there, moment, month)
            one.count[site], one.spans[site] = count, _span(there, moment, month)
            one.low, one.high = min(one.low, float(numbers.min())), max(one.high, float(numbers.max()))
            one.total += float(numbers.sum(dtype=np.float64))
            one.sample.append(numbers[np.linspace(0, len(numbers) - 1, min(self.picked, len(numbers))).astype(int)])
            one.available[self.rows[nth]] += counted
        if any_value.any():
            self.spans[site] = _span(np.flatnonzero(any_value), moment, month)

    def reach(self, first: int, last: int) -> None:
        """Make room for bins."""
        if not self.bins:
            self.first = first
        before, after = max(self.first - first, 0), max(last + 1 - self.first - self.bins, 0)
        self.first, self.bins = self.first - before, self.bins + before + after
        for one in self.variables.values():
            one.available = np.pad(one.available, ((0, 0), (before, after)))

    def _variable(self, name: str, attrs: Mapping[str, Any]) -> Variable:
        if name not in self.variables:
            self.variables[name] = Variable(name, dict(attrs), np.zeros((int(self.rows[-1]) + 1, self.bins), np.int64))
        return self.variables[name]


def _rows(sites: int) -> npt.NDArray[np.int64]:
    """(site,) the row of each site in the map of available values."""
    return np.arange(sites) * min(sites, _ROWS) // sites


def _span(
    there: npt.NDArray[np.int64], moment: npt.NDArray[np.int64], month: npt.NDArray[np.int64]
) -> tuple[Date, Date]:
    first, last = ((int(moment[at]), int(month[at])) for at in (there[0], there[-1]))
    return first, last


def _widest(
    there: npt.NDArray[np.int64], moment: npt.NDArray[np.int64], month: npt.NDArray[np.int64]
) -> tuple[Date, Date]:
    after = int(np.diff(moment[there], prepend=moment[there[0]]).argmax())
    return _span(there[[max(after - 1, 0), after]], moment, month)

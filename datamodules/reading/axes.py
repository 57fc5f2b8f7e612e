"""One time axis for sites whose own begin and end on different dates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cftime
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed, moments
from mptt.errors import MPTTError, MPTTWarning

Int64Array = npt.NDArray[np.int64]

GREGORIAN = "proleptic_gregorian"  # the calendar of datetime64
_FEWEST_DAYS = 28 * 86_400_000_000  # of a month, in microseconds
_SINCE_1970 = "microseconds since 1970-01-01"


@dataclass(frozen=True)
class Period:
    """What an axis needs to know of the dates of one site: little, however many there are.

    Attributes:
        calendar: CF name.
        count: of dates.
        first: in microseconds from 1970, and in months from the year 0.
        last: likewise.
        steps: from date to date in microseconds: to each the date, likewise, after the first such step, and how many.
        month_steps: the same in months.
        begins: microseconds from the start of the month to each date, where that is one number.
        ends: microseconds from each date to the end of the month, where that is one number.
    """

    calendar: str
    count: int
    first: tuple[int, int]
    last: tuple[int, int]
    steps: Mapping[int, tuple[int, int]]
    month_steps: Mapping[int, tuple[int, int]]
    begins: int | None = None
    ends: int | None = None

    @classmethod
    def of(cls, site: str, time: pd.Index) -> Period:
        """The period of a site.

        Args:
            site: its name.
            time: its dates, going up, with or without gaps.

        Raises:
            MPTTError: no dates, or dates that do not go up.
        """
        moment, month = date_numbers(time)
        if not len(moment):
            raise MPTTError(f"Sites without a date: {site}. Leave them out.")
        if (wrong := np.diff(moment) <= 0).any():
            entry = int(wrong.argmax()) + 1
            raise MPTTError(
                f"The dates of site {site} do not go up: {time[entry]} stands after {time[entry - 1]}, at"
                f" {int(wrong.sum())} place(s). Sort the table, and drop repeated rows."
            )
        calendar = str(time.calendar) if isinstance(time, xr.CFTimeIndex) else GREGORIAN
        first, last = ((int(moment[nth]), int(month[nth])) for nth in (0, -1))
        period = cls(calendar, len(moment), first, last, _steps(moment, moment), _steps(month, moment))
        if not period.monthly:
            return period
        begins, ends = (_only(moment - _month_starts(month + nth, calendar)) for nth in (0, 1))
        return cls(**{**vars(period), "begins": begins, "ends": None if ends is None else -ends})

    @property
    def monthly(self) -> bool:
        """Whether no two dates are in one month, and none less than 28 days apart."""
        return all(step >= _FEWEST_DAYS for step in self.steps) and all(step > 0 for step in self.month_steps)


@dataclass(frozen=True)
class Axis:
    """Equal steps, or months, from the earliest to the latest date of any site.

    Attributes:
        index: the dates.
        monthly: whether a step is a number of months.
        first: the first date as a number, microseconds or months.
        step: from one date to the next, likewise.
    """

    index: pd.Index
    monthly: bool
    first: int
    step: int

    @classmethod
    def over(cls, times: Mapping[str, pd.Index | Period]) -> Axis:
        """The axis that holds the dates of all sites.

        Monthly dates keep their distance from the start of the month, or else from its end; where neither is the same
        throughout, they are put on the first of the month, with a note.

        Args:
            times: of each site, by name; going up, with or without gaps; or what is known of them.

        Raises:
            MPTTError: no dates, dates that do not go up, other calendars, or dates of two sites between each other's.
        """
        if empty := [site for site, time in times.items() if not isinstance(time, Period) and not len(time)]:
            raise MPTTError(f"Sites without a date: {listed(empty)}. Leave them out.")
        periods = periods_of(times)
        calendars = {period.calendar: site for site, period in periods.items()}
        if len(calendars) > 1:
            found = ", ".join(f"{name} at {site}" for name, site in sorted(calendars.items()))
            raise MPTTError(f"Sites have different calendars: {found}. Convert them (xarray.Dataset.convert_calendar).")
        calendar = next(iter(calendars))
        monthly = any(one.count > 1 for one in periods.values()) and all(one.monthly for one in periods.values())
        unit = int(monthly)
        first, last = min(one.first[unit] for one in periods.values()), max(one.last[unit] for one in periods.values())
        step = _usual_step([one.month_steps if monthly else one.steps for one in periods.values()])
        if step is None:  # sites of one date each
            step = math.gcd(*(one.first[unit] - first for one in periods.values())) or 1
        for site, period in periods.items():
            if (off := _off(period, first, step, monthly)) is not None:
                raise MPTTError(
                    f"The dates of the sites do not stand on one axis: {_dates(np.array([off]), calendar)[0]} of site"
                    f" {site} lies between its steps ({f'{step} month(s)' if monthly else pd.Timedelta(step, 'us')})."
                    " Read them apart, or resample them to one step."
                )
        places = first + step * np.arange((last - first) // step + 1)
        moment = _month_dates(places, periods.values(), calendar) if monthly else places
        return cls(_dates(moment, calendar), monthly, first, step)

    def places(self, time: pd.Index) -> Int64Array:
        """(T,) where on the axis these dates stand."""
        return (date_numbers(time)[int(self.monthly)] - self.first) // self.step

    def place(self, number: tuple[int, int]) -> int:
        """Where on the axis one date stands, given as microseconds and months."""
        return (number[int(self.monthly)] - self.first) // self.step

    def absent(self, period: Period) -> int:
        """Steps of the axis inside a site's period at which it has no date."""
        return self.place(period.last) - self.place(period.first) + 1 - period.count


def periods_of(times: Mapping[str, pd.Index | Period]) -> dict[str, Period]:
    """What is known of the dates of each site."""
    return {site: time if isinstance(time, Period) else Period.of(site, time) for site, time in times.items()}


def date_numbers(time: pd.Index) -> tuple[Int64Array, Int64Array]:
    """Each date in microseconds from 1970, and in months from the year 0."""
    moment, month = moments(time)
    return moment, month - 1 if isinstance(time, xr.CFTimeIndex) else month + 12 * 1970


def _steps(places: Int64Array, moment: Int64Array) -> dict[int, tuple[int, int]]:
    steps, entry, count = np.unique(np.diff(places), return_index=True, return_counts=True)
    return {
        step: (date, times)
        for step, date, times in zip(steps.tolist(), moment[entry + 1].tolist(), count.tolist(), strict=True)
    }


def _only(values: Int64Array) -> int | None:
    return int(values[0]) if (values == values[0]).all() else None


def _usual_step(steps: Iterable[Mapping[int, tuple[int, int]]]) -> int | None:
    """The commonest step of all sites, if any; the smallest of equally common ones."""
    total: dict[int, int] = {}
    for one in steps:
        for step, (_, count) in one.items():
            total[step] = total.get(step, 0) + count
    return min(total, key=lambda step: (-total[step], step)) if total else None


def _off(period: Period, first: int, step: int, monthly: bool) -> int | None:
    """The first date, in microseconds, that is not a number of steps from the axis's first."""
    if (period.first[int(monthly)] - first) % step:
        return period.first[0]
    found = period.month_steps if monthly else period.steps
    return min((date for one, (date, _) in found.items() if one % step), default=None)


def _month_dates(months: Int64Array, periods: Iterable[Period], calendar: str) -> Int64Array:
    """The date of each month, in microseconds from 1970."""
    begins, ends = ({getattr(period, name) for period in periods} for name in ("begins", "ends"))
    if len(begins) == 1 and (begin := begins.pop()) is not None:
        return _month_starts(months, calendar) + begin
    if len(ends) == 1 and (end := ends.pop()) is not None:
        return _month_starts(months + 1, calendar) - end
    warnings.warn(
        "Monthly dates stand on different days of the month; they are put on the first.", MPTTWarning, stacklevel=5
    )
    return _month_starts(months, calendar)


def _month_starts(months: Int64Array, calendar: str) -> Int64Array:
    """Microseconds from 1970 to the start of months."""
    if calendar == GREGORIAN:
        starts = (months - 12 * 1970).astype("datetime64[M]")
        return starts.astype("datetime64[us]").astype(np.int64)
    dates = [cftime.datetime(month // 12, month % 12 + 1, 1, calendar=calendar) for month in months.tolist()]
    return np.asarray(cftime.date2num(dates, _SINCE_1970, calendar=calendar), dtype=np.int64)


def _dates(moment: Int64Array, calendar: str) -> pd.Index:
    if calendar != GREGORIAN:
        return xr.CFTimeIndex(cftime.num2date(moment, _SINCE_1970, calendar=calendar))
    if (parts := moment % 1_000_000).any():
        raise MPTTError(f"Dates have parts of a second ({parts.max()} microseconds); whole seconds are needed.")
    return pd.Index((moment // 1_000_000).astype("datetime64[s]"))

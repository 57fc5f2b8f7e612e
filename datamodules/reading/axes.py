"""One time axis for sites whose own begin and end on different dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed, moments
from mptt.errors import MPTTError

Int64Array = npt.NDArray[np.int64]


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
    def over(cls, times: Mapping[str, pd.Index]) -> Axis:
        """The axis that holds the dates of all sites.

        Args:
            times: of each site, by name; going up, with or without gaps.

        Raises:
            MPTTError: no dates, dates that do not go up, other calendars, or dates of two sites between each other's.
        """
        calendars = {_calendar(time): site for site, time in times.items()}
        if len(calendars) > 1:
            found = ", ".join(f"{name} at {site}" for name, site in sorted(calendars.items()))
            raise MPTTError(f"Sites have different calendars: {found}. Convert them (xarray.Dataset.convert_calendar).")
        if empty := [site for site, time in times.items() if not len(time)]:
            raise MPTTError(f"Sites without a date: {listed(empty)}. Leave them out.")
        numbers = {site: _rising(site, time) for site, time in times.items()}
        monthly = any(len(time) > 1 for time in times.values()) and all(_is_monthly(*each) for each in numbers.values())
        places = {site: number[int(monthly)] for site, number in numbers.items()}
        step = _usual_step(list(places.values()))
        first = min(int(place[0]) for place in places.values())
        for site, place in places.items():
            if (off := (place - first) % step != 0).any():
                raise MPTTError(
                    f"The dates of the sites do not stand on one axis: {times[site][int(off.argmax())]} of site {site}"
                    f" lies between its steps ({pd.Timedelta(step, 'us') if not monthly else f'{step} month(s)'}). Read"
                    " them apart, or resample them to one step."
                )
        earliest = next(site for site, place in places.items() if place[0] == first)
        count = (max(int(place[-1]) for place in places.values()) - first) // step + 1
        return cls(_dates(times[earliest][0], count, step, monthly), monthly, first, step)

    def places(self, time: pd.Index) -> Int64Array:
        """(T,) where on the axis these dates stand."""
        return (moments(time)[int(self.monthly)] - self.first) // self.step


def _calendar(time: pd.Index) -> str:
    return str(time.calendar) if isinstance(time, xr.CFTimeIndex) else "standard"


def _rising(site: str, time: pd.Index) -> tuple[Int64Array, Int64Array]:
    numbers = moments(time)
    if (wrong := np.diff(numbers[0]) <= 0).any():
        entry = int(wrong.argmax()) + 1
        raise MPTTError(
            f"The dates of site {site} do not go up: {time[entry]} stands after {time[entry - 1]}, at"
            f" {int(wrong.sum())} place(s). Sort the table, and drop repeated rows."
        )
    return numbers


def _is_monthly(moment: Int64Array, month: Int64Array) -> bool:
    """Whether dates are never two in one month, and no less than 28 days apart."""
    return bool((np.diff(moment) >= 28 * 86_400_000_000).all() and (np.diff(month) > 0).all())


def _usual_step(places: list[Int64Array]) -> int:
    steps, count = np.unique(np.concatenate([np.diff(place) for place in places]), return_counts=True)
    return int(steps[count.argmax()]) if len(steps) else 1


def _dates(first: Any, count: int, step: int, monthly: bool) -> pd.Index:
    if not isinstance(first, pd.Timestamp | np.datetime64):  # cftime
        start = xr.CFTimeIndex([first])
        if monthly:
            return xr.CFTimeIndex([_months_after(first, nth * step) for nth in range(count)])
        return xr.CFTimeIndex([start[0] + pd.Timedelta(nth * step, "us").to_pytimedelta() for nth in range(count)])
    moment = np.datetime64(first, "s")
    if monthly:
        month = moment.astype("datetime64[M]")
        return pd.Index((month + np.arange(count) * step).astype("datetime64[s]") + (moment - month.astype("M8[s]")))
    if step % 1_000_000:
        raise MPTTError(f"Dates are {step} microseconds apart; whole seconds are needed.")
    return pd.Index(moment + np.arange(count) * np.timedelta64(step // 1_000_000, "s"))


def _months_after(date: Any, months: int) -> Any:
    month = 12 * date.year + date.month - 1 + months
    return date.replace(year=month // 12, month=month % 12 + 1)

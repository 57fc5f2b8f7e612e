"""The season of each date, and means over it: what climatology fills with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import Mask, moments
from mptt.windows import Int64Array

REACH = 15  # days on either side that stand in for a calendar day without values

FloatArray = npt.NDArray[np.float64]
Table = npt.NDArray[np.float32]  # (sites, steps)


@dataclass(frozen=True)
class Seasons:
    """The day of the year of each step, and within the day, or the month: what climatology means over.

    Attributes:
        slot: (steps,) its day in a year without 29 February, or its month.
        slots: days in such a year, or 12.
        moment: (steps,) the time of the day, counted among the `moments` that there are.
        moments: times of the day.
        leap: (steps,) whether it is a 29 February, which has the mean of the days beside it.
    """

    slot: Int64Array
    slots: int
    moment: Int64Array
    moments: int
    leap: Mask

    @classmethod
    def of(cls, time: pd.Index) -> Seasons:
        """Those of dates in equal steps, or of one date a month."""
        clock = xr.DataArray(np.asarray(time), dims="time").dt
        month, day = (np.asarray(part.values, dtype=np.int64) for part in (clock.month, clock.day))
        seconds = clock.hour.values.astype(np.int64) * 3600 + clock.minute.values * 60 + clock.second.values
        count = moments(time)[1]
        if len(count) > 1 and (np.diff(count) == 1).all():
            return cls(month - 1, 12, np.zeros_like(month), 1, np.zeros(len(month), dtype=bool))
        found, moment = np.unique(seconds, return_inverse=True)
        if clock.calendar == "360_day":
            return cls(30 * (month - 1) + day - 1, 360, moment, len(found), np.zeros(len(month), dtype=bool))
        leap = (month == 2) & (day == 29)
        starts = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])
        return cls(starts[month - 1] + day - 1 - leap, 365, moment, len(found), leap)

    def climatology(self, values: Table, known: Mask) -> Table:
        """The mean of each site's known values in the season of each step, float32 (sites, steps).

        Values of 29 February count for no day, and that day has the mean of 28 February and 1 March. A day without
        values has the mean of the nearest days that have some, up to 15 on either side; else it is NaN. A month without
        values is NaN.

        Args:
            values: (sites, steps), missing NaN.
            known: (sites, steps) which of them may be used.
        """
        sites, width = len(values), self.slots * self.moments
        usable = known & np.isfinite(values) & ~self.leap
        season = self.slot * self.moments + self.moment
        place = (np.arange(sites)[:, None] * width + season)[usable]
        shape = sites, self.slots, self.moments
        total: FloatArray = np.bincount(place, values[usable], sites * width).astype(np.float64).reshape(shape)
        count: FloatArray = np.bincount(place, minlength=sites * width).astype(np.float64).reshape(shape)
        if self.slots != 12:
            total, count = _widened(total, count)
        with np.errstate(invalid="ignore"):
            mean = total / count
            beside = mean[:, self.slot], mean[:, (self.slot + 1) % self.slots]
        of_day, of_next = (table[:, np.arange(len(self.moment)), self.moment] for table in beside)
        found = np.where(self.leap, (of_day + of_next) / 2, of_day)
        found = np.where(self.leap & np.isnan(found), np.where(np.isnan(of_day), of_next, of_day), found)
        return found.astype(np.float32)


def _widened(total: FloatArray, count: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums and counts (sites, days, moments), of days without a value those of the nearest days around with some."""
    wide_total, wide_count = total.copy(), count.copy()
    around_total, around_count = total.copy(), count.copy()
    for far in range(1, REACH + 1):
        empty = wide_count == 0
        if not empty.any():
            break
        for shift in (far, -far):
            around_total += np.roll(total, shift, axis=1)
            around_count += np.roll(count, shift, axis=1)
        np.copyto(wide_total, around_total, where=empty)
        np.copyto(wide_count, around_count, where=empty)
    return wide_total, wide_count

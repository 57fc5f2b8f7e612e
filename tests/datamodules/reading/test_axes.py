from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.reading.axes import Axis, Period


def dates(*texts: str) -> pd.Index:
    return pd.Index(np.array(texts, dtype="datetime64[s]"))


def cftimes(start: str, count: int, calendar: str, freq: str = "D") -> xr.CFTimeIndex:
    return xr.date_range(start, periods=count, freq=freq, calendar=calendar, use_cftime=True)


def test_axis_runs_from_the_first_to_the_last_date_of_any_site() -> None:
    axis = Axis.over({"a": dates("2000-02-28", "2000-02-29"), "b": dates("2000-03-02", "2000-03-03")})
    assert axis.index.equals(dates("2000-02-28", "2000-02-29", "2000-03-01", "2000-03-02", "2000-03-03"))
    assert axis.index.dtype == "datetime64[s]"
    assert axis.places(dates("2000-03-02", "2000-03-03")).tolist() == [3, 4]
    assert not axis.monthly


def test_half_hours_that_begin_at_six() -> None:
    time = dates("1991-01-01T06:00", "1991-01-01T06:30", "1991-01-01T07:30")
    axis = Axis.over({"a": time, "b": dates("1991-01-01T08:00", "1991-01-01T08:30")})
    assert axis.step == 30 * 60 * 1_000_000
    assert len(axis.index) == 6
    assert axis.places(time).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        (("2000-01-01", "2000-02-01"), ("2000-04-01",), ("2000-01-01", "2000-02-01", "2000-03-01", "2000-04-01")),
        (("2000-01-31", "2000-02-29"), ("2000-04-30",), ("2000-01-31", "2000-02-29", "2000-03-31", "2000-04-30")),
        (("2001-01-31", "2001-02-28"), ("2001-03-31",), ("2001-01-31", "2001-02-28", "2001-03-31")),
        (("2000-01-15T12", "2000-02-15T12"), ("2000-03-15T12",), ("2000-01-15T12", "2000-02-15T12", "2000-03-15T12")),
        (("2000-01-01", "2001-01-01"), ("2003-01-01",), ("2000-01-01", "2001-01-01", "2002-01-01", "2003-01-01")),
    ],
    ids=["starts", "ends", "end in February", "noon of the 15th", "years"],
)
def test_months_keep_where_they_stand_in_the_month(first: tuple, second: tuple, whole: tuple) -> None:
    axis = Axis.over({"a": dates(*first), "b": dates(*second)})
    assert axis.monthly
    assert axis.index.equals(dates(*whole))
    assert axis.places(dates(*second)).tolist() == [len(whole) - 1]


def test_middles_of_months_are_put_on_the_first_with_a_note() -> None:
    middles = dates("2001-01-16T12", "2001-02-15", "2001-03-16T12")
    with pytest.warns(MPTTWarning, match="different days of the month"):
        axis = Axis.over({"a": middles})
    assert axis.index.equals(dates("2001-01-01", "2001-02-01", "2001-03-01"))
    assert axis.places(middles).tolist() == [0, 1, 2]


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "all_leap", "standard"])
@pytest.mark.parametrize("freq", ["D", "MS", "6h"])
def test_other_calendars_keep_their_dates(calendar: str, freq: str) -> None:
    whole = cftimes("1999-02-01", 400 if freq != "MS" else 30, calendar, freq)
    axis = Axis.over({"late": whole[9:], "early": whole[:12]})
    assert axis.index.equals(whole)
    assert type(axis.index[0]) is type(whole[0])
    assert axis.monthly == (freq == "MS")
    assert axis.places(whole[9:]).tolist() == list(range(9, len(whole)))


def test_last_days_of_360_day_months() -> None:
    whole = cftimes("2000-01-30", 14, "360_day", "ME")
    assert Axis.over({"a": whole[:3], "b": whole[5:]}).index.equals(whole)


def test_years_after_nanoseconds_end() -> None:
    time = np.datetime64("2261-12-30", "s") + np.arange(400) * np.timedelta64(86400, "s")
    axis = Axis.over({"a": pd.Index(time[:10]), "b": pd.Index(time[200:])})
    assert axis.index.equals(pd.Index(time))
    far = dates("9000-01-01", "9000-02-01", "9000-03-01")
    assert Axis.over({"a": far}).index.equals(far)


def test_gregorian_cftime_and_datetime64_are_one_calendar() -> None:
    first = cftimes("2000-01-01", 3, "proleptic_gregorian")
    axis = Axis.over({"a": first, "b": dates("2000-01-05")})
    assert axis.index.equals(dates(*(f"2000-01-0{day}" for day in range(1, 6))))
    months = cftimes("2000-01-01", 3, "proleptic_gregorian", "MS")
    assert Axis.over({"a": months, "b": dates("2000-05-01")}).places(dates("2000-05-01")).tolist() == [4]


def test_one_date_is_an_axis() -> None:
    assert Axis.over({"a": dates("2000-01-01")}).index.equals(dates("2000-01-01"))


def test_sites_of_one_date_each_stand_on_the_widest_steps_that_hold_them() -> None:
    axis = Axis.over({"a": dates("2000-01-01"), "b": dates("2000-01-07"), "c": dates("2000-01-03")})
    assert axis.index.equals(dates("2000-01-01", "2000-01-03", "2000-01-05", "2000-01-07"))


def test_dates_of_one_site_between_those_of_another_are_refused() -> None:
    with pytest.raises(MPTTError, match=r"2000-01-03 12:00:00 of site b lies between its steps \(1 days"):
        Axis.over(
            {
                "a": dates("2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04"),
                "b": dates("2000-01-03T12", "2000-01-04T12"),
            }
        )
    with pytest.raises(MPTTError, match="2000-01-05 06:00:00 of site a lies between"):
        Axis.over({"a": dates("2000-01-01", "2000-01-02", "2000-01-03", "2000-01-05T06", "2000-01-06T06")})


def test_off_month_is_refused() -> None:
    quarters = dates("2000-01-01", "2000-04-01", "2000-07-01", "2000-10-01")
    with pytest.raises(MPTTError, match=r"2000-05-01 00:00:00 of site b lies between its steps \(3 month"):
        Axis.over({"a": quarters, "b": dates("2000-05-01", "2000-08-01")})


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (("2000-01-01", "2000-01-03", "2000-01-02"), "2000-01-02 00:00:00 stands after 2000-01-03 00:00:00, at 1"),
        (("2000-01-01", "2000-01-01", "2000-01-01"), "2000-01-01 00:00:00 stands after 2000-01-01 00:00:00, at 2"),
    ],
)
def test_dates_that_do_not_go_up_are_refused(texts: tuple, named: str) -> None:
    with pytest.raises(MPTTError, match=f"dates of site b do not go up: {named}"):
        Axis.over({"a": dates("2000-01-01"), "b": dates(*texts)})


def test_cftime_dates_that_go_down_are_refused() -> None:
    with pytest.raises(MPTTError, match="do not go up"):
        Axis.over({"a": cftimes("2000-01-01", 4, "noleap")[::-1]})


def test_calendars_do_not_mix() -> None:
    with pytest.raises(MPTTError, match="noleap at b, proleptic_gregorian at a"):
        Axis.over({"a": dates("2000-01-01"), "b": cftimes("2000-01-01", 3, "noleap")})


def test_sites_without_dates_are_named() -> None:
    with pytest.raises(MPTTError, match="without a date: b, c"):
        Axis.over({"a": dates("2000-01-01"), "b": dates(), "c": dates()})


def test_parts_of_a_second_are_refused() -> None:
    time = pd.Index(np.datetime64("2000-01-01", "ms") + np.arange(3) * np.timedelta64(500, "ms"))
    with pytest.raises(MPTTError, match="whole seconds"):
        Axis.over({"a": time})


def test_numbers_are_no_dates() -> None:
    with pytest.raises(MPTTError, match="not dates"):
        Axis.over({"a": pd.Index([1, 2, 3])})


def test_absent_dates_are_counted_inside_the_period_only() -> None:
    periods = {"a": Period.of("a", dates("2000-01-01", "2000-01-02", "2000-01-05"))}
    periods["b"] = Period.of("b", dates("2000-01-08", "2000-01-09"))
    axis = Axis.over(periods)
    assert {site: axis.absent(period) for site, period in periods.items()} == {"a": 2, "b": 0}


@given(st.data())
def test_axis_and_places_agree_with_a_slow_search(data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([1800, 3600, 86400, 7 * 86400]), "seconds")
    start = np.datetime64("1990-01-01", "s") + np.timedelta64(data.draw(st.integers(0, 10**6)), "s")
    whole = start + np.arange(40) * np.timedelta64(step, "s")
    times = {}
    for site in "abc"[: data.draw(st.integers(1, 3))]:
        begin = data.draw(st.integers(0, 20))
        end = data.draw(st.integers(begin + 2, begin + 20))
        # Gaps are few, so that the step is still the commonest.
        gap = data.draw(st.integers(begin, end))
        times[site] = pd.Index(np.array([whole[nth] for nth in range(begin, end) if nth != gap or end - begin < 8]))
    axis = Axis.over(times)
    low, high = min(time[0] for time in times.values()), max(time[-1] for time in times.values())
    assert list(axis.index) == [date for date in pd.Index(whole) if low <= date <= high]
    for time in times.values():
        assert axis.places(time).tolist() == [list(axis.index).index(date) for date in time]

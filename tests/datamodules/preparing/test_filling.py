import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from mptt import MPTTError
from mptt.datamodules.preparing.filling import Fill, as_fills, fill_gaps, filled_lines, masked_inputs

NAN = np.nan


def days(count, start="2001-01-01"):
    return pd.Index(np.datetime64(start, "s") + np.arange(count) * np.timedelta64(86400, "s"))


def fill(values, chain, recorded=None, training=None, time=None):
    values = np.array(values, np.float32)
    recorded = np.ones(values.shape, bool) if recorded is None else np.array(recorded, bool)
    training = recorded if training is None else np.array(training, bool)
    time = days(values.shape[1]) if time is None else time
    sites = [f"s{site}" for site in range(len(values))]
    return fill_gaps({"v": values}, recorded, training, time, as_fills(chain, ["v"]), sites)


def test_interpolation_fills_short_gaps_and_leaves_long_ones_and_edges():
    given = [[NAN, 1, NAN, NAN, 4, NAN, NAN, NAN, 8, NAN]]
    found = fill(given, {"method": "interpolate", "limit": 2, "mask": True})
    np.testing.assert_array_equal(found.values["v"], [[NAN, 1, 2, 3, 4, NAN, NAN, NAN, 8, NAN]])
    assert found.masked["v"].astype(int).tolist() == [[0, 0, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert found.counts.to_dict("records") == [
        {"site": "s0", "variable": "v", "interpolate": 2, "climatology": 0, "forward": 0, "filled": 2, "longest_gap": 3}
    ]


def test_interpolation_is_linear_in_time_not_in_months():
    time = pd.Index(np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "M8[s]"))
    found = fill([[0, NAN, 59]], {"method": "interpolate", "limit": 1}, time=time)
    np.testing.assert_allclose(found.values["v"], [[0, 31, 59]])


def test_forward_repeats_the_last_value_for_so_many_steps():
    found = fill([[NAN, 1, NAN, NAN, NAN, 5, NAN]], {"method": "forward", "limit": 2})
    np.testing.assert_array_equal(found.values["v"], [[NAN, 1, 1, 1, NAN, 5, 5]])


def test_nothing_is_filled_outside_the_record():
    recorded = [[0, 1, 1, 1, 0]]
    found = fill([[NAN, 1, NAN, NAN, NAN]], {"method": "forward", "limit": 9}, recorded)
    np.testing.assert_array_equal(found.values["v"], [[NAN, 1, 1, 1, NAN]])
    assert found.counts["longest_gap"].tolist() == [2]


def test_a_chain_fills_what_the_one_before_left_and_says_who_filled_what():
    chain = [{"method": "interpolate", "limit": 1}, {"method": "forward", "limit": 1, "mask": True}]
    found = fill([[0, NAN, 2, NAN, NAN, 5]], chain)
    np.testing.assert_array_equal(found.values["v"], [[0, 1, 2, 2, NAN, 5]])
    assert found.masked["v"].astype(int).tolist() == [[0, 0, 0, 1, 0, 0]]
    assert filled_lines(found.counts) == [
        "Filled 2 missing values of v at 1 site(s) (1 by interpolate, 1 by forward); the longest gap is 2 steps."
    ]


def test_values_that_are_not_filled_keep_every_bit_and_come_back_as_they_were():
    given = {"a": np.array([[1, NAN, 3]], np.float32), "b": np.array([[0.1, 0.2, 0.3]], np.float32)}
    whole = np.ones((1, 3), bool)
    chain = as_fills({"method": "interpolate", "limit": 1, "variables": ["a"]}, ["a", "b"])
    found = fill_gaps(given, whole, whole, days(3), chain, ["s"])
    assert found.values["b"] is given["b"]
    assert np.isnan(given["a"][0, 1])
    assert found.values["a"][0, 1] == 2


def test_infinite_values_are_no_gaps():
    found = fill([[1, np.inf, 3, NAN, 5]], {"method": "interpolate", "limit": 1})
    np.testing.assert_array_equal(found.values["v"], [[1, np.inf, 3, 4, 5]])


# Climatology


def test_climatology_is_the_mean_of_the_calendar_day_in_the_training_part():
    time = days(4 * 365 + 1, "2001-01-01")  # the fourth year has a 29 February
    year = np.repeat([0, 1, 2, 3], [365, 365, 365, 366])
    values = (1000.0 * year + np.arange(len(time)))[None]
    values[0, 2 * 365 + 9] = NAN
    training = (year < 2)[None]
    found = fill(values, {"method": "climatology"}, training=training, time=time)
    assert found.values["v"][0, 2 * 365 + 9] == (9 + 1000 + 365 + 9) / 2


def test_29_february_is_the_mean_of_the_days_beside_it():
    time = days(4 * 366, "2000-01-01")
    dates = np.asarray(time).astype("M8[D]").astype(str)
    values = np.zeros((1, len(time)))
    for end, value in (("02-28", 4.0), ("02-29", 100.0), ("03-01", 8.0)):
        values[0, [date.endswith(end) for date in dates]] = value
    leap = int(np.flatnonzero(dates == "2000-02-29")[0])
    values[0, leap] = NAN
    assert fill(values, {"method": "climatology"}, time=time).values["v"][0, leap] == 6
    values[0, leap - 1] = NAN  # and 29 February is in no other day's mean
    found = fill(values, {"method": "climatology"}, time=time).values["v"][0]
    assert (found[leap - 1], found[leap]) == (4, 6)


def test_days_without_values_take_the_nearest_around_them_up_to_fifteen():
    values = np.full((1, 365), NAN)
    values[0, 100], values[0, 104] = 1.0, 3.0
    found = fill(values, {"method": "climatology"}).values["v"][0]
    assert (found[101], found[102], found[103], found[119], found[85]) == (1, 2, 3, 3, 1)
    assert np.isnan(found[[84, 120]]).all()
    values[0, 364] = 9.0
    assert fill(values, {"method": "climatology"}).values["v"][0, 0] == 9  # over New Year


def test_climatology_knows_nothing_of_other_sites_or_of_later_parts():
    values = np.ones((2, 730), np.float32)
    values[0, 5], values[1, :365] = NAN, 7.0
    values[1, 370] = NAN
    training = np.zeros((2, 730), bool)
    training[:, :365] = True
    found = fill(values, {"method": "climatology"}, training=training).values["v"]
    assert (found[0, 5], found[1, 370]) == (1, 7)
    changed = np.where(training, values, 99)
    changed[0, 5], changed[1, 370] = NAN, NAN
    again = fill(changed, {"method": "climatology"}, training=training).values["v"]
    assert (again[0, 5], again[1, 370]) == (1, 7)
    assert np.isnan(fill(values, {"method": "climatology"}, training=np.zeros((2, 730), bool)).values["v"][0, 5])


def test_hours_have_climatologies_of_their_own_and_so_have_months():
    hours = pd.Index(np.datetime64("2001-01-01", "s") + np.arange(3 * 48) * np.timedelta64(1800, "s"))
    values = np.tile(np.arange(48.0), 3)[None]
    values[0, 48 + 7] = NAN
    assert fill(values, {"method": "climatology"}, time=hours).values["v"][0, 48 + 7] == 7
    months = pd.Index(np.arange("2001-01", "2004-01", dtype="M8[M]").astype("M8[s]"))
    values = np.tile(np.arange(12.0), 3)[None] + np.repeat([0, 0, 6], 12)
    values[0, 13] = NAN
    values[0, [2, 14, 26]] = NAN
    found = fill(values, {"method": "climatology"}, time=months).values["v"][0]
    assert found[13] == (1 + 7) / 2
    assert np.isnan(found[14]), "no month stands in for another"


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_calendars(calendar):
    time = xr.date_range("2001-01-01", "2004-12-30", calendar=calendar, use_cftime=True)
    month_day = np.array([100 * date.month + date.day for date in time], dtype=float)[None]
    gaps = month_day.copy()
    gaps[0, -200:-100] = NAN
    found = fill(gaps, {"method": "climatology"}, time=time).values["v"]
    np.testing.assert_array_equal(found, month_day.astype(np.float32))


# Against a loop


def loop(values, recorded, chain):
    """The same for each site, value by value; interpolation and forward filling."""
    values = values.copy()
    for site in range(len(values)):
        for one in chain:
            before = values[site].copy()
            known = [step for step in range(len(before)) if recorded[site][step] and not np.isnan(before[step])]
            for step in range(len(before)):
                if not recorded[site][step] or step in known:
                    continue
                low = max((other for other in known if other < step), default=None)
                high = min((other for other in known if other > step), default=None)
                if one.method == "forward" and low is not None and step - low <= one.limit:
                    values[site][step] = before[low]
                if one.method == "interpolate" and None not in (low, high) and high - low - 1 <= one.limit:
                    values[site][step] = before[low] + (before[high] - before[low]) * (step - low) / (high - low)
    return values


WAYS = st.builds(Fill, st.sampled_from(["interpolate", "forward"]), st.integers(1, 4))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 4.0, NAN, NAN]), min_size=14, max_size=14), min_size=1, max_size=3),
    st.tuples(st.integers(0, 5), st.integers(8, 14)),
    st.lists(WAYS, min_size=1, max_size=3),
)
def test_filling_is_that_of_a_loop(values, span, chain):
    values = np.array(values, np.float32)
    recorded = np.zeros(values.shape, bool)
    recorded[:, slice(*span)] = True
    found = fill(values, chain, recorded)
    np.testing.assert_allclose(found.values["v"], loop(values, recorded, chain), rtol=1e-6)
    gaps = np.isnan(values) & recorded
    assert found.counts["filled"].sum() == (gaps & ~np.isnan(found.values["v"])).sum()
    for row in found.counts.itertuples():
        text = "".join("x" if gap else " " for gap in gaps[int(row.site[1:])])
        assert row.longest_gap == max(map(len, text.split()))


def climatology_by_loop(values, training, dates, step):
    def of_day(number):
        around = []
        for reach in range(16):
            around += [
                float(value)
                for value, date, used in zip(values, dates, training, strict=True)
                if used and not np.isnan(value) and date[5:] != "02-29"
                and min((number_of(date) - number) % 365, (number - number_of(date)) % 365) == reach
            ]  # fmt: skip
            if around:
                return np.mean(around)
        return NAN

    def number_of(date):
        noleap = f"2001-{date[5:]}"
        return int((np.datetime64(noleap) - np.datetime64("2001-01-01")).astype(int))

    if dates[step].endswith("02-29"):
        with np.errstate(all="ignore"):
            sides = [of_day(58), of_day(59)]
            return np.mean([side for side in sides if not np.isnan(side)] or [NAN])
    return of_day(number_of(dates[step]))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.02, 0.995), st.integers(0, 400))
def test_climatology_is_that_of_a_loop(seed, share, start):
    random = np.random.default_rng(seed)
    time = days(800, str(np.datetime64("1999-06-01") + start))
    dates = np.asarray(time).astype("M8[D]").astype(str).tolist()
    values = random.normal(size=(1, 800)).astype(np.float32)
    values[random.random(values.shape) < share] = NAN
    training = np.arange(800)[None] < 500
    missing = np.flatnonzero(np.isnan(values[0]))
    leap = [step for step in missing if dates[step].endswith("02-29")]
    found = fill(values, {"method": "climatology"}, training=training, time=time).values["v"][0]
    for step in [*missing[:3], *missing[-3:], *leap]:
        expected = climatology_by_loop(values[0], training[0], dates, step)
        np.testing.assert_allclose(found[step], expected, rtol=1e-5, atol=1e-6)


# What is said of filling


def test_a_mask_needs_a_name_of_its_own():
    with pytest.raises(MPTTError, match="mask of a would be named a_missing, as another input is"):
        as_fills({"method": "climatology", "mask": True}, ["a", "a_missing"])
    as_fills({"method": "climatology", "mask": True, "variables": ["a_missing"]}, ["a", "a_missing"])


def test_masks_stand_for_named_inputs_or_for_those_with_gaps():
    of_all, of_a = Fill("forward", 1, mask=True), Fill("forward", 1, ["a"], mask=True)
    assert masked_inputs([Fill("forward", 1)], ["a", "b"]) == []
    assert masked_inputs([of_a], ["a", "b"]) == ["a"]
    assert masked_inputs([of_all], ["a", "b"]) is None
    assert masked_inputs([of_all], ["a", "b", "c"], {"c", "b"}) == ["b", "c"]
    assert masked_inputs([of_a, of_all], ["a", "b", "c"], {"c"}) == ["a", "c"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "spline"}, "'interpolate' or 'climatology' or 'forward'; found 'spline'"),
        ({"method": "interpolate"}, "interpolate needs a limit"),
        ({"method": "forward", "limit": 0}, "limit of fill is a whole number, at least 1"),
        ({"method": "climatology", "limit": 3}, "climatology has no limit"),
        ({"limit": 3}, "fill is a mapping like"),
        ({"method": "forward", "limit": 1, "max": 1}, "with the keys method, limit, variables, mask"),
        ("interpolate", "fill is a mapping like"),
        ({"method": "climatology", "variables": ["w"]}, "fill names w, not among the inputs v"),
        ({"method": "climatology", "variables": "v"}, "a list of inputs"),
        ({"method": "climatology", "mask": "yes"}, "mask of fill is true or false"),
    ],
)
def test_filling_of_another_form(given, message):
    with pytest.raises(MPTTError, match=message):
        as_fills(given, ["v"])

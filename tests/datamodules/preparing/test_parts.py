import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.preparing.parts import PARTS, split_parts

TIME = pd.DatetimeIndex(np.arange("2000-01-01", "2003-01-01", dtype="datetime64[D]").astype("datetime64[s]"))
WHOLE = np.array([0]), np.array([len(TIME)])
YEARS = {"train": ("2000-01-01", "2000-12-31"), "validation": ("2001", "2001"), "test": ("2002-01", "2002-12")}


def bounds(parts):
    return {name: (part.begin.tolist(), part.length.tolist()) for name, part in parts.items()}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(10, 60)), min_size=1, max_size=5),
    st.tuples(*[st.integers(1, 10)] * 3),
    st.integers(0, 5),
)
def test_fractions_cut_each_record_without_gap_or_overlap(records, shares, rest):
    first = np.array([begin for begin, _ in records])
    last = first + np.array([length for _, length in records])
    split = [share / (sum(shares) + rest) for share in shares]
    whole = sum(shares) + rest
    expected = {name: [] for name in PARTS}
    for site, (begin, length) in enumerate(records):
        edges = [begin + length * share // whole for share in (0, *np.cumsum(shares))]
        for name, low, high in zip(PARTS, edges, edges[1:], strict=False):
            if high > low:
                expected[name].append((site, low, high - low))
    if not all(expected.values()):
        with pytest.raises(MPTTError, match="part is empty: no site has data in it"):
            split_parts(TIME, first, last, split, 0)
        return
    for name, part in split_parts(TIME, first, last, split, 0).items():
        found = list(zip(part.site.tolist(), part.begin.tolist(), part.length.tolist(), strict=True))
        assert found == expected[name], name


@pytest.mark.parametrize(
    "split", [(0.5, 0.5), (0.5, 0.6, 0.1), (-0.1, 0.5, 0.5), (0.5, np.nan, 0.1), ("a", "b", "c"), "0.5", None, 3]
)
def test_fractions_that_are_none(split):
    with pytest.raises(MPTTError, match="three fractions, 0 or more, that sum to at most 1"):
        split_parts(TIME, *WHOLE, split, 0)


def test_dates_cut_at_days_months_and_years_with_the_last_included():
    parts = bounds(split_parts(TIME, *WHOLE, YEARS, 0))
    assert parts == {"train": ([0], [366]), "validation": ([366], [365]), "test": ([731], [365])}


def test_dates_may_be_date_objects():
    split = YEARS | {"train": (datetime.date(2000, 1, 1), np.datetime64("2000-12-31"))}
    assert bounds(split_parts(TIME, *WHOLE, split, 0)) == bounds(split_parts(TIME, *WHOLE, YEARS, 0))


def test_dates_beyond_nanoseconds():
    days = np.arange("1902-01-01", "2902-01-01", dtype="datetime64[D]")
    split = {"train": ("1902", "2401"), "validation": ("2402-01-01", "2501-12-31"), "test": ("2502", "2901")}
    parts = split_parts(pd.DatetimeIndex(days.astype("datetime64[s]")), np.array([0]), np.array([len(days)]), split, 0)
    assert str(days[parts["test"].begin[0]]) == "2502-01-01"
    assert sum(part.length[0] for part in parts.values()) == len(days)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_dates_of_other_calendars(calendar):
    time = xr.date_range("2000-01-01", "2002-12-30", calendar=calendar, use_cftime=True)
    split = YEARS | {"train": ("2000-01-01", "2000-12-30"), "test": ("2002-01", "2002-12-30")}
    parts = split_parts(time, np.array([0]), np.array([len(time)]), split, 0)
    assert time[parts["validation"].begin[0]].isoformat() == "2001-01-01T00:00:00"
    assert time[parts["train"].length[0] - 1].isoformat() == "2000-12-30T00:00:00"
    assert parts["test"].begin[0] + parts["test"].length[0] == len(time)
    with pytest.raises(MPTTError, match="cannot be read as dates"):
        split_parts(time, np.array([0]), np.array([len(time)]), YEARS | {"train": ("2000-01-01", "2000-12-32")}, 0)


def test_site_without_data_in_a_part_is_not_in_it():
    first, last = np.array([0, 500, 0]), np.array([1096, 1096, 400])
    parts = split_parts(TIME, first, last, YEARS, 0)
    assert {name: part.site.tolist() for name, part in parts.items()} == {
        "train": [0, 2],
        "validation": [0, 1, 2],
        "test": [0, 1],
    }
    assert parts["validation"].begin.tolist() == [366, 500, 366]
    assert parts["validation"].length.tolist() == [365, 231, 34]


def test_part_in_which_no_site_has_data():
    with pytest.raises(MPTTError, match=r"test part is empty: .* run from 2000-01-01.* to 2001-02-03"):
        split_parts(TIME, np.array([0]), np.array([400]), YEARS, 0)


def test_parts_overlap_only_in_the_warm_up():
    split = YEARS | {"test": ("2001-12-02", "2002-12-31")}
    with pytest.raises(MPTTError, match=r"validation and test parts share the steps 2001-12-31.* to 2001-12-31"):
        split_parts(TIME, *WHOLE, split, 29)
    assert split_parts(TIME, *WHOLE, split, 30)["test"].begin.tolist() == [701]


def test_training_has_no_warm_up_to_overlap_in():
    split = YEARS | {"train": ("2000", "2001-01-05")}
    with pytest.raises(MPTTError, match=r"train and validation parts share .* both fitted and scored"):
        split_parts(TIME, *WHOLE, split, 4)
    split_parts(TIME, *WHOLE, split, 5)


def test_part_that_reaches_beyond_the_data_is_warned_of():
    with pytest.warns(MPTTWarning, match=r"train part, 1990 to 2000, reaches beyond the data.*; it is 2000-01-01"):
        parts = split_parts(TIME, *WHOLE, YEARS | {"train": ("1990", "2000")}, 0)
    assert bounds(parts)["train"] == ([0], [366])


@pytest.mark.parametrize("dates", [("1980", "1990"), ("2010", "2020"), ("2000-06-01", "2000-01-01")])
def test_part_outside_the_data_or_turned_round(dates):
    with pytest.raises(MPTTError, match=r"train part, .* has no step: the data run from 2000-01-01.* to 2002-12-31"):
        split_parts(TIME, *WHOLE, YEARS | {"train": dates}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ("soon", "2000")}, "train part runs from 'soon' to '2000', which cannot be read as dates"),
        ({"train": ("2000-02-30", "2000")}, "cannot be read as dates"),
        ({"train": ("", "2000")}, "cannot be read as dates"),
        ({"train": (None, "2000")}, "cannot be read as dates"),
        ({"train": ("2000",)}, "first and last date of each of train, validation, test"),
        ({"train": "2000"}, "first and last date of each"),
        ({"training": ("2000", "2000")}, "first and last date of each"),
    ],
)
def test_dates_that_are_none(change, message):
    with pytest.raises(MPTTError, match=message):
        split_parts(TIME, *WHOLE, YEARS | change, 0)

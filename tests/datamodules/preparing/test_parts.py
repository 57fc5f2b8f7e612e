import datetime
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.preparing.dates import read_site_dates
from mptt.datamodules.preparing.parts import PARTS, TimeSplit, split_parts

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
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        parts = split_parts(TIME, first, last, split, 0)
    absent = [name for name in PARTS if len(expected[name]) < len(records)]
    assert [str(one.message).split(" part")[0].split()[-1] for one in said] == absent
    for name, part in parts.items():
        found = list(zip(part.site.tolist(), part.begin.tolist(), part.length.tolist(), strict=True))
        assert found == expected[name], name


@pytest.mark.parametrize(
    "split", [(0.5, 0.5), (0.5, 0.6, 0.1), (-0.1, 0.5, 0.5), (0.5, np.nan, 0.1), ("a", "b", "c"), 3, {0.5, 0.1}]
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
    with pytest.warns(MPTTWarning) as caught:
        parts = split_parts(TIME, first, last, YEARS, 0)
    assert [str(one.message) for one in caught] == [
        "No step of 1 site(s) lies in the train part, so they do not train: 1.",
        "No step of 1 site(s) lies in the test part, so they are not predicted there: 2.",
    ]
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


# Dates by site, sites by part, steps between


def by_site(**changes):
    early = {"train": ("2000-01-01", "2000-01-10"), "validation": ("2000-02", "2000-02"), "test": ("2001", "2001")}
    late = {"train": ("2002-01", "2002-12"), "test": ("2000-01-01", "2000-01-02")}
    return {"a": early, "b": late} | changes


def test_each_site_has_dates_of_its_own():
    with pytest.warns(MPTTWarning, match=r"No step of 1 site\(s\) lies in the validation part.*: b"):
        parts = split_parts(TIME, np.array([0, 1]), np.array([1096, 1096]), by_site(), 0, ["a", "b"])
    assert {name: part.site.tolist() for name, part in parts.items()} == {
        "train": [0, 1],
        "validation": [0],
        "test": [0, 1],
    }
    assert bounds(parts) == {"train": ([0, 731], [10, 365]), "validation": ([31], [29]), "test": ([366, 1], [365, 1])}


def test_a_table_of_dates_is_the_same_as_a_mapping(tmp_path):
    header = "gauge,test_start,test_end,site,train_start,train_end,validation_start,validation_end"
    rows = [
        "-,2001,2001, a ,2000-01-01,2000-01-10,2000-02,2000-02",
        ",,,,,,,",
        "-,2000-01-01,2000-01-02,b,2002-01,2002-12,,",
        "",
    ]
    (tmp_path / "dates.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([header, *rows]).encode())
    assert read_site_dates(tmp_path / "dates.csv") == by_site()
    first, last = np.array([0, 0]), np.array([1096, 1096])
    with pytest.warns(MPTTWarning, match="lies in the validation part"):
        of_table = split_parts(TIME, first, last, str(tmp_path / "dates.csv"), 0, ["a", "b"])
    with pytest.warns(MPTTWarning, match="lies in the validation part"):
        of_mapping = split_parts(TIME, first, last, by_site(), 0, ["a", "b"])
    assert bounds(of_table) == bounds(of_mapping)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("site,train_start\na,2000", r"line 1: column\(s\) train_end, .* not there once; found site, train_start"),
        ("{0}\na,2000,2000,,2000,,", "line 2: only one of the dates of validation, of site a"),
        ("{0}\na,,,,,,\nb,,,,,,\na,,,,,,", "line 4: the site 'a', where a row for one more site is due"),
        ("{0}\na,,,,,", "line 2: 6 fields of 7"),
        ("", "is empty"),
        ("\0\0", "is not a text file"),
    ],
)
def test_tables_of_dates_that_are_none(tmp_path, text, message):
    header = "site,train_start,train_end,validation_start,validation_end,test_start,test_end"
    (tmp_path / "dates.csv").write_text(text.replace("{0}", header))
    with pytest.raises(MPTTError, match=message):
        read_site_dates(tmp_path / "dates.csv")
    with pytest.raises(MPTTError, match="no table of dates at"):
        read_site_dates(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": YEARS}, r"names 1 site\(s\) that the data set does not have: c. There are a, b"),
        ({"b": {"training": ("2000", "2000")}}, "first and last date of train, validation, test; found .* for site b"),
        ({"b": {"train": "2000"}}, "first and last date of train"),
        ({"b": {"train": ("1990", "1991")}}, "train part of site b, 1990 to 1991, has no step"),
        (
            {"b": {"train": ("2000", "2001-01"), "test": ("2001", "2001")}},
            "train and test parts of site b share the steps 2001-01-01.* to 2001-01-31",
        ),
    ],
)
def test_dates_by_site_that_cannot_be(changes, message):
    with pytest.raises(MPTTError, match=message):
        split_parts(TIME, np.array([0, 0]), np.array([1096, 1096]), by_site(**changes), 0, ["a", "b"])


def test_sites_without_dates_are_named():
    with pytest.raises(MPTTError, match=r"no dates for 1 site\(s\): c"):
        split_parts(TIME, np.array([0] * 3), np.array([1096] * 3), by_site(), 0, ["a", "b", "c"])


def test_sites_whose_dates_reach_beyond_the_data_are_warned_of_at_once():
    split = {site: YEARS | {"train": ("1999", "2000")} for site in "abcde"}
    with pytest.warns(MPTTWarning, match=r"train part of site a, 1999 to 2000, reaches .* So do 2 other") as caught:
        split_parts(TIME, np.array([0] * 5), np.array([1096] * 5), split, 0, list("abcde"))
    assert len(caught) == 1


def test_members_of_a_part_are_its_only_sites():
    members = {"train": ["c", "a"], "validation": ["b"], "test": ["d"]}
    first, last = np.array([0, 0, 10, 5]), np.array([100, 100, 100, 50])
    parts = split_parts(TIME, first, last, None, 0, list("abcd"), members)
    assert {name: part.site.tolist() for name, part in parts.items()} == {
        "train": [0, 2],
        "validation": [1],
        "test": [3],
    }
    assert bounds(parts)["train"] == ([0, 10], [100, 90])
    same = dict.fromkeys(PARTS, ("2000-01", "2000-01"))
    assert bounds(split_parts(TIME, first, last, same, 0, list("abcd"), members))["test"] == ([5], [26])


def test_the_whole_record_is_no_part_where_sites_are_in_all():
    with pytest.raises(MPTTError, match="there is no site_split: give fractions or dates, or a site_split"):
        split_parts(TIME, *WHOLE, None, 0)
    with pytest.raises(MPTTError, match="there is a gap of 3 steps: give fractions or dates, or no gap"):
        split_parts(TIME, *WHOLE, None, 0, ["a"], {name: ["a"] for name in PARTS}, gap=3)


def test_a_gap_shortens_the_earlier_named_part_and_never_the_test():
    parts = bounds(split_parts(TIME, np.array([0]), np.array([100]), (0.5, 0.2, 0.3), 0, gap=4))
    assert parts == {"train": ([0], [46]), "validation": ([50], [16]), "test": ([70], [30])}
    turned = {"test": ("2000", "2000"), "validation": ("2001", "2001"), "train": ("2002", "2002")}
    parts = bounds(split_parts(TIME, *WHOLE, turned, 0, gap=4))
    assert parts == {"train": ([735], [361]), "validation": ([370], [361]), "test": ([0], [366])}


def test_parts_that_lie_apart_already_keep_their_steps():
    apart = YEARS | {"train": ("2000-01-01", "2000-12-27")}
    assert bounds(split_parts(TIME, *WHOLE, apart, 0, gap=4))["train"] == ([0], [362])
    assert bounds(split_parts(TIME, *WHOLE, apart, 0, gap=5))["train"] == ([0], [361])


def test_a_gap_ends_at_the_first_scored_step_where_the_warm_up_overlaps():
    split = YEARS | {"validation": ("2000-12-02", "2001-12-31")}  # 30 days of warm-up in the training part
    parts = bounds(split_parts(TIME, *WHOLE, split, 30, gap=4))
    assert parts == {"train": ([0], [362]), "validation": ([336], [391]), "test": ([731], [365])}
    turned = {"test": ("2000", "2000"), "train": ("2002", "2002"), "validation": ("2000-12-02", "2001-12-31")}
    parts = bounds(split_parts(TIME, *WHOLE, turned, 30, gap=4))
    assert parts["validation"] == ([340], [391])


@given(st.integers(10, 60), st.tuples(*[st.integers(1, 10)] * 3), st.integers(0, 9))
def test_no_step_within_the_gap_of_a_part_is_in_another(length, shares, gap):
    split = [share / sum(shares) for share in shares]
    edges = np.floor(length * np.array([0, *np.cumsum(split)]) + 1e-9)
    if (edges[3] == edges[2]) or (np.diff(edges)[:2] <= gap).any():
        with pytest.raises(MPTTError, match="part is empty"):
            split_parts(TIME, np.array([3]), np.array([3 + length]), split, 0, gap=gap)
        return
    parts = split_parts(TIME, np.array([3]), np.array([3 + length]), split, 0, gap=gap)
    steps = {name: np.arange(part.begin[0], part.begin[0] + part.length[0]) for name, part in parts.items()}
    for one in PARTS:
        for other in PARTS:
            assert (
                one == other
                or np.abs(steps[one][:, None] - steps[other]).min() == gap + 1
                or {one, other} == {"train", "test"}
            )


def test_training_dates_are_known_a_site_at_a_time():
    """Whatever block a site is read in, and whether it trains or not."""
    recorded = np.zeros((4, 100), dtype=bool)
    for site, (begin, end) in enumerate([(0, 100), (20, 80), (50, 60), (0, 0)]):
        recorded[site, begin:end] = True
    time = TIME[:100]
    whole = {"a": (0, 50), "b": (20, 50), "c": (50, 55), "d": (0, 0)}
    for split, expected in (((0.5, 0.2, 0.3), whole), (YEARS | {"train": ("2000-01-03", "2000-01-30")}, None)):
        if expected is None:
            split = {"train": split["train"], "validation": ("2000-02", "2000-02"), "test": ("2000-03", "2000-03")}
            expected = {"a": (2, 30), "b": (20, 30), "c": (0, 0), "d": (0, 0)}
        cuts = TimeSplit(time, split, list(expected), members={"train": ["a"], "validation": ["b"], "test": ["c"]})
        for numbers in (slice(0, 4), slice(1, 3), np.array([3, 1]), np.array([2])):
            found = cuts.training(numbers, recorded[numbers])
            for row, site in zip(found, np.array(list(expected))[numbers], strict=True):
                begin, end = expected[site]
                assert np.flatnonzero(row).tolist() == list(range(begin, end)), site
        last_two = cuts.training(slice(0, 2), recorded[:2], latest=2)
        ends = [expected[site][1] for site in "ab"]
        assert [np.flatnonzero(row).tolist() for row in last_two] == [[end - 2, end - 1] for end in ends]


def test_whole_records_train_only_at_the_sites_that_train():
    cuts = TimeSplit(TIME[:5], None, ["a", "b"], members={"train": ["b"], "validation": ["a"], "test": ["a"]})
    assert cuts.training(slice(None), np.ones((2, 5), bool)).tolist() == [[False] * 5, [True] * 5]

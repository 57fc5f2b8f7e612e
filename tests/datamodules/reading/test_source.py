from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sources import days, several, source_from, table

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.reading.source import source_of


def test_sites_are_joined_by_date() -> None:
    tables = {
        "b": table(days(2, "2000-01-02"), rain=([2.0, 3.0], "mm", "precipitation")),
        "a": table(days(3, "2000-01-01"), rain=([10.0, 20.0, np.nan], "mm"), flow=[1.0, 2.0, 3.0]),
    }
    fixed = xr.Dataset({"area": ("site", [5.0, 6.0])}, {"site": ["b", "a"]})
    joined = source_from(tables, fixed, title="small", license="none").dataset()
    assert joined["site"].values.tolist() == ["b", "a"]
    assert joined.indexes["time"].equals(pd.Index(days(3)))
    np.testing.assert_array_equal(joined["rain"], np.float32([[np.nan, 2, 3], [10, 20, np.nan]]))
    np.testing.assert_array_equal(joined["flow"], np.float32([[np.nan] * 3, [1, 2, 3]]))
    assert joined["rain"].dtype == joined["flow"].dtype == np.float32
    assert joined["rain"].attrs == {"units": "mm", "long_name": "precipitation"}
    assert joined["area"].values.tolist() == [5.0, 6.0]
    assert joined.attrs == {"title": "small", "license": "none"}


def test_each_site_is_read_once() -> None:
    tables, fixed = several()
    source = source_from(tables, fixed)
    source.dataset()
    assert set(source.read.reads.values()) == {1}  # type: ignore[attr-defined]


def test_only_the_variables_asked_for_are_kept() -> None:
    tables, fixed = several()
    joined = source_from(tables, fixed).dataset(["flow", "river", "nothing"])
    assert set(joined.data_vars) == {"flow", "river"}
    assert joined["river"].values.tolist() == ["", "Bäch 1", "Bäch 2", "Bäch 3", "Bäch 4"]
    assert joined["flow"].isnull().all("time").values.tolist() == [False, False, False, False, True]


def test_a_misspelt_name_does_not_pass_for_the_only_ones_that_are_there() -> None:
    source = source_from({"a": table(days(20), rain=np.ones(20), warmth=np.ones(20), flow=np.ones(20))})

    class Chosen(SeriesDataModule):
        def load(self) -> xr.Dataset:
            return source.dataset(self.needed)

    with pytest.raises(MPTTError, match=r"'warmt'. Of the names asked for there are rain, flow; `mptt data inspect`"):
        Chosen(inputs=["rain", "warmt"], targets=["flow"], window=2, stride=1).setup()


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
@pytest.mark.parametrize("freq", ["D", "MS"])
def test_other_calendars_are_joined_too(calendar: str, freq: str) -> None:
    time = xr.date_range("2000-02-25", periods=12, freq=freq, calendar=calendar, use_cftime=True)
    joined = source_from(
        {"a": table(time[:5], x=np.arange(5.0)), "b": table(time[7:], x=np.arange(7.0, 12.0))}
    ).dataset()
    assert joined.indexes["time"].equals(time)
    expected = np.full((2, 12), np.nan)
    expected[0, :5], expected[1, 7:] = range(5), range(7, 12)
    np.testing.assert_array_equal(joined["x"], expected)


def test_gaps_are_noted_and_missing() -> None:
    whole = days(6)
    source = source_from({"a": table(whole[[0, 1, 4, 5]], x=[0.0, 1, 4, 5]), "b": table(whole[1:3], x=[1.0, 2])})
    with pytest.warns(MPTTWarning, match=r"1 of 2 site\(s\) lack dates inside their period.*: a \(2\)"):
        joined = source.dataset()
    np.testing.assert_array_equal(joined["x"][0], np.float32([0, 1, np.nan, np.nan, 4, 5]))


def test_chosen_sites_come_in_their_order_with_their_attributes() -> None:
    tables, fixed = several()
    chosen = source_from(tables, fixed, title="small").choose(["0003", "0001"])
    joined = chosen.dataset(["area", "rain"])
    assert joined["site"].values.tolist() == ["0003", "0001"]
    assert joined["area"].values.tolist() == [3.0, 1.0]
    assert joined.attrs == {"title": "small"}
    first = tables["0003"]
    np.testing.assert_array_equal(joined["rain"].sel(site="0003", time=first["time"]), first["rain"])


def test_unknown_and_repeated_sites_are_refused() -> None:
    tables, fixed = several()
    with pytest.raises(MPTTError, match="has no site 9"):
        source_from(tables, fixed).choose(["0001", "9"])
    with pytest.raises(MPTTError, match="0001 come"):
        source_from(tables, fixed).choose(["0001", "0001"])


def test_no_site_is_refused() -> None:
    with pytest.raises(MPTTError, match="no site"):
        source_from({}).dataset()


def test_opened_data_set_is_a_source_of_itself() -> None:
    tables, fixed = several()
    whole = source_from(tables, fixed, title="small").dataset()
    whole = whole.assign_coords(latitude=("site", np.arange(5.0))).transpose("time", "site")
    source = source_of(whole, "opened", Path("somewhere"), {"class_path": "X"})
    assert source.sites == list(tables)
    assert source.settings == {"class_path": "X"}
    again = source.dataset()
    xr.testing.assert_equal(again.drop_vars("latitude"), whole.drop_vars("latitude").transpose("site", "time"))
    assert again["latitude"].values.tolist() == [0.0, 1, 2, 3, 4], "coordinates of sites are attributes too"
    assert source.read("0002").sizes == {"time": whole.sizes["time"]}


@given(st.data())
def test_joining_agrees_with_a_dictionary(data: st.DataObject) -> None:
    whole = days(30)
    tables = {}
    value = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32))
    for site in ("01", "1", "b")[: data.draw(st.integers(1, 3))]:
        begin = data.draw(st.integers(0, 20))
        end = data.draw(st.integers(begin + 1, 30))
        names = data.draw(st.sets(st.sampled_from(["x", "y"]), min_size=1))
        series = {
            name: np.array(data.draw(st.lists(value, min_size=end - begin, max_size=end - begin)), dtype=np.float32)
            for name in sorted(names)
        }
        tables[site] = table(whole[begin:end], **series)
    known = {
        (name, site, date): number
        for site, one in tables.items()
        for name in one.data_vars
        for date, number in zip(one["time"].values.tolist(), one[name].values.tolist(), strict=True)
    }
    joined = source_from(tables).dataset()
    assert set(joined.data_vars) == {name for name, _, _ in known}
    for name, values in joined.data_vars.items():
        for site in tables:
            for date, number in zip(joined["time"].values.tolist(), values.sel(site=site).values.tolist(), strict=True):
                expected = known.get((name, site, date), np.nan)
                assert number == expected or (np.isnan(number) and np.isnan(expected))

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.preparing.checks import check_time


def days(count, start="2000-01-01"):
    return np.datetime64(start, "s") + np.arange(count) * np.timedelta64(86400, "s")


def good(steps=60, sites=("a", "b")):
    random = np.random.default_rng(0)
    values = {
        name: (("site", "time"), random.random((len(sites), steps), np.float32)) for name in ("prcp", "tmax", "flow")
    }
    return xr.Dataset(
        values | {"area": ("site", np.arange(len(sites)) + 1.0)}, {"site": list(sites), "time": days(steps)}
    )


def module(dataset, **changes):
    arguments = {"inputs": ["prcp", "tmax"], "targets": ["flow"], "attributes": ["area"], "window": 6, "stride": 3}
    return SeriesDataModule(dataset, **(arguments | changes))


def refuse(dataset, message, **changes):
    with pytest.raises(MPTTError, match=message):
        module(dataset, **changes).setup("fit")


def put(dataset, name, value, site=0, step=slice(None)):
    dataset[name].values[site, step] = value
    return dataset


def test_good_data_pass():
    module(good()).setup("fit")


# Settings


@pytest.mark.parametrize("name", ["window", "stride", "batch_size", "chunk", "sites_at_once", "stretches_at_once"])
@pytest.mark.parametrize("value", [0, -3, 2.0, "7", True])
def test_counts_are_whole_and_positive(name, value):
    with pytest.raises(MPTTError, match=f"{name} is a whole number, at least 1; found"):
        module(good(), **{name: value})


@pytest.mark.parametrize("name", ["warmup", "num_workers"])
def test_no_warmup_and_no_workers_are_0(name):
    with pytest.raises(MPTTError, match=f"{name} is a whole number, at least 0; found -1"):
        module(good(), **{name: -1})


def test_numpy_integers_are_whole():
    module(good(), window=np.int64(6)).setup("fit")


@pytest.mark.parametrize(("name", "choices"), [("order", "'shuffled' or 'lanes'"), ("evaluation", "'sequential' or")])
def test_unknown_words_are_refused(name, choices):
    with pytest.raises(MPTTError, match=f"{name} is {choices}.*found 'random'"):
        module(good(), **{name: "random"})


def test_one_name_is_no_list():
    with pytest.raises(MPTTError, match=r"targets is a list of names; for one variable, \['flow'\]"):
        module(good(), targets="flow")


def test_stride_beyond_the_window_is_warned_of():
    with pytest.warns(MPTTWarning, match="stride=7 is larger than window=6"):
        module(good(), stride=7).setup("fit")


def test_lanes_need_disjoint_windows():
    refuse(good(), 'order="lanes" needs disjoint windows', order="lanes")


# The data set


def test_no_data_set():
    refuse(None, "SeriesDataModule has no dataset; pass one, or override load")


@pytest.mark.parametrize("wrong", [pd.DataFrame(), good()["prcp"], {"prcp": 1}])
def test_other_things_than_data_sets(wrong):
    refuse(wrong, f"found a {type(wrong).__name__}")


def test_dimensions_and_coordinates():
    refuse(good().rename(site="basin"), "dimensions site and time; site missing, found")
    refuse(good().drop_vars("time"), "no coordinate time")
    refuse(good().isel(site=[]), "no site")
    refuse(good(sites=("a", "b", "a")), "Site ids must differ; a come")


def test_sites_that_differ_only_in_kind_are_one():
    refuse(good().assign_coords(site=np.array([1, "1"], object)), "Site ids must differ; 1 come")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ["PRCP", "tmax"]}, "no input variable 'PRCP'. Did you mean prcp"),
        ({"inputs": ["tmxa"]}, "Did you mean tmax"),
        ({"inputs": ["zzzzzz"]}, "There are prcp, tmax, flow"),
        ({"targets": ["flwo"]}, "no target variable 'flwo'. Did you mean flow"),
        ({"attributes": ["aera"]}, "no attribute variable 'aera'. Did you mean area"),
        ({"inputs": []}, "No input is named; the data set has prcp, tmax, flow"),
        ({"targets": []}, "No target is named"),
        ({"inputs": ["prcp", "prcp"]}, "Each input is named once; prcp is named again"),
        ({"inputs": ["area"]}, r"input area has the dimensions \('site',\); it needs \('site', 'time'\)"),
        ({"attributes": ["flow"]}, r"attribute flow has the dimensions .* it needs \('site',\)"),
    ],
)
def test_names(change, message):
    refuse(good(), message, **change)


def test_extra_dimensions_of_a_variable_asked_for_are_refused_and_others_left_alone():
    dataset = good().assign(layers=good()["prcp"].expand_dims(layer=2))
    module(dataset).setup("fit")
    refuse(dataset, "the dimensions .*layer.*dataset.isel", inputs=["layers"])


def test_attributes_may_be_coordinates_and_dimensions_in_any_order():
    data = module(good().assign_coords(latitude=("site", [1.0, 2.0])).transpose(), attributes=["latitude"])
    data.setup("fit")
    assert data.input_size == 3


def test_text_is_no_input():
    dataset = good().assign(name=("site", ["x", "y"]), cover=(("site", "time"), np.full((2, 60), "wood")))
    refuse(dataset, "attribute name is not numeric", attributes=["name"])
    refuse(dataset, "input cover is not numeric", inputs=["cover"])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_missing_attributes_name_the_sites(value):
    refuse(good().assign(area=("site", [1.0, value])), r"attribute area is missing or infinite for 1 site\(s\): b")


# Values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gaps_of_inputs_say_which_where_and_how_many(value):
    dataset = put(put(put(good(), "prcp", value, 0, 5), "prcp", value, 1, slice(3, 7)), "tmax", value, 1, 30)
    refuse(
        dataset,
        r"prcp: 5 of 120 values, at 2 site\(s\), first at site a, 2000-01-06.*"
        r"tmax: 1 of 120 values, at 1 site\(s\), first at site b, 2000-01-31",
    )


@pytest.mark.parametrize("step", [0, 59])
def test_an_infinite_value_at_the_end_of_a_record_is_refused_and_not_cut_off(step):
    dataset = put(put(good(), "prcp", np.inf, 0, step), "tmax", np.nan, 0, step)
    refuse(dataset, r"prcp: 1 of 120 values, at 1 site\(s\), first at site a.*tmax: 1 of 120")


def test_values_too_large_for_float32_are_infinite():
    dataset = good()
    dataset["prcp"] = dataset["prcp"].astype(np.float64) + 1e39
    refuse(dataset, r"prcp: 120 of 120 values, at 2 site\(s\)")


def test_sites_without_any_input_are_named():
    refuse(put(put(good(), "prcp", np.nan, 1), "tmax", np.nan, 1), r"1 of 2 site\(s\) without any input: b")


def test_training_part_has_no_warm_up():
    module(put(good(), "flow", np.nan, slice(None), slice(3, 30)), warmup=3).setup("fit")


def test_infinite_targets_are_refused():
    refuse(put(good(), "flow", np.inf, 1, 4), "target flow has 1 infinite value.*first at site b, entry 4")


@pytest.mark.parametrize(
    ("steps", "warmup", "message"),
    [
        (slice(0, 30), 0, "no value in the train part, at any site"),
        (slice(30, 36), 0, "no value in the validation part, at any site"),
        (slice(40, 60), 4, "no value in the test part after its warm-up of 4 steps, at any site; .* or the warm-up"),
    ],
)
def test_targets_without_value_in_a_part(steps, warmup, message):
    refuse(put(good(), "flow", np.nan, slice(None), steps), message, warmup=warmup)


def test_warm_up_as_long_as_the_part():
    refuse(good(), "validation part after its warm-up of 6 steps", warmup=6)


def test_site_that_teaches_nothing_is_warned_of():
    with pytest.warns(
        MPTTWarning, match=r"No value of flow in the train part of 1 site\(s\), so nothing is learned from them: b\.$"
    ):
        module(put(good(), "flow", np.nan, 1, slice(0, 30))).setup("fit")


@pytest.mark.parametrize(("part", "gap"), [("validation", slice(33, 36)), ("test", slice(39, 60))])
def test_site_that_is_not_scored_is_warned_of(part, gap):
    expected = (
        rf"No value of flow in the {part} part of 1 site\(s\) after its warm-up of 3 steps, so they are predicted"
    )
    with pytest.warns(MPTTWarning, match=rf"{expected} but not scored: b\.$"):
        module(put(good(), "flow", np.nan, 1, gap), warmup=3).setup("fit")


def test_series_shorter_than_a_window():
    refuse(good(steps=20), r"Every series is shorter than a window of 12 steps: a \(10 steps\), b", window=12)
    dataset = good(steps=40)
    for name in ("prcp", "tmax"):
        put(dataset, name, np.nan, 1, slice(20, None))
    with pytest.warns(MPTTWarning, match=r"No windows from 1 of 2 sites.* 12 steps: b \(10 steps\)"):
        module(dataset, window=12).setup("fit")


# Time


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (days(5)[[0, 1, 1, 2, 3]], r"2000-01-02.* \(entry 2\) comes twice.*drop_duplicates"),
        (days(5)[[0, 2, 1, 3, 4]], r"2000-01-02.* \(entry 2\) is earlier.*sortby"),
        (days(5)[::-1], "4 such place"),
        (days(6)[[0, 1, 2, 4, 5]], r"2000-01-05.* \(entry 3\).*usual step of 1 days, 2000-01-03.*; 1 such place"),
        (days(3)[[0, 0]], "comes twice"),
        (days(5)[[0, 1, 3]], "2000-01-04.*usual step of 1 days"),
        (days(1), r"1 step\(s\); at least 2"),
        (days(0), r"0 step\(s\); at least 2"),
        (np.arange(5), "holds int64, not dates"),
        (np.array(["2000-01-01", "2000-01-02"]), "not dates"),
        (np.array(["2000-01-01", "NaT"], "datetime64[s]"), r"1 missing date\(s\), first at entry 1"),
    ],
)
def test_uneven_time_is_refused(time, message):
    with pytest.raises(MPTTError, match=message):
        check_time(pd.Index(time))


@pytest.mark.parametrize(
    "time",
    [
        days(3),
        pd.date_range("2000", periods=9, freq="3h"),
        pd.date_range("2000", periods=9, freq="100us"),
        pd.date_range("2000", periods=40, freq="MS"),
        pd.date_range("2000-01-31", periods=40, freq="ME"),
        pd.date_range("1901-07-01", periods=40, freq="YS"),
        xr.date_range("2000-02-27", periods=9, calendar="noleap", use_cftime=True),
        xr.date_range("0001-01-01", periods=900, calendar="360_day", use_cftime=True),
        xr.date_range("2000-01-16", periods=30, freq="MS", calendar="noleap", use_cftime=True),
        np.arange("1902-01-01", "2902-01-01", dtype="datetime64[D]").astype("datetime64[s]"),
    ],
)
def test_even_time_passes(time):
    check_time(time if isinstance(time, pd.Index) else pd.Index(time))


def test_month_that_is_left_out_is_found():
    with pytest.raises(MPTTError, match="not even"):
        check_time(pd.date_range("2000", periods=40, freq="MS").delete(7))


def test_gap_in_another_calendar_is_found():
    time = xr.date_range("2000-02-27", periods=9, calendar="noleap", use_cftime=True)
    with pytest.raises(MPTTError, match=r"2000-03-03 00:00:00 \(entry 3\) does not follow"):
        check_time(time[[0, 1, 2, 4, 5, 6]])

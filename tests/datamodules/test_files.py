"""Files of any layout: arrays."""

import os
import sys
from pathlib import Path

import cftime
import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import FilesDataModule, SeriesDataModule, files_source, read_files
from mptt.datamodules.files import LAYOUT

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
DAYS = pd.date_range("2000-01-01", periods=4, unit="s")


def many(last=13, **coords):
    """Two sites of four days under the names of somebody else."""
    rain = np.array([[0, 1, 2, 3], [10, 11, 12, last]], np.float32)
    basins = coords.pop("basin", ["01", "0002"])
    return xr.Dataset(
        {
            "P": (("basin", "day"), rain, {"units": "kg m-2 s-1", "long_name": "rain"}),
            "Q": (("day", "basin"), rain.T * 2, {"units": "m3/s"}),
            "catchment": ("basin", [86.4, 8.64], {"units": "km2"}),
            "country": ("basin", ["DE", "FR"]),
        },
        {"basin": basins, "day": coords.pop("day", DAYS)},
    )


def one(values, start="2000-01-01", **dims):
    return xr.Dataset(
        {"rain": ("time", np.asarray(values, np.float32), {"units": "mm/day"})},
        {"time": pd.date_range(start, periods=len(values), unit="s")},
    )


def save(dataset, path):
    dataset.to_zarr(path, zarr_format=2) if str(path).endswith(".zarr") else dataset.to_netcdf(path)
    return path


@pytest.mark.parametrize("name", ["x.nc", "x.zarr"])
def test_names_units_and_missing_values_of_a_file_are_translated(tmp_path, name):
    path = save(many(last=-9999), tmp_path / name)
    read = read_files(
        path,
        names={"P": "rain", "Q": "flow", "catchment": "area"},
        units={"rain": "mm/day", "flow": "mm/day"},
        missing=[-9999, -19998],
    )
    assert read["site"].values.tolist() == ["01", "0002"]
    assert read["time"].dtype == "datetime64[s]"
    assert read["rain"].dims == ("site", "time")
    assert read["rain"].dtype == np.float32
    expected = np.array([[0, 1, 2, 3], [10, 11, 12, np.nan]]) * 86400
    assert np.allclose(read["rain"], expected, equal_nan=True)
    assert np.allclose(read["flow"], [[0, 2, 4, 6], [200, 220, 240, np.nan]], equal_nan=True)
    assert read["rain"].attrs == {"units": "mm/day", "long_name": "rain"}
    assert read["area"].values.tolist() == pytest.approx([86.4, 8.64])
    assert read["country"].values.tolist() == ["DE", "FR"]


def test_only_what_is_asked_for_is_read(tmp_path):
    path = save(many(last=-9999), tmp_path / "x.nc")
    source = files_source(path, names={"P": "rain"}, variables=["rain"], sites=["0002"])
    assert source.sites == ["0002"]
    with pytest.warns(MPTTWarning, match=r"often mean a missing one .* at site 0002: P \(-9999\).*missing=\[-9999\]"):
        assert list(source.read("0002").data_vars) == ["rain"]
    assert source.read("0002")["rain"].values.tolist() == [10, 11, 12, -9999], "noted once"


def test_one_site_without_a_dimension_is_called_as_the_file(tmp_path):
    read = read_files(save(one([1, 2]), tmp_path / "00123.nc"))
    assert read["site"].values.tolist() == ["00123"]
    assert read["rain"].values.tolist() == [[1, 2]]


def test_a_folder_of_sites_with_different_periods(tmp_path):
    save(one([1, 2]).assign(area=3.0, name="A"), tmp_path / "a.nc")
    save(one([5, 6, 7], "1999-12-31").assign(area=4.0), tmp_path / "0b.nc")
    (tmp_path / "README.md").write_text("what this is")
    read = read_files(tmp_path)
    assert read["site"].values.tolist() == ["0b", "a"]
    assert np.array_equal(read["rain"], [[5, 6, 7], [np.nan, 1, 2]], equal_nan=True)
    assert read["area"].values.tolist() == [4, 3]
    assert read["name"].values.tolist() == ["", "A"]


def test_a_pattern_chooses_files(tmp_path):
    save(one([1]), tmp_path / "a.nc")
    (tmp_path / "a.csv").write_text("time,rain\n2000-01-01,1\n")
    assert read_files(tmp_path / "*.nc")["site"].values.tolist() == ["a"]
    with pytest.raises(MPTTError, match=r"several kinds .*a\.csv.*a\.nc"):
        read_files(tmp_path)
    with pytest.raises(MPTTError, match="No file is called as"):
        read_files(tmp_path / "*.pq")


def test_cells_of_a_grid_are_sites(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)  # (time, lat, lon)
    values[:, 1, 2] = np.nan
    grid = xr.Dataset(
        {"t": (("time", "lat", "lon"), values), "orog": (("lat", "lon"), values[0] * 10)},
        {"time": DAYS[:2], "lat": np.array([50.25, 50.0], np.float32), "lon": [7.0, 7.5, 8.0]},
    )
    path = save(grid, tmp_path / "era.nc")
    with pytest.warns(MPTTWarning, match="1 of 6 cells hold no value"):
        read = read_files(path, site=["lat", "lon"])
    assert read["site"].values.tolist() == ["50.25_7", "50.25_7.5", "50.25_8", "50_7", "50_7.5"]
    assert read["t"].values.tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10]]
    assert read["orog"].values.tolist() == [0, 10, 20, 30, 40]
    assert read["lat"].values.tolist() == [50.25, 50.25, 50.25, 50, 50]
    with pytest.raises(MPTTError, match=r"which dimension is the site\? .*lat, lon"):
        read_files(path)


def test_edges_of_steps_and_further_dimensions_are_passed_over(tmp_path):
    edges = np.stack([DAYS.values, DAYS.values], axis=1)
    model = many().assign(day_bnds=(("day", "bnds"), edges), member=(("basin", "day", "run"), np.ones((2, 4, 3))))
    model["day"].attrs["bounds"] = "day_bnds"
    model["day"].encoding["units"] = "days since 2000-01-01"
    read = read_files(save(model.expand_dims(height=[2.0]), tmp_path / "x.nc"), site="basin", time="day")
    assert read["P"].values[0].tolist() == [0, 1, 2, 3]
    assert "member" not in read
    plain = save(model.drop_vars("member"), tmp_path / "y.nc")
    assert read_files(plain)["site"].values.tolist() == ["01", "0002"]


def test_sites_may_be_named_by_a_variable(tmp_path):
    stations = xr.Dataset(
        {"q": (("time", "row"), np.ones((4, 2), np.float32)), "gauge": ("row", np.array([7, 8]))}, {"time": DAYS}
    )
    path = save(stations, tmp_path / "x.nc")
    assert read_files(path, site="gauge")["site"].values.tolist() == ["7", "8"]
    with pytest.raises(MPTTError, match=r"along row have no names.*gauge"):
        read_files(path)
    stations["gauge"].attrs["cf_role"] = "timeseries_id"
    assert read_files(save(stations, tmp_path / "y.nc"))["site"].values.tolist() == ["7", "8"]


def test_text_names_the_sites_of_a_dimension_without_names(tmp_path):
    stations = xr.Dataset(
        {"q": (("row", "time"), np.ones((2, 4))), "station_id": ("row", ["007", "x"])}, {"time": DAYS}
    )
    assert read_files(save(stations, tmp_path / "x.nc"))["site"].values.tolist() == ["007", "x"]
    stations["station_id"].values[1] = ""
    with pytest.raises(MPTTError, match=r"x\.nc: station_id names no site at 1"):
        read_files(save(stations, tmp_path / "x.nc"))


def test_a_single_place_or_height_names_no_site(tmp_path):
    cell = one([1, 2]).expand_dims(lat=[51.0], lon=[0.25])
    assert read_files(save(cell, tmp_path / "a.nc"))["site"].values.tolist() == ["a"]
    height = one([1, 2]).expand_dims(height=[2.0])
    assert read_files(save(height, tmp_path / "b.nc"))["site"].values.tolist() == ["b"]


def test_steps_are_put_in_order(tmp_path):
    read = read_files(save(many().isel(day=[3, 0, 2, 1]), tmp_path / "x.nc"))
    assert read["P"].values.tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    with pytest.raises(MPTTError, match=r"y\.nc: 1 step\(s\) have the date of another, the first 2000-01-02"):
        read_files(save(many().isel(day=[0, 1, 1, 3]), tmp_path / "y.nc"))
    with pytest.raises(MPTTError, match=r"z\.nc: the date of step 2 is missing"):
        read_files(save(many(day=pd.DatetimeIndex([*DAYS[:2], None, DAYS[3]])), tmp_path / "z.nc"))


def test_text_and_other_dates_are_no_series(tmp_path):
    odd = many().assign(word=(("basin", "day"), np.array([list("abcd")] * 2)), other=("later", np.arange(3.0)))
    odd = odd.assign_coords(later=pd.date_range("2001-01-01", periods=3))
    read = read_files(save(odd, tmp_path / "x.nc"), time="day")
    assert {name for name, values in read.data_vars.items() if "time" in values.dims} == {"P", "Q"}


def ragged(kind):
    """Site a of two days and site 007 of three, in the ways of the CF conventions."""
    days = np.array(["2000-01-01", "2000-01-02", "2000-01-02", "2000-01-01", "2000-01-03"], "M8[s]")
    names = xr.Variable(("st",), np.array(["a", "007"], "S3"), {"cf_role": "timeseries_id"})
    both = {"name": names, "area": ("st", [1.0, 2.0], {"units": "km2"})}
    if kind == "rows":
        time = np.stack([[*days[:2], np.datetime64("NaT")], days[2:]])
        return xr.Dataset({**both, "q": (("st", "o"), [[0.0, 1, 9], [2, 3, 4]])}, {"time": (("st", "o"), time)})
    if kind == "count":
        both["rows"] = ("st", [2, 3], {"sample_dimension": "obs"})
        return xr.Dataset({**both, "q": ("obs", np.arange(5.0))}, {"time": ("obs", days)})
    both["of"] = ("obs", [0, 1, 1, 0, 1], {"instance_dimension": "st"})
    order = [0, 2, 3, 1, 4]
    return xr.Dataset({**both, "q": ("obs", np.arange(5.0)[order])}, {"time": ("obs", days[order])})


@pytest.mark.parametrize("kind", ["count", "index", "rows"])
def test_sites_with_dates_of_their_own(tmp_path, kind):
    path = save(ragged(kind), tmp_path / "x.nc")
    read = read_files(path)
    assert read["site"].values.tolist() == ["a", "007"]
    assert np.array_equal(read["q"], [[0, 1, np.nan], [3, 2, 4]], equal_nan=True)
    assert read["time"].values.astype("M8[D]").astype(str).tolist() == ["2000-01-01", "2000-01-02", "2000-01-03"]
    assert read["area"].values.tolist() == [1, 2]
    assert set(read.data_vars) == {"q", "area"}
    assert read_files(path, site="name", sites=["007"])["q"].values.tolist() == [[3, 2, 4]]
    with pytest.raises(MPTTError, match="no variable 'nom' for the site"):
        read_files(path, site="nom")


def test_sites_with_dates_of_their_own_that_do_not_fit(tmp_path):
    count = ragged("count")
    count["rows"].values[0] = 3
    with pytest.raises(MPTTError, match=r"x\.nc: rows counts 6 entries along obs"):
        read_files(save(count, tmp_path / "x.nc"))
    index = ragged("index")
    index["of"].values[0] = 2
    with pytest.raises(MPTTError, match=r"y\.nc: of speaks of sites that are not among the 2"):
        read_files(save(index, tmp_path / "y.nc"))
    index["of"].values[0] = 1
    with pytest.raises(MPTTError, match=r"z\.nc: site 007 has the date 2000-01-01 .* twice"):
        read_files(save(index, tmp_path / "z.nc"))


def test_dates_of_forecasts_are_no_dates_of_sites(tmp_path):
    valid = (("basin", "day"), np.array([DAYS.values] * 2))
    read = read_files(save(many().assign_coords(valid_time=valid), tmp_path / "x.nc"))
    assert read["P"].values.tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]


def test_files_of_a_year_each_are_no_sites(tmp_path):
    save(one([1, 2]), tmp_path / "river_2000.nc")
    save(one([3, 4], start="2001-01-01"), tmp_path / "river_2001.nc")
    with pytest.raises(MPTTError, match=r"river_2000\.nc and .*river_2001\.nc look like the years of one site"):
        read_files(tmp_path)
    (tmp_path / "numbers").mkdir()
    save(one([1, 2]), tmp_path / "numbers" / "2004.nc")
    save(one([3, 4]), tmp_path / "numbers" / "2053.nc")
    assert read_files(tmp_path / "numbers")["site"].values.tolist() == ["2004", "2053"], "gauges called by numbers"


def test_a_file_without_the_variable_is_a_site_without_values(tmp_path):
    save(one([1, 2]), tmp_path / "a.nc")
    save(one([3, 4]).rename(rain="snow"), tmp_path / "b.nc")
    read = read_files(tmp_path, variables=["rain"])
    assert np.array_equal(read["rain"], [[1, 2], [np.nan, np.nan]], equal_nan=True)


def test_sites_without_an_input_are_left_out_with_a_note(tmp_path):
    alone = _long().isel(site=0, drop=True)
    save(alone, tmp_path / "a.nc")
    save(alone.drop_vars("rain"), tmp_path / "b.nc")
    with pytest.warns(MPTTWarning, match=r"1 of 2 sites left out: b \(no rain\)"):
        assert FilesDataModule(tmp_path, ["rain"], ["flow"]).load()["site"].values.tolist() == ["a"]
    with pytest.raises(MPTTError, match=r"no value of an input: b \(no rain\)"):
        FilesDataModule(tmp_path, ["rain"], ["flow"], sites=["a", "b"]).load()


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(tmp_path, calendar):
    dates = xr.date_range("2000-02-27", periods=4, calendar=calendar, use_cftime=True)
    read = read_files(save(many(day=dates), tmp_path / "x.nc"))
    assert read.indexes["time"].calendar == calendar
    month, day = (3, 2) if calendar == "noleap" else (2, 30)
    assert read.indexes["time"][3] == cftime.datetime(2000, month, day, calendar=calendar)


def test_years_beyond_nanoseconds(tmp_path):
    late = np.arange("2900-01-01", "2900-01-05", dtype="datetime64[D]").astype("datetime64[s]")
    read = read_files(save(many(day=late), tmp_path / "x.nc"))
    assert read["time"].values[-1] == np.datetime64("2900-01-04", "s")


def test_packed_values_are_unpacked(tmp_path):
    packed = {"rain": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(-1)}}
    one([10, 12.5, np.nan]).to_netcdf(tmp_path / "x.nc", encoding=packed)
    assert np.array_equal(read_files(tmp_path / "x.nc")["rain"], [[10, 12.5, np.nan]], equal_nan=True)


def test_the_unit_of_a_file_can_be_corrected(tmp_path):
    path = save(one([1.0]), tmp_path / "x.nc")
    read = read_files(path, units={"rain": "mm/day"}, units_in_file={"rain": "mm/h"})
    assert read["rain"].values.tolist() == [[24]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": {"Rain": "r"}}, "names speaks of Rain.*Near 'Rain': rain"),
        ({"units": {"snow": "mm"}}, "units speaks of snow"),
        ({"units": {"rain": "degC"}}, "rain: .*does not convert"),
        ({"units": {"rain": "parsecs/fortnite"}}, "'parsecs/fortnite' is not known"),
        ({"site": "basin"}, "no dimension or variable basin"),
        ({"time": "date"}, "no time variable 'date'"),
        ({"sites": ["b"]}, "no site b. There are x"),
    ],
)
def test_wrong_words_are_refused_by_name(tmp_path, options, message):
    with pytest.raises(MPTTError, match=message):
        read_files(save(one([1.0, 2.0]), tmp_path / "x.nc"), **options)


def test_streamflow_as_a_depth_needs_the_area(tmp_path):
    with pytest.raises(MPTTError, match=r"flow: .*area of the site"):
        read_files(save(many(), tmp_path / "x.nc"), names={"Q": "flow"}, units={"flow": "mm/day"})


def test_a_file_without_dates_is_refused(tmp_path):
    path = save(many(day=[1, 2, 3, 4]), tmp_path / "x.nc")
    with pytest.raises(MPTTError, match=r"one dimension must hold dates, and none does.*day \(int64\)"):
        read_files(path)
    with pytest.raises(MPTTError, match="day holds int64"):
        read_files(path, time="day")


def test_nothing_and_empty_and_unknown_places_are_refused(tmp_path):
    (tmp_path / "beside.nc").write_bytes(b"")
    with pytest.raises(MPTTError, match=r"No data set at .*there.*beside\.nc"):
        read_files(tmp_path / "there")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MPTTError, match="holds no file that can be read"):
        read_files(empty)
    (tmp_path / "x.dat").write_text("1")
    with pytest.raises(MPTTError, match="no ending that says what it is"):
        read_files(tmp_path / "x.dat")


def test_damaged_netcdf_is_refused(tmp_path):
    (tmp_path / "bytes.nc").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(MPTTError, match=r"bytes\.nc cannot be read as a NetCDF file"):
        read_files(tmp_path / "bytes.nc")
    whole = save(one(range(5000)), tmp_path / "whole.nc").read_bytes()
    (tmp_path / "short.nc").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(MPTTError, match=r"short\.nc cannot be read"):
        read_files(tmp_path / "short.nc")


def test_netcdf_that_must_not_be_read_is_refused(tmp_path, monkeypatch):
    path = save(one([1, 2]), tmp_path / "x.nc")

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(MPTTError, match=r"x\.nc cannot be read as a NetCDF file: .*Permission denied"):
        read_files(path)


def test_a_lost_chunk_is_noted_and_a_lost_coordinate_refused(tmp_path):
    path = save(many().chunk(basin=1), tmp_path / "x.zarr")
    (path / "P" / "1.0").unlink()
    with pytest.warns(MPTTWarning, match=r"lacks chunks of P \(1 of 2\)"):
        read = read_files(path)
    assert np.isnan(read["P"].values[1]).all()
    assert read["P"].values[0].tolist() == [0, 1, 2, 3]
    (path / "day" / "0").unlink()
    with pytest.raises(MPTTError, match="lacks chunks of the coordinate day"):
        read_files(path)


@pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32")  # of the names that xarray writes
def test_damaged_zarr_is_refused(tmp_path):
    path = save(many(), tmp_path / "x.zarr")
    chunk = path / "P" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(MPTTError, match=r"P.0\.0 is cut short: 20 bytes where 48 are due"):
        read_files(path)
    dates = path / "day" / "0"
    dates.write_bytes(dates.read_bytes()[:-3])
    chunk.unlink()
    with pytest.raises(MPTTError, match=r"day.0 is cut short"):
        read_files(path)
    newer = tmp_path / "y.zarr"
    many().to_zarr(newer, zarr_format=3, consolidated=False)
    (chunk,) = (newer / "P" / "c" / "0").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(MPTTError, match=r"y\.zarr cannot be read to its end .*decompression"):
        read_files(newer)
    (path / ".zmetadata").write_text("{broken")
    with pytest.raises(MPTTError, match=r"x\.zarr cannot be read as a Zarr store"):
        read_files(path)


def test_several_files_with_several_sites_are_refused(tmp_path):
    save(many(), tmp_path / "a.nc")
    save(many(), tmp_path / "b.nc")
    with pytest.raises(MPTTError, match=r"a\.nc holds 2 sites"):
        read_files(tmp_path)
    for year in ("a.nc", "b.nc"):
        (tmp_path / year).unlink()
        save(many().isel(basin=[0]), tmp_path / year)
    with pytest.raises(MPTTError, match="Site 01 has two files"):
        read_files(tmp_path)


def test_variables_of_one_name_are_refused(tmp_path):
    with pytest.raises(MPTTError, match="several variables are called Q"):
        read_files(save(many(), tmp_path / "x.nc"), names={"P": "Q"})


def test_addresses_are_read_like_paths(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(save(many(), tmp_path / "x.nc")), "/here/x.nc")
    memory.put(str(save(many(), tmp_path / "x.zarr")) + "/", "/here/x.zarr", recursive=True)
    memory.pipe("/here/t/00a.csv", b"date,rain\n2000-01-01,1\n2000-01-02,2\n")
    here = read_files(tmp_path / "x.nc")
    for address in ("memory://here/x.nc", "memory://here/x.zarr", (tmp_path / "x.nc").as_uri()):
        xr.testing.assert_identical(read_files(address).drop_attrs(), here.drop_attrs())
    for address in ("memory://here/t", "memory://here/t/*.csv", "memory://here/t/00a.csv"):
        read = read_files(address)
        assert read["site"].values.tolist() == ["00a"]
        assert read["rain"].values.tolist() == [[1, 2]]
    with pytest.raises(MPTTError, match=r"No data set at memory://here/y.zarr"):
        read_files("memory://here/y.zarr")


def test_series_are_opened_at_addresses(tmp_path):
    fsspec.filesystem("memory").put(str(save(_long(), tmp_path / "x.zarr")) + "/", "/series.zarr", recursive=True)
    data = SeriesDataModule("memory://series.zarr", inputs=["rain"], targets=["flow"], window=20, stride=10)
    data.setup()
    assert data.sites == ["a"]


def _long():
    rain = np.arange(200, dtype=np.float32)[None]
    time = pd.date_range("2000-01-01", periods=200, unit="s")
    return xr.Dataset(
        {"rain": (("site", "time"), rain), "flow": (("site", "time"), rain * 2)}, {"site": ["a"], "time": time}
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/x.zarr", r"mptt\[s3\]"),
        ("gopherx://bucket/x.nc", "address of no known kind"),
        (Path("s3://bucket/x.zarr"), "lost a slash"),
    ],
)
def test_addresses_that_cannot_be_read_say_why(address, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MPTTError, match=message):
        read_files(address)
    with pytest.raises(MPTTError, match=message):
        SeriesDataModule(address, inputs=["a"], targets=["b"]).load()


def test_a_data_module_reads_what_it_needs(tmp_path):
    path = save(_long().rename(rain="P"), tmp_path / "x.nc")
    data = FilesDataModule(path, ["rain"], ["flow"], names={"P": "rain"}, window=20, stride=10)
    data.setup()
    assert data.sites == ["a"]
    with pytest.raises(MPTTError, match="no input variable 'snow'"):
        FilesDataModule(path, ["snow"], ["flow"], window=20, stride=10).setup()


@pytest.mark.skipif(not (REAL / "caravan_multibasin_nc").is_dir(), reason="no real data (MPTT_REAL_DATA says where)")
def test_real_basins_of_another_program():
    read = read_files(REAL / "caravan_multibasin_nc", units={"streamflow": "m3/s"}, variables=["streamflow", "area"])
    assert read["site"].values.tolist() == ["camels_01022500", "camels_03439000"]
    assert read["streamflow"].attrs["units"] == "m3/s"
    raw = read_files(REAL / "caravan_multibasin_nc", variables=["streamflow"])["streamflow"]
    factor = read["area"] * 1e6 / 1000 / 86400
    assert np.allclose(read["streamflow"], raw * factor, rtol=1e-5)


@pytest.mark.skipif(not (REAL / "caravan").is_dir(), reason="no real data (MPTT_REAL_DATA says where)")
def test_real_csv_and_netcdf_of_the_same_gauges_agree():
    names = ["streamflow", "total_precipitation_sum"]
    folder = REAL / "caravan" / "timeseries"
    arrays = read_files(folder / "netcdf" / "*" / "*.nc", variables=names)
    tables = read_files(folder / "csv" / "*" / "*.csv", variables=names, sites=arrays["site"].values.tolist())
    assert tables.sizes == arrays.sizes
    for name in names:
        assert np.array_equal(tables[name], arrays[name], equal_nan=True)
    assert int(np.isnan(tables["streamflow"].sel(site="camelsch_4001", time=slice("1981", "2020"))).sum()) == 2363


def test_what_is_found_can_be_configured(tmp_path):
    path = save(_long().rename(rain="P"), tmp_path / "x.nc")
    source = LAYOUT.source(path, names={"P": "rain"}, missing=[-9999])
    assert source.settings == {
        "class_path": "FilesDataModule",
        "init_args": {"path": str(path), "names": {"P": "rain"}, "missing": [-9999.0]},
    }
    data = FilesDataModule(**source.settings["init_args"], inputs=["rain"], targets=["flow"], window=20, stride=10)
    data.setup()
    assert LAYOUT.recognise(path)
    assert LAYOUT.recognise(tmp_path)
    assert not LAYOUT.recognise(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert not LAYOUT.recognise(tmp_path / "empty")


def test_a_configuration_reads_what_was_looked_at(tmp_path):
    lines = [
        "when;gauge;Q;RR",
        *(f"0{day}.01.2000;{name};{day};-9" for day in range(1, 4) for name in ("01", "1", "2")),
    ]
    (tmp_path / "all.csv").write_text("\n".join([*lines, ""]))
    (tmp_path / "table.csv").write_text("gauge,km2\n01,10\n1,20\n2,30\n")
    given = {
        "site": "gauge",
        "time": "when",
        "names": {"RR": "rain", "Q": "flow", "km2": "area"},
        "units": {"flow": "mm/day"},
        "units_in_file": {"flow": "m3/s"},
        "missing": [-9],
        "sites": ["2", "01"],
        "attributes_file": str(tmp_path / "table.csv"),
        "time_format": "%d.%m.%Y",
        "separator": ";",
        "calendar": "noleap",
    }
    source = files_source(tmp_path / "all.csv", **given)
    assert source.settings["init_args"] == {"path": str(tmp_path / "all.csv"), **given}
    module = FilesDataModule(**source.settings["init_args"], inputs=["area"], targets=["flow"])
    assert module.load()["flow"].equals(source.dataset()["flow"])
    assert source.dataset()["flow"].values[:, 0].tolist() == pytest.approx([86.4 / 30, 8.64])
    assert source.choose(["01"]).settings["init_args"]["sites"] == ["01"]

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from towers import store_packed, write_store

from mptt import MPTTError
from mptt.datamodules import FLUXNETZarrDataModule, read_fluxnet_zarr
from mptt.datamodules.fluxnet_zarr import ZARR_LAYOUT

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
STORE = REAL / "fluxnet_zarr" / "fluxnet.zarr"
real = pytest.mark.skipif(not STORE.is_dir(), reason=f"no real towers in {STORE} (MPTT_REAL_DATA says where)")


def small(tmp_path, ta, flags=None, first="2000-01-01T00:30", name="x.zarr"):
    """One tower; a stamp is the end of its half-hour."""
    ta = np.asarray(ta, float)
    flags = np.zeros(len(ta)) if flags is None else np.asarray(flags, float)
    dataset = xr.Dataset(
        {
            "ta": (("site", "time"), ta[None], {"units": "degC", "long_name": "air temperature"}),
            "nee": (("site", "time"), np.where(np.isnan(ta), np.nan, 1.0)[None]),
            "ta_qc": (("site", "time"), flags[None]),
            "nee_qc": (("site", "time"), flags[None]),
            "latitude": ("site", [42.5]),
        },
        {"site": ["US-Ha1"], "time": pd.date_range(first, periods=len(ta), freq="30min")},
    )
    store_packed(dataset, tmp_path / name)
    return tmp_path / name


def test_midnight_ends_a_day(tmp_path):
    read = read_fluxnet_zarr(small(tmp_path, np.r_[np.full(48, 1), np.full(48, 3)]), daily=True)
    assert read["time"].values.tolist() == np.array(["2000-01-01", "2000-01-02"], "M8[s]").tolist()
    assert np.allclose(read["ta"], [[1, 3]], atol=1e-4)
    assert read["latitude"].values.tolist() == pytest.approx([42.5], abs=1e-3)
    assert read["ta"].attrs["units"] == "degC"


def test_days_of_local_standard_time(tmp_path):
    path = small(tmp_path, np.r_[np.full(48, 1), np.full(48, 3)], first="2000-01-01T05:30")
    local = read_fluxnet_zarr(path, daily=True, utc_offset=-5)
    assert np.allclose(local["ta"], [[1, 3]], atol=1e-4)
    assert str(local["time"].values[0])[:10] == "2000-01-01"
    universal = read_fluxnet_zarr(path, daily=True)
    assert str(universal["time"].values[0])[:10] == "2000-01-02", "of the first day only 38 of 48 are there"
    assert np.allclose(universal["ta"], [[(10 * 1 + 38 * 3) / 48]], atol=1e-4)
    assert "UTC-5h" in local.attrs["time_zone"]
    assert "UTC;" in universal.attrs["time_zone"]
    by_name = read_fluxnet_zarr(path, daily=True, utc_offset={"US-Ha1": -5})
    assert np.array_equal(by_name["ta"], local["ta"])


def test_packed_flags_are_whole(tmp_path):
    flags = np.r_[np.zeros(12), np.ones(12), np.full(12, 2), np.full(12, 3)]
    path = small(tmp_path, np.arange(48.0), flags)
    read = read_fluxnet_zarr(path, quality=1, variables=["ta"])
    assert int(np.isfinite(read["ta"]).sum()) == 24
    read = read_fluxnet_zarr(path, quality=1, daily=True, least_good=0.5)
    assert np.allclose(read["ta"], [[11.5]], atol=1e-3)
    assert read["ta_qc"].values.tolist() == [[0.5]]
    assert np.isnan(read_fluxnet_zarr(path, quality={"ta": 1}, daily=True)["ta"]).all()


def test_empty_ends_are_no_part_of_a_record(tmp_path):
    ta = np.r_[np.full(96, np.nan), np.full(48, 2.0), np.full(10, np.nan)]
    read = read_fluxnet_zarr(small(tmp_path, ta, np.where(np.isnan(ta), np.nan, 0)))
    assert read.sizes["time"] == 48
    assert read["time"].values[0] == np.datetime64("2000-01-03T00:30")


def test_sites_and_variables_are_chosen(tmp_path):
    path = write_store(tmp_path / "x.zarr", {"DE-Tha": ("2000-01-01T23:30", 480), "US-Ha1": ("2000-01-05T05:30", 480)})
    assert ZARR_LAYOUT.recognise(path)
    read = read_fluxnet_zarr(
        path, ["US-Ha1", "DE-Tha"], daily=True, variables=["ta"], utc_offset={"DE-Tha": 1, "US-Ha1": -5}
    )
    assert read["site"].values.tolist() == ["US-Ha1", "DE-Tha"]
    assert set(read.data_vars) == {"ta"}
    assert read["ta"].notnull().sum("time").values.tolist() == [10, 10]


def test_a_configuration_reads_what_was_looked_at(tmp_path):
    path = write_store(tmp_path / "x.zarr", {"DE-Tha": ("2000-01-01T23:30", 480), "US-Ha1": ("2000-01-05T05:30", 480)})
    given = {"sites": ["US-Ha1"], "daily": True, "least_good": 0.5, "quality": {"ta": 1}, "utc_offset": {"US-Ha1": -5}}
    source = ZARR_LAYOUT.source(path, **given)
    assert source.settings == {"class_path": "FLUXNETZarrDataModule", "init_args": {"path": str(path), **given}}
    module = FLUXNETZarrDataModule(**source.settings["init_args"], inputs=["ta"], targets=["nee"])
    assert module.load()["ta"].equals(source.dataset(["ta", "nee"])["ta"])
    halves = ZARR_LAYOUT.source(path).settings["init_args"]
    assert halves["daily"] is False, "half-hours were looked at"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["XX-Yyy"]}, "no site XX-Yyy. There are US-Ha1"),
        ({"quality": 0.5}, "largest flag"),
        ({"utc_offset": {"DE-Tha": 1}}, "names no hours for US-Ha1"),
        ({"utc_offset": 60}, "-12 to 14; found US-Ha1: 60"),
        ({"daily": True, "least_good": 0}, "least_good is a share"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, options, message):
    with pytest.raises(MPTTError, match=message):
        read_fluxnet_zarr(small(tmp_path, np.ones(48)), **options)


def test_other_stores_are_refused(tmp_path):
    with pytest.raises(MPTTError, match="No data set at"):
        read_fluxnet_zarr(tmp_path / "none.zarr")
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "a.zarr", zarr_format=2)
    with pytest.raises(MPTTError, match="is no FLUXNET store: no dimension site, time"):
        read_fluxnet_zarr(tmp_path / "a.zarr")
    assert not ZARR_LAYOUT.recognise(tmp_path / "a.zarr")
    path = small(tmp_path, np.arange(480.0))
    chunk = path / "ta" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(MPTTError, match="is cut short"):
        read_fluxnet_zarr(path)


@real
def test_real_towers_by_day():
    chosen = ["DE-Tha", "US-Ha1"]
    read = read_fluxnet_zarr(STORE, chosen, daily=True, utc_offset={"DE-Tha": 1, "US-Ha1": -5})
    counts = read["ta"].notnull().sum("time").values.tolist()
    assert counts == [6940, 8036]
    first = read["ta"].sel(site="DE-Tha").dropna("time")["time"].values[0]
    assert first == np.datetime64("1996-01-01"), "a record of whole years, by local standard time"
    raw = xr.open_zarr(STORE)["gpp_dt"].sel(site="US-Ha1")
    stamps = pd.DatetimeIndex(raw["time"].values) - pd.Timedelta("5h30min")
    slow = pd.Series(raw.values, stamps).resample("1D").mean()
    days = pd.DatetimeIndex(["1992-07-04", "2005-01-01", "2012-12-31"])
    assert np.allclose(read["gpp_dt"].sel(site="US-Ha1", time=days), slow[days], rtol=1e-5)


@real
def test_a_data_module_on_real_towers():
    data = FLUXNETZarrDataModule(STORE, ["DE-Tha"], quality=1, utc_offset=1, window=365, stride=100)
    data.setup()
    assert data.sites == ["DE-Tha"]
    assert data.units == {"gpp_dt": "umolCO2 m-2 s-1"}
    assert len(data.time) == 6940

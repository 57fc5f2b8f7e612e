from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sources import days

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.store import LAYOUT, is_store, store_source


@pytest.fixture
def small() -> xr.Dataset:
    return xr.Dataset(
        {"x": (("site", "time"), [[1.0, 2.0, 3.0], [4.0, 5.0, np.nan]], {"units": "mm"}), "area": ("site", [1.0, 2.0])},
        {"site": ["a", "b"], "time": days(3)},
        {"title": "small"},
    )


def write(dataset: xr.Dataset, path: Path) -> Path:
    if path.suffix == ".nc":
        dataset.to_netcdf(path)
    else:
        dataset.to_zarr(path, zarr_format=2)
    return path


@pytest.mark.parametrize("name", ["small.nc", "small.zarr", "folder"])
def test_files_and_stores_are_read_a_site_at_a_time(name: str, small: xr.Dataset, tmp_path: Path) -> None:
    path = write(small, tmp_path / name)
    assert is_store(path)
    source = LAYOUT.source(path)
    assert source.sites == ["a", "b"]
    assert source.read("b")["x"].values.tolist()[:2] == [4.0, 5.0]
    assert source.read("a")["x"].attrs["units"] == "mm"
    assert source.attributes["area"].values.tolist() == [1.0, 2.0]
    assert source.about["title"] == "small"
    assert source.settings == {"class_path": "SeriesDataModule", "init_args": {"dataset": str(path)}}


def test_variables_on_other_dimensions_are_noted(small: xr.Dataset, tmp_path: Path) -> None:
    path = write(small.assign(level=("depth", [1.0, 2.0]), all=("time", [1.0, 2.0, 3.0])), tmp_path / "small.nc")
    with pytest.warns(MPTTWarning, match=r"left out: level \('depth',\), all \('time',\)"):
        source = store_source(path)
    assert list(source.read("a").data_vars) == ["x"]


def test_a_store_without_sites_is_refused(small: xr.Dataset, tmp_path: Path) -> None:
    path = write(small.rename(site="basin"), tmp_path / "small.nc")
    assert not is_store(path)
    with pytest.raises(MPTTError, match=r"no dimension site .* it has basin, time"):
        store_source(path)


@pytest.mark.parametrize(
    ("content", "ours", "said"),
    [
        (b"\x89HDF\r\n\x1a\n broken", True, "cannot be read as a NetCDF file"),
        (b"CDF\x01", True, "is cut short, or damaged, in its header"),
        (b"a,b\n1,2\n", False, "cannot be read as a NetCDF file"),
        (b"", False, "cannot be read as a NetCDF file"),
    ],
)
def test_broken_files_say_so(content: bytes, ours: bool, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.nc"
    path.write_bytes(content)
    assert is_store(path) is ours
    with pytest.raises(MPTTError, match=said):
        store_source(path)


def test_folder_named_like_a_store_says_why_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.zarr").mkdir()
    assert is_store(tmp_path / "x.zarr")
    with pytest.raises(MPTTError, match="cannot be read as a Zarr store"):
        store_source(tmp_path / "x.zarr")
    assert not is_store(tmp_path)
    assert not is_store(tmp_path / "nothing")

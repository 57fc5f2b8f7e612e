"""The house store: a Zarr store or NetCDF file with dimensions (site, time), as `mptt data convert` writes it."""

from __future__ import annotations

import warnings
from pathlib import Path

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.reading.source import Layout, Source, source_of
from mptt.errors import MPTTError, MPTTWarning

ZARR = ("zarr.json", ".zgroup", ".zmetadata")
_NETCDF = (b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF")


def store_source(path: str | Path) -> Source:
    """The source of a Zarr store or NetCDF file with dimensions (site, time).

    Variables on (site, time) are series, those on (site,) attributes; a warning names others, which are left out. Dates
    may be of any calendar. `SeriesDataModule` reads such a store as it is.

    Args:
        path: of the store or file.

    Raises:
        MPTTError: there is nothing, something else, or no dimension site or time.

    Example:
        >>> import tempfile, xarray as xr
        >>> dataset = xr.Dataset({"flow": (("site", "time"), [[1.0, 2.0]])}, {"site": ["a"], "time": [0, 1]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset.to_netcdf(f"{folder}/small.nc")
        ...     store_source(f"{folder}/small.nc").sites
        ['a']
    """
    path = Path(path)
    dataset = open_dataset(path)
    if missing := [name for name in ("site", "time") if name not in dataset.dims or name not in dataset.coords]:
        raise MPTTError(
            f"{path} has no dimension {' and '.join(missing)} with a coordinate of its name; it has"
            f" {listed(map(str, dataset.sizes))}. Rename them (xarray.Dataset.rename)."
        )
    if others := [
        f"{name} {variable.dims}"
        for name, variable in dataset.variables.items()
        if name not in ("site", "time") and set(variable.dims) not in ({"site"}, {"site", "time"})
    ]:
        warnings.warn(
            f"{path}: variables on other dimensions than (site, time) or (site,) are left out: {listed(others)}.",
            MPTTWarning,
            stacklevel=2,
        )
    settings = {"class_path": "SeriesDataModule", "init_args": {"dataset": str(path)}}
    return source_of(dataset, "store", path, settings)


def is_store(path: Path) -> bool:
    """Whether a path is a Zarr store or NetCDF file that has the dimensions site and time, or cannot be opened."""
    if not _is_zarr(path) and not _is_netcdf(path):
        return False
    try:
        with open_dataset(path) as dataset:
            return {"site", "time"} <= set(dataset.dims)
    except MPTTError:
        return True  # it says why when it is opened


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and (path.suffix == ".zarr" or any((path / name).is_file() for name in ZARR))


def _is_netcdf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _NETCDF


LAYOUT = Layout(
    "store", "a Zarr store or NetCDF file with dimensions (site, time), as convert writes it", is_store, store_source
)

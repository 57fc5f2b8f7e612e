"""Data sets on disk, or at an address."""

from __future__ import annotations

import warnings
from pathlib import Path

import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.places import Place, is_folder, local_file, place_of, refuse_absent
from mptt.errors import MPTTError, MPTTWarning


def open_dataset(dataset: xr.Dataset | str | Path) -> xr.Dataset:
    """Open a Zarr store or NetCDF file; dates are datetime64[s], or cftime where the calendar is another.

    Args:
        dataset: the path, or an address that fsspec knows, as "s3://bucket/store.zarr"; a data set is returned as it
            is. A NetCDF file at an address is copied to a temporary folder first.

    Raises:
        MPTTError: there is nothing, or something else; a coordinate of a Zarr store is not complete.
    """
    if isinstance(dataset, xr.Dataset):
        return dataset
    if not isinstance(dataset, str | Path):
        raise MPTTError(
            f"The dataset is an xarray.Dataset or a path, found a {type(dataset).__name__}; see"
            " DataArray.to_dataset(name=...) and xarray.Dataset.from_dataframe."
        )
    place = place_of(dataset)
    refuse_absent(place, "a Zarr store or NetCDF file")
    zarr = is_folder(place)
    decoder = xr.coders.CFDatetimeCoder(time_unit="s")  # by default years after 2262 become cftime
    source = str(place) if zarr else local_file(place)
    try:
        opened = xr.open_dataset(source, engine="zarr" if zarr else None, decode_times=decoder)
    except Exception as error:  # every engine has its own
        raise MPTTError(
            f"{place} cannot be read as a {'Zarr store' if zarr else 'NetCDF file'}: {error}. Get an intact copy."
        ) from error
    if zarr and isinstance(place, Path):
        check_chunks(place, opened)
    return opened


def check_chunks(place: Place, dataset: xr.Dataset) -> None:
    """Look for chunks that a Zarr store of this machine does not have: reading them yields the fill value.

    A store may leave out chunks without values; or they were lost.

    Raises:
        MPTTError: a coordinate lacks one.
    """
    import zarr

    group = zarr.open_group(str(place), mode="r")
    lacking = {}
    for name in dataset.variables:
        array = group.get(str(name))
        if isinstance(array, zarr.Array) and (absent := array.nchunks - array.nchunks_initialized) > 0:
            lacking[name] = f"{name} ({absent} of {array.nchunks})"
    if lost := [text for name, text in lacking.items() if name in dataset.coords]:
        raise MPTTError(f"{place} lacks chunks of the coordinate {listed(lost)}. Get an intact copy.")
    if lacking:
        warnings.warn(
            f"{place} lacks chunks of {listed(lacking.values())}; they are read as the fill value, which is missing for"
            " most variables. If the store should have values there, get an intact copy.",
            MPTTWarning,
            stacklevel=3,
        )

"""Data sets on disk, or at an address."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import xarray as xr

from mptt.datamodules.reading.classic import check_classic
from mptt.datamodules.reading.places import is_folder, local_file, place_of, refuse_absent
from mptt.datamodules.reading.stores import check_complete, check_lengths, refuse_pickles
from mptt.errors import MPTTError, MPTTWarning
from mptt.hdf5 import check_hdf5


def open_dataset(dataset: xr.Dataset | str | Path, names: Collection[str] | None = None) -> xr.Dataset:
    """Open a Zarr store or NetCDF file; dates are datetime64[s], or cftime where the calendar is another.

    Args:
        dataset: the path, or an address that fsspec knows, as "s3://bucket/store.zarr"; a data set is returned as it
            is. A NetCDF file at an address is copied to a temporary folder first.
        names: variables whose values will be read, by default any: damaged NetCDF-4 files are found by reading them in
            another process first.

    Raises:
        MPTTError: there is nothing, or something else; a damaged file; a Zarr store with a chunk cut short, or a
            coordinate without one.
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
    source = place if zarr else local_file(place)
    try:
        if isinstance(source, Path) and source.is_file():
            check_classic(source)
            check_hdf5(source, names)
        if zarr:
            refuse_pickles(place)
        if zarr and isinstance(place, Path):
            check_lengths(place)
        engine = "zarr" if zarr else None
        with warnings.catch_warnings():
            # That a store's descriptions lie apart is no fault of it, and nothing that its reader must mend.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata", RuntimeWarning)
            # Numbers of days, as lengths of dry spells, stay numbers.
            opened = xr.open_dataset(str(source), engine=engine, decode_times=decoder, decode_timedelta=False)
        if zarr and isinstance(place, Path):
            check_complete(place, opened)
    except (MPTTError, MPTTWarning):
        raise
    except Exception as error:  # every engine has its own
        raise MPTTError(
            f"{place} cannot be read as a {'Zarr store' if zarr else 'NetCDF file'}: {error}. Get an intact copy."
        ) from error
    return opened

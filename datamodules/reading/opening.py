"""Data sets on disk."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from mptt.errors import MPTTError


def open_dataset(dataset: xr.Dataset | str | Path) -> xr.Dataset:
    """Open a Zarr store or NetCDF file; dates are datetime64[s], or cftime where the calendar is another.

    Args:
        dataset: the path; a data set is returned as it is.

    Raises:
        MPTTError: there is nothing, or something else.
    """
    if isinstance(dataset, xr.Dataset):
        return dataset
    if not isinstance(dataset, str | Path):
        raise MPTTError(
            f"The dataset is an xarray.Dataset or a path, found a {type(dataset).__name__}; see"
            " DataArray.to_dataset(name=...) and xarray.Dataset.from_dataframe."
        )
    path = Path(dataset)
    if not path.exists():
        raise MPTTError(
            f"No data set at {path} (looked from {Path.cwd()}); give the path of a Zarr store or NetCDF file."
        )
    decoder = xr.coders.CFDatetimeCoder(time_unit="s")  # by default years after 2262 become cftime
    try:
        engine = "zarr" if path.is_dir() else None
        # Numbers of days, as lengths of dry spells, stay numbers.
        return xr.open_dataset(path, engine=engine, decode_times=decoder, decode_timedelta=False)
    except Exception as error:  # every engine has its own
        raise MPTTError(
            f"{path} cannot be read as a {'Zarr store' if path.is_dir() else 'NetCDF file'}: {error}"
        ) from error

"""The series of one gauge of Caravan, and what its NetCDF files say."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.formats.caravan_files import FORMATS
from mptt.datamodules.formats.caravan_variables import SERIES, about_series, disagreement, said_in, table_of_units
from mptt.datamodules.reading.daily import read_daily_csv, sorted_days
from mptt.datamodules.reading.markers import without_markers
from mptt.datamodules.reading.opening import open_dataset
from mptt.errors import MPTTError, MPTTWarning
from mptt.hdf5 import check_hdf5

DAY = ("date", "time")  # names of the dimension


def read_series(path: Path, variables: Collection[str] | None = None) -> xr.Dataset:
    """The series of a gauge, on (time,), out of its NetCDF or CSV file; only some, if they are named."""
    return _read_netcdf(path, variables) if path.suffix == FORMATS["netcdf"] else _read_csv(path, variables)


def _read_csv(path: Path, chosen: Collection[str] | None) -> xr.Dataset:
    wanted = (lambda name: True) if chosen is None else chosen.__contains__
    table = read_daily_csv(path, numeric=SERIES.__contains__, wanted=wanted)
    variables = {name: ("time", values, about_series(name)) for name, values in table.columns.items()}
    return xr.Dataset(variables, {"time": table.days})


def _read_netcdf(path: Path, chosen: Collection[str] | None) -> xr.Dataset:
    with open_dataset(path, chosen) as file:
        day = dimension(path, file, DAY)
        order, days = sorted_days(path, file.indexes[day])
        said = table_of_units(str(file.attrs.get("Units", "")))
        numbers: dict[str, npt.NDArray[np.float32]] = {}
        texts: dict[str, dict[str, str]] = {}
        for name, values in file.data_vars.items():
            if chosen is not None and name not in chosen:
                continue
            flat = values.squeeze([dim for dim in values.dims if dim != day and values.sizes[dim] == 1], drop=True)
            if flat.dims == (day,) and flat.dtype.kind in "fiu":
                about = said_about(path, str(name), flat, said)
                numbers[str(name)] = loaded(path, flat)[order].astype(np.float32)
                check_finite(path, str(name), numbers[str(name)], days)
                texts[str(name)] = about
        cleared = without_markers(path.parent, numbers)
        variables = {name: ("time", values, texts[name]) for name, values in cleared.items()}
        return xr.Dataset(variables, {"time": ("time", days)})


def said_about(path: Path, name: str, values: xr.DataArray, table: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Units and long name of a variable in a NetCDF file; a warning where the file gives other units than Caravan."""
    own = str(values.attrs.get("units", values.attrs.get("unit", ""))), str(values.attrs.get("long_name", ""))
    listed_units = said_in(table, name)
    units, meaning = own[0] or listed_units[0], own[1] or listed_units[1]
    about = about_series(name, (units, meaning))
    if other := disagreement(name, units):
        warnings.warn(
            f"{path} gives {name} in {other!r}, in Caravan it is in {about['units']!r}; its values are read as they"
            f" are, in {other!r}.",
            MPTTWarning,
            stacklevel=2,
        )
        about["units"] = other
    return about


def loaded(path: Path, values: xr.DataArray) -> npt.NDArray[Any]:
    """The values of a variable; what cannot be read is an MPTTError."""
    try:
        return np.asarray(values.values)
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise MPTTError(f"{path}: {values.name} cannot be read: {error}. Get an intact copy.") from error


def check_finite(path: Path, name: str, values: npt.NDArray[np.float32], days: pd.Index) -> None:
    """Check that a series holds no infinite number.

    Raises:
        MPTTError: it does; says on which day.
    """
    if (wrong := np.isinf(values)).any():
        day = str(days[int(wrong.argmax())])[:10]
        raise MPTTError(f"{path}: {name} is infinite on {day}, {int(wrong.sum())} time(s). Get an intact copy.")


def dimension(path: Path, file: xr.Dataset, names: tuple[str, ...]) -> str:
    """The one of these dimensions that a file has."""
    for name in names:
        if name in file.dims and name in file.indexes:
            return name
    raise MPTTError(
        f"{path} has no dimension {' or '.join(names)} with a coordinate; found {', '.join(map(str, file.dims))}."
    )


def timezone_of(path: Path, variables: Collection[str] | None = None) -> str:
    """The time zone that a NetCDF file says, or ""; of its variables these will be read."""
    if path.suffix != FORMATS["netcdf"]:
        return ""
    try:
        check_hdf5(path, variables)
        with netCDF4.Dataset(path) as file:
            return str(getattr(file, "Timezone", ""))
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise MPTTError(f"{path} cannot be read as a NetCDF file: {error}. Get an intact copy.") from error

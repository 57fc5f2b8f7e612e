"""The arrays of a house store: Zarr format 3, as xarray reads it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from mptt.datamodules.preparing.checks import as_float32
from mptt.datamodules.reading.axes import GREGORIAN
from mptt.datamodules.storing.record import plain

# The largest unit in which all dates are whole numbers.
_UNITS = {"days": 86_400_000_000, "seconds": 1_000_000, "microseconds": 1}


def start_store(
    path: Path,
    sites: Sequence[str],
    time: pd.Index,
    series: Mapping[str, Mapping[str, Any]],
    attributes: xr.Dataset,
    about: Mapping[str, Any],
    group: int,
) -> None:
    """Write all of a store but the values of its series, over what is there.

    Args:
        path: of the store.
        sites: names.
        time: dates.
        series: name and attributes of each variable on (site, time).
        attributes: variables on (site,).
        about: of the whole.
        group: sites whose series share a file.
    """
    store = zarr.open_group(path, mode="w", zarr_format=3, attributes=plain(about))
    values, coding = _dates(time)
    names = {"long_name": "name of the site", "cf_role": "timeseries_id"}
    _write(store, "site", "site", np.array(list(sites), dtype=object), names)
    _write(store, "time", "time", values, {"standard_name": "time", "long_name": "date", "axis": "T", **coding})
    for name, variable in attributes.data_vars.items():
        kept = as_float32(variable.values) if variable.dtype.kind in "fiub" else _texts(variable.values)
        _write(store, str(name), "site", kept, variable.attrs)
    for name, attrs in series.items():
        store.create_array(
            name,
            shape=(len(sites), len(time)),
            dtype="float32",
            chunks=(1, len(time)),
            shards=(group, len(time)),
            compressors=ZstdCodec(level=3),
            fill_value=np.nan,
            dimension_names=("site", "time"),
            attributes=plain(attrs),
        )


def finish_store(path: Path) -> None:
    """Put what describes the arrays into one file, so that a store is opened by reading that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(path), zarr_format=3)


def _write(store: zarr.Group, name: str, dimension: str, values: npt.NDArray[Any], attrs: Mapping[str, Any]) -> None:
    array = store.create_array(
        name,
        shape=values.shape,
        dtype=str if values.dtype == object else values.dtype,
        chunks=values.shape,
        dimension_names=(dimension,),
        attributes=plain(attrs),
    )
    array[:] = values


def _texts(values: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    missing = pd.isna(values)
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    return np.array(["" if none else text for none, text in zip(missing, texts, strict=True)], dtype=object)


def _dates(time: pd.Index) -> tuple[npt.NDArray[np.int64], dict[str, str]]:
    """Dates as whole numbers, and what they count."""
    if isinstance(time, xr.CFTimeIndex):
        moment, calendar = time.asi8, str(time.calendar)
    else:
        moment, calendar = np.asarray(time).astype("datetime64[us]").astype(np.int64), GREGORIAN
    unit = next(unit for unit, size in _UNITS.items() if not (moment % size).any())
    return moment // _UNITS[unit], {"units": f"{unit} since 1970-01-01 00:00:00", "calendar": calendar}

"""NetCDF whose sites have dates of their own: the ragged and incomplete arrays of CF time series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.arrays import Opened, fixed_variables, holds_dates, names_of_sites, naming
from mptt.datamodules.reading.blocks import load
from mptt.datamodules.reading.places import Place
from mptt.errors import MPTTError

_COUNT, _INDEX = "sample_dimension", "instance_dimension"


def is_ragged(dataset: xr.Dataset) -> bool:
    """Whether sites lie one behind the other along one dimension, or have a row of dates each."""
    marked = any({_COUNT, _INDEX} & set(values.attrs) for values in dataset.variables.values())
    return marked or _rows_of_dates(dataset) is not None


def open_ragged(dataset: xr.Dataset, place: Place, site: str | Sequence[str] | None) -> Opened:
    """Find the sites, and the entries of each.

    Args:
        dataset: opened; with a variable of counts (`sample_dimension`), of the site of each entry
            (`instance_dimension`), or of dates (site, entry).
        place: where it is, for messages.
        site: the variable that names the sites; by default the one whose cf_role is timeseries_id.

    Raises:
        MPTTError: what there is does not fit together, or nothing names the sites.
    """
    sites_along, entries_along, entries, helper = _entries(dataset, place)
    if site is not None and not (isinstance(site, str) and site in dataset.variables):
        raise MPTTError(f"{place} has no variable {site!r} for the site; one on ({sites_along},) names them.")
    name = site if isinstance(site, str) else naming(dataset, sites_along)
    sites = names_of_sites(dataset, place, [sites_along], [name], "")
    time = _dates(dataset, place, entries_along)
    inside = {sites_along, entries_along}
    series = [
        str(key)
        for key, values in dataset.data_vars.items()
        if entries_along in values.dims
        and set(values.dims) <= inside
        and key not in (helper, time)
        and values.dtype.kind in "fiub"
    ]
    if not series:
        raise MPTTError(
            f"{place} has no variable of numbers on ({entries_along},); it has {listed(dataset.data_vars)}."
        )
    kept = dataset[[*series, time]].reset_coords(drop=False)[[*series, time]]
    position = {one: nth for nth, one in enumerate(sites)}

    def read(one: str) -> xr.Dataset:
        nth = position[one]
        where: dict[str, Any] = {sites_along: nth, entries_along: entries[nth]}
        return _one(load(kept.isel(where, missing_dims="ignore"), place), time, place, one)

    fixed = fixed_variables(dataset.drop_vars(helper) if helper else dataset, [sites_along], [name], sites)
    return Opened(sites, read, fixed, {str(key): str(value) for key, value in dataset.attrs.items()})


def _entries(dataset: xr.Dataset, place: Place) -> tuple[str, str, list[Any], str | None]:
    """The dimensions of sites and of entries, the entries of each site, and the variable that tells them."""
    if (found := _marked(dataset, _COUNT)) is not None:
        along, counts = str(dataset[found].attrs[_COUNT]), dataset[found].values.astype(np.int64)
        if along not in dataset.dims or counts.sum() != dataset.sizes[along]:
            raise MPTTError(f"{place}: {found} counts {counts.sum()} entries along {along}, of {dict(dataset.sizes)}.")
        ends = counts.cumsum()
        parts = [slice(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]
        return str(dataset[found].dims[0]), along, parts, found
    if (found := _marked(dataset, _INDEX)) is not None:
        along, of_entry = str(dataset[found].attrs[_INDEX]), dataset[found].values
        if along not in dataset.dims or not np.isin(of_entry, np.arange(dataset.sizes[along])).all():
            raise MPTTError(f"{place}: {found} speaks of sites that are not among the {dataset.sizes.get(along, 0)}.")
        rows = [np.flatnonzero(of_entry == nth) for nth in range(dataset.sizes[along])]
        return along, str(dataset[found].dims[0]), rows, found
    first, second = map(str, dataset[_rows_of_dates(dataset)].dims)
    return first, second, [slice(None)] * dataset.sizes[first], None


def _marked(dataset: xr.Dataset, mark: str) -> str | None:
    return next((str(name) for name, values in dataset.variables.items() if mark in values.attrs), None)


def _rows_of_dates(dataset: xr.Dataset) -> str | None:
    if any(values.ndim == 1 and holds_dates(values) for values in dataset.variables.values()):
        return None  # dates of steps, beside those of forecasts
    found = [str(name) for name, values in dataset.variables.items() if values.ndim == 2 and holds_dates(values)]
    bounds = {str({**values.encoding, **values.attrs}.get("bounds")) for values in dataset.variables.values()}
    found = [name for name in found if name not in bounds and not name.endswith(("_bnds", "_bounds"))]
    return found[0] if len(found) == 1 else None


def _dates(dataset: xr.Dataset, place: Place, along: str) -> str:
    found = [
        str(name)
        for name, values in dataset.variables.items()
        if along in values.dims and holds_dates(values) and not str(name).endswith(("_bnds", "_bounds"))
    ]
    if len(found) != 1:
        raise MPTTError(f"{place}: one variable along {along} must hold dates; {listed(found)} do(es).")
    return found[0]


def _one(part: xr.Dataset, time: str, place: Place, site: str) -> xr.Dataset:
    """One site's series on its dates, which go up; entries without a date are filling."""
    index = pd.Index(part[time].values) if part[time].dtype.kind == "M" else xr.CFTimeIndex(part[time].values)
    there = np.flatnonzero(~np.asarray(index.isna()))
    order = there[np.argsort(index[there], kind="stable")]
    dates = index[order]
    if dates.has_duplicates:
        raise MPTTError(f"{place}: site {site} has the date {dates[dates.duplicated()][0]} twice. Drop one of them.")
    values = {str(name): ("time", v.values[order], v.attrs) for name, v in part.data_vars.items() if name != time}
    return xr.Dataset(values, {"time": dates})

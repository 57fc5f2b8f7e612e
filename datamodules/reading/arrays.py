"""NetCDF and Zarr with dimensions of any names: which is the site, which the time, and one site's series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.blocks import BlockReader, load
from mptt.datamodules.reading.places import Place
from mptt.errors import MPTTError

SITE_NAMES = ("site", "site_id", "basin", "basin_id", "gauge", "gauge_id", "station", "station_id", "id")
_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A data set whose sites are known, its variables under the names of the file.

    Attributes:
        sites: their names.
        read: given a site's name, its variables on (time,).
        fixed: variables on (site,).
        about: what the file says of itself.
    """

    sites: list[str]
    read: Callable[[str], xr.Dataset]
    fixed: xr.Dataset
    about: dict[str, str]


def open_arrays(
    dataset: xr.Dataset, place: Place, stem: str, site: str | Sequence[str] | None, time: str | None
) -> Opened:
    """Find sites and time in a data set.

    Args:
        dataset: opened, its series not in memory.
        place: where it is, for messages.
        stem: name of the site, if there is one and the file does not name it.
        site: the dimension that counts sites, or the variable that names them; several dimensions make a grid, whose
            cells are sites. By default the only dimension beside time, or the one that is called so.
        time: the dimension, or the variable that dates the steps; by default the one that holds dates.

    Raises:
        MPTTError: a name that is not there, or several dimensions that might be meant.
    """
    dataset = _in_order(_with_time(dataset.drop_vars(_bounds(dataset)), place, time), place)
    dims, names = _site_dims(dataset, place, site)
    spare = [
        name for name, size in dataset.sizes.items() if size == 1 and name not in (*dims, "time")
    ]  # such as a height of 2 m
    dataset = dataset.squeeze(spare) if spare else dataset
    inside = {"time", *dims}
    series = [
        name
        for name, values in dataset.data_vars.items()
        if "time" in values.dims and set(values.dims) <= inside and values.dtype.kind in "fiub"
    ]
    odd = [
        f"{name} {values.dims}"
        for name, values in dataset.data_vars.items()
        if name not in series and ("time" in values.dims or set(values.dims) - inside)
    ]
    if odd:
        _log.info("%s: variables of other dimensions, or of no numbers, are left out: %s.", place, listed(odd))
    if not series:
        raise MPTTError(
            f"{place} has no variable on ({', '.join(dims) or 'site'}, time); it has"
            f" {listed(f'{name} {values.dims}' for name, values in dataset.data_vars.items())}. Say the dimensions with"
            " site=... and time=..."
        )
    sites = names_of_sites(dataset, place, dims, names, stem)
    kept = dataset[series].drop_vars([name for name in dataset.coords if name != "time"], errors="ignore")
    about = {str(name): str(value) for name, value in dataset.attrs.items()}
    return Opened(sites, _reader(kept, dims, sites, place), fixed_variables(dataset, dims, names, sites), about)


def _with_time(dataset: xr.Dataset, place: Place, time: str | None) -> xr.Dataset:
    """The data set with the dimension and index `time`, which holds dates."""
    dated = [str(name) for name, values in dataset.variables.items() if len(values.dims) == 1 and holds_dates(values)]
    if time is None:
        likely = [name for name in dated if name in dataset.dims] or dated
        named = [name for name in likely if name == "time" or dataset[name].attrs.get("axis") == "T"]
        chosen = named if len(likely) > 1 and len(named) == 1 else likely
        if len(chosen) != 1:
            found = f"several do: {', '.join(chosen)}" if chosen else "none does"
            raise MPTTError(
                f"{place}: one dimension must hold dates, and {found}. Its dimensions are"
                f" {listed(f'{name} ({dataset[name].dtype})' for name in dataset.dims)}. Say which with time=...;"
                " numbers are dates if their attribute `units` says 'days since ...'."
            )
        time = chosen[0]
        if time != "time":
            _log.info("%s: %s is taken for the time.", place, time)
    if time not in dataset.variables:
        raise MPTTError(f"{place} has no time variable {time!r}; dates are in {listed(dated)}.")
    if dataset[time].ndim != 1 or not holds_dates(dataset[time].variable):
        raise MPTTError(
            f"{place}: {time} holds {dataset[time].dtype} on {dataset[time].dims}, not dates; its attribute `units`"
            " must say 'days since ...'."
        )
    (dim,) = dataset[time].dims
    if "time" in dataset.variables and time != "time":
        dataset = dataset.drop_vars("time")
    if dim != time:
        dataset = dataset.swap_dims({dim: time})
    return dataset.rename({time: "time"}) if time != "time" else dataset


def _in_order(dataset: xr.Dataset, place: Place) -> xr.Dataset:
    """The data set with dates that go up, each once.

    Raises:
        MPTTError: a date is missing, or comes twice.
    """
    time = dataset.indexes["time"]
    if time.hasnans:
        raise MPTTError(f"{place}: the date of step {int(np.argmax(time.isna()))} is missing, counted from 0.")
    if time.is_monotonic_increasing and not time.has_duplicates:
        return dataset
    if time.has_duplicates:
        twice = time.duplicated()
        raise MPTTError(
            f"{place}: {int(twice.sum())} step(s) have the date of another, the first {time[twice][0]}. Drop the"
            " duplicates (xarray.Dataset.drop_duplicates('time'))."
        )
    return dataset.sortby("time")


def _bounds(dataset: xr.Dataset) -> list[str]:
    """The variables that hold the edges of the cells of others."""
    said = [{**values.encoding, **values.attrs}.get("bounds") for values in dataset.variables.values()]
    return [str(name) for name in dataset.data_vars if name in said or str(name).endswith(("_bnds", "_bounds"))]


def holds_dates(values: xr.Variable) -> bool:
    """Whether a variable holds dates, of any calendar."""
    if values.dtype.kind == "M":
        return True
    return values.dtype == object and values.size > 0 and hasattr(values[(0,) * values.ndim].values[()], "calendar")


def _site_dims(dataset: xr.Dataset, place: Place, site: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The dimensions that count sites, and the variables that name them."""
    if site is not None:
        names = [site] if isinstance(site, str) else list(site)
        if unknown := [name for name in names if name not in dataset.variables and name not in dataset.dims]:
            raise MPTTError(
                f"{place} has no dimension or variable {listed(unknown)} for the site; its dimensions are"
                f" {listed(name for name in dataset.dims if name != 'time')}."
            )
        dims = [
            str(dataset[name].dims[0]) if name in dataset.variables and dataset[name].ndim else name for name in names
        ]
        single = [name for name in names if name in dataset.variables and dataset[name].ndim == 0]
        return ([], single) if single else (dims, names)
    used = [values for values in dataset.data_vars.values() if "time" in values.dims]
    others = list(dict.fromkeys(str(dim) for values in used for dim in values.dims if dim != "time"))
    wide = [dim for dim in others if dataset.sizes[dim] > 1]
    called = [dim for dim in others if dim.casefold() in SITE_NAMES]
    # A single entry counts sites only where it is called so, or is a name: it may be a height or a place.
    texts = [dim for dim in others if dim in dataset.variables and dataset[dim].dtype.kind in "SUO"]
    chosen = called if len(called) == 1 else wide if wide else texts[:1]
    if len(chosen) > 1:
        raise MPTTError(
            f"{place}: which dimension is the site? Beside time there are {listed(chosen)}. Say it with site=..., or,"
            f" for a grid, site={chosen[:2]}."
        )
    if chosen and chosen[0] != "site":
        _log.info("%s: the dimension %s is taken for the site.", place, chosen[0])
    return chosen, [naming(dataset, chosen[0])] if chosen else []


def naming(dataset: xr.Dataset, dim: str) -> str:
    """What names the sites along a dimension: by its role, else the dimension's own variable, else text by its name."""
    along = {str(name): values for name, values in dataset.variables.items() if values.dims == (dim,)}
    by_role = [name for name, values in along.items() if values.attrs.get("cf_role") == "timeseries_id"]
    by_name = [name for name, values in along.items() if name.casefold() in SITE_NAMES and values.dtype.kind in "SUO"]
    return by_role[0] if by_role else by_name[0] if dim not in along and len(by_name) == 1 else dim


def names_of_sites(dataset: xr.Dataset, place: Place, dims: list[str], names: list[str], stem: str) -> list[str]:
    """The sites along some dimensions, named by a variable each.

    Raises:
        MPTTError: nothing names them.
    """
    if not dims:
        return [text_of(dataset[names[0]].values[()])] if names else [stem]
    for dim, name in zip(dims, names, strict=True):
        if name not in dataset.variables:
            texts = [str(key) for key, values in dataset.variables.items() if values.dims == (dim,)]
            raise MPTTError(
                f"{place}: the sites along {dim} have no names. Say which variable names them, with site=...; there are"
                f" {listed(texts)}."
            )
        if dataset[name].ndim != 1:
            raise MPTTError(f"{place}: {name} has the dimensions {dataset[name].dims}, so it cannot name sites.")
    columns = [[text_of(value) for value in dataset[name].values] for name in names]
    if len(columns) == 1:
        if bare := [nth for nth, name in enumerate(columns[0]) if name in ("", "nan", "None")]:
            raise MPTTError(f"{place}: {names[0]} names no site at {listed(map(str, bare))}, counted from 0.")
        return columns[0]
    sites = [""]
    for column in columns:
        sites = [f"{before}_{value}" if before else value for before in sites for value in column]
    return sites


def text_of(value: Any) -> str:
    """An id as text; a whole number without decimals."""
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _reader(kept: xr.Dataset, dims: list[str], sites: list[str], place: Place) -> Callable[[str], xr.Dataset]:
    if not dims:
        return lambda site: load(kept, place)
    return BlockReader(kept, dims, sites, place)


def fixed_variables(dataset: xr.Dataset, dims: list[str], names: list[str], sites: list[str]) -> xr.Dataset:
    """Variables that do not change in time, on (site,)."""
    kept = {}
    for key, values in dataset.variables.items():
        if "time" in values.dims or set(values.dims) - set(dims) or (str(key) in names and len(dims) < 2):
            continue
        if not values.dims and (values.attrs.get("grid_mapping_name") or values.dtype.kind not in "fiubSUO"):
            continue
        loaded = xr.Variable(values.dims, dataset[key].values, values.attrs)
        spread = loaded.set_dims({dim: dataset.sizes[dim] for dim in dims})
        flat = spread.transpose(*dims).values.reshape(len(sites))
        if flat.dtype.kind in "SUO":
            flat = np.array([text_of(value) if value is not None else "" for value in flat], dtype=np.str_)
        elif flat.dtype.kind in "fiub":
            flat = flat.astype(np.float32)
        else:
            continue
        kept[str(key)] = xr.Variable(("site",), flat, values.attrs)
    return xr.Dataset(kept, {"site": ("site", np.array(sites, dtype=np.str_))})

"""A data set written as a Zarr store, a group of sites at a time: it fits memory, and can be gone on with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from filelock import FileLock, Timeout

from mptt.datamodules.preparing.checks import as_float32, check_sites, listed
from mptt.datamodules.reading.axes import Axis
from mptt.datamodules.reading.places import name_of
from mptt.datamodules.reading.source import Source
from mptt.datamodules.storing.record import Outline, Record, plan_of
from mptt.datamodules.storing.writing import finish_store, start_store
from mptt.errors import MPTTError, MPTTWarning

Progress = Callable[[Sequence[str], str], Iterable[str]]

GROUP = 64  # sites whose series share a file, at most
_GROUP_BYTES = 128 * 2**20  # of their values, which are in memory at once


def convert(
    source: Source,
    out: str | Path,
    variables: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
    group: int | None = None,
    progress: Progress = lambda sites, _: sites,
) -> Path:
    """Write a data set as a Zarr store (format 3) with dimensions (site, time), which `SeriesDataModule` reads.

    Series are float32, missing NaN. A chunk is one site's whole series, compressed with zstd; the chunks of a group of
    sites stand in one file (a shard). Units, long names, attributes, licence and references are kept; dates are whole
    numbers of days, seconds or microseconds in their calendar.

    Each site is read twice, unless the source knows dates and names without values: for those, then for its values; no
    more than a group is in memory. All goes into `OUT.partial`, which becomes OUT at the end. After an interruption the
    same call goes on: sites of finished groups are not read again. Of two processes that write one OUT at once the
    second is refused.

    Args:
        source: the data set.
        out: path of the store.
        variables: names to keep, of series and attributes; by default all.
        overwrite: whether to replace a store that is there.
        group: sites in a file; by default 64, or as many as 128 MiB hold.
        progress: given the names of sites and what is done with them, yields them one by one.

    Returns:
        The path of the store.

    Raises:
        MPTTError: something is there already, unfinished from another source, or written by another process; a variable
            that is not there, is not numeric, or whose units differ from site to site; the disk is full; what reading
            raises.

    Example:
        >>> import tempfile
        >>> from mptt.datamodules.store import store_source
        >>> time = np.arange(3).astype("datetime64[D]").astype("datetime64[s]")
        >>> small = xr.Dataset({"flow": (("site", "time"), [[1.0, 2.0, 3.0]])}, {"site": ["a"], "time": time})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     small.to_netcdf(f"{folder}/small.nc")
        ...     path = convert(store_source(f"{folder}/small.nc"), f"{folder}/small.zarr")
        ...     xr.open_dataset(path, engine="zarr")["flow"].values
        array([[1., 2., 3.]], dtype=float32)
    """
    path = _place(out, source)
    check_sites(source.sites)
    with _telling_how_to_go_on(path), _alone(path):
        _refuse_present(path, overwrite)
        record = Record(path.with_name(path.name + ".partial"), plan_of(source, variables, group))
        for site in progress([site for site in source.sites if site not in record.outlines], "dates"):
            record.add(site, Outline.of(site, source.outlined(site, variables)))
        outlines = {site: record.outlines[site] for site in source.sites}
        attributes = source.attributes
        if variables is not None:
            attributes = attributes[[name for name in attributes.data_vars if name in variables]]
        series = _described(outlines)
        _check_names(source, series, attributes, variables)
        axis = source.axis({site: outline.period for site, outline in outlines.items()})
        size = min(group or _fitting(len(series), len(axis.index)), len(source.sites))
        groups = [source.sites[begin : begin + size] for begin in range(0, len(source.sites), size)]
        done = record.finished
        stored = _stored_names([*series, *map(str, attributes.data_vars)])
        if not done:
            described = {stored[name]: _called(attrs, name) for name, attrs in series.items()}
            fixed = xr.Dataset({stored[str(n)]: _named(v.variable, str(n)) for n, v in attributes.data_vars.items()})
            start_store(record.store, source.sites, axis.index, described, fixed, _about(source), size)
        store = zarr.open_group(record.store, mode="r+")
        sites = iter(progress([site for part in groups[done:] for site in part], "values"))
        for nth, part in enumerate(groups[done:], start=done):
            tables = ((next(sites), source.chosen(site, variables)) for site in part)
            for name, values in _together(tables, len(part), axis, series, source).items():
                _array(store, stored[name])[nth * size : nth * size + len(part)] = values
            record.finish(nth + 1)
        finish_store(record.store)
        record.hand_over(path)
    return path


def _place(out: str | Path, source: Source) -> Path:
    if "://" in str(out):
        raise MPTTError(f"A store is written to a local path; found {out}. Write it here, then copy the folder there.")
    path = Path(out).resolve()
    origin = source.path.resolve() if isinstance(source.path, Path) else None
    if origin is not None and (path == origin or path in origin.parents):
        raise MPTTError(f"The store at {path} would replace what it is made from, {origin}; choose another path.")
    return path


def _refuse_present(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise MPTTError(f"There is something at {path} already; choose another path, or replace it with --overwrite.")
    if path.exists() and not (path / "zarr.json").is_file():
        raise MPTTError(f"{path} is no Zarr store (it has no zarr.json), and is not replaced; remove it yourself.")


@contextmanager
def _telling_how_to_go_on(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MPTTError(
            f"Writing {path} stopped: {error}. What is finished is kept in {path.name}.partial beside it; once there is"
            " room, or the cause is gone, the same line goes on from there."
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing a store; where this one ends, in whatever way, they may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise MPTTError(
            f"Another process writes {path} at this moment; wait until it is done, or choose another path."
        ) from None


def _described(outlines: Mapping[str, Outline]) -> dict[str, dict[str, Any]]:
    """The series that any site has, with their attributes: each as at the first site that has it."""
    found: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    for site, outline in outlines.items():
        for name, attrs in outline.variables.items():
            there = found.setdefault(name, dict(attrs))
            at = first.setdefault(name, site)
            if there.get("units") != attrs.get("units"):
                raise MPTTError(
                    f"{name} is in {there.get('units')!r} at site {at} and in {attrs.get('units')!r} at site {site};"
                    " bring them to one unit, or leave the variable out with --variables."
                )
    return found


def _stored_names(names: Sequence[str]) -> dict[str, str]:
    """The name of each variable in a store, where / would make a group of its own, which no reader looks into.

    Raises:
        MPTTError: two would have one name.
    """
    stored = {name: name.replace("/", "_") for name in names}
    if changed := {name: new for name, new in stored.items() if name != new}:
        if twice := [name for name, new in changed.items() if list(stored.values()).count(new) > 1]:
            raise MPTTError(
                f"A store cannot have / in names, and with _ in its place {listed(twice)} would be called as another"
                " variable is; leave one out with --variables."
            )
        warnings.warn(
            f"A store cannot have / in names: {listed(f'{name} is called {new}' for name, new in changed.items())}.",
            MPTTWarning,
            stacklevel=3,
        )
    return stored


def _called(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Attributes, with the name that a variable has where it comes from if it cannot keep it."""
    return {**attrs, "original_name": name} if "/" in name else dict(attrs)


def _named(variable: xr.Variable, name: str) -> xr.Variable:
    return xr.Variable(variable.dims, variable.values, _called(variable.attrs, name))


def _check_names(
    source: Source, series: Mapping[str, Any], attributes: xr.Dataset, variables: Sequence[str] | None
) -> None:
    kept = [str(name) for name in attributes.data_vars]
    if missing := [name for name in variables or () if name not in series and name not in kept]:
        there = [*series, *map(str, source.attributes.data_vars)]
        raise MPTTError(f"{source.path} has no variable {listed(missing)}. There are {listed(there, 40)}.")
    if not series:
        raise MPTTError(f"No series to write: of {source.path} only attributes are chosen, {listed(kept)}.")
    if both := sorted({"site", "time", *kept} & set(series)):
        raise MPTTError(f"The name of a series is also that of an attribute or dimension: {listed(both)}.")


def _fitting(variables: int, steps: int) -> int:
    """Sites in a group."""
    return max(1, min(GROUP, _GROUP_BYTES // (4 * variables * steps)))


def _about(source: Source) -> dict[str, Any]:
    made = f"converted by mptt from {source.kind}, {name_of(source.path)}"
    before = source.about.get("history")
    history = f"{before}\n{made}" if before else made
    return {**source.about, "Conventions": "CF-1.11", "featureType": "timeSeries", "history": history}


def _together(
    tables: Iterable[tuple[str, xr.Dataset]], count: int, axis: Axis, series: Mapping[str, Any], source: Source
) -> dict[str, npt.NDArray[np.float32]]:
    """(site, time) of each variable, at some sites."""
    values = {name: np.full((count, len(axis.index)), np.nan, np.float32) for name in series}
    for nth, (site, table) in enumerate(tables):
        places = axis.places(table.indexes["time"])
        if unknown := [str(name) for name in table.data_vars if name not in series]:
            raise MPTTError(f"{source.path} changed while it was read: {listed(unknown)} came up at site {site}.")
        for name, variable in table.data_vars.items():
            values[str(name)][nth, places] = _numbers(site, str(name), variable)
    return values


def _numbers(site: str, name: str, variable: xr.DataArray) -> npt.NDArray[np.float32]:
    if variable.dtype.kind not in "fiub":
        raise MPTTError(
            f"{name} at site {site} is not numeric ({variable.dtype}); leave it out, by naming the others in"
            " --variables."
        )
    numbers = as_float32(variable.values)
    if (beyond := np.isinf(numbers) & np.isfinite(variable.values)).any():
        entry = int(beyond.argmax())
        raise MPTTError(
            f"{name} at site {site} is {variable.values[entry]!r} on {variable.indexes['time'][entry]}, more than"
            " float32 holds; scale or correct it."
        )
    return numbers


def _array(store: zarr.Group, name: str) -> zarr.Array[Any]:
    array = store[name]
    assert isinstance(array, zarr.Array)
    return array

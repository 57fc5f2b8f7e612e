"""Series in files of any layout: NetCDF, Zarr, CSV, Parquet; one file, or a folder with a file a site."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.finding import find_files
from mptt.datamodules.reading.frames import TableForm
from mptt.datamodules.reading.joining import join_arrays, join_tables, only_sites
from mptt.datamodules.reading.places import place_of
from mptt.datamodules.reading.sitetable import read_site_table
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.translation import Translation
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning


class FilesDataModule(SeriesDataModule):
    """Series in files that somebody has: NetCDF, Zarr, CSV or Parquet, with names and units of their own.

    Nothing is converted beforehand. `read_files` says which layouts there are, and what each argument does; only the
    variables that are named as inputs, targets and attributes are read.

    Args:
        path: a file, a Zarr store, a folder with a file a site, a pattern as `data/*.csv`, or an address.
        inputs: variables (site, time), by their name after `names`.
        targets: likewise.
        attributes: variables (site,).
        site: what names the sites.
        time: what dates the steps.
        names: new names of variables, {name in the file: name here}.
        units: units wanted, {name here: unit}.
        units_in_file: units of variables that do not state them, or the wrong ones, {name here: unit}.
        missing: numbers that mean a missing value.
        sites: to keep, in their order; by default all.
        attributes_file: CSV with a row a site.
        calendar: of dates in CSV.
        time_format: of dates in CSV that are not ISO, as "%d.%m.%Y".
        separator: of CSV fields.
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    Example:
        >>> data = FilesDataModule(
        ...     "stations/*.csv",
        ...     inputs=["rain", "temperature"],
        ...     targets=["flow"],
        ...     names={"RR": "rain", "T2M": "temperature", "Q": "flow"},
        ...     units_in_file={"flow": "m3/s"},
        ...     units={"flow": "mm/day"},
        ...     attributes_file="stations.csv",
        ... )
        >>> data.input_size
        2
    """

    def __init__(
        self,
        path: str | Path,
        inputs: Sequence[str],
        targets: Sequence[str],
        attributes: Sequence[str] = (),
        site: str | Sequence[str] | None = None,
        time: str | None = None,
        names: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        units_in_file: Mapping[str, str] | None = None,
        missing: Sequence[float] = (),
        sites: Sequence[str] | None = None,
        attributes_file: str | Path | None = None,
        calendar: str = "standard",
        time_format: str | None = None,
        separator: str | None = None,
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.path = path
        self.reading: dict[str, Any] = {
            "site": site,
            "time": time,
            "names": names,
            "units": units,
            "units_in_file": units_in_file,
            "missing": missing,
            "sites": sites,
            "attributes_file": attributes_file,
            "calendar": calendar,
            "time_format": time_format,
            "separator": separator,
        }

    def load(self) -> xr.Dataset:
        """Read the variables that are needed, of the sites that have every input."""
        read = read_files(self.path, variables=self.needed, **self.reading)
        return self.usable(read, self.reading["sites"] is not None)


def read_files(
    path: str | Path,
    site: str | Sequence[str] | None = None,
    time: str | None = None,
    names: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    units_in_file: Mapping[str, str] | None = None,
    missing: Sequence[float] = (),
    sites: Sequence[str] | None = None,
    attributes_file: str | Path | None = None,
    calendar: str = "standard",
    time_format: str | None = None,
    separator: str | None = None,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read series in files of any layout, all in memory; the arguments are those of `files_source`.

    Cells of a grid without any value, as those at sea, are left out with a note.

    Returns:
        float32 variables on (site, time), on the union of the sites' periods, missing NaN; variables on (site,).

    Raises:
        MPTTError: as `files_source`; sites of different steps or calendars.
    """
    source = files_source(
        path,
        site,
        time,
        names,
        units,
        units_in_file,
        missing,
        sites,
        attributes_file,
        calendar,
        time_format,
        separator,
        variables,
    )
    dataset = source.dataset(variables)
    if site is None or isinstance(site, str) or not dataset.data_vars:
        return dataset
    series = [values for values in dataset.data_vars.values() if "time" in values.dims]
    filled = np.logical_or.reduce([np.isfinite(values.values).any(axis=1) for values in series])
    if filled.any() and not filled.all():
        warnings.warn(
            f"{int((~filled).sum())} of {len(filled)} cells hold no value, and are left out.", MPTTWarning, stacklevel=2
        )
        return dataset.isel(site=filled)
    return dataset


def files_source(
    path: str | Path,
    site: str | Sequence[str] | None = None,
    time: str | None = None,
    names: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    units_in_file: Mapping[str, str] | None = None,
    missing: Sequence[float] = (),
    sites: Sequence[str] | None = None,
    attributes_file: str | Path | None = None,
    calendar: str = "standard",
    time_format: str | None = None,
    separator: str | None = None,
    variables: Sequence[str] | None = None,
) -> Source:
    """Series in files of any layout, read a site at a time.

    - NetCDF or Zarr with the dimensions site and time, called anything; or (time,) alone, one site, whose name is the
      file's; or a grid, with `site=["lat", "lon"]`, whose cells are sites called "lat_lon".
    - CSV (or .tsv, .gz) and Parquet with a row a date, in any order: of one site, called as the file, or, with a column
      that names the site, of many. A table with a column a site is refused. CSV fields that are empty, NA or NaN are
      missing; dates are YYYY-MM-DD, with or without HH:MM:SS, or YYYYMMDD.
    - A folder, or a pattern, of such files of one kind: NetCDF with a site each, tables with one or many.

    Args:
        path: a file, a Zarr store, a folder, a pattern as `data/*.csv`, or an address that fsspec knows, as
            "s3://bucket/store.zarr" (which needs `mptt[s3]`).
        site: the dimension or column that names the sites, two for a grid; guessed where there is one candidate.
        time: the dimension, variable or column of dates; likewise.
        names: new names of variables, {name in the file: name here}; all else is called as `names` makes it.
        units: units wanted, {name: unit}; `convert_units` says what converts. The area that streamflow needs is the
            attribute `area`, in km2 if it states no unit.
        units_in_file: units of variables whose file does not state them, as CSV never does, or states the wrong one.
        missing: numbers that mean a missing value where the file does not say so, as -9999; compared after the
            unpacking of packed values.
        sites: to keep, in their order; by default all, in that of the file.
        attributes_file: CSV with a row a site, joined by id; its columns come before variables of the same name.
        calendar: of dates in tables: "noleap", "360_day" and so on.
        time_format: of dates in tables that are written in another way, as "%d.%m.%Y".
        separator: of CSV fields; by default comma, semicolon, tab or `|`, of which the header has most.
        variables: to read, others are left out; by default all that are numbers.

    Raises:
        MPTTError: nothing there, an empty folder, files of several kinds, a file that is not what its name says or that
            is cut short, names that might mean several things, units that do not convert.
    """
    names, units, units_in_file = dict(names or {}), dict(units or {}), dict(units_in_file or {})
    house = Translation(names, units, units_in_file, np.asarray(list(missing), np.float32))
    given: dict[str, Any] = {
        "site": site if site is None or isinstance(site, str) else list(site),
        "time": time,
        "names": names,
        "units": units,
        "units_in_file": units_in_file,
        "missing": [float(number) for number in missing],
        "sites": None if sites is None else list(sites),
        "attributes_file": None if attributes_file is None else str(attributes_file),
        "calendar": None if calendar == "standard" else calendar,
        "time_format": time_format,
        "separator": separator,
    }
    table = None if attributes_file is None else place_of(attributes_file)
    place = place_of(path)
    kind, files = find_files(place, table)
    if kind in ("netcdf", "zarr"):
        opened = join_arrays(files, site, time)
    else:
        if not (site is None or isinstance(site, str)):
            raise MPTTError(f"{place}: a table has one column that names the site; found site={list(site)}.")
        columns = None if variables is None else house.called(variables)
        opened = join_tables(files, TableForm(site, time, calendar, time_format, separator, columns))
    if sites is not None:
        opened = only_sites(opened, place, list(sites))
    fixed = opened.fixed
    if table is not None:
        column = site if isinstance(site, str) else None
        fixed = fixed.assign(read_site_table(table, opened.sites, column).data_vars)
    house.check(place, opened, fixed, variables)
    fixed = house.attributes(fixed)

    told: set[str] = set()  # variables that were warned of

    def read(name: str) -> xr.Dataset:
        series = opened.read(name)
        if variables is not None:  # not by choosing them: without any, the dates would be gone
            series = series.drop_vars(set(map(str, series.data_vars)) - house.called(variables))
        if likely := {key: value for key, value in house.missing_marks(series).items() if key not in told}:
            told.update(likely)
            warnings.warn(
                f"{place}: values that often mean a missing one are read as numbers, at site {name}:"
                f" {listed(f'{key} ({value:g})' for key, value in likely.items())}. If they are none, say"
                f" missing=[{', '.join(sorted({f'{value:g}' for value in likely.values()}))}].",
                MPTTWarning,
                stacklevel=4,
            )
        return house.series(series, fixed, name)

    about = {"title": str(path), **opened.about, "source": str(path)}
    said = {key: value for key, value in given.items() if value not in (None, {}, [])}
    settings = {"class_path": "FilesDataModule", "init_args": {"path": str(path), **said}}
    return Source("files", place, opened.sites, read, fixed, about, settings)


def recognise(path: Path) -> bool:
    """Whether there are files that might be read, of one kind."""
    try:
        find_files(path)
    except MPTTError:
        return False
    return True


LAYOUT = Layout("files", "NetCDF, Zarr, CSV or Parquet of any names (site, time)", recognise, files_source)

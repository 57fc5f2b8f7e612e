"""Several files as one data set: arrays of a site each, tables of one site or with a column of sites."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import check_sites, listed
from mptt.datamodules.reading.arrays import Opened, open_arrays
from mptt.datamodules.reading.finding import stem_of
from mptt.datamodules.reading.frames import Table, TableForm, read_table
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.reading.places import Place
from mptt.datamodules.reading.ragged import is_ragged, open_ragged
from mptt.datamodules.reading.translation import put_together
from mptt.errors import MPTTError
from mptt.hdf5 import expect_hdf5

_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|2[0-2])\d\d(?!\d)")


def join_arrays(files: Sequence[Place], site: str | Sequence[str] | None, time: str | None) -> Opened:
    """One NetCDF file or Zarr store, or one a site.

    Raises:
        MPTTError: of several one holds many sites, two hold one site, or each holds a year.
    """

    def opened(place: Place) -> Opened:
        dataset = open_dataset(str(place))
        if is_ragged(dataset):
            return open_ragged(dataset, place, site)
        return open_arrays(dataset, place, stem_of(place), site, time)

    if len(files) == 1:
        return opened(files[0])
    expect_hdf5(place for place in files if isinstance(place, Path) and place.is_file())
    place_by_site: dict[str, Place] = {}
    fixed, about = [], {}
    for place in files:
        one = opened(place)
        if len(one.sites) > 1:
            raise MPTTError(
                f"{place} holds {len(one.sites)} sites; of several files each has one. Join them first"
                " (xarray.open_mfdataset), or give one of them."
            )
        (name,) = one.sites
        if name in place_by_site:
            raise MPTTError(
                f"Site {name} has two files, {place_by_site[name]} and {place}. Join them (xarray.open_mfdataset), or"
                " leave one out."
            )
        place_by_site[name], about = place, one.about
        fixed.append(one.fixed)

    def read(name: str) -> xr.Dataset:
        series = opened(place_by_site[name]).read(name)
        _check_years(place_by_site, name, series.indexes["time"])
        return series

    return Opened(list(place_by_site), read, put_together(fixed), about)


def join_tables(files: Sequence[Place], form: TableForm) -> Opened:
    """Tables of one site each, or with a column that names the site.

    Raises:
        MPTTError: tables of both kinds, two of one site and date, or each of a year.
    """
    first = read_table(files[0], form)
    if first.site is None:
        places = {stem_of(place): place for place in files}
        if len(places) < len(files):
            raise MPTTError(f"Two files name one site: {listed(map(str, files))}. Rename one, or leave it out.")

        def of_file(site: str) -> xr.Dataset:
            place = places[site]
            table = first if place == files[0] else read_table(place, form)
            if table.site is not None:
                raise MPTTError(f"{place} has a column of sites and {files[0]} has none; read them apart.")
            _check_years(places, site, table.time)
            return table.of(site)

        return Opened(list(places), of_file, _no_attributes(list(places)), {})

    where: dict[str, list[Table]] = {}
    for table in [first, *(read_table(place, form) for place in files[1:])]:
        if table.site is None:
            raise MPTTError(f"{table.place} has no column of sites and {files[0]} has one; read them apart.")
        for name in dict.fromkeys(table.site.tolist()):
            where.setdefault(name, []).append(table)

    def of_rows(site: str) -> xr.Dataset:
        parts = [table.of(site) for table in where[site]]
        if len(parts) == 1:
            return parts[0]
        joined = xr.concat(parts, "time", data_vars="all", join="outer").sortby("time")
        if joined.indexes["time"].has_duplicates:
            twice = joined.indexes["time"][joined.indexes["time"].duplicated()][0]
            raise MPTTError(f"Site {site} has {twice} in two of {listed(str(table.place) for table in where[site])}.")
        return joined

    sites = sorted(where)
    return Opened(sites, of_rows, _no_attributes(sites), {})


def only_sites(opened: Opened, place: Place, sites: list[str]) -> Opened:
    """The data set with these sites, in this order.

    Raises:
        MPTTError: one that is not there, or twice.
    """
    check_sites(sites)
    if unknown := [site for site in sites if site not in set(opened.sites)]:
        raise MPTTError(f"{place} has no site {listed(unknown)}. There are {listed(opened.sites)}.")
    return opened._replace(sites=sites, fixed=opened.fixed.sel(site=sites))


def _check_years(places: Mapping[str, Place], site: str, time: pd.Index) -> None:
    """Refuse files that are the years of one site, which their names would make sites."""
    years = {int(year) for year in _YEAR.findall(site)}
    others = [name for name in places if name != site and _YEAR.sub("", name) == _YEAR.sub("", site)]
    if others and len(time) > 1 and {int(date.year) for date in (time[0], time[-1])} in [{year} for year in years]:
        raise MPTTError(
            f"{places[site]} and {listed(str(places[name]) for name in others)} look like the years of one site, since"
            f" the dates of the first all lie in {time[0].year}. Join them into one file a site, called as the site; a"
            " table may instead have a column `site`."
        )


def _no_attributes(sites: list[str]) -> xr.Dataset:
    return xr.Dataset(coords={"site": ("site", np.array(sites, dtype=np.str_))})

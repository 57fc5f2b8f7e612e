"""A data set on disk that is read a site at a time, whatever its layout."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import ONLY_CHOSEN, check_sites, listed, site_names
from mptt.datamodules.reading.axes import Axis, Period, periods_of
from mptt.datamodules.reading.blocks import BlockReader, load
from mptt.errors import MPTTError, MPTTWarning

# The argument with which a DataModule chooses sites, where it is not `sites`; "" where it has none.
_CHOOSES = {"SeriesDataModule": "", "SWATDataModule": "", "CAMELSUSDataModule": "basins"}


@dataclass(frozen=True)
class Source:
    """A data set on disk.

    Attributes:
        kind: what it is, such as "CAMELS-US".
        path: its folder or file, or an address.
        sites: their names, in order.
        read: given a site's name, reads its variables on (time,), missing values NaN, with `units` and `long_name`;
            dates go up and are datetime64[s], or cftime where the calendar is another.
        attributes: variables on (site,), of the same sites in the same order; numbers float32, missing NaN; text,
            missing "".
        about: title, source, license, references.
        settings: class_path and init_args of the DataModule that reads it, for a configuration.
        glance: as `read`, but values may be left on disk; where dates and names are known without them.
    """

    kind: str
    path: Path | str
    sites: Sequence[str]
    read: Callable[[str], xr.Dataset]
    attributes: xr.Dataset
    about: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    glance: Callable[[str], xr.Dataset] | None = None

    def dataset(self, variables: Sequence[str] | None = None) -> xr.Dataset:
        """All sites together, joined by date, in memory.

        Args:
            variables: names to keep, of series and attributes; a name that is not there is left for `SeriesDataModule`
                to refuse. By default all.

        Returns:
            float32 variables on (site, time), NaN where a site has no such date or variable; variables on (site,).

        Raises:
            MPTTError: sites of different calendars or steps, no site, and what reading raises.
        """
        check_sites(self.sites)
        tables = {site: self.chosen(site, variables) for site in self.sites}
        axis = self.axis({site: table.indexes["time"] for site, table in tables.items()})
        shape = len(tables), len(axis.index)
        filled: dict[str, xr.Variable] = {}
        for nth, site in enumerate(self.sites):
            table = tables.pop(site)
            places = axis.places(table.indexes["time"])
            for name, values in table.data_vars.items():
                if name not in filled:
                    filled[str(name)] = xr.Variable(("site", "time"), np.full(shape, np.nan, np.float32), values.attrs)
                filled[str(name)].values[nth, places] = values.values
        there = [name for name in self.attributes.data_vars if variables is None or name in variables]
        kept = {name: self.attributes[name].variable for name in there}
        coords = {"site": ("site", np.array(list(self.sites), dtype=np.str_)), "time": axis.index}
        dataset = xr.Dataset({**filled, **kept}, coords).assign_attrs(self.about)
        dataset.encoding = {} if variables is None else {ONLY_CHOSEN: True}
        return dataset

    def axis(self, times: Mapping[str, pd.Index | Period]) -> Axis:
        """The time axis of all sites, given the dates of each; warns of dates that a site lacks inside its period."""
        periods = periods_of(times)
        axis = Axis.over(periods)
        gaps = [f"{site} ({absent})" for site, period in periods.items() if (absent := axis.absent(period))]
        if gaps:
            warnings.warn(
                f"{len(gaps)} of {len(periods)} site(s) lack dates inside their period, whose values are missing then:"
                f" {listed(gaps)}.",
                MPTTWarning,
                stacklevel=3,
            )
        return axis

    def chosen(self, site: str, variables: Sequence[str] | None = None) -> xr.Dataset:
        """One site's series, all or only these variables."""
        return self._only(self.read(site), variables)

    def outlined(self, site: str, variables: Sequence[str] | None = None) -> xr.Dataset:
        """The same, of which only dates, names and attributes are good."""
        return self._only((self.glance or self.read)(site), variables)

    def _only(self, table: xr.Dataset, variables: Sequence[str] | None) -> xr.Dataset:
        # Not by choosing them: without any, the dates would be gone.
        return (
            table if variables is None else table.drop_vars([name for name in table.data_vars if name not in variables])
        )

    def choose(self, sites: Sequence[str]) -> Source:
        """The same data set with only these sites, in this order.

        Raises:
            MPTTError: one that is not there, or twice.
        """
        check_sites(sites)
        if unknown := [site for site in sites if site not in set(self.sites)]:
            raise MPTTError(f"{self.path} has no site {listed(unknown)}. There are {listed(self.sites)}.")
        position = {site: nth for nth, site in enumerate(self.sites)}
        kept = self.attributes.isel(site=[position[site] for site in sites])
        settings = dict(self.settings)
        # Where the DataModule can choose sites, its configuration chooses these.
        if word := _CHOOSES.get(settings.get("class_path", "SeriesDataModule"), "sites"):
            settings["init_args"] = {**settings["init_args"], word: list(sites)}
        return Source(self.kind, self.path, list(sites), self.read, kept, self.about, settings, self.glance)


def source_of(dataset: xr.Dataset, kind: str, path: Path | str, settings: Mapping[str, Any] | None = None) -> Source:
    """The source of an opened data set with dimensions (site, time): series are read when they are asked for."""
    sites = site_names(dataset)
    # Stores that name their coordinates have latitude and longitude among them.
    dataset = dataset.reset_coords([name for name in dataset.coords if name not in ("site", "time")])
    series = dataset[[name for name, values in dataset.data_vars.items() if set(values.dims) == {"site", "time"}]]
    fixed = load(dataset[[name for name, values in dataset.data_vars.items() if values.dims == ("site",)]], path)
    series = series.drop_vars("site")
    return Source(
        kind,
        path,
        sites,
        BlockReader(series, ["site"], sites, path),
        fixed.assign_coords(site=sites),
        {str(name): str(value) for name, value in dataset.attrs.items()},
        settings or {},
        lambda _: series.isel(site=0),
    )


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk.

    Attributes:
        name: for the command line, such as "camels_us".
        summary: a line that says what it is.
        recognise: whether a path holds it; looks at names, not into series.
        source: opens it, given the path and options of its own.
    """

    name: str
    summary: str
    recognise: Callable[[Path], bool]
    source: Callable[..., Source]

"""CAMELS-CH and CAMELS-GB: daily weather, streamflow and attributes of Swiss and British basins, as published."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.formats.camels_countries import COUNTRIES, Country
from mptt.datamodules.preparing.checks import check_choice, listed
from mptt.datamodules.reading.attributes import attribute_table, joined, variables_on_sites
from mptt.datamodules.reading.choosing import Sites, chosen_sites, named_sites
from mptt.datamodules.reading.daily import read_daily_csv
from mptt.datamodules.reading.places import hidden
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.tables import described
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning

_WITH_UNIT = re.compile(r"(.*?)\s*\(([^()]*)\)")
_SAME = {"mm/d": "mm/day", "°C": "degC", "W/m^2": "W/m2", "m^3/s": "m3/s"}


class CAMELSDataModule(SeriesDataModule):
    """Streamflow or snow of CAMELS-CH or CAMELS-GB basins from daily weather.

    CAMELS-CH holds 331 basins of hydrologic Switzerland, 33 of them lakes, 1981 to 2020; CAMELS-GB 671 of Great
    Britain, October 1970 to September 2015. Neither is downloaded here; get them from doi:10.5281/zenodo.7784632 and
    doi:10.5285/8344e4f3-d2ea-44f5-8afa-86d2987543a9 and lay them out as published::

        root/time_series/observation_based/CAMELS_CH_obs_based_<id>.csv
        root/time_series/simulation_based/CAMELS_CH_sim_based_<id>.csv              only with simulated=True
        root/static_attributes/CAMELS_CH_<group>_attributes[_obs].csv

        root/timeseries/CAMELS_GB_hydromet_timeseries_<id>_19701001-20150930.csv
        root/CAMELS_GB_<group>_attributes.csv

    Both may lie in a folder of the root instead, as `data`. What both have has one name: streamflow (mm/day), discharge
    (m3/s), precipitation (mm/day), temperature (daily mean, degC). CAMELS-CH also: temperature_min and temperature_max
    (degC), rel_sun_dur (%), waterlevel (m), swe (snow water equivalent, mm, from 1998-09-02 on). CAMELS-GB also: pet
    and peti (mm/day), humidity (g/kg), shortwave_rad and longwave_rad (W/m2), windspeed (m/s). Attributes keep the
    names of their columns.

    In CAMELS-CH lakes have no streamflow, basins abroad partly no temperature; the channels 2446 and 2447 flow both
    ways, and their negative streamflow is kept. Its authors advise to leave out lakes, these two, and 2327. Attributes
    of the files hydrology (CH) and hydrologic (GB) are made from the streamflow of all years: as inputs they tell a
    model of the test period.

    Args:
        root: the folder.
        country: "ch" or "gb"; by default the one whose files are there.
        sites: gauge ids, as "2161", or the path of a text file with one a line. By default all, but those that have no
            value of an input or of any target: a warning names them. One asked for, here or in `site_split`, must have
            all inputs.
        simulated: also the simulated series of CAMELS-CH, whose names end in _sim.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,).
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Höge et al. (2023), doi:10.5194/essd-15-5755-2023 (CH); Coxon et al. (2020), doi:10.5194/essd-12-2459-2020 (GB).

    Example:
        >>> CAMELSDataModule("camels_ch", sites=["2161"], attributes=["area"]).input_size
        3
    """

    def __init__(
        self,
        root: str | Path,
        country: str | None = None,
        sites: Sequence[str | int] | str | Path | None = None,
        simulated: bool = False,
        inputs: Sequence[str] = ("precipitation", "temperature"),
        targets: Sequence[str] = ("streamflow",),
        attributes: Sequence[str] = (),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.root, self.country, self.sites_chosen, self.simulated = root, country, sites, simulated

    def load(self) -> xr.Dataset:
        """Read the variables that are needed, of the sites that have them."""
        dataset = camels_source(self.root, self.country, self.sites_chosen, self.simulated, self.needed).dataset(
            self.needed
        )
        return self.usable(dataset, self.sites_chosen is not None)


def read_camels(
    root: str | Path, country: str | None = None, sites: Sites = None, simulated: bool = False
) -> xr.Dataset:
    """Read CAMELS-CH or CAMELS-GB basins from the files as published, all of them into memory.

    Files are joined by gauge id and by date, whatever the order of rows. Streamflow in mm/day is that of the file;
    where the file has none, it is made from the discharge in m3/s and the attribute area. Columns that are not listed
    in `camels_countries.py` are read under their own names. An attribute that a site lacks is NaN, or "" if it is text.

    Args:
        root: the folder; `CAMELSDataModule` shows the layouts.
        country: "ch" or "gb"; by default the one whose files are there.
        sites: gauge ids, kept in their order, or the path of a text file with one a line; by default all, sorted.
        simulated: also the simulated series of CAMELS-CH, and the attributes made from them; their names end in _sim.

    Returns:
        float32 variables on (site, time); attributes on (site,), float32 or text. Time is datetime64[s].

    Raises:
        MPTTError: no such files, or those of both countries; no such site; a file is cut short, binary, has a line that
            is no row of the table, a date twice, no row a day, or a unit other than that of the data set; attribute
            files contradict each other.
    """
    return camels_source(root, country, sites, simulated).dataset()


def camels_source(
    root: str | Path,
    country: str | None = None,
    sites: Sites = None,
    simulated: bool = False,
    variables: Collection[str] | None = None,
) -> Source:
    """CAMELS-CH or CAMELS-GB on disk, read a site at a time; arguments as of `read_camels`.

    Args:
        root: the folder.
        country: "ch" or "gb".
        sites: gauge ids, or the path of a list.
        simulated: also the simulated series of CAMELS-CH.
        variables: series to read out of the files; by default all.
    """
    root = Path(root)
    found, home = _find(root, country)
    files = _series(home, found.series, found.site)
    simulations: dict[str, Path] = {}
    if simulated:
        if found.simulated_site is None:
            raise MPTTError(f"{found.title} has no simulated series; leave out simulated=True.")
        simulations = _series(home, found.simulated_series, found.simulated_site)
    named = named_sites(sites)
    chosen = chosen_sites(named, sorted(files), root)
    if simulated and (absent := [site for site in chosen if site not in simulations]):
        warnings.warn(
            f"{len(absent)} of {len(chosen)} sites have no simulated series: {listed(absent)}.",
            MPTTWarning,
            stacklevel=3,
        )
    attributes = _attributes(home, found, chosen, simulated)
    areas = dict(zip(chosen, attributes["area"].values.tolist(), strict=True)) if "area" in attributes else {}

    def read(site: str) -> xr.Dataset:
        tables = [_read(files[site], found, areas.get(site, np.nan), variables)]
        tables += [_read(simulations[site], found, np.nan, variables)] if site in simulations else []
        return xr.merge(tables, join="outer", compat="no_conflicts", combine_attrs="override")

    return Source(
        found.title,
        root,
        chosen,
        read,
        xr.Dataset(attributes, {"site": np.array(chosen, dtype=np.str_)}),
        {
            "title": f"{found.title}, {len(chosen)} basins",
            "source": str(root),
            "license": found.licence,
            "references": f"{found.references}; data: doi:{found.doi}",
        },
        {
            "class_path": "CAMELSDataModule",
            "init_args": {"root": str(root), "country": found.code, "sites": named, "simulated": simulated},
        },
    )


def _homes(root: Path) -> list[Path]:
    """The root, and folders in it down to the second level."""
    if not root.is_dir():
        return []
    inside = [path for depth in ("*", "*/*") for path in sorted(root.glob(depth)) if path.is_dir()]
    return [root, *(path for path in inside if not hidden(path))]


def _countries(root: Path) -> dict[str, list[Path]]:
    """The folders that have files of each country."""
    found: dict[str, list[Path]] = {}
    for code, country in COUNTRIES.items():
        for home in _homes(root):
            files = (path for pattern in country.series for path in home.glob(pattern))
            if any(country.site.fullmatch(path.name) for path in files):
                found.setdefault(code, []).append(home)
    return found


def _find(root: Path, code: str | None) -> tuple[Country, Path]:
    if code is not None:
        check_choice("country", code, tuple(COUNTRIES))
    found = _countries(root)
    codes = [code] if code in found else sorted(found) if code is None else []
    if not codes:
        wanted = [COUNTRIES[code]] if code else list(COUNTRIES.values())
        like = " or ".join(f"{country.series[0]} of {country.title}" for country in wanted)
        there = listed(sorted(path.name for path in root.iterdir())) if root.is_dir() else "nothing to look into"
        raise MPTTError(
            f"No files {like} in {root} (looked from {Path.cwd()}), nor in folders inside it; found {there}. Give the"
            " folder that has them as root."
        )
    if len(codes) > 1:
        raise MPTTError(f"{root} holds the data of {len(codes)} countries; say which, with country={codes[0]!r}.")
    if len(homes := found[codes[0]]) > 1:
        raise MPTTError(f"{root} holds the data more than once, in {listed(homes)}; give one of them as root.")
    return COUNTRIES[codes[0]], homes[0]


def _series(home: Path, patterns: Sequence[str], site: re.Pattern[str]) -> dict[str, Path]:
    """The file of each site; a warning names others that lie there."""
    files: dict[str, Path] = {}
    odd = []
    for path in sorted(path for pattern in patterns for path in home.glob(pattern)):
        match = site.fullmatch(path.name)
        if match is None:
            odd += [] if hidden(path) else [path.name]
        elif match[1] in files:
            raise MPTTError(f"Site {match[1]} has two files, {files[match[1]]} and {path}; keep one of them.")
        else:
            files[match[1]] = path
    if odd:
        warnings.warn(
            f"{len(odd)} file(s) among the series in {home} are of no site, by their names, and left out:"
            f" {listed(odd)}.",
            MPTTWarning,
            stacklevel=4,
        )
    return files


def _read(path: Path, country: Country, area: float, chosen: Collection[str] | None) -> xr.Dataset:
    """One file; streamflow is added where only the discharge is there."""

    def wanted(column: str) -> bool:
        name = country.columns.get(_plain(column)[0], _plain(column))[0]
        return chosen is None or name in chosen or (name == "discharge" and "streamflow" in chosen)

    table = read_daily_csv(path, country.date, lambda column: _plain(column)[0] in country.columns, wanted)
    variables: dict[str, Any] = {}
    for column, values in table.columns.items():
        name, units, meaning = _named(path, column, country)
        if name in variables:
            raise MPTTError(f"{path} has more than one column for {name}. Remove one of them.")
        variables[name] = ("time", values, described(units, meaning))
    if "discharge" in variables and "streamflow" not in variables:
        if np.isfinite(area) and area > 0:
            depth = (variables["discharge"][1] * np.float64(86.4 / area)).astype(np.float32)
            variables["streamflow"] = ("time", depth, described("mm/day", country.columns["discharge_spec"][2]))
        else:
            warnings.warn(
                f"{path} has the discharge in m3/s only, and there is no attribute area to make streamflow in mm/day;"
                " it has no streamflow.",
                MPTTWarning,
                stacklevel=2,
            )
    return xr.Dataset(variables, {"time": ("time", table.days)})


def _named(path: Path, column: str, country: Country) -> tuple[str, str, str]:
    """Variable, units and long name of a column."""
    plain, said = _plain(column)
    if plain not in country.columns:
        return plain, said, plain
    name, units, meaning = country.columns[plain]
    if said not in ("", units, country.misnamed.get(plain)):
        raise MPTTError(f"{path}: the column {column} is in {said}; in {country.title} {plain} is in {units}.")
    return name, units, meaning


def _plain(column: str) -> tuple[str, str]:
    """A column's name and the units in brackets after it."""
    match = _WITH_UNIT.fullmatch(column)
    return (match[1], _SAME.get(match[2], match[2])) if match else (column, "")


def _attributes(home: Path, country: Country, sites: Sequence[str], simulated: bool) -> dict[str, xr.Variable]:
    """All attributes of the sites; a warning names sites that lack some, and files that are no tables."""
    tables, without = {}, []
    numbers = {name for name, (units, _) in country.about.items() if units}
    groups = [(pattern, "") for pattern in country.attributes]
    groups += [(pattern, "_sim") for pattern in country.simulated_attributes if simulated]
    for pattern, suffix in groups:
        for path in sorted(home.glob(pattern)):
            table = attribute_table(path, country.key, numbers)
            if table is None:
                without.append(path.name)
            else:
                tables[path] = table.add_suffix(suffix)
    said = [f"attribute files without a column {country.key} are left out: {listed(without)}"] if without else []
    said += [f"there is no attribute file {country.attributes[0]} in {home}"] if not tables else []
    absent = _absent(tables, sites)
    said += [f"{len(absent)} of {len(sites)} sites lack attributes: {listed(absent)}"] if absent else []
    if said:
        warnings.warn(f"{country.title}: {'; '.join(said)}.", MPTTWarning, stacklevel=4)
    texts = {**country.about, **{f"{name}_sim": about for name, about in country.about.items()}}
    return variables_on_sites(joined(tables), sites, texts, country.words)


def _absent(tables: Mapping[Path, pd.DataFrame], sites: Sequence[str]) -> list[str]:
    """Sites that a file lacks, with its name."""
    return [
        f"{site} (not in {path.name})" for path, table in tables.items() for site in sites if site not in table.index
    ]


LAYOUT = Layout(
    "camels",
    "CAMELS-CH or CAMELS-GB: weather, streamflow and attributes of basins",
    lambda path: bool(_countries(path)),
    camels_source,
)

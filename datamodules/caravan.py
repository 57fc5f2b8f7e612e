"""Caravan: daily weather, streamflow and attributes of basins all over the world, and its extensions."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.formats.caravan_files import FORMATS, find_sources, homes, read_attribute_files, series_files
from mptt.datamodules.formats.caravan_series import (
    DAY,
    check_finite,
    dimension,
    loaded,
    read_series,
    said_about,
    timezone_of,
)
from mptt.datamodules.formats.caravan_variables import ATTRIBUTES, WORDS, about_attribute
from mptt.datamodules.preparing.checks import check_choice, listed, site_names
from mptt.datamodules.reading.attributes import variables_on_sites
from mptt.datamodules.reading.choosing import Sites, chosen_sites, named_sites
from mptt.datamodules.reading.daily import sorted_days
from mptt.datamodules.reading.markers import without_markers
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.reading.source import Layout, Source, source_of
from mptt.datamodules.reading.tables import described
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning
from mptt.hdf5 import check_hdf5, expect_hdf5

Format = Literal["netcdf", "csv"]
_ABOUT = {
    "license": (
        "CC BY 4.0; streamflow, boundaries and gauges as their sources say, in the folder licenses. Holds modified"
        " Copernicus Climate Change Service information (ERA5-Land)"
    ),
    "references": (
        "Kratzert et al. (2023), Caravan - A global community dataset for large-sample hydrology, Scientific Data, 10,"
        " 61, doi:10.1038/s41597-023-01975-w; and the sources of the basins, in the folder licenses"
    ),
}
_GAUGE = ("basin_id", "gauge_id")


class CaravanDataModule(SeriesDataModule):
    """Streamflow of Caravan basins from daily weather.

    Caravan puts gauged streamflow of many national data sets (camels, camelsaus, camelsbr, camelscl, camelsgb, hysets,
    lamah) beside weather and land states of ERA5-Land and attributes, all alike; extensions add further countries. It
    is not downloaded here; get it from doi:10.5281/zenodo.6522634 and unpack it, an extension into the same folder, or
    beside, or into a folder of its own inside::

        root/attributes/<source>/*.csv                       joined by gauge_id
        root/timeseries/csv/<source>/<gauge_id>.csv          column date
        root/timeseries/netcdf/<source>/<gauge_id>.nc        dimension date

    `root` may also be one NetCDF file of many basins, dimensions basin_id and time, or the folder of such a file.

    Variables on (site, time), of ERA5-Land, each as <name>_mean, _min and _max of the day: snow_depth_water_equivalent
    (mm), surface_net_solar_radiation and surface_net_thermal_radiation (W/m2), surface_pressure (kPa), temperature_2m
    and dewpoint_temperature_2m (degC), u_component_of_wind_10m and v_component_of_wind_10m (m/s),
    volumetric_soil_water_layer_1 to _4 (m3/m3); total_precipitation_sum and potential_evaporation_sum (mm/day; since
    version 1.4 potential_evaporation_sum_ERA5_LAND and potential_evaporation_sum_FAO_PENMAN_MONTEITH); streamflow
    (mm/day). Soil water and snow are of a model, not observed. Attributes are the columns of all attribute files of a
    source; aridity, pet_mean, moisture_index and seasonality are called aridity_ERA5_LAND and aridity_FAO_PM, and so
    on, since version 1.4. A day is a day of the gauge's local time, without daylight saving.

    Args:
        root: the folder, or a NetCDF file of many basins.
        sources: such as ["camels", "camelsgb"]; by default all there are.
        sites: gauge ids, as "camels_01022500", or the path of a text file with one a line. By default all, but those
            that have no value of an input or of any target: a warning names them. One asked for, here or in
            `site_split`, must have all inputs.
        format: "netcdf" or "csv"; by default NetCDF for each gauge that has it.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,).
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Kratzert et al. (2023), doi:10.1038/s41597-023-01975-w. Cite it and the sources of the basins.

    Example:
        >>> CaravanDataModule("caravan", sources=["camelsgb"], attributes=["area"]).input_size
        7
    """

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str] | None = None,
        sites: Sequence[str] | str | Path | None = None,
        format: Format | None = None,
        inputs: Sequence[str] = (
            "total_precipitation_sum",
            "temperature_2m_mean",
            "temperature_2m_min",
            "temperature_2m_max",
            "surface_net_solar_radiation_mean",
            "surface_net_thermal_radiation_mean",
        ),
        targets: Sequence[str] = ("streamflow",),
        attributes: Sequence[str] = (),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.root, self.sources, self.sites_chosen, self.format = root, sources, sites, format

    def load(self) -> xr.Dataset:
        """Read the variables that are needed, of the sites that have them."""
        source = caravan_source(self.root, self.sources, self.sites_chosen, self.format, False, self.needed)
        dataset = source.dataset(self.needed)
        return self.usable(dataset, self.sites_chosen is not None)


def read_caravan(
    root: str | Path,
    sources: Sequence[str] | None = None,
    sites: Sites = None,
    format: Format | None = None,
) -> xr.Dataset:
    """Read Caravan basins from the files as published, all of them into memory.

    Gauges are joined by id, days by date, whatever the order of rows; the time axis runs from the first to the last day
    of any gauge, and a variable is NaN where a gauge has no such day or variable. An attribute that a gauge lacks is
    NaN, or "" if it is text. Variables and attributes that are not of Caravan's own list are read too; their units are
    those in their file, if it says them. What is not of the layout is left out with a warning.

    Args:
        root: the folder, or one NetCDF file of many basins; `CaravanDataModule` shows the layout.
        sources: such as ["camels"]; by default all there are.
        sites: gauge ids, kept in their order, or the path of a text file with one a line; by default all, by source.
        format: "netcdf" or "csv"; by default NetCDF for each gauge that has it.

    Returns:
        float32 variables on (site, time); on (site,) the attributes, float32 or text, and `timezone` where NetCDF files
        say it. Time is datetime64[s].

    Raises:
        MPTTError: a folder, source or gauge is not there; a file is cut short, binary or no NetCDF, has a line that is
            no row of the table, a date twice, or no row a day; two attribute files contradict each other.
    """
    return caravan_source(root, sources, sites, format).dataset()


def caravan_source(
    root: str | Path,
    sources: Sequence[str] | None = None,
    sites: Sites = None,
    format: Format | None = None,
    timezones: bool = True,
    variables: Collection[str] | None = None,
) -> Source:
    """Caravan on disk, read a gauge at a time; arguments as of `read_caravan`.

    Args:
        root: the folder, or one NetCDF file of many basins.
        sources: names of sources.
        sites: gauge ids, or the path of a list.
        format: "netcdf" or "csv".
        timezones: whether to look into each NetCDF file for the attribute `timezone`.
        variables: series to read out of the file of a gauge; by default all.
    """
    root = Path(root)
    if isinstance(sources, str):
        raise MPTTError(f"sources is a list of names; for one source, [{sources!r}].")
    if format is not None:
        check_choice("format", format, tuple(FORMATS))
    named = named_sites(sites)
    chosen_by = {"sources": None if sources is None else list(sources), "sites": named, "format": format}
    settings = {"class_path": "CaravanDataModule", "init_args": {"root": str(root), **chosen_by}}
    root = _many_in(root) or root
    if root.is_file():
        return _of_one_file(root, sources, named, settings)
    tables: list[pd.DataFrame] = []
    files: dict[str, Path] = {}
    for name, found in find_sources(root, sources).items():
        of_gauge = found.of(format)
        if named is None or set(named) & set(of_gauge):
            tables.append(read_attribute_files(name, found))
            of_gauge = series_files(name, of_gauge, tables[-1].index)
        if both := sorted(set(of_gauge) & set(files)):
            raise MPTTError(f"Gauge {listed(both)} is in two sources of {root}; read one of them, with sources=[...].")
        files |= of_gauge
    chosen = chosen_sites(named, list(files), root)
    if not chosen:
        raise MPTTError(f"{root} has no series {'of format ' + format if format else ''} of any gauge.")
    attributes = _attributes(tables, chosen)
    expect_hdf5((files[site] for site in chosen if files[site].suffix == FORMATS["netcdf"]), variables)
    if timezones and (zones := [timezone_of(files[site], variables) for site in chosen]) and any(zones):
        attributes["timezone"] = xr.Variable("site", np.array(zones, dtype=np.str_), described(*ATTRIBUTES["timezone"]))
    return Source(
        "Caravan",
        root,
        chosen,
        lambda site: read_series(files[site], variables),
        xr.Dataset(attributes, {"site": np.array(chosen, dtype=np.str_)}),
        {"title": f"Caravan, {len(chosen)} basins", "source": str(root), **_ABOUT},
        settings,
    )


def _attributes(tables: Sequence[pd.DataFrame], sites: Sequence[str]) -> dict[str, xr.Variable]:
    """All attributes of the sites; a warning names sites that lack some."""
    table = pd.concat(tables).fillna("")
    if (again := table.index.duplicated()).any():
        raise MPTTError(
            f"Gauge {table.index[again][0]} is in the attributes of two sources; read one of them, with sources=[...]."
        )
    absent = [site for site in sites if site not in table.index]
    if absent and len(table):
        warnings.warn(
            f"{len(absent)} of {len(sites)} gauges are in no attribute file, and lack attributes: {listed(absent)}.",
            MPTTWarning,
            stacklevel=4,
        )
    texts = {name: about_attribute(name) for name in map(str, table.columns)}
    return variables_on_sites(table, sites, texts, WORDS)


def _of_one_file(path: Path, sources: Sequence[str] | None, sites: Sites, settings: dict[str, Any]) -> Source:
    """Many basins in one NetCDF file: series on (basin, day), attributes on (basin,)."""
    file = open_dataset(path)
    gauge, day = dimension(path, file, _GAUGE), dimension(path, file, DAY)
    order, days = sorted_days(path, file.indexes[day])
    dataset = file.rename({gauge: "site", day: "time"})
    if not np.array_equal(order, np.arange(len(order))):
        dataset = dataset.isel(time=order)
    if dataset["site"].dtype.kind == "f" and (dataset["site"] % 1 == 0).all():
        dataset = dataset.assign_coords(site=dataset["site"].astype(np.int64))  # a gauge is 2004, not 2004.0
    names = np.array([site.strip() for site in site_names(dataset)], dtype=np.str_)
    dataset = dataset.assign_coords(site=names, time=("time", days))
    series, fixed = {}, {}
    for name, values in dataset.data_vars.items():
        if set(values.dims) == {"site", "time"}:
            about = said_about(path, str(name), values, {})
            series[name] = values.transpose("site", "time").drop_attrs().assign_attrs(about)
        elif values.dims == ("site",):
            fixed[name] = _fixed(path, str(name), values)
    there = site_names(dataset)
    if sources is not None:
        if unknown := [name for name in sources if not any(site.startswith(f"{name}_") for site in there)]:
            raise MPTTError(f"{path} has no gauge of source {listed(unknown)}. There are {listed(there)}.")
        there = [site for name in sources for site in there if site.startswith(f"{name}_")]
    chosen = chosen_sites(sites, there, path)
    about = {"title": f"Caravan, {len(chosen)} basins", "source": str(path), **_ABOUT}
    source = source_of(xr.Dataset({**series, **fixed}, attrs=about), "Caravan", path, settings).choose(chosen)
    return replace(source, read=lambda site: _cleared(path, source.read(site)))


def _cleared(path: Path, table: xr.Dataset) -> xr.Dataset:
    """Series with markers of missing values missing, and nothing infinite."""
    for name, values in table.data_vars.items():
        check_finite(path, str(name), values.values, table.indexes["time"])
    cleared = without_markers(path, {str(name): values.values for name, values in table.data_vars.items()})
    return table.assign({name: ("time", values, table[name].attrs) for name, values in cleared.items()})


def _fixed(path: Path, name: str, values: xr.DataArray) -> xr.DataArray:
    array = loaded(path, values)
    if array.dtype.kind in "fiub" and name not in WORDS:
        array = array.astype(np.float32)
    else:
        array = np.array([(t.decode() if isinstance(t, bytes) else str(t)).strip() for t in array], dtype=np.str_)
    units = str(values.attrs.get("units", values.attrs.get("unit", "")))
    known = about_attribute(name)
    return xr.DataArray(array, dims="site", attrs=described(known[0] or units, known[1]))


def _recognise(path: Path) -> bool:
    if path.is_dir() and any((home / "timeseries" / form).is_dir() for home in homes(path) for form in FORMATS):
        return True
    return _many_in(path) is not None


def _many_in(path: Path) -> Path | None:
    """The NetCDF file of many basins: this one, or the only one in this folder."""
    files = [one for one in path.glob("*.nc*") if not one.name.startswith(".")] if path.is_dir() else [path]
    if len(files) != 1 or files[0].suffix not in (".nc", ".nc4") or not files[0].is_file():
        return None
    try:
        check_hdf5(files[0])
        with netCDF4.Dataset(files[0]) as file:
            return files[0] if any(name in file.dimensions for name in _GAUGE) else None
    except (OSError, RuntimeError, UnicodeDecodeError, MPTTError):
        return None


LAYOUT = Layout(
    "caravan", "Caravan and its extensions: weather, streamflow and attributes of basins", _recognise, caravan_source
)

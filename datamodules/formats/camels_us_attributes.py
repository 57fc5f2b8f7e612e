"""The attribute files of CAMELS-US: one row a basin, semicolons between the fields.

Units are those of Addor et al. (2017), doi:10.5194/hess-21-5293-2017.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.attributes import attribute_table, numbers_of, variables_on_sites
from mptt.datamodules.reading.tables import read_file
from mptt.errors import MPTTError, MPTTWarning

ATTRIBUTES = {
    "huc_02": ("", "two-digit hydrologic unit (region)"),
    "gauge_name": ("", "name of the gauge"),
    "gauge_lat": ("degrees_north", "latitude of the gauge"),
    "gauge_lon": ("degrees_east", "longitude of the gauge"),
    "elev_mean": ("m", "mean elevation"),
    "slope_mean": ("m/km", "mean slope"),
    "area_gages2": ("km2", "area, from GAGES-II"),
    "area_geospa_fabric": ("km2", "area, from the geospatial fabric"),
    "p_mean": ("mm/day", "mean precipitation"),
    "pet_mean": ("mm/day", "mean potential evapotranspiration"),
    "p_seasonality": ("1", "seasonality of precipitation: positive for summer, negative for winter peaks"),
    "frac_snow": ("1", "part of precipitation on days below 0 degC"),
    "aridity": ("1", "potential evapotranspiration over precipitation"),
    "high_prec_freq": ("days/year", "days with at least five times the mean precipitation"),
    "high_prec_dur": ("days", "mean length of a run of days with high precipitation"),
    "high_prec_timing": ("", "season with most days of high precipitation"),
    "low_prec_freq": ("days/year", "days with less than 1 mm"),
    "low_prec_dur": ("days", "mean length of a run of dry days"),
    "low_prec_timing": ("", "season with most dry days"),
    "q_mean": ("mm/day", "mean streamflow"),
    "runoff_ratio": ("1", "mean streamflow over mean precipitation"),
    "slope_fdc": ("1", "slope of the flow duration curve between its 33rd and 66th percentile"),
    "baseflow_index": ("1", "baseflow over streamflow"),
    "stream_elas": ("1", "sensitivity of annual streamflow to annual precipitation"),
    "q5": ("mm/day", "5 % quantile of streamflow"),
    "q95": ("mm/day", "95 % quantile of streamflow"),
    "high_q_freq": ("days/year", "days above nine times the median streamflow"),
    "high_q_dur": ("days", "mean length of a run of days with high flow"),
    "low_q_freq": ("days/year", "days below a fifth of the mean streamflow"),
    "low_q_dur": ("days", "mean length of a run of days with low flow"),
    "zero_q_freq": ("1", "part of the days without flow"),
    "hfd_mean": ("day", "mean day of the water year by which half of the year's flow has passed"),
    "soil_depth_pelletier": ("m", "depth to bedrock, at most 50"),
    "soil_depth_statsgo": ("m", "depth of soil, at most 1.5"),
    "soil_porosity": ("1", "porosity of the soil"),
    "soil_conductivity": ("cm/h", "saturated hydraulic conductivity of the soil"),
    "max_water_content": ("m", "largest water content of the soil"),
    "sand_frac": ("percent", "sand in the soil"),
    "silt_frac": ("percent", "silt in the soil"),
    "clay_frac": ("percent", "clay in the soil"),
    "water_frac": ("percent", "part of the top soil layers that is water"),
    "organic_frac": ("percent", "part of the top soil layers that is organic material"),
    "other_frac": ("percent", "part of the top soil layers that is neither of the classes"),
    "frac_forest": ("1", "part under forest"),
    "lai_max": ("1", "largest monthly mean of the leaf area index"),
    "lai_diff": ("1", "largest less smallest monthly mean of the leaf area index"),
    "gvf_max": ("1", "largest monthly mean of the green vegetation fraction"),
    "gvf_diff": ("1", "largest less smallest monthly mean of the green vegetation fraction"),
    "dom_land_cover": ("", "main land cover"),
    "dom_land_cover_frac": ("1", "part under the main land cover"),
    "root_depth_50": ("m", "depth above which half of the roots are"),
    "root_depth_99": ("m", "depth above which 99 % of the roots are"),
    "geol_1st_class": ("", "most common geologic class"),
    "glim_1st_class_frac": ("1", "part of the most common geologic class"),
    "geol_2nd_class": ("", "second most common geologic class"),
    "glim_2nd_class_frac": ("1", "part of the second most common geologic class"),
    "carbonate_rocks_frac": ("1", "part of carbonate sedimentary rocks"),
    "geol_porostiy": ("1", "porosity below the soil (so spelt in the data set)"),
    "geol_permeability": ("log10(m2)", "permeability below the soil"),
}
_NUMBERS = {name for name, (units, _) in ATTRIBUTES.items() if units}

_FOLDER = "camels_attributes_v2.0"


def attribute_files(root: Path, attributes_root: Path | None = None) -> list[Path]:
    """The files `camels_*.txt`, in `camels_attributes_v2.0` or not, in the root or beside it.

    Args:
        root: the folder of the data set.
        attributes_root: look here, and only here.

    Raises:
        MPTTError: there are none.
    """
    if attributes_root is None:
        folders = [root / _FOLDER, root, root.resolve().parent / _FOLDER]
        way_out = "Put them there (doi:10.5065/D6G73C3Q), give their folder as attributes_root, or"
    else:
        folders = [attributes_root / _FOLDER, attributes_root]
        way_out = "Give the folder that has them (doi:10.5065/D6G73C3Q), or"
    files = next((files for folder in folders if (files := sorted(folder.glob("camels_*.txt")))), [])
    if not files:
        places = ", nor in ".join(map(str, folders))
        raise MPTTError(f"No attribute file camels_*.txt in {places}. {way_out} read without (attributes=False).")
    return files


def attribute_numbers(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of one attribute file as numbers, missing NaN, indexed by gauge id.

    Raises:
        MPTTError: the file is not as published, or a column is not there or not of numbers.
    """
    table = _attribute_table(path)
    found = {name: numbers_of(table[name]) for name in columns if name in table}
    numbers = {name: column for name, column in found.items() if column is not None}
    if lacking := [name for name in columns if name not in numbers]:
        raise MPTTError(f"{path} has no column of numbers {listed(lacking)}; it has {listed(table.columns)}.")
    return pd.DataFrame(numbers)


def read_attributes(
    root: Path, basins: Sequence[str], taken: Container[Any], attributes_root: Path | None = None
) -> dict[str, xr.Variable]:
    """Read the columns of `camels_attributes_v2.0/camels_*.txt`, joined by gauge id.

    Args:
        root: the folder of the data set.
        basins: gauge ids.
        taken: names that no column may have.
        attributes_root: the folder of the attribute files, where that is another.

    Returns:
        Variables on (site,): float32 with NaN, or text with "" where a basin has none.

    Raises:
        MPTTError: no file, or one that is not as published.
    """
    variables: dict[str, xr.Variable] = {}
    absent: dict[str, str] = {}
    for path in attribute_files(root, attributes_root):
        table = _attribute_table(path)
        absent |= {basin: path.name for basin in basins if basin not in table.index}
        for name in map(str, table.columns):
            if name in variables or name in taken:
                raise MPTTError(f"{path} has a column {name}, which another file has too. Rename one of them.")
        variables |= variables_on_sites(table, basins, ATTRIBUTES, ())
    if absent:
        named = listed(f"{basin} (not in {file})" for basin, file in absent.items())
        warnings.warn(f"{len(absent)} of {len(basins)} basins lack attributes: {named}.", MPTTWarning, stacklevel=3)
    return variables


def _attribute_table(path: Path) -> pd.DataFrame:
    """Fields as text, missing "", indexed by gauge id of 8 digits.

    Raises:
        MPTTError: the file is not as published.
    """
    table = attribute_table(path, numbers=_NUMBERS)
    if table is None:
        first = read_file(path).decode("latin-1").splitlines()[0]
        raise MPTTError(f"{path} has no column gauge_id; its first line is {first[:200]!r}. Get an intact copy.")
    table.index = table.index.str.zfill(8)  # tables that went through other programs lose the zeros
    if (twice := table.index.duplicated()).any():
        raise MPTTError(f"{path} has more than one row of gauge {table.index[twice][0]}.")
    return table

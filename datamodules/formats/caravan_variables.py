"""What the variables and attributes of Caravan are, and in which units."""

from __future__ import annotations

import re

from mptt.datamodules.reading.tables import described

_STATES = {  # daily mean, minimum and maximum of each
    "snow_depth_water_equivalent": ("mm", "snow water equivalent"),
    "surface_net_solar_radiation": ("W/m2", "net solar radiation at the surface"),
    "surface_net_thermal_radiation": ("W/m2", "net thermal radiation at the surface"),
    "surface_pressure": ("kPa", "air pressure at the surface"),
    "temperature_2m": ("degC", "air temperature at 2 m"),
    "dewpoint_temperature_2m": ("degC", "dew point temperature at 2 m"),
    "u_component_of_wind_10m": ("m/s", "eastward wind at 10 m"),
    "v_component_of_wind_10m": ("m/s", "northward wind at 10 m"),
    "volumetric_soil_water_layer_1": ("m3/m3", "soil water, 0 to 7 cm"),
    "volumetric_soil_water_layer_2": ("m3/m3", "soil water, 7 to 28 cm"),
    "volumetric_soil_water_layer_3": ("m3/m3", "soil water, 28 to 100 cm"),
    "volumetric_soil_water_layer_4": ("m3/m3", "soil water, 100 to 289 cm"),
}
_OVER_THE_DAY = {"mean": "daily mean", "min": "daily minimum", "max": "daily maximum"}

SERIES = {  # variable: (unit, what it is)
    **{
        f"{name}_{short}": (units, f"{meaning}, {long}, of ERA5-Land")
        for short, long in _OVER_THE_DAY.items()
        for name, (units, meaning) in _STATES.items()
    },
    "total_precipitation_sum": ("mm/day", "precipitation, of ERA5-Land"),
    "potential_evaporation_sum": ("mm/day", "potential evaporation, of ERA5-Land"),
    "potential_evaporation_sum_ERA5_LAND": ("mm/day", "potential evaporation, of ERA5-Land"),
    "potential_evaporation_sum_FAO_PENMAN_MONTEITH": (
        "mm/day",
        "potential evaporation, by FAO Penman-Monteith from ERA5-Land",
    ),
    "streamflow": ("mm/day", "streamflow over the area of the basin"),
}

_CLIMATE = {
    "pet_mean": ("mm/day", "mean potential evaporation"),
    "aridity": ("1", "mean potential evaporation over mean precipitation"),
    "moisture_index": ("1", "mean annual moisture index, -1 (arid) to 1"),
    "seasonality": ("1", "seasonality of the moisture index, 0 to 2"),
}
ATTRIBUTES = {  # column: (unit, what it is)
    "area": ("km2", "area of the basin"),
    "gauge_lat": ("degrees_north", "latitude of the gauge"),
    "gauge_lon": ("degrees_east", "longitude of the gauge"),
    "lat": ("degrees_north", "latitude of the gauge"),
    "lon": ("degrees_east", "longitude of the gauge"),
    "gauge_name": ("", "name of the gauge"),
    "name": ("", "name of the gauge"),
    "country": ("", "country of the gauge"),
    "timezone": ("", "time zone of the days"),
    "p_mean": ("mm/day", "mean precipitation"),
    "frac_snow": ("1", "part of the precipitation that falls as snow"),
    "high_prec_freq": ("1", "part of days with precipitation of 5 times the mean or more"),
    "high_prec_dur": ("day", "mean length of spells of such days"),
    "low_prec_freq": ("1", "part of days with precipitation below 1 mm"),
    "low_prec_dur": ("day", "mean length of spells of such days"),
    **_CLIMATE,
    **{f"{name}_ERA5_LAND": (units, f"{what}, of ERA5-Land") for name, (units, what) in _CLIMATE.items()},
    **{f"{name}_FAO_PM": (units, f"{what}, by FAO Penman-Monteith") for name, (units, what) in _CLIMATE.items()},
}
WORDS = ("gauge_name", "name", "country", "timezone")  # text whatever they hold

_HYDROATLAS = {  # the middle part of a column's name says the unit
    "mt": "m",
    "dc": "0.1 degC",
    "dg": "0.1 degree",
    "dk": "dm/km",
    "mm": "mm",
    "cm": "cm",
    "th": "t/ha",
    "kh": "kg/ha/year",
    "pk": "1/km2",
    "mk": "m/km2",
}
_HYDROATLAS_NAME = re.compile(r"[a-z]{3}_([a-z]{2})_[a-z0-9]{3}")
_TABLE_LINE = re.compile(r"\s*(\w+)\s*:\s*(.*?)\s*\[([^\]\[]*)\]\s*")
_SPELLINGS = {
    "°C": "degC",
    "C": "degC",
    "celsius": "degC",
    "mm/d": "mm/day",
    "mm d-1": "mm/day",
    "mm day-1": "mm/day",
    "W m-2": "W/m2",
    "W/m^2": "W/m2",
    "W/m²": "W/m2",
    "m s-1": "m/s",
    "m³/m³": "m3/m3",
    "m3 m-3": "m3/m3",
    "m^3/m^3": "m3/m3",
    "-": "",
}


def about_attribute(name: str) -> tuple[str, str]:
    """Units and long name; units "" where they are not known."""
    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    match = _HYDROATLAS_NAME.fullmatch(name)
    return (_HYDROATLAS[match[1]], f"{name} of HydroATLAS") if match and match[1] in _HYDROATLAS else ("", name)


def about_series(name: str, said: tuple[str, str] = ("", "")) -> dict[str, str]:
    """Units and long name of a series: those of Caravan, else what its file says.

    Args:
        name: of the variable.
        said: units and long name in its file, "" where it says none.
    """
    return described(*SERIES[name]) if name in SERIES else described(spelt(said[0]), said[1] or name)


def disagreement(name: str, said: str) -> str:
    """The units that a file gives a variable of Caravan, where they are not those of Caravan; "" where they are."""
    units = spelt(said)
    due = SERIES.get(name, (units, ""))[0]
    return "" if units in ("", due) or (due == "mm/day" and units == "mm") else units


def spelt(units: str) -> str:
    """Units, spelt as here."""
    return _SPELLINGS.get(units.strip(), units.strip())


def table_of_units(text: str) -> dict[str, tuple[str, str]]:
    """Units and long names out of the attribute `Units` of a Caravan file, lines `name: what it is [unit]`."""
    found = {}
    for line in text.splitlines():
        if match := _TABLE_LINE.fullmatch(line):
            found[match[1]] = spelt(match[3]), match[2]
    return found


def said_in(table: dict[str, tuple[str, str]], name: str) -> tuple[str, str]:
    """What the table says of a variable, by its name with or without the aggregate at its end."""
    return table.get(name) or table.get(re.sub(r"_(mean|min|max|sum)$", "", name)) or ("", "")

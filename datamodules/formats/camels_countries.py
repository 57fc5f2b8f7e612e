"""What differs from country to country in the CAMELS data sets of one CSV file a basin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Texts = tuple[str, str]  # units, long name


@dataclass(frozen=True)
class Country:
    """The layout of one data set.

    Attributes:
        code: for `country=`.
        title: of the data set.
        series: files of the series, relative to the root, as a pattern of `Path.glob`.
        site: the name of such a file; its first group is the site.
        columns: of the series; a column: (variable, units, what it is). A unit in brackets at its end is not part of
            the name.
        attributes: files of the attributes, likewise relative.
        about: units and long name of attributes.
        simulated_series, simulated_site, simulated_attributes: of simulated series and their attributes, whose columns
            get _sim at their end.
        misnamed: units that the head of a column gives, where its values are in others.
        date, key: the columns of dates and of site ids.
        words: attributes that are text whatever they hold.
        references, licence, doi: of the data set.
    """

    code: str
    title: str
    series: tuple[str, ...]
    site: re.Pattern[str]
    columns: Mapping[str, tuple[str, str, str]]
    attributes: tuple[str, ...]
    about: Mapping[str, Texts]
    references: str
    licence: str
    doi: str
    simulated_series: tuple[str, ...] = ()
    simulated_site: re.Pattern[str] | None = None
    simulated_attributes: tuple[str, ...] = ()
    misnamed: Mapping[str, str] = field(default_factory=dict)
    date: str = "date"
    key: str = "gauge_id"
    words: tuple[str, ...] = ("gauge_name", "water_body_name", "country")


_COMMON = {  # columns that both have
    "discharge_spec": ("streamflow", "mm/day", "streamflow over the area of the basin"),
    "discharge_vol": ("discharge", "m3/s", "observed discharge"),
    "precipitation": ("precipitation", "mm/day", "precipitation"),
}
_ATTRIBUTES = {
    "area": ("km2", "area of the basin"),
    "gauge_lat": ("degrees_north", "latitude of the gauge"),
    "gauge_lon": ("degrees_east", "longitude of the gauge"),
    "gauge_easting": ("m", "easting of the gauge"),
    "gauge_northing": ("m", "northing of the gauge"),
    "gauge_name": ("", "name of the gauge"),
    "elev_mean": ("m", "mean elevation"),
    "elev_min": ("m", "lowest elevation"),
    "elev_max": ("m", "highest elevation"),
    "p_mean": ("mm/day", "mean precipitation"),
    "pet_mean": ("mm/day", "mean potential evapotranspiration"),
    "aridity": ("1", "mean potential evapotranspiration over mean precipitation"),
    "p_seasonality": ("1", "seasonality and timing of precipitation; above 0: peaks in summer"),
    "frac_snow": ("1", "part of the precipitation that falls on days below 0 degC"),
    "high_prec_freq": ("day/year", "frequency of days with precipitation of 5 times the mean or more"),
    "high_prec_dur": ("day", "mean length of spells of such days"),
    "low_prec_freq": ("day/year", "frequency of days with precipitation below 1 mm"),
    "low_prec_dur": ("day", "mean length of spells of such days"),
    "q_mean": ("mm/day", "mean streamflow"),
    "runoff_ratio": ("1", "mean streamflow over mean precipitation"),
    "slope_fdc": ("1", "slope of the flow duration curve"),
    "high_q_freq": ("day/year", "frequency of days of high flow"),
    "high_q_dur": ("day", "mean length of spells of high flow"),
    "low_q_freq": ("day/year", "frequency of days of low flow"),
    "low_q_dur": ("day", "mean length of spells of low flow"),
    "zero_q_freq": ("1", "frequency of days without flow"),
    "dwood_perc": ("%", "part under deciduous wood"),
    "ewood_perc": ("%", "part under evergreen wood"),
    "grass_perc": ("%", "part under grass"),
    "crop_perc": ("%", "part under crops"),
    "urban_perc": ("%", "part that is built up"),
    "inwater_perc": ("%", "part under inland water"),
    "sand_perc": ("%", "sand in the soil"),
    "silt_perc": ("%", "silt in the soil"),
    "clay_perc": ("%", "clay in the soil"),
}

SWITZERLAND = Country(
    code="ch",
    title="CAMELS-CH",
    series=("time_series/observation_based/*.csv", "timeseries/observation_based/*.csv"),
    site=re.compile(r"CAMELS_CH_obs_based_(\w+)\.csv"),
    columns={
        **_COMMON,
        "waterlevel": ("waterlevel", "m", "water level"),
        "temperature_min": ("temperature_min", "degC", "daily minimum air temperature"),
        "temperature_mean": ("temperature", "degC", "daily mean air temperature"),
        "temperature_max": ("temperature_max", "degC", "daily maximum air temperature"),
        "rel_sun_dur": ("rel_sun_dur", "%", "sunshine duration, part of the possible"),
        "swe": ("swe", "mm", "snow water equivalent"),
        "discharge_spec_sim": ("streamflow_sim", "mm/day", "simulated streamflow over the area of the basin"),
        "discharge_vol_sim": ("discharge_sim", "m3/s", "simulated discharge"),
        "precipitation_sim": ("precipitation_sim", "mm/day", "precipitation of the simulation"),
        "temperature_sim": ("temperature_sim", "degC", "air temperature of the simulation"),
        "radiation_sim": ("radiation_sim", "W/m2", "global radiation of the simulation"),
        "sun_duration_sim": ("sun_duration_sim", "h", "sunshine duration of the simulation"),
        "wind_sim": ("wind_sim", "m/s", "wind speed of the simulation"),
        "rel_humidity_sim": ("rel_humidity_sim", "1", "relative humidity of the simulation"),
        "pet_sim": ("pet_sim", "mm/day", "simulated potential evapotranspiration"),
        "et_sim": ("et_sim", "mm/day", "simulated evapotranspiration"),
        "intercept_et_sim": ("intercept_et_sim", "mm/day", "simulated evaporation of intercepted water"),
        "intercept_storage_sim": ("intercept_storage_sim", "mm", "simulated intercepted water"),
    },
    attributes=("static_attributes/CAMELS_CH_*attributes*.csv",),
    about={
        **_ATTRIBUTES,
        "gauge_elevation": ("m", "elevation of the gauge"),
        "slope_mean": ("degree", "mean slope"),
        "flat_area_perc": ("%", "part with a slope below 3 degrees"),
        "steep_area_perc": ("%", "part with a slope above 15 degrees"),
        "ice_perc": ("%", "part under ice"),
        "rock_perc": ("%", "part that is rock"),
        "glac_area": ("km2", "area of glaciers"),
        "glac_vol": ("km3", "volume of glaciers"),
        "Q5": ("mm/day", "streamflow that 95 % of days exceed"),
        "Q95": ("mm/day", "streamflow that 5 % of days exceed"),
    },
    references=(
        "Höge et al. (2023), CAMELS-CH: hydro-meteorological time series and landscape attributes for 331 catchments in"
        " hydrologic Switzerland, Earth Syst. Sci. Data, 15, 5755-5784, doi:10.5194/essd-15-5755-2023"
    ),
    licence="CC BY 4.0",
    doi="10.5281/zenodo.7784632",
    simulated_series=("time_series/simulation_based/*.csv", "timeseries/simulation_based/*.csv"),
    simulated_site=re.compile(r"CAMELS_CH_sim_based_(\w+)\.csv"),
    misnamed={"rel_humidity_sim": "%"},  # 0.1 to 1
    simulated_attributes=("static_attributes/simulation_based/CAMELS_CH_*attributes*.csv",),
)

GREAT_BRITAIN = Country(
    code="gb",
    title="CAMELS-GB",
    series=("timeseries/*.csv",),
    site=re.compile(r"CAMELS_GB_hydromet_timeseries_(\w+)_\d{8}-\d{8}\.csv"),
    columns={
        **_COMMON,
        "temperature": ("temperature", "degC", "daily mean air temperature"),
        "pet": ("pet", "mm/day", "potential evapotranspiration"),
        "peti": ("peti", "mm/day", "potential evapotranspiration with correction for interception"),
        "humidity": ("humidity", "g/kg", "specific humidity"),
        "shortwave_rad": ("shortwave_rad", "W/m2", "downward shortwave radiation"),
        "longwave_rad": ("longwave_rad", "W/m2", "downward longwave radiation"),
        "windspeed": ("windspeed", "m/s", "wind speed"),
    },
    attributes=("CAMELS_GB_*_attributes.csv",),
    about={
        **_ATTRIBUTES,
        "gauge_elev": ("m", "elevation of the gauge"),
        "dpsbar": ("m/km", "mean slope of the drainage paths"),
        "elev_10": ("m", "elevation, 10th percentile"),
        "elev_50": ("m", "elevation, median"),
        "elev_90": ("m", "elevation, 90th percentile"),
        "Q5": ("mm/day", "streamflow that 95 % of days exceed"),
        "Q95": ("mm/day", "streamflow that 5 % of days exceed"),
        "baseflow_index": ("1", "base flow over flow"),
    },
    references=(
        "Coxon et al. (2020), CAMELS-GB: hydrometeorological time series and landscape attributes for 671 catchments in"
        " Great Britain, Earth Syst. Sci. Data, 12, 2459-2483, doi:10.5194/essd-12-2459-2020"
    ),
    licence="Open Government Licence v3",
    doi="10.5285/8344e4f3-d2ea-44f5-8afa-86d2987543a9",
)

COUNTRIES = {country.code: country for country in (SWITZERLAND, GREAT_BRITAIN)}

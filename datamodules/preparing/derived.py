"""Inputs that are computed: from the date, or from other variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from mptt.datamodules.preparing.checks import listed, moments, site_names
from mptt.errors import MPTTError

FloatArray = npt.NDArray[np.float64]
Derive = Mapping[str, Mapping[str, str | Sequence[str]]]

PET = "pet_oudin"
MEANS = ("tmean", "temperature_mean", "temperature_2m_mean", "TA_F", "ta")
PAIRS = (("tmin", "tmax"), ("temperature_min", "temperature_max"), ("temperature_2m_min", "temperature_2m_max"))
LATITUDES = ("gauge_lat", "latitude", "lat")
ALIKE = 1.0  # degrees; latitudes of one site that differ by less are one place
WARMEST = 70.0  # degC; no air is warmer, and none is colder in kelvin

_DAY = 86_400_000_000  # microseconds


def bent_day_of_year(time: xr.DataArray) -> xr.DataArray:
    """Day of year bent at 183, so that the turn of the year is no jump: 183 - |day of year - 183|, float32.

    Args:
        time: dates, datetime64 or cftime.

    Example:
        >>> dates = np.array(["2001-01-01", "2001-07-02", "2001-12-31"], dtype="datetime64[s]")
        >>> bent_day_of_year(xr.DataArray(dates, dims="time")).values
        array([  1., 183.,   1.], dtype=float32)
    """
    return (183 - abs(time.dt.dayofyear - 183)).astype(np.float32)


def year_angle(time: xr.DataArray) -> xr.DataArray:
    """How far round the year each date is, 0 on its first day, 2 pi after its last: years of any calendar's length."""
    return 2 * np.pi * (time.dt.dayofyear - 1) / time.dt.days_in_year


def extraterrestrial_radiation(
    day_of_year: npt.NDArray[Any], latitude: FloatArray | float, days: int = 365
) -> FloatArray:
    """Solar radiation above the atmosphere, MJ/m2 a day: Allen et al. (1998), FAO Paper 56, equations 21 to 25.

    Args:
        day_of_year: from 1.
        latitude: degrees north, of a shape that broadcasts with it.
        days: in a year; 365 for leap years too.

    Example:
        3 September at 20 degrees south, example 8 of that paper:

        >>> round(float(extraterrestrial_radiation(np.array(246), -20.0)), 1)
        32.2
    """
    angle = 2 * np.pi * day_of_year / days
    distance = 1 + 0.033 * np.cos(angle)
    declination = 0.409 * np.sin(angle - 1.39)
    phi = np.radians(latitude)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    height = sunset * np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    radiation: FloatArray = 24 * 60 / np.pi * 0.0820 * distance * height
    return radiation


def oudin_evapotranspiration(
    temperature: FloatArray, latitude: FloatArray | float, day_of_year: npt.NDArray[Any], days: int = 365
) -> FloatArray:
    """Potential evapotranspiration by the formula of Oudin et al. (2005), mm/day.

    `Re / (lambda rho) * (T + 5) / 100` where T > -5 degC, else 0, with the extraterrestrial radiation Re, the latent
    heat lambda = 2.45 MJ/kg and the density of water rho.

    Args:
        temperature: mean of the day, degC.
        latitude: degrees north.
        day_of_year: from 1; all of shapes that broadcast.
        days: in a year.

    References:
        Oudin et al. (2005), Which potential evapotranspiration input for a lumped rainfall-runoff model? Part 2,
        J. Hydrol., 303, 290-306, doi:10.1016/j.jhydrol.2004.08.026.

    Example:
        32.2 / 2.45 * (25 + 5) / 100:

        >>> round(float(oudin_evapotranspiration(np.array(25.0), -20.0, np.array(246))), 2)
        3.94
    """
    water = extraterrestrial_radiation(day_of_year, latitude, days) / 2.45  # mm/day
    return water * np.maximum(temperature + 5, 0) / 100


@dataclass(frozen=True)
class DerivedInput:
    """One computed input.

    Attributes:
        of_date: it depends on nothing but the date, and so is there at every step of every site.
        units, long_name: of it.
    """

    of_date: bool
    units: str
    long_name: str


DERIVED = {
    "doy_bent": DerivedInput(True, "day", "day of year bent at 183: 183 - |day of year - 183|"),
    "doy_sin": DerivedInput(True, "1", "sine of the share of the year that is past"),
    "doy_cos": DerivedInput(True, "1", "cosine of the share of the year that is past"),
    PET: DerivedInput(False, "mm/day", "potential evapotranspiration, Oudin et al. (2005)"),
}

_OF_DATE: dict[str, Callable[[xr.DataArray], npt.NDArray[Any]]] = {
    "doy_bent": lambda time: bent_day_of_year(time).values,
    "doy_sin": lambda time: np.sin(year_angle(time).values),
    "doy_cos": lambda time: np.cos(year_angle(time).values),
}


def check_derive(derive: Derive, inputs: Sequence[str]) -> None:
    """Check what is said of the sources of computed inputs.

    Raises:
        MPTTError: an input that is not computed, or is no input, or keys other than temperature and latitude.
    """
    form = f"{{{PET}: {{temperature: tmean or [tmin, tmax], latitude: gauge_lat}}}}"
    if not isinstance(derive, Mapping) or set(derive) - {PET}:
        raise MPTTError(
            f"derive says what {PET} is computed from, as {form}; {', '.join(_OF_DATE)} need nothing. Found {derive!r}."
        )
    for name, sources in derive.items():
        if not isinstance(sources, Mapping) or set(sources) - {"temperature", "latitude"}:
            raise MPTTError(f"The sources of {name} are temperature and latitude, as {form}; found {sources!r}.")
        temperature = sources.get("temperature", "")
        several = not isinstance(temperature, str)
        if not isinstance(sources.get("latitude", ""), str) or (several and len(temperature) not in (1, 2)):
            raise MPTTError(
                f"The temperature of {name} is one variable or a pair [lowest, highest], its latitude one variable;"
                f" found {sources!r}."
            )
        if name not in inputs:
            raise MPTTError(f"derive names {name}, which is not among the inputs {list(inputs)}. Add it, or leave it.")


def derived_sources(inputs: Sequence[str], derive: Derive) -> list[str]:
    """Variables that computed inputs may need, those named and, where none is, all that are looked for."""
    if PET not in inputs:
        return []
    named = derive.get(PET, {})
    temperature = named.get("temperature", [*MEANS, *(name for pair in PAIRS for name in pair)])
    latitude = named.get("latitude", LATITUDES)
    return [*([temperature] if isinstance(temperature, str) else temperature), *_several(latitude)]


def to_compute(dataset: xr.Dataset, inputs: Sequence[str], derive: Derive) -> list[str]:
    """The inputs that are to be computed: known ones that the data set does not have.

    Raises:
        MPTTError: `derive` says how to compute one that the data set has.
    """
    if there := [name for name in derive if name in dataset.variables]:
        raise MPTTError(
            f"The data set has a variable {there[0]}, which derive would compute: rename it, or leave out derive."
        )
    return [name for name in inputs if name in DERIVED and name not in dataset.variables]


def find_sources(dataset: xr.Dataset, inputs: Sequence[str], derive: Derive) -> dict[str, dict[str, str | list[str]]]:
    """`derive` with the sources of every computed input named, those that were not being guessed from known names.

    Raises:
        MPTTError: sources that are not there, or not clear.
    """
    if PET not in to_compute(dataset, inputs, derive):
        return {}
    named = derive.get(PET, {})
    return {PET: {"temperature": _temperatures(dataset, named), "latitude": _latitude(dataset, named)}}


def series_needed(dataset: xr.Dataset, inputs: Sequence[str], derive: Derive) -> list[str]:
    """The series of the data set that the inputs are, or are computed from.

    Raises:
        MPTTError: as of `find_sources`.
    """
    computed = to_compute(dataset, inputs, derive)
    sources = find_sources(dataset, inputs, derive).get(PET, {}).get("temperature", [])
    return [*(name for name in inputs if name not in computed), *_several(sources)]


def add_derived(dataset: xr.Dataset, inputs: Sequence[str], derive: Derive) -> xr.Dataset:
    """The data set with the computed inputs that it lacks, float32 on (site, time).

    Args:
        dataset: of some sites, all time; its dates are checked already.
        inputs: names, of which those in `DERIVED` are computed where the data set has no such variable.
        derive: the sources of `pet_oudin`: `temperature`, a mean or a pair [lowest, highest], degC, and `latitude`,
            degrees; guessed from known names where not given.

    Raises:
        MPTTError: sources that are not there, not clear, or cannot be what they are taken for; `pet_oudin` of steps
            other than days.
    """
    added = {}
    for name in to_compute(dataset, inputs, derive):
        about = DERIVED[name]
        if about.of_date:
            row = _OF_DATE[name](dataset["time"]).astype(np.float32)
            values = np.broadcast_to(row, (dataset.sizes["site"], len(row)))
        else:
            values = _oudin(dataset, derive.get(name, {})).astype(np.float32)
        added[name] = (("site", "time"), values, {"units": about.units, "long_name": about.long_name})
    return dataset.assign(added) if added else dataset


def _oudin(dataset: xr.Dataset, named: Mapping[str, str | Sequence[str]]) -> FloatArray:
    time = dataset.indexes["time"]
    if (np.diff(moments(time)[0]) != _DAY).any():
        raise MPTTError(
            f"{PET} is a formula for days, and the data go from {time[0]} to {time[1]}; take out {PET}, or resample the"
            " data to days."
        )
    temperature = np.mean([_celsius(dataset, name) for name in _temperatures(dataset, named)], axis=0)
    latitude = _degrees(dataset, _latitude(dataset, named))
    days = 360 if dataset["time"].dt.calendar == "360_day" else 365
    return oudin_evapotranspiration(temperature, latitude[:, None], dataset["time"].dt.dayofyear.values, days)


def _temperatures(dataset: xr.Dataset, named: Mapping[str, str | Sequence[str]]) -> list[str]:
    if "temperature" in named:
        return [_there(dataset, name, "temperature", ("site", "time")) for name in _several(named["temperature"])]
    found = [[name] for name in MEANS if name in dataset.variables]
    found = found or [list(pair) for pair in PAIRS if set(pair) <= set(dataset.variables)]
    return _only(found, "temperature", dataset, ("site", "time"))


def _latitude(dataset: xr.Dataset, named: Mapping[str, str | Sequence[str]]) -> str:
    if "latitude" in named:
        return _there(dataset, str(named["latitude"]), "latitude", ("site",))
    found = [name for name in LATITUDES if name in dataset.data_vars and set(dataset[name].dims) == {"site"}]
    degrees = [_degrees(dataset, _there(dataset, name, "latitude", ("site",))) for name in found]
    if all(np.abs(other - degrees[0]).max() < ALIKE for other in degrees[1:]):
        found = found[:1]  # of the gauge, of the basin's middle: to the sun one is as good as the other
    return _only([[name] for name in found], "latitude", dataset, ("site",))[0]


def _only(found: list[list[str]], what: str, dataset: xr.Dataset, dims: tuple[str, ...]) -> list[str]:
    if len(found) != 1:
        there = [str(name) for name, values in dataset.data_vars.items() if set(values.dims) == set(dims)]
        which = (
            f"could be {' or '.join('+'.join(names) for names in found)}" if found else "has none of the known names"
        )
        raise MPTTError(
            f"{PET} needs the {what}, which {which}; the data set has {listed(there)}. Name it: derive: {{{PET}:"
            f" {{{what}: NAME}}}}."
        )
    return [_there(dataset, name, what, dims) for name in found[0]]


def _there(dataset: xr.Dataset, name: str, what: str, dims: tuple[str, ...]) -> str:
    if name not in dataset.variables or set(dataset[name].dims) != set(dims) or dataset[name].dtype.kind not in "fiu":
        there = [str(other) for other, values in dataset.data_vars.items() if set(values.dims) == set(dims)]
        raise MPTTError(
            f"{PET} is computed from the {what} {name!r}, which is no numeric variable {dims} of the data set; there"
            f" are {listed(there)}."
        )
    return name


def _celsius(dataset: xr.Dataset, name: str) -> FloatArray:
    values = dataset[name].transpose("site", "time").values.astype(np.float64)
    if (hot := values > WARMEST).any():
        raise MPTTError(
            f"{PET} needs the temperature in degC; {name} has {values[hot][0]:g} (units"
            f" {dataset[name].attrs.get('units', 'not given')}). Convert it, as with units: {{{name}: degC}}."
        )
    return values


def _degrees(dataset: xr.Dataset, name: str) -> FloatArray:
    values = dataset[name].values.astype(np.float64)
    if (wrong := ~(np.abs(values) <= 90)).any():
        sites = np.array(site_names(dataset))[wrong]
        raise MPTTError(
            f"{PET} needs the latitude in degrees, -90 to 90; {name} is {values[wrong][0]:g} at {len(sites)} site(s):"
            f" {listed(sites)}. Give it, or leave the sites out."
        )
    return values


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)

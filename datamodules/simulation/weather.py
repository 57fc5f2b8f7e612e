"""Stochastic daily weather of one place, and the evapotranspiration that it asks for.

References:
    Allen et al. (1998), Crop evapotranspiration, FAO Irrigation and Drainage Paper 56: radiation and reference
    evapotranspiration.
    Richardson (1981), Stochastic simulation of daily precipitation, temperature, and solar radiation,
    doi:10.1029/WR017i001p00182: the weather generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mptt.datamodules.preparing.derived import extraterrestrial_radiation
from mptt.errors import MPTTError

FloatArray = npt.NDArray[np.float64]

DAYS_PER_YEAR = 365.2425


@dataclass(frozen=True)
class Climate:
    """What the weather is drawn from. A pair `(mean, amplitude)` is a yearly cosine that peaks on `warmest_day`.

    Attributes:
        latitude: degrees north.
        elevation: m above sea level; sets the air pressure.
        warmest_day: day of year of the peak of every yearly cycle.
        wet_after_dry: (mean, amplitude) of the probability of a wet day after a dry one.
        wet_after_wet: the same after a wet day; on every day of the year at least `wet_after_dry`.
        wet_day_amount: (mean, amplitude) of the precipitation of a wet day, mm.
        amount_shape: shape of the gamma distribution of that amount; 1 is exponential, less is more skewed.
        spell_years: e-folding time of the climate index, the slow drift between wet and dry years, years.
        spell_strength: change of the log-odds of a wet day for one standard deviation of the index.
        mean_temperature: (mean, amplitude), degC.
        temperature_noise: (mean, amplitude) of the standard deviation of the daily anomaly, degC.
        wet_day_cooling: how far a wet day is below a dry one, degC.
        dry_range: daily maximum less minimum on a dry day, degC, the median.
        wet_range: the same on a wet day.
        dry_clearness: share of the extraterrestrial radiation that arrives on a dry day.
        wet_clearness: the same on a wet day.
        dry_humidity: relative humidity of a dry day, the median of a share.
        wet_humidity: the same on a wet day.
        wind: (mean, amplitude) of the median wind speed at 2 m, m/s.
        persistence: correlation of a day's anomalies of temperature, range, clearness, humidity and wind with the
            day before's.
    """

    latitude: float = 44.0
    elevation: float = 300.0
    warmest_day: int = 200
    wet_after_dry: tuple[float, float] = (0.24, 0.03)
    wet_after_wet: tuple[float, float] = (0.46, -0.02)
    wet_day_amount: tuple[float, float] = (6.5, 2.0)
    amount_shape: float = 0.75
    spell_years: float = 1.0
    spell_strength: float = 0.25
    mean_temperature: tuple[float, float] = (6.5, 14.5)
    temperature_noise: tuple[float, float] = (3.8, -1.2)
    wet_day_cooling: float = 1.0
    dry_range: float = 12.0
    wet_range: float = 8.0
    dry_clearness: float = 0.60
    wet_clearness: float = 0.38
    dry_humidity: float = 0.66
    wet_humidity: float = 0.82
    wind: tuple[float, float] = (2.6, -0.4)
    persistence: float = 0.7

    def cycle(self, pair: tuple[float, float], day_of_year: npt.NDArray[np.int64]) -> FloatArray:
        """The value of a yearly cosine on each day."""
        mean, amplitude = pair
        return mean + amplitude * np.cos(2 * np.pi * (day_of_year - self.warmest_day) / DAYS_PER_YEAR)


def generate_weather(
    time: npt.NDArray[np.datetime64], climate: Climate | None = None, seed: int = 0
) -> dict[str, FloatArray]:
    """Draw daily weather: the seven forcing columns of a SWAT table.

    Wet and dry days are a two-state Markov chain with probabilities of the season and of a slow climate index; wet days
    get gamma distributed amounts (Richardson 1981). The other variables are a yearly cycle plus an anomaly correlated
    from day to day, around levels that differ between wet and dry days. Unlike Richardson's, the anomalies of
    different variables are independent given wet and dry.

    A longer period from the same first day begins with the same weather, to the last bit.

    Args:
        time: (days,) dates, one a day.
        climate: what to draw from; by default a cool continental climate with snow each winter.
        seed: of the random numbers.

    Returns:
        (days,) arrays: PRECIPmm, TMP_MXdgC, TMP_MNdgC, SOLARMJ/m2, WINDM/s, RHmd (a share) and PETmm.

    Example:
        >>> weather = generate_weather(np.arange("2001", "2003", dtype="datetime64[D]"), seed=1)
        >>> len(weather["PRECIPmm"]), bool((weather["TMP_MXdgC"] > weather["TMP_MNdgC"]).all())
        (730, True)
    """
    climate = climate or Climate()
    day = day_of_year(time)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(8)]
    days = len(time)

    index = _anomaly(streams[0], days, math.exp(-1 / (climate.spell_years * DAYS_PER_YEAR)))
    odds = climate.spell_strength * index
    wet = _wet_days(
        streams[1].random(days),
        after_dry=_shift_odds(climate.cycle(climate.wet_after_dry, day), odds),
        after_wet=_shift_odds(climate.cycle(climate.wet_after_wet, day), odds),
    )
    scale = climate.cycle(climate.wet_day_amount, day) / climate.amount_shape
    precipitation = np.where(wet, scale * streams[2].standard_gamma(climate.amount_shape, days), 0.0)

    warmth, spread, clouds, moisture, gusts = (_anomaly(stream, days, climate.persistence) for stream in streams[3:])
    level = climate.cycle(climate.mean_temperature, day) - climate.wet_day_cooling * wet
    mean = level + climate.cycle(climate.temperature_noise, day) * warmth
    half_range = 0.5 * np.where(wet, climate.wet_range, climate.dry_range) * np.exp(0.25 * spread)
    clearness = np.where(wet, climate.wet_clearness, climate.dry_clearness) + 0.09 * clouds
    humidity = np.where(wet, climate.wet_humidity, climate.dry_humidity)
    weather = {
        "PRECIPmm": precipitation,
        "TMP_MXdgC": mean + half_range,
        "TMP_MNdgC": mean - half_range,
        "SOLARMJ/m2": np.clip(clearness, 0.1, 0.75) * extraterrestrial_radiation(day, climate.latitude),
        "WINDM/s": climate.cycle(climate.wind, day) * np.exp(0.4 * gusts),
        "RHmd": _shift_odds(humidity, 0.5 * moisture),
    }
    weather["PETmm"] = reference_evapotranspiration(weather, day, climate)
    return weather


def reference_evapotranspiration(
    weather: Mapping[str, FloatArray], day_of_year: npt.NDArray[np.int64], climate: Climate
) -> FloatArray:
    """Evapotranspiration of well-watered short grass, mm/day: Penman-Monteith, Allen et al. (1998), equation 6.

    The soil heat flux of a day is taken as zero, and so is a negative result (condensation).

    Args:
        weather: (days,) TMP_MXdgC, TMP_MNdgC, SOLARMJ/m2, WINDM/s and RHmd.
        day_of_year: (days,) 1 to 366.
        climate: for latitude and elevation.
    """
    warmest, coldest = weather["TMP_MXdgC"], weather["TMP_MNdgC"]
    mean = (warmest + coldest) / 2
    saturated = (_vapour_pressure(warmest) + _vapour_pressure(coldest)) / 2  # kPa
    actual = weather["RHmd"] * saturated
    slope = 4098 * _vapour_pressure(mean) / (mean + 237.3) ** 2  # kPa/degC
    psychrometric = 0.665e-3 * 101.3 * ((293 - 0.0065 * climate.elevation) / 293) ** 5.26  # kPa/degC

    solar = weather["SOLARMJ/m2"]
    clear_sky = (0.75 + 2e-5 * climate.elevation) * extraterrestrial_radiation(day_of_year, climate.latitude)
    black_body = 4.903e-9 * ((warmest + 273.16) ** 4 + (coldest + 273.16) ** 4) / 2
    cloud = 1.35 * np.minimum(solar / clear_sky, 1) - 0.35
    net_radiation = 0.77 * solar - black_body * (0.34 - 0.14 * np.sqrt(actual)) * cloud

    wind = weather["WINDM/s"]
    radiation_term = 0.408 * slope * net_radiation
    wind_term = psychrometric * 900 / (mean + 273) * wind * (saturated - actual)
    return np.maximum((radiation_term + wind_term) / (slope + psychrometric * (1 + 0.34 * wind)), 0)


def day_of_year(time: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    """Day of year of each date, 1 to 366."""
    days = time.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1


def _anomaly(stream: np.random.Generator, days: int, persistence: float) -> FloatArray:
    """A stationary first-order autoregression with mean 0 and variance 1.

    The recursion `x[t] = a x[t-1] + e[t]` is the product of (1 + a B)(1 + a^2 B^2)(1 + a^4 B^4)..., B the shift by one
    day, so a dozen array operations stand for the loop over days.
    """
    values = stream.standard_normal(days) * math.sqrt(1 - persistence**2)
    values[0] /= math.sqrt(1 - persistence**2)
    shift, weight = 1, persistence
    while shift < days and weight > 1e-12:
        values[shift:] += weight * values[:-shift]
        shift, weight = 2 * shift, weight**2
    return values


def _wet_days(draws: FloatArray, after_dry: FloatArray, after_wet: FloatArray) -> npt.NDArray[np.bool_]:
    """The Markov chain of wet days from uniform draws, without a loop.

    A draw below both probabilities makes the day wet, one above both dry, whatever the day before; one between them
    repeats the day before.
    """
    if (bad := np.flatnonzero(after_wet < after_dry)).size:
        raise MPTTError(
            f"A wet day must be likelier after a wet day than after a dry one; found {after_wet[bad[0]]:.3f} and"
            f" {after_dry[bad[0]]:.3f} on day {bad[0]}. Change wet_after_wet or wet_after_dry."
        )
    wet = draws < after_dry
    decided = wet | (draws >= after_wet)
    decided[0] = True
    return wet[np.maximum.accumulate(np.where(decided, np.arange(len(draws)), 0))]


def _shift_odds(probability: FloatArray, shift: FloatArray) -> FloatArray:
    """The probability after its log-odds moved by so much."""
    odds = probability / (1 - probability) * np.exp(shift)
    return odds / (1 + odds)


def _vapour_pressure(temperature: FloatArray) -> FloatArray:
    """Saturation vapour pressure, kPa: Allen et al. (1998), equation 11."""
    return 0.6108 * np.exp(17.27 * temperature / (temperature + 237.3))

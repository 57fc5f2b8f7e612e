"""A small simulated basin: the water balance that daily weather drives.

`water_balance` turns the weather that `generate_weather` draws into snow, soil water and streamflow. It follows
textbook equations, holds nothing hidden, and closes the balance of every day exactly:

    precipitation = evapotranspiration + revap + streamflow + change of storage

The three stores that matter for a network have three memories. Snow is gone each summer. Streamflow is made mostly of
surface runoff and lateral flow, and forgets in days. The deep soil layer is fed only by what the upper one cannot
hold, drains slowly, and remembers years.

References:
    Hock (2003), Temperature index melt modelling in mountain areas, doi:10.1016/S0022-1694(03)00257-9: degree-days.
    Neitsch et al. (2011), Soil and Water Assessment Tool theoretical documentation, version 2009, TR-406: curve number
    that follows soil water, lags of surface and lateral flow, the two aquifers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mptt.datamodules.simulation.weather import DAYS_PER_YEAR, FloatArray
from mptt.errors import MPTTError

Water = Any  # mm: a float for one site, a (sites,) array for several


@dataclass(frozen=True)
class Basin:
    """What the water balance is computed with. Rates are shares of a store that leave it in a day.

    Attributes:
        snow_below: mean temperature at and under which all precipitation is snow, degC.
        rain_above: at and over which all is rain; between the two the shares are linear, degC.
        melt_temperature: above which snow melts, degC.
        degree_day_factor: melt, mm per degC and day.
        dry_curve_number: SCS curve number of the empty upper layer.
        wet_curve_number: of the full one; the retention is linear between the two.
        upper_capacity: water that the upper soil layer holds before it runs over, mm.
        field_capacity: above which the upper layer drains, mm.
        upper_drainage: rate of the water above field capacity.
        lateral_share: of that drainage, the share that becomes lateral flow; the rest seeps to the deep layer.
        deep_capacity: water that the deep soil layer holds, mm.
        deep_drainage: rate of percolation from the deep layer to the groundwater.
        deep_uptake: share of the unmet evaporative demand that the roots take from a full deep layer.
        stress_below: filling of the upper layer under which evapotranspiration is limited, a share of its capacity.
        bare_cover: evaporative demand of bare soil, a share of the reference evapotranspiration.
        canopy_extinction: how fast the demand rises from there to the whole reference with leaf area.
        leaf_area: (winter, summer) leaf area index, m2/m2.
        leaf_temperature: (no leaves, all leaves), mean temperatures, degC.
        leaf_days: e-folding time in which leaves follow temperature, days.
        surface_release: rate of the surface runoff on its way to the channel.
        lateral_release: rate of the lateral flow on its way to the channel.
        recharge_release: rate of the percolate on its way to the aquifers.
        deep_share: share of the recharge that goes to the deep aquifer.
        revap: share of the reference evapotranspiration drawn from the shallow aquifer.
        shallow_release: rate of the shallow aquifer's flow to the channel.
        deep_release: rate of the deep aquifer's.
        channel_release: rate of the channel's flow to the outlet.
    """

    snow_below: float = -1.0
    rain_above: float = 3.0
    melt_temperature: float = 0.5
    degree_day_factor: float = 2.8
    dry_curve_number: float = 60.0
    wet_curve_number: float = 93.0
    upper_capacity: float = 160.0
    field_capacity: float = 110.0
    upper_drainage: float = 0.25
    lateral_share: float = 0.30
    deep_capacity: float = 600.0
    deep_drainage: float = 1 / 500
    deep_uptake: float = 0.5
    stress_below: float = 0.6
    bare_cover: float = 0.35
    canopy_extinction: float = 0.6
    leaf_area: tuple[float, float] = (0.4, 4.0)
    leaf_temperature: tuple[float, float] = (4.0, 18.0)
    leaf_days: float = 25.0
    surface_release: float = 0.7
    lateral_release: float = 0.35
    recharge_release: float = 1 / 30
    deep_share: float = 0.15
    revap: float = 0.02
    shallow_release: float = 1 / 60
    deep_release: float = 1 / 400
    channel_release: float = 0.65


class Stores(NamedTuple):
    """The state of the basin at the end of a day: water in mm, and the leaf area index."""

    snow: Water
    upper: Water
    deep: Water
    surface: Water
    lateral: Water
    percolate: Water
    shallow: Water
    aquifer: Water
    channel: Water
    leaf_area: Water

    @property
    def water(self) -> Water:
        """All water in the basin, mm."""
        return sum(self[:-1])


BALANCE_COLUMNS = (
    "SNOFALLmm",
    "SNOMELTmm",
    "SNOmm",
    "ETmm",
    "SW_INITmm",
    "SW_ENDmm",
    "PERCmm",
    "GW_RCHGmm",
    "DA_RCHGmm",
    "REVAPmm",
    "SA_STmm",
    "DA_STmm",
    "SURQ_GENmm",
    "SURQ_CNTmm",
    "LATQGENmm",
    "LATQCNTmm",
    "GW_Qmm",
    "GW_Q_Dmm",
    "DAILYCN",
    "LAI",
    "Q_pred_mm",
)


def water_balance(
    weather: Mapping[str, FloatArray], basin: Basin | None = None, initial: Stores | None = None
) -> dict[str, FloatArray]:
    """Run the basin through the weather, day by day.

    Args:
        weather: PRECIPmm, TMP_MXdgC, TMP_MNdgC and PETmm, each (days,) for one site or (days, sites) for several.
        basin: its parameters.
        initial: the stores before the first day; half-full soil and no snow by default. Fluxes of the first years show
            it: let the deep layer spin up for a decade or two.

    Returns:
        Arrays shaped like the weather: `BALANCE_COLUMNS`, and `storage`, all water in the basin at the end of the day.

    Raises:
        MPTTError: forcing that is missing, not finite, or of different shapes.
    """
    basin = basin or Basin()
    forcing = _forcing(weather)
    days, *sites = forcing[0].shape
    stores = initial or _half_full(basin)
    table = np.empty((days, len(BALANCE_COLUMNS) + 1, *sites))
    if sites:
        for day, today in enumerate(zip(*forcing, strict=True)):
            stores, fluxes = step(stores, *today, basin, np.minimum, np.maximum)
            table[day] = np.stack(np.broadcast_arrays(*fluxes, stores.water))
    else:  # Python's own floats are ten times faster than NumPy's here
        for day, today in enumerate(zip(*(values.tolist() for values in forcing), strict=True)):
            stores, fluxes = step(stores, *today, basin, min, max)
            table[day] = (*fluxes, stores.water)
    return {name: table[:, column] for column, name in enumerate((*BALANCE_COLUMNS, "storage"))}


def step(
    before: Stores,
    precipitation: Water,
    temperature: Water,
    demand: Water,
    basin: Basin,
    minimum: Callable[[Any, Any], Any],
    maximum: Callable[[Any, Any], Any],
) -> tuple[Stores, tuple[Water, ...]]:
    """One day of the water balance, in the order of SWAT: snow, runoff, soil, groundwater, channel.

    Args:
        before: the stores at the end of the day before.
        precipitation: mm.
        temperature: mean of the day, degC.
        demand: reference evapotranspiration, mm.
        basin: the parameters.
        minimum: of two values: `min` for floats, `np.minimum` for arrays over sites.
        maximum: likewise.

    Returns:
        The stores at the end of the day, and the day's values in the order of `BALANCE_COLUMNS`.
    """
    # Snow: degree-days (Hock 2003, equation 2).
    liquid = (temperature - basin.snow_below) / (basin.rain_above - basin.snow_below)
    liquid = minimum(maximum(liquid, 0.0), 1.0)
    snowfall = (1.0 - liquid) * precipitation
    melt = basin.degree_day_factor * maximum(temperature - basin.melt_temperature, 0.0)
    melt = minimum(melt, before.snow + snowfall)
    snow = before.snow + snowfall - melt
    reaching = precipitation - snowfall + melt

    # Surface runoff: curve number by soil water (Neitsch et al. 2011, section 2:1.1).
    dry, wet = _retention(basin.dry_curve_number), _retention(basin.wet_curve_number)
    retention = dry + (wet - dry) * before.upper / basin.upper_capacity
    beyond = maximum(reaching - 0.2 * retention, 0.0)
    runoff = beyond * beyond / (reaching + 0.8 * retention)
    upper = before.upper + reaching - runoff

    # Leaves follow temperature; evapotranspiration takes from the upper layer first, the deep one gives the rest.
    bare, full = basin.leaf_temperature
    leaves = minimum(maximum((temperature - bare) / (full - bare), 0.0), 1.0)
    winter, summer = basin.leaf_area
    leaf_area = before.leaf_area + (winter + (summer - winter) * leaves - before.leaf_area) / basin.leaf_days
    cover = leaf_area * basin.canopy_extinction
    demand_of_cover = demand * (basin.bare_cover + (1 - basin.bare_cover) * cover / (1 + cover))
    from_upper = demand_of_cover * minimum(upper / (basin.stress_below * basin.upper_capacity), 1.0)
    from_upper = minimum(from_upper, upper)
    filling = before.deep / basin.deep_capacity
    from_deep = minimum(basin.deep_uptake * filling * (demand_of_cover - from_upper), before.deep)
    upper = upper - from_upper
    deep = before.deep - from_deep

    # The upper layer drains sideways and down, the deep one down.
    drained = basin.upper_drainage * maximum(upper - basin.field_capacity, 0.0)
    lateral_made = basin.lateral_share * drained
    seepage = minimum(drained - lateral_made, basin.deep_capacity - deep)
    upper = upper - lateral_made - seepage
    overflow = maximum(upper - basin.upper_capacity, 0.0)
    upper = upper - overflow
    runoff = runoff + overflow
    deep = deep + seepage
    percolation = basin.deep_drainage * deep
    deep = deep - percolation

    # Groundwater: linear reservoirs in a row (Neitsch et al. 2011, section 2:4).
    percolate = before.percolate + percolation
    recharge = basin.recharge_release * percolate
    to_aquifer = basin.deep_share * recharge
    shallow = before.shallow + recharge - to_aquifer
    revap = minimum(basin.revap * demand, shallow)
    shallow = shallow - revap
    shallow_flow = basin.shallow_release * shallow
    aquifer = before.aquifer + to_aquifer
    aquifer_flow = basin.deep_release * aquifer

    # The way to the outlet.
    surface = before.surface + runoff
    surface_flow = basin.surface_release * surface
    lateral = before.lateral + lateral_made
    lateral_flow = basin.lateral_release * lateral
    channel = before.channel + surface_flow + lateral_flow + shallow_flow + aquifer_flow
    streamflow = basin.channel_release * channel

    after = Stores(
        snow,
        upper,
        deep,
        surface - surface_flow,
        lateral - lateral_flow,
        percolate - recharge,
        shallow - shallow_flow,
        aquifer - aquifer_flow,
        channel - streamflow,
        leaf_area,
    )
    fluxes = (
        snowfall,
        melt,
        snow,
        from_upper + from_deep,
        before.upper + before.deep,
        upper + deep,
        percolation,
        recharge,
        to_aquifer,
        revap,
        after.shallow,
        after.aquifer,
        runoff,
        surface_flow,
        lateral_made,
        lateral_flow,
        shallow_flow,
        aquifer_flow,
        25400.0 / (retention + 254.0),
        leaf_area,
        streamflow,
    )
    return after, fluxes


def autocorrelation(series: npt.ArrayLike, lags: int | Sequence[int], period: float = DAYS_PER_YEAR) -> FloatArray:
    """Correlation of a daily series with itself, once the mean of each day of the year is taken out.

    Args:
        series: (days,) values without gaps.
        lags: in days.
        period: days in a year of the series' calendar: 365.2425 with leap days, 365 without.

    Returns:
        (lags,) correlations.

    Raises:
        MPTTError: gaps, or a series too short for two years and the longest lag.

    Example:
        >>> wave = np.sin(2 * np.pi * np.arange(3650) / 365) + np.tile([1.0, -1.0], 1825)
        >>> autocorrelation(wave, [0, 1, 2], period=365).round(2)
        array([ 1., -1.,  1.])
    """
    values = np.asarray(series, dtype=np.float64)
    steps = np.atleast_1d(np.asarray(lags, dtype=np.int64))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise MPTTError(f"autocorrelation needs a 1-d series without gaps, found shape {values.shape} or NaN in it.")
    if len(values) < max(2 * period, steps.max() + 2):
        raise MPTTError(
            f"autocorrelation needs two years and more than the longest lag, {steps.max()} days;"
            f" found {len(values)} days."
        )
    phase = np.floor(np.arange(len(values)) % period).astype(np.int64)
    anomaly = values - (np.bincount(phase, values) / np.maximum(np.bincount(phase), 1))[phase]
    pairs = ((anomaly[: len(anomaly) - lag], anomaly[lag:]) for lag in steps)
    return np.array([np.corrcoef(earlier, later)[0, 1] for earlier, later in pairs])


def _forcing(weather: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precipitation, mean temperature and evaporative demand, checked."""
    names = ("PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "PETmm")
    if missing := [name for name in names if name not in weather]:
        raise MPTTError(f"The water balance needs {', '.join(names)}; found no {', '.join(missing)}.")
    arrays = [np.asarray(weather[name], dtype=np.float64) for name in names]
    if len(shapes := {array.shape for array in arrays}) > 1 or arrays[0].ndim not in (1, 2):
        raise MPTTError(f"The forcing must be (days,) or (days, sites), all of one shape; found {sorted(shapes)}.")
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise MPTTError(f"{name} is not finite on day {np.argwhere(~np.isfinite(array))[0][0]}; fill it first.")
    precipitation, warmest, coldest, demand = arrays
    return precipitation, (warmest + coldest) / 2, demand


def _half_full(basin: Basin) -> Stores:
    empty = Stores(*[0.0] * len(Stores._fields))
    return empty._replace(upper=basin.upper_capacity / 2, deep=basin.deep_capacity / 2, leaf_area=basin.leaf_area[0])


def _retention(curve_number: float) -> float:
    """Water that the ground can take up, mm, by SCS curve number."""
    return 25400.0 / curve_number - 254.0

"""How long the stores of the simulated basin remember: the same weather from two fillings of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mptt.datamodules.simulation.waterbalance import BALANCE_COLUMNS, Basin, Stores, step, water_balance
from mptt.datamodules.simulation.weather import FloatArray
from mptt.errors import MPTTError

Days = Sequence[int] | npt.NDArray[np.int64]
_FORCING = ("PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "PETmm")


def stores_before(weather: Mapping[str, FloatArray], days: Days, basin: Basin | None = None) -> Stores:
    """The stores at the beginning of some days, of a basin that starts half full on the first.

    Args:
        weather: PRECIPmm, TMP_MXdgC, TMP_MNdgC and PETmm, each (days,).
        days: numbers of days, from 0; 0 is the half-full basin itself.
        basin: its parameters.

    Returns:
        Each store (n,), one for each day asked for.

    Raises:
        MPTTError: a day that the weather does not reach.
    """
    basin, wanted = basin or Basin(), np.asarray(days, dtype=np.int64)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() <= len(weather["PRECIPmm"]):
        raise MPTTError(f"The weather has {len(weather['PRECIPmm'])} days, found day {wanted.min()} to {wanted.max()}.")
    rain, warmest, coldest, demand = (np.asarray(weather[name], dtype=np.float64) for name in _FORCING)
    stores = Stores(*[0.0] * len(Stores._fields))
    stores = stores._replace(upper=basin.upper_capacity / 2, deep=basin.deep_capacity / 2, leaf_area=basin.leaf_area[0])
    found = {0: stores}
    last, kept = int(wanted.max(initial=0)), set(wanted.tolist())
    forcing = (values[:last].tolist() for values in (rain, (warmest + coldest) / 2, demand))
    for day, (fallen, temperature, needed) in enumerate(zip(*forcing, strict=True), start=1):
        stores, _ = step(stores, fallen, temperature, needed, basin, min, max)
        if day in kept:
            found[day] = stores
    return Stores(*np.array([found[int(day)] for day in wanted]).reshape(len(wanted), -1).T)


def store_distances(
    weather: Mapping[str, FloatArray],
    starts: Days,
    steps: int,
    others: Days | None = None,
    names: Sequence[str] = BALANCE_COLUMNS,
    basin: Basin | None = None,
) -> dict[str, FloatArray]:
    """The true memory of the basin: its water run twice through the same weather, from two fillings.

    Args:
        weather: PRECIPmm, TMP_MXdgC, TMP_MNdgC and PETmm, each (days,).
        starts: (n,) days from which it is run, with the stores that it has then.
        steps: days to run.
        others: (n,) days whose stores are the other filling; by default a half-full soil without snow.
        names: of `BALANCE_COLUMNS`, whose difference is asked for.
        basin: its parameters.

    Returns:
        Of each name, (n, steps) the absolute difference on the day of the start and those that follow, mm.

    Raises:
        MPTTError: weather that ends before, or a name that is none.

    Example:
        >>> from mptt.datamodules.simulation.weather import generate_weather
        >>> weather = generate_weather(np.arange("2001-01-01", "2005-01-01", dtype="datetime64[D]"), seed=0)
        >>> apart = store_distances(weather, [200], 1000, others=[400], names=["SW_ENDmm"])["SW_ENDmm"]
        >>> bool(apart[0, 0] > apart[0, -1] > 0)
        True
    """
    day = np.asarray(starts, dtype=np.int64)
    if unknown := [name for name in names if name not in BALANCE_COLUMNS]:
        raise MPTTError(f"The water balance has no {', '.join(unknown)}; it has {', '.join(BALANCE_COLUMNS)}.")
    if steps < 1 or len(day) == 0 or day.max() + steps > len(weather["PRECIPmm"]):
        raise MPTTError(
            f"store_distances needs a start or more and {steps} days of weather after each, 1 or more; found"
            f" {len(day)} starts and {len(weather['PRECIPmm'])} days."
        )
    along = np.arange(steps)[:, None] + day
    forcing = {name: np.asarray(weather[name], dtype=np.float64)[along] for name in _FORCING}
    fillings = [stores_before(weather, day, basin)]
    fillings.append(stores_before(weather, np.zeros_like(day) if others is None else others, basin))
    one, other = (water_balance(forcing, basin, filling) for filling in fillings)
    return {name: np.abs(one[name] - other[name]).T for name in names}

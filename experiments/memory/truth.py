"""The true memory of the simulated basin's stores, at the dates of a horizon."""

from __future__ import annotations

import numpy as np
import xarray as xr

from mptt.datamodules import SimulatedBasin
from mptt.datamodules.simulated import SPIN_UP_YEARS
from mptt.datamodules.simulation.remembering import store_distances
from mptt.datamodules.simulation.waterbalance import BALANCE_COLUMNS
from mptt.datamodules.simulation.weather import generate_weather
from mptt.datamodules.swat import years_after
from mptt.experiments.memory.runs import OpenedRun


def true_horizon(run: OpenedRun, found: xr.Dataset) -> xr.Dataset | None:
    """What becomes of a wrong filling of the basin itself, in the same weather from the same dates.

    Beside visited pairs the other filling is that of the same other date; beside zeros and random numbers, which stand
    for knowing nothing, a half-full soil without snow.

    Args:
        run: whose data are a SimulatedBasin.
        found: of `horizon`.

    Returns:
        `NAME_distance`, `NAME_spread` and the rest as there, without states; None where the data are no simulation, or
        the targets none of its stores.
    """
    data = run.data
    targets = [name for name in data.targets if name in BALANCE_COLUMNS]
    if not isinstance(data, SimulatedBasin) or not targets:
        return None
    first = np.datetime64(data.time[0], "D")
    time = np.arange(years_after(first, -SPIN_UP_YEARS), years_after(first, data.years))
    before = int((first - time[0]) / np.timedelta64(1, "D"))
    # One site: every start is there.
    starts, others = (found[name].values[0] + before for name in ("begin", "partner"))
    steps = int(found.attrs["steps"])
    weather = generate_weather(time, seed=data.weather_seed)
    visited = found.attrs["pairs"] == "visited"
    apart = store_distances(weather, starts, steps, others if visited else None, targets)
    kept = found.drop_vars([name for name in found.data_vars if str(name).split("_")[-1] == "distance"])
    for name, values in apart.items():
        padded = np.concatenate([np.full((len(values), 1), np.nan), values], axis=1)
        kept[f"{name}_distance"] = ("site", "start", "step"), padded[None].astype(np.float32)
    kept.attrs["compared"] = f"the true filling against {'that of another date' if visited else 'a half-full soil'}"
    return kept.drop_vars([f"{name}_spread" for name in data.targets if name not in targets])

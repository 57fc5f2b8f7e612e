"""The embedded data set: a simulated basin with the columns of the MPTT paper's SWAT table, made on the spot."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.reading.stores import refuse_pickles
from mptt.datamodules.series import SeriesDataModule
from mptt.datamodules.simulation.waterbalance import Basin, water_balance
from mptt.datamodules.simulation.weather import Climate, generate_weather
from mptt.datamodules.swat import SWAT_COLUMNS, SWAT_INPUTS, add_bent_day, years_after
from mptt.errors import MPTTError, MPTTWarning
from mptt.files import draft_folder

VERSION = 1  # of the equations: a change of them that is no change of a parameter raises it, and so retires old caches
SITE = "simulated"
SPIN_UP_YEARS = 30  # weather before the first day, so that the deep soil has forgotten its initial filling


class SimulatedBasin(SeriesDataModule):
    """A basin whose soil water remembers years, its snow a season, its streamflow days: daily, 1000 years by default.

    A stand-in for the SWAT simulation of the MPTT paper, which is not distributed: the same columns, length and start,
    and the paper's set-up as default, but another model and another basin, so scores are not the paper's. Weather is
    drawn by `generate_weather` and run through `water_balance`; the same `weather_seed` gives the same data on every
    machine, up to rounding. Fewer years are the first ones of more.

    Measured on 1000 years, weather_seed 0, deseasonalised autocorrelation after so many days:

    ======================  ====  ====  ====  ====  ====  ====  ====
    target                     1     7    14    30    90   365   730
    ======================  ====  ====  ====  ====  ====  ====  ====
    SW_ENDmm (soil water)   1.00  0.99  0.97  0.95  0.88  0.63  0.35
    SNOmm (snow)            0.99  0.90  0.77  0.56  0.13  0.05  0.02
    Q_pred_mm (streamflow)  0.87  0.25  0.07  0.05  0.07  0.07  0.05
    ======================  ====  ====  ====  ====  ====  ====  ====

    Inputs and targets are variables of `simulate_basin`. Of the paper's columns TLOSSmm and QTILEmm are absent: the
    basin loses no water on the way to its outlet and has no tile drains.

    Args:
        years: length of the simulation, from 1902-01-01.
        weather_seed: of the weather; `seed` is that of the shuffling.
        cache: folder that keeps the simulation as Zarr; None to simulate anew each time, which takes a second or two.
        inputs: of the model; `DOYbent` is added to the simulated variables.
        targets: SW_ENDmm, SNOmm, Q_pred_mm, or any other variable.
        warmup: days at the start of validation and test that are fed but not scored.
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    Example:
        >>> data = SimulatedBasin(years=10, cache=None, targets=["SNOmm"], warmup=0)
        >>> data.setup("fit")
        >>> data.windows
        WindowIndex(9 windows, 1 sites, length 366)
    """

    def __init__(
        self,
        years: int = 1000,
        weather_seed: int = 0,
        cache: str | Path | None = "data/simulated",
        inputs: Sequence[str] = SWAT_INPUTS,
        targets: Sequence[str] = ("SW_ENDmm",),
        warmup: int = 730,
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, warmup=warmup, **series)
        self.years, self.weather_seed = years, weather_seed
        self.cache = None if cache is None else Path(cache)

    def prepare_data(self) -> None:
        """Fill the cache, once a machine."""
        if self.cache is not None:
            cached_basin(self.cache, self.years, self.weather_seed)

    def load(self) -> xr.Dataset:
        """The simulation, from the cache where it is there, and DOYbent."""
        if self.cache is None:
            return add_bent_day(simulate_basin(self.years, self.weather_seed))
        return add_bent_day(cached_basin(self.cache, self.years, self.weather_seed))


def simulate_basin(years: int = 1000, seed: int = 0, start: str = "1902-01-01") -> xr.Dataset:
    """Simulate weather and water of one basin.

    Args:
        years: calendar years, at least 1.
        seed: of the weather.
        start: first day, YYYY-MM-DD.

    Returns:
        float32 variables on (site, time), named, with units, as in `SWAT_COLUMNS`; time is datetime64[s].

    Raises:
        MPTTError: less than a year, a negative seed, or a start that is not a date.

    Example:
        >>> basin = simulate_basin(years=2, seed=1)
        >>> dict(basin.sizes), str(basin["time"].values[-1])[:10]
        ({'site': 1, 'time': 730}, '1903-12-31')
    """
    if years < 1 or seed < 0:
        raise MPTTError(f"A simulation has at least 1 year and a seed of 0 or more; found years={years}, seed={seed}.")
    try:
        first = np.datetime64(start, "D")
    except ValueError as error:
        raise MPTTError(f"start must be a date YYYY-MM-DD, found {start!r}.") from error
    time = np.arange(years_after(first, -SPIN_UP_YEARS), years_after(first, years))
    weather = generate_weather(time, seed=seed)
    simulated = {**weather, **water_balance(weather)}
    kept = time >= first
    variables = {
        name: (("site", "time"), simulated[name][kept].astype(np.float32)[None], {"units": unit, "long_name": meaning})
        for name, (unit, meaning) in SWAT_COLUMNS.items()
        if name in simulated
    }
    return xr.Dataset(
        variables,
        {"site": [SITE], "time": time[kept].astype("datetime64[s]")},
        {
            "title": f"Simulated basin, {years} years daily, seed {seed}",
            "source": "mptt.datamodules: stochastic weather generator and daily water balance",
            "license": "MIT, as the program that makes it",
            "references": "Richardson 1981, doi:10.1029/WR017i001p00182; Hock 2003, doi:10.1016/S0022-1694(03)00257-9;"
            " Allen et al. 1998, FAO Irrigation and Drainage Paper 56; Neitsch et al. 2011, TWRI TR-406",
        },
    )


def cached_basin(cache: str | Path, years: int = 1000, seed: int = 0) -> xr.Dataset:
    """The data set of `simulate_basin`, kept as a Zarr store in a folder.

    The store's name holds the years, the seed and a hash of all parameters, so no other simulation is taken for it. A
    store that does not hold what was written is simulated anew, with a warning. Zarr takes a slash in a name for a
    folder: on disk it is `_per_`, and the attribute `column` holds the name as it was.

    Args:
        cache: folder, made if it is not there.
        years: of the simulation.
        seed: of the weather.

    Raises:
        MPTTError: the folder cannot be written.
    """
    path = Path(cache) / f"basin-{years}y-seed{seed}-{_recipe()}.zarr"
    if path.exists():
        try:
            return _read(path)
        except Exception as error:  # a damaged store fails in as many ways as there are bytes in it
            warnings.warn(
                f"The cached simulation {path} is damaged ({error}); it is simulated anew.", MPTTWarning, stacklevel=2
            )
    dataset = simulate_basin(years, seed)
    _write(dataset, path)
    return dataset


def _recipe() -> str:
    """A hash of all that the simulation depends on besides years and seed."""
    recipe = repr((VERSION, SPIN_UP_YEARS, Climate(), Basin()))
    return hashlib.sha256(recipe.encode()).hexdigest()[:8]


def _read(path: Path) -> xr.Dataset:
    refuse_pickles(path)
    with xr.open_zarr(path, decode_times=xr.coders.CFDatetimeCoder(time_unit="s")) as stored:
        dataset = stored.load()
    written = dataset.attrs.pop("checksum", "none")
    if (found := _checksum(dataset)) != written:  # Zarr reads a chunk that is not there as missing values
        raise MPTTError(f"its checksum is {found[:8]}, the one written with it {written[:8]}")
    names = {name: dataset[name].attrs.pop("column", name) for name in dataset.data_vars}
    for name in dataset.variables:
        dataset[name].encoding = {}
    dataset = dataset.rename(names)
    return dataset[[name for name in SWAT_COLUMNS if name in dataset]]


def _write(dataset: xr.Dataset, path: Path) -> None:
    """Write beside the final place, then move there in one step: no reader sees half a store."""
    plain = {str(name): str(name).replace("/", "_per_") for name in dataset.data_vars}
    stored = dataset.rename(plain)
    for name, on_disk in plain.items():
        if on_disk != name:
            stored[on_disk].attrs["column"] = name
    stored.attrs["checksum"] = _checksum(stored)
    days = dataset.sizes["time"]
    encoding: dict[str, dict[str, Any]] = {name: {"chunks": (1, days)} for name in plain.values()}
    first = np.datetime_as_string(dataset["time"].values[0], unit="D")
    encoding["time"] = {"chunks": (days,), "units": f"days since {first}", "dtype": "int64"}
    try:
        with draft_folder(path) as draft:
            # Format 2 has a settled encoding for the site names; in format 3 that of strings is still in flux.
            stored.to_zarr(draft / "new", zarr_format=2, consolidated=True, encoding=encoding)
            with suppress(FileNotFoundError):  # there is a damaged one, or one that another process has just made
                os.replace(path, draft / "old")
            os.replace(draft / "new", path)
    except OSError as error:
        if not path.exists():
            raise MPTTError(
                f"Cannot keep the simulation at {path} ({error}); choose another cache folder, or cache=None."
            ) from error


def _checksum(dataset: xr.Dataset) -> str:
    """Over names and values of all variables, in the order of their names on disk."""
    digest = hashlib.sha256()
    for name in sorted(str(name) for name in dataset.variables):
        values = dataset[name].values
        digest.update(f"{name} {values.dtype.kind} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()

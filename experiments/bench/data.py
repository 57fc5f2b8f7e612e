"""What series cost that are read from a store, each measurement in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from mptt.datamodules import SeriesDataModule, simulate_basin
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.store import store_source
from mptt.datamodules.storing.converting import convert
from mptt.experiments.bench.common import Figure, Settings, interleaved, quiet, ratio, repeated, seconds_of
from mptt.experiments.regressor import SequenceRegressor

MEMORY = 0.1  # GiB for the series that are read as they are needed: a third of those of 671 sites
INPUTS = ["PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "RHmd", "SNOFALLmm", "SNOMELTmm", "PETmm"]
TARGET = "SW_ENDmm"
Measured = dict[str, float]


def data(settings: Settings) -> list[Figure]:
    """Set-up, batches, training steps and memory, in memory and from a store of 35 years of 8 daily variables."""
    sites, steps, hidden = settings.size(671, 12), settings.size(150, 3), settings.size(64, 8)
    memory, repeats = settings.size(MEMORY, 0.003), settings.size(settings.at_most(3), 1)
    settings.tell(f"simulating {sites} basins")
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "simulated.nc"), Path(folder, "data.zarr")
        simulated(sites).to_netcdf(source)
        converting = seconds_of(lambda: convert(store_source(source), path))
        opening = repeated(repeats, lambda: open_dataset(path))
        modes: dict[str, tuple[float | None, bool]] = {
            "in memory": (None, True), "from the store": (memory, True), "from the store, no thread": (memory, False)
        }  # fmt: skip
        measures = {
            mode: partial(_in_own_process, path, *how, steps, hidden, torch.get_num_threads())
            for mode, how in modes.items()
        }
        # Nothing warms up: each process begins cold, as a user's does.
        found = interleaved(settings, repeats, measures, warm_up=False)
    of = f"{sites} sites x 35 years x 8 variables"
    figures = [
        Figure(f"converting {of}, NetCDF to Zarr", [converting], "s"),
        Figure("opening the store", [1000 * seconds for seconds in opening], "ms"),
    ]
    for mode, runs in found.items():
        for what, unit, target in (
            ("set-up", "s", 10.0),
            ("first batch", "s", None),
            ("batches in a second, without training", "1/s", None),
            ("training step", "ms", None),
            ("loading in a training step", "%", 5.0 if mode == "in memory" else 25.0),
            ("memory beyond the start's", "GiB", None),
        ):
            figures.append(Figure(f"{mode}: {what}", [run[what] for run in runs], unit, target))
    stored, held = ([run["training step"] for run in found[mode]] for mode in ("from the store", "in memory"))
    return [*figures, ratio("training step: from the store / in memory", stored, held, 1.25)]


def _in_own_process(*how: Any) -> Measured:
    # Memory is a process's own.
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(measure, how)


def simulated(sites: int) -> xr.Dataset:
    """Basins of 35 years, each with weather of its own."""
    basins = [simulate_basin(35, seed=site, start="1980-01-01")[[*INPUTS, TARGET]] for site in range(sites)]
    named = [basin.assign_coords(site=[f"{site:08}"]) for site, basin in enumerate(basins)]
    return xr.concat(named, "site")


def measure(path: Path, memory: float | None, thread: bool, steps: int, hidden: int, threads: int) -> Measured:
    """One run: set-up, batches alone, training steps, and the most memory that it took."""
    torch.set_num_threads(threads)
    if not thread:
        StoredSeries.expect = lambda *_: None  # type: ignore[method-assign]
    before = _peak()
    data = SeriesDataModule(
        path, inputs=INPUTS, targets=[TARGET], window=366, stride=183, batch_size=64, memory=memory, seed=0
    )
    with quiet():
        return _found(data, before, steps, hidden)


def _found(data: SeriesDataModule, before: int, steps: int, hidden: int) -> Measured:
    found = {"set-up": seconds_of(data.setup)}
    batches = iter(data.train_dataloader())
    found["first batch"] = seconds_of(lambda: next(batches))
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    found["batches in a second, without training"] = count / (time.perf_counter() - begin)
    found |= _train(data, steps, hidden)
    return found | {"memory beyond the start's": (_peak() - before) / 2**20}


def _train(data: SeriesDataModule, steps: int, hidden: int) -> Measured:
    torch.manual_seed(0)
    model = SequenceRegressor(data.input_size, hidden_size=hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches: Iterator[dict[str, torch.Tensor]] = iter(data.train_dataloader())
    loading = 0.0
    begin = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        loading += time.perf_counter() - asked
        squared = (model(batch["x"]) - batch["y"]).square() * batch["mask"]
        optimizer.zero_grad()
        (squared.sum() / batch["mask"].sum().clamp(min=1)).backward()
        optimizer.step()
    whole = time.perf_counter() - begin
    return {"training step": 1000 * whole / steps, "loading in a training step": 100 * loading / whole}


def _peak() -> int:
    """The most memory that this process has had, in KiB."""
    # Not getrusage: a new process begins there with the most of the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

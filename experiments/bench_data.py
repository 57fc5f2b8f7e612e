"""What series cost that are read from a store: `python -m mptt.experiments.bench_data`. Each measure in its process."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import xarray as xr
from jsonargparse import auto_cli

from mptt.datamodules import SeriesDataModule, simulate_basin
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.store import store_source
from mptt.datamodules.storing.converting import convert
from mptt.experiments.bench import figure, seconds_of, show
from mptt.experiments.regressor import SequenceRegressor

MEMORY = 0.1  # GiB for the series that are read as they are needed: a third of them
INPUTS = ["PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "RHmd", "SNOFALLmm", "SNOMELTmm", "PETmm"]
TARGET = "SW_ENDmm"
Measured = dict[str, float]


def bench_data(
    repeats: int = 3, sites: int = 671, steps: int = 150, hidden: int = 64, out: str = "runs/bench_data.json"
) -> None:
    """Measure series in memory and from a store, print a table, write JSON.

    Args:
        repeats: of each measurement, turn and turn about.
        sites: of 35 years of 7 daily inputs and a target.
        steps: of training in each measurement.
        hidden: units of the GRU that trains.
        out: the JSON file.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "simulated.nc"), Path(folder, "data.zarr")
        simulated(sites).to_netcdf(source)
        converting = seconds_of(lambda: convert(store_source(source), path))
        opening = [seconds_of(lambda: open_dataset(path)) for _ in range(repeats)]
        modes: dict[str, tuple[float | None, bool]] = {
            "in memory": (None, True), "from the store": (MEMORY, True), "from the store, no thread": (MEMORY, False)
        }  # fmt: skip
        found: dict[str, list[Measured]] = {mode: [] for mode in modes}
        for _ in range(repeats):
            for mode, how in modes.items():
                # A process each, whose memory is its own.
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    found[mode].append(process.apply(measure, (path, *how, steps, hidden)))
    of = f"{sites} sites x 35 years x 8 variables"
    results = [
        figure(f"converting {of}, NetCDF to Zarr", [converting], "s"),
        figure("opening the store", [1000 * seconds for seconds in opening], "ms"),
    ]
    for mode, runs in found.items():
        for what, unit, target in (
            ("set-up", "s", 10.0),
            ("first batch", "s", None),
            ("batches in a second, without training", "1/s", None),
            ("training step", "ms", None),
            ("loading in a training step", "x", 0.05 if mode == "in memory" else 0.25),
            ("memory beyond the start's", "GiB", None),
        ):
            results.append(figure(f"{mode}: {what}", [run[what] for run in runs], unit, target))
    ratio = [a["training step"] / b["training step"] for a, b in zip(*list(found.values())[1::-1], strict=True)]
    results.append(figure("training step: from the store / in memory", ratio, "x", 1.25))
    show(results, out)


def simulated(sites: int) -> xr.Dataset:
    """Basins of 35 years, each with weather of its own."""
    basins = [simulate_basin(35, seed=site, start="1980-01-01")[[*INPUTS, TARGET]] for site in range(sites)]
    named = [basin.assign_coords(site=[f"{site:08}"]) for site, basin in enumerate(basins)]
    return xr.concat(named, "site")


def measure(path: Path, memory: float | None, thread: bool, steps: int, hidden: int) -> Measured:
    """One run: set-up, batches alone, training steps, and the most memory that it took."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if not thread:
        StoredSeries.expect = lambda *_: None  # type: ignore[method-assign]
    before = _peak()
    data = SeriesDataModule(
        path, inputs=INPUTS, targets=[TARGET], window=366, stride=183, batch_size=64, memory=memory, seed=0
    )
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
    return {"training step": 1000 * whole / steps, "loading in a training step": loading / whole}


def _peak() -> int:
    """The most memory that this process has had, in KiB."""
    # Not getrusage: a new process begins there with the most of the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    auto_cli(bench_data)

"""What series cost that are read from a store: `python -m mptt.experiments.bench_data`. Each measure in its process."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from zarr.codecs import ZstdCodec

from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.stored import StoredSeries
from mptt.experiments.bench import figure, random_dataset, seconds_of, show
from mptt.experiments.regressor import SequenceRegressor

MEMORY = 0.1  # GiB for the series that are read as they are needed: a third of them
INPUTS = [f"x{nth}" for nth in range(8)]
Measured = dict[str, float]


def bench_data(
    repeats: int = 3, sites: int = 671, steps: int = 400, hidden: int = 64, out: str = "runs/bench_data.json"
) -> None:
    """Measure series in memory and from a store, print a table, write JSON.

    Args:
        repeats: of each measurement, turn and turn about.
        sites: of 35 years of 8 daily inputs and a target.
        steps: of training in each measurement.
        hidden: units of the GRU that trains.
        out: the JSON file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.zarr"
        dataset = random_dataset(sites, len(INPUTS), pd.date_range("1980-01-01", "2014-12-31", unit="s").values)
        chunks = {"chunks": (1, dataset.sizes["time"]), "compressors": (ZstdCodec(level=3),)}
        encoding = {str(name): chunks for name in dataset.data_vars}
        writing = seconds_of(partial(dataset.to_zarr, path, encoding=encoding))
        del dataset
        modes: dict[str, tuple[float | None, bool]] = {
            "in memory": (None, True), "from the store": (MEMORY, True), "from the store, no thread": (MEMORY, False)
        }  # fmt: skip
        found: dict[str, list[Measured]] = {mode: [] for mode in modes}
        for _ in range(repeats):
            for mode, how in modes.items():
                # A process each, whose memory is its own.
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    found[mode].append(process.apply(measure, (path, *how, steps, hidden)))
    results = [figure(f"writing the store of {sites} sites x 35 years x 9", [writing], "s", float("inf"))]
    for mode, runs in found.items():
        for what, unit, target in (
            ("set-up", "s", 10.0),
            ("first batch", "s", float("inf")),
            ("batch, without training", "ms", float("inf")),
            ("training step", "ms", float("inf")),
            ("loading in a training step", "x", 0.05 if mode == "in memory" else 0.25),
            ("memory beyond the start's", "GiB", float("inf")),
        ):
            results.append(figure(f"{mode}: {what}", [run[what] for run in runs], unit, target))
    ratio = [a["training step"] / b["training step"] for a, b in zip(*list(found.values())[1::-1], strict=True)]
    results.append(figure("training step: from the store / in memory", ratio, "x", 1.25))
    show(results, out)


def measure(path: Path, memory: float | None, thread: bool, steps: int, hidden: int) -> Measured:
    """One run: set-up, batches alone, training steps, and the most memory that it took."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if not thread:
        StoredSeries.expect = lambda *_: None  # type: ignore[method-assign]
    before = _peak()
    data = SeriesDataModule(
        path, inputs=INPUTS, targets=["y"], window=366, stride=183, batch_size=64, memory=memory, seed=0
    )
    found = {"set-up": seconds_of(data.setup)}
    batches = iter(data.train_dataloader())
    found["first batch"] = seconds_of(lambda: next(batches))
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    found["batch, without training"] = 1000 * (time.perf_counter() - begin) / count
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

"""What a step costs: `python -m mptt.experiments.bench`. Ratios within one run, medians of interleaved repeats."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import xarray as xr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from mptt import KeyMap, StateMap, WindowIndex
from mptt.callbacks import ClosedLoopCallback, MPTTCallback
from mptt.datamodules import SeriesDataModule, SimulatedBasin
from mptt.experiments.regressor import SequenceRegressor


@dataclass
class Figure:
    """One measured number.

    Attributes:
        what: was measured.
        value: median over repeats.
        unit: of the value; "x" for a ratio.
        target: that it must not pass.
        low: smallest of the repeats.
        high: largest of the repeats.
    """

    what: str
    value: float
    unit: str
    target: float | None
    low: float
    high: float


class EpochClock(pl.Callback):
    """Seconds from the start of a training epoch to its end, the end hooks of other callbacks included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self._start)


def bench(repeats: int = 15, threads: int | None = None, quick: bool = False, out: str = "runs/bench.json") -> None:
    """Measure, print a table, write JSON.

    Args:
        repeats: of each measurement.
        threads: of torch; by default what torch takes.
        quick: fewer years and repeats, for a look.
        out: the JSON file.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if quick:
        repeats = min(repeats, 3)
    results = [*epochs(repeats, 200 if quick else 1000), *memory(repeats, 100_000 if quick else 1_000_000)]
    results += closed_loop(min(repeats, 3), 14_600 if quick else 146_000)
    results += set_up(60 if quick else 671)
    show(results, out)


def show(results: list[Figure], out: str) -> None:
    """Print a table, write JSON."""
    table = Table(title=f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for column in ("what", "median", "range", "target"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for one in results:
        table.add_row(
            one.what,
            f"{one.value:.3f} {one.unit}",
            f"{one.low:.3f} to {one.high:.3f}",
            "" if one.target is None else f"{one.target:g} {one.unit}",
        )
    Console().print(table)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {name: importlib.metadata.version(name) for name in ("mptt", "torch", "pytorch-lightning")}
    record = {**machine, **versions, "results": [asdict(one) for one in results]}
    Path(out).write_text(json.dumps(record, indent=2) + "\n")


def epochs(repeats: int, years: int) -> list[Figure]:
    """Training epochs of the paper's set-up: with MPTT, from zero state, and in a bare loop without Lightning."""
    data = SimulatedBasin(years=years, cache=None)
    data.setup("fit")

    def lightning(callbacks: Callable[[], list[pl.Callback]]) -> Callable[[], float]:
        def measure() -> float:
            clock = EpochClock()
            pl.seed_everything(0, verbose=False)
            # First, so that it stops after the end hooks of the others have run.
            trainer = pl.Trainer(
                max_epochs=2, callbacks=[*callbacks(), clock], logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            )  # fmt: skip
            trainer.fit(SequenceRegressor(data.input_size), datamodule=data)
            return clock.seconds[-1]

        return measure

    def bare() -> float:
        pl.seed_everything(0, verbose=False)
        model = SequenceRegressor(data.input_size)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        windows = data.train_dataloader().dataset

        # A function, so that a batch and its graph are freed before the next, as in Lightning.
        def train(ids: torch.Tensor) -> None:
            batch = windows.__getitems__(ids)  # type: ignore[attr-defined]
            squared = (model(batch["x"]) - batch["y"]).square() * batch["mask"]
            optimizer.zero_grad()
            (squared.sum() / batch["mask"].sum().clamp(min=1)).backward()
            optimizer.step()

        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            for ids in torch.randperm(len(data.windows)).split(data.batch_size):
                train(ids)
            seconds = time.perf_counter() - start
        return seconds

    with _quiet():
        times = _interleaved(
            repeats,
            {"mptt": lightning(lambda: [MPTTCallback(zero_init_epochs=0)]), "zero": lightning(list), "bare": bare},
        )
    return [
        _ratio("epoch: MPTT / zero state", times["mptt"], times["zero"], 1.03),
        _ratio("epoch: this pipeline / bare PyTorch loop", times["zero"], times["bare"], 1.05),
    ]


def memory(repeats: int, rows: int) -> list[Figure]:
    """Key-map and state-map of many windows of 128 numbers."""
    table = WindowIndex.cut(np.full(rows // 100, 366 + 99 * 183), 366, 183)
    batches = torch.randint(len(table), (repeats * 20, 256))
    build = [seconds_of(lambda: KeyMap(table)) for _ in range(repeats)]
    state = StateMap(table, 128)

    def step(ids: torch.Tensor) -> float:
        _, target, _ = state.keymap.links(ids)
        caught = torch.randn(len(target), 128)
        return seconds_of(lambda: (state.read(ids), state.keymap.links(ids), state.write_rows(target, caught)))

    steps = [step(ids) * 1000 for ids in batches]
    return [
        figure(f"key-map of {len(table):,} windows", build, "s", 2.0),
        figure(f"read + write of 256 of {len(table):,} windows x 128", steps, "ms", 2.0),
    ]


def closed_loop(repeats: int, steps: int) -> list[Figure]:
    """Closed-loop inference (TFIF) of long series in a Trainer: 7 inputs and the lagged target, GRU of 32 units."""
    time_axis = np.datetime64("0000-01-01", "s") + np.arange(steps * 5 // 4) * np.timedelta64(86400, "s")
    figures = []
    for sites in (1, 64):
        dataset = random_dataset(sites, 7, time_axis)
        names = [str(name) for name in dataset.data_vars if name != "y"]
        data = SeriesDataModule(
            dataset, inputs=names, targets=["y"], lagged_target="step", split=(0.1, 0.1, 0.8), window=366, stride=183
        )
        with _quiet():
            data.setup()
            trainer = pl.Trainer(
                callbacks=[ClosedLoopCallback()], logger=False, enable_progress_bar=False, accelerator="cpu"
            )
            model = SequenceRegressor(data.input_size)
            seconds = [seconds_of(lambda: trainer.predict(model, datamodule=data)) for _ in range(repeats)]  # noqa: B023
        target = 15.0 if sites == 1 else 15.0 * 1.2
        figures.append(figure(f"closed loop of {steps:,} steps, {sites} site(s)", seconds, "s", target))
    return figures


def set_up(sites: int) -> list[Figure]:
    """Set-up of a data module of many sites x 35 years, 8 daily inputs, from data in memory."""
    dataset = random_dataset(sites, 8, pd.date_range("1980-01-01", "2014-12-31", unit="s").values)
    names = [str(name) for name in dataset.data_vars if name != "y"]
    seconds = [
        seconds_of(SeriesDataModule(dataset, inputs=names, targets=["y"]).setup) for _ in range(1 if sites > 100 else 3)
    ]
    return [figure(f"set-up of {sites} sites x 35 years x 8 inputs", seconds, "s", 10.0)]


def random_dataset(sites: int, inputs: int, time_axis: np.ndarray) -> xr.Dataset:
    """Random inputs x0, x1, ... and a target y."""
    values = np.random.default_rng(0).random((inputs + 1, sites, len(time_axis)), dtype=np.float32)
    names = [*(f"x{nth}" for nth in range(inputs)), "y"]
    variables = {name: (("site", "time"), one) for name, one in zip(names, values, strict=True)}
    return xr.Dataset(variables, {"site": [f"{site:08}" for site in range(sites)], "time": time_axis})


def _interleaved(repeats: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in measures}
    for nth in range(repeats + 1):
        # Turn and turn about, so that a machine that slows down slows all of them; the first round warms up.
        for name in measures if nth % 2 else reversed(measures):
            seconds = measures[name]()
            if nth:
                times[name].append(seconds)
    return times


def _ratio(what: str, one: list[float], other: list[float], target: float) -> Figure:
    return figure(what, [a / b for a, b in zip(one, other, strict=True)], "x", target)


def figure(what: str, values: list[float], unit: str, target: float | None = None) -> Figure:
    """The median and range of repeats."""
    return Figure(what, statistics.median(values), unit, target, min(values), max(values))


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@contextmanager
def _quiet() -> Iterator[None]:
    # Whichever namespace was imported last has the logger of both.
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


if __name__ == "__main__":
    auto_cli(bench)

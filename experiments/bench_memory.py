"""What the memory costs: `python -m mptt.experiments.bench_memory`. Ratios within one run, medians of repeats."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import threading
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli

from mptt import KeyMap, StateMap, WindowIndex
from mptt.callbacks import MPTTCallback
from mptt.datamodules import SimulatedBasin
from mptt.experiments.bench import EpochClock, Figure, figure, seconds_of, show
from mptt.experiments.regressor import SequenceRegressor
from mptt.storage import Storage

SIZE = 128  # numbers in a state
BATCH = 256
PLACES = ("cpu", "disk")
DTYPES = (torch.float32, torch.bfloat16)
TWO_LAYERS = {"core": "lstm", "num_layers": 2}


def bench_memory(
    repeats: int = 5, rows: int = 1_000_000, years: int = 1000, folder: str | None = None, out: str = "runs/memory.json"
) -> None:
    """Measure, print a table, write JSON.

    Args:
        repeats: of each measurement.
        rows: windows of the largest memory.
        years: of daily values, 366 at a time, that the epochs train on.
        folder: of memories on disk; by default the system's for temporary files.
        out: the JSON file.
    """
    results = [*verbs(repeats, rows, folder), *growth(repeats, rows), *peaks(rows, folder), *epochs(repeats, years)]
    show(results, out)


def table_of(rows: int) -> WindowIndex:
    """So many windows of a year, one each half year, a hundred a site."""
    return WindowIndex.cut(np.full(rows // 100, 366 + 99 * 183), 366, 183)


def verbs(repeats: int, rows: int, folder: str | None = None) -> list[Figure]:
    """A read and a write of a batch, links included, in RAM and on disk; propagate."""
    table, figures = table_of(rows), []
    keymap = KeyMap(table)
    for where in PLACES:
        for dtype in DTYPES:
            memory = StateMap(table, SIZE, device=_storage(where, folder), dtype=dtype, keymap=keymap)
            name = f"{rows:,} windows x {SIZE} {_name(dtype)}, {where}"
            figures.append(figure(f"read + write of {BATCH}: {name}", _steps(memory, repeats * 40), "ms", 2.0))
            seconds = [seconds_of(memory.propagate) for _ in range(repeats)]
            figures.append(figure(f"propagate: {name}", seconds, "s"))
    return figures


def growth(repeats: int, rows: int) -> list[Figure]:
    """Building the windows and the key-map, and a read and a write, against the number of windows."""
    figures = []
    for count in (10**power for power in range(3, len(str(rows)))):
        built = [seconds_of(lambda count=count: KeyMap(table_of(count))) for _ in range(repeats)]  # type: ignore[misc]
        figures.append(figure(f"windows and key-map: {count:,}", built, "s", 2.0))
        memory = StateMap(table_of(count), SIZE)
        figures.append(figure(f"read + write of {BATCH} of {count:,}", _steps(memory, repeats * 40), "ms", 2.0))
    return figures


def peaks(rows: int, folder: str | None = None) -> list[Figure]:
    """The most RAM over the life of a memory, as a share of its tables; a process for each."""
    figures = []
    for where in PLACES:
        for dtype in DTYPES:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                share = process.apply(life, (rows, where, dtype, folder))
            target = 1.2 if where == "cpu" else None
            figures.append(figure(f"RAM at most / tables: {_name(dtype)}, {where}", [share], "x", target))
    return figures


def life(rows: int, where: str, dtype: torch.dtype, folder: str | None = None) -> float:
    """Build a memory, write, read, propagate, save and load it; the most RAM that it took, in sizes of its tables."""
    with RAM() as ram, tempfile.TemporaryDirectory(dir=folder) as scratch:
        memory = StateMap(table_of(rows), SIZE, device=_storage(where, folder), dtype=dtype)
        for _ in range(2):
            _steps(memory, rows // BATCH)
            memory.propagate()
        path = Path(scratch) / "memory.pt"
        torch.save(memory.state_dict(), path)
        memory.load_state_dict(torch.load(path, mmap=True, weights_only=True))
    return ram.most / (2 * rows * SIZE * dtype.itemsize)


def epochs(repeats: int, years: int) -> list[Figure]:
    """Training epochs with MPTT against those from zero state, in the paper's set-up and ways to train it."""
    data = SimulatedBasin(years=years, cache=None)
    data.setup("fit")
    ways: dict[str, tuple[dict[str, Any], dict[str, Any], bool, float | None]] = {
        "GRU": ({}, {}, False, 1.03),
        "LSTM of two layers": (TWO_LAYERS, {}, False, 1.10),
        "GRU, bf16-mixed": ({}, {"precision": "bf16-mixed"}, False, None),
        "GRU, 4 batches a step": ({}, {"accumulate_grad_batches": 4}, False, None),
        "GRU, compiled": ({}, {}, True, None),
    }
    figures = []
    for name, (model, trainer, compiled, target) in ways.items():
        ratios = []
        for nth in range(repeats + 1):
            # Turn and turn about, so that a machine that slows down slows both; the first round warms up.
            order = (True, False) if nth % 2 else (False, True)
            seconds = {mptt: _epoch(data, mptt, model, trainer, compiled) for mptt in order}
            if nth:
                ratios.append(seconds[True] / seconds[False])
        figures.append(figure(f"epoch: MPTT / zero state, {name}", ratios, "x", target))
    return figures


class RAM:
    """The most memory that this process takes beyond what it had, in bytes, without pages of files."""

    def __enter__(self) -> RAM:
        """Begin to look, many times a second."""
        self._before = self._most = self._now()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._over.set()
        self._looking.join()
        self._most = max(self._most, self._now())

    @property
    def most(self) -> int:
        """Bytes."""
        return self._most - self._before

    def _look(self) -> None:
        while not self._over.wait(0.002):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _steps(memory: StateMap, count: int) -> list[float]:
    """Milliseconds of reads and writes of random batches."""
    times = []
    for ids in torch.randint(len(memory), (count, BATCH)):
        states = torch.randn(len(memory.keymap.links(ids)[0]), memory.state_size)
        start = time.perf_counter()
        memory.read(ids)
        memory.write_rows(memory.keymap.links(ids)[1], states)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _epoch(data: SimulatedBasin, mptt: bool, model: dict[str, Any], trainer: dict[str, Any], compiled: bool) -> float:
    """Seconds of the second epoch."""
    clock = EpochClock()
    callbacks = [MPTTCallback(zero_init_epochs=0)] if mptt else []
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.seed_everything(0, verbose=False)
        module = SequenceRegressor(data.input_size, **model)
        if compiled:
            # Not every torch can trace Lightning's log.
            module.log = torch.compiler.disable(module.log)  # type: ignore[method-assign]
            module = cast(SequenceRegressor, torch.compile(module))
        # The clock comes last, so that it stops after the end hooks of the others have run.
        pl.Trainer(
            max_epochs=2, callbacks=[*callbacks, clock], logger=False, limit_val_batches=0,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **trainer,
        ).fit(module, datamodule=data)  # fmt: skip
    return clock.seconds[-1]


def _storage(where: str, folder: str | None) -> Storage:
    return Storage(where, folder if where == "disk" else None)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    auto_cli(bench_memory)

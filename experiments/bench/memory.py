"""What the memory costs: a read and a write, building the key-map, and the most RAM that it takes."""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from mptt import KeyMap, StateMap, WindowIndex
from mptt.experiments.bench.common import Figure, Settings, repeated
from mptt.storage import Storage

SIZE = 128  # numbers in a state
BATCH = 256
PLACES = ("cpu", "disk")
DTYPES = (torch.float32, torch.bfloat16)


def memory(settings: Settings) -> list[Figure]:
    """Time and room that messages of 128 numbers take, in RAM and on disk."""
    rows = settings.size(1_000_000, 100_000)
    return [*verbs(settings, rows), *growth(settings, rows), *peaks(settings, rows)]


def table_of(rows: int) -> WindowIndex:
    """So many windows of a year, one each half year, a hundred a site."""
    return WindowIndex.cut(np.full(rows // 100, 366 + 99 * 183), 366, 183)


def verbs(settings: Settings, rows: int, folder: str | None = None) -> list[Figure]:
    """A read and a write of a batch, links included, in RAM and on disk; propagate."""
    table, figures = table_of(rows), []
    keymap = KeyMap(table)
    for where in PLACES:
        for dtype in DTYPES:
            memory = StateMap(table, SIZE, device=_storage(where, folder), dtype=dtype, keymap=keymap)
            name = f"{rows:,} windows x {SIZE} {_name(dtype)}, {where}"
            settings.tell(name)
            figures.append(Figure(f"read + write of {BATCH}: {name}", _steps(memory, settings.repeats * 20), "ms", 2.0))
            figures.append(Figure(f"propagate: {name}", repeated(settings.at_most(5), memory.propagate), "s"))
    return figures


def growth(settings: Settings, rows: int) -> list[Figure]:
    """Building the windows and the key-map, and a read and a write, against the number of windows."""
    figures = []
    for count in (10**power for power in range(3, len(str(rows)))):
        settings.tell(f"{count:,} windows")
        built = repeated(settings.repeats, lambda: KeyMap(table_of(count)))  # noqa: B023
        figures.append(Figure(f"windows and key-map: {count:,} windows", built, "s", 2.0, panel="keymap", at=count))
        steps = _steps(StateMap(table_of(count), SIZE), settings.repeats * 20)
        what = f"read + write of {BATCH} of {count:,} windows"
        figures.append(Figure(what, steps, "ms", 2.0, panel="read and write", at=count))
    return figures


def peaks(settings: Settings, rows: int, folder: str | None = None) -> list[Figure]:
    """The most RAM over the life of a memory, as a share of its tables; a process for each."""
    figures = []
    for where in PLACES:
        for dtype in DTYPES:
            settings.tell(f"most RAM of {_name(dtype)}, {where}")
            with multiprocessing.get_context("spawn").Pool(1) as process:
                share = process.apply(life, (rows, where, dtype, folder))
            target = 1.2 if where == "cpu" else None
            figures.append(Figure(f"RAM at most / tables: {_name(dtype)}, {where}", [share], "x", target))
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


def _storage(where: str, folder: str | None) -> Storage:
    return Storage(where, folder if where == "disk" else None)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

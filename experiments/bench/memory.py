"""Key-map and state-map against the number of windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mptt import KeyMap, StateMap, WindowIndex
from mptt.experiments.bench.common import Figure, Settings, repeated, seconds_of

STATE, BATCH = 128, 256


def memory(settings: Settings) -> list[Figure]:
    """Seconds to build a key-map, and milliseconds to read and write a batch, of states of 128 numbers."""
    figures = []
    for rows in settings.size((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000, 100_000)):
        settings.tell(f"{rows:,} windows")
        table = WindowIndex.cut(np.full(rows // 100, 366 + 99 * 183), 366, 183)
        build = repeated(settings.repeats, lambda: KeyMap(table))  # noqa: B023
        steps = [1000 * seconds for seconds in _steps(StateMap(table, STATE), settings.repeats * 20)]
        at, of = float(len(table)), f"{len(table):,} windows"
        figures.append(Figure(f"key-map of {of}", build, "s", 2.0, panel="keymap", at=at))
        what = f"read + write of {BATCH} of {of} x {STATE}"
        figures.append(Figure(what, steps, "ms", 2.0, panel="read and write", at=at))
    return figures


def _steps(state: StateMap, count: int) -> list[float]:
    """Seconds of what a training step asks of the memory, each time of other windows."""

    def step(ids: Tensor) -> float:
        _, target, _ = state.keymap.links(ids)
        caught = torch.randn(len(target), STATE)
        return seconds_of(lambda: (state.read(ids), state.keymap.links(ids), state.write_rows(target, caught)))

    return [step(ids) for ids in torch.randint(len(state.mu), (count, BATCH))]

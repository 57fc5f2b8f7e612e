"""Batches cut from flat series, and the orders in which they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mptt.datamodules.flat import FlatSeries
from mptt.datamodules.parts import Part
from mptt.errors import MPTTError
from mptt.windows import Int64Array, WindowIndex

Batch = dict[str, Tensor]


class TrainingWindows(Dataset[Batch]):
    """The windows of the training part, sliced a whole batch at a time.

    Args:
        series: the data.
        part: the training part.
        windows: cut from it; their `site` is the site number, their `start` counts from the beginning of the part.
    """

    def __init__(self, series: FlatSeries, part: Part, windows: WindowIndex) -> None:
        self.series = series
        row = np.full(int(part.site.max()) + 1, -1)
        row[part.site] = series.rows(part)
        self.row = torch.from_numpy(row[windows.site] + windows.start)
        self.site = torch.from_numpy(windows.site)
        self.steps = int(windows.length[0])

    def __len__(self) -> int:
        return len(self.row)

    def __getitems__(self, ids: Sequence[int]) -> Batch:
        """The batch of windows with these ids: x (B, L, F), y (B, L, K), mask (B, L, K), window (B,)."""
        window = torch.as_tensor(ids)
        row = self.row[window]
        return {
            "x": self.series.with_static(_windows_at(row, self.series.inputs, self.steps), self.site[window]),
            "y": _windows_at(row, self.series.targets, self.steps),
            "mask": _windows_at(row, self.series.observed, self.steps),
            "window": window,
        }

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])


class Stretches(Dataset[Batch]):
    """Batches of evaluation: each row a stretch of one site's part.

    Args:
        series: the data.
        part: the part that is evaluated.
        batches: for each batch: entries of the part (b,), first steps in it (b,), first steps to keep (b,).
        steps: longest stretch.
        warmup: steps at the start of the part that are fed but not scored.
    """

    def __init__(
        self,
        series: FlatSeries,
        part: Part,
        batches: list[tuple[Int64Array, Int64Array, Int64Array]],
        steps: int,
        warmup: int,
    ) -> None:
        self.series, self.part, self.batches, self.steps, self.warmup = series, part, batches, steps, warmup
        self._row = series.rows(part)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        """One batch: x, y, mask (of what is scored), keep (B, L) (of what is new), site, start, length (B,)."""
        entry, start, keep_from = self.batches[index]
        length = self.part.length[entry]
        step = start[:, None] + np.arange(min(self.steps, int((length - start).max())))
        inside = step < length[:, None]
        at = torch.from_numpy(self._row[entry][:, None] + np.minimum(step, length[:, None] - 1))
        keep = torch.from_numpy(inside & (step >= keep_from[:, None]))
        scored = keep & torch.from_numpy(step >= self.warmup)
        site = torch.from_numpy(self.part.site[entry])
        return {
            "x": self.series.with_static(self.series.inputs[at], site),
            "y": self.series.targets[at],
            "mask": self.series.observed[at] & scored.unsqueeze(2),
            "keep": keep,
            "site": site,
            "start": torch.from_numpy(start),
            "length": torch.from_numpy(np.minimum(length - start, step.shape[1])),
        }


def _windows_at(row: Tensor, values: Tensor, steps: int) -> Tensor:
    """The rows `row .. row + steps - 1` of values (T, V) for each row (B,): (B, steps, V)."""
    width = values.shape[1]
    # Every window there could be, as a view; choosing among them copies whole windows, not rows.
    every = values.as_strided((len(values) - steps + 1, steps, width), (width, width, 1))
    return every.index_select(0, row)


def sequential_stretches(series: FlatSeries, part: Part, sites_at_once: int, chunk: int, warmup: int) -> Stretches:
    """Every series of a part once and in order: sites side by side, `chunk` steps a batch."""
    batches = []
    # Sites of like length share a batch, so that little is padded.
    order = np.argsort(-part.length, kind="stable")
    for group in (order[at : at + sites_at_once] for at in range(0, len(order), sites_at_once)):
        for start in range(0, int(part.length[group].max()), chunk):
            going = group[part.length[group] > start]
            begin = np.full(len(going), start)
            batches.append((going, begin, begin))
    return Stretches(series, part, batches, chunk, warmup)


def independent_stretches(
    series: FlatSeries, part: Part, batch_size: int, window: int, stride: int, warmup: int
) -> Stretches:
    """Overlapping windows of a part, each from zero state; of each, the steps that the one before did not have."""
    windows = WindowIndex.cut(np.maximum(part.length, window), window, min(stride, window))
    before = np.concatenate([[0], windows.stop[:-1]])
    keep_from = np.where(windows.start == 0, 0, before)
    batches = [
        (windows.site[at : at + batch_size], windows.start[at : at + batch_size], keep_from[at : at + batch_size])
        for at in range(0, len(windows), batch_size)
    ]
    return Stretches(series, part, batches, window, warmup)


class ShuffleSampler(Sampler[int]):
    """All indices once an epoch, in an order that seed and epoch fix: a resumed run shuffles as it would have."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        yield from torch.randperm(self.size, generator=generator).tolist()


class LaneBatches(Sampler[list[int]]):
    """Batches in which row r goes on where row r of the batch before stopped.

    The windows, in order of site and start, are dealt to lanes in runs; a lane that passes from one site
    to the next starts afresh there. The first lanes may be one window longer than the last.

    Args:
        windows: disjoint, each site's in order.
        batch_size: lanes; fewer where there are fewer windows.
    """

    def __init__(self, windows: WindowIndex, batch_size: int) -> None:
        self.lanes = min(batch_size, len(windows))
        size = len(windows) // self.lanes + (np.arange(self.lanes) < len(windows) % self.lanes)
        self._first, self._size = size.cumsum() - size, size

    def __len__(self) -> int:
        return int(self._size.max())

    def __iter__(self) -> Iterator[list[int]]:
        for nth in range(len(self)):
            yield (self._first[self._size > nth] + nth).tolist()


def cut_windows(part: Part, window: int, stride: int, names: Sequence[str], disjoint: bool) -> WindowIndex:
    """The training windows of a part; `disjoint` ones follow one another and leave the rest of a series out."""
    cut = WindowIndex.cut(part.length, window, stride, [names[site] for site in part.site])
    if disjoint:
        if stride != window:
            raise MPTTError(f'order="lanes" needs disjoint windows: stride = window = {window}, found stride={stride}.')
        whole = cut.start % window == 0
        return WindowIndex(part.site[cut.site[whole]], cut.start[whole], window)
    return WindowIndex(part.site[cut.site], cut.start, window)

"""Batches of evaluation: which stretches of the series each holds."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from mptt.datamodules.batching.batches import Batch
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.timeline import Timeline
from mptt.windows import Int64Array, WindowIndex

STEPS_AT_ONCE = 2**19  # steps of all series together in a batch: a gigabyte of states of 256 units, with copies
SHORTEST = 3650


class Stretches(Dataset[Batch]):
    """Batches of evaluation: each row a stretch of one site's part.

    Args:
        series: the data.
        part: the part that is evaluated.
        entry: (n,) for each stretch, batch by batch, its entry of the part.
        start: (n,) its first step, counted in the part.
        keep_from: (n,) its first step to keep, counted in the part.
        batch: (n,) the number of its batch, going up from 0.
        steps: longest stretch.
        warmup: steps at the start of the part that are fed but not scored.

    Attributes:
        timeline: names of the sites and dates of the steps, where states are to be kept; None by default.
    """

    def __init__(
        self,
        series: FlatSeries,
        part: Part,
        entry: Int64Array,
        start: Int64Array,
        keep_from: Int64Array,
        batch: Int64Array,
        steps: int,
        warmup: int,
    ) -> None:
        self.timeline: Timeline | None = None
        self.series, self.part, self.steps, self.warmup = series, part, steps, warmup
        self.entry, self.start, self.keep_from = entry, start, keep_from
        self._step = part.begin - series.first[part.site]
        self._bounds = batch.searchsorted(np.arange(batch[-1] + 2))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def sites(self, index: int) -> Int64Array:
        """(B,) those of a batch."""
        return self.part.site[self.entry[self._bounds[index] : self._bounds[index + 1]]]

    def __getitem__(self, index: int) -> Batch:
        """One batch: x, y, mask (of what is scored), keep (B, L) (of what is new), site, start, length (B,)."""
        here = slice(self._bounds[index], self._bounds[index + 1])
        entry, start = self.entry[here], self.start[here]
        length = self.part.length[entry]
        step = start[:, None] + np.arange(min(self.steps, int((length - start).max())))
        inside = step < length[:, None]
        site = torch.from_numpy(self.part.site[entry])
        first = self.series.rows_of(site, torch.from_numpy(self._step[entry])).unsqueeze(1)
        at = first + torch.from_numpy(np.minimum(step, length[:, None] - 1))
        keep = torch.from_numpy(inside & (step >= self.keep_from[here, None]))
        scored = keep & torch.from_numpy(step >= self.warmup)
        return {
            "x": self.series.inputs_at(at, site),
            "y": self.series.targets[at],
            "mask": self.series.observed[at] & scored.unsqueeze(2),
            "keep": keep,
            "site": site,
            "start": torch.tensor(start),
            "length": torch.from_numpy(np.minimum(length - start, step.shape[1])),
        }


class Uncounted(Dataset[Batch]):
    """The first batch of other stretches, with nothing in it to score or to keep.

    For a process that has no site of its own: every process must run the module at least once, or those that wait for
    it wait for ever.
    """

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Batch:
        batch = self.stretches[index]
        return batch | {name: torch.zeros_like(batch[name]) for name in ("mask", "keep")}


def sequential_stretches(
    series: FlatSeries, part: Part, sites_at_once: int, chunk: int | None, warmup: int, stretches_at_once: int = 1
) -> Stretches:
    """Every series of a part once and in order: sites side by side, of each `stretches_at_once` of `chunk` steps.

    Without `chunk`, as many steps as make a batch of STEPS_AT_ONCE, but SHORTEST at least.
    """
    if chunk is None:
        chunk = max(STEPS_AT_ONCE // min(sites_at_once, len(part)) // stretches_at_once, SHORTEST)
    count = -(-part.length // chunk)
    entry = np.repeat(np.arange(len(part)), count)
    nth = _counted(count)
    rows, batch = _side_by_side(part, entry, nth, sites_at_once, stretches_at_once)
    start = nth[rows] * chunk
    return Stretches(series, part, entry[rows], start, start, batch, chunk, warmup)


def independent_stretches(
    series: FlatSeries, part: Part, at_once: int, window: int, stride: int, warmup: int
) -> Stretches:
    """Overlapping windows of a part, in order of site and time, `at_once` a batch.

    Of each are kept the steps that the one before did not have.
    """
    entry, start, keep_from = _overlapping(part, window, stride)
    return Stretches(series, part, entry, start, keep_from, np.arange(len(entry)) // at_once, window, warmup)


def conditional_stretches(
    series: FlatSeries, part: Part, at_once: int, window: int, stride: int, warmup: int
) -> Stretches:
    """The same windows; a batch is the nth of each of `at_once` sites, so that each may follow from the one before."""
    entry, start, keep_from = _overlapping(part, window, stride)
    nth = _counted(np.bincount(entry, minlength=len(part)))
    rows, batch = _side_by_side(part, entry, nth, at_once)
    return Stretches(series, part, entry[rows], start[rows], keep_from[rows], batch, window, warmup)


def _overlapping(part: Part, window: int, stride: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Entry, start and first step to keep of windows over all steps of a part; a shorter site has one window."""
    windows = WindowIndex.cut(np.maximum(part.length, window), window, min(stride, window))
    before = np.concatenate([[0], windows.stop[:-1]])
    return windows.site, windows.start, np.where(windows.start == 0, 0, before)


def _side_by_side(
    part: Part, entry: Int64Array, nth: Int64Array, sites_at_once: int, stretches_at_once: int = 1
) -> tuple[Int64Array, Int64Array]:
    """Deal stretches to batches: one holds the next so many of each site of a group.

    Sites of like length share a group, so that little is padded.

    Returns:
        The stretches in their new order, and the number of the batch of each.
    """
    rank = np.empty(len(part), np.int64)
    rank[np.argsort(-part.length, kind="stable")] = np.arange(len(part))
    group, block = rank[entry] // sites_at_once, nth // stretches_at_once
    rows = np.lexsort((nth, rank[entry], block, group))
    opens = (np.diff(group[rows], prepend=0) != 0) | (np.diff(block[rows], prepend=0) != 0)
    return rows, opens.cumsum()


def _counted(count: Int64Array) -> Int64Array:
    """0, 1, ... up to each count, one after another."""
    return np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)

"""Several processes train together: what each of them gets of the windows and of the sites."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from mptt.datamodules.preparing.parts import Part
from mptt.errors import MPTTError
from mptt.windows import Int64Array, WindowIndex


class Process(NamedTuple):
    """One of the processes that train together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
    """

    rank: int
    size: int


def process_of(trainer: Any) -> Process:
    """That of a Trainer; the only one where there is none."""
    return Process(0, 1) if trainer is None else Process(trainer.global_rank, trainer.world_size)


def deal(weight: Int64Array, size: int) -> Int64Array:
    """Who gets what, so that all have about the same: the heaviest first, each to who has least so far.

    Args:
        weight: (n,) of each thing.
        size: processes.

    Returns:
        (n,) rank.

    Example:
        >>> deal(np.array([1, 5, 3, 2]), 2).tolist()
        [0, 0, 1, 1]
    """
    owner = np.empty(len(weight), np.int64)
    heap = [(0, 0, rank) for rank in range(size)]  # weight, things and rank; things too, or the weightless go to one
    for nth in np.argsort(-weight, kind="stable").tolist():
        has, things, rank = heap[0]
        owner[nth] = rank
        heapq.heapreplace(heap, (has + int(weight[nth]), things + 1, rank))
    return owner


def window_owners(windows: WindowIndex, size: int) -> Int64Array:
    """(N,) the process of each window where whole sites are dealt out, balanced by windows."""
    _, of, count = np.unique(windows.site, return_inverse=True, return_counts=True)
    return deal(count, size)[of]


def part_of(part: Part, process: Process, windows: WindowIndex | None = None) -> Part:
    """The sites of a part that a process has, balanced by steps, or as the training windows are dealt out."""
    if windows is None:
        return part.choose(deal(part.length, process.size) == process.rank)
    own = window_owners(windows, process.size) == process.rank
    left = ~np.isin(part.site, windows.site) & (process.rank == 0)  # too short for a window
    return part.choose(np.isin(part.site, windows.site[own]) | left)


class DealtBatches(Sampler[list[int]]):
    """The batches of one process, as many as every other has, without a window left out or given twice.

    Dealt by window, all windows, in an order that all processes share, are cut into as many runs as there are batches
    in all, of like size: batch k of rank r is run k R + r. Dealt by site, each process cuts its own windows into
    batches of like size.

    Args:
        order: gives the ids of all windows, in the same order in every process; may have `set_epoch`.
        batch_size: windows in a batch of one process; where each has only about as many windows as batches, a few
            batches hold one more.
        process: whose batches.
        owner: (N,) the process of each window; None: any has any.

    Raises:
        MPTTError: fewer windows than processes, or sites that cannot be dealt out evenly enough.
    """

    def __init__(self, order: Any, batch_size: int, process: Process, owner: Int64Array | None = None) -> None:
        self.sampler, self.process, self.owner = order, process, owner
        size = process.size
        if owner is None:
            fewest, most = len(order) // size, -(-len(order) // size)
        else:
            count = np.bincount(owner, minlength=size)
            fewest, most = int(count.min()), int(count.max())
        if fewest < 1:
            what = f"{len(order)} windows" if owner is None else f"{len(order)} windows, dealt out by whole sites,"
            raise MPTTError(
                f"{what} are too few for {size} processes: each needs one. Use fewer processes (devices=), a shorter"
                ' stride, or shard="window".'
            )
        self.batches = min(-(-most // batch_size), fewest)
        if -(-most // self.batches) > 2 * batch_size:
            raise MPTTError(
                f"The sites cannot be dealt out to {size} processes: one has {most} windows and another {fewest}, and"
                ' all must have the same number of batches. Use shard="window", or fewer processes (devices=).'
            )

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        ids = np.fromiter(self.sampler, np.int64, len(self.sampler))
        rank, size = self.process
        if self.owner is None:
            runs = np.array_split(ids, self.batches * size)[rank::size]
        else:
            runs = np.array_split(ids[self.owner[ids] == rank], self.batches)
        for run in runs:
            yield run.tolist()


class DealtOut(DistributedSampler[Any]):
    """What another sampler gives, said to be one process's own already: Lightning leaves such a sampler alone.

    Args:
        sampler: gives what this process has; may have `set_epoch`, or a `sampler` that has.
        process: whose.
    """

    def __init__(self, sampler: Any, process: Process) -> None:
        super().__init__(sampler, process.size, process.rank, shuffle=False, drop_last=True)  # nothing is repeated
        self._set_epoch = _set_epoch_of(sampler)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning does."""
        super().set_epoch(epoch)
        if self._set_epoch is not None:
            self._set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset)


def dealt_order(order: str) -> None:
    """Check that the batches of an order can be dealt out to several processes.

    Raises:
        MPTTError: they cannot.
    """
    if order in ("lanes", "sequential"):
        raise MPTTError(
            f'order="{order}" goes on from batch to batch, and is not dealt out to several processes: use'
            ' Trainer(devices=1), or order="shuffled" or "series".'
        )


def _set_epoch_of(sampler: Any) -> Callable[[int], None] | None:
    for _ in range(3):  # a sampler of batches, of a sampler of batches, of windows
        if sampler is None or hasattr(sampler, "set_epoch"):
            break
        sampler = getattr(sampler, "sampler", None)
    return getattr(sampler, "set_epoch", None)


def numbers(sampler: Sampler[Any] | None, count: int) -> Sampler[Any] | Sequence[int]:
    """A sampler, or where there is none, the numbers up to a count."""
    return range(count) if sampler is None else sampler

"""Batches in an order that stored series can follow: which sites come next, read while the batch at hand is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from mptt.datamodules.batching.batches import LaneBatches, Order, ShuffleSampler, epoch_generator
from mptt.datamodules.batching.dealing import DealtBatches, DealtOut, Process, dealt_order
from mptt.datamodules.batching.resuming import EpochBatches
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.batching.stretches import Stretches
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.windows import Int64Array, WindowIndex

LARGEST_BLOCK = 256  # sites whose windows are shuffled together

Item = TypeVar("Item")


class SiteBlocks(Sampler[int]):
    """All window ids once an epoch, shuffled within blocks of sites; seed and epoch fix the order.

    Sites are shuffled and cut into blocks; the windows of a block are shuffled, and then come those of the next.

    Args:
        windows: of the training part.
        size: sites in a block.
        seed: of the shuffling.
    """

    def __init__(self, windows: WindowIndex, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self._ids = windows.site.argsort(kind="stable")
        _, self._first, self._count = np.unique(windows.site[self._ids], return_index=True, return_counts=True)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[int]:
        generator = epoch_generator(self.seed, self.epoch)
        self.epoch += 1
        sites = torch.randperm(len(self._first), generator=generator).numpy()
        for begin in range(0, len(sites), self.size):
            block = sites[begin : begin + self.size]
            first, count = self._first[block], self._count[block]
            at = np.arange(count.sum()) + np.repeat(first - (count.cumsum() - count), count)
            yield from self._ids[at[torch.randperm(len(at), generator=generator).numpy()]].tolist()


class ReadAhead(Sampler[Any]):
    """The batches of another sampler, whose sites stored series read before they come up.

    Args:
        batches: gives what a batch holds.
        sites: of a batch.
        series: that the batches are cut from.
    """

    def __init__(self, batches: Any, sites: Callable[[Any], Int64Array], series: StoredSeries) -> None:
        self.batches, self.sites, self.series = batches, sites, series
        self.sampler = getattr(batches, "sampler", batches)  # where Lightning looks for set_epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return ahead(self.series, ((batch, self.sites(batch)) for batch in self.batches))


def training_order(
    series: FlatSeries, windows: WindowIndex, order: Order, batch_size: int, seed: int
) -> Sampler[list[int]]:
    """The batches of training windows, each epoch in this order."""
    layout = {"order": order, "windows": len(windows), "batch_size": batch_size, "processes": 1}
    if not isinstance(series, StoredSeries):
        return EpochBatches(_batches(windows, order, batch_size, seed), seed, layout)
    if order in ("shuffled", "series"):
        layout["sites shuffled together"] = block_size(series.capacity)
    batches = EpochBatches(stored_batches(windows, order, batch_size, seed, series.capacity), seed, layout)
    return ReadAhead(batches, lambda ids: windows.site[ids], series)


def _batches(windows: WindowIndex, order: Order, batch_size: int, seed: int) -> Sampler[list[int]]:
    if order == "lanes":
        return LaneBatches(windows, batch_size)
    ids = range(len(windows)) if order == "sequential" else ShuffleSampler(len(windows), seed)
    return BatchSampler(ids, batch_size, drop_last=False)


def dealt_training_order(
    series: FlatSeries,
    windows: WindowIndex,
    order: Order,
    batch_size: int,
    seed: int,
    process: Process,
    owner: Int64Array | None,
) -> dict[str, Any]:
    """The same for one of several processes; the seed is the same in all."""
    dealt_order(order)
    layout: dict[str, Any] = {"order": order, "windows": len(windows), "batch_size": batch_size}
    layout["processes"] = process.size
    layout["shard"] = "window" if owner is None else "site"
    ids: Any = ShuffleSampler(len(windows), seed)
    if isinstance(series, StoredSeries):
        layout["sites shuffled together"] = block_size(series.capacity)
        ids = SiteBlocks(windows, block_size(series.capacity), seed)
    batches: Any = EpochBatches(DealtBatches(ids, batch_size, process, owner), seed, layout)
    if isinstance(series, StoredSeries):
        batches = ReadAhead(batches, lambda ids: windows.site[ids], series)
    # Lightning looks at the sampler, which it cannot where batches have one of their own.
    return {"batch_size": None, "sampler": DealtOut(batches, process)}


def stored_batches(windows: WindowIndex, order: Order, batch_size: int, seed: int, capacity: int) -> Sampler[list[int]]:
    """Batches of window ids in an order that needs few sites at a time, where there is room for `capacity` of them."""
    if order == "lanes":
        return LaneBatches(windows, batch_size)
    ids = range(len(windows)) if order == "sequential" else SiteBlocks(windows, block_size(capacity), seed)
    return BatchSampler(ids, batch_size, drop_last=False)


def block_size(capacity: int) -> int:
    """Sites in a block: two have room. A power of two, so that a little more memory shuffles no other way."""
    return min(LARGEST_BLOCK, 2 ** (max(capacity // 2, 1).bit_length() - 1))


def evaluation_order(stretches: Stretches) -> Sampler[int] | None:
    """The order of the batches of evaluation for a DataLoader: as they are numbered."""
    if isinstance(stretches.series, StoredSeries):
        return ReadAhead(range(len(stretches)), stretches.sites, stretches.series)
    return None


def ahead(series: FlatSeries, items: Iterable[tuple[Item, Int64Array]]) -> Iterator[Item]:
    """Items, each with the sites that it needs, in their order; stored series read those of the next ones meanwhile.

    They look as far ahead as the sites of all items at hand are no more than there is room for, and than two blocks
    have.
    """
    if not isinstance(series, StoredSeries):
        yield from (item for item, _ in items)
        return
    room = min(series.capacity, 2 * LARGEST_BLOCK)
    needed = np.zeros(len(series.offset), np.int64)  # items at hand that need each site
    at_hand: deque[tuple[Item, Int64Array]] = deque()
    coming = iter(items)
    following = next(coming, None)
    count = 0
    try:
        while at_hand or following is not None:
            while following is not None:
                sites = np.unique(following[1])
                fresh = sites[needed[sites] == 0]
                if at_hand and count + len(fresh) > room:
                    break
                needed[sites] += 1
                count += len(fresh)
                at_hand.append((following[0], sites))
                series.expect(fresh, needed > 0)
                following = next(coming, None)
            item, sites = at_hand.popleft()
            yield item
            needed[sites] -= 1
            count -= int((needed[sites] == 0).sum())
    except GeneratorExit:
        series.leave()  # whichever thread collects the garbage is here, so nothing is waited for
        raise
    series.settle()

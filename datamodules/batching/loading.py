"""DataLoaders of the batches of training and of evaluation."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from mptt.datamodules.batching.ahead import dealt_training_order, evaluation_order, training_order
from mptt.datamodules.batching.batches import Batch, Order, TrainingSeries, TrainingWindows
from mptt.datamodules.batching.dealing import DealtOut, Process, numbers
from mptt.datamodules.batching.resuming import TrainingLoader
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.batching.stretches import Stretches, Uncounted
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.keymap import KeyMap
from mptt.windows import Int64Array, WindowIndex

Loader = TypeVar("Loader", bound=DataLoader[Batch])


def training_loader(
    series: FlatSeries,
    part: Part,
    windows: WindowIndex,
    order: Order,
    batch_size: int,
    last: int | None,
    seed: int | None,
    num_workers: int,
    keymap: KeyMap | None = None,
    process: Process = Process(0, 1),  # noqa: B008
    owner: Int64Array | None = None,
) -> DataLoader[Batch]:
    """Batches of windows.

    Args:
        series: the data.
        part: the training part.
        windows: cut from it.
        order: in which they come.
        batch_size: windows in a batch.
        last: steps at the end of each window that count; None: all.
        seed: of the shuffling; None: torch's.
        num_workers: processes that cut batches.
        keymap: of the windows, where batches are to bring their links.
        process: that trains, of how many; of several, all need the same seed.
        owner: (N,) the process of each window; None: any may have any.
    """
    dataset: TrainingWindows | TrainingSeries
    if order == "series":
        dataset = TrainingSeries(series, part, windows)
    else:
        dataset = TrainingWindows(series, part, windows, last, keymap)
    seed = torch.initial_seed() % 2**31 if seed is None else seed
    if process.size > 1:
        dealt = dealt_training_order(series, windows, order, batch_size, seed, process, owner)
        return _loader(TrainingLoader, dataset, num_workers, **dealt)
    batches = training_order(series, windows, order, batch_size, seed)
    return _loader(TrainingLoader, dataset, num_workers, batch_sampler=batches)


def evaluation_loader(
    stretches: Stretches,
    num_workers: int,
    process: Process = Process(0, 1),  # noqa: B008
    idle: bool = False,
) -> DataLoader[Batch]:
    """Batches of evaluation, in order.

    Args:
        stretches: of the sites that this process has.
        num_workers: processes that cut batches.
        process: that evaluates, of how many.
        idle: whether it has no site, and the stretches are another's: the first batch, none of which counts.
    """
    if idle:
        return _loader(DataLoader, Uncounted(stretches), 0, batch_size=None, sampler=DealtOut(range(1), process))
    order: Any = evaluation_order(stretches)
    if process.size > 1:
        order = DealtOut(numbers(order, len(stretches)), process)
    return _loader(DataLoader, stretches, num_workers, batch_size=None, sampler=order)


def at_once(series: FlatSeries, sites: int) -> int:
    """So many sites in a batch of evaluation, or as many as stored series can hold while they read as many more."""
    return min(sites, max(series.capacity // 2, 1)) if isinstance(series, StoredSeries) else sites


def _loader(kind: type[Loader], dataset: Dataset[Batch], num_workers: int, **order: Any) -> Loader:
    return kind(
        dataset,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_whole,
        # Of its own: else each pass draws from torch's, and dropout would depend on the workers and on who evaluates.
        generator=torch.Generator(),
        **order,
    )


def _whole(batch: Any) -> Any:
    return batch

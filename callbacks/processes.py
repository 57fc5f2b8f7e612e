"""Several processes that train one module, as the callbacks see them: what they tell one another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DistributedSampler

from mptt.errors import MPTTError

AT_ONCE = 65_536  # rows

# Of these each process has a part of the weights only; DeepSpeed's is a kind of DDPStrategy.
_REFUSED = ("DeepSpeedStrategy", "FSDPStrategy", "ModelParallelStrategy")
_INJECTED = ("DistributedSampler", "DistributedSamplerWrapper", "UnrepeatedDistributedSamplerWrapper")


class Processes:
    """The processes of a Trainer.

    All of them must call the methods that end in "of all" in the same order, or they wait for one another for ever.

    Args:
        trainer: whose strategy has set up the communication.

    Attributes:
        rank: the number of this one, from 0.
        size: how many there are.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.rank, self.size = trainer.global_rank, trainer.world_size
        self._device = trainer.strategy.root_device

    def rows_of_all(self, rows: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (K,) and states (K, S) of every process, one after another by rank; K may differ.

        Three messages: K; the rows, and the states, padded to the largest K.
        """
        counts = self._counts(len(rows))
        most = max(counts)
        if not most:
            return rows, states
        parts = []
        for values in (rows, states):
            padded = torch.zeros(most, *values.shape[1:], dtype=values.dtype, device=self._device)
            padded[: len(values)] = values
            parts.append([one[:count] for one, count in zip(self._gather(padded), counts, strict=True)])
        return torch.cat(parts[0]), torch.cat(parts[1])

    def rows_of_each(self, values: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
        """Rows (K, ...) of every process, K of its own, in process 0; nothing in the others, which must ask, too.

        Some rows at a time come, as bytes through the device of the communication.

        Yields:
            The rank, which of its rows, and they, on the device of `values`.
        """
        counts = self._counts(len(values))
        flat = values.detach().reshape(len(values), math.prod(values.shape[1:])).contiguous()
        for begin in range(0, max(counts), AT_ONCE):
            padded = torch.zeros(min(AT_ONCE, max(counts) - begin), *flat.shape[1:], dtype=flat.dtype)
            padded = padded.to(self._device)
            here = flat[begin : begin + AT_ONCE]
            padded[: len(here)] = here
            # Bytes, which every backend carries.
            sent = padded.view(torch.uint8)
            found = [torch.empty_like(sent) for _ in range(self.size)] if self.rank == 0 else None
            dist.gather(sent, found)
            for rank, one in enumerate(found or []):
                if count := max(min(counts[rank] - begin, AT_ONCE), 0):
                    rows = one.view(flat.dtype)[:count].reshape(count, *values.shape[1:])
                    yield rank, slice(begin, begin + count), rows.to(values.device)

    def sum_of_all(self, values: Tensor) -> Tensor:
        """The sum over the processes, where the values were."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest_of_all(self, values: Tensor) -> Tensor:
        """The largest of the processes, where the values were."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def smallest_of_all(self, values: Tensor) -> Tensor:
        """The smallest of the processes, where the values were."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def objects_of_all(self, one: Any) -> list[Any]:
        """What each process has, by rank, in process 0; nothing in the others."""
        found: list[Any] = [None] * self.size
        dist.gather_object(one, found if self.rank == 0 else None)
        return found if self.rank == 0 else []

    def _counts(self, count: int) -> list[int]:
        return [int(one) for one in torch.cat(self._gather(torch.tensor([count])))]

    def _gather(self, values: Tensor) -> list[Tensor]:
        values = values.to(self._device).contiguous()
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values)
        return found

    def _reduce(self, values: Tensor, operation: Any) -> Tensor:
        there = values.to(self._device, copy=True).contiguous()
        dist.all_reduce(there, operation)
        return there.to(values.device)


def check_strategy(trainer: pl.Trainer, owner: str) -> None:
    """Check that each process has the whole module.

    Raises:
        MPTTError: they do not, or have it in a way that is not known.
    """
    names = [kind.__name__ for kind in type(trainer.strategy).__mro__]
    if set(names) & set(_REFUSED) or (trainer.world_size > 1 and "DDPStrategy" not in names):
        raise MPTTError(
            f"{owner} runs in several processes with DDP, of which each has the whole module; found {names[0]}, in a"
            f' world of {trainer.world_size}. Use Trainer(strategy="ddp"), or no strategy and devices=1.'
        )


def refuse_many_processes(trainer: pl.Trainer, owner: str) -> None:
    """Refuse to run in several processes, of which each would see a part of the windows.

    Raises:
        MPTTError: there are several.
    """
    if trainer.world_size > 1:
        raise MPTTError(f"{owner} runs in one process, found {trainer.world_size}; use Trainer(devices=1).")


def check_series_are_whole(trainer: pl.Trainer, dataloader_idx: int, owner: str) -> None:
    """Check that Lightning has not dealt out the batches of evaluation one by one: no series would be whole.

    Raises:
        MPTTError: it has.
    """
    stage = {"sanity_check": "val", "validate": "val", "test": "test", "predict": "predict"}
    name = stage[trainer.state.stage.value]  # type: ignore[union-attr]
    loaders = getattr(trainer, f"{name}_dataloaders")
    loader = loaders[dataloader_idx] if isinstance(loaders, list | tuple) else loaders
    if type(_sampler_of(loader)).__name__ in _INJECTED:
        raise MPTTError(
            f"{owner} carries states along whole series, and Lightning has dealt out the batches of evaluation to"
            f" {trainer.world_size} processes one by one. Use SeriesDataModule, which deals out whole sites, or"
            " Trainer(use_distributed_sampler=False) with a loader that gives each process sites of its own (or all"
            " of them all sites)."
        )


def repeats_last_row(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the last row of a training batch is one that another process has, too.

    PyTorch's DistributedSampler deals out n samples to R processes in turn, and where R does not divide n, repeats the
    first ones, so that all have as many: in a process of rank r with m samples, its last is number `(m - 1) R + r`,
    and a repeated one if that is n or more.
    """
    loader = trainer.train_dataloader
    sampler = _sampler_of(loader)
    if not isinstance(sampler, DistributedSampler) or sampler.drop_last or batch_idx + 1 < len(loader):  # type: ignore[arg-type]
        return False
    size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None) or 1
    whole = len(loader) * size >= sampler.num_samples  # type: ignore[arg-type]
    last = (sampler.num_samples - 1) * sampler.num_replicas + sampler.rank
    return whole and last >= len(sampler.dataset)  # type: ignore[arg-type]


def _sampler_of(loader: Any) -> Any:
    of_batches = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    return getattr(loader, "sampler", None) if of_batches is None else of_batches

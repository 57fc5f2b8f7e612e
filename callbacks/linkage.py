"""Linkage reconstruction inside a Trainer: the module walks once along the training series, and nothing of it shows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mptt.callbacks.base import stretch_of
from mptt.callbacks.core import Core
from mptt.callbacks.memory import Memory
from mptt.errors import MPTTError
from mptt.inference import reconstruct_linkage
from mptt.keymap import Links

_LIGHTNING = ("pytorch_lightning.core.", "lightning.pytorch.core.")


def link(trainer: pl.Trainer, module: pl.LightningModule, core: Core, memory: Memory, batches: Iterable[Any]) -> None:
    """Set all messages of a memory to the states of one pass over the training series, from zero state.

    Args:
        trainer: whose precision and device the pass takes.
        module: runs in eval mode without gradient, through its evaluation step.
        core: of the module.
        memory: to set.
        batches: over the training series in order, each with `site`, `start` and `length`.

    Raises:
        MPTTError: the series are out of order, the core was not run, or gave states that are not finite.
    """
    at_hand: list[Any] = []

    def chunks() -> Iterator[tuple[Any, Any, Any]]:
        for batch in batches:
            at_hand[:] = [_transfer(trainer, batch)]
            yield stretch_of(at_hand[0])

    def advance(initial: Tensor, links: Links) -> tuple[Tensor, Tensor]:
        (batch,) = at_hand
        _, _, length = stretch_of(batch)
        ends = torch.arange(len(length)), torch.from_numpy(length - 1)
        row, position = torch.cat([links[0], ends[0]]), torch.cat([links[2], ends[1]])
        core.start(batch, initial, row, position, {int(length.max())})
        with trainer.precision_plugin.val_step_context():
            outputs = step(batch)
        states = core.finish(outputs)
        if states is None:
            raise MPTTError("The recurrent core was not run over the training series, so no message can be linked.")
        return states[: len(links[0])], states[len(links[0]) :]

    step = evaluation_step(module)
    with torch.no_grad(), _leaving_no_trace(module):
        try:
            reconstruct_linkage(memory, memory.keymap, chunks(), advance)
        finally:
            core.release()
    memory.linked = True


def evaluation_step(module: pl.LightningModule) -> Callable[[Any], Any]:
    """The module's own `predict_step`, else its `validation_step`, as a function of the batch.

    Raises:
        MPTTError: it has neither.
    """
    for name in ("predict_step", "validation_step"):
        if not getattr(type(module), name).__module__.startswith(_LIGHTNING):
            step = getattr(module, name)
            break
    else:
        raise MPTTError(
            "Enhanced MPTT (warmup_epochs > 0) runs the module over the training series through predict_step or"
            f" validation_step; {type(module).__name__} has neither."
        )
    # As in Lightning's loops, batch_idx and dataloader_idx go to the steps that ask for them.
    asked_for = len(inspect.signature(step).parameters)
    return lambda batch: step(*(batch, 0, 0)[:asked_for])


def _transfer(trainer: pl.Trainer, batch: Any) -> Any:
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


@contextmanager
def _leaving_no_trace(module: pl.LightningModule) -> Iterator[None]:
    """In eval mode, logging off, copies in the place of the metrics; all put back at the end."""
    modes = {child: child.training for child in module.modules()}
    metrics = [
        (parent, name, child)
        for parent in module.modules()
        if not isinstance(parent, Metric | MetricCollection)
        for name, child in parent._modules.items()
        if isinstance(child, Metric | MetricCollection)
    ]
    module.eval()
    for parent, name, metric in metrics:
        parent._modules[name] = copy.deepcopy(metric)
    module.log = module.log_dict = _no_log  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.log, module.log_dict
        for parent, name, metric in metrics:
            parent._modules[name] = metric
        for child, training in modes.items():
            child.training = training


def _no_log(*args: Any, **kwargs: Any) -> None:
    """Stand in for a module's `log` while it runs outside the loops."""

"""A module's own evaluation step run outside of Lightning's loops: nothing of it shows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torchmetrics import Metric, MetricCollection

from mptt.errors import MPTTError

_LIGHTNING = ("pytorch_lightning.core.", "lightning.pytorch.core.")


def own_step(module: pl.LightningModule, names: Sequence[str], owner: str) -> Callable[[Any], Any]:
    """The first of these steps that a module has of its own, as a function of the batch.

    Raises:
        MPTTError: it has none.
    """
    for name in names:
        if not getattr(type(module), name).__module__.startswith(_LIGHTNING):
            step = getattr(module, name)
            break
    else:
        raise MPTTError(
            f"{owner} runs the module outside of Lightning's loops through its {' or '.join(names)};"
            f" {type(module).__name__} has none of its own."
        )
    # As in Lightning's loops, batch_idx and dataloader_idx go to the steps that ask for them.
    asked_for = len(inspect.signature(step).parameters)
    return lambda batch: step(*(batch, 0, 0)[:asked_for])


def transfer(trainer: pl.Trainer, batch: Any) -> Any:
    """A batch as Lightning's loops would hand it to a step."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


@contextmanager
def leaving_no_trace(module: pl.LightningModule) -> Iterator[None]:
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

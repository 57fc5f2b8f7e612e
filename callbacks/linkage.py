"""Linkage reconstruction inside a Trainer: the module walks once along the training series, and nothing of it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.base import stretch_of
from mptt.callbacks.core import Core
from mptt.callbacks.guesses import Guesses
from mptt.callbacks.lost import about_places, why_lost
from mptt.callbacks.memory import Memory
from mptt.callbacks.steps import leaving_no_trace, own_step, transfer
from mptt.carried import rows_before
from mptt.errors import MPTTError
from mptt.inference import Parallel, Series, reconstruct_linkage
from mptt.keymap import Links


def link(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    core: Core,
    memory: Memory,
    batches: Iterable[Any],
    parallel: Parallel,
    guesses: Guesses,
) -> None:
    """Set all messages of a memory to the states of one pass over the training series, from zero state.

    Args:
        trainer: whose precision and device the pass takes.
        module: runs in eval mode without gradient, through its evaluation step.
        core: of the module.
        memory: to set.
        batches: over the training series in order, each with `site`, `start` and `length`.
        parallel: how the series are run.
        guesses: of the last such pass; replaced by those of this one.

    Raises:
        MPTTError: the series are out of order, the core was not run, or gave states that are not finite.
    """
    at_hand: list[tuple[Any, Series]] = []

    def chunks() -> Iterator[tuple[Any, Any, Any]]:
        for nth, batch in enumerate(batches):
            here = transfer(trainer, batch)
            site, start, length = stretch_of(here)
            guess = guesses.of(("link", 0, nth), site, start, length)
            at_hand[:] = [(here, Series(length, rows_before(site), parallel, guess))]
            yield site, start, length

    def advance(initial: Tensor, links: Links) -> tuple[Tensor, Tensor]:
        batch, series = at_hand[0]
        ends = torch.arange(len(series.length)), torch.from_numpy(series.length - 1)
        row, position = torch.cat([links[0], ends[0]]), torch.cat([links[2], ends[1]])
        core.start(batch, initial, row, position, {int(series.length.max())}, series=series)
        with trainer.precision_plugin.val_step_context():
            outputs = step(batch)
        states = core.finish(outputs)
        if states is None:
            raise MPTTError("The recurrent core was not run over the training series, so no message can be linked.")
        states, final = states[: len(links[0])], states[len(links[0]) :]
        if not (finite := states.isfinite().all(1)).all():
            ids = links[1][~finite.cpu()].numpy()
            own = getattr(trainer.datamodule, "windows", None) is memory.windows.whole  # type: ignore[attr-defined]
            named = memory.windows.named(ids, about_places(trainer, "train") if own else None)
            raise MPTTError(
                f"Linkage reconstruction gave states that are not finite, first for {named}, at whose start they were"
                f" so. {why_lost(module, 'the inputs of the series before it')}"
            )
        return states, final

    step = linking_step(module)
    with torch.no_grad(), leaving_no_trace(module):
        try:
            reconstruct_linkage(memory, memory.keymap, chunks(), advance)
        finally:
            core.release()
    memory.linked = memory.epoch


def linking_step(module: pl.LightningModule) -> Callable[[Any], Any]:
    """The step through which a module runs over the training series.

    Raises:
        MPTTError: it has none.
    """
    names = "predict_step", "validation_step"
    return own_step(module, names, "Linkage reconstruction (warmup_epochs, refresh_every)")

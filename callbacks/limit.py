"""A training of so many optimizer steps."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from mptt.callbacks.namespaces import Callback
from mptt.errors import MPTTError


class StepLimit(Callback):
    """Ends training after so many optimizer steps, in the midst of an epoch if need be.

    What was trained of the last epoch is validated like a whole one. With `Trainer(max_steps=...)` it is not, and a run
    that is resumed from the end of an epoch ends that epoch a second time (Lightning 2.6).

    Args:
        steps: optimizer steps of the whole run, those before it was resumed too.

    Raises:
        MPTTError: less than one step.

    Example:
        >>> trainer = pl.Trainer(max_epochs=-1, callbacks=[StepLimit(500)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise MPTTError(f"StepLimit needs 1 step or more, found {steps}.")
        self.steps = steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no further where a checkpoint has all steps."""
        self._check(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the last step."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True

"""A whole fit as users run it: training, validation, end hooks, checkpoints."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import pytorch_lightning as pl

from mptt.callbacks import MPTTCallback
from mptt.experiments.bench.common import ActionClock, Figure, Settings, bare_trainer
from mptt.experiments.bench.epochs import paper_data
from mptt.experiments.records import BestAndLast, EpochTable
from mptt.experiments.regressor import SequenceRegressor

PHASES = ("training", "validation", "end hooks of callbacks", "checkpoints", "the rest")


def fit(settings: Settings) -> list[Figure]:
    """Seconds of each phase of an epoch with MPTT, validated each time, and validation's share of the epoch.

    The paper's set-up: 500 training years, 100 of validation, fed as one series. Epochs are those of one fit, after the
    first.
    """
    data = paper_data(settings)
    actions, clock = ActionClock(), PhaseClock()
    repeats = settings.at_most(7)
    settings.tell(f"{1 + repeats} epochs")
    with tempfile.TemporaryDirectory() as folder:
        callbacks = MPTTCallback(), EpochTable(folder), BestAndLast(folder), clock
        trainer = bare_trainer(
            *callbacks, epochs=1 + repeats, limit_val_batches=1.0, enable_checkpointing=True, profiler=actions
        )
        trainer.fit(SequenceRegressor(data.input_size), datamodule=data)
    found = clock.epochs[1:]
    years = round(data.parts["validation"].length.sum() / 365.25)
    figures = [Figure(f"epoch of fit: {phase}", [one[phase] for one in found], "s") for phase in PHASES]
    share = [100 * one["validation"] / sum(one.values()) for one in found]
    figures.append(Figure(f"epoch of fit: share of validation, on {years} years", share, "%", 10))
    return figures


class PhaseClock(pl.Callback):
    """Seconds of each phase of each epoch, in a Trainer with an `ActionClock`, which it clears when an epoch begins.

    Goes after all other callbacks. Training lasts from the start of an epoch to the end of its last batch, validation
    from there to its own end; the epoch to the start of the next.

    Attributes:
        epochs: for each, the seconds of `PHASES`.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._begin: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One epoch ends, another begins."""
        self._end_epoch(trainer)
        trainer.profiler.clear()  # type: ignore[attr-defined]
        self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Perhaps the last."""
        self._trained = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation ends."""
        self._validated = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last epoch ends."""
        self._end_epoch(trainer)

    def _end_epoch(self, trainer: pl.Trainer) -> None:
        if self._begin is None:
            return
        actions: ActionClock = trainer.profiler  # type: ignore[attr-defined]
        checkpoints = actions.of(r"^\[Callback\]BestAndLast.*\.on_train_epoch_end$")
        hooks = actions.of(r"^\[Callback\].*\.on_train_epoch_end$") - checkpoints
        known = self._trained - self._begin, self._validated - self._trained, hooks, checkpoints
        rest = time.perf_counter() - self._begin - sum(known)
        self.epochs.append(dict(zip(PHASES, (*known, rest), strict=True)))

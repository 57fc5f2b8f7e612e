"""Scheduled sampling: from the true lagged target to the network's own predictions in the course of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.base import window_ids, window_table
from mptt.callbacks.epochs import epoch_generator, go_on, training_progress
from mptt.callbacks.lagged import lagged_columns, predictions_of
from mptt.callbacks.namespaces import Callback
from mptt.callbacks.processes import refuse_many_processes
from mptt.errors import MPTTError
from mptt.windows import WindowIndex

Decay = Callable[[float], float]
_SAVED = "mptt_sampled_predictions"
_COIN = "mptt_sampling_coin"


def inverse_sigmoid(progress: float) -> float:
    """`1 / (1 + exp(10 (progress - 0.5)))`, and 0 from 0.8 on: the decay of arXiv 2309.16882."""
    return 1 / (1 + math.exp(10 * (progress - 0.5))) if progress < 0.8 else 0.0


def linear(progress: float) -> float:
    """`1 - progress`."""
    return 1.0 - progress


def exponential(progress: float) -> float:
    """`0.01 ** progress`."""
    return 0.01**progress


DECAYS: dict[str, Decay] = {"inverse_sigmoid": inverse_sigmoid, "linear": linear, "exponential": exponential}


class ScheduledSamplingCallback(Callback):
    """Feeds the lagged target true with a probability that decays, and otherwise as predicted an epoch ago.

    Scheduled sampling (Bengio et al. 2015, arXiv 1506.03099) in the parallel form of arXiv 2309.16882: the predictions
    of a window in one epoch are, one step later, its inputs in the next. For each step of each window a coin decides;
    all targets of a step go together. A window's first step has no prediction before it, and keeps the true value, as
    has every step in the first epoch.

    Training batches have `window` (B,) and, as the last K columns of `x`, the lagged target, as of
    `SeriesDataModule(lagged_target="step")`; `training_step` returns "prediction" (B, L, K) beside "loss". The
    predictions of all windows, windows x steps x K numbers, go into checkpoints.

    Args:
        decay: probability of the true value by the share of the training that lies behind (0 to 1): "inverse_sigmoid",
            "linear", "exponential", or a function.
        seed: of the coin; None: the one that seed_everything set. A resumed run draws what it would have.
        windows: the table of training windows; by default the DataModule's attribute `windows`.
        lagged_columns: K; by default the DataModule's attribute of that name.

    Raises:
        MPTTError: an unknown decay; at the start of fit, no lagged target; a decay outside 0 to 1; a step that returns
            no predictions.

    Example:
        >>> trainer = pl.Trainer(callbacks=[ScheduledSamplingCallback("linear")], logger=False)
    """

    def __init__(
        self,
        decay: str | Decay = "inverse_sigmoid",
        seed: int | None = None,
        windows: WindowIndex | None = None,
        lagged_columns: int | None = None,
    ) -> None:
        if isinstance(decay, str) and decay not in DECAYS:
            raise MPTTError(f"There is no decay {decay!r}; decays are {', '.join(DECAYS)}, or a function of progress.")
        self.decay = DECAYS[decay] if isinstance(decay, str) else decay
        self.seed = seed
        self.windows = windows
        self.lagged_columns = lagged_columns
        self._predicted: Tensor | None = None  # (windows, steps, K); NaN where there is none yet
        self._saved: Tensor | None = None
        self._coin: Tensor | None = None  # state of the generator, of a checkpoint
        self._generator = torch.Generator()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not there yet, before anything runs."""
        refuse_many_processes(trainer, type(self).__name__)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room for the predictions."""
        self._columns = lagged_columns(trainer, self.lagged_columns, type(self).__name__)
        windows = window_table(trainer, self.windows, type(self).__name__)
        training_progress(trainer)
        shape = (len(windows), int(windows.length.max()), self._columns)
        self._predicted = torch.full(shape, torch.nan, device=pl_module.device)
        if self._saved is not None:
            if self._saved.shape != shape:
                raise MPTTError(
                    f"The checkpoint's predictions are of {tuple(self._saved.shape)} (windows, steps, targets), but"
                    f" here they are {shape}. Resume with the windows of that run."
                )
            self._predicted.copy_(self._saved)
            self._saved = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Choose the inputs."""
        assert self._predicted is not None
        if batch_idx == 0 or self._coin is not None:
            self._generator = epoch_generator(self.seed, trainer.current_epoch, self._predicted.device)
            go_on(self._generator, self._coin if batch_idx else None)
            self._coin = None
        true = batch["x"][..., -self._columns :]  # (B, L, K)
        probability = self._probability(trainer)
        ids = window_ids(batch, type(self).__name__).to(self._predicted.device, non_blocking=True)
        own = self._predicted[ids, : true.shape[1] - 1]
        coin = torch.rand(*true.shape[:2], 1, generator=self._generator, device=self._predicted.device)[:, 1:]
        chosen = torch.where((coin < probability) | own.isnan(), true[:, 1:], own.to(true.dtype))
        batch["x"] = torch.cat([batch["x"][..., : -self._columns], torch.cat([true[:, :1], chosen], dim=1)], dim=2)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the predictions for the next epoch."""
        if isinstance(outputs, dict) and not outputs:
            return  # Lightning's for a step that skipped its batch
        assert self._predicted is not None
        predicted = predictions_of(outputs, type(self).__name__).to(self._predicted.dtype)
        ids = window_ids(batch, type(self).__name__).to(self._predicted.device, non_blocking=True)
        self._predicted[ids, : predicted.shape[1]] = predicted

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the predictions into the checkpoint, and where the coin is."""
        if self._predicted is not None:
            checkpoint[_SAVED] = self._predicted
            checkpoint[_COIN] = self._generator.get_state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hold those of a checkpoint until the windows are known."""
        if trainer.state.fn == "fit":
            self._saved, self._coin = checkpoint.get(_SAVED), checkpoint.get(_COIN)

    def _probability(self, trainer: pl.Trainer) -> float:
        progress = training_progress(trainer)
        probability = float(self.decay(progress))
        if not 0 <= probability <= 1:
            raise MPTTError(f"A decay gives probabilities from 0 to 1; at {progress:.3g} it gave {probability}.")
        return probability

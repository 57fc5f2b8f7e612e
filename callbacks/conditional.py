"""Sequential conditional inference (SCIF): a prediction of one window is the condition of the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.base import stretch_of
from mptt.callbacks.continuing import ContinuingCallback
from mptt.callbacks.lagged import lagged_columns, predictions_of
from mptt.callbacks.processes import refuse_many_processes
from mptt.carried import CarriedState
from mptt.errors import MPTTError
from mptt.windows import Int64Array


class ConditionalCallback(ContinuingCallback):
    """Evaluates window by window; the prediction at the step before a window is its condition, held through it.

    "Sequential conditional inference", SCIF, of arXiv 2309.16882, for networks trained with the target before the
    window as an input (`SeriesDataModule(lagged_target="window")`). Evaluation batches are windows of different sites,
    each site's in order of time, as of `SeriesDataModule(evaluation="conditional")`, with `site`, `start` and `length`
    (B,). They may overlap, and must leave no gap; of a step that several have, the first prediction counts. A site's
    first window has the condition that its batch holds: the last observation before the part. No other observation is
    read.

    The evaluation step returns its predictions (B, L, K), standardised, alone or as "prediction" in a dict.

    Args:
        lagged_columns: K; by default the DataModule's attribute of that name.

    Raises:
        MPTTError: inputs without a lagged target, windows out of order, a step that returns no predictions.

    Example:
        >>> trainer = pl.Trainer(callbacks=[ConditionalCallback()], logger=False)
    """

    def __init__(self, lagged_columns: int | None = None) -> None:
        self.lagged_columns = lagged_columns
        self._kept: CarriedState | None = None  # of each site the last W kept predictions, flat, the newest at the end
        self._width = 0  # W

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not there yet, before anything runs."""
        refuse_many_processes(trainer, type(self).__name__)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the condition."""
        columns = lagged_columns(trainer, self.lagged_columns, type(self).__name__)
        site, start, _ = stretch_of(batch)
        x = batch["x"]
        if batch_idx == 0 or self._kept is None:
            self._width = x.shape[1]
            self._kept = CarriedState(self._width * columns)
        kept, stop = self._read(site, start)
        at = start - 1 - (stop - self._width)  # where the step before the window is among those kept
        fed = self._kept.fed(site)
        if (lost := fed & ((at < 0) | (at >= self._width))).any():
            raise MPTTError(
                f"Sequential conditional inference needs each site's windows in order and without gaps: site"
                f" {site[lost][0]} comes with step {start[lost][0]} after step {stop[lost][0] - 1}. Use"
                ' SeriesDataModule(evaluation="conditional").'
            )
        predicted = _take(kept, at[:, None])[:, 0]  # (B, K)
        fed_here = torch.from_numpy(fed).to(x.device).unsqueeze(1)
        condition = torch.where(fed_here, predicted.to(x), x[:, 0, -columns:])
        batch["x"] = torch.cat([x[..., :-columns], condition.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=2)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions that are new."""
        predicted = predictions_of(outputs, type(self).__name__)  # (B, L, K)
        site, start, length = stretch_of(batch)
        assert self._kept is not None
        kept, before = self._read(site, start)
        stop = start + length
        step = stop[:, None] - self._width + np.arange(self._width)  # (B, W) those to keep now
        new = torch.from_numpy(step >= before[:, None]).to(predicted.device).unsqueeze(2)
        last = step - (before[:, None] - self._width)
        together = torch.where(new, _take(predicted, step - start[:, None]), _take(kept.to(predicted), last))
        self._kept.keep(site, site, stop, together.flatten(1))

    # The same for the two other passes; Lightning names a hook for each.
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the predictions."""
        self._kept = None

    def _read(self, site: Int64Array, start: Int64Array) -> tuple[Tensor, Int64Array]:
        """The predictions (B, W, K) kept of each site, and the step after them; of a new site zeros, and its start."""
        assert self._kept is not None
        fed, stop = self._kept.fed(site), start.copy()
        stop[fed] = self._kept.stop(site[fed])
        return self._kept.read(site, site, stop).reshape(len(site), self._width, -1), stop


def _take(values: Tensor, step: Int64Array) -> Tensor:
    """Values (B, L, K) at steps (B, W) of each row; of steps outside, the nearest."""
    at = torch.from_numpy(step.clip(0, values.shape[1] - 1)).to(values.device)
    return values.gather(1, at.unsqueeze(2).expand(-1, -1, values.shape[2]))

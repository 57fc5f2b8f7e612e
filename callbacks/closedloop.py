"""Closed-loop inference of networks that read the lagged target (TFIF)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.base import RecurrentCallback
from mptt.callbacks.hotstart import Missing, States
from mptt.callbacks.lagged import lagged_columns
from mptt.carried import CarriedState, rows_before
from mptt.closedloop import closed_loop
from mptt.errors import MPTTError


class ClosedLoopCallback(RecurrentCallback):
    """Evaluates step by step, feeding each prediction back as the lagged target of the next step.

    "Teacher forcing inference", TFIF, of arXiv 2309.16882, for networks trained with the target of the step before as
    an input. Series are fed in order, as in `RecurrentCallback`, all sites of a batch at once, state and last
    prediction carried from batch to batch. A series begins with the lagged target that its first batch holds: the last
    observation before the part. No other observation is read.

    The predictions are made by the function that the module's `stepper()` returns: inputs (B, F) and flat state (B, S)
    of one step to predictions (B, K), standardised, and flat state; see `mptt.closedloop.cell`. They are then put
    in the place of the lagged target, the last K columns of `batch["x"]`, and the module's evaluation step runs over
    the batch as over any other: its outputs are those predictions, up to rounding.

    Args:
        rnn: name of the recurrent layer, or several; by default the only one.
        lagged_columns: K; by default the DataModule's attribute of that name.
        initial_states, missing_states: as of `StatefulCallback`; the last predictions go on, too.

    Raises:
        MPTTError: at the first batch, for a module without `stepper`, or inputs without a lagged target.

    Example:
        >>> trainer = pl.Trainer(callbacks=[ClosedLoopCallback()], logger=False)
    """

    _last_prediction = True

    def __init__(
        self,
        rnn: str | Sequence[str] | None = None,
        lagged_columns: int | None = None,
        initial_states: States | None = None,
        missing_states: Missing = "refuse",
    ) -> None:
        super().__init__(rnn, initial_states=initial_states, missing_states=missing_states)
        self.lagged_columns = lagged_columns
        self._last: CarriedState | None = None  # the last prediction of each site

    def _before_stretch(self, module: pl.LightningModule, batch: Any, initial: Tensor) -> None:
        stepper = getattr(module, "stepper", None)
        if not callable(stepper):
            raise MPTTError(
                f"Closed-loop inference needs a method stepper() of {type(module).__name__} that returns a function of"
                " one step: inputs (B, F) and flat state (B, S) to predictions (B, K) and flat state."
                " mptt.closedloop.cell(layer) is that of a recurrent layer."
            )
        assert self._stretch is not None
        columns = lagged_columns(module.trainer, self.lagged_columns, type(self).__name__)
        site, start, length = self._stretch
        if (rows_before(site) >= 0).any():
            raise MPTTError(
                "Closed-loop inference goes step by step: feed each site one stretch a batch, as of"
                " SeriesDataModule(stretches_at_once=1)."
            )
        x = batch["x"]
        if self._last is None:
            self._last = CarriedState(columns)
        first = x[:, :1, -columns:]  # what was observed before the stretch; read where a series begins
        last = self._last.read(site, site, start, self._hot.last(first[:, 0]))
        known = x[..., :-columns]
        with module.trainer.precision_plugin.val_step_context():
            predicted, _ = closed_loop(stepper(), known, last.to(x), initial.to(x))
        lagged = torch.cat([last.to(x).unsqueeze(1), predicted[:, :-1].to(x.dtype)], dim=1)
        batch["x"] = torch.cat([known, lagged], dim=2)
        row = torch.arange(len(site), device=x.device)
        end = torch.from_numpy(length - 1).to(x.device, non_blocking=True)
        self._last.keep(site, site, start + length, predicted[row, end])

    def _predictions_kept(self) -> Tensor | None:
        return None if self._last is None else self._last.kept()[2]

    def _begin_pass(self) -> None:
        super()._begin_pass()
        if self._last is not None:
            self._last.reset()

    def _release(self) -> None:
        super()._release()
        self._last = None

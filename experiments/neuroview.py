"""A LightningModule whose head reads the hidden states of many steps: how much each counts is in its weights."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import torch
from torch import Tensor

from mptt.analysis.timesteps import NeuroViewHead
from mptt.errors import MPTTError
from mptt.experiments.regressor import OptimizerMaker, SchedulerMaker, SequenceRegressor


class NeuroViewRegressor(SequenceRegressor):
    """As `SequenceRegressor`, with a head that reads the hidden states of the last `steps` steps.

    It predicts every step. In training, only steps of a window that have all `steps` states in it count, so a window
    must be longer than that: 366 with 183 leaves its second half. In evaluation, which goes through a series in order,
    the states of the stretch before are kept, so that only the first steps of a part read zeros in their place: give a
    `warmup` of as many steps. `mptt memory steps RUN` says how much each step counts.

    Args:
        input_size: as of `SequenceRegressor`.
        output_size: likewise.
        core: likewise.
        hidden_size: likewise.
        num_layers: likewise; the head reads the last.
        steps: states that are read.
        dropout: as of `SequenceRegressor`.
        optimizer: likewise.
        scheduler: likewise.

    Raises:
        MPTTError: as of `SequenceRegressor`; a training window of fewer steps than are read.

    Example:
        In a configuration::

            model:
              class_path: NeuroViewRegressor
              init_args: {hidden_size: 32, steps: 183}
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 1,
        core: Literal["gru", "fast_gru", "lstm", "rnn"] = "gru",
        hidden_size: int = 32,
        num_layers: int = 1,
        steps: int = 183,
        dropout: float = 0.0,
        optimizer: OptimizerMaker = lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        scheduler: SchedulerMaker | None = None,
    ) -> None:
        super().__init__(input_size, output_size, core, hidden_size, num_layers, dropout, optimizer, scheduler)
        self.steps = steps
        self.head = NeuroViewHead(hidden_size, steps, output_size)  # type: ignore[assignment]
        # Where each stretch of evaluation ended, and the states up to there.
        self._ends: dict[tuple[int, int], tuple[int, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, L, K), standardised, for inputs (B, L, F); states before them count as zeros."""
        states, _ = self.core(x)
        return self.head(self.dropout(states))

    def stepper(self) -> None:  # type: ignore[override]
        """Refused: a step reads more than its own state.

        Raises:
            MPTTError: always.
        """
        raise MPTTError("NeuroViewRegressor reads the states of many steps, and cannot be run a step at a time (TFIF).")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As of `SequenceRegressor`, over the steps of which all states are in the window."""
        steps = batch["x"].shape[1]
        if steps < self.steps:
            raise MPTTError(
                f"NeuroViewRegressor reads {self.steps} steps, and the training window has {steps}: give fewer"
                " (--model.steps) or longer windows (--data.window)."
            )
        mask = batch["mask"].clone()
        mask[:, : self.steps - 1] = False
        return super().training_step({**batch, "mask": mask}, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """Begin the sums and the series afresh."""
        self._ends.clear()
        super().on_validation_epoch_start()

    def on_test_epoch_start(self) -> None:
        """Begin the sums and the series afresh."""
        self._ends.clear()
        super().on_test_epoch_start()

    def on_predict_epoch_start(self) -> None:
        """Begin the series afresh."""
        self._ends.clear()

    def predict_batch(self, batch: dict[str, Tensor]) -> Tensor:
        """Predictions (B, L, K), standardised, of stretches that may go on where others of their site ended."""
        states, _ = self.core(batch["x"])
        before = states.new_zeros(len(states), self.steps - 1, states.shape[2])
        if {"site", "start", "length"} <= batch.keys():
            seen: Counter[tuple[int, int]] = Counter()
            columns = (batch[name].tolist() for name in ("site", "start", "length"))
            for row, (site, start, length) in enumerate(zip(*columns, strict=True)):
                # A batch may hold the same stretch several times, from other states.
                place = site, seen[site, start]
                seen[site, start] += 1
                stop, kept = self._ends.get(place, (-1, before[row]))
                if stop == start:
                    before[row] = kept
                whole = torch.cat([before[row], states[row, :length]])
                self._ends[place] = start + length, whole[length:].detach()
        return self.head(self.dropout(states), before)

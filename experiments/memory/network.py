"""A trained module as a function: from inputs and initial states to predictions and the states of every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt.callbacks.core import find_core
from mptt.callbacks.steps import leaving_no_trace, own_step
from mptt.errors import MPTTError


class Network:
    """Runs a module from any initial state; nothing of the module changes.

    Args:
        module: has a `predict_step` of its own, or else a `validation_step`, that returns predictions (B, L, K), or a
            dict with them as "prediction". In explicit mode it reads `batch["h0"]` and returns `states` too.
        rnn: name of its recurrent layer, or several; by default the only one.
        state_size: chooses explicit mode, as of `MPTTCallback`.

    Attributes:
        state_size: numbers in a flat state, S.
        units: of each number in a state, the core's name, the number of its layer, and "h" or "c".

    Raises:
        MPTTError: no recurrent core, or several and none named.

    Example:
        >>> from mptt.experiments.regressor import SequenceRegressor
        >>> network = Network(SequenceRegressor(input_size=3, hidden_size=4))
        >>> predictions, states = network.run({"x": torch.zeros(2, 10, 3)})
        >>> predictions.shape, states.shape
        (torch.Size([2, 10, 1]), torch.Size([2, 10, 4]))
    """

    def __init__(
        self, module: pl.LightningModule, rnn: str | Sequence[str] | None = None, state_size: int | None = None
    ) -> None:
        self.module = module
        self._core = find_core(module, rnn, state_size, type(self).__name__)
        self._step = own_step(module, ["predict_step", "validation_step"], type(self).__name__)
        self.state_size = sum(self._core.sizes.values())
        self.units = self._core.units

    def zeros(self, rows: int) -> Tensor:
        """(B, S) states in which a series begins: zeros, or the module's parameter `initial_state`."""
        own = getattr(self.module, "initial_state", None)
        if isinstance(own, nn.Parameter):
            return own.detach().expand(rows, -1)
        return torch.zeros(rows, self.state_size, device=self.module.device)

    @torch.no_grad()
    def run(self, batch: dict[str, Any], initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one batch.

        Args:
            batch: with `x` (B, L, F), as the module's step reads it.
            initial: (B, S) states before the first step; by default those in which a series begins.

        Returns:
            Predictions (B, L, K), standardised, and the states after each step (B, L, S).

        Raises:
            MPTTError: the step returned no predictions, or did not run the core.
        """
        rows, steps = batch["x"].shape[:2]
        batch = {name: one.to(self.module.device) if isinstance(one, Tensor) else one for name, one in batch.items()}
        row, position = torch.arange(rows).repeat_interleave(steps), torch.arange(steps).repeat(rows)
        with leaving_no_trace(self.module):
            try:
                self._core.start(batch, self.zeros(rows) if initial is None else initial, row, position, None)
                outputs = self._step(batch)
                states = self._core.finish(outputs)
            finally:
                self._core.release()
        predictions = outputs.get("prediction") if isinstance(outputs, dict) else outputs
        if not isinstance(predictions, Tensor) or predictions.ndim != 3 or predictions.shape[:2] != (rows, steps):
            shape = tuple(predictions.shape) if isinstance(predictions, Tensor) else type(predictions).__name__
            raise MPTTError(
                f"predict_step of {type(self.module).__name__} must return predictions (batch, step, target) ="
                f' ({rows}, {steps}, K), or a dict with them as "prediction"; found {shape}.'
            )
        if states is None:
            raise MPTTError(f"predict_step of {type(self.module).__name__} did not run its recurrent core.")
        return predictions.float(), states.float().reshape(rows, steps, self.state_size)

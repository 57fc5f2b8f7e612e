"""How long the core remembers, logged while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.analysis.horizon import Run, divergence, evenly, half_lives, relative, stays_under
from mptt.callbacks.core import Core, find_core
from mptt.callbacks.namespaces import Callback
from mptt.callbacks.steps import leaving_no_trace, own_step
from mptt.errors import MPTTError

ROWS = 8  # of a validation batch that are looked at


class HorizonCallback(Callback):
    """Logs, after validation, for how many steps the recurrent state of a module remembers where it started.

    From the first validation batch: the state after a spin-up from zeros, against zeros, through the same inputs, from
    several dates. Logged are medians over the dates: `mptt/horizon_5` and `mptt/horizon_1`, steps after which the
    distance (root mean square over the units) stays under 5 and 1 % of the initial one, and `mptt/half_life`. None is
    more than the steps that were run: a value of `steps` says that it is that or longer. For a horizon of predictions,
    of seasons and sites, see `mptt memory horizon`.

    Nothing else changes: the module runs in eval mode with its logging off, no random number is drawn and no state is
    kept, so that a run with this callback is the run without it. It costs at most spin_up + 4 `steps` steps of a small
    batch. Each process looks at its own batch, and what is logged is the mean.

    Args:
        every: epochs from one look to the next; the first after epoch 0.
        starts: dates.
        steps: to run from each; of batches that are shorter than the spin-up and twice as many, a third of what is
            there.
        spin_up: steps before the first date; likewise.
        rnn: name of the recurrent layer, or several; by default the only one.
        state_size: numbers in a state; chooses explicit mode, as of `MPTTCallback`.

    Raises:
        MPTTError: numbers under 1; at validation, a batch without `x` (B, L, F), or with fewer than 3 steps, and a
            module that has no recurrent layer or runs without it.

    Example:
        >>> trainer = pl.Trainer(callbacks=[HorizonCallback(every=10)], logger=False)
    """

    def __init__(
        self,
        every: int = 5,
        starts: int = 8,
        steps: int = 365,
        spin_up: int = 365,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
    ) -> None:
        for name, value in {"every": every, "starts": starts, "steps": steps, "spin_up": spin_up}.items():
            if value < 1:
                raise MPTTError(f"{name} of HorizonCallback must be 1 or more, found {value}.")
        self.every, self.starts, self.steps, self.spin_up = every, starts, steps, spin_up
        self.rnn, self.state_size = rnn, state_size
        self._batch: dict[str, Any] | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hold the first batch: other callbacks are at work on the module until all have ended."""
        if batch_idx or dataloader_idx or trainer.sanity_checking or trainer.current_epoch % self.every:
            return
        x = batch.get("x") if isinstance(batch, dict) else None
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[1] < 3:
            found = type(batch).__name__ if not isinstance(x, Tensor) else f"x {tuple(x.shape)}"
            raise MPTTError(
                "HorizonCallback needs validation batches that are dicts with x (batch, step, input), of 3 steps or"
                f" more; found {found}. Leave it out, or use mptt.analysis.horizon.divergence with inputs of your own."
            )
        self._batch = _first_rows(batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look, and log."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        core = find_core(pl_module, self.rnn, self.state_size, type(self).__name__)
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            found = self._look(pl_module, core, batch)
        pl_module.log_dict({f"mptt/{name}": value for name, value in found.items()}, sync_dist=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let the batch go."""
        self._batch = None

    def _look(self, module: pl.LightningModule, core: Core, batch: dict[str, Any]) -> dict[str, float]:
        step = own_step(module, ["predict_step", "validation_step"], type(self).__name__)
        length = _shortest(batch)
        steps, spin_up = min(self.steps, length // 3), min(self.spin_up, length // 3)
        # No further along the series than it takes: a validation part may be long.
        last = min(length - steps, spin_up + 2 * steps)
        dates = torch.from_numpy(evenly(spin_up, last, self.starts))
        rows = len(batch["x"])

        def states_of(stretch: dict[str, Any], initial: Tensor) -> Tensor:
            count, at = stretch["x"].shape[:2]
            row, position = torch.arange(count).repeat_interleave(at), torch.arange(at).repeat(count)
            with leaving_no_trace(module):
                try:
                    core.start(stretch, initial, row, position, None)
                    states = core.finish(step(stretch))
                finally:
                    core.release()
            if states is None:
                raise MPTTError(f"HorizonCallback: {type(module).__name__} did not run its recurrent core.")
            return states.float().reshape(count, at, -1)

        def run(stretch: slice, initial: Tensor) -> tuple[Tensor, Tensor]:
            at = dates[:, None] + torch.arange(stretch.start, stretch.stop)
            states = states_of(_stretches(batch, at), initial)
            return states[..., :1], states

        run_of_dates: Run = run
        size = sum(core.sizes.values())
        zeros = torch.zeros(rows, size, device=module.device)
        spun = states_of(_stretches(batch, torch.arange(int(dates.max()))[None]), zeros)
        true = spun[:, dates - 1].flatten(0, 1)
        share = relative(divergence(run_of_dates, true, torch.zeros_like(true), steps).state)
        found = {"horizon_5": stays_under(share, 0.05), "horizon_1": stays_under(share, 0.01)}
        found["half_life"] = half_lives(share)
        # States that are zeros tell nothing; where all are, nothing is remembered.
        return {
            name: float(np.median(np.minimum(np.nan_to_num(values, nan=0.0, posinf=steps), steps)))
            for name, values in found.items()
        }


def _first_rows(batch: dict[str, Any]) -> dict[str, Any]:
    count = len(batch["x"])
    return {
        name: one[:ROWS] if isinstance(one, Tensor) and one.shape[:1] == (count,) else one
        for name, one in batch.items()
        if name != "h0"
    }


def _shortest(batch: dict[str, Any]) -> int:
    """Steps that all rows have; those after a row's `length` are padding."""
    steps = int(batch["x"].shape[1])
    length = batch.get("length")
    # Rows of a few steps would leave nothing of the others.
    return max(min(steps, int(torch.as_tensor(length).min())), 3) if length is not None else steps


def _stretches(batch: dict[str, Any], at: Tensor) -> dict[str, Any]:
    """Steps `at` (D, l) of each row, as D rows; what is not along steps is repeated."""
    shape, dates = batch["x"].shape[:2], len(at)
    found = {}
    for name, one in batch.items():
        if isinstance(one, Tensor) and one.shape[:2] == shape:
            one = one[:, at.to(one.device)].flatten(0, 1)
        elif isinstance(one, Tensor) and one.shape[:1] == shape[:1]:
            one = one.repeat_interleave(dates, 0)
        found[name] = one
    if "length" in found:
        found["length"] = torch.full_like(torch.as_tensor(found["length"]), at.shape[1])
    if "start" in found:
        found["start"] = found["start"] + at[:, 0].repeat(shape[0]).to(found["start"].device)
    return found

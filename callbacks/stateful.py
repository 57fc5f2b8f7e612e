"""Stateful training: each batch goes on where the last one stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from mptt.callbacks.base import Evaluation, RecurrentCallback, window_ids, window_table
from mptt.callbacks.continuing import CARRIED, carried_on
from mptt.callbacks.hotstart import Missing, States
from mptt.carried import CarriedState
from mptt.errors import MPTTError
from mptt.keymap import KeyMap
from mptt.windows import Int64Array, WindowIndex


class StatefulCallback(RecurrentCallback):
    """Carries the state from batch to batch in training, and through whole series in evaluation.

    Training: row r of a batch starts from the state in which row r of the batch before ended ("stateful mini-batches",
    SMB, of arXiv 2309.16882; `stateful=True` in Keras). That needs the matching batch order, as of
    `SeriesDataModule(order="lanes")`: disjoint windows, and every row the next window of the same series or the first
    of another. States are zero at the start of an epoch and of a series, and after a batch that `training_step`
    skipped; no gradient crosses batches.

    Evaluation: as in `RecurrentCallback`, whatever the training; `StatefulCallback(training=False)` gives a network
    trained from zero state the sequential stateful inference (SSIF).

    Args:
        training: carry states in training too.
        rnn: name of the recurrent layer, or several; by default the only one.
        state_size: numbers in a state, for a core that is no nn.RNN, nn.GRU or nn.LSTM: see `MPTTCallback`.
        windows: the table of training windows; by default the DataModule's attribute `windows`.
        evaluation: "stateful", "independent": from zero state, or None: leave it to another callback.
        tolerance: of states handed on in parallel evaluation; None: series are walked along.
        max_sweeps: of parallel evaluation, which then walks along the rest; by default as many as pay.
        initial_states: from which evaluation goes on: a file of `save_states`, or the data set of `states`; by default
            series start from zeros.
        missing_states: of a site without a state in it: "refuse", or "zeros": it starts as without.

    Example:
        >>> trainer = pl.Trainer(callbacks=[StatefulCallback()], logger=False)
    """

    def __init__(
        self,
        training: bool = True,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
        windows: WindowIndex | None = None,
        evaluation: Evaluation = "stateful",
        tolerance: float | None = 1e-5,
        max_sweeps: int | None = None,
        initial_states: States | None = None,
        missing_states: Missing = "refuse",
    ) -> None:
        super().__init__(rnn, state_size, windows, evaluation, tolerance, max_sweeps, initial_states, missing_states)
        self.trains = training
        self._lanes: CarriedState | None = None
        self._saved: dict[str, Any] | None = None
        self._ends: tuple[Int64Array, Int64Array, Int64Array] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the core and the windows."""
        core = self._find_core(pl_module)
        if self.trains:
            self._keymap = KeyMap(window_table(trainer, self.windows, type(self).__name__))
            self._opens_site = _first_of_their_site(self._keymap.windows)
            self._lanes = CarriedState(sum(core.sizes.values()))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the states to go on from."""
        if self._lanes is None:
            return
        if batch_idx == 0:
            self._lanes.reset()
        elif (saved := carried_on(trainer, self._saved, type(self).__name__)) is not None:
            self._lanes.load_state_dict(saved)
        self._saved = {}
        windows = self._keymap.windows
        ids = self._keymap.check(window_ids(batch, type(self).__name__))
        lane, site, start, length = np.arange(len(ids)), windows.site[ids], windows.start[ids], windows.length[ids]
        lost = self._lanes.fed(lane) & ~self._lanes.continues(lane, site, start) & ~self._opens_site[ids]
        if lost.any():
            row = int(lost.argmax())
            raise MPTTError(
                "Stateful training needs each row of a batch to go on where that row stopped in the batch before: row"
                f" {row} of batch {batch_idx} is window {ids[row]}, which starts at step {start[row]} of site"
                f" {site[row]}, but the row stopped before step {self._lanes.stop(lane[row : row + 1])[0]}. Use"
                ' SeriesDataModule(order="lanes", stride=window), or a loader of your own in that order, not shuffled.'
            )
        self._ends = lane, site, start + length
        core, initial = self._find_core(pl_module), self._lanes.read(lane, site, start)
        core.start(batch, initial, torch.from_numpy(lane), torch.from_numpy(length - 1), {int(length.max())})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the states reached."""
        if self._lanes is None or self._ends is None:
            return
        states = self._finish_training(pl_module, outputs)
        if states is None:
            states = torch.zeros(len(self._ends[0]), self._lanes.state_size)
        self._lanes.keep(*self._ends, states)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in the states reached."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._lanes is not None:
            checkpoint[CARRIED] = self._lanes.state_dict()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hold them until the first batch."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._saved = checkpoint.get(CARRIED) if trainer.state.fn == "fit" else None


def _first_of_their_site(windows: WindowIndex) -> npt.NDArray[np.bool_]:
    order = np.lexsort((windows.start, windows.site))
    first = np.ones(len(windows), dtype=bool)
    first[order[1:]] = windows.site[order[1:]] != windows.site[order[:-1]]
    return first

"""Sequential stateful training: windows in order of time, one after another inside a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.base import Evaluation, RecurrentCallback, window_ids, window_table
from mptt.callbacks.continuing import CARRIED, carried_on
from mptt.errors import MPTTError
from mptt.keymap import KeyMap
from mptt.windows import WindowIndex


class SequentialStatefulCallback(RecurrentCallback):
    """Carries the state from window to window inside a batch, and from batch to batch.

    "Sequential stateful mini-batches", SSMB, of arXiv 2309.16882: a batch is a run of disjoint windows in order of
    time, as of `SeriesDataModule(order="sequential")`. Each starts from the state in which the one before it ends,
    the first from the end of the batch before; a window that follows none starts from zeros. No gradient crosses
    windows, so the states are had by a pass without gradient along the batch, and the windows then train side by side:
    to the last digit of float32 what one window after another would give, with two passes of the layer. In training
    mode with dropout between layers, the two passes drop other units.

    Evaluation: as in `RecurrentCallback`.

    Args:
        rnn: name of the recurrent layer, or several; by default the only one. There is no explicit mode: states inside
            a batch are known only after the step.
        windows: the table of training windows, all of one length; by default the DataModule's attribute `windows`.
        evaluation: "stateful", "independent": from zero state, or None: leave it to another callback.

    Example:
        >>> trainer = pl.Trainer(callbacks=[SequentialStatefulCallback()], logger=False)
    """

    trains = True

    def __init__(
        self,
        rnn: str | Sequence[str] | None = None,
        windows: WindowIndex | None = None,
        evaluation: Evaluation = "stateful",
    ) -> None:
        super().__init__(rnn, None, windows, evaluation)
        self._end: tuple[int, int] = (-1, -1)  # site and stop of the last window that trained
        self._next = self._end  # those of the batch at hand
        self._state: Tensor | None = None  # (1, S) in which it ended
        self._saved: dict[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the core and the windows."""
        self._find_core(pl_module)
        self._keymap = KeyMap(window_table(trainer, self.windows, type(self).__name__))
        lengths = np.unique(self._keymap.windows.length)
        if len(lengths) > 1:
            raise MPTTError(
                f"Sequential stateful training needs windows of one length, found {lengths[0]} to {lengths[-1]} steps."
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the states to go on from."""
        if batch_idx == 0:
            self._end, self._state = (-1, -1), None
        elif (saved := carried_on(trainer, self._saved, type(self).__name__)) is not None:
            self._end, self._state = tuple(saved["end"]), saved["state"]
        self._saved = {}
        windows = self._keymap.windows
        ids = self._keymap.check(window_ids(batch, type(self).__name__))
        site, start, stop = windows.site[ids], windows.start[ids], windows.stop[ids]
        same = site == np.append(self._end[0], site[:-1])
        goes_on = same & (start == np.append(self._end[1], stop[:-1]))
        if (lost := same & ~goes_on).any():
            row = int(lost.argmax())
            raise MPTTError(
                "Sequential stateful training needs each window to begin where the one before it ended: window"
                f" {ids[row]}, row {row} of batch {batch_idx}, starts at step {start[row]} of site {site[row]}, where"
                ' the one before it did not end. Use SeriesDataModule(order="sequential", stride=window), or a loader'
                " of your own in that order, not shuffled."
            )
        core, length = self._find_core(pl_module), int(windows.length[ids[0]])
        initial = torch.zeros(len(ids), sum(core.sizes.values()))
        if goes_on[0] and self._state is not None:
            initial = torch.cat([self._state, initial[1:].to(self._state)])
        self._next = int(site[-1]), int(stop[-1])
        goes_on[0] = False
        last = torch.tensor([len(ids) - 1]), torch.tensor([length - 1])
        core.start(batch, initial, *last, {length}, torch.from_numpy(goes_on))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state reached."""
        self._end, self._state = self._next, self._finish_training(pl_module, outputs)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in the state reached."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint[CARRIED] = {"end": list(self._end), "state": self._state}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hold it until the first batch."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._saved = checkpoint.get(CARRIED) if trainer.state.fn == "fit" else None

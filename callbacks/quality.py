"""How good the messages are: a sample of them beside the states that they stand for, after every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from mptt.analysis.sample import WindowSample, sample_windows
from mptt.analysis.staleness import TrueMessages, staleness
from mptt.callbacks.base import stretch_of
from mptt.callbacks.checkpoints import in_our_form
from mptt.callbacks.core import Core, DropInCore, find_core
from mptt.callbacks.mptt import MPTTCallback
from mptt.callbacks.steps import leaving_no_trace, own_step, transfer
from mptt.carried import rows_before
from mptt.errors import MPTTError, MPTTWarning
from mptt.inference import Series, reconstruct_linkage
from mptt.keymap import KeyMap, Links
from mptt.windows import WindowIndex

_STEPS = "predict_step", "validation_step"


class MessageQuality(pl.Callback):
    """Measures how far messages are from the states that a pass in order gives, with the weights of now.

    It goes beside an `MPTTCallback`, in any order. A sample of windows is drawn once. At the end of an epoch the module
    runs, in eval mode and without gradient, along the stretches of the training series that lead up to them, and the
    states at their starts are compared with the messages that the next epoch will read. Training is the same, bit for
    bit, with and without it.

    Logged, all relative to the root mean square distance between the true states of two different windows, so that 1 is
    no better than the state of any other window; formulas in `mptt.analysis.staleness`:

    - `mptt/staleness`: root mean square distance between messages and true states. Its parts, as vectors:
      `mptt/staleness_written`, what the writers got wrong; `mptt/staleness_age`, what older epochs' writes are off;
      `mptt/staleness_drift`, what the weights moved since the writes of the last epoch, of which the middle counts.
    - `mptt/staleness_zero`: that of starting from zeros instead.
    - `mptt/weight_drift`: change of the core's weights since the last measurement, relative to their norm.

    NaN at the end of epochs in which nothing was measured.

    A stretch begins in zero state `spin_up` steps before its first window: what came before is taken to be forgotten by
    then. With a DataModule without `stretch_batches` (see `SeriesDataModule`), or `MPTTCallback(series=...)`, all of
    the training series are walked along instead, which is exact and costs as much as the linkage reconstruction. What
    was measured goes into checkpoints: a resumed run logs what the run would have. In several processes the first
    measures windows of its own.

    Args:
        every: epochs from one measurement to the next.
        windows: to draw, at most.
        stretches: that they are in, neighbours in each; of as many sites where there are so many.
        spin_up: steps; None: from the beginning of the series, which is exact. Ten years of days by default.
        seed: of the drawing.

    Attributes:
        sample: the windows drawn. From the first batch.

    Raises:
        MPTTError: there is no `MPTTCallback`, or nothing to draw.

    Example:
        >>> trainer = pl.Trainer(callbacks=[MPTTCallback(), MessageQuality()], logger=False)
    """

    def __init__(
        self, every: int = 1, windows: int = 64, stretches: int = 8, spin_up: int | None = 3650, seed: int = 0
    ) -> None:
        for name, value, least in (("every", every, 1), ("windows", windows, 2), ("stretches", stretches, 1)):
            if value < least:
                raise MPTTError(f"{name} must be {least} or more, found {value}.")
        if spin_up is not None and spin_up < 0:
            raise MPTTError(f"spin_up is a number of steps of 0 or more, or None, found {spin_up}.")
        self.every, self.windows, self.stretches, self.spin_up, self.seed = every, windows, stretches, spin_up, seed
        self.sample: WindowSample | None = None
        self._true: TrueMessages | None = None
        self._weights = torch.empty(0)
        self._fingerprint = ""
        self._counts: list[Tensor] = []  # writes of the epochs since the last measurement
        self._linked: list[bool] = []
        self._core: Core | None = None
        self._batches: list[Any] | None = None
        self._saved: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the callback with the messages, and the step to run.

        Raises:
            MPTTError: one of them is not there.
        """
        if stage != "fit":
            return
        found = [one for one in trainer.callbacks if isinstance(one, MPTTCallback)]  # type: ignore[attr-defined]
        if not found:
            raise MPTTError(
                "MessageQuality measures the messages of an MPTTCallback, and the Trainer has none. Put one beside it"
                " (`mptt fit`: --strategy MPTT-delta1), or leave MessageQuality out."
            )
        own_step(pl_module, _STEPS, type(self).__name__)
        self.sample = self._true = self._core = self._batches = self._saved = None
        self._counts, self._linked = [], []
        if self not in found[0].watchers:
            found[0].watchers.append(self)

    def training_begins(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> None:
        """Draw the sample, and see where it is now, or was when the checkpoint was written."""
        memory, saved = callback.layers, self._saved
        self._saved = None
        if not trainer.is_global_zero:
            return
        self.sample = sample = sample_windows(memory.windows, self.windows, self.stretches, self.spin_up, self.seed)
        self._fingerprint = memory.windows.fingerprint
        self._core = find_core(module, callback.rnn, callback.state_size, type(self).__name__)
        if saved is not None:
            with in_our_form("quality of messages"):
                if saved["fingerprint"] == self._fingerprint and torch.equal(saved["ids"], _ids(sample)):
                    self._take_over(saved, callback.delta)
                    return
            warnings.warn(
                "The checkpoint's sample of messages is of other windows; their quality is measured anew from here.",
                MPTTWarning,
                stacklevel=2,
            )
        known = (memory.last_write >= 0).cpu()[_ids(sample)]
        self._true = TrueMessages(self._true_states(trainer, module, callback), known, callback.delta)
        self._weights = _weights(module, self._core)

    def epoch_over(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> dict[str, Tensor]:
        """Measure, where it is time to."""
        found: dict[str, float] = {}
        if trainer.is_global_zero:
            found = self._measured(trainer, module, callback)
        if trainer.world_size > 1:
            found = trainer.strategy.broadcast(found)
        return {name: torch.tensor(value) for name, value in found.items()}

    def _measured(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> dict[str, float]:
        memory, sample, true, core = callback.layers, self.sample, self._true, self._core
        assert sample is not None
        assert true is not None
        assert core is not None
        rows = _ids(sample)
        counts = next(iter(memory.maps.values())).count
        self._counts.append(counts.index_select(0, rows.to(counts.device)).cpu())
        self._linked.append(memory.linked == memory.epoch)
        names = ("staleness", "staleness_written", "staleness_age", "staleness_drift", "staleness_zero", "weight_drift")
        if (memory.epoch + 1) % self.every:
            return dict.fromkeys(names, float("nan"))
        true.follow(self._true_states(trainer, module, callback), self._counts, self._linked)
        self._counts, self._linked = [], []
        found = staleness(memory.read_rows(rows).to("cpu", torch.float32), true)
        before, self._weights = self._weights, _weights(module, core)
        found["weight_drift"] = (self._weights - before).norm() / before.norm()
        return {name: float(found[name]) for name in names}

    def _true_states(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> Tensor:
        """(V, S) states at the starts of the sampled windows, on the host."""
        sample, core = self.sample, self._core
        assert sample is not None
        assert core is not None
        step, data = own_step(module, _STEPS, type(self).__name__), getattr(trainer, "datamodule", None)
        make = None if callback.series is not None else getattr(data, "stretch_batches", None)
        size = sum(core.sizes.values())
        states = torch.empty(len(sample.ids), size)

        def caught(batch: Any, initial: Tensor, follows: np.ndarray, row: Tensor, position: Tensor) -> Tensor:
            length = stretch_of(batch)[2]
            series = Series(length, follows, callback.parallel)
            core.start(batch, initial, row, position, {int(length.max())}, series=series)
            with trainer.precision_plugin.val_step_context():
                outputs = step(batch)
            found = core.finish(outputs)
            if found is None:
                raise MPTTError("The recurrent core was not run over the training series: messages have no true state.")
            return found

        # A loader of somebody's own draws from torch's generator each time that it is gone through.
        with torch.no_grad(), isolate_rng(), leaving_no_trace(module):
            try:
                if make is None:
                    _walk(callback.series_batches(trainer), trainer, callback, sample, states, caught)
                else:
                    self._along_stretches(make, trainer, sample, states, caught)
            finally:
                core.release()
        return states

    def _along_stretches(
        self,
        make: Callable[..., Iterable[Any]],
        trainer: pl.Trainer,
        sample: WindowSample,
        states: Tensor,
        caught: Callable[..., Tensor],
    ) -> None:
        if self._batches is None:
            self._batches = list(make("train", sample.site, sample.start, sample.length))
        done = 0
        for batch in self._batches:
            here = transfer(trainer, dict(batch))
            rows = len(stretch_of(here)[0])
            inside = (sample.row >= done) & (sample.row < done + rows)
            initial = torch.zeros(rows, states.shape[1])
            found = caught(here, initial, np.full(rows, -1), sample.row[inside] - done, sample.position[inside])
            states[inside] = found.to("cpu", torch.float32)
            done += rows

    def _take_over(self, saved: dict[str, Any], delta: float) -> None:
        self._true = TrueMessages(saved["states"], torch.zeros(len(saved["states"]), dtype=torch.bool), delta)
        self._true.kept, self._true.middle = saved["kept"], saved["middle"]
        self._weights = saved["weights"]
        self._counts, self._linked = list(saved["counts"]), list(saved["linked"])

    def state_dict(self) -> dict[str, Any]:
        """What the next measurement goes on from."""
        if self._true is None or self.sample is None:
            return {}
        true = self._true
        return {
            "ids": _ids(self.sample),
            "fingerprint": self._fingerprint,
            "states": true.states,
            "kept": true.kept,
            "middle": true.middle,
            "weights": self._weights,
            "counts": list(self._counts),
            "linked": list(self._linked),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold it until the windows are known."""
        self._saved = state_dict or None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Look no more."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look no more."""
        self._core = self._batches = None
        for one in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(one, MPTTCallback) and self in one.watchers:
                one.watchers.remove(self)


class _Sampled:
    """What `reconstruct_linkage` sets, of the windows of a sample alone."""

    def __init__(self, states: Tensor) -> None:
        self.states, self.state_size = states, states.shape[1]

    def link(self, rows: Tensor, states: Tensor) -> None:
        """Take the true states of some."""
        self.states[rows] = states.to("cpu", torch.float32)


def _walk(
    batches: Iterable[Any],
    trainer: pl.Trainer,
    callback: MPTTCallback,
    sample: WindowSample,
    states: Tensor,
    caught: Callable[..., Tensor],
) -> None:
    """Along all of the training series, in order."""
    windows = callback.layers.windows
    at_hand: list[Any] = []
    keymap = KeyMap(WindowIndex(windows.site[sample.ids], windows.start[sample.ids], windows.length[sample.ids]))

    def chunks() -> Iterable[Any]:
        for batch in batches:
            at_hand[:] = [transfer(trainer, batch)]
            yield stretch_of(at_hand[0])

    def advance(initial: Tensor, links: Links) -> tuple[Tensor, Tensor]:
        site, _, length = stretch_of(at_hand[0])
        row = torch.cat([links[0], torch.arange(len(length))])
        position = torch.cat([links[2], torch.from_numpy(length - 1)])
        found = caught(at_hand[0], initial, rows_before(site), row, position)
        return found[: len(links[0])], found[len(links[0]) :]

    reconstruct_linkage(_Sampled(states), keymap, chunks(), advance)


def _ids(sample: WindowSample) -> Tensor:
    return torch.from_numpy(sample.ids)


def _weights(module: pl.LightningModule, core: Core) -> Tensor:
    """The weights of a core as one vector, a copy on the host; in explicit mode all of the module's."""
    parts = [module.get_submodule(name) for name in core.sizes] if isinstance(core, DropInCore) else [module]
    return torch.cat([one.detach().flatten().to("cpu", torch.float32) for part in parts for one in part.parameters()])

"""What both callbacks share: the module's core, and evaluation that feeds every series in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor, nn

from mptt.callbacks.checkpoints import in_our_form
from mptt.callbacks.continuing import ContinuingCallback
from mptt.callbacks.core import Core, find_core
from mptt.callbacks.guesses import Guesses
from mptt.callbacks.hotstart import HotStart, Missing, States
from mptt.callbacks.lost import LostStates, warn_of_lost
from mptt.callbacks.processes import Processes, check_series_are_whole, check_strategy, refuse_many_processes
from mptt.callbacks.states import save_states
from mptt.carried import CarriedState, check_in_order
from mptt.errors import MPTTError
from mptt.inference import Parallel, Series
from mptt.sweeps import Sweeps
from mptt.windows import Int64Array, WindowIndex

Evaluation = Literal["stateful", "independent"] | None

_GUESSES = "mptt_guesses"


class RecurrentCallback(ContinuingCallback):
    """Carries states through validation, test and predict; the base of the callbacks that train.

    Sequential stateful evaluation: each row of a batch is a stretch of a series, and starts from the state in which the
    last stretch of its series ended; zeros for the first. A batch says so by `site`, `start` and `length`, integers
    (B,): steps `start .. start + length - 1` of series `site`; rows that are shorter than others are padded at the end.
    The stretches of a site follow one another without a gap, from batch to batch or from row to row of one batch.

    Series are run in parallel where that is faster: cut into chunks that run side by side, until the states handed from
    chunk to chunk stop changing (`mptt.sweeps`). The next pass over the same stretches, after an epoch, begins with the
    states that this one found; they go into checkpoints. `sweeps` tells what was done, and it is logged: `mptt/sweeps`,
    `mptt/passes` (over the series, that the chunks run come to) and `mptt/change` (largest by which a state is off).
    A core of your own (`state_size=`) is run in parallel where a batch has several stretches of a series, and the
    module a `predict_step`.

    A series that begins, and every row of independent evaluation, starts from zeros, or from the module's parameter
    `initial_state` (S,) where it has one (see `LearnedInitialStateCallback`). States that are caught are those of the
    layer's last call in a step.

    Hot start: after an evaluation, `save_states("states.nc")` writes the state in which each site ended, with the date
    of its last step; `initial_states="states.nc"` lets validate, test and predict on the steps that follow go on from
    there, as if both were one. Sites and dates are those of the loader's data set or DataModule (`mptt.Timeline`);
    without, the numbers of sites and steps, which then count on. States of other weights, inputs, calendars and dates,
    and sites without a state, are refused.

    With DDP, each process evaluates the series that its loader gives it, and each must get whole series, as of
    `SeriesDataModule`.

    A Trainer takes one callback that sets initial states in training, and one that does so in evaluation; they may be
    the same. `evaluation=None` leaves evaluation to another.

    Attributes:
        sweeps: what the last evaluation did; of the layer that took the most runs.
    """

    trains = False  # whether it sets initial states in training
    trains_in_many = False  # and may do so in several processes
    _last_prediction = False  # whether the last prediction is carried too

    def __init__(
        self,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
        windows: WindowIndex | None = None,
        evaluation: Evaluation = "stateful",
        tolerance: float | None = 1e-5,
        max_sweeps: int | None = None,
        initial_states: States | None = None,
        missing_states: Missing = "refuse",
    ) -> None:
        if evaluation not in ("stateful", "independent", None):
            raise MPTTError(f'evaluation is "stateful", "independent" or None, found {evaluation!r}.')
        self.rnn = rnn
        self.state_size = state_size
        self.windows = windows
        self.evaluation = evaluation
        self.parallel = Parallel(max_sweeps=0) if tolerance is None else Parallel(tolerance, max_sweeps)
        self.sweeps: Sweeps | None = None
        self.initial_states = initial_states
        self.missing_states = missing_states
        self._hot = HotStart(type(self).__name__)
        self._loader = 0
        self._core: Core | None = None
        self._carried: CarriedState | None = None
        self._guesses = Guesses()
        self._lost = LostStates()
        self._stretch: tuple[Int64Array, Int64Array, Int64Array] | None = None
        self._series: Series | None = None
        self._ran: bool | None = None  # whether the core ran in this epoch; None before its first batch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not there yet, before anything runs."""
        if self.trains and not self.trains_in_many:
            refuse_many_processes(trainer, type(self).__name__)
        check_strategy(trainer, type(self).__name__)
        others = [one for one in trainer.callbacks if isinstance(one, RecurrentCallback)]  # type: ignore[attr-defined]
        for when, alike in (
            ("training", [type(one).__name__ for one in others if one.trains]),
            ("evaluation", [type(one).__name__ for one in others if one.evaluation is not None]),
        ):
            if len(alike) > 1:
                way = " or pass evaluation=None to the others" if when == "evaluation" else ""
                raise MPTTError(
                    f"Only one callback can set the initial states in {when}, found {', '.join(alike)}; keep one{way}."
                )
        self._core = self._ran = self.sweeps = None
        self._guesses = Guesses()
        self._check_hot_start(stage)
        self._hot.open(self.initial_states, self.missing_states, self._last_prediction)
        self._lost = LostStates()

    def states(self, loader: int | None = None) -> xr.Dataset:
        """The state in which each site ended in the last evaluation.

        After fit, that is the last validation. For the end of training, predict over the training series first:
        `trainer.predict(model, data.series_dataloader())`. A site that was not fed keeps its state of `initial_states`;
        so does one whose state is not finite, with a warning; without such a state it is left out.

        Args:
            loader: number of the evaluation loader, where there are several.

        Returns:
            `state` (site, unit), the flat states; of each unit the `core`, `layer` and `part` (h or c); `time` (site,),
            the date of the last step that went in, or `stop`, the number of the step after it, where the data have no
            `Timeline`; `prediction` (site, target) of closed-loop inference. Attributes: checksums of the `weights` and
            the `inputs`, `calendar`, `step_seconds`, `mptt_version`.

        Raises:
            MPTTError: no evaluation has finished; several loaders and none named; several processes.
        """
        return self._hot.dataset(loader)

    def save_states(self, path: str | Path, loader: int | None = None) -> None:
        """Write `states()` to a file, .nc or .safetensors, whole or not at all."""
        save_states(self.states(loader), path)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch whether the core runs."""
        self._ran = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to go on where no state comes out of training."""
        super().on_train_epoch_end(trainer, pl_module)
        core = self._find_core(pl_module)
        core.release()
        if self._ran is False:
            raise MPTTError(
                f"{type(self).__name__} caught no state in this epoch: training_step did not run"
                f" {', '.join(core.sizes)}. Name the layer that it runs with rnn=, or use explicit mode (state_size=)."
            )

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the states to go on from."""
        self._start_stretch(trainer, pl_module, batch, batch_idx, dataloader_idx)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the states reached."""
        self._end_stretch(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which sites were lost, if any, and log what was done."""
        warn_of_lost(trainer, pl_module, self._lost)
        if self.sweeps is not None:
            done = {
                "sweeps": float(self.sweeps.sweeps),
                "passes": self.sweeps.passes,
                "change": self.sweeps.largest_change,
            }
            pl_module.log_dict({f"mptt/{name}": value for name, value in done.items()})

    # The same for the two other passes; Lightning names a hook for each.
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which sites were lost, if any."""
        warn_of_lost(trainer, pl_module, self._lost)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in where the next evaluation begins."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        guesses = self._guesses.state_dict()
        if trainer.world_size > 1:
            for one in guesses:  # where any process can take them
                for guess in one["guesses"].values():
                    guess |= {key: value.cpu() for key, value in guess.items() if isinstance(value, Tensor)}
            found = Processes(trainer).objects_of_all(guesses)
            guesses = [one | {"rank": rank} for rank, each in enumerate(found) for one in each]
        checkpoint[_GUESSES] = guesses

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it over, to go on as the run would have."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if trainer.state.fn == "fit":
            with in_our_form("beginnings of evaluation"):
                saved = checkpoint.get(_GUESSES, [])
                self._guesses.load_state_dict([one for one in saved if one.get("rank", 0) == trainer.global_rank])

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._hot.forget()
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._release()

    def _release(self) -> None:
        if self._core is not None:
            self._core.release()
        self._core = self._carried = None

    def _find_core(self, module: pl.LightningModule) -> Core:
        if self._core is None:
            self._core = find_core(module, self.rnn, self.state_size, type(self).__name__)
        return self._core

    def _finish_training(self, module: pl.LightningModule, outputs: Any) -> Tensor | None:
        states = self._find_core(module).finish(outputs)
        self._ran = bool(self._ran) or states is not None
        return states

    def _start_stretch(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        fresh: Tensor | None = getattr(module, "initial_state", None)
        if not isinstance(fresh, nn.Parameter):
            fresh = None  # somebody's own thing of that name
        if self.evaluation is None:
            return
        if batch_idx == dataloader_idx == 0:
            self.sweeps, self._lost = None, LostStates(self.evaluation == "independent")
        if self.evaluation == "independent" and fresh is None:
            return
        core = self._find_core(module)
        self._stretch = site, start, length = stretch_of(batch)
        row, position = torch.arange(len(site)), torch.from_numpy(length - 1)
        if trainer.world_size > 1 and batch_idx == 0 and self.evaluation == "stateful":
            check_series_are_whole(trainer, dataloader_idx, type(self).__name__)
        if self._carried is None:
            self._carried = CarriedState(sum(core.sizes.values()))
        if batch_idx == 0 or self.evaluation == "independent":
            self._begin_pass()
        self._loader = dataloader_idx
        if batch_idx == 0 and self.evaluation == "stateful" and not trainer.sanity_checking:
            self._hot.begin(trainer, module, core.units, dataloader_idx)
        if self.evaluation == "stateful":
            follows = check_in_order(self._carried, site, start, length)
            # What a sanity check finds is not kept: a run that resumes has none.
            kept = Guesses() if trainer.sanity_checking else self._guesses
            guesses = kept.of((str(trainer.state.stage), dataloader_idx, batch_idx), site, start, length)
            self._series = Series(length, follows, self.parallel, guesses)
            opens = (follows < 0) & ~self._carried.fed(site)
            fresh = self._hot.initial(site, start, opens, fresh)
        initial = self._carried.read(site, site, start, fresh)
        self._before_stretch(module, batch, initial)
        core.start(batch, initial, row, position, {int(length.max())}, series=self._series)

    def _begin_pass(self) -> None:
        """Forget what was carried through the last pass."""
        assert self._carried is not None
        self._carried.reset()

    def _before_stretch(self, module: pl.LightningModule, batch: Any, initial: Tensor) -> None:
        """What a subclass does to an evaluation batch that is to start from these states (B, S)."""

    def _predictions_kept(self) -> Tensor | None:
        """Of a subclass that carries them: the last predictions (sites, K), in order of the sites' numbers."""
        return None

    def _check_hot_start(self, stage: str) -> None:
        if self.missing_states not in ("refuse", "zeros"):
            raise MPTTError(f'missing_states is "refuse" or "zeros", found {self.missing_states!r}.')
        if self.initial_states is None:
            return
        if self.evaluation != "stateful":
            raise MPTTError(
                f'initial_states are for evaluation="stateful", found {self.evaluation!r}: nothing else reads them.'
            )
        if stage == "fit":
            raise MPTTError(
                "initial_states are for validate, test and predict: training changes the weights that the states are"
                f" of. Fit with a {type(self).__name__} without them."
            )

    def _end_stretch(self, module: pl.LightningModule, outputs: Any, batch: Any) -> None:
        if self.evaluation == "independent":
            self._lost.see_predictions(outputs, batch)
        if self._core is None or self._carried is None or self._stretch is None:
            return
        (site, start, length), self._stretch = self._stretch, None
        series, self._series = self._series, None
        lost = self._core.lost(outputs, length)
        states = self._core.finish(outputs)
        if states is None:
            raise MPTTError(
                "No state came out of this evaluation step, so none can be carried on: the recurrent layer was not"
                ' called. Call it in the step, or pass evaluation="independent".'
            )
        self._lost.see(site, start, length, lost, states)
        if series is not None:
            self._carried.keep_last(site, start + length, states)
            self._hot.keep(module, self._loader, self._carried.kept(), self._predictions_kept())
            if series.done:
                done = max(series.done.values(), key=lambda one: one.runs)
                self.sweeps = done if self.sweeps is None else self.sweeps + done


def window_table(trainer: pl.Trainer, windows: WindowIndex | None, owner: str) -> WindowIndex:
    """The table of training windows: the one given, else the DataModule's attribute `windows`.

    Raises:
        MPTTError: there is none.
    """
    if windows is None:
        windows = getattr(trainer.datamodule, "windows", None)  # type: ignore[attr-defined]
    if not isinstance(windows, WindowIndex):
        raise MPTTError(
            f"{owner} needs the table of training windows, found {type(windows).__name__}: pass"
            " windows=WindowIndex(site, start, length), or give the DataModule an attribute `windows`."
        )
    return windows


def stretch_of(batch: Any) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The site, start and length of each row of an evaluation batch.

    Raises:
        MPTTError: the batch does not say, or not in integers (B,).
    """
    keys = ("site", "start", "length")
    if not isinstance(batch, dict) or any(key not in batch for key in keys):
        raise MPTTError(
            "Sequential stateful evaluation needs to know which stretch of which series each row is: batch['site'],"
            f" batch['start'] and batch['length'], integers (B,); found {_contents(batch)}. Add them, or evaluate from"
            ' zero state with evaluation="independent".'
        )
    found = [torch.as_tensor(batch[key]).cpu() for key in keys]
    if len({one.shape for one in found}) > 1 or any(one.ndim != 1 or one.is_floating_point() for one in found):
        listed = ", ".join(f"{key} {one.dtype} {tuple(one.shape)}" for key, one in zip(keys, found, strict=True))
        raise MPTTError(f"batch['site'], batch['start'] and batch['length'] must be integers (B,); found {listed}.")
    site, start, length = (np.asarray(one, dtype=np.int64) for one in found)
    if length.min(initial=1) < 1:
        raise MPTTError(f"Stretches have 1 step or more, found batch['length'] = {length.min()}.")
    return site, start, length


def window_ids(batch: Any, owner: str) -> Tensor:
    """The window ids (B,) of a training batch.

    Raises:
        MPTTError: the batch has none.
    """
    if not isinstance(batch, dict) or "window" not in batch:
        raise MPTTError(
            f"{owner} needs the ids of a batch's windows: batch['window'], integers (B,), the rows of the window table"
            f" that the samples are; found {_contents(batch)}. Let the dataset return a dict and put them in."
        )
    return torch.as_tensor(batch["window"])


def _contents(batch: Any) -> str:
    return f"a dict with {', '.join(map(str, batch))}" if isinstance(batch, dict) else f"a {type(batch).__name__}"

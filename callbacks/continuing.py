"""What a run goes on with beside weights, optimizers and memory: random numbers, gradients that are not yet stepped."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.checkpoints import in_our_form
from mptt.callbacks.namespaces import Callback
from mptt.callbacks.processes import Processes
from mptt.errors import MPTTError, MPTTWarning

_SAVED = "mptt_run"
CARRIED = "mptt_carried"  # states that go on from batch to batch


class ContinuingCallback(Callback):
    """Puts the random numbers and the gradients of a half-done accumulation into checkpoints, and takes them up in fit.

    A validation that was due when the checkpoint was taken, or not at its end, is run from its beginning; Lightning
    alone leaves it out.

    So is the step of a `ReduceLROnPlateau` at the end of that epoch; for it the metrics are put into checkpoints, too.

    Random numbers are those of torch, on the CPU and on CUDA, NumPy and Python. Generators that a module or somebody's
    own loader holds are not among them. Of several processes each has its own random numbers and gradients, which are
    taken up where there are as many again; by another number of them, none, and in the middle of an epoch the run does
    not go on.
    """

    _run: dict[str, Any] | None = None
    _own: dict[str, Any] | None = None  # of it, what is this process's
    _stepped = -1  # the epoch in which schedulers were stepped here
    _validated = False  # whether the last validation came to its end

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put them in."""
        if _SAVED not in checkpoint:
            middle = in_the_middle(trainer)
            epochs: Any = trainer.fit_loop.epoch_progress.current
            summed = middle and _progress(trainer).processed % trainer.accumulate_grad_batches > 0
            own = {"random": random_state(), "gradients": _gradients(pl_module) if summed else {}}
            checkpoint[_SAVED] = {
                "processes": Processes(trainer).objects_of_all(own) if trainer.world_size > 1 else [own],
                "middle": middle,
                "validation_due": self._validation_due(trainer),
                # It comes after the hooks of the epoch's end, and what is saved there resumes with the next epoch.
                "plateau_due": epochs.processed > epochs.completed and self._stepped != epochs.completed,
                "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the random numbers, which somebody's own loader may draw from before training starts.

        Raises:
            MPTTError: the checkpoint is from the middle of an epoch that another number of processes trained.
        """
        self._run = checkpoint.get(_SAVED) if trainer.state.fn == "fit" else None
        if self._run is None:
            return
        with in_our_form("state of the run"):
            processes, here = len(self._run["processes"]), trainer.world_size
            if self._run["middle"] and processes != here:
                raise MPTTError(
                    "The checkpoint is from the middle of an epoch, and the number of processes is another:"
                    f" {processes} trained it, here {here}. Each has a part of the epoch's batches, which cannot be"
                    f" dealt out anew. Resume with Trainer(devices={processes}), or from a checkpoint of the end of an"
                    " epoch, with any number."
                )
            if self._run["validation_due"] or _before_lightning_2_5(trainer):
                _begin_validation(checkpoint["loops"]["fit_loop"])
            self._own = self._run["processes"][trainer.global_rank] if processes == here else None
            if self._own is not None:
                set_random_state(self._own["random"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """In the middle of an epoch, take up the gradients, and the random numbers again: nothing is drawn there."""
        (run, self._run), (own, self._own) = (self._run, None), (self._own, None)
        if run is not None and run["validation_due"]:
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()  # it has been understood
        if run is not None:
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in run["metrics"].items()})
            if run["plateau_due"] and _first_of(trainer) is self:
                _step_on_plateau(trainer, trainer.current_epoch)
        if run is None or own is None or not run["middle"]:
            return
        set_random_state(own["random"])
        for name, parameter in pl_module.named_parameters():
            if name in own["gradients"]:
                parameter.grad = own["gradients"][name].to(parameter)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """At the end of a resumed epoch, take the step for which Lightning has no metric."""
        if trainer.fit_loop.restarting and _first_of(trainer) is self:
            _step_on_plateau(trainer, trainer.current_epoch + 1)
            self._stepped = trainer.current_epoch

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch whether it comes to its end."""
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It has."""
        self._validated = True

    def _validation_due(self, trainer: pl.Trainer) -> bool:
        loop = trainer.fit_loop.epoch_loop
        if trainer.validating:
            return not self._validated
        batches, fetcher = _progress(trainer), trainer.fit_loop._data_fetcher
        at_batch_end = batches.processed == batches.ready == batches.completed + 1
        return at_batch_end and fetcher is not None and loop._should_check_val_fx(fetcher)


def _before_lightning_2_5(trainer: pl.Trainer) -> bool:
    """Which does not count the batch at whose end a checkpoint is taken, and validates again by the last batch only."""
    return not hasattr(trainer.fit_loop, "update_restart_stage")


def _begin_validation(loops: dict[str, Any]) -> None:
    """Let the saved progress of Lightning's loops say: the batch is trained, a first one of validation was begun."""
    trained, validated = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    for count in (trained["total"], trained["current"]):
        count["completed"] = count["processed"]
    validated["is_last_batch"] = False
    validated["current"] |= dict.fromkeys(validated["current"], 0)
    validated["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}


def _first_of(trainer: pl.Trainer) -> Callback | None:
    """Of several callbacks here the one that does what is to be done once."""
    return next((one for one in trainer.callbacks if isinstance(one, ContinuingCallback)), None)  # type: ignore[attr-defined]


def _step_on_plateau(trainer: pl.Trainer, epochs: int) -> None:
    """Step the schedulers that wait for a plateau, by epochs, after so many of them."""
    module, metrics = trainer.lightning_module, trainer.callback_metrics
    for one in trainer.lr_scheduler_configs if module.automatic_optimization else ():
        due = one.reduce_on_plateau and one.interval == "epoch" and epochs % one.frequency == 0
        if due and one.monitor in metrics:
            module.lr_scheduler_step(one.scheduler, metrics[one.monitor])


def in_the_middle(trainer: pl.Trainer) -> bool:
    """Whether some batches of an epoch are trained, and others not."""
    return _progress(trainer).processed > 0 and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _progress(trainer: pl.Trainer) -> Any:
    """Of the batches of the epoch: how many are `ready`, `started`, `processed` and `completed`."""
    return trainer.fit_loop.epoch_loop.batch_progress.current


def begins_again(trainer: pl.Trainer) -> bool:
    """Whether a training loader, having no state, gives an epoch's first batches again after a checkpoint."""
    combined = trainer.fit_loop._combined_loader
    loaders = [] if combined is None else combined.flattened
    return not all(hasattr(one, "state_dict") and hasattr(one, "load_state_dict") for one in loaders)


def carried_on(trainer: pl.Trainer, saved: dict[str, Any] | None, owner: str) -> dict[str, Any] | None:
    """At a batch that is not an epoch's first: the states of a checkpoint to go on from.

    Args:
        trainer: that resumes.
        saved: of the checkpoint; None: it has none; empty: no batch has come since that could not go on.
        owner: who carries states.

    Returns:
        None where there is nothing to take up; a warning says why.
    """
    if saved:
        if not begins_again(trainer):
            return saved
        why = (
            "the training loader begins that epoch again, as it has no state_dict and load_state_dict. Resume from the"
            " end of an epoch, or use a loader with a state, as that of SeriesDataModule"
        )
    elif saved is None:
        why = f"it holds no states of {owner}. Resume from the end of an epoch"
    else:
        return None
    warnings.warn(
        f"The checkpoint is from the middle of an epoch, but {owner} starts from zero state: {why}.",
        MPTTWarning,
        stacklevel=3,
    )
    return None


def random_state() -> dict[str, Any]:
    """The state of the random numbers of torch, NumPy and Python: tensors and plain values."""
    version, words, gauss = random.getstate()
    found: Any = np.random.get_state()  # noqa: NPY002
    name, keys, position, has_gauss, cached = found
    return {
        "torch": torch.get_rng_state(),
        # Of this process's device: to ask the others, too, would take room on each.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Draw on from there; on CUDA only where it was saved on CUDA."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0])
    name, keys, *others = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *others))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def _gradients(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: one.grad.cpu() for name, one in module.named_parameters() if one.grad is not None}

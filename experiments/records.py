"""What a run leaves behind: a table of epochs and a log while it trains, predictions and scores when it is tested."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import xarray as xr
import yaml
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from mptt.callbacks.base import RecurrentCallback
from mptt.callbacks.checkpoints import in_our_form
from mptt.errors import MPTTError, MPTTWarning
from mptt.experiments import figures
from mptt.experiments.predictions import open_predictions, read_table, save_predictions, score_table, step_errors
from mptt.files import cannot_write, write_atomically

CONFIG = "config.yaml"
PACKAGES = ("mptt", "torch", "pytorch-lightning", "torchmetrics", "numpy", "pandas", "xarray", "zarr")


class EpochTable(pl.Callback):
    """Writes `metrics.csv`: a row an epoch with what was logged, the seconds of training, and of the whole epoch.

    A resumed run goes on with the rows of the epochs that it does not repeat.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        self._start = self._aside = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of the epochs that came before."""
        self._rows = []
        if self.path.exists() and trainer.current_epoch > 0:
            before = read_table(self.path, ["epoch"])
            rows = before[before["epoch"] < trainer.current_epoch].to_dict("records")
            self._rows = [{str(name): value for name, value in row.items()} for row in rows]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._start, self._aside = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of training."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the clock of training."""
        self._aside += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row."""
        total = time.perf_counter() - self._start
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {"train_seconds": total - self._aside, "epoch_seconds": total}
        self._rows.append(row | {name: float(value) for name, value in trainer.callback_metrics.items()})
        if trainer.is_global_zero:
            write_atomically(self.path, pd.DataFrame(self._rows).to_csv(index=False))


class BestAndLast(pl.callbacks.Checkpoint):
    """Writes `last.ckpt` at the end of every epoch, and `best.ckpt` where `val_loss` was the least so far.

    Lightning's ModelCheckpoint writes its last.ckpt only where it also writes a best one, so that a resumed run would
    repeat all epochs since then; and it forgets the best loss of a run directory that was moved.

    Args:
        folder: of the run; checkpoints go into its folder `checkpoints`.

    Raises:
        MPTTError: at the end of training, if the module never logged `val_loss`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / "checkpoints"
        self.best: float | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and (self.best is None or np.isnan(self.best) or float(loss) < self.best):
            self.best = float(loss)
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See that there is a best epoch."""
        if self.best is None:
            raise MPTTError(
                f"No epoch of {type(pl_module).__name__} was validated, so none is best: log `val_loss` in the"
                " validation of the module."
            )

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See that there is all that training goes on from.

        Raises:
            MPTTError: the checkpoint holds weights alone.
        """
        lacking = [key for key in ("optimizer_states", "lr_schedulers", "loops") if key not in checkpoint]
        if trainer.state.fn == "fit" and lacking:
            raise MPTTError(
                f"The checkpoint {trainer.ckpt_path} lacks {', '.join(lacking)}, so training cannot go on from it: it"
                " was saved with weights alone. Give last.ckpt of the run, or begin anew."
            )

    def state_dict(self) -> dict[str, Any]:
        """The least loss."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the least loss."""
        with in_our_form("least validation loss"):
            self.best = None if state_dict["best"] is None else float(state_dict["best"])


class RunLog(pl.Callback):
    """Writes `log.txt`: what was done to the data, what Lightning says and warns of while it fits, what error ended it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._handler: logging.Handler | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the log."""
        if stage != "fit" or self._handler is not None or not trainer.is_global_zero:
            return
        path = self.folder / "log.txt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error) from error
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        for logger in self._loggers():
            logger.addHandler(self._handler)
        self._show, warnings.showwarning = warnings.showwarning, self._warn  # type: ignore[assignment]
        self._note(f"fit in {self.folder.resolve()}")
        # The DataModule has been set up before any callback.
        for note in getattr(getattr(trainer, "datamodule", None), "notes", ()):
            self._note(note)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Note what ended the run, and say how to go on."""
        self._note(f"stopped by {type(exception).__name__}", exception)
        self._close()
        if isinstance(exception, KeyboardInterrupt) and (self.folder / "checkpoints" / "last.ckpt").exists():
            rank_zero_info(f"Resume with: mptt fit --config {self.folder / CONFIG} --ckpt_path last")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the log."""
        if self._handler is not None:
            self._note(f"finished {trainer.current_epoch} epochs")
        self._close()

    def _note(self, message: str, error: BaseException | None = None) -> None:
        if self._handler is not None:
            about = (type(error), error, error.__traceback__) if error is not None else None
            self._handler.emit(logging.LogRecord("mptt", logging.INFO, "", 0, message, None, about))

    def _warn(self, message: Any, category: type[Warning], *where: Any) -> None:
        self._note(f"{category.__name__}: {message}")
        self._show(message, category, *where)

    def _close(self) -> None:
        if self._handler is not None:
            for logger in self._loggers():
                logger.removeHandler(self._handler)
            self._handler.close()
            warnings.showwarning = self._show
            self._handler = None

    @staticmethod
    def _loggers() -> list[logging.Logger]:
        return [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]


class PredictionRecord(pl.Callback):
    """Writes what a test gives: `predictions.nc`, `scores.csv`, and the figures of the run; of predict, the first.

    Where the inference goes window by window, also `steps.csv`: squared errors by position in the window.

    It needs a DataModule with `predictions`, as SeriesDataModule's, and a module whose `predict_step` returns
    standardised predictions (B, L, K), and whose `test_step` returns them too, or a dict with them as "prediction".

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._predicted: list[Tensor] = []
        self._batches: list[dict[str, Tensor]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin afresh."""
        self._predicted, self._batches = [], []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch."""
        predicted = outputs.get("prediction") if isinstance(outputs, dict) else outputs
        if isinstance(predicted, Tensor) and predicted.ndim == 3:
            self._predicted.append(predicted.cpu())
            self._batches.append({key: batch[key].cpu() for key in ("site", "start", "keep")})

    def _brought_together(self, trainer: pl.Trainer) -> bool:
        """Whether this is the process that writes, which then has what every process predicted of its own sites."""
        if trainer.world_size > 1:
            found: list[Any] = [None] * trainer.world_size
            own = self._predicted, self._batches
            torch.distributed.gather_object(own, found if trainer.is_global_zero else None)
            pairs = [pair for each in found if each is not None for pair in zip(*each, strict=True)]
            # A process without a site ran one of another's, for nothing.
            pairs = [pair for pair in pairs if pair[1]["keep"].any()]
            self._predicted, self._batches = [value for value, _ in pairs], [batch for _, batch in pairs]
        return trainer.is_global_zero

    # The same for predict; Lightning names a hook for each.
    on_predict_start = on_test_start
    on_predict_batch_end = on_test_batch_end

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions, score them, and draw."""
        predictions = self._write(trainer, pl_module) if self._brought_together(trainer) else None
        if predictions is not None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            steps = step_errors(predictions, data, self._predicted, self._batches)
            with open_predictions(self.folder) as written:
                scores = score_table(written)
            if steps is not None:
                write_atomically(self.folder / "steps.csv", steps.to_csv(index=False))
            draw_run(self.folder)
            # Last: where they are, the rest is.
            write_atomically(self.folder / "scores.csv", scores.to_csv(index=False))
        self._predicted, self._batches = [], []

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the predictions."""
        if self._brought_together(trainer):
            self._write(trainer, pl_module)
        self._predicted, self._batches = [], []

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule) -> xr.Dataset | None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        lacking = (
            f"{type(data).__name__} has no method predictions()"
            if not hasattr(data, "predictions")
            else f"{type(module).__name__} returned no predictions (B, L, K)"
            if not self._predicted
            else None
        )
        if lacking:
            warnings.warn(f"{lacking}, so predictions and scores are not written.", MPTTWarning, stacklevel=2)
            return None
        predictions: xr.Dataset = data.predictions("test", self._predicted, self._batches)
        # Of an earlier test, perhaps with another inference.
        save_predictions(predictions, self.folder / "predictions.nc", outdated=("steps.csv", "scores.csv"))
        return predictions


class StateRecord(pl.Callback):
    """Writes the states in which the sites ended: `states.nc` of test and predict, `states_validation.nc` of validate.

    They are those of the callback that carries states in evaluation; where none does, nothing is written.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write."""
        self._write(trainer, "states.nc")

    on_predict_end = on_test_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, but not within fit: the weights go on changing."""
        if trainer.state.fn == "validate":
            self._write(trainer, "states_validation.nc")

    def _write(self, trainer: pl.Trainer, name: str) -> None:
        evaluating = carrying(trainer.callbacks)  # type: ignore[attr-defined]
        if evaluating is None or not trainer.is_global_zero:
            return
        try:
            evaluating.save_states(self.folder / name)
        except MPTTError as error:  # the predictions are there and good without
            warnings.warn(f"{name} is not written, and one that was there is kept: {error}", MPTTWarning, stacklevel=2)


def carrying(callbacks: Sequence[Any]) -> RecurrentCallback | None:
    """Of callbacks the one that carries states in evaluation; None where none does."""
    found = [one for one in callbacks if isinstance(one, RecurrentCallback) and one.evaluation == "stateful"]
    return found[0] if found else None


def draw_run(folder: Path) -> None:
    """Draw the figures of a run from its files."""
    if (folder / "metrics.csv").exists():
        metrics = read_table(folder / "metrics.csv", ["epoch"])
        figures.save(figures.learning_curve(metrics), folder / "learning_curve")
        if figures.STALENESS in metrics and metrics[figures.STALENESS].notna().any():
            figures.save(figures.messages(metrics), folder / "messages")
    with open_predictions(folder) as predictions:
        figures.save(figures.hydrographs(predictions), folder / "hydrograph")


def write_versions(folder: Path, seed: int | None) -> None:
    """Write `versions.yaml`: what a repetition of the run needs besides its configuration."""
    versions: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform(), "seed": seed}
    versions |= {package: importlib.metadata.version(package) for package in PACKAGES}
    versions["threads"] = torch.get_num_threads()
    versions["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write_atomically(folder / "versions.yaml", yaml.safe_dump(versions, sort_keys=False))

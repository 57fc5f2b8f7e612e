"""A long fit of a tiny model, in a process of its own: `python longrun.py NAME EPOCHS FOLDER` prints what it takes."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytorch_lightning as pl
import torch
import xarray as xr
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from mptt.callbacks import (
    LearnedInitialStateCallback,
    MPTTCallback,
    ScheduledSamplingCallback,
    StatefulCallback,
    WholeCheckpointIO,
)
from mptt.datamodules import SeriesDataModule

MIB = 2**20


class Module(pl.LightningModule):
    """A GRU and a head."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        predicted = self(batch["x"])
        self.log("loss", loss := (predicted - batch["y"]).square().mean())
        return {"loss": loss, "prediction": predicted}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        error = self(batch["x"]) - batch["y"]
        self.log("val_loss", error[batch["y"].isfinite()].square().mean(), batch_size=len(error))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.001)


class Watch(pl.Callback):
    """Looks at the process after each so many epochs."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[dict[str, float]] = []
        self.begun = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every:
            return
        gc.collect()
        here = psutil.Process()
        each = [here, *here.children(recursive=True)]
        self.seen.append(
            {
                "epoch": trainer.current_epoch + 1,
                "seconds": time.monotonic() - self.begun,
                "mib": sum(one.memory_info().rss for one in each) / MIB,
                "handles": sum(one.num_fds() for one in each),
                "threads": sum(one.num_threads() for one in each),
                "processes": len(each),
                "objects": len(gc.get_objects()),
            }
        )


def data(**settings: Any) -> SeriesDataModule:
    time = np.datetime64("2000-01-01") + np.arange(200)
    rain = xr.DataArray(np.random.default_rng(0).random((2, 200)), coords={"site": ["a", "b"], "time": time})
    dataset = xr.Dataset({"rain": rain, "flow": rain.cumsum("time")})
    plain = {"inputs": ["rain"], "targets": ["flow"], "window": 20, "stride": 10, "batch_size": 8, "chunk": 32}
    return SeriesDataModule(dataset, **(plain | settings))


Made = tuple[list[pl.Callback], SeriesDataModule]
RUNS: dict[str, Callable[[Path], Made]] = {
    "mptt": lambda folder: ([MPTTCallback()], data()),
    "linkage": lambda folder: ([MPTTCallback(warmup_epochs=2, refresh_every=2)], data()),
    "disk": lambda folder: ([MPTTCallback(device="disk", memory_dir=str(folder))], data()),
    "learned": lambda folder: ([LearnedInitialStateCallback()], data()),
    "stateful": lambda folder: ([StatefulCallback()], data(order="lanes", stride=20)),
    "sampling": lambda folder: (
        [ScheduledSamplingCallback(), StatefulCallback(training=False)],
        data(lagged_target="step"),
    ),
    "workers": lambda folder: ([MPTTCallback()], data(num_workers=2)),
}


def main(name: str, epochs: int, folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    callbacks, series = RUNS[name](folder)
    watch = Watch(epochs // 20)
    module = Module(2 if name == "sampling" else 1)
    keep = ModelCheckpoint(dirpath=folder / "checkpoints", save_last=True)  # each epoch, and the last alone stays
    settings = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        callbacks=[*callbacks, keep, watch],
        max_epochs=epochs,
        logger=False,
        default_root_dir=folder,
        plugins=[WholeCheckpointIO()],
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module, datamodule=series)
    print(json.dumps(watch.seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

"""Runs in several processes, each told by name; what each process found is left in a folder.

`python manyprocesses.py FOLDER PROCESSES NAME...`: Lightning starts the other processes itself, by the same command.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import xarray as xr
from handmade import TABLE, Regressor, Windows, loader, seeded, shuffles
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from mptt import MPTTError, WindowIndex
from mptt.callbacks import MessageQuality, MPTTCallback, StatefulCallback
from mptt.callbacks.namespaces import Callback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.records import PredictionRecord
from mptt.experiments.regressor import SequenceRegressor

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
EPOCHS = 3


class Still(Regressor):
    """Learns nothing: what comes of the writes does not hang on how gradients are averaged."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Recorder(Callback):
    """Keeps the window ids of each batch, and the messages as a step left them."""

    def __init__(self, callback: MPTTCallback | None = None) -> None:
        self.callback, self.epochs, self.after = callback, [], []  # type: ignore[var-annotated]

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append([])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.epochs:  # an epoch that is gone on with does not start
            self.epochs.append([])
        self.epochs[-1].append(batch["window"].tolist())
        if self.callback is not None:
            self.after.append(self.callback.memory.mean.clone())


def many_trainer(processes: int, callbacks: Any = (), **settings: Any) -> pl.Trainer:
    plain: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    plain |= {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": EPOCHS}
    if processes > 1:
        # A test that hangs ends by itself.
        plain |= {"devices": processes, "strategy": DDPStrategy(timeout=timedelta(seconds=40))}
    return pl.Trainer(callbacks=list(callbacks), **(plain | settings))


def rank_orders(rank: int, processes: int, batch_size: int) -> list[list[int]]:
    """Of each epoch's global batches (processes x batch_size) the run of this process; what is left over, left out."""
    whole = len(TABLE) // (processes * batch_size) * processes * batch_size
    cut = [np.array(order[:whole]).reshape(-1, processes, batch_size) for order in shuffles(EPOCHS)]
    return [one[:, rank].ravel().tolist() for one in cut]


def tables(callback: MPTTCallback) -> dict[str, Tensor]:
    memory: Any = callback.memory
    ids = getattr(memory.windows, "ids", np.arange(len(memory)))
    return {"mu": memory.mu, "mean": memory.mean, "count": memory.count, "ids": torch.from_numpy(ids)}


def by_hand(processes: int, sync: str, make: Any = Regressor) -> dict[str, Any]:
    """Somebody's own loader, which gives each process its own samples."""
    rank = int(os.environ.get("LOCAL_RANK", 0))
    callback = MPTTCallback(windows=WINDOWS, sync=sync)
    recorder = Recorder(callback)
    trainer = many_trainer(processes, [callback, recorder], use_distributed_sampler=False)
    module = seeded(make)
    trainer.fit(module, loader(rank_orders(rank, processes, 2), batch_size=2))
    return tables(callback) | {"after": recorder.after, "weights": module.state_dict()}


def padded(processes: int) -> dict[str, Any]:
    """Somebody's own loader, dealt out and padded by Lightning: 9 windows to 2 processes."""
    callback = MPTTCallback(windows=WINDOWS)
    recorder = Recorder()
    trainer = many_trainer(processes, [callback, recorder], max_epochs=1)
    # Lightning's seed, such that the window that comes first, and so is repeated, writes to others.
    first = (int(torch.randperm(len(TABLE), generator=torch.Generator().manual_seed(seed))[0]) for seed in range(99))
    os.environ["PL_GLOBAL_SEED"] = str(next(seed for seed, window in enumerate(first) if TABLE[window][1] == 0))
    trainer.fit(seeded(Still), DataLoader(Windows(), batch_size=3, shuffle=True))
    return tables(callback) | {"epochs": recorder.epochs}


def dataset(lengths: tuple[int, ...], seed: int = 0) -> xr.Dataset:
    generator = np.random.default_rng(seed)
    values = generator.random((len(lengths), max(lengths)))
    for row, length in enumerate(lengths):
        values[row, length:] = np.nan
    coords = {"site": [f"s{nth}" for nth in range(len(lengths))], "time": pd.date_range("2000", periods=max(lengths))}
    rain = xr.DataArray(values, coords=coords, dims=("site", "time"))
    return xr.Dataset({"rain": rain, "flow": rain.rolling(time=5, min_periods=1).mean().where(rain.notnull())})


def data(lengths: tuple[int, ...], **settings: Any) -> SeriesDataModule:
    plain: dict[str, Any] = {"inputs": ["rain"], "targets": ["flow"], "window": 10, "stride": 5, "batch_size": 4}
    return SeriesDataModule(dataset(lengths), **(plain | {"seed": 3, "chunk": 17} | settings))


def model(dropout: float = 0.0) -> SequenceRegressor:
    torch.manual_seed(0)
    return SequenceRegressor(1, hidden_size=4, dropout=dropout)


EQUAL, UNEQUAL = (200, 200, 200, 200), (210, 90, 160)


def series(processes: int, folder: Path, name: str, lengths: tuple[int, ...], **settings: Any) -> dict[str, Any]:
    """SeriesDataModule: fit, save, and evaluate."""
    more = {key: settings.pop(key) for key in ("sync", "warmup_epochs") if key in settings}
    callback = MPTTCallback(**more)
    recorder = Recorder()
    saver = Saver(folder / f"{name}-saved", [(0, 0), (1, 7)])
    trainer = many_trainer(processes, [callback, MessageQuality(), recorder, saver])
    module = model()
    torch.manual_seed(100 + int(os.environ.get("LOCAL_RANK", 0)))  # as where seed_everything was not called
    trainer.fit(module, datamodule=data(lengths, **settings))
    found = {"epochs": recorder.epochs, "weights": module.state_dict(), **tables(callback)}
    found |= {"logged": {name: value.clone() for name, value in trainer.callback_metrics.items()}}
    trainer.save_checkpoint(folder / f"{name}.ckpt")
    written = [PredictionRecord(folder / name)] if name in ("unequal", "one_site") else []
    trainer = many_trainer(processes, [StatefulCallback(training=False), *written])
    trainer.test(module, datamodule=data(lengths), verbose=False)
    return found | {"scores": module.test_scores}


class Saver(Callback):
    """Saves after some batches, (epoch, batches trained), and at the end of some epochs, (epoch, 0)."""

    def __init__(self, folder: Path, points: Any) -> None:
        self.folder, self.points = folder, list(points)

    def path(self, point: tuple[int, int]) -> Path:
        return self.folder / f"{point[0]}-{point[1]}.ckpt"

    def save(self, trainer: Any, point: tuple[int, int]) -> None:
        if point in self.points:
            trainer.save_checkpoint(self.path(point))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.save(trainer, (trainer.current_epoch, batch_idx + 1))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.save(trainer, (trainer.current_epoch, 0))


class Seeds(Callback):
    """Other random numbers in each process; Lightning gives all of them the same where a seed was set."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        torch.manual_seed(self.seed + trainer.global_rank)


MIDDLE = ((0, 3), (1, 7))
POINTS = (*MIDDLE, (1, 0), (EPOCHS - 1, 10))


def exact(processes: int, folder: Path, name: str, sync: str | None = None, **settings: Any) -> dict[str, Any]:
    """Saved at all points, and run again from each of them; with dropout, drawn otherwise in each process."""
    folder = folder / name
    more = {key: settings.pop(key) for key in ("accumulate_grad_batches",) if key in settings}

    def run(seed: int, point: tuple[int, int] | None) -> dict[str, Any]:
        callback, recorder = MPTTCallback(sync=sync), Recorder()
        saver = Saver(folder, () if point else POINTS)
        trainer = many_trainer(processes, [callback, recorder, saver, Seeds(seed)], **more)
        module = model(dropout=0.3)
        trainer.fit(module, datamodule=data(EQUAL, **settings), ckpt_path=saver.path(point) if point else None)
        ends = {"random": torch.get_rng_state(), "distance": trainer.callback_metrics["mptt/distance"]}
        return {"given": recorder.epochs, "state": tables(callback) | module.state_dict() | ends}

    return {"whole": run(100, None), **{str(point): run(200, point) for point in POINTS}}


def alone(folder: Path) -> None:
    """One process; checkpoints for two to go on from."""
    callback, module = MPTTCallback(), model()
    trainer = many_trainer(1, [callback, Saver(folder / "alone", [(0, 0), (0, 3)])], max_epochs=1)
    trainer.fit(module, datamodule=data(EQUAL))


def from_one(processes: int, folder: Path, **settings: Any) -> dict[str, Any]:
    """Goes on from the end of an epoch of one process; and tries to from its middle."""
    sync = settings.pop("sync", None)

    def fit(point: str) -> dict[str, Any]:
        callback, recorder, module = MPTTCallback(sync=sync), Recorder(), model()
        trainer = many_trainer(processes, [callback, recorder])
        trainer.fit(module, datamodule=data(EQUAL, **settings), ckpt_path=folder / "alone" / f"{point}.ckpt")
        return {"epochs": recorder.epochs, "weights": module.state_dict(), **tables(callback)}

    try:
        fit("0-3")
    except MPTTError as error:
        return fit("0-0") | {"said": str(error)}
    raise AssertionError("went on from the middle of an epoch")


def halfway(processes: int, folder: Path) -> dict[str, Any]:
    """Saved after a batch of the first epoch, and loaded: the writes of both count once."""
    rank = int(os.environ.get("LOCAL_RANK", 0))
    path = folder / "halfway.ckpt"

    class Saver(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.save_checkpoint(path)

    orders = rank_orders(rank, processes, 2)
    first = MPTTCallback(windows=WINDOWS, sync="epoch")
    trainer = many_trainer(processes, [first, Saver()], max_steps=1, use_distributed_sampler=False)
    trainer.fit(seeded(Still), loader(orders, batch_size=2))
    saved = torch.load(path, weights_only=True)["mptt_memory"]["maps"]["gru"]
    again = MPTTCallback(windows=WINDOWS, sync="epoch")
    trainer = many_trainer(processes, [again], max_steps=1, use_distributed_sampler=False)
    trainer.fit(seeded(Still), loader(orders, batch_size=2), ckpt_path=path)
    return {"saved": {name: saved[name] for name in ("mean", "count")}, **tables(again)}


RUNS: dict[str, Any] = {
    "step": lambda processes, folder: by_hand(processes, "step"),
    "epoch": lambda processes, folder: by_hand(processes, "epoch", Still),
    "padded": lambda processes, folder: padded(processes),
    "windows": lambda processes, folder: series(processes, folder, "windows", EQUAL, seed=None),
    "linked": lambda processes, folder: series(processes, folder, "linked", EQUAL, warmup_epochs=1),
    "sites": lambda processes, folder: series(processes, folder, "sites", EQUAL, shard="site"),
    "linked_sites": lambda processes, folder: series(
        processes, folder, "linked_sites", EQUAL, shard="site", warmup_epochs=1
    ),
    "unequal": lambda processes, folder: series(processes, folder, "unequal", UNEQUAL, sync="epoch"),
    "one_site": lambda processes, folder: series(processes, folder, "one_site", (300,), sync="epoch", warmup_epochs=1),
    "exact_step": lambda processes, folder: exact(processes, folder, "exact_step"),
    "exact_summed": lambda processes, folder: exact(processes, folder, "exact_summed", accumulate_grad_batches=2),
    "exact_epoch": lambda processes, folder: exact(processes, folder, "exact_epoch", sync="epoch", num_workers=1),
    "exact_sites": lambda processes, folder: exact(processes, folder, "exact_sites", shard="site"),
    "from_one_windows": from_one,
    "from_one_sites": lambda processes, folder: from_one(processes, folder, shard="site"),
    "halfway": halfway,
}


def main(folder: Path, processes: int, names: list[str]) -> None:
    for name in names:
        found = RUNS[name](processes, folder)
        torch.save(found, folder / f"{name}-{os.environ.get('LOCAL_RANK', 0)}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

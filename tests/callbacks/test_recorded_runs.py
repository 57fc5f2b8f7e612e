"""The recorded runs of the authors' script, replayed through the callback in a Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from handmade import in_order, quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mptt import WindowIndex
from mptt.callbacks import MPTTCallback

DATA = Path(__file__).parents[1] / "data"


class Recorded(pl.LightningDataModule):
    """Yields the windows of a recorded run in its order; the parts whole for validation."""

    def __init__(self, run: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.run = run
        self.epoch = 0
        self.windows = WindowIndex(np.zeros(len(run["starts"]), dtype=int), run["starts"], int(run["seq_len"]))

    def train_dataloader(self) -> DataLoader[Any]:
        order, size = self.run["perm"][self.trainer.current_epoch], int(self.run["batch_size"])
        x, y = torch.from_numpy(self.run["x_train"]).float(), torch.from_numpy(self.run["y_train"]).float()
        steps = torch.arange(int(self.run["seq_len"]))
        batches = []
        for at in range(0, len(order), size):
            ids = torch.from_numpy(order[at : at + size]).long()
            step = torch.from_numpy(self.run["starts"]).long()[ids].unsqueeze(1) + steps
            batches.append({"x": x[step], "y": y[step], "window": ids})
        return in_order(batches)

    def whole(self, part: str) -> DataLoader[Any]:
        x, y = (torch.from_numpy(self.run[f"{name}_{part}"]).float().unsqueeze(0) for name in "xy")
        where = {"site": 0, "start": 0, "length": x.shape[1]}
        return in_order([{"x": x, "y": y, **{key: torch.tensor([value]) for key, value in where.items()}}])

    def series_dataloader(self) -> DataLoader[Any]:
        return self.whole("train")

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return [self.whole(part) for part in ("train", "valid", "test")]


class Author(pl.LightningModule):
    """Their model and loss, under their names."""

    def __init__(self, run: dict[str, np.ndarray]) -> None:
        super().__init__()
        hidden = run["init/gru.weight_hh_l0"].shape[1]
        self.gru = nn.GRU(run["x_train"].shape[1], hidden, batch_first=True)
        self.densor = nn.Linear(hidden, 1)
        self.lr = float(run["lr"])
        self.losses: list[list[float]] = []
        self.load_state_dict({key[5:]: torch.tensor(run[key]) for key in run if key.startswith("init/")})

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        error = (self.densor(self.gru(batch["x"])[0]) - batch["y"]).square()
        return error.sum() / (error.numel() + 1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.gru(batch["x"])[0]

    def on_validation_epoch_start(self) -> None:
        self.losses.append([])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int) -> None:
        self.losses[-1].append(self.loss(batch).item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@pytest.mark.parametrize(
    ("name", "warmup_epochs"), [("mptt_gru_delta1", 0), ("mptt_gru_delta0_disjoint", 0), ("mptt_gru_linkage", 3)]
)
def test_a_recorded_run_is_reproduced_in_a_trainer(name: str, warmup_epochs: int) -> None:
    with np.load(DATA / f"{name}.npz") as file:
        run = dict(file)
    epochs = int(run["epochs"])
    before: list[dict[str, Tensor]] = []
    after: list[dict[str, Tensor]] = []

    class Record(pl.Callback):
        def __init__(self, into: list[dict[str, Tensor]]) -> None:
            self.into = into

        @property
        def state_key(self) -> str:
            return str(id(self))

        def on_train_epoch_end(self, *args: Any) -> None:
            memory = callback.memory
            self.into.append({"mu": memory.mu.clone(), "h": memory.mean.clone(), "c": memory.count.clone()})

    callback = MPTTCallback(
        delta=float(run["delta"]), zero_init_epochs=int(run["zero_init_epochs"]), warmup_epochs=warmup_epochs
    )
    module = Author(run)
    trainer = quiet_trainer(
        [Record(before), callback, Record(after)],
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=Recorded(run))

    rows = np.searchsorted(np.sort(run["key"]), run["starts"])
    rows = np.argsort(run["key"])[rows]  # row of the recorded arrays that each window is
    for moment, records in (("pre", before), ("post", after)):
        assert len(records) == epochs
        for epoch, record in enumerate(records):
            assert (record["c"].numpy() == run[f"{moment}/c"][epoch][rows]).all()
            for part in ("mu", "h"):
                expected = run[f"{moment}/{part}"][epoch][rows]
                assert np.allclose(record[part].numpy(), expected, rtol=0, atol=1e-5), (moment, part, epoch)
    recorded = np.stack([run[f"{part}_mse"] for part in ("train", "valid", "test")], axis=1)
    assert np.allclose(module.losses, recorded, rtol=0, atol=1e-5)
    for key, value in module.state_dict().items():
        assert np.allclose(value.numpy(), run[f"final/{key}"], rtol=0, atol=1e-5)

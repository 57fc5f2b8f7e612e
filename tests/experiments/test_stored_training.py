"""Training on series that are read as batches need them."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt.callbacks import MPTTCallback, StatefulCallback
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.stored import StoredSeries
from mptt.experiments.regressor import SequenceRegressor

SITES, STEPS = 12, 200
RECORD = STEPS * (4 + 5)  # bytes of one site's input, target, and whether that is observed


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    rain = np.random.default_rng(0).gamma(2, 3, (SITES, STEPS))
    time = np.datetime64("2000-01-01", "s") + np.arange(STEPS) * np.timedelta64(86400, "s")
    variables = {"rain": (("site", "time"), rain), "flow": (("site", "time"), rain.cumsum(1) % 50)}
    dataset = xr.Dataset(variables, {"site": [f"s{nth}" for nth in range(SITES)], "time": time})
    dataset.to_zarr(path, zarr_format=2, encoding={name: {"chunks": (1, STEPS)} for name in variables})
    return path


def train(store, folder, callback, sites, **changes):
    """A trained module and its predictions; with room for so many sites, or for all."""
    memory = 1 if sites is None else sites * RECORD / 2**30
    arguments = {"window": 20, "stride": 20, "batch_size": 5, "sites_at_once": 3, "chunk": 30, "seed": 0} | changes
    data = SeriesDataModule(store, inputs=["rain"], targets=["flow"], memory=memory, **arguments)
    pl.seed_everything(0, verbose=False)
    model = SequenceRegressor(1, hidden_size=4)
    trainer = pl.Trainer(
        max_epochs=3, callbacks=[callback], default_root_dir=folder, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, val_check_interval=0.5,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    assert isinstance(data._series, StoredSeries) == (sites is not None)
    return model, trainer.predict(model, datamodule=data), data, trainer


@pytest.mark.parametrize("sites", [6, 7])
def test_stateful_training_is_that_of_data_in_memory(store, tmp_path, sites):
    one, mine, *_ = train(store, tmp_path, StatefulCallback(), sites, order="lanes")
    other, theirs, *_ = train(store, tmp_path, StatefulCallback(), None, order="lanes")
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(batch, twin) for batch, twin in zip(mine, theirs, strict=True))


def test_messages_pass_and_are_linked(store, tmp_path):
    callback = MPTTCallback(warmup_epochs=1)
    _, _, data, trainer = train(store, tmp_path, callback, 6, stride=10)
    assert trainer.current_epoch == 3
    begins = torch.from_numpy(data.windows.start == 0)
    assert (callback.memory.mu[~begins] != 0).any(1).all()
    assert (callback.memory.mu[begins] == 0).all()

"""Runs that take a second: a short simulated basin, a small network, a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt.datamodules import SeriesDataModule, SimulatedBasin
from mptt.experiments.comparison import running


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What the simulated basin keeps, and the threads of child processes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells here, one after another: a pool's process takes seconds to start."""

    class Pool:
        def submit(self, function: Callable[..., object], *words: object) -> Future[object]:
            future: Future[object] = Future()
            try:
                future.set_result(function(*words))
            except Exception as error:
                future.set_exception(error)
            return future

    @contextmanager
    def pool(workers: int):  # type: ignore[no-untyped-def]
        yield Pool()

    monkeypatch.setattr(running, "_pool", pool)


@pytest.fixture(scope="session")
def basin_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("basin")
    SimulatedBasin(years=14, cache=folder).prepare_data()
    return folder


@pytest.fixture(scope="session")
def small(basin_cache: Path) -> list[str]:
    """Settings that make a configuration of the simulated basin small."""
    return [
        *("--data.years", "14", "--data.cache", str(basin_cache), "--data.split", "[0.5,0.2,0.3]"),
        *("--data.warmup", "365", "--data.batch_size", "8", "--model.hidden_size", "6"),
    ]


@pytest.fixture(scope="session")
def fit_words(small: list[str]) -> list[str]:
    return ["fit", "--config", "quickstart", *small, "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="session")
def two_sites() -> Callable[..., xr.Dataset]:
    """Makes a data set: two sites, rain in, a reservoir's storage and outflow out, every seventh outflow missing."""

    def make(time: object = None, steps: int = 900) -> xr.Dataset:
        if time is None:
            time = np.datetime64("2001-01-01", "s") + np.arange(steps) * np.timedelta64(86400, "s")
        rain = np.random.default_rng(0).gamma(0.3, 9.0, (2, steps)).astype(np.float32)
        storage = np.zeros_like(rain)
        for step in range(1, steps):
            storage[:, step] = 0.98 * storage[:, step - 1] + rain[:, step]
        flow = 0.02 * storage
        flow[:, ::7] = np.nan
        return xr.Dataset(
            {
                "rain": (("site", "time"), rain, {"units": "mm/day"}),
                "storage": (("site", "time"), storage, {"units": "mm", "long_name": "water stored"}),
                "flow": (("site", "time"), flow, {"units": "mm/day", "long_name": "outflow"}),
            },
            {"site": ["a", "b"], "time": time},
        )

    return make


@pytest.fixture(scope="session")
def series() -> Callable[..., SeriesDataModule]:
    def make(dataset: xr.Dataset, **settings: object) -> SeriesDataModule:
        settings = {"targets": ["storage", "flow"], "window": 40, "stride": 20, "warmup": 30, **settings}
        return SeriesDataModule(dataset, inputs=["rain"], split=(0.5, 0.2, 0.3), seed=0, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def quiet() -> Callable[..., pl.Trainer]:
    def make(*callbacks: pl.Callback, **settings: object) -> pl.Trainer:
        silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        silent |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "accelerator": "cpu", "max_epochs": 2}
        return pl.Trainer(callbacks=list(callbacks), **silent | settings)  # type: ignore[arg-type]

    return make

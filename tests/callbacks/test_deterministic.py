"""Trainer(deterministic=True) and a seed: a run repeated is the same to the last bit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from handmade import quiet_trainer

from mptt import StateMap
from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.regressor import SequenceRegressor
from mptt.fastgru import is_installed


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the Trainer sets for the whole process; and no compiled loops but where a test asks for them."""
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr("mptt.inference.is_installed", lambda: False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def dataset(steps: int) -> xr.Dataset:
    random = np.random.default_rng(2)
    rain = random.gamma(0.3, 5.0, size=(3, steps))
    flow = pd.DataFrame(rain.T).ewm(halflife=20).mean().to_numpy(copy=True).T
    flow[0, ::7] = np.nan
    time = pd.date_range("2001-01-01", periods=steps, unit="s")
    coords = {"site": ["a", "b", "c"], "time": time}
    return xr.Dataset({name: (("site", "time"), values) for name, values in (("rain", rain), ("flow", flow))}, coords)


class Scores(pl.Callback):
    """All that was logged, at the end of each epoch."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.found.append({name: float(value) for name, value in sorted(trainer.callback_metrics.items())})


def run(
    order: str = "shuffled",
    warmup_epochs: int = 0,
    workers: int = 0,
    core: Any = "gru",
    steps: int = 240,
    seed: int = 5,
) -> dict[str, Any]:
    """A fit of two layers with dropout between them, and what came of it: tensors, and numbers as they are."""
    pl.seed_everything(seed, workers=True, verbose=False)
    stride = 20 if order in ("lanes", "sequential") else 8
    settings: Any = {"inputs": ["rain"], "targets": ["flow"], "window": 20, "stride": stride, "batch_size": steps // 60}
    data = SeriesDataModule(dataset(steps), order=order, num_workers=workers, **settings)  # type: ignore[arg-type]
    module = SequenceRegressor(1, core=core, hidden_size=5, num_layers=2, dropout=0.2)
    callback = MPTTCallback(warmup_epochs=warmup_epochs)
    scores = Scores()
    trainer = quiet_trainer([scores, callback], max_epochs=3, deterministic=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(lane|Lane|row).*")
        trainer.fit(module, datamodule=data)
        trainer.test(module, datamodule=data, verbose=False)
    found = dict(module.state_dict()) | {f"test_{name}": values for name, values in module.test_scores.items()}
    assert isinstance(callback.memory, StateMap)
    found |= {name: getattr(callback.memory, name).clone() for name in ("mu", "mean", "count")}
    assert (callback.memory.mu.abs().sum() > 0) == (order != "series")  # whole series write to none
    return found | {"scores": scores.found, "sweeps": callback.sweeps}


def assert_identical(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
            assert value.isfinite().all(), name
        else:
            assert value == other[name], name


@pytest.mark.parametrize("warmup_epochs", [0, 1], ids=["mptt", "enhanced"])
@pytest.mark.parametrize("order", ["shuffled", "lanes", "sequential", "series"])
def test_a_run_repeated_is_the_same_to_the_last_bit(order: str, warmup_epochs: int) -> None:
    one, other = (run(order, warmup_epochs) for _ in range(2))
    assert torch.are_deterministic_algorithms_enabled()
    assert_identical(one, other)


@pytest.mark.parametrize("warmup_epochs", [0, 1], ids=["mptt", "enhanced"])
def test_with_workers_too_and_as_without(warmup_epochs: int) -> None:
    one, other = (run("shuffled", warmup_epochs, workers=2) for _ in range(2))
    assert_identical(one, other)
    assert_identical(one, run("shuffled", warmup_epochs))


@pytest.mark.skipif(not is_installed(), reason="needs numba")
@pytest.mark.parametrize("threads", [1, 2])
def test_with_compiled_loops_too_in_one_thread_or_two(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr("mptt.inference.is_installed", lambda: True)
    torch.set_num_threads(threads)
    one, other = (run(core="fast_gru", warmup_epochs=1) for _ in range(2))
    assert_identical(one, other)


def test_with_evaluation_in_parallel_too() -> None:
    one, other = (run(steps=15_000, warmup_epochs=1) for _ in range(2))
    assert one["sweeps"].chunks > 3
    assert one["sweeps"].sweeps > 1
    assert_identical(one, other)


def test_another_seed_gives_another_run() -> None:
    one, other = run(seed=5), run(seed=6)
    assert not torch.equal(one["mu"], other["mu"])
    assert one["scores"] != other["scores"]

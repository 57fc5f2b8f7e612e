"""A run that is resumed from any point ends bit-identical to the uninterrupted one: weights, memory, scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from handmade import EXACT_LIGHTNING
from torch import Tensor, nn

from mptt.callbacks import (
    ClosedLoopCallback,
    ConditionalCallback,
    MPTTCallback,
    NoisyInitialStateCallback,
    ScheduledSamplingCallback,
    SequentialStatefulCallback,
    StatefulCallback,
)
from mptt.closedloop import cell
from mptt.datamodules import SeriesDataModule

EPOCHS, STEPS = 3, 70


class Regressor(pl.LightningModule):
    """Notes what it trained and what its validations found."""

    def __init__(self, inputs: int, dropout: float) -> None:
        super().__init__()
        self.gru, self.head, self.drop = nn.GRU(inputs, 4, batch_first=True), nn.Linear(4, 1), nn.Dropout(dropout)
        self.trained: list[Any] = []
        self.scores: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.gru(x)[0]))

    def stepper(self) -> Any:
        advance = cell(self.gru)

        def step(x: Tensor, state: Tensor) -> Any:
            output, state = advance(x, state)
            return self.head(output), state

        return step

    def evaluate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        prediction = self(batch["x"])
        return {"loss": (prediction - batch["y"])[batch["mask"]].square().mean(), "prediction": prediction.detach()}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        self.trained.append((self.trainer.current_epoch, batch_idx, batch["window"].tolist()))
        return self.evaluate(batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        found = self.evaluate(batch)
        self.log("score", found["loss"], batch_size=1)
        return found

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.scores.append((self.global_step, float(self.trainer.callback_metrics["score"])))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.02)


class Saver(pl.Callback):
    """Takes a checkpoint wherever one can be taken, and notes how far the run is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: dict[str, tuple[int, int]] = {}

    def save(self, trainer: pl.Trainer, name: str) -> None:
        if trainer.sanity_checking:
            return
        module: Any = trainer.lightning_module
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        point = f"{trainer.current_epoch}-{batch}-{name}"
        self.points[point] = len(module.trained), len(module.scores)
        trainer.save_checkpoint(self.folder / f"{point}.ckpt")

    def on_train_batch_end(self, trainer: pl.Trainer, *others: Any) -> None:
        self.save(trainer, "batch")

    def on_validation_start(self, trainer: pl.Trainer, *others: Any) -> None:
        self.save(trainer, "before-validation")

    def on_validation_batch_end(self, trainer: pl.Trainer, *others: Any) -> None:
        self.save(trainer, "in-validation")

    def on_validation_end(self, trainer: pl.Trainer, *others: Any) -> None:
        self.save(trainer, "validation-end")

    def on_train_epoch_end(self, trainer: pl.Trainer, *others: Any) -> None:
        self.save(trainer, "propagated")


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    rain = np.random.default_rng(0).gamma(2, 3, (3, STEPS))
    time = np.datetime64("2000-01-01", "s") + np.arange(STEPS) * np.timedelta64(86400, "s")
    variables = {"rain": (("site", "time"), rain), "flow": (("site", "time"), rain.cumsum(1) % 50)}
    return xr.Dataset(variables, {"site": ["a", "b", "c"], "time": time})


Case = tuple[Callable[[], Sequence[Any]], dict[str, Any], dict[str, Any]]  # callbacks, data, Trainer and dropout
CASES: dict[str, Case] = {
    "delta-1": (lambda: [MPTTCallback()], {}, {"val_check_interval": 2}),
    "delta-0": (lambda: [MPTTCallback(delta=0.0)], {}, {"dropout": 0.3}),
    "linkage": (lambda: [MPTTCallback(warmup_epochs=1, refresh_every=2)], {}, {}),
    "half-memory": (lambda: [MPTTCallback(dtype="bfloat16", tolerance=None)], {}, {"limit_train_batches": 4}),
    "accumulated": (lambda: [MPTTCallback()], {}, {"accumulate_grad_batches": 2, "val_check_interval": 3}),
    "workers": (lambda: [MPTTCallback()], {"num_workers": 1}, {"max_epochs": 2}),
    "lanes": (lambda: [StatefulCallback()], {"order": "lanes", "stride": 8, "batch_size": 3}, {"dropout": 0.3}),
    "sequential": (
        lambda: [SequentialStatefulCallback()],
        {"order": "sequential", "stride": 8, "batch_size": 2},
        {"val_check_interval": 2},
    ),
    "series": (lambda: [StatefulCallback(training=False)], {"order": "series", "batch_size": 1}, {"dropout": 0.3}),
    "sampling": (lambda: [ScheduledSamplingCallback(), ClosedLoopCallback()], {"lagged_target": "step"}, {}),
    "conditional": (
        lambda: [ConditionalCallback()],
        {"lagged_target": "window", "evaluation": "conditional"},
        {"dropout": 0.3},
    ),
    "noisy": (lambda: [NoisyInitialStateCallback()], {}, {}),
}


def run(case: Case, dataset: xr.Dataset, folder: Path, more: Sequence[Any] = (), point: str | None = None) -> Any:
    make, data_settings, settings = case
    settings = {"max_epochs": EPOCHS} | settings
    pl.seed_everything(0 if point is None else 1, verbose=False)  # a resumed process begins with other random numbers
    arguments = {"window": 8, "stride": 4, "batch_size": 6, "split": (0.6, 0.3, 0.1), "chunk": 9} | data_settings
    data = SeriesDataModule(dataset, inputs=["rain"], targets=["flow"], **arguments)
    module = Regressor(2 if "lagged_target" in data_settings else 1, settings.pop("dropout", 0.0))
    callbacks = list(make())
    trainer = pl.Trainer(
        callbacks=[*callbacks, *more], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=None if point is None else folder / f"{point}.ckpt")
    return module, callbacks[0], trainer


def chosen(points: Sequence[str]) -> list[str]:
    """Points in the middle of the first two epochs, all at the end of the second, and the last batch."""
    whole = max(int(point.split("-")[1]) for point in points)
    ends = [point for point in points if point.startswith(f"1-{whole}-")]
    last = [point for point in points if point.endswith(f"-{whole}-batch")][-1:]
    middle = [point for point in points if point.startswith(("0-1-", "0-3-", "1-2-"))]
    return list(dict.fromkeys([*middle, *ends, *last]))


@pytest.mark.filterwarnings("ignore:No step comes before the first")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_resumed_run_ends_bit_identical(case: Case, dataset: xr.Dataset, tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    module, callback, _ = run(case, dataset, tmp_path, [saver])
    points = chosen(list(saver.points))
    assert len(points) >= 5
    for point in points:
        again, other, _ = run(case, dataset, tmp_path, point=point)
        trained, scored = saver.points[point]
        assert again.trained == module.trained[trained:], point
        expected = module.scores[scored:]
        assert (again.scores if EXACT_LIGHTNING else again.scores[len(again.scores) - len(expected) :]) == expected, (
            point
        )
        for name, value in module.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), (point, name)
        if isinstance(callback, MPTTCallback):
            for name in ("mu", "mean", "count"):
                assert torch.equal(getattr(callback.memory, name), getattr(other.memory, name)), (point, name)
            assert callback._ready().epoch == other._ready().epoch, point


@pytest.mark.parametrize("frequency", [1, 2])
def test_a_plateau_is_waited_for_as_without_a_break(
    frequency: int, dataset: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def falling(module: Regressor) -> Any:
        """The rate is halved at each step: one too few or too many is seen."""
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e9)
        settings = {"scheduler": scheduler, "monitor": "score", "frequency": frequency}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    monkeypatch.setattr(Regressor, "configure_optimizers", falling)
    # A second callback of the kind must not step once more.
    case: Case = (lambda: [MPTTCallback(evaluation=None), StatefulCallback(training=False)], {}, {})
    saver = Saver(tmp_path)
    module, _, trainer = run(case, dataset, tmp_path, [saver])
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert rate == 0.02 * 0.5 ** (EPOCHS // frequency)
    points = chosen(list(saver.points))
    assert {point.split("-", 2)[2] for point in points} >= {"batch", "validation-end", "propagated"}
    for point in points:
        again, _, other = run(case, dataset, tmp_path, point=point)
        assert other.optimizers[0].param_groups[0]["lr"] == rate, point
        for name, value in module.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), (point, name)
    # And a run that is resumed is broken off once more.
    later = Saver(tmp_path / "later")
    run(case, dataset, tmp_path, [later], point="0-1-batch")
    for point in [one for one in later.points if one.startswith("0-")]:
        _, _, other = run(case, dataset, tmp_path / "later", point=point)
        assert other.optimizers[0].param_groups[0]["lr"] == rate, point


def test_a_step_that_fails_is_trained_again(dataset: xr.Dataset, tmp_path: Path) -> None:
    class Fails(pl.Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, *others: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("a power cut")

        def on_exception(self, trainer: pl.Trainer, *others: Any) -> None:
            trainer.save_checkpoint(tmp_path / "failed.ckpt")

    for name in ("lanes", "delta-1", "sequential"):
        case = (*CASES[name][:2], {})
        module, *_ = run(case, dataset, tmp_path)
        with pytest.raises(RuntimeError, match="a power cut"):
            run(case, dataset, tmp_path, [Fails()])
        again, *_ = run(case, dataset, tmp_path, point="failed")
        assert again.trained == module.trained[3:]
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]), (name, key)

"""What a Trainer does with a callback: closures, checkpointed activations, precisions, namespaces, evaluation."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
import xarray as xr
from handmade import (
    FEATURES,
    LENGTH,
    TABLE,
    Regressor,
    assert_same_weights,
    in_order,
    loader,
    quiet_trainer,
    seeded,
    shuffles,
    stretches,
    train_by_hand,
    walk,
)
from oracle import slow_links
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mptt import KeyMap, MPTTError, MPTTWarning, WindowIndex
from mptt.callbacks import (
    ClosedLoopCallback,
    ConditionalCallback,
    MPTTCallback,
    ScheduledSamplingCallback,
    StatefulCallback,
)
from mptt.datamodules import SeriesDataModule

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
# The package `lightning` need not be there.
OTHER = [importlib.import_module("lightning.pytorch")] if importlib.util.find_spec("lightning") else []
# Writes to each window in an epoch, by hand.
WRITES = np.bincount([v for _, v, _ in slow_links(TABLE, TABLE)], minlength=len(TABLE)).tolist()


def plain(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    output, states = walk(module.gru, x, state, ends)
    return module.head(output), states


class CountsBefore(pl.Callback):
    """The counts of each epoch before they are propagated; stands before the callback in the list."""

    def __init__(self, callback: MPTTCallback) -> None:
        self.callback, self.counts = callback, []

    def on_train_epoch_end(self, *args: Any) -> None:
        self.counts.append(self.callback.memory.count.tolist())


def mu_of(callback: MPTTCallback) -> np.ndarray:
    return callback.memory.mu.numpy()


def test_lbfgs_runs_the_step_many_times_and_its_states_are_filed_once() -> None:
    class Careful(Regressor):
        steps = 0

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            self.steps += 1
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)

    callback = MPTTCallback(windows=WINDOWS)
    counts, module = CountsBefore(callback), seeded(Careful)
    trainer = quiet_trainer([counts, callback], max_epochs=2)
    trainer.fit(module, loader(shuffles(2)))
    assert module.steps > 2 * trainer.num_training_batches * 2
    assert counts.counts == [WRITES, WRITES]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointed_activations_train_as_by_hand(use_reentrant: bool) -> None:
    class Checkpointed(Regressor):
        def forward(self, x: Tensor) -> Tensor:
            run = lambda inputs: self.gru(inputs)[0]  # noqa: E731
            inputs = x.clone().requires_grad_()  # reentrant checkpoints need one
            return self.head(checkpoint(run, inputs, use_reentrant=use_reentrant))

    orders, callback = shuffles(3), MPTTCallback(windows=WINDOWS)
    counts, mine, other = CountsBefore(callback), seeded(Checkpointed), seeded(Regressor)
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([counts, callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(mu_of(callback), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)
    assert counts.counts == [WRITES] * 3


def test_gradients_accumulated_over_batches_still_file_every_batch() -> None:
    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    mine, other, orders = seeded(Regressor), seeded(Regressor), shuffles(3)
    expected = train_by_hand(other, plain, 4, orders, accumulate=2)
    trainer = quiet_trainer([counts, callback], accumulate_grad_batches=2)
    trainer.fit(mine, loader(orders))
    assert trainer.global_step == 3 * 2 < 3 * trainer.num_training_batches
    assert counts.counts == [WRITES] * 3
    assert_same_weights(mine, other)
    assert np.allclose(mu_of(callback), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


def test_a_step_that_returns_none_before_the_layer_ran_leaves_its_batch_unfiled() -> None:
    class Skips(Regressor):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return None if batch_idx % 2 else self.loss(batch)

    order = list(range(len(TABLE)))
    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    quiet_trainer([counts, callback], max_epochs=1).fit(seeded(Skips), loader([order], batch_size=1))
    links = slow_links(TABLE, [TABLE[i] for i in order[::2]])
    assert counts.counts == [np.bincount([v for _, v, _ in links], minlength=len(TABLE)).tolist()]


def test_an_epoch_that_the_module_cuts_short_does_not_leave_the_layer_tapped() -> None:
    class StopsEarly(Regressor):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 1 else None

        def on_train_epoch_end(self) -> None:
            assert "forward" not in self.gru.__dict__

    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    quiet_trainer([counts, callback], max_epochs=2).fit(seeded(StopsEarly), loader(shuffles(2)))
    assert [sum(count) > 0 for count in counts.counts] == [True, True]


# On a CPU, Lightning runs 16-mixed as bf16-mixed and warns.
@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_precisions_run_and_the_memory_keeps_its_own(precision: Any, layer: Any, dtype: Any) -> None:
    class Encoded(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(FEATURES, FEATURES)
            self.gru = layer(FEATURES, 4, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(self.encoder(x))[0])

    runs = {}
    for chosen in (precision, "32-true"):
        callback = MPTTCallback(windows=WINDOWS, warmup_epochs=1, series=in_order(stretches(7)), dtype=dtype)
        trainer = quiet_trainer([callback], precision=chosen)
        trainer.fit(seeded(Encoded), loader(shuffles(3)), in_order(stretches(7)))
        runs[chosen] = callback.memory
    assert runs[precision].mu.dtype == getattr(torch, dtype)
    assert (runs[precision].mu.abs().amax(dim=1) > 1e-3).tolist() == [start > 0 for _, start, _ in TABLE]
    assert torch.allclose(runs[precision].mu, runs["32-true"].mu, rtol=0, atol=0.05)


def dataset() -> xr.Dataset:
    time = np.datetime64("2000-01-01") + np.arange(120)
    rain = xr.DataArray(np.random.default_rng(0).random((2, 120)), coords={"site": ["a", "b"], "time": time})
    return xr.Dataset({"rain": rain, "flow": rain.cumsum("time")})


def small_data() -> SeriesDataModule:
    return SeriesDataModule(dataset(), inputs=["rain"], targets=["flow"], window=10, stride=5, batch_size=4, chunk=16)


@pytest.mark.parametrize("namespace", [pl, *OTHER])
def test_both_lightning_namespaces_take_the_callback_and_the_data_module(namespace: Any) -> None:
    class Module(namespace.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return (self.head(self.gru(batch["x"])[0]) - batch["y"]).square().mean()

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx), batch_size=1)

        def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.log("test_loss", self.training_step(batch, batch_idx), batch_size=1)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = MPTTCallback(warmup_epochs=1)
    settings = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = namespace.Trainer(callbacks=[callback], accelerator="cpu", max_epochs=3, logger=False, **settings)
    torch.manual_seed(0)
    data = small_data()
    module = Module()
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert (callback.memory.mu.abs().amax(dim=1) > 0).tolist() == (data.windows.start > 0).tolist()
    assert trainer.callback_metrics["test_loss"] > 0


@pytest.mark.parametrize("num_workers", [0, 1])
def test_links_are_made_where_the_batches_are_and_change_nothing(
    num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Module(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 4, batch_first=True)
            self.seen: set[str] = set()

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            self.seen |= set(batch)
            assert data.keymap is callback._memory.keymap  # type: ignore[union-attr]
            return self.loss(batch)

    here: list[int] = []
    links = KeyMap.links
    monkeypatch.setattr(KeyMap, "links", lambda self, ids: (here.append(len(ids)), links(self, ids))[1])
    modules = []
    for packs in (True, False):
        with monkeypatch.context() as patch:
            if not packs:
                patch.setattr(KeyMap, "pack", lambda self, ids: {})
            here.clear()
            module, data, callback = seeded(Module), small_data(), MPTTCallback()
            data.seed, data.num_workers = 3, num_workers
            quiet_trainer([callback], limit_val_batches=0).fit(module, datamodule=data)
        batches = 3 * -(-len(data.windows) // 4)
        assert len(here) == (0 if packs and num_workers else batches)
        assert module.seen == {"x", "y", "mask", "window"}
        assert data.keymap is None
        modules.append((module, callback.memory.mu))
    assert_same_weights(modules[0][0], modules[1][0], tolerance=0)
    assert torch.equal(modules[0][1], modules[1][1])


def test_links_are_not_asked_for_of_other_windows_nor_after_an_error() -> None:
    class Stops(Regressor):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            found.append(data.keymap)
            raise RuntimeError("stop")

    found: list[Any] = []
    for own in (False, True):
        data = small_data()
        data.setup()
        table = data.windows
        windows = WindowIndex(table.site, table.start, table.length) if own else None
        with pytest.raises(RuntimeError, match="stop"):
            quiet_trainer([MPTTCallback(windows=windows)], num_sanity_val_steps=0).fit(Stops(), datamodule=data)
        assert data.keymap is None
    assert [isinstance(one, KeyMap) for one in found] == [True, False]


def test_sanity_check_validation_and_test_leave_the_memory_alone() -> None:
    data, orders, callback = stretches(7), shuffles(3), MPTTCallback(windows=WINDOWS)
    seen: list[tuple[str, bool]] = []

    class Watch(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
            self.before = saved(callback)

        def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
            same = all(torch.equal(value, self.before[key]) for key, value in saved(callback).items())
            seen.append((trainer.state.stage.value, same))

        on_test_start, on_test_end = on_validation_start, on_validation_end
        on_predict_start, on_predict_end = on_validation_start, on_validation_end

    def saved(callback: MPTTCallback) -> dict[str, Tensor]:
        memory = callback.memory.state_dict()
        return {name: memory[name].clone() for name in ("mu", "mean", "count", "refused")}

    module = seeded(Regressor)
    trainer = quiet_trainer([callback, Watch()], val_check_interval=1)
    trainer.fit(module, loader(orders), in_order(data))
    assert seen[0] == ("sanity_check", True)
    assert len(seen) == 10  # in the middle of epochs too, when counts are not zero
    mu = callback.memory.mu.clone()
    trainer.validate(module, in_order(data), verbose=False)
    trainer.test(module, in_order(data), verbose=False)
    trainer.predict(module, in_order(data))
    assert all(same for _, same in seen)
    assert torch.equal(callback.memory.mu, mu)

    without = seeded(Regressor)
    again = MPTTCallback(windows=WINDOWS)
    quiet_trainer([again]).fit(without, loader(orders))
    assert torch.equal(again.memory.mu, mu)  # and the training is the same as without validation


def test_loaders_and_windows_passed_by_hand_and_fewer_batches_do() -> None:
    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    trainer = quiet_trainer([counts, callback], max_epochs=1, limit_train_batches=2)
    order = shuffles(1)
    trainer.fit(seeded(Regressor), train_dataloaders=loader(order))
    links = slow_links(TABLE, [TABLE[i] for i in order[0][:6]])
    assert counts.counts == [np.bincount([v for _, v, _ in links], minlength=len(TABLE)).tolist()]


def test_overfitting_one_batch_runs() -> None:
    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    with warnings.catch_warnings(action="ignore"):
        quiet_trainer([counts, callback], max_epochs=2, overfit_batches=1).fit(seeded(Regressor), loader(shuffles(2)))
    links = slow_links(TABLE, TABLE[:3])
    assert counts.counts[0] == np.bincount([v for _, v, _ in links], minlength=len(TABLE)).tolist()


def test_states_that_are_not_finite_are_counted_and_warned_of_each_epoch_and_not_filed() -> None:
    class Diverges(Regressor):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            if batch_idx == 1:
                return self.loss({**batch, "x": batch["x"] / 0.0}).nan_to_num(0.0).detach().requires_grad_()
            return self.loss(batch)

    order = list(range(len(TABLE)))
    callback = MPTTCallback(windows=WINDOWS)
    counts = CountsBefore(callback)
    with pytest.warns(MPTTWarning, match=r"were not finite, first in batch 1: windows") as found:
        quiet_trainer([counts, callback], max_epochs=3).fit(seeded(Diverges), loader([order] * 3))
    said = [str(one.message) for one in found if issubclass(one.category, MPTTWarning)]
    lost = len(slow_links(TABLE, [TABLE[i] for i in order[3:6]]))
    assert [f"In epoch {epoch}, {lost} state(s) of " in one for epoch, one in enumerate(said)] == [True] * 3
    links = slow_links(TABLE, [TABLE[i] for i in order if i not in order[3:6]])
    assert counts.counts == [np.bincount([v for _, v, _ in links], minlength=len(TABLE)).tolist()] * 3
    assert callback.memory.mu.isfinite().all()
    assert callback.memory.refused == 3 * lost


def test_validation_under_inference_mode_and_without_give_the_same() -> None:
    found = []
    for inference_mode in (True, False):
        module = seeded(Regressor)
        trainer = quiet_trainer([MPTTCallback(windows=WINDOWS)], inference_mode=inference_mode)
        trainer.fit(module, loader(shuffles(3)), in_order(stretches(7)))
        found.append((trainer.callback_metrics["val_loss"].item(), module.state_dict()["gru.weight_hh_l0"]))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: MPTTCallback(windows=WINDOWS), "with DDP.*found SingleDeviceStrategy, in a world of 2"),
        (ClosedLoopCallback, "with DDP.*found SingleDeviceStrategy, in a world of 2"),
        (ScheduledSamplingCallback, "runs in one process, found 2"),
        (ConditionalCallback, "runs in one process, found 2"),
        (StatefulCallback, "runs in one process, found 2"),
    ],
    ids=["mptt", "closed loop", "sampling", "conditional", "stateful"],
)
def test_several_processes_are_refused(make: Any, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    with pytest.raises(MPTTError, match=found):
        quiet_trainer([make()]).fit(Regressor(), loader(shuffles(1)))


class Measured(Regressor):
    """Keeps a metric, has dropout, logs; predicts by a step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.error = torchmetrics.MeanSquaredError()
        self.drop = nn.Dropout(0.5)
        self.drop_again = nn.Dropout(0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.gru(x)[0]))

    def validation_step(self, batch: dict[str, Tensor]) -> None:  # without batch_idx, as Lightning allows
        assert not self.training
        predicted = self(batch["x"])
        self.error.update(predicted, torch.zeros_like(predicted))
        self.log("val_error", self.error)


class OnlyValidates(Measured):
    predict_step = pl.LightningModule.predict_step


@pytest.mark.parametrize("module_class", [Measured, OnlyValidates])
def test_linkage_reconstruction_sets_the_states_of_one_pass_and_leaves_no_trace(module_class: type[Measured]) -> None:
    modes, linked = [], []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
            modes.append({name: child.training for name, child in module.named_modules()})
            linked.append(callback.memory.mu.clone())

    callback = MPTTCallback(warmup_epochs=2, windows=WINDOWS, series=in_order(stretches(7)))
    module, reference = seeded(module_class), seeded(module_class)
    metric = module.error
    trainer = quiet_trainer([callback, Watch()])
    torch.manual_seed(2)
    trainer.fit(module, loader(shuffles(3)))
    assert (linked[0] == 0).all()
    assert (linked[1] == 0).all()
    assert modes[0] == modes[2]
    assert module.error is metric
    assert metric._update_count == 0
    assert "val_error" not in trainer.callback_metrics
    assert not {"log", "log_dict"} & set(module.__dict__)

    torch.manual_seed(2)
    quiet_trainer(max_epochs=2).fit(reference, loader(shuffles(3)))
    for v, (site, start, _) in enumerate(TABLE):
        x = stretches(100, sites=[site])[0]["x"][:, :start]
        expected = reference.gru(x)[1][0, 0] if start else torch.zeros(4)
        assert torch.allclose(linked[2][v], expected, rtol=0, atol=1e-6)


def test_linkage_reconstruction_needs_series_and_an_evaluation_step_at_the_start_of_fit() -> None:
    class TrainsOnly(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(FEATURES, 4, batch_first=True)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.gru(batch["x"])[0].square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(MPTTError, match=r"walk along the training series: pass MPTTCallback\(series=loader\)"):
        quiet_trainer([MPTTCallback(warmup_epochs=1, windows=WINDOWS)]).fit(TrainsOnly(), loader(shuffles(1)))
    callback = MPTTCallback(warmup_epochs=1, windows=WINDOWS, series=in_order(stretches(7)))
    with pytest.raises(MPTTError, match="predict_step or validation_step; TrainsOnly has none of its own"):
        quiet_trainer([callback]).fit(TrainsOnly(), loader(shuffles(1)))


def test_shorter_windows_may_be_padded_to_the_longest() -> None:
    table = [(0, 0, LENGTH), (0, 2, LENGTH - 2), (0, 5, LENGTH)]
    callback = MPTTCallback(windows=WindowIndex(*zip(*table, strict=True)), delta=0)
    x = torch.randn(1, 20, FEATURES)
    batch = {
        "x": torch.cat([x[:, start : start + LENGTH] for _, start, _ in table]),
        "y": torch.zeros(3, LENGTH, 1),
        "window": [0, 1, 2],
    }
    module = seeded(Regressor)
    with torch.no_grad():
        first, padded = module.gru(x[:, 0:5])[0][0], module.gru(x[:, 2:5])[0][0]
    quiet_trainer([callback], max_epochs=1).fit(module, in_order([batch]))
    expected = torch.stack([torch.zeros(4), first[1], (first[4] + padded[2]) / 2])
    assert torch.allclose(callback.memory.mu, expected, rtol=0, atol=1e-6)


def test_linkage_over_series_that_do_not_run_the_layer_is_refused() -> None:
    class PredictsNothing(Regressor):
        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return batch["x"]

    callback = MPTTCallback(warmup_epochs=1, windows=WINDOWS, series=in_order(stretches(7)))
    with pytest.raises(MPTTError, match="recurrent core was not run over the training series"):
        quiet_trainer([callback]).fit(seeded(PredictsNothing), loader(shuffles(3)))
    module = PredictsNothing()
    assert not module.gru._forward_pre_hooks

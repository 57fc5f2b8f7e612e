"""Series are evaluated and linked in parallel; what comes out is what a walk along them gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from handmade import quiet_trainer, seeded
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mptt import MPTTError, WindowIndex
from mptt.callbacks import ClosedLoopCallback, MPTTCallback, StatefulCallback
from mptt.fastgru import is_installed

STEPS = {0: 6000, 1: 4500}
LENGTH, STRIDE = 60, 30
WINDOWS = WindowIndex.cut(list(STEPS.values()), LENGTH, STRIDE)


@pytest.fixture(autouse=True)
def without_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, or for another layer; with them, few series are worth cutting."""
    monkeypatch.setattr("mptt.inference.is_installed", lambda: False)


def series() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {site: torch.randn(steps, 2, generator=generator) for site, steps in STEPS.items()}


class Windows(Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        self.series = series()

    def __len__(self) -> int:
        return len(WINDOWS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = int(WINDOWS.start[index])
        return {"x": self.series[int(WINDOWS.site[index])][start : start + LENGTH], "window": index}


def training() -> DataLoader[Any]:
    return DataLoader(Windows(), batch_size=64)


def in_order(rows: list[list[tuple[int, int, int]]]) -> DataLoader[Any]:
    """Batches of rows (site, start, steps), shorter ones padded with what must not matter."""
    data, batches = series(), []
    for batch in rows:
        x = torch.full((len(batch), max(steps for *_, steps in batch), 2), 50.0)
        for row, (site, start, steps) in enumerate(batch):
            x[row, :steps] = data[site][start : start + steps]
        site, start, length = torch.tensor(batch).T
        batches.append({"x": x, "site": site, "start": start, "length": length})
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


WHOLE = [[(0, 0, 6000), (1, 0, 4500)]]
HALVES = [[(0, 0, 4000), (1, 0, 4000)], [(0, 4000, 2000), (1, 4000, 500)]]
ROWS = [
    [(site, start, 500) for site, steps in STEPS.items() for start in range(0, min(steps, 3000), 500)],
    [(site, start, 500) for start in range(3000, 6000, 500) for site, steps in STEPS.items() if start < steps],
]


class Encoded(pl.LightningModule):
    """A layer before the recurrent one, and one that mixes steps; the recurrent one remembers some hundred steps."""

    layer: Any = nn.GRU

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 3)
        self.smooth = nn.Conv1d(3, 3, kernel_size=3, padding=2)
        self.core = self.layer(3, 4, num_layers=1 if self.layer is nn.GRU else 2, batch_first=True)
        self.head = nn.Linear(4, 1)
        with torch.no_grad():
            if self.layer is nn.GRU:
                self.core.bias_ih_l0[4:8] += 4  # the update gate: keep
            else:
                self.core.bias_ih_l0[4:8] += 3  # the forget gate: do not

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.encoder(x))
        x = self.smooth(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return self.head(self.core(x)[0])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return (self(batch["x"]) - 0.1).square().mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        inside = torch.arange(batch["x"].shape[1]) < batch["length"].unsqueeze(1)
        self.log("level", self(batch["x"])[inside].mean(), batch_size=1)

    test_step = validation_step

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self(batch["x"])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class EncodedLSTM(Encoded):
    layer = nn.LSTM


def stitched(rows: list[list[tuple[int, int, int]]], predictions: list[Tensor]) -> dict[int, Tensor]:
    found: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for batch, predicted in zip(rows, predictions, strict=True):
        for row, (site, start, steps) in enumerate(batch):
            found[site].append((start, predicted[row, :steps]))
    return {
        site: torch.cat([part for _, part in sorted(parts, key=lambda one: one[0])]) for site, parts in found.items()
    }


def predicted(module: Any, rows: list[list[tuple[int, int, int]]], **settings: Any) -> tuple[dict[int, Tensor], Any]:
    callback = StatefulCallback(training=False, **settings)
    predictions = quiet_trainer([callback]).predict(module, in_order(rows))
    return stitched(rows, predictions), callback.sweeps


@pytest.mark.parametrize("module_class", [Encoded, EncodedLSTM])
@pytest.mark.parametrize("rows", [WHOLE, HALVES], ids=["whole", "in two batches"])
def test_predictions_are_those_of_a_plain_pass(module_class: Any, rows: Any) -> None:
    module = seeded(module_class)
    plain, walked = predicted(module, rows, tolerance=None)
    found, sweeps = predicted(module, rows, tolerance=1e-6)
    assert walked.chunks == sum(len(batch) for batch in rows)
    assert sweeps.chunks > (20 if rows is WHOLE or module_class is Encoded else 0)
    assert 0 <= sweeps.largest_change <= 1e-6
    for site in STEPS:
        assert torch.allclose(found[site], plain[site], rtol=0, atol=1e-5)
        assert found[site].std() > 1e-3


@pytest.mark.skipif(not is_installed(), reason="numba is not installed")
def test_predictions_through_compiled_loops_are_those_of_a_plain_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mptt.inference.is_installed", lambda: True)
    module = seeded(Encoded)
    found, _ = predicted(module, WHOLE)
    for site, x in series().items():
        assert torch.allclose(found[site], module(x[None])[0], rtol=0, atol=1e-5)


def test_a_state_from_long_ago_is_handed_on() -> None:
    module = seeded(Encoded)
    with torch.no_grad():
        module.core.bias_ih_l0[4:8] += 4  # remembers for thousands of steps
    rows = [[(0, 0, 6000)]]
    plain, _ = predicted(module, rows, tolerance=None)
    found, sweeps = predicted(module, rows)
    assert sweeps.chunks > 10
    assert sweeps.passes > 2
    assert torch.allclose(found[0], plain[0], rtol=0, atol=1e-4)


def test_several_rows_of_a_site_in_one_batch_are_one_series() -> None:
    class Pointwise(Encoded):
        def forward(self, x: Tensor) -> Tensor:  # no layer that looks beyond a row
            return self.head(self.core(torch.tanh(self.encoder(x)))[0])

    module = seeded(Pointwise)
    plain, _ = predicted(module, WHOLE, tolerance=None)
    for settings in ({}, {"tolerance": None}, {"max_sweeps": 1}):
        found, _ = predicted(module, ROWS, **settings)
        for site in STEPS:
            assert torch.allclose(found[site], plain[site], rtol=0, atol=1e-4), settings


class Explicit(pl.LightningModule):
    """A leaky bucket, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.leak = nn.Parameter(torch.tensor(0.01))
        self.calls: list[int] = []

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self.calls.append(len(batch["x"]))
        state, states = batch["h0"], []
        for x in batch["x"].unbind(1):
            state = (1 - self.leak) * state + torch.tanh(state) * 0.001 + x[:, :1]
            states.append(state)
        return {"states": torch.stack(states, dim=1)}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        found = self.predict_step(batch, batch_idx)
        self.log("last", found["states"][-1, -1, 0], batch_size=1)
        return found


def test_an_explicit_core_is_swept_over_rows() -> None:
    rows = [[(0, start, 50) for start in range(0, 1500, 50)], [(0, start, 50) for start in range(1500, 3000, 50)]]
    module = seeded(Explicit)
    callback = StatefulCallback(training=False, state_size=1)
    predictions = quiet_trainer([callback]).predict(module, in_order(rows))
    plain = quiet_trainer([StatefulCallback(training=False, state_size=1)]).predict(module, in_order([[(0, 0, 3000)]]))
    assert torch.allclose(
        torch.cat([one["states"].flatten() for one in predictions]), plain[0]["states"].flatten(), rtol=0, atol=1e-3
    )
    assert callback.sweeps is not None
    assert callback.sweeps.chunks == 60
    quiet_trainer([callback]).test(module, in_order(rows), verbose=False)


def test_an_explicit_core_without_predict_step_is_told_to_have_one() -> None:
    class TestsOnly(Explicit):
        predict_step = pl.LightningModule.predict_step  # type: ignore[assignment]

    with pytest.raises(MPTTError, match=r"several stretches of a series in one batch.* through its predict_step"):
        quiet_trainer([StatefulCallback(training=False, state_size=1)]).test(TestsOnly(), in_order(ROWS), verbose=False)


def test_a_forward_that_somebody_set_on_the_layer_is_called() -> None:
    module, calls = seeded(Encoded), []

    def forward(x: Tensor, hx: Any = None) -> Any:
        calls.append(len(x))
        return nn.GRU.forward(module.core, x, hx)

    module.core.forward = forward
    found, _ = predicted(module, WHOLE)
    assert calls
    assert module.core.forward is forward
    del module.core.forward
    plain, _ = predicted(module, WHOLE, tolerance=None)
    assert torch.allclose(found[0], plain[0], rtol=0, atol=1e-4)


def test_what_was_done_is_logged() -> None:
    callback = StatefulCallback(training=False)
    trainer = quiet_trainer([callback])
    trainer.validate(seeded(Encoded), in_order(HALVES), verbose=False)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert callback.sweeps is not None
    assert logged["mptt/sweeps"] == callback.sweeps.sweeps > 1
    assert logged["mptt/passes"] == pytest.approx(callback.sweeps.passes)
    assert logged["mptt/change"] == pytest.approx(callback.sweeps.largest_change)


class Passes(pl.Callback):
    def __init__(self, of: Any) -> None:
        self.of, self.found = of, []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.found.append(self.of.sweeps.passes)


def test_each_validation_begins_with_the_states_of_the_last_one() -> None:
    callback = MPTTCallback(windows=WINDOWS)
    watch, module = Passes(callback), seeded(Encoded)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1e-6)  # type: ignore[method-assign]
    quiet_trainer([callback, watch], max_epochs=3).fit(module, training(), in_order(HALVES))
    cold, *warm = watch.found
    assert cold > 2
    assert all(passes < cold for passes in warm)


def test_a_resumed_run_evaluates_as_the_run_would_have(tmp_path: Path) -> None:
    def fit(epochs: int, callbacks: list[Any], ckpt_path: Path | None = None) -> tuple[float, Any]:
        callback = MPTTCallback(windows=WINDOWS)
        trainer = quiet_trainer([callback, *callbacks], max_epochs=epochs, enable_checkpointing=bool(callbacks))
        trainer.fit(seeded(Encoded), training(), in_order(HALVES), ckpt_path=ckpt_path)
        return float(trainer.callback_metrics["level"]), callback.sweeps

    keep = ModelCheckpoint(tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=True)
    whole = fit(4, [keep])
    resumed = fit(4, [], tmp_path / "epoch=1.ckpt")
    assert resumed == whole


class Counted:
    """Batches over the series that count how often they are gone over."""

    def __init__(self, rows: list[list[tuple[int, int, int]]]) -> None:
        self.batches, self.times = in_order(rows), 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        yield from self.batches


@pytest.mark.parametrize("rows", [WHOLE, HALVES], ids=["whole", "in two batches"])
def test_linkage_in_parallel_sets_the_messages_of_a_walk(rows: Any) -> None:
    found = {}
    for tolerance in (None, 1e-7):
        callback = MPTTCallback(windows=WINDOWS, warmup_epochs=1, series=in_order(rows), tolerance=tolerance)
        module, linked = seeded(Encoded), Linked(callback)
        quiet_trainer([linked, callback], max_epochs=2, limit_train_batches=1).fit(module, training())
        found[tolerance] = linked.mu
    assert torch.allclose(found[None], found[1e-7], rtol=0, atol=1e-5)
    assert (found[None].abs().amax(1) > 1e-4).tolist() == (WINDOWS.start > 0).tolist()


class Linked(pl.Callback):
    """The messages at the start of the last epoch's first batch."""

    def __init__(self, of: MPTTCallback) -> None:
        self.of = of

    def on_train_batch_end(self, *args: Any) -> None:
        self.mu = self.of.memory.mu.clone()


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"refresh_every": 1}, [1, 2, 3, 4, 5, 6]),
        ({"refresh_every": 3}, [3, 6]),
        ({"refresh_every": 3, "warmup_epochs": 2}, [2, 3, 6]),
        ({"refresh_every": 2, "zero_init_epochs": 3}, [4, 6]),
        ({"warmup_epochs": 2}, [2]),
    ],
)
def test_linkage_is_refreshed_every_so_many_epochs(settings: dict[str, int], epochs: list[int]) -> None:
    batches, times = Counted(WHOLE), []
    callback = MPTTCallback(windows=WINDOWS, series=batches, **settings)

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            times.append(batches.times)

    quiet_trainer([callback, Watch()], max_epochs=7, limit_train_batches=1).fit(seeded(Encoded), training())
    assert np.flatnonzero(np.diff([0, *times])).tolist() == epochs


def test_refreshed_messages_are_the_states_of_the_weights_as_they_are() -> None:
    callback = MPTTCallback(windows=WINDOWS, refresh_every=1, series=in_order(WHOLE), tolerance=1e-7)
    module, data = seeded(Encoded), series()

    class Compares(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                with torch.no_grad():
                    x = torch.tanh(pl_module.encoder(data[0][None]))
                    x = pl_module.smooth(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
                    states = pl_module.core(x)[0][0]
                here = np.flatnonzero((WINDOWS.site == 0) & (WINDOWS.start > 0))
                expected = states[WINDOWS.start[here] - 1]
                self.same = torch.allclose(callback.memory.mu[here], expected, rtol=0, atol=1e-5)

    watch = Compares()
    quiet_trainer([callback, watch], max_epochs=3).fit(module, training())
    assert watch.same


def test_refreshing_needs_series_at_the_start_of_fit() -> None:
    with pytest.raises(MPTTError, match=r"refresh_every\) walk along the training series: pass MPTTCallback\(series="):
        quiet_trainer([MPTTCallback(windows=WINDOWS, refresh_every=5)]).fit(seeded(Encoded), training())


def test_evaluation_with_gradient_follows_rows_too() -> None:
    class WithGradient(Encoded):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.core(torch.tanh(self.encoder(x)))[0])

        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            with torch.enable_grad():
                found = self(batch["x"].clone().requires_grad_())
                found.sum().backward()
            return found.detach()

    module = seeded(WithGradient)
    settings = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    callback = StatefulCallback(training=False)
    predictions = pl.Trainer(callbacks=[callback], inference_mode=False, **settings).predict(module, in_order(ROWS))  # type: ignore[arg-type]
    found = stitched(ROWS, predictions)  # type: ignore[arg-type]
    for site, x in series().items():
        assert torch.allclose(found[site], module(x[None])[0], rtol=0, atol=1e-4)


def test_closed_loop_takes_one_stretch_of_a_site_a_batch() -> None:
    class Steps(Encoded):
        def stepper(self) -> Any:
            return None

    with pytest.raises(MPTTError, match="feed each site one stretch a batch"):
        quiet_trainer([ClosedLoopCallback(lagged_columns=1)]).predict(Steps(), in_order(ROWS))

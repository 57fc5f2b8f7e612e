"""NaN and inf in training: none reaches the memory, and the run says of which windows they were."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import FEATURES, TABLE, Regressor, Windows, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from oracle import slow_links
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from mptt import MPTTError, MPTTWarning, WindowIndex
from mptt.callbacks import MPTTCallback
from mptt.callbacks.memory import Memory
from mptt.offload import Offload
from mptt.storage import Storage

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
IN_TURN = list(range(len(TABLE)))
# The window with the most links, so that something is refused.
BAD = max(IN_TURN, key=lambda i: len(slow_links(TABLE, [TABLE[i]])))
LINKS = len(slow_links(TABLE, [TABLE[BAD]]))


class Faulty(Windows):
    """With a value in place of the first step of one window's inputs or targets."""

    def __init__(self, key: str, value: float) -> None:
        super().__init__()
        self.key, self.value = key, value

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        if index == BAD:
            sample[self.key] = sample[self.key].clone()
            sample[self.key][0] = self.value
        return sample


class Plain(Regressor):
    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return (self(batch["x"]) - batch["y"]).square().mean()


class HeadOnly(Regressor):
    """Runs the layer, but learns nothing of it: bad inputs leave the weights as they are."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            self.gru(batch["x"])
        return self.head.weight.square().sum()


def faulty(key: str, value: float = torch.nan) -> DataLoader[Any]:
    return DataLoader(Faulty(key, value), batch_size=3)


def said(found: Any) -> list[str]:
    return [str(one.message) for one in found if issubclass(one.category, MPTTWarning)]


class Logged(pl.Callback):
    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.found.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bad_window_is_named_each_epoch_and_its_neighbours_are_filed(value: float) -> None:
    callback, logged = MPTTCallback(windows=WINDOWS, zero_init_epochs=2), Logged()
    good = MPTTCallback(windows=WINDOWS, zero_init_epochs=2)
    with pytest.warns(MPTTWarning) as found:
        quiet_trainer([callback, logged], max_epochs=2).fit(seeded(HeadOnly), faulty("x", value))
    quiet_trainer([good], max_epochs=2).fit(seeded(HeadOnly), DataLoader(Windows(), batch_size=3))
    site, start, _ = TABLE[BAD]
    assert said(found) == [
        f"In epoch {epoch}, {LINKS} state(s) of 1 window(s) were not finite, first in batch {BAD // 3}: window"
        f" {BAD} (site {site}, start {start}). They were not filed, and the memory kept its messages. The weights"
        " are finite: look at the inputs and targets of these windows."
        for epoch in (0, 1)
    ]
    assert [one["mptt/refused"] for one in logged.found] == [LINKS, LINKS]
    fed_by_bad = {v for _, v, _ in slow_links(TABLE, [TABLE[BAD]])}
    others = [v for v in IN_TURN if v not in fed_by_bad]
    assert callback.memory.mu.isfinite().all()
    assert torch.equal(callback.memory.mu[others], good.memory.mu[others])
    assert (good.memory.mu[others].abs().sum(1) > 0).sum() >= 3
    assert not torch.equal(callback.memory.mu, good.memory.mu)


def test_a_bad_target_is_named_as_the_first_cause_and_the_memory_keeps_the_last_good_messages() -> None:
    callback = MPTTCallback(windows=WINDOWS)
    with pytest.warns(MPTTWarning) as found:
        quiet_trainer([callback], max_epochs=2).fit(seeded(Plain), faulty("y"))
    batch = BAD // 3
    in_batch = ", ".join(f"{i} (site {TABLE[i][0]}, start {TABLE[i][1]})" for i in IN_TURN[3 * batch : 3 * batch + 3])
    first, second = said(found)
    assert first.startswith(f"In epoch 0, the loss of {3 - batch} batch(es) was not finite, first of batch {batch}:")
    assert f"windows {in_batch}" in first
    assert f"first in batch {batch + 1}: window" in first  # their states are NaN because the weights are
    assert "The weights are not finite (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0 and 3 more)" in first
    assert "gradient_clip_val" in first
    assert second.startswith("In epoch 1, the loss of 3 batch(es)")
    filed = {v for _, v, _ in slow_links(TABLE, [TABLE[i] for i in IN_TURN[: 3 * batch + 3]])}
    assert callback.memory.mu.isfinite().all()
    assert {v for v in IN_TURN if callback.memory.mu[v].abs().sum() > 0} == filed


def test_only_a_loss_that_is_not_finite_is_said_too() -> None:
    class InfiniteOnce(HeadOnly):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            loss = self.loss(batch)
            return loss + torch.inf if batch_idx == 2 else loss  # its gradient is finite

    with pytest.warns(MPTTWarning, match=r"^In epoch 0, the loss of 1 batch\(es\) was not finite, first of batch 2:"):
        quiet_trainer([MPTTCallback(windows=WINDOWS)], max_epochs=1).fit(
            seeded(InfiniteOnce), DataLoader(Windows(), batch_size=3)
        )


def test_nothing_is_said_of_a_run_that_is_finite() -> None:
    logged = Logged()
    with warnings.catch_warnings(record=True) as found:
        quiet_trainer([MPTTCallback(windows=WINDOWS, max_refused=0), logged]).fit(
            seeded(Regressor), loader(shuffles(3))
        )
    assert said(found) == []
    assert [one["mptt/refused"] for one in logged.found] == [0, 0, 0]
    assert "mptt/scaled" not in logged.found[0]


# ---------------------------------------------------------------- max_refused


def test_more_than_max_refused_ends_the_training_at_the_end_of_the_epoch_and_names_the_windows() -> None:
    callback = MPTTCallback(windows=WINDOWS, max_refused=2 * LINKS)
    trainer = quiet_trainer([callback], max_epochs=9)
    with pytest.warns(MPTTWarning), pytest.raises(MPTTError) as error:
        trainer.fit(seeded(HeadOnly), faulty("x"))
    assert trainer.current_epoch == 2
    message = str(error.value)
    assert message.startswith(
        f"{3 * LINKS} state(s) were not finite in this training, more than max_refused={2 * LINKS}"
    )
    assert f": window {BAD} (site {TABLE[BAD][0]}, start {TABLE[BAD][1]})" in message
    assert "look at the inputs" in message


def test_a_long_epoch_is_ended_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mptt.callbacks.mptt._LOOK_EVERY", 2)
    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS, max_refused=0)], max_epochs=1)
    batches = [Faulty("x", torch.nan)[BAD]] + [Windows()[0]] * 9
    with pytest.raises(MPTTError, match="max_refused=0"):
        trainer.fit(seeded(HeadOnly), DataLoader(batches, batch_size=1))  # type: ignore[arg-type]
    assert trainer.global_step == 2


def test_the_count_goes_on_in_a_run_that_resumes_and_begins_at_0_with_an_earlier_checkpoint(tmp_path: Path) -> None:
    first = MPTTCallback(windows=WINDOWS)
    trainer = quiet_trainer([first], max_epochs=2)
    with pytest.warns(MPTTWarning):
        trainer.fit(seeded(HeadOnly), faulty("x"))
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    earlier = torch.load(tmp_path / "new.ckpt", weights_only=True)
    del earlier["mptt_memory"]["refused"], earlier["mptt_memory"]["scaled"]
    torch.save(earlier, tmp_path / "earlier.ckpt")
    for name, before in (("new", 2 * LINKS), ("earlier", 0)):
        again = MPTTCallback(windows=WINDOWS)
        with pytest.warns(MPTTWarning):
            quiet_trainer([again], max_epochs=3).fit(seeded(HeadOnly), faulty("x"), ckpt_path=tmp_path / f"{name}.ckpt")
        assert again._memory is not None
        assert again._memory.refused.total == before + LINKS


@pytest.mark.parametrize(
    "settings", [{"max_refused": -1}, {"max_norm": 0.0}, {"max_norm": torch.nan}, {"max_norm": -1}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(MPTTError, match=f"{name} is a .* or None, found"):
        MPTTCallback(**settings)


# ---------------------------------------------------------------- the memory alone


def memory_of(max_norm: float | None = None, sizes: dict[str, int] | None = None) -> Memory:
    return Memory(WINDOWS, sizes or {"a": 2, "b": 1}, 1.0, Storage("cpu"), torch.float32, torch.device("cpu"), max_norm)


def test_refused_states_are_counted_by_the_window_that_passed_them_the_first_ones_first() -> None:
    for offload in (False, True):
        memory = memory_of()
        if offload:
            memory._offload = Offload(torch.device("cpu"))
        states = torch.ones(4, 3)
        states[1, 2] = torch.nan
        memory.write_rows(torch.tensor([3, 4, 5, 6]), states, torch.tensor([0, 7, 7, 2]), 4)
        memory.write_rows(torch.tensor([3, 4]), torch.full((2, 3), -torch.inf), torch.tensor([1, 7]), 5)
        count, batch, windows = memory.refused.found()
        assert (count, batch, windows.tolist()) == (3, 4, [7, 1])
        assert memory.refused.count.tolist() == [0, 1, 0, 0, 0, 0, 0, 2, 0]
        assert memory.maps["a"].count.tolist() == memory.maps["b"].count.tolist()
        assert memory.maps["a"].count[[3, 4, 5, 6]].tolist() == [1, 0, 1, 1]
        memory.close_epochs_before(1)
        assert (memory.refused.found()[0], memory.refused.total) == (0, 3)


def test_a_row_with_a_refused_and_a_good_write_is_as_old_as_the_good_one() -> None:
    for order in ([0, 1], [1, 0]):
        memory = memory_of()
        states = torch.stack([torch.ones(3), torch.full((3,), torch.nan)])[order]
        memory.write_rows(torch.tensor([3, 3]), states)
        assert memory.last_write[3] == 0
        assert (memory.last_write >= 0).sum() == 1


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_write_with_states_that_are_not_finite_does_not_wait_for_the_device(max_norm: float | None) -> None:
    memory = memory_of(max_norm)
    with Operations() as operations:
        memory.write_rows(torch.tensor([3, 4]), torch.full((2, 3), torch.nan), torch.tensor([0, 1]), 0)
    assert len(operations.names) > 5
    assert not {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal", "item"} & operations.names


# ---------------------------------------------------------------- max_norm


def test_a_state_over_max_norm_is_scaled_down_to_it_layer_by_layer_and_counted() -> None:
    memory = memory_of(max_norm=5.0)
    states = torch.tensor([[3.0, 4.0, 5.0], [6.0, 8.0, 1.0], [3e30, 4e30, -50.0], [torch.inf, 0.0, 0.0]])
    memory.write_rows(torch.tensor([3, 4, 5, 6]), states)
    assert torch.allclose(memory.maps["a"].mean[3:7], torch.tensor([[3.0, 4.0], [3, 4], [3, 4], [0, 0]]))
    assert torch.allclose(memory.maps["b"].mean[3:7, 0], torch.tensor([5.0, 1, -5, 0]))
    report = memory.report()
    assert (report["scaled"].item(), report["refused"].item()) == (2, 1)
    memory.link(torch.tensor([0]), torch.tensor([[30.0, 40.0, 2.0]]))
    assert torch.allclose(memory.maps["a"].mu[0], torch.tensor([3.0, 4]))
    memory.close_epochs_before(1)
    assert memory.report()["scaled"] == 0


class Explodes(Regressor):
    """relu, and weights that let the state grow without bound."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.RNN(FEATURES, 4, nonlinearity="relu", batch_first=True)
        nn.init.constant_(self.gru.weight_hh_l0, 2.0)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_exploding_states_are_bounded_on_request(warmup_epochs: int) -> None:
    norms, logged = [], Logged()
    for max_norm in (None, 10.0):
        series = in_order(stretches(7)) if warmup_epochs else None
        callback = MPTTCallback(windows=WINDOWS, max_norm=max_norm, warmup_epochs=warmup_epochs, series=series)
        with warnings.catch_warnings(action="ignore"):
            quiet_trainer([callback, logged], max_epochs=4).fit(seeded(Explodes), loader([IN_TURN] * 4))
        norms.append(callback.memory.mu.norm(dim=1).max().item())
    assert norms[0] > 1000
    assert 5 < norms[1] <= 10 * (1 + 1e-6)
    assert logged.found[-1]["mptt/scaled"] > 0


# ---------------------------------------------------------------- steps that are skipped


def test_states_of_a_step_that_the_gradient_scaler_skips_are_filed() -> None:
    """The weights stay as they are, so the states are those of the weights that go on."""

    class Overflows(Plain):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.loss(batch) * (1e36 if batch_idx == 0 else 1.0)  # times the scale, over float32

    module, counts = seeded(Overflows), []
    weights: list[Tensor] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *args: Any) -> None:
            assert outputs["loss"].isfinite()
            weights.append(module.gru.weight_hh_l0.detach().clone())
            counts.append(callback.memory.count.clone())

    callback = MPTTCallback(windows=WINDOWS)
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    before = module.gru.weight_hh_l0.detach().clone()
    with warnings.catch_warnings(record=True) as found:
        trainer = quiet_trainer([callback, Look()], max_epochs=1, plugins=[scaled])
        trainer.fit(module, DataLoader(Windows(), batch_size=3))
    assert torch.equal(weights[0], before), "the first step was skipped"
    assert not torch.equal(weights[1], before)
    filed = torch.zeros(len(TABLE), dtype=torch.int64)
    for _, v, _ in slow_links(TABLE, [TABLE[i] for i in IN_TURN[:3]]):
        filed[v] += 1
    assert torch.equal(counts[0], filed)
    assert filed.sum() > 0
    assert said(found) == []

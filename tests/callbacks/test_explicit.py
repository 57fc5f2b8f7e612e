"""Explicit mode: cores of any kind, that read `batch["h0"]` and return their states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from handmade import (
    FEATURES,
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
)
from oracle import slow_links
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import MPTTCallback, StatefulCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


class Explicit(Regressor):
    """Follows the agreement; `advance` is one step of the core, from state to state."""

    def __init__(self) -> None:
        super().__init__()
        del self.gru
        self.cell = nn.LSTMCell(FEATURES, 3)
        self.head = nn.Linear(3, 1)

    def advance(self, x: Tensor, state: Tensor) -> Tensor:
        h, c = self.cell(x, state.split(3, dim=1))
        return torch.cat([h, c], dim=1)

    def run(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states = []
        for step in x.unbind(1):
            state = self.advance(step, state)
            states.append(state)
        stacked = torch.stack(states, dim=1)
        return self.head(stacked[..., :3]), stacked

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        predicted, states = self.run(batch["x"], batch["h0"])
        error = (predicted - batch["y"])[batch["y"].isfinite()]
        return {"loss": error.square().mean(), "states": states}

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        predicted, states = self.run(batch["x"], batch["h0"])
        return {"predicted": predicted, "states": states}

    validation_step = test_step = predict_step


class StateSpace(Explicit):
    """h_t = A h_{t-1} + B x_t."""

    def __init__(self) -> None:
        super().__init__()
        del self.cell
        self.a = nn.Parameter(0.8 * torch.eye(3))
        self.b = nn.Parameter(torch.randn(3, FEATURES) * 0.1)

    def advance(self, x: Tensor, state: Tensor) -> Tensor:
        return state @ self.a.T + x @ self.b.T


def stepped(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    states = []
    for step in range(x.shape[1]):
        state = module.advance(x[:, step], state)
        states.append(state)
    visible = torch.stack([one[:, :3] for one in states], dim=1)
    return module.head(visible), {step: state.detach() for step, state in enumerate(states)}


@pytest.mark.parametrize(("module_class", "size"), [(Explicit, 6), (StateSpace, 3)])
def test_an_explicit_core_trains_as_by_hand(module_class: type[Explicit], size: int) -> None:
    orders, mine, other = shuffles(3), seeded(module_class), seeded(module_class)
    callback = MPTTCallback(state_size=size, windows=WINDOWS)
    expected = train_by_hand(other, stepped, size, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)
    assert (callback.memory.mu.abs().amax(dim=1) > 1e-3).tolist() == [start > 0 for _, start, _ in TABLE]


def test_the_module_itself_may_say_its_state_size() -> None:
    module = seeded(StateSpace)
    module.state_size = 3
    callback = MPTTCallback(windows=WINDOWS)
    quiet_trainer([callback], max_epochs=1).fit(module, loader(shuffles(1)))
    assert callback.memory.mu.shape == (len(TABLE), 3)


def test_evaluation_carries_the_state_of_an_explicit_core() -> None:
    module = seeded(Explicit)
    trainer = quiet_trainer([StatefulCallback(training=False, state_size=6)])
    chunks = trainer.predict(module, in_order(stretches(chunk=4)))
    whole = module.run(stretches(chunk=100)[0]["x"][:, :15], torch.zeros(2, 6))[0]
    longer = module.run(stretches(chunk=100)[0]["x"][:1], torch.zeros(1, 6))[0]
    assert torch.allclose(torch.cat([chunk["predicted"][0] for chunk in chunks]), longer[0], rtol=0, atol=1e-6)
    shorter = torch.cat([chunk["predicted"][1] for chunk in chunks if len(chunk["predicted"]) > 1])[:15]
    assert torch.allclose(shorter, whole[1], rtol=0, atol=1e-6)


def test_h0_has_the_dtype_of_the_module() -> None:
    seen = []

    class Look(Explicit):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            seen.append(batch["h0"].dtype)
            return super().training_step(batch, batch_idx)

    callback = MPTTCallback(state_size=6, windows=WINDOWS)
    quiet_trainer([callback], precision="64-true", max_epochs=2).fit(seeded(Look), loader(shuffles(2)))
    assert set(seen) == {torch.float64}
    assert callback.memory.mu.dtype == torch.float32


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda loss, states: {"loss": loss}, r"needs the states after each step.*found keys loss"),
        (lambda loss, states: loss, r"needs the states after each step.*found keys loss"),
        (lambda loss, states: {"loss": loss, "states": states[:, 0]}, r"\(3, \d or more, 6\), found \(3, 6\)"),
        (lambda loss, states: {"loss": loss, "states": states[:, :2]}, r"\(3, \d or more, 6\), found \(3, 2, 6\)"),
        (
            lambda loss, states: {"loss": loss, "states": states[..., :4]},
            r"\(3, \d or more, 6\), found \(3, 6, 4\)",
        ),
        (lambda loss, states: {"loss": loss, "states": states[:2]}, r"\(3, \d or more, 6\), found \(2, 6, 6\)"),
        (lambda loss, states: {"loss": loss, "states": (states, states)}, r"or more, 6\), found tuple"),
    ],
)
def test_states_missing_or_of_another_shape_are_refused(outputs: Any, message: str) -> None:
    class Wrong(Explicit):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            right = super().training_step(batch, batch_idx)
            return outputs(right["loss"], right["states"])

    trainer = quiet_trainer([MPTTCallback(state_size=6, windows=WINDOWS)])
    with pytest.raises(MPTTError, match=message):
        trainer.fit(Wrong(), loader(shuffles(1)))
    assert trainer.global_step == 1


def test_an_evaluation_step_that_returns_no_states_is_refused() -> None:
    class Silent(Explicit):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            pass

    trainer = quiet_trainer([MPTTCallback(state_size=6)])
    with pytest.raises(MPTTError, match=r"from the validation, test and predict steps: .* found NoneType"):
        trainer.validate(Silent(), in_order(stretches(4)))


def test_a_batch_that_training_step_skips_is_not_filed() -> None:
    class Skips(Explicit):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    order = list(range(len(TABLE)))
    callback = MPTTCallback(state_size=6, windows=WINDOWS, delta=0)
    quiet_trainer([callback], max_epochs=1).fit(seeded(Skips), loader([order], batch_size=1))
    reached = {v for _, v, _ in slow_links(TABLE, [TABLE[i] for i in order if i != 1])}
    assert set(callback.memory.mu.abs().amax(dim=1).nonzero().squeeze(1).tolist()) == reached < set(order)


def test_a_layer_and_a_state_size_together_are_refused() -> None:
    with pytest.raises(MPTTError, match=r"takes rnn= \(drop-in mode\) or state_size= \(explicit mode\), found both"):
        quiet_trainer([MPTTCallback(rnn="gru", state_size=4, windows=WINDOWS)]).fit(Regressor(), loader(shuffles(1)))

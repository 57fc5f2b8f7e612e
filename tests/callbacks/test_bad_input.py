"""What the plug-in cannot work with is refused, at the start of fit or the first batch, with a way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from handmade import FEATURES, LENGTH, TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mptt import MPTTError, WindowIndex
from mptt.callbacks import LearnedInitialStateCallback, MPTTCallback, SequentialStatefulCallback, StatefulCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


class Bidirectional(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, 2, batch_first=True, bidirectional=True)


class Packed(Regressor):
    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.full((len(x),), x.shape[1]), batch_first=True)
        return self.head(pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0])


class OwnState(Regressor):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x, hx=x.new_zeros(1, len(x), 4))[0])


class StepByStep(Regressor):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.gru(x[:, step : step + 1])[0] for step in range(x.shape[1])], dim=1))


class OneByOne(Regressor):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.gru(row.unsqueeze(0))[0] for row in x]))


class Unbatched(Regressor):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack([self.gru(row)[0] for row in x]))


@pytest.mark.parametrize(
    ("module_class", "message"),
    [
        (Bidirectional, "gru is bidirectional.*Use a layer of one direction"),
        (Packed, r"gru was called with a PackedSequence.*Feed padded tensors.*or use explicit mode \(state_size=\)"),
        (OwnState, r"passes its own initial state to gru\. Leave it out.*or use explicit mode"),
        (StepByStep, "gru was called with 1 steps, but the windows of this batch have 6"),
        (OneByOne, "gru was called with a batch of 1 rows, but the mini-batch has 3 windows"),
        (Unbatched, r"gru was called with input of shape \(6, 3\); it must be batched"),
    ],
)
def test_a_module_that_no_state_can_be_passed_through_is_refused(module_class: type[Regressor], message: str) -> None:
    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS)])
    with pytest.raises(MPTTError, match=message):
        trainer.fit(module_class(), loader(shuffles(1)))
    assert trainer.global_step == 0  # in the first epoch already, when all start from zeros


def batch(**more: Any) -> dict[str, Any]:
    return {"x": torch.zeros(2, LENGTH, FEATURES), "y": torch.zeros(2, LENGTH, 1), **more}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([torch.zeros(2, LENGTH, FEATURES), torch.zeros(2, LENGTH, 1)], r"batch\['window'\].*found a list"),
        (batch(), r"batch\['window'\].*found a dict with x, y\. Let the dataset return a dict"),
        (batch(window=torch.tensor([0, len(TABLE)])), f"ids go from 0 to {len(TABLE) - 1}, found 0 to {len(TABLE)}"),
        (batch(window=torch.tensor([-1, 0])), f"ids go from 0 to {len(TABLE) - 1}, found -1 to 0"),
        (batch(window=torch.tensor([0.0, 1.0])), "1-d tensor of integers, found float32"),
        (batch(window=torch.tensor([[0], [1]])), r"1-d tensor of integers, found int64 of shape \(2, 1\)"),
        (batch(window=torch.tensor([0, 1, 2])), "called with a batch of 2 rows, but the mini-batch has 3 windows"),
    ],
)
def test_a_batch_that_does_not_say_its_windows_is_refused(found: Any, message: str) -> None:
    with pytest.raises(MPTTError, match=message):
        quiet_trainer([MPTTCallback(windows=WINDOWS)]).fit(seeded(Regressor), in_order([found]))


@pytest.mark.parametrize("window", [[0, 1], torch.tensor([0, 1], dtype=torch.int32)])
def test_ids_of_any_kind_of_integers_do(window: Any) -> None:
    callback = MPTTCallback(windows=WINDOWS)
    quiet_trainer([callback], max_epochs=1).fit(seeded(Regressor), in_order([batch(window=window)]))
    assert callback.memory.mu.abs().sum() > 0


@pytest.mark.parametrize("windows", [None, [0, 1, 2]])
def test_no_table_of_windows_is_refused_before_training(windows: Any) -> None:
    with pytest.raises(MPTTError, match=r"needs the table of training windows, found \w+: pass windows=WindowIndex"):
        quiet_trainer([MPTTCallback(windows=windows)]).fit(seeded(Regressor), loader(shuffles(1)))


@pytest.mark.parametrize("name", ["delta", "zero_init_epochs", "warmup_epochs"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_negative_setting_is_refused(name: str, value: float) -> None:
    with pytest.raises(MPTTError, match=f"{name} must be 0 or more, found {value}"):
        MPTTCallback(**{name: value})


def test_there_is_no_memory_before_fit() -> None:
    with pytest.raises(MPTTError, match="no memory before the start of fit"):
        _ = MPTTCallback().memory


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([MPTTCallback(), StatefulCallback(evaluation=None)], "in training, found MPTTCallback, StatefulCallback"),
        (
            [MPTTCallback(), StatefulCallback(training=False)],
            "in evaluation, found MPTTCallback, StatefulCallback; keep one or pass evaluation=None to the others",
        ),
        (
            [SequentialStatefulCallback(evaluation=None), LearnedInitialStateCallback(evaluation=None)],
            "in training, found SequentialStatefulCallback, LearnedInitialStateCallback",
        ),
    ],
)
def test_two_callbacks_for_one_thing_are_refused(callbacks: list[Any], said: str) -> None:
    with pytest.raises(MPTTError, match=f"Only one callback can set the initial states {said}"):
        quiet_trainer(callbacks).fit(seeded(Regressor), loader(shuffles(1)))


def test_one_may_train_and_another_evaluate() -> None:
    apart = [MPTTCallback(windows=WINDOWS, evaluation=None), StatefulCallback(training=False)]
    together = [MPTTCallback(windows=WINDOWS)]
    found = []
    for callbacks in (apart, together):
        module, trainer = seeded(Regressor), quiet_trainer(callbacks)
        trainer.fit(module, loader(shuffles(3)), in_order(stretches(7)))
        found.append((trainer.callback_metrics["val_loss"], module.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())

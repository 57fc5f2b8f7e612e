"""What the callback logs of its memory, on a case small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from handmade import in_order, quiet_trainer
from pytorch_lightning import Callback, LightningModule
from torch import Tensor

from mptt import WindowIndex
from mptt.callbacks import MPTTCallback

# Windows 0 (steps 0-3), 1 (2-5), 2 (4-7) and, of another site, 3: 0 writes to 1 and 2, 1 writes to 2.
WINDOWS = WindowIndex(site=[0, 0, 0, 1], start=[0, 2, 4, 0], length=4)


class Sums(LightningModule):
    """A core whose state is h0 plus the sum of the inputs so far, and that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return {"loss": self.weight.sum(), "states": batch["h0"].unsqueeze(1) + batch["x"].cumsum(1)}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Logged(Callback):
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        names = ("mptt/share", "mptt/age", "mptt/distance")
        self.epochs.append({name[5:]: trainer.callback_metrics[name].item() for name in names})


def test_share_age_and_distance_are_those_by_hand() -> None:
    x = torch.tensor([1.0, 0.0]).expand(1, 4, 2)  # S = 2, each step adds (1, 0)

    def batches(ids: list[int]) -> list[dict[str, Tensor]]:
        return [{"x": x, "window": torch.tensor([i])} for i in ids]

    orders = [[0, 1], [0, 1], [3], [0]]

    class InTurn:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            return iter(batches(orders[trainer.current_epoch]))

    callback, logged = MPTTCallback(delta=1.0, state_size=2, windows=WINDOWS), Logged()
    trainer = quiet_trainer([callback, logged], max_epochs=4)
    trainer.fit(Sums(), InTurn())

    # All in the first component.
    # Epoch 0, from zeros. 0 writes 2 to window 1 and 4 to window 2 (no messages yet, nothing to compare);
    #   1 writes 2 to window 2, whose message was (1*0 + 1*4)/(1 + 1) = 2: distance 0.
    #   mu_1 = (0 + 2)/2 = 1, mu_2 = (0 + 4 + 2)/3 = 2.
    # Epoch 1. 0 writes 2 to 1 (message 1: 1) and 4 to 2 (message 2: 2). 1 reads (1 + 2)/2 = 1.5 and writes 3.5 to 2,
    #   whose message is (2 + 4)/2 = 3: 0.5. Over 2 units, root mean square: (1 + 2 + 0.5)/3/sqrt(2).
    #   mu_1 = 1.5, mu_2 = (2 + 4 + 3.5)/3 = 9.5/3.
    # Epoch 2. Nothing is written: messages are one epoch old.
    # Epoch 3. 0 writes 2 to 1 (message 1.5: 0.5) and 4 to 2 (message 9.5/3: 2.5/3).
    root = 2**0.5
    expected = [
        {"share": 0.5, "age": 0.0, "distance": 0.0},
        {"share": 0.5, "age": 0.0, "distance": 3.5 / 3 / root},
        {"share": 0.5, "age": 1.0, "distance": 0.0},
        {"share": 0.5, "age": 0.0, "distance": (0.5 + 2.5 / 3) / 2 / root},
    ]
    for found, by_hand in zip(logged.epochs, expected, strict=True):
        assert found == pytest.approx(by_hand, abs=1e-6)
    assert callback.memory.mu[:, 0].tolist() == pytest.approx([0.0, 1.75, (9.5 / 3 + 4) / 2, 0.0])


def test_the_age_of_messages_is_their_mean() -> None:
    batches = [[{"x": torch.ones(1, 4, 2), "window": torch.tensor([i])} for i in ids] for ids in ([0], [1], [1])]

    class InTurn:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter(batches[trainer.current_epoch])

    logged = Logged()
    trainer = quiet_trainer([MPTTCallback(state_size=2, windows=WINDOWS), logged], max_epochs=3)
    trainer.fit(Sums(), InTurn())
    # Window 1 was last written in epoch 0, window 2 in every epoch.
    assert [epoch["age"] for epoch in logged.epochs] == [0.0, 0.5, 1.0]


def test_no_window_has_a_message_in_warm_up_and_all_but_the_first_after_it() -> None:
    series = [
        {"x": torch.ones(1, 8, 2), "site": torch.tensor([0]), "start": torch.tensor([0]), "length": torch.tensor([8])}
    ]

    class Linkable(Sums):
        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return {"states": batch["h0"].unsqueeze(1) + batch["x"].cumsum(1)}

    callback, logged = MPTTCallback(state_size=2, windows=WINDOWS, warmup_epochs=1, series=series), Logged()
    training = in_order([{"x": torch.ones(1, 4, 2), "window": torch.tensor([0])}])
    quiet_trainer([callback, logged], max_epochs=2).fit(Linkable(), training)
    assert [epoch["share"] for epoch in logged.epochs] == [0.0, 0.5]
    # Linked: 2 and 4. Window 0 then writes 2 and 4, which is what the messages are.
    assert logged.epochs[1]["distance"] == 0.0
    assert callback.memory.mu[:, 0].tolist() == [0.0, 2.0, 4.0, 0.0]

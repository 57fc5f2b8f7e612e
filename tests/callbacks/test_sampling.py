"""Scheduled sampling: the predictions of one epoch are inputs of the next, ever more often."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import in_order, quiet_trainer, seeded
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import ScheduledSamplingCallback, StepLimit
from mptt.callbacks.sampling import DECAYS

WINDOWS = WindowIndex([0, 0, 0], [0, 2, 4], 4)
IDS = [[2, 0], [1]]


class Counts(pl.LightningModule):
    """Predicts 1000 (epoch + 1) + 10 window + step, whatever it reads, and keeps what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.read: dict[tuple[int, int], list[float]] = {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        for row, window in enumerate(batch["window"].tolist()):
            assert torch.equal(batch["x"][row, :, 0], torch.full((4,), 7.0)), "the known input stays"
            self.read[self.current_epoch, window] = batch["x"][row, :, 1].tolist()
        step = torch.arange(4.0)
        predicted = 1000 * (self.current_epoch + 1) + 10 * batch["window"][:, None] + step
        return {"loss": self.weight * 0, "prediction": predicted.unsqueeze(2)}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(ids: list[list[int]] = IDS) -> Any:
    """The true lagged target of step s of window w is -(10 w + s)."""
    made = []
    for row in ids:
        lag = -(10.0 * torch.tensor(row)[:, None] + torch.arange(4))
        x = torch.stack([torch.full_like(lag, 7.0), lag], dim=2)
        made.append({"x": x, "window": torch.tensor(row)})
    return in_order(made)


def fit(decay: Any, epochs: int = 3, **settings: Any) -> Counts:
    module = Counts()
    callback = ScheduledSamplingCallback(decay, windows=WINDOWS, lagged_columns=1, **settings)
    quiet_trainer([callback], max_epochs=epochs).fit(module, batches())
    return module


def test_never_true_reads_the_predictions_of_the_epoch_before_one_step_later() -> None:
    read = fit(lambda progress: 0.0).read
    for window in range(3):
        true = [-(10.0 * window + step) for step in range(4)]
        assert read[0, window] == true, "nothing was predicted before the first epoch"
        for epoch in (1, 2):
            predicted = [1000.0 * epoch + 10 * window + step for step in range(3)]
            assert read[epoch, window] == [true[0], *predicted]


def test_always_true_reads_the_truth() -> None:
    read = fit(lambda progress: 1.0).read
    assert all(values == [-(10.0 * window + step) for step in range(4)] for (_, window), values in read.items())


def test_the_coin_follows_the_probability_of_the_epoch() -> None:
    probability = {0: 1.0, 1: 0.3, 2: 0.75}
    n, steps = 400, 11
    windows = WindowIndex(torch.zeros(n).numpy().astype(int), range(n), steps)

    class Reads(Counts):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            self.read[self.current_epoch, 0] = (batch["x"][:, 1:, 1] == -1).float().mean().item()  # type: ignore[assignment]
            return {"loss": self.weight * 0, "prediction": torch.ones(n, steps, 1)}

    x = torch.full((n, steps, 2), -1.0)
    module = Reads()
    callback = ScheduledSamplingCallback(
        lambda progress: probability[round(progress * 3)], seed=1, windows=windows, lagged_columns=1
    )
    quiet_trainer([callback]).fit(module, in_order([{"x": x, "window": torch.arange(n)}]))
    for epoch, expected in probability.items():
        error = (expected * (1 - expected) / (n * (steps - 1))) ** 0.5
        assert abs(module.read[epoch, 0] - expected) <= 5 * error, epoch  # type: ignore[operator]


def test_the_default_decay_is_the_papers() -> None:
    decay = DECAYS["inverse_sigmoid"]
    assert decay(0.5) == pytest.approx(0.5)
    assert decay(0.0) == pytest.approx(1 / (1 + math.exp(-5)))
    assert decay(0.79) == pytest.approx(1 / (1 + math.exp(2.9)))
    assert decay(0.8) == 0
    assert decay(1.0) == 0
    assert ScheduledSamplingCallback().decay is decay


def test_other_decays() -> None:
    assert DECAYS["linear"](0.25) == 0.75
    assert DECAYS["exponential"](0.5) == pytest.approx(0.1)
    with pytest.raises(MPTTError, match="There is no decay 'cosine'; decays are inverse_sigmoid, linear, exponential"):
        ScheduledSamplingCallback("cosine")
    with pytest.raises(MPTTError, match=r"probabilities from 0 to 1; at 0 it gave 1\.5"):
        fit(lambda progress: 1.5)


@pytest.mark.parametrize(
    ("budget", "at"),
    [
        ({"max_epochs": 4}, [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]),
        ({"max_epochs": -1, "max_steps": 5}, [0, 0.2, 0.4, 0.6, 0.8]),
        ({"max_epochs": -1, "steps": 4}, [0, 0.25, 0.5, 0.75]),
    ],
)
def test_progress_is_counted_in_epochs_or_steps(budget: dict[str, int], at: list[float]) -> None:
    seen: list[float] = []

    def decay(progress: float) -> float:
        seen.append(progress)
        return 0.5

    callback = ScheduledSamplingCallback(decay, windows=WINDOWS, lagged_columns=1)
    limit = [StepLimit(budget["steps"])] if "steps" in budget else []
    quiet_trainer([callback, *limit], **_but_steps(budget)).fit(Counts(), batches())
    assert seen == pytest.approx(at)


def _but_steps(budget: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in budget.items() if name != "steps"}


def test_progress_is_counted_in_time_and_needs_an_end() -> None:
    seen: list[float] = []

    def decay(progress: float) -> float:
        seen.append(progress)
        return 0.5

    callback = ScheduledSamplingCallback(decay, windows=WINDOWS, lagged_columns=1)
    limits = {"max_epochs": -1, "max_time": timedelta(seconds=0.5)}
    quiet_trainer([callback], **limits).fit(Counts(), batches())
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= 1
    with pytest.raises(MPTTError, match="no end to count from; give the Trainer max_epochs"):
        quiet_trainer([callback], max_epochs=-1).fit(Counts(), batches())


def test_a_resumed_run_reads_what_it_would_have(tmp_path: Any) -> None:
    whole = fit("linear", epochs=4, seed=3)
    callback = ScheduledSamplingCallback(lambda p: 1 - p / 2, seed=3, windows=WINDOWS, lagged_columns=1)
    trainer = quiet_trainer([callback], max_epochs=2)
    trainer.fit(Counts(), batches())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = Counts()
    callback = ScheduledSamplingCallback("linear", seed=3, windows=WINDOWS, lagged_columns=1)
    quiet_trainer([callback], max_epochs=4).fit(resumed, batches(), ckpt_path=str(tmp_path / "run.ckpt"))
    late = {key: values for key, values in whole.read.items() if key[0] >= 2}
    assert resumed.read == late
    other = ScheduledSamplingCallback(windows=WindowIndex([0, 0], [0, 2], 4), lagged_columns=1)
    with pytest.raises(MPTTError, match=r"predictions are of \(3, 4, 1\).*here they are \(2, 4, 1\)"):
        quiet_trainer([other], max_epochs=4).fit(Counts(), batches(), ckpt_path=str(tmp_path / "run.ckpt"))


def test_a_step_that_returns_a_loss_alone_is_refused() -> None:
    class Plain(Counts):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return self.weight * 0

    callback = ScheduledSamplingCallback(windows=WINDOWS, lagged_columns=1)
    with pytest.raises(MPTTError, match='return them as "prediction"'):
        quiet_trainer([callback]).fit(seeded(Plain), batches())


def test_a_skipped_batch_keeps_what_was_predicted() -> None:
    class Skips(Counts):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            found = super().training_step(batch, batch_idx)
            return None if self.current_epoch == 1 else found

    module = Skips()
    callback = ScheduledSamplingCallback(lambda progress: 0.0, windows=WINDOWS, lagged_columns=1)
    quiet_trainer([callback]).fit(module, batches())
    assert module.read[2, 1] == [-10.0, 1010.0, 1011.0, 1012.0]

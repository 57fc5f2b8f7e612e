"""The horizon that is logged: right for a core whose memory is known, and without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import TABLE, Regressor, assert_same_weights, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from torch import Tensor

from mptt import MPTTError, WindowIndex
from mptt.callbacks import HorizonCallback, MPTTCallback, StatefulCallback


class Fading(pl.LightningModule):
    """h' = a h + x, by agreement."""

    state_size = 1

    def __init__(self, keeps: float) -> None:
        super().__init__()
        self.keeps, self.weight = keeps, torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        state, found = batch["h0"], []
        for x in batch["x"].unbind(1):
            state = self.keeps * state + x
            found.append(state)
        states = torch.stack(found, dim=1)
        return {"prediction": states, "states": states}


def batch(steps: int = 60, rows: int = 2) -> dict[str, Any]:
    x = torch.rand(rows, steps, 1, dtype=torch.float64) + 1
    site = torch.arange(rows)
    return {"x": x, "site": site, "start": torch.zeros_like(site), "length": torch.full((rows,), steps)}


def looked(callback: HorizonCallback, module: pl.LightningModule, *batches: Any) -> dict[str, float]:
    (found,) = quiet_trainer([callback, StatefulCallback(training=False)]).validate(
        module, in_order(batches or [batch()]), verbose=False
    )
    return {
        name: value for name, value in found.items() if name in ("mptt/horizon_5", "mptt/horizon_1", "mptt/half_life")
    }


def test_the_horizon_of_a_known_decay_is_logged() -> None:
    found = looked(HorizonCallback(steps=20, spin_up=20), Fading(0.5))
    # 0.5 ** 4 = 0.063, 0.5 ** 5 = 0.031; 0.5 ** 6 = 0.016, 0.5 ** 7 = 0.008
    assert found == {"mptt/horizon_5": 5, "mptt/horizon_1": 7, "mptt/half_life": pytest.approx(1)}


def test_what_outlasts_the_run_is_logged_as_its_steps() -> None:
    found = looked(HorizonCallback(steps=12, spin_up=12), Fading(0.99))
    assert found == {"mptt/horizon_5": 12, "mptt/horizon_1": 12, "mptt/half_life": 12}


def test_a_short_batch_is_divided_in_three() -> None:
    found = looked(HorizonCallback(), Fading(0.99), batch(30))
    assert found["mptt/horizon_5"] == 10


def test_the_true_state_is_that_of_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    module, callback, given = Fading(0.5), HorizonCallback(starts=3, steps=10, spin_up=10), batch()
    seen: list[tuple[Tensor, Tensor]] = []
    own = module.validation_step

    def watch(one: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((one["x"], one["h0"]))
        return own(one)

    monkeypatch.setattr(Fading, "validation_step", lambda self, batch: watch(batch))
    looked(callback, module, given)
    _, _, (x, true), (again, zeros) = seen  # of the loop, of the spin-up, from the true states, from zeros
    dates = [10, 17, 24]
    assert x.equal(again)
    assert (zeros == 0).all()
    for row in range(2):
        for nth, date in enumerate(dates):
            assert x[row * 3 + nth].equal(given["x"][row, date : date + 10])
            state = torch.zeros(1, dtype=torch.float64)
            for step in given["x"][row, :date]:
                state = 0.5 * state + step
            torch.testing.assert_close(true[row * 3 + nth], state)


@pytest.mark.parametrize("first", [True, False])
def test_training_and_scores_are_those_without_it(first: bool) -> None:
    found = []
    for mine in ([], [HorizonCallback(every=1, steps=3, spin_up=2)]):
        module = seeded(Regressor)
        windows = WindowIndex(*zip(*TABLE, strict=True))
        callbacks = [*mine, MPTTCallback(windows=windows)] if first else [MPTTCallback(windows=windows), *mine]
        trainer = quiet_trainer(callbacks, num_sanity_val_steps=2)
        trainer.fit(module, loader(shuffles(3)), in_order(stretches(7)))
        found.append((module, trainer.callback_metrics, torch.rand(1)))
    (plain, scores, drawn), (module, logged, drawn_too) = found
    assert_same_weights(plain, module)
    assert drawn.equal(drawn_too)
    assert {name: value for name, value in logged.items() if name in scores} == scores
    assert set(logged) - set(scores) == {"mptt/horizon_5", "mptt/horizon_1", "mptt/half_life"}
    assert "forward" not in module.gru.__dict__


def test_it_looks_every_few_epochs() -> None:
    class Counting(HorizonCallback):
        looks = 0

        def _look(self, *args: Any) -> dict[str, float]:
            self.looks += 1
            return super()._look(*args)

    callback = Counting(every=2, steps=3, spin_up=2)
    trainer = quiet_trainer([callback, StatefulCallback(training=False)], max_epochs=5, num_sanity_val_steps=1)
    trainer.fit(seeded(Regressor), loader(shuffles(5)), in_order(stretches(7)))
    assert callback.looks == 3


@pytest.mark.parametrize(
    "given", [{"x": torch.zeros(2, 2, 1)}, {"x": torch.zeros(2, 9)}, {"input": torch.zeros(2, 9, 1)}]
)
def test_batches_without_series_are_refused(given: dict[str, Tensor]) -> None:
    class Silent(Fading):
        def validation_step(self, batch: dict[str, Tensor]) -> None:
            pass

    with pytest.raises(MPTTError, match=r"needs validation batches that are dicts with x \(batch, step, input\)"):
        quiet_trainer([HorizonCallback()]).validate(Silent(0.5), in_order([given]), verbose=False)


def test_numbers_under_one_are_refused() -> None:
    with pytest.raises(MPTTError, match="steps of HorizonCallback must be 1 or more, found 0"):
        HorizonCallback(steps=0)

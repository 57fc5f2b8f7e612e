"""States that stop being finite in evaluation or linkage: the site is named, and from when on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from handmade import FEATURES, TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from torch import Tensor, nn

from mptt import MPTTError, MPTTWarning, WindowIndex
from mptt.callbacks import MPTTCallback, StatefulCallback
from mptt.datamodules import SeriesDataModule
from mptt.inference import Parallel, infer
from mptt.tap import first_lost

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


def with_nan(site: int, step: int, chunk: int = 7) -> list[dict[str, Tensor]]:
    """The batches of both sites, padded with NaN, and one input of a site NaN."""
    batches = stretches(chunk)
    for batch in batches:
        for row, (s, start, length) in enumerate(
            zip(*(batch[key] for key in ("site", "start", "length")), strict=True)
        ):
            batch["x"][row, length:] = torch.nan
            if s == site and start <= step < start + length:
                batch["x"][row, step - start, 0] = torch.nan
    return batches


def said(found: Any) -> list[str]:
    return [str(one.message) for one in found if issubclass(one.category, MPTTWarning)]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.parametrize("step", [0, 6, 7, 12])
def test_the_site_and_the_first_step_are_named_whatever_the_stretches(verb: str, step: int) -> None:
    trainer = quiet_trainer([StatefulCallback(training=False)])
    with pytest.warns(MPTTWarning) as found:
        getattr(trainer, verb)(seeded(Regressor), in_order(with_nan(1, step)))
    assert said(found) == [
        f"States are not finite in this {verb} pass: site 1 from step {step} on. Predictions there from then on, and"
        " scores over them, mean nothing. The weights are finite: look at the inputs of the site at that step."
    ]


def test_finite_states_are_not_spoken_of_whatever_the_padding() -> None:
    with warnings.catch_warnings(record=True) as found:
        quiet_trainer([StatefulCallback(training=False)]).validate(seeded(Regressor), in_order(with_nan(5, 0)))
    assert said(found) == []


def test_a_pass_after_a_lost_one_is_not_lost() -> None:
    module, callback = seeded(Regressor), StatefulCallback(training=False)
    trainer = quiet_trainer([callback])
    with pytest.warns(MPTTWarning, match=r"site 0 from step 3 on\."):
        trainer.validate(module, in_order(with_nan(0, 3)), verbose=False)
    with warnings.catch_warnings(record=True) as found:
        (again,) = trainer.validate(module, in_order(stretches(7)), verbose=False)
    assert said(found) == []
    assert np.isfinite(again["val_loss"])


def test_cells_of_an_lstm_that_no_output_shows_are_seen_at_the_end_of_their_stretch() -> None:
    class Cells(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.LSTM(FEATURES, 4, batch_first=True)

    callback = StatefulCallback(training=False)
    with pytest.warns(MPTTWarning, match=r"site 0 from step 6 on, site 1 from step 6 on\."):
        quiet_trainer([callback, InfiniteCells(callback)]).validate(seeded(Cells), in_order(stretches(7)))


class InfiniteCells(pl.Callback):
    """Makes the cells that the callback caught infinite."""

    def __init__(self, callback: StatefulCallback) -> None:
        self.callback = callback

    def on_validation_batch_start(self, *args: Any) -> None:
        tap = self.callback._core._taps[0]  # type: ignore[union-attr]
        detach = tap.detach

        def infinite() -> Any:
            caught = detach()
            if caught is not None:
                caught[:, 4:] = torch.inf
            return caught

        tap.detach = infinite


def test_explicit_states_are_looked_at_step_by_step() -> None:
    class Sums(pl.LightningModule):
        state_size = 1

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return {"states": batch["h0"].unsqueeze(1) + batch["x"][..., :1].cumsum(1) * self.weight}

    with pytest.warns(MPTTWarning, match=r"site 1 from step 9 on\."):
        quiet_trainer([StatefulCallback(training=False)]).validate(Sums(), in_order(with_nan(1, 9)))


def test_weights_that_are_not_finite_are_told_as_the_reason_each_epoch() -> None:
    class Diverges(Regressor):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.loss(batch) * torch.nan

    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS)], max_epochs=2, num_sanity_val_steps=1)
    with pytest.warns(MPTTWarning) as found:
        trainer.fit(seeded(Diverges), loader(shuffles(2)), in_order(stretches(7)))
    passes = [one for one in said(found) if "validate pass" in one]
    assert len(passes) == 2
    for one in passes:
        assert "site 0 from step 0 on, site 1 from step 0 on." in one
        assert "The weights are not finite (gru.weight_ih_l0" in one


def test_sites_and_dates_are_those_of_the_data_module() -> None:
    class BreaksDown(pl.LightningModule):
        """In validation, at step 30 of the second site; in linkage, everywhere from step 40 of the part."""

        def __init__(self, stage: str) -> None:
            super().__init__()
            self.stage = stage
            self.gru, self.head = nn.GRU(1, 2, batch_first=True), nn.Linear(2, 1)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.head(self.gru(batch["x"])[0]).square().mean()

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            x = batch["x"].clone()
            if self.stage == "validate":
                x[batch["site"] == 1, 30] = torch.nan
            self.gru(x)

        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            x = batch["x"].clone()
            if self.stage == "link":
                x[batch["site"] == 1, 40:] = torch.nan
            self.gru(x)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    time = pd.date_range("2001-01-01", periods=200, unit="s")
    values = xr.DataArray(np.random.default_rng(0).normal(size=(2, 200)), coords={"site": ["alp", "bog"], "time": time})
    dataset = xr.Dataset({"rain": values, "flow": values})

    def data() -> SeriesDataModule:
        return SeriesDataModule(
            dataset, inputs=["rain"], targets=["flow"], window=20, stride=10, split=(0.5, 0.25, 0.25)
        )

    # Validation begins with day 100 of the record, 2001-04-11.
    with pytest.warns(MPTTWarning, match=r"site 1 from step 30 on \(bog, 2001-05-11\)\."):
        quiet_trainer([MPTTCallback()], max_epochs=1, num_sanity_val_steps=0).fit(
            BreaksDown("validate"), datamodule=data()
        )
    # Loaders of somebody's own are of no part of the DataModule: no date is better than a wrong one.
    whole = data()
    whole.setup()
    trainer = quiet_trainer([MPTTCallback()], max_epochs=1)
    trainer.datamodule = whole  # type: ignore[attr-defined]
    with pytest.warns(MPTTWarning, match=r"site 1 from step 30 on\."):
        trainer.validate(BreaksDown("validate"), whole.val_dataloader(), verbose=False)
    # Windows begin each 10 steps: that at 40 starts from the state after step 39, that at 50 from one that is lost.
    first = int(np.flatnonzero((whole.windows.site == 1) & (whole.windows.start == 50))[0])
    with pytest.raises(
        MPTTError, match=rf"not finite, first for windows {first} \(site 1, start 50: bog, 2001-02-20\)"
    ):
        quiet_trainer([MPTTCallback(warmup_epochs=1)], max_epochs=2).fit(BreaksDown("link"), datamodule=data())


@pytest.mark.parametrize(("verb", "as_dict"), [("validate", True), ("test", True), ("predict", False)])
@pytest.mark.parametrize("initial", [False, True])
def test_predictions_of_windows_from_zero_state_are_looked_at(verb: str, as_dict: bool, initial: bool) -> None:
    class Shows(Regressor):
        def __init__(self) -> None:
            super().__init__()
            if initial:
                self.initial_state = nn.Parameter(torch.zeros(4))

        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return {"prediction": self(batch["x"])} if as_dict else self(batch["x"])

        validation_step = test_step = predict_step

    trainer = quiet_trainer([StatefulCallback(training=False, evaluation="independent")])
    module = seeded(Shows)
    with pytest.warns(MPTTWarning) as found:
        getattr(trainer, verb)(module, in_order(with_nan(1, 9)))
    assert said(found) == [
        f"Predictions are not finite in this {verb} pass: site 1 from step 9 on in the window that starts at step 7."
        " Predictions of such windows, and scores over them, mean nothing. The weights are finite: look at the inputs"
        " of the site at that step."
    ]
    with warnings.catch_warnings(record=True) as found:  # the padding is NaN, too, and a later pass is another
        getattr(trainer, verb)(module, in_order(with_nan(5, 0)))
    assert said(found) == []


@pytest.mark.parametrize("outputs", [None, "text", {}, torch.full((2, 3), torch.nan), torch.ones(9, 7, 1)])
def test_evaluation_from_zero_state_asks_nothing_of_batch_or_step(outputs: Any) -> None:
    class Own(Regressor):
        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return outputs

    trainer = quiet_trainer([StatefulCallback(training=False, evaluation="independent")])
    for batches in (stretches(7), [{"x": torch.ones(2, 3, FEATURES), "site": "alp"}]):
        trainer.predict(seeded(Own), in_order(batches), return_predictions=False)


# ---------------------------------------------------------------- parallel inference


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_chunks_that_are_lost_leave_the_others_as_a_walk_gives_them(bad: float) -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(2, 3, batch_first=True), torch.randn(3, 900, 2)
    expected = gru(x)[0].detach()
    x[1, 500] = bad
    walked = gru(x)[0].detach()
    parallel = Parallel(chunk=50)
    inferred = infer(gru, x, parallel=parallel)
    assert torch.allclose(inferred.output, walked, atol=1e-4, equal_nan=True)
    assert torch.allclose(inferred.output[[0, 2]], expected[[0, 2]], atol=1e-4)
    assert not inferred.output[1, 500:].isfinite().all()
    # The next pass begins with what this one found; it must not be lost with it.
    x[1, 500] = 0.5
    guess = inferred.guess
    again = infer(gru, x, parallel=parallel, guess=guess)
    assert torch.allclose(again.output, gru(x)[0], atol=1e-4)
    assert again.done.in_order == 0
    assert again.guess is not None
    assert again.guess.states.isfinite().all()
    assert again.guess.response.isfinite().all()


def test_first_lost_against_a_loop() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        states = torch.randn(4, 6, 2)
        states[torch.from_numpy(random.random((4, 6, 2)) < 0.1)] = torch.nan
        states[torch.from_numpy(random.random((4, 6, 2)) < 0.1)] = -torch.inf
        length = random.integers(1, 7, size=4)
        expected = [
            next((step for step in range(length[row]) if not states[row, step].isfinite().all()), int(length[row]))
            for row in range(4)
        ]
        assert first_lost(states, length).tolist() == expected

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt import MPTTError, fastgru
from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.records import score_table
from mptt.experiments.regressor import SequenceRegressor
from mptt.fastgru import FastGRU
from mptt.recurrent import state_size

Make = Callable[..., xr.Dataset]
MakeData = Callable[..., SeriesDataModule]
MakeTrainer = Callable[..., pl.Trainer]


@pytest.mark.parametrize(("core", "kind"), [("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM), ("rnn", torch.nn.RNN)])
@pytest.mark.parametrize("layers", [1, 2])
def test_cores_layers_and_dropout(core: str, kind: type, layers: int) -> None:
    model = SequenceRegressor(3, 2, core=core, hidden_size=5, num_layers=layers, dropout=0.5)  # type: ignore[arg-type]
    assert type(model.core) is kind
    assert model.core.num_layers == layers
    x = torch.randn(4, 7, 3)
    assert model(x).shape == (4, 7, 2)
    assert not torch.equal(model(x), model(x)), "dropout in training"
    model.eval()
    assert torch.equal(model(x), model(x))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(MPTTError, match="gru, fast_gru, lstm, rnn"):
        SequenceRegressor(3, core="gur")  # type: ignore[arg-type]
    with pytest.raises(MPTTError, match="found 0 and 1"):
        SequenceRegressor(0)


def test_fast_gru_predicts_what_gru_does() -> None:
    pytest.importorskip("numba", reason='the core fast_gru needs numba: pip install "mptt[fast]"')
    slow = SequenceRegressor(3, 2, core="gru", hidden_size=5, num_layers=2)
    fast = SequenceRegressor(3, 2, core="fast_gru", hidden_size=5, num_layers=2)
    assert type(fast.core) is FastGRU
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(4, 7, 3)
    torch.testing.assert_close(fast(x), slow(x), rtol=0, atol=1e-6)


def test_fast_gru_without_numba_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "mptt.grukernels", raising=False)
    monkeypatch.delattr("mptt.grukernels", raising=False)
    fastgru._kernels.cache_clear()
    with pytest.raises(MPTTError, match=r'pip install "mptt\[fast\]"'):
        SequenceRegressor(3, core="fast_gru")


def test_loss_is_the_mean_over_observed_steps_alone() -> None:
    model = SequenceRegressor(1, 2, hidden_size=3)
    model.log = lambda *args, **settings: None  # type: ignore[method-assign,assignment]
    x, y, mask = torch.randn(2, 4, 1), torch.randn(2, 4, 2), torch.rand(2, 4, 2) > 0.5
    by_hand = np.mean([(model(x)[i, t, k] - y[i, t, k]).item() ** 2 for i, t, k in torch.nonzero(mask)])
    found = model.training_step({"x": x, "y": y, "mask": mask}, 0)
    assert found["loss"].item() == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(found["prediction"], model(x))
    assert not found["prediction"].requires_grad
    nothing = model.training_step({"x": x, "y": y, "mask": torch.zeros_like(mask)}, 0)["loss"]
    nothing.backward()
    assert nothing.item() == 0


@pytest.mark.parametrize(("core", "layers"), [("gru", 1), ("lstm", 1), ("lstm", 2), ("rnn", 1)])
def test_stepper_goes_step_by_step_without_dropout(core: Any, layers: int) -> None:
    torch.manual_seed(0)
    model = SequenceRegressor(3, 2, core=core, hidden_size=4, num_layers=layers, dropout=0.5).eval()
    x, state = torch.randn(5, 7, 3), torch.zeros(5, state_size(model.core))
    step, predictions = model.stepper(), []
    with torch.no_grad():
        for now in x.unbind(1):
            prediction, state = step(now, state)
            predictions.append(prediction)
        assert torch.allclose(torch.stack(predictions, dim=1), model(x), rtol=0, atol=1e-6)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_scores_of_several_targets_and_sites_equal_those_computed_apart(
    two_sites: Make, series: MakeData, quiet: MakeTrainer
) -> None:
    data, trainer = series(two_sites(), chunk=50), quiet(MPTTCallback())
    model = SequenceRegressor(1, 2, hidden_size=4)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    kept: list[torch.Tensor] = []
    batches = list(data.test_dataloader())
    state = None
    model.eval()
    with torch.no_grad():
        for batch in batches:
            hidden, state = model.core(batch["x"], state)
            kept.append(model.head(hidden))
    predictions = data.predictions("test", kept, batches)
    table = score_table(predictions).set_index(["target", "site"])
    assert list(table.index) == [("storage", "a"), ("storage", "b"), ("flow", "a"), ("flow", "b")]
    for nth, target in enumerate(("storage", "flow")):
        for row, site in enumerate("ab"):
            simulated = predictions[target].values[row, 30:].astype(float)
            observed = predictions[f"{target}_observed"].values[row, 30:].astype(float)
            seen = ~np.isnan(observed)
            assert seen.mean() < 1 if target == "flow" else seen.all()
            simulated, observed = simulated[seen], observed[seen]
            spread, bias = simulated.std() / observed.std(), simulated.mean() / observed.mean()
            correlation = np.corrcoef(simulated, observed)[0, 1]
            expected = {
                "rmse": np.sqrt(((simulated - observed) ** 2).mean()),
                "nse": 1 - ((simulated - observed) ** 2).sum() / ((observed - observed.mean()) ** 2).sum(),
                "kge": 1 - np.sqrt((correlation - 1) ** 2 + (spread - 1) ** 2 + (bias - 1) ** 2),
                "pbias": 100 * (simulated - observed).sum() / observed.sum(),
            }
            for name, value in expected.items():
                assert table.loc[(target, site), name] == pytest.approx(value, rel=1e-4)
                assert model.test_scores[name][nth, row].item() == pytest.approx(value, rel=1e-4)


def test_validation_loss_is_of_the_whole_part(two_sites: Make, series: MakeData, quiet: MakeTrainer) -> None:
    losses = []
    for chunk in (17, 10_000):
        pl.seed_everything(1)
        data, trainer, model = series(two_sites(), chunk=chunk), quiet(MPTTCallback()), SequenceRegressor(1, 2)
        trainer.fit(model, datamodule=data)
        losses.append(trainer.callback_metrics["val_loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_evaluation_without_a_data_module_is_refused(two_sites: Make, series: MakeData, quiet: MakeTrainer) -> None:
    data = series(two_sites())
    data.setup()
    model = SequenceRegressor(1, 2)
    quiet(max_epochs=1).fit(model, train_dataloaders=data.train_dataloader())
    with pytest.raises(MPTTError, match="found no DataModule"):
        quiet().validate(model, dataloaders=data.val_dataloader(), verbose=False)


def test_checkpoint_loads_weights_only(two_sites: Make, series: MakeData, quiet: MakeTrainer) -> None:
    model, trainer = SequenceRegressor(1, 2, hidden_size=4), quiet(MPTTCallback())
    trainer.fit(model, datamodule=series(two_sites()))
    trainer.save_checkpoint("model.ckpt")
    again = SequenceRegressor.load_from_checkpoint("model.ckpt", input_size=1, output_size=2, hidden_size=4)
    x = torch.randn(1, 5, 1)
    assert torch.equal(again.eval()(x), model.cpu().eval()(x))

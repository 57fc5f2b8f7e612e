from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt import MPTTError
from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.figures.steps import steps_figure
from mptt.experiments.memory.network import Network
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.steps import StepContributions, state_windows, step_contributions
from mptt.experiments.memory.trajectories import trajectories
from mptt.experiments.memory.unit_files import write_steps
from mptt.experiments.memory.units import operating_point
from mptt.experiments.memory.without import scores_without
from mptt.experiments.neuroview import NeuroViewRegressor
from mptt.experiments.regressor import SequenceRegressor


def opened_of(module: pl.LightningModule, data: SeriesDataModule) -> OpenedRun:
    data.setup()
    return OpenedRun("made", Path(), {}, None, data, Network(module), None)


def test_windows_hold_the_states_of_the_last_steps(trained: Path) -> None:
    run = open_run(trained)
    run.data.chunk = 400
    found = state_windows(run, "test", 30, windows=50)
    whole = trajectories(run)
    states, truth = whole["state"].values[0], whole["SW_ENDmm_observed"].values[0]
    assert found.states.shape[1:] == (30, 6)
    assert 45 <= len(found.states) <= 55
    observed = run.data.target_scaler.inverse(found.targets[:, None], torch.zeros(len(found.targets), dtype=int))
    for window, value in zip(found.states, observed.flatten(), strict=True):
        at = int(np.abs(states - window[0].numpy()).sum(1).argmin())
        assert at >= 365, "the warm-up is not scored"
        np.testing.assert_allclose(window.numpy(), states[at - 29 : at + 1][::-1], atol=1e-6)
        assert truth[at] == pytest.approx(value.item(), rel=1e-5)


def test_what_the_states_lack_is_read_from_those_before(
    two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]
) -> None:
    module = SequenceRegressor(1, 1, core="rnn", hidden_size=1)
    with torch.no_grad():  # a unit without memory, which shows its input
        for name, value in (("weight_ih_l0", 0.01), ("weight_hh_l0", 0.0), ("bias_ih_l0", 0.0), ("bias_hh_l0", 0.0)):
            getattr(module.core, name).fill_(value)
    dataset = two_sites()
    rain = dataset["rain"].values
    lagged = np.zeros_like(rain)
    lagged[:, 9:] = rain[:, :-9]
    dataset["late"] = (("site", "time"), lagged)
    run = opened_of(module, series(dataset, targets=["late"]))
    found = step_contributions(run, steps=20, windows=200)
    share = found.lags.set_index("lag")["share"]
    assert share.idxmax() == 9
    assert share[9] > 0.9
    assert found.lags["low"][9] <= share[9] <= found.lags["high"][9] + 0.05
    summary = found.summary.iloc[0]
    assert (summary["half"], summary["nine_tenths"]) == (9, 9)
    assert summary["nse_last"] < 0.2
    assert summary["nse_all"] > 0.95


def test_a_neuroview_regressor_trains_on_whole_windows_alone() -> None:
    torch.manual_seed(0)
    model = NeuroViewRegressor(2, hidden_size=3, steps=5)
    batch = {"x": torch.randn(2, 8, 2), "y": torch.randn(2, 8, 1), "mask": torch.ones(2, 8, 1, dtype=torch.bool)}
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    found = model.training_step(batch, 0)
    expected = (model(batch["x"]) - batch["y"])[:, 4:].square().mean()
    torch.testing.assert_close(found["loss"], expected)
    assert batch["mask"].all()
    with pytest.raises(MPTTError, match="reads 5 steps, and the training window has 4"):
        model.training_step({name: one[:, :4] for name, one in batch.items()}, 0)
    with pytest.raises(MPTTError, match="cannot be run a step at a time"):
        model.stepper()


def test_stretches_of_a_neuroview_regressor_go_on_where_the_last_ended(
    two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]
) -> None:
    torch.manual_seed(0)
    module = NeuroViewRegressor(1, 2, hidden_size=3, steps=12)
    run = opened_of(module, series(two_sites()))
    whole = trajectories(run)
    point = operating_point(run)
    held = np.eye(3, dtype=bool)
    scores = scores_without(run, held, point)
    for chunk, at_once in ((50, 1), (7, 3)):
        run.data.chunk, run.data.stretches_at_once = chunk, at_once
        if at_once == 1:
            xr.testing.assert_allclose(trajectories(run), whole, atol=1e-4)
            pd.testing.assert_frame_equal(scores_without(run, held, point), scores, atol=1e-4)


def test_a_neuroview_regressor_learns_under_messages_and_says_what_counts(
    two_sites: Callable[..., xr.Dataset],
    series: Callable[..., SeriesDataModule],
    quiet: Callable[..., pl.Trainer],
) -> None:
    pl.seed_everything(0)
    module = NeuroViewRegressor(1, 2, hidden_size=3, steps=12)
    data = series(two_sites())
    trainer = quiet(MPTTCallback())
    before = module.head.by_lag().clone()
    trainer.fit(module, datamodule=data)
    assert not module.head.by_lag().equal(before)
    found = step_contributions(OpenedRun("made", Path(), {}, None, data, Network(module), None), windows=100)
    assert found.summary["reader"].tolist() == ["head", "head"]
    assert len(found.lags) == 24
    np.testing.assert_allclose(found.lags.groupby("target")["share"].sum(), 1)


def test_the_command_line_trains_a_neuroview_regressor(small: list[str], tmp_path: Path) -> None:
    words = ["fit", "--config", "quickstart", "--model", "NeuroViewRegressor", *small, "--model.steps", "183"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "nv")]
    main(words)
    assert np.isfinite(pd.read_csv(tmp_path / "nv" / "scores.csv")["nse"]).all()


def test_too_few_windows_are_refused(trained: Path) -> None:
    with pytest.raises(MPTTError, match=r"The validation part of trained has \d+ windows of 1015 steps"):
        state_windows(open_run(trained), "validation", 1015)


def test_steps_are_written_by_the_command(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "steps", str(trained), "--steps", "60", "--windows", "60", "--part", "validation"])
    assert "SW_ENDmm: half of the contribution of 60 days lies in the last" in capsys.readouterr().out
    lags = pd.read_csv(trained / "memory" / "steps.csv")
    assert lags["lag"].tolist() == list(range(60))
    assert lags["share"].sum() == pytest.approx(1, abs=1e-4)
    assert (lags["low"] <= lags["high"]).all()
    assert pd.read_csv(trained / "memory" / "steps_summary.csv")["steps"].tolist() == [60]
    assert (trained / "memory" / "steps.png").stat().st_size > 5000


def test_other_runs_are_drawn_beside(trained: Path, tmp_path: Path) -> None:
    lags = pd.DataFrame({"target": "flow", "lag": range(50), "share": 0.02, "low": 0.01, "high": 0.03})
    run = replace(open_run(trained), folder=tmp_path / "one")
    found = StepContributions(lags, pd.DataFrame())
    other = tmp_path / "other"
    with pytest.raises(MPTTError, match=r"no memory/steps\.csv in .*other: run"):
        write_steps(run, found, [other])
    (other / "memory").mkdir(parents=True)
    lags.to_csv(other / "memory" / "steps.csv")
    assert write_steps(run, found, [other])[-1].stat().st_size > 5000
    lines = steps_figure({"flow, one": lags, "flow, other": lags}, "days").axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["flow, one", "flow, other"]
    np.testing.assert_allclose(lines[0].get_ydata()[[0, 49]], [2, 100])

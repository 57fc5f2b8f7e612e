from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.figures.units import ablation_figure, unit_figure
from mptt.experiments.memory.network import Network
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.said import units_said
from mptt.experiments.memory.units import (
    BELOW,
    OperatingPoint,
    operating_point,
    rankings,
    unit_responses,
)
from mptt.experiments.memory.without import random_orders, scores_in_order, scores_without, scores_without_each
from mptt.experiments.regressor import SequenceRegressor


@pytest.fixture(scope="module")
def opened(trained: Path) -> OpenedRun:
    return open_run(trained)


@pytest.fixture(scope="module")
def point(opened: OpenedRun) -> OperatingPoint:
    return operating_point(opened)


def of_two_sites(module: pl.LightningModule, data: SeriesDataModule) -> OpenedRun:
    data.setup()
    return OpenedRun("two sites", Path(), {}, None, data, Network(module), None)


def test_the_operating_point_is_that_of_all_scored_steps(opened: OpenedRun, point: OperatingPoint) -> None:
    from mptt.experiments.memory.trajectories import trajectories

    states = trajectories(opened)["state"].values[0, 365:]
    np.testing.assert_allclose(point.mean, states.mean(0), atol=1e-5)
    np.testing.assert_allclose(point.covariance, np.cov(states.T, bias=True), atol=1e-5)


def test_each_unit_answers_each_input(opened: OpenedRun, point: OperatingPoint) -> None:
    found = unit_responses(opened, point, horizon=400, periods=(7, 365, 3650))
    names = opened.data.input_names
    assert len(found.steps) == 6 * len(names)
    assert found.steps["input"].tolist() == names * 6
    assert len(found.frequencies) == 6 * len(names) * 2, "longer than the horizon is left out"
    assert found.units["unit"].tolist() == list(range(6))
    assert found.paths.shape == (6, 800)
    largest = found.steps.assign(change=found.steps["change"].abs()).groupby("unit")["change"].max()
    np.testing.assert_allclose(found.units["change"].abs(), largest)
    orders = rankings(found)
    assert all(sorted(order.tolist()) == list(range(6)) for order in orders.values())
    settling, moved = (found.units[name].to_numpy() for name in ("settling", "moved"))
    assert (np.diff(np.abs(moved)[orders["change"]]) <= 0).all()
    settling = settling[orders["settling time"]]
    assert (np.diff(settling) <= 0).all()
    # One number, slowly: the unit by itself, the others held at their mean, one variable up by 1.
    core = opened.network.module.core
    weights = {name: value.detach().double() for name, value in core.named_parameters()}
    unit, state, start = 2, point.mean.clone(), 0.0
    for step in range(1600):
        x = point.inputs.double() + (step >= 800) * torch.eye(len(names))[0]
        before = point.mean.clone()
        before[unit] = state[unit]
        gates_x = weights["weight_ih_l0"] @ x + weights["bias_ih_l0"]
        gates_h = weights["weight_hh_l0"] @ before + weights["bias_hh_l0"]
        reset, update = ((gates_x + gates_h)[part : part + 6].sigmoid() for part in (0, 6))
        new = (gates_x[12:] + reset * gates_h[12:]).tanh()
        state = (1 - update) * new + update * before
        start = state[unit].item() if step < 800 else start
    row = found.steps[(found.steps["unit"] == unit) & (found.steps["input"] == names[0])].iloc[0]
    assert row["change"] == pytest.approx(state[unit].item() - start, abs=1e-6)


@pytest.mark.parametrize("core", ["lstm", "rnn"])
def test_layers_above_answer_the_layer_below(
    core: str, two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]
) -> None:
    torch.manual_seed(0)
    module = SequenceRegressor(1, 2, core=core, hidden_size=3, num_layers=2)  # type: ignore[arg-type]
    run = of_two_sites(module, series(two_sites()))
    found = unit_responses(run, operating_point(run), horizon=60, periods=(10,))
    assert found.units["layer"].tolist() == [0] * 3 + [1] * 3
    assert found.units["input"].tolist() == ["rain"] * 3 + [BELOW] * 3
    assert (found.units["settling"] > 0).all()
    assert len(run.network.units) == (12 if core == "lstm" else 6)


def test_nothing_held_scores_as_the_test_and_all_held_is_constant(
    opened: OpenedRun, point: OperatingPoint, trained: Path
) -> None:
    held = np.array([[False] * 6, [True] * 6, [True] + [False] * 5])
    found = scores_without(opened, held, point)
    written = pd.read_csv(trained / "scores.csv")
    assert found["held"].tolist() == [0, 6, 1]
    assert found["nse"][0] == pytest.approx(written["nse"][0], abs=1e-4)
    assert found["rmse"][0] == pytest.approx(written["rmse"][0], rel=1e-4)
    assert found["nse"][1] <= 1e-6, "a constant is no better than the mean"
    drop = scores_without_each(opened, point)
    assert drop[0] == pytest.approx(found["nse"][0] - found["nse"][2], abs=1e-6)


def test_held_at_zero_is_another_thing_than_held_at_the_mean(opened: OpenedRun, point: OperatingPoint) -> None:
    held = np.eye(6, dtype=bool)[:2]
    at_mean, at_zero = (scores_without(opened, held, point, hold_at=hold)["nse"] for hold in ("mean", "zero"))
    assert (at_mean - at_zero).abs().min() > 1e-4
    with pytest.raises(MPTTError, match="mean or zero, found 'one'"):
        scores_without(opened, held, point, hold_at="one")  # type: ignore[arg-type]


def test_sites_targets_stretches_and_passes_are_not_mixed_up(
    two_sites: Callable[..., xr.Dataset],
    series: Callable[..., SeriesDataModule],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    module = SequenceRegressor(1, 2, hidden_size=3)
    run = of_two_sites(module, series(two_sites(), chunk=100))
    point = operating_point(run)
    held = np.array([[False, True, False], [False, False, False], [True, True, False]])
    together = scores_without(run, held, point)
    assert together["target"].tolist() == ["storage", "flow"] * 3
    for number in range(3):
        alone = scores_without(run, held[number : number + 1], point)
        np.testing.assert_allclose(together[["nse", "rmse"]][2 * number : 2 * number + 2], alone[["nse", "rmse"]])
    monkeypatch.setattr("mptt.experiments.memory.without._AT_ONCE", 1)
    pd.testing.assert_frame_equal(scores_without(run, held, point), together)
    each = [scores_without(run, held, point, sites=[site]) for site in ("a", "b")]
    np.testing.assert_allclose((each[0]["nse"] + each[1]["nse"]) / 2, together["nse"], atol=0.5)
    assert (each[0]["nse"] != each[1]["nse"]).all()
    lower = np.minimum(each[0]["rmse"], each[1]["rmse"])
    np.testing.assert_allclose(together["rmse"], lower, rtol=1e-6)  # the lower of two is torch's median


def test_orders_begin_and_end_alike(opened: OpenedRun, point: OperatingPoint) -> None:
    orders = random_orders(6, 2, seed=1)
    assert orders["random 1"].tolist() != orders["random 2"].tolist()
    found = scores_in_order(opened, orders, point)
    assert len(found) == 14
    ends = found.pivot(index="held", columns="order", values="nse").loc[[0, 6]]
    np.testing.assert_allclose(ends["random 1"], ends["random 2"], atol=1e-6)


def test_a_core_of_another_kind_is_refused(opened: OpenedRun, two_sites: Callable[..., xr.Dataset]) -> None:
    class Explicit(pl.LightningModule):
        state_size = 1

        def predict_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"prediction": batch["x"], "states": batch["x"]}

    data = SeriesDataModule(two_sites(), inputs=["rain"], targets=["flow"])
    with pytest.raises(MPTTError, match=r"Explicit cannot be taken apart: its core \(states\)"):
        scores_without(of_two_sites(Explicit(), data), np.zeros((1, 1), bool), OperatingPoint(*[torch.zeros(1)] * 3))


def test_what_does_not_settle_is_said_and_drawn() -> None:
    units = pd.DataFrame({"core": "core", "layer": 0, "unit": [0, 1], "input": "rain", "settling": [np.inf, 5.0]})
    units = units.assign(nse_drop=[0.3, 0.1])
    rows = [("settling time", count, "flow", 0.8 - 0.3 * count) for count in range(3)]
    scores = pd.DataFrame(rows, columns=["order", "held", "target", "nse"])
    said = units_said(units, scores, 3650, "days")
    assert "the slowest in more than 3650 days" in said
    assert "Unit 0 (settles in more than 3650 days) is missed most: the NSE falls by 0.30" in said
    waves = units.merge(pd.DataFrame({"period": [2, 365], "gain": [0.1, 1.0], "lag": [0.0, np.nan]}), how="cross")
    paths = np.stack([np.linspace(0, 1, 40), np.ones(40)])
    figure = unit_figure(units, waves[[*units.columns[:4], "period", "gain", "lag"]], paths, 20, "days")
    assert "grey: more than 20" in figure.axes[-1].get_ylabel()
    axes = ablation_figure(scores, ["settling time"], "flow", "zero").axes[0]
    assert len(axes.lines) == 2
    assert axes.get_xlabel() == "units held at zero"


def test_units_are_written_by_the_command(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "units", str(trained), "--part", "validation", "--horizon", "365", "--seeds", "2"])
    said = capsys.readouterr().out
    assert said.startswith("6 units, each by itself: half of them settle within")
    assert "slowest units left out" in said
    folder = trained / "memory"
    units = pd.read_csv(folder / "units.csv")
    assert units["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (units["settling"].diff().dropna() <= 0).all()
    assert {"nse_drop", "delay", "rise", "overshoot", "change", "input"} <= set(units)
    scores = pd.read_csv(folder / "unit_ablation_validation.csv")
    orders = ["annual gain", "change", "each alone", "random 1", "random 2", "settling time"]
    assert sorted(scores["order"].unique()) == orders
    for name in ("units.png", "units.pdf", "unit_ablation_validation.png"):
        assert (folder / name).stat().st_size > 5000

"""The horizon of a trained run, against the same by hand; its tables, sentences and figures."""

from __future__ import annotations

import math
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from mptt import MPTTError
from mptt.experiments.cli import main
from mptt.experiments.memory import truth
from mptt.experiments.memory.horizon import horizon, unit_of_steps
from mptt.experiments.memory.remembered import horizon_table, sentence, unit_table
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.trajectories import trajectories, walk
from mptt.experiments.memory.truth import true_horizon


@pytest.fixture(scope="module")
def opened(trained: Path) -> OpenedRun:
    return open_run(trained)


def made(state: list[list[float]], target: list[list[float]], spread: float = 1.0, window: int = 10) -> xr.Dataset:
    """A horizon of one site, a start in winter, others in summer."""
    along = ("site", "start", "step")
    apart = np.concatenate([np.full((len(target), 1), np.nan), target], axis=1)
    return xr.Dataset(
        {
            "state_distance": (along, [state]),
            "flow_distance": (along, apart[None]),
            "flow_spread": ("site", [spread]),
            "season": (("site", "start"), [["DJF", *["JJA"] * (len(state) - 1)]]),
            "unit_distance": (("unit", "step"), [[1.0, 0.5, 0.1, 0.0]]),
        },
        {"site": ["a"], **{name: ("unit", [value]) for name, value in (("core", "gru"), ("layer", 0), ("part", "h"))}},
        {
            "steps": len(target[0]),
            "window": window,
            "step_unit": "days",
            "pairs": "zeros",
            "of_part": "test",
            "from_zeros": 0,
        },
    )


@pytest.mark.parametrize("pairs", ["zeros", "visited"])
def test_distances_are_those_of_two_runs_from_each_date(opened: OpenedRun, pairs: str) -> None:
    found = horizon(opened, starts=4, steps=60, pairs=pairs, seed=2)  # type: ignore[arg-type]
    there = trajectories(opened)
    x = torch.cat([batch["x"][0, : int(batch["length"][0])] for batch, *_ in walk(opened, "test")])
    states = torch.from_numpy(there["state"].values[0])
    dates = there.indexes["time"].get_indexer(found["date"].values[0])
    assert (dates >= 365).all(), "after the warm-up"
    assert (np.diff(dates) > 0).all()
    others = there.indexes["time"].get_indexer(opened.data.time[found["partner"].values[0]])
    for start, (date, other) in enumerate(zip(dates, others, strict=True)):
        inputs = {"x": x[None, date : date + 60]}
        wrong = torch.zeros(1, 6) if pairs == "zeros" else states[other - 1][None]
        one, first = opened.network.run(inputs, states[date - 1][None])
        two, second = opened.network.run(inputs, wrong)
        np.testing.assert_allclose(first[0], states[date : date + 60], atol=1e-4)
        distance = (first - second).square().mean(2).sqrt()[0] / (states[date - 1] - wrong[0]).square().mean().sqrt()
        np.testing.assert_allclose(found["state_distance"][0, start, 1:], distance, rtol=1e-3, atol=1e-5)
        flows = [opened.data.target_scaler.inverse(each, torch.zeros(1, dtype=torch.int64)) for each in (one, two)]
        apart = (flows[0] - flows[1]).abs()[0, :, 0]
        np.testing.assert_allclose(found["SW_ENDmm_distance"][0, start, 1:], apart, rtol=1e-3, atol=1e-3)
    assert (found["state_distance"][..., 0] == 1).all()
    observed = there["SW_ENDmm_observed"].values[0, 365:]
    assert found["SW_ENDmm_spread"].item() == pytest.approx(observed.std(), rel=1e-3)
    assert (found.attrs["step_unit"], found.attrs["window"]) == ("days", 366)


def test_stretches_of_a_series_are_one_series(opened: OpenedRun) -> None:
    whole = horizon(opened, starts=5, steps=40)
    opened.data.chunk = 130
    parts = horizon(opened, starts=5, steps=40)
    opened.data.chunk = None
    xr.testing.assert_allclose(whole, parts, rtol=1e-3, atol=1e-4)


def test_starts_and_steps_fit_into_the_part(opened: OpenedRun) -> None:
    length = int(opened.data.parts["test"].length[0])
    found = horizon(opened, starts=1000, steps=length - 365 - 7)
    assert found.sizes["start"] == 8
    assert int(found["begin"].max()) + found.attrs["steps"] == opened.data.parts["test"].begin[0] + length
    assert horizon(opened, starts=2).attrs["steps"] == (length - 365) // 2
    with pytest.raises(MPTTError, match=f"has {length} steps after a warm-up of 365; the longest has {length - 365}"):
        horizon(opened, steps=length)
    with pytest.raises(MPTTError, match="no pairs 'noise'; there are zeros, visited, gaussian"):
        horizon(opened, pairs="noise")  # type: ignore[arg-type]


def test_the_table_tells_seasons_apart_and_what_is_beyond_the_run() -> None:
    found = made([[1.0, 0.4, 0.04, 0.001], [1.0, 0.9, 0.8, 0.7]], [[0.2, 0.02, 0.0], [0.6, 0.06, 0.02]], spread=2.0)
    table = horizon_table(found).set_index(["season", "of", "measure"])
    assert set(table.index.get_level_values("season")) == {"all", "DJF", "JJA"}
    assert table.loc[("DJF", "state", "horizon_5"), "median"] == 2
    assert table.loc[("DJF", "flow", "horizon_5"), "median"] == 1
    assert table.loc[("JJA", "flow", "horizon_5"), ["q10", "median", "q90"]].tolist() == [1, 1, 1]
    assert table.loc[("JJA", "flow", "horizon_1"), "median"] == math.inf
    assert table.loc[("all", "state", "horizon_1"), ["starts", "beyond"]].tolist() == [2, 0.5]
    assert table.loc[("all", "flow", "horizon_1"), "window_share"] == pytest.approx((2 + 10) / 2 / 10)
    assert table.loc[("DJF", "state", "half_life"), "median"] == pytest.approx(math.log(2) / math.log(2.5))
    assert unit_table(found)["half_life"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("target", "window", "said"),
    [
        ([0.0, 0.0, 0.0], 10, "messages have nothing to bring"),
        (
            [9.0, 9.0, 9.0],
            10,
            "for more than 3 days .* need more than 6 days .* more than 30 for 90 %.* MPTT is worth it",
        ),
        ([9.0, 9.0, 0.0], 2, "for 2 days .* need 4 days .* 20 for 90 %.*, 2, it takes 100 % .* and MPTT is worth it"),
        ([9.0, 9.0, 0.0], 3, "it takes 67 % of the steps on average: MPTT is worth trying"),
        ([9.0, 9.0, 0.0], 100, "it takes 2 % of the steps on average: MPTT has little"),
    ],
)
def test_the_sentence_weighs_the_horizon_against_the_window(target: list[float], window: int, said: str) -> None:
    found = made([[1.0, 0.9, 0.8, 0.7]], [target], window=window)
    text = sentence(found, horizon_table(found))
    assert pd.Series([text]).str.contains(said).item(), text
    assert "trained from zeros" not in text
    found.attrs["from_zeros"] = 1
    assert sentence(found, horizon_table(found)).endswith("remember less than the data do.") == (target[0] > 0)


def test_the_truth_has_the_weather_of_the_same_dates(opened: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def distances(weather, starts, steps, others, names):  # type: ignore[no-untyped-def]
        asked.update(weather=weather, starts=starts, others=others)
        return store_distances(weather, starts, steps, others, names)

    store_distances = truth.store_distances
    monkeypatch.setattr(truth, "store_distances", distances)
    found = horizon(opened, starts=5, steps=100, pairs="visited")
    true = true_horizon(opened, found)
    assert true is not None
    rain = opened.data.load()["PRECIPmm"].values[0]
    for name in ("begin", "partner"):
        at = asked["starts" if name == "begin" else "others"]
        np.testing.assert_allclose(asked["weather"]["PRECIPmm"][at], rain[found[name].values[0]], rtol=1e-6)
    assert true["SW_ENDmm_distance"].shape == found["SW_ENDmm_distance"].shape
    assert horizon_table(true)["of"].unique().tolist() == ["SW_ENDmm"]
    assert true_horizon(opened, horizon(opened, starts=5, steps=9)) is not None
    assert asked["others"] is None, "zeros know nothing"


def test_the_command_writes_table_and_figures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "horizon", str(trained), "--starts", "6", "--steps", "200", "--pairs", "gaussian"])
    said = capsys.readouterr().out
    assert "SW_ENDmm: a wrong initial state (the true state against random numbers) matters by" in said
    assert (
        "the store itself: SW_ENDmm: a wrong initial state (the true filling against a half-full soil) matters" in said
    )
    stem = trained / "memory" / "horizon_test_gaussian"
    names = ["", "_units", "_seasons"]
    assert all(stem.with_name(stem.name + f"{name}.png").stat().st_size > 9000 for name in names)
    assert pd.read_csv(stem.with_suffix(".csv"))["site"].unique().tolist() == ["simulated"]
    assert len(pd.read_csv(stem.with_name(stem.name + "_units.csv"))) == 6


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (pd.date_range("2000-01-01", periods=9, freq="D", unit="s"), "days"),
        (pd.date_range("2000-01-01", periods=9, freq="h", unit="s"), "hours"),
        (pd.date_range("2000-01-01", periods=30, freq="MS", unit="s"), "months"),
        (pd.date_range("2000-01-01", periods=9, freq="30min", unit="s"), "steps"),
        (xr.CFTimeIndex([cftime.DatetimeNoLeap(2000, 1, day) for day in range(1, 9)]), "days"),
        (pd.date_range("2000-01-01", periods=1, unit="s"), "steps"),
    ],
)
def test_steps_have_a_unit(time: pd.Index, unit: str) -> None:
    assert unit_of_steps(time) == unit

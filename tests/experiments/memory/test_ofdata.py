"""The memory in data, on series whose memory is known, and the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.memory.ofdata import data_memory, data_table, say_of_data

STEPS = 9000


@pytest.fixture(scope="module")
def known() -> xr.Dataset:
    """Site a: AR(1) of 0.9, a season, and gaps; site b: what the rain of the last month makes, and nothing else."""
    random = np.random.default_rng(0)
    time = np.datetime64("1980-01-01", "s") + np.arange(STEPS) * np.timedelta64(86400, "s")
    rain, target = random.standard_normal((2, STEPS)), np.zeros((2, STEPS))
    shock = random.standard_normal(STEPS)
    for step in range(1, STEPS):
        target[0, step] = 0.9 * target[0, step - 1] + shock[step]
    target[0] += 20 * np.cos(2 * np.pi * np.arange(STEPS) / 365.25)
    target[0, random.random(STEPS) < 0.2] = np.nan
    target[1, 29:] = np.convolve(rain[1], np.ones(30), "valid")
    target[1] += 0.5 * random.standard_normal(STEPS)
    along = ("site", "time")
    return xr.Dataset({"rain": (along, rain), "flow": (along, target)}, {"site": ["a", "b"], "time": time})


def module(dataset: xr.Dataset, **settings: object) -> SeriesDataModule:
    data = SeriesDataModule(dataset, inputs=["rain"], targets=["flow"], **settings)  # type: ignore[arg-type]
    data.setup()
    return data


def test_memory_is_what_was_put_in(known: xr.Dataset) -> None:
    found = data_memory(module(known, split=(0.9, 0.05, 0.05)), lags=60)
    season = found.sel(target="flow", of="season", site="a")
    np.testing.assert_allclose(season["autocorrelation"][:20], 0.9 ** np.arange(20), atol=0.08)
    np.testing.assert_allclose(season["partial"][:3], [1, 0.9, 0], atol=0.05)
    assert found["values"].sel(of="season", site="a").item() == pytest.approx(0.8 * 0.9 * STEPS, rel=0.05)
    left = found.sel(target="flow", of="inputs")
    np.testing.assert_allclose(left["autocorrelation"].sel(site="a")[:5], 0.9 ** np.arange(5), atol=0.05)
    assert np.abs(left["autocorrelation"].sel(site="b")[1:]).max() < 0.06, "a month of rain is in the model"
    assert found["explained"].sel(site="b") > 0.98
    assert found["explained"].sel(site="a") < 0.01
    table = data_table(found).set_index(["site", "of"])
    assert table.loc[("a", "season"), "e_folding"] == pytest.approx(10, abs=2)
    assert table.loc[("b", "inputs"), ["e_folding", "below_10"]].tolist() == [1, 1]
    assert table.loc[("b", "season"), "acf_7"] == pytest.approx(23 / 30, abs=0.05)


def test_the_sentence_says_whether_a_window_of_a_year_sees_it(known: xr.Dataset) -> None:
    found = data_memory(module(known), lags=400)
    assert say_of_data(found).endswith("Beyond a year there is none that this shows. Medians of 2 sites.")
    found["autocorrelation"].loc[{"of": "inputs"}] = 0.5
    assert "0.1 for more than 400. That is longer than a year: there is memory" in say_of_data(found)


def test_a_weak_memory_beyond_a_year_is_told_from_chance(known: xr.Dataset) -> None:
    random, steps = np.random.default_rng(1), np.arange(STEPS)
    weak = known.copy(deep=True)
    slow = np.sin(2 * np.pi * steps / 6000)  # with 0.45, a share of 0.09 of the variance
    weak["flow"][:] = random.standard_normal((2, STEPS)) + 0.45 * slow
    found = data_memory(module(weak, split=(0.9, 0.05, 0.05)))
    assert (data_table(found)["beyond_year"] > 0.6).any()
    assert "A weak memory lasts beyond a year" in say_of_data(found)
    weak["flow"][:] = random.standard_normal((2, STEPS))
    found = data_memory(module(weak, split=(0.9, 0.05, 0.05)))
    assert (data_table(found)["beyond_year"] < 0.1).all()
    assert "Beyond a year there is none" in say_of_data(found)


def test_sites_are_chosen_and_named(known: xr.Dataset) -> None:
    data = module(known, evaluation="sequential", chunk=1000)
    whole, one = data_memory(data, lags=9), data_memory(data, sites=["b"], lags=9)
    xr.testing.assert_equal(whole.sel(site=["b"]), one)
    with pytest.raises(MPTTError, match="The train part has no site c; it has a, b"):
        data_memory(data, sites=["c"])
    with pytest.raises(MPTTError, match="There is no part 'tset'"):
        data_memory(data, "tset")


def test_a_short_record_is_left_out(known: xr.Dataset) -> None:
    short = known.copy(deep=True)
    short["flow"][0, 700:8000] = np.nan
    found = data_memory(module(short, split=(0.8, 0.1, 0.1)), lags=9)
    assert np.isnan(found["autocorrelation"].sel(site="a")).all()
    assert set(data_table(found)["site"]) == {"b"}


def test_steps_that_are_no_part_of_a_year_are_refused(known: xr.Dataset) -> None:
    time = np.datetime64("1980-01-01", "s") + np.arange(STEPS) * np.timedelta64(100, "s")
    with pytest.raises(MPTTError, match="of steps of hours, days, weeks, months"):
        data_memory(module(known.assign_coords(time=time)))


def test_the_command_needs_a_configuration_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(trained / "config.yaml", tmp_path / "mine.yaml")
    main(["memory", "data", "mine.yaml", "--lags", "400"])
    assert "SW_ENDmm: without its seasonal cycle" in capsys.readouterr().out
    folder = Path("runs", "mine", "memory")
    assert pd.read_csv(folder / "data_train.csv")["of"].tolist() == ["season", "inputs"]
    assert (folder / "data_train_SW_ENDmm.pdf").exists()
    main(["memory", "data", str(trained), "--lags", "30"])
    assert (trained / "memory" / "data_train.csv").exists()

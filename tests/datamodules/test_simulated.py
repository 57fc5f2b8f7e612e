import platform
import shutil
import subprocess
import sys

import jsonargparse
import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import simulated
from mptt.datamodules.simulated import SimulatedBasin, cached_basin, simulate_basin
from mptt.datamodules.simulation.waterbalance import autocorrelation
from mptt.datamodules.swat import SWAT_COLUMNS, SWAT_INPUTS


@pytest.fixture(scope="module")
def millennium():
    return simulate_basin()


@pytest.fixture
def cache(tmp_path):
    cached_basin(tmp_path, years=2)
    return tmp_path


def store(cache):
    (path,) = cache.iterdir()
    return path


# The simulation


def test_thousand_years_are_whole_days_beyond_nanoseconds(millennium):
    days = millennium["time"].values
    assert days.dtype == "datetime64[s]"
    assert (str(days[0])[:10], str(days[-1])[:10], len(days)) == ("1902-01-01", "2901-12-31", 365243)
    assert (np.diff(days) == np.timedelta64(1, "D")).all()


def test_calendar_is_that_of_the_paper_s_table(millennium):
    assert str(millennium["time"].values[72378])[:10] == "2100-03-01"
    assert str(millennium["time"].values[73050])[:10] == "2102-01-02"


def test_columns_are_those_of_the_paper_s_table_but_two(millennium):
    assert set(SWAT_COLUMNS) - set(millennium.data_vars) == {"TLOSSmm", "QTILEmm", "DOYbent"}
    assert set(millennium.data_vars) <= set(SWAT_COLUMNS)


def test_every_variable_is_float32_complete_and_says_what_it_is(millennium):
    for name, values in millennium.data_vars.items():
        assert values.dims == ("site", "time")
        assert values.dtype == np.float32
        assert np.isfinite(values.values).all(), name
        assert values.attrs["units"]
        assert values.attrs["long_name"]
    assert set(millennium.attrs) == {"title", "source", "license", "references"}
    assert millennium["site"].values.tolist() == ["simulated"]


def test_docstring_states_the_memory_of_the_data(millennium):
    lines = {words[0]: words for line in SimulatedBasin.__doc__.splitlines() if len(words := line.split()) > 7}
    lags = [int(word) for word in lines["target"][1:]]
    for name in ("SW_ENDmm", "SNOmm", "Q_pred_mm"):
        stated = [float(word) for word in lines[name][-len(lags) :]]
        np.testing.assert_allclose(autocorrelation(millennium[name].values[0], lags), stated, atol=0.006)


def test_every_winter_has_snow_and_every_summer_none(millennium):
    snow = millennium["SNOmm"][0].groupby("time.month").max()
    assert float(snow.sel(month=8)) == 0
    by_year = millennium["SNOmm"][0].sel(time=millennium["time"].dt.month == 2).groupby("time.year").max()
    assert float((by_year > 1).mean()) > 0.98


def test_fewer_years_are_the_first_of_more(millennium):
    xr.testing.assert_equal(simulate_basin(years=3), millennium.sel(time=millennium["time"].dt.year < 1905))


def test_another_start_is_another_calendar():
    days = simulate_basin(years=1, start="1999-03-01")["time"].values
    assert [str(day)[:10] for day in days[[0, -1]]] == ["1999-03-01", "2000-02-29"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"years": 0}, "years=0"), ({"seed": -1}, "seed=-1"), ({"start": "soon"}, "found 'soon'")],
)
def test_impossible_simulations_are_refused(arguments, message):
    with pytest.raises(MPTTError, match=message):
        simulate_basin(**{"years": 1, **arguments})


# The cache


def test_cache_gives_back_what_was_simulated(cache, monkeypatch):
    expected = simulate_basin(years=2)
    monkeypatch.setattr(simulated, "simulate_basin", None)
    basin = cached_basin(cache, years=2)
    xr.testing.assert_identical(basin, expected)
    assert list(basin.data_vars) == list(expected.data_vars)
    assert basin["time"].dtype == "datetime64[s]"


def test_cache_keeps_one_store_for_each_simulation(cache, monkeypatch):
    cached_basin(cache, years=2, seed=1)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(simulated, "Basin", lambda: "other parameters")
    assert simulated._recipe() not in {path.stem.split("-")[-1] for path in cache.iterdir()}


def test_slashes_of_the_names_stay_out_of_the_store(cache):
    stored = xr.open_zarr(store(cache))
    assert stored["SOLARMJ_per_m2"].attrs["column"] == "SOLARMJ/m2"
    assert stored["WINDM_per_s"].attrs["column"] == "WINDM/s"
    assert stored["SNOmm"].encoding["chunks"] == (1, stored.sizes["time"])


def lose_chunk(path):
    (path / "SW_ENDmm" / "0.0").unlink()


def flip_bytes(path):
    chunk = path / "time" / "0"
    content = bytearray(chunk.read_bytes())
    content[-20:] = bytes(20)
    chunk.write_bytes(content)


def swap_variables(path):
    shutil.copy(path / "SNOmm" / "0.0", path / "SW_ENDmm" / "0.0")


def lose_metadata(path):
    for file in path.glob(".z*"):
        file.unlink()


def become_a_file(path):
    shutil.rmtree(path)
    path.write_text("not a store")


@pytest.mark.parametrize("damage", [lose_chunk, flip_bytes, swap_variables, lose_metadata, become_a_file])
def test_damaged_cache_is_simulated_anew(cache, damage):
    damage(store(cache))
    with pytest.warns(MPTTWarning, match="damaged"):
        repaired = cached_basin(cache, years=2)
    xr.testing.assert_identical(repaired, simulate_basin(years=2))
    xr.testing.assert_identical(cached_basin(cache, years=2), repaired)
    assert len(list(cache.iterdir())) == 1


def test_interrupted_write_leaves_no_store(tmp_path, monkeypatch):
    whole = xr.Dataset.to_zarr

    def interrupted(self, path, **options):
        whole(self[["SNOmm"]], path, zarr_format=2)
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_zarr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_basin(tmp_path, years=1)
    assert list(tmp_path.iterdir()) == []


def test_process_that_comes_second_does_no_harm(cache):
    path = store(cache)
    simulated._write(simulate_basin(years=2), path)
    assert list(cache.iterdir()) == [path]
    xr.testing.assert_identical(cached_basin(cache, years=2), simulate_basin(years=2))


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(MPTTError, match=r"Cannot keep the simulation at .*taken.*cache=None"):
        cached_basin(tmp_path / "taken", years=1)


# The DataModule


def test_data_module_has_the_paper_s_set_up(tmp_path):
    data = SimulatedBasin(years=20, cache=tmp_path)
    data.prepare_data()
    data.setup("fit")
    assert (data.inputs, data.targets, data.window, data.stride) == (list(SWAT_INPUTS), ["SW_ENDmm"], 366, 183)
    assert (data.warmup, data.batch_size, data.split) == (730, 64, (0.5, 0.1, 0.4))
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape == (len(data.windows), 366, 7)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = SimulatedBasin(years=6, cache=None, targets=["SNOmm", "Q_pred_mm"], warmup=0)
    data.prepare_data()
    data.setup()
    assert data.output_size == 2
    assert list(tmp_path.iterdir()) == []


def test_settings_of_other_strategies_reach_the_base_class():
    settings = {"order": "sequential", "evaluation": "conditional", "evaluation_stride": 7, "train_steps": 800}
    data = SimulatedBasin(
        years=6, cache=None, warmup=0, window=30, stride=30, predict_last_n=1, lagged_target="window", **settings
    )
    data.setup("fit")  # without a warning: the first step of the record is not used
    assert (data.input_size, data.lagged_columns) == (8, 1)
    assert data.parts["train"].length.tolist() == [800]
    batch, evaluated = next(iter(data.train_dataloader())), next(iter(data.test_dataloader()))
    assert batch["x"].shape == (26, 30, 8)
    assert batch["mask"].sum() == 26
    # The state of the soil the evening before a window is the target at the last step of the window before.
    assert batch["x"][1:, 0, -1].tolist() == batch["y"][:-1, -1, 0].tolist()
    assert evaluated["x"].shape == (1, 30, 8)


def test_weather_seed_is_not_that_of_the_shuffling():
    first, second = (SimulatedBasin(years=1, cache=None, weather_seed=seed, seed=7).load() for seed in (0, 1))
    assert not first["PRECIPmm"].equals(second["PRECIPmm"])


def test_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="strid"):
        SimulatedBasin(strid=100)


def test_configuration_reaches_the_arguments_of_the_base_class():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SimulatedBasin, "data")
    chosen = parser.parse_object({"data": {"years": 5, "stride": 100, "cache": None}})
    data = parser.instantiate(chosen).data
    assert (data.years, data.stride, data.cache, data.window) == (5, 100, None, 366)


def test_what_a_killed_simulation_left_is_removed(tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    SimulatedBasin(years=3, cache=tmp_path).prepare_data()
    (store,) = tmp_path.iterdir()
    host = platform.node().partition(".")[0] or "host"
    left = store.with_name(f"{store.name}.{host}-{int(process.stdout)}.partial")
    (left / "new").mkdir(parents=True)
    shutil.rmtree(store)
    SimulatedBasin(years=3, cache=tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == [store]

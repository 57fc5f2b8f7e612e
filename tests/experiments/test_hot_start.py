"""Two halves of a series, by SeriesDataModule and through the command line, are predicted as the whole is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError
from mptt.callbacks import ClosedLoopCallback, MPTTCallback, StatefulCallback, open_states
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.regressor import SequenceRegressor

TRAIN = {"train": ("2001-01-01", "2001-12-31"), "validation": ("2002-01-01", "2002-04-30")}
FIRST, SECOND, WHOLE = ("2002-05-01", "2002-10-31"), ("2002-11-01", "2003-06-19"), ("2002-05-01", "2003-06-19")


def module_of(data: SeriesDataModule) -> SequenceRegressor:
    data.setup()
    torch.manual_seed(0)
    return SequenceRegressor(data.input_size, data.output_size, core="lstm", hidden_size=5, num_layers=2)


def by_dates(dataset: xr.Dataset, test: Any, **settings: Any) -> SeriesDataModule:
    settings = {"window": 40, "stride": 20, "chunk": 61, **settings}
    return SeriesDataModule(
        dataset, inputs=["rain"], targets=["storage", "flow"], split={**TRAIN, "test": test}, seed=0, **settings
    )


@pytest.fixture
def predict(quiet: Callable[..., Any]) -> Callable[..., xr.Dataset]:
    def run(module: SequenceRegressor, data: SeriesDataModule, callback: Any) -> xr.Dataset:
        outputs = quiet(callback).predict(module, datamodule=data)
        return data.predictions("test", outputs, list(data.predict_dataloader()))

    return run


def assert_halves(parts: list[xr.Dataset], whole: xr.Dataset, tolerance: float = 1e-5) -> None:
    together = xr.concat(parts, "time")
    assert (together["time"].values == whole["time"].values).all()
    for name in ("storage", "flow"):
        difference = np.abs(together[name].values - whole[name].values).max()
        assert difference <= tolerance * float(np.abs(whole[name]).max()), difference


@pytest.mark.parametrize("make", [lambda **how: StatefulCallback(training=False, **how), MPTTCallback])
@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_a_test_part_in_two_halves(make: Any, calendar: str, two_sites: Any, predict: Any, tmp_path: Path) -> None:
    time = (
        xr.date_range("2001-01-01", periods=900, calendar=calendar, use_cftime=True) if calendar != "standard" else None
    )
    dataset, path = two_sites(time), tmp_path / "states.nc"
    module = module_of(by_dates(dataset, WHOLE))
    whole = predict(module, by_dates(dataset, WHOLE), make())
    first = make()
    one = predict(module, by_dates(dataset, FIRST), first)
    first.save_states(path)
    states = open_states(path)
    assert states["site"].values.tolist() == ["a", "b"]
    assert [str(date)[:10] for date in states["time"].values] == ["2002-10-31"] * 2
    other = predict(module, by_dates(dataset, SECOND), make(initial_states=path))
    assert_halves([one, other], whole)
    cold = predict(module, by_dates(dataset, SECOND), make())
    assert np.abs(cold["flow"].values - other["flow"].values).max() > 1e-3


def test_test_goes_on_from_validation_which_went_on_from_training(two_sites: Any, quiet: Any, predict: Any) -> None:
    dataset = two_sites()
    data = by_dates(dataset, WHOLE)
    module, states = module_of(data), None
    for loader in (data.series_dataloader(), data.evaluation_dataloader("validation")):
        callback = StatefulCallback(training=False, initial_states=states)
        quiet(callback).predict(module, loader)
        states = callback.states()
    found = predict(module, data, StatefulCallback(training=False, initial_states=states))
    site = torch.from_numpy(data._series.inputs.numpy()[: len(data.time)])  # type: ignore[union-attr]
    with torch.no_grad():
        expected = data.target_scaler.inverse(module(site[None]), torch.tensor([0]))[0]
    last = expected[-found.sizes["time"] :, 0].numpy()
    assert np.allclose(found["storage"].sel(site="a").values, last, rtol=1e-5)


def test_another_data_set_that_begins_the_day_after_with_other_sites_in_another_order(
    two_sites: Any, quiet: Any, predict: Any
) -> None:
    dataset = two_sites()
    data = by_dates(dataset, FIRST)
    module, first = module_of(data), StatefulCallback(training=False)
    whole = predict(module, by_dates(dataset, WHOLE), StatefulCallback(training=False))
    one = predict(module, data, first)
    # It cannot be without training dates of its own; the scalers are those of the run.
    new = dataset.sel(time=slice(SECOND[0], None)).isel(site=[1, 0])
    split = {"test": ("2002-11-01", "2003-03-31"), "validation": ("2003-04-01", "2003-04-30")}
    split |= {"train": ("2003-05-01", "2003-06-19")}
    there = SeriesDataModule(
        new, inputs=["rain"], targets=["storage", "flow"], split=split, window=40, stride=20, chunk=61, seed=0
    )
    there.setup()
    callback = StatefulCallback(training=False, initial_states=first.states())
    with pytest.raises(MPTTError, match=r"inputs that were made in another way .*Load the scalers of the run"):
        quiet(callback).predict(module, datamodule=there)
    there.load_state_dict(data.state_dict())
    other = predict(module, there, callback)
    upto = whole.sel(time=slice(None, "2003-03-31"))
    assert_halves([one, other.sel(site=["a", "b"])], upto)


@pytest.mark.filterwarnings("ignore:No step comes before the first")
def test_closed_loop_goes_on_from_its_last_prediction(two_sites: Any, predict: Any) -> None:
    dataset, how = two_sites(), {"lagged_target": "step"}
    dataset["flow"] = 0.02 * dataset["storage"]  # none missing: a lagged target is read where a part begins
    module = module_of(by_dates(dataset, WHOLE, **how))
    whole = predict(module, by_dates(dataset, WHOLE, **how), ClosedLoopCallback())
    first = ClosedLoopCallback()
    one = predict(module, by_dates(dataset, FIRST, **how), first)
    second = ClosedLoopCallback(initial_states=first.states())
    other = predict(module, by_dates(dataset, SECOND, **how), second)
    assert_halves([one, other], whole)


def test_sites_whose_records_begin_and_end_apart_have_their_own_dates(two_sites: Any, predict: Any) -> None:
    dataset = two_sites()
    for name in ("rain", "storage", "flow"):
        dataset[name][1, :100] = dataset[name][1, 800:] = np.nan
    data = SeriesDataModule(dataset, inputs=["rain"], targets=["storage"], window=40, stride=20, seed=0)
    module, callback = module_of(data), StatefulCallback(training=False)
    predict(module, data, callback)
    ends = dict(zip(*(callback.states()[name].values.tolist() for name in ("site", "time")), strict=True))
    time = dataset["time"].values
    assert ends == {"a": time[899].item(), "b": time[799].item()}


def test_a_gap_between_parts_is_refused_with_dates(two_sites: Any, predict: Any) -> None:
    dataset = two_sites()
    module, first = module_of(by_dates(dataset, FIRST)), StatefulCallback(training=False)
    predict(module, by_dates(dataset, FIRST), first)
    late = by_dates(dataset, ("2002-11-03", "2003-06-19"))
    with pytest.raises(
        MPTTError, match="site a in initial_states is of 2002-10-31, but its series begins with 2002-11-03"
    ):
        predict(module, late, StatefulCallback(training=False, initial_states=first.states()))


@pytest.fixture(scope="module")
def trained(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "trained"
    words = ["fit", "--config", "quickstart", *small, "--trainer.enable_progress_bar", "false"]
    main([*words, "--data.warmup", "0", "--trainer.max_epochs", "1", "--run_dir", str(folder)])
    return folder


def dates_of(run: Path) -> tuple[Any, list[str]]:
    with xr.open_dataset(run / "predictions.nc") as predictions:
        return predictions.load(), [str(day)[:10] for day in predictions["time"].values]


def refused(words: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return str(stop.value.code)


def test_the_command_line_goes_on_from_the_states_of_the_run(trained: Path) -> None:
    shutil.copytree(trained, "run")
    whole, days = dates_of(trained)
    train_end = np.datetime64(days[0]) - np.timedelta64(800, "D")

    def words(command: str, begin: str, end: str) -> list[str]:
        edge = str(train_end - np.timedelta64(1, "D"))
        valid = f"[{train_end},{np.datetime64(days[0]) - np.timedelta64(1, 'D')}]"
        split = f"{{train: ['{days_of_data}','{edge}'], validation: {valid}, test: ['{begin}','{end}']}}"
        return [command, "--config", "run/config.yaml", "--data.split", split]

    with xr.open_dataset(trained / "states.nc") as states:
        assert str(states["time"].values[0])[:10] == days[-1], "fit leaves the states at the end of its test"
    days_of_data = str(train_end - np.timedelta64(1000, "D"))
    half = len(days) // 2
    parts = []
    main(words("test", days[0], days[half - 1]))
    parts.append(dates_of(Path("run"))[0])
    later = words("predict", days[half], days[-1])
    main([*later, "--initial_states", "run/states.nc"])
    parts.append(dates_of(Path("run"))[0])
    together = xr.concat(parts, "time")
    for name in [str(name) for name in whole.data_vars if not str(name).endswith("_observed")]:
        difference = np.abs(together[name].values - whole[name].values).max()
        assert difference < 1e-5 * np.abs(whole[name].values).max()
    # The states have moved on: the same day again has been seen.
    assert "has seen already" in refused([*later, "--initial_states", "run/states.nc"])
    with xr.open_dataset("run/states.nc") as now, xr.open_dataset(trained / "states.nc") as then:
        assert np.allclose(now["state"], then["state"], atol=1e-5)
        assert now["time"].equals(then["time"])


def test_the_command_line_goes_on_from_validation_into_the_test(trained: Path) -> None:
    shutil.copytree(trained, "run")
    main(["validate", "--config", "run/config.yaml"])
    main(["test", "--config", "run/config.yaml", "--initial_states", "run/states_validation.nc"])
    hot, cold = dates_of(Path("run"))[0], dates_of(trained)[0]
    (name,) = [str(name) for name in cold.data_vars if not str(name).endswith("_observed")]
    difference = np.abs(hot[name].values - cold[name].values)[0]
    assert difference[0] > 1e-4


def test_the_command_line_refuses_states_where_none_are_carried(trained: Path, fit_words: list[str]) -> None:
    words = ["test", "--config", str(trained / "config.yaml"), "--initial_states", str(trained / "states.nc")]
    assert "has seen already" in refused(words)
    assert "SSIF or TFIF, found IIF" in refused([*words, "--inference", "IIF"])
    assert "give both" in refused([*words[:3], "--missing_states", "zeros"])
    assert "There are no states no.nc" in refused([*words[:3], "--initial_states", "no.nc"])
    said = refused([*fit_words, "--run_dir", "r", "--initial_states", str(trained / "states.nc")])
    assert "initial_states are for validate, test and predict" in said

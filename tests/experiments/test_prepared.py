"""Fits from the command line on data that need preparing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from mptt.experiments.cli import main, run
from mptt.experiments.predictions import open_predictions
from mptt.metrics import NSE

SMALL = ["--model", "SequenceRegressor", "--model.hidden_size", "4", "--trainer.max_epochs", "2"]
SMALL += ["--trainer.enable_progress_bar", "false", "--run_dir", "r"]


@pytest.fixture
def basins(two_sites: Callable[..., xr.Dataset]) -> Path:
    """Six sites with gaps in the rain, a rock each, temperature and latitude."""
    one, two, three = two_sites(), two_sites(steps=900) * 3, two_sites() + 1
    dataset = xr.concat([one, two, three], "site", join="override").assign_coords(
        site=[f"0{site}" for site in range(6)]
    )
    dataset["rain"] = dataset["rain"].copy()
    dataset["rain"][:, 10:900:97] = np.nan
    dataset["tmin"] = xr.full_like(dataset["rain"], 5.0)
    dataset["tmax"] = xr.full_like(dataset["rain"], 15.0)
    dataset["lat"] = "site", np.linspace(40, 50, 6)
    dataset["rock"] = "site", np.array(["slate", "chalk", "slate", "chalk", "chalk", "slate"])
    dataset.to_netcdf("basins.nc")
    return Path("basins.nc")


SETTINGS = {
    "inputs": ["rain", "pet_oudin", "doy_sin"],
    "targets": ["storage", "flow"],
    "attributes": ["lat", "rock"],
    "attributes_text": "onehot",
    "fill": [{"method": "interpolate", "limit": 3, "mask": True}, {"method": "climatology"}],
    "derive": {"pet_oudin": {"temperature": ["tmin", "tmax"], "latitude": "lat"}},
    "site_split": {"train": ["00", "01", "02"], "validation": ["03"], "test": "test.txt"},
    "window": 40,
    "stride": 20,
    "warmup": 30,
}


def configure(**changes: object) -> str:
    data = {"class_path": "SeriesDataModule", "init_args": {"dataset": "basins.nc", **SETTINGS, **changes}}
    Path("c.yaml").write_text(yaml.safe_dump({"data": data}))
    Path("test.txt").write_text("04\n05\n")
    return "c.yaml"


def test_everything_at_once(basins: Path) -> None:
    cli = run(["fit", "--config", configure(), *SMALL])
    data = cli.datamodule
    assert data.input_names == ["rain", "pet_oudin", "doy_sin", "rain_missing"]
    assert data.attribute_names == ["lat", "rock=chalk", "rock=slate"]
    assert cli.model.core.input_size == 7
    log = Path("r/log.txt").read_text()
    assert (
        f"Filled {6 * 10} missing values of rain at 6 site(s) (60 by interpolate); the longest gap is 1 steps." in log
    )
    with open_predictions(Path("r")) as predictions:
        assert predictions["site"].values.tolist() == ["04", "05"]
    assert set(pd.read_csv("r/scores.csv", dtype={"site": str})["site"]) == {"04", "05"}
    main(["test", "--config", "r/config.yaml", "--inference", "IIF", "--trainer.enable_progress_bar", "false"])
    assert Path("r/IIF/scores.csv").exists()


def test_settings_of_the_command_line_are_those_of_a_file(basins: Path) -> None:
    words = ["--data.fill", "{method: forward, limit: 9}", "--data.site_split", "{folds: 3, fold: 1, validation: 0.3}"]
    words += ["--data.split", "null", "--data.attributes_text", "drop", "--data.gap", "0"]
    cli = run(["fit", "--config", configure(), *words, *SMALL])
    assert cli.datamodule.attribute_names == ["lat"]
    assert {name: len(part) for name, part in cli.datamodule.parts.items()} == {"train": 3, "validation": 1, "test": 2}
    assert cli.datamodule.parts["test"].length.tolist() == [900, 900]


def test_each_fold_tests_sites_that_no_other_does(basins: Path) -> None:
    config, tested = configure(site_split={"folds": 3, "fold": 0}, split=None), []
    for fold in range(3):
        run(["fit", "--config", config, f"--data.site_split.fold={fold}", *SMALL, f"--run_dir=fold{fold}"])
        scores = pd.read_csv(f"fold{fold}/scores.csv", dtype={"site": str})
        assert scores["rmse"].notna().all()
        tested += scores["site"].unique().tolist()
    assert sorted(tested) == [f"0{site}" for site in range(6)]


def test_dates_of_each_site_come_from_a_table(basins: Path) -> None:
    header = "site,train_start,train_end,validation_start,validation_end,test_start,test_end\n"
    row = "0{},2001-01-0{},2001-12-31,2002-01,2002-06,2002-07,2003-05"
    Path("dates.csv").write_text(header + "\n".join(row.format(site, site + 1) for site in range(6)))
    cli = run(["fit", "--config", configure(site_split=None, split="dates.csv"), *SMALL])
    assert cli.datamodule.parts["train"].begin.tolist() == [0, 1, 2, 3, 4, 5]


def test_dates_of_each_site_in_the_configuration_come_back_from_the_run(basins: Path) -> None:
    dates = {"train": ["2001", "2001"], "validation": ["2002-01", "2002-06"], "test": ["2002-07", "2003-05"]}
    split = {f"0{site}": dates for site in range(6)}
    run(["fit", "--config", configure(site_split=None, split=split), *SMALL])
    words = ["--config", "r/config.yaml", "--trainer.enable_progress_bar", "false"]
    assert run(["test", *words]).datamodule.split == split


@pytest.mark.parametrize("evaluation", [[], ["--strategy", "TF-TFIF"], ["--inference", "IIF"]])
def test_scores_of_targets_scaled_by_site_are_in_the_units_of_the_data(basins: Path, evaluation: list[str]) -> None:
    """Sites differ by a factor of three: with the wrong scale, observations and scores would be off."""
    config = configure(site_split=None, target_scaling="site", split=[0.5, 0.2, 0.3])
    warned = (
        pytest.warns(match="No step comes before|not observed at")
        if "TF-TFIF" in evaluation
        else contextlib.nullcontext()
    )
    with warned:
        cli = run(["fit", "--config", config, *SMALL, *evaluation])
    truth = xr.open_dataset("basins.nc")
    with open_predictions(Path("r")) as predictions:
        expected = truth["storage"].sel(time=predictions["time"])
        np.testing.assert_allclose(predictions["storage_observed"], expected, rtol=1e-4)
        scored = predictions.isel(time=slice(30, None))
        metric = NSE(6)
        pairs = [torch.from_numpy(scored[name].values) for name in ("storage", "storage_observed")]
        metric.update(*pairs, site=torch.arange(6))
        by_hand = metric.compute()
    scores = pd.read_csv("r/scores.csv")
    np.testing.assert_allclose(scores[scores["target"] == "storage"]["nse"], by_hand, rtol=1e-4)
    np.testing.assert_allclose(cli.model.test_scores["nse"][0], by_hand, rtol=1e-3, atol=1e-4)
    if "IIF" in evaluation:
        steps = pd.read_csv("r/steps.csv")
        rmse = scores[scores["target"] == "storage"]["rmse"].to_numpy()
        assert (np.sqrt(steps["squared_error"].sum() / steps["count"].sum()) < 3 * rmse.max()).all()


def test_a_test_site_that_does_not_train_cannot_be_scaled_by_site(basins: Path) -> None:
    with pytest.raises(SystemExit, match='mptt: target_scaling="site" needs a training value'):
        main(["fit", "--config", configure(target_scaling="site"), *SMALL])


def test_what_is_wrong_with_a_setting_is_said(basins: Path) -> None:
    for changes, message in (
        ({"fill": {"method": "interpolate"}}, "interpolate needs a limit"),
        ({"attributes_text": "error"}, r"rock is not numeric but text \(chalk, slate\)"),
        ({"site_split": {"train": ["99"], "validation": ["03"], "test": ["04"]}}, "does not have: 99"),
        ({"split": "none.csv"}, "no table of dates at none.csv"),
    ):
        with pytest.raises(SystemExit, match=f"mptt: .*{message}"):
            main(["fit", "--config", configure(**changes), *SMALL])

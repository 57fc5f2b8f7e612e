from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import xarray as xr
import yaml
from faults import no_file_over

from mptt import MPTTError
from mptt.callbacks import StatefulCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.figures import scored_steps
from mptt.experiments.predictions import open_predictions, save_predictions, score_table
from mptt.experiments.records import BestAndLast, EpochTable, PredictionRecord, write_versions
from mptt.experiments.regressor import SequenceRegressor

Make = Callable[..., xr.Dataset]
MakeData = Callable[..., SeriesDataModule]
MakeTrainer = Callable[..., pl.Trainer]

FAR = np.datetime64("2899-01-01", "s") + np.arange(900) * np.timedelta64(86400, "s")
NOLEAP = xr.date_range("2001-01-01", periods=900, calendar="noleap", use_cftime=True).values
NOONS = xr.date_range("0850-01-01 12:00", periods=900, calendar="360_day", use_cftime=True).values
HALF_HOURS = np.datetime64("2001-01-01", "s") + np.arange(900) * np.timedelta64(1800, "s")


@pytest.mark.parametrize("time", [FAR, NOLEAP, NOONS, HALF_HOURS], ids=["far", "noleap", "noons", "half-hours"])
def test_predictions_keep_any_calendar(
    time: np.ndarray, two_sites: Make, series: MakeData, quiet: MakeTrainer, tmp_path: Path
) -> None:
    data, trainer = series(two_sites(time)), quiet(StatefulCallback(training=False), PredictionRecord(tmp_path))
    trainer.test(SequenceRegressor(1, 2, hidden_size=3), datamodule=data, verbose=False)
    with open_predictions(tmp_path) as written:
        assert dict(written.sizes) == {"site": 2, "time": 270}
        assert list(written["site"].values) == ["a", "b"]
        assert written["time"].values[0] == time[630]
        assert written["time"].values[-1] == time[-1]
        assert isinstance(written["time"].values[0], cftime.datetime if time.dtype == object else np.datetime64)
        assert written["flow"].attrs["units"] == written["flow_observed"].attrs["units"] == "mm/day"
        assert written["storage"].attrs["units"] == "mm"
        assert written.attrs["Conventions"].startswith("CF-")
        observed = two_sites(time)["flow"].values[:, 630:]
        np.testing.assert_allclose(written["flow_observed"].values, observed, rtol=1e-5, atol=1e-5)
        assert written["flow"].notnull().all()
    with xr.open_dataset(tmp_path / "predictions.nc", decode_times=False) as raw:
        assert raw["time"].dtype == np.int64
        assert " since " in raw["time"].attrs["units"]
        assert "calendar" in raw["time"].attrs
    for name in ("hydrograph.png", "hydrograph.pdf", "scores.csv"):
        assert (tmp_path / name).stat().st_size > 0
    assert not list(tmp_path.glob("*.partial"))


def test_steps_are_scored_after_each_sites_own_warm_up() -> None:
    nan = np.nan
    predictions = xr.Dataset(
        {
            "q": (("site", "time"), [[1.0, 2, 3, 4, nan], [nan, 1, 2, 3, 4]]),
            "q_observed": (("site", "time"), [[9.0, 9, 3, nan, nan], [nan, 9, 9, 4, 4]]),
        },
        {"site": ["a", "b"], "time": pd.date_range("2001-01-01", periods=5)},
        {"warmup_steps": 2},
    )
    assert scored_steps(predictions).values.tolist() == [[False, False, True, True, False], [False] * 3 + [True] * 2]
    table = score_table(predictions).set_index("site")
    assert table.loc["a", "rmse"] == 0
    assert table.loc["b", "rmse"] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(table.loc["b", "nse"]), "constant observations"


def test_sites_without_observations_have_a_row_without_scores() -> None:
    predictions = xr.Dataset(
        {"q": (("site", "time"), np.ones((2, 3))), "q_observed": (("site", "time"), [[1.0, 2, 3], [np.nan] * 3])},
        {"site": ["01", "02"], "time": pd.date_range("2001-01-01", periods=3)},
    )
    table = score_table(predictions)
    assert table["site"].tolist() == ["01", "02"]
    assert table["rmse"][0] == pytest.approx(np.sqrt(5 / 3))
    assert table.to_csv(index=False).splitlines()[2] == "q,02,,,,"


def test_predictions_that_cannot_be_written_leave_those_of_before(tmp_path: Path) -> None:
    good = xr.Dataset({"q": ("time", [1.0])}, {"site": "a", "time": pd.date_range("2001-01-01", periods=1)})
    save_predictions(good, tmp_path / "predictions.nc")
    before = (tmp_path / "predictions.nc").read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_predictions(good.assign(bad=("time", [object()])), tmp_path / "predictions.nc")
    with no_file_over(2000), pytest.raises(MPTTError, match=r"predictions\.nc cannot be written"):
        save_predictions(good.assign(more=("long", np.random.default_rng(0).random(5000))), tmp_path / "predictions.nc")
    assert (tmp_path / "predictions.nc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.nc"]


def test_versions_are_plain_yaml(tmp_path: Path) -> None:
    write_versions(tmp_path / "new", 7)
    versions = yaml.safe_load((tmp_path / "new" / "versions.yaml").read_text())
    assert versions["seed"] == 7
    assert versions["threads"] >= 1
    assert {"python", "platform", "torch", "pytorch-lightning"} <= set(versions)


def test_times_of_an_epoch_leave_validation_out(
    two_sites: Make, series: MakeData, quiet: MakeTrainer, tmp_path: Path
) -> None:
    data, trainer = series(two_sites()), quiet(EpochTable(tmp_path), max_epochs=3)
    trainer.fit(SequenceRegressor(1, 2, hidden_size=3), datamodule=data)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["epoch"].tolist() == [0, 1, 2]
    assert (table["train_seconds"] < table["epoch_seconds"]).all()
    assert (table["train_seconds"] > 0).all()
    assert table["train_loss"].iloc[-1] == pytest.approx(trainer.callback_metrics["train_loss"].item())


def test_no_validation_loss_is_refused(two_sites: Make, series: MakeData, quiet: MakeTrainer, tmp_path: Path) -> None:
    trainer = quiet(BestAndLast(tmp_path), enable_checkpointing=True, limit_val_batches=0, max_epochs=1)
    with pytest.raises(MPTTError, match="val_loss"):
        trainer.fit(SequenceRegressor(1, 2, hidden_size=3), datamodule=series(two_sites()))
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()

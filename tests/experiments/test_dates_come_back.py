"""With a model that returns its input, and the date as target, predictions are the date that they stand at."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import nn

from mptt import MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.stored import StoredSeries
from mptt.experiments import records
from mptt.experiments.predictions import open_predictions
from mptt.experiments.records import PredictionRecord

STEPS = 200
# First step and length of each site's record; the last is too short for a window.
PERIODS = {"s2": (0, 200), "s0": (11, 150), "s10": (40, 160), "s1": (0, 97), "s3": (90, 20)}
SITE_SPLIT = {"train": ["s2", "s3", "s1"], "validation": ["s0"], "test": ["s10"]}
TIMES = {
    "daily": xr.date_range("2000-01-01", periods=STEPS, freq="D"),
    "noleap": xr.date_range("2000-01-01", periods=STEPS, freq="D", calendar="noleap", use_cftime=True),
    "360_day": xr.date_range("2000-01-01", periods=STEPS, freq="D", calendar="360_day", use_cftime=True),
    "after_2262": np.datetime64("2262-01-01", "s") + np.arange(STEPS) * np.timedelta64(86400, "s"),
    "half_hourly": np.datetime64("2000-02-25", "s") + np.arange(STEPS) * np.timedelta64(1800, "s"),
    "monthly": np.arange(12 * 300, 12 * 300 + STEPS).astype("datetime64[M]").astype("datetime64[s]"),
}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(records, "draw_run", lambda folder: None)


def dates_of(part, begin, length):
    share = {"train": (0, 0.5), "validation": (0.5, 0.6), "test": (0.7, 1)}[part]
    first, last = (begin + int(length * edge) for edge in share)
    return [str(np.datetime64("2000-01-01") + step) for step in (first, last - 1)]


BY_SITE = {
    site: {part: dates_of(part, *period) for part in ("train", "validation", "test")}
    for site, period in PERIODS.items()
}
WAYS = {
    "plain": {},
    "filled": {"fill": [{"method": "interpolate", "limit": 3, "mask": True}, {"method": "forward", "limit": 99}]},
    "gap": {"gap": 5, "warmup": 3},
    "site_split": {"site_split": SITE_SPLIT},
    "whole_records": {"site_split": SITE_SPLIT, "split": None},
    "dates_by_site": {"split": BY_SITE},
    "train_steps": {"train_steps": 30},
    "scaled_by_site": {"target_scaling": "site"},
    "lagged": {"lagged_target": "step"},
    "attributes": {"attributes": ["place"]},
}


def dated(time="daily", gaps=False):
    """Sites in no order; the target, and the input n, is the number of the date, that of the site beside it."""
    random, step = np.random.default_rng(0), np.arange(STEPS)
    inside = np.stack([(step >= begin) & (step < begin + length) for begin, length in PERIODS.values()])
    code = np.where(inside, step + 1000.0 * np.arange(len(PERIODS))[:, None], np.nan)
    gap = np.zeros_like(inside)
    if gaps:
        gap = random.random(inside.shape) < 0.2
        for site, (begin, length) in enumerate(PERIODS.values()):
            gap[site, [begin, begin + length - 1]] = False
    return xr.Dataset(
        {
            "n": (("site", "time"), code),
            "rain": (("site", "time"), np.where(inside & ~gap, random.random(inside.shape), np.nan)),
            "y": (("site", "time"), np.where(random.random(inside.shape) > 0.2, code, np.nan)),
            "place": ("site", np.arange(len(PERIODS)) ** 2.0),
        },
        {"site": list(PERIODS), "time": TIMES[time]},
    )


class Echo(pl.LightningModule):
    """Returns its first input, as a target of its site."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1))

    def test_step(self, batch, batch_idx):
        data = self.trainer.datamodule
        number = batch["x"][..., :1] * data.input_scaler.scale[0] + data.input_scaler.mean[0]
        zero, one = (data.target_scaler.inverse(torch.full_like(number, value), batch["site"]) for value in (0.0, 1.0))
        return (number - zero) / (one - zero)


def evaluate(source, folder, **changes):
    arguments = {"inputs": ["n", "rain"], "targets": ["y"], "window": 24, "stride": 12, "batch_size": 2, "chunk": 17}
    data = SeriesDataModule(source, **(arguments | {"sites_at_once": 2, "seed": 0} | changes))
    trainer = pl.Trainer(
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PredictionRecord(folder)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # of sites that are too short, and of lags that are filled
        trainer.test(Echo(), datamodule=data, verbose=False)
    return data


def assert_dates(data, folder, time="daily"):
    """Each prediction is the number of the date that it stands at, and there is one at each in the part."""
    with open_predictions(folder) as predictions:
        number = dict(zip(map(str, dated(time).indexes["time"]), range(STEPS), strict=True))
        at = np.array([number[str(moment)] for moment in predictions.indexes["time"]])
        part, names = data.parts["test"], list(PERIODS)
        assert predictions["site"].values.tolist() == [data.sites[site] for site in part.site]
        for row, (begin, length) in enumerate(zip(part.begin, part.length, strict=True)):
            inside = (at >= begin) & (at < begin + length)
            assert inside.sum() == length
            expected = np.where(inside, 1000.0 * names.index(predictions["site"].values[row].item()) + at, np.nan)
            np.testing.assert_allclose(predictions["y"].values[row], expected, atol=2e-3)
            observed = predictions["y_observed"].values[row]
            assert (~np.isnan(observed)).any()
            np.testing.assert_allclose(observed, np.where(np.isnan(observed), np.nan, expected), atol=2e-3)


def run(tmp_path, stored, way, time="daily", **changes):
    dataset, changes = dated(time, gaps="fill" in WAYS[way]), WAYS[way] | changes
    if stored:
        dataset.to_netcdf(tmp_path / "series.nc")
        row = 13 + 4 * (len({"fill", "lagged_target"} & set(changes)))
        # Lanes of one window need one site at a time; there is room for two.
        changes |= {"memory": 2.1 * STEPS * row / 2**30, "order": "lanes", "stride": 24, "batch_size": 1}
        dataset = tmp_path / "series.nc"
    data = evaluate(dataset, tmp_path / "run", **changes)
    assert isinstance(data._series, StoredSeries) == stored
    assert_dates(data, tmp_path / "run", time)


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "stored"])
@pytest.mark.parametrize("way", WAYS)
def test_predictions_stand_at_their_dates(tmp_path, way, stored):
    run(tmp_path, stored, way)


@pytest.mark.parametrize("evaluation", ["independent", "conditional"])
def test_predictions_of_windows_stand_at_their_dates(tmp_path, evaluation):
    run(tmp_path, False, "gap", evaluation=evaluation, evaluation_stride=7)


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "stored"])
@pytest.mark.parametrize("time", sorted(set(TIMES) - {"daily"}))
def test_predictions_stand_at_the_dates_of_other_calendars_and_steps(tmp_path, time, stored):
    run(tmp_path, stored, "filled", time)

import warnings

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.preparing.parts import PARTS

DATES = {
    "train": ("2000-01-01", "2000-02-19"),
    "validation": ("2000-02-10", "2000-03-10"),
    "test": ("2000-03-01", "2000-04-09"),
}


def days(count, start="2000-01-01"):
    return np.datetime64(start, "s") + np.arange(count) * np.timedelta64(86400, "s")


def dated(periods, time, missing=0):
    """Sites whose input and target are the number of the step, plus 1000 for each site before; `missing` targets."""
    step = np.arange(len(time))
    code = np.stack([1000.0 * site + step for site in range(len(periods))])
    inside = np.stack([(step >= begin) & (step < end) for begin, end in periods])
    known = inside & (np.random.default_rng(0).random(inside.shape) >= missing)
    return xr.Dataset(
        {
            "x": (("site", "time"), np.where(inside, code, np.nan)),
            "y": (("site", "time"), np.where(known, code, np.nan), {"units": "mm"}),
            "size": ("site", 10.0 ** np.arange(len(periods))),
        },
        {"site": [f"s{site}" for site in range(len(periods))], "time": time},
    )


PERIODS = [(0, 100), (30, 100), (0, 64), (17, 83), (0, 52)]


def module(dataset=None, **changes):
    if dataset is None:
        dataset = dated(PERIODS, days(100), missing=0.2)
    arguments = {"inputs": ["x"], "targets": ["y"], "window": 8, "stride": 4, "batch_size": 5, "seed": 0}
    return SeriesDataModule(dataset, **(arguments | changes))


def quiet_setup(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # of sites shorter than a window
        data.setup("fit")
    return data


def expected_span(data, part, site):
    """First and last step of a part at a site, worked out by hand."""
    begin, end = PERIODS[site]
    if isinstance(data.split, dict):
        low, high = (int((np.datetime64(date) - np.datetime64("2000-01-01")).astype(int)) for date in data.split[part])
        return max(low, begin), min(high + 1, end)
    edges = [begin + int((end - begin) * share + 1e-9) for share in (0, *np.cumsum(data.split))]
    return edges[PARTS.index(part)], edges[PARTS.index(part) + 1]


# Alignment


@pytest.mark.parametrize("split", [(0.5, 0.2, 0.3), DATES], ids=["fractions", "dates"])
@pytest.mark.parametrize("evaluation", ["sequential", "independent"])
@pytest.mark.parametrize(("chunk", "sites_at_once"), [(7, 2), (1000, 256), (1, 1)])
@pytest.mark.parametrize("part", PARTS)
def test_predictions_stand_at_their_dates(split, evaluation, chunk, sites_at_once, part):
    data = quiet_setup(
        module(
            split=split, evaluation=evaluation, chunk=chunk, sites_at_once=sites_at_once, warmup=20 * (split is DATES)
        )
    )
    batches = list(data.evaluation_dataloader(part))
    for key in ("x", "y"):  # a model that knows its target, and one that repeats its input
        scaler = data.input_scaler if key == "x" else data.target_scaler
        values = [data.target_scaler.transform(scaler.inverse(batch[key])) for batch in batches]
        table = data.predictions(part, values, batches)
        for site in range(len(PERIODS)):
            low, high = expected_span(data, part, site)
            if high <= low:
                assert f"s{site}" not in table["site"].values
                continue
            series = table.sel(site=f"s{site}")
            inside = (table["time"] >= data.time[low]) & (table["time"] <= data.time[high - 1])
            truth = 1000.0 * site + np.arange(low, high)
            known = np.isfinite(data._dataset["y"].values[site, low:high])
            np.testing.assert_array_equal(series["y"].notnull(), inside)
            np.testing.assert_allclose(series["y_observed"].values[inside], np.where(known, truth, np.nan), atol=0.01)
            there = slice(None) if key == "x" else known
            np.testing.assert_allclose(series["y"].values[inside][there], truth[there], atol=0.01)
            assert np.isnan(series["y_observed"].values[~inside.values]).all()


def test_evaluation_numbers_sites_as_the_data_set_does():
    data = quiet_setup(module(split=DATES, warmup=20))
    assert data.parts["test"].site.tolist() == [0, 1, 2, 3]
    for batch in data.test_dataloader():
        code = data.input_scaler.inverse(batch["x"])[:, 0, 0]
        assert (code // 1000).int().tolist() == batch["site"].tolist()


@pytest.mark.parametrize("order", ["shuffled", "lanes"])
def test_training_windows_stand_at_their_dates(order):
    data = quiet_setup(module(split=(0.6, 0.2, 0.2), order=order, stride=8 if order == "lanes" else 4))
    seen = []
    for batch in data.train_dataloader():
        ids = batch["window"].numpy()
        begin = np.array([PERIODS[site][0] for site in range(5)])[data.windows.site[ids]]
        code = (1000 * data.windows.site[ids] + begin + data.windows.start[ids])[:, None] + np.arange(8)
        np.testing.assert_allclose(data.input_scaler.inverse(batch["x"])[..., 0], code, atol=0.01)
        known = np.isfinite(data._dataset["y"].values[code // 1000, code % 1000])
        np.testing.assert_array_equal(batch["mask"][..., 0], known)
        y = data.target_scaler.inverse(batch["y"])[..., 0].numpy()
        np.testing.assert_allclose(y[known], code[known], atol=0.01)
        assert (batch["y"][..., 0].numpy()[~known] == 0).all()
        seen += ids.tolist()
    assert sorted(seen) == list(range(len(data.windows)))


def test_walk_along_the_training_series_has_the_starts_of_the_windows():
    data = quiet_setup(module(split=(0.6, 0.2, 0.2), chunk=9, sites_at_once=2, warmup=3))
    steps = {}
    for batch in data.series_dataloader():
        for site, start, length in zip(*(batch[key].tolist() for key in ("site", "start", "length")), strict=True):
            assert steps.get(site, 0) == start
            steps[site] = start + length
        np.testing.assert_array_equal(batch["mask"].any(2) & ~batch["keep"], False)
    assert steps == {site: int(0.6 * (end - begin) + 1e-9) for site, (begin, end) in enumerate(PERIODS)}


def test_warm_up_is_fed_predicted_and_not_scored():
    data = quiet_setup(module(dated(PERIODS, days(100)), split=(0.5, 0.2, 0.3), warmup=6, chunk=5))
    for part, skipped in (("train", 0), ("validation", 6), ("test", 6)):
        scored = dict.fromkeys(range(5), 0)
        for batch in data.evaluation_dataloader(part):
            assert not batch["mask"][batch["start"].unsqueeze(1) + torch.arange(batch["x"].shape[1]) < skipped].any()
            for site, mask in zip(batch["site"].tolist(), batch["mask"], strict=True):
                scored[site] += int(mask.sum())
        lengths = dict(zip(data.parts[part].site.tolist(), data.parts[part].length.tolist(), strict=True))
        assert scored == {site: max(length - skipped, 0) for site, length in lengths.items()}
        batches = list(data.evaluation_dataloader(part))
        table = data.predictions(part, [batch["y"] for batch in batches], batches)
        assert int(table["y"].notnull().sum()) == data.parts[part].length.sum()
        assert table.attrs == {"part": part, "warmup_steps": skipped}


def test_unknown_part():
    with pytest.raises(MPTTError, match="no part 'testing'; parts are train, validation, test"):
        quiet_setup(module()).evaluation_dataloader("testing")


# Scaling


def test_scalers_see_only_the_training_part():
    dataset = dated(PERIODS, days(100), missing=0.2)
    data = quiet_setup(module(dataset, split=(0.5, 0.2, 0.3), attributes=["size"]))
    spans = [slice(*expected_span(data, "train", site)) for site in range(5)]
    for name, scaler in (("x", data.input_scaler), ("y", data.target_scaler)):
        values = np.concatenate([dataset[name].values[site, span] for site, span in enumerate(spans)])
        np.testing.assert_allclose(scaler.mean, np.nanmean(values), rtol=1e-6)
        np.testing.assert_allclose(scaler.scale, np.nanstd(values), rtol=1e-6)
    np.testing.assert_allclose(data.attribute_scaler.mean, 11111 / 5, rtol=1e-6)
    later = dataset.copy(deep=True)
    for site in range(5):
        later["y"][site, spans[site].stop :] *= 7
    assert quiet_setup(module(later, split=(0.5, 0.2, 0.3))).target_scaler.mean == data.target_scaler.mean


def test_attributes_come_after_the_inputs_at_every_step():
    data = quiet_setup(module(attributes=["size"], split=(0.6, 0.2, 0.2)))
    assert (data.input_size, data.output_size) == (2, 1)
    batch = next(iter(data.train_dataloader()))
    size = data.attribute_scaler.inverse(batch["x"][..., 1:])[..., 0]
    expected = 10.0 ** data.windows.site[batch["window"]]
    np.testing.assert_allclose(size, np.repeat(expected[:, None], 8, axis=1), rtol=1e-3, atol=1e-2)
    for batch in data.test_dataloader():
        size = data.attribute_scaler.inverse(batch["x"][..., 1:])[..., 0]
        np.testing.assert_allclose(size[:, 0], 10.0 ** batch["site"].numpy(), rtol=1e-3, atol=1e-2)


def test_scalers_of_a_checkpoint_are_taken_over():
    one = quiet_setup(module(attributes=["size"]))
    other_data = dated(PERIODS, days(100), missing=0.2)
    other_data["x"] = 3 * other_data["x"] + 5
    other_data["y"] = 0.5 * other_data["y"] - 2
    other = quiet_setup(module(other_data, attributes=["size"]))
    other.load_state_dict(one.state_dict())
    for batch, twin in zip(other.test_dataloader(), one.test_dataloader(), strict=True):
        truth = one.input_scaler.inverse(twin["x"][..., :1])
        assert torch.equal(batch["x"][..., 1:], twin["x"][..., 1:])
        torch.testing.assert_close(one.input_scaler.inverse(batch["x"][..., :1]), 3 * truth + 5, rtol=0, atol=0.01)
        known = twin["mask"]
        y = one.target_scaler.inverse(twin["y"])[known]
        torch.testing.assert_close(one.target_scaler.inverse(batch["y"])[known], 0.5 * y - 2, rtol=0, atol=0.01)
        assert (batch["y"][~batch["mask"] & batch["keep"].unsqueeze(2)] == 0).all()


def test_scalers_of_the_same_data_change_no_bit():
    data = quiet_setup(module(attributes=["size"]))
    before = {key: value.clone() for key, value in vars(data._series).items() if isinstance(value, torch.Tensor)}
    data.load_state_dict(data.state_dict())
    assert all(torch.equal(getattr(data._series, key), value) for key, value in before.items())


def test_scalers_for_other_variables_are_refused():
    state = quiet_setup(module()).state_dict()
    with pytest.raises(MPTTError, match=r"saved scaler is for \[\], but the data module has \['size'\]"):
        quiet_setup(module(attributes=["size"])).load_state_dict(state)


# Lightning


class Recorder(pl.LightningModule):
    """Learns little, and writes down which windows came in which epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.orders = {}

    def training_step(self, batch, batch_idx):
        self.orders.setdefault(self.current_epoch, []).extend(batch["window"].tolist())
        return ((self.layer(batch["x"]) - batch["y"]).square() * batch["mask"]).mean()

    def validation_step(self, batch, batch_idx):
        self.log("loss", (self.layer(batch["x"]) - batch["y"]).square().mean(), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(data, folder, epochs, checkpoint=None):
    torch.manual_seed(0)
    model = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=1,
        accelerator="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model.orders, trainer


def test_what_is_to_come_is_predicted_without_a_target_and_not_tested():
    dataset = dated([(0, 100), (0, 100)], days(100))
    dataset["y"][:, 60:] = np.nan
    settings = {"split": (0.4, 0.2, 0.4), "attributes": []}
    for stage in ("fit", "test", None):
        with pytest.raises(MPTTError, match="The target y has no value in the test part"):
            module(dataset, **settings).setup(stage)
    data = module(dataset, **settings)
    with pytest.warns(MPTTWarning, match=r"test part of 2 site\(s\), so they are predicted but not scored: s0, s1"):
        data.setup("predict")
    batches = list(data.predict_dataloader())
    assert sum(int(batch["keep"].sum()) for batch in batches) == 2 * 40
    assert not any(batch["mask"].any() for batch in batches)
    placed = data.predictions("test", [batch["x"][..., :1] for batch in batches], batches)
    assert np.isfinite(placed["y"]).all()
    assert placed["y_observed"].isnull().all()
    assert placed["time"].values.tolist() == dataset["time"].values[60:].tolist()
    dataset["y"][:, 40:] = np.nan  # nor is validation left out
    with pytest.raises(MPTTError, match="The target y has no value in the validation part"):
        module(dataset, **settings).setup("predict")


@pytest.mark.parametrize("seed", [3, None])
def test_resumed_training_shuffles_as_it_would_have(tmp_path, seed):
    whole, _ = fit(module(seed=seed), tmp_path, 4)
    first, trainer = fit(module(seed=seed), tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    rest, _ = fit(module(seed=seed), tmp_path, 4, tmp_path / "two.ckpt")
    assert sorted(whole) == [0, 1, 2, 3]
    assert first | rest == whole
    assert whole[0] != whole[1] != whole[2]
    assert all(sorted(order) == sorted(whole[0]) for order in whole.values())


def test_checkpoint_brings_its_scalers_to_other_data(tmp_path):
    data = module(attributes=[])
    _, trainer = fit(data, tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    saved = torch.load(tmp_path / "one.ckpt", weights_only=True)["SeriesDataModule"]
    assert saved["targets"]["names"] == ["y"]
    other = dated(PERIODS, days(100))
    other["y"] = other["y"] * 4
    again = module(other)
    fit(again, tmp_path, 2, tmp_path / "one.ckpt")
    assert torch.equal(again.target_scaler.mean, data.target_scaler.mean)
    batches = list(again.test_dataloader())
    table = again.predictions("test", [batch["y"] for batch in batches], batches)
    np.testing.assert_allclose(table["y"], table["y_observed"], atol=0.01)
    assert float(table["y"].max()) > 4 * 3000


def test_checkpoint_of_other_variables_is_refused(tmp_path):
    _, trainer = fit(module(), tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(MPTTError, match="saved scaler is for"):
        fit(module(attributes=["size"]), tmp_path, 2, tmp_path / "one.ckpt")


@pytest.mark.parametrize("order", ["shuffled", "lanes", "sequential", "series"])
def test_workers_cut_the_same_batches(order):
    arguments = {"order": order, "stride": 8 if order in ("lanes", "sequential") else 4, "lagged_target": "step"}
    alone, helped = (quiet_setup(module(num_workers=workers, **arguments)) for workers in (0, 2))
    for name in ("train_dataloader", "test_dataloader", "series_dataloader"):
        for one, other in zip(getattr(alone, name)(), getattr(helped, name)(), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)


# Kinds of data sets


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_calendars_go_through_to_the_predictions(calendar, tmp_path):
    periods = [(0, 700), (100, 700)]
    dataset = dated(periods, xr.date_range("2000-02-01", periods=700, calendar=calendar, use_cftime=True))
    split = {"train": ("2000-02", "2001-01"), "validation": ("2001-02", "2001-06"), "test": ("2001-07", "2001-10-30")}
    data = module(dataset, split=split)
    data.setup("fit")
    batches = list(data.predict_dataloader())
    data.predictions("test", [batch["y"] for batch in batches], batches).to_netcdf(tmp_path / "predictions.nc")
    decoder = xr.coders.CFDatetimeCoder(use_cftime=True)
    with xr.open_dataset(tmp_path / "predictions.nc", decode_times=decoder) as table:
        assert table.indexes["time"].calendar == calendar
        assert str(table.indexes["time"][0]) == "2001-07-01 00:00:00"
        assert str(table.indexes["time"][-1]) == "2001-10-30 00:00:00"
        at = np.flatnonzero(dataset.indexes["time"].isin(table.indexes["time"]))
        np.testing.assert_allclose(table["y"], at + 1000.0 * np.arange(2)[:, None], atol=0.01)
        assert table["y"].attrs == {"units": "mm", "long_name": "y, predicted"}
        assert table["y_observed"].attrs["long_name"] == "y, observed"


def test_thousand_years(tmp_path):
    time = np.arange("1902-01-01", "2902-01-01", dtype="datetime64[D]").astype("datetime64[s]")
    split = {"train": ("1902", "2401"), "validation": ("2402", "2501"), "test": ("2502-01-01", "2901-12-31")}
    dataset = dated([(0, len(time))], time)
    data = module(dataset, split=split, window=366, stride=183)
    data.setup("fit")
    batches = list(data.test_dataloader())
    table = data.predictions("test", [batch["y"] for batch in batches], batches)
    assert table["time"].values[[0, -1]].astype("datetime64[D]").astype(str).tolist() == ["2502-01-01", "2901-12-31"]
    np.testing.assert_allclose(table["y"][0], np.flatnonzero(time >= np.datetime64("2502")), atol=0.1)


def test_paths_of_zarr_and_netcdf(tmp_path):
    time = np.arange("2200-01-01", "2300-01-01", dtype="datetime64[D]").astype("datetime64[s]")
    dataset = dated([(0, len(time)), (500, 30000)], time, missing=0.1)
    # Format 2: in format 3 of Zarr text is not settled yet, and writing it warns.
    dataset.to_zarr(tmp_path / "data.zarr", zarr_format=2)
    dataset.to_netcdf(tmp_path / "data.nc")
    expected = module(dataset)
    expected.setup("fit")
    for path in (tmp_path / "data.zarr", str(tmp_path / "data.nc")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = module(path)
            data.setup("fit")
        assert data.sites == ["s0", "s1"]
        assert data.time.dtype == "datetime64[s]"
        assert torch.equal(data._series.inputs, expected._series.inputs)
        assert data.windows.fingerprint == expected.windows.fingerprint


def test_paths_that_hold_no_data_set(tmp_path):
    with pytest.raises(MPTTError, match=r"No data set at .*nowhere.zarr \(looked from"):
        module(tmp_path / "nowhere.zarr").setup("fit")
    with pytest.raises(MPTTError, match="cannot be read as a Zarr store"):
        module(tmp_path).setup("fit")
    (tmp_path / "data.nc").write_text("no")
    with pytest.raises(MPTTError, match=r"data.nc cannot be read as a NetCDF file"):
        module(tmp_path / "data.nc").setup("fit")


@pytest.mark.parametrize("chunks", [{"site": 1, "time": -1}, {"site": 2, "time": 33}])
def test_chunked_data_sets(chunks):
    pytest.importorskip("dask")
    dataset = dated(PERIODS, days(100), missing=0.2)
    assert torch.equal(
        quiet_setup(module(dataset.chunk(chunks)))._series.inputs, quiet_setup(module(dataset))._series.inputs
    )


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_numbers_of_any_kind_and_order_of_dimensions(kind):
    dataset = dated([(0, 100)] * 3, days(100)).astype(kind).transpose()
    data = module(dataset)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].dtype == batch["y"].dtype == torch.float32
    code = data.input_scaler.inverse(batch["x"])[:, 0, 0].numpy()
    expected = 1000 * data.windows.site[batch["window"]] + data.windows.start[batch["window"]]
    np.testing.assert_allclose(code, expected, atol=0.01)


def test_the_data_set_is_left_as_it_was():
    dataset = dated([(0, 100)] * 3, days(100), missing=0.2).astype(np.float32)
    kept = dataset.copy(deep=True)
    module(dataset, attributes=["size"]).setup("fit")
    xr.testing.assert_identical(dataset, kept)


@pytest.mark.parametrize("sites", [1, 200])
def test_one_site_and_many(sites):
    data = module(dated([(nth % 40, 60 + nth % 40) for nth in range(sites)], days(100)), sites_at_once=64)
    data.setup("fit")
    batches = list(data.test_dataloader())
    assert data.predictions("test", [batch["y"] for batch in batches], batches).sizes["site"] == sites
    assert len(data.windows) == 7 * sites


def test_setup_runs_once():
    calls = []

    class Counted(SeriesDataModule):
        def load(self):
            calls.append(1)
            return dated([(0, 100)], days(100))

    data = Counted(inputs=["x"], targets=["y"], window=8, stride=4)
    data.setup("fit")
    data.setup("test")
    assert len(calls) == 1


def test_loaders_need_no_setup_by_hand():
    assert next(iter(module(dated([(0, 100)], days(100))).val_dataloader()))["x"].shape == (1, 10, 1)


def test_indexes_of_pandas_are_read_as_they_are():
    data = module(dated([(0, 100)], pd.date_range("2000", periods=100, freq="h")))
    data.setup("fit")
    assert isinstance(data.time, pd.DatetimeIndex)


# Devices


def test_what_a_batch_holds_stays_on_the_host():
    data = quiet_setup(module())
    for loader in (data.train_dataloader(), data.val_dataloader()):
        moved = data.transfer_batch_to_device(next(iter(loader)), torch.device("meta"), 0)
        on_host = {name for name, values in moved.items() if values.device.type == "cpu"}
        assert on_host == {"window", "site", "start", "length"} & set(moved)
        assert {values.device.type for name, values in moved.items() if name not in on_host} == {"meta"}

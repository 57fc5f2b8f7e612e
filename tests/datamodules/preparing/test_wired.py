"""What the DataModule makes of every way to prepare data: each value still stands at its site and date."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.preparing.parts import PARTS

PERIODS = [(0, 400), (30, 400), (0, 330), (17, 383), (0, 52), (90, 95)]  # the last is too short for a window
SITES = [f"s{site}" for site in range(len(PERIODS))]
TIME = np.datetime64("2000-01-01", "s") + np.arange(400) * np.timedelta64(86400, "s")
PLAIN = {"inputs": ["x", "rain"], "targets": ["y"], "window": 8, "stride": 4, "batch_size": 5, "seed": 0}


def dated(periods=tuple(PERIODS)):
    """Sites whose target, and input x but for gaps, is the number of the step plus 1000 for each site before."""
    random = np.random.default_rng(0)
    step = np.arange(len(TIME))
    code = np.stack([1000.0 * site + step for site in range(len(periods))])
    inside = np.stack([(step >= begin) & (step < end) for begin, end in periods])
    gap = random.random(inside.shape) < 0.1
    for site, (begin, end) in enumerate(periods):
        gap[site, [begin, end - 1]] = False
    rocks = np.array(["chalk", "slate", "chalk", "basalt", "slate", "chalk", "slate", "chalk"])
    return xr.Dataset(
        {
            "x": (("site", "time"), np.where(inside & ~gap, code, np.nan)),
            "rain": (("site", "time"), np.where(inside, random.random(inside.shape), np.nan)),
            "tmean": (("site", "time"), np.where(inside, 10.0, np.nan)),
            "y": (("site", "time"), np.where(inside & (random.random(inside.shape) > 0.2), code, np.nan)),
            "size": ("site", 10.0 ** np.arange(len(periods))),
            "slope": ("site", np.where(np.arange(len(periods)) == 1, np.nan, 3.0)),
            "rock": ("site", rocks[: len(periods)]),
            "latitude": ("site", np.linspace(-40, 40, len(periods))),
        },
        {"site": [f"s{site}" for site in range(len(periods))], "time": TIME},
    )


def module(dataset=None, **changes):
    return SeriesDataModule(dated() if dataset is None else dataset, **(PLAIN | changes))


def quiet(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # of sites shorter than a window, and gaps in the lagged target
        data.setup("fit")
    return data


FILL = {"method": "interpolate", "limit": 50, "mask": True}
BY_SITE = {
    site: {
        "train": ("2000-01-01", str(TIME[begin + (end - begin) // 2])[:10]),
        "validation": (str(TIME[begin + (end - begin) // 2 + 1])[:10], str(TIME[end - 2])[:10]),
        "test": (str(TIME[end - 1])[:10], "2001-02-03"),
    }
    for site, (begin, end) in zip(SITES, PERIODS, strict=True)
}
SITE_SPLIT = {"train": ["s0", "s3"], "validation": ["s2", "s5"], "test": ["s1", "s4"]}
WAYS = {
    "filled": {},
    "site_split": {"site_split": SITE_SPLIT},
    "whole_records": {"site_split": SITE_SPLIT, "split": None},
    "dates_by_site": {"split": BY_SITE},
    "gap": {"gap": 3},
    "scaled_by_site": {"target_scaling": "site"},
    "lagged_and_by_site": {"target_scaling": "site", "lagged_target": "step", "warmup": 2},
    "attributes": {"attributes": ["rock", "size"], "attributes_text": "onehot"},
    "computed": {"inputs": ["doy_cos", "x", "pet_oudin", "rain"]},
    "all_together": {
        "inputs": ["doy_sin", "x", "pet_oudin"],
        "attributes": ["rock", "slope"],
        "attributes_text": "onehot",
        "attributes_missing": "median",
        "split": (0.6, 0.2, 0.2),
        "gap": 2,
        "target_scaling": "site",
        "lagged_target": "window",
    },
}


def positions(data, site, begin, length):
    """What x and y are by their dates."""
    name = int(data.sites[site][1:])
    return 1000.0 * name + begin + np.arange(length), name


def check_inputs(data, x, site, code):
    """The input x of a row, in physical units, and where it is said to be filled."""
    names = data.input_names
    values = data.input_scaler.inverse(x[..., : len(names)]).numpy()
    np.testing.assert_allclose(values[..., names.index("x")], code, atol=0.02)
    if "x_missing" in names:
        gap = np.isnan(dated()["x"].values[site][code.astype(int) % 1000])
        np.testing.assert_array_equal(x[..., names.index("x_missing")].numpy(), gap)


@pytest.mark.parametrize("way", WAYS)
def test_training_windows_stand_at_their_dates(way):
    data = quiet(module(fill=FILL, **WAYS[way]))
    begin = {
        int(site): int(first) for site, first in zip(data.parts["train"].site, data.parts["train"].begin, strict=True)
    }
    seen, truth = [], dated()["y"].values
    for batch in data.train_dataloader():
        assert batch["x"].shape[2] == data.input_size
        for row, window in enumerate(batch["window"].tolist()):
            site = int(data.windows.site[window])
            first = begin[site] + int(data.windows.start[window])
            code, name = positions(data, site, first, 8)
            check_inputs(data, batch["x"][row], name, code)
            known = np.isfinite(truth[name, first : first + 8])
            np.testing.assert_array_equal(batch["mask"][row, :, 0], known)
            y = data.target_scaler.inverse(batch["y"][row : row + 1], torch.tensor([site]))[0, :, 0].numpy()
            np.testing.assert_allclose(y[known], code[known], atol=0.02)
            seen.append(window)
    assert sorted(seen) == list(range(len(data.windows)))
    assert len(seen) > 5


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("evaluation", ["sequential", "independent"])
@pytest.mark.parametrize("way", WAYS)
def test_predictions_stand_at_their_dates(way, evaluation, part):
    data = quiet(module(fill=FILL, evaluation=evaluation, chunk=37, sites_at_once=2, **WAYS[way]))
    batches = list(data.evaluation_dataloader(part))
    stretch = {
        int(site): (int(begin), int(length))
        for site, begin, length in zip(
            *(getattr(data.parts[part], key) for key in ("site", "begin", "length")), strict=True
        )
    }
    for batch in batches:
        for row, (site, start) in enumerate(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True)):
            keep = batch["keep"][row].numpy()
            code, name = positions(data, site, stretch[site][0] + start, len(keep))
            check_inputs(data, batch["x"][row][keep], name, code[keep])
    table = data.predictions(part, [batch["y"] for batch in batches], batches)
    assert table["site"].values.tolist() == [data.sites[site] for site in stretch]
    for site, (begin, length) in stretch.items():
        code, name = positions(data, site, begin, length)
        series = table.sel(site=data.sites[site], time=slice(TIME[begin], TIME[begin + length - 1]))
        known = np.isfinite(dated()["y"].values[name, begin : begin + length])
        np.testing.assert_allclose(series["y_observed"], np.where(known, code, np.nan), atol=0.02)
        np.testing.assert_allclose(series["y"].values[known], code[known], atol=0.02)
        assert int(table["y"].sel(site=data.sites[site]).notnull().sum()) == length


def test_lagged_target_is_of_the_site_and_the_step_before_under_scaling_by_site():
    data = quiet(module(fill=FILL, target_scaling="site", lagged_target="step"))
    truth = dated()["y"].values
    for batch in data.test_dataloader():
        for row, (site, start) in enumerate(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True)):
            begin = int(data.parts["test"].begin[data.parts["test"].site == site][0]) + start
            lagged = data.target_scaler.inverse(batch["x"][row : row + 1, :, -1:], torch.tensor([site]))[0, :, 0]
            for nth in np.flatnonzero(batch["keep"][row].numpy()):
                before = truth[site, : begin + nth]
                np.testing.assert_allclose(lagged[nth], before[np.isfinite(before)][-1], atol=0.02)


# Filling


def test_what_was_filled_is_counted_and_said():
    data = quiet(module(fill={"method": "interpolate", "limit": 1}, inputs=["rain", "tmean", "x"][:2]))
    assert data.filled.empty
    assert data.notes == []
    data = quiet(module(fill=FILL))
    truth = dated()
    gaps = {site: int((truth["x"][nth, slice(*PERIODS[nth])].isnull()).sum()) for nth, site in enumerate(SITES)}
    found = data.filled.set_index("site")["filled"].to_dict()
    assert found == {site: count for site, count in gaps.items() if count}
    assert data.notes[0].startswith(f"Filled {sum(gaps.values())} missing values of x at {len(found)} site(s)")


def test_gaps_that_are_left_are_refused_with_their_place():
    with pytest.raises(MPTTError, match=r"Inputs have missing or infinite values \(x: \d+ of \d+ values"):
        module(fill={"method": "interpolate", "limit": 1}).setup()
    with pytest.raises(MPTTError, match="missing or infinite values"):
        module().setup()


def test_masks_stand_beside_inputs_with_gaps_only_and_are_not_scaled():
    data = quiet(module(fill=FILL, attributes=["size"]))
    again = module(fill=FILL)
    with pytest.warns(MPTTWarning, match="shorter than a window"):  # so the data are looked at
        assert again.input_names == ["x", "rain", "x_missing"]
    assert data.input_names == ["x", "rain", "x_missing"]
    assert data.input_size == 4
    assert data.input_scaler.mean[2] == 0
    assert data.input_scaler.scale[2] == 1
    named = module(fill={**FILL, "variables": ["rain", "x"]})
    assert named.input_names == ["x", "rain", "x_missing", "rain_missing"]
    assert named._series is None, "which inputs they are is known without the data"
    assert next(iter(quiet(named).train_dataloader()))["x"].shape[2] == 4


def test_climatology_does_not_see_the_test_part():
    dataset = dated([(0, 400)] * 2)
    dataset["x"][:] = 5.0
    dataset["x"][0, 10] = np.nan
    dataset["x"][:, 200:] = 900.0
    data = quiet(module(dataset, fill={"method": "climatology"}, split=(0.5, 0.2, 0.3)))
    assert float(data.input_scaler.inverse(data._series.inputs[10])[0]) == pytest.approx(5)


def test_dates_do_not_lengthen_a_record():
    plain, more = (quiet(module(fill=FILL, inputs=inputs)) for inputs in (["x"], ["doy_sin", "x", "doy_cos"]))
    for part in PARTS:
        np.testing.assert_array_equal(plain.parts[part].begin, more.parts[part].begin)
        np.testing.assert_array_equal(plain.parts[part].length, more.parts[part].length)
    assert quiet(module(inputs=["doy_sin"])).parts["test"].length.tolist() == [160] * 6


# Attributes


def test_attributes_are_encoded_by_the_training_sites():
    settings = {"attributes": ["size", "rock"], "attributes_text": "onehot", "fill": FILL, "site_split": SITE_SPLIT}
    data = module(**settings)
    with pytest.warns(MPTTWarning) as caught:
        assert data.attribute_names == ["size", "rock=basalt", "rock=chalk"]  # of s0 and s3
    assert any(
        "rock has a category that no training site has, at 2 site(s): s1 (slate), s4" in str(one.message)
        for one in caught
    )
    assert data.input_size == 3 + 3
    np.testing.assert_allclose(data.attribute_scaler.mean, [(1 + 1000) / 2, 0, 0])
    np.testing.assert_allclose(data.attribute_scaler.scale, [999 / 2, 1, 1])
    rows = {site: data._series.static[data.sites.index(site), 1:].tolist() for site in data.sites}
    assert rows == {"s0": [0, 1], "s1": [0, 0], "s2": [0, 1], "s3": [1, 0], "s4": [0, 0], "s5": [0, 1]}


def test_sites_without_an_attribute_are_left_out():
    data = quiet(module(fill=FILL, attributes=["slope"], attributes_missing="drop_site"))
    assert data.sites == ["s0", "s2", "s3", "s4", "s5"]
    assert data.notes[0] == "Left out 1 of 6 site(s), attributes missing: s1."
    split = module(
        fill=FILL, attributes=["slope"], attributes_missing="drop_site", split=BY_SITE, site_split=SITE_SPLIT
    )
    assert quiet(split).sites == data.sites


def test_attributes_left_out_shrink_the_input():
    settings = {"attributes": ["slope", "rock", "size"], "fill": FILL, "attributes_text": "drop"}
    data = module(attributes_missing="drop_attribute", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)
        assert data.attribute_names == ["size"]
        assert data.input_size == 4
    with pytest.raises(MPTTError, match="slope is missing or infinite"):
        quiet(module(**settings))


# Splits


def test_sites_in_no_part_are_left_out():
    data = quiet(module(fill=FILL, site_split={"train": ["s3"], "validation": ["s0"], "test": ["s1"]}))
    assert data.sites == ["s0", "s1", "s3"]
    assert [data.sites[site] for site in data.parts["train"].site] == ["s3"]
    assert data.notes[0] == "Left out 3 of 6 site(s), in no part of site_split: s2, s4, s5."


def test_scalers_see_no_site_of_other_parts():
    one = quiet(module(fill=FILL, site_split=SITE_SPLIT, split=None))
    other = dated()
    for name in ("x", "y", "rain"):
        other[name][[1, 2, 4, 5]] *= 7
    two = quiet(module(other, fill=FILL, site_split=SITE_SPLIT, split=None))
    assert torch.equal(one.target_scaler.mean, two.target_scaler.mean)
    assert torch.equal(one.input_scaler.scale, two.input_scaler.scale)
    known = dated()["y"].values[[0, 3]]
    np.testing.assert_allclose(one.target_scaler.mean, np.nanmean(known), rtol=1e-6)


# Targets scaled by site


def test_each_site_has_mean_0_and_deviation_1_in_its_training_part():
    dataset = dated()
    dataset["y"][3] = 5.0  # constant
    data = quiet(module(dataset, fill=FILL, target_scaling="site"))
    for site, begin, length in zip(
        *(getattr(data.parts["train"], key) for key in ("site", "begin", "length")), strict=True
    ):
        true = dataset["y"].values[site, begin : begin + length]
        np.testing.assert_allclose(data.target_scaler.mean[site], [np.nanmean(true)], rtol=1e-6)
        np.testing.assert_allclose(data.target_scaler.scale[site], [np.nanstd(true) or 1.0], rtol=1e-6)


def test_sites_without_training_targets_cannot_be_scaled_by_site():
    with pytest.raises(MPTTError, match=r"4 site\(s\) have none: s1, s2, s4, s5. Use target_scaling=\"global\""):
        quiet(module(fill=FILL, target_scaling="site", site_split=SITE_SPLIT))


def test_a_checkpoint_brings_the_scale_of_each_site_whatever_their_order():
    one = quiet(module(fill=FILL, target_scaling="site"))
    state = one.state_dict()
    other = dated().isel(site=[3, 0, 2])
    other["y"] = other["y"] * 4
    two = quiet(module(other, fill=FILL, target_scaling="site"))
    two.load_state_dict(state)
    assert torch.equal(two.target_scaler.mean, one.target_scaler.mean[[3, 0, 2]])
    batches = list(two.test_dataloader())
    table = two.predictions("test", [batch["y"] for batch in batches], batches)
    np.testing.assert_allclose(
        table["y_observed"], other["y"].sel(time=table["time"]).where(table["y"].notnull()), rtol=1e-5
    )
    before = {key: value.clone() for key, value in vars(one._series).items() if isinstance(value, torch.Tensor)}
    one.load_state_dict(state)
    assert all(torch.equal(getattr(one._series, key), value) for key, value in before.items())


def test_a_checkpoint_of_another_scaling_or_of_other_sites_is_refused():
    whole = quiet(module(fill=FILL))
    by_site = quiet(module(fill=FILL, target_scaling="site"))
    with pytest.raises(MPTTError, match='saved run has target_scaling="global", the data module "site"'):
        by_site.load_state_dict(whole.state_dict())
    with pytest.raises(MPTTError, match='saved run has target_scaling="site", the data module "global"'):
        whole.load_state_dict(by_site.state_dict())
    few = quiet(module(dated().isel(site=[0, 1]), fill=FILL, target_scaling="site"))
    with pytest.raises(MPTTError, match=r"no numbers for 4 site\(s\): s2, s3, s4, s5"):
        by_site.load_state_dict(few.state_dict())


# Arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_scaling": "basin"}, "target_scaling is 'global' or 'site'"),
        ({"attributes_missing": "zero"}, "attributes_missing is 'error' or"),
        ({"attributes_text": "hash"}, "attributes_text is 'error' or"),
        ({"gap": -1}, "gap is a whole number"),
        ({"fill": {"method": "spline"}}, "method of fill"),
        ({"derive": {"pet_oudin": {}}}, "not among the inputs"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(changes, message):
    with pytest.raises(MPTTError, match=message):
        module(**changes)


def test_sources_of_computed_inputs_are_needed():
    data = module(inputs=["pet_oudin", "rain"], derive={"pet_oudin": {"temperature": "t", "latitude": "lat"}})
    assert data.needed == ["pet_oudin", "rain", "y", "t", "lat"]
    assert module(inputs=["x", "doy_sin"], targets=["x"]).needed == ["x", "doy_sin"]


@pytest.mark.parametrize("way", WAYS)
def test_series_that_do_not_fit_into_memory_are_prepared_alike(way, tmp_path):
    dated().to_netcdf(tmp_path / "series.nc")
    held = quiet(module(fill=FILL, **WAYS[way]))
    memory = 3.1e-5 if "inputs" in WAYS[way] else 2.3e-5  # GiB: two or three sites
    stored = quiet(module(tmp_path / "series.nc", fill=FILL, memory=memory, **WAYS[way]))
    assert type(stored._series).__name__ == "StoredSeries"
    assert stored.filled.equals(held.filled)
    for name in ("train_dataloader", "test_dataloader", "series_dataloader"):
        found, expected = (
            {
                (site, start): (batch["x"][row], batch["y"][row])
                for batch in getattr(data, name)()
                for row, (site, start) in enumerate(_places(data, batch))
            }
            for data in (stored, held)
        )
        assert found.keys() == expected.keys()
        for place, tensors in found.items():
            for one, other in zip(tensors, expected[place], strict=True):
                length = min(len(one), len(other))
                torch.testing.assert_close(one[:length], other[:length], rtol=1e-5, atol=1e-5)


def _places(data, batch):
    if "window" in batch:
        return [(int(data.windows.site[window]), int(data.windows.start[window])) for window in batch["window"]]
    return list(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True))


def test_sites_that_all_lack_an_attribute_leave_none():
    dataset = dated().assign(depth=("site", np.full(len(PERIODS), np.nan)))
    data = SeriesDataModule(dataset, **PLAIN, attributes=["depth"], attributes_missing="drop_site")
    with pytest.raises(MPTTError, match=r"No site is left\. Left out 6 of 6 site\(s\), attributes missing: s0, s1"):
        data.setup("fit")

"""Nothing of validation and test reaches training: other values there leave every training batch as it was."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.preparing.parts import PARTS

SITES, STEPS = 8, 800
NAMES = [f"b{site}" for site in range(SITES)]
SITE_SPLIT = {"train": ["b1", "b3", "b4", "b6"], "validation": ["b0", "b7"], "test": ["b2", "b5"]}
FOLDS = {"folds": 4, "fold": 1, "validation": 0.2, "seed": 3}
CHAIN = [
    {"method": "interpolate", "limit": 2, "mask": True},
    {"method": "forward", "limit": 2, "variables": ["heat"]},
    {"method": "climatology"},
]
LAST = [{"method": "forward", "limit": 99}]  # climatology has no training dates of sites that do not train
WAYS = {
    "fractions": {},
    "filled": {"fill": CHAIN},
    "filled_of_few_steps": {"fill": CHAIN, "train_steps": 380},
    "gap": {"gap": 30},
    "dates": {
        "split": {"train": ("2000-02", "2001-02"), "validation": ("2001-03", "2001-05"), "test": ("2001-06", "2002")}
    },
    "training_last": {
        "split": {"test": ("2000", "2000-06"), "validation": ("2000-07", "2000-12"), "train": ("2001", "2002")}
    },
    "sites": {"site_split": SITE_SPLIT, "fill": CHAIN},
    "sites_of_whole_records": {"site_split": SITE_SPLIT, "split": None, "fill": CHAIN[:1] + LAST},
    "folds": {"site_split": FOLDS, "split": None},
    "scaled_by_site": {"target_scaling": "site"},
    "attributes_of_means": {"site_split": SITE_SPLIT, "attributes_missing": "mean"},
    "attributes_of_medians": {"site_split": SITE_SPLIT, "attributes_missing": "median"},
    "lagged": {"lagged_target": "step"},
    "last_steps": {"predict_last_n": 3},
}


def climate():
    random, step = np.random.default_rng(1), np.arange(STEPS)
    first = random.integers(0, 30, SITES)[:, None]
    inside = (step >= first) & (step < 790)
    gaps = random.random((SITES, STEPS)) < 0.05
    # A gap at the edge of a part is filled from both sides of it.
    gaps[:, :40] = gaps[:, -40:] = gaps[:, 300:440] = False
    values = {name: random.gamma(2, 3, (SITES, STEPS)).astype(np.float32) for name in ("rain", "heat", "flow")}
    lakes, rock = random.random(SITES), np.array([*"xyxyzxyx"])
    lakes[[1, 5]] = np.nan
    return xr.Dataset(
        {
            "rain": (("site", "time"), np.where(inside, values["rain"], np.nan)),
            "heat": (("site", "time"), np.where(inside & ~gaps, values["heat"], np.nan)),
            "flow": (("site", "time"), np.where(inside & (random.random(inside.shape) < 0.8), values["flow"], np.nan)),
            "area": ("site", random.random(SITES)),
            "lakes": ("site", lakes),
            "rock": ("site", rock),
        },
        {"site": NAMES, "time": np.datetime64("2000-01-01", "s") + step * np.timedelta64(86400, "s")},
    )


def module(dataset, changes):
    arguments = {"targets": ["flow"], "window": 20, "stride": 10, "batch_size": 16, "seed": 0}
    filled = "fill" in changes
    arguments |= {"inputs": ["rain", "heat"] if filled else ["rain"], "attributes": ["area", "rock"]}
    if "attributes_missing" in changes:
        arguments["attributes"] = ["area", "lakes", "rock"]
    data = SeriesDataModule(dataset, **(arguments | {"attributes_text": "onehot"} | changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # of categories that no training site has, and filled lags
        data.setup("fit")
    return data


def changed_outside(dataset, part, sites):
    """Other values at every step that is in no training stretch, and other attributes of sites that have none."""
    dataset, step = dataset.copy(deep=True), np.arange(STEPS)
    trained = np.zeros((SITES, STEPS), dtype=bool)
    for site, begin, length in zip(part.site, part.begin, part.length, strict=True):
        trained[NAMES.index(sites[site])] = (step >= begin[...]) & (step < begin + length)
    for name in ("rain", "heat", "flow"):
        dataset[name] = dataset[name].where(trained, 17 * dataset[name] + 5)
    without = ~trained.any(axis=1)
    for name in ("area", "lakes"):
        dataset[name] = dataset[name].where(~without, 100.0)
    dataset["rock"] = dataset["rock"].where(~without, "new")
    return dataset


@pytest.mark.parametrize("way", WAYS)
def test_values_outside_the_training_part_change_no_training_batch(way):
    given = climate()
    before = module(given, WAYS[way])
    other = changed_outside(given, before.parts["train"], before.sites)
    after = module(other, WAYS[way])
    batches, others = list(before.train_dataloader()), list(after.train_dataloader())
    assert len(batches) == len(others) > 1
    for batch, same in zip(batches, others, strict=True):
        assert batch.keys() == same.keys()
        assert all(torch.equal(batch[name], same[name]) for name in batch)
    assert before.attribute_names == after.attribute_names
    state, states = before.state_dict(), after.state_dict()
    for name in ("inputs", "attributes"):
        assert all(torch.equal(state[name][key], states[name][key]) for key in ("mean", "scale"))
    changed = [
        not torch.equal(one["x"], two["x"])
        for part in PARTS[1:]
        for one, two in zip(before.evaluation_dataloader(part), after.evaluation_dataloader(part), strict=True)
    ]
    assert any(changed), "the other parts have the other values"


@pytest.mark.parametrize("way", ["filled", "sites"])
def test_values_of_the_training_part_do_change_batches(way):
    given = climate()
    before = module(given, WAYS[way])
    part = before.parts["train"]
    site, step = before.sites[part.site[0]], int(part.begin[0] + part.length[0] // 2)
    given["rain"][NAMES.index(site), step] += 1
    after = module(given, WAYS[way])
    pairs = zip(before.train_dataloader(), after.train_dataloader(), strict=True)
    assert not all(torch.equal(one["x"], two["x"]) for one, two in pairs)

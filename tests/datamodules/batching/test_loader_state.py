"""The training loader goes on where a saved one was."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.stored import StoredSeries

SITES, STEPS = 10, 60
ORDERS = [("shuffled", 5), ("lanes", 10), ("sequential", 10), ("series", 10)]  # and a stride that fits


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    rain = np.random.default_rng(0).gamma(2, 3, (SITES, STEPS))
    time = np.datetime64("2000-01-01", "s") + np.arange(STEPS) * np.timedelta64(86400, "s")
    variables = {"rain": (("site", "time"), rain), "flow": (("site", "time"), rain.cumsum(1) % 50)}
    return xr.Dataset(variables, {"site": [f"s{nth}" for nth in range(SITES)], "time": time})


@pytest.fixture(scope="module")
def store(dataset: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    dataset.to_zarr(path, zarr_format=2, encoding={name: {"chunks": (1, STEPS)} for name in dataset})
    return str(path)


def loader(source: Any, order: str = "shuffled", stride: int = 5, **changes: Any) -> Any:
    settings = {"window": 10, "batch_size": 3, "seed": 0, "split": (0.7, 0.2, 0.1)} | changes
    data = SeriesDataModule(source, inputs=["rain"], targets=["flow"], order=order, stride=stride, **settings)
    data.setup("fit")
    return data.train_dataloader()


def windows(batches: Any) -> list[list[int]]:
    return [batch["window"].tolist() for batch in batches]


def assert_rest_follows(first: Any, again: Any, taken: int) -> None:
    first.order.set_epoch(2)
    running = iter(first)
    list(islice(running, taken))
    again.load_state_dict(first.state_dict())
    rest = list(running)
    again.order.set_epoch(2)  # Lightning does, after it made the iterator
    found = list(again)
    assert windows(found) == windows(rest)
    assert all(torch.equal(one["x"], other["x"]) for one, other in zip(found, rest, strict=True))
    assert windows(again) == windows(first)  # the next epoch, whole
    assert len(windows(first)) == len(first) == len(again)


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize(("order", "stride"), ORDERS)
def test_the_rest_of_an_epoch_follows(dataset: xr.Dataset, order: str, stride: int, taken: int) -> None:
    assert_rest_follows(loader(dataset, order, stride), loader(dataset, order, stride), taken)


@pytest.mark.parametrize(("order", "stride"), ORDERS)
def test_the_rest_of_an_epoch_follows_from_a_store(store: str, order: str, stride: int) -> None:
    memory = 6 * STEPS * (4 + 5) / 2**30  # of 10 sites 6 have room
    first, again = (loader(store, order, stride, memory=memory) for _ in range(2))
    assert isinstance(first.dataset.series, StoredSeries)
    assert_rest_follows(first, again, 2)


def test_of_a_store_only_sites_of_the_rest_are_read(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = 6 * STEPS * (4 + 5) / 2**30
    first, again = (loader(store, "sequential", 10, memory=memory) for _ in range(2))
    running = iter(first)
    list(islice(running, 8))
    again.load_state_dict(first.state_dict())
    series, read = again.dataset.series, []
    original = series.read
    monkeypatch.setattr(series, "read", lambda sites: read.extend(sites.tolist()) or original(sites))
    ids = np.concatenate(windows(again))
    site = again.dataset.site[torch.from_numpy(ids)]
    assert set(read) == set(site.tolist())
    assert 0 not in read


def test_what_workers_fetched_ahead_does_not_count(dataset: xr.Dataset) -> None:
    first, again = (loader(dataset, num_workers=2) for _ in range(2))
    assert_rest_follows(first, again, 3)
    running = iter(first)
    list(islice(running, 4))
    assert first.state_dict()["position"] == 4


def test_a_batch_that_was_given_out_but_not_trained_comes_again(dataset: xr.Dataset) -> None:
    first, again = (loader(dataset) for _ in range(2))
    running = iter(first)
    taken = windows(islice(running, 3))
    first.trained = lambda: 2
    again.load_state_dict(first.state_dict())
    assert windows(again)[0] == taken[2]


def test_nothing_is_fetched_before_the_epoch_is_known(dataset: xr.Dataset) -> None:
    first, again = (loader(dataset, num_workers=1) for _ in range(2))
    first.order.set_epoch(3)
    expected = windows(first)
    running = iter(again)
    again.order.set_epoch(3)
    assert windows(running) == expected


def test_another_epoch_than_the_saved_one_is_given_whole(dataset: xr.Dataset) -> None:
    first, again = (loader(dataset) for _ in range(2))
    list(islice(iter(first), 4))
    again.load_state_dict(first.state_dict())
    again.order.set_epoch(1)
    found = windows(again)
    first.order.set_epoch(1)
    assert found == windows(first)
    assert len(found) == len(first)


def test_the_seed_is_that_of_the_saved_run(dataset: xr.Dataset) -> None:
    first, again = loader(dataset, seed=1), loader(dataset, seed=2)
    running = iter(first)
    list(islice(running, 2))
    again.load_state_dict(first.state_dict())
    assert windows(again) == windows(running)
    assert windows(again) == windows(first)


def test_the_state_is_plain_values(dataset: xr.Dataset) -> None:
    first = loader(dataset)
    list(islice(iter(first), 2))
    layout = {"order": "shuffled", "windows": 80, "batch_size": 3, "processes": 1}
    assert first.state_dict() == {"seed": 0, "epoch": 0, "position": 2, "layout": layout}


def test_in_the_middle_of_an_epoch_other_batches_are_refused(dataset: xr.Dataset) -> None:
    first, again = loader(dataset), loader(dataset, batch_size=4)
    list(islice(iter(first), 2))
    again.load_state_dict(first.state_dict())
    with pytest.raises(MPTTError, match=r"middle of epoch 0, after 2 batches.*batch_size 3 there, 4 here"):
        next(iter(again))
    again.load_state_dict(first.state_dict())
    again.order.set_epoch(1)  # the end of the epoch: any batches will do
    assert len(windows(again)) == len(again)


def test_a_pass_draws_nothing_from_the_random_numbers_of_the_run(dataset: xr.Dataset) -> None:
    before = torch.get_rng_state()
    list(loader(dataset))
    assert torch.equal(torch.get_rng_state(), before)

import threading
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning, freememory
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching import stored
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.preparing import memory, preparation
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import PARTS

SITES, STEPS = 23, 300
LONGEST = 290
SHUFFLED = ("shuffled", "series")


def make():
    """Ragged records, one of 20 steps, attributes, two targets of which a fifth is missing."""
    random, step = np.random.default_rng(0), np.arange(STEPS)
    begin, end = random.integers(0, 60, SITES), random.integers(150, STEPS, SITES)
    begin[7], end[7] = 100, 120
    begin[4], end[4] = 5, 5 + LONGEST
    inside = (step >= begin[:, None]) & (step < end[:, None])
    variables = {
        name: (("site", "time"), np.where(inside, random.gamma(2, 3, inside.shape), np.nan))
        for name in ("rain", "heat")
    }
    for name in ("flow", "snow"):
        known = inside & (random.random(inside.shape) > 0.2)
        variables[name] = (("site", "time"), np.where(known, random.gamma(2, 3, inside.shape), np.nan))
    time = np.datetime64("2000-01-01", "s") + step * np.timedelta64(86400, "s")
    return xr.Dataset(
        variables | {"area": ("site", random.random(SITES))},
        {"site": [f"s{nth}" for nth in range(SITES)], "time": time},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    encoding = {name: {"chunks": (1, STEPS)} for name in ("rain", "heat", "flow", "snow")}
    # Format 2: in format 3 of Zarr text is not settled yet, and writing it warns.
    make().to_zarr(path, zarr_format=2, encoding=encoding)
    return path


def room(sites, lagged):
    """GiB that so many of the longest records take."""
    return sites * LONGEST * (4 * 2 + 5 * 2 + 4 * 2 * lagged) / 2**30


def module(dataset, sites=None, budget=None, **changes):
    arguments = {"window": 20, "stride": 10, "batch_size": 6, "seed": 0, "split": (0.6, 0.2, 0.2), "warmup": 3}
    arguments |= {"inputs": ["rain", "heat"], "targets": ["flow", "snow"], "attributes": ["area"]} | changes
    lagged = arguments.get("lagged_target", "none") != "none"
    data = SeriesDataModule(dataset, memory=budget if sites is None else room(sites, lagged), **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # of the site shorter than a window, and of lags that are filled
        data.setup()
    if sites is not None:
        assert isinstance(data._series, StoredSeries)
        assert data._series.capacity == sites
    return data


def pair(store, sites=8, **changes):
    return module(store, sites, **changes), module(make(), **changes)


def assert_same_batches(one, other):
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for key, values in mine.items():
            assert torch.equal(values, theirs[key]), key


def by_window(loader):
    """Each window's x, y and mask, in bytes so that bits count; windows of a padded series without the padding."""
    found = {}
    for batch in loader:
        for row, window in enumerate(batch["window"].tolist()):
            assert window not in found
            found[window] = {key: batch[key][row] for key in ("x", "y", "mask")}
    return found


# Contents


@pytest.mark.parametrize("lagged_target", ["none", "step", "window"])
@pytest.mark.parametrize(("order", "stride"), [("shuffled", 10), ("series", 10), ("lanes", 20), ("sequential", 20)])
@pytest.mark.parametrize("sites", [6, 13])
def test_every_window_comes_once_with_the_contents_that_it_has_in_memory(store, order, stride, lagged_target, sites):
    data, twin = pair(store, sites, order=order, stride=stride, lagged_target=lagged_target, predict_last_n=None)
    assert data.windows.fingerprint == twin.windows.fingerprint
    loader = data.train_dataloader()
    if order not in SHUFFLED:
        assert_same_batches(loader, twin.train_dataloader())
        return
    for _ in range(2):
        found, expected = by_window(loader), by_window(twin.train_dataloader())
        assert found.keys() == expected.keys() == set(range(len(data.windows)))
        for window, row in found.items():
            steps = int(data.windows.length[window])
            for key, values in row.items():
                assert torch.equal(values[:steps], expected[window][key][:steps])


def test_only_last_steps_count(store):
    data, twin = pair(store, predict_last_n=4)
    found, expected = by_window(data.train_dataloader()), by_window(twin.train_dataloader())
    assert all(torch.equal(row["mask"], expected[window]["mask"]) for window, row in found.items())
    assert not found[0]["mask"][:16].any()


@pytest.mark.parametrize("lagged_target", ["none", "step", "window"])
@pytest.mark.parametrize("evaluation", ["sequential", "independent", "conditional"])
def test_evaluation_and_predictions_are_those_of_data_in_memory(store, evaluation, lagged_target):
    changes = {"evaluation": evaluation, "lagged_target": lagged_target, "chunk": 17, "sites_at_once": 3}
    data, twin = pair(store, 12, **changes)
    assert_same_batches(data.series_dataloader(), twin.series_dataloader())
    for part in PARTS:
        batches = list(data.evaluation_dataloader(part))
        assert_same_batches(batches, twin.evaluation_dataloader(part))
        values = [batch["y"] for batch in batches]
        xr.testing.assert_identical(data.predictions(part, values, batches), twin.predictions(part, values, batches))


@pytest.mark.parametrize("block", [1, 5000, 2**28])
def test_scalers_are_those_of_data_in_memory(store, monkeypatch, block):
    twin = module(make())
    monkeypatch.setattr(preparation, "BLOCK", block)
    data = module(store, 8)
    for name in ("input_scaler", "attribute_scaler", "target_scaler"):
        mine, theirs = getattr(data, name), getattr(twin, name)
        assert torch.equal(mine.mean, theirs.mean)
        assert torch.equal(mine.scale, theirs.scale)


def test_batches_are_full_but_the_last(store):
    data = module(store, 8)
    sizes = [len(batch["window"]) for batch in data.train_dataloader()]
    assert sizes[:-1] == [6] * (len(data.windows) // 6)
    assert len(data.train_dataloader()) == len(sizes)


@pytest.mark.parametrize("kind", ["netcdf", "dask", "chunks of several sites"])
def test_other_stores_are_read_alike(kind, tmp_path):
    if kind == "netcdf":
        make().to_netcdf(tmp_path / "data.nc")
        source = tmp_path / "data.nc"
    elif kind == "dask":
        pytest.importorskip("dask")
        source = make().chunk({"site": 4, "time": 77})
    else:
        make().to_zarr(tmp_path / "data.zarr", zarr_format=2, encoding={"rain": {"chunks": (5, 70)}})
        source = tmp_path / "data.zarr"
    data, twin = pair(source, 8, lagged_target="step")
    found, expected = by_window(data.train_dataloader()), by_window(twin.train_dataloader())
    assert all(torch.equal(row[key], expected[window][key]) for window, row in found.items() for key in row)


# Order


def order_of(loader):
    return [batch["window"].tolist() for batch in loader]


def test_seed_and_epoch_fix_the_order_whatever_was_read_before(store):
    data = module(store, 8)
    loader = data.train_dataloader()
    epochs = [order_of(loader) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    again = module(store, 8).train_dataloader()
    again.batch_sampler.sampler.set_epoch(2)
    assert order_of(again) == epochs[2]
    assert order_of(module(store, 10).train_dataloader()) == epochs[0]  # a little more room
    assert order_of(module(store, 8, seed=1).train_dataloader()) != epochs[0]


def test_windows_are_shuffled_within_a_block_and_across_sites(store):
    data = module(store, 8)
    ids = np.concatenate(order_of(data.train_dataloader()))
    sites = data.windows.site[ids]
    blocks = []
    for site in sites:  # blocks of half of the room
        if not blocks or (site not in blocks[-1] and len(blocks[-1]) == 4):
            blocks.append({site})
        blocks[-1].add(site)
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 4, 2]
    assert len(set().union(*blocks)) == 22
    assert (np.diff(sites) != 0).mean() > 0.6
    assert (np.diff(data.windows.start[ids]) < 0).mean() > 0.3


# Room


def reads_of(data, monkeypatch):
    """The sites that are read from now on, in their order."""
    read, sites = data._records.read, []

    def watched(wanted):
        sites.extend(wanted.tolist())
        return read(wanted)

    monkeypatch.setattr(data._records, "read", watched)
    return sites


@pytest.mark.parametrize("order", ["shuffled", "series", "sequential"])
def test_a_site_is_read_once_an_epoch_and_no_more_are_held_than_there_is_room_for(store, monkeypatch, order):
    data = module(store, 8, order=order, stride=20, batch_size=3)
    series, reads = data._series, reads_of(data, monkeypatch)
    assert len(series.inputs) == len(series.targets) == len(series.observed) == 8 * LONGEST
    for _ in data.train_dataloader():
        assert 0 < (series.offset >= 0).sum() <= 8
        assert len(set(series.offset[series.offset >= 0])) == (series.offset >= 0).sum()
    assert sorted(reads) == sorted(set(data.windows.site))


def test_lanes_hold_the_site_of_each(store, monkeypatch):
    data = module(store, 6, order="lanes", stride=20)
    reads = reads_of(data, monkeypatch)
    for _ in data.train_dataloader():
        assert (data._series.offset >= 0).sum() <= 6
    assert len(reads) < 2 * SITES


def test_sites_that_are_there_are_not_read_again(store, monkeypatch):
    data = module(store, 8, order="sequential", stride=20)
    reads = reads_of(data, monkeypatch)
    data.train_dataloader().dataset.__getitems__([0, 5, 10, 15])
    first = list(reads)
    assert len(first) == len(set(first)) > 1
    data.train_dataloader().dataset.__getitems__([0, 1, 6, 15])
    assert reads == first


def test_evaluation_takes_as_many_sites_at_once_as_there_is_room_for_twice(store):
    data = module(store, 8)
    assert max(len(batch["site"]) for batch in data.test_dataloader()) == 4
    data = module(store, 8, evaluation="independent", batch_size=8)
    assert max(len(batch["site"]) for batch in data.test_dataloader()) == 4


def test_loaders_may_be_used_in_turn(store):
    data, twin = pair(store, 8)
    expected = by_window(twin.train_dataloader())
    checks = list(twin.val_dataloader())
    found = {}
    for nth, batch in enumerate(data.train_dataloader()):
        found |= {window: batch["x"][row] for row, window in enumerate(batch["window"].tolist())}
        if nth % 5 == 2:
            there = {(site, start): x for b in data.val_dataloader() for site, start, x in rows(b)}
            assert all(
                torch.equal(there[site, start][: len(x)], x) for b in checks for site, start, x in rows(b, whole=False)
            )
    assert all(torch.equal(x, expected[window]["x"]) for window, x in found.items())
    assert len(found) == len(data.windows)


def rows(batch, whole=True):
    for row, (site, start) in enumerate(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True)):
        yield site, start, batch["x"][row] if whole else batch["x"][row, : batch["length"][row]]


def test_batches_cut_without_a_loader(store):
    data, twin = pair(store, 6)
    windows, others = data.train_dataloader().dataset, twin.train_dataloader().dataset
    for ids in torch.randperm(len(data.windows), generator=torch.Generator().manual_seed(0)).split(6):
        assert_same_batches([windows.__getitems__(ids)], [others.__getitems__(ids)])
    with pytest.raises(MPTTError, match="22 sites are needed at once, and there is room for 6"):
        windows.__getitems__(range(len(data.windows)))


@pytest.mark.parametrize("piece", [1, 20_000])
def test_records_are_read_in_small_pieces(store, monkeypatch, piece):
    monkeypatch.setattr(stored, "PIECE", piece)
    data, twin = pair(store, 8, lagged_target="step")
    expected = by_window(twin.train_dataloader())
    found = by_window(data.train_dataloader())
    assert all(torch.equal(row["x"], expected[window]["x"]) for window, row in found.items())


# In memory or not


def test_series_that_fit_are_in_memory(store):
    for changes in ({"memory": 1}, {"memory": room(SITES, False)}, {}):
        data = SeriesDataModule(store, inputs=["rain"], targets=["flow"], window=20, stride=10, **changes)
        with pytest.warns(MPTTWarning, match="No windows from 1"):
            data.setup()
        assert type(data._series) is FlatSeries


def test_records_shorter_than_their_time_axis_count_with_their_own_length(store):
    steps = int(np.isfinite(make()["rain"].values).sum())
    assert steps < SITES * STEPS * 0.9
    fits = (steps + 1) * (4 * 2 + 5 * 2) / 2**30
    twin = module(make())
    data = SeriesDataModule(
        store, inputs=["rain", "heat"], targets=["flow", "snow"], attributes=["area"], window=20, stride=10,
        split=(0.6, 0.2, 0.2), warmup=3, memory=fits,
    )  # fmt: skip
    with pytest.warns(MPTTWarning, match="No windows from 1"):
        data.setup()
    assert type(data._series) is FlatSeries
    for name in ("inputs", "targets", "observed"):
        assert torch.equal(getattr(data._series, name), getattr(twin._series, name))


def test_half_of_the_free_memory_is_taken_by_default(store, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: int(2 * room(8, False) * 2**30) + 1)
    assert module(store)._series.capacity == 8


def test_data_given_in_memory_stay_there():
    data = SeriesDataModule(make(), inputs=["rain"], targets=["flow"], window=20, stride=10, memory=1e-9)
    with pytest.warns(MPTTWarning, match="No windows from 1"):
        data.setup()
    assert type(data._series) is FlatSeries


def test_container_limits_count(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 900\n")
    monkeypatch.setattr(freememory, "_CGROUPS", ((str(tmp_path), "memory.max", "memory.current", "inactive_file"),))
    assert freememory.free_memory() == 5000 - 3000 + 900
    (tmp_path / "memory.max").write_text("max\n")
    assert freememory.free_memory() > 5000


@pytest.mark.parametrize(("sites", "size"), [(8, "8"), (None, "in memory")])
def test_where_series_are_is_said_once(store, caplog, sites, size):
    with caplog.at_level("INFO"):
        data = module(store, sites)
        data.setup("test")
    said = [record.getMessage() for record in caplog.records if "Series of" in record.getMessage()]
    where = "in memory" if sites is None else "read as batches need them, 8 sites at a time in memory"
    assert said == [f"Series of 23 site(s), 0.00 GiB: {where}."]


@pytest.mark.parametrize("value", [0, -1, "2", True, float("nan")])
def test_memory_is_a_positive_number(value):
    with pytest.raises(MPTTError, match=r"memory is a number of GiB above 0, or None .*; found"):
        SeriesDataModule(make(), inputs=["rain"], targets=["flow"], memory=value)


@pytest.mark.parametrize(
    ("order", "sites", "message"),
    [
        ("lanes", 4, 'order="lanes" needs up to 6 of them at once.*batch_size=4 or less'),
        ("series", 4, 'order="series" needs up to 6 of them at once.*batch_size=4 or less'),
        ("shuffled", 4, 'order="shuffled" needs up to 22 of them at once'),
        ("shuffled", 0.5, "needs up to 22 of them at once"),
    ],
)
def test_too_little_room_for_a_batch(store, order, sites, message):
    changes = {"order": order, "stride": 20, "batch_size": 40 if order == "shuffled" else 6}
    with pytest.raises(MPTTError, match=message) as caught:
        module(store, sites, **changes)
    enough = float(str(caught.value).partition("Pass memory=")[2].split()[0])
    data = module(store, budget=enough, **changes)
    assert sum(len(batch["window"]) for batch in data.train_dataloader()) == len(data.windows)


def test_a_batch_of_one_window_needs_one_site(store):
    data, twin = pair(store, 1, batch_size=1)
    found, expected = by_window(data.train_dataloader()), by_window(twin.train_dataloader())
    assert all(torch.equal(row["x"], expected[window]["x"]) for window, row in found.items())


def test_other_processes_are_refused(store):
    with pytest.raises(MPTTError, match=r"a thread reads them .* pass num_workers=0, found 2, or a larger memory"):
        module(store, 8, num_workers=2)


# What goes wrong


@pytest.fixture
def broken(store, monkeypatch):
    """A module of whose sites one cannot be read after set-up."""
    data = module(store, 8)
    read, fails = data._records.preparation.read, {"s11": True}

    def sometimes(sites):
        names = data._records.preparation.dataset["site"].values[sites]
        if fails["s11"] and "s11" in names:
            raise MPTTError("The series of site(s) s11 cannot be read: torn")
        return read(sites)

    monkeypatch.setattr(data._records.preparation, "read", sometimes)
    return data, fails


def test_sites_that_cannot_be_read_stop_the_epoch_and_can_be_read_later(broken):
    data, fails = broken
    loader = data.train_dataloader()
    with pytest.raises(MPTTError, match="s11 cannot be read: torn"):
        list(loader)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("series")]
    with pytest.raises(MPTTError, match="s11 cannot be read: torn"):
        list(data.test_dataloader())
    fails["s11"] = False
    assert sorted(by_window(loader)) == list(range(len(data.windows)))


def test_the_thread_ends_with_the_epoch_even_if_that_is_cut_short(store):
    data = module(store, 8)

    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("series")]

    batches = iter(data.train_dataloader())
    next(batches)
    assert len(threads()) == 1
    left = threads()
    del batches
    for thread in left:
        thread.join(30)
    assert not threads()
    for _ in data.train_dataloader():
        pass
    assert not threads()
    assert sorted(by_window(data.train_dataloader())) == list(range(len(data.windows)))


def test_errors_of_reading_name_the_sites(store, tmp_path):
    import shutil

    shutil.copytree(store, tmp_path / "data.zarr")
    chunk = tmp_path / "data.zarr" / "rain" / "3.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:16] + bytes(255 - byte for byte in content[16:]))
    with pytest.raises(MPTTError, match=r"series of site\(s\) s0, s1.* cannot be read"):
        module(tmp_path / "data.zarr", 8)


# Checks and checkpoints


def spoil(name, value, site, step):
    dataset = make()
    dataset[name].values[site, step] = value
    return dataset


@pytest.mark.parametrize(
    ("dataset", "changes"),
    [
        (spoil("rain", np.nan, [3, 12], 110), {}),
        (spoil("heat", np.inf, [3, 12, 12], [110, 100, 130]), {}),
        (spoil("flow", np.inf, [5, 12], [110, 299]), {}),
        (spoil("flow", np.nan, slice(None), slice(0, 200)), {}),
        (spoil("flow", np.nan, slice(3, 12), slice(None)), {}),
        (make(), {"warmup": 100}),
        (make(), {"lagged_target": "step"}),
        (make(), {"lagged_target": "step", "targets": ["snow"]}),
        (make().assign(snow=make()["rain"]), {"lagged_target": "step", "targets": ["snow"]}),
        (make().where(make()["time"].dt.day != 28, drop=False).assign(rain=make()["rain"]), {"inputs": ["rain"]}),
        (make(), {"window": 500}),
        (make().assign(flow=make()["flow"].where(make()["time"].dt.dayofyear < 40)), {"predict_last_n": 1}),
    ],
)
def test_the_same_is_said_as_of_data_in_memory(dataset, changes, tmp_path, monkeypatch):
    dataset.to_zarr(tmp_path / "data.zarr", zarr_format=2)
    said = []
    for source, budget in ((dataset, None), (tmp_path / "data.zarr", room(8, True))):
        arguments = {"inputs": ["rain", "heat"], "targets": ["flow"], "window": 20, "stride": 10, "batch_size": 6}
        data = SeriesDataModule(source, memory=budget, **(arguments | changes))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                data.setup()
                error = None
            except MPTTError as raised:
                error = str(raised)
        said.append((error, [str(one.message) for one in caught if issubclass(one.category, MPTTWarning)]))
        monkeypatch.setattr(preparation, "BLOCK", 9000)
    assert said[0] == said[1]
    assert said[0][0] or said[0][1]


def test_scalers_of_a_checkpoint_are_taken_over(store):
    data, twin = pair(store, 8, lagged_target="step")
    batches = list(data.test_dataloader())
    data.load_state_dict(data.state_dict())
    assert_same_batches(batches, data.test_dataloader())
    other = make()
    for name in ("rain", "flow", "area"):
        other[name] = 3 * other[name] + 5
    state = module(other, lagged_target="step").state_dict()
    data.load_state_dict(state)
    twin.load_state_dict(state)
    for mine, theirs in zip(data.test_dataloader(), twin.test_dataloader(), strict=False):
        for key, values in mine.items():
            assert values.dtype == theirs[key].dtype
            break
    found, expected = by_window(data.train_dataloader()), by_window(twin.train_dataloader())
    for window, row in found.items():
        torch.testing.assert_close(row["x"], expected[window]["x"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(row["y"], expected[window]["y"], rtol=1e-5, atol=1e-6)


def test_only_zarr_is_read_by_a_thread(store, tmp_path):
    make().to_netcdf(tmp_path / "data.nc")
    for path, threads in ((store, True), (tmp_path / "data.nc", False)):
        data = module(path, 8)
        assert data._ready().threads is threads
        for _ in data.train_dataloader():
            assert (data._ready()._thread is not None) is threads
            break

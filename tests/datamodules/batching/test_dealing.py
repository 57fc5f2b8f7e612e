"""What each of several processes gets: every window once, whole sites, as many batches as the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from manyprocesses import EQUAL, UNEQUAL, data, dataset

from mptt import MPTTError, WindowIndex
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.ahead import SiteBlocks
from mptt.datamodules.batching.batches import ShuffleSampler
from mptt.datamodules.batching.dealing import DealtBatches, DealtOut, Process, deal, window_owners


def batches_of(windows: WindowIndex, processes: int, batch_size: int, epoch: int = 0, **more: Any) -> list[Any]:
    found = []
    for rank in range(processes):
        batches = DealtBatches(ShuffleSampler(len(windows), 7), batch_size, Process(rank, processes), **more)
        dealt = DealtOut(batches, Process(rank, processes))
        dealt.set_epoch(epoch)
        found.append(list(dealt))
        assert len(dealt) == len(found[-1])
    return found


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 9))
def test_every_window_comes_once_in_batches_of_like_size(count: int, processes: int, batch_size: int) -> None:
    assume(count >= processes)
    windows = WindowIndex(np.zeros(count, int), np.arange(count), 5)
    found = batches_of(windows, processes, batch_size)
    assert sorted(w for rank in found for batch in rank for w in batch) == list(range(count))
    sizes = [len(batch) for rank in found for batch in rank]
    assert len({len(rank) for rank in found}) == 1
    assert min(sizes) >= 1
    assert max(sizes) <= min(sizes) + 1
    assert max(sizes) <= max(batch_size, 2)  # only where a batch is one window may there be two


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(2, 4), st.integers(1, 6))
def test_sites_are_dealt_out_whole(counts: list[int], processes: int, batch_size: int) -> None:
    windows = WindowIndex.cut(np.array(counts) * 5, 5, 5)
    owner = window_owners(windows, processes)
    try:
        found = batches_of(windows, processes, batch_size, owner=owner)
    except MPTTError:
        load = np.bincount(owner, minlength=processes)
        assert load.min() == 0 or load.max() > 2 * load.min()
        return
    assert sorted(w for rank in found for batch in rank for w in batch) == list(range(len(windows)))
    sites = [{int(windows.site[w]) for batch in rank for w in batch} for rank in found]
    assert sum(map(len, sites)) == len(counts)
    assert len({len(rank) for rank in found}) == 1
    assert all(batch for rank in found for batch in rank)


def test_the_heaviest_go_first_to_who_has_least() -> None:
    assert deal(np.array([4, 9, 5, 4, 2]), 2).tolist() == [1, 0, 1, 0, 1]  # 13 and 11
    assert np.bincount(deal(np.zeros(6, int), 3)).tolist() == [2, 2, 2]


def test_an_epoch_has_its_own_order_whichever_a_run_begins_with() -> None:
    windows = WindowIndex(np.arange(40) % 4, np.arange(40), 5)
    assert batches_of(windows, 2, 4, epoch=1) == batches_of(windows, 2, 4, epoch=1)
    assert batches_of(windows, 2, 4, epoch=1) != batches_of(windows, 2, 4, epoch=2)
    blocks = DealtOut(DealtBatches(SiteBlocks(windows, 2, 7), 4, Process(0, 2)), Process(0, 2))
    blocks.set_epoch(5)
    first = list(blocks)
    blocks.set_epoch(5)
    assert list(blocks) == first


def test_too_few_windows_or_too_uneven_sites_are_refused() -> None:
    with pytest.raises(MPTTError, match=r"3 windows are too few for 4 processes"):
        batches_of(WindowIndex([0, 0, 0], [0, 1, 2], 5), 4, 2)
    windows = WindowIndex(np.repeat([0, 1], [30, 2]), np.r_[np.arange(30), 0, 1], 5)
    with pytest.raises(MPTTError, match=r'one has 30 windows and another 2.*shard="window"'):
        batches_of(windows, 2, 4, owner=window_owners(windows, 2))


class Strategy:
    @staticmethod
    def broadcast(value: Any) -> Any:
        return value


def of_rank(rank: int, size: int, lengths: tuple[int, ...], **settings: Any) -> Any:
    module = data(lengths, **settings)

    class Trainer:
        global_rank, world_size, num_devices, strategy = rank, size, size, Strategy()

    module.trainer = Trainer()  # type: ignore[assignment]
    module.setup("fit")
    return module


@pytest.mark.parametrize("order", ["lanes", "sequential"])
def test_orders_that_go_on_from_batch_to_batch_are_refused(order: str) -> None:
    with pytest.raises(MPTTError, match=f'order="{order}" goes on from batch to batch'):
        of_rank(0, 2, EQUAL, order=order, stride=10).train_dataloader()


@pytest.mark.parametrize("evaluation", ["sequential", "independent", "conditional"])
def test_every_site_is_evaluated_in_one_process_and_scored_once(evaluation: str) -> None:
    kept, sites = np.zeros((3, 300), int), []
    for rank in range(4):  # one more than there are sites
        module = of_rank(rank, 4, UNEQUAL, evaluation=evaluation)
        batches = list(module.test_dataloader())
        assert batches
        for batch in batches:
            for row, site in enumerate(batch["site"].tolist()):
                steps = int(batch["start"][row]) + np.flatnonzero(batch["keep"][row].numpy())
                np.add.at(kept[site], steps, 1)
                assert not batch["mask"][row][~batch["keep"][row]].any()
        sites.append({s for batch in batches if batch["keep"].any() for s in batch["site"].tolist()})
    assert sum(map(len, sites)) == 3
    assert not sites[0] & sites[1]
    lengths = dict(zip(module.parts["test"].site.tolist(), module.parts["test"].length.tolist(), strict=True))
    assert [int(kept[site].sum()) for site in range(3)] == [lengths[site] for site in range(3)]
    assert kept.max() == 1


def test_series_larger_than_memory_are_dealt_out_too(tmp_path: Any) -> None:
    dataset(EQUAL).to_zarr(tmp_path / "data.zarr")
    given_windows = []
    for rank in range(2):
        module = SeriesDataModule(
            tmp_path / "data.zarr", inputs=["rain"], targets=["flow"], window=10, stride=5, batch_size=4,
            seed=1, memory=3 * 200 * 9 / 2**30, shard="site",
        )  # fmt: skip
        module.trainer = of_rank(rank, 2, EQUAL).trainer
        module.setup("fit")
        assert type(module._series).__name__ == "StoredSeries"
        batches = list(module.train_dataloader())
        given_windows += [w for batch in batches for w in batch["window"].tolist()]
        assert len(list(module.val_dataloader()))
    assert sorted(given_windows) == list(range(76))

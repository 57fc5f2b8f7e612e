from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mptt import WindowIndex
from mptt.datamodules.batching.batches import (
    LaneBatches,
    ShuffleSampler,
    TrainingWindows,
    cut_windows,
)
from mptt.datamodules.batching.stretches import independent_stretches, sequential_stretches
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part

RECORDS = st.lists(  # of each site: step at which its record begins, steps before the part, in it, after it
    st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 23), st.integers(0, 5)), min_size=1, max_size=7
).filter(lambda records: any(length for _, _, length, _ in records))


def lay_out(records):
    """Series whose input is 100 * site + step on the common time axis, and the part; sites without steps are not in."""
    first, before, length, after = np.array(records).T
    steps = before + length + after
    codes = [
        100 * site + begin + np.arange(count) for site, (begin, count) in enumerate(zip(first, steps, strict=True))
    ]
    code = torch.from_numpy(np.concatenate(codes)).float().unsqueeze(1)
    series = FlatSeries(
        inputs=code,
        static=torch.arange(len(records)).float().unsqueeze(1) + 0.5,
        targets=-code,
        observed=code % 3 > 0,
        offset=steps.cumsum() - steps,
        first=first,
    )
    here = np.flatnonzero(length)
    return series, Part(here, (first + before)[here], length[here])


def check_rows(series, part, batch, scored_from):
    """Each row of an evaluation batch holds what its site has at its steps; returns the (site, step) that it keeps."""
    begin = dict(zip(part.site.tolist(), part.begin.tolist(), strict=True))
    size = dict(zip(part.site.tolist(), part.length.tolist(), strict=True))
    kept = []
    for row, (site, start, length) in enumerate(
        zip(batch["site"].tolist(), batch["start"].tolist(), batch["length"].tolist(), strict=True)
    ):
        assert 1 <= length <= batch["x"].shape[1]
        assert start + length <= size[site]
        for step in range(batch["x"].shape[1]):
            code = 100 * site + begin[site] + start + step
            keep = bool(batch["keep"][row, step])
            if step < length:
                assert batch["x"][row, step].tolist() == [code, site + 0.5]
                assert batch["y"][row, step].tolist() == [-code]
            else:
                assert not keep
            scored = keep and start + step >= scored_from and code % 3 > 0
            assert batch["mask"][row, step].tolist() == [scored]
            if keep:
                kept.append((site, start + step))
    return kept


def every_step(part):
    sizes = zip(part.site.tolist(), part.length.tolist(), strict=True)
    return [(site, step) for site, length in sizes for step in range(length)]


# Evaluation


@given(RECORDS, st.integers(1, 8), st.integers(1, 30), st.integers(0, 6), st.integers(1, 4))
def test_sequential_stretches_hold_every_step_once_and_in_order(records, sites_at_once, chunk, warmup, at_once):
    series, part = lay_out(records)
    kept, stop = [], {}
    stretches = sequential_stretches(series, part, sites_at_once, chunk, warmup, at_once)
    for batch in (stretches[nth] for nth in range(len(stretches))):
        assert batch["x"].shape[1] <= chunk
        assert len(set(batch["site"].tolist())) <= sites_at_once
        assert np.bincount(batch["site"]).max() <= at_once
        for site, start, length in zip(*(batch[key].tolist() for key in ("site", "start", "length")), strict=True):
            assert stop.get(site, 0) == start
            stop[site] = start + length
        kept += check_rows(series, part, batch, warmup)
    assert sorted(kept) == every_step(part)


def test_a_stretch_is_as_long_as_a_batch_of_half_a_million_steps_allows():
    series, part = lay_out([(0, 0, 9000, 0), (0, 0, 8000, 0), (0, 0, 7000, 0)])
    assert [len(sequential_stretches(series, part, sites, None, 0)) for sites in (1, 2, 3)] == [3, 2, 1]
    many = lay_out([(0, 0, 4000, 0)] * 200)
    assert sequential_stretches(*many, 200, None, 0)[0]["x"].shape[:2] == (200, 3650)


@given(RECORDS, st.integers(1, 5), st.integers(1, 12), st.integers(1, 14), st.integers(0, 6))
def test_independent_stretches_keep_every_step_once_with_the_window_before_it(
    records, batch_size, window, stride, warmup
):
    series, part = lay_out(records)
    kept, starts = [], {}
    stretches = independent_stretches(series, part, batch_size, window, stride, warmup)
    for batch in (stretches[nth] for nth in range(len(stretches))):
        assert len(batch["site"]) <= batch_size
        kept += check_rows(series, part, batch, warmup)
        for row, (site, start) in enumerate(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True)):
            starts.setdefault(site, []).append(start)
            if start:  # what is scored has at least the overlap behind it, in the same window
                assert int(batch["keep"][row].int().argmax()) >= window - min(stride, window)
    assert sorted(kept) == every_step(part)
    for site, length in zip(part.site.tolist(), part.length.tolist(), strict=True):
        expected = list(range(0, max(length - window, 0) + 1, min(stride, window)))
        if length > window and expected[-1] != length - window:
            expected.append(length - window)
        assert starts[site] == expected


# Training


@given(RECORDS, st.integers(1, 6), st.integers(1, 6), st.data())
def test_training_windows_are_the_slices_they_say(records, window, stride, data):
    series, part = lay_out(records)
    lengths = part.length[part.length >= window]
    if not len(lengths):
        return
    part = Part(part.site[part.length >= window], part.begin[part.length >= window], lengths)
    windows = cut_windows(part, "shuffled", window, min(stride, window), [str(site) for site in range(9)])
    ids = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=9))
    batch = TrainingWindows(series, part, windows).__getitems__(ids)
    assert batch["window"].tolist() == ids
    begin = dict(zip(part.site.tolist(), part.begin.tolist(), strict=True))
    for row, (site, start) in enumerate(zip(windows.site[ids].tolist(), windows.start[ids].tolist(), strict=True)):
        code = 100.0 * site + begin[site] + start + np.arange(window)
        assert batch["x"][row, :, 0].tolist() == code.tolist()
        assert batch["x"][row, :, 1].tolist() == [site + 0.5] * window
        assert batch["y"][row, :, 0].tolist() == (-code).tolist()
        assert batch["mask"][row, :, 0].tolist() == (code % 3 > 0).tolist()


def test_a_batch_is_a_copy():
    series, part = lay_out([(0, 0, 9, 0)])
    data = TrainingWindows(series, part, WindowIndex([0, 0], [0, 3], 6))
    data.__getitems__([0, 1])["y"].zero_()
    assert series.targets.tolist() == [[-code] for code in range(9)]


def test_one_window_is_a_batch_of_one():
    series, part = lay_out([(0, 0, 9, 0)])
    assert TrainingWindows(series, part, WindowIndex([0, 0], [0, 3], 6))[1]["x"].shape == (1, 6, 2)


@given(RECORDS, st.integers(1, 6), st.sampled_from(["lanes", "sequential"]))
def test_disjoint_windows_follow_one_another_from_the_first_step(records, window, order):
    _, part = lay_out(records)
    enough = part.length >= window
    if not enough.any():
        return
    part = Part(part.site[enough], part.begin[enough], part.length[enough])
    windows = cut_windows(part, order, window, window, [str(site) for site in range(9)])
    expected = [
        (site, start)
        for site, length in zip(part.site.tolist(), part.length.tolist(), strict=True)
        for start in range(0, length - window + 1, window)
    ]
    assert list(zip(windows.site.tolist(), windows.start.tolist(), strict=True)) == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12))
def test_rows_of_lane_batches_go_on_where_they_stopped(counts, batch_size):
    site = np.repeat(np.arange(len(counts)), counts)
    start = np.concatenate([5 * np.arange(count) for count in counts])
    windows = WindowIndex(site, start, 5)
    lanes = LaneBatches(windows, batch_size)
    batches = list(lanes)
    assert len(batches) == len(lanes)
    assert sorted(chain.from_iterable(batches)) == list(range(len(windows)))
    assert max(map(len, batches)) == min(batch_size, len(windows))
    for before, after in pairwise(batches):
        assert len(after) <= len(before)
        for last, following in zip(before, after, strict=False):
            same_site = site[following] == site[last]
            assert start[following] == (start[last] + 5 if same_site else 0)
    assert list(lanes) == batches


@given(st.integers(1, 50), st.integers(0, 10**9), st.integers(0, 1000))
def test_shuffling_is_fixed_by_seed_and_epoch(size, seed, epoch):
    one, other = ShuffleSampler(size, seed), ShuffleSampler(size, seed)
    one.set_epoch(epoch)
    orders = [list(one), list(one)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(size))
    for nth, order in enumerate(orders):
        other.set_epoch(epoch + nth)
        assert list(other) == order


def test_epochs_and_seeds_differ():
    orders = {(seed, epoch): None for seed in range(3) for epoch in range(5)}
    for seed, epoch in orders:
        sampler = ShuffleSampler(100, seed)
        sampler.set_epoch(epoch)
        orders[seed, epoch] = tuple(sampler)
    assert len(set(orders.values())) == len(orders)


@pytest.mark.parametrize("size", [1, 3])
def test_sampler_knows_its_length(size):
    assert len(ShuffleSampler(size, 0)) == len(list(ShuffleSampler(size, 0))) == size

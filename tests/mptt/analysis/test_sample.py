from __future__ import annotations

import numpy as np
import pytest
import torch

from mptt import MPTTError, WindowIndex
from mptt.analysis.sample import sample_windows

MANY = WindowIndex.cut([400 + 13 * site for site in range(30)], window=40, stride=20)


@pytest.mark.parametrize("spin_up", [0, 35, None])
@pytest.mark.parametrize(("count", "stretches"), [(2, 1), (24, 6), (64, 45), (10_000, 3)])
def test_each_window_begins_after_the_step_that_is_caught(count: int, stretches: int, spin_up: int | None) -> None:
    sample = sample_windows(MANY, count, stretches, spin_up)
    row = sample.row.numpy()
    assert np.array_equal(MANY.site[sample.ids], sample.site[row])
    assert np.array_equal(MANY.start[sample.ids], sample.start[row] + sample.position.numpy() + 1)
    assert (sample.length == [sample.position[row == one].max() + 1 for one in range(len(sample.site))]).all()
    assert 2 <= len(sample.ids) <= max(count, 2)
    assert len(np.unique(sample.ids)) == len(sample.ids)
    first = MANY.start[[sample.ids[row == one][0] for one in range(len(sample.site))]]
    assert np.array_equal(sample.start, np.zeros_like(first) if spin_up is None else np.maximum(first - spin_up, 0))


def test_sites_come_once_while_there_are_others() -> None:
    assert len(set(sample_windows(MANY, 64, 30).site.tolist())) == 30
    sample = sample_windows(MANY, 64, 31)
    assert sorted(np.bincount(sample.site)) == [1] * 29 + [2]


def test_windows_of_a_stretch_are_neighbours() -> None:
    shuffled = np.random.default_rng(0).permutation(len(MANY))
    windows = WindowIndex(MANY.site[shuffled], MANY.start[shuffled], MANY.length[shuffled])
    sample = sample_windows(windows, 40, 5)
    for row in range(5):
        start = windows.start[sample.ids[(sample.row == row).numpy()]]
        assert len(start) <= 8
        assert set(np.diff(start)) <= {20, 13, 6, 19, 12, 5, 18, 11, 4, 17, 10, 3, 16, 9, 2, 15, 8, 1, 14, 7}


def test_seed_draws_and_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (sample_windows(MANY, 16, 4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ids, same.ids)
    assert not np.array_equal(one.ids, other.ids)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_a_window_alone_in_its_stretch_gets_company() -> None:
    windows = WindowIndex(site=[0, 0, 1, 1], start=[0, 4, 0, 4], length=6)
    assert sorted(sample_windows(windows, 2, 1).ids.tolist()) == [1, 3]


def test_windows_without_a_message_are_not_drawn() -> None:
    with pytest.raises(MPTTError, match=r"of WindowIndex\(3 windows, 2 sites, length 6\) there are 1\."):
        sample_windows(WindowIndex(site=[0, 0, 1], start=[0, 4, 0], length=6))
    with pytest.raises(MPTTError, match="stretches must be 1 or more, found 0"):
        sample_windows(MANY, stretches=0)
    with pytest.raises(MPTTError, match="spin_up must be 0 or more, found -1"):
        sample_windows(MANY, spin_up=-1)

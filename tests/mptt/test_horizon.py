"""The horizon of recurrences whose memory is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mptt import MPTTError
from mptt.analysis import horizon as module
from mptt.analysis.horizon import (
    Run,
    band,
    divergence,
    evenly,
    gaussian_like,
    half_lives,
    partners,
    relative,
    stays_under,
    window_needed,
)


def linear(decay: Tensor, inputs: Tensor) -> Run:
    """h' = a h + x of each unit, and the sum of the units as prediction, step by step."""

    def run(steps: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for step in range(steps.start, steps.stop):
            state = decay * state + inputs[:, step]
            found.append(state)
        states = torch.stack(found, dim=1)
        return states.sum(2, keepdim=True), states

    return run


def test_a_linear_recurrence_forgets_as_fast_as_its_decay() -> None:
    decay = torch.tensor([0.5, 0.99], dtype=torch.float64)
    first, second = torch.tensor([[1.0, 1.0], [2.0, -2.0]]).double(), torch.tensor([[0.0, 4.0], [2.0, 0.0]]).double()
    apart = divergence(linear(decay, torch.randn(2, 900, 2).double()), first, second, 900)
    step = np.arange(901)
    expected = np.sqrt([(0.5 ** (2 * step) + 9 * 0.99 ** (2 * step)) / 2, 4 * 0.99 ** (2 * step) / 2])
    np.testing.assert_allclose(apart.state, expected, atol=1e-12)
    expected = np.abs([0.5**step - 3 * 0.99**step, 2 * 0.99**step])[:, 1:]
    np.testing.assert_allclose(apart.prediction[..., 0], expected, atol=1e-12)
    np.testing.assert_allclose(half_lives(apart.unit[:200].T), [1.0, math.log(2) / -math.log(0.99)], rtol=1e-9)
    # 0.99 ** 298 = 0.0500, 0.99 ** 299 = 0.0495; 0.99 ** 458 = 0.01002
    assert stays_under(relative(apart.state)[1], 0.05).tolist() == 299
    assert stays_under(relative(apart.state)[1], 0.01).tolist() == 459


def test_stretches_of_a_run_are_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    decay, inputs = torch.tensor([0.7, 0.9, 0.99]), torch.randn(4, 50, 3)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    whole = divergence(linear(decay, inputs), first, second, 50)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 12 * 7)
    lengths: list[int] = []

    def run(steps: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        lengths.append(steps.stop - steps.start)
        return linear(decay, inputs)(steps, state)

    parts = divergence(run, first, second, 50)
    assert lengths == [7, 7] * 7 + [1, 1]
    for name in ("state", "prediction", "unit"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((3,), (3,))])
def test_states_that_are_no_pairs_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(MPTTError, match="two sets of initial states"):
        divergence(linear(torch.ones(3), torch.zeros(3, 5, 3)), *map(torch.zeros, shapes), 5)


def test_a_dip_is_not_the_end() -> None:
    assert stays_under([9.0, 1.0, 9.0, 1.0, 1.0], 2.0) == 3


def test_under_means_under() -> None:
    assert stays_under([2.0, 2.0, 1.0], 2.0) == 2


def test_what_never_shows_has_no_horizon_and_what_never_fades_an_infinite_one() -> None:
    assert stays_under([[0.0, 0.0], [9.0, 9.0], [0.0, 9.0]], 1.0).tolist() == [0, math.inf, math.inf]


def test_each_series_has_its_threshold_and_none_without_one() -> None:
    found = stays_under(np.ones((3, 4)), [2.0, 1.0, np.nan])
    assert found[:2].tolist() == [0, math.inf]
    assert np.isnan(found[2])
    assert np.isnan(stays_under([np.nan, np.nan], 1.0))


def test_staying_under_is_what_looking_at_every_step_says() -> None:
    distance = np.random.default_rng(0).random((50, 9)) * np.linspace(1.5, 0.2, 9)
    for series, found in zip(distance, stays_under(distance, 0.4), strict=True):
        steps = [step for step in range(9) if (series[step:] < 0.4).all()]
        assert found == (steps[0] if steps else math.inf)


def test_half_lives_lie_between_steps_on_a_logarithmic_axis() -> None:
    assert half_lives([8.0, 8.0, 2.0]) == pytest.approx(1.5)  # 8 -> 2: 4 after half of two halvings
    assert half_lives([1.0, 0.0]) == 0
    assert half_lives([1.0, 0.9]) == math.inf
    assert np.isnan(half_lives([0.0, 0.0]))


def test_bands_count_what_is_longer_than_the_run() -> None:
    values = np.array([[*range(1, 8), np.inf, np.inf, np.inf], [np.nan] * 9 + [4.0]])
    assert band(values, axis=1).T.tolist() == [[1, 5, math.inf], [4, 4, 4]]
    assert band(values[0]).tolist() == [1, 5, math.inf]
    assert np.isnan(band([np.nan])).all()


def test_a_window_has_the_share_of_free_steps_that_was_asked_for() -> None:
    for free in (0.0, 0.25, 0.75):
        window = window_needed(120, free)
        assert (window - 120) / window == pytest.approx(free)
    assert window_needed(math.inf) == math.inf
    with pytest.raises(MPTTError, match=r"found 1\.0"):
        window_needed(100, 1.0)


def test_starts_are_one_of_each_stretch() -> None:
    for seed in range(5):
        starts = evenly(100, 199, 10, seed)
        assert (starts // 10).tolist() == list(range(10, 20))
    assert evenly(100, 199, 10, 1).tolist() == evenly(100, 199, 10, 1).tolist()
    assert evenly(100, 199, 10, 1).tolist() != evenly(100, 199, 10, 2).tolist()
    assert evenly(3, 5, 10, 0).tolist() == [3, 4, 5]


def test_everyone_has_another_as_partner_once() -> None:
    for count in (2, 3, 17):
        found = partners(count, seed=count)
        assert sorted(found) == list(range(count))
        assert (found != np.arange(count)).all()
    with pytest.raises(MPTTError, match="found 1"):
        partners(1)


def test_gaussian_states_have_mean_and_spread_of_the_true_ones() -> None:
    states = torch.randn(4000, 3) * torch.tensor([1.0, 0.0, 5.0]) + torch.tensor([0.0, 2.0, 9.0])
    found = gaussian_like(states, seed=1)
    torch.testing.assert_close(found.mean(0), states.mean(0), atol=0.3, rtol=0)
    torch.testing.assert_close(found.std(0), states.std(0), atol=0.3, rtol=0)
    assert (found[:, 1] == 2).all()
    assert abs(torch.corrcoef(found.T[[0, 2]])[0, 1]) < 0.1

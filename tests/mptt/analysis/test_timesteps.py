from __future__ import annotations

import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.analysis.timesteps import NeuroViewHead, contribution, efficiency, fit_probe, lags_to


def windows(states: torch.Tensor, lags: int) -> torch.Tensor:
    """(T - L + 1, L, S) of states (T, S), lag 0 first."""
    return torch.stack([states[end - lags : end].flip(0) for end in range(lags, len(states) + 1)])


def test_the_head_adds_up_what_each_lag_says() -> None:
    torch.manual_seed(0)
    head, states = NeuroViewHead(hidden=3, steps=4, outputs=2), torch.randn(2, 6, 3)
    weights = head.by_lag()
    assert weights.shape == (4, 2, 3)
    output = head(states)
    for step in range(6):
        expected = head.read.bias.clone().expand(2, 2)
        for lag in range(min(step + 1, 4)):  # before the first step there is nothing
            expected = expected + states[:, step - lag] @ weights[lag].T
        torch.testing.assert_close(output[:, step], expected)
    torch.testing.assert_close(head(states[:, 3:], states[:, :3]), output[:, 3:])


def test_the_probe_finds_the_lags_and_weights_of_a_linear_system() -> None:
    torch.manual_seed(0)
    states = windows(torch.randn(600, 2, dtype=torch.float64) * torch.tensor([1.0, 10.0]), 5)
    targets = (3 * states[:, 0, 0] + 0.1 * states[:, 3, 1] + 7).unsqueeze(1)
    probe = fit_probe(states, targets, strengths=(1e-9, 1.0, 1e6), jackknife=True)
    true = torch.zeros(5, 1, 2, dtype=torch.float64)
    true[0, 0, 0], true[3, 0, 1] = 3, 0.1
    assert probe.strength == 1e-9
    torch.testing.assert_close(probe.weights, true, atol=1e-5, rtol=0)
    assert probe.intercept.item() == pytest.approx(7, abs=1e-4)
    torch.testing.assert_close(probe.predict(states), targets, atol=1e-4, rtol=0)
    found = contribution(probe.weights, states)
    # Three times a deviation of 1, a tenth of one of 10: three quarters and a quarter.
    torch.testing.assert_close(found.share.flatten(), torch.tensor([0.75, 0, 0, 0.25, 0]).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(found.weight, found.term, atol=1e-3, rtol=0)
    # The weights are sure, of 600 states the deviations are to 3 %.
    assert (probe.spread < 0.02).all()


@pytest.mark.parametrize("grade", [0.0, 0.5, 1.0])
def test_the_probe_is_ridge_regression_that_expects_less_of_far_lags(grade: float) -> None:
    torch.manual_seed(0)
    states, targets = torch.randn(30, 4, 3, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    probe = fit_probe(states, targets, strength=0.3, grades=[grade])
    x = states.flatten(1)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    y = (targets - targets.mean(0)) / targets.std(0, correction=0)
    # Columns have variance 1, and their weights in the kernel add up to 1: so has its mean eigenvalue.
    weight = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64).pow(-2 * grade).repeat_interleave(3)
    penalty = 0.3 * (weight.sum() / weight).diag()
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y) * targets.std(0, correction=0)
    predicted = x @ weights + targets.mean(0)
    torch.testing.assert_close(probe.predict(states), predicted)


def test_more_states_than_windows_are_not_overfitted() -> None:
    torch.manual_seed(0)
    states, noise = torch.randn(80, 40, 4, dtype=torch.float64), torch.randn(80, 1, dtype=torch.float64)
    probe = fit_probe(states, noise)
    assert probe.strength >= 1, "of noise there is little to learn"
    loose = fit_probe(states, noise, strength=1e-4)
    assert efficiency(loose.predict(states), noise).item() > 0.99, "there are weights enough for anything"
    new, other = torch.randn(80, 40, 4, dtype=torch.float64), torch.randn(80, 1, dtype=torch.float64)
    assert efficiency(probe.predict(new), other).item() > efficiency(loose.predict(new), other).item() + 0.2


def test_a_unit_that_stands_still_counts_for_nothing() -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 2, 2, dtype=torch.float64)
    states[:, :, 1] = 0.123
    probe = fit_probe(states, states[:, 1, :1])
    assert (probe.weights[:, :, 1] == 0).all()
    assert contribution(probe.weights, states).share[1].item() > 0.99


def test_far_lags_are_held_down_where_they_say_nothing() -> None:
    torch.manual_seed(0)
    states = torch.randn(150, 100, 2, dtype=torch.float64)
    targets = states[:, 0, :1] + 0.5 * states[:, 1, :1]
    free, alike = fit_probe(states, targets), fit_probe(states, targets, grades=[0.0])
    assert free.grade == 1.0
    new = torch.randn(150, 100, 2, dtype=torch.float64)
    truth = new[:, 0, :1] + 0.5 * new[:, 1, :1]
    assert efficiency(free.predict(new), truth).item() > efficiency(alike.predict(new), truth).item() + 0.2


def test_the_jackknife_knows_how_sure_the_shares_are() -> None:
    torch.manual_seed(0)
    states = torch.randn(60, 3, 2, dtype=torch.float64)
    sure = states[:, 1, :1]
    unsure = sure + 3 * torch.randn(60, 1, dtype=torch.float64)
    spread = [fit_probe(states, y, strength=0.01, jackknife=True).spread.mean() for y in (sure, unsure)]
    assert spread[1] > 3 * spread[0]


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(MPTTError, match="found 3 windows"):
        fit_probe(torch.randn(3, 2, 2), torch.randn(3, 1))
    with pytest.raises(MPTTError, match="does not vary"):
        fit_probe(torch.randn(30, 2, 2), torch.ones(30, 1))
    with pytest.raises(MPTTError, match="found 4, 0 and 1"):
        NeuroViewHead(4, 0)


def test_efficiency_and_lags() -> None:
    observed = torch.tensor([[0.0], [2.0]])
    assert efficiency(torch.tensor([[0.0], [1.0]]).double(), observed).tolist() == [0.5]
    share = np.array([0.1, 0.4, 0.3, 0.2])
    assert [lags_to(share, part) for part in (0.05, 0.5, 0.51, 0.9)] == [0, 1, 2, 3]

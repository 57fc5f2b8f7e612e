from __future__ import annotations

import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.analysis.probes import correlations, fit_ridge, moving_means
from mptt.analysis.timesteps import fit_probe


def test_a_linear_store_is_read_off_with_its_weights_and_its_offset() -> None:
    torch.manual_seed(0)
    states = torch.randn(400, 3, dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1]) + 5
    stores = torch.stack([3 * states[:, 0] - 0.5 * states[:, 1] + 7, states[:, 2]], dim=1)
    probe = fit_ridge(states, stores, strengths=(1e-12, 1.0, 1e6))
    assert probe.strength == 1e-12
    true = torch.tensor([[3, -0.5, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(probe.weights, true.unsqueeze(0), atol=1e-8, rtol=0)
    torch.testing.assert_close(probe.intercept, torch.tensor([7.0, 0.0]).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(probe.predict(states.unsqueeze(1)), stores, atol=1e-7, rtol=0)


def test_it_is_the_ridge_of_the_windows_solved_the_other_way_round() -> None:
    torch.manual_seed(1)
    states, noise = torch.randn(90, 4, dtype=torch.float64), torch.randn(90, 2, dtype=torch.float64)
    targets = states[:, :2] * 0.7 + noise
    strengths = (0.01, 1.0, 5.0, 30.0, 1000.0)
    found = fit_ridge(states, targets, blocks=9, strengths=strengths)
    oracle = fit_probe(states.unsqueeze(1), targets, blocks=9, strengths=strengths, grades=(0.0,))
    assert found.strength == oracle.strength == 5.0
    for key, error in oracle.error.items():
        assert found.error[key] == pytest.approx(error, rel=1e-6)
    torch.testing.assert_close(found.weights, oracle.weights, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.intercept, oracle.intercept, rtol=1e-8, atol=1e-10)


def test_the_strength_is_chosen_by_blocks_that_do_not_know_each_other() -> None:
    # States and target that drift: neighbours agree in everything, far stretches in nothing.
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2000, 8, generator=generator, dtype=torch.float64).cumsum(0)
    target = torch.randn(2000, 1, generator=generator, dtype=torch.float64).cumsum(0)
    apart = fit_ridge(states, target, blocks=10)
    mixed = fit_ridge(states, target, blocks=torch.arange(2000) % 10)
    assert mixed.strength < 1 < apart.strength
    assert min(mixed.error.values()) < 0.8 < min(apart.error.values())


def test_a_unit_that_stands_still_has_no_weight() -> None:
    states = torch.stack([torch.linspace(-1, 1, 40), torch.full((40,), 0.3)], dim=1)
    probe = fit_ridge(states, 2 * states[:, :1] + 1, strength=0.0)
    torch.testing.assert_close(probe.weights.flatten(), torch.tensor([2.0, 0.0]).double(), atol=1e-9, rtol=0)
    assert correlations(states, states[:, :1]).flatten().tolist() == pytest.approx([1, 0])


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(MPTTError, match="does not vary"):
        fit_ridge(torch.randn(10, 2), torch.ones(10, 1))
    with pytest.raises(MPTTError, match=r"found 3 steps in 1 block\(s\)"):
        fit_ridge(torch.randn(3, 2), torch.randn(3, 1))
    with pytest.raises(MPTTError, match=r"in 1 block\(s\)"):
        fit_ridge(torch.randn(9, 2), torch.randn(9, 1), blocks=torch.zeros(9))


def test_correlations_are_those_of_numpy() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = (torch.randn(50, 3, generator=generator), torch.randn(50, 2, generator=generator))
    expected = np.corrcoef(one.T.numpy(), other.T.numpy())[:3, 3:]
    np.testing.assert_allclose(correlations(one, other), expected, atol=1e-6)


def test_moving_means_are_those_of_the_steps_before() -> None:
    values = torch.randn(40, 2, dtype=torch.float64)
    found = moving_means(values, (1, 3, 30))
    for step in range(40):
        for nth, span in enumerate((1, 3, 30)):
            expected = values[max(step + 1 - span, 0) : step + 1].mean(0)
            torch.testing.assert_close(found[step, 2 * nth : 2 * nth + 2], expected)

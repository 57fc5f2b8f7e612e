from __future__ import annotations

import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.analysis.geometry import distances, half_autocorrelation, principal_components


def test_components_are_those_of_an_ellipse() -> None:
    turn = np.pi / 6
    axes = torch.tensor([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    angle = torch.arange(360) * torch.pi / 180
    # Half-axes 3 and 1: 9 and 1 parts of the variance.
    states = torch.stack([3 * angle.cos(), angle.sin()], dim=1).double() @ axes + torch.tensor([5.0, -2.0])
    found = principal_components(states)
    torch.testing.assert_close(found.share, torch.tensor([0.9, 0.1]).double())
    torch.testing.assert_close(found.axes, axes)
    torch.testing.assert_close(found.mean, torch.tensor([5.0, -2.0]).double())
    torch.testing.assert_close(found.project(states)[90], torch.tensor([0.0, 1.0]).double(), atol=1e-6, rtol=0)


def test_components_are_those_of_the_singular_values() -> None:
    states = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = principal_components(states, 3)
    _, values, axes = torch.linalg.svd(states - states.mean(0), full_matrices=False)
    torch.testing.assert_close(found.share, (values.square() / values.square().sum())[:3])
    torch.testing.assert_close((found.axes * axes[:3]).sum(1).abs(), torch.ones(3).double())
    assert (found.axes.gather(1, found.axes.abs().argmax(1, keepdim=True)) > 0).all(), (
        "signs that do not depend on luck"
    )


@pytest.mark.parametrize(("states", "count"), [(torch.ones(5, 2), 1), (torch.randn(1, 2), 1), (torch.randn(5, 2), 3)])
def test_what_has_no_components_is_refused(states: torch.Tensor, count: int) -> None:
    with pytest.raises(MPTTError, match="principal components"):
        principal_components(states, count)


def test_a_state_that_is_the_season_lies_where_it_lay_a_year_before() -> None:
    day, year = np.tile(np.arange(1, 101), 5), np.repeat(np.arange(2000, 2005), 100)
    season = torch.from_numpy(np.stack([np.cos(day * np.pi / 50), np.sin(day * np.pi / 50)], axis=1))
    found = distances(season, day, year, pairs=500)
    assert len(found.one_step) == 499
    np.testing.assert_allclose(found.one_step, 2 * np.sin(np.pi / 100), rtol=1e-9)
    assert len(found.same_day) == len(found.random) == 500
    assert found.same_day.max() < 1e-9
    # Two random points of a circle of radius 1 are 4 / pi apart in the mean.
    assert found.random.mean() == pytest.approx(4 / np.pi, abs=0.1)


def test_pairs_are_of_the_days_and_years_that_they_should_be() -> None:
    generator = np.random.default_rng(0)
    day, year = generator.permutation(np.tile(np.arange(1, 8), 4)), generator.integers(2000, 2003, 28)
    # From the distance of two states the pair is read off: powers of two have differences that are all different.
    states = torch.from_numpy(2.0 ** np.arange(28)).unsqueeze(1)
    found = distances(states, day, year, pairs=3000)
    pairs = {2.0**b - 2.0**a: (a, b) for b in range(28) for a in range(b)}
    drawn = {pairs[one] for one in found.same_day}
    assert drawn == {(a, b) for a, b in pairs.values() if day[a] == day[b] and year[a] != year[b]}
    assert {pairs[one] for one in found.random} == {(a, b) for a, b in pairs.values() if year[a] != year[b]}


def test_a_series_shorter_than_a_year_has_no_pairs_of_years() -> None:
    found = distances(torch.randn(9, 2), np.arange(9), np.full(9, 2000))
    assert (len(found.one_step), len(found.same_day), len(found.random)) == (8, 0, 0)
    with pytest.raises(MPTTError, match="9 states have 8 days"):
        distances(torch.randn(9, 2), np.arange(8), np.full(9, 2000))


def test_a_linear_recurrence_halves_when_it_should() -> None:
    noise = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keeps = torch.tensor([0.5, 0.9, 0.97]).double()
    states = torch.zeros_like(noise)
    for step in range(1, 20_000):
        states[step] = keeps * states[step - 1] + noise[step]
    found = half_autocorrelation(states)
    # ln 2 / -ln a is 1, 6.6 and 22.8 steps.
    assert found[0] in (1, 2)
    assert found[1] == 7
    assert 20 <= found[2] <= 26


def test_the_lag_is_that_of_a_loop() -> None:
    states = torch.randn(60, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).cumsum(0)
    centred = states - states.mean(0)
    for unit, found in enumerate(half_autocorrelation(states).tolist()):
        variance = centred[:, unit].square().mean()
        lags = [float((centred[lag:, unit] * centred[: 60 - lag, unit]).mean()) for lag in range(60)]
        assert found == next(lag for lag in range(60) if lags[lag] <= variance / 2)
    assert half_autocorrelation(torch.ones(7, 1)).tolist() == [7]

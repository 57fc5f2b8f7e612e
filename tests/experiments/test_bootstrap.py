from __future__ import annotations

import numpy as np
import pytest

from mptt.experiments.comparison import bootstrap
from mptt.experiments.comparison.bootstrap import Difference, YearlyErrors, draws, paired_difference, replicated


def errors(rmse: object, count: int = 10) -> YearlyErrors:
    """Runs that miss by `rmse` (seeds, sites, years)."""
    values = np.asarray(rmse, dtype=float)
    return YearlyErrors(values**2 * count, np.full(values.shape, count))


def by_hand(strategy: YearlyErrors, reference: YearlyErrors, seeds: np.ndarray, years: np.ndarray) -> float:
    """One replicate, a run at a time."""
    of_seeds = []
    for seed in seeds:
        of_sites = []
        for site in range(strategy.squared.shape[1]):
            both = []
            for runs in (strategy, reference):
                squared = sum(runs.squared[seed, site, year] for year in years)
                count = sum(runs.count[seed, site, year] for year in years)
                both.append((squared / count) ** 0.5 if count else float("nan"))
            if not np.isnan(both).any():
                of_sites.append(both[0] - both[1])
        of_seeds.append(np.median(of_sites) if of_sites else float("nan"))
    return float(np.mean(of_seeds))


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1, 5), (2, 3, 4), (4, 6, 2)], ids=str)
@pytest.mark.parametrize("at_once", [2_000_000, 7], ids=["whole", "in chunks"])
def test_replicates_are_those_of_a_loop_over_the_same_draws(
    shape: tuple[int, int, int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
    random = np.random.default_rng(sum(shape))
    # Whole years without an observation at a site.
    count = np.where(random.random(shape[1:]) < 0.3, 0, random.integers(1, 366, shape[1:]))
    pair = [YearlyErrors(random.gamma(2.0, 5.0, shape) * count, np.broadcast_to(count, shape)) for _ in range(2)]
    seeds, years = draws(shape[0], shape[2], 40, seed=3)
    expected = [by_hand(*pair, *drawn) for drawn in zip(seeds, years, strict=True)]
    np.testing.assert_allclose(replicated(*pair, seeds, years), expected, rtol=1e-12, atol=1e-12)
    point = paired_difference(*pair, replicates=40, seed=3)
    every_seed, every_year = np.arange(shape[0]), np.arange(shape[2])
    np.testing.assert_allclose(point.value, by_hand(*pair, every_seed, every_year), rtol=1e-12)
    np.testing.assert_allclose((point.low, point.high), np.nanpercentile(expected, (2.5, 97.5)), rtol=1e-9)


def test_runs_alike_differ_by_nothing() -> None:
    runs = errors(np.random.default_rng(0).gamma(2.0, size=(3, 2, 9)))
    assert paired_difference(runs, runs) == Difference(0.0, 0.0, 0.0, 0.0)


def test_the_same_difference_in_every_year_leaves_no_doubt() -> None:
    found = paired_difference(errors(np.full((3, 2, 9), 1.5)), errors(np.full((3, 2, 9), 2.0)))
    assert (found.value, found.low, found.high) == pytest.approx((-0.5, -0.5, -0.5), abs=1e-12)
    assert found.share == pytest.approx(-25.0)


def test_years_are_drawn_where_there_is_one_seed_and_seeds_where_there_is_one_year() -> None:
    seeds, years = draws(1, 4, 200, seed=0)
    assert set(seeds.ravel()) == {0}
    assert set(years.ravel()) == {0, 1, 2, 3}
    # With one year a replicate is one of -1, 0 and 1: both ends of the interval are seen.
    found = paired_difference(errors([[[1.0]], [[3.0]]]), errors([[[2.0]], [[2.0]]]))
    assert (found.value, found.low, found.high) == pytest.approx((0.0, -1.0, 1.0))


def test_one_seed_and_one_year_have_no_interval() -> None:
    found = paired_difference(errors([[[1.0]]]), errors([[[2.0]]]))
    assert (found.value, found.share) == (-1.0, -50.0)
    assert np.isnan([found.low, found.high]).all()


def test_seeds_are_drawn_in_pairs() -> None:
    # Seeds differ much from each other, the two runs of a seed by exactly 1.
    reference = np.array([1.0, 50.0, 900.0])[:, None, None] * np.ones((1, 1, 6))
    found = paired_difference(errors(reference + 1), errors(reference))
    assert (found.low, found.high) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_same_draws_make_the_same_interval() -> None:
    random = np.random.default_rng(1)
    pair = [errors(random.gamma(2.0, size=(2, 1, 9))) for _ in range(2)]
    assert paired_difference(*pair) == paired_difference(*pair)
    assert paired_difference(*pair).low < paired_difference(*pair).value < paired_difference(*pair).high

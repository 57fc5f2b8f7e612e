"""Paired differences of RMSE between strategies, with intervals from resampled seeds and years."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mptt.experiments.comparison.residuals import Floats, Ints, median_over_sites

_AT_ONCE = 2_000_000  # RMSE values of a chunk of replicates


@dataclass(frozen=True)
class YearlyErrors:
    """What the runs of one strategy miss, a year at a time.

    Args:
        squared: sums of squared errors, (seeds, sites, years).
        count: scored observations, of the same shape.
    """

    squared: Floats
    count: Ints


@dataclass(frozen=True)
class Difference:
    """A difference of RMSE.

    Args:
        value: strategy minus reference.
        low: lower end of its 95 % interval; NaN where one seed and one year leave nothing to draw from.
        high: upper end.
        share: the value in per cent of the reference's RMSE.
    """

    value: float
    low: float
    high: float
    share: float


def paired_difference(
    strategy: YearlyErrors, reference: YearlyErrors, replicates: int = 2000, seed: int = 0
) -> Difference:
    """RMSE of a strategy minus that of a reference, paired by seed and site, with its 95 % bootstrap interval.

    The difference is that of each seed and site, its median over sites, and the mean of this over seeds. A replicate
    draws seeds, each with the runs of both, and calendar years, the same ones for all runs, with replacement, and does
    the whole again. Errors of one year hang together, so that years are drawn and not steps (Clark et al. 2021,
    doi:10.1029/2020WR029001). The interval is from the 2.5th to the 97.5th percentile.

    Args:
        strategy: its runs.
        reference: those of the reference, of the same seeds, sites and years.
        replicates: how many.
        seed: of the draws.
    """
    seeds, _, years = strategy.squared.shape
    all_years = np.ones((1, years), dtype=np.int64)
    value = float(_differences(strategy, reference, all_years).mean())
    level = float(median_over_sites(_rmse(reference, all_years)[..., 0]).mean())
    low = high = np.nan
    if seeds > 1 or years > 1:
        drawn_seeds, drawn_years = draws(seeds, years, replicates, seed)
        low, high = np.nanpercentile(replicated(strategy, reference, drawn_seeds, drawn_years), (2.5, 97.5))
    return Difference(value, float(low), float(high), 100 * value / level)


def draws(seeds: int, years: int, replicates: int, seed: int) -> tuple[Ints, Ints]:
    """What each replicate draws: rows of seeds (replicates, seeds) and columns of years (replicates, years)."""
    random = np.random.default_rng(seed)
    return random.integers(seeds, size=(replicates, seeds)), random.integers(years, size=(replicates, years))


def replicated(strategy: YearlyErrors, reference: YearlyErrors, drawn_seeds: Ints, drawn_years: Ints) -> Floats:
    """The difference in each replicate, (replicates,); NaN where no site has an observation in the years drawn.

    Args:
        strategy: its runs.
        reference: those of the reference.
        drawn_seeds: (replicates, seeds).
        drawn_years: (replicates, years).
    """
    seeds, sites, years = strategy.squared.shape
    seed_weights, year_weights = _times_drawn(drawn_seeds, seeds), _times_drawn(drawn_years, years)
    chunk = max(_AT_ONCE // (seeds * sites), 1)
    found = []
    for start in range(0, len(drawn_years), chunk):
        differences = _differences(strategy, reference, year_weights[start : start + chunk])
        found.append((differences * seed_weights[start : start + chunk].T).sum(axis=0) / seeds)
    return np.concatenate(found)


def _differences(strategy: YearlyErrors, reference: YearlyErrors, year_weights: Ints) -> Floats:
    """The median over sites of the difference, (seeds, replicates)."""
    difference = _rmse(strategy, year_weights) - _rmse(reference, year_weights)  # (seeds, sites, replicates)
    return median_over_sites(difference.swapaxes(1, 2))


def _rmse(errors: YearlyErrors, year_weights: Ints) -> Floats:
    """(seeds, sites, replicates)."""
    weights = year_weights.T.astype(np.float64)
    squared, count = errors.squared @ weights, errors.count @ weights
    return np.sqrt(np.divide(squared, count, out=np.full(squared.shape, np.nan), where=count > 0))


def _times_drawn(drawn: Ints, size: int) -> Ints:
    """How often each of `size` was drawn in each replicate, (replicates, size)."""
    at = np.arange(len(drawn))[:, None] * size + drawn
    return np.bincount(at.ravel(), minlength=len(drawn) * size).reshape(-1, size)

"""Autocorrelation of series whose memory is known, by hand and by slow sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mptt import MPTTError
from mptt.analysis.autocorrelation import (
    autocorrelation,
    first_under,
    partial_autocorrelation,
    trailing_means,
    unexplained,
    waves,
    white_noise_band,
    without_season,
)


def slowly(series: np.ndarray, lags: int) -> list[float]:
    known = [value for value in series if not math.isnan(value)]
    mean = sum(known) / len(known)
    found = []
    for lag in range(lags + 1):
        pairs = zip(series[: len(series) - lag], series[lag:], strict=True)
        products = [(a - mean) * (b - mean) for a, b in pairs if not math.isnan(a) and not math.isnan(b)]
        found.append(sum(products) / len(products) * (len(series) - lag) / len(series) if products else math.nan)
    return [one / found[0] for one in found]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_autocorrelation_is_the_sum_over_the_pairs_that_are_there(missing: float) -> None:
    random = np.random.default_rng(0)
    series = random.standard_normal(60).cumsum() + 100
    series[random.random(60) < missing] = np.nan
    np.testing.assert_allclose(autocorrelation(series, 59), slowly(series, 59), atol=1e-9, equal_nan=True)


def test_lags_without_a_pair_are_missing() -> None:
    found = autocorrelation([1.0, np.nan, 3.0, np.nan, 5.0, np.nan], 4)
    assert np.isnan(found).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("series", [[1.0, 1.0, 1.0], [np.nan] * 3])
def test_a_series_without_variance_is_refused(series: list[float]) -> None:
    with pytest.raises(MPTTError, match="no variance, or no value"):
        autocorrelation(series, 1)
    with pytest.raises(MPTTError, match="longer than its 3 lags"):
        autocorrelation([1.0, 2.0, 3.0], 3)


def test_partial_autocorrelation_of_ar_1_is_its_coefficient_alone() -> None:
    found = partial_autocorrelation((-0.6) ** np.arange(6.0))
    np.testing.assert_allclose(found, [1, -0.6, 0, 0, 0, 0], atol=1e-12)


def test_partial_autocorrelation_of_ar_2_ends_with_its_second_coefficient() -> None:
    one, two = 0.5, 0.3
    rho = [1.0, one / (1 - two)]
    for _ in range(5):
        rho.append(one * rho[-1] + two * rho[-2])
    np.testing.assert_allclose(partial_autocorrelation(rho), [1, 0.5 / 0.7, 0.3, 0, 0, 0, 0], atol=1e-12)


def test_partial_autocorrelation_is_the_last_weight_of_the_best_prediction() -> None:
    rho = autocorrelation(np.random.default_rng(1).standard_normal(200).cumsum(), 12)
    found = partial_autocorrelation(rho)
    for lag in range(1, 13):  # the Yule-Walker equations, solved whole
        matrix = rho[np.abs(np.subtract.outer(np.arange(lag), np.arange(lag)))]
        assert found[lag] == pytest.approx(np.linalg.solve(matrix, rho[1 : lag + 1])[-1])


def test_correlations_of_no_series_end_the_recursion() -> None:
    assert np.isnan(partial_autocorrelation([1.0, 0.9, -0.9, 0.5])).tolist() == [False, False, True, True]
    np.testing.assert_allclose(partial_autocorrelation([1.0, 0.5, np.nan, 0.1]), [1, 0.5, np.nan, np.nan])


def test_white_noise_is_within_its_band() -> None:
    found = autocorrelation(np.random.default_rng(0).standard_normal(5000), 400)[1:]
    share = (np.abs(found) < white_noise_band(5000)).mean()
    assert 0.92 < share < 0.98
    assert white_noise_band(10000) == pytest.approx(0.0196)


def test_the_first_lag_under_a_threshold_is_found() -> None:
    assert first_under([1.0, 0.5, 0.2, 0.6], 0.3) == 2
    assert first_under([1.0, 0.5], 0.3) == math.inf


def test_the_seasonal_cycle_is_taken_out_whole_and_nothing_else() -> None:
    phase = np.arange(4000) / 365.25 % 1
    noise = np.random.default_rng(0).standard_normal(4000)
    noise -= waves(phase) @ np.linalg.lstsq(waves(phase), noise, rcond=None)[0]
    noise -= noise.mean()
    cycle = 7 + 3 * np.cos(2 * np.pi * phase) - 2 * np.sin(8 * np.pi * phase)
    np.testing.assert_allclose(without_season(cycle + noise, phase), noise, atol=0.01)
    # A fifth wave is too fast for a season.
    fifth = np.cos(10 * np.pi * phase)
    assert without_season(fifth, phase).std() == pytest.approx(fifth.std(), rel=0.01)


def test_gaps_stay_gaps() -> None:
    phase = np.arange(1000) / 365 % 1
    series = np.sin(2 * np.pi * phase)
    series[10:20] = np.nan
    found = without_season(series, phase)
    assert np.isnan(found).nonzero()[0].tolist() == list(range(10, 20))
    assert np.nanmax(np.abs(found)) < 1e-9


def test_what_inputs_explain_is_left_out() -> None:
    random = np.random.default_rng(0)
    inputs, rest = random.standard_normal((500, 2)), random.standard_normal(500)
    design = np.column_stack([np.ones(500), inputs])
    rest -= design @ np.linalg.lstsq(design, rest, rcond=None)[0]
    np.testing.assert_allclose(unexplained(4 + inputs @ [2.0, -3.0] + rest, inputs), rest, atol=1e-9)
    with pytest.raises(MPTTError, match="2 predictors and a constant"):
        unexplained(rest[:3], inputs[:3])


def test_trailing_means_are_those_of_the_last_steps() -> None:
    values = np.random.default_rng(0).standard_normal((40, 3))
    found = trailing_means(values, [1, 5])
    np.testing.assert_allclose(found[:, :3], values)
    assert np.isnan(found[:4, 3:]).all()
    for step in range(4, 40):
        np.testing.assert_allclose(found[step, 3:], values[step - 4 : step + 1].mean(0))

"""The memory in data: autocorrelation, partial autocorrelation, the season taken out, what inputs do not explain.

References:
    Brockwell and Davis (1991), Time Series: Theory and Methods, proposition 5.2.1: the Durbin-Levinson recursion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mptt.errors import MPTTError

FloatArray = npt.NDArray[np.float64]
HARMONICS = 4  # waves a year: what is smoother than three months is season


def autocorrelation(series: npt.ArrayLike, lags: int) -> FloatArray:
    """Correlation of a series with itself, lag by lag.

    Of a complete series the usual estimate, sums divided by the length, which is a valid autocorrelation. With gaps,
    the mean product over the pairs that are there stands for that over all pairs.

    Args:
        series: (T,) values, missing NaN.
        lags: the largest.

    Returns:
        (lags + 1,) from lag 0, which is 1; NaN at lags without a pair.

    Raises:
        MPTTError: not one series, not longer than the lags, or without any variance.

    Example:
        >>> autocorrelation([1.0, -1.0, 1.0, -1.0], 2)
        array([ 1.  , -0.75,  0.5 ])
    """
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1 or not 0 <= lags < len(values):
        raise MPTTError(f"autocorrelation needs a series (T,) longer than its {lags} lags, found {values.shape}.")
    known = np.isfinite(values)
    anomaly = np.where(known, values - values[known].mean() if known.any() else 0.0, 0.0)
    if not (anomaly != 0).any():
        raise MPTTError(f"The series of {len(values)} steps has no variance, or no value: it has no autocorrelation.")
    products, pairs = _lagged_sums(anomaly, lags), np.rint(_lagged_sums(known.astype(np.float64), lags))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(pairs > 0, products / pairs, np.nan)
    covariance: FloatArray = mean * (1 - np.arange(lags + 1) / len(values))
    return covariance / covariance[0]


def _lagged_sums(values: FloatArray, lags: int) -> FloatArray:
    """Sums of products of values so many steps apart, by Fourier transform."""
    size = 1 << (len(values) + lags).bit_length()
    found: FloatArray = np.fft.irfft(np.abs(np.fft.rfft(values, size)) ** 2, size)[: lags + 1]
    return found


def partial_autocorrelation(correlation: npt.ArrayLike) -> FloatArray:
    """What each lag adds to those before it, from the autocorrelation: the Durbin-Levinson recursion.

    Args:
        correlation: (lags + 1,) from lag 0.

    Returns:
        (lags + 1,) from lag 0, which is 1. NaN from where the correlations, estimated with gaps, are none of a series.

    Example:
        >>> partial_autocorrelation(0.8 ** np.arange(4)).round(12) + 0.0
        array([1. , 0.8, 0. , 0. ])
    """
    rho = np.asarray(correlation, dtype=np.float64)
    found = np.full(len(rho), np.nan)
    found[0] = 1.0
    weights, left = np.empty(0), 1.0  # of the best linear prediction, and the share of variance that it leaves
    for lag in range(1, len(rho)):
        last = (rho[lag] - weights @ rho[lag - 1 : 0 : -1]) / left if left > 0 else np.nan
        if not abs(last) <= 1 + 1e-9:
            break
        weights = np.append(weights - last * weights[::-1], last)
        left *= 1 - last * last
        found[lag] = last
    return found


def white_noise_band(values: int) -> float:
    """What 95 % of the autocorrelations of so many values without memory are within, on either side of 0."""
    return 1.96 / np.sqrt(values) if values > 0 else np.nan


def first_under(correlation: npt.ArrayLike, threshold: float) -> float:
    """The first lag at which a correlation is under a threshold; infinite where none is."""
    under = np.asarray(correlation) < threshold
    return float(under.argmax()) if under.any() else np.inf


def without_season(series: npt.ArrayLike, phase: npt.ArrayLike, harmonics: int = HARMONICS) -> FloatArray:
    """A series without its mean seasonal cycle: a mean and waves of a year, a half, a third, ..., by least squares.

    Args:
        series: (T,) values, missing NaN.
        phase: (T,) the share of the year that has passed, in [0, 1); leap years are a day longer and nothing else.
        harmonics: waves.

    Raises:
        MPTTError: fewer values than the cycle has numbers.
    """
    return unexplained(series, waves(phase, harmonics))


def waves(phase: npt.ArrayLike, harmonics: int = HARMONICS) -> FloatArray:
    """Cosines, then sines, of a year, a half, a third, ...: (T, 2 x harmonics) at shares of the year (T,)."""
    angle = 2 * np.pi * np.asarray(phase, dtype=np.float64)[:, None] * np.arange(1, harmonics + 1)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def unexplained(series: npt.ArrayLike, predictors: npt.ArrayLike) -> FloatArray:
    """What a linear model leaves of a series.

    Args:
        series: (T,) values, missing NaN.
        predictors: (T, P), missing NaN; a constant is added.

    Returns:
        (T,) residuals, NaN where anything is missing.

    Raises:
        MPTTError: fewer complete steps than predictors.
    """
    values, columns = np.asarray(series, dtype=np.float64), np.asarray(predictors, dtype=np.float64)
    known = np.isfinite(values) & np.isfinite(columns).all(axis=1)
    if known.sum() <= columns.shape[1] + 1:
        raise MPTTError(
            f"A linear model with {columns.shape[1]} predictors and a constant needs more steps with all of them and a"
            f" value, found {known.sum()}."
        )
    design = np.column_stack([np.ones(known.sum()), columns[known]])
    found = np.full(len(values), np.nan)
    found[known] = values[known] - design @ np.linalg.lstsq(design, values[known], rcond=None)[0]
    return found


def trailing_means(values: npt.ArrayLike, lengths: Sequence[int]) -> FloatArray:
    """Means over the last so many steps, the present one included.

    Args:
        values: (T, F).
        lengths: numbers of steps.

    Returns:
        (T, F x lengths) all inputs of the first length, then of the next; NaN before there are so many steps.

    Example:
        >>> trailing_means([[1.0], [3.0], [5.0]], [1, 2]).tolist()
        [[1.0, nan], [3.0, 2.0], [5.0, 4.0]]
    """
    table = np.asarray(values, dtype=np.float64)
    found = np.full((len(table), table.shape[1] * len(lengths)), np.nan)
    total = np.concatenate([np.zeros((1, table.shape[1])), table.cumsum(axis=0)])
    for nth, length in enumerate(lengths):
        columns = slice(nth * table.shape[1], (nth + 1) * table.shape[1])
        found[length - 1 :, columns] = (total[length:] - total[:-length]) / length
    return found

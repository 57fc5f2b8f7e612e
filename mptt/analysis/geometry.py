"""Where hidden states lie: principal components, distances, and how long a unit stays near a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptt.errors import MPTTError


@dataclass(frozen=True)
class Components:
    """Principal components of states.

    Attributes:
        mean: (S,).
        axes: (K, S), of length 1, widest first.
        share: (K,) of the variance, each.
    """

    mean: Tensor
    axes: Tensor
    share: Tensor

    def project(self, states: Tensor) -> Tensor:
        """(N, K) of states (N, S)."""
        return (states.double() - self.mean) @ self.axes.T


@dataclass(frozen=True)
class Distances:
    """Euclidean distances between states of one series.

    Attributes:
        one_step: between a step and the next.
        same_day: between steps of the same day of the year in two different years.
        random: between any two steps of different years.
    """

    one_step: np.ndarray
    same_day: np.ndarray
    random: np.ndarray


def principal_components(states: Tensor, count: int = 2) -> Components:
    """The directions in which states (N, S) vary most.

    The sign of an axis is that of its largest number, so that the same states always give the same picture.

    Raises:
        MPTTError: fewer than two states, states that do not vary, or more components than numbers in a state.

    Example:
        >>> found = principal_components(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), 1)
        >>> found.axes.tolist(), found.share.tolist()
        ([[1.0, 0.0]], [1.0])
    """
    states = states.double()
    rows, size = states.shape
    if not 1 <= count <= size:
        raise MPTTError(f"States of {size} numbers have 1 to {size} principal components, {count} were asked for.")
    mean = states.mean(0)
    centred = states - mean
    values, axes = torch.linalg.eigh(centred.T @ centred / max(rows, 1))
    if rows < 2 or not values[-1] > 0:
        raise MPTTError(f"{rows} states that do not vary have no principal components.")
    values, axes = values.flip(0).clamp(min=0), axes.T.flip(0)[:count]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return Components(mean, axes * largest.sign() + 0.0, values[:count] / values.sum())


def distances(states: Tensor, day: np.ndarray, year: np.ndarray, pairs: int = 20_000, seed: int = 0) -> Distances:
    """How far states of a series are apart: a step on, a year or years on, and at random.

    Where the state is the season alone, states of the same day lie as near as steps do; where it is the history, as far
    as random ones.

    Args:
        states: (T, S), in order.
        day: (T,) of the year.
        year: (T,).
        pairs: of each kind, drawn with replacement; all one-step distances are taken.
        seed: of the pairs.

    Returns:
        Without pairs of a kind (a series shorter than a year), none of it.

    Raises:
        MPTTError: states and dates of different length.
    """
    if not len(states) == len(day) == len(year):
        raise MPTTError(f"{len(states)} states have {len(day)} days and {len(year)} years: give one of each for each.")
    states = states.double()
    generator = np.random.default_rng(seed)
    one, other = (generator.integers(len(day), size=4 * pairs) for _ in range(2))
    apart = np.flatnonzero(year[one] != year[other])[:pairs]
    # The partner of a step: a random one of the steps of its day.
    order = np.argsort(day, kind="stable")
    first, last = (np.searchsorted(day[order], day[one], side) for side in ("left", "right"))
    partner = order[first + (generator.random(len(one)) * (last - first)).astype(np.int64)]
    same = np.flatnonzero(year[one] != year[partner])[:pairs]

    def between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return (states[torch.from_numpy(left)] - states[torch.from_numpy(right)]).norm(dim=1).numpy()

    steps = np.arange(len(day))
    return Distances(
        between(steps[:-1], steps[1:]), between(one[same], partner[same]), between(one[apart], other[apart])
    )


def half_autocorrelation(states: Tensor) -> Tensor:
    """(S,) the first lag at which a unit's autocorrelation is a half or less, of states (T, S) in order.

    T where it never is, as of a unit that does not move.

    Example:
        >>> waves = torch.cos(2 * torch.pi * torch.arange(1200) / torch.tensor([[12.0], [120.0]])).T
        >>> half_autocorrelation(waves).tolist()  # a sixth of a period
        [2, 20]
    """
    steps = len(states)
    centred = states.double() - states.double().mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * steps, dim=0)[:steps]
    # Of as many products as a lag has, and rounded: a lag at which it is a half exactly is one.
    covariance = covariance / torch.arange(steps, 0, -1).unsqueeze(1)
    below = covariance <= (0.5 + 1e-9) * covariance[:1]
    below &= covariance[:1] > 1e-12
    return torch.where(below.any(0), below.int().argmax(0), steps)

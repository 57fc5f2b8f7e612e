"""How long a recurrent network remembers: two initial states, the same inputs, and the distance between the two runs.

The **horizon** is the number of steps after which the distance stays under a threshold: not the first dip under it, as
a difference may sleep through a season and show again. Where it is not under it at the end of the run, the horizon is
infinite: longer than the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.errors import MPTTError

FloatArray = npt.NDArray[np.float64]
# Runs the steps of a slice from initial states (B, S): predictions (B, L, K) and the states after each step (B, L, S).
Run = Callable[[slice, Tensor], tuple[Tensor, Tensor]]

BAND = (0.1, 0.5, 0.9)
NUMBERS_AT_ONCE = 2**24  # of states held at a time: 64 MB


@dataclass(frozen=True)
class Divergence:
    """How far apart two runs over the same inputs are.

    Attributes:
        state: (B, steps + 1) root mean square over the units of the states' difference, first that of the initial ones.
        prediction: (B, steps, K) absolute difference of the predictions of each step.
        unit: (steps + 1, S) of each unit, root mean square over the pairs.
    """

    state: FloatArray
    prediction: FloatArray
    unit: FloatArray


def divergence(run: Run, first: Tensor, second: Tensor, steps: int) -> Divergence:
    """Run from two initial states each, and measure how the difference fades.

    States are reduced as they come: of B pairs over all steps only the distances are kept.

    Args:
        run: the network with its inputs; called for one stretch of steps after another.
        first: (B, S) initial states.
        second: (B, S) others, row by row.
        steps: to run.

    Raises:
        MPTTError: initial states of different shapes, or no step.

    Example:
        >>> def halve(steps, state):  # forgets half in a step, whatever comes in
        ...     states = state.unsqueeze(1) * 0.5 ** torch.arange(1, steps.stop - steps.start + 1).view(1, -1, 1)
        ...     return states, states
        >>> divergence(halve, torch.zeros(1, 1), torch.ones(1, 1), 3).state
        array([[1.   , 0.5  , 0.25 , 0.125]])
    """
    if first.ndim != 2 or first.shape != second.shape or steps < 1:
        raise MPTTError(
            "divergence needs two sets of initial states (pairs, units) of one shape and 1 step or more; found"
            f" {tuple(first.shape)} and {tuple(second.shape)}, {steps} steps."
        )
    apart = (first - second).double().unsqueeze(1)
    state, unit, prediction = [_over_units(apart)], [_over_pairs(apart)], []
    at_once = max(NUMBERS_AT_ONCE // max(first.numel(), 1), 1)
    for low in range(0, steps, at_once):
        here = slice(low, min(low + at_once, steps))
        (one, first_states), (other, second_states) = run(here, first), run(here, second)
        apart = first_states.double() - second_states.double()
        state.append(_over_units(apart))
        unit.append(_over_pairs(apart))
        prediction.append((one.double() - other.double()).abs().cpu().numpy())
        # Copies, or the states of the whole stretch would stay with them.
        first, second = first_states[:, -1].clone(), second_states[:, -1].clone()
    return Divergence(np.concatenate(state, 1), np.concatenate(prediction, 1), np.concatenate(unit, 0))


def _over_units(apart: Tensor) -> FloatArray:
    return apart.square().mean(2).sqrt().cpu().numpy()


def _over_pairs(apart: Tensor) -> FloatArray:
    return apart.square().mean(0).sqrt().cpu().numpy()


def relative(distance: FloatArray) -> FloatArray:
    """Distances (..., steps) as shares of the first; NaN where that is 0: two states that are one tell nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.where(distance[..., :1] > 0, distance / distance[..., :1], np.nan)
    return found


def stays_under(distance: npt.ArrayLike, threshold: npt.ArrayLike) -> FloatArray:
    """The index from which on distances stay under a threshold.

    Args:
        distance: (..., steps); NaN is not under anything.
        threshold: one, or one for each series (...,).

    Returns:
        (...,) 0 where it is under from the start, infinite where it is not at the end, NaN where all distances are NaN,
        or the threshold.

    Example:
        >>> stays_under([[1.0, 0.2, 0.6, 0.3, 0.2], [1.0, 0.9, 0.8, 0.7, 0.6]], 0.5)
        array([ 3., inf])
    """
    values = np.asarray(distance, dtype=np.float64)
    bound = np.asarray(threshold, dtype=np.float64)
    over = ~(values < bound[..., None])
    steps = values.shape[-1]
    found = np.where(over.any(-1), steps - np.argmax(over[..., ::-1], axis=-1), 0).astype(np.float64)
    found[found == steps] = np.inf
    return np.where(np.isnan(values).all(-1) | np.isnan(bound), np.nan, found)


def half_lives(distance: npt.ArrayLike) -> FloatArray:
    """Steps after which distances stay under half of the first, with fractions: ln 2 / -ln a of a decay by a each step.

    Args:
        distance: (..., steps), first that of the initial states.

    Returns:
        (...,) infinite where half is not reached for good, NaN where the first distance is 0.

    Example:
        >>> half_lives(0.9 ** np.arange(20)).round(3), (np.log(2) / -np.log(0.9)).round(3)
        (np.float64(6.579), np.float64(6.579))
    """
    share = relative(np.asarray(distance, dtype=np.float64))
    at = stays_under(share, 0.5)
    after = np.where(np.isfinite(at), at, 1).astype(np.int64)
    high, low = (np.take_along_axis(share, (after - shift)[..., None], -1)[..., 0] for shift in (1, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Along the straight line between both steps on a logarithmic axis.
        part = np.log(high / 0.5) / np.log(high / low)
    found: FloatArray = np.where(np.isfinite(at), after - 1 + part, at)
    return found


def band(values: npt.ArrayLike, axis: int = 0) -> FloatArray:
    """The 10 % quantile, the median and the 90 % quantile, (3, ...), each a value that occurs; NaN are left out.

    Infinite values count as longer than all: a median is infinite where half of the values are.

    Example:
        >>> band([3.0, 1.0, np.inf, 2.0, np.nan])
        array([ 1.,  2., inf])
    """
    known = np.sort(np.asarray(values, dtype=np.float64), axis=axis)  # NaN last
    count = np.sum(~np.isnan(known), axis=axis, keepdims=True)
    places = [np.maximum(np.ceil(share * count - 1e-9).astype(np.int64) - 1, 0) for share in BAND]
    if known.shape[axis] == 0:
        return np.full((len(BAND), *np.delete(known.shape, axis)), np.nan)
    return np.stack([np.take_along_axis(known, place, axis).squeeze(axis) for place in places])


def window_needed(horizon: float, free: float = 0.5) -> float:
    """The window that training from zeros needs for a share of its steps to be free of the initial state.

    The first `horizon` steps of a window are not. Of a window of L steps, L - horizon are, and L - horizon >= free L.

    Example:
        >>> window_needed(300), round(window_needed(300, 0.9))
        (600.0, 3000)
    """
    if not 0 <= free < 1:
        raise MPTTError(f"The share of free steps is at least 0 and under 1, found {free}.")
    return horizon / (1 - free)


def evenly(first: int, last: int, count: int, seed: int | None = None) -> npt.NDArray[np.int64]:
    """Steps spread from the first to the last, without repetition: one drawn of each of `count` equal stretches.

    Args:
        first: step.
        last: step.
        count: how many; all where there are fewer.
        seed: of the drawing; None: the first of each stretch.

    Example:
        >>> evenly(10, 19, 5)
        array([10, 12, 14, 16, 18])
    """
    room = last - first + 1
    edges = first + np.arange(min(count, room) + 1) * room // min(count, room)
    if seed is None:
        return edges[:-1]
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])


def partners(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """(count,) for each of some things another one; every one is the partner of one.

    Raises:
        MPTTError: less than two.
    """
    if count < 2:
        raise MPTTError(f"Pairs need two states or more, found {count}.")
    order = np.random.default_rng(seed).permutation(count)
    found = np.empty(count, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def gaussian_like(states: Tensor, seed: int = 0) -> Tensor:
    """States of independent units, (B, S), each with the mean and the standard deviation that it has in these."""
    noise = np.random.default_rng(seed).standard_normal(tuple(states.shape))
    spread = states.std(0, correction=0)
    return states.mean(0) + spread * torch.from_numpy(noise).to(states)

"""Linear probes: is a quantity there in a hidden state, to be read off with a weighted sum?

After Lees et al. (2022, doi:10.5194/hess-26-3079-2022), who read soil water and snow off the states of LSTMs that had
only seen streamflow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mptt.analysis.timesteps import STRENGTHS, Probe
from mptt.errors import MPTTError

SPANS = (1, 7, 30, 90, 365)


def fit_ridge(
    features: Tensor,
    targets: Tensor,
    blocks: Tensor | int = 10,
    strengths: Sequence[float] = STRENGTHS,
    strength: float | None = None,
) -> Probe:
    """Ridge regression of targets on features, in closed form.

    What `fit_probe` does with the states of one lag, solved in the space of features and not of steps, since here
    there are more steps: the cost grows with their number alone. The strength has the same unit, and is chosen
    likewise: by the error of a fifth of the blocks left out, whole blocks, since a day knows the next.

    Args:
        features: (N, F) of each step, such as its state.
        targets: (N, K), without gaps.
        blocks: (N,) the block of each step, or into how many stretches to cut them as they come.
        strengths: to try.
        strength: one that is taken as it is.

    Raises:
        MPTTError: fewer than two blocks of two steps, or a target that does not vary.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> probe = fit_ridge(features, 2 * features + 1, strength=0.0)
        >>> probe.weights.flatten().tolist(), probe.intercept.tolist()
        ([2.0], [1.0])
    """
    features, targets = features.double(), targets.double()
    count, width = features.shape
    if isinstance(blocks, int):
        blocks = torch.arange(count) * min(blocks, max(count // 2, 1)) // max(count, 1)
    names = blocks.unique()
    if len(names) < 2 or count < 2 * len(names):
        raise MPTTError(f"A probe needs two blocks of two steps or more, found {count} steps in {len(names)} block(s).")
    mean, scale, x = _standardised(features)
    y_mean, y_scale = targets.mean(0), targets.std(0, correction=0)
    if not (y_scale > 0).all():
        raise MPTTError("A target of the probe does not vary.")
    y = (targets - y_mean) / y_scale
    error: dict[tuple[float, float], float] = {}
    if strength is None:
        squares = torch.zeros(len(strengths), dtype=torch.float64)
        for fold in range(min(5, len(names))):
            out = torch.isin(blocks, names[fold::5])
            centre, square = y[~out].mean(0), x[~out].T @ x[~out]
            product = x[~out].T @ (y[~out] - centre)
            values, axes = torch.linalg.eigh(square)
            # Of all kernels' eigenvalues, also those that are zero: as `fit_probe` has it.
            unit = values.sum() / int((~out).sum())
            for nth, one in enumerate(strengths):
                weights = axes @ ((axes.T @ product) / (values + one * unit).unsqueeze(1))
                squares[nth] += (x[out] @ weights + centre - y[out]).square().mean(1).sum()
        error = {(0.0, one): float(square) / count for one, square in zip(strengths, squares, strict=True)}
        strength = min(error, key=lambda one: error[one])[1]
    square = x.T @ x
    ridge = strength * square.diagonal().sum() / count * torch.eye(width, dtype=torch.float64)
    # The pseudo-inverse, since a unit that stands still has neither product nor weight.
    weights = torch.linalg.pinv(square + ridge, hermitian=True) @ (x.T @ y) / scale.unsqueeze(1) * y_scale  # (F, K)
    nowhere = torch.full((1, targets.shape[1]), torch.nan, dtype=torch.float64)
    return Probe(weights.T.unsqueeze(0), y_mean - mean @ weights, strength, 0.0, error, nowhere)


def correlations(features: Tensor, targets: Tensor) -> Tensor:
    """(F, K) Pearson's correlation of each feature (N, F) with each target (N, K); 0 where one does not vary.

    Example:
        >>> features = torch.tensor([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]])
        >>> correlations(features, torch.tensor([[3.0], [4.0]])).flatten().tolist()
        [1.0, -1.0, 0.0]
    """
    x, y = _standardised(features.double())[2], _standardised(targets.double())[2]
    return x.T @ y / len(x)


def moving_means(values: Tensor, spans: Sequence[int] = SPANS) -> Tensor:
    """Means over the last so many steps, up to each step: what a model without a memory of its own could be given.

    To a linear probe as good as sums. In the first steps of a series they are means of the steps that there are.

    Args:
        values: (T, F), such as inputs, without gaps.
        spans: in steps; 1 is the step itself.

    Returns:
        (T, F x spans), all values of the first span first.

    Example:
        >>> moving_means(torch.tensor([[2.0], [4.0], [9.0]]), (1, 2)).tolist()
        [[2.0, 2.0], [4.0, 3.0], [9.0, 6.5]]
    """
    steps = len(values)
    summed = torch.cat([values.new_zeros(1, values.shape[1]).double(), values.double().cumsum(0)])
    stop = torch.arange(1, steps + 1)
    means = []
    for span in spans:
        start = (stop - span).clamp(min=0)
        means.append((summed[stop] - summed[start]) / (stop - start).unsqueeze(1))
    return torch.cat(means, dim=1)


def _standardised(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation (infinite where there is none) and standardised values, by column."""
    deviation, mean = torch.std_mean(values, dim=0, correction=0)
    # Rounding makes a deviation of what is constant.
    still = deviation <= 1e-9 * mean.abs()
    scale = torch.where(still, torch.inf, deviation)
    return mean, scale, (values - mean) / scale

"""How much each time step counts: a head that reads the hidden states of many steps linearly, so that its weights say.

After NeuroView-RNN (Barberan et al. 2022, doi:10.1145/3531146.3533224, arXiv 2202.11811), here for regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mptt.errors import MPTTError

STRENGTHS = tuple(10.0**power for power in range(-4, 7))
GRADES = (0.0, 0.5, 1.0)


class NeuroViewHead(nn.Module):
    """Reads the hidden states of the last so many steps: y_t = b + sum over lags l of w_l . h_(t-l).

    At the last step of a window of as many steps it is the head of NeuroView-RNN; at the others the same weights move
    along. States before the first step are those that are handed in, or zeros.

    Args:
        hidden: numbers in a state, H.
        steps: states that are read, lags 0 to steps - 1.
        outputs: K.

    Raises:
        MPTTError: a size under 1.

    Example:
        >>> head = NeuroViewHead(hidden=4, steps=30)
        >>> head(torch.zeros(2, 100, 4)).shape, head.by_lag().shape
        (torch.Size([2, 100, 1]), torch.Size([30, 1, 4]))
    """

    def __init__(self, hidden: int, steps: int, outputs: int = 1) -> None:
        super().__init__()
        if min(hidden, steps, outputs) < 1:
            raise MPTTError(f"hidden, steps and outputs are 1 or more, found {hidden}, {steps} and {outputs}.")
        self.hidden, self.steps, self.outputs = hidden, steps, outputs
        self.read = nn.Conv1d(hidden, outputs, steps)

    def forward(self, states: Tensor, before: Tensor | None = None) -> Tensor:
        """Outputs (B, T, K) of states (B, T, H), and of those (B, steps - 1, H) before them."""
        if before is None:
            before = states.new_zeros(len(states), self.steps - 1, self.hidden)
        return self.read(torch.cat([before, states], dim=1).transpose(1, 2)).transpose(1, 2)

    def by_lag(self) -> Tensor:
        """Weights (L, K, H) of lags 0 to L - 1."""
        return self.read.weight.detach().flip(2).permute(2, 0, 1)


@dataclass(frozen=True)
class Probe:
    """A linear reading of the states of L lags, fitted.

    Attributes:
        weights: (L, K, S).
        intercept: (K,).
        strength: of the ridge, in units of the mean eigenvalue of the kernel.
        grade: how much less is expected of far lags, as of `fit_probe`.
        error: of each grade and strength tried, the mean squared error of blocks left out, in units of the target's
            variance.
        spread: (L, K) standard error of `Contribution.share`, by the jackknife over blocks; NaN where not asked for.
    """

    weights: Tensor
    intercept: Tensor
    strength: float
    grade: float
    error: dict[tuple[float, float], float]
    spread: Tensor

    def predict(self, states: Tensor) -> Tensor:
        """(N, K) of states (N, L, S)."""
        found = self.intercept.expand(len(states), -1)
        for lag, weights in enumerate(self.weights):
            found = found + states[:, lag].double() @ weights.T
        return found


@dataclass(frozen=True)
class Contribution:
    """How much each lag counts.

    Attributes:
        weight: (L, K) norm of the weights of a lag, each times the standard deviation of its state.
        term: (L, K) standard deviation of what a lag adds to the output, w_l . h_(t-l).
        share: (L, K) of `term`, all lags together 1.
    """

    weight: Tensor
    term: Tensor
    share: Tensor


def fit_probe(
    states: Tensor,
    targets: Tensor,
    blocks: Tensor | int = 10,
    strengths: Sequence[float] = STRENGTHS,
    grades: Sequence[float] = GRADES,
    strength: float | None = None,
    jackknife: bool = False,
) -> Probe:
    """Ridge regression of targets on the states of all lags, in closed form.

    States are standardised, unit by unit and lag by lag. There are more of them than windows, so it is solved in the
    space of windows: the N by N matrix of their products is computed once. The ridge holds down all weights alike
    (grade 0), or those of lag l by (1 + l) to twice the grade more: that far lags say less is for the data to decide,
    but where it is so, a probe that does not know it drowns in them. Grade and strength are those with the smallest
    error of a fifth of the blocks left out: whole blocks, since windows that overlap know each other.

    Args:
        states: (N, L, S), lag 0 first; computed in their dtype.
        targets: (N, K), without gaps.
        blocks: (N,) the block of each window, or into how many parts to cut them as they come.
        strengths: to try.
        grades: to try.
        strength: one that is taken as it is, with the first of the grades.
        jackknife: leave out one block after another, to say how sure the shares are.

    Raises:
        MPTTError: fewer than two blocks of two windows, or a target that does not vary.
    """
    count, lags = states.shape[:2]
    if isinstance(blocks, int):
        blocks = torch.arange(count) * blocks // max(count, 1)
    names = blocks.unique()
    if len(names) < 2 or count < 2 * len(names):
        raise MPTTError(
            f"A probe needs two blocks of two windows or more, found {count} windows in {len(names)} block(s)."
        )
    deviation, mean = torch.std_mean(states, dim=0, correction=0)  # (L, S)
    # A unit that does not vary says nothing.
    scale = torch.where(deviation > 0, deviation, torch.inf)
    y_mean, y_scale = targets.double().mean(0), targets.double().std(0, correction=0)
    if not (y_scale > 0).all():
        raise MPTTError("A target of the probe does not vary.")
    y = (targets.double() - y_mean) / y_scale

    def standardised(lag: int) -> Tensor:  # (N, S); all lags together would be a second copy of what is large
        return (states[:, lag] - mean[lag]) / scale[lag]

    weighing = (1 + torch.arange(lags, dtype=torch.float64)).pow(-2 * torch.tensor(grades).double().unsqueeze(1))
    weighing /= weighing.sum(1, keepdim=True) * states.shape[2]  # (G, L)
    kernels = torch.zeros(len(grades), count, count, dtype=states.dtype)
    for lag in range(lags):
        product = standardised(lag) @ standardised(lag).T
        for nth in range(len(grades)):
            kernels[nth].add_(product, alpha=float(weighing[nth, lag]))
    error: dict[tuple[float, float], float] = {}
    chosen = grades[0]
    if strength is None:
        for grade, one_kernel in zip(grades, kernels.double(), strict=True):
            squares = _left_out(one_kernel, y, blocks, strengths)
            error |= {(grade, one): square for one, square in zip(strengths, squares, strict=True)}
        chosen, strength = min(error, key=lambda one: error[one])
    kernel, lag_weight = kernels[grades.index(chosen)].double(), weighing[grades.index(chosen)]

    def read(dual: Tensor) -> Tensor:  # (L, K, S), of standardised states
        each = [dual.T @ standardised(lag).double() * lag_weight[lag] for lag in range(lags)]
        return torch.stack(each)

    spread = torch.full((lags, y.shape[1]), torch.nan, dtype=torch.float64)
    if jackknife:
        shares = []
        for name in names:
            rows = torch.nonzero(blocks != name).squeeze(1)
            dual = torch.zeros(count, y.shape[1], dtype=torch.float64)
            ridge = strength * kernel.diagonal().mean() * torch.eye(len(rows), dtype=torch.float64)
            dual[rows] = torch.linalg.solve(kernel[rows][:, rows] + ridge, y[rows] - y[rows].mean(0))
            weights = read(dual)
            terms = [(standardised(lag).double() @ weights[lag].T).std(0, correction=0) for lag in range(lags)]
            shares.append(torch.stack(terms) / torch.stack(terms).sum(0))
        spread = torch.stack(shares).std(0, correction=0) * (len(names) - 1) ** 0.5
    weights = read(_solved(_decomposed(kernel), y, strength)) / scale.double().unsqueeze(1) * y_scale[:, None]
    intercept = y_mean - torch.einsum("ls,lks->k", mean.double(), weights)
    return Probe(weights, intercept, strength, chosen, error, spread)


def contribution(weights: Tensor, states: Tensor) -> Contribution:
    """How much each lag counts in a linear reading.

    Args:
        weights: (L, K, S), lag 0 first.
        states: (N, L, S).

    Example:
        >>> states = torch.tensor([[[1.0], [2.0]], [[-1.0], [0.0]]])
        >>> contribution(torch.tensor([[[3.0]], [[1.0]]]), states).share.flatten().tolist()
        [0.75, 0.25]
    """
    weights = weights.double()
    each = [states[:, lag].double() @ one.T for lag, one in enumerate(weights)]
    terms = torch.stack([one.std(0, correction=0) for one in each])
    norm = (weights * states.std(0, correction=0).double().unsqueeze(1)).norm(dim=2)
    return Contribution(norm, terms, terms / terms.sum(0).clamp(min=torch.finfo(torch.float64).tiny))


def efficiency(predicted: Tensor, observed: Tensor) -> Tensor:
    """(K,) the Nash-Sutcliffe efficiency of predictions (N, K)."""
    observed = observed.double()
    return 1 - (predicted - observed).square().sum(0) / (observed - observed.mean(0)).square().sum(0)


def lags_to(share: np.ndarray, part: float) -> int:
    """The lag up to which so much of the whole lies, of shares (L,) by lag; lag 0 is the first.

    Example:
        >>> lags_to(np.array([0.4, 0.3, 0.2, 0.1]), 0.5)
        1
    """
    return int(np.searchsorted(np.cumsum(share), part * share.sum() - 1e-12))


def _left_out(kernel: Tensor, y: Tensor, blocks: Tensor, strengths: Sequence[float]) -> list[float]:
    """Of each strength, the mean squared error of blocks left out, a fifth of them at a time."""
    names = blocks.unique()
    squares = torch.zeros(len(strengths), dtype=torch.float64)
    for fold in range(min(5, len(names))):
        out = torch.isin(blocks, names[fold::5])
        axes, centre = _decomposed(kernel[~out][:, ~out]), y[~out].mean(0)
        for nth, one in enumerate(strengths):
            predicted = kernel[out][:, ~out] @ _solved(axes, y[~out] - centre, one) + centre
            squares[nth] += (predicted - y[out]).square().mean(1).sum()
    return [float(square) for square in squares / len(y)]


def _decomposed(kernel: Tensor) -> tuple[Tensor, Tensor]:
    values, axes = torch.linalg.eigh(kernel)
    return values.clamp(min=0), axes


def _solved(decomposed: tuple[Tensor, Tensor], y: Tensor, strength: float) -> Tensor:
    """(kernel + strength mean(eigenvalue))^-1 y."""
    values, axes = decomposed
    return axes @ ((axes.T @ y) / (values + strength * values.mean()).unsqueeze(1))

"""What FastGRU saves over nn.GRU: a training step, and a pass without gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mptt.experiments.bench import Figure, figure, seconds_of
from mptt.fastgru import FastGRU

INPUTS = 7

# (rows, steps, units, layers): the paper's, then other sizes around it.
TRAINING = [
    (64, 366, 32, 1), (64, 366, 16, 1), (64, 366, 64, 1), (64, 366, 128, 1), (64, 366, 256, 1),
    (8, 366, 32, 1), (256, 366, 32, 1), (64, 366, 32, 2), (64, 1, 32, 1),
]  # fmt: skip
EVALUATION = [(64, 366, 32, 1), (1, 36_500, 32, 1), (1, 36_500, 256, 1)]


def fast_gru(repeats: int, quick: bool) -> list[Figure]:
    """How many times faster FastGRU is than nn.GRU, in as many threads as torch takes.

    Args:
        repeats: of each measurement.
        quick: the first size of each kind only.
    """
    training, evaluation = (TRAINING[:1], EVALUATION[:1]) if quick else (TRAINING, EVALUATION)
    results = [_speed_up("forward + backward", size, _train, repeats) for size in training]
    return results + [_speed_up("forward, no gradient", size, _evaluate, repeats) for size in evaluation]


def _speed_up(
    what: str, size: tuple[int, int, int, int], run: Callable[[nn.GRU, Tensor], None], repeats: int
) -> Figure:
    rows, steps, units, layers = size
    slow, fast = (kind(INPUTS, units, layers, batch_first=True) for kind in (nn.GRU, FastGRU))
    x = torch.randn(rows, steps, INPUTS)
    times: dict[nn.GRU, list[float]] = {slow: [], fast: []}
    for nth in range(repeats + 1):
        # Turn and turn about, as the machine's pace changes; the first round warms up.
        for layer in (slow, fast) if nth % 2 else (fast, slow):
            seconds = seconds_of(lambda: run(layer, x))  # noqa: B023
            if nth:
                times[layer].append(seconds)
    named = f"{rows} x {steps:,} steps, {units} units, {layers} layer(s): nn.GRU / FastGRU, {what}"
    return figure(named, [one / other for one, other in zip(times[slow], times[fast], strict=True)], "x")


def _train(layer: nn.GRU, x: Tensor) -> None:
    layer(x)[0].square().sum().backward()


@torch.no_grad()
def _evaluate(layer: nn.GRU, x: Tensor) -> None:
    layer(x)

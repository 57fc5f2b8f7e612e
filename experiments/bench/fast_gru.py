"""What FastGRU saves over nn.GRU: a training step, and a pass without gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mptt.experiments.bench.common import Figure, Settings, interleaved, ratio, seconds_of
from mptt.fastgru import FastGRU

INPUTS = 7

# (rows, steps, units, layers): the paper's, then other sizes around it.
TRAINING = [
    (64, 366, 32, 1), (64, 366, 16, 1), (64, 366, 64, 1), (64, 366, 128, 1), (64, 366, 256, 1),
    (8, 366, 32, 1), (256, 366, 32, 1), (64, 366, 32, 2), (64, 1, 32, 1),
]  # fmt: skip
EVALUATION = [(64, 366, 32, 1), (1, 36_500, 32, 1), (1, 36_500, 256, 1)]


def fast_gru(settings: Settings) -> list[Figure]:
    """Time of FastGRU against that of nn.GRU, in as many threads as torch takes; of the paper's step at most half."""
    results = []
    for kinds, run, what in (
        (settings.size(TRAINING, TRAINING[:1]), _train, "forward + backward"),
        (settings.size(EVALUATION, EVALUATION[:1]), _evaluate, "forward, no gradient"),
    ):
        for nth, size in enumerate(kinds):
            target = 0.5 if run is _train and nth == 0 else None
            results.append(_compared(settings, what, size, run, target))
    return results


def _compared(
    settings: Settings,
    what: str,
    size: tuple[int, int, int, int],
    run: Callable[[nn.GRU, Tensor], None],
    target: float | None,
) -> Figure:
    rows, steps, units, layers = size
    x = torch.randn(rows, steps, INPUTS)
    kinds: dict[str, nn.GRU] = {
        kind.__name__: kind(INPUTS, units, layers, batch_first=True) for kind in (nn.GRU, FastGRU)
    }
    clocks = {name: partial(seconds_of, partial(run, layer, x)) for name, layer in kinds.items()}
    times = interleaved(settings, settings.at_most(7), clocks)
    named = f"{rows} x {steps:,} steps, {units} units, {layers} layer(s): FastGRU / nn.GRU, {what}"
    return ratio(named, times["FastGRU"], times["GRU"], target)


def _train(layer: nn.GRU, x: Tensor) -> None:
    layer(x)[0].square().sum().backward()


@torch.no_grad()
def _evaluate(layer: nn.GRU, x: Tensor) -> None:
    layer(x)

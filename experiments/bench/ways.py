"""Ways to train: other layers, precisions, accumulated gradients, a compiled module; what MPTT costs in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SimulatedBasin
from mptt.experiments.bench.common import EpochClock, Figure, Settings, bare_trainer, interleaved, ratio
from mptt.experiments.bench.epochs import paper_data
from mptt.experiments.regressor import SequenceRegressor


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        model: settings of the SequenceRegressor.
        trainer: of the Trainer.
        compiled: whether torch.compile is called on the module.
        target: of the ratio.
    """

    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False
    target: float | None = None


WAYS = {
    "LSTM of two layers": Way(model={"core": "lstm", "num_layers": 2}, target=1.10),
    "GRU, bf16-mixed": Way(trainer={"precision": "bf16-mixed"}),
    "GRU, 4 batches a step": Way(trainer={"accumulate_grad_batches": 4}),
    "FastGRU": Way(model={"core": "fast_gru"}),
    "GRU, compiled": Way(compiled=True),
}


def ways(settings: Settings) -> list[Figure]:
    """Training epochs with MPTT against those from zero state, in each way; the compiled one on fewer years.

    The quick form leaves out the compiled one: torch takes longer to compile than all else.
    """
    data = paper_data(settings)
    few = SimulatedBasin(years=60, cache=None)
    few.setup("fit")
    figures = []
    for name, way in WAYS.items():
        if way.compiled and settings.quick:
            continue
        of = few if way.compiled else data
        clocks = {how: partial(_epoch, of, way, how == "mptt") for how in ("mptt", "zero")}
        times = interleaved(settings, settings.at_most(1 if way.compiled else 7), clocks)
        figures.append(ratio(f"epoch: MPTT / zero state, {name}", times["mptt"], times["zero"], way.target))
    return figures


def _epoch(data: SimulatedBasin, way: Way, mptt: bool) -> float:
    """Seconds of the second epoch."""
    pl.seed_everything(0, verbose=False)
    clock, module = EpochClock(), SequenceRegressor(data.input_size, **way.model)
    if way.compiled:
        # Not every torch can trace Lightning's log.
        module.log = torch.compiler.disable(module.log)  # type: ignore[method-assign]
        module = cast(SequenceRegressor, torch.compile(module))
    callbacks = [MPTTCallback(zero_init_epochs=0)] if mptt else []
    bare_trainer(*callbacks, clock, epochs=2, **way.trainer).fit(module, datamodule=data)
    return clock.seconds[-1]

"""Where a training epoch of the paper's set-up goes: all that is not the recurrent layer's forward and backward."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.bench.common import ActionClock, Figure, Settings, bare_trainer, interleaved
from mptt.experiments.bench.epochs import paper_data
from mptt.experiments.regressor import SequenceRegressor

PARTS = ("loading batches", "head and loss", "optimizer", "hooks of callbacks", "Lightning and the rest")
OUTSIDE, SLOWER = "all but the recurrent layer alone", "the layer inside the step, beyond the layer alone"
Shares = Mapping[str, float]


def step(settings: Settings) -> list[Figure]:
    """Shares of an epoch, with MPTT and from zero state."""
    data = paper_data(settings)
    measures = {
        "MPTT": lambda: epoch_shares(data, MPTTCallback(zero_init_epochs=0)),
        "zero state": lambda: epoch_shares(data),
    }
    figures = []
    for how, found in interleaved(settings, settings.repeats, measures).items():
        shares = {part: [100 * one[part] for one in found] for part in found[0]}
        figures += [
            Figure(f"epoch, {how}: {part}", shares[part], "%", 5.0 if part == OUTSIDE else None)
            for part in (OUTSIDE, *PARTS, SLOWER)
        ]
    return figures


def epoch_shares(data: SeriesDataModule, *callbacks: pl.Callback) -> Shares:
    """Shares of the second epoch of a fit: each of `PARTS`, `OUTSIDE`; and of the layer's time alone, `SLOWER`.

    After each step a copy of the layer, alone, runs the same batch forward and backward, and that time is taken out of
    the epoch: compared batch by batch, the two see the same machine. What the layer takes inside the step, on caches
    that the rest of the step has used, is no part of `PARTS`.
    """
    pl.seed_everything(0, verbose=False)
    actions, clock = ActionClock(), LayerClock()
    trainer = bare_trainer(*callbacks, clock, epochs=2, profiler=actions)
    trainer.fit(SequenceRegressor(data.input_size), datamodule=data)
    loading = actions.of(r"\.(train_dataloader_next|batch_to_device)$")
    closure = actions.of(r"^\[Strategy\].*\.(training_step|backward)$")
    computing, optimizer = closure - clock.inside - clock.ordering, actions.of(r"\.optimizer_step$") - closure
    hooks = actions.of(r"^\[Callback\](?!LayerClock).*\.on_train_")
    parts = loading, computing, optimizer, hooks
    layer = clock.inside + clock.ordering + clock.freeing
    shares = dict(
        zip(PARTS, (seconds / clock.epoch for seconds in (*parts, clock.epoch - layer - sum(parts))), strict=True)
    )
    return shares | {OUTSIDE: 1 - clock.alone / clock.epoch, SLOWER: layer / clock.alone - 1}


class LayerClock(pl.Callback):
    """Seconds of the last epoch: as a whole, of the recurrent layer inside it, and of the layer alone, beside it.

    Goes after all other callbacks, into a Trainer with an `ActionClock`, which it clears when an epoch begins.

    Attributes:
        epoch: seconds of the epoch, without those of the layer alone.
        inside: of the layer in the steps; with the reads and catches of a callback that stands in for it.
        alone: of a copy of the layer, forward and backward over the same batches.
        ordering: of those, before the first gradient: autograd walks through the whole graph, and the layer's is large.
        freeing: of those, to free the graph. Neither is seen from outside in the step.
    """

    def __init__(self) -> None:
        self.epoch = self.inside = self.alone = self.ordering = self.freeing = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the layer, and copy it."""
        layer: Any = pl_module.core
        self._copy, self._units = copy.deepcopy(layer), layer.hidden_size
        layer.register_forward_pre_hook(self._begin)
        layer.register_forward_hook(self._end_forward)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin afresh."""
        trainer.profiler.clear()  # type: ignore[attr-defined]
        self.inside = self.alone = self.ordering = self.freeing = self._beside = 0.0
        self._start = time.perf_counter()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The layer is the last of the backward pass."""
        self.inside += time.perf_counter() - self._begun

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Run the copy."""
        begin = time.perf_counter()
        self._run_alone(batch["x"])
        self._beside += time.perf_counter() - begin

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        self.epoch = time.perf_counter() - self._start - self._beside

    def _run_alone(self, x: Tensor) -> None:
        upstream = torch.ones(*x.shape[:2], self._units)
        self._copy.zero_grad()
        begin = time.perf_counter()
        output, state = self._copy(x)
        output.register_hook(self._begin)
        asked = time.perf_counter()
        output.backward(upstream)
        computed = time.perf_counter()
        del output, state
        freed = time.perf_counter()
        self.ordering += self._begun - asked
        self.freeing += freed - computed
        self.alone += freed - begin

    def _begin(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _end_forward(self, layer: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> None:
        self.inside += time.perf_counter() - self._begun
        output[0].register_hook(self._begin)

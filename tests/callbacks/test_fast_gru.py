"""A FastGRU in somebody's module trains under the callbacks as an nn.GRU does."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import FEATURES, TABLE, Regressor, Windows, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from torch import nn
from torch.utils.data import default_collate

from mptt import WindowIndex
from mptt.callbacks import MPTTCallback, StatefulCallback
from mptt.fastgru import FastGRU

pytest.importorskip("numba", reason='the compiled loops need numba: pip install "mptt[fast]"')

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
# A lane for each site.
DISJOINT = [(site, start, 5) for site in (0, 1) for start in (0, 5, 10)]
LANES = [[0, 3], [1, 4], [2, 5]]


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *args: Any) -> None:
        self.values.append(outputs["loss"].item())


def module_with(kind: type[nn.GRU], layers: int) -> Regressor:
    module = seeded(Regressor)
    torch.manual_seed(1)
    module.gru = kind(FEATURES, 4, num_layers=layers, batch_first=True)
    return module


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("strategy", ["mptt", "stateful"])
def test_losses_and_scores_are_those_with_nn_gru(strategy: str, layers: int) -> None:
    found = []
    for kind in (nn.GRU, FastGRU):
        module, losses = module_with(kind, layers), Losses()
        callback: pl.Callback
        if strategy == "mptt":
            callback, data = MPTTCallback(windows=WINDOWS, zero_init_epochs=1), loader(shuffles(4))
        else:
            callback = StatefulCallback(windows=WindowIndex(*zip(*DISJOINT, strict=True)))
            data = in_order([default_collate([Windows(DISJOINT)[nth] for nth in ids]) for ids in LANES])
        trainer = quiet_trainer([callback, losses], max_epochs=4)
        trainer.fit(module, data)
        (scores,) = trainer.validate(module, in_order(stretches(5)), verbose=False)
        found.append([*losses.values, scores["val_loss"]])
    assert len(found[0]) > 12
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[0][0] != pytest.approx(found[0][-2], rel=1e-2), "learns"

"""Training epochs of the paper's set-up: with MPTT, from zero state, stateful, and in a bare loop without Lightning."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt import KeyMap, WindowIndex
from mptt.callbacks import MPTTCallback, SequentialStatefulCallback, StatefulCallback
from mptt.datamodules import SeriesDataModule, SimulatedBasin
from mptt.experiments.bench.common import (
    Figure,
    Settings,
    epoch_seconds,
    interleaved,
    ratio,
    seconds_of,
)
from mptt.experiments.regressor import SequenceRegressor
from mptt.recurrent import RecurrentLayer, run, state_size


def epochs(settings: Settings) -> list[Figure]:
    """Ratios of epochs, and of a layer run in segments to the same layer run whole."""
    data = paper_data(settings)
    lanes, sequential = (paper_data(settings, order=order, stride=366) for order in ("lanes", "sequential"))
    times = interleaved(
        settings,
        settings.repeats,
        {
            "mptt": lambda: epoch_seconds(data, MPTTCallback(zero_init_epochs=0))[-1],
            "zero": lambda: epoch_seconds(data)[-1],
            "bare": lambda: bare_epoch(data),
            "lanes": lambda: epoch_seconds(lanes, StatefulCallback())[-1],
            "sequential": lambda: epoch_seconds(sequential, SequentialStatefulCallback())[-1],
        },
    )
    zero = times["zero"]
    disjoint = "epoch over disjoint windows, half as many"
    return [
        ratio("epoch: MPTT / zero state", times["mptt"], zero, 1.03),
        ratio("epoch: this pipeline / bare PyTorch loop", zero, times["bare"], 1.05),
        ratio(f"{disjoint}: stateful lanes / zero state", times["lanes"], zero),
        ratio(f"{disjoint}: sequential stateful / zero state", times["sequential"], zero),
        *segments(settings, data.windows, data.input_size),
    ]


def paper_data(settings: Settings, **series: Any) -> SimulatedBasin:
    """The paper's set-up: 500 training years, windows of 366 days, one each 183, batches of 64."""
    data = SimulatedBasin(years=settings.size(1000, 200), cache=None, **series)
    data.setup("fit")
    return data


def bare_epoch(data: SeriesDataModule) -> float:
    """Seconds of the second epoch of a plain loop over the same batches, with the same module."""
    pl.seed_everything(0, verbose=False)
    model = SequenceRegressor(data.input_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    windows = data.train_dataloader().dataset

    # A function, so that a batch and its graph are freed before the next, as in Lightning.
    def train(ids: Tensor) -> None:
        batch = windows.__getitems__(ids)  # type: ignore[attr-defined]
        squared = (model(batch["x"]) - batch["y"]).square() * batch["mask"]
        optimizer.zero_grad()
        (squared.sum() / batch["mask"].sum().clamp(min=1)).backward()
        optimizer.step()

    def epoch() -> None:
        for ids in torch.randperm(len(data.windows)).split(data.batch_size):
            train(ids)

    epoch()
    return seconds_of(epoch)


def segments(settings: Settings, windows: WindowIndex, inputs: int) -> list[Figure]:
    """A layer whose states are caught inside windows, run in segments, against one plain call: forward and backward.

    The positions are those at which a batch of the windows writes.
    """
    batch = min(64, len(windows))
    row, _, position = KeyMap(windows).links(torch.randperm(len(windows))[:batch])
    x = torch.randn(batch, int(windows.length[0]), inputs)
    layers: dict[str, RecurrentLayer] = {
        "GRU of 2 layers": nn.GRU(inputs, 32, num_layers=2, batch_first=True),
        "LSTM": nn.LSTM(inputs, 32, batch_first=True),
    }
    figures = []
    for name, layer in layers.items():
        initial = torch.zeros(batch, state_size(layer))
        upstream = torch.randn(batch, x.shape[1], 32)

        # Bound here, not by the loop; in functions, so that a graph is freed while its clock runs.
        def in_segments(layer: RecurrentLayer = layer, initial: Tensor = initial, upstream: Tensor = upstream) -> None:
            run(layer, x, initial, row, position)[0].backward(upstream)

        def whole(layer: RecurrentLayer = layer, upstream: Tensor = upstream) -> None:
            layer(x)[0].backward(upstream)

        measures = {"segments": lambda: seconds_of(in_segments), "whole": lambda: seconds_of(whole)}
        times = interleaved(settings, settings.repeats, measures)
        figures.append(ratio(f"{name} with states caught: in segments / whole", times["segments"], times["whole"]))
    return figures

"""Somebody's own data and modules, that know nothing of mptt, and the same training written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from oracle import DictionaryMemory, slow_links
from pytorch_lightning.loops.fit_loop import _FitLoop
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

FEATURES = 3
LENGTH = 6
# Two sites of 20 and 15 steps, windows of 6 each 3 steps, in no order.
TABLE = [(site, start, LENGTH) for site, steps in ((0, 20), (1, 15)) for start in range(0, steps - LENGTH + 1, 3)]
TABLE = [TABLE[nth] for nth in np.random.default_rng(3).permutation(len(TABLE))]
SITES = {0: 20, 1: 15}
# Lightning before 2.5 runs a validation that was done once more, and takes the last batch for the middle of its epoch.
EXACT_LIGHTNING = hasattr(_FitLoop, "update_restart_stage")


def series() -> dict[int, tuple[Tensor, Tensor]]:
    """Inputs (T, F) and targets (T, 1) of each site."""
    generator = torch.Generator().manual_seed(11)
    found = {}
    for site, steps in SITES.items():
        x = torch.randn(steps, FEATURES, generator=generator)
        found[site] = x, x[:, :1].cumsum(0) * 0.3
    return found


class Windows(Dataset[dict[str, Tensor]]):
    """One window a sample, in a dict, with its id."""

    def __init__(self, table: Sequence[tuple[int, int, int]] = TABLE) -> None:
        self.table, self.series = list(table), series()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        site, start, length = self.table[index]
        x, y = self.series[site]
        return {"x": x[start : start + length], "y": y[start : start + length], "window": index}


class Orders(Sampler[int]):
    """The order of each epoch as given, whichever epoch a run begins with."""

    def __init__(self, orders: Sequence[Sequence[int]]) -> None:
        self.orders, self.epoch = [list(order) for order in orders], 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.orders[0])

    def __iter__(self) -> Iterator[int]:
        yield from self.orders[self.epoch]


def shuffles(epochs: int, size: int = len(TABLE), seed: int = 5) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(size).tolist() for _ in range(epochs)]


def loader(orders: Sequence[Sequence[int]], batch_size: int = 3) -> DataLoader[Any]:
    return DataLoader(Windows(), batch_size=batch_size, sampler=Orders(orders))


def stretches(chunk: int, sites: Sequence[int] = (0, 1)) -> list[dict[str, Tensor]]:
    """Evaluation batches: the sites side by side, `chunk` steps at a time, the shorter ones padded at their end."""
    data, batches = series(), []
    for start in range(0, max(SITES[site] for site in sites), chunk):
        going = [site for site in sites if SITES[site] > start]
        length = [min(chunk, SITES[site] - start) for site in going]
        x = torch.full((len(going), max(length), FEATURES), 7.0)
        y = torch.full((len(going), max(length), 1), torch.nan)
        for row, (site, steps) in enumerate(zip(going, length, strict=True)):
            x[row, :steps], y[row, :steps] = (values[start : start + steps] for values in data[site])
        where = {"site": going, "start": [start] * len(going), "length": length}
        batches.append({"x": x, "y": y, **{key: torch.tensor(values) for key, values in where.items()}})
    return batches


def in_order(batches: Sequence[Any]) -> DataLoader[Any]:
    """A loader of ready batches."""
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def quiet_trainer(callbacks: Sequence[Any] = (), max_epochs: int = 3, **settings: Any) -> pl.Trainer:
    plain = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    plain |= {"enable_model_summary": False, "max_epochs": max_epochs}
    return pl.Trainer(callbacks=list(callbacks), **(plain | settings))


class Regressor(pl.LightningModule):
    """The smallest module that trains: a GRU and a head. Others change `forward` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.gru(x)[0])

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        error = self(batch["x"]) - batch["y"]
        return error[batch["y"].isfinite()].square().mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch), batch_size=len(batch["x"]))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch), batch_size=len(batch["x"]))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return self(batch["x"])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def seeded(make: Callable[[], nn.Module]) -> Any:
    """A new module, the same at each call."""
    torch.manual_seed(0)
    return make()


def flat(hidden: Any) -> Tensor:
    """(layers, B, H), or the pair of an LSTM, as rows (B, S): all layers' h, then all layers' c."""
    parts = hidden if isinstance(hidden, tuple) else (hidden,)
    return torch.cat([layer for part in parts for layer in part], dim=1)


def unflat(layer: Any, state: Tensor) -> Any:
    """The inverse of `flat`."""
    width = layer.proj_size or layer.hidden_size
    parts = [width, layer.hidden_size] if isinstance(layer, nn.LSTM) else [width]
    columns = state.split([part for part in parts for _ in range(layer.num_layers)], dim=1)
    hidden = [torch.stack(columns[nth : nth + layer.num_layers]) for nth in range(0, len(columns), layer.num_layers)]
    return tuple(hidden) if isinstance(layer, nn.LSTM) else hidden[0]


def walk(layer: Any, x: Tensor, state: Tensor, ends: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """Run a layer over (B, L, F) piece by piece, the state after each piece handed on by hand."""
    hidden, outputs, states, begin = unflat(layer, state), [], {}, 0
    for end in ends:
        piece = x[:, begin:end] if layer.batch_first else x[:, begin:end].transpose(0, 1)
        output, hidden = layer(piece, hidden)
        outputs.append(output if layer.batch_first else output.transpose(0, 1))
        states[end - 1], begin = flat(hidden).detach(), end
    return torch.cat(outputs, dim=1), states


def train_by_hand(
    module: Any,
    run: Callable[[Any, Tensor, Tensor, list[int]], tuple[Tensor, dict[int, Tensor]]],
    state_size: int,
    orders: Sequence[Sequence[int]],
    batch_size: int = 3,
    delta: float = 1.0,
    every_step: bool = True,
    accumulate: int = 1,
    before_propagate: Callable[[DictionaryMemory], None] = lambda memory: None,
) -> DictionaryMemory:
    """MPTT without Lightning and without mptt: a dictionary of messages and an explicit initial state.

    Args:
        module: trained in place, in float32.
        run: (module, x, initial states, ends of pieces) -> (prediction, states after each piece).
        state_size: numbers in a state.
        orders: of the windows, an entry an epoch; the first epoch starts from zeros.
        batch_size: windows in a batch.
        delta: of the memory.
        every_step: pieces of one step; else cut only where a state is needed (random numbers of dropout are drawn so).
        accumulate: batches whose gradients are summed for a step, and divided by their number; fewer at an epoch's end.
        before_propagate: called with the memory at the end of each epoch.
    """
    windows, memory = Windows(), DictionaryMemory(TABLE, state_size, delta)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module.train()
    for epoch, order in enumerate(orders):
        for at in range(0, len(order), batch_size):
            ids = order[at : at + batch_size]
            samples = [windows[i] for i in ids]
            x, y = (torch.stack([sample[key] for sample in samples]) for key in ("x", "y"))
            messages = np.stack([memory.read(v) for v in ids]) if epoch else np.zeros((len(ids), state_size))
            initial = torch.from_numpy(messages).float()
            needed = {position + 1 for _, _, position in slow_links(TABLE, [TABLE[i] for i in ids])}
            ends = list(range(1, LENGTH + 1)) if every_step else sorted(needed | {LENGTH})
            predicted, states = run(module, x, initial, ends)
            nth = at // batch_size
            if nth % accumulate == 0:
                optimizer.zero_grad()
            ((predicted - y).square().mean() / accumulate).backward()
            if (nth + 1) % accumulate == 0 or at + batch_size >= len(order):
                optimizer.step()
            table = np.zeros((len(ids), LENGTH, state_size))
            for position, state in states.items():
                table[:, position] = state.numpy()
            memory.write(ids, table)
        before_propagate(memory)
        memory.propagate()
    return memory


def assert_same_weights(module: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    mine, theirs = module.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.allclose(value, theirs[name], rtol=0, atol=tolerance), name

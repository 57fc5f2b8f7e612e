"""Sequential stateful training: one window after another inside a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from handmade import FEATURES, Regressor, in_order, quiet_trainer, seeded, walk
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import SequentialStatefulCallback

STEPS = 4
# Site 5 has 5 windows, site 2 has 3, site 7 one.
TABLE = [(site, start, STEPS) for site, stop in ((5, 20), (2, 12), (7, 4)) for start in range(0, stop, STEPS)]
WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
IN_TIME = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
SITES = ((5, 20), (2, 12), (7, 4))


def inputs() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(8)
    return {site: torch.randn(steps, FEATURES, generator=generator) for site, steps in SITES}


def batches(order: list[list[int]]) -> Any:
    x = inputs()
    made = []
    for ids in order:
        rows = torch.stack([x[site][start : start + steps] for site, start, steps in (TABLE[i] for i in ids)])
        made.append({"x": rows, "y": rows[..., :1].cumsum(1), "window": torch.tensor(ids)})
    return in_order(made)


class Keeps(Regressor):
    """Does not learn; keeps what its layer gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.gru = layer
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        output = self.gru(x if self.gru.batch_first else x.transpose(0, 1))[0]
        output = output if self.gru.batch_first else output.transpose(0, 1)
        self.outputs.append(output.detach())
        return self.head(output)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(FEATURES, 4, batch_first=True),
        nn.GRU(FEATURES, 4),
        nn.LSTM(FEATURES, 4, 2, batch_first=True),
        nn.RNN(FEATURES, 4, batch_first=True),
    ],
    ids=["gru", "steps first", "two-layer lstm", "rnn"],
)
@pytest.mark.parametrize("order", [IN_TIME, [[0, 1, 2, 3, 4, 5, 6, 7, 8]], [[i] for i in range(9)]], ids=len)
def test_a_carried_epoch_is_one_pass_over_each_series(layer: Any, order: list[list[int]]) -> None:
    module = Keeps(layer)
    quiet_trainer([SequentialStatefulCallback(windows=WINDOWS)], max_epochs=2).fit(module, batches(order))
    assert len(module.outputs) == 2 * len(order)
    for epoch in (module.outputs[: len(order)], module.outputs[len(order) :]):  # each epoch begins with zeros
        found = torch.cat([row for batch in epoch for row in batch])
        with torch.no_grad():
            whole = [layer(x.unsqueeze(0 if layer.batch_first else 1))[0].reshape(-1, 4) for x in inputs().values()]
        assert torch.allclose(found, torch.cat(whole), rtol=0, atol=1e-6)


def test_windows_train_as_one_after_another_by_hand() -> None:
    mine, other = seeded(Regressor), seeded(Regressor)
    quiet_trainer([SequentialStatefulCallback(windows=WINDOWS)], max_epochs=3).fit(mine, batches(IN_TIME))
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for _ in range(3):
        state = torch.zeros(1, 4)
        for batch, ids in zip(batches(IN_TIME), IN_TIME, strict=True):
            outputs = []
            for row, window in enumerate(ids):
                state = torch.zeros(1, 4) if TABLE[window][1] == 0 else state
                output, states = walk(other.gru, batch["x"][row : row + 1], state, range(1, STEPS + 1))
                outputs.append(output)
                state = states[STEPS - 1]  # detached: no gradient crosses windows
            optimizer.zero_grad()
            (other.head(torch.cat(outputs)) - batch["y"]).square().mean().backward()
            optimizer.step()
    for name, value in mine.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([[0, 2, 1]], "window 2, row 1 of batch 0, starts at step 8 of site 5"),
        ([[0], [2]], "window 2, row 0 of batch 1, starts at step 8 of site 5"),
        ([[1, 0]], "window 0, row 1 of batch 0"),
    ],
)
def test_windows_out_of_order_are_refused(order: list[list[int]], said: str) -> None:
    with pytest.raises(MPTTError, match=said + r'.*order="sequential"'):
        quiet_trainer([SequentialStatefulCallback(windows=WINDOWS)]).fit(seeded(Regressor), batches(order))


def test_a_skipped_batch_leaves_zeros_and_training_goes_on() -> None:
    class Skips(Keeps):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return None if batch_idx == 1 else self.loss(batch)

    module = Skips(nn.GRU(FEATURES, 4, batch_first=True))
    callback = SequentialStatefulCallback(windows=WINDOWS)
    quiet_trainer([callback], max_epochs=1).fit(module, batches([[0], [1], [2, 3]]))
    x = inputs()[5]
    with torch.no_grad():
        expected = torch.cat([module.gru(x[:4])[0], module.gru(x[8:16])[0]])
    assert torch.allclose(torch.cat([row for one in module.outputs for row in one]), expected, rtol=0, atol=1e-6)


def test_windows_of_several_lengths_are_refused() -> None:
    table = WindowIndex([0, 0], [0, 4], [4, 3])
    with pytest.raises(MPTTError, match="windows of one length, found 3 to 4 steps"):
        quiet_trainer([SequentialStatefulCallback(windows=table)]).fit(seeded(Regressor), batches([[0]]))


class Own(Regressor):
    """A core that is no recurrent layer."""

    state_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.Linear(FEATURES, 4)  # type: ignore[assignment]


def test_a_core_of_ones_own_is_refused() -> None:
    with pytest.raises(MPTTError, match="cannot start a window from the end of another"):
        quiet_trainer([SequentialStatefulCallback(windows=WINDOWS)]).fit(Own(), batches(IN_TIME))

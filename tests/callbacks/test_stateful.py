"""Lanes: row r of a batch goes on where row r of the batch before stopped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from handmade import FEATURES, Regressor, in_order, quiet_trainer, seeded, walk
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import StatefulCallback

STEPS = 4
# Site 5 has 6 windows, site 2 has 3: lane 0 takes the first four of site 5, lane 1 its last two and then site 2.
TABLE = [(5, start, STEPS) for start in range(0, 24, STEPS)] + [(2, start, STEPS) for start in range(0, 12, STEPS)]
LANES = [[0, 4], [1, 5], [2, 6], [3, 7], [8]]
WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


def inputs() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(8)
    return {site: torch.randn(steps, FEATURES, generator=generator) for site, steps in ((5, 24), (2, 12))}


def batches(order: list[list[int]], table: list[tuple[int, int, int]] = TABLE) -> Any:
    x = inputs()
    made = []
    for ids in order:
        rows = torch.stack([x[site][start : start + steps] for site, start, steps in (table[i] for i in ids)])
        made.append({"x": rows, "y": rows[..., :1].cumsum(1), "window": torch.tensor(ids)})
    return in_order(made)


class Keeps(Regressor):
    """Does not learn; keeps what it predicts in training."""

    def __init__(self, layer: Any = None) -> None:
        super().__init__()
        self.gru = layer or nn.GRU(FEATURES, 4, batch_first=True)
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        output = self.gru(x)[0]
        self.outputs.append(output.detach())
        return self.head(output)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_lane_is_one_pass_over_its_stretch_of_a_series(kind: str) -> None:
    layers = {"gru": nn.GRU(FEATURES, 4, batch_first=True), "lstm": nn.LSTM(FEATURES, 4, 2, batch_first=True)}
    module = Keeps(layers[kind])
    # A short last batch: lane 0 goes on with the third window of site 2 and starts from zeros, lane 1 has ended.
    with pytest.raises(MPTTError, match="row 0 of batch 4 is window 8, which starts at step 8 of site 2"):
        quiet_trainer([StatefulCallback(windows=WINDOWS)], 1).fit(module, batches(LANES))
    module.outputs.clear()
    quiet_trainer([StatefulCallback(windows=WINDOWS)], max_epochs=2).fit(module, batches(LANES[:4]))
    x, out = inputs(), module.outputs
    assert len(out) == 8
    for epoch in (out[:4], out[4:]):  # every epoch anew
        with torch.no_grad():
            assert torch.allclose(torch.cat([one[0] for one in epoch]), module.gru(x[5][:16])[0], rtol=0, atol=1e-6)
            first = module.gru(x[5][16:24])[0]  # from zeros, in the middle of the series
            second = module.gru(x[2][:8])[0]  # from zeros, where the next site begins
        assert torch.allclose(torch.cat([one[1] for one in epoch]), torch.cat([first, second]), rtol=0, atol=1e-6)


def test_lanes_train_as_by_hand() -> None:
    mine, other = seeded(Regressor), seeded(Regressor)
    quiet_trainer([StatefulCallback(windows=WINDOWS)], max_epochs=3).fit(mine, batches(LANES[:4]))
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for _ in range(3):
        state = torch.zeros(2, 4)
        for batch, ids in zip(batches(LANES[:4]), LANES, strict=False):
            fresh = torch.tensor([TABLE[i][1] == 0 for i in ids]).unsqueeze(1)
            output, states = walk(other.gru, batch["x"], torch.where(fresh, 0.0, state), range(1, STEPS + 1))
            optimizer.zero_grad()
            (other.head(output) - batch["y"]).square().mean().backward()
            optimizer.step()
            state = states[STEPS - 1]
    for name, value in mine.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], rtol=0, atol=1e-6)


def test_lanes_may_end_before_others() -> None:
    module = Keeps()
    quiet_trainer([StatefulCallback(windows=WINDOWS)], 1).fit(module, batches([[0, 6], [1, 7], [2, 8], [3], [4], [5]]))
    with torch.no_grad():
        expected = module.gru(inputs()[5])[0]
    assert torch.allclose(torch.cat([one[0] for one in module.outputs]), expected, rtol=0, atol=1e-6)


def test_shuffled_windows_are_refused() -> None:
    message = 'go on where that row stopped.*row 1 of batch 1 .* stopped before step 20.*order="lanes".*not shuffled'
    with pytest.raises(MPTTError, match=message):
        quiet_trainer([StatefulCallback(windows=WINDOWS)]).fit(seeded(Regressor), batches([[0, 4], [1, 3], [2, 6]]))


def test_overlapping_windows_are_refused() -> None:
    table = [(5, start, STEPS) for start in range(0, 12, 2)]
    callback = StatefulCallback(windows=WindowIndex(*zip(*table, strict=True)))
    message = "row 0 of batch 1 is window 1, which starts at step 2 of site 5, but the row stopped before step 4"
    with pytest.raises(MPTTError, match=message):
        quiet_trainer([callback]).fit(seeded(Regressor), batches([[0], [1]], table))


def test_a_skipped_batch_leaves_zeros_and_training_goes_on() -> None:
    class Skips(Keeps):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return None if batch_idx == 1 else self.loss(batch)

    module = Skips()
    quiet_trainer([StatefulCallback(windows=WINDOWS)], 1).fit(module, batches([[0], [1], [2], [3]]))
    x = inputs()[5]
    with torch.no_grad():
        expected = torch.cat([module.gru(x[:4])[0], module.gru(x[8:16])[0]])
    assert torch.allclose(torch.cat([one[0] for one in module.outputs]), expected, rtol=0, atol=1e-6)


def test_no_gradient_crosses_batches() -> None:
    trainer = quiet_trainer([StatefulCallback(windows=WINDOWS)], max_epochs=1)
    # Backward raises on the second batch, if its graph reaches into the freed one of the first.
    trainer.fit(seeded(Regressor), batches(LANES[:4]))
    assert trainer.global_step == 4


def test_lanes_need_the_window_table_and_ids() -> None:
    with pytest.raises(MPTTError, match=r"needs the table of training windows, found NoneType: pass windows="):
        quiet_trainer([StatefulCallback()]).fit(seeded(Regressor), batches(LANES))
    ready = [{"x": torch.zeros(1, 4, FEATURES), "y": torch.zeros(1, 4, 1)}]
    with pytest.raises(MPTTError, match=r"StatefulCallback needs the ids .*batch\['window'\].*found a dict with x, y"):
        quiet_trainer([StatefulCallback(windows=WINDOWS)]).fit(seeded(Regressor), in_order(ready))


def test_validation_between_batches_does_not_disturb_the_lanes() -> None:
    x = torch.randn(1, 9, FEATURES)
    where = {"site": torch.tensor([5]), "start": torch.tensor([0]), "length": torch.tensor([9])}
    validation = in_order([{"x": x, "y": torch.zeros(1, 9, 1), **where}])
    mine, plain = seeded(Regressor), seeded(Regressor)
    callback = StatefulCallback(windows=WINDOWS)
    quiet_trainer([callback], val_check_interval=1).fit(mine, batches(LANES[:4]), validation)
    quiet_trainer([StatefulCallback(windows=WINDOWS)]).fit(plain, batches(LANES[:4]))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in mine.state_dict().items())

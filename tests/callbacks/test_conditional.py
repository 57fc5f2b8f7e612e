"""Sequential conditional evaluation: a prediction of one window is the condition of the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from handmade import Regressor, in_order, quiet_trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mptt import MPTTError
from mptt.callbacks import ConditionalCallback


class Sum(Regressor):
    """Predicts 100 times the condition plus the step number: what it read can be told from what it says."""

    def forward(self, x: Tensor) -> Tensor:
        return 100 * x[..., 1:] + x[..., :1]

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:  # type: ignore[override]
        return {"prediction": self(batch["x"])}


def window(site: int, start: int, stop: int, first: float = 0.0) -> tuple[int, int, int, float]:
    return site, start, stop, first


def batch(*rows: tuple[int, int, int, float]) -> dict[str, Tensor]:
    """Windows whose input is the number of the step, and whose condition, where it must not be read, is -1000."""
    steps = max(stop - start for _, start, stop, _ in rows)
    x = torch.full((len(rows), steps, 2), -1000.0)
    for row, (_, start, stop, first) in enumerate(rows):
        x[row, : stop - start, 0] = torch.arange(start, stop).float()
        if start == 0:
            x[row, :, 1] = first
    where = {"site": [r[0] for r in rows], "start": [r[1] for r in rows], "length": [r[2] - r[1] for r in rows]}
    return {"x": x, **{key: torch.tensor(values) for key, values in where.items()}}


def conditions(*batches: dict[str, Tensor]) -> list[list[float]]:
    """What each window of each batch read."""
    trainer = quiet_trainer([ConditionalCallback(lagged_columns=1)])
    outputs: Any = trainer.predict(Sum(), in_order(batches))
    return [
        ((output[:, 0, 0] - one["x"][:, 0, 0]) / 100).tolist() for output, one in zip(outputs, batches, strict=True)
    ]


def test_disjoint_windows_by_hand() -> None:
    # Window 0..2 reads 0.5: predicts 50, 51, 52. Window 3..5 reads 52: 5203, 5204, 5205. The next reads 5205.
    assert conditions(batch(window(7, 0, 3, 0.5)), batch(window(7, 3, 6)), batch(window(7, 6, 9))) == [
        [0.5],
        [52.0],
        [5205.0],
    ]


def test_of_overlapping_windows_the_first_prediction_of_a_step_counts() -> None:
    # Windows of 4 each 2 steps. 0..3 reads 1: 100, 101, 102, 103. 2..5 reads the prediction of step 1: 101, and says
    # 10102 .. 10105, of which 4 and 5 are new. 4..7 reads that of step 3, which is the first window's: 103, and says
    # 10304 .. 10307. 6..9 reads that of step 5, the second window's: 10105.
    found = conditions(*(batch(window(0, start, start + 4, 1.0)) for start in (0, 2, 4, 6)))
    assert found == [[1.0], [101.0], [103.0], [10105.0]]


def test_a_last_window_that_begins_anywhere() -> None:
    # 0..3, then 1..4: reads step 0, of the first window.
    assert conditions(batch(window(0, 0, 4, 1.0)), batch(window(0, 1, 5))) == [[1.0], [100.0]]


def test_sites_side_by_side_in_any_row_and_dropping_out() -> None:
    found = conditions(
        batch(window(4, 0, 2, 1.0), window(9, 0, 2, 2.0)),
        batch(window(9, 2, 4), window(4, 2, 4)),
        batch(window(9, 4, 6)),
        batch(window(4, 4, 6)),
    )
    assert found == [[1.0, 2.0], [201.0, 101.0], [20103.0], [10103.0]]


def test_a_second_pass_begins_afresh() -> None:
    trainer, batches = quiet_trainer([ConditionalCallback(lagged_columns=1)]), [batch(window(0, 0, 3, 0.5))]
    first, second = (trainer.predict(Sum(), in_order(batches)) for _ in range(2))
    assert torch.equal(first[0], second[0])


def test_a_gap_is_refused() -> None:
    with pytest.raises(MPTTError, match="site 0 comes with step 5 after step 2"):
        conditions(batch(window(0, 0, 3)), batch(window(0, 5, 8)))


def test_a_step_that_returns_nothing_is_refused() -> None:
    class Mute(Sum):
        def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # type: ignore[override]
            self.log("loss", self(batch["x"]).mean())

    with pytest.raises(MPTTError, match='needs the predictions of the step: return them as "prediction"'):
        quiet_trainer([ConditionalCallback(lagged_columns=1)]).test(Mute(), in_order([batch(window(0, 0, 3))]))


def test_inputs_without_a_lagged_target_are_refused() -> None:
    with pytest.raises(MPTTError, match="there is none among the inputs"):
        quiet_trainer([ConditionalCallback()]).predict(Sum(), in_order([batch(window(0, 0, 3))]))


class Half(Sum):
    """Predicts half the condition plus the step number."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:] / 2 + x[..., :1]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 25), min_size=1, max_size=4),
    size=st.integers(2, 8),
    stride=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_any_windows_agree_with_a_dictionary_of_predictions(
    lengths: list[int], size: int, stride: int, seed: int
) -> None:
    size = min(size, *lengths)
    stride = min(stride, size)
    windows = [[*range(0, steps - size, stride), steps - size] for steps in lengths]
    random = np.random.default_rng(seed)
    batches, expected = [], []
    known: dict[tuple[int, int], float] = {}  # the first prediction of each step of each site
    for nth in range(max(map(len, windows))):
        going = random.permutation([site for site, starts in enumerate(windows) if nth < len(starts)])
        batches.append(batch(*(window(int(s), windows[s][nth], windows[s][nth] + size, 1.0 + s) for s in going)))
        found = []
        for site in map(int, going):
            start = windows[site][nth]
            condition = 1.0 + site if start == 0 else known[site, start - 1]
            found.append([condition / 2 + step for step in range(start, start + size)])
            for step in range(start, start + size):
                known.setdefault((site, step), found[-1][step - start])
        expected.append(found)
    trainer = quiet_trainer([ConditionalCallback(lagged_columns=1)])
    outputs: Any = trainer.predict(Half(), in_order(batches))
    for output, rows in zip(outputs, expected, strict=True):
        assert torch.allclose(output[..., 0], torch.tensor(rows), rtol=1e-6)

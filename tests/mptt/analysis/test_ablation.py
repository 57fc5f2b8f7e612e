from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mptt.analysis.ablation import ablations, holding, slowest_first
from mptt.recurrent import flatten_state


def folded(gru: nn.GRU, unit: int, value: float) -> nn.GRU:
    """A copy in which what others read of a unit is in their biases, and nothing of the unit itself is read."""
    copy = nn.GRU(gru.input_size, gru.hidden_size, batch_first=True)
    copy.load_state_dict(gru.state_dict())
    with torch.no_grad():
        copy.bias_hh_l0 += copy.weight_hh_l0[:, unit] * value
        copy.weight_hh_l0[:, unit] = 0
    return copy


def test_a_held_unit_is_a_constant_in_the_biases_of_all_that_read_it() -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 8, 3)
    held = torch.tensor([[False, True, False, False]] * 2)
    with holding(gru, held, torch.full((4,), 0.3)), torch.no_grad():
        output, final = gru(x)
    expected, _ = folded(gru, 1, 0.3)(x)
    expected[:, :, 1] = 0.3
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(final[0], expected[:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batch_first", [True, False])
def test_rows_that_hold_nothing_are_those_of_the_layer(kind: type, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer, x = kind(3, 4, 2, batch_first=batch_first), torch.randn(2, 2, 3)
    with torch.no_grad():
        expected, final = layer(x)
        with holding(layer, torch.zeros(2, 8, dtype=torch.bool), torch.ones(8)):
            output, last = layer(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(flatten_state(last), flatten_state(final))
    assert "forward" not in layer.__dict__


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_each_row_holds_units_of_its_own_in_every_layer(kind: str) -> None:
    torch.manual_seed(0)
    layer = {"rnn": nn.RNN, "lstm": nn.LSTM}[kind](3, 2, 2, batch_first=True)
    cells = [{"rnn": nn.RNNCell, "lstm": nn.LSTMCell}[kind](width, 2) for width in (3, 2)]
    for number, cell in enumerate(cells):
        cell.load_state_dict({name: getattr(layer, f"{name}_l{number}") for name in cell.state_dict()})
    held = torch.tensor([[True, False, False, False], [False, True, False, True], [True] * 4])
    values, x = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.randn(3, 5, 3)

    def slowly(row: int) -> Tensor:
        def fix(h: Tensor, number: int) -> Tensor:
            here = slice(2 * number, 2 * number + 2)
            return torch.where(held[row, here], values[here], h)

        h = [fix(torch.zeros(1, 2), number) for number in range(2)]
        c = [torch.zeros(1, 2)] * 2
        outputs = []
        for step in range(5):
            below = x[row : row + 1, step]
            for number, cell in enumerate(cells):
                if kind == "lstm":
                    h[number], c[number] = cell(below, (h[number], c[number]))
                else:
                    h[number] = cell(below, h[number])
                h[number] = below = fix(h[number], number)
            outputs.append(below)
        return torch.cat(outputs)

    with torch.no_grad():
        with holding(layer, held, values):
            output, _ = layer(x)
        torch.testing.assert_close(output, torch.stack([slowly(row) for row in range(3)]))


def test_orders_become_ablations_one_unit_more_at_a_time() -> None:
    order = slowest_first([5, np.inf, 5, 40], [1, np.nan, -2, 0])
    assert order.tolist() == [1, 3, 2, 0]
    assert ablations(order, np.arange(5)).sum(1).tolist() == [0, 1, 2, 3, 4]
    assert ablations(order, np.array([2])).tolist() == [[False, True, False, True]]

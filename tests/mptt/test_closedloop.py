"""The cell of a layer, and the loop in which a network reads its own last prediction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mptt.closedloop import cell, closed_loop
from mptt.recurrent import state_size

LAYERS = {
    "gru": lambda: nn.GRU(3, 5, batch_first=True),
    "gru, steps first, no bias": lambda: nn.GRU(3, 5, bias=False),
    "lstm": lambda: nn.LSTM(3, 5, batch_first=True),
    "tanh": lambda: nn.RNN(3, 5, batch_first=True),
    "relu": lambda: nn.RNN(3, 5, nonlinearity="relu"),
    "three-layer gru": lambda: nn.GRU(3, 5, 3, batch_first=True),
    "two-layer lstm, steps first": lambda: nn.LSTM(3, 5, 2),
    "projected lstm": lambda: nn.LSTM(3, 5, proj_size=2, batch_first=True),
    "double": lambda: nn.GRU(3, 5, batch_first=True).double(),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_step_after_step_is_one_call_of_the_layer(kind: str) -> None:
    torch.manual_seed(0)
    layer: Any = LAYERS[kind]()
    dtype = next(layer.parameters()).dtype
    x = torch.randn(4, 6, 3, dtype=dtype)
    state = torch.zeros(4, state_size(layer), dtype=dtype)
    outputs, step = [], cell(layer)
    with torch.no_grad():
        for now in x.unbind(1):
            output, state = step(now, state)
            outputs.append(output)
        whole = layer(x)[0] if layer.batch_first else layer(x.transpose(0, 1))[0].transpose(0, 1)
    assert torch.allclose(torch.stack(outputs, dim=1), whole, rtol=0, atol=1e-6)


def test_the_weights_are_those_of_now() -> None:
    layer = nn.GRU(1, 1)
    step = cell(layer)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
    assert step(torch.ones(1, 1), torch.full((1, 1), 0.8))[1].item() == pytest.approx(0.4)


def test_three_steps_by_hand() -> None:
    """y_t = h_t + 1, h_t = h_{t-1} / 2 + x_t + 10 y_{t-1}, from h = 4 and y = 0.5."""

    def step(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state / 2 + x[:, :1] + 10 * x[:, 1:]
        return state + 1, state

    found, state = closed_loop(
        step, torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[0.5]]), torch.tensor([[4.0]])
    )
    # h: 2+1+5 = 8; 4+2+90 = 96; 48+3+970 = 1021
    assert found.flatten().tolist() == [9.0, 97.0, 1022.0]
    assert state.tolist() == [[1021.0]]


def test_rows_do_not_mix_and_several_targets_keep_their_order() -> None:
    torch.manual_seed(1)
    layer, head = nn.GRU(2 + 2, 5, batch_first=True), nn.Linear(5, 2)

    def step(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, state = cell(layer)(x, state)
        return head(output), state

    x, last, state = torch.randn(3, 9, 2), torch.randn(3, 2), torch.randn(3, 5)
    together, _ = closed_loop(step, x, last, state)
    for row in range(3):
        alone, _ = closed_loop(step, x[row : row + 1], last[row : row + 1], state[row : row + 1])
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-6)
    with torch.no_grad():
        for row in range(3):  # the obvious way
            y, h = last[row : row + 1], state[row : row + 1].unsqueeze(0)
            for t in range(9):
                output, h = layer(torch.cat([x[row : row + 1, t], y], dim=1).unsqueeze(1), h)
                y = head(output[:, 0])
                assert torch.allclose(together[row, t], y[0], rtol=0, atol=1e-5)


def test_no_graph_is_kept() -> None:
    weight = torch.ones(1, 1, requires_grad=True)
    found, state = closed_loop(
        lambda x, state: (x[:, :1] * weight, state * weight), torch.ones(1, 3, 1), torch.zeros(1, 1), torch.ones(1, 1)
    )
    assert not found.requires_grad
    assert not state.requires_grad

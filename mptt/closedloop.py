"""Closed loop: a network that reads its own last prediction, one step after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from mptt.recurrent import RecurrentLayer, flatten_state, unflatten_state

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_CELLS: dict[str, Callable[..., Any]] = {
    "GRU": torch.gru_cell,
    "LSTM": torch.lstm_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}


def cell(layer: RecurrentLayer) -> Step:
    """A recurrent layer as a function of one step: input (B, F) and flat state (B, S) to output (B, H) and flat state.

    It calls the layer's cell with its weights and nothing else: what a loop over time needs. (A layer of several, or
    with `proj_size`, is called itself: run it in eval mode.) The weights are those at the time of the call, not copies.

    Args:
        layer: one direction, any number of layers.

    Example:
        >>> gru = nn.GRU(2, 3, batch_first=True)
        >>> x = torch.randn(1, 5, 2)
        >>> output, state = cell(gru)(x[:, 0], torch.zeros(1, 3))
        >>> torch.allclose(output, gru(x)[0][:, 0])
        True
    """
    if layer.num_layers == 1 and not layer.proj_size:
        step, weights = _CELLS[layer.mode], _weights(layer, 0)
        if isinstance(layer, nn.LSTM):
            size = layer.hidden_size

            def advance_lstm(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
                h, c = step(x, (state[:, :size], state[:, size:]), *weights)
                return h, torch.cat([h, c], dim=1)

            return advance_lstm

        def advance(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            h = step(x, state, *weights)
            return h, h

        return advance

    time = 1 if layer.batch_first else 0

    def advance_layer(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, hidden = cast(Callable[..., Any], layer)(x.unsqueeze(time), unflatten_state(layer, state))
        return output.squeeze(time), flatten_state(hidden)

    return advance_layer


@torch.no_grad()
def closed_loop(step: Step, inputs: Tensor, last: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run step by step, the prediction of each step an input of the next; all rows at once.

    Args:
        step: from inputs (B, F + K) and state (B, S) to predictions (B, K) and state (B, S).
        inputs: (B, L, F) the inputs that are known.
        last: (B, K) the prediction, or observation, of the step before the first; appended to the inputs.
        state: (B, S) before the first step.

    Returns:
        Predictions (B, L, K), and the state after the last step.

    Example:
        >>> half = lambda x, state: (x.sum(1, keepdim=True) / 2, state)
        >>> closed_loop(half, torch.ones(1, 3, 1), torch.zeros(1, 1), torch.zeros(1, 0))[0].flatten()
        tensor([0.5000, 0.7500, 0.8750])
    """
    predictions = []
    for x in inputs.unbind(1):
        last, state = step(torch.cat([x, last], dim=1), state)
        predictions.append(last)
    return torch.stack(predictions, dim=1), state


def _weights(layer: RecurrentLayer, number: int) -> list[Tensor | None]:
    names = [f"weight_ih_l{number}", f"weight_hh_l{number}", f"bias_ih_l{number}", f"bias_hh_l{number}"]
    return [getattr(layer, name, None) for name in names]

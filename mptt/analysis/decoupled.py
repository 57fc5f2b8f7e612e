"""The units of a recurrent layer by themselves: each with its own gates and its own memory, cut off from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mptt.errors import MPTTError
from mptt.recurrent import RecurrentLayer, flatten_state, unflatten_state

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def check_units(layer: RecurrentLayer, name: str) -> None:
    """Refuse a layer whose units cannot be taken apart.

    Raises:
        MPTTError: `proj_size`, with which no number of the state is a unit's own, or two directions.
    """
    if layer.proj_size or layer.bidirectional:
        found = "proj_size" if layer.proj_size else "bidirectional=True"
        raise MPTTError(f"{name} has {found}: its units cannot be told apart. Use a layer of one direction without it.")


def layer_alone(layer: RecurrentLayer, number: int) -> RecurrentLayer:
    """One layer of several as a layer of its own: a copy, batch first, in double, without gradient, in eval mode."""
    width = layer.input_size if number == 0 else layer.hidden_size
    names = [name for name in _NAMES if layer.bias or "bias" not in name]
    return _one_layer(layer, width, {f"{name}_l0": getattr(layer, f"{name}_l{number}").detach() for name in names})


def decouple(layer: RecurrentLayer, number: int, mean: Tensor) -> RecurrentLayer:
    """One layer whose units do not know of each other: each feels the others only at their mean.

    Every gate of a unit keeps its weights of the inputs and of the unit's own state; what it reads of the other units'
    states becomes a constant, their mean times its weights, in the bias. So all units run by themselves, side by side.
    Exact for tanh and relu RNNs, GRU (the constant goes inside the reset gate's product, as the weights do) and LSTM
    (units are cells; gates read other cells' outputs h at their mean).

    Args:
        layer: any number of layers.
        number: which of them, from 0.
        mean: (H,) mean of its units' h.

    Returns:
        A layer of one layer, batch first, in double, without gradient; a copy.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False)
        >>> _ = rnn.weight_hh_l0.data.copy_(torch.tensor([[0.5, 0.125], [0.25, 0.75]]))
        >>> alone = decouple(rnn, 0, torch.tensor([10.0, 20.0]))
        >>> alone.weight_hh_l0.tolist(), alone.bias_hh_l0.tolist()  # the other's mean, times the weight
        ([[0.5, 0.0], [0.0, 0.75]], [2.5, 2.5])
    """
    check_units(layer, type(layer).__name__)
    alone = layer_alone(layer, number)
    size = alone.hidden_size
    whole = alone.state_dict()["weight_hh_l0"].reshape(-1, size, size)  # (gate, unit, unit)
    own = torch.diag_embed(whole.diagonal(dim1=1, dim2=2))
    others = ((whole - own) @ mean.double()).flatten()
    state = alone.state_dict()
    bias = state.get("bias_hh_l0", torch.zeros_like(others))
    state |= {"weight_hh_l0": own.flatten(0, 1), "bias_hh_l0": bias + others}
    state.setdefault("bias_ih_l0", torch.zeros_like(others))
    return _one_layer(layer, alone.input_size, state)


@torch.no_grad()
def run_alone(layer: RecurrentLayer, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (B, L, H) of a layer as of `decouple` for inputs (B, L, F) from flat state (B, S), and its last state."""
    output, hidden = layer(inputs, unflatten_state(layer, state))
    return output, flatten_state(hidden)


def _one_layer(like: RecurrentLayer, inputs: int, state: dict[str, Tensor]) -> RecurrentLayer:
    """A layer of the kind of another, with these weights, and biases where there are some."""
    size, bias = (inputs, like.hidden_size), "bias_hh_l0" in state
    made: RecurrentLayer
    if isinstance(like, nn.RNN):
        made = nn.RNN(*size, nonlinearity=like.nonlinearity, bias=bias, batch_first=True)
    else:
        made = (nn.LSTM if isinstance(like, nn.LSTM) else nn.GRU)(*size, bias=bias, batch_first=True)
    made.double().load_state_dict(state)
    return made.requires_grad_(False).eval()

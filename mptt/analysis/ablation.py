"""Units of a recurrent layer held at a constant, so that what they know is lost and all else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.analysis.decoupled import check_units, layer_alone
from mptt.closedloop import cell
from mptt.recurrent import Hidden, RecurrentLayer, flatten_state, unflatten_state

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@contextmanager
def holding(layer: RecurrentLayer, held: Tensor, values: Tensor) -> Iterator[None]:
    """Hold units of a layer at constant values, before the first step and after each, others in each row of the batch.

    What reads a unit (the units of its layer, the layer above, the head) reads the constant. Of an LSTM the output h of
    a cell is held, and its c goes on unread.

    Args:
        layer: one direction, any number of layers; called with batches of as many rows as `held` has.
        held: (B, N H) bool, by layer and unit.
        values: (N H,) to hold them at.

    Raises:
        MPTTError: a layer whose units cannot be told apart.
    """
    check_units(layer, type(layer).__name__)
    size = layer.hidden_size
    like = next(layer.parameters())
    steps = [cell(layer_alone(layer, number).to(like)) for number in range(layer.num_layers)]
    masks, constants = held.to(like.device).split(size, dim=1), values.to(like).split(size)

    def hold(number: int, state: Tensor) -> Tensor:
        fixed = torch.where(masks[number], constants[number], state[:, :size])
        return fixed if state.shape[1] == size else torch.cat([fixed, state[:, size:]], dim=1)

    def forward(inputs: Tensor, hx: Hidden | None = None) -> tuple[Tensor, Hidden]:
        rows = inputs if layer.batch_first else inputs.transpose(0, 1)
        whole = rows.new_zeros(len(rows), layer.num_layers * size * (1 + (layer.mode == "LSTM")))
        states = _by_layer(layer, whole if hx is None else flatten_state(hx))
        states = [hold(number, state) for number, state in enumerate(states)]
        outputs = []
        for x in rows.unbind(1):
            for number, step in enumerate(steps):
                _, state = step(x, states[number])
                states[number] = hold(number, state)
                x = states[number][:, :size]
            outputs.append(x)
        output = torch.stack(outputs, dim=1 if layer.batch_first else 0)
        return output, unflatten_state(layer, _whole(states, size))

    own = layer.__dict__.get("forward")
    layer.forward = forward  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own  # type: ignore[method-assign]


def ablations(order: Ints, counts: Ints) -> Bools:
    """(A, U) which units are held, of the first so many in an order.

    Example:
        >>> ablations(np.array([2, 0, 1]), np.array([0, 1, 3])).tolist()
        [[False, False, False], [False, False, True], [True, True, True]]
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[None, :] < counts[:, None]


def slowest_first(settling: npt.ArrayLike, change: npt.ArrayLike) -> Ints:
    """Units by settling time, the longest first; of equal ones, those that move furthest.

    Example:
        >>> slowest_first([3, np.inf, 9, 3], [-5, np.nan, 1, 2]).tolist()
        [1, 2, 0, 3]
    """
    return np.lexsort((-np.abs(np.nan_to_num(np.asarray(change, float))), -np.asarray(settling, float)))


def _by_layer(layer: RecurrentLayer, state: Tensor) -> list[Tensor]:
    """Flat states (B, S) of a layer as those (B, H), or (B, 2 H) of an LSTM, of each of its layers."""
    hidden: Any = unflatten_state(layer, state)
    parts = hidden if isinstance(hidden, tuple) else (hidden,)
    return [torch.cat([part[number] for part in parts], dim=1) for number in range(layer.num_layers)]


def _whole(states: list[Tensor], size: int) -> Tensor:
    parts = range(states[0].shape[1] // size)
    return torch.cat([state[:, part * size : (part + 1) * size] for part in parts for state in states], dim=1)

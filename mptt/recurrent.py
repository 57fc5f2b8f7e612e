"""One recurrent layer: its state as a flat vector, set at the start of a pass and caught on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

RecurrentLayer = nn.RNN | nn.GRU | nn.LSTM
Hidden = Tensor | tuple[Tensor, Tensor]


def recurrent_layers(module: nn.Module) -> dict[str, RecurrentLayer]:
    """The nn.RNN, nn.GRU and nn.LSTM layers in a module, by dotted name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, RecurrentLayer)}


def state_size(layer: RecurrentLayer) -> int:
    """Numbers in a layer's flat state: all layers' h and, for an LSTM, all layers' c.

    Example:
        >>> state_size(nn.GRU(7, 32, num_layers=2)), state_size(nn.LSTM(7, 32, proj_size=8))
        (64, 40)
    """
    return sum(layer.num_layers * width for width in _widths(layer))


def state_units(layer: RecurrentLayer) -> list[tuple[int, str]]:
    """Of each number in a layer's flat state, the number of its layer, and "h" or "c".

    Example:
        >>> state_units(nn.LSTM(7, 1, num_layers=2))
        [(0, 'h'), (1, 'h'), (0, 'c'), (1, 'c')]
    """
    parts = zip("hc", _widths(layer), strict=False)
    return [(number, part) for part, width in parts for number in range(layer.num_layers) for _ in range(width)]


def unflatten_state(layer: RecurrentLayer, state: Tensor) -> Hidden:
    """The flat states (B, S) of a batch as the layer's `hx`: (layers, B, H), a pair of them for an LSTM."""
    widths = _widths(layer)
    parts = state.split([layer.num_layers * width for width in widths], dim=1)
    hidden = [
        part.reshape(len(state), layer.num_layers, width).transpose(0, 1).contiguous()
        for part, width in zip(parts, widths, strict=True)
    ]
    return (hidden[0], hidden[1]) if isinstance(layer, nn.LSTM) else hidden[0]


def flatten_state(hidden: Hidden) -> Tensor:
    """The inverse of `unflatten_state`: flat states (B, S) of a batch."""
    parts = hidden if isinstance(hidden, tuple) else (hidden,)
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)


def run(
    layer: RecurrentLayer,
    inputs: Tensor,
    initial: Tensor,
    row: Tensor,
    position: Tensor,
    forward: Callable[..., Any] | None = None,
) -> tuple[Tensor, Hidden, Tensor]:
    """Run a layer from given initial states and catch its states at chosen steps.

    A one-layer RNN or GRU puts its whole state out at every step. The others are run in segments, cut after each
    position asked for; output, gradients and states are those of one call.

    Args:
        layer: one direction, any number of layers, `batch_first` either way, with or without `proj_size`.
        inputs: (B, L, F), or (L, B, F) without `batch_first`.
        initial: (B, S) flat initial states; cast to the dtype of the inputs, as the layer's own zeros would be.
        row: (K,) rows of the batch to catch a state of, int64 on the CPU.
        position: (K,) after which step of the row, 0 .. L-1, int64 on the CPU.
        forward: what to call in place of the layer's own forward, with (inputs, hx).

    Returns:
        The layer's output, its final hidden state, and the caught states (K, S), detached.
    """
    forward = forward or cast(Callable[..., Any], layer.forward)
    hidden = unflatten_state(layer, initial.to(inputs.device, inputs.dtype))
    time = 1 if layer.batch_first else 0
    row_here, position_here = row.to(inputs.device, non_blocking=True), position.to(inputs.device, non_blocking=True)
    if layer.num_layers == 1 and not isinstance(layer, nn.LSTM):
        output, final = forward(inputs, hidden)
        at = (row_here, position_here) if layer.batch_first else (position_here, row_here)
        return output, final, output.detach()[at]

    outputs = []
    caught = initial.new_empty(len(row), initial.shape[1], device=inputs.device, dtype=inputs.dtype)
    begin = 0
    for end in sorted({*(position + 1).tolist(), inputs.shape[time]}):
        output, hidden = forward(inputs.narrow(time, begin, end - begin), hidden)
        outputs.append(output)
        states = flatten_state(hidden).detach()
        here = torch.nonzero(position == end - 1).squeeze(1)
        if len(here):
            here = here.to(inputs.device, non_blocking=True)
            caught[here] = states[row_here[here]].to(caught.dtype)
        begin = end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=time), hidden, caught


@torch.no_grad()
def chain(
    layer: RecurrentLayer,
    inputs: Tensor,
    initial: Tensor,
    follows: Tensor,
    forward: Callable[..., Any] | None = None,
) -> Tensor:
    """The initial states of rows that follow one another: that in which the row before ends, where a row follows it.

    The rows that follow one another are laid end to end and run as one sequence, without gradient.

    Args:
        layer: as of `run`.
        inputs: (B, L, F), or (L, B, F) without `batch_first`.
        initial: (B, S) states of the rows that follow none; the others' are not read.
        follows: (B,) whether a row follows the one before it, bool on the CPU; not so the first.
        forward: as of `run`.

    Returns:
        The initial states (B, S).
    """
    rows = inputs if layer.batch_first else inputs.transpose(0, 1)
    size, steps = rows.shape[:2]
    first = torch.nonzero(~follows).squeeze(1)  # (R,) rows that begin a sequence
    sequence = (~follows).cumsum(0) - 1  # (B,) which sequence a row is in
    nth = torch.arange(size) - first[sequence]  # (B,) and where
    # Sequences side by side; what is beyond the end of one is run and not used.
    at = (first[:, None] + torch.arange(int(nth.max()) + 1)).clamp(max=size - 1).to(rows.device)
    laid = rows[at].flatten(1, 2)  # (R, n L, F)
    target = torch.nonzero(follows).squeeze(1)
    _, _, ends = run(
        layer,
        laid if layer.batch_first else laid.transpose(0, 1),
        initial[first.to(initial.device)],
        sequence[target],
        nth[target] * steps - 1,
        forward,
    )
    return initial.to(ends.device, ends.dtype).index_copy(0, target.to(ends.device), ends)


def _widths(layer: RecurrentLayer) -> list[int]:
    if isinstance(layer, nn.LSTM):
        return [layer.proj_size or layer.hidden_size, layer.hidden_size]
    return [layer.hidden_size]

"""One recurrent layer: its state as a flat vector, set at the start of a pass and caught on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mptt.errors import MPTTError

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


class Tap:
    """Gives a layer its initial states and catches its states, while it is attached; the layer stays what it is.

    Attached, it stands in for the layer's `forward` on that one object; detached, nothing of it remains, and a copy
    of the layer has none of it at any time. What it caught is that of the last call with gradient, so that a look ahead
    or the first pass of activation checkpointing does not count; of the last call where none had one.

    Args:
        layer: the recurrent layer.
        name: of the layer in its module, for messages.

    Raises:
        MPTTError: the layer is bidirectional.

    Example:
        >>> gru = nn.GRU(2, 3, batch_first=True)
        >>> tap = Tap(gru, "gru")
        >>> tap.attach(torch.ones(1, 3), row=torch.tensor([0]), position=torch.tensor([4]))
        >>> output, final = gru(torch.randn(1, 5, 2))
        >>> tap.detach().equal(output[:, 4].detach())
        True
    """

    def __init__(self, layer: RecurrentLayer, name: str) -> None:
        if layer.bidirectional:
            raise MPTTError(
                f"{name} is bidirectional: its state runs backwards too, and no state comes from the future."
                " Use a layer of one direction, or name another with rnn=."
            )
        self.layer = layer
        self.name = name
        self.state_size = state_size(layer)
        self._caught: Tensor | None = None
        self._gradient = False  # whether what was caught is of a call with gradient
        self._original: Any = None
        self._attached = False

    def attach(
        self,
        initial: Tensor | None,
        row: Tensor,
        position: Tensor,
        steps: Iterable[int] | None = None,
        follows: Tensor | None = None,
    ) -> None:
        """Stand in for the layer's forward until `detach`.

        Args:
            initial: (B, S) initial states; None for zeros.
            row: (K,) rows to catch a state of.
            position: (K,) after which step.
            steps: numbers of steps that the layer may be called with, where they matter.
            follows: (B,) whether a row starts from the state in which the one before it ends, as of `chain`.
        """
        if self._attached:
            raise MPTTError(f"{self.name} has a tap attached already; detach it first.")
        # A forward set on this very object by somebody else is kept, and put back.
        self._original = self.layer.__dict__.get("forward")
        self._forward = self.layer.forward
        self._request = (initial, row, position, set(steps) if steps is not None else None, follows)
        self._caught, self._gradient = None, False
        self._attached = True
        self.layer.forward = _StandIn(self)  # type: ignore[method-assign]

    def detach(self) -> Tensor | None:
        """Put the layer's own forward back; the caught states (K, S), None where the layer was not called."""
        if self._attached:
            if self._original is None:
                del self.layer.forward
            else:
                self.layer.forward = self._original  # type: ignore[method-assign]
        caught, self._caught, self._attached = self._caught, None, False
        return caught

    def _stand_in(self, inputs: Any, hx: Any) -> Any:
        initial, row, position, steps, follows = self._request
        self._check(inputs, hx, steps, len(initial) if initial is not None else None)
        if initial is None:
            initial = inputs.new_zeros(inputs.shape[0 if self.layer.batch_first else 1], self.state_size)
        if follows is not None and follows.any():
            initial = chain(self.layer, inputs, initial, follows, self._forward)
        output, final, caught = run(self.layer, inputs, initial, row, position, self._forward)
        if torch.is_grad_enabled() or not self._gradient:
            # Clone: under CUDA graphs the next call would write over it.
            self._caught, self._gradient = caught.clone(), torch.is_grad_enabled()
        return output, final

    def _check(self, inputs: Any, hx: Any, steps: set[int] | None, batch: int | None) -> None:
        if isinstance(inputs, PackedSequence):
            raise MPTTError(
                f"{self.name} was called with a PackedSequence, in which the steps of a window cannot be found."
                " Feed padded tensors and mask the loss, or use explicit mode (state_size=)."
            )
        if hx is not None:
            raise MPTTError(
                f"The module passes its own initial state to {self.name}. Leave it out, so that the callback can set"
                ' it, or use explicit mode (state_size=), where the module reads batch["h0"].'
            )
        if inputs.ndim != 3:
            raise MPTTError(
                f"{self.name} was called with input of shape {tuple(inputs.shape)}; it must be batched, 3-d."
            )
        found_batch, found_steps = inputs.shape[:2] if self.layer.batch_first else (inputs.shape[1], inputs.shape[0])
        if batch is not None and found_batch != batch:
            raise MPTTError(
                f"{self.name} was called with a batch of {found_batch} rows, but the mini-batch has {batch} windows"
                f" (batch_first={self.layer.batch_first})."
            )
        if steps is not None and found_steps not in steps:
            raise MPTTError(
                f"{self.name} was called with {found_steps} steps, but the windows of this batch have"
                f" {', '.join(str(count) for count in sorted(steps))}: its steps cannot be told apart."
                " If the module feeds it step by step, use explicit mode (state_size=)."
            )


class _StandIn:
    """The `forward` of a layer with a tap; a copy of the layer, deep or pickled, gets the plain one in its place."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    # Names as torch's, so that a call by keyword still works.
    def __call__(self, input: Any, hx: Any = None) -> Any:
        return self._tap._stand_in(input, hx)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self._tap._forward,)


def _same(forward: Callable[..., Any]) -> Callable[..., Any]:
    return forward


def _widths(layer: RecurrentLayer) -> list[int]:
    if isinstance(layer, nn.LSTM):
        return [layer.proj_size or layer.hidden_size, layer.hidden_size]
    return [layer.hidden_size]

"""A tap on a recurrent layer: sets its initial states and catches its states, and the module knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from mptt.errors import MPTTError
from mptt.inference import Series, infer
from mptt.recurrent import Hidden, RecurrentLayer, chain, run, state_size
from mptt.windows import Int64Array


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
        >>> gru = torch.nn.GRU(2, 3, batch_first=True)
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
        self._lost: Tensor | None = None
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
        series: Series | None = None,
    ) -> None:
        """Stand in for the layer's forward until `detach`.

        Args:
            initial: (B, S) initial states; None for zeros.
            row: (K,) rows to catch a state of.
            position: (K,) after which step.
            steps: numbers of steps that the layer may be called with, where they matter.
            follows: (B,) whether a row starts from the state in which the one before it ends, as of `chain`.
            series: in evaluation, of which series the rows are: they are run in parallel where that is faster.
        """
        if self._attached:
            raise MPTTError(f"{self.name} has a tap attached already; detach it first.")
        # A forward set on this very object by somebody else is kept, and put back.
        self._original = self.layer.__dict__.get("forward")
        self._forward = self.layer.forward
        self._request = (initial, row, position, set(steps) if steps is not None else None, follows, series)
        self._caught, self._lost, self._gradient = None, None, False
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

    @property
    def lost(self) -> Tensor | None:
        """Of the last call over series, without gradient: as of `first_lost`; None where there was none."""
        return self._lost

    def _stand_in(self, inputs: Any, hx: Any) -> Any:
        initial, row, position, steps, follows, series = self._request
        self._check(inputs, hx, steps, len(initial) if initial is not None else None)
        if initial is None:
            initial = inputs.new_zeros(inputs.shape[0 if self.layer.batch_first else 1], self.state_size)
        if follows is not None and follows.any():
            initial = chain(self.layer, inputs, initial, follows, self._forward)
        if series is not None and not torch.is_grad_enabled():
            output, final, caught = self._infer(inputs, initial, row, position, series)
        else:
            if series is not None:
                initial = self._settled(inputs, initial, series)
            output, final, caught = run(self.layer, inputs, initial, row, position, self._forward)
        if torch.is_grad_enabled() or not self._gradient:
            # Clone: under CUDA graphs the next call would write over it.
            self._caught, self._gradient = caught.clone(), torch.is_grad_enabled()
        if series is not None and not torch.is_grad_enabled():
            # Now: the module may write over what it gets.
            self._lost = first_lost(output if self.layer.batch_first else output.transpose(0, 1), series.length)
        return output, final

    def _infer(
        self, inputs: Tensor, initial: Tensor, row: Tensor, position: Tensor, series: Series
    ) -> tuple[Tensor, Hidden, Tensor]:
        guess = series.guesses.get(self.name)
        settings = series.length, series.follows, row, position, series.parallel, guess
        # A forward set on this very object by somebody else is called; else the layer's own, whichever way is fastest.
        forward = None if self._original is None else self._forward
        with self._own_forward():
            inferred = infer(self.layer, inputs, initial, *settings, forward)
        series.done[self.name] = inferred.done
        if inferred.guess is not None:
            series.guesses[self.name] = inferred.guess
        return inferred.output, inferred.hidden, inferred.caught

    @contextmanager
    def _own_forward(self) -> Iterator[None]:
        """Stand aside for a while, or a call of the layer's own forward would come back here."""
        stand_in = self.layer.__dict__.pop("forward")
        try:
            yield
        finally:
            self.layer.forward = stand_in  # type: ignore[method-assign]

    def _settled(self, inputs: Tensor, initial: Tensor, series: Series) -> Tensor:
        """The initial states of the rows, those of rows that follow another among them; for a pass with gradient."""
        target = np.flatnonzero(series.follows >= 0)
        if not len(target):
            return initial
        before = series.follows[target]
        ends = torch.from_numpy(before), torch.from_numpy(series.length[before] - 1)
        with torch.no_grad():
            _, _, states = self._infer(inputs, initial, *ends, series)
        return initial.to(states).index_copy(0, torch.from_numpy(target).to(states.device), states)

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


def first_lost(states: Tensor, length: Int64Array) -> Tensor:
    """The first step after which each row is not finite, without waiting for the device.

    Args:
        states: (B, L, S).
        length: (B,) steps of each row; the rest is padding.

    Returns:
        (B,) int64; a row's length where it is finite to the end.

    Example:
        >>> first_lost(torch.tensor([[[1.0], [torch.nan], [2.0]], [[1.0], [2.0], [torch.inf]]]), np.array([3, 2]))
        tensor([1, 2])
    """
    # A sum in place of all numbers: one pass over what may be large, and none of its size is written.
    lost = ~states.detach().sum(-1, dtype=torch.promote_types(states.dtype, torch.float32)).isfinite()
    steps = torch.from_numpy(length).to(states.device, non_blocking=True)
    lost &= torch.arange(lost.shape[1], device=states.device) < steps.unsqueeze(1)
    return torch.where(lost.any(1), lost.to(torch.uint8).argmax(1), steps)


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

"""Rows of a batch cut into chunks that a recurrent layer runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mptt.recurrent import RecurrentLayer, run, state_size
from mptt.windows import Int64Array


class Chunks:
    """The rows of a batch cut into chunks of one length, and what comes out of them.

    Args:
        layer: as of `mptt.recurrent.run`.
        rows: (B, L, F) inputs.
        length: (B,) steps of each row.
        follows: (B,) the row that each goes on from, -1 for none.
        chunk: steps in a chunk, l.
        row: (K,) rows to catch a state of.
        position: (K,) after which step.
        forward: as of `mptt.recurrent.run`.

    Attributes:
        row: (C,) of each chunk.
        follows: (C,) the chunk that each goes on from, -1 for none.
        caught: (K, S), once all chunks were run.
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        rows: Tensor,
        length: Int64Array,
        follows: Int64Array,
        chunk: int,
        row: Tensor,
        position: Tensor,
        forward: Callable[..., Any] | None,
    ) -> None:
        self._layer, self._forward, self._shape = layer, forward, rows.shape[:2]
        count = -(-length // chunk)
        first = count.cumsum() - count  # (B,) chunk of each row
        self._last = torch.from_numpy(count.cumsum() - 1)
        each = np.repeat(np.arange(len(length)), count)
        nth = np.arange(len(each)) - first[each]
        self._end = torch.from_numpy(np.minimum(length[each] - nth * chunk, chunk) - 1)
        before = np.where(follows >= 0, self._last.numpy()[follows], -1)
        self.row = torch.from_numpy(each)
        self.follows = np.where(nth > 0, np.arange(len(each)) - 1, before[each])
        self._step = torch.from_numpy(nth[:, None] * chunk + np.arange(chunk))  # (C, l)
        self._steps_alike = int(count[0]) * chunk if (count == count[0]).all() else None
        if self._steps_alike is not None:
            self._inputs = _to_length(rows, self._steps_alike).reshape(len(each), chunk, rows.shape[2])
        else:
            at = self._step.clamp(max=rows.shape[1] - 1).to(rows.device)
            self._inputs = rows[self.row.to(rows.device)[:, None], at]  # (C, l, F)
        self._of = torch.from_numpy(first[row.numpy()] + position.numpy() // chunk)  # (K,) chunk of each catch
        self._at = position % chunk
        self._output: Tensor | None = None
        self._ends = torch.empty(0)
        self.caught = rows.new_empty(len(row), state_size(layer))

    def run(self, turn: Tensor, initial: Tensor) -> Tensor:
        """Run the chunks of these numbers (K,) from states (K, S) to end states (K, S), and keep what they put out."""
        number = torch.full((len(self.row),), -1)
        number[turn] = torch.arange(len(turn))
        asked = torch.nonzero(number[self._of] >= 0).squeeze(1)
        at = turn.to(self._inputs.device)
        inputs = self._inputs if len(turn) == len(self.row) else self._inputs[at]
        output, _, caught = run(
            self._layer,
            inputs if self._layer.batch_first else inputs.transpose(0, 1),
            initial,
            torch.cat([torch.arange(len(turn)), number[self._of[asked]]]),
            torch.cat([self._end[turn], self._at[asked]]),
            self._forward,
        )
        output = output if self._layer.batch_first else output.transpose(0, 1)
        ends, states = caught[: len(turn)], caught[len(turn) :]
        if self._output is None:
            self._output = output.new_zeros(len(self.row), *output.shape[1:])
            self._ends = ends.new_zeros(len(self.row), ends.shape[1])
            self.caught = self.caught.to(states)
        self._output[at], self._ends[at] = output, ends
        self.caught[asked.to(states.device)] = states
        return ends

    def laid_out(self) -> tuple[Tensor, Tensor]:
        """The output (B, L, H) of the rows, and the states (B, S) in which they end."""
        assert self._output is not None
        batch, steps = self._shape
        device, units = self._output.device, self._output.shape[2]
        ends = self._ends[self._last.to(device)]
        if self._steps_alike is not None:
            return _to_length(self._output.reshape(batch, self._steps_alike, units), steps), ends
        chunk, nth = torch.nonzero(self._step < steps, as_tuple=True)
        at = self.row[chunk].to(device), self._step[chunk, nth].to(device)
        laid = self._output.new_zeros(batch, steps, units)
        laid[at] = self._output[chunk.to(device), nth.to(device)]
        return laid, ends


def _to_length(rows: Tensor, steps: int) -> Tensor:
    """Rows (B, L, F) cut or padded to so many steps."""
    return nn.functional.pad(rows, (0, 0, 0, steps - rows.shape[1]))

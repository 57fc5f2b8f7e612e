"""How far messages are from the states that they stand for, and why."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class TrueMessages:
    """What messages would say if every writer had passed the true state, under the weights that it ran with.

    The true state `s_v(theta)` of window v is what a pass over its series, in order and from zero state, leaves at its
    start under weights theta. Of an epoch the mean of the true states at its beginning and at its end stands for those
    of its writes. They are folded by the rule of the state-map: where a window was written to c times,
    `kept <- (delta kept + c middle) / (delta + c)`.

    Args:
        states: (V, S) true states now.
        known: (V,) windows that have a message already, of which is not known how it came: taken for true.
        delta: see `StateMap`.

    Attributes:
        kept: (V, S) what the messages would say.
        states: (V, S) true states when they were last measured.
        middle: (V, S) of the last epoch.

    Example:
        >>> true = TrueMessages(torch.tensor([[1.0]]), torch.tensor([False]), delta=1.0)
        >>> true.follow(torch.tensor([[2.0]]), [torch.tensor([2])], [False])
        >>> true.middle.item(), true.kept.item()  # (1*0 + 2*1.5) / (1 + 2)
        (1.5, 1.0)
    """

    def __init__(self, states: Tensor, known: Tensor, delta: float) -> None:
        self.states = self.middle = states
        self.kept = torch.where(known.unsqueeze(1), states, 0.0)
        self.delta = delta

    def follow(self, states: Tensor, counts: Sequence[Tensor], linked: Sequence[bool]) -> None:
        """Take in the epochs since the last measurement; between two of them true states are taken to move evenly.

        Args:
            states: (V, S) true states now.
            counts: for each epoch, (V,) writes to each window.
            linked: for each epoch, whether the messages were set to true states just before it.
        """
        step = (states - self.states) / max(len(counts), 1)
        for nth, (count, link) in enumerate(zip(counts, linked, strict=True)):
            begin = self.states + nth * step
            if link:
                self.kept = begin
            self.middle = begin + step / 2
            weight = (self.delta + count).clamp(min=torch.finfo(states.dtype).tiny).unsqueeze(1)
            folded = (self.delta * self.kept + count.unsqueeze(1) * self.middle) / weight
            self.kept = torch.where(count.unsqueeze(1) > 0, folded, self.kept)
        self.states = states


def staleness(messages: Tensor, true: TrueMessages) -> dict[str, Tensor]:
    """The distance between messages and true states, and the three parts that it is the sum of.

    For each window, `m - s = (m - kept) + (kept - middle) + (middle - s)`. Of each a root mean square over windows is
    taken, divided by that of the distance between the true states of two different windows: 1 is no better than the
    state of any other window. The parts are vectors, so their sizes need not add up.

    Args:
        messages: (V, S) m.
        true: of the same windows, with the true states s as `true.states`.

    Returns:
        `staleness`, of m - s; `staleness_written`, of m - kept: what the writers got wrong, as they began in stale
        messages themselves; `staleness_age`, of kept - middle: what older epochs' writes are off, which delta keeps or
        windows that nobody wrote to; `staleness_drift`, of middle - s: what the weights moved since the last epoch's
        writes; and `staleness_zero`, of -s: that of starting from zeros.

    Example:
        >>> true = TrueMessages(torch.tensor([[1.0], [3.0]]), torch.tensor([True, True]), delta=0.0)
        >>> staleness(torch.tensor([[1.0], [2.0]]), true)["staleness"]  # sqrt((0 + 1) / 2), of a distance of 2
        tensor(0.3536)
    """
    states = true.states
    # Over all pairs the mean squared distance is twice the variance.
    spread = (2 * (states - states.mean(0)).square().sum() / (len(states) - 1)).sqrt()
    parts = {
        "staleness": messages - states,
        "staleness_written": messages - true.kept,
        "staleness_age": true.kept - true.middle,
        "staleness_drift": true.middle - states,
        "staleness_zero": -states,
    }
    return {name: part.square().sum(1).mean().sqrt() / spread for name, part in parts.items()}

"""Series fed in order: one state each, carried from chunk to chunk, and the linkage of a memory by such a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.keymap import KeyMap, Links
from mptt.windows import Int64Array

Advance = Callable[[Tensor, Links], tuple[Tensor, Tensor]]


class Memory(Protocol):
    """What linkage asks of a memory; a StateMap, or several side by side."""

    state_size: int

    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) of rows (K,)."""


class CarriedState:
    """The state at the end of what each lane has been fed so far.

    A lane is whatever is fed in order: a site in evaluation, a row of the batch in stateful training. A lane that was
    not fed yet starts from zeros; from then on each stretch must begin where the last ended.

    Args:
        state_size: numbers in a state, S.

    Example:
        >>> carried = CarriedState(state_size=1)
        >>> carried.read(lane=[0], site=[7], start=[0])
        tensor([[0.]])
        >>> carried.keep(lane=[0], site=[7], stop=[10], states=torch.tensor([[0.5]]))
        >>> carried.read(lane=[0], site=[7], start=[10])
        tensor([[0.5000]])
    """

    def __init__(self, state_size: int) -> None:
        self.state_size = state_size
        self.reset()

    def reset(self) -> None:
        """Forget every lane."""
        self._lane = np.empty(0, dtype=np.int64)  # ascending
        self._site = np.empty(0, dtype=np.int64)
        self._stop = np.empty(0, dtype=np.int64)
        self._states = torch.empty(0, self.state_size)

    def continues(self, lane: Int64Array, site: Int64Array, start: Int64Array) -> np.ndarray:
        """(B,) whether each lane's next stretch begins where its last ended."""
        slot, known = self._find(lane)
        known[known] = (self._site[slot[known]] == site[known]) & (self._stop[slot[known]] == start[known])
        return known

    def fed(self, lane: Int64Array) -> np.ndarray:
        """(B,) whether each lane has been fed before."""
        return self._find(lane)[1]

    def stop(self, lane: Int64Array) -> Int64Array:
        """(B,) the step at which each lane's next stretch must begin; of lanes that have been fed."""
        return self._stop[self._find(lane)[0]]

    def read(self, lane: Int64Array, site: Int64Array, start: Int64Array, fresh: Tensor | None = None) -> Tensor:
        """The states (B, S) to go on from: those kept where a lane continues, elsewhere `fresh` (S,) or (B, S).

        Without `fresh`, zeros.
        """
        lane, site, start = (np.asarray(values) for values in (lane, site, start))
        if fresh is None:
            fresh = self._states.new_zeros(self.state_size)
        going_on = self.continues(lane, site, start)
        if not going_on.any():
            return fresh.detach().expand(len(lane), self.state_size).clone()
        slot, _ = self._find(lane)
        states = self._states[torch.from_numpy(slot).to(self._states.device)]
        # Not a product with 0: that of another lane's NaN would be NaN.
        return torch.where(torch.from_numpy(going_on).to(states.device).unsqueeze(1), states, fresh.detach().to(states))

    def keep(self, lane: Int64Array, site: Int64Array, stop: Int64Array, states: Tensor) -> None:
        """Keep the states (B, S) after step `stop - 1` of each lane."""
        lane, site, stop = (np.asarray(values) for values in (lane, site, stop))
        # Integer indices: a mask would make a GPU count first, and the host wait for it.
        others = np.flatnonzero(~np.isin(self._lane, lane))
        order = np.argsort(np.concatenate([self._lane[others], lane]), kind="stable")
        kept = self._states.to(states.device, states.dtype)[torch.from_numpy(others).to(states.device)]
        self._states = torch.cat([kept, states.detach()])[torch.from_numpy(order).to(states.device)]
        self._lane = np.concatenate([self._lane[others], lane])[order]
        self._site = np.concatenate([self._site[others], site])[order]
        self._stop = np.concatenate([self._stop[others], stop])[order]

    def _find(self, lane: Int64Array) -> tuple[Int64Array, np.ndarray]:
        if not len(self._lane):
            return np.zeros(len(lane), dtype=np.int64), np.zeros(len(lane), dtype=bool)
        slot = np.minimum(np.searchsorted(self._lane, lane), len(self._lane) - 1)
        return slot, self._lane[slot] == lane


def check_in_order(carried: CarriedState, site: Int64Array, start: Int64Array) -> None:
    """Check that a batch feeds every series in order, one stretch of a site at a time.

    Raises:
        MPTTError: a site comes twice in the batch, or does not go on where it stopped.
    """
    sites, count = np.unique(site, return_counts=True)
    if (count > 1).any():
        raise MPTTError(
            f"Two rows of one batch are of site {sites[count > 1][0]}: the second would need the state that the first"
            " has yet to give. Feed each site one stretch a batch, in order (sites side by side), or evaluate"
            ' from zero state with evaluation="independent".'
        )
    broken = np.flatnonzero(carried.fed(site) & ~carried.continues(site, site, start))
    if len(broken):
        first = broken[:1]
        raise MPTTError(
            f"Sequential stateful evaluation needs each series in order: site {site[first][0]} comes with step"
            f" {start[first][0]}, but its last stretch ended before step {carried.stop(site[first])[0]}. Feed stretches"
            ' that follow one another without overlap, or evaluate from zero state with evaluation="independent".'
        )


def reconstruct_linkage(
    memory: Memory, keymap: KeyMap, chunks: Iterable[tuple[Int64Array, Int64Array, Int64Array | int]], advance: Advance
) -> int:
    """Set every message to the state that one pass over the series gives: the linkage reconstruction of Enhanced MPTT.

    Each series is fed in order from zero state. A window v gets the state after step `a_v - 1` (section 3.4 of arXiv
    2309.16882); windows at the first step of a series keep what they have, zeros.

    Args:
        memory: the messages to set; a StateMap, or what holds several.
        keymap: of the same windows.
        chunks: (site (B,), first step (B,), number of steps) of each piece of the series, in order.
        advance: runs the model over the next chunk, in eval mode without gradient: from the initial states (B, S) and
            the (row, target, position) of the states to catch, to those states (K, S) and the final states (B, S).

    Returns:
        Number of messages set.
    """
    carried = CarriedState(memory.state_size)
    linked = 0
    for site, start, steps in chunks:
        check_in_order(carried, site, start)
        links = keymap.reach(site, start, steps)
        states, final = advance(carried.read(site, site, start), links)
        memory.link(links[1], states)
        carried.keep(site, site, start + steps, final)
        linked += len(links[1])
    return linked

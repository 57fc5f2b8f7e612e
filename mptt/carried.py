"""States carried along series that are fed in order, stretch by stretch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.windows import Int64Array


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

    def kept(self) -> tuple[Int64Array, Int64Array, Tensor]:
        """The site (n,), stop (n,) and state (n, S) of every lane, in order of the lanes; not to be written to."""
        return self._site, self._stop, self._states

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

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors."""
        lanes = {"lane": self._lane, "site": self._site, "stop": self._stop}
        return {name: torch.from_numpy(values) for name, values in lanes.items()} | {"states": self._states}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what was saved.

        Raises:
            MPTTError: it is of another state size.
        """
        if state["states"].shape[1] != self.state_size:
            raise MPTTError(f"The saved states have {state['states'].shape[1]} numbers, but here {self.state_size}.")
        self._lane, self._site, self._stop = (state[name].cpu().numpy() for name in ("lane", "site", "stop"))
        self._states = state["states"]

    def _find(self, lane: Int64Array) -> tuple[Int64Array, np.ndarray]:
        if not len(self._lane):
            return np.zeros(len(lane), dtype=np.int64), np.zeros(len(lane), dtype=bool)
        slot = np.minimum(np.searchsorted(self._lane, lane), len(self._lane) - 1)
        return slot, self._lane[slot] == lane

    def keep_last(self, site: Int64Array, stop: Int64Array, states: Tensor) -> None:
        """Keep the state of each site, a lane of its own, after its last row; states (B, S) after `stop - 1`."""
        last = np.unique(site[::-1], return_index=True)[1]
        rows = np.sort(len(site) - 1 - last)
        if len(rows) < len(site):
            states = states[torch.from_numpy(rows).to(states.device)]
        self.keep(site[rows], site[rows], stop[rows], states)


def rows_before(site: Int64Array) -> Int64Array:
    """(B,) for each row of a batch, the last row before it of the same site; -1 where there is none.

    Example:
        >>> rows_before(np.array([7, 3, 7, 7])).tolist()
        [-1, -1, 0, 2]
    """
    order = np.argsort(site, kind="stable")
    again = np.flatnonzero(site[order[1:]] == site[order[:-1]]) + 1
    follows = np.full(len(site), -1)
    follows[order[again]] = order[again - 1]
    return follows


def check_in_order(carried: CarriedState, site: Int64Array, start: Int64Array, length: Int64Array) -> Int64Array:
    """Check that a batch feeds every series in order, stretch after stretch, in one batch or from batch to batch.

    Returns:
        (B,) the row of the batch that each row goes on from; -1 where it goes on from what is carried, or begins.

    Raises:
        MPTTError: a stretch does not begin where the one before it of its series stopped.
    """
    follows = rows_before(site)
    first = follows < 0
    broken = np.where(
        first, carried.fed(site) & ~carried.continues(site, site, start), start != (start + length)[follows]
    )
    if broken.any():
        row = int(broken.argmax())
        stop = carried.stop(site[row : row + 1])[0] if first[row] else (start + length)[follows[row]]
        raise MPTTError(
            f"Sequential stateful evaluation needs each series in order: site {site[row]} comes with step {start[row]},"
            f" but its last stretch ended before step {stop}. Feed stretches that follow one another without overlap,"
            ' or evaluate from zero state with evaluation="independent".'
        )
    return follows

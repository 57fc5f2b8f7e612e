"""The memory of one module: a state-map for each recurrent layer, side by side, and how fresh the messages are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.keymap import KeyMap
from mptt.statemap import StateMap
from mptt.windows import WindowIndex


class Memory:
    """State-maps of several layers as one, with states (B, S) side by side in the order of the layers.

    Args:
        windows: the table of training windows.
        sizes: numbers in the state of each layer, by name.
        delta: see `StateMap`.
        device: where the rows live.

    Attributes:
        longest: steps in the longest window.
        epoch: whose writes the maps hold, or will hold next. Kept with the messages, because a checkpoint of an epoch's
            last batch resumes with neither that epoch's end hook nor the next one's start hook.
        linked: the epoch before which the linkage was last reconstructed; None: never.
    """

    def __init__(self, windows: WindowIndex, sizes: dict[str, int], delta: float, device: torch.device) -> None:
        self.windows = windows
        self.keymap = KeyMap(windows)
        self.sizes = sizes
        self.state_size = sum(sizes.values())
        self.longest = int(windows.length.max())
        self.device = device
        self.maps = {name: StateMap(windows, size, delta, device, keymap=self.keymap) for name, size in sizes.items()}
        self.epoch = 0
        self.linked: int | None = None
        self._last_write = torch.full((len(windows),), -1, device=device)  # epoch; -1: no message yet
        self._distance = torch.zeros((), device=device)
        self._compared = torch.zeros((), device=device)

    @property
    def refused(self) -> int:
        """Batches not filed because a state was not finite."""
        return max(int(one.refused) for one in self.maps.values())

    def read_rows(self, rows: Tensor) -> Tensor:
        """Messages (K, S) of rows (K,)."""
        return torch.cat([one.read_rows(rows) for one in self.maps.values()], dim=1)

    @torch.no_grad()
    def write_rows(self, rows: Tensor, states: Tensor) -> None:
        """File states (K, S)."""
        if not len(rows):
            return
        device = self._last_write.device
        rows, states = rows.to(device, non_blocking=True), states.to(device, non_blocking=True)
        # One refusal for all layers, or their counts would part.
        finite = states.isfinite().all()
        states = torch.where(finite, states, 0.0)
        written = self._last_write.index_select(0, rows)
        distance = torch.linalg.vector_norm(self.read_rows(rows) - states, dim=1)
        compared = (written >= 0) & finite
        self._distance += distance @ compared.to(distance.dtype)
        self._compared += compared.sum()
        self._last_write.index_copy_(0, rows, torch.where(finite, self.epoch, written))
        for one, part in zip(self.maps.values(), self.split(states), strict=True):
            one.write_rows(rows, part, finite)

    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) outright."""
        for one, part in zip(self.maps.values(), self.split(states), strict=True):
            one.link(rows, part)
        self._last_write[rows.to(self._last_write.device)] = self.epoch

    def close_epochs_before(self, epoch: int) -> None:
        """Propagate, if the maps still hold the writes of an earlier epoch; else do nothing."""
        if self.epoch < epoch:
            for one in self.maps.values():
                one.propagate()
            self._distance.zero_()
            self._compared.zero_()
            self.epoch = epoch

    def report(self) -> dict[str, Tensor]:
        """Of the epoch so far: `share` of windows with a message, their mean `age` in epochs, the mean `distance`."""
        has = self._last_write >= 0
        age = torch.where(has, self.epoch - self._last_write, 0).sum() / has.sum().clamp(min=1)
        # Summed as norms; told as root mean squares over the units.
        distance = self._distance / self._compared.clamp(min=1) / self.state_size**0.5
        return {"share": has.float().mean(), "age": age, "distance": distance}

    def split(self, states: Tensor) -> tuple[Tensor, ...]:
        """States (K, S) by layer."""
        return states.split(list(self.sizes.values()), dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "maps": {name: one.state_dict() for name, one in self.maps.items()},
            "epoch": self.epoch,
            "linked": self.linked,
            "last_write": self._last_write,
            "distance": self._distance,
            "compared": self._compared,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved memory.

        Raises:
            MPTTError: it was made for other layers, windows or state sizes.
        """
        if set(state["maps"]) != set(self.maps):
            raise MPTTError(
                f"The saved memory is of the recurrent layers {', '.join(state['maps'])}, but here they are"
                f" {', '.join(self.maps)}. Resume with the module and rnn= of that run, or start without its memory."
            )
        for name, one in self.maps.items():
            one.load_state_dict(state["maps"][name])
        self.epoch, self.linked = state["epoch"], state["linked"]
        self._last_write.copy_(state["last_write"])
        self._distance.copy_(state["distance"])
        self._compared.copy_(state["compared"])

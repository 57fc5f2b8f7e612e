"""The memory of one module: a state-map for each recurrent layer, side by side, and how fresh the messages are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mptt.callbacks.refused import Refused
from mptt.errors import MPTTError
from mptt.freememory import GIB
from mptt.keymap import KeyMap
from mptt.offload import Offload
from mptt.statemap import StateMap, table_bytes
from mptt.storage import Storage
from mptt.windows import WindowIndex

Sum = Callable[[Tensor], Tensor]


def _as_it_is(total: Tensor) -> Tensor:
    return total


class Memory:
    """State-maps of several layers as one, with states (B, S) side by side in the order of the layers.

    With the rows on the host and the module on a GPU, what is written is filed before the rows are next looked at, by
    whatever way: see `Offload`.

    Args:
        windows: the table of training windows.
        sizes: numbers in the state of each layer, by name.
        delta: see `StateMap`.
        storage: where the rows live.
        dtype: of the rows.
        device: of the module.
        max_norm: Euclidean norm to which the state of a layer is scaled down before it is filed; None: it is not.

    Attributes:
        refused: states that were not filed because they were not finite.
        longest: steps in the longest window.
        epoch: whose writes the maps hold, or will hold next. Kept with the messages, because a checkpoint of an epoch's
            last batch resumes with neither that epoch's end hook nor the next one's start hook.
        trained: (windows,) bool, on the host: those whose states were filed in this epoch.
        linked: the epoch before which the linkage was last reconstructed; None: never.
        last_write: (N,) epoch in which a message was last written to; -1: there is none yet.
        distance, compared: () sum of the distances between messages and writes of this epoch, and their number.
        scaled: () states scaled down in this epoch.

    Raises:
        MPTTError: there is no room for the rows.
    """

    def __init__(
        self,
        windows: WindowIndex,
        sizes: dict[str, int],
        delta: float,
        storage: Storage,
        dtype: torch.dtype,
        device: torch.device,
        max_norm: float | None = None,
    ) -> None:
        self.max_norm = max_norm
        self.windows = windows
        self.sizes = sizes
        self.state_size = sum(sizes.values())
        self.longest = int(windows.length.max())
        self.storage, self.dtype, self.device = storage, dtype, device
        storage.check(table_bytes(len(windows), self.state_size, dtype), f"The MPTT memory of {len(windows):,} windows")
        self.keymap = KeyMap(windows)
        self._maps = {name: StateMap(windows, size, delta, storage, dtype, self.keymap) for name, size in sizes.items()}
        self._offload = Offload(device) if device.type == "cuda" and storage.device.type == "cpu" else None
        self.epoch = 0
        self.linked: int | None = None
        self.trained = torch.zeros(len(windows), dtype=torch.bool)
        self.last_write = torch.full((len(windows),), -1, device=storage.device)  # epoch; -1: no message yet
        self.distance = torch.zeros((), device=storage.device)
        self.compared = torch.zeros((), device=storage.device)
        self.scaled = torch.zeros((), device=storage.device)
        self._refused = Refused(len(windows), storage.device)

    def __str__(self) -> str:
        size = sum(one.nbytes for one in self._maps.values()) / GIB
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{len(self.windows):,} rows of {self.state_size} {dtype} {self.storage}, {size:.2f} GiB"

    @property
    def maps(self) -> dict[str, StateMap]:
        """The state-maps, by name of the layer; all that was written is filed."""
        self._settle()
        return self._maps

    @property
    def refused(self) -> Refused:
        """States that were not filed because they were not finite, by window; all that was written is looked at."""
        self._settle()
        return self._refused

    def read_rows(self, rows: Tensor) -> Tensor:
        """Messages (K, S) of rows (K,)."""
        messages = torch.cat([one.read_rows(rows) for one in self.maps.values()], dim=1)
        return messages if self._offload is None else self._offload.fetch(messages)

    def write_rows(self, rows: Tensor, states: Tensor, writers: Tensor | None = None, batch: int = 0) -> None:
        """File states, but for those that are not finite.

        Args:
            rows: (K,) windows written to.
            states: (K, S), not written to after this.
            writers: (K,) windows that passed the states; told apart where states are refused.
            batch: its number in the epoch.
        """
        if not len(rows):
            return
        if self._offload is None:
            self._file(rows, writers, batch, states)
        else:
            self._offload.send(states, partial(self._file, rows, writers, batch))

    @torch.no_grad()
    def _file(self, rows: Tensor, writers: Tensor | None, batch: int, states: Tensor) -> None:
        here = self.storage.device
        # To the host, a copy that is not waited for would be read too early.
        rows, states = (values.to(here, non_blocking=here.type != "cpu") for values in (rows, states))
        states = self._bounded(states)
        # One refusal for all layers, or their counts would part.
        finite = states.to(self.dtype).isfinite().all(1)
        self._refused.file(rows if writers is None else writers, finite, batch)
        written = self.last_write.index_select(0, rows)
        messages = torch.cat([one.read_rows(rows) for one in self._maps.values()], dim=1)
        distance = torch.linalg.vector_norm(messages.float() - states.float(), dim=1)
        self.distance += torch.where((written >= 0) & finite, distance, 0.0).sum()
        self.compared += ((written >= 0) & finite).sum()
        # The largest: of several writes to a row some may be refused.
        self.last_write.scatter_reduce_(0, rows, torch.where(finite, self.epoch, -1), "amax")
        for one, part in zip(self._maps.values(), self.split(states), strict=True):
            one.write_rows(rows, part, finite)

    def _settle(self) -> None:
        if self._offload is not None:
            self._offload.settle()

    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) outright; bounded as written ones are."""
        states = self._bounded(states)
        for one, part in zip(self.maps.values(), self.split(states), strict=True):
            one.link(rows, part)
        self.last_write[rows.to(self.last_write.device)] = self.epoch

    def close_epochs_before(self, epoch: int) -> None:
        """Propagate, if the maps still hold the writes of an earlier epoch; else do nothing."""
        if self.epoch < epoch:
            for one in self.maps.values():
                one.propagate()
            self.distance.zero_()
            self.compared.zero_()
            self.scaled.zero_()
            self._refused.close_epoch()
            self.trained.zero_()
            self.epoch = epoch

    def report(self, of_rows: Sum = _as_it_is, of_writes: Sum = _as_it_is) -> dict[str, Tensor]:
        """Of the epoch so far: `share` of windows with a message, their mean `age` in epochs, the mean `distance`.

        Also `writers`, the mean number of this epoch's writes to a message, and the number of states `refused` and,
        with `max_norm`, `scaled` down.

        Args:
            of_rows: makes a sum over the rows of this memory that over all memories, where each has some rows.
            of_writes: likewise, a sum over the writes, where each has some writes.
        """
        self._settle()
        has = self.last_write >= 0
        rows, known = of_rows(torch.full_like(has.sum(), len(has))), of_rows(has.sum())
        age = of_rows(torch.where(has, self.epoch - self.last_write, 0).sum()) / known.clamp(min=1)
        # Summed as norms; told as root mean squares over the units.
        distance = of_writes(self.distance) / of_writes(self.compared).clamp(min=1) / self.state_size**0.5
        found = {"share": known / rows, "age": age, "distance": distance}
        # Of all layers alike: what one refuses, all do.
        found["writers"] = of_rows(next(iter(self._maps.values())).count.sum()) / known.clamp(min=1)
        found["refused"] = of_writes(self._refused.count.sum()).float()
        return found if self.max_norm is None else {**found, "scaled": of_writes(self.scaled)}

    def _bounded(self, states: Tensor) -> Tensor:
        """States of which that of each layer has no larger norm than `max_norm`."""
        if self.max_norm is None:
            return states
        parts, over = [], torch.zeros(len(states), dtype=torch.bool, device=states.device)
        for part in self.split(states):
            part = part.to(torch.promote_types(part.dtype, torch.float32))
            # Of parts of the largest number: squares of large ones overflow.
            largest = part.abs().amax(1, keepdim=True).clamp(min=torch.finfo(part.dtype).tiny)
            norm = torch.linalg.vector_norm(part / largest, dim=1, keepdim=True)
            factor = self.max_norm / largest / norm
            parts.append(torch.where(factor < 1, part * factor, part))
            over |= (factor < 1).squeeze(1)
        self.scaled += over.sum().to(self.scaled)
        return torch.cat(parts, dim=1)

    def split(self, states: Tensor) -> tuple[Tensor, ...]:
        """States (K, S) by layer."""
        return states.split(list(self.sizes.values()), dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "maps": {name: one.state_dict() for name, one in self.maps.items()},
            "epoch": self.epoch,
            "linked": self.linked,
            "trained": self.trained,
            "last_write": self.last_write,
            "distance": self.distance,
            "compared": self.compared,
            "scaled": self.scaled,
            "refused": self.refused.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved memory.

        Raises:
            MPTTError: it was made for other layers, windows or state sizes.
        """
        if differs := self._other_layers(state):
            raise MPTTError(f"{differs}. Resume with the module and rnn= of that run, or start without its memory.")
        for name, one in self.maps.items():
            one.load_state_dict(state["maps"][name])
        self.epoch, self.linked = state["epoch"], state["linked"]
        self.trained.copy_(state.get("trained", torch.zeros(1, dtype=torch.bool)))
        self.last_write.copy_(state["last_write"])
        self.distance.copy_(state["distance"])
        self.compared.copy_(state["compared"])
        # A checkpoint of before they were counted has none.
        self.scaled.copy_(state.get("scaled", torch.zeros(())))
        self._refused.load_state_dict(state.get("refused"))

    def differences(self, state: dict[str, Any]) -> list[str]:
        """In what a saved memory is of other layers, windows or state sizes; empty: in nothing."""
        if differs := self._other_layers(state):
            return [differs]
        found = [text for name, one in self.maps.items() for text in one.differences(state["maps"][name])]
        return list(dict.fromkeys(found))

    def _other_layers(self, state: dict[str, Any]) -> str:
        if set(state["maps"]) == set(self.maps):
            return ""
        return (
            f"The saved memory is of the recurrent layers {', '.join(state['maps'])}, but here they are"
            f" {', '.join(self.maps)}"
        )

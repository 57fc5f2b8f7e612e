"""The state-map: a row a window, holding the message that the window will start from."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.keymap import KeyMap
from mptt.storage import Storage
from mptt.windows import WindowIndex

_FORMAT = 2  # 1 had the sum of the writes in place of their mean
_AT_ONCE = 4096  # rows
_TENSORS = ("mu", "mean", "count", "refused")


class StateMap:
    """Messages between windows: what is kept from earlier epochs (mu), and this epoch's writes (their mean and count).

    The three policies of MPTT (section 3.2 of arXiv 2309.16882), for a row v with message mu, c writes of mean h_bar:

    - read: mu if c = 0, else (delta mu + c h_bar) / (delta + c);
    - write: h_bar becomes (c h_bar + h) / (c + 1) and c goes up by 1, for each state h written;
    - propagate, at the end of an epoch: mu becomes what a read gives, h_bar and c become 0.

    Nothing here carries a gradient. Rows of half precision are computed with in float32, and rounded once a write. A
    read and a write are a fixed number of operations, whatever the batch. A state that is not finite is refused and
    counted in `refused`, without waiting for the device; the others of its batch are filed: one bad window does not
    cost its neighbours their messages.

    Args:
        windows: the table of windows; N rows.
        state_size: numbers in a state, S.
        delta: the weight of mu, in number of writes; 0 forgets mu as soon as there is a write.
        device: where the rows live: a torch device, "disk", or a `Storage`.
        dtype: of the rows.
        keymap: the key-map of `windows`, where one exists already.

    Attributes:
        mu: (N, S) messages kept from earlier epochs.
        mean: (N, S) mean of this epoch's writes (h_bar), 0 where there was none.
        count: (N,) int64, number of this epoch's writes.
        refused: () int64, states not filed since construction because a number in them was not finite.

    Raises:
        MPTTError: there is no room for the rows; or an argument is none of these.

    Example:
        >>> windows = WindowIndex(site=[0, 0], start=[0, 2], length=4)
        >>> memory = StateMap(windows, state_size=1, delta=1.0)
        >>> memory.write(torch.tensor([0]), torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]))
        >>> memory.read(torch.tensor([0, 1])).squeeze(1)  # mu = 0 counts as one write: (1*0 + 1*2) / (1 + 1)
        tensor([0., 1.])
    """

    def __init__(
        self,
        windows: WindowIndex,
        state_size: int,
        delta: float = 1.0,
        device: torch.device | str | Storage = "cpu",
        dtype: torch.dtype = torch.float32,
        keymap: KeyMap | None = None,
    ) -> None:
        if not (delta >= 0 and math.isfinite(delta)):
            raise MPTTError(f"delta is a finite weight of 0 or more, found {delta}.")
        if state_size < 1:
            raise MPTTError(f"state_size is a number of values of 1 or more, found {state_size}.")
        if keymap is not None and keymap.windows is not windows:
            raise MPTTError(f"The key-map is of other windows: {keymap.windows}, here {windows}. Use KeyMap(windows).")
        if not dtype.is_floating_point:
            raise MPTTError(f"The rows are floating-point numbers, found {dtype}.")
        self.storage = device if isinstance(device, Storage) else Storage(device)
        self.storage.check(table_bytes(len(windows), state_size, dtype), f"A memory of {len(windows):,} windows")
        self.windows = windows
        self.keymap = keymap if keymap is not None else KeyMap(windows)
        self.state_size = state_size
        self.delta = float(delta)
        self.mu = self.storage.zeros(len(windows), state_size, dtype=dtype)
        self.mean = self.storage.zeros(len(windows), state_size, dtype=dtype)
        self.count = torch.zeros(len(windows), device=self.device, dtype=torch.int64)
        self.refused = torch.zeros((), device=self.device, dtype=torch.int64)
        self._exact = torch.promote_types(dtype, torch.float32)  # what is computed in

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return (
            f"StateMap({len(self):,} rows of {self.state_size} {str(self.mu.dtype).removeprefix('torch.')},"
            f" delta={self.delta:g}, {self.storage}, {self.nbytes / 2**20:.1f} MiB)"
        )

    @property
    def device(self) -> torch.device:
        """Where a read comes from, which is where the rows are; the CPU for rows on disk."""
        return self.storage.device

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.mu, self.mean, self.count))

    @torch.no_grad()
    def read(self, ids: Tensor | npt.ArrayLike) -> Tensor:
        """The messages of a batch of windows.

        Args:
            ids: (B,) window ids.

        Returns:
            (B, S), a copy.

        Raises:
            MPTTError: an id out of range.
        """
        return self.read_rows(torch.from_numpy(self.keymap.check(ids)))

    @torch.no_grad()
    def write(self, ids: Tensor | npt.ArrayLike, states: Tensor) -> None:
        """File the states that a batch of windows passed at the starts of other windows.

        Args:
            ids: (B,) window ids.
            states: (B, L, S) state after each step of each window; any device and dtype, detached here.

        Raises:
            MPTTError: an id out of range, or states of another shape.
        """
        row, target, position = self.keymap.links(ids)
        steps = int(position.max()) + 1 if len(position) else 0
        batch = len(ids)  # type: ignore[arg-type]
        if (
            states.ndim != 3
            or states.shape[0] != batch
            or states.shape[1] < steps
            or states.shape[2] != self.state_size
        ):
            raise MPTTError(
                f"states must be (batch, step, state) = ({batch}, at least {steps}, {self.state_size}),"
                f" found {tuple(states.shape)}."
            )
        self.write_rows(target, states.detach()[row.to(states.device), position.to(states.device)])

    @torch.no_grad()
    def read_rows(self, rows: Tensor) -> Tensor:
        """The messages of rows (K,) known to be in range: (K, S), a copy."""
        rows = self._here(rows)
        mu, mean = self.mu.index_select(0, rows), self.mean.index_select(0, rows)
        return self._message(mu, mean, self.count.index_select(0, rows)).to(self.mu.dtype)

    @torch.no_grad()
    def write_rows(self, rows: Tensor, states: Tensor, finite: Tensor | None = None) -> None:
        """File states (K, S), one for each of rows (K,) known to be in range; a row may come several times.

        Args:
            rows: (K,) int64.
            states: (K, S), any device and dtype, detached here.
            finite: (K,) bool, False for states to refuse; by default those that are not finite as rows.
        """
        # In the order of the rows, so that those of one row are neighbours, and files are walked along.
        rows, order = self._here(rows).sort(stable=True)
        states = self._here(states.detach()).to(self._exact).index_select(0, order)
        if finite is None:
            finite = states.to(self.mean.dtype).isfinite().all(1)
        else:
            finite = self._here(finite).index_select(0, order)
        # Not a product with 0: that of a NaN would be NaN.
        states = torch.where(finite.unsqueeze(1), states, 0.0)
        before = self.count.index_select(0, rows).unsqueeze(1)
        self.count.index_add_(0, rows, finite.to(torch.int64))
        after = self.count.index_select(0, rows).unsqueeze(1).to(self._exact).clamp_(min=1)
        # A row that comes several times gets the same value each time: all that was written to it.
        nth = rows.diff(prepend=rows[:1]).ne_(0).cumsum(0)
        total = torch.zeros_like(states).index_add_(0, nth, states).index_select(0, nth)
        mean = self.mean.index_select(0, rows).to(self._exact).mul_(before / after).add_(total.div_(after))
        self.mean.index_copy_(0, rows, mean.to(self.mean.dtype))
        self.refused += (~finite).sum()

    @torch.no_grad()
    def propagate(self) -> None:
        """End an epoch: fold its writes into the messages. Rows without a write keep theirs."""
        # Some rows at a time, so that no third table stands.
        for mu, mean, count in zip(*(table.split(_AT_ONCE) for table in (self.mu, self.mean, self.count)), strict=True):
            mu.copy_(self._message(mu, mean, count))
            mean.zero_()
        self.count.zero_()

    @torch.no_grad()
    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) of rows (K,) outright and drop their writes: the linkage reconstruction of Enhanced MPTT.

        Raises:
            MPTTError: a state is not finite; nothing is changed then.
        """
        rows = rows.to(self.device)
        states = states.detach().to(self.device, self.mu.dtype)
        if not (finite := states.isfinite().all(1)).all():
            named = self.windows.named(rows[~finite].cpu().numpy())
            raise MPTTError(
                f"Linkage reconstruction gave states that are not finite, for {named}; these messages are left as they"
                " were."
            )
        self.mu[rows] = states
        self.mean[rows] = 0
        self.count[rows] = 0

    def _message(self, mu: Tensor, mean: Tensor, count: Tensor) -> Tensor:
        """What rows of mu, mean (K, S) and count (K,) say."""
        # Without a write the mean is 0, and mu weighs 1 of 1. Each operation rounds by itself, as on any device.
        delta = torch.full_like(count, self.delta, dtype=self._exact).masked_fill_(count == 0, 1.0)
        weight = delta + count
        return (mu * (delta / weight).unsqueeze(1)).add_(mean * (count / weight).unsqueeze(1))

    def _here(self, values: Tensor) -> Tensor:
        # To the host, a copy that is not waited for would be read too early.
        return values.to(self.device, non_blocking=self.device.type != "cpu")

    def state_dict(self) -> dict[str, Any]:
        """Everything a memory is, as tensors and plain values: loads with `torch.load(weights_only=True)`."""
        return {
            "format": _FORMAT,
            "mu": self.mu,
            "mean": self.mean,
            "count": self.count,
            "refused": self.refused,
            "windows": repr(self.windows),
            "fingerprint": self.windows.fingerprint,
            "state_size": self.state_size,
            "delta": self.delta,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved memory; rows are copied to this memory's device and dtype.

        `delta` belongs to the policy, not to the messages: this memory keeps its own.

        Raises:
            MPTTError: the memory was made for other windows or another state size; nothing is changed then.
        """
        missing = {"format", "fingerprint", "windows", "state_size"} - set(state)
        if state.get("format") == _FORMAT:
            missing |= set(_TENSORS) - set(state)
        if missing:
            raise MPTTError(f"This is not the state of a StateMap: {', '.join(sorted(missing))} missing.")
        if differs := self.differences(state):
            raise MPTTError(
                f"The saved memory was made for something else: {'; '.join(differs)}."
                " Resume with the data, window, stride and core of that run, or start afresh without its memory."
            )
        if wrong := [name for name in _TENSORS if state[name].shape != getattr(self, name).shape]:
            raise MPTTError(
                f"The saved memory is damaged: {', '.join(wrong)} not of the shape of its windows and state."
            )
        for name in _TENSORS:
            getattr(self, name).copy_(state[name])

    def differences(self, state: dict[str, Any]) -> list[str]:
        """In what a saved memory is not one of these windows and this state size; empty: in nothing."""
        differs = []
        if state["format"] != _FORMAT:
            differs.append(f"format {state['format']}, here {_FORMAT}")
        if state["state_size"] != self.state_size:
            differs.append(f"state size {state['state_size']}, here {self.state_size}")
        if state["fingerprint"] != self.windows.fingerprint:
            same = " (alike in number, but other sites or starts)" if state["windows"] == repr(self.windows) else ""
            differs.append(f"windows {state['windows']}, here {self.windows}{same}")
        return differs


def table_bytes(rows: int, state_size: int, dtype: torch.dtype) -> int:
    """Bytes of the two tables of a memory, mu and mean."""
    return 2 * rows * state_size * dtype.itemsize

"""The state-map: a row a window, holding the message that the window will start from."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.keymap import KeyMap
from mptt.windows import WindowIndex

_FORMAT = 1


class StateMap:
    """Messages between windows: what is kept from earlier epochs (mu), and this epoch's writes (their sum and count).

    The three policies of MPTT (section 3.2 of arXiv 2309.16882), for a row v with message mu, c writes of mean h_bar:

    - read: mu if c = 0, else (delta mu + c h_bar) / (delta + c);
    - write: c goes up by the number of states written, h_bar becomes their mean over the epoch;
    - propagate, at the end of an epoch: mu becomes what a read gives, h_bar and c become 0.

    Nothing here carries a gradient. Batches with a state that is not finite are refused whole and counted in `refused`,
    without waiting for the device.

    Args:
        windows: the table of windows; N rows.
        state_size: numbers in a state, S.
        delta: the weight of mu, in number of writes; 0 forgets mu as soon as there is a write.
        device: where the rows live.
        dtype: of the rows.
        keymap: the key-map of `windows`, where one exists already.

    Attributes:
        mu: (N, S) messages kept from earlier epochs.
        total: (N, S) sum of this epoch's writes; float32 at least.
        count: (N,) int64, number of this epoch's writes.
        refused: () int64, batches not filed since construction because a state was not finite.

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
        device: torch.device | str = "cpu",
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
        self.windows = windows
        self.keymap = keymap if keymap is not None else KeyMap(windows)
        self.state_size = state_size
        self.delta = float(delta)
        self.mu = torch.zeros(len(windows), state_size, device=device, dtype=dtype)
        # A sum of many writes would stop growing in half precision.
        self.total = torch.zeros_like(self.mu, dtype=torch.promote_types(dtype, torch.float32))
        self.count = torch.zeros(len(windows), device=device, dtype=torch.int64)
        self.refused = torch.zeros((), device=device, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return (
            f"StateMap({len(self)} rows of {self.state_size}, delta={self.delta:g}, {self.mu.dtype}, {self.device},"
            f" {self.nbytes / 2**20:.1f} MiB)"
        )

    @property
    def device(self) -> torch.device:
        """Where the rows live."""
        return self.mu.device

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.mu, self.total, self.count))

    @property
    def mean(self) -> Tensor:
        """(N, S) mean of this epoch's writes (h_bar), 0 where there was none."""
        return (self.total / self.count.clamp(min=1).unsqueeze(1)).to(self.mu.dtype)

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
        rows = rows.to(self.device, non_blocking=True)
        count = self.count.index_select(0, rows).unsqueeze(1)
        weight = self._weight_of_mu(count)
        mu = self.mu.index_select(0, rows).to(self.total.dtype)
        return self.total.index_select(0, rows).addcmul_(weight, mu).div_(weight + count).to(self.mu.dtype)

    @torch.no_grad()
    def write_rows(self, rows: Tensor, states: Tensor, finite: Tensor | None = None) -> None:
        """File states (K, S), one for each of rows (K,) known to be in range; a row may come several times.

        Args:
            rows: (K,) int64.
            states: (K, S), any device and dtype, detached here.
            finite: () bool, False to refuse the batch, whose states are then 0; by default as the states are.
        """
        rows = rows.to(self.device, non_blocking=True)
        states = states.detach().to(self.device, self.total.dtype, non_blocking=True)
        if finite is None:
            finite = states.isfinite().all()
            states = torch.where(finite, states, 0.0)
        self.total.index_add_(0, rows, states)
        self.count.index_add_(0, rows, finite.to(torch.int64).expand(len(rows)))
        self.refused += ~finite

    @torch.no_grad()
    def propagate(self) -> None:
        """End an epoch: fold its writes into the messages. Rows without a write keep theirs."""
        weight = self._weight_of_mu(self.count)
        share = (weight + self.count).reciprocal_()
        # In place, so that a large memory never stands twice.
        self.mu.mul_((weight * share).unsqueeze(1))
        self.mu.add_(self.total.mul_(share.unsqueeze(1)))
        self.total.zero_()
        self.count.zero_()

    @torch.no_grad()
    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) of rows (K,) outright and drop their writes: the linkage reconstruction of Enhanced MPTT.

        Raises:
            MPTTError: a state is not finite; nothing is changed then.
        """
        rows = rows.to(self.device)
        states = states.detach().to(self.device, self.mu.dtype)
        if not torch.isfinite(states).all():
            raise MPTTError(
                "Linkage reconstruction gave states that are not finite; the messages are left as they were."
            )
        self.mu[rows] = states
        self.total[rows] = 0
        self.count[rows] = 0

    def _weight_of_mu(self, count: Tensor) -> Tensor:
        # Without a write the total is 0, and mu weighs 1 of 1.
        return torch.full_like(count, self.delta, dtype=self.total.dtype).masked_fill_(count == 0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything a memory is, as tensors and plain values: loads with `torch.load(weights_only=True)`."""
        return {
            "format": _FORMAT,
            "mu": self.mu,
            "total": self.total,
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
        missing = {"format", "mu", "total", "count", "refused", "fingerprint", "windows", "state_size"} - set(state)
        if missing:
            raise MPTTError(f"This is not the state of a StateMap: {', '.join(sorted(missing))} missing.")
        differs = []
        if state["format"] != _FORMAT:
            differs.append(f"format {state['format']}, here {_FORMAT}")
        if state["state_size"] != self.state_size:
            differs.append(f"state size {state['state_size']}, here {self.state_size}")
        if state["fingerprint"] != self.windows.fingerprint:
            same = " (alike in number, but other sites or starts)" if state["windows"] == repr(self.windows) else ""
            differs.append(f"windows {state['windows']}, here {self.windows}{same}")
        if differs:
            raise MPTTError(
                f"The saved memory was made for something else: {'; '.join(differs)}."
                " Resume with the data, window, stride and core of that run, or start afresh without its memory."
            )
        tensors = ("mu", "total", "count", "refused")
        if wrong := [name for name in tensors if state[name].shape != getattr(self, name).shape]:
            raise MPTTError(
                f"The saved memory is damaged: {', '.join(wrong)} not of the shape of its windows and state."
            )
        for name in tensors:
            getattr(self, name).copy_(state[name])

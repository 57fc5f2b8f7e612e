"""States and losses that are not finite: of which windows, how many and when; nothing waits for a device to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mptt.windows import Int64Array

_NEVER = torch.iinfo(torch.int64).max


class Refused:
    """States that a memory did not file, by the window that passed them.

    Args:
        windows: number of windows, N.
        device: of the memory, where they are counted.

    Attributes:
        count: (N,) states refused in this epoch.
    """

    def __init__(self, windows: int, device: torch.device) -> None:
        self.count = torch.zeros(windows, dtype=torch.int64, device=device)
        self._first = torch.full_like(self.count, _NEVER)  # batch of the epoch
        self._before = torch.zeros((), dtype=torch.int64, device=device)  # in the epochs before this one

    def file(self, writers: Tensor, finite: Tensor, batch: int) -> None:
        """Count the states of windows (K,) that are not finite (K,), of a batch."""
        writers = writers.to(self.count.device, non_blocking=self.count.device.type != "cpu")
        self.count.index_add_(0, writers, (~finite).to(torch.int64))
        self._first.scatter_reduce_(0, writers, torch.where(finite, _NEVER, batch), "amin")

    @property
    def total(self) -> int:
        """States refused in all of the training."""
        return int(self._before + self.count.sum())

    def found(self) -> tuple[int, int, Int64Array]:
        """Of this epoch: how many states were refused, in which batch the first, and the windows, first ones first."""
        windows = self.count.nonzero().squeeze(1)
        first, order = self._first[windows].sort(stable=True)
        return int(self.count.sum()), int(first[0]) if len(first) else -1, windows[order].cpu().numpy()

    def close_epoch(self) -> None:
        """Begin to count anew; the total goes on."""
        self._before += self.count.sum()
        self.count.zero_()
        self._first.fill_(_NEVER)

    def state_dict(self) -> dict[str, Any]:
        """Tensors."""
        return {"count": self.count, "first": self._first, "before": self._before}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take over what was saved; None: nothing was refused."""
        self.count.copy_(torch.zeros_like(self.count) if state is None else state["count"])
        self._first.copy_(torch.full_like(self._first, _NEVER) if state is None else state["first"])
        self._before.copy_(torch.zeros_like(self._before) if state is None else state["before"])


class Losses:
    """The losses of an epoch's batches, kept on their device until they are looked at."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor, int]] = []

    def keep(self, outputs: Any, ids: Tensor, batch: int) -> None:
        """Keep the loss of a batch of windows (B,), if its step gave one."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            # Copies: a CUDA graph writes over its outputs, and batches of a worker hold files open.
            self._kept.append((loss.detach().reshape(()).clone(), ids.clone(), batch))

    def found(self) -> tuple[int, int, Int64Array]:
        """How many losses were not finite, the batch of the first, and its windows."""
        if not self._kept:
            return 0, -1, torch.empty(0, dtype=torch.int64).numpy()
        bad = torch.stack([loss for loss, *_ in self._kept]).isfinite().logical_not().nonzero().squeeze(1).tolist()
        _, ids, batch = self._kept[bad[0] if bad else 0]
        return len(bad), batch if bad else -1, ids[: len(ids) if bad else 0].numpy()

    def clear(self) -> None:
        """Forget them."""
        self._kept = []


def weights_not_finite(module: nn.Module) -> Sequence[str]:
    """The names of the parameters that are not finite; waits for their device."""
    return [name for name, one in module.named_parameters() if not bool(one.detach().isfinite().all())]

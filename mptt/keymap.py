"""The key-map: for each window, the windows that it writes to, and where in it their initial states pass."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.windows import Int64Array, WindowIndex

Links = tuple[Tensor, Tensor, Tensor]


class KeyMap:
    """Which windows a window writes to: those of its site with `a_w < a_v <= a_w + L_w` (arXiv 2309.16882).

    The state after step `a_v - 1`, at position `a_v - a_w - 1` of window w, is an estimate of the initial state of v.
    The successors of a window are neighbours in the order of (site, start), so the map holds two numbers a window.

    Args:
        windows: the table of windows.

    Example:
        Windows of 6 steps, one each 3 steps: window 0 passes the starts of 1 (step 3) and 2 (step 6).

        >>> keymap = KeyMap(WindowIndex(site=[0, 0, 0], start=[0, 3, 6], length=6))
        >>> row, target, position = keymap.links(torch.tensor([0, 2]))
        >>> row.tolist(), target.tolist(), position.tolist()
        ([0, 0], [1, 2], [2, 5])
    """

    def __init__(self, windows: WindowIndex) -> None:
        self.windows = windows
        self._sites, rank = np.unique(windows.site, return_inverse=True)
        # One sortable key of (site, start); the span leaves room for a window that reaches past every start.
        self._span = int(windows.stop.max()) + 1
        if self._span > np.iinfo(np.int64).max // len(self._sites):
            raise MPTTError(
                f"Steps up to {windows.stop.max()} of {len(self._sites)} sites do not fit into one 64-bit number;"
                " count steps from the start of the series, not from a date."
            )
        key = rank * self._span + windows.start
        self._order = np.argsort(key, kind="stable")
        self._key = key[self._order]
        self._first = np.searchsorted(self._key, key, side="right")
        self._last = np.searchsorted(self._key, key + windows.length, side="right")

    def __repr__(self) -> str:
        return f"KeyMap({int((self._last - self._first).sum())} links between {len(self.windows)} windows)"

    def links(self, ids: Tensor | npt.ArrayLike) -> Links:
        """What a batch of windows writes.

        Args:
            ids: (B,) window ids, in batch order; one may come twice.

        Returns:
            Three int64 tensors (K,) on the CPU, one entry a link, ordered by row, then start and id of the target:
            `row` in the batch, the id of the window written to (`target`), and the `position` in the row's window of
            the state to write.

        Raises:
            MPTTError: an id out of range.
        """
        ids = self.check(ids)
        return self._expand(self._first[ids], self._last[ids], self.windows.start[ids])

    def pack(self, ids: Tensor) -> dict[str, Tensor]:
        """The links of a batch as entries of its dict, for `unpack`: made where batches are, in a worker process.

        Args:
            ids: (B,) window ids.

        Returns:
            `links` (3, K): row, target and position; and `links_of` (1 + B,): a number of the table, and the ids.
        """
        return {"links": torch.stack(self.links(ids)), "links_of": _with_number(self._number, ids)}

    def unpack(self, batch: dict[str, Any], ids: Tensor) -> Links:
        """The links of a batch: those that it brings, which are taken out of it; else they are made here.

        So they are where it brings those of another table, or of other ids than it has now.

        Args:
            batch: with the entries of `pack` on the CPU, or without.
            ids: (B,) its window ids, on the CPU and in range.
        """
        of = batch.get("links_of")
        if not isinstance(of, Tensor) or not of.equal(_with_number(self._number, ids)):
            return self.links(ids)
        del batch["links_of"]
        row, target, position = batch.pop("links")
        return row, target, position

    def reach(self, site: npt.ArrayLike, start: npt.ArrayLike, length: npt.ArrayLike) -> Links:
        """What any stretches of series would write, as if each were a window.

        Args:
            site: (B,) series of each stretch, as in the window table.
            start: (B,) first step.
            length: (B,) number of steps, or one for all.

        Returns:
            `row`, `target`, `position`, as of `links`.
        """
        site, start, length = (np.asarray(values, dtype=np.int64) for values in (site, start, length))
        rank = np.minimum(np.searchsorted(self._sites, site), len(self._sites) - 1)
        low = rank * self._span + np.clip(start, -1, self._span - 1)
        high = rank * self._span + np.clip(start + length, -1, self._span - 1)
        first = np.searchsorted(self._key, low, side="right")
        last = np.where(self._sites[rank] == site, np.searchsorted(self._key, high, side="right"), first)
        return self._expand(first, last, start)

    def check(self, ids: Tensor | npt.ArrayLike) -> Int64Array:
        """The ids as a (B,) array.

        Raises:
            MPTTError: they are not 1-d integers, or one is outside the window table.
        """
        array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise MPTTError(f"Window ids are a 1-d tensor of integers, found {array.dtype} of shape {array.shape}.")
        if array.size and not (array.min() >= 0 and array.max() < len(self.windows)):
            raise MPTTError(
                f"Window ids go from 0 to {len(self.windows) - 1}, found {array.min()} to {array.max()};"
                " the ids in the batch and the window table must come from the same data set."
            )
        return array.astype(np.int64)

    @cached_property
    def _number(self) -> int:
        return int(self.windows.fingerprint[:15], 16)

    def _expand(self, first: Int64Array, last: Int64Array, start: Int64Array) -> Links:
        count = last - first
        row = np.repeat(np.arange(len(count)), count)
        nth = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
        target = self._order[first[row] + nth]
        position = self.windows.start[target] - start[row] - 1
        return torch.from_numpy(row), torch.from_numpy(target), torch.from_numpy(position)


def _with_number(number: int, ids: Tensor) -> Tensor:
    return torch.cat([torch.tensor([number]), ids])

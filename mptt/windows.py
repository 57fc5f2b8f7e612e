"""The table of windows: which stretch of which series each training sample is."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mptt.errors import MPTTError, MPTTWarning

Int64Array = npt.NDArray[np.int64]


class WindowIndex:
    """The windows of a data set; window `i` covers steps `start[i] .. start[i] + length[i] - 1` of series `site[i]`.

    It knows no data. Windows may overlap, leave gaps, repeat, differ in length and come in any order.

    Args:
        site: (N,) integers, the series that each window is cut from.
        start: (N,) integers, its first step, counted from 0.
        length: (N,) integers, its number of steps; one integer where all windows have the same.

    Raises:
        MPTTError: no windows, unequal array lengths, something other than integers, a negative start, an empty window.

    Example:
        >>> WindowIndex(site=[0, 0, 1], start=[0, 3, 0], length=6)
        WindowIndex(3 windows, 2 sites, length 6)
    """

    def __init__(self, site: npt.ArrayLike, start: npt.ArrayLike, length: npt.ArrayLike) -> None:
        self.site = _integers("site", site)
        self.start = _integers("start", start)
        length = _integers("length", length)
        self.length = np.broadcast_to(length, self.site.shape).copy() if length.ndim == 0 else length
        shapes = {name: getattr(self, name).shape for name in ("site", "start", "length")}
        if len(set(shapes.values())) > 1 or self.site.ndim != 1:
            raise MPTTError(f"site, start and length of the windows must be equally long 1-d arrays, found {shapes}.")
        if not len(self):
            raise MPTTError("A WindowIndex needs at least one window, found none.")
        if (first := self.start.min()) < 0:
            raise MPTTError(f"Windows start at step 0 or later, found start {first} in window {self.start.argmin()}.")
        if (shortest := self.length.min()) < 1:
            raise MPTTError(f"Windows have 1 step or more, found {shortest} in window {self.length.argmin()}.")

    @classmethod
    def cut(cls, lengths: npt.ArrayLike, window: int, stride: int, names: Sequence[str] | None = None) -> WindowIndex:
        """Cut windows of one length from every series, one each `stride` steps.

        Where the stride does not hit the last step, one more window ends there. Series shorter than a
        window are skipped with a warning. Window ids go up with site, then start.

        Args:
            lengths: (sites,) number of steps of each series; site `s` of the windows is entry `s`.
            window: steps in a window.
            stride: steps from one window's start to the next. At most `window`, or no message can pass.
            names: of the sites, for messages; their numbers by default.

        Raises:
            MPTTError: window or stride under 1, or every series shorter than a window.

        Example:
            >>> WindowIndex.cut([10, 6], window=4, stride=3).start
            array([0, 3, 6, 0, 2])
        """
        steps = np.atleast_1d(_integers("lengths", lengths))
        window, stride = int(_integers("window", window)), int(_integers("stride", stride))
        if window < 1 or stride < 1:
            raise MPTTError(
                f"window and stride are numbers of steps, at least 1; found window={window}, stride={stride}."
            )
        if stride > window:
            warnings.warn(
                f"stride={stride} is larger than window={window}: no window reaches the start of the next, so no"
                f" message can pass and every window starts from zero. Use stride <= {window}.",
                MPTTWarning,
                stacklevel=2,
            )
        short = np.flatnonzero(steps < window)
        if len(short):
            named = [f"{names[site] if names is not None else site} ({steps[site]} steps)" for site in short[:10]]
            listed = ", ".join(named) + (f" and {len(short) - 10} more" if len(short) > 10 else "")
            if len(short) == len(steps):
                raise MPTTError(
                    f"Every series is shorter than a window of {window} steps: {listed}. Use a shorter window."
                )
            warnings.warn(
                f"No windows from {len(short)} of {len(steps)} sites, shorter than a window of {window} steps:"
                f" {listed}.",
                MPTTWarning,
                stacklevel=2,
            )
        last = np.maximum(steps - window, -1)  # start of the window that ends at the last step
        on_stride = last // stride + 1
        tail = (last >= 0) & (last % stride > 0)
        count = on_stride + tail
        site = np.repeat(np.arange(len(steps)), count)
        nth = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        return cls(site, np.minimum(nth * stride, last[site]), window)

    def __len__(self) -> int:
        return len(self.site)

    def __repr__(self) -> str:
        shortest, longest = self.length.min(), self.length.max()
        span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        return f"WindowIndex({len(self)} windows, {len(np.unique(self.site))} sites, length {span})"

    @property
    def stop(self) -> Int64Array:
        """(N,) the step after each window's last."""
        return self.start + self.length

    @property
    def whole(self) -> WindowIndex:
        """The table that these windows are of, which is this one."""
        return self

    def rows_of(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows here (B,) of windows (B,) of `whole`: their ids."""
        return ids

    def named(self, ids: npt.ArrayLike, about: Callable[[int, int], str | None] | None = None, most: int = 5) -> str:
        """Some windows as words, for messages.

        Args:
            ids: (n,) of the windows.
            about: says more of a site and a step, where there is more to say: a name and a date.
            most: to name; of the rest their number.

        Example:
            >>> WindowIndex(site=[0, 0, 1], start=[0, 3, 0], length=6).named([2, 1])
            'windows 2 (site 1, start 0), 1 (site 0, start 3)'
        """
        found: list[int] = np.asarray(ids).tolist()
        listed = []
        for i in found[:most]:
            more = about(int(self.site[i]), int(self.start[i])) if about is not None else None
            listed.append(f"{i} (site {self.site[i]}, start {self.start[i]}{f': {more}' if more else ''})")
        rest = f" and {len(found) - most} more" if len(found) > most else ""
        return f"window{'s' if len(found) > 1 else ''} {', '.join(listed)}{rest}"

    @property
    def fingerprint(self) -> str:
        """A hash of the whole table, equal for equal windows in the same order and for no others."""
        digest = hashlib.sha256()
        for column in (self.site, self.start, self.length):
            digest.update(np.ascontiguousarray(column, dtype="<i8").data)
        return digest.hexdigest()


class WindowPart(WindowIndex):
    """Some windows of a table, as a table: rows 0, 1, ... are windows that keep their ids in messages.

    Args:
        whole: the table.
        ids: (n,) of the windows, each once.

    Example:
        >>> part = WindowPart(WindowIndex(site=[0, 1, 1], start=[0, 0, 3], length=6), [1, 2])
        >>> part, part.rows_of(np.array([2])).tolist(), part.named([1])
        (2 of WindowIndex(3 windows, 2 sites, length 6), [1], 'window 2 (site 1, start 3)')
    """

    def __init__(self, whole: WindowIndex, ids: npt.ArrayLike) -> None:
        self.ids = _integers("ids", ids)
        super().__init__(whole.site[self.ids], whole.start[self.ids], whole.length[self.ids])
        self._whole = whole
        self._row = np.full(len(whole), -1, dtype=np.int32 if len(self) < 2**31 else np.int64)
        self._row[self.ids] = np.arange(len(self))

    def __repr__(self) -> str:
        return f"{len(self)} of {self.whole!r}"

    @property
    def whole(self) -> WindowIndex:
        """The table that these windows are of."""
        return self._whole

    def rows_of(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows here (B,) of windows (B,) of `whole`.

        Raises:
            MPTTError: one is not among these.
        """
        known = (ids >= 0) & (ids < len(self._row))
        rows = np.where(known, self._row[np.where(known, ids, 0)], -1)
        if (rows < 0).any():
            raise MPTTError(f"Window {ids[rows < 0][0]} is not among the {self!r}.")
        return rows

    def named(self, ids: npt.ArrayLike, about: Callable[[int, int], str | None] | None = None, most: int = 5) -> str:
        """Some windows as words, by their ids in `whole`."""
        return self.whole.named(self.ids[np.asarray(ids)], about, most)


def _integers(name: str, values: Any) -> Int64Array:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise MPTTError(f"{name} must be integers, found {array.dtype}.")
    return array.astype(np.int64)

"""Series that do not fit into memory: the records of some sites at a time, read when they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from mptt.datamodules.preparing.flat import FlatSeries
from mptt.errors import MPTTError
from mptt.windows import Int64Array

PIECE = 32 * 2**20  # bytes of records that are read at a time


class StoredSeries(FlatSeries):
    """The records of as many sites as there is room for, each in a slot of the longest one's length.

    `require` brings sites in and puts out those that were not used for longest; `expect` does so in a thread, before
    they are needed. Rows of a site are those from `offset[site]` on, until another site is required.

    Args:
        read: sites (n,), going up, to their records, standardised, with lagged targets where they are inputs.
        first: (sites,) first step of each record on the common time axis.
        length: (sites,) its steps.
        inputs: how many there are.
        targets: how many there are.
        capacity: records that there is room for.
        lagged: whether lagged targets are inputs.
        held: whether that of a stretch's first step stands at all its steps.
        threads: whether a thread may read ahead.
    """

    def __init__(
        self,
        read: Callable[[Int64Array], FlatSeries],
        first: Int64Array,
        length: Int64Array,
        inputs: int,
        targets: int,
        capacity: int,
        lagged: bool,
        held: bool,
        threads: bool,
    ) -> None:
        self.read, self.length, self.capacity, self.threads = read, length, capacity, threads
        self.slot_steps = int(length.max())
        rows = capacity * self.slot_steps
        super().__init__(
            torch.empty(rows, inputs),
            torch.empty(len(first), 0),  # attributes are few, and set by whoever scales them
            torch.empty(rows, targets),
            torch.empty(rows, targets, dtype=torch.bool),
            np.full(len(first), -1),
            first,
            torch.empty(rows, targets) if lagged else None,
            held,
        )
        self._slot = np.full(len(first), -1)  # of each site, there or on its way
        self._site = np.full(capacity, -1)  # in each slot, there or on its way
        self._used = np.zeros(capacity, np.int64)  # when each slot was last used
        self._clock = 0
        self._coming: deque[tuple[Future[None], Int64Array]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def require(self, sites: npt.ArrayLike) -> None:
        """Make sure that these sites are there, until the next call.

        Raises:
            MPTTError: there are more than there is room for; one of them cannot be read.
        """
        sites = np.unique(np.asarray(sites))
        if len(sites) > self.capacity:
            raise MPTTError(
                f"{len(sites)} sites are needed at once, and there is room for {self.capacity}; raise `memory`, or"
                " lower batch_size."
            )
        try:
            self._bring(sites)
        except BaseException:
            self.settle()
            raise
        self._clock += 1
        self._used[self._slot[sites]] = self._clock

    def expect(self, sites: Int64Array, keep: npt.NDArray[np.bool_]) -> None:
        """Begin to read those of these sites that are not there, as far as there is room beside those to keep.

        Args:
            sites: (n,) sites that will be required.
            keep: (sites,) those that are not to be put out for them.
        """
        if not self.threads:
            return
        missing = np.unique(sites[self._slot[sites] < 0])
        slots = self._vacate(len(missing), keep)
        missing = missing[: len(slots)]
        if len(missing):
            self._thread = thread = self._thread or ThreadPoolExecutor(1, "series")
            self._take(missing, slots)
            self._coming.append((thread.submit(self._fill, missing, slots), missing))

    def leave(self) -> None:
        """Expect nothing more: the thread ends by itself once it has read what it was told to."""
        self._thread = None

    def settle(self) -> None:
        """Give up what was expected and not begun, wait for the rest, and end the thread."""
        for future, _ in reversed(self._coming):
            future.cancel()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        while self._coming:
            future, sites = self._coming.popleft()
            # A site that could not be read is read again, and refused, when it is required.
            if future.cancelled() or future.exception() is not None:
                self._give_up(sites)
            else:
                self.offset[sites] = self._slot[sites] * self.slot_steps

    def forget(self) -> None:
        """Let go of all records, as if none had been read."""
        self.settle()
        self._slot[:] = self._site[:] = self.offset[:] = -1

    def _bring(self, sites: Int64Array) -> None:
        self._arrive(sites)
        missing = sites[self._slot[sites] < 0]
        if not len(missing):
            return
        keep = np.zeros(len(self._slot), dtype=bool)
        keep[sites] = True
        slots = self._vacate(len(missing), keep)
        if len(slots) < len(missing):  # the others are taken by sites on their way
            self._arrive(np.flatnonzero(self._slot >= 0))
            slots = self._vacate(len(missing), keep)
        self._fill(missing, slots)
        self._take(missing, slots)
        self.offset[missing] = slots * self.slot_steps

    def _arrive(self, sites: Int64Array) -> None:
        """Take in what has come, and wait for these sites if they are on their way."""
        while self._coming and (self._coming[0][0].done() or (self.offset[sites][self._slot[sites] >= 0] < 0).any()):
            future, came = self._coming.popleft()  # one thread: the first that was expected comes first
            try:
                future.result()
            except BaseException:
                self._give_up(came)
                raise
            self.offset[came] = self._slot[came] * self.slot_steps

    def _vacate(self, count: int, keep: npt.NDArray[np.bool_]) -> Int64Array:
        """Up to so many slots that are free, or whose sites are there, not to keep, and not used for longest."""
        free = np.flatnonzero(self._site < 0)[:count]
        if len(free) < count:
            held = np.flatnonzero(self._site >= 0)
            site = self._site[held]
            out = held[(self.offset[site] >= 0) & ~keep[site]]
            out = out[self._used[out].argsort(kind="stable")][: count - len(free)]
            self._give_up(self._site[out])
            free = np.concatenate([free, out])
        return free

    def _take(self, sites: Int64Array, slots: Int64Array) -> None:
        self._slot[sites], self._site[slots], self._used[slots] = slots, sites, self._clock

    def _give_up(self, sites: Int64Array) -> None:
        self._site[self._slot[sites]] = -1
        self._slot[sites] = self.offset[sites] = -1

    def _fill(self, sites: Int64Array, slots: Int64Array) -> None:
        """Read these sites into slots that are theirs."""
        into = dict(zip(sites.tolist(), (slots * self.slot_steps).tolist(), strict=True))
        for piece, held in self._pieces(sites):
            for site in held.tolist():
                source, target, steps = int(piece.offset[site]), into[site], int(self.length[site])
                for name in ("inputs", "targets", "observed", "lagged"):
                    table, values = getattr(self, name), getattr(piece, name)
                    if table is not None:
                        table[target : target + steps] = values[source : source + steps]

    def _pieces(self, sites: Int64Array) -> Iterator[tuple[FlatSeries, Int64Array]]:
        """The records, as many at a time as make PIECE bytes."""
        size = max(1, PIECE // (4 * self.slot_steps * (self.inputs.shape[1] + self.targets.shape[1])))
        for begin in range(0, len(sites), size):
            held = sites[begin : begin + size]
            yield self.read(held), held

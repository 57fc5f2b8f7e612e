"""One memory in several processes: how what each of them writes becomes what all of them know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.callbacks.memory import Memory
from mptt.callbacks.processes import AT_ONCE, Processes
from mptt.errors import MPTTError
from mptt.windows import WindowIndex, WindowPart

Sync = Literal["step", "epoch", "none"]
SYNCS = ("step", "epoch", "none")


class SharedMemory:
    """The memory of each process, and what passes between them.

    - "step": every process files the writes of all, in the order of the ranks: the memories are equal at any time.
    - "epoch": each files its own writes and reads them at once; before they are folded into the messages, a row's mean
      becomes that of all its writes, wherever they were made.
    - "none": each has sites of its own, and rows for their windows only; in checkpoints the rows of all are together.

    A checkpoint holds the memory as one process would have it, and what each process has to go on with where as many
    go on: by another number of them, writes of an epoch that was not over are with process 0 (but in "step", where all
    have them), so that they count once.

    Args:
        memory: of this process; for "none" of a `WindowPart`.
        processes: all.
        sync: when they are brought together.
        owner: (N,) the process of each window, for "none".
    """

    def __init__(
        self, memory: Memory, processes: Processes, sync: Sync, owner: npt.NDArray[np.int64] | None = None
    ) -> None:
        self.memory, self.processes, self.sync, self.owner = memory, processes, sync, owner

    def write_rows(self, rows: Tensor, states: Tensor | None, writers: Tensor, batch: int) -> None:
        """File states (K, S) of this process, as of `Memory.write_rows`; None where its module did not run."""
        if self.sync != "step":
            if states is not None:
                self.memory.write_rows(rows, states, writers, batch)
            return
        if states is None:
            rows, writers, states = rows[:0], writers[:0], torch.empty(0, self.memory.state_size)
        links, states = self.processes.rows_of_all(torch.stack([rows, writers], dim=1), states.float())
        self.memory.write_rows(links[:, 0], states, links[:, 1], batch)

    def refused(self) -> int:
        """States not filed in all of the training, in all processes."""
        total = self.memory.refused.total
        return total if self.sync == "step" else int(self.processes.sum_of_all(torch.tensor([total])))

    @torch.no_grad()
    def bring_together(self) -> None:
        """Before the end of an epoch: let what was written to a row be the same in all processes."""
        memory = self.memory
        if self.sync == "step":
            return
        if self.sync == "epoch":
            for one in memory.maps.values():
                for here, mean, count in self._merged(one.mean, one.count):
                    one.mean[here], one.count[here] = mean, count
            for here in self._slices():
                memory.last_write[here] = self.processes.largest_of_all(memory.last_write[here])

    @torch.no_grad()
    def share_links(self) -> None:
        """After each process has set messages outright along the series that it has: let all have them."""
        memory = self.memory
        if self.sync == "none":
            return
        for here in self._slices():
            linked = memory.last_write[here] == memory.epoch
            times = self.processes.sum_of_all(linked.long())
            for one in memory.maps.values():
                mu = torch.where(linked.unsqueeze(1), one.mu[here].float(), 0.0)
                mu = self.processes.sum_of_all(mu) / times.clamp(min=1).unsqueeze(1)
                found = times > 0
                one.mu[here] = torch.where(found.unsqueeze(1), mu.to(one.mu.dtype), one.mu[here])
                one.mean[here] = torch.where(found.unsqueeze(1), 0, one.mean[here])
                one.count[here] = torch.where(found, 0, one.count[here])
            memory.last_write[here] = torch.where(times > 0, memory.epoch, memory.last_write[here])

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        """The memory of all, as of `Memory.state_dict`, complete in process 0. All processes call it together."""
        memory, processes = self.memory, self.processes
        state = memory.state_dict()
        if self.sync == "none":
            self._gather_rows(state)
        else:
            state["trained"] = processes.largest_of_all(memory.trained.to(torch.int64)) > 0
        if self.sync == "step":
            return state
        own: dict[str, Any] = {"distance": memory.distance.cpu()}
        state["processes"] = processes.objects_of_all(own)
        for holder, name in _sums(state):
            holder[name] = processes.sum_of_all(holder[name])
        if self.sync == "epoch":
            state["refused"]["count"] = processes.sum_of_all(state["refused"]["count"])
            state["refused"]["first"] = processes.smallest_of_all(state["refused"]["first"])
            if self._any_written():
                self._gather_writes(state)
        return state

    def of_this_process(self, state: dict[str, Any]) -> dict[str, Any]:
        """Of a saved memory what this process goes on with, for `Memory.load_state_dict`.

        One of other windows, or of another form, is given back as it is.
        """
        part, whole = self.memory.windows, self.memory.windows.whole
        if self.sync == "step" or any(one["fingerprint"] != whole.fingerprint for one in state["maps"].values()):
            return state
        state = {**state, "maps": {name: dict(one) for name, one in state["maps"].items()}}
        if "refused" in state:
            state["refused"] = dict(state["refused"])
        if isinstance(part, WindowPart):
            rows = torch.from_numpy(part.ids)
            for holder, name in _tables(state):
                holder[name] = holder[name].index_select(0, rows.to(holder[name].device))
            for one in state["maps"].values():
                one["fingerprint"] = part.fingerprint
        elif self.processes.rank:
            for holder, name in _tables(state):
                if name in ("mean", "count"):
                    holder[name] = torch.zeros_like(holder[name])
        if self.processes.rank:
            for holder, name in _sums(state):
                holder[name] = torch.zeros_like(holder[name])
        each = state.get("processes", ())
        if len(each) == self.processes.size:
            own = each[self.processes.rank]
            state["distance"] = own["distance"]
            if self.sync == "epoch" and "rows" in own:
                self._take_writes(state, own)
        return state

    def report(self) -> dict[str, Tensor]:
        """As of `Memory.report`, of all processes."""
        total = self.processes.sum_of_all
        ways = {"step": {}, "epoch": {"of_writes": total}, "none": {"of_rows": total, "of_writes": total}}
        return self.memory.report(**ways[self.sync])

    def _gather_rows(self, state: dict[str, Any]) -> None:
        """Put the rows of all into the state of process 0, of which none is on a GPU."""
        assert self.owner is not None
        windows, storage = self.memory.windows.whole, self.memory.storage
        ids = [torch.from_numpy(np.flatnonzero(self.owner == rank)) for rank in range(self.processes.size)]
        for holder, name in _tables(state):
            rows = holder[name]
            shape = (len(windows), *rows.shape[1:]) if self.processes.rank == 0 else (0,)
            on_disk = storage.on_disk and rows.ndim > 1 and self.processes.rank == 0
            whole = storage.zeros(*shape, dtype=rows.dtype) if on_disk else torch.zeros(shape, dtype=rows.dtype)
            for rank, here, found in self.processes.rows_of_each(rows):
                whole[ids[rank][here]] = found.cpu()
            holder[name] = whole
        for one in state["maps"].values():
            one |= {"windows": repr(windows), "fingerprint": windows.fingerprint}

    def _gather_writes(self, state: dict[str, Any]) -> None:
        """Put into the state of process 0 the means of all writes, and what each process wrote."""
        memory, processes = self.memory, self.processes
        maps = memory.maps
        rows = next(iter(maps.values())).count.nonzero().squeeze(1)
        tables = {"rows": rows, "count": next(iter(maps.values())).count[rows]}
        for name, values in (tables | {name: one.mean[rows] for name, one in maps.items()}).items():
            found: list[list[Tensor]] = [[] for _ in range(processes.size)]
            for rank, _, part in processes.rows_of_each(values):
                found[rank].append(part.cpu())
            for own, parts in zip(state["processes"], found, strict=False):
                held = own if name in tables else own.setdefault("means", {})
                held[name] = torch.cat(parts) if parts else values[:0].cpu()
        # Copies: what the others wrote is not to be read here before the epoch is over.
        for name, one in maps.items():
            mean, count = torch.empty_like(one.mean), torch.empty_like(one.count)
            for here, *merged in self._merged(one.mean, one.count):
                mean[here], count[here] = merged
            state["maps"][name] |= {"mean": mean, "count": count}
        state["last_write"] = processes.largest_of_all(memory.last_write)
        # Of a row that all have written to, nobody needs it.
        state["last_write_before"] = processes.smallest_of_all(memory.last_write)

    def _take_writes(self, state: dict[str, Any], own: dict[str, Any]) -> None:
        rows = own["rows"]
        for name, one in state["maps"].items():
            one["mean"], one["count"] = torch.zeros_like(one["mean"]), torch.zeros_like(one["count"])
            one["mean"][rows], one["count"][rows] = own["means"][name], own["count"]
        state["last_write"] = state["last_write_before"].clone()
        state["last_write"][rows] = state["epoch"]

    def _merged(self, means: Tensor, counts: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Mean and count of the writes of all processes, some rows at a time, so that no third table stands."""
        for here in self._slices():
            total = means[here].float() * counts[here].unsqueeze(1)
            count = self.processes.sum_of_all(counts[here])
            mean = self.processes.sum_of_all(total) / count.clamp(min=1).unsqueeze(1)
            yield here, mean.to(means.dtype), count

    def _any_written(self) -> bool:
        written = torch.stack([one.count.sum() for one in self.memory.maps.values()]).sum()
        return bool(self.processes.sum_of_all(written))

    def _slices(self) -> Iterator[slice]:
        for begin in range(0, len(self.memory.windows), AT_ONCE):
            yield slice(begin, begin + AT_ONCE)


def _tables(state: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """What of the state of a memory has a row for each window: where it is, and its name."""
    yield from ((state, name) for name in ("trained", "last_write") if name in state)
    yield from ((state["refused"], name) for name in ("count", "first") if "refused" in state)
    yield from ((one, name) for one in state["maps"].values() for name in ("mu", "mean", "count"))


def _sums(state: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """What of it is a sum over all writes of the epoch, or of the training."""
    yield from ((state, name) for name in ("distance", "compared", "scaled") if name in state)
    yield from ((state["refused"], "before") for _ in range("refused" in state))
    yield from ((one, "refused") for one in state["maps"].values())


def choose_sync(
    sync: Sync | None, data: Any, windows: WindowIndex, size: int
) -> tuple[Sync, npt.NDArray[np.int64] | None]:
    """When memories are brought together, and for "none" the process (N,) of each window.

    Args:
        sync: as asked for; None: "none" where the DataModule gives whole sites to each process, else "step".
        data: the DataModule.
        windows: the table of training windows.
        size: processes.

    Raises:
        MPTTError: "none", of a DataModule that does not give whole sites to each process.
    """
    whole = getattr(data, "shard", None) == "site" and getattr(data, "windows", None) is windows
    sync = sync or ("none" if whole else "step")
    if sync != "none":
        return sync, None
    if not whole:
        raise MPTTError(
            'sync="none" keeps messages in their process, which needs each site whole in one: use'
            ' SeriesDataModule(shard="site"), or sync="step".'
        )
    owner: npt.NDArray[np.int64] = data.window_owners(size)
    return sync, owner

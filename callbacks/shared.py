"""One memory in several processes: how what each of them writes becomes what all of them know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from mptt.callbacks.memory import Memory
from mptt.callbacks.processes import Processes
from mptt.errors import MPTTError
from mptt.windows import WindowIndex

Sync = Literal["step", "epoch", "none"]
SYNCS = ("step", "epoch", "none")

_AT_ONCE = 65_536  # rows


class SharedMemory:
    """The memory of each process, and what passes between them.

    - "step": every process files the writes of all, in the order of the ranks: the memories are equal at any time.
    - "epoch": each files its own writes and reads them at once; before they are folded into the messages, a row's mean
      becomes that of all its writes, wherever they were made.
    - "none": each has sites of its own, and their rows alone are right, until all are brought together for a
      checkpoint.

    Of a run that is resumed, writes of an epoch that was not over are with process 0 (but in "step", where all have
    them), so that they count once.

    Args:
        memory: of this process.
        processes: all.
        sync: when they are brought together.
        owner: (N,) the process of each row, for "none".
    """

    def __init__(self, memory: Memory, processes: Processes, sync: Sync, owner: Tensor | None = None) -> None:
        self.memory, self.processes, self.sync = memory, processes, sync
        self.own = None if owner is None else (owner == processes.rank).to(memory.storage.device)

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
            memory.last_write.copy_(self.processes.largest_of_all(memory.last_write))
        # Of the rows of others, nothing is known here to tell of.
        for total in (memory.distance, memory.compared):
            total.copy_(self.processes.sum_of_all(total))

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
    def bring_rows_together(self) -> None:
        """With sites of their own ("none"): let every process have the rows of all."""
        if self.own is None:
            return
        for here in self._slices():
            own = self.own[here]
            for one in self.memory.maps.values():
                for table in (one.mu, one.mean):
                    rows = torch.where(own.unsqueeze(1), table[here].float(), 0.0)
                    table[here] = self.processes.sum_of_all(rows).to(table.dtype)
                one.count[here] = self.processes.sum_of_all(torch.where(own, one.count[here], 0))
            last = self.memory.last_write
            last[here] = self.processes.largest_of_all(torch.where(own, last[here], -1))

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        """The memory of all, as of `Memory.state_dict`, complete in process 0. All processes call it together."""
        memory = self.memory
        self.bring_rows_together()
        state = memory.state_dict()
        state["trained"] = self.processes.largest_of_all(memory.trained.to(torch.int64)) > 0
        if self.sync == "step":
            return state
        state |= {name: self.processes.sum_of_all(state[name]) for name in ("distance", "compared")}
        if self.sync == "epoch" and self._any_written():
            # Copies: what the others wrote is not to be read here before the epoch is over.
            for name, one in memory.maps.items():
                mean, count = torch.empty_like(one.mean), torch.empty_like(one.count)
                for here, *merged in self._merged(one.mean, one.count):
                    mean[here], count[here] = merged
                state["maps"][name] |= {"mean": mean, "count": count}
            state["last_write"] = self.processes.largest_of_all(memory.last_write)
        return state

    def loaded(self) -> None:
        """After the memory has taken over a saved one: let its writes be with one process."""
        memory = self.memory
        if self.sync == "step" or (self.sync == "epoch" and self.processes.rank == 0):
            return
        if self.sync == "epoch":
            for one in memory.maps.values():
                one.mean.zero_()
                one.count.zero_()
        if self.processes.rank:
            memory.distance.zero_()
            memory.compared.zero_()

    def report(self) -> dict[str, Tensor]:
        """As of `Memory.report`, of all processes."""
        last = None
        if self.own is not None:
            last = self.processes.largest_of_all(torch.where(self.own, self.memory.last_write, -1))
        found = self.memory.report(last)
        if self.sync == "step":
            return found
        return found | {name: self.processes.sum_of_all(found[name]) for name in ("refused", "scaled") if name in found}

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
        for begin in range(0, len(self.memory.windows), _AT_ONCE):
            yield slice(begin, begin + _AT_ONCE)


def choose_sync(sync: Sync | None, data: Any, windows: WindowIndex, size: int) -> tuple[Sync, Tensor | None]:
    """When memories are brought together, and for "none" the process (N,) of each row.

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
    return sync, torch.from_numpy(data.window_owners(size))

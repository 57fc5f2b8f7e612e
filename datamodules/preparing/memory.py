"""Whether series fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import psutil
import xarray as xr
from pytorch_lightning.utilities import rank_zero_info

from mptt.errors import MPTTError

GIB = 2**30
# Of version 2 and 1: the limit of the container that the process is in, what it uses, and the cache in that.
_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def check_memory(memory: Any) -> None:
    """Check that the memory for series is None or a number of GiB above 0.

    Raises:
        MPTTError: it is not.
    """
    if memory is not None and (not isinstance(memory, Real) or isinstance(memory, bool) or not float(memory) > 0):
        raise MPTTError(f"memory is a number of GiB above 0, or None for half of what is free; found {memory!r}.")


def memory_for_series(memory: float | None) -> int:
    """Bytes: so many GiB, or half of what is free."""
    return int(free_memory() // 2 if memory is None else memory * GIB)


def free_memory() -> int:
    """Bytes that this process can still take, of the machine's and of its container's."""
    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cache in _CGROUPS:
        path = Path(folder)
        if (path / limit).is_file() and (most := (path / limit).read_text().strip()).isdigit():
            stat = dict(line.split() for line in (path / "memory.stat").read_text().splitlines())
            taken = int((path / used).read_text()) - int(stat.get(cache, 0))
            free = min(free, max(int(most) - taken, 0))
    return free


def row_bytes(inputs: int, targets: int, lagged: bool) -> int:
    """Bytes of one step of one site: float32 inputs, targets and lagged targets, and which targets are observed."""
    return 4 * inputs + 5 * targets + (4 * targets if lagged else 0)


@dataclass(frozen=True)
class Room:
    """Memory for series.

    Attributes:
        row: bytes of one step of one site.
        free: bytes that there are.
        loaded: whether what they are made of is in memory already, so that there is no reading them as needed.
    """

    row: int
    free: int
    loaded: bool

    @classmethod
    def beside(cls, dataset: xr.Dataset, names: Iterable[str], row: int, memory: float | None) -> Room:
        """For series of these variables, those of them that the data set has: `memory` GiB, or half of what is free."""
        loaded = all(dataset[name].variable._in_memory for name in names if name in dataset.variables)
        return cls(row, memory_for_series(memory), loaded)

    @property
    def steps(self) -> int | None:
        """Steps that there is room for; None: any number."""
        return None if self.loaded else self.free // self.row

    def tell(self, sites: int, steps: int, capacity: int | None) -> None:
        """Say whether series of so many steps are in memory, or read, so many sites at a time."""
        if not self.loaded:
            where = (
                "in memory" if capacity is None else f"read as batches need them, {capacity} sites at a time in memory"
            )
            rank_zero_info(f"Series of {sites} site(s), {self.row * steps / GIB:.2f} GiB: {where}.")

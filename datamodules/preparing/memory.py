"""Whether series fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import xarray as xr
from pytorch_lightning.utilities import rank_zero_info

from mptt.errors import MPTTError
from mptt.freememory import GIB, free_memory


def check_memory(memory: Any) -> None:
    """Check that the memory for series is None or a number of GiB above 0.

    Raises:
        MPTTError: it is not.
    """
    if memory is not None and (not isinstance(memory, Real) or isinstance(memory, bool) or not float(memory) > 0):
        raise MPTTError(f"memory is a number of GiB above 0, or None for half of what is free; found {memory!r}.")


def memory_for_series(memory: float | None, processes: int = 1) -> int:
    """Bytes: so many GiB, or half of what is free, which several processes of a machine share."""
    return int(free_memory() // 2 // processes if memory is None else memory * GIB)


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
    def beside(
        cls, dataset: xr.Dataset, names: Iterable[str], row: int, memory: float | None, processes: int = 1
    ) -> Room:
        """For series of these variables, those of them that the data set has: `memory` GiB, or half of what is free.

        Several processes of a machine share what is free.
        """
        loaded = all(dataset[name].variable._in_memory for name in names if name in dataset.variables)
        return cls(row, memory_for_series(memory, processes), loaded)

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

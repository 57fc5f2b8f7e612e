"""Where the rows of a memory live: on a device, or in files that are mapped into memory."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.freememory import GIB, free_memory

DISK = "disk"


class Storage:
    """Makes tables on a device, or in files: for a memory larger than RAM.

    A file has no name: its room is reserved when it is made, and comes back when no tensor uses it any more, also
    where the process was killed. To torch, rows in a file are a tensor on the CPU.

    Args:
        where: a torch device, or "disk".
        folder: on "disk", the directory of the files, made where it is missing; by default the system's for temporary
            files, which may itself be in RAM.

    Raises:
        MPTTError: no such device, or a folder for what is not on disk.

    Example:
        >>> Storage("disk").zeros(3, 2, dtype=torch.bfloat16).sum().item()
        0.0
    """

    def __init__(self, where: torch.device | str = "cpu", folder: str | Path | None = None) -> None:
        self.on_disk = where == DISK
        if folder is not None and not self.on_disk:
            raise MPTTError(f'Only a memory on "disk" has a folder, found {folder} for "{where}"; pass device="disk".')
        try:
            self.device = torch.device("cpu" if self.on_disk else where)
        except RuntimeError as error:
            raise MPTTError(f'A memory lives on a torch device or on "disk", found {where!r}: {error}') from error
        self.folder = Path(tempfile.gettempdir() if folder is None else folder).absolute()

    def __str__(self) -> str:
        if self.on_disk:
            return f"on disk ({self.folder})"
        return "in RAM" if self.device.type == "cpu" else f"on {self.device}"

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A table of zeros.

        Raises:
            MPTTError: the file cannot be made.
        """
        if not self.on_disk:
            return torch.zeros(shape, device=self.device, dtype=dtype)
        count = math.prod(shape)
        return torch.frombuffer(self._map(count * dtype.itemsize), dtype=dtype, count=count).view(shape)

    def check(self, needed: int, what: str) -> None:
        """Check that there is room for so many bytes.

        Args:
            needed: bytes.
            what: needs them, for the message.

        Raises:
            MPTTError: there is not; says how many there are, and the ways out.
        """
        free = self._free()
        if free is not None and needed > free:
            other = "another folder" if self.on_disk else 'device="disk"'
            raise MPTTError(
                f"{what} takes {_size(needed)} {self}, where {_size(free)} are free. Use"
                f' {other}, dtype="bfloat16" (half of float32), or fewer windows by a longer stride.'
            )

    def _free(self) -> int | None:
        if self.on_disk:
            self._make_folder()
            return shutil.disk_usage(self.folder).free
        if self.device.type == "cuda":
            # What torch holds in reserve is free to it.
            reserve = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return torch.cuda.mem_get_info(self.device)[0] + reserve
        return free_memory() if self.device.type == "cpu" else None

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MPTTError(f"The memory's folder {self.folder} cannot be made: {error}. Choose another.") from error

    def _map(self, size: int) -> mmap.mmap:
        self._make_folder()
        try:
            with tempfile.TemporaryFile(dir=self.folder, prefix="mptt-memory-") as file:
                file.truncate(size)
                # A hole that no longer fits when it is written to would end the process without a message.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            free = shutil.disk_usage(self.folder).free
            raise MPTTError(
                f"A file of {_size(size)} for the memory cannot be made in {self.folder}, where {_size(free)} are"
                f" free: {error}. Choose a folder that you may write to, with room and quota for it."
            ) from error


def _size(count: int) -> str:
    return f"{count:,} bytes ({count / GIB:.2f} GiB)"

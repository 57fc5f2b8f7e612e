"""The process that `mptt.hdf5` starts: opens NetCDF-4 files and reads them through, one a line; it may crash.

It is run by its path, without the package, and imports no more than it needs: it is there again in a moment.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import netCDF4

PIECE = 1 << 22  # values read at once
LARGE = 1 << 28  # bytes of a file of which only the corners are read


def read_through(path: str, names: Collection[str] | None) -> None:
    """Do what a reader does: open, list, read; of a large file the first and last value of each variable.

    Args:
        path: of the file.
        names: of variables whose values are read; all if None.
    """
    whole = os.path.getsize(path) <= LARGE
    with netCDF4.Dataset(path) as file:
        _group(file, names, whole)


def _group(group: Any, names: Collection[str] | None, whole: bool) -> None:
    for name in group.ncattrs():
        group.getncattr(name)
    for dimension in group.dimensions.values():
        dimension.isunlimited()
    for name, variable in group.variables.items():
        variable.set_auto_maskandscale(False)
        for attribute in variable.ncattrs():
            variable.getncattr(attribute)
        variable.filters(), variable.chunking(), variable.endian()
        if names is None or name in names or name in group.dimensions:
            _values(variable, whole)
    for inner in group.groups.values():
        _group(inner, names, whole)


def _values(variable: Any, whole: bool) -> None:
    """Read all values, a piece at a time: a damaged shape may ask for more than there is memory."""
    shape = variable.shape
    if not shape or not all(shape):
        variable[...]
        return
    if not whole:
        variable[(0,) * len(shape)], variable[tuple(size - 1 for size in shape)]
        return
    room, steps = PIECE, []
    for size in reversed(shape):
        steps.append(max(1, min(size, room)))
        room //= steps[-1]
    ranges = (range(0, size, step) for size, step in zip(shape, reversed(steps), strict=True))
    for begin in itertools.product(*ranges):
        variable[tuple(slice(at, at + step) for at, step in zip(begin, reversed(steps), strict=True))]


def main() -> None:
    """Answer each line, [path, names], with one, once the file was gone through; the first line says that it began."""
    # What the library says itself must not come between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        answers.write("begun\n")
        answers.flush()
        for line in sys.stdin:
            with suppress(Exception):  # who reads the file meets it too, and says what it is
                read_through(*json.loads(line))
            answers.write("tried\n")
            answers.flush()


if __name__ == "__main__":
    main()

"""How much memory a process can still take."""

from __future__ import annotations

from pathlib import Path

import psutil

GIB = 2**30
# Of version 2 and 1: the limit of the container that the process is in, what it uses, and the cache in that.
_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


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

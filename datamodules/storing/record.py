"""What a conversion has found and finished, on disk, so that a process that was killed can be gone on with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.reading.axes import Period
from mptt.datamodules.reading.source import Source
from mptt.errors import MPTTError
from mptt.files import bring_to_disk, write_atomically

_PLAN, _OUTLINES, _FINISHED, _STORE = "plan.json", "outlines.jsonl", "finished.txt", "store"


@dataclass(frozen=True)
class Outline:
    """What is known of one site before its values are kept.

    Attributes:
        period: of its dates.
        variables: names of its series, with the attributes of each.
    """

    period: Period
    variables: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, site: str, table: xr.Dataset) -> Outline:
        """The outline of a site's series."""
        variables = {str(name): plain(values.attrs) for name, values in table.data_vars.items()}
        return cls(Period.of(site, table.indexes["time"]), variables)


class Record:
    """The folder of an unfinished conversion: its plan, outlines of sites, how many groups are finished, the store.

    Args:
        folder: made where it is not there.
        plan: what is converted, and how; JSON.

    Raises:
        MPTTError: the folder is of another plan.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder, self.store = folder, folder / _STORE
        if folder.exists() and not (folder / _PLAN).exists():
            if any(folder.iterdir()):
                raise MPTTError(f"{folder} is in the way, and is no unfinished conversion; remove or rename it.")
            folder.rmdir()
        if not folder.exists():
            fresh = folder.with_name(folder.name + ".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            (fresh / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
            bring_to_disk(fresh / _PLAN)
            fresh.rename(folder)
        with self._naming():
            there = dict(json.loads((folder / _PLAN).read_text(encoding="utf-8")))
        here = json.loads(json.dumps(plan))
        if differs := [f"{key} ({there.get(key)}, now {here[key]})" for key in here if there.get(key) != here[key]]:
            raise MPTTError(
                f"{folder} is an unfinished conversion of another kind: {'; '.join(differs)}. Finish that one with the"
                " line that began it, or remove the folder."
            )
        with self._naming():
            self.outlines = self._read_outlines()

    def add(self, site: str, outline: Outline) -> None:
        """Keep the outline of a site."""
        self.outlines[site] = outline
        with (self.folder / _OUTLINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"site": site, **asdict(outline)}) + "\n")

    @property
    def finished(self) -> int:
        """Groups of sites whose values are in the store."""
        path = self.folder / _FINISHED
        with self._naming():
            return int(path.read_text()) if path.exists() and self.store.exists() else 0

    def finish(self, groups: int) -> None:
        """Note how many groups of sites are in the store, once they are on the disk."""
        for shard in self.store.glob(f"*/c/{groups - 1}/*"):
            bring_to_disk(shard)
        write_atomically(self.folder / _FINISHED, str(groups))

    def hand_over(self, path: Path) -> None:
        """Put the store at its place, over one that is there, and remove the rest."""
        for file in self.store.rglob("*"):
            bring_to_disk(file)
        if path.exists():
            replaced = self.folder / "replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        self.store.rename(path)
        shutil.rmtree(self.folder)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MPTTError(
                f"The unfinished conversion in {self.folder} is damaged ({type(error).__name__}: {error}); remove that"
                " folder, and give the same line again."
            ) from error

    def _read_outlines(self) -> dict[str, Outline]:
        path = self.folder / _OUTLINES
        if not path.exists():
            return {}
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # cut off by what ended the process
            lines.pop()
            write_atomically(path, "".join(lines))
        return {entry["site"]: _outline(entry) for entry in map(json.loads, lines)}


def plan_of(source: Source, variables: Sequence[str] | None, group: int | None) -> dict[str, Any]:
    """What tells one conversion from another."""
    path = source.path
    there = path.stat() if isinstance(path, Path) and path.is_file() else None
    return {
        "kind": source.kind,
        "path": str(path.absolute() if isinstance(path, Path) else path),
        "size": there and there.st_size,
        "changed": there and there.st_mtime_ns,
        "settings": plain(source.settings),
        "variables": variables and list(variables),
        "sites": len(source.sites),
        "hash of sites": hashlib.sha256("\n".join(source.sites).encode()).hexdigest(),
        "group": group,
    }


def plain(value: Any) -> Any:
    """A value as JSON and Zarr attributes can hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(one) for one in value]
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _outline(entry: Mapping[str, Any]) -> Outline:
    period = dict(entry["period"])
    for name in ("steps", "month_steps"):
        period[name] = {int(step): tuple(found) for step, found in period[name].items()}
    for name in ("first", "last"):
        period[name] = tuple(period[name])
    return Outline(Period(**period), entry["variables"])

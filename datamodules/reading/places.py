"""Where data lie: files and folders of this machine, and addresses (`s3://`, `memory://`) that fsspec knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError

Place = Path | str  # a path of this machine, or an address
ZARR_FILES = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")
_EXTRAS = {"s3": "s3", "s3a": "s3"}


def place_of(path: str | Path) -> Place:
    """A path, or an address as it stands; `file://` is a path.

    Raises:
        MPTTError: an address that was made a path, which loses a slash.
    """
    text = str(path)
    if isinstance(path, str) and "://" in text:
        if text.startswith("file://"):
            return Path(unquote(urlsplit(text).path))
        return text.rstrip("/")
    if re.match(r"[a-z][a-z0-9+]+:/[^/]", text):
        raise MPTTError(f"{text} is an address that was made a Path and lost a slash; give it as text.")
    return Path(path)


def name_of(place: Place) -> str:
    """The last part of a path or address."""
    return place.name if isinstance(place, Path) else place.rpartition("/")[2]


def is_folder(place: Place) -> bool:
    """Whether there is a folder."""
    if isinstance(place, Path):
        return place.is_dir()
    system, inside = _system(place)
    return _asked(place, system.isdir, inside)


def exists(place: Place) -> bool:
    """Whether there is anything."""
    if isinstance(place, Path):
        return place.exists()
    system, inside = _system(place)
    return _asked(place, system.exists, inside)


def is_zarr(place: Place) -> bool:
    """Whether a folder is a Zarr store, by the files that describe one."""
    if isinstance(place, Path):
        return place.is_dir() and any((place / name).is_file() for name in ZARR_FILES)
    return any(exists(f"{place}/{name}") for name in ZARR_FILES)


def hidden(path: Path, root: Path | None = None) -> bool:
    """Whether a file or folder, or one between it and a root, is of the file system's own: .DS_Store, ._a, __MACOSX."""
    names = (path.name,) if root is None else path.relative_to(root).parts
    return any(name.startswith((".", "__")) or name.lower() in ("thumbs.db", "desktop.ini") for name in names)


def files_in(folder: Place) -> list[Place]:
    """The files of a folder, sorted, hidden ones left out."""
    if isinstance(folder, Path):
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    system, inside = _system(folder)
    found = _asked(folder, system.ls, inside, detail=True)
    names = sorted(entry["name"] for entry in found if entry["type"] == "file")
    return [system.unstrip_protocol(name) for name in names if not name.rpartition("/")[2].startswith(".")]


def matching(pattern: Place) -> list[Place]:
    """The files that a pattern with * or ? names, sorted."""
    if isinstance(pattern, Path):
        absolute = pattern if pattern.is_absolute() else Path.cwd() / pattern
        within = absolute.relative_to(absolute.anchor)
        return sorted(path for path in Path(absolute.anchor).glob(str(within)) if not path.name.startswith("."))
    system, inside = _system(pattern)
    return [system.unstrip_protocol(name) for name in sorted(_asked(pattern, system.glob, inside))]


def read_bytes(place: Place) -> bytes:
    """The content of a file.

    Raises:
        MPTTError: it is not there, or must not be read.
    """
    try:
        if isinstance(place, Path):
            return place.read_bytes()
        system, inside = _system(place)
        return bytes(system.cat_file(inside))
    except OSError as error:
        raise MPTTError(f"{place} cannot be read: {error}. Check the path and its permissions.") from error


def local_file(place: Place) -> Path:
    """The file on this machine; one at an address is copied to a temporary folder for the length of the program."""
    if isinstance(place, Path):
        return place
    import fsspec

    _system(place)
    try:
        return Path(fsspec.open_local(f"simplecache::{place}"))
    except Exception as error:  # every file system has its own
        raise MPTTError(f"{place} cannot be fetched: {error}. Check the address and the connection.") from error


def refuse_absent(place: Place, wanted: str) -> None:
    """Say that there is nothing at a place, and what is beside it.

    Raises:
        MPTTError: there is nothing.
    """
    if exists(place):
        return
    if isinstance(place, Path):
        beside = sorted(path.name for path in place.parent.iterdir()) if place.parent.is_dir() else []
        where = f" (looked from {Path.cwd()}; beside it: {listed(beside)})"
    else:
        where = ""
    raise MPTTError(f"No data set at {place}{where}; give the path of {wanted}.")


def _system(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, inside = fsspec.core.url_to_fs(address)
    except ImportError as error:
        scheme = address.partition("://")[0]
        way = f'pip install "mptt[{_EXTRAS[scheme]}]"' if scheme in _EXTRAS else "install the package that it names"
        raise MPTTError(f"{address} cannot be read without a further package ({error}): {way}.") from error
    except ValueError as error:
        raise MPTTError(f"{address} is an address of no known kind ({error}); as s3://, https://, file://.") from error
    return system, str(inside)


def _asked(place: str, question: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return question(*arguments, **options)
    except Exception as error:  # every file system has its own
        raise MPTTError(f"{place} cannot be reached: {error}. Check the address and the connection.") from error

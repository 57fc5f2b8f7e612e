"""Files that are whole or not there: what is written takes its place in one step, once all of it is on the disk."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from mptt.errors import MPTTError

_WAYS_OUT = {
    errno.ENOSPC: "Make room on its disk",
    errno.EDQUOT: "Make room in your quota",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "Its file system is read-only: make it writable",
    errno.EACCES: "Get permission to write there",
    errno.EPERM: "Get permission to write there",
}
_DRAFT = ".partial"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all; what was there before stays until then.

    The block writes to the path that it is given, in the same folder. When it ends well, that file is brought to the
    disk and takes its place in one step; a reader, and whoever comes after a kill or a power failure, finds the file of
    before or the new one. What a killed process has left of it is removed by the next that writes the same file.

    Args:
        path: of the file; its folder is made where it is not there.

    Raises:
        MPTTError: it cannot be written (a full disk, no permission); says how to go on.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with written_whole(f"{folder}/a.txt") as draft:
        ...         _ = draft.write_text("all of it")
        ...     Path(folder, "a.txt").read_text()
        'all of it'
    """
    path = Path(path)
    draft = _draft(path)
    try:
        remove_left_overs(path)
        yield draft
        bring_to_disk(draft)
        os.replace(draft, path)
        bring_to_disk(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A folder beside a path to put something together in, gone at the end; ended processes' ones are removed first."""
    remove_left_overs(path)
    draft = _draft(path)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text file, in UTF-8, whole or not at all.

    Raises:
        MPTTError: it cannot be written.
    """
    with written_whole(path) as draft:
        # As it is, also where lines end otherwise.
        draft.write_bytes(text.encode())


def cannot_write(path: Path, error: OSError) -> MPTTError:
    """What is raised where a file cannot be written: names it, and the way out."""
    way_out = _WAYS_OUT.get(error.errno or 0, "Mend that")
    before = "; the file of before is kept" if path.is_file() else ""
    return MPTTError(
        f"{path} cannot be written: {error.strerror or error}{before}. {way_out}, or choose another folder, and give"
        " the same line again."
    )


def bring_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, would outlast a power failure."""
    if path.is_dir():
        # Not every system can do it with a folder, and some file systems refuse.
        with suppress(OSError):
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def _sync(path: Path, mode: int) -> None:
    file = os.open(path, mode)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove_left_overs(path: Path) -> None:
    """Remove drafts of processes of this machine that are no more; the folder is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = f"{path.name}.{_host()}-"
    for one in path.parent.iterdir():
        if one.name.startswith(begin) and one.name.endswith(_DRAFT):
            process = one.name[len(begin) : -len(_DRAFT)]
            if process.isdigit() and not psutil.pid_exists(int(process)):
                if one.is_dir():
                    shutil.rmtree(one, ignore_errors=True)
                else:
                    one.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.{_host()}-{os.getpid()}{_DRAFT}")


def _host() -> str:
    return platform.node().partition(".")[0] or "host"

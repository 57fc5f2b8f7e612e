"""Archives unpacked, and never outside their folder."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from mptt.errors import MPTTError

# A password is a RuntimeError, a way of packing that Python does not know a NotImplementedError.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)


def is_archive(path: Path) -> bool:
    """Whether a file is one to unpack, by its name."""
    return path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"))


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar file.

    Args:
        path: of the archive.
        folder: made where it is not there.

    Raises:
        MPTTError: a broken archive, or one with links, devices, or paths that lead out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        if path.name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for one in archive.infolist():
                    if stat.S_ISLNK(one.external_attr >> 16):
                        _refuse(path, one.filename, "a link")
                    place = _inside(path, folder, one.filename)
                    if one.is_dir():
                        place.mkdir(parents=True, exist_ok=True)
                    else:
                        place.parent.mkdir(parents=True, exist_ok=True)
                        with archive.open(one) as packed, place.open("wb") as file:
                            shutil.copyfileobj(packed, file, 1 << 20)
        else:
            with tarfile.open(path, "r|*") as tar:
                for member in tar:
                    place = _inside(path, folder, member.name)
                    if member.isdir():
                        place.mkdir(parents=True, exist_ok=True)
                    elif content := tar.extractfile(member) if member.isreg() else None:
                        place.parent.mkdir(parents=True, exist_ok=True)
                        with content, place.open("wb") as file:
                            shutil.copyfileobj(content, file, 1 << 20)
                    else:
                        _refuse(path, member.name, "no file and no folder")


def lift(folder: Path, root: str = "") -> None:
    """Put what is in a folder's `root`, or in the only folder that it holds, into the folder itself.

    Args:
        folder: to change.
        root: name of a folder in it; left alone where it is not there.
    """
    inside = list(folder.iterdir())
    top = folder / root if root else inside[0] if len(inside) == 1 else folder
    if top == folder or not top.is_dir():
        return
    aside = folder.with_name(folder.name + ".root")
    top.rename(aside)
    for one in aside.iterdir():
        one.rename(folder / one.name)
    aside.rmdir()


def _inside(archive: Path, folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or {"..", "\\"} & {*parts, *name}:
        _refuse(archive, name, "a path that leads out of its folder")
    return folder.joinpath(*parts)


def _refuse(archive: Path, name: str, what: str) -> None:
    raise MPTTError(f"{archive} holds {name!r}, {what}; it is not unpacked. Get it from its official place.")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except MPTTError:
        raise
    except (FileExistsError, IsADirectoryError, NotADirectoryError, *_BROKEN) as error:
        raise MPTTError(f"{path} is no intact archive ({error}); remove it and download it again.") from error

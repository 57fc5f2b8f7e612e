"""Data sets downloaded from where their authors publish them: checked, unpacked, and gone on with when broken off."""

from __future__ import annotations

import difflib
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pooch
import requests

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.storing.registry import ARCHIVES, Archive
from mptt.datamodules.storing.resuming import Bytes, Resuming
from mptt.datamodules.storing.unpacking import is_archive, lift, unpack
from mptt.errors import MPTTError, MPTTWarning
from mptt.files import bring_to_disk


class _File(NamedTuple):
    url: str
    size: int
    checksum: str  # "md5:..."


def download(
    name: str,
    folder: str | Path,
    *,
    registry: Mapping[str, Archive] = ARCHIVES,
    base: str = "https://zenodo.org",
    shown: Bytes = lambda *_: None,
    attempts: int = 5,
    pause: float = 2.0,
) -> Path:
    """Download a data set and unpack it into `folder/name`.

    Files come from the record at Zenodo that the authors published; their sizes and checksums (MD5) are those that the
    record states at the time. Everything goes into `folder/name.partial`, which becomes `folder/name` once all is
    checked and unpacked. After an interruption the same call goes on, in the middle of a file where the server can.

    Args:
        name: in the registry, such as "camels_ch".
        folder: that the data set's own folder goes into.
        registry: of archives.
        base: address of the server of records.
        shown: called as bytes come in, with the file's name, the bytes so far, and of how many.
        attempts: at one file, in a row without a byte more.
        pause: seconds before the second attempt; twice as long each time.

    Returns:
        The folder of the data set.

    Raises:
        MPTTError: an unknown name; data that need a login; something there already; no room; no connection; a file that
            is not in the record, is not what its checksum says, or no intact archive.
    """
    archive = find_archive(name, registry)
    place = Path(folder) / name
    if place.exists():
        raise MPTTError(f"There is something at {place} already; choose another folder, or remove it.")
    work = place.with_name(name + ".partial")
    if archive.record is None:
        raise MPTTError(
            f"{archive.by_hand}. Get {archive.title} by hand from https://doi.org/{archive.doi} and unpack it into"
            f" {place}."
        )
    try:
        work.mkdir(parents=True, exist_ok=True)
        files = _files(archive, base, work)
        _check_room(work, files)
        for key, file in files.items():
            _fetch(file, key, work, archive, Resuming(file.size, shown, attempts, pause))
        _unpack(archive, work, work / "unpacked").rename(place)
        shutil.rmtree(work)
    except OSError as error:
        raise MPTTError(
            f"Writing into {work} stopped: {error}. What is there is kept; the same line goes on once there is room, or"
            " the cause is gone."
        ) from error
    return place


def _unpack(archive: Archive, work: Path, unpacked: Path) -> Path:
    shutil.rmtree(unpacked, ignore_errors=True)
    for key in archive.files:
        if is_archive(work / key):
            unpack(work / key, unpacked)
    lift(unpacked, archive.root)
    for key, into in archive.files.items():
        if not is_archive(work / key):
            (unpacked / into).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work / key, unpacked / into / key)
    for file in unpacked.rglob("*"):
        bring_to_disk(file)
    return unpacked


def find_archive(name: str, registry: Mapping[str, Archive] = ARCHIVES) -> Archive:
    """The archive of a name.

    Raises:
        MPTTError: there is none; says which there are.
    """
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), registry, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise MPTTError(f"No archive is called {name!r}.{hint} There are {listed(registry)}.")


def _files(archive: Archive, base: str, work: Path) -> dict[str, _File]:
    """What the record says of the files; nothing where it cannot be read but all files were put there by hand."""
    url = f"{base}/api/records/{archive.record}"
    try:
        answer = requests.get(url, timeout=60)
        answer.raise_for_status()
        record: dict[str, Any] = answer.json()
        there = {one["key"]: _File(one["links"]["self"], int(one["size"]), one["checksum"]) for one in record["files"]}
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        if all((work / key).is_file() for key in archive.files):
            warnings.warn(
                f"The record {url} cannot be read, so the files in {work} are unpacked without their checksums.",
                MPTTWarning,
                stacklevel=3,
            )
            return {}
        raise MPTTError(f"The record {url} cannot be read ({str(error)[:200]}). {_by_hand(archive, work)}") from error
    if missing := [key for key in archive.files if key not in there]:
        raise MPTTError(
            f"The record {url} has no file {listed(missing)}; it has {listed(there)}. Look for a newer version at"
            f" https://doi.org/{archive.doi}."
        )
    return {key: there[key] for key in archive.files}


def _check_room(work: Path, files: Mapping[str, _File]) -> None:
    held = sum(one.stat().st_size for one in work.iterdir() if one.is_file())
    due, free = sum(file.size for file in files.values()), shutil.disk_usage(work).free
    if due - held > free:
        raise MPTTError(
            f"The files are {due / 1e9:.1f} GB, and {work} has room for {free / 1e9:.1f} GB; unpacked they need more"
            " than that again. Choose a folder on another disk."
        )


def _fetch(file: _File, key: str, work: Path, archive: Archive, downloader: Resuming) -> None:
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(file.url, known_hash=file.checksum, fname=key, path=work, downloader=downloader)
    except MPTTError as error:
        raise MPTTError(f"{error} {_by_hand(archive, work)}") from error
    except ValueError as error:  # of pooch, for a checksum
        raise MPTTError(
            f"{key} is not what its record says ({file.checksum} is due), and is not kept. Try again;"
            f" if it stays so: {_by_hand(archive, work)}"
        ) from error


def _by_hand(archive: Archive, work: Path) -> str:
    return (
        f"Without a connection: download {listed(archive.files)} by hand from https://doi.org/{archive.doi} (record"
        f" {archive.record} at zenodo.org), put it into {work}, and give the same line again."
    )

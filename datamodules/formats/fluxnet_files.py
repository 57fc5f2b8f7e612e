"""Which FLUXNET product files there are, by their names: in folders of a site each, loose, or in archives."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mptt.datamodules.formats.fluxnet_variables import FINE
from mptt.datamodules.preparing.checks import check_sites, listed
from mptt.datamodules.reading.places import read_bytes
from mptt.datamodules.reading.tables import check_text
from mptt.errors import MPTTError, MPTTWarning

_NAME = re.compile(
    r"[A-Z]+_(?P<site>[A-Z]{2}-[A-Za-z0-9]{3})_FLUXNET(?:2015|-CH4)?_(?:(?P<product>[A-Z0-9]+)_)?"
    r"(?P<step>HH|HR|DD|WW|MM|YY)(?:_.*)?\.(?i:csv)"
)
_ARCHIVE = re.compile(r"[A-Z]+_[A-Z]{2}-[A-Za-z0-9]{3}_FLUXNET.*\.(?i:zip)")


@dataclass(frozen=True)
class ProductFile:
    """A product file, in a folder or in an archive."""

    path: Path
    member: str | None
    site: str
    product: str
    step: str

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    @property
    def name(self) -> str:
        """Of the file, wherever it lies."""
        return self.path.name if self.member is None else self.member.rpartition("/")[2]

    def content(self) -> bytes:
        """The text of the file.

        Raises:
            MPTTError: it cannot be read or unpacked, or is no text.
        """
        if self.member is None:
            return check_text(str(self), read_bytes(self.path))
        try:
            with zipfile.ZipFile(self.path) as archive:
                return check_text(str(self), archive.read(self.member))
        # A password is a RuntimeError, a packing that is not known a NotImplementedError; damage may be a zlib.error.
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise MPTTError(f"{self} cannot be unpacked: {error}. Get an intact copy.") from error


def find_products(path: Path) -> list[ProductFile]:
    """All product files at a path.

    Raises:
        MPTTError: an archive that cannot be read.
    """
    found = []
    for one in _candidates(path):
        if match := _NAME.fullmatch(one.name):
            found.append(_of(match, one, None))
        elif _ARCHIVE.fullmatch(one.name):
            found += _members(one)
    return found


def holds_products(path: Path) -> bool:
    """Whether there are files, or archives, with names of FLUXNET products."""
    return path.exists() and any(_NAME.fullmatch(one.name) or _ARCHIVE.fullmatch(one.name) for one in _candidates(path))


def choose_products(path: Path, product: str, step: str, sites: Sequence[str] | None) -> dict[str, ProductFile]:
    """The file of each site: of a file that lies there unpacked and in an archive, the unpacked one, with a note.

    Args:
        path: of a folder, an archive or a file.
        product: as in the files' names.
        step: likewise; "HH" takes hourly files too.
        sites: in their order; None: all, sorted.

    Raises:
        MPTTError: no such files, or two of one site.
    """
    if not path.exists():
        raise MPTTError(f"No FLUXNET files at {path}: nothing is there (looked from {Path.cwd()}).")
    there = find_products(path)
    if not there:
        inside = sorted(one.name for one in path.iterdir()) if path.is_dir() else [path.name]
        raise MPTTError(
            f"{path} holds no file called FLX_<site>_FLUXNET2015_<product>_<step>_<years>_<version>.csv, nor folders or"
            f" archives with one; found {listed(inside)}."
        )
    steps = FINE if step in FINE else (step,)
    files: dict[str, ProductFile] = {}
    for one in _unpacked([each for each in there if each.product == product and each.step in steps]):
        if one.site in files:
            raise MPTTError(f"Site {one.site} has two files, {files[one.site]} and {one}; keep one of them.")
        files[one.site] = one
    if not files:
        kinds = sorted({f"{one.product} {one.step} ({one.site})" for one in there})
        raise MPTTError(f"{path} has no file of the product {product} with the step {step}; there are {listed(kinds)}.")
    if sites is None:
        return files
    if isinstance(sites, str):
        raise MPTTError(f"sites is a list of names; for one site, [{sites!r}].")
    check_sites(list(sites))
    if unknown := [site for site in sites if site not in files]:
        raise MPTTError(f"No {product} {step} file of site {listed(unknown)} in {path}; there are {listed(files)}.")
    return {site: files[site] for site in sites}


def _unpacked(files: Sequence[ProductFile]) -> list[ProductFile]:
    """Sorted by site, without the copies in archives of what lies unpacked beside them."""
    loose = {one.name for one in files if one.member is None}
    copies = [one for one in files if one.member is not None and one.name in loose]
    if copies:
        warnings.warn(
            f"{len(copies)} file(s) lie unpacked and in an archive, and the unpacked ones are read:"
            f" {listed(one.name for one in copies)}.",
            MPTTWarning,
            stacklevel=4,
        )
    return sorted((one for one in files if one not in copies), key=lambda each: each.site)


def _candidates(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(one for depth in ("*", "*/*") for one in path.glob(depth) if one.is_file())


def _of(match: re.Match[str], path: Path, member: str | None) -> ProductFile:
    return ProductFile(path, member, match["site"], match["product"] or "FULLSET", match["step"])


def _members(archive: Path) -> list[ProductFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise MPTTError(f"{archive} is no archive that can be read: {error}. Get an intact copy.") from error
    matches = [(name, _NAME.fullmatch(name.rpartition("/")[2])) for name in names]
    return [_of(match, archive, name) for name, match in matches if match]

"""Where the files of Caravan and of its extensions lie."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mptt.datamodules.formats.caravan_variables import ATTRIBUTES
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.attributes import attribute_table, joined
from mptt.datamodules.reading.places import hidden
from mptt.errors import MPTTError, MPTTWarning

FORMATS = {"netcdf": ".nc", "csv": ".csv"}  # the first has the right of way
_NUMBERS = {name for name, (units, _) in ATTRIBUTES.items() if units}
_SITE = re.compile(r"[A-Za-z0-9]+_[\w.\-]+")


@dataclass
class Files:
    """The files of one source, such as camels or camelsgb.

    Attributes:
        series: by format, the file of each gauge.
        attributes: CSV files.
    """

    series: dict[str, dict[str, Path]] = field(default_factory=lambda: {form: {} for form in FORMATS})
    attributes: list[Path] = field(default_factory=list)

    def of(self, form: str | None) -> dict[str, Path]:
        """The file of each gauge, in one format or whichever there is."""
        return dict(self.series[form]) if form else {**self.series["csv"], **self.series["netcdf"]}


def homes(root: Path) -> list[Path]:
    """The folders that hold `timeseries` or `attributes`: the root, and folders in it down to the second level."""
    if not root.is_dir():
        return []
    levels = [[root], _folders(root), [inner for folder in _folders(root) for inner in _folders(folder)]]
    return [folder for level in levels for folder in level if _is_home(folder)]


def find_sources(root: Path, sources: Sequence[str] | None) -> dict[str, Files]:
    """The files of each source, by its name; a warning names what is neither.

    Args:
        root: the folder.
        sources: names, kept in their order; by default all that have series, sorted.

    Raises:
        MPTTError: no Caravan there, no such source, or a gauge with two files.
    """
    found: dict[str, Files] = {}
    odd: list[str] = []
    for home in homes(root):
        for form, ending in FORMATS.items():
            for path in _inside(home / "timeseries" / form, odd, root):
                files = found.setdefault(path.name, Files())
                for each in sorted([*path.iterdir(), *path.glob("*/*")]):
                    if hidden(each) or hidden(each.parent) or not each.is_file():
                        continue
                    if each.suffix == ending:
                        _take(files.series[form], each)
                    else:
                        odd.append(str(each.relative_to(root)))
        for path in _inside(home / "attributes", odd, root):
            csv = [each for each in sorted(path.rglob("*.csv")) if not hidden(each, path)]
            found.setdefault(path.name, Files()).attributes += csv
    with_series = sorted(name for name, files in found.items() if files.of(None))
    if not with_series:
        raise MPTTError(_nothing(root))
    if sources is not None and (unknown := [name for name in sources if name not in with_series]):
        raise MPTTError(f"{root} has no series of source {listed(unknown)}. There are {listed(with_series)}.")
    if sources is None:
        odd += [f"attributes/{name} (no series)" for name in sorted(set(found) - set(with_series))]
    if odd:
        warnings.warn(
            f"In {root} {len(odd)} file(s) or folder(s) are not of Caravan's layout and left out: {listed(odd)}.",
            MPTTWarning,
            stacklevel=4,
        )
    return {name: found[name] for name in (with_series if sources is None else dict.fromkeys(sources))}


def read_attribute_files(name: str, files: Files) -> pd.DataFrame:
    """The attributes of one source, fields as text, indexed by gauge id; a warning names odd files.

    Raises:
        MPTTError: a file is no table, or two say other things of a gauge.
    """
    tables: dict[Path, pd.DataFrame] = {}
    without, misspelt = [], []
    for path in files.attributes:
        table = attribute_table(path, numbers=_NUMBERS)
        if table is None:
            without.append(path.name)
            continue
        tables[path] = table
        if not path.name.startswith("attributes_"):
            misspelt.append(path.name)
    said = [f"left out, without a column gauge_id: {listed(without)}"] if without else []
    said += [f"read, though the name does not begin with attributes_: {listed(misspelt)}"] if misspelt else []
    said += ["there is none"] if not tables else []
    if said:
        warnings.warn(f"Attribute files of source {name}: {'; '.join(said)}.", MPTTWarning, stacklevel=4)
    return joined(tables)


def series_files(name: str, files: Mapping[str, Path], known: pd.Index) -> dict[str, Path]:
    """The file of each gauge of a source; a warning names files that are of none, by their names.

    Args:
        name: of the source.
        files: by their names without the ending.
        known: gauge ids that have attributes.
    """
    ids = set(known)
    of_gauge = {}
    odd = []
    for site, path in sorted(files.items()):
        prefixed = site.lower().startswith(f"{name.lower()}_") or not ids
        if site in ids or (prefixed and _SITE.fullmatch(site)):
            of_gauge[site] = path
        else:
            odd.append(path.name)
    if odd:
        warnings.warn(
            f"{len(odd)} file(s) among the series of source {name} are of no gauge of it, by their names, and left"
            f" out: {listed(odd)}.",
            MPTTWarning,
            stacklevel=4,
        )
    return of_gauge


def _take(files: dict[str, Path], path: Path) -> None:
    if path.stem in files:
        raise MPTTError(f"Gauge {path.stem} has two files, {files[path.stem]} and {path}; keep one of them.")
    files[path.stem] = path


def _inside(folder: Path, odd: list[str], root: Path) -> Iterator[Path]:
    """The folders in a folder; files in it are odd."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if hidden(path):
            continue
        if path.is_dir():
            yield path
        else:
            odd.append(str(path.relative_to(root)))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path))


def _is_home(folder: Path) -> bool:
    return (folder / "attributes").is_dir() or any((folder / "timeseries" / form).is_dir() for form in FORMATS)


def _nothing(root: Path) -> str:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        return (
            f"No Caravan at {root}: found {found} there (looked from {Path.cwd()}). Give the folder that holds"
            " attributes and timeseries, or a NetCDF file of many basins."
        )
    above = root.parent if root.name == "timeseries" else root.parent.parent if root.name in FORMATS else None
    way = f"Give {above} as root." if above else "Unpack Caravan or an extension of it there."
    return (
        f"{root} has no series of Caravan, timeseries/csv/SOURCE/GAUGE.csv or timeseries/netcdf/SOURCE/GAUGE.nc, nor"
        f" have folders in it down to the second level; it holds"
        f" {listed(sorted(path.name for path in root.iterdir()))}. {way}"
    )

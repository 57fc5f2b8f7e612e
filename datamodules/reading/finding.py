"""Which files lie at a path, and of which kind they are."""

from __future__ import annotations

from pathlib import Path

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.frames import PARQUET
from mptt.datamodules.reading.places import Place, files_in, is_folder, is_zarr, matching, name_of, refuse_absent
from mptt.errors import MPTTError

ENDINGS = {
    "netcdf": (".nc", ".nc4", ".cdf", ".netcdf"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "parquet": PARQUET,
}


def find_files(place: Place, beside: Place | None = None) -> tuple[str, list[Place]]:
    """The kind of the files at a place, and which they are; `beside` is another that may lie there.

    Raises:
        MPTTError: nothing there, no file that can be read, files of several kinds.
    """
    if is_pattern(place):
        found = matching(place)
        if not found:
            raise MPTTError(f"No file is called as {place} (looked from {Path.cwd()}).")
        if all(is_zarr(one) for one in found):
            return "zarr", found
    elif is_zarr(place):
        return "zarr", [place]
    else:
        refuse_absent(place, "a NetCDF, CSV or Parquet file, a Zarr store, or a folder of files")
        if not is_folder(place):
            return _kind(place, [place]), [place]
        found = files_in(place)
    known = [one for one in found if one != beside and _ending(one) is not None]
    if not known:
        endings = " ".join(ending for some in ENDINGS.values() for ending in some)
        raise MPTTError(
            f"{place} holds no file that can be read ({endings}), nor is it a Zarr store: found"
            f" {listed(map(name_of, found))}."
        )
    return _kind(place, known), known


def is_pattern(place: Place) -> bool:
    """Whether a path has * or ? in it, and no file is called so."""
    return any(sign in name_of(place) or sign in str(place) for sign in "*?[") and not (
        isinstance(place, Path) and place.exists()
    )


def _ending(place: Place) -> str | None:
    name = name_of(place).casefold()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None)


def _kind(place: Place, files: list[Place]) -> str:
    kinds: dict[str | None, list[str]] = {}
    for one in files:
        kinds.setdefault(_ending(one), []).append(name_of(one))
    if len(kinds) > 1:
        found = "; ".join(f"{kind}: {listed(names, 3)}" for kind, names in kinds.items())
        raise MPTTError(
            f"{place} holds files of several kinds ({found}). Say which with a pattern, as {place}/*.nc; a table of"
            " attributes with attributes_file."
        )
    kind = next(iter(kinds))
    if kind is None:
        endings = " ".join(ending for some in ENDINGS.values() for ending in some)
        raise MPTTError(f"{place} has no ending that says what it is; files are called {endings}, or are Zarr stores.")
    return kind


def stem_of(place: Place) -> str:
    """The name of a file or store without its ending."""
    name = name_of(place)
    endings = [ending for some in ENDINGS.values() for ending in some] + [".zarr"]
    return name[: -max((len(ending) for ending in endings if name.casefold().endswith(ending)), default=0) or None]

"""Which basins of CAMELS-US are read: those asked for, by id, by list, or the subset of 531."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mptt.datamodules.formats.camels_us_attributes import attribute_files, attribute_numbers
from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError, MPTTWarning

Basins = Sequence[str] | str | Path | None

SUBSET = "531"
SUBSET_FILES = ("531_basin_list.txt", "basin_list_531.txt")
_LARGEST = 2000.0  # km2
_DIFFERENCE = 0.1


def choose_basins(
    basins: Basins, files: Mapping[str, Mapping[str, object]], root: Path, attributes_root: Path | None
) -> tuple[list[str], str]:
    """The gauge ids to read, and in words how they were chosen.

    Args:
        basins: as of `read_camels_us`.
        files: by what they hold ("daymet forcing", "streamflow"), the file of each basin; a basin needs one of each.
        root: the folder of the data set.
        attributes_root: another one that holds the attribute files.

    Raises:
        MPTTError: a basin is not there or lacks a file, is named twice, or is no string of 8 digits.
    """
    known = sorted(set().union(*files.values()))
    lacks = {
        basin: next(what for what, those in files.items() if basin not in those)
        for basin in known
        if not all(basin in those for those in files.values())
    }
    if isinstance(basins, str | int) and str(basins) == SUBSET:
        return _subset(known, lacks, root, attributes_root)
    if basins is None:
        return _all(known, lacks, list(files)), "all"
    chosen = _basin_list(basins) if isinstance(basins, str | Path) else list(basins)
    if not chosen:
        raise MPTTError("The list of basins is empty; basins=None reads all.")
    for basin in chosen:
        if not isinstance(basin, str):
            hint = f"{basin:08d}" if isinstance(basin, int | np.integer) else "01031500"
            raise MPTTError(f"A basin is a string of 8 digits, as {hint!r}; found {basin!r} ({type(basin).__name__}).")
    if unknown := [basin for basin in chosen if basin not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=3)
        hint = f"Near {unknown[0]!r}: {', '.join(near)}" if near else f"There are {listed(known)}"
        raise MPTTError(f"No file of basin {listed(unknown)}. {hint}.")
    if lacking := [f"{basin} (no {lacks[basin]})" for basin in chosen if basin in lacks]:
        raise MPTTError(f"Basins asked for are not complete: {listed(lacking)}.")
    if twice := sorted({basin for basin in chosen if chosen.count(basin) > 1}):
        raise MPTTError(f"Basins asked for more than once: {listed(twice)}.")
    return chosen, "as listed"


def _all(known: list[str], lacks: Mapping[str, str], due: list[str]) -> list[str]:
    incomplete = [f"{basin} (no {what})" for basin, what in lacks.items()]
    if len(lacks) == len(known):
        together = f"both {due[0]} and {due[1]}" if len(due) == 2 else f"{', '.join(due[:-1])} and {due[-1]}"
        raise MPTTError(f"No basin has {together}: {listed(incomplete)}.")
    if lacks:
        warnings.warn(f"{len(lacks)} of {len(known)} basins left out: {listed(incomplete)}.", MPTTWarning, stacklevel=4)
    return [basin for basin in known if basin not in lacks]


def _basin_list(path: str | Path) -> list[str]:
    if not Path(path).is_file():
        raise MPTTError(
            f"No list of basins at {path} (looked from {Path.cwd()}). Give the path of a text file with an id a line,"
            " or a list of ids, as ['01031500']."
        )
    return Path(path).read_text(encoding="utf-8-sig").split()


def _subset(
    known: list[str], lacks: Mapping[str, str], root: Path, attributes_root: Path | None
) -> tuple[list[str], str]:
    """The 531 basins where a file lists them, else those of the rule; with a warning where they are not 531."""
    listing = next((root / name for name in SUBSET_FILES if (root / name).is_file()), None)
    wanted = _basin_list(listing) if listing else _by_rule(root, attributes_root)
    if len(set(wanted)) < len(wanted) or not wanted:
        raise MPTTError(f"{listing or 'camels_topo.txt'} names no basin, or one twice.")
    how = (
        f"as listed in {listing.name}"
        if listing
        else "by the rule of Newman et al. (2017) from camels_topo.txt (at most 2000 km2, area_geospa_fabric within"
        " 10 % of area_gages2)"
    )
    chosen = [basin for basin in wanted if basin in known and basin not in lacks]
    if not chosen:
        raise MPTTError(f'basins="{SUBSET}": none of the {len(wanted)} basins {how} is complete in {root}.')
    if not listing or len(chosen) != int(SUBSET):
        rest = f"; {len(chosen)} of them have all files here" if len(chosen) < len(wanted) else ""
        instead = (
            ""
            if listing
            else f" The rule does not give the published list exactly: put that in {root / SUBSET_FILES[0]}, an id a"
            " line, to have it."
        )
        warnings.warn(f'basins="{SUBSET}": {len(wanted)} basins {how}{rest}.{instead}', MPTTWarning, stacklevel=4)
    return chosen, f"{len(wanted)} basins {how}, {len(chosen)} of them here"


def _by_rule(root: Path, attributes_root: Path | None) -> list[str]:
    topography = next((path for path in attribute_files(root, attributes_root) if path.name == "camels_topo.txt"), None)
    if topography is None:
        raise MPTTError(
            f'basins="{SUBSET}" needs camels_topo.txt, which is not among the attribute files, or a list of the basins'
            f" in {root / SUBSET_FILES[0]}, an id a line."
        )
    areas = attribute_numbers(topography, ["area_gages2", "area_geospa_fabric"])
    gages, fabric = areas["area_gages2"], areas["area_geospa_fabric"]
    return list(areas.index[(gages <= _LARGEST) & ((fabric - gages).abs() <= _DIFFERENCE * gages)])

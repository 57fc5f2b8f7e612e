"""Where the files of CAMELS-US lie: by product and by basin, with or without folders of hydrologic units."""

from __future__ import annotations

import re
from pathlib import Path

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.places import hidden
from mptt.errors import MPTTError

FOLDERS = ("basin_mean_forcing", "usgs_streamflow")
FORCING_FILE = re.compile(r"(\d{8})_lump_\w+_forcing_leap\.txt")
FLOW_FILE = re.compile(r"(\d{8})_streamflow_qc\.txt")
_MODEL_FILE = re.compile(r"(\d{8})_(\d+)_model_output\.txt")


def find_folder(root: Path, name: str) -> Path:
    """A folder in the root.

    Raises:
        MPTTError: it is not there; says what is.
    """
    folder = root / name
    if folder.is_dir():
        return folder
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise MPTTError(
            f"No CAMELS-US folder at {root}: found {found} there (looked from {Path.cwd()}). Give the folder that holds"
            " basin_mean_forcing and usgs_streamflow; the data are at doi:10.5065/D6MW2F4D."
        )
    inside = next((path for depth in ("*", "*/*") for path in sorted(root.glob(f"{depth}/{name}"))), None)
    raise MPTTError(
        f"{root} has no folder {name}; it holds {listed(sorted(path.name for path in root.iterdir()))}."
        + (f" There is one in {inside.parent}: give that as root." if inside else " Give the folder that has it.")
    )


def find_product(products: Path, forcing: str) -> Path:
    """The folder of a product's weather, with the others or in the root.

    Raises:
        MPTTError: it is not there; says which are.
    """
    beside = products.parent / forcing
    there = product_names(products)
    if forcing in there:
        return products / forcing
    if forcing and beside.is_dir() and forcing not in FOLDERS:
        return beside
    raise MPTTError(f"No forcing {forcing!r} in {products}; products there: {listed(there)}.")


def product_names(products: Path) -> list[str]:
    """The folders of products, sorted."""
    return sorted(path.name for path in products.iterdir() if path.is_dir() and not hidden(path))


def usual_product(products: Path) -> str:
    """The product that most basins have; the first by name of several.

    Raises:
        MPTTError: there is none.
    """
    count = {name: len(_basins_in(products / name)) for name in product_names(products)}
    if not any(count.values()):
        like = "<gauge>_lump_<product>_forcing_leap.txt"
        raise MPTTError(f"No file {like} in folders of {products}. Unpack the data there.")
    return max(count, key=lambda name: count[name])


def _basins_in(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*.txt") if not hidden(path, folder))
    return {match[1] for path in files if (match := FORCING_FILE.fullmatch(path.name))}


def find_files(folder: Path, pattern: re.Pattern[str], like: str) -> dict[str, Path]:
    """The file of each basin, in the folder or in folders of hydrologic units inside it.

    Raises:
        MPTTError: there is none, or two of one basin.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.txt")):
        if not hidden(path, folder) and (match := pattern.fullmatch(path.name)):
            basin = match[1]
            if basin in files:
                raise MPTTError(f"Basin {basin} has two files, {files[basin]} and {path}; keep one of them.")
            files[basin] = path
    if not files:
        raise MPTTError(f"No file {like} in {folder}, nor in folders inside it. Unpack the data there.")
    return files


def find_model_files(root: Path, product: str, seed: int | None) -> dict[str, tuple[str, Path]]:
    """Of each basin the seed and the file of the calibrated model's output: of that seed, or of the smallest.

    Raises:
        MPTTError: there is none, or two of one basin and seed.
    """
    folders = (root / f"model_output_{product}", root / "model_output" / "flow_timeseries" / product)
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        there = listed(sorted(path.name for path in root.glob("model_output*")))
        raise MPTTError(
            f"No folder {folders[0].name} in {root}, for the model's output with {product} forcing; there: {there}."
            " Unpack it there, name the product (model_output='daymet'), or read without (model_output=False)."
        )
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.rglob("*_model_output.txt")):
        if match := _MODEL_FILE.fullmatch(path.name):
            of_basin = found.setdefault(match[1], {})
            if (other := of_basin.setdefault(int(match[2]), path)) != path:
                raise MPTTError(f"Basin {match[1]} has two files, {other} and {path}; keep one of them.")
    chosen = {
        basin: (f"{number:02d}", paths[number])
        for basin, paths in found.items()
        if (number := min(paths) if seed is None else seed) in paths
    }
    if not chosen:
        wanted = "<gauge>_<seed>_model_output.txt" if seed is None else f"<gauge>_{seed:02d}_model_output.txt"
        seeds = sorted({number for paths in found.values() for number in paths})
        raise MPTTError(f"No file {wanted} in {folder}, nor in folders inside it; seeds there: {listed(seeds)}.")
    return chosen

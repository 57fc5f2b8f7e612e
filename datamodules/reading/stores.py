"""Whether a Zarr store of this machine is whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError, MPTTWarning

_CODECS = ("filters", "compressor", "codecs")  # in what describes an array, of either format
_DESCRIPTIONS = ("zarr.json", ".zarray", ".zattrs", ".zmetadata", ".zgroup")
_HEADER = 16  # bytes of a Blosc chunk, of which the last four are its length


def refuse_pickles(store: Path | str) -> None:
    """Refuse arrays that are kept as pickles: what reads them runs whatever is in them.

    Args:
        store: its path, or an address.

    Raises:
        MPTTError: there is one.
    """
    import zarr

    # What describes the arrays in one file need not be what lies beside them; at an address that is many requests.
    for together in (None, False) if isinstance(store, Path) else (None,):
        for name, array in zarr.open_group(str(store), mode="r", use_consolidated=together).arrays():
            described = array.metadata.to_dict()
            if "pickle" in str([described.get(key) for key in _CODECS]).lower():
                raise MPTTError(
                    f"{store} keeps {name} as pickles, which would run code when they are read; it is not opened. Get a"
                    " store of numbers and texts."
                )


def check_lengths(path: Path) -> None:
    """Look for chunks that are cut short, before any is unpacked.

    Blosc does not say so: what is unpacked from such a chunk is anything, or the end of the program.

    Raises:
        MPTTError: there is one.
    """
    import zarr

    for name, array in zarr.open_group(str(path), mode="r").arrays():
        if any("Blosc" in type(codec).__name__ for codec in array.compressors) and array.shards is None:
            _check_lengths(path / name)


def check_complete(path: Path, dataset: xr.Dataset) -> None:
    """Look for chunks that are not there: they read as the fill value.

    A store may leave out chunks without values; or they were lost.

    Raises:
        MPTTError: a coordinate lacks one.
    """
    import zarr

    group = zarr.open_group(str(path), mode="r")
    lacking = {}
    for name in dataset.variables:
        array = group.get(str(name))
        if isinstance(array, zarr.Array) and (absent := array.nchunks - array.nchunks_initialized) > 0:
            lacking[name] = f"{name} ({absent} of {array.nchunks})"
    if lost := [text for name, text in lacking.items() if name in dataset.coords]:
        raise MPTTError(f"{path} lacks chunks of the coordinate {listed(lost)}. Get an intact copy.")
    if lacking:
        warnings.warn(
            f"{path} lacks chunks of {listed(lacking.values())}; they are read as the fill value, which is missing for"
            " most variables. If the store should have values there, get an intact copy.",
            MPTTWarning,
            stacklevel=3,
        )


def _check_lengths(folder: Path) -> None:
    for chunk in _chunks(folder):
        with chunk.open("rb") as file:
            header = file.read(_HEADER)
        length = chunk.stat().st_size
        due = int.from_bytes(header[12:], "little") if len(header) == _HEADER else _HEADER
        if length < due:
            raise MPTTError(f"{chunk} is cut short: {length} bytes where {due} are due. Get an intact copy.")


def _chunks(folder: Path) -> Iterator[Path]:
    return (one for one in folder.rglob("*") if one.is_file() and one.name not in _DESCRIPTIONS)

"""Numbers that stand for a missing value, where a file says so nowhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTWarning

MARKERS = (-999.0, -9999.0, -99999.0)  # no climate variable is ever so low
_WRITTEN = [f"{marker:.{decimals}f}" for marker in MARKERS for decimals in range(9)]


def without_markers(where: Path, columns: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Columns in which the markers are missing, NaN; a note names the columns that had some.

    Args:
        where: the file or folder that the note names.
        columns: by name; they are left as they are.
    """
    cleared = {}
    marked = []
    for name, values in columns.items():
        found = np.isin(values, MARKERS)
        cleared[name] = np.where(found, np.float32(np.nan), values) if found.any() else values
        marked += [name] if found.any() else []
    if marked:
        note_of_markers(where, marked)
    return cleared


def marks_missing(table: pd.DataFrame) -> pd.DataFrame:
    """Which fields of a table of text are markers, as -999 or -9999.0."""
    return table.isin(_WRITTEN)


def note_of_markers(where: Path, names: list[str]) -> None:
    """Say which columns had markers."""
    warnings.warn(
        f"In {where} -999, -9999 and -99999 are taken for missing values: {listed(names)}.", MPTTWarning, stacklevel=4
    )

"""Static attributes as numbers: what is missing and what is text, as the user says."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from mptt.datamodules.preparing.checks import Mask, as_float32, listed, site_names
from mptt.errors import MPTTError, MPTTWarning
from mptt.windows import Int64Array

AttributesMissing = Literal["error", "drop_site", "drop_attribute", "mean", "median"]
AttributesText = Literal["error", "onehot", "drop"]
Columns = Mapping[str, npt.NDArray[Any]]  # of each attribute (sites,)


@dataclass(frozen=True)
class Encoded:
    """Attributes as columns of numbers.

    Attributes:
        values: of each column (sites,), float32, finite.
        categories: the columns that are 0 or 1 for a category, NAME=CATEGORY, and stay so.
        notes: what was done, a line each.
    """

    values: dict[str, npt.NDArray[np.float32]]
    categories: list[str]
    notes: list[str]

    def table(self, sites: int) -> Tensor:
        """(sites, A) all columns."""
        columns = [torch.from_numpy(values) for values in self.values.values()]
        return torch.stack(columns, dim=1) if columns else torch.empty(sites, 0)


def complete_sites(columns: Columns, text: AttributesText) -> Mask:
    """(sites,) whether all attributes of a site are known; text that is dropped does not count."""
    known = [~_missing(values) for values in columns.values() if not (_is_text(values) and text == "drop")]
    size = len(next(iter(columns.values())))
    complete: Mask = np.logical_and.reduce([np.ones(size, dtype=bool), *known])
    return complete


def encode_of(
    dataset: xr.Dataset,
    names: Sequence[str],
    trained: Int64Array,
    missing: AttributesMissing,
    text: AttributesText,
) -> Encoded:
    """Make numbers of these attributes of a data set, given the numbers of the sites with training data."""
    training = np.zeros(dataset.sizes["site"], dtype=bool)
    training[trained] = True
    columns = {name: dataset[name].values for name in names}
    return encode_attributes(columns, training, site_names(dataset), missing, text)


def encode_attributes(
    columns: Columns, training: Mask, sites: Sequence[str], missing: AttributesMissing, text: AttributesText
) -> Encoded:
    """Make numbers of attributes.

    Args:
        columns: of each attribute (sites,), numbers or text; missing is NaN, "" or None, and infinite is taken as
            missing.
        training: (sites,) whether a site has training data: means, medians and categories are those of such sites.
        sites: names.
        missing: what to do with missing values: refuse them; leave out the attribute; take the mean or median for
            them. Missing text is then of no category. Sites of "drop_site" are left out before, by `complete_sites`.
        text: what to do with text: refuse it; a column for each category, sorted, which is 1 where a site is of it; or
            leave it out.

    Raises:
        MPTTError: missing values or text that are to be refused; an attribute that no training site has.
    """
    values: dict[str, npt.NDArray[np.float32]] = {}
    categories: list[str] = []
    notes: list[str] = []
    for name, column in columns.items():
        if _is_text(column) and text == "drop":
            notes.append(f"Left out the attribute {name}, which is text.")
            continue
        if _is_text(column) and text == "error":
            raise MPTTError(
                f"The attribute {name} is not numeric but text ({listed(sorted(set(_words(column))), 3)}); make columns"
                " of its categories with attributes_text: onehot, leave out such attributes with attributes_text: drop,"
                " or leave it out."
            )
        gap = _missing(column)
        where = f"{int(gap.sum())} site(s): {listed(np.array(sites)[gap])}"
        if gap.any() and missing in ("error", "drop_site"):
            raise MPTTError(
                f"The attribute {name} is missing or infinite for {where}. Fill it, leave the attribute or the sites"
                " out, or choose with attributes_missing: drop_site, drop_attribute, mean or median."
            )
        if gap.any() and missing == "drop_attribute":
            notes.append(f"Left out the attribute {name}, missing for {where}.")
        elif (gap | ~training).all():
            raise MPTTError(f"The attribute {name} is missing for every site with training data; leave it out.")
        elif _is_text(column):
            hot = _one_hot(name, column, training, sites)
            values |= hot
            categories += hot
            if gap.any():
                notes.append(f"The attribute {name} is missing for {where}: these are of no category.")
        else:
            values[name] = as_float32(column).copy()
            if gap.any():
                middle = np.mean if missing == "mean" else np.median
                values[name][gap] = middle(values[name][training & ~gap].astype(np.float64))
                notes.append(f"The attribute {name} is the {missing} of the training sites for {where}.")
    return Encoded(values, categories, notes)


def _one_hot(
    name: str, column: npt.NDArray[Any], training: Mask, sites: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    words = np.array(_words(column))
    known = sorted(set(words[training].tolist()) - {""})
    unknown = ~np.isin(words, [*known, ""])
    if unknown.any():
        found = [f"{site} ({word})" for site, word in zip(np.array(sites)[unknown], words[unknown], strict=True)]
        warnings.warn(
            f"The attribute {name} has a category that no training site has, at {len(found)} site(s): {listed(found)}."
            " They are of no category.",
            MPTTWarning,
            stacklevel=5,
        )
    return {f"{name}={word}": (words == word).astype(np.float32) for word in known}


def _is_text(column: npt.NDArray[Any]) -> bool:
    return column.dtype.kind not in "fiub"


def _missing(column: npt.NDArray[Any]) -> Mask:
    if _is_text(column):
        return np.array([word == "" for word in _words(column)], dtype=bool)
    return ~np.isfinite(as_float32(column))


def _words(column: npt.NDArray[Any]) -> list[str]:
    """Text without blanks around it; "" where there is none."""
    words = (value.decode() if isinstance(value, bytes) else value for value in column.tolist())
    return ["" if word is None or word != word else str(word).strip() for word in words]

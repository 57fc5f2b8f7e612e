"""Leaving out values of FLUXNET whose quality is poor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from mptt.datamodules.formats.fluxnet_variables import check_limit, is_quality, quality_of
from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError, MPTTWarning

Quality = float | Mapping[str, float] | None


def check_quality(quality: Quality, flags: bool) -> None:
    """Check that the limits of quality are some.

    Raises:
        MPTTError: one is not.
    """
    for limit in quality.values() if isinstance(quality, Mapping) else [] if quality is None else [quality]:
        check_limit(limit, flags)


def needed_columns(wanted: Sequence[str] | None, quality: Quality, columns: Sequence[str]) -> set[str]:
    """The columns to read: those that are wanted, and the qualities by which they are judged."""
    if wanted is None:
        return set(columns)
    there = set(columns)
    judged = [name for name in wanted if quality is not None and (isinstance(quality, float | int) or name in quality)]
    return (there & set(wanted)) | {found for name in judged if (found := quality_of(name, there))}


def keep_good(
    table: xr.Dataset, quality: Quality, flags: bool, place: object, wanted: Sequence[str] | None
) -> xr.Dataset:
    """One site's variables, a value of poor or unknown quality being missing.

    Args:
        table: with the columns of quality.
        quality: the largest flag, or the smallest share, that is kept: of all variables that have one, or by name.
        flags: whether the qualities are flags.
        place: for messages.
        wanted: variables, if not all are.

    Raises:
        MPTTError: a variable that is named has no quality.
    """
    if quality is None:
        return table
    names = set(map(str, table.data_vars))
    limits = (
        dict(quality)
        if isinstance(quality, Mapping)
        else {name: quality for name in names if not is_quality(name) and quality_of(name, names)}
    )
    kept, unknown = {}, []
    for name, limit in limits.items():
        if name not in names or (wanted is not None and name not in wanted):
            continue
        column = quality_of(name, names)
        if column is None:
            raise MPTTError(f"{place}: {name} has no column of quality; leave it out of quality={{...}}.")
        known = np.isfinite(table[column].values)
        if (lost := int((np.isfinite(table[name].values) & ~known).sum())) > 0:
            unknown.append(f"{name} ({lost})")
        # Packed flags are not quite whole.
        good = np.rint(table[column].values) <= limit if flags else table[column].values >= limit - 1e-6
        kept[name] = table[name].where(xr.DataArray(known & good, dims="time"))
    if unknown:
        warnings.warn(
            f"{place}: values without quality are left out, since quality={quality!r}: {listed(unknown)}.",
            MPTTWarning,
            stacklevel=2,
        )
    return table.assign(kept)


def trimmed(table: xr.Dataset) -> xr.Dataset:
    """From the first to the last date with a value of any variable but the qualities."""
    if not table.data_vars:
        return table
    judged = [values for name, values in table.data_vars.items() if not is_quality(str(name))] or list(
        table.data_vars.values()
    )
    filled = np.logical_or.reduce([np.isfinite(values.values) for values in judged])
    there = np.flatnonzero(filled)
    return table.isel(time=slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0))

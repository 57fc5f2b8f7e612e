"""Whether runs were tested on the same part of the same series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from mptt.errors import MPTTError
from mptt.experiments import figures
from mptt.experiments.predictions import open_predictions

# Observations were standardised in float32 and back, perhaps by other scalers.
_ROUNDING = 64 * float(np.finfo(np.float32).eps)


def check_same_test(folders: Sequence[Path]) -> None:
    """Refuse to compare runs that were tested on different sites, periods, warm-ups or observations.

    Args:
        folders: of runs, each with its `predictions.nc`.

    Raises:
        MPTTError: two are different; says which, and in what.
    """
    with open_predictions(folders[0]) as first:
        first.load()
        for folder in folders[1:]:
            with open_predictions(folder) as other:
                if what := _difference(first, other):
                    raise MPTTError(
                        f"{folders[0]} and {folder} were not tested on the same part: {what}. Scores of different test"
                        " parts say nothing about strategies. Remove the run that is out of date, or use another --out."
                    )


def _difference(first: xr.Dataset, other: xr.Dataset) -> str | None:
    """What is different, in words."""
    for name, one, two in (
        ("targets", figures.targets_of(first), figures.targets_of(other)),
        ("sites", first["site"].values.tolist(), other["site"].values.tolist()),
    ):
        if one != two:
            apart = sorted({*one} ^ {*two})
            return f"{len(one)} and {len(two)} {name}" + (f", not in both: {', '.join(apart[:5])}" if apart else "")
    if first.sizes["time"] != other.sizes["time"] or not bool((first["time"].values == other["time"].values).all()):
        return f"{_period(first)} and {_period(other)}"
    warmups = [int(predictions.attrs.get("warmup_steps", 0)) for predictions in (first, other)]
    if warmups[0] != warmups[1]:
        return f"warm-ups of {warmups[0]} and {warmups[1]} steps in the period {_period(first)}"
    for target in figures.targets_of(first):
        one, two = (predictions[f"{target}_observed"].values for predictions in (first, other))
        near = _ROUNDING * np.nanmax(np.abs(one), axis=1, keepdims=True, initial=0)
        apart = ~((np.isnan(one) & np.isnan(two)) | (np.abs(one - two) <= near))
        if apart.any():
            site, step = (int(index) for index in np.argwhere(apart)[0])
            return (
                f"observations of {target} differ at {apart.sum()} steps of the period {_period(first)}, first at"
                f" {first['site'].values[site]} on {_date(first, step)} ({one[site, step]:g} and {two[site, step]:g})"
            )
    return None


def _period(predictions: xr.Dataset) -> str:
    return f"{_date(predictions, 0)} to {_date(predictions, -1)} ({predictions.sizes['time']} steps)"


def _date(predictions: xr.Dataset, step: int) -> str:
    return str(predictions["time"].dt.strftime("%Y-%m-%d").values[step])

"""The target of the step before, as an input."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mptt.datamodules.batching.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.errors import MPTTWarning
from mptt.windows import Int64Array


def last_observations(series: FlatSeries) -> Tensor:
    """(T, K) the row of the last observation before each step in the same record; -1 where there is none."""
    size = len(series.observed)
    row = np.arange(size)[:, None]
    before = np.full(series.observed.shape, -1)
    # The last observation up to a step is the last one before the next step.
    np.maximum.accumulate(np.where(series.observed.numpy(), row, -1)[:-1], axis=0, out=before[1:])
    before[before < _record_starts(series)[:, None]] = -1
    return torch.from_numpy(before)


def lag_targets(series: FlatSeries, before: Tensor) -> Tensor:
    """(T, K) the standardised targets at these rows (T, K), and the training mean, 0, where the row is -1."""
    return series.targets.gather(0, before.clamp(min=0)).masked_fill_(before < 0, 0)


def warn_of_filled(
    series: FlatSeries, before: Tensor, parts: Iterable[Part], sites: Sequence[str], time: pd.Index
) -> None:
    """Say at how many steps of the parts the target of the step before is not observed, and what stands there."""
    inside = torch.stack([series.inside(part) for part in parts]).any(0).numpy()
    filled = inside & (before.numpy() < np.arange(len(before))[:, None] - 1).any(axis=1)
    none = inside & (before.numpy() < 0).any(axis=1)
    filled |= none
    if not filled.any():
        return
    opening = np.zeros_like(filled)
    opening[series.offset] = True
    if not (filled & ~opening).any():
        message = f"No step comes before the first of {int(filled.sum())} record(s): the lagged target there is the"
        warnings.warn(f"{message} training mean.", MPTTWarning, stacklevel=3)
        return
    row = int(filled.argmax())
    site = int(series.offset.searchsorted(row, side="right")) - 1
    step = int(series.first[site] + row - series.offset[site])
    warnings.warn(
        f"The target of the step before is not observed at {int(filled.sum())} of {int(inside.sum())} steps, first at"
        f" site {sites[site]}, {time[step]}. The lagged target is the last observation before it in the site's record"
        f" ({int((filled & ~none).sum())} steps) or, without one, the training mean ({int(none.sum())} steps).",
        MPTTWarning,
        stacklevel=3,
    )


def _record_starts(series: FlatSeries) -> Int64Array:
    """(T,) the first row of the record that each row is in."""
    return np.repeat(series.offset, np.diff(series.offset, append=len(series.observed)))

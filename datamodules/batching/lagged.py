"""The target of the step before, as an input: of the record's step before, in whatever part that is.

Where it is missing, the last observation before it in the site's record stands in; where there is none, the training
mean, which is 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mptt.datamodules.preparing.flat import FlatSeries
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


class FilledLags:
    """Where in the parts the target of the step before is not observed; looked at block by block, in order of site.

    Attributes:
        steps: of the parts.
        filled: of them, those where some lagged target is not observed.
        none: of these, those where some target has no observation before.
        opening: of these, those that are the first of a record.
        where: site and step on the common time axis of the first that is filled.
    """

    def __init__(self) -> None:
        self.steps = self.filled = self.none = self.opening = 0
        self.where: tuple[int, int] | None = None

    def look(self, series: FlatSeries, parts: Iterable[Part]) -> None:
        """Look at the series of those sites that are held."""
        before = last_observations(series)
        inside = torch.stack([series.inside(part) for part in parts]).any(0).numpy()
        filled = inside & (before.numpy() < np.arange(len(before))[:, None] - 1).any(axis=1)
        none = inside & (before.numpy() < 0).any(axis=1)
        filled |= none
        begin = np.sort(series.offset[series.offset >= 0])
        if self.where is None and filled.any():
            row = int(filled.argmax())
            site = int((series.offset == begin[begin.searchsorted(row, side="right") - 1]).argmax())
            self.where = site, int(series.first[site] + row - series.offset[site])
        self.steps += int(inside.sum())
        self.filled += int(filled.sum())
        self.none += int(none.sum())
        self.opening += int(filled[begin].sum())


def warn_of_filled(lags: FilledLags, sites: Sequence[str], time: pd.Index) -> None:
    """Say at how many steps the target of the step before is not observed, and what stands there."""
    if lags.where is None:
        return
    if lags.filled == lags.opening:
        message = f"No step comes before the first of {lags.filled} record(s): the lagged target there is the"
        warnings.warn(f"{message} training mean.", MPTTWarning, stacklevel=3)
        return
    site, step = lags.where
    warnings.warn(
        f"The target of the step before is not observed at {lags.filled} of {lags.steps} steps, first at"
        f" site {sites[site]}, {time[step]}. The lagged target is the last observation before it in the site's record"
        f" ({lags.filled - lags.none} steps) or, without one, the training mean ({lags.none} steps).",
        MPTTWarning,
        stacklevel=3,
    )


def _record_starts(series: FlatSeries) -> Int64Array:
    """(T,) the first row of the record that each row is in."""
    begin = np.sort(series.offset[series.offset >= 0])
    return np.repeat(begin, np.diff(begin, append=len(series.observed)))

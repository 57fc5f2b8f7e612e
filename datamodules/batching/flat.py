"""All records of a data set one after another, so that a window is a slice and a batch of windows one gather."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.datamodules.preparing.checks import Mask, Values
from mptt.datamodules.preparing.parts import Part
from mptt.windows import Int64Array

Batch = dict[str, Tensor]


@dataclass
class FlatSeries:
    """The records of all sites, one after another.

    Attributes:
        inputs: (T, F) standardised, complete.
        static: (sites, A) standardised attributes, inputs that do not change.
        targets: (T, K) standardised, 0 where missing.
        observed: (T, K) whether the target is there.
        offset: (sites,) row of the first step of each site's record.
        first: (sites,) that step on the common time axis.
        lagged: (T, K) standardised target of the step before, complete; None: it is no input.
        held: whether the lagged target of a stretch's first step stands at all its steps.
    """

    inputs: Tensor
    static: Tensor
    targets: Tensor
    observed: Tensor
    offset: Int64Array
    first: Int64Array
    lagged: Tensor | None = None
    held: bool = False

    def rows(self, part: Part) -> Int64Array:
        """(n,) the row at which each stretch of a part begins."""
        return self.offset[part.site] + part.begin - self.first[part.site]

    def inside(self, part: Part) -> Tensor:
        """(T,) whether each row is in a part."""
        return self.covered(self.rows(part), part.length)

    def covered(self, begin: Int64Array, length: Int64Array) -> Tensor:
        """(T,) whether each row is in one of the stretches, which may overlap, of these first rows and lengths."""
        edges = torch.zeros(len(self.inputs) + 1, dtype=torch.int32)
        each = torch.ones(len(begin), dtype=torch.int32)
        edges.index_add_(0, torch.from_numpy(begin), each)
        edges.index_add_(0, torch.from_numpy(begin + length), -each)
        return edges[:-1].cumsum(0, dtype=torch.int32) > 0

    def inputs_at(self, row: Tensor, site: Tensor) -> Tensor:
        """All inputs of these rows (B, L), consecutive ones of these sites (B,): (B, L, F + A + K)."""
        lagged = None if self.lagged is None else self.lagged[row[:, :1] if self.held else row]
        return self.side_by_side(self.inputs[row], site, lagged)

    def side_by_side(self, inputs: Tensor, site: Tensor, lagged: Tensor | None) -> Tensor:
        """Inputs (B, L, F), the attributes of the sites (B,) and lagged targets (B, L or 1, K): (B, L, F + A + K)."""
        columns = [inputs]
        if self.static.shape[1]:
            columns.append(self.static[site].unsqueeze(1))
        if lagged is not None:
            columns.append(lagged)
        if len(columns) == 1:
            return inputs
        return torch.cat([column.expand(-1, inputs.shape[1], -1) for column in columns], dim=2)


def find_records(inputs: Values) -> tuple[Int64Array, Int64Array, Mask]:
    """Each site's record, the stretch in which it has inputs.

    Returns:
        The first steps (sites,), the steps after the last (sites,), and whether each step is in it (site, time).
    """
    present = np.logical_or.reduce([np.isfinite(values) for values in inputs.values()])
    first, last = present.argmax(axis=1), present.shape[1] - present[:, ::-1].argmax(axis=1)
    step = np.arange(present.shape[1])
    recorded = (step >= first[:, None]) & (step < last[:, None]) & present.any(axis=1, keepdims=True)
    return first, last, recorded


def lay_out(
    inputs: Values, attributes: Values, targets: Values, first: Int64Array, last: Int64Array, recorded: Mask
) -> FlatSeries:
    """The records of inputs and targets (site, time), attributes (site,), all in physical units, missing NaN."""
    y = lay_end_to_end(targets.values(), recorded)
    return FlatSeries(
        lay_end_to_end(inputs.values(), recorded),
        lay_end_to_end(attributes.values(), np.ones(len(first), dtype=bool)),
        y,
        y.isfinite(),
        (last - first).cumsum() - (last - first),
        first,
    )


def lay_end_to_end(columns: Iterable[npt.NDArray[np.float32]], recorded: Mask) -> Tensor:
    """The recorded values of variables, all of one shape, as rows of a table (T, V), site by site."""
    columns = list(columns)
    table = np.empty((int(recorded.sum()), len(columns)), np.float32)
    for nth, values in enumerate(columns):
        table[:, nth] = values[recorded]
    return torch.from_numpy(table)

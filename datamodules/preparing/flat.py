"""All records of a data set one after another, so that a window is a slice and a batch of windows one gather."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.datamodules.preparing.checks import Mask, Values
from mptt.datamodules.preparing.parts import Part
from mptt.windows import Int64Array


@dataclass
class FlatSeries:
    """The records of all sites, one after another.

    Attributes:
        inputs: (T, F) standardised, complete.
        static: (sites, A) standardised attributes, inputs that do not change.
        targets: (T, K) standardised, 0 where missing.
        observed: (T, K) whether the target is there.
        offset: (sites,) row of the first step of each site's record; -1 of a site that is not held.
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

    def require(self, sites: npt.ArrayLike) -> None:
        """Make sure that these sites are held, until the next call; here all are, always."""

    def rows_of(self, site: Tensor, step: Tensor) -> Tensor:
        """(n,) the rows of steps (n,) of the records of sites (n,), which are required."""
        self.require(site)
        return torch.from_numpy(self.offset)[site] + step

    def rows(self, part: Part) -> Int64Array:
        """(n,) the row at which each stretch of a part begins."""
        return self.offset[part.site] + part.begin - self.first[part.site]

    def inside(self, part: Part) -> Tensor:
        """(T,) whether each row is in a part, of the sites that are held."""
        held = self.offset[part.site] >= 0
        return self.covered(self.rows(part)[held], part.length[held])

    def covered(self, begin: Int64Array, length: Int64Array) -> Tensor:
        """(T,) whether each row is in one of the stretches, which may overlap, of these first rows and lengths."""
        edges = torch.zeros(len(self.inputs) + 1, dtype=torch.int32)
        each = torch.ones(len(begin), dtype=torch.int32)
        edges.index_add_(0, torch.from_numpy(begin), each)
        edges.index_add_(0, torch.from_numpy(begin + length), -each)
        return edges[:-1].cumsum(0, dtype=torch.int32) > 0

    def records(self) -> Iterator[tuple[int, slice]]:
        """The number of each site that is held, and its rows."""
        held = np.flatnonzero(self.offset >= 0)
        held = held[np.argsort(self.offset[held], kind="stable")]
        edges = np.append(self.offset[held], len(self.targets)).tolist()
        for nth, site in enumerate(held.tolist()):
            yield site, slice(edges[nth], edges[nth + 1])

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


class FlatTables:
    """Room for records, to be written one after another.

    Args:
        rows: steps of all records, or more: room that is not used costs no memory.
        inputs: variables.
        targets: variables.
        sites: of the whole data set.
    """

    def __init__(self, rows: int, inputs: int, targets: int, sites: int) -> None:
        self._inputs, self._targets = np.empty((rows, inputs), np.float32), np.empty((rows, targets), np.float32)
        self._offset = np.full(sites, -1)
        self._rows = 0

    def append(self, sites: slice | Int64Array, inputs: Values, targets: Values, recorded: Mask) -> None:
        """Write the records of these sites, in the order given: values and whether they are recorded (site, time)."""
        length = recorded.sum(axis=1)
        self._offset[sites] = self._rows + length.cumsum() - length
        here = slice(self._rows, self._rows + int(length.sum()))
        for table, variables in ((self._inputs, inputs), (self._targets, targets)):
            for nth, values in enumerate(variables.values()):
                table[here, nth] = values[recorded]
        self._rows = here.stop

    def series(self, static: Tensor, first: Int64Array) -> FlatSeries:
        """What was written, in physical units, with attributes (sites, A) and first steps (sites,)."""
        inputs, targets = (torch.from_numpy(table[: self._rows]) for table in (self._inputs, self._targets))
        return FlatSeries(inputs, static, targets, targets.isfinite(), self._offset, first)


def find_records(inputs: Values) -> Mask:
    """Whether each step is in its site's record (site, time): the stretch in which the site has inputs."""
    # Infinite is present: at the end of a record it would be cut off unseen, inside it is refused.
    present = np.logical_or.reduce([~np.isnan(values) for values in inputs.values()])
    first, last = present.argmax(axis=1), present.shape[1] - present[:, ::-1].argmax(axis=1)
    step = np.arange(present.shape[1])
    return (step >= first[:, None]) & (step < last[:, None]) & present.any(axis=1, keepdims=True)

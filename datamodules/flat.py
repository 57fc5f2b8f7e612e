"""All records of a data set one after another, so that a window is a slice and a batch of windows one gather."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.datamodules.checks import Mask
from mptt.datamodules.parts import Part
from mptt.windows import Int64Array


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
    """

    inputs: Tensor
    static: Tensor
    targets: Tensor
    observed: Tensor
    offset: Int64Array
    first: Int64Array

    def rows(self, part: Part) -> Int64Array:
        """(n,) the row at which each stretch of a part begins."""
        return self.offset[part.site] + part.begin - self.first[part.site]

    def inside(self, part: Part) -> Tensor:
        """(T,) whether each row is in a part."""
        edges = torch.zeros(len(self.inputs) + 1, dtype=torch.int8)
        begin = torch.from_numpy(self.rows(part))
        edges[begin] += 1
        edges[begin + torch.from_numpy(part.length)] -= 1
        return edges[:-1].cumsum(0, dtype=torch.int8).bool()

    def with_static(self, inputs: Tensor, site: Tensor) -> Tensor:
        """Inputs (B, L, F) of rows of these sites (B,), with their attributes (B, L, F + A)."""
        if not self.static.shape[1]:
            return inputs
        return torch.cat([inputs, self.static[site].unsqueeze(1).expand(-1, inputs.shape[1], -1)], dim=2)


def lay_end_to_end(columns: Iterable[npt.NDArray[np.float32]], recorded: Mask) -> Tensor:
    """The recorded steps of variables (site, time) as rows of a table (T, V), site by site."""
    columns = list(columns)
    table = np.empty((int(recorded.sum()), len(columns)), np.float32)
    for nth, values in enumerate(columns):
        table[:, nth] = values[recorded]
    return torch.from_numpy(table)

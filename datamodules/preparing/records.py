"""The records of sites, read from a data set and laid end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mptt.datamodules.preparing.flat import FlatSeries, FlatTables
from mptt.datamodules.preparing.preparation import Preparation
from mptt.datamodules.preparing.survey import RecordSurvey
from mptt.windows import Int64Array


class Records:
    """Reads records, in physical units and missing values NaN; all of them once, for a survey. Without attributes.

    Args:
        preparation: of the data set.
        room: steps, of all sites together, that fit into memory; None: all do.

    Attributes:
        survey: of all sites.
        filled: the gaps of inputs, as of `Preparation.settle`.
        series: of all sites; None where there is no room.
    """

    def __init__(self, preparation: Preparation, room: int | None) -> None:
        self.preparation = preparation
        self.sites, self.steps = preparation.dataset.sizes["site"], preparation.dataset.sizes["time"]
        columns = preparation.columns
        self.survey = RecordSurvey(self.sites, columns, preparation.targets, preparation.anchors)
        most = self.sites * self.steps
        tables = self._tables(most) if room is None or most <= room else None
        for sites in preparation.blocks():
            inputs, targets = preparation.read(sites)
            recorded = self.survey.look(sites, inputs, targets)
            if tables is not None:
                tables.append(sites, inputs, targets, recorded)
        self.filled, kept = preparation.settle()
        # Records may be shorter than the time axis that they share.
        if tables is None and room is not None and (steps := int(self.survey.length.sum())) <= room:
            tables = self._tables(steps)
            for sites in preparation.blocks():
                self._append(tables, sites)
            kept = list(range(len(kept)))
        self.series = None if tables is None else self._series(tables)
        if self.series is not None and len(kept) < self.series.inputs.shape[1]:
            self.series.inputs = self.series.inputs[:, kept].contiguous()

    def read(self, sites: slice | Int64Array) -> FlatSeries:
        """Those of these sites, which go up."""
        tables = self._tables(int(self.survey.length[sites].sum()))
        self._append(tables, sites)
        return self._series(tables)

    def pieces(self) -> Iterator[FlatSeries]:
        """All of them, in order of site, in as few pieces as there is room for."""
        if self.series is not None:
            yield self.series
        else:
            yield from map(self.read, self.preparation.blocks())

    def _tables(self, rows: int) -> FlatTables:
        return FlatTables(rows, len(self.preparation.columns), len(self.preparation.targets), self.sites)

    def _series(self, tables: FlatTables) -> FlatSeries:
        return tables.series(torch.empty(0, 0), self.survey.first)

    def _append(self, tables: FlatTables, sites: slice | Int64Array) -> None:
        step = np.arange(self.steps)
        for run in [sites] if isinstance(sites, slice) else self._runs(sites):
            first = self.survey.first[run, None]
            recorded = (step >= first) & (step < first + self.survey.length[run, None])
            tables.append(run, *self.preparation.read(run), recorded)

    def _runs(self, sites: Int64Array) -> list[slice] | list[Int64Array]:
        """Sites that a store finds fast: one after another in it, or those of chunks that hold several."""
        if self.preparation.sites_in_chunk > 1:
            return [sites]
        runs = np.split(sites, np.flatnonzero(np.diff(sites) != 1) + 1)
        return [slice(int(run[0]), int(run[-1]) + 1) for run in runs]

"""Records as the model sees them, in memory or read as batches need them."""

from __future__ import annotations

import torch
from torch import Tensor

from mptt.datamodules.batching.lagged import lag_targets, last_observations
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.records import Records
from mptt.datamodules.preparing.standardised import Scalers
from mptt.windows import Int64Array


class ScaledSeries:
    """Series standardised by scalers that may change, with attributes and lagged targets.

    Args:
        records: of all sites; those in memory are standardised in place.
        static: (sites, A) attributes, physical.
        scalers: to begin with.
        lagged: whether lagged targets are inputs.
        held: whether that of a stretch's first step stands at all its steps.
        capacity: sites that there is room for, of records that are not in memory.

    Attributes:
        series: what batches are cut from.
        scalers: those at work.
        capacity: None where all records are in memory.
    """

    def __init__(
        self, records: Records, static: Tensor, scalers: Scalers, lagged: bool, held: bool, capacity: int | None
    ) -> None:
        self.scalers, self.capacity = scalers, capacity
        self._records, self._static, self._lagged, self._held = records, static, lagged, held
        self.series: FlatSeries
        if records.series is not None:
            self.series = records.series
            self.series.static = static.clone()
            self._standardise_(self.series)
        else:
            assert capacity is not None
            found, preparation = records.survey, records.preparation
            inputs, targets = len(preparation.columns), len(preparation.targets)
            self.series = StoredSeries(
                self._read, found.first, found.length, inputs, targets, capacity, lagged, held, preparation.threads
            )
            self.series.static = scalers.attributes.transform(static)

    def change(self, scalers: Scalers) -> None:
        """Standardise by other scalers."""
        before, self.scalers = self.scalers, scalers
        if isinstance(self.series, StoredSeries):
            self.series.forget()
            self.series.static = scalers.attributes.transform(self._static)
        else:
            self._standardise_(self.series, before)

    def _read(self, sites: Int64Array) -> FlatSeries:
        """The records of these sites, as those of data in memory are."""
        series = self._records.read(sites)
        series.static = torch.empty(0, self._static.shape[1])
        self._standardise_(series)
        return series

    def _standardise_(self, series: FlatSeries, before: Scalers | None = None) -> None:
        self.scalers.standardise_(series, before)
        if self._lagged:
            series.lagged, series.held = lag_targets(series, last_observations(series)), self._held

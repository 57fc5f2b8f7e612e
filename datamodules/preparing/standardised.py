"""Flat series, standardised by the training part or by the scalers of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mptt.datamodules.batching.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.datamodules.preparing.scaling import Scaler


class Scalers(NamedTuple):
    """The scalers of inputs, attributes and targets."""

    inputs: Scaler
    attributes: Scaler
    targets: Scaler

    @classmethod
    def fit(
        cls,
        series: FlatSeries,
        part: Part,
        inputs: Sequence[str],
        attributes: Sequence[str],
        targets: Sequence[str],
    ) -> Scalers:
        """Those of the training part, from physical values."""
        training = series.inside(part)
        return cls(
            Scaler.fit(inputs, series.inputs[training]),
            Scaler.fit(attributes, series.static[torch.from_numpy(part.site)]),
            Scaler.fit(targets, series.targets[training]),
        )

    @classmethod
    def of_checkpoint(cls, state: dict[str, Any], like: Scalers) -> Scalers:
        """Those of a checkpoint.

        Raises:
            MPTTError: they are for other variables than `like`.
        """
        return cls(*(Scaler(**state[name]).check(own.names) for name, own in like._asdict().items()))

    def state_dict(self) -> dict[str, Any]:
        """Names and tensors of each, for a checkpoint."""
        return {name: scaler.state_dict() for name, scaler in self._asdict().items()}

    def standardise_(self, series: FlatSeries, of: Scalers | None = None) -> None:
        """Standardise series in place: physical ones, or ones that other scalers standardised."""
        for name, scaler, values in zip(
            self._fields, self, (series.inputs, series.static, series.targets), strict=True
        ):
            if of is None:
                scaler.transform_(values)
            else:
                scaler.change_(values, getattr(of, name))
        series.targets[~series.observed] = 0

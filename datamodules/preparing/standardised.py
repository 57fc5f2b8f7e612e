"""Flat series, standardised by the training part or by the scalers of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mptt.datamodules.batching.flat import FlatSeries
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.survey import PartSurvey


class Scalers(NamedTuple):
    """The scalers of inputs, attributes and targets."""

    inputs: Scaler
    attributes: Scaler
    targets: Scaler

    @classmethod
    def of_survey(
        cls,
        survey: PartSurvey,
        static: Tensor,
        inputs: Sequence[str],
        attributes: Sequence[str],
        targets: Sequence[str],
    ) -> Scalers:
        """Those of the training part, given the attributes (sites, A) of all sites; physical values."""
        trained = torch.from_numpy(survey.parts["train"].site)
        return cls(
            Scaler.of_moments(inputs, survey.inputs),
            Scaler.fit(attributes, static[trained]),
            Scaler.of_moments(targets, survey.targets),
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

"""Flat series, standardised by the training part or by the scalers of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.preparing.encoding import Encoded
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.preparation import Preparation
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.site_scaling import SiteScaler
from mptt.datamodules.preparing.survey import PartSurvey
from mptt.errors import MPTTError


class Scalers(NamedTuple):
    """The scalers of inputs, attributes and targets."""

    inputs: Scaler
    attributes: Scaler
    targets: Scaler | SiteScaler

    @classmethod
    def of_survey(
        cls, survey: PartSurvey, preparation: Preparation, attributes: Encoded, sites: Sequence[str], by_site: bool
    ) -> Scalers:
        """Those of the training part; masks of filled values and categories stay as they are.

        Args:
            survey: of the parts.
            preparation: has the names of inputs and targets.
            attributes: of all sites.
            sites: their names.
            by_site: whether targets are scaled site by site.

        Raises:
            MPTTError: they are, and a site in a part has no training value of some target.
        """
        trained = torch.from_numpy(survey.parts["train"].site)
        found = cls(
            Scaler.of_moments(preparation.columns, survey.inputs).leaving(preparation.masks),
            Scaler.fit(list(attributes.values), attributes.table(len(sites))[trained]).leaving(attributes.categories),
            Scaler.of_moments(preparation.targets, survey.targets),
        )
        return found.by_site(survey, sites) if by_site else found

    def by_site(self, survey: PartSurvey, sites: Sequence[str]) -> Scalers:
        """The same with targets scaled site by site.

        Raises:
            MPTTError: a site in a part that has no training value of some target.
        """
        names = self.targets.names
        trained = {site: moments for site, moments in survey.targets_of_site.items() if (moments.size > 0).all()}
        used = np.unique(np.concatenate([part.site for part in survey.parts.values()])).tolist()
        if lacking := [sites[site] for site in used if site not in trained]:
            raise MPTTError(
                f'target_scaling="site" needs a training value of each target ({", ".join(names)}) at every site;'
                f' {len(lacking)} site(s) have none: {listed(lacking)}. Use target_scaling="global", which predicts'
                " sites that do not train, or leave these sites out."
            )
        scalers = [Scaler.of_moments(names, moments) for _, moments in sorted(trained.items())]
        of_trained = SiteScaler.of([sites[site] for site in sorted(trained)], scalers)
        return self._replace(targets=of_trained.spread(sites, needed=[]))

    @classmethod
    def of_checkpoint(cls, state: dict[str, Any], like: Scalers, used: Sequence[str]) -> Scalers:
        """Those of a checkpoint.

        Args:
            state: of the checkpoint.
            like: those of the data.
            used: names of the sites that are in a part.

        Raises:
            MPTTError: they are for other variables than `like`, or for other sites, or not by site where `like` is.
        """
        targets: Scaler | SiteScaler = like.targets
        if ("sites" in state["targets"]) != isinstance(targets, SiteScaler):
            saved, here = ("site", "global") if "sites" in state["targets"] else ("global", "site")
            raise MPTTError(
                f'The saved run has target_scaling="{saved}", the data module "{here}"; give it that of the saved run.'
            )
        if isinstance(targets, SiteScaler):
            targets = SiteScaler(**state["targets"]).check(targets.names).spread(targets.sites, used)
        else:
            targets = Scaler(**state["targets"]).check(targets.names)
        inputs, attributes = (Scaler(**state[name]).check(getattr(like, name).names) for name in cls._fields[:2])
        return cls(inputs, attributes, targets)

    def state_dict(self) -> dict[str, Any]:
        """Names and tensors of each, for a checkpoint."""
        return {name: scaler.state_dict() for name, scaler in self._asdict().items()}

    def standardise_(self, series: FlatSeries, of: Scalers | None = None) -> None:
        """Standardise series in place: physical ones, or ones that other scalers standardised."""
        _apply_(self.inputs, series.inputs, None if of is None else of.inputs)
        _apply_(self.attributes, series.static, None if of is None else of.attributes)
        if isinstance(self.targets, SiteScaler):
            before = None if of is None else of.targets
            for site, rows in series.records():
                if self.targets.knows(site):
                    own = before.at(site) if isinstance(before, SiteScaler) else before
                    _apply_(self.targets.at(site), series.targets[rows], own)
        else:
            _apply_(self.targets, series.targets, None if of is None else of.targets)
        series.targets[~series.observed] = 0


def _apply_(scaler: Scaler, values: Tensor, before: Scaler | SiteScaler | None) -> None:
    if isinstance(before, Scaler):
        scaler.change_(values, before)
    else:
        scaler.transform_(values)

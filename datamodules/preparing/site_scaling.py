"""Standardising each site by numbers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.preparing.scaling import Scaler
from mptt.errors import MPTTError
from mptt.files import write_atomically


class SiteScaler:
    """Standardises each variable of each site by a mean and a scale of its own, so that all sites weigh alike.

    Args:
        names: of the variables, V.
        sites: names of the sites.
        mean: (sites, V) in physical units; NaN of a site without numbers.
        scale: (sites, V) in physical units, above 0; likewise.

    Raises:
        MPTTError: other shapes, a number that is not finite, a scale of 0 or less.

    Example:
        >>> scaler = SiteScaler(["flow"], ["a", "b"], torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [5.0]]))
        >>> scaler.inverse(torch.ones(2, 3, 1), site=torch.tensor([1, 0]))[..., 0]
        tensor([[15., 15., 15.],
                [ 1.,  1.,  1.]])
    """

    def __init__(self, names: Sequence[str], sites: Sequence[str], mean: Tensor, scale: Tensor) -> None:
        self.names, self.sites = list(names), list(sites)
        self.mean, self.scale = mean, scale
        shape = len(self.sites), len(self.names)
        if not mean.shape == scale.shape == shape:
            raise MPTTError(
                f"A scaler of {shape[0]} site(s) and {shape[1]} variable(s) has a mean and a scale for each; found"
                f" shapes {tuple(mean.shape)} and {tuple(scale.shape)}."
            )
        without = (mean.isnan() & scale.isnan()).all(dim=1, keepdim=True)
        good = without | (mean.isfinite() & scale.isfinite() & (scale > 0))
        if not good.all():
            site, name = (int(place[0]) for place in torch.nonzero(~good, as_tuple=True))
            raise MPTTError(
                f"A scaler needs finite means and finite scales above 0; not so for {self.names[name]} of site"
                f" {self.sites[site]}."
            )

    @classmethod
    def of(cls, sites: Sequence[str], scalers: Sequence[Scaler]) -> SiteScaler:
        """That of one scaler a site, all for the same variables."""
        mean, scale = (torch.stack([getattr(scaler, what) for scaler in scalers]) for what in ("mean", "scale"))
        return cls(scalers[0].names, sites, mean, scale)

    def at(self, site: int) -> Scaler:
        """That of one site, by its number."""
        return Scaler(self.names, self.mean[site], self.scale[site])

    def inverse(self, values: Tensor, site: Tensor | None = None) -> Tensor:
        """Standardised values (B, ..., V) of these sites (B,) to physical ones.

        Raises:
            MPTTError: the sites are not given.
        """
        mean, scale = self._of(values, site)
        return values * scale + mean

    def transform(self, values: Tensor, site: Tensor | None = None) -> Tensor:
        """Physical values (B, ..., V) of these sites (B,) to standardised ones.

        Raises:
            MPTTError: the sites are not given.
        """
        mean, scale = self._of(values, site)
        return (values - mean) / scale

    def knows(self, site: int) -> bool:
        """Whether a site, by its number, has numbers."""
        return not bool(self.mean[site].isnan().any())

    def spread(self, sites: Sequence[str], needed: Sequence[str]) -> SiteScaler:
        """The same for these sites, in this order; a site without numbers has NaN.

        Args:
            sites: names.
            needed: those of them that must have numbers.

        Raises:
            MPTTError: one of them has none.
        """
        known = [site for nth, site in enumerate(self.sites) if self.knows(nth)]
        if unknown := [site for site in needed if site not in set(known)]:
            raise MPTTError(
                f"The scaler of each site has no numbers for {len(unknown)} site(s): {listed(unknown)}. Only sites that"
                ' were trained on have some; train with target_scaling="global" to predict others.'
            )
        position = {site: nth for nth, site in enumerate(self.sites)}
        empty = torch.full((1, len(self.names)), torch.nan)
        rows = torch.tensor([position.get(site, len(self.sites)) for site in sites], dtype=torch.int64)
        mean, scale = (torch.cat([table, empty])[rows] for table in (self.mean, self.scale))
        return SiteScaler(self.names, sites, mean, scale)

    def check(self, names: Sequence[str]) -> SiteScaler:
        """This scaler, if it is for these variables in this order.

        Raises:
            MPTTError: it is for others.
        """
        ones = torch.ones(len(self.names))
        Scaler(self.names, ones, ones).check(names)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Names and tensors of the sites that have numbers, for a checkpoint."""
        known = [nth for nth in range(len(self.sites)) if self.knows(nth)]
        sites = [self.sites[nth] for nth in known]
        return {"names": list(self.names), "sites": sites, "mean": self.mean[known], "scale": self.scale[known]}

    def save(self, path: str | Path) -> None:
        """Write the numbers as YAML."""
        numbers = {
            site: {
                name: {"mean": float(mean), "scale": float(scale)}
                for name, mean, scale in zip(self.names, self.mean[nth], self.scale[nth], strict=True)
            }
            for nth, site in enumerate(self.sites)
            if self.knows(nth)
        }
        write_atomically(path, yaml.safe_dump(numbers, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> SiteScaler:
        """Read what `save` wrote.

        Raises:
            MPTTError: no such file, or not of that form.
        """
        if not Path(path).is_file():
            raise MPTTError(f"No scaler file at {path} (looked from {Path.cwd()}).")
        try:
            numbers = yaml.safe_load(Path(path).read_text())
            names = [list(entries) for entries in numbers.values()]
            if any(each != names[0] for each in names):
                raise ValueError("the sites have different variables")
            mean, scale = (
                torch.tensor([[float(entry[key]) for entry in entries.values()] for entries in numbers.values()])
                for key in ("mean", "scale")
            )
            return cls(names[0], [str(site) for site in numbers], mean, scale)
        except (yaml.YAMLError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise MPTTError(
                f"{path} is no file of a scaler by site: below each site a line `NAME: {{mean: number, scale:"
                f" number}}` for each variable ({error})."
            ) from error

    def _of(self, values: Tensor, site: Tensor | None) -> tuple[Tensor, Tensor]:
        if site is None:
            raise MPTTError("Each site has its own scale: say which sites the rows of values are of.")
        # Batches keep the numbers of their sites on the host.
        rows, shape = site.to(self.mean.device), (len(site), *[1] * (values.ndim - 2), len(self.names))
        return self.mean[rows].view(shape).to(values.device), self.scale[rows].view(shape).to(values.device)

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


class SiteScaler:
    """Standardises each variable of each site by a mean and a scale of its own, so that all sites weigh alike.

    Args:
        names: of the variables, V.
        sites: names of the sites.
        mean: (sites, V) in physical units.
        scale: (sites, V) in physical units, above 0.

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
        for site, *numbers in zip(self.sites, mean, scale, strict=True):
            try:
                Scaler(self.names, *numbers)
            except MPTTError as error:
                raise MPTTError(f"Site {site}: {error}") from error

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

    def chosen(self, sites: Sequence[str]) -> SiteScaler:
        """The numbers of these sites, in this order.

        Raises:
            MPTTError: it has none for one of them.
        """
        position = {site: nth for nth, site in enumerate(self.sites)}
        if unknown := [site for site in sites if site not in position]:
            raise MPTTError(
                f"The scaler of each site has no numbers for {len(unknown)} site(s): {listed(unknown)}. Only sites that"
                ' were trained on have some; train with target_scaling="global" to predict others.'
            )
        rows = torch.tensor([position[site] for site in sites], dtype=torch.int64)
        return SiteScaler(self.names, sites, self.mean[rows], self.scale[rows])

    def state_dict(self) -> dict[str, Any]:
        """Names and tensors, for a checkpoint."""
        return {"names": list(self.names), "sites": list(self.sites), "mean": self.mean, "scale": self.scale}

    def save(self, path: str | Path) -> None:
        """Write the numbers as YAML."""
        numbers = {
            site: {
                name: {"mean": float(mean), "scale": float(scale)}
                for name, mean, scale in zip(self.names, self.mean[nth], self.scale[nth], strict=True)
            }
            for nth, site in enumerate(self.sites)
        }
        Path(path).write_text(yaml.safe_dump(numbers, sort_keys=False))

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

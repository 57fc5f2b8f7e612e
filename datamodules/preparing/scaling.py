"""Standardising, with numbers that are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from mptt.errors import MPTTError
from mptt.files import write_atomically


class Moments(NamedTuple):
    """Number, mean and standard deviation of the known values of variables: (V,) each, in double."""

    size: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def nothing(cls, variables: int) -> Moments:
        """Of no value."""
        return cls(*torch.zeros(3, variables, dtype=torch.float64))

    @classmethod
    def of(cls, values: Tensor, chosen: Tensor | None = None) -> Moments:
        """Of each column of values (T, V), or of its chosen rows (T,), NaN left out; all 0 where there is none."""
        found = torch.zeros(3, values.shape[1], dtype=torch.float64)
        for nth, column in enumerate(values.unbind(1)):
            column = column if chosen is None else column[chosen]
            known = column[column.isfinite()].double()
            if len(known):
                deviation, mean = torch.std_mean(known, correction=0)
                found[:, nth] = torch.stack([torch.tensor(len(known), dtype=torch.float64), mean, deviation])
        return cls(*found)

    def merge(self, other: Moments) -> Moments:
        """Those of both sets of values together."""
        size = self.size + other.size
        share = other.size / size.clamp(min=1)
        apart = other.mean - self.mean
        squared = (1 - share) * self.deviation.square() + share * other.deviation.square()
        merged = self.mean + share * apart, (squared + share * (1 - share) * apart.square()).sqrt()
        # The one that has no values leaves the other as it is, to the last bit.
        mean, deviation = (
            torch.where(other.size == 0, mine, torch.where(self.size == 0, theirs, both))
            for mine, theirs, both in zip(self[1:], other[1:], merged, strict=True)
        )
        return Moments(size, mean, deviation)


class Scaler:
    """Standardises each variable by a mean and a scale: `(value - mean) / scale`.

    Args:
        names: of the variables, V.
        mean: (V,) in physical units.
        scale: (V,) in physical units, above 0.

    Raises:
        MPTTError: other shapes, a number that is not finite, a scale of 0 or less.

    Example:
        >>> scaler = Scaler.fit(["prcp"], torch.tensor([[0.0], [4.0], [float("nan")]]))
        >>> scaler.transform(torch.tensor([[4.0]]))
        tensor([[1.]])
    """

    def __init__(self, names: Sequence[str], mean: Tensor, scale: Tensor) -> None:
        self.names = list(names)
        self.mean = mean
        self.scale = scale
        if not mean.shape == scale.shape == (len(self.names),):
            raise MPTTError(
                f"A scaler of {len(self.names)} variable(s) has a mean and a scale for each; found shapes"
                f" {tuple(mean.shape)} and {tuple(scale.shape)}."
            )
        good = mean.isfinite() & scale.isfinite() & (scale > 0)
        if not good.all():
            wrong = self.names[int(good.int().argmin())]
            raise MPTTError(f"A scaler needs finite means and finite scales above 0; not so for {wrong}.")

    @classmethod
    def fit(cls, names: Sequence[str], values: Tensor) -> Scaler:
        """Mean and standard deviation of each column of values (T, V), NaN left out; a constant column gets scale 1."""
        return cls.of_moments(names, Moments.of(values))

    @classmethod
    def of_moments(cls, names: Sequence[str], moments: Moments) -> Scaler:
        """The same from the moments of the values."""
        _, mean, deviation = moments
        # float32 does not tell a smaller spread from rounding.
        spread = deviation > 1e-7 * mean.abs() + 1e-30
        return cls(names, mean.float(), torch.where(spread, deviation, 1.0).float())

    def leaving(self, names: Collection[str]) -> Scaler:
        """The same, but for these variables, which stay as they are."""
        kept = torch.tensor([name in names for name in self.names], dtype=torch.bool)
        return Scaler(self.names, self.mean.masked_fill(kept, 0.0), self.scale.masked_fill(kept, 1.0))

    def transform(self, values: Tensor) -> Tensor:
        """Physical values (..., V) to standardised ones."""
        return self.transform_(values.clone())

    def transform_(self, values: Tensor) -> Tensor:
        """The same in place."""
        return values.sub_(self.mean.to(values.device)).div_(self.scale.to(values.device))

    def inverse(self, values: Tensor, site: Tensor | None = None) -> Tensor:
        """Standardised values (..., V) to physical ones, the same at all sites; `SiteScaler` asks for the sites."""
        return values * self.scale.to(values.device) + self.mean.to(values.device)

    def change_(self, values: Tensor, before: Scaler) -> Tensor:
        """Values (..., V) that another scaler standardised, to this one's, in place; the same scaler changes no bit."""
        factor = before.scale.double() / self.scale.double()
        shift = (before.mean.double() - self.mean.double()) / self.scale.double()
        return values.mul_(factor.to(values)).add_(shift.to(values))

    def state_dict(self) -> dict[str, Any]:
        """Names and tensors, for a checkpoint."""
        return {"names": list(self.names), "mean": self.mean, "scale": self.scale}

    def check(self, names: Sequence[str]) -> Scaler:
        """This scaler, if it is for these variables in this order.

        Raises:
            MPTTError: it is for others.
        """
        if self.names != list(names):
            raise MPTTError(
                f"The saved scaler is for {self.names}, but the data module has {list(names)}. Give it the variables of"
                " the saved run, in their order."
            )
        return self

    def save(self, path: str | Path) -> None:
        """Write the numbers as YAML."""
        numbers = {
            name: {"mean": float(mean), "scale": float(scale)}
            for name, mean, scale in zip(self.names, self.mean, self.scale, strict=True)
        }
        write_atomically(path, yaml.safe_dump(numbers, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> Scaler:
        """Read what `save` wrote.

        Raises:
            MPTTError: no such file, or not of that form.
        """
        if not Path(path).is_file():
            raise MPTTError(f"No scaler file at {path} (looked from {Path.cwd()}).")
        try:
            numbers = yaml.safe_load(Path(path).read_text())
            mean, scale = (torch.tensor([float(entry[key]) for entry in numbers.values()]) for key in ("mean", "scale"))
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise MPTTError(
                f"{path} is no scaler file: a line `NAME: {{mean: number, scale: number}}` for each variable ({error})."
            ) from error
        return cls(list(numbers), mean, scale)

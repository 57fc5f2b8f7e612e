"""Which sites of a data set are read."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import xarray as xr

from mptt.datamodules.preparing.checks import listed, site_names
from mptt.errors import MPTTError, MPTTWarning

Sites = Sequence[str | int] | str | Path | None


def named_sites(sites: Sites) -> list[str] | None:
    """The sites asked for, whether they are there or not; None for all. A whole number is a site of these digits.

    Raises:
        MPTTError: no list at that path, or none asked for.
    """
    if sites is None:
        return None
    chosen = _listed_in(sites) if isinstance(sites, str | Path) else list(sites)
    if not chosen:
        raise MPTTError("The list of sites is empty; sites=None reads all.")
    for site in chosen:
        if not isinstance(site, str | Integral) or isinstance(site, bool):
            raise MPTTError(f"A site is a string; found {site!r} ({type(site).__name__}). Put it in quotation marks.")
    return [str(site) for site in chosen]


def chosen_sites(sites: Sites, there: Sequence[str], where: Path) -> list[str]:
    """The sites asked for, in their order.

    Args:
        sites: ids, or the path of a text file with one a line; None for all.
        there: ids that the data set has.
        where: the data set, for messages.

    Raises:
        MPTTError: no list at that path, none asked for, an id that is no string, is not there or comes twice.
    """
    chosen = named_sites(sites)
    if chosen is None:
        return list(there)
    known = set(there)
    if unknown := [site for site in chosen if site not in known]:
        near = difflib.get_close_matches(unknown[0], there, n=3)
        hint = f"Near {unknown[0]!r}: {', '.join(near)}" if near else f"There are {listed(there)}"
        raise MPTTError(f"No series of site {listed(unknown)} in {where}. {hint}.")
    if twice := sorted({site for site in chosen if chosen.count(site) > 1}):
        raise MPTTError(f"Sites asked for more than once: {listed(twice)}.")
    return chosen


def complete_sites(
    dataset: xr.Dataset, inputs: Collection[str], targets: Collection[str], named: Collection[str]
) -> xr.Dataset:
    """Only the sites that have every input, and one target at least.

    Args:
        dataset: dimensions (site, time).
        inputs: variables (site, time); names that are not there are left for `SeriesDataModule` to refuse.
        targets: likewise.
        named: sites that were asked for by name. One that lacks an input is refused; one without target stays: what it
            would do can be predicted.

    Returns:
        The data set, without the other sites, which a warning names.

    Raises:
        MPTTError: no site is left, or one asked for lacks an input.
    """
    sites = site_names(dataset)
    lacks: dict[str, list[str]] = {}
    for name in inputs:
        for site in _without(dataset, name):
            lacks.setdefault(sites[site], []).append(name)
    if refused := {site: names for site, names in lacks.items() if site in named}:
        found = listed(f"{site} (no {listed(names)})" for site, names in refused.items())
        raise MPTTError(f"Sites asked for have no value of an input: {found}. Leave out the sites, or the inputs.")
    bare = [set(_without(dataset, name)) for name in targets if name in dataset.data_vars]
    for site in sorted(set.intersection(*bare)) if bare else []:
        if sites[site] not in named:
            lacks.setdefault(sites[site], []).extend(targets)
    if not lacks:
        return dataset
    found = listed(f"{site} (no {listed(names)})" for site, names in lacks.items())
    if len(lacks) == len(sites):
        raise MPTTError(f"No site has all inputs and a target: {found}. Choose other variables.")
    warnings.warn(f"{len(lacks)} of {len(sites)} sites left out: {found}.", MPTTWarning, stacklevel=3)
    return dataset.isel(site=[nth for nth, site in enumerate(sites) if site not in lacks])


def _without(dataset: xr.Dataset, name: str) -> list[int]:
    """Positions of the sites that have no value of a variable."""
    if name not in dataset.data_vars or set(dataset[name].dims) != {"site", "time"}:
        return []
    values = dataset[name].transpose("site", "time").values
    return [int(site) for site in range(len(values)) if not np.isfinite(values[site]).any()]


def _listed_in(path: str | Path) -> list[str | int]:
    if not Path(path).is_file():
        raise MPTTError(
            f"No list of sites at {path} (looked from {Path.cwd()}). Give the path of a text file with an id a line, or"
            f" a list of ids, as [{str(path)!r}]."
        )
    return [*Path(path).read_text(encoding="utf-8-sig").split()]

"""The sites that are used: in a part, and with the attributes that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from mptt.datamodules.preparing.checks import Mask, listed, site_names
from mptt.datamodules.preparing.encoding import AttributesMissing, AttributesText, complete_sites
from mptt.datamodules.preparing.site_split import SiteSplit, split_sites
from mptt.errors import MPTTError


@dataclass(frozen=True)
class UsedSites:
    """What is left of a data set.

    Attributes:
        dataset: with the sites that are used.
        members: names of the sites of each part; None: every site is in every part.
        notes: what was left out, a line each.
    """

    dataset: xr.Dataset
    members: dict[str, list[str]] | None
    notes: list[str]


def use_sites(
    dataset: xr.Dataset,
    site_split: SiteSplit | None,
    attributes: Sequence[str],
    missing: AttributesMissing,
    text: AttributesText,
) -> UsedSites:
    """Leave out the sites that no part names, and with `missing` "drop_site" those that lack an attribute.

    Raises:
        MPTTError: no site is left; a `site_split` that is none of this data set.
    """
    names = site_names(dataset)
    complete = np.ones(len(names), dtype=bool)
    if attributes and missing == "drop_site":
        complete = complete_sites({name: dataset[name].values for name in attributes}, text)
    members = None if site_split is None else split_sites(names, site_split)
    kept, notes = choose_sites(names, members, complete)
    return UsedSites(dataset if kept.all() else dataset.isel(site=np.flatnonzero(kept)), members, notes)


def choose_sites(
    sites: Sequence[str], members: Mapping[str, Sequence[str]] | None, complete: Mask
) -> tuple[Mask, list[str]]:
    """Which sites are used, and what is to be said of the others.

    Args:
        sites: of the data set.
        members: of each part; None: all.
        complete: (sites,) whether a site's attributes are known.

    Raises:
        MPTTError: no site is left.
    """
    listed_in_part = np.ones(len(sites), dtype=bool)
    if members is not None:
        listed_in_part = np.isin(sites, [site for part in members.values() for site in part])
    kept = listed_in_part & complete
    notes = []
    for left, why in (
        (~listed_in_part, "in no part of site_split"),
        (listed_in_part & ~complete, "attributes missing"),
    ):
        if left.any():
            notes.append(f"Left out {int(left.sum())} of {len(sites)} site(s), {why}: {listed(np.array(sites)[left])}.")
    if not kept.any():
        raise MPTTError(f"No site is left. {' '.join(notes)}")
    return kept, notes

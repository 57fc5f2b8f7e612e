"""Which sites train, validate and test, for prediction where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mptt.datamodules.preparing.checks import check_whole, listed
from mptt.datamodules.preparing.parts import PARTS
from mptt.datamodules.reading.tables import read_text
from mptt.errors import MPTTError

# Lists of text first: the command line would take ids of digits for numbers, without their zeros.
SiteSplit = Mapping[str, list[str] | list[float] | int | float | str] | Sequence[float]

_FORMS = (
    "{train: [ids] or a file, validation: ..., test: ...}, {fractions: [0.6, 0.2, 0.2], seed: 0} or {folds: 5, fold: 0,"
    " validation: 0.1, seed: 0}"
)


def split_sites(sites: Sequence[str], site_split: SiteSplit) -> dict[str, list[str]]:
    """The sites of each part, none in two of them, in the order of the data set.

    Args:
        sites: of the data set.
        site_split: ids of each of train, validation and test, or for each the path of a text file with one a line; or
            `fractions` of the sites, shuffled by `seed` (three fractions alone are shuffled by seed 0); or `folds`, of
            which number `fold` (from 0) tests, and of the other sites the fraction `validation`, 0.1 by default,
            validates. Shuffling does not depend on the order of the sites in the data set.

    Raises:
        MPTTError: none of these; an id that is not there, or in two parts; a part without a site.
    """
    given: Mapping[str, Any] = site_split if isinstance(site_split, Mapping) else {"fractions": site_split}
    keys = set(given)
    if keys == set(PARTS):
        chosen = _by_name(sites, given)
    elif "fractions" in keys and keys <= {"fractions", "seed"}:
        chosen = _by_fractions(_shuffled(sites, given), given["fractions"])
    elif {"folds", "fold"} <= keys <= {"folds", "fold", "validation", "seed"}:
        chosen = _by_folds(_shuffled(sites, given), **{key: given[key] for key in keys - {"seed"}})
    else:
        raise MPTTError(f"site_split is {_FORMS}; found {dict(given)!r}.")
    if empty := [part for part in PARTS if not chosen[part]]:
        raise MPTTError(
            f"site_split leaves no site for {' and '.join(empty)}, of {len(sites)} site(s). Every part needs one."
        )
    return {part: [site for site in sites if site in set(chosen[part])] for part in PARTS}


def sites_by_name(site_split: SiteSplit | None) -> set[str]:
    """The sites that a split names; none where it chooses them by chance.

    Raises:
        MPTTError: a list of ids that cannot be read.
    """
    if not isinstance(site_split, Mapping) or set(site_split) != set(PARTS):
        return set()
    return {site for part in PARTS for site in _ids(part, site_split[part])}


def _by_name(sites: Sequence[str], site_split: Mapping[str, Any]) -> dict[str, list[str]]:
    chosen = {part: _ids(part, site_split[part]) for part in PARTS}
    known = set(sites)
    for part, ids in chosen.items():
        if unknown := [site for site in ids if site not in known]:
            raise MPTTError(
                f"site_split names for {part} {len(unknown)} site(s) that the data set does not have:"
                f" {listed(unknown)}. There are {listed(sites)}."
            )
        if twice := sorted({site for site in ids if ids.count(site) > 1}):
            raise MPTTError(f"site_split names sites for {part} more than once: {listed(twice)}.")
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if both := [site for site in chosen[one] if site in set(chosen[other])]:
            raise MPTTError(f"site_split names sites for both {one} and {other}: {listed(both)}. Keep each in one.")
    return chosen


def _ids(part: str, given: Any) -> list[str]:
    if isinstance(given, str | Path):
        return read_ids(given, f"site_split, {part}")
    if not isinstance(given, Sequence) or not all(isinstance(site, str) for site in given):
        raise MPTTError(
            f"site_split for {part} is a list of ids, as ['01022500'] (in YAML with the quotes: numbers lose their"
            f" zeros), or the path of a text file with one a line; found {given!r}."
        )
    return list(given)


def read_ids(path: str | Path, what: str) -> list[str]:
    """The ids in a text file, one a line.

    Raises:
        MPTTError: no such file, or not a text file.
    """
    if not Path(path).is_file():
        raise MPTTError(f"{what}: no list of sites at {path} (looked from {Path.cwd()}).")
    return read_text(Path(path)).decode("utf-8-sig").split()


def _shuffled(sites: Sequence[str], site_split: Mapping[str, Any]) -> list[str]:
    seed = site_split.get("seed", 0)
    check_whole(0, **{"The seed of site_split": seed})
    return [str(site) for site in np.random.default_rng(seed).permutation(sorted(sites))]


def _by_fractions(sites: list[str], fractions: Any) -> dict[str, list[str]]:
    try:
        shares = np.array([float(share) for share in fractions])
    except (TypeError, ValueError):
        shares = np.empty(0)
    if len(shares) != len(PARTS) or not (shares >= 0).all() or shares.sum() > 1 + 1e-9:
        raise MPTTError(
            f"The fractions of site_split are three, 0 or more, that sum to at most 1, for {', '.join(PARTS)}; found"
            f" {fractions!r}."
        )
    edges = np.floor(len(sites) * np.array([0.0, *shares.cumsum()]) + 1e-9).astype(int)
    return {part: sites[edges[nth] : edges[nth + 1]] for nth, part in enumerate(PARTS)}


def _by_folds(sites: list[str], folds: Any, fold: Any, validation: Any = 0.1) -> dict[str, list[str]]:
    check_whole(2, **{"folds of site_split": folds})
    check_whole(0, **{"fold of site_split": fold})
    if folds > len(sites) or fold >= folds:
        raise MPTTError(
            f"Fold {fold} of {folds} (numbered from 0) is none of {len(sites)} site(s): take fewer folds, or a fold"
            f" below {folds}."
        )
    if isinstance(validation, bool) or not isinstance(validation, int | float) or not 0 < validation < 1:
        raise MPTTError(f"validation of site_split is a fraction of the other folds' sites; found {validation!r}.")
    edges = np.arange(folds + 1) * len(sites) // folds
    test = sites[edges[fold] : edges[fold + 1]]
    others = sites[: edges[fold]] + sites[edges[fold + 1] :]
    count = max(round(len(others) * validation), 1)
    return {"train": others[count:], "validation": others[:count], "test": test}

"""A configuration for a data set that was looked at: target, inputs, parts and windows guessed."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
import yaml

import mptt.datamodules
from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError
from mptt.experiments.data.choosing import choose
from mptt.experiments.data.survey import Survey, Variable

# Names that say streamflow, the likeliest first.
_FLOW = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(streamflow|discharge_spec|q_?obs|obs_?run|q)\b",
        r"streamflow|discharge",
        r"runoff|^flow|_flow|^q_|_q$",
    )
]
# Made from streamflow, or as good as: no inputs.
_TELLS_FLOW = re.compile(
    r"streamflow|discharge|runoff|flow|^q$|^q_|_q$|q_?obs|mod_run|obs_run|water_?level|stage"
    r"|surq|latq|gw_q|qtile|wyld|^perc|rchg|revap|[sd]a_st|sw_(init|end)",
    re.I,
)
# Exchange with the air, then water stored.
_OTHERS = [re.compile(pattern, re.IGNORECASE) for pattern in (r"^(nee|gpp|reco|le|h)(_|$)", r"^(sw_end|swc|sno|swe)")]
_QUALITY = re.compile(r"(^|_)(qc|flag|quality)($|_)", re.IGNORECASE)
_SIGNATURES = re.compile(r"flow|runoff|discharge|^q|_q|slope_fdc|fdc|stream_elas|hfd|zero_q", re.IGNORECASE)

_SHARES = (0.6, 0.15, 0.25)  # training, validation, test
_LONGEST = 365


def suggest(survey: Survey, all_sites: bool = True) -> str:
    """A configuration that `mptt fit --config` takes.

    Target and inputs are those that the DataModule of the data set has by default; else the target is what is called
    like streamflow, a flux or a store of water, or has most values missing, and inputs are the variables that have a
    value at every step of every site's record. `choose` leaves out what lacks too much, and fills the rest. Parts are
    dates between which lie 60, 15 and 25 % of the target's values. Windows are a year of days, or a quarter of a usual
    training part where that is less.

    Args:
        survey: of the data set.
        all_sites: whether its sites are all that the data set has; else the configuration names them.

    Returns:
        YAML, with comments that say what was guessed and what stands in the way.

    Raises:
        MPTTError: there is but one variable.
    """
    if len(survey.variables) < 2:
        raise MPTTError(
            f"Only one series, {survey.variables[0].name}, in {survey.source.path}; a configuration needs inputs and a"
            " target."
        )
    settings = dict(survey.source.settings) or {"class_path": "SeriesDataModule", "init_args": {}}
    module = inspect.signature(getattr(mptt.datamodules, settings["class_path"])).parameters
    target = guess_target(survey, _usual(survey, module, "targets"))
    edges = _edges(survey, target)
    usual = [one for one in _usual(survey, module, "inputs") if one is not target]
    inputs = usual or guess_inputs(survey, target)
    site_word = next((word for word in ("sites", "basins") if word in module), None)
    others = [] if usual else [one.name for one in possible_inputs(survey, target) if one not in inputs]
    train_ends = None if edges is None else edges[0] * survey.months
    choice = choose(survey, target, inputs, train_ends, site_word is not None)
    lost = len(choice.sites) < len(survey.source.sites)
    spans = [survey.spans[site] for site in choice.sites]
    steps = int(np.median([last - first + 1 for first, last in spans]))
    window = int(np.clip(_SHARES[0] * steps // 4, 2, _LONGEST))
    data: dict[str, Any] = {
        **{name: value for name, value in settings.get("init_args", {}).items() if value is not None},
        **({site_word: choice.sites} if site_word and (lost or not all_sites) else {}),
        "inputs": [one.name for one in choice.inputs],
        "targets": [target.name],
        **({"fill": choice.fill} if choice.fill else {}),
        "split": _split(survey, edges),
        "window": window,
        "stride": max(window // 2, 1),
        "warmup": int(min(window, _SHARES[1] * steps // 3)),
        "batch_size": 64 if len(spans) * steps > 1000 * window else 8,
    }
    config = {
        "data": {"class_path": settings["class_path"], "init_args": data},
        "model": {"class_path": "SequenceRegressor", "init_args": {"core": "gru", "hidden_size": 64}},
        "trainer": {"max_epochs": 30},
    }
    sites = f"{len(spans)} site" + "s" * (len(spans) != 1)
    comments = [f"{target.name} of {sites} ({survey.source.kind}), suggested by mptt data inspect", *choice.notes]
    if others:
        comments.append(f"No inputs, for they have gaps that others have not: {listed(others, 40)}.")
    fixed = survey.source.attributes
    if len(fixed.data_vars):
        kept = np.isin(np.asarray(survey.source.sites), choice.sites)
        if names := guess_attributes(fixed.isel(site=np.flatnonzero(kept))):
            comments.append(f"Attributes that every site has, for data.init_args.attributes: [{', '.join(names)}]")
    lines = [line for comment in comments for line in textwrap.wrap(comment, 108, break_on_hyphens=False)]
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "".join(f"# {line}\n" for line in lines) + text


def _usual(survey: Survey, module: Mapping[str, inspect.Parameter], role: str) -> list[Variable]:
    """The variables that a DataModule takes where none are named, of those that have values."""
    names = module[role].default
    if names is inspect.Parameter.empty:
        return []
    return [one for name in names for one in survey.variables if one.name == name and one.count]


def guess_target(survey: Survey, usual: Sequence[Variable] = ()) -> Variable:
    """The usual one; what is called like streamflow, a flux or a store; or else that with most missing values."""
    candidates = [one for one in survey.variables if not _QUALITY.search(one.name) and one.count] or survey.variables
    values = {one.name: sum(one.count.values()) for one in candidates}
    if usual:
        return usual[0]
    for pattern in (*_FLOW, *_OTHERS):
        if called := [one for one in candidates if pattern.search(one.name)]:
            return max(called, key=lambda one: values[one.name])
    # The last of equals: tables begin with what drives.
    return min(reversed(candidates), key=lambda one: values[one.name])


def possible_inputs(survey: Survey, target: Variable) -> list[Variable]:
    """Variables that change, and are neither made from streamflow nor fluxes nor flags; or, without such, all."""
    return [
        one
        for one in survey.variables
        if one is not target
        and one.low < one.high
        and not any(pattern.search(one.name) for pattern in (_TELLS_FLOW, _OTHERS[0], _QUALITY))
    ] or [one for one in survey.variables if one is not target and one.count]


def guess_inputs(survey: Survey, target: Variable) -> list[Variable]:
    """Of possible inputs, those with a value at every step of every site's record, or all where there are none."""
    possible = possible_inputs(survey, target)
    # Inputs must begin and end together at every site.
    together: dict[tuple[Any, ...], list[Variable]] = {}
    for one in possible:
        if survey.complete(one):
            together.setdefault(tuple(sorted(one.spans.items())), []).append(one)
    return max(together.values(), key=len) if together else possible


def guess_attributes(attributes: xr.Dataset, most: int = 12) -> list[str]:
    """Numbers that every site has and that differ, without those that are made from streamflow."""
    return [
        str(name)
        for name, values in attributes.data_vars.items()
        if values.dtype.kind in "fiu"
        and not _SIGNATURES.search(str(name))
        and np.isfinite(values.values).all()
        and len(np.unique(values.values)) > 1
    ][:most]


def _edges(survey: Survey, target: Variable) -> list[int] | None:
    """The first month, or year, of validation and of test; None where there are too few to choose from."""
    there = target.available.sum(axis=0).cumsum()
    edges = [int(np.abs(there - share * there[-1]).argmin()) + 1 for share in np.cumsum(_SHARES)[:2]]
    if not 0 < edges[0] < edges[1] < len(there) - 1 or len(np.flatnonzero(np.diff(there))) < 8:
        return None
    return [survey.first_bin + edge for edge in edges]


def _split(survey: Survey, edges: list[int] | None) -> Any:
    """First and last date of each part; fractions without edges."""
    if edges is None:
        return list(_SHARES)
    starts = [_month(edge * survey.months) for edge in edges]
    ends = [_month(edge * survey.months - 1) for edge in edges]
    return {
        "train": [_exact(survey.axis.index[0]), ends[0]],
        "validation": [starts[0], ends[1]],
        "test": [starts[1], _exact(survey.axis.index[-1])],
    }


def _month(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _exact(date: Any) -> str:
    """A date of the axis, as short as it can be."""
    text = date.isoformat()
    return text.removesuffix("T00:00:00") if isinstance(text, str) else str(date)

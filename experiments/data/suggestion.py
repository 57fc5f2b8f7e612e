"""A configuration for a data set that was looked at: target, inputs, parts and windows guessed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr
import yaml

from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError
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
    r"streamflow|discharge|runoff|flow|^q$|^q_|_q$|q_?obs|mod_run|obs_run|water_?level|stage", re.I
)
# Exchange with the air, then water stored.
_OTHERS = [re.compile(pattern, re.IGNORECASE) for pattern in (r"^(nee|gpp|reco|le|h)(_|$)", r"^(sw_end|swc|sno|swe)")]
_QUALITY = re.compile(r"(^|_)(qc|flag|quality)($|_)", re.IGNORECASE)
_SIGNATURES = re.compile(r"flow|runoff|discharge|^q|_q|slope_fdc|fdc|stream_elas|hfd|zero_q", re.IGNORECASE)

_SHARES = (0.6, 0.15, 0.25)  # training, validation, test
_LONGEST = 365


def suggest(survey: Survey) -> str:
    """A configuration that `mptt fit --config` takes.

    The target is what is called like streamflow, a flux or a store of water, or else has most values missing. Inputs
    are the variables that have a value at every step of every site's record. Parts are dates between which lie 60, 15
    and 25 % of the target's values. Windows are a year of days, or a quarter of a usual training part where that is
    less.

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
    target = guess_target(survey)
    inputs = guess_inputs(survey, target)
    lacking = [name.name for name in survey.variables if name.name in inputs and not survey.complete(name)]
    steps = int(np.median([last - first + 1 for first, last in survey.spans.values()]))
    window = int(np.clip(_SHARES[0] * steps // 4, 2, _LONGEST))
    settings = dict(survey.source.settings) or {"class_path": "SeriesDataModule", "init_args": {}}
    data: dict[str, Any] = {
        **settings.get("init_args", {}),
        "inputs": inputs,
        "targets": [target.name],
        "split": _split(survey, target),
        "window": window,
        "stride": max(window // 2, 1),
        "warmup": int(min(window, _SHARES[1] * steps // 3)),
        "batch_size": 64 if len(survey.spans) * steps > 1000 * window else 8,
    }
    config = {
        "data": {"class_path": settings["class_path"], "init_args": data},
        "model": {"class_path": "SequenceRegressor", "init_args": {"core": "gru", "hidden_size": 64}},
        "trainer": {"max_epochs": 30},
    }
    sites = f"{len(survey.spans)} site" + "s" * (len(survey.spans) != 1)
    comments = [f"{target.name} of {sites} ({survey.source.kind}), suggested by mptt data inspect"]
    if lacking:
        comments.append(f"No variable is complete at every site. Fill these first: {listed(lacking)}.")
    if fixed := guess_attributes(survey.source.attributes):
        comments.append(f"Attributes that every site has, for data.init_args.attributes: [{', '.join(fixed)}]")
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "".join(f"# {line}\n" for line in comments) + text


def guess_target(survey: Survey) -> Variable:
    """The variable that is called like streamflow, a flux or a store, or else the one with most missing values."""
    candidates = [one for one in survey.variables if not _QUALITY.search(one.name) and one.count] or survey.variables
    values = {one.name: sum(one.count.values()) for one in candidates}
    for pattern in (*_FLOW, *_OTHERS):
        if called := [one for one in candidates if pattern.search(one.name)]:
            return max(called, key=lambda one: values[one.name])
    # The last of equals: tables begin with what drives.
    return min(reversed(candidates), key=lambda one: values[one.name])


def guess_inputs(survey: Survey, target: Variable) -> list[str]:
    """Variables with a value at every step of every site's record, or the fullest ones where there are none."""
    candidates = [
        one
        for one in survey.variables
        if one is not target
        and one.low < one.high
        and not any(pattern.search(one.name) for pattern in (_TELLS_FLOW, _OTHERS[0], _QUALITY))
    ] or [one for one in survey.variables if one is not target]
    # Inputs must begin and end together at every site.
    together: dict[tuple[Any, ...], list[str]] = {}
    for one in candidates:
        if survey.complete(one):
            together.setdefault(tuple(sorted(one.spans.items())), []).append(one.name)
    if together:
        return max(together.values(), key=len)
    fullest = max(sum(one.count.values()) for one in candidates)
    return [one.name for one in candidates if sum(one.count.values()) > 0.9 * fullest]


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


def _split(survey: Survey, target: Variable) -> Any:
    """First and last date of each part; fractions where there are too few months or years to choose from."""
    there = target.available.sum(axis=0).cumsum()
    edges = [int(np.abs(there - share * there[-1]).argmin()) + 1 for share in np.cumsum(_SHARES)[:2]]
    first, last = survey.axis.index[0], survey.axis.index[-1]
    if not 0 < edges[0] < edges[1] < len(there) - 1 or len(np.flatnonzero(np.diff(there))) < 8:
        return list(_SHARES)
    starts = [_month((survey.first_bin + edge) * survey.months) for edge in edges]
    ends = [_month((survey.first_bin + edge) * survey.months - 1) for edge in edges]
    return {
        "train": [_exact(first), ends[0]],
        "validation": [starts[0], ends[1]],
        "test": [starts[1], _exact(last)],
    }


def _month(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _exact(date: Any) -> str:
    """A date of the axis, as short as it can be."""
    text = date.isoformat()
    return text.removesuffix("T00:00:00") if isinstance(text, str) else str(date)

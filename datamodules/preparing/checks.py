"""What a data set must be before anything is trained on it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.errors import MPTTError, MPTTWarning

if TYPE_CHECKING:
    from mptt.datamodules.preparing.parts import Part
    from mptt.datamodules.preparing.survey import RecordSurvey

Values = Mapping[str, npt.NDArray[np.float32]]  # name of a variable: (site, time)
Mask = npt.NDArray[np.bool_]
ONLY_CHOSEN = "only chosen variables"  # in the encoding of a data set of which not all variables were read


def check_whole(least: int, **settings: Any) -> None:
    """Check that settings are whole numbers, `least` or more.

    Raises:
        MPTTError: one is not.
    """
    for name, value in settings.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
            raise MPTTError(f"{name} is a whole number, at least {least}; found {value!r}.")


def check_within(window: int, **settings: int | None) -> None:
    """Check that settings, numbers of steps where they are given, are 1 to a window's.

    Raises:
        MPTTError: one is not.
    """
    for name, value in settings.items():
        if value is not None:
            check_whole(1, **{name: value})
            if value > window:
                raise MPTTError(f"{name} is at most the window of {window} steps; found {value}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a setting is one of a few words.

    Raises:
        MPTTError: it is not.
    """
    if value not in choices:
        raise MPTTError(f"{name} is {' or '.join(map(repr, choices))}; found {value!r}.")


def check_dataset(
    dataset: xr.Dataset,
    inputs: Sequence[str],
    targets: Sequence[str],
    attributes: Sequence[str],
    computed: Sequence[str] = (),
) -> None:
    """Check that a data set has the dimensions, sites, time axis and variables asked for, but for computed inputs.

    Raises:
        MPTTError: one of them is not as it must be; names it, and what to do.
    """
    if missing := {"site", "time"} - set(dataset.dims):
        raise MPTTError(
            f"A data set has the dimensions site and time; {' and '.join(sorted(missing))} missing, found"
            f" {tuple(dataset.dims)}. Rename them, or add one with dataset.expand_dims(site=['name'])."
        )
    if missing := {"site", "time"} - set(dataset.indexes):
        raise MPTTError(
            f"The data set has no coordinate {' and '.join(sorted(missing))}: name the sites and date the steps, with"
            " dataset.assign_coords(site=[...], time=[...])."
        )
    check_sites(site_names(dataset))
    check_time(dataset.indexes["time"])
    for role, names, dims in (
        ("input", inputs, ("site", "time")),
        ("target", targets, ("site", "time")),
        ("attribute", attributes, ("site",)),
    ):
        if role != "attribute" and not names:
            raise MPTTError(f"No {role} is named; the data set has {listed(_of_dims(dataset, dims))}.")
        if twice := sorted({name for name in names if list(names).count(name) > 1}):
            raise MPTTError(f"Each {role} is named once; {', '.join(twice)} is named again.")
        for name in names:
            if name not in computed:
                _check_variable(dataset, role, name, dims)


def check_sites(sites: Sequence[str]) -> None:
    """Check that there are sites, and that no two have one name.

    Raises:
        MPTTError: none, or the names that come again.
    """
    if not sites:
        raise MPTTError("The data set has no site.")
    names, count = np.unique(sites, return_counts=True)
    if (count > 1).any():
        raise MPTTError(
            f"Site ids must differ; {listed(names[count > 1])} come(s) more than once. Rename them, or keep the first"
            " of each with dataset.drop_duplicates('site')."
        )


def check_time(time: pd.Index) -> None:
    """Check that a time axis goes up in equal steps, or month by month.

    Raises:
        MPTTError: it holds no dates, fewer than two, or a date that does not follow the one before it.
    """
    moment, months = moments(time)
    if len(moment) < 2:
        raise MPTTError(f"The time axis has {len(moment)} step(s); at least 2 are needed.")
    step, month_step = np.diff(moment), np.diff(months)
    if (month_step == month_step[0]).all() and month_step[0] > 0:
        return
    steps, count = np.unique(step[step > 0], return_counts=True)
    usual = steps[count.argmax()] if len(steps) else 0
    for wrong, what, way_out in (
        (step == 0, "comes twice", "Drop the duplicates (dataset.drop_duplicates('time'))."),
        (step < 0, "is earlier than the date before it", "Sort the data (dataset.sortby('time'))."),
        (
            step != usual,
            f"does not follow the date before it by the usual step of {_readable(usual / 1e6)}",
            "Fill the gap (dataset.reindex, then the inputs), or cut the data there.",
        ),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0]) + 1
            raise MPTTError(
                f"The time axis is not even: {time[first]} (entry {first}) {what}, {time[first - 1]};"
                f" {int(wrong.sum())} such place(s) in {len(moment)} steps. {way_out}"
            )


def check_complete(records: RecordSurvey, sites: Sequence[str], time: pd.Index) -> None:
    """Check that the inputs have no gap inside the sites' records.

    Raises:
        MPTTError: which, where, how many.
    """
    if absent := [sites[site] for site in np.flatnonzero(records.length == 0).tolist()]:
        raise MPTTError(
            f"{len(absent)} of {len(sites)} site(s) without any input: {listed(absent)}. Leave them out, with"
            " dataset.sel(site=[...])."
        )
    found = []
    for name, gaps in records.gaps.items():
        if count := int(gaps.count.sum()):
            site = int((gaps.count > 0).argmax())
            found.append(
                f"{name}: {count} of {int(records.length.sum())} values, at {int((gaps.count > 0).sum())} site(s),"
                f" first at site {sites[site]}, {time[int(gaps.first[site])]}"
            )
    if found:
        raise MPTTError(
            f"Inputs have missing or infinite values ({'; '.join(found)}). Fill missing ones, as with fill: {{method:"
            " interpolate, limit: 5} or, where gaps are longer, {method: climatology}; leave the variable or the site"
            " out; or cut the data there."
        )


def check_targets(
    records: RecordSurvey,
    known: Mapping[str, Mask],
    parts: Mapping[str, Part],
    warmup: int,
    targets: Sequence[str],
    sites: Sequence[str],
    unscored: Collection[str] = (),
) -> None:
    """Check that every target has values to learn from and to be scored on; warn of sites without.

    Args:
        records: has counted the infinite values.
        known: of each part, (n, K) whether each of its stretches has a value of each target after the warm-up.
        parts: the stretches.
        warmup: steps at the start of validation and test that are not scored.
        targets: their names.
        sites: their names, by number.
        unscored: parts that may be without any value.

    Raises:
        MPTTError: a target without value in another part, or infinite.
    """
    for nth, name in enumerate(targets):
        infinite = records.infinite[name]
        if count := int(infinite.count.sum()):
            site = int((infinite.count > 0).argmax())
            raise MPTTError(
                f"The target {name} has {count} infinite value(s), first at site {sites[site]}, entry"
                f" {int(infinite.first[site])} of time. Missing is NaN: dataset.where(abs(dataset) < inf)."
            )
        for label, part in parts.items():
            skipped = 0 if label == "train" else warmup
            there = known[label][:, nth]
            if not there.any() and label not in unscored:
                raise MPTTError(
                    f"The target {name} has no value in the {label} part"
                    f"{f' after its warm-up of {skipped} steps' if skipped else ''}, at any site; change the split"
                    f"{' or the warm-up' if skipped else ''}."
                )
            if not there.all():
                lacking = [sites[site] for site in part.site[~there]]
                after = f" after its warm-up of {skipped} steps" if skipped else ""
                so = "nothing is learned from them" if label == "train" else "they are predicted but not scored"
                warnings.warn(
                    f"No value of {name} in the {label} part of {len(lacking)} site(s){after}, so {so}:"
                    f" {listed(lacking)}.",
                    MPTTWarning,
                    stacklevel=3,
                )


def as_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The values as float32, not copied if they are; what float32 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def site_names(dataset: xr.Dataset) -> list[str]:
    """The names of the sites, as strings whatever they are stored as."""
    return [site.decode() if isinstance(site, bytes) else str(site) for site in dataset["site"].values]


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names in a message, the first few of many."""
    words = [str(name) for name in names]
    return (", ".join(words[:most]) or "none") + (f" and {len(words) - most} more" if len(words) > most else "")


def _check_variable(dataset: xr.Dataset, role: str, name: str, dims: tuple[str, ...]) -> None:
    if name not in dataset.variables:
        there = _of_dims(dataset, dims)
        lower = {other.lower(): other for other in there}
        near = [lower[key] for key in difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.5)]
        if dataset.encoding.get(ONLY_CHOSEN):
            hint = f"Of the names asked for there are {listed(there)}; `mptt data inspect` lists all that there are."
        else:
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {listed(there)}."
        raise MPTTError(f"The data set has no {role} variable {name!r}. {hint}")
    variable = dataset[name]
    if set(variable.dims) != set(dims):
        raise MPTTError(
            f"The {role} {name} has the dimensions {variable.dims}; it needs {dims}. Choose one entry of the others"
            " with dataset.isel, or another variable."
        )
    if role != "attribute" and variable.dtype.kind not in "fiub":
        raise MPTTError(f"The {role} {name} is not numeric ({variable.dtype}); encode it as numbers or leave it out.")


def _of_dims(dataset: xr.Dataset, dims: tuple[str, ...]) -> list[str]:
    return [
        str(name)
        for name, variable in dataset.variables.items()
        if set(variable.dims) == set(dims) and name not in ("site", "time")
    ]


def moments(time: pd.Index) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each date in microseconds from some fixed date, and in months likewise.

    Raises:
        MPTTError: it holds no dates, or a missing one.
    """
    if isinstance(time, xr.CFTimeIndex):
        return time.asi8, np.asarray(12 * time.year + time.month, dtype=np.int64)
    values = np.asarray(time)
    if values.dtype.kind != "M":
        raise MPTTError(
            f"The time coordinate holds {values.dtype}, not dates; decode it (xarray.decode_cf) or make it"
            " datetime64[s]."
        )
    if (wrong := np.isnat(values)).any():
        raise MPTTError(
            f"The time axis has {int(wrong.sum())} missing date(s), first at entry {int(np.argmax(wrong))}."
        )
    return values.astype("datetime64[us]").astype(np.int64), values.astype("datetime64[M]").astype(np.int64)


def _readable(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds:g} seconds"

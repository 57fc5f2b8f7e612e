"""Which sites and inputs an experiment can have, and how gaps in the inputs are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mptt.datamodules.preparing.checks import listed
from mptt.experiments.data.survey import Survey, Variable

_MOST_MISSING = 0.2  # of an input's steps
_SHORT = 5  # steps that a line bridges


@dataclass(frozen=True)
class Choice:
    """What is used.

    Attributes:
        sites: names, in order.
        inputs: variables.
        fill: ways to fill gaps of inputs, as SeriesDataModule takes them.
        notes: what was left out and what is filled, a sentence each.
    """

    sites: list[str]
    inputs: list[Variable]
    fill: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Gaps:
    """Gaps of one input in the records of some sites, which are the stretches where any input has values.

    Attributes:
        steps: of the records.
        missing: steps without a value.
        longest: steps of the longest gap between two values.
        open: whether values begin later or end earlier than the record somewhere.
    """

    steps: int
    missing: int
    longest: int
    open: bool


def choose(
    survey: Survey, target: Variable, candidates: Sequence[Variable], train_ends: int | None, may_leave_out_sites: bool
) -> Choice:
    """Choose sites and inputs so that each site has each input, and say what else is left out or filled.

    A site without a value of the target is left out. Then, again and again, the site or the input that lacks the
    greatest share is, until each site has some value of each input. Inputs with more than 20 % missing are left out
    where others have less. What is still missing is filled: up to 5 steps on a line, else by the season's mean.

    Args:
        survey: of the data set.
        target: that is predicted.
        candidates: for inputs.
        train_ends: the month after the training part, counted from the year 0; None where parts are fractions.
        may_leave_out_sites: whether the configuration can say which sites are read.
    """
    notes = []
    sites = [site for site in survey.source.sites if site in survey.spans]
    if may_leave_out_sites and (unknown := [site for site in sites if site not in target.count]):
        sites = [site for site in sites if site in target.count] or sites
        notes.append(f"Left out: {len(unknown)} site(s) without {target.name}: {listed(unknown)}.")
    there = np.array([[site in one.count for one in candidates] for site in sites])
    rows, columns = np.arange(len(sites)), np.arange(len(candidates))
    while not (part := there[np.ix_(rows, columns)]).all():
        of_site, of_input = 1 - part.mean(axis=1), 1 - part.mean(axis=0)
        if may_leave_out_sites and len(rows) > 1 and (len(columns) == 1 or of_site.max() > of_input.max()):
            rows = np.delete(rows, of_site.argmax())
        elif len(columns) > 1:
            columns = np.delete(columns, of_input.argmax())
        else:
            bare = [sites[nth] for nth in rows[~part[:, 0]]]
            notes.append(
                f"Cannot be fitted as it is: {listed(bare)} without {candidates[columns[0]].name}. Leave such sites out"
                " with mptt data convert --sites."
            )
            break
    if lost := [site for nth, site in enumerate(sites) if nth not in set(rows.tolist())]:
        notes.append(f"Left out: {len(lost)} site(s) that lack an input: {listed(lost)}.")
    if absent := [one.name for nth, one in enumerate(candidates) if nth not in set(columns.tolist())]:
        notes.append(f"No inputs, since sites lack them: {listed(absent)}.")
    kept = [sites[nth] for nth in rows.tolist()]
    inputs = [candidates[nth] for nth in columns.tolist()]
    return _filled(survey, kept, _full_enough(survey, kept, inputs, notes), train_ends, notes)


def gaps_of(survey: Survey, sites: Sequence[str], inputs: Sequence[Variable]) -> dict[str, Gaps]:
    """The gaps of each input."""
    place = survey.axis.place
    records = {}
    for site in sites:
        spans = [one.spans[site] for one in inputs if site in one.spans]
        if spans:
            records[site] = min(place(first) for first, _ in spans), max(place(last) for _, last in spans)
    steps = sum(last - first + 1 for first, last in records.values())
    found = {}
    for one in inputs:
        missing = steps - sum(one.count.get(site, 0) for site in records)
        inner = [place(after) - place(before) - 1 for site, (before, after) in one.gaps.items() if site in records]
        ends = {site: (place(first), place(last)) for site, (first, last) in one.spans.items() if site in records}
        found[one.name] = Gaps(steps, missing, max(inner, default=0), ends != records)
    return found


def _full_enough(survey: Survey, sites: Sequence[str], inputs: list[Variable], notes: list[str]) -> list[Variable]:
    shares = {name: gaps.missing / max(gaps.steps, 1) for name, gaps in gaps_of(survey, sites, inputs).items()}
    most = max(_MOST_MISSING, min(shares.values()))
    if poor := [f"{name} ({100 * share:.0f} %)" for name, share in shares.items() if share > most]:
        notes.append(f"No inputs, since much of them is missing: {listed(poor)}.")
    return [one for one in inputs if shares[one.name] <= most]


def _filled(
    survey: Survey, sites: list[str], inputs: list[Variable], train_ends: int | None, notes: list[str]
) -> Choice:
    gaps = {name: one for name, one in gaps_of(survey, sites, inputs).items() if one.missing}
    if not gaps:
        return Choice(sites, inputs, [], notes)
    longest = max(one.longest for one in gaps.values())
    seasonal = all(_knows_a_year(survey, one, sites, train_ends) for one in inputs if one.name in gaps)
    if not seasonal and (loose := [name for name, one in gaps.items() if one.open]):
        if len(loose) < len(inputs):
            notes.append(f"No inputs, since they begin late or end early: {listed(loose)}.")
            return _filled(survey, sites, [one for one in inputs if one.name not in loose], train_ends, notes)
        notes.append(f"Cannot be fitted before the data are cut: {listed(loose)} begin late or end early.")
    limit = min(longest, _SHORT) if seasonal else longest
    fill: list[dict[str, Any]] = [{"method": "interpolate", "limit": limit}] if limit else []
    how = [f"on the line between their neighbours where at most {limit} are missing in a row"] if limit else []
    if seasonal and (longest > limit or any(one.open for one in gaps.values())):
        fill.append({"method": "climatology"})
        how.append("by the mean of that time of the year in the site's training part")
    counts = listed([f"{name} {one.missing}" for name, one in gaps.items()], 20)
    steps = next(iter(gaps.values())).steps
    notes.append(f"Missing values of inputs are filled ({counts}, each of {steps}): {', else '.join(how)}.")
    return Choice(sites, inputs, fill, notes)


def _knows_a_year(survey: Survey, one: Variable, sites: Sequence[str], train_ends: int | None) -> bool:
    """Whether the training part of each site has a year of a variable, of which a season's mean can be made."""
    months = [(first[1], last[1]) for site in sites for first, last in [one.spans[site]]]
    return all(
        (first + 0.6 * (last - first) if train_ends is None else min(train_ends, last)) - first >= 12
        for first, last in months
    )

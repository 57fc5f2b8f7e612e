"""Gaps in inputs, filled as the user says, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.datamodules.preparing.checks import Mask, Values, check_choice, check_whole, moments
from mptt.datamodules.preparing.seasons import Seasons
from mptt.errors import MPTTError
from mptt.windows import Int64Array

Method = Literal["interpolate", "climatology", "forward"]
FillSettings = Mapping[str, list[str] | bool | int | str | None]
FILLED_COLUMNS = ("site", "variable", *get_args(Method), "filled", "longest_gap")

FloatArray = npt.NDArray[np.float64]
Table = npt.NDArray[np.float32]  # (sites, steps)


@dataclass(frozen=True)
class Fill:
    """One way to fill gaps in inputs.

    Attributes:
        method: "interpolate": on the line in time from the value before a gap to that after it; "climatology": the mean
            of the site's values on that day of the year in its training part; "forward": the value before the gap.
        limit: steps. Interpolation fills gaps up to it and leaves longer ones whole; forward filling fills so many
            steps of any gap. Climatology has none.
        variables: the inputs that it is for; all by default.
        mask: add for each of these inputs one more, NAME_missing, which is 1 where this filled a value, else 0. Where
            `variables` is not given, only inputs with a gap somewhere have one.

    Raises:
        MPTTError: a method that is not there, or a limit that it lacks or cannot have.

    Example:
        >>> Fill("interpolate", limit=5)
        Fill(method='interpolate', limit=5, variables=None, mask=False)
    """

    method: Method
    limit: int | None = None
    variables: Sequence[str] | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        check_choice("The method of fill", self.method, get_args(Method))
        if self.method == "climatology":
            if self.limit is not None:
                raise MPTTError(f"fill by climatology has no limit; found {self.limit!r}. Leave it out.")
        elif self.limit is None:
            raise MPTTError(f"fill by method {self.method} needs a limit, the longest stretch to fill, in steps.")
        else:
            check_whole(1, **{"The limit of fill": self.limit})
        if isinstance(self.variables, str) or self.variables == []:
            raise MPTTError(f"The variables of fill are a list of inputs; found {self.variables!r}.")
        if not isinstance(self.mask, bool):
            raise MPTTError(f"The mask of fill is true or false; found {self.mask!r}.")

    def covers(self, variable: str) -> bool:
        """Whether it is for a variable."""
        return self.variables is None or variable in self.variables


def as_fills(fill: Any, inputs: Sequence[str]) -> list[Fill]:
    """What a configuration says of filling, as a chain: what one leaves, the next may fill.

    Args:
        fill: one `Fill`, or a mapping with its attributes; or a list of such; None for no filling.
        inputs: of the model.

    Raises:
        MPTTError: something else, or variables that are no inputs.
    """
    if fill is None:
        return []
    chain = [_as_fill(one) for one in (fill if isinstance(fill, list | tuple) else [fill])]
    for one in chain:
        if unknown := [name for name in one.variables or () if name not in inputs]:
            raise MPTTError(f"fill names {', '.join(unknown)}, not among the inputs {', '.join(inputs)}.")
        if taken := [name for name in inputs if one.mask and one.covers(name) and mask_name(name) in inputs]:
            raise MPTTError(
                f"The mask of {taken[0]} would be named {mask_name(taken[0])}, as another input is: rename that one."
            )
    return chain


def _as_fill(one: Any) -> Fill:
    if isinstance(one, Fill):
        return one
    known = [field.name for field in fields(Fill)]
    if not isinstance(one, Mapping) or "method" not in one or set(one) - set(known):
        raise MPTTError(
            f"fill is a mapping like {{method: interpolate, limit: 5}}, or a list of such, with the keys"
            f" {', '.join(known)}; found {one!r}."
        )
    return Fill(**one)


def mask_name(variable: str) -> str:
    """The name of the input that says where another was filled."""
    return f"{variable}_missing"


def masked_inputs(chain: Sequence[Fill], inputs: Sequence[str], with_gaps: set[str] | None = None) -> list[str] | None:
    """The inputs that have a mask beside them; None where the data must be seen first.

    Args:
        chain: as of `as_fills`.
        inputs: of the model.
        with_gaps: those with a gap somewhere; None: not known yet.
    """
    named = {name for one in chain if one.mask for name in one.variables or ()}
    if any(one.mask and one.variables is None for one in chain):
        if with_gaps is None:
            return None
        named |= with_gaps
    return [name for name in inputs if name in named]


@dataclass(frozen=True)
class Filled:
    """Inputs of some sites after filling.

    Attributes:
        values: of each input (sites, steps); where nothing was filled the array that came in.
        masked: of each input with a gap (sites, steps), True where a step of the chain with a mask filled.
        counts: a row for each site and input with a gap: site, variable, values filled by each method and in all,
            and the steps of the longest gap, whether filled or not.
    """

    values: dict[str, Table]
    masked: dict[str, Mask]
    counts: pd.DataFrame


def fill_gaps(
    inputs: Values, recorded: Mask, training: Mask, time: pd.Index, chain: Sequence[Fill], sites: Sequence[str]
) -> Filled:
    """Fill the gaps of inputs inside the sites' records; each site by its own values only.

    Infinite values are no gaps, and are left for the check of inputs to refuse.

    Args:
        inputs: of each input (sites, steps), missing NaN.
        recorded: (sites, steps) whether a step is in the site's record.
        training: (sites, steps) whether a step is in the site's training part, whose values are all that climatology
            knows.
        time: (steps,) dates, in equal steps or months.
        chain: ways to fill, one after another.
        sites: names.
    """
    values, masked, rows = dict(inputs), {}, []
    moment = moments(time)[0].astype(np.float64)
    seasons: Seasons | None = None
    for name, given in inputs.items():
        gap = recorded & np.isnan(given)
        if not gap.any():
            continue
        filled, marked = given.copy(), np.zeros_like(gap)
        counts: dict[str, Int64Array] = {}
        for one in chain:
            if not one.covers(name):
                continue
            before = recorded & np.isnan(filled)
            if one.method == "climatology":
                seasons = seasons or Seasons.of(time)
                found = seasons.climatology(given, training & recorded)
                np.copyto(filled, found, where=before)
            elif one.method == "interpolate":
                interpolate_(filled, recorded, moment, one.limit or 0)
            else:
                forward_(filled, recorded, one.limit or 0)
            now = before & ~np.isnan(filled)
            counts[one.method] = counts.get(one.method, 0) + now.sum(axis=1)
            if one.mask:
                marked |= now
        values[name], masked[name] = filled, marked
        longest = _lengths(gap).max(axis=1)
        for site in np.flatnonzero(gap.any(axis=1)).tolist():
            each = {method: int(counts[method][site]) if method in counts else 0 for method in get_args(Method)}
            rows.append((sites[site], name, *each.values(), sum(each.values()), int(longest[site])))
    return Filled(values, masked, pd.DataFrame(rows, columns=list(FILLED_COLUMNS)))


def interpolate_(values: Table, recorded: Mask, moment: FloatArray, limit: int) -> None:
    """Fill gaps of up to `limit` steps between two values on the line between them, in place.

    Args:
        values: (sites, steps), missing NaN.
        recorded: (sites, steps) whether a step may be filled.
        moment: (steps,) the dates as numbers.
        limit: the longest gap to fill; of a longer one nothing is.
    """
    site, step, before, after = _around(values, recorded)
    short = (before >= 0) & (after < values.shape[1]) & (after - before - 1 <= limit)
    site, step, before, after = site[short], step[short], before[short], after[short]
    share = (moment[step] - moment[before]) / (moment[after] - moment[before])
    low, high = values[site, before].astype(np.float64), values[site, after].astype(np.float64)
    with np.errstate(invalid="ignore"):  # between infinite values, which the check of inputs refuses
        values[site, step] = low + share * (high - low)


def forward_(values: Table, recorded: Mask, limit: int) -> None:
    """Repeat the last value for up to `limit` steps of each gap, in place; of a longer gap the rest is left."""
    site, step, before, _ = _around(values, recorded)
    near = (before >= 0) & (step - before <= limit)
    values[site[near], step[near]] = values[site[near], before[near]]


def filled_lines(counts: pd.DataFrame) -> list[str]:
    """What was filled, a line an input.

    Args:
        counts: as of `Filled`.
    """
    lines = []
    for name, rows in counts.groupby("variable", sort=False):
        by = ", ".join(f"{int(rows[method].sum())} by {method}" for method in get_args(Method) if rows[method].sum())
        sites = int((rows["filled"] > 0).sum())
        lines.append(
            f"Filled {int(rows['filled'].sum())} missing values of {name} at {sites} site(s) ({by or 'none'}); the"
            f" longest gap is {int(rows['longest_gap'].max())} steps."
        )
    return lines


def _around(values: Table, recorded: Mask) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Site and step of each missing value, and the steps of the known ones before and after (-1, steps: none)."""
    steps = values.shape[1]
    known = recorded & ~np.isnan(values)
    step = np.arange(steps)
    before = np.maximum.accumulate(np.where(known, step, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, step, steps)[:, ::-1], axis=1)[:, ::-1]
    site, missing = np.nonzero(recorded & ~known)
    return site, missing, before[site, missing], after[site, missing]


def _lengths(gap: Mask) -> Int64Array:
    """(sites, steps) how many steps of a gap lie up to each step, which is in it; else 0."""
    step = np.arange(1, gap.shape[1] + 1)
    lengths: Int64Array = step - np.maximum.accumulate(np.where(gap, 0, step), axis=1)
    return lengths

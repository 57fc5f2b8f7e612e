"""How long a trained network remembers: what becomes of a wrong initial state, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from mptt.analysis.horizon import (
    divergence,
    evenly,
    gaussian_like,
    partners,
    relative,
)
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers, walk
from mptt.windows import Int64Array

Pairs = Literal["zeros", "visited", "gaussian"]
PAIRS = {
    "zeros": "the true state against zeros",
    "visited": "the true state against that of another date",
    "gaussian": "the true state against random numbers",
}
SEASONS = ("DJF", "MAM", "JJA", "SON")
LONGEST = 3650
SECOND = timedelta(seconds=1)
LENGTHS = {"hours": (1 / 24, 1 / 24), "days": (1, 1), "weeks": (7, 7), "months": (28, 31), "years": (360, 366)}  # days


@dataclass(frozen=True)
class _Series:
    """One site's part: what its batches have along steps, each (T, ...), and the true states at its starts (n, S)."""

    site: int
    columns: dict[str, Tensor]
    states: Tensor


@dataclass(frozen=True)
class _Found:
    """Of one site: state (n, steps + 1), relative; prediction (n, steps, K) and spread (K,), physical; and so on."""

    state: np.ndarray
    prediction: np.ndarray
    unit: np.ndarray  # (steps + 1, S)
    spread: np.ndarray
    order: Int64Array  # (n,) the start whose state is the other one


def horizon(
    run: OpenedRun,
    part: str = "test",
    sites: Sequence[str] | None = None,
    starts: int = 50,
    steps: int | None = None,
    pairs: Pairs = "zeros",
    seed: int = 0,
    most: int = 20,
) -> xr.Dataset:
    """Run a network from two initial states at many dates, and measure how their difference fades.

    The true state of a date is the one that sequential stateful inference has there. Dates are spread over the part,
    after the warm-up and early enough to be followed by all steps.

    Args:
        run: opened.
        part: "train", "validation" or "test".
        sites: names; by default all that are long enough, but `most` of them.
        starts: dates of each site.
        steps: to run from each; by default 3650, or half of what the middle site of the part has after its warm-up.
        pairs: the other state: "zeros", what windows start from without messages; "visited", that of another of the
            dates; "gaussian", independent units with the mean and spread of the true states.
        seed: of the dates and the pairs.
        most: sites, spread over those that there are.

    Returns:
        On (site, start, step): `state_distance`, root mean square over the units, as a share of that at step 0; of each
        target, `NAME_distance` of its nth prediction at step n, absolute, in physical units. On (unit, step)
        `unit_distance`, root mean square over all starts. On (site, start): `date` and `season` of the start, and
        `begin`, its number on the data's time axis; `partner`, that of the date of the other state, with visited pairs.
        On (site,) `NAME_spread`, the standard deviation of the observations of the part. Attributes say the rest.

    Raises:
        MPTTError: no such part, site or kind of pairs; no site is long enough.
    """
    if pairs not in PAIRS:
        raise MPTTError(f"There are no pairs {pairs!r}; there are {', '.join(PAIRS)}.")
    numbers = site_numbers(run, sites, part)
    steps, chosen = _starts(run, part, numbers, starts, steps, seed, most if sites is None else len(numbers))
    found = {}
    for series in _whole_series(run, part, chosen):
        at = chosen[series.site]
        order = partners(len(at), seed) if pairs == "visited" else np.arange(len(at))
        if pairs == "zeros":
            others = run.network.zeros(len(at))
        else:
            others = series.states[order] if pairs == "visited" else gaussian_like(series.states, seed)
        apart = divergence(_runner(run, series, at), series.states, others, steps)
        scale = _scale(run, series.site)
        found[series.site] = _Found(
            relative(apart.state), apart.prediction * scale, apart.unit, _spread(series) * scale, order
        )
    attrs = {"run": run.name, "strategy": run.strategy or "", "of_part": part, "pairs": pairs, "steps": steps}
    attrs |= {"step_unit": unit_of_steps(run.data.time), "window": run.data.window}
    attrs["from_zeros"] = int(run.training is None)
    return _together(run, {site: found[site] for site in chosen}, chosen, part).assign_attrs(attrs)


def _together(run: OpenedRun, found: dict[int, _Found], starts: dict[int, Int64Array], part: str) -> xr.Dataset:
    """What was found of each site, side by side; NaN, and -1, where one has fewer starts than others."""
    stretch = run.data.parts[part]
    begin = dict(zip(stretch.site.tolist(), stretch.begin.tolist(), strict=True))
    rows, count = len(found), [len(one.order) for one in found.values()]
    steps = next(iter(found.values())).state.shape[1]
    state = np.full((rows, max(count), steps), np.nan, np.float32)
    predicted = np.full((*state.shape, len(run.data.targets)), np.nan, np.float32)
    first, partner = np.full((rows, max(count)), -1), np.full((rows, max(count)), -1)
    for row, (site, one) in enumerate(found.items()):
        here = row, slice(count[row])
        state[here], predicted[(*here, slice(1, None))] = one.state, one.prediction
        first[here] = begin[site] + starts[site]
        partner[here] = first[here][one.order]
    squares = np.average([one.unit**2 for one in found.values()], axis=0, weights=count)
    dates, core = run.data.time.values[np.maximum(first, 0)], list(zip(*run.network.units, strict=True))
    along, each = ("site", "start", "step"), ("site", "start")
    variables: dict[str, Any] = {
        "state_distance": (along, state),
        "unit_distance": (("unit", "step"), np.sqrt(squares).T),
        "date": (each, dates),
        "season": (each, _seasons(dates, first >= 0)),
        "begin": (each, first),
        "partner": (each, partner),
    }
    for nth, name in enumerate(run.data.targets):
        unit = {"units": run.data.units[name]}
        variables[f"{name}_distance"] = (along, predicted[..., nth], unit)
        variables[f"{name}_spread"] = ("site", [one.spread[nth] for one in found.values()], unit)
    coords: dict[str, Any] = {"site": [run.data.sites[site] for site in found], "step": np.arange(steps)}
    coords |= {name: ("unit", list(of)) for name, of in zip(("core", "layer", "part"), core, strict=True)}
    return xr.Dataset(variables, coords)


def unit_of_steps(time: Any) -> str:
    """What a step of a time axis is: hours, days, weeks, months, years, or just steps."""
    apart = np.diff(np.asarray(time[:1000]))
    seconds = np.array([one / (np.timedelta64(1, "s") if isinstance(one, np.timedelta64) else SECOND) for one in apart])
    for name, (least, most) in LENGTHS.items():
        if len(seconds) and ((seconds >= least * 86400) & (seconds <= most * 86400)).all():
            return name
    return "steps"


def _seasons(dates: np.ndarray, there: np.ndarray) -> np.ndarray:
    month = xr.DataArray(dates.ravel(), dims="start").dt.month.values.reshape(dates.shape)
    return np.where(there, np.array(SEASONS)[month % 12 // 3], "")


def _starts(
    run: OpenedRun, part: str, numbers: Sequence[int], starts: int, steps: int | None, seed: int, most: int
) -> tuple[int, dict[int, Int64Array]]:
    """Steps to run, and the starts of each site that has room for them, counted in its part."""
    if starts < 2:
        raise MPTTError(f"A band needs 2 starts of a site or more, found {starts}.")
    stretch, warmup = run.data.parts[part], max(run.data.warmup, 1)
    length = dict(zip(stretch.site.tolist(), stretch.length.tolist(), strict=True))
    room = {site: length[site] - warmup for site in numbers}
    if steps is None:
        steps = min(LONGEST, int(np.median(list(room.values()))) // 2)
    enough = [site for site in numbers if room[site] > steps]
    if steps < 1 or not enough:
        raise MPTTError(
            f"No site of the {part} part has {max(steps, 1)} steps after a warm-up of {warmup}; the longest has"
            f" {max(room.values())}. Give fewer steps, or another part."
        )
    enough = [enough[nth] for nth in evenly(0, len(enough) - 1, most)]
    return steps, {site: evenly(warmup, length[site] - steps, starts, seed) for site in enough}


def _whole_series(run: OpenedRun, part: str, starts: dict[int, Int64Array]) -> Iterator[_Series]:
    """Walk along the part, and give each site when its end is reached; no other is held longer than it takes."""
    length = dict(zip(run.data.parts[part].site.tolist(), run.data.parts[part].length.tolist(), strict=True))
    pieces: dict[int, list[dict[str, Tensor]]] = {}
    states_at: dict[int, list[Tensor]] = {}
    for batch, _, _, states in walk(run, part, list(starts)):
        shape = batch["x"].shape[:2]
        along = [name for name, one in batch.items() if isinstance(one, Tensor) and one.shape[:2] == shape]
        for row, site in enumerate(batch["site"].tolist()):
            low, count = int(batch["start"][row]), int(batch["length"][row])
            pieces.setdefault(site, []).append({name: batch[name][row, :count].clone() for name in along})
            # The state of a start is the one after the step before it.
            before = starts[site] - 1 - low
            states_at.setdefault(site, []).append(states[row, before[(before >= 0) & (before < count)]].clone())
            if low + count == length[site]:
                columns = {name: torch.cat([piece[name] for piece in pieces[site]]) for name in along}
                yield _Series(site, columns, torch.cat(states_at.pop(site)))
                del pieces[site]


def _runner(run: OpenedRun, series: _Series, starts: Int64Array) -> Any:
    first = torch.from_numpy(starts)

    def go(steps: slice, initial: Tensor) -> tuple[Tensor, Tensor]:
        at = first[:, None] + torch.arange(steps.start, steps.stop)
        batch: dict[str, Any] = {name: values[at] for name, values in series.columns.items()}
        rows = len(first)
        batch |= {"site": torch.full((rows,), series.site), "start": first + steps.start}
        return run.network.run(batch | {"length": torch.full((rows,), at.shape[1])}, initial)

    return go


def _scale(run: OpenedRun, site: int) -> np.ndarray:
    """(K,) physical units in a standardised one."""
    zeros = torch.zeros(1, 1, len(run.data.targets))
    scaler, number = run.data.target_scaler, torch.tensor([site])
    found: np.ndarray = (scaler.inverse(zeros + 1, number) - scaler.inverse(zeros, number))[0, 0].double().numpy()
    return found


def _spread(series: _Series) -> np.ndarray:
    """(K,) standard deviation of the standardised observations that are scored; NaN of fewer than two."""
    values, known = series.columns["y"].double().numpy(), series.columns["mask"].numpy().astype(bool)
    each = [values[known[:, nth], nth] for nth in range(values.shape[1])]
    return np.array([one.std() if len(one) > 1 else np.nan for one in each])

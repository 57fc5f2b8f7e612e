"""What a horizon says: a table for each site and season, half-lives of units, a sentence, and figures of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from mptt.analysis.horizon import band, half_lives, stays_under, window_needed
from mptt.experiments.figures.common import save
from mptt.experiments.figures.horizon import fading, fading_by_season, unit_half_lives
from mptt.experiments.memory.horizon import PAIRS, SEASONS
from mptt.files import write_atomically

THRESHOLDS = (0.05, 0.01)


def targets_of(found: xr.Dataset) -> list[str]:
    """The targets of a Dataset of `horizon`."""
    return [str(name).removesuffix("_spread") for name in found.data_vars if str(name).endswith("_spread")]


def horizon_table(found: xr.Dataset) -> pd.DataFrame:
    """Horizons and half-lives: the median over start dates and the band of 10 to 90 %.

    Args:
        found: of `horizon`.

    Returns:
        A row for each `site` ("all": together), `season` of the start ("all", DJF, MAM, JJA, SON), and `of` what: the
        state, relative to the initial distance, or a target, relative to the standard deviation of its observations.
        `measure`: horizon_5 and horizon_1, steps after which the distance stays under 5 and 1 %; half_life, of states.
        `starts`, `q10`, `median`, `q90`, infinite where it is longer than the run; `beyond`, the share of starts of
        which it is; `window_share`, the mean share of the steps of the run's windows that it takes.
    """
    measures = _measures(found)
    site, season = found["site"].values, found["season"].values
    places = {str(name): (site == name)[:, None] for name in site}
    places = {"all": np.ones((len(site), 1), dtype=bool), **places} if len(site) > 1 else places
    rows = []
    for place, there in places.items():
        for when in ("all", *SEASONS):
            here = there & (season != "" if when == "all" else season == when)
            for (of, measure), values in measures.items():
                known = values[here][~np.isnan(values[here])]
                if not len(known):
                    continue
                row = {"site": place, "season": when, "of": of, "measure": measure, "starts": len(known)}
                row |= dict(zip(("q10", "median", "q90"), band(known), strict=True))
                row |= {"beyond": float(np.isinf(known).mean())}
                window = found.attrs["window"]
                rows.append(row | {"window_share": float(np.minimum(known, window).mean() / window)})
    return pd.DataFrame(rows)


def _measures(found: xr.Dataset) -> dict[tuple[str, str], np.ndarray]:
    """Of what, and which measure, of each start (site, start)."""
    measures = {}
    if "state_distance" in found:  # not of the truth of a simulation
        state = found["state_distance"].values
        measures = {("state", "half_life"): half_lives(state)}
        measures |= {("state", _named(threshold)): stays_under(state, threshold) for threshold in THRESHOLDS}
    for target in targets_of(found):
        # The first prediction is that of step 1.
        apart, spread = found[f"{target}_distance"].values[..., 1:], found[f"{target}_spread"].values[:, None]
        for threshold in THRESHOLDS:
            bound = np.broadcast_to(threshold * spread, apart.shape[:2])
            measures[target, _named(threshold)] = stays_under(apart, bound)
    return measures


def _named(threshold: float) -> str:
    return f"horizon_{100 * threshold:g}"


def unit_table(found: xr.Dataset) -> pd.DataFrame:
    """The half-life of each unit, of its difference root mean square over all starts; infinite beyond the run."""
    columns = {name: found[name].values for name in ("core", "layer", "part")}
    return pd.DataFrame(columns).assign(half_life=half_lives(found["unit_distance"])).rename_axis("unit").reset_index()


def sentence(found: xr.Dataset, table: pd.DataFrame) -> str:
    """How long a wrong initial state matters, and what that means for windows: a line for each target.

    Args:
        found: of `horizon`.
        table: of `horizon_table`.
    """
    return "\n".join(f"{_reach(found, table, name)} {_windows(found, table, name)}" for name in targets_of(found))


def short_sentence(found: xr.Dataset, table: pd.DataFrame) -> str:
    """How long a wrong initial state matters, of another run or of the truth beside: a line for each target."""
    return "\n".join(_reach(found, table, name) for name in targets_of(found))


def _reach(found: xr.Dataset, table: pd.DataFrame, target: str) -> str:
    steps, five, one = found.attrs["steps"], *_whole(table, target)
    rows = table[(table["site"] == table["site"].iloc[0]) & (table["of"] == target) & (table["season"] != "all")]
    seasons = rows[rows["measure"] == _named(THRESHOLDS[0])].set_index("season")["median"]
    compared = found.attrs.get("compared") or PAIRS[found.attrs["pairs"]]
    return (
        f"{target}: a wrong initial state ({compared}) matters by more than 5 % of the target's standard deviation for"
        f" {span(five['median'], steps)} {found.attrs['step_unit']} (10 to 90 %: {span(five['q10'], steps)} to"
        f" {span(five['q90'], steps)}; longest for starts in {seasons.idxmax()}, {span(seasons.max(), steps)}), by more"
        f" than 1 % for {span(one['median'], steps)}."
    )


def _windows(found: xr.Dataset, table: pd.DataFrame, target: str) -> str:
    unit, window, steps = (found.attrs[name] for name in ("step_unit", "window", "steps"))
    five = _whole(table, target)[0]
    reach, share = five["median"], five["window_share"]
    if share == 0:
        return "Windows from zeros lose nothing by it, and messages have nothing to bring."
    need = [span(window_needed(min(reach, steps), free), steps, beyond=math.isinf(reach)) for free in (0.5, 0.9)]
    said = (
        f"Windows from zeros would need {need[0]} {unit} for half of their steps to be free of it, {need[1]} for 90 %;"
        f" of those of this run, {window}, it takes {100 * share:.0f} % of the steps on average:"
    )
    if reach >= window:
        said += " they are too short to see it end, and MPTT is worth it here."
    elif share > 0.1:
        said += " MPTT is worth trying, and so is leaving those steps out of the loss (Spin-up)."
    else:
        said += " MPTT has little to bring here."
    if found.attrs["from_zeros"]:
        said += " This network was trained from zeros, and may remember less than the data do."
    return said


def _whole(table: pd.DataFrame, target: str) -> tuple[pd.Series[float], pd.Series[float]]:
    """The rows of both horizons of a target, of all sites and seasons together."""
    rows = table[(table["season"] == "all") & (table["of"] == target)]
    rows = rows[rows["site"] == rows["site"].iloc[0]].set_index("measure")[["q10", "median", "q90", "window_share"]]
    return rows.loc[_named(THRESHOLDS[0])], rows.loc[_named(THRESHOLDS[1])]


def span(steps: float, run: int, beyond: bool = False) -> str:
    """A number of steps as text; of an infinite one that it is more than those that were run."""
    return f"more than {run}" if math.isinf(steps) else f"more than {steps:.0f}" if beyond else f"{steps:.0f}"


def write_horizon(
    folder: Path, found: xr.Dataset, beside: Mapping[str, xr.Dataset] | None = None
) -> tuple[pd.DataFrame, Path]:
    """Write tables and figures of a horizon into a folder.

    Args:
        folder: made if it is not there.
        found: of `horizon`.
        beside: others by name, drawn into the figure of distances: another run's, or the true one of a simulation.

    Returns:
        The table, and the path of its file.
    """
    table, stem = horizon_table(found), f"horizon_{found.attrs['of_part']}_{found.attrs['pairs']}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.csv"
    write_atomically(path, table.to_csv(index=False))
    units = unit_table(found)
    write_atomically(folder / f"{stem}_units.csv", units.to_csv(index=False))
    name = found.attrs["strategy"] or found.attrs["run"]
    save(fading({name: found, **(beside or {})}), folder / stem)
    save(fading_by_season(found), folder / f"{stem}_seasons")
    save(unit_half_lives(units, found.attrs["steps"], found.attrs["step_unit"]), folder / f"{stem}_units")
    return table, path

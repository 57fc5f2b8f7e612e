"""The files of what the units and the steps of a run do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mptt.analysis.response import HORIZON
from mptt.errors import MPTTError
from mptt.experiments.figures.common import save
from mptt.experiments.figures.steps import steps_figure
from mptt.experiments.figures.units import ablation_figure, unit_figure
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.steps import StepContributions
from mptt.experiments.memory.units import UnitResponses, operating_point, rankings, unit_responses
from mptt.experiments.memory.without import HoldAt, random_orders, scores_in_order, scores_without_each
from mptt.files import write_atomically

ONE_BY_ONE = "each alone"


def step_name(run: OpenedRun) -> str:
    """What a step of the data is, in the plural: "days" where it is one."""
    # Of any calendar: differences of cftime and of numpy's dates both compare with a day.
    first, second = run.data.time[:2]
    return "days" if pd.Timedelta(second - first) == pd.Timedelta(days=1) else "steps"


def write_units(
    run: OpenedRun,
    part: str = "test",
    sites: Sequence[str] | None = None,
    horizon: int = HORIZON,
    rank: str = "settling time",
    seeds: int = 5,
    hold_at: HoldAt = "mean",
) -> tuple[UnitResponses, pd.DataFrame, list[Path]]:
    """Characterise the units of a run, rank them, predict without them; tables and figures in RUN/memory.

    Args:
        run: opened.
        part: whose mean states they are held at, and that is predicted.
        sites: names; by default all.
        horizon: steps within which a unit settles, or does not.
        rank: of `rankings`, or "each alone", by how much the NSE falls where one unit alone is held; the order of the
            table.
        seeds: random orders.
        hold_at: "mean" or "zero".

    Returns:
        The responses, `units` ranked, with `rank` and `nse_drop`; the scores without units; the paths written.
    """
    point = operating_point(run, part, sites)
    responses = unit_responses(run, point, horizon)
    drop = scores_without_each(run, point, part, sites, hold_at)
    orders = rankings(responses) | {ONE_BY_ONE: np.argsort(-drop, kind="stable")}
    named = list(orders)
    orders |= random_orders(len(drop), seeds)
    scores = scores_in_order(run, orders, point, part, sites, hold_at)
    place = np.empty(len(drop), dtype=np.int64)
    place[orders[rank]] = np.arange(1, len(drop) + 1)
    units = responses.units.assign(nse_drop=drop, rank=place)
    folder = run.folder / "memory"
    tables = {
        "units": units.sort_values("rank"),
        "unit_steps": responses.steps,
        "unit_frequencies": responses.frequencies,
        f"unit_ablation_{part}": scores,
    }
    written = [_write_table(table, folder / f"{name}.csv") for name, table in tables.items()]
    figure = unit_figure(responses.units, responses.frequencies, responses.paths, horizon, step_name(run))
    save(figure, folder / "units")
    written.append(folder / "units.png")
    for target in run.data.targets:
        name = f"unit_ablation_{part}" + (f"_{target}" if len(run.data.targets) > 1 else "").replace("/", "_per_")
        held_at = "their mean" if hold_at == "mean" else "zero"
        save(ablation_figure(scores, named, target, held_at), folder / name)
        written.append(folder / f"{name}.png")
    whole = UnitResponses(tables["units"], responses.steps, responses.frequencies, responses.paths)
    return whole, scores, written


def write_steps(run: OpenedRun, found: StepContributions, beside: Sequence[Path] = ()) -> list[Path]:
    """Write the tables and the figure of how much each step counts into RUN/memory.

    Args:
        run: opened.
        found: of it.
        beside: folders of other runs, whose own tables are there already, to draw into the same figure.

    Returns:
        The paths written.

    Raises:
        MPTTError: a run beside it without its table.
    """
    if lacking := [str(other) for other in beside if not (other / "memory" / "steps.csv").is_file()]:
        raise MPTTError(f"There is no memory/steps.csv in {', '.join(lacking)}: run `mptt memory steps` on it first.")
    folder = run.folder / "memory"
    written = [
        _write_table(found.lags, folder / "steps.csv"),
        _write_table(found.summary, folder / "steps_summary.csv"),
    ]
    tables = {run.folder: found.lags, **{other: pd.read_csv(other / "memory" / "steps.csv") for other in beside}}
    lines = {
        str(target) if not beside else f"{target}, {other.resolve().name}": table
        for other, lags in tables.items()
        for target, table in lags.groupby("target", sort=False)
    }
    save(steps_figure(lines, step_name(run)), folder / "steps")
    return [*written, folder / "steps.png"]


def _write_table(table: pd.DataFrame, path: Path) -> Path:
    write_atomically(path, table.to_csv(index=False, float_format="%.6g"))
    return path

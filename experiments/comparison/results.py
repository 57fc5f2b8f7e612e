"""What the runs of a comparison came to: a row a run and site, differences to the reference, groups to tabulate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mptt.experiments.comparison.bootstrap import YearlyErrors, paired_difference
from mptt.experiments.comparison.grid import Cell, Comparison
from mptt.experiments.comparison.residuals import data_settings, errors_by_year
from mptt.experiments.predictions import open_predictions, read_table

SCORES = ("rmse", "nse", "kge", "pbias")
AXES = ("target", "window", "train_steps")
TIMED = ("epoch", "val_loss", "train_seconds")


@dataclass(frozen=True)
class Group:
    """The runs that one table compares: of one target, at one window length or training size.

    Args:
        target: as in `predictions.nc`.
        cells: the runs, by seed, in the order of the plan.
        results: a row a run and site, as in `results.csv`.
        differences: a row a strategy but the reference, as in `differences.csv`.
        unit: of the target.
        warmup: steps of the test part that are not scored.
    """

    target: str
    cells: tuple[Cell, ...]
    results: pd.DataFrame
    differences: pd.DataFrame
    unit: str
    warmup: int

    @property
    def folder(self) -> Path:
        """The folder of its runs, which its figures go into."""
        return self.cells[0].folder.parent

    @property
    def label(self) -> str:
        """The target, and the window or training size if the grid has several."""
        cell = self.cells[0]
        window = f", windows of {cell.window} steps" if cell.window is not None else ""
        return f"{self.target}{window}" + (f", {cell.train_steps} training steps" if cell.train_steps else "")

    @property
    def title(self) -> str:
        """What its scores are, and of how many of the sites."""
        seeds, sites = self.results["seed"].unique(), self.results["site"].nunique()
        scored = sorted(set(self.results.groupby(["strategy", "seed"])["rmse"].count()))
        counted = (
            f"{' to '.join(map(str, scored[:1] + scored[1:][-1:]))} of {sites}" if scored != [sites] else f"{sites}"
        )
        runs = f"mean (sd) over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        return f"{self.label}: test part after a warm-up of {self.warmup} steps, {runs}, {self.cells[0].budget}" + (
            f", median of {counted} sites" if sites > 1 else ""
        )

    @property
    def over_sites(self) -> pd.DataFrame:
        """A row a run: the median over sites that are scored."""
        values = [*SCORES, "seconds_per_epoch", "seconds_to_reach"]
        return self.results.groupby(["strategy", "seed"], sort=False)[values].median().reset_index()

    def by_strategy(self) -> dict[str, list[Cell]]:
        """The runs of each strategy."""
        names = dict.fromkeys(cell.strategy for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.strategy == name] for name in names}


def groups_of(cells: Sequence[Cell], plan: Comparison) -> list[Group]:
    """What each table of a comparison compares.

    Args:
        cells: finished runs.
        plan: has the reference, and the RMSE to reach.
    """
    levels: dict[tuple[str | None, int | None, int | None], list[Cell]] = {}
    for cell in cells:
        levels.setdefault((cell.target, cell.window, cell.train_steps), []).append(cell)
    groups = []
    for level in levels.values():
        with open_predictions(level[0].folder) as predictions:
            warmup = int(predictions.attrs.get("warmup_steps", 0))
            units = {str(name): variable.attrs.get("units", "") for name, variable in predictions.items()}
        results = _results(level, plan)
        for target in results["target"].unique():
            here = results[results["target"] == target].reset_index(drop=True)
            differences = _differences(level, target, plan.reference_strategy, here)
            groups.append(Group(target, tuple(level), here, differences, units[target], warmup))
    return groups


def seconds_to_reach(metrics: pd.DataFrame, reach: float | None) -> float:
    """Seconds of training up to and with the first epoch whose validation RMSE is `reach` or less, or NaN.

    Args:
        metrics: of `metrics.csv`: train_seconds, val_rmse.
        reach: in the units of the target; None: there is nothing to reach.

    Example:
        >>> seconds_to_reach(pd.DataFrame({"train_seconds": [2.0, 1.0, 1.0], "val_rmse": [9.0, 5.0, 7.0]}), 5.0)
        3.0
    """
    if reach is None or "val_rmse" not in metrics:
        return float("nan")
    reached = np.flatnonzero(metrics["val_rmse"] <= reach)
    return float(metrics["train_seconds"].iloc[: reached[0] + 1].sum()) if len(reached) else float("nan")


def _results(cells: Sequence[Cell], plan: Comparison) -> pd.DataFrame:
    """Rows of `results.csv` of the runs at one level of the grid."""
    scores = {cell: read_table(cell.folder / "scores.csv", ["target", "site", *SCORES]) for cell in cells}
    metrics = {cell: read_table(cell.folder / "metrics.csv", TIMED) for cell in cells}
    targets = list(dict.fromkeys(name for table in scores.values() for name in table["target"]))
    # The validation RMSE of several targets together is that of none.
    reach = _reach(metrics, targets[0], plan) if len(targets) == 1 else None
    rows = []
    for cell in cells:
        table, epochs, settings = scores[cell], metrics[cell], data_settings(cell.folder)
        losses = epochs["val_loss"]
        about = {"window": settings.get("window"), "train_steps": settings.get("train_steps")}
        columns = {**about, "strategy": cell.strategy, "seed": cell.seed}
        for place, (name, value) in enumerate(columns.items(), start=1):
            table.insert(place, name, value)
        table["best_epoch"] = int(epochs["epoch"].iloc[int(np.nanargmin(losses))]) + 1 if losses.notna().any() else None
        # The first epoch warms up.
        table["seconds_per_epoch"] = epochs["train_seconds"].iloc[min(1, len(epochs) - 1) :].median()
        table["seconds_to_reach"] = seconds_to_reach(epochs, reach)
        rows.append(table.astype(dict.fromkeys(about, "Int64")))
    return pd.concat(rows, ignore_index=True)


def _reach(metrics: dict[Cell, pd.DataFrame], target: str, plan: Comparison) -> float | None:
    """The validation RMSE to reach."""
    given = plan.reach_of(target)
    if given is not None:
        return given
    best = [
        float(epochs["val_rmse"].min())
        for cell, epochs in metrics.items()
        if cell.strategy == plan.reference_strategy and "val_rmse" in epochs
    ]
    return float(np.mean(best)) if best else None


def _differences(cells: Sequence[Cell], target: str, reference: str, results: pd.DataFrame) -> pd.DataFrame:
    """Rows of `differences.csv` of a target at one level of the grid."""
    found = {}
    for cell in cells:
        with open_predictions(cell.folder) as predictions:
            found[cell.strategy, cell.seed] = errors_by_year(predictions, target)
    about = {name: results[name].iloc[0] for name in AXES}
    rows = []
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        seeds = [seed for name, seed in found if name == strategy and (reference, seed) in found]
        if strategy == reference or not seeds:
            continue
        here, there = (_stacked([found[name, seed] for seed in seeds]) for name in (strategy, reference))
        difference = paired_difference(here, there)
        rows.append(
            {
                **about,
                "strategy": strategy,
                "reference": reference,
                "difference": difference.value,
                "low": difference.low,
                "high": difference.high,
                "share": difference.share,
            }
        )
    columns = [*AXES, "strategy", "reference", "difference", "low", "high", "share"]
    return pd.DataFrame(rows, columns=columns).astype({"window": "Int64", "train_steps": "Int64"})


def _stacked(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> YearlyErrors:
    return YearlyErrors(np.stack([squared for squared, _ in runs]), np.stack([count for _, count in runs]))

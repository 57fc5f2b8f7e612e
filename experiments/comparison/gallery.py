"""The figures of a comparison and its report, from what the runs left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from mptt.experiments import figures, report
from mptt.experiments.comparison.grid import file_name
from mptt.experiments.comparison.residuals import errors_by_day, errors_by_step
from mptt.experiments.comparison.results import Group
from mptt.experiments.configs import config_label, read_config
from mptt.experiments.predictions import open_predictions, read_table

Drawn = list[tuple[str, Path]]
Value = TypeVar("Value")


def draw(
    groups: Sequence[Group],
    tables: Sequence[tuple[str, pd.DataFrame]],
    folder: Path,
    command: str,
    more: Sequence[report.Section] = (),
) -> Path:
    """Draw the figures of a comparison, and write its report.

    Args:
        groups: what its tables compare.
        tables: title and table of each.
        folder: of the comparison; the figures of a group go into the folder of its runs.
        command: the line that makes the comparison.
        more: sections of the report.

    Returns:
        The path of the report.
    """
    drawn: Drawn = []
    # What the grid is for comes first.
    for target in dict.fromkeys(group.target for group in groups):
        drawn += _against_size([group for group in groups if group.target == target], folder)
    for group in groups:
        drawn += _figures_of(group)
    first = groups[0].cells[0]
    versions: dict[str, Any] = read_config(first.folder / "versions.yaml")
    # The seed is that of one run.
    versions.pop("seed", None)
    return report.write_report(
        folder,
        f"Comparison of {config_label(first.config)}",
        tables,
        drawn,
        first.config.read_text(encoding="utf-8"),
        versions,
        command,
        more,
    )


def _figures_of(group: Group) -> Drawn:
    """The figures of one table."""
    drawn: Drawn = []

    def keep(name: str, caption: str, figure: Figure) -> None:
        stem = group.folder / f"{name}_{file_name(group.target)}"
        figures.save(figure, stem)
        drawn.append((f"{group.label}. {caption}", stem.with_name(f"{stem.name}.png")))

    runs, unit = group.by_strategy(), group.unit
    curves = {
        name: [read_table(cell.folder / "metrics.csv", ["epoch", "val_loss"]) for cell in cells]
        for name, cells in runs.items()
    }
    keep(
        "rmse",
        "Test RMSE of each run, and the mean of each strategy.",
        figures.scores_by_strategy(group.over_sites, unit, group.target),
    )
    keep("learning_curves", "Validation loss against epoch.", figures.learning_curves(curves))
    if group.results["seconds_to_reach"].notna().any():
        keep(
            "rmse_against_time",
            "Validation RMSE against seconds of training.",
            figures.rmse_against_time(curves, unit),
        )
    steps = {name: [errors_by_step(cell.folder, group.target) for cell in cells] for name, cells in runs.items()}
    if all(len(table) for tables in steps.values() for table in tables):
        keep(
            "rmse_by_step",
            "Test RMSE by position in the window; where the state is carried, in windows laid over the test part.",
            figures.rmse_by_step(steps, unit),
        )
    days = {
        name: [_read(cell.folder, lambda opened: errors_by_day(opened, group.target)) for cell in cells]
        for name, cells in runs.items()
    }
    keep("rmse_by_day", "Test RMSE by day of the year.", figures.rmse_by_day(days, unit))
    predictions = {name: _read(cells[0].folder, xr.Dataset.load) for name, cells in runs.items()}
    keep(
        "hydrograph",
        f"Predictions of seed {group.cells[0].seed} and observations.",
        figures.hydrograph_of_strategies(predictions, group.target),
    )
    if group.results["site"].nunique() > 1:
        keep("nse", "NSE of the sites.", figures.nse_distribution(group.results[["strategy", "seed", "site", "nse"]]))
    return drawn


def _against_size(groups: Sequence[Group], folder: Path) -> Drawn:
    """The figure of one target over the window lengths or training sizes, if the grid has them."""
    cell = groups[0].cells[0]
    if cell.window is None and cell.train_steps is None:
        return []
    by: Literal["window", "train_steps"] = "window" if cell.window is not None else "train_steps"
    target = groups[0].target
    results = pd.concat(
        [group.over_sites[["strategy", "seed", "rmse"]].assign(**{by: group.results[by].iloc[0]}) for group in groups],
        ignore_index=True,
    )
    place = folder / file_name(target) if cell.target is not None else folder
    stem = place / f"rmse_against_{by}_{file_name(target)}"
    figures.save(figures.rmse_against(results, by, groups[0].unit), stem)
    what = "window length" if by == "window" else "number of training steps"
    return [(f"{target}. Test RMSE against {what}.", stem.with_name(f"{stem.name}.png"))]


def _read(folder: Path, what: Callable[[xr.Dataset], Value]) -> Value:
    with open_predictions(folder) as predictions:
        return what(predictions)

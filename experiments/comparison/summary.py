"""The end of a comparison: results.csv, differences.csv, table.md, figures and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from mptt.experiments.comparison.gallery import draw
from mptt.experiments.comparison.grid import Cell, Comparison
from mptt.experiments.comparison.results import groups_of
from mptt.experiments.comparison.same_test import check_same_test
from mptt.experiments.comparison.tables import show, table_of, titled
from mptt.files import write_atomically


def summarise(cells: Sequence[Cell], folder: Path, console: Console, plan: Comparison, command: str) -> None:
    """Write and show the results of finished cells.

    Args:
        cells: the runs.
        folder: of the comparison.
        console: shows the tables.
        plan: has the reference, the RMSE to reach, and whether to measure what the networks remember.
        command: the line that makes the comparison, for the report.

    Raises:
        MPTTError: runs of the same target were not tested on the same part.
    """
    for target in dict.fromkeys(cell.target for cell in cells):
        check_same_test([cell.folder for cell in cells if cell.target == target])
    groups = groups_of(cells, plan)
    for name in ("results", "differences"):
        table = pd.concat([getattr(group, name) for group in groups], ignore_index=True)
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
    tables = [(group.title, table_of(group.over_sites, group.unit, group.differences)) for group in groups]
    write_atomically(folder / "table.md", titled(tables))
    for title, table in tables:
        show(table, title, console)
    more = []
    if plan.memory:
        from mptt.experiments.comparison.remembering import remembered  # which opens runs by means of the command line

        more.append(remembered(groups, folder, console))
    report = draw(groups, tables, folder, command, more)
    console.print(f"results.csv, differences.csv, table.md (with all columns) and figures are in {folder}.")
    console.print(f"The report is {report}.")

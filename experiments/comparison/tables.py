"""Tables of a comparison, as Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mptt.experiments.comparison.results import SCORES

WIDEST = 100
# What a narrow terminal does without, in this order; table.md has it.
_DISPENSABLE = ("PBIAS (%)", "KGE", "s to reach", "NSE")


def table_of(results: pd.DataFrame, unit: str, differences: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table of a comparison, as text: mean (sd) over seeds of each strategy, best first.

    Args:
        results: a row a run: strategy, rmse, nse, kge, pbias, seconds_per_epoch, seconds_to_reach.
        unit: of the RMSE.
        differences: a row a strategy: strategy, reference, difference, low, high; the column is left out if there is
            none.
    """
    typical = results["rmse"].median()
    digits = 3 if typical < 10 else 2 if typical < 100 else 1
    groups = {str(name): group for name, group in results.groupby("strategy")}
    names = sorted(groups, key=lambda name: groups[name]["rmse"].mean())
    columns = {"strategy": names}
    headers = (f"RMSE ({unit})" if unit else "RMSE", "NSE", "KGE", "PBIAS (%)")
    for header, score, places in zip(headers, SCORES, (digits, 3, 3, 1), strict=True):
        columns[header] = [_mean_sd(groups[name][score], places) for name in names]
    if differences is not None and len(differences):
        columns[f"vs {differences['reference'].iloc[0]} [95 %]"] = [
            _difference(differences[differences["strategy"] == name], digits) for name in names
        ]
    columns["s/epoch"] = [f"{groups[name]['seconds_per_epoch'].median():.2f}" for name in names]
    if results["seconds_to_reach"].notna().any():
        columns["s to reach"] = [_to_reach(groups[name]["seconds_to_reach"]) for name in names]
    return pd.DataFrame(columns)


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table.columns, rule, *table.to_numpy()))


def show(table: pd.DataFrame, title: str, console: Console) -> None:
    """Show a table, without the columns that a narrow terminal has no room for."""
    table = fitted(table, min(console.width, WIDEST))
    # Columns this close leave no room for lines between them.
    shown = Table(title=title, title_style="bold", box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for nth, column in enumerate(table.columns):
        # The name of a strategy may be long; numbers stay whole.
        shown.add_column(column, justify="right" if nth else "left", no_wrap=nth > 0, overflow="fold")
    for row in table.to_numpy():
        shown.add_row(*row)
    console.print(shown, width=WIDEST if console.width > WIDEST else None)


def fitted(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """The table without as many of its less important columns as it takes to be `width` characters wide."""
    for column in _DISPENSABLE:
        if _width(table) > width:
            table = table.drop(columns=column, errors="ignore")
    return table


def _width(table: pd.DataFrame) -> int:
    return sum(max(len(name), *table[name].str.len()) + 1 for name in table.columns)


def _mean_sd(values: pd.Series[float], digits: int) -> str:
    spread = f" ({values.std():.{digits}f})" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _difference(row: pd.DataFrame, digits: int) -> str:
    if row.empty:
        return "\N{EN DASH}"
    value, low, high = (float(row[name].iloc[0]) for name in ("difference", "low", "high"))
    return f"{value:+.{digits}f}" + ("" if np.isnan(low) else f" [{low:+.{digits}f}, {high:+.{digits}f}]")


def _to_reach(seconds: pd.Series[float]) -> str:
    reached = seconds.dropna()
    if reached.empty:
        return "\N{EN DASH}"
    share = "" if len(reached) == len(seconds) else f" ({len(reached)} of {len(seconds)})"
    return f"{reached.median():.{0 if reached.median() >= 100 else 1}f}{share}"


def titled(tables: Sequence[tuple[str, pd.DataFrame]]) -> str:
    """Tables below each other as Markdown, each under its title."""
    return "\n\n".join(f"{title}\n\n{markdown(table)}" for title, table in tables) + "\n"

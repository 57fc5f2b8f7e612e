from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from mptt.experiments.comparison.tables import fitted, markdown, show, table_of, titled

NAN = float("nan")
RESULTS = pd.DataFrame(
    {
        "strategy": ["RMB-IIF", "RMB-IIF", "MPTT-delta1", "MPTT-delta1"],
        "seed": [0, 1, 0, 1],
        "rmse": [132.0, 134.0, 110.0, 111.0],
        "nse": [-0.1, -0.3, 0.5, 0.7],
        "kge": [0.1, 0.3, 0.5, 0.7],
        "pbias": [-10.0, 30.0, 5.0, 7.0],
        "seconds_per_epoch": [1.0, 3.0, 2.0, 2.0],
        "seconds_to_reach": [NAN, 120.4, 30.0, 40.0],
    }
)
DIFFERENCES = pd.DataFrame(
    {"strategy": ["MPTT-delta1"], "reference": ["RMB-IIF"], "difference": [-22.5], "low": [-25.12], "high": [-19.8]}
)


def test_table_is_best_first() -> None:
    table = table_of(RESULTS, "mm", DIFFERENCES)
    assert list(table) == [
        *("strategy", "RMSE (mm)", "NSE", "KGE", "PBIAS (%)", "vs RMB-IIF [95 %]", "s/epoch", "s to reach")
    ]
    first, second = table.to_numpy().tolist()
    assert first[:2] == ["MPTT-delta1", "110.5 (0.7)"]
    assert first[5:] == ["-22.5 [-25.1, -19.8]", "2.00", "35.0"]
    assert second[:5] == ["RMB-IIF", "133.0 (1.4)", "-0.200 (0.141)", "0.200 (0.141)", "10.0 (28.3)"]
    assert second[5:] == ["\N{EN DASH}", "2.00", "120 (1 of 2)"]


def test_what_there_is_not_has_no_column_or_no_interval() -> None:
    none = RESULTS.assign(seconds_to_reach=NAN)
    assert list(table_of(none, "")) == ["strategy", "RMSE", "NSE", "KGE", "PBIAS (%)", "s/epoch"]
    table = table_of(none, "", DIFFERENCES.assign(low=NAN, high=NAN))
    assert table["vs RMB-IIF [95 %]"].tolist() == ["-22.5", "\N{EN DASH}"]
    never = RESULTS.assign(seconds_to_reach=[NAN, NAN, 3.0, 4.0])
    assert table_of(never, "")["s to reach"].tolist() == ["3.5", "\N{EN DASH}"]


def test_markdown_is_a_table_under_its_title() -> None:
    table = pd.DataFrame({"a": ["1", "2"], "b": ["3", "4"]})
    assert markdown(table).splitlines() == ["| a | b |", "| --- | ---: |", "| 1 | 3 |", "| 2 | 4 |"]
    assert titled([("one", table), ("two", table)]).splitlines()[:3] == ["one", "", "| a | b |"]


@pytest.mark.parametrize(
    ("width", "without"), [(120, []), (100, ["PBIAS (%)"]), (80, ["KGE", "PBIAS (%)", "s to reach"])]
)
def test_narrow_terminal_does_without_the_less_important(width: int, without: list[str]) -> None:
    table = table_of(RESULTS, "mm", DIFFERENCES)
    assert [name for name in table if name not in fitted(table, width)] == without


@pytest.mark.parametrize("width", [80, 100, 300])
def test_shown_table_stays_within_a_hundred_columns_with_its_numbers_whole(width: int) -> None:
    shown = io.StringIO()
    name = "my_own_project.strategies.a_very_long_one"
    results = RESULTS.replace("MPTT-delta1", name)
    table = table_of(results, "mm", DIFFERENCES.replace("MPTT-delta1", name))
    show(table, "SW, test part after a warm-up of 730 steps, " * 4, Console(file=shown, width=width))
    lines = shown.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= min(width, 100)
    for text in ("110.5 (0.7)", "-22.5 [-25.1, -19.8]", "133.0 (1.4)"):
        assert text in shown.getvalue()

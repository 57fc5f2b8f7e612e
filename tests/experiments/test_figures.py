from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mptt.experiments import figures
from mptt.experiments.figures.common import mark_dates, years
from mptt.experiments.strategies import STRATEGIES


@pytest.fixture
def predictions() -> xr.Dataset:
    time = np.datetime64("2899-01-01", "s") + np.arange(1500) * np.timedelta64(86400, "s")
    observed = np.random.default_rng(0).random((2, 1500)).cumsum(1)
    missing = observed.copy()
    missing[0, 1400:] = np.nan
    missing[1] = np.nan
    attrs = {"units": "mm", "long_name": "soil water at the end of the day observed"}
    return xr.Dataset(
        {"SW": (("site", "time"), observed + 1, {"units": "mm"}), "SW_observed": (("site", "time"), missing, attrs)},
        {"site": ["01", "02"], "time": time},
        {"warmup_steps": 100},
    )


def test_hydrograph_shows_the_last_observed_years_with_units_and_score(predictions: xr.Dataset) -> None:
    first, second = figures.hydrographs(predictions, steps=365).axes
    label = " ".join(first.get_ylabel().split())
    assert label == "soil water at the end of the day (mm)"
    observed = predictions["SW_observed"].values[0, 100:1400]
    score = 1 - len(observed) / ((observed - observed.mean()) ** 2).sum()
    assert first.get_title(loc="left") == f"01, NSE {score:.2f} over the scored part"
    years = first.lines[0].get_xdata()
    assert len(years) == 365
    assert 2902 < years[-1] < 2903
    assert (np.diff(years) > 0).all()
    assert "NSE not defined" in second.get_title(loc="left")
    assert [line.get_label() for line in first.lines] == ["observed", "predicted"]


def test_hydrograph_shows_no_more_sites_than_asked_for(predictions: xr.Dataset) -> None:
    assert len(figures.hydrographs(predictions, most_sites=1).axes) == 1


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_learning_curve_marks_the_best_epoch(epochs: int) -> None:
    losses = np.linspace(2, 1, epochs)
    table = pd.DataFrame({"epoch": range(epochs), "train_loss": losses, "val_loss": losses})
    (axes,) = figures.learning_curve(table).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == f"best, epoch {epochs}"
    assert axes.get_yscale() == "log"


def test_learning_curve_without_validation() -> None:
    table = pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0], "val_loss": [np.nan, np.nan]})
    (axes,) = figures.learning_curve(table).axes
    assert len(axes.lines) == 1


def test_a_strategy_has_one_colour_in_every_figure() -> None:
    names = list(STRATEGIES)[1:4]
    results = pd.DataFrame([{"strategy": name, "rmse": nth + 1.0} for nth, name in enumerate(names)])
    table = pd.DataFrame({"epoch": [0, 1], "val_loss": [2.0, 1.0]})
    (bars,) = figures.scores_by_strategy(results, "mm", "SW").axes
    (curves,) = figures.learning_curves({name: [table, table.iloc[:1]] for name in reversed(names)}).axes
    drawn = dict(zip(names, (to_hex(bar.get_facecolor()) for bar in bars.patches), strict=True))
    assert drawn == {line.get_label(): to_hex(line.get_color()) for line in curves.lines}
    assert drawn == {name: STRATEGIES[name].colour.lower() for name in names}
    assert bars.get_xlabel() == "test RMSE (mm)"


def test_figures_are_written_twice_and_alike(predictions: xr.Dataset, tmp_path: Path) -> None:
    for name in ("a.b", "c"):
        figures.save(figures.hydrographs(predictions), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.pdf", "a.b.png", "c.pdf", "c.png"]
    assert (tmp_path / "a.b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize(
    ("first", "steps", "labels"),
    [
        ("2000-01-01", 8 * 366, ["2000", "2002", "2004", "2006", "2008"]),
        ("2019-03-01", 730, ["Jul 2019", "Jan 2020", "Jul 2020", "Jan 2021"]),
        ("2019-03-02", 300, ["Apr 2019", "Jul 2019", "Oct 2019"]),
        ("2019-03-02", 40, ["2019-03-02", "2019-03-15", "2019-03-28", "2019-04-10"]),
    ],
)
def test_ticks_of_dates_are_years_months_or_days(first: str, steps: int, labels: list[str]) -> None:
    time = xr.DataArray(np.datetime64(first, "s") + np.arange(steps) * np.timedelta64(86400, "s"), dims="time")
    axes = Figure().subplots()
    axes.plot(years(time), np.zeros(steps))
    mark_dates(axes, time)
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for at, label in ticks if low <= at <= high] == labels

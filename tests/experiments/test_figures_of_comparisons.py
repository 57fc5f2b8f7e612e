from __future__ import annotations

from itertools import islice, pairwise, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mptt.experiments import figures
from mptt.experiments.strategies import STRATEGIES

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#0072b2")
LOOKS = {f"A-rather-long-name-{nth}": look for nth, look in enumerate(product(COLOURS, ("-", "--", ":", "-.")))}


@pytest.fixture(autouse=True)
def _strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (colour, line) in LOOKS.items():
        monkeypatch.setitem(STRATEGIES, name, SimpleNamespace(colour=colour, line=line))


def lines(figure: Figure) -> dict[str, Line2D]:
    """The curve of each strategy."""
    found = [line for axes in figure.axes for line in axes.lines]
    return {str(line.get_label()): line for line in found if not str(line.get_label()).startswith("_")}


def drawn(names: list[str]) -> dict[str, Figure]:
    """Every figure with curves of these strategies, from small data."""
    results = pd.DataFrame(
        [
            {
                "strategy": name,
                "seed": seed,
                "site": str(site),
                "nse": 0.1 * site,
                "window": 10 * (site + 1),
                "rmse": 1.0,
            }
            for name in names
            for seed in (0, 1)
            for site in (0, 1)
        ]
    )
    table = pd.DataFrame({"epoch": [0, 1], "step": [0, 1], "day": [1, 2], "rmse": [2.0, 1.0], "val_loss": [2.0, 1.0]})
    table = table.assign(val_rmse=[2.0, 1.0], train_seconds=[1.0, 1.0])
    curves = {name: [table, table] for name in names}
    time = np.datetime64("2001-01-01", "s") + np.arange(800) * np.timedelta64(86400, "s")
    series = (("site", "time"), np.random.default_rng(0).random((2, 800)), {"units": "mm"})
    dataset = xr.Dataset({"SW": series, "SW_observed": series}, {"site": ["01", "02"], "time": time})
    return {
        "learning_curves": figures.learning_curves(curves),
        "rmse_against": figures.rmse_against(results, "window", "mm"),
        "rmse_by_step": figures.rmse_by_step(curves, "mm"),
        "rmse_by_day": figures.rmse_by_day(curves, "mm"),
        "rmse_against_time": figures.rmse_against_time(curves, "mm"),
        "nse_distribution": figures.nse_distribution(results),
        "hydrograph_of_strategies": figures.hydrograph_of_strategies(dict.fromkeys(names, dataset), "SW"),
    }


@pytest.mark.parametrize("count", [2, 16])
def test_a_strategy_looks_the_same_in_every_figure(count: int) -> None:
    names = list(islice(LOOKS, count))
    for kind, figure in drawn(names[::-1]).items():
        found = {name: (to_hex(line.get_color()), line.get_linestyle()) for name, line in lines(figure).items()}
        found.pop("observed", None)
        alone = kind == "hydrograph_of_strategies" and count > 6  # a panel each, where dashes would be in the way
        assert found == {name: (LOOKS[name][0], "-" if alone else LOOKS[name][1]) for name in names}, kind
    assert figures.style_of("of nobody") == {"color": "#999999", "linestyle": "-"}


@pytest.mark.parametrize("count", [2, 16])
def test_legends_lie_inside_the_figure_and_cover_no_axes(count: int) -> None:
    for kind, figure in drawn(list(islice(LOOKS, count))).items():
        if kind == "hydrograph_of_strategies" and count > 6:
            assert not figure.legends, "a panel each"
            continue
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes), kind
        assert box.y0 >= 0, kind
        assert box.x1 <= figure.bbox.x1, kind
        names = [text.get_text() for text in legend.get_texts()]
        assert len(names) == len(set(names)) == count + (kind == "hydrograph_of_strategies")


def test_axes_say_what_they_show_in_which_unit() -> None:
    labels = {
        kind: (figure.axes[-1].get_xlabel(), figure.axes[-1].get_ylabel()) for kind, figure in drawn(["a"]).items()
    }
    minus = "\N{MINUS SIGN}"
    assert labels == {
        "learning_curves": ("epoch", "mean squared error of the\nvalidation part (standardised target)"),
        "rmse_against": ("window length (steps)", "test RMSE (mm)"),
        "rmse_by_step": ("step in the window", "test RMSE (mm)"),
        "rmse_by_day": ("day of the year", "test RMSE (mm)"),
        "rmse_against_time": ("training time (s)", "best validation RMSE so far (mm)"),
        "nse_distribution": (
            f"NSE of a site, mean over seeds\n(curves start at the share of sites below {minus}1)",
            "share of sites up to this NSE",
        ),
        "hydrograph_of_strategies": ("date", "SW\n(mm)"),
    }


@pytest.mark.parametrize("by", ["window", "train_steps"])
def test_rmse_against_draws_mean_and_range_at_the_values_tested(by: str) -> None:
    rows = [("a", 0, 30, 4.0), ("a", 1, 30, 8.0), ("a", 0, 14, 9.0), ("a", 1, 14, 9.0), ("b", 0, 366, 2.0)]
    figure = figures.rmse_against(pd.DataFrame(rows, columns=["strategy", "seed", by, "rmse"]), by, "")  # type: ignore[arg-type]
    assert lines(figure)["a"].get_xydata().tolist() == [[14, 9], [30, 6]]
    assert lines(figure)["b"].get_xydata().tolist() == [[366, 2]]
    bars = figure.axes[0].collections[0].get_segments()
    assert [bar.tolist() for bar in bars] == [[[14, 9], [14, 9]], [[30, 4], [30, 8]]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["14", "30", "366"]
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_ylabel() == "test RMSE"


def test_rmse_by_step_counts_from_one_and_averages_seeds() -> None:
    one = pd.DataFrame({"step": [0, 1, 2], "rmse": [4.0, 2, 1]})
    other = pd.DataFrame({"step": [1, 0], "rmse": [4.0, 6]})
    figure = figures.rmse_by_step({"a": [one, other]}, "mm")
    assert lines(figure)["a"].get_xydata().tolist() == [[1, 5], [2, 3], [3, 1]]
    assert figure.axes[0].get_xticks()[0] == 1


def test_rmse_by_day_has_ticks_where_months_begin() -> None:
    table = pd.DataFrame({"day": [1, 366], "rmse": [1.0, 3.0]})
    figure = figures.rmse_by_day({"a": [table, table + 2]}, "mm")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    dates = pd.to_datetime([f"2001-{month}-01" for month in labels], format="%Y-%b-%d")
    assert dates.day_of_year.tolist() == figure.axes[0].get_xticks().tolist()
    assert labels == ["Jan", "Mar", "May", "Jul", "Sep", "Nov"]


def test_rmse_against_time_is_the_mean_of_the_best_so_far() -> None:
    one = pd.DataFrame({"train_seconds": [1.0, 1, 1], "val_rmse": [10.0, 12, 4]})
    other = pd.DataFrame({"train_seconds": [1.5, 2], "val_rmse": [8.0, 6]})
    line = lines(figures.rmse_against_time({"a": [one, other]}, "mm"))["a"]
    # Until 1.5 s the second has no epoch; at 3 s the first has 4, at 3.5 s the second 6.
    assert line.get_xydata().tolist() == [[1.5, 9], [2, 9], [3, 6], [3.5, 5]]
    assert line.get_drawstyle() == "steps-post"


def test_epochs_that_were_not_validated_take_time_all_the_same() -> None:
    table = pd.DataFrame({"train_seconds": [1.0, 1, 1], "val_rmse": [np.nan, 5, np.nan]})
    line = lines(figures.rmse_against_time({"a": [table]}, "mm"))["a"]
    assert line.get_xydata().tolist() == [[2, 5]]


def test_nse_distribution_starts_at_the_share_below_minus_one() -> None:
    rows = [("a", 0, "x", -9.0), ("a", 0, "y", 0.2), ("a", 1, "y", 0.6), ("a", 0, "z", 0.8), ("a", 0, "w", np.nan)]
    figure = figures.nse_distribution(pd.DataFrame(rows, columns=["strategy", "seed", "site", "nse"]))
    steps = lines(figure)["a"].get_xydata()
    np.testing.assert_allclose(steps, [[-1, 1 / 3], [0.4, 2 / 3], [0.8, 1], [1, 1]])
    assert figure.axes[0].get_xlim() == (-1, 1)


def test_hydrograph_ends_where_observations_do() -> None:
    time = np.datetime64("2001-01-01", "s") + np.arange(1000) * np.timedelta64(86400, "s")
    values = np.arange(5000.0).reshape(5, 1000)
    observed = values.copy()
    observed[:, 900:] = np.nan
    series = {"SW": (("site", "time"), values + 1), "SW_observed": (("site", "time"), observed, {"units": "mm"})}
    dataset = xr.Dataset(series, {"site": list("abcde"), "time": time})
    figure = figures.hydrograph_of_strategies({"a": dataset, "b": dataset + 1}, "SW", steps=100, most_sites=3)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b", "c"]
    black, first, second = figure.axes[1].lines
    assert black.get_ydata().tolist() == list(range(1800, 1900))
    assert first.get_ydata().tolist() == list(range(1801, 1901))
    assert second.get_ydata().tolist() == list(range(1802, 1902))
    assert black.get_xdata()[-1] == pytest.approx(2003 + (899 - 2 * 365) / 366)


def test_many_strategies_have_a_panel_each_with_their_score() -> None:
    time = np.datetime64("2001-01-01", "s") + np.arange(400) * np.timedelta64(86400, "s")
    observed = np.arange(400.0)[None]
    units = {"units": "mm"}

    def dataset(error: float) -> xr.Dataset:
        series = {"SW": (("site", "time"), observed + error), "SW_observed": (("site", "time"), observed, units)}
        return xr.Dataset(series, {"site": ["only"], "time": time}, {"warmup_steps": 100})

    figure = figures.hydrograph_of_strategies({f"s{nth}": dataset(10.0 * nth) for nth in range(7)}, "SW", steps=50)
    # The scored part is 100 .. 399, of variance (300^2 - 1) / 12.
    nse = [1 - (10.0 * nth) ** 2 * 12 / (300**2 - 1) for nth in range(7)]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [*(f"s{nth}\nNSE {score:.2f}" for nth, score in enumerate(nse)), ""]
    assert figure.axes[3].lines[0].get_ydata().tolist() == list(range(350, 400))
    assert figure.axes[3].lines[1].get_ydata().tolist() == list(range(380, 430))


def test_a_bar_for_each_strategy_has_room() -> None:
    rows = pd.DataFrame({"strategy": list(LOOKS), "rmse": np.arange(16) + 1.0})
    figure = figures.scores_by_strategy(rows, "mm", "SW")
    FigureCanvasAgg(figure).draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 16
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_one_run_that_went_astray_does_not_press_the_others_together() -> None:
    rows = pd.DataFrame({"strategy": ["a", "b", "c"], "seed": 0, "window": 30, "rmse": [1.0, 1.2, 40.0]})
    tables = {name: [pd.DataFrame({"step": [0, 1], "day": [1, 2], "rmse": [rmse, rmse]})]
              for name, rmse in zip(rows["strategy"], rows["rmse"], strict=True)}  # fmt: skip
    assert figures.scores_by_strategy(rows, "mm").axes[0].get_xscale() == "log"
    astray = (
        figures.rmse_against(rows, "window", "mm"),
        figures.rmse_by_step(tables, ""),
        figures.rmse_by_day(tables, ""),
    )
    assert [figure.axes[0].get_yscale() for figure in astray] == ["log"] * 3
    del tables["c"]
    near = (
        figures.rmse_against(rows[:2], "window", ""),
        figures.rmse_by_step(tables, ""),
        figures.rmse_by_day(tables, ""),
    )
    assert [figure.axes[0].get_yscale() for figure in near] == ["linear"] * 3
    assert figures.scores_by_strategy(rows[:2], "mm").axes[0].get_xscale() == "linear"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mptt.experiments.comparison.residuals import errors_by_day, errors_by_step, errors_by_year, median_over_sites
from mptt.experiments.records import save_predictions

Maker = Callable[..., xr.Dataset]


@pytest.fixture
def missing_by() -> Maker:
    """Makes predictions that miss observations of 0 by given errors (sites, steps)."""

    def make(errors: object, first: str = "2001-12-30", warmup: int = 0) -> xr.Dataset:
        values = np.asarray(errors, dtype=np.float32)
        time = np.datetime64(first, "s") + np.arange(values.shape[1]) * np.timedelta64(86400, "s")
        variables = {
            "SW": (("site", "time"), values, {"units": "mm"}),
            "SW_observed": (("site", "time"), values * 0, {"units": "mm"}),
        }
        sites = [f"0{number}" for number in range(len(values))]
        return xr.Dataset(variables, {"site": sites, "time": time}, {"warmup_steps": warmup})

    return make


def write_run(folder: Path, predictions: xr.Dataset, window: int | None) -> None:
    folder.mkdir()
    save_predictions(predictions, folder / "predictions.nc")
    setting = f"{{window: {window}, stride: 1}}" if window else "{}"
    (folder / "config.yaml").write_text(f"data: {{class_path: X, init_args: {setting}}}\n")


def test_years_are_summed_after_the_warmup_and_those_without_observations_left_out(missing_by: Maker) -> None:
    predictions = missing_by([[9, 1, 2, 3], [9, 9, 4, 5]], warmup=1)
    predictions["SW_observed"][1, 1] = np.nan
    predictions["SW_observed"][0, 3] = np.nan
    squared, count = errors_by_year(predictions, "SW")
    assert squared.tolist() == [[1, 4], [0, 41]]
    assert count.tolist() == [[1, 1], [0, 2]]
    squared, count = errors_by_year(missing_by([[9, 9, 2, 3]], warmup=2), "SW")
    assert (squared.tolist(), count.tolist()) == ([[13]], [[2]])


def test_warmup_counts_from_where_a_site_begins(missing_by: Maker) -> None:
    predictions = missing_by([[1, 2, 3, 4], [np.nan, np.nan, 3, 4]], warmup=1)
    squared, count = errors_by_year(predictions, "SW")
    assert count.sum(axis=1).tolist() == [3, 1]
    assert squared[1].sum() == 16


def test_step_without_a_window_counts_where_half_overlapping_windows_have_it(missing_by: Maker, tmp_path: Path) -> None:
    # Windows of 5 with stride 2: step t is at t mod 2, 2 further, and 4 further while that is in the window.
    write_run(tmp_path / "run", missing_by([[9, 1, 2, 3, 2, 1]], warmup=1), window=5)
    table = errors_by_step(tmp_path / "run", "SW")
    even, odd = 2.0, np.sqrt((1 + 9 + 1) / 3)
    assert table["step"].tolist() == [0, 1, 2, 3, 4]
    assert table["rmse"].tolist() == pytest.approx([even, odd, even, odd, even])


def test_position_is_counted_from_where_a_site_begins(missing_by: Maker, tmp_path: Path) -> None:
    nan = np.nan
    write_run(tmp_path / "run", missing_by([[nan, 1, 2, 1, 2]]), window=4)
    assert errors_by_step(tmp_path / "run", "SW")["rmse"].tolist() == [1, 2, 1, 2]


def test_window_of_one_step_has_one_position(missing_by: Maker, tmp_path: Path) -> None:
    write_run(tmp_path / "run", missing_by([[3, 4]]), window=1)
    assert errors_by_step(tmp_path / "run", "SW")["rmse"].tolist() == pytest.approx([np.sqrt(12.5)])


def test_inference_by_windows_left_its_sums(missing_by: Maker, tmp_path: Path) -> None:
    write_run(tmp_path / "run", missing_by([[9, 9]]), window=2)
    (tmp_path / "run" / "steps.csv").write_text(
        "target,site,step,squared_error,count\nSW,01,0,8,2\nSW,02,0,48,3\nSW,03,0,36,1\nSW,01,1,0,4\nQ,01,0,1,1\n"
    )
    table = errors_by_step(tmp_path / "run", "SW")
    assert table["step"].tolist() == [0, 1]
    assert table["rmse"].tolist() == [4.0, 0.0], "the median of 2, 4 and 6, and the only one"


def test_run_without_windows_has_no_positions(missing_by: Maker, tmp_path: Path) -> None:
    write_run(tmp_path / "run", missing_by([[9, 9]]), window=None)
    assert errors_by_step(tmp_path / "run", "SW").empty


def test_days_of_the_year_are_smoothed_around_its_end(missing_by: Maker) -> None:
    # 30 and 31 December of 2001 (days 364 and 365), 1 and 2 January of 2002.
    table = errors_by_day(missing_by([[1, 2, 3, 4]]), "SW", smooth=3).set_index("day")["rmse"]
    assert len(table) == 366
    assert table[365] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert table[366] == pytest.approx(np.sqrt((4 + 9) / 2)), "no such day in 2001, but its neighbours"
    assert table[1] == pytest.approx(np.sqrt((9 + 16) / 2))
    assert table[3] == 4.0
    assert np.isnan(table[4])
    plain = errors_by_day(missing_by([[1, 2, 3, 4]]), "SW", smooth=1).set_index("day")["rmse"]
    assert plain.dropna().to_dict() == {1: 3.0, 2: 4.0, 364: 1.0, 365: 2.0}


def test_fifteen_days_are_seven_on_each_side(missing_by: Maker) -> None:
    errors = np.full((1, 41), np.nan)
    errors[0, 20] = 5.0
    predictions = missing_by(np.nan_to_num(errors), first="2001-03-01")
    predictions["SW_observed"] = predictions["SW_observed"].where(~np.isnan(errors))
    table: pd.DataFrame = errors_by_day(predictions, "SW")
    assert table.dropna()["day"].tolist() == list(range(80 - 7, 80 + 8)), "21 March is day 80"
    assert set(table.dropna()["rmse"]) == {5.0}


def test_several_sites_are_their_median(missing_by: Maker) -> None:
    table = errors_by_day(missing_by([[1], [2], [6]]), "SW", smooth=1)
    assert table.dropna()["rmse"].tolist() == [2.0]
    assert median_over_sites(np.array([[1, np.nan, 4], [np.nan] * 3])).tolist()[0] == 2.5

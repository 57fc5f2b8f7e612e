from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rich.console import Console

from mptt.experiments.comparison.budget import Budget
from mptt.experiments.comparison.grid import Cell, Comparison
from mptt.experiments.comparison.results import groups_of, seconds_to_reach
from mptt.experiments.comparison.summary import summarise
from mptt.experiments.predictions import open_predictions
from mptt.experiments.records import save_predictions

NAN = float("nan")
PLAN = Comparison(strategies=["RMB-IIF", "RMB-SSIF"], seeds=[0, 1])


def finished(folder: Path, strategy: str, seed: int, error: float, best: float, **axes: object) -> Cell:
    """A run over two sites and three years that misses by `error`, with `best` as its validation RMSE."""
    config = folder / "x.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text("data: {}\n")
    cell = Cell(config, strategy, seed, Budget("epochs", 3), folder / f"{strategy}-seed{seed}", **axes)  # type: ignore[arg-type]
    cell.folder.mkdir()
    time = np.datetime64("2001-01-01", "s") + np.arange(3 * 365) * np.timedelta64(86400, "s")
    observed = np.zeros((2, len(time)), dtype=np.float32)
    variables = {
        name: (("site", "time"), values, {"units": "mm"})
        for name, values in {"SW": observed + np.float32(error), "SW_observed": observed}.items()
    }
    predictions = xr.Dataset(variables, {"site": ["01", "02"], "time": time}, {"warmup_steps": 5})
    save_predictions(predictions, cell.folder / "predictions.nc")
    (cell.folder / "config.yaml").write_text("data: {init_args: {window: 30}}\n")
    (cell.folder / "versions.yaml").write_text("python: 3.11.0\nseed: 0\n")
    (cell.folder / "metrics.csv").write_text(
        f"epoch,step,train_seconds,epoch_seconds,val_loss,val_rmse\n0,2,9.0,9,3,8\n1,4,1.0,1,1,{best}\n2,6,2.0,2,2,7\n"
    )
    (cell.folder / "scores.csv").write_text(
        f"target,site,rmse,nse,kge,pbias\nSW,01,{error},0.1,0,0\nSW,02,{error + 2},0.3,0,0\n"
    )
    return cell


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    return [
        finished(tmp_path / "c", "RMB-SSIF", 0, 4.0, 5.0),
        finished(tmp_path / "c", "RMB-IIF", 0, 5.0, 5.5),
        finished(tmp_path / "c", "RMB-SSIF", 1, 2.0, 6.0),
        finished(tmp_path / "c", "RMB-IIF", 1, 6.0, 6.0),
    ]


def test_comparison_leaves_a_row_a_run_and_site_and_a_table(cells: list[Cell], tmp_path: Path) -> None:
    shown = io.StringIO()
    summarise(cells, tmp_path / "c", Console(file=shown, width=100), PLAN, "mptt compare x")
    results = pd.read_csv(tmp_path / "c" / "results.csv", dtype={"site": str})
    assert list(results) == [
        *("target", "window", "train_steps", "strategy", "seed", "site", "rmse", "nse", "kge", "pbias"),
        *("best_epoch", "seconds_per_epoch", "seconds_to_reach"),
    ]
    assert results["site"].tolist() == ["01", "02"] * 4, "ids stay strings"
    assert results["window"].tolist() == [30] * 8
    assert results["train_steps"].isna().all()
    assert results["best_epoch"].tolist() == [2] * 8
    assert results["seconds_per_epoch"].tolist() == [1.5] * 8, "the first epoch warms up"
    # The mean of the reference's best is (5 + 6) / 2.
    assert results["seconds_to_reach"].tolist()[:4] == [10.0] * 4
    assert results["seconds_to_reach"].isna().tolist()[4:] == [True] * 4
    row = pd.read_csv(tmp_path / "c" / "differences.csv").iloc[0].to_dict()
    assert row == {
        **{"target": "SW", "window": 30, "train_steps": pytest.approx(NAN, nan_ok=True)},
        **{"strategy": "RMB-IIF", "reference": "RMB-SSIF", "difference": 2.5},
        **{"low": pytest.approx(1.0), "high": pytest.approx(4.0), "share": pytest.approx(100 * 2.5 / 3)},
    }
    text = (tmp_path / "c" / "table.md").read_text()
    assert text.startswith(
        "SW: test part after a warm-up of 5 steps, mean (sd) over 2 seeds, 3 epochs, median of 2 sites\n"
    )
    assert "| RMB-IIF | 6.500 (0.707) | 0.200 (0.000) | 0.000 (0.000) | 0.0 (0.0) | +2.500 [+1.000, +4.000] |" in text
    assert "| \N{EN DASH} | 1.50 | 10.0 (1 of 2) |" in text
    assert "+2.500 [+1.000, +4.000]" in shown.getvalue()
    assert (tmp_path / "c" / "nse_SW.png").exists()


def test_sites_without_scores_are_not_counted(cells: list[Cell], tmp_path: Path) -> None:
    for cell in cells:
        table = (cell.folder / "scores.csv").read_text()
        (cell.folder / "scores.csv").write_text(f"{table}SW,03,,,,\n")
        with open_predictions(cell.folder) as written:
            predictions = written.load().reindex(site=["01", "02", "03"])
        predictions["SW"][2] = 7.0
        save_predictions(predictions, cell.folder / "predictions.nc")
    summarise(cells, tmp_path / "c", Console(file=io.StringIO()), PLAN, "mptt compare x")
    text = (tmp_path / "c" / "table.md").read_text()
    assert "median of 2 of 3 sites" in text
    assert "| RMB-IIF | 6.500 (0.707) | 0.200 (0.000) | 0.000 (0.000) | 0.0 (0.0) | +2.500 [+1.000, +4.000] |" in text
    assert pd.read_csv(tmp_path / "c" / "results.csv")["rmse"].isna().tolist() == [False, False, True] * 4
    (cells[0].folder / "scores.csv").write_text("target,site,rmse,nse,kge,pbias\nSW,01,4,0,0,0\nSW,02,,,,\nSW,03,,,,\n")
    assert "median of 1 to 2 of 3 sites" in groups_of(cells, PLAN)[0].title


def test_rmse_to_reach_may_be_given(cells: list[Cell]) -> None:
    def reached(reach: float | dict[str, float]) -> list[float]:
        group = groups_of(cells, Comparison(PLAN.strategies, reach=reach))[0]
        return group.over_sites["seconds_to_reach"].fillna(-1).tolist()

    assert reached(8.0) == [9.0] * 4
    assert reached({"SW": 5.2}) == [10.0, -1, -1, -1]
    assert reached({"SNO": 8.0}) == [10.0, 10.0, -1, -1], "the reference's, where none is given"


def test_seeds_that_one_of_a_pair_lacks_are_left_out(cells: list[Cell]) -> None:
    group = groups_of(cells[:3], PLAN)[0]
    assert group.differences["difference"].tolist() == [1.0], "of seed 0 alone"
    assert groups_of([cells[0], cells[3]], PLAN)[0].differences.empty


def test_levels_of_the_grid_are_groups_of_their_own(tmp_path: Path) -> None:
    windows = [finished(tmp_path / f"window{size}", "RMB-SSIF", 0, 4.0, 5.0, window=size) for size in (30, 60)]
    labels = [(group.label, group.folder.name) for group in groups_of(windows, PLAN)]
    assert labels == [("SW, windows of 30 steps", "window30"), ("SW, windows of 60 steps", "window60")]
    sized = finished(tmp_path / "steps900", "RMB-SSIF", 0, 4.0, 5.0, train_steps=900)
    assert [group.label for group in groups_of([sized], PLAN)] == ["SW, 900 training steps"]


@pytest.mark.parametrize(
    ("reach", "seconds"), [(9.0, 2.0), (5.0, 3.0), (4.9, 6.0), (3.0, 6.0), (2.9, NAN), (None, NAN)]
)
def test_time_to_reach_counts_training_up_to_the_first_epoch_that_is_there(reach: float | None, seconds: float) -> None:
    metrics = pd.DataFrame({"train_seconds": [2.0, 1.0, 3.0, 1.0], "val_rmse": [8.0, 5.0, 3.0, 1e9]})
    assert seconds_to_reach(metrics, reach) == pytest.approx(seconds, nan_ok=True)
    assert np.isnan(seconds_to_reach(metrics.drop(columns="val_rmse"), reach))
    unknown = metrics.assign(val_rmse=[NAN, NAN, 1.0, NAN])
    assert seconds_to_reach(unknown, 2.0) == 6.0

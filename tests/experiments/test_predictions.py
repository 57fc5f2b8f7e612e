from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from mptt import MPTTError
from mptt.callbacks import StatefulCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.predictions import read_table, step_errors
from mptt.experiments.records import PredictionRecord
from mptt.experiments.regressor import SequenceRegressor

MakeTrainer = Callable[..., pl.Trainer]


def uneven(steps: int = 40) -> xr.Dataset:
    """Two sites, of which the second begins ten steps later, with different gaps in two targets."""
    random = np.random.default_rng(1)
    rain = random.random((2, steps)).astype(np.float32)
    rain[1, :10] = np.nan
    flow, storage = 3 + rain, 50 * random.random((2, steps)).astype(np.float32)
    flow[0, 3::5] = np.nan
    storage[1, 1::4] = np.nan
    time = np.datetime64("2001-01-01", "s") + np.arange(steps) * np.timedelta64(86400, "s")
    series = {name: (("site", "time"), values) for name, values in (("rain", rain), ("q", flow), ("s", storage))}
    return xr.Dataset(series, {"site": ["a", "b"], "time": time})


def window_by_window(**settings: object) -> SeriesDataModule:
    settings = {"window": 6, "stride": 3, "warmup": 2, "batch_size": 3, "evaluation": "independent", **settings}
    data = SeriesDataModule(uneven(), inputs=["rain"], targets=["q", "s"], split=(0.3, 0.2, 0.5), **settings)  # type: ignore[arg-type]
    data.setup("test")
    return data


def test_errors_are_summed_by_position_over_windows_that_overlap() -> None:
    time = pd.date_range("2001-01-01", periods=10, unit="s")
    flow = [[0, 1, 0, 2, 3, 1.0, 2, np.nan, 4, 5]]
    dataset = xr.Dataset(
        {"rain": (("site", "time"), np.ones((1, 10))), "q": (("site", "time"), flow)}, {"site": ["a"], "time": time}
    )
    data = SeriesDataModule(
        dataset,
        inputs=["rain"],
        targets=["q"],
        split=(0.3, 0.2, 0.5),
        window=3,
        stride=1,
        warmup=1,
        evaluation="independent",
    )
    data.setup("test")
    # The test part observes 1, 2, nan, 4, 5. Its first step warms up. Windows of 3 begin at its steps 0, 1 and 2.
    batch = next(iter(data.test_dataloader()))
    assert batch["start"].tolist() == [0, 1, 2]
    physical = torch.tensor([[9.0, 3, 9], [4, 9, 7], [9, 4, 8]]).unsqueeze(2)
    values = [(physical - data.target_scaler.mean) / data.target_scaler.scale]
    table = step_errors(data.predictions("test", values, [batch]), data, values, [batch])
    assert table is not None
    # Position 0: (4-2)^2, and a gap; 1: (3-2)^2, a gap, (4-4)^2; 2: a gap, (7-4)^2, (8-5)^2.
    assert table["step"].tolist() == [0, 1, 2]
    assert table["count"].tolist() == [1, 2, 2]
    assert table["squared_error"].tolist() == pytest.approx([4, 1, 18], rel=1e-4)
    assert table["target"].tolist() == ["q"] * 3
    assert table["site"].tolist() == ["a"] * 3


@pytest.mark.parametrize("window", [6, 7, 200])
def test_errors_by_position_are_those_of_a_loop_over_windows(window: int) -> None:
    data = window_by_window()
    # Of inference alone, so that a window may be longer than the part.
    data.window = window
    torch.manual_seed(0)
    batches = list(data.test_dataloader())
    values = [torch.randn(*batch["y"].shape) for batch in batches]
    predictions = data.predictions("test", values, batches)
    table = step_errors(predictions, data, values, batches)
    assert table is not None
    dataset, part = uneven(), data.parts["test"]
    expected: dict[tuple[str, str, int], list[float]] = {}
    for value, batch in zip(values, batches, strict=True):
        simulated = data.target_scaler.inverse(value)
        for row, (site, start) in enumerate(zip(batch["site"].tolist(), batch["start"].tolist(), strict=True)):
            entry = part.site.tolist().index(site)
            for step in range(value.shape[1]):
                if not 2 <= start + step < part.length[entry]:
                    continue
                for nth, target in enumerate(["q", "s"]):
                    true = float(dataset[target].values[site, part.begin[entry] + start + step])
                    if not np.isnan(true):
                        errors = expected.setdefault((target, "ab"[site], step), [])
                        errors.append((float(simulated[row, step, nth]) - true) ** 2)
    found = {(row.target, row.site, row.step): (row.squared_error, row.count) for row in table.itertuples()}
    assert list(found) == sorted(expected)
    for key, errors in expected.items():
        assert found[key][1] == len(errors), key
        assert found[key][0] == pytest.approx(sum(errors), rel=1e-3), key


def test_a_test_window_by_window_writes_errors_by_position(quiet: MakeTrainer, tmp_path: Path) -> None:
    trainer = quiet(PredictionRecord(tmp_path))
    trainer.test(SequenceRegressor(1, 2, hidden_size=3), datamodule=window_by_window(), verbose=False)
    table = pd.read_csv(tmp_path / "steps.csv", dtype={"site": str})
    assert list(table.columns) == ["target", "site", "step", "squared_error", "count"]
    assert table["step"].max() == 5
    sequential = window_by_window(evaluation="sequential")
    trainer = quiet(StatefulCallback(training=False), PredictionRecord(tmp_path))
    trainer.test(SequenceRegressor(1, 2, hidden_size=3), datamodule=sequential, verbose=False)
    assert not (tmp_path / "steps.csv").exists(), "those of the test before"


def test_a_prediction_writes_no_errors(quiet: MakeTrainer, tmp_path: Path) -> None:
    trainer = quiet(PredictionRecord(tmp_path))
    trainer.predict(SequenceRegressor(1, 2, hidden_size=3), datamodule=window_by_window())
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.nc"]


def test_data_that_do_not_say_where_a_series_begins_give_no_errors() -> None:
    class Other:
        evaluation = "independent"

    assert step_errors(xr.Dataset(), Other(), [], []) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"epoch,step,val_loss\n0,4,0.5\n1,8,0.2", "cut short"),
        (b"epoch,st", "lacks val_loss"),
        (b"", "No columns"),
        (b"\xc3\x28\x00junk", "decode|lacks"),
        (b"epoch,val_loss\n0,1\n0,1,2,3\n", "Expected 2 fields"),
    ],
    ids=["cut", "header", "empty", "bytes", "ragged"],
)
def test_a_damaged_table_of_a_run_is_refused_with_the_way_out(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(MPTTError, match=rf"metrics\.csv cannot be read .*({why}).* repeat the run"):
        read_table(path, ["epoch", "val_loss"])


def test_a_whole_table_of_a_run_is_read_with_sites_as_text(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("site,rmse\n007,1.5\n")
    assert read_table(tmp_path / "scores.csv", ["site", "rmse"]).to_dict("list") == {"site": ["007"], "rmse": [1.5]}

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import MPTTCallback
from mptt.callbacks.memory import Memory
from mptt.experiments import figures
from mptt.experiments.cli import main
from mptt.experiments.memory.export import dataset_of_memory, memory_dataset, write_memory
from mptt.experiments.memory.runs import open_run
from mptt.storage import Storage
from mptt.timeline import Timeline

# Windows 0 (steps 0-3), 1 (2-5) and, of another site, 2.
WINDOWS = WindowIndex(site=[0, 0, 1], start=[0, 2, 0], length=4)
DAYS = np.datetime64("2300-01-01", "s") + np.arange(10) * np.timedelta64(86400, "s")


def two_layers(dtype: torch.dtype = torch.float32) -> Memory:
    """Epoch 0: (2, 4, 6) to window 1; epoch 1, not over: (4, 8, 12)."""
    memory = Memory(WINDOWS, {"first": 1, "second": 2}, 1.0, Storage("cpu"), dtype, torch.device("cpu"))
    memory.write_rows(torch.tensor([1]), torch.tensor([[2.0, 4.0, 6.0]]))
    memory.close_epochs_before(1)
    memory.write_rows(torch.tensor([1]), torch.tensor([[4.0, 8.0, 12.0]]))
    return memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_live_memory_is_told_by_window_and_unit(dtype: torch.dtype) -> None:
    memory = two_layers(dtype)
    units = [("first", 0, "h"), ("second", 0, "h"), ("second", 0, "c")]
    found = dataset_of_memory(memory.state_dict(), WINDOWS, Timeline(["a", "b"], DAYS, [3, 0]), units)
    # mu = (1, 2, 3) after epoch 0, as the zeros before count as one write; a read is (mu + mean)/2.
    assert found["message"].values.tolist() == [[0, 0, 0], [2.5, 5, 7.5], [0, 0, 0]]
    assert found["message"].dtype == np.float32
    assert found["mean"].values.tolist() == [[0, 0, 0], [4, 8, 12], [0, 0, 0]]
    assert found["count"].values.tolist() == [0, 1, 0]
    assert found["last_write"].values.tolist() == [-1, 1, -1]
    np.testing.assert_array_equal(found["age"], [np.nan, 0, np.nan])
    assert found["site"].values.tolist() == ["a", "a", "b"]
    assert found["start_time"].dt.day.values.tolist() == [4, 6, 1]
    assert found["end_time"].dt.day.values.tolist() == [7, 9, 4]
    assert found["core"].values.tolist() == ["first", "second", "second"]
    assert found.attrs == {"delta": 1.0, "epoch": 1}


def test_between_epochs_there_is_no_mean_and_messages_are_an_epoch_old() -> None:
    memory = two_layers()
    memory.close_epochs_before(2)
    found = dataset_of_memory(memory.state_dict(), WINDOWS)
    assert "mean" not in found
    assert found["age"].values[1] == 1
    assert found["site"].values.tolist() == [0, 0, 1]
    assert "start_time" not in found


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
@pytest.mark.parametrize("ending", ["nc", "zarr"])
@pytest.mark.parametrize("hourly", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str, calendar: str, hourly: bool) -> None:
    time = (
        DAYS
        if calendar == "standard"
        else xr.date_range("2300-01-01", periods=10, freq="h" if hourly else "D", calendar="noleap", use_cftime=True)
    )
    time = DAYS[0] + np.arange(10) * np.timedelta64(3600, "s") if calendar == "standard" and hourly else time
    units = [("first", 0, "h"), ("second", 0, "h"), ("second", 0, "c")]
    found = dataset_of_memory(two_layers().state_dict(), WINDOWS, Timeline(["a", "long name"], time), units)
    path = tmp_path / f"messages.{ending}"
    for _ in range(2):  # the second takes the place of the first
        write_memory(found, path)
    coder = xr.coders.CFDatetimeCoder(time_unit="s")
    settings = {"engine": "zarr", "consolidated": False} if ending == "zarr" else {}
    with xr.open_dataset(path, decode_times=coder, **settings) as written:
        for name in [*found.data_vars, "site", "start", "start_time", "end_time", "core", "layer", "part"]:
            np.testing.assert_array_equal(written[name].values, found[name].values, err_msg=name)
        assert (written.attrs["delta"], written.attrs["epoch"]) == (1.0, 1)
        if calendar == "noleap":
            assert isinstance(written["start_time"].values[0], cftime.DatetimeNoLeap)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(MPTTError, match=r"mine\.zarr is there, and is no Zarr store"):
        write_memory(dataset_of_memory(two_layers().state_dict(), WINDOWS), tmp_path / "mine.zarr")
    assert (tmp_path / "mine.zarr").is_dir()


def test_a_memory_of_other_windows_is_refused() -> None:
    other = WindowIndex(site=[0, 0, 1], start=[0, 3, 0], length=4)
    with pytest.raises(MPTTError, match="made for something else"):
        dataset_of_memory(two_layers().state_dict(), other)


def test_the_memory_of_a_run_beside_the_true_states(trained: Path) -> None:
    run = open_run(trained, "last")
    found = memory_dataset(run, states=True)
    windows = run.data.windows
    assert found.sizes == {"window": len(windows), "unit": 6}
    assert (found.attrs["epoch"], found.attrs["run"], found.attrs["strategy"]) == (2, "trained", "MPTT-delta1")
    first = run.data.time[int(run.data.parts["train"].begin[0])]
    assert str(found["start_time"].values[0])[:10] == str(first)[:10]
    days = (found["end_time"] - found["start_time"]).values.astype("timedelta64[D]").astype(int)
    assert (days == windows.length - 1).all()
    # The callback of a fit would read the same.
    state = run.checkpoint["mptt_memory"]["maps"]
    assert isinstance(run.training, MPTTCallback)
    np.testing.assert_array_equal(found["message"], next(iter(state.values()))["mu"])
    layer = next(one for one in run.network.module.modules() if isinstance(one, nn.GRU))
    x = torch.cat([batch["x"] for batch in run.data.series_dataloader()], dim=1)
    with torch.no_grad():
        passed = layer(x)[0][0].numpy()
    true = np.concatenate([np.zeros((1, 6)), passed])[windows.start]
    np.testing.assert_allclose(found["state"], true, atol=1e-5)
    pairs = torch.pdist(torch.from_numpy(true)).square().mean().sqrt().item()
    by_hand = np.linalg.norm(found["message"].values - true, axis=1) / pairs
    np.testing.assert_allclose(found["distance"], by_hand, atol=1e-4)
    assert found["distance"][0] == 0, "a window that begins its series starts from zeros, as it should"


def test_the_command_writes_the_messages(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "export", str(trained), "--states", "true"])
    said = capsys.readouterr().out
    assert f"6 units, written to {trained / 'memory' / 'messages.nc'}" in said
    assert "distance to the true state: 0." in said
    main(["memory", "export", str(trained), "--to", "all.zarr"])
    with xr.open_dataset(trained / "memory" / "messages.nc") as written:
        np.testing.assert_array_equal(
            xr.open_zarr("all.zarr", consolidated=False)["message"].values, written["message"].values
        )


def test_a_measured_run_is_drawn(fit_words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "measured"
    words = ["--trainer.callbacks+=MessageQuality", "--trainer.callbacks.windows", "8"]
    main([*fit_words, *words, "--trainer.max_epochs", "1", "--run_dir", str(run)])
    assert pd.read_csv(run / "metrics.csv")[figures.STALENESS].between(0, 2).all()
    assert (run / "messages.png").exists()
    main(["memory", "plot", str(run)])
    assert (run / "memory" / "messages.pdf").exists()


def test_a_run_without_measurements_is_drawn_too_and_told_so(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "plot", str(trained)])
    assert "was not measured: train with `--trainer.callbacks+=MessageQuality`" in capsys.readouterr().out
    assert (trained / "memory" / "messages.png").exists()
    panels = figures.messages(pd.read_csv(trained / "metrics.csv"), memory_dataset(open_run(trained, "last"))).axes
    assert [one.get_ylabel() for one in panels] == ["number", "units, slow ones at the top", "message"]


def test_a_run_without_a_memory_is_told(trained: Path) -> None:
    run = replace(open_run(trained), checkpoint={}, strategy="RMB-SSIF")
    with pytest.raises(MPTTError, match="holds no MPTT memory: it was trained with RMB-SSIF"):
        memory_dataset(run)


def table(epochs: int, offset: float = 0.0) -> pd.DataFrame:
    parts = {f"mptt/staleness{name}": 0.5 for name in ("_written", "_age", "_drift", "_zero")}
    falling = 1 / (np.arange(epochs) + 1) + offset
    found = pd.DataFrame({"epoch": np.arange(epochs), "mptt/staleness": falling, "val_rmse": 10 * falling, **parts})
    return found.assign(**{"mptt/share": 1.0, "mptt/age": 0.0, "mptt/writers": 2.0, "mptt/weight_drift": falling})


def test_figure_draws_the_epochs_that_were_measured() -> None:
    metrics = table(10)
    metrics.loc[metrics["epoch"] % 2 == 0, "mptt/staleness":"mptt/staleness_zero"] = np.nan  # type: ignore[misc]
    stale = figures.messages(metrics).axes[0]
    lines = {line.get_label(): line for line in stale.lines}
    assert lines["message"].get_xdata().tolist() == [2, 4, 6, 8, 10]  # type: ignore[union-attr]
    assert lines["message"].get_ydata().tolist() == [1 / epoch for epoch in (2, 4, 6, 8, 10)]  # type: ignore[union-attr]


def test_figure_maps_the_messages_of_the_first_site_slow_units_on_top() -> None:
    windows = WindowIndex.cut([400], window=20, stride=10)
    slow = np.linspace(-1, 1, len(windows))
    message = np.stack([slow, np.tile([1, -1], len(windows))[: len(windows)]], axis=1)
    memory = xr.Dataset(
        {"message": (("window", "unit"), message)},
        {"site": ("window", windows.site), "start": ("window", windows.start)},
    )
    axes = figures.messages(table(3), memory).axes[3]
    values = np.asarray(axes.collections[0].get_array()).reshape(2, -1)
    np.testing.assert_array_equal(values[1], slow)
    assert axes.get_xlabel() == "step of the training part"


def test_figure_of_several_ways_draws_the_mean_over_seeds() -> None:
    stale, error = figures.staleness_of_runs({"one": [table(5), table(5, 0.2)], "other": [table(3)]}, "mm").axes
    np.testing.assert_allclose(stale.lines[0].get_ydata(), 1 / np.arange(1, 6) + 0.1)
    assert error.get_ylabel() == "validation RMSE (mm)"
    assert len(error.lines[1].get_xdata()) == 3  # type: ignore[arg-type]

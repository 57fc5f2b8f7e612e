from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from mptt.experiments.cli import main, run, split_settings
from mptt.experiments.configs import config_names


@pytest.fixture(scope="module")
def finished(fit_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs with a strategy that keeps a memory."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    main([*fit_words, "--trainer.max_epochs", "4", "--seed_everything", "5", "--run_dir", str(folder)])
    return folder


def refused(words: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert isinstance(stop.value.code, str), "one line on stderr, exit code 1"
    return stop.value.code


def scores(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "scores.csv")


def losses(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics.csv").drop(columns=["train_seconds", "epoch_seconds"])


def test_configs_lists_every_packaged_configuration_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == config_names()
    assert {"quickstart", "simulated/sw", "swat/sf", "camels_us"} <= set(config_names())
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_usage_without_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    assert "mptt compare  NAME_OR_PATH" in capsys.readouterr().out


def test_help_of_fit_and_compare_names_strategies_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown in ((["fit", "--help"], "MPTT-delta1"), (["compare", "--help"], "--workers")):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert shown in capsys.readouterr().out


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no command 'fitt'" in refused(["fitt"])
    assert "mptt compare" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--config", "quikstart"], ["--config=quikstart"], ["-c", "quikstart"]])
def test_unknown_configuration_is_refused_with_the_near_name(words: list[str]) -> None:
    message = refused(["fit", *words])
    assert "Did you mean quickstart?" in message
    assert "simulated/sw" in message


def test_unknown_strategy_is_refused_with_the_near_name(fit_words: list[str]) -> None:
    message = refused([*fit_words, "--strategy", "MPTT-delta2"])
    assert "Did you mean MPTT-delta" in message
    assert "RMB-IIF" in message


def test_bad_data_is_one_line_and_leaves_no_run_that_blocks_the_next(fit_words: list[str], tmp_path: Path) -> None:
    assert "SW_ENDmm" in refused([*fit_words, "--data.targets", "[SW_END]", "--run_dir", "r"])
    main([*fit_words, "--trainer.max_epochs", "1", "--run_dir", "r"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model.hiden_size", "3"], "hiden_size"),
        (["--data.window", "long"], "window"),
        (["--trainer.max_epoch", "3"], "max_epoch"),
        (["--config"], "expected one argument"),
    ],
)
def test_what_cannot_be_parsed_exits_with_2(
    words: list[str], named: str, fit_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*fit_words, *words])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_fit_without_a_configuration_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit"])
    assert stop.value.code == 2
    assert "fit.data" in capsys.readouterr().err


def test_short_class_names_do_without_a_configuration(basin_cache: Path) -> None:
    cli = run(
        [
            *("fit", "--data", "SimulatedBasin", "--data.years", "14", "--data.cache", str(basin_cache)),
            *("--data.warmup", "100", "--model", "SequenceRegressor", "--model.core", "lstm"),
            *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val_loss", "--strategy", "RMB-IIF"),
            *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
        ]
    )
    assert isinstance(cli.model.core, torch.nn.LSTM)
    assert cli.datamodule.evaluation == "independent"
    assert "EarlyStopping" in [type(one).__name__ for one in cli.trainer.callbacks]
    assert Path("runs/run/scores.csv").exists()


def test_later_configurations_override_and_name_the_run(fit_words: list[str]) -> None:
    Path("mine.yaml").write_text("trainer: {max_epochs: 1}\nmodel: {init_args: {hidden_size: 3}}\n")
    words = [word for word in fit_words if word not in ("--model.hidden_size", "6")]
    main([*words, "--config=mine.yaml"])
    assert len(losses(Path("runs/mine"))) == 1
    written = yaml.safe_load(Path("runs/mine/config.yaml").read_text())
    assert written["model"]["init_args"]["hidden_size"] == 3


def test_run_directory_holds_what_a_repetition_needs(finished: Path) -> None:
    there = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    figures = {f"{name}.{kind}" for name in ("hydrograph", "learning_curve") for kind in ("png", "pdf")}
    assert there == figures | {
        *("config.yaml", "versions.yaml", "log.txt", "metrics.csv", "scores.csv", "predictions.nc", "states.nc"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }
    config, versions = (yaml.safe_load((finished / name).read_text()) for name in ("config.yaml", "versions.yaml"))
    assert config["seed_everything"] == versions["seed"] == 5
    assert {"torch", "pytorch-lightning", "mptt"} <= set(versions)
    assert "max_epochs=4" in (finished / "log.txt").read_text()
    table = losses(finished)
    assert table["epoch"].tolist() == [0, 1, 2, 3]
    assert {"train_loss", "val_loss", "val_nse", "mptt/share"} <= set(table)
    assert not table.isna().any().any()


def test_best_checkpoint_is_of_the_best_epoch(finished: Path) -> None:
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert best["epoch"] == losses(finished)["val_loss"].idxmin()
    assert last["epoch"] == 3


def test_second_fit_into_a_run_directory_is_refused_with_the_line_that_resumes(finished: Path) -> None:
    message = refused(["fit", "--config", str(finished / "config.yaml")])
    assert f"mptt fit --config {finished / 'config.yaml'} --ckpt_path last" in message


def test_saved_configuration_repeats_the_run_to_the_last_bit(finished: Path) -> None:
    main(["fit", "--config", str(finished / "config.yaml"), "--run_dir=again"])
    pd.testing.assert_frame_equal(scores(Path("again")), scores(finished), check_exact=True)
    pd.testing.assert_frame_equal(losses(Path("again")), losses(finished), check_exact=True)


def test_test_and_predict_repeat_what_fit_wrote_also_after_a_move(finished: Path) -> None:
    moved = Path("moved")
    shutil.copytree(finished, moved)
    config = (moved / "config.yaml").read_bytes()
    for name in ("scores.csv", "predictions.nc"):
        (moved / name).unlink()
    main(["predict", "--config", "moved/config.yaml", "--ckpt_path", "best"])
    with xr.open_dataset(moved / "predictions.nc") as new, xr.open_dataset(finished / "predictions.nc") as old:
        xr.testing.assert_identical(new.load(), old.load())
    assert not (moved / "scores.csv").exists()
    main(["test", "--config", "moved/config.yaml"])
    pd.testing.assert_frame_equal(scores(moved), scores(finished), check_exact=True)
    main(["validate", "--config", "moved/config.yaml", "--ckpt_path", "last"])
    assert (moved / "config.yaml").read_bytes() == config, "evaluation leaves the configuration alone"


@pytest.mark.parametrize("words", [["test"], ["test", "--ckpt_path", "best"], ["fit", "--ckpt_path", "no.ckpt"]])
def test_missing_checkpoint_is_one_line(words: list[str], fit_words: list[str]) -> None:
    assert "There is no checkpoint" in refused([words[0], *fit_words[1:], *words[1:]])


def test_interrupted_run_resumes_to_what_an_uninterrupted_one_gives(fit_words: list[str]) -> None:
    words = [*fit_words, "--trainer.max_epochs", "16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mptt.experiments", *words, "--run_dir", "cut"], stderr=subprocess.PIPE, text=True
    )
    table, deadline = Path("cut/metrics.csv"), time.monotonic() + 60
    while not (table.exists() and table.read_text().count("\n") > 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "mptt fit --config cut/config.yaml --ckpt_path last" in said
    assert "Traceback" not in said
    before = losses(Path("cut"))
    assert 4 <= len(before) < 16
    assert "KeyboardInterrupt" in Path("cut/log.txt").read_text()

    main(["fit", "--config", "cut/config.yaml", "--ckpt_path", "last"])
    main([*words, "--run_dir", "whole"])
    resumed, whole = losses(Path("cut")), losses(Path("whole"))
    assert resumed["epoch"].tolist() == list(range(16))
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    pd.testing.assert_frame_equal(scores(Path("cut")), scores(Path("whole")), check_exact=True)
    assert yaml.safe_load(Path("cut/config.yaml").read_text())["ckpt_path"] is None, "it still begins at the start"


def test_moved_run_resumes_without_forgetting_its_best_epoch(fit_words: list[str]) -> None:
    main([*fit_words, "--trainer.max_epochs", "2", "--run_dir", "here"])
    shutil.move("here", "there")
    last = Path("there/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["callbacks"]["BestAndLast"] == {"best": losses(Path("there"))["val_loss"].min()}
    checkpoint["callbacks"]["BestAndLast"]["best"] = 0.0  # which no epoch can beat
    torch.save(checkpoint, last)
    kept = Path("there/checkpoints/best.ckpt").read_bytes()
    main(["fit", "--config", "there/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    assert losses(Path("there"))["epoch"].tolist() == [0, 1, 2]
    assert Path("there/checkpoints/best.ckpt").read_bytes() == kept


def test_own_callbacks_without_a_strategy(fit_words: list[str]) -> None:
    cli = run(
        [
            *(*fit_words, "--strategy", "null", "--trainer.max_epochs", "1", "--run_dir", "own"),
            *("--trainer.callbacks+=mptt.callbacks.MPTTCallback", "--trainer.callbacks.delta", "0.5"),
        ]
    )
    (callback,) = (one for one in cli.trainer.callbacks if type(one).__name__ == "MPTTCallback")
    assert callback.delta == 0.5
    main(["fit", "--config", "own/config.yaml", "--run_dir", "again"])
    pd.testing.assert_frame_equal(losses(Path("own")), losses(Path("again")), check_exact=True)


def test_optimizer_and_scheduler_from_words_and_file(fit_words: list[str]) -> None:
    Path("scheduler.yaml").write_text(
        "model:\n  init_args:\n    scheduler:\n      class_path: torch.optim.lr_scheduler.StepLR\n"
        "      init_args: {step_size: 1, gamma: 0.5}\n"
    )
    cli = run(
        [
            *(*fit_words, "--config", "scheduler.yaml", "--run_dir", "sgd", "--trainer.max_epochs", "2"),
            *("--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.optimizer.momentum", "0.9"),
        ]
    )
    (optimizer,) = cli.trainer.optimizers
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)
    main(["fit", "--config", "sgd/config.yaml", "--run_dir", "again"])
    pd.testing.assert_frame_equal(losses(Path("sgd")), losses(Path("again")), check_exact=True)


def test_learning_rate_falls_on_a_plateau(fit_words: list[str]) -> None:
    words = ["--model.scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.scheduler.patience", "0"]
    cli = run([*fit_words, *words, "--model.scheduler.threshold", "1e9", "--trainer.max_epochs", "3"])
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] < 0.01


def test_error_inside_fit_is_one_line_and_in_the_log(fit_words: list[str]) -> None:
    words = ["--strategy", "null", "--trainer.callbacks+=mptt.callbacks.StatefulCallback", "--run_dir", "r"]
    assert 'order="lanes"' in refused([*fit_words, *words])
    assert 'order="lanes"' in Path("r/log.txt").read_text()


def test_fast_dev_run_leaves_nothing(fit_words: list[str]) -> None:
    main([*fit_words, "--trainer.fast_dev_run", "true", "--run_dir", "r"])
    assert not Path("r").exists()


OWN = """
import pytorch_lightning as pl
import torch

class Net(pl.LightningModule):
    def __init__(self, units: int = 3):
        super().__init__()
        self.gru = torch.nn.GRU(1, units, batch_first=True)
        self.head = torch.nn.Linear(units, 1)

    def forward(self, x):
        return self.head(self.gru(x)[0])

    def training_step(self, batch, batch_idx):
        return (self(batch["x"]) - batch["y"]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

class Data(pl.LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(4, 9, 1)
        return torch.utils.data.DataLoader([{"x": x, "y": x.cumsum(1)}], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader

class Sized(Data):
    input_size = output_size = 1

    def train_dataloader(self):
        x = torch.randn(4, 9, 1)
        batch = {"x": x, "y": x.cumsum(1), "mask": x > -9, "site": torch.zeros(4, dtype=torch.int64)}
        return torch.utils.data.DataLoader([batch], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader
"""


def test_own_module_and_data_beside_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own_things.py").write_text(OWN)
    words = ["fit", "--model", "own_things.Net", "--model.units", "5", "--data", "own_things.Data"]
    words += ["--strategy", "null", "--trainer.max_epochs", "2", "--run_dir", "r"]
    with pytest.warns(Warning, match="Data has no method predictions"):
        main(words)
    assert len(losses(Path("r"))) == 2
    regressor = ["fit", "--model", "SequenceRegressor", "--strategy", "null", "--data"]
    assert "input_size and output_size" in refused([*regressor, "own_things.Data", "--run_dir", "r2"])
    assert "Sized without sites and target_scaler" in refused([*regressor, "own_things.Sized", "--run_dir", "r3"])


def test_seed_is_drawn_and_written_where_asked_for(fit_words: list[str]) -> None:
    main([*fit_words, "--seed_everything", "true", "--trainer.max_epochs", "1", "--run_dir", "r"])
    config, versions = (yaml.safe_load(Path("r", name).read_text()) for name in ("config.yaml", "versions.yaml"))
    assert isinstance(config["seed_everything"], int)
    assert not isinstance(config["seed_everything"], bool)
    assert versions["seed"] == config["seed_everything"]


def test_settings_of_the_runs_are_told_from_options_of_compare() -> None:
    words = ["camels_us", "--data.root", "x", "--seeds", "[0,-1]", "--model.hidden_size=8", "--workers", "2"]
    options, settings = split_settings(words)
    assert options == ["camels_us", "--seeds", "[0,-1]", "--workers", "2"]
    assert settings == ["--data.root", "x", "--model.hidden_size=8"]


def test_a_run_directory_of_another_configuration_is_refused_with_the_difference(fit_words: list[str]) -> None:
    words = [*fit_words, "--run_dir", "r", "--strategy", "RMB-SSIF"]
    run([*words, "--trainer.max_epochs", "1"])
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    other = [*words, "--data.window", "200", "--trainer.max_epochs", "2"]
    said = "data.init_args.window (366, now 200)"
    assert f"r holds a run already of another configuration: {said}. Resume it with" in refused(other)
    assert f"r holds a run of another configuration: {said}. Choose" in refused([*other, "--ckpt_path", "last"])
    assert "strategy (RMB-SSIF, now RMB-IIF)" in refused([*words[:-1], "RMB-IIF", "--ckpt_path", "last"])
    assert {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()} == before
    run([*words, "--trainer.max_epochs", "2", "--ckpt_path", "last"])
    assert len(pd.read_csv("r/metrics.csv")) == 2, "longer is no other configuration"


def test_a_limit_of_steps_is_validated_and_scored(fit_words: list[str]) -> None:
    run([*fit_words, "--strategy", "RMB-SSIF", "--trainer.max_steps", "3", "--run_dir", "r"])
    table = pd.read_csv("r/metrics.csv")
    assert table["step"].tolist() == [2, 3], "two batches an epoch"
    assert table["val_loss"].nunique() == 2
    assert "max_steps: 3" in Path("r/config.yaml").read_text()

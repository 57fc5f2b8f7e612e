"""What a run, and what is on disk of it, survives."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xarray as xr
import yaml
from faults import Touch

from mptt.callbacks import WholeCheckpointIO, read_checkpoint
from mptt.experiments.cli import main

KILLED = -signal.SIGKILL
EPOCHS = 6


@pytest.fixture(scope="module")
def words(small: list[str]) -> list[str]:
    return [*("fit", "--config", "quickstart"), *small, *("--trainer.enable_progress_bar", "false")]


@pytest.fixture(scope="module")
def finished(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    main([*words, "--trainer.max_epochs", str(EPOCHS), "--run_dir", str(folder)])
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refused(words: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert isinstance(stop.value.code, str), "one line on stderr, exit code 1"
    return stop.value.code


def resumed(folder: Path) -> list[str]:
    return ["fit", "--config", str(folder / "config.yaml"), "--ckpt_path", "last", "--trainer.max_epochs", "8"]


def refuse(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing takes the place of a file of that name."""
    replace = os.replace

    def refusing(source: Any, place: Any) -> None:
        if Path(place).name == path.name:
            raise OSError(code, os.strerror(code), str(place))
        replace(source, place)

    monkeypatch.setattr(os, "replace", refusing)


# Killed


class Runs:
    """Runs of one configuration, in processes that can be killed: each a fork of one that has imported all."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.words = [*words, "--trainer.max_epochs", str(EPOCHS), "--run_dir", str(folder)]
        self.folder, self.last = folder, folder / "checkpoints" / "last.ckpt"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mptt.experiments.cli"])

    def go_on(self, seconds: float | None) -> int:
        """Begin, or resume; the exit code of the process, which is killed some seconds after it came to the fit."""
        best = self.last.with_name("best.ckpt")
        name = "last" if self.last.exists() else "best" if best.exists() else None
        process = self.context.Process(target=main, args=([*self.words, *(["--ckpt_path", name] if name else ())],))
        log = self.folder / "log.txt"
        before = log.stat().st_size if log.exists() else 0
        process.start()
        while process.is_alive() and not (log.exists() and log.stat().st_size > before):
            time.sleep(0.002)
        process.join(seconds)
        process.kill()
        process.join()
        return int(process.exitcode or 0)

    def check(self) -> None:
        """See that each file with its final name is whole."""
        for path in self.folder.rglob("*.ckpt"):
            assert read_checkpoint(path)["mptt_memory"]["maps"]
        for path in self.folder.rglob("*.csv"):
            assert len(pd.read_csv(path))
        for path in self.folder.rglob("*.yaml"):
            assert yaml.safe_load(path.read_text())
        for path in self.folder.rglob("*.nc"):
            with xr.open_dataset(path) as opened:
                opened.load()


def same(one: Any, other: Any, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other) or (one.isnan() == other.isnan()).all(), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for nth, (left, right) in enumerate(zip(one, other, strict=True)):
            same(left, right, f"{where}.{nth}")
    else:
        assert one == other, where


def check_same_run(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        here, there = (read_checkpoint(run / "checkpoints" / f"{name}.ckpt") for run in (one, other))
        for key in ("state_dict", "optimizer_states", "mptt_memory", "epoch", "global_step", "SimulatedBasin"):
            assert (key in here) == (key in there)
            same(here.get(key), there.get(key), f"{name}.{key}")
    tables = [pd.read_csv(run / "metrics.csv").drop(columns=["train_seconds", "epoch_seconds"]) for run in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (one / "scores.csv").read_bytes() == (other / "scores.csv").read_bytes()
    assert not list(one.rglob("*.partial")), "what was left half-written is gone"
    for name in ("hydrograph.png", "learning_curve.pdf", "predictions.nc"):
        assert (one / name).stat().st_size > 0


def kill_at_random(words: list[str], folder: Path, finished: Path, moments: int) -> set[int]:
    """Runs, each killed and resumed until it is through, until so many moments were; epochs at which it was."""
    chance, killed = random.Random(3), list[int]()
    longest = 1.5 * pd.read_csv(finished / "metrics.csv")["epoch_seconds"].sum()
    for nth in range(moments * 3):
        runs = Runs(words, folder / f"run{nth}")
        while (code := runs.go_on(chance.uniform(0, longest) if len(killed) < moments else None)) == KILLED:
            runs.check()
            killed.append(read_checkpoint(runs.last)["epoch"] if runs.last.exists() else -1)
        assert code == 0
        check_same_run(runs.folder, finished)
        if len(killed) >= moments:
            return set(killed)
    raise AssertionError(f"only {len(killed)} of {moments} runs were killed before their end")


def test_a_run_killed_at_random_ends_as_one_that_was_not(words: list[str], finished: Path, tmp_path: Path) -> None:
    assert kill_at_random(words, tmp_path, finished, moments=3)


@pytest.mark.slow
def test_runs_killed_at_thirty_random_moments_end_as_one_that_was_not(
    words: list[str], finished: Path, tmp_path: Path
) -> None:
    assert len(kill_at_random(words, tmp_path, finished, moments=30)) > 2, "in different epochs"


@pytest.mark.slow
def test_a_process_of_the_command_line_is_killed_and_resumed(words: list[str], finished: Path, tmp_path: Path) -> None:
    runs = Runs(words, tmp_path / "run")
    line = [sys.executable, "-m", "mptt.experiments", *runs.words]
    with subprocess.Popen(line) as process:
        while not runs.last.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == KILLED
    runs.check()
    subprocess.run([*line, "--ckpt_path", "last"], check=True)
    check_same_run(runs.folder, finished)


def _killed_at(place: int, before: bool, words: list[str]) -> None:
    """Run, and be killed right before or after a file takes its place."""
    replace, seen = os.replace, [0]

    def counting(*paths: Any) -> None:
        seen[0] += 1
        if seen[0] == place and before:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
        if seen[0] == place:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counting  # type: ignore[assignment]
    main(words)


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_a_run_killed_at_each_of_its_writes_ends_as_one_that_was_not(
    before: bool, words: list[str], finished: Path, tmp_path: Path
) -> None:
    places = 0
    while True:
        places += 1
        runs = Runs(words, tmp_path / f"run{places}")
        process = runs.context.Process(target=_killed_at, args=(places, before, runs.words))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == KILLED
        runs.check()
        assert runs.go_on(None) == 0
        check_same_run(runs.folder, finished)
    # config, versions; a row and a checkpoint or two an epoch; the test.
    assert places > 2 + 2 * EPOCHS + 6


def test_a_kill_before_the_first_checkpoint_leaves_nothing_in_the_way(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt.elsewhere-7.partial").write_bytes(b"half")
    main([*words, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "scores.csv").exists()


def test_a_kill_between_best_and_last_is_resumed_from_the_best(copied: Path) -> None:
    (copied / "checkpoints" / "last.ckpt").unlink()
    assert "--ckpt_path best" in refused(["fit", "--config", str(copied / "config.yaml")])


# Bad files


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    torch.save({"w": torch.ones(2)}, path)


def _weights_alone(path: Path) -> None:
    kept = read_checkpoint(path)
    kept.pop("optimizer_states")
    WholeCheckpointIO().save_checkpoint(kept, path)


def _of_another_version(path: Path) -> None:
    kept = read_checkpoint(path)
    kept["mptt_memory"]["rows"] = kept["mptt_memory"].pop("maps")
    WholeCheckpointIO().save_checkpoint(kept, path)


BAD: list[tuple[Callable[[Path], None], str]] = [
    (_cut, "cut short or damaged"),
    (_empty, "is empty"),
    (_foreign, "no checkpoint of Lightning"),
    (_weights_alone, "weights alone"),
    (_of_another_version, "another version wrote it"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD, ids=[spoil.__name__[1:] for spoil, _ in BAD])
def test_a_bad_checkpoint_is_refused_in_a_line(spoil: Callable[[Path], None], said: str, copied: Path) -> None:
    before = (copied / "metrics.csv").read_bytes()
    spoil(copied / "checkpoints" / "last.ckpt")
    assert said in refused(resumed(copied))
    assert (copied / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--model.hidden_size", "12"], r"weight_ih_l0 is \(18, (\d+)\) there, \(36, \1\) here"),
        (["--model.num_layers", "2"], r"weight_ih_l1 \(18, 6\) is only here"),
        (["--data.targets", "[SW_ENDmm,SNOmm]"], r"head\.weight is \(1, 6\) there, \(2, 6\) here"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_with_what_is_different(
    other: list[str], said: str, copied: Path, tmp_path: Path
) -> None:
    last = copied / "checkpoints" / "last.ckpt"
    line = ["fit", "--config", str(copied / "config.yaml"), *other, "--run_dir", str(tmp_path / "other")]
    message = refused([*line, "--ckpt_path", str(last)])
    assert "of another network" in message
    assert re.search(said, message), message


def test_nothing_in_a_checkpoint_is_run_by_any_command(copied: Path, tmp_path: Path) -> None:
    for name in ("best", "last"):
        torch.save({"hyper_parameters": Touch(tmp_path / "made")}, copied / "checkpoints" / f"{name}.ckpt")
    for words in (resumed(copied), *([one, "--config", str(copied / "config.yaml")] for one in ("test", "predict"))):
        assert "nothing in it was run" in refused(words)
    other = str(copied / "checkpoints" / "best.ckpt")
    words = ["validate", "--config", str(copied / "config.yaml"), "--ckpt_path", other]
    assert "nothing in it was run" in refused(words)
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_does_not_say_what_is_built(copied: Path) -> None:
    path = copied / "checkpoints" / "best.ckpt"
    kept = read_checkpoint(path)
    kept["hyper_parameters"] = {"_class_path": "antigravity.Flight", "hidden_size": 99}
    WholeCheckpointIO().save_checkpoint(kept, path)
    main(["validate", "--config", str(copied / "config.yaml"), "--ckpt_path", str(path)])
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("command", ["fit", "compare"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: !!python/object/apply:os.mkdir [made]\n", "plain values"),
        ("data: !!python/name:os.system\n", "plain values"),
        ("a: [1\n", "plain values"),
        ("- 1\n", "it holds list"),
        ("", "it holds nothing"),
        ("[" * 5000, "plain values"),
        (b"\xff\xfe\x00", "plain values"),
    ],
)
def test_a_configuration_runs_nothing_and_is_refused_in_a_line(
    text: str | bytes, said: str, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused(["fit", "--config", str(path)] if command == "fit" else ["compare", str(path)])
    assert not (tmp_path / "made").exists()


# Disks


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("metrics.csv", errno.EROFS),
        ("last.ckpt", errno.ENOSPC),
        ("predictions.nc", errno.EACCES),
        ("scores.csv", errno.ENOSPC),
        ("hydrograph.png", errno.EACCES),
    ],
)
def test_a_disk_that_refuses_in_the_middle_keeps_what_was_there(
    name: str, code: int, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(copied.rglob(name))
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        refuse(path, code, patched)
        said = refused(resumed(copied))
    assert f"{path} cannot be written: {os.strerror(code)}" in said
    assert name == "scores.csv" or path.read_bytes() == before
    assert not list(copied.rglob("*.partial"))
    if code == errno.ENOSPC:
        main(resumed(copied))
        assert len(pd.read_csv(copied / "metrics.csv")) == 8
        assert (copied / "scores.csv").exists()

"""The command line in two processes, as somebody calls it: resumed, and tested by one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import xarray as xr

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")]
TWO = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.accelerator", "cpu"]


def mptt(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mptt.experiments", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_in_two_processes_resumes_and_predicts_as_one_process_does(fit_words: list[str], tmp_path: Path) -> None:
    whole, part, alone = (tmp_path / name for name in ("whole", "part", "alone"))
    mptt(*fit_words, *TWO, "--trainer.max_epochs", 3, "--run_dir", whole)
    mptt(*fit_words, *TWO, "--trainer.max_epochs", 2, "--run_dir", part)
    mptt("fit", "--config", part / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 3)
    resumed = weights(part)
    for name, value in weights(whole).items():
        assert torch.equal(value, resumed[name]), name
    shutil.copytree(whole, alone)
    mptt("test", "--config", alone / "config.yaml", "--trainer.strategy", "auto", "--trainer.devices", 1)
    with xr.open_dataset(whole / "predictions.nc") as two, xr.open_dataset(alone / "predictions.nc") as one:
        xr.testing.assert_allclose(two, one, rtol=0, atol=1e-4)  # of mm


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_process_that_is_killed_ends_the_others_and_leaves_a_run_to_resume(
    fit_words: list[str], tmp_path: Path
) -> None:
    words = [*fit_words, *TWO, "--trainer.max_epochs", "1000", "--run_dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mptt.experiments", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.2)
    others = [one for one in psutil.Process(process.pid).children() if "--run_dir" in one.cmdline()]
    others[0].send_signal(signal.SIGKILL)
    assert process.wait(timeout=120) != 0
    mptt("fit", "--config", tmp_path / "run" / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 1)

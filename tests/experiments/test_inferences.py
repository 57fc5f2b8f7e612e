"""Any run can be tested with any inference that its inputs allow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mptt import MPTTError
from mptt.experiments.cli import main, run
from mptt.experiments.inferences import INFERENCES, find_inference

# That these data begin with the record is tested where it is said.
pytestmark = pytest.mark.filterwarnings("ignore:No step comes before the first")


def refused(words: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert isinstance(stop.value.code, str)
    return stop.value.code


@pytest.mark.parametrize(
    ("name", "lagged", "said"),
    [
        (
            "TFIF",
            "none",
            "a network that reads the target of the step before (lagged_target=step), but this one",
        ),
        ("SCIF", "none", "but this one reads no target; it can be run with IIF or SSIF."),
        ("SSIF", "step", "this one reads the target of the step before (lagged_target=step); it can be run with TFIF."),
        ("IIF", "window", "held through it (lagged_target=window); it can be run with SCIF."),
        ("TFIF", "window", "it can be run with SCIF."),
        ("SSIV", "none", "There is no inference 'SSIV'. Did you mean SSIF? There are IIF, SSIF, TFIF, SCIF."),
        ("nonsense", "none", "There is no inference 'nonsense'. There are IIF, SSIF, TFIF, SCIF."),
    ],
)
def test_what_the_inputs_do_not_allow_is_refused_with_the_reason(name: str, lagged: str, said: str) -> None:
    with pytest.raises(MPTTError, match=re.escape(said)):
        find_inference(name, lagged)


def test_what_they_allow_is_found() -> None:
    allowed = {lagged: [name for name, one in INFERENCES.items() if one.lagged == lagged] for lagged in
               ("none", "step", "window")}  # fmt: skip
    assert allowed == {"none": ["IIF", "SSIF"], "step": ["TFIF"], "window": ["SCIF"]}
    assert all(find_inference(name, lagged) is INFERENCES[name] for lagged, names in allowed.items() for name in names)


def test_a_run_is_tested_another_way_into_a_folder_of_its_own(fit_words: list[str]) -> None:
    run([*fit_words, "--strategy", "MPTT-delta1", "--trainer.max_epochs", "1", "--run_dir", "r"])
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file() and path.suffix != ".txt"}
    test = ["test", "--config", "r/config.yaml", "--trainer.enable_progress_bar", "false"]
    main([*test, "--inference", "IIF"])
    assert all(path.read_bytes() == text for path, text in before.items()), "the run's own stays"
    assert pd.read_csv("r/IIF/scores.csv")["rmse"][0] != pd.read_csv("r/scores.csv")["rmse"][0]

    run([*fit_words, "--strategy", "RMB-IIF", "--trainer.max_epochs", "1", "--run_dir", "other"])
    main(["test", "--config", "other/config.yaml", "--ckpt_path", "r/checkpoints/best.ckpt", *test[3:]])
    with xr.open_dataset("r/IIF/predictions.nc") as one, xr.open_dataset("other/predictions.nc") as two:
        assert np.array_equal(one["SW_ENDmm"], two["SW_ENDmm"], equal_nan=True), "it is the inference of RMB-IIF"

    main([*test, "--inference", "SSIF"])
    assert not Path("r/SSIF").exists(), "it is the run's own"


def test_a_run_trained_with_another_inference_keeps_it(fit_words: list[str]) -> None:
    words = ["--strategy", "RMB-SSIF", "--inference", "IIF", "--trainer.max_epochs", "1", "--run_dir", "r"]
    cli = run([*fit_words, *words])
    assert cli.datamodule.evaluation == "independent"
    test = ["test", "--config", "r/config.yaml", "--trainer.enable_progress_bar", "false"]
    scores = pd.read_csv("r/scores.csv")
    main(test)
    pd.testing.assert_frame_equal(pd.read_csv("r/scores.csv"), scores)
    main([*test, "--inference", "SSIF"])
    assert Path("r/SSIF/scores.csv").exists()


def test_the_command_line_says_the_reason(fit_words: list[str]) -> None:
    assert "TFIF is for a network" in refused([*fit_words, "--inference", "TFIF"])
    assert "There is no inference 'x'" in refused([*fit_words, "--inference", "x"])


def test_without_a_strategy_an_inference_can_be_given(fit_words: list[str]) -> None:
    cli = run([*fit_words, "--strategy", "null", "--inference", "SSIF", "--trainer.max_epochs", "1", "--run_dir", "r"])
    assert cli.datamodule.evaluation == "sequential"
    assert Path("r/scores.csv").exists()

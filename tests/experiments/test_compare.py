from __future__ import annotations

import html
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mptt.experiments.cli import main

# Stand-ins draw what the figures do not draw yet.


@pytest.fixture
def words(small: list[str]) -> list[str]:
    return ["compare", "quickstart", *small, "--epochs", "2", "--out", "c"]


def refused(words: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert isinstance(stop.value.code, str)
    return stop.value.code


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("in_this_process")
def test_comparison_writes_results_and_a_cell_is_the_run_of_fit(
    words: list[str], fit_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words, "--strategies", "[RMB-SSIF,MPTT-delta1]", "--seeds", "[0,3]"])
    assert "MPTT-delta1" in capsys.readouterr().out
    results = pd.read_csv("c/results.csv")
    assert sorted(zip(results["strategy"], results["seed"], strict=True)) == [
        ("MPTT-delta1", 0),
        ("MPTT-delta1", 3),
        ("RMB-SSIF", 0),
        ("RMB-SSIF", 3),
    ]
    assert {"target", "site", "rmse", "nse", "kge", "pbias", "best_epoch", "seconds_per_epoch"} <= set(results)
    table = Path("c/table.md").read_text()
    assert "RMSE (mm)" in table
    assert table.count("\n| ") == 4, "header, rule, two strategies"
    for name in ("rmse_SW_ENDmm.png", "rmse_SW_ENDmm.pdf", "learning_curves_SW_ENDmm.png", "report.html"):
        assert Path("c", name).exists()
    mean = results.groupby("strategy")["rmse"].mean()
    assert f"| MPTT-delta1 | {mean['MPTT-delta1']:.2f} (" in table

    line = ["--strategy", "MPTT-delta1", "--seed_everything", "3", "--trainer.max_epochs", "2", "--run_dir", "alone"]
    main([*fit_words, *line])
    cell = Path("c/MPTT-delta1-seed3")
    pd.testing.assert_frame_equal(pd.read_csv("alone/scores.csv"), pd.read_csv(cell / "scores.csv"), check_exact=True)

    before = snapshot(Path("c/RMB-SSIF-seed0"))
    main([*words, "--strategies", "[RMB-SSIF,MPTT-delta1]", "--seeds", "[0,3,4]"])
    assert snapshot(Path("c/RMB-SSIF-seed0")) == before, "finished runs are kept"
    assert pd.read_csv("c/results.csv")["seed"].nunique() == 3

    message = refused([*words, "--strategies", "[RMB-SSIF]", "--seeds", "[0]", "--model.core", "lstm"])
    assert "RMB-SSIF-seed0 holds a run of another configuration: settings" in message
    message = refused([*words[:-4], "--out", "c", "--epochs", "3", "--strategies", "[RMB-SSIF]", "--seeds", "[0]"])
    assert "epochs (2, now 3)" in message


@pytest.mark.usefixtures("in_this_process")
def test_failing_run_is_named_with_its_cause_and_the_others_are_kept(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mptt.experiments.strategies import STRATEGIES, Strategy

    def broken() -> list[object]:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(STRATEGIES, "BROKEN", Strategy("breaks", callbacks=broken))  # type: ignore[arg-type]
    monkeypatch.setitem(STRATEGIES, "NEEDY", Strategy("needs more", data={"teacher": "forced"}))
    message = refused([*words, "--strategies", "[BROKEN,NEEDY,RMB-IIF]", "--seeds", "[0]"])
    assert "2 of 3 runs failed" in message
    assert "c/BROKEN-seed0: RuntimeError: no such luck" in message
    assert "c/NEEDY-seed0: NEEDY needs teacher='forced'" in message
    assert "no such luck" in Path("c/BROKEN-seed0/log.txt").read_text()
    assert Path("c/RMB-IIF-seed0/scores.csv").exists()
    main([*words, "--strategies", "[RMB-IIF]", "--seeds", "[0]"])
    assert "RMB-IIF" in Path("c/table.md").read_text()


@pytest.mark.usefixtures("in_this_process")
def test_settings_that_cannot_be_parsed_are_the_cause(words: list[str]) -> None:
    message = refused([*words, "--strategies", "[RMB-IIF]", "--seeds", "[0]", "--model.hiden_size", "3"])
    assert "hiden_size" in message


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--strategies", "[MPTT-delta2]"], "Did you mean MPTT-delta"),
        (["--strategies", "[RMB-IIF,RMB-IIF]"], "given once each"),
        (["--seeds", "[1,1]"], "given once each"),
        (["--seeds", "[]"], "at least one"),
        (["--seeds", "[4,1,4,2,1]"], "with 4 and 1 more than once"),
        (["--targets", "[SW_ENDmm,SW_ENDmm]"], "targets of a comparison are given once each"),
        (["--windows", "[30,60,30]"], "with 30 more than once"),
        (["--training_sizes", "[]"], "at least one"),
        (["--windows", "[0]"], "whole numbers, 1 or more"),
        (["--windows", "[30]", "--training_sizes", "[900]"], "not given together"),
        (["--windows", "[30]", "--data.window", "60"], "--data.window is given by the windows"),
        (["--windows", "[30]", "--data.init_args.stride=9"], "--data.stride is given by the windows"),
        (["--targets", "[SW_ENDmm]", "--data.targets+=SNOmm"], "--data.targets is given by the targets"),
        (["--reference", "RMB-IIF", "--strategies", "[SMB-SSIF]"], "'RMB-IIF' is not among"),
        (["--reach", "0"], "validation RMSE over 0"),
        (["--targets", "[SW_ENDmm]", "--reach", "{SNOmm: 3}"], "reach has SNOmm"),
        (["--steps", "5"], "exactly one of epochs, steps, minutes; found epochs 2, steps 5"),
        (["--trainer.max_time=00:00:01:00"], "not --trainer.max_time"),
        (["--epochs", "0"], "1 or more"),
        (["--workers", "0"], "1 or more"),
        (["--trainer.max_epochs", "5"], "--epochs"),
    ],
)
def test_what_makes_no_sense_is_refused(more: list[str], said: str, words: list[str]) -> None:
    assert said in refused([*words, *more])
    assert not Path("c").exists()


def test_unknown_experiment_and_bad_plan_are_refused(words: list[str]) -> None:
    assert "Did you mean quickstart?" in refused(["compare", "quickstar"])
    Path("mine.yaml").write_text("trainer: {max_epochs: 3}\ncompare: {strategy: [RMB-IIF]}\n")
    assert "strategies" in refused(["compare", "mine.yaml"])


def test_folder_of_something_else_is_left_alone(words: list[str]) -> None:
    Path("c/RMB-IIF-seed0").mkdir(parents=True)
    Path("c/RMB-IIF-seed0/thesis.tex").write_text("years of work")
    assert "no run of a comparison" in refused([*words, "--strategies", "[RMB-IIF]", "--seeds", "[0]"])
    assert Path("c/RMB-IIF-seed0/thesis.tex").read_text() == "years of work"


def test_interrupted_comparison_goes_on_with_the_same_line(words: list[str], request: pytest.FixtureRequest) -> None:
    words = [word if word != "2" else "25" for word in words] + ["--strategies", "[MPTT-delta1]", "--seeds", "[0,1]"]
    # As a terminal does it: the interrupt goes to the whole group.
    process = subprocess.Popen(
        [sys.executable, "-m", "mptt.experiments", *words],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    first, second = Path("c/MPTT-delta1-seed0"), Path("c/MPTT-delta1-seed1")
    table, deadline = second / "metrics.csv", time.monotonic() + 60
    while not (table.exists() and table.read_text().count("\n") > 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "what is finished is kept" in said
    finished, begun = snapshot(first), table.read_text()
    assert "scores.csv" in finished
    assert begun.count("\n") < 26

    request.getfixturevalue("in_this_process")
    main(words)
    assert snapshot(first) == finished
    # The last row may have been written, and its checkpoint not.
    kept = begun[: begun.rstrip("\n").rindex("\n") + 1]
    assert kept.count("\n") >= 4
    assert table.read_text().startswith(kept), "resumed, not run again"
    assert len(pd.read_csv(table)) == 25
    assert pd.read_csv("c/results.csv")["seed"].tolist() == [0, 1]


@pytest.mark.usefixtures("in_this_process")
def test_grid_of_targets_and_windows_is_compared_level_by_level(words: list[str]) -> None:
    plan = ["--strategies", "[RMB-SSIF,SMB-SSIF]", "--seeds", "[0,1]", "--windows", "[60,90]"]
    main([*words, *plan, "--targets", "[SW_ENDmm,SNOmm]", "--reach", "{SNOmm: 1e9, SW_ENDmm: 1e-9}"])
    folders = {str(path.parent.relative_to("c")) for path in Path("c").rglob("scores.csv")}
    assert folders == {
        f"{target}/window{window}/{strategy}-seed{seed}"
        for target in ("SW_ENDmm", "SNOmm")
        for window in (60, 90)
        for strategy in ("RMB-SSIF", "SMB-SSIF")
        for seed in (0, 1)
    }
    import yaml

    run = yaml.safe_load(Path("c/SNOmm/window90/SMB-SSIF-seed1/config.yaml").read_text())["data"]["init_args"]
    assert (run["window"], run["stride"], run["targets"]) == (90, 90, ["SNOmm"]), "lanes have windows end to end"

    results = pd.read_csv("c/results.csv")
    assert list(results)[:6] == ["target", "window", "train_steps", "strategy", "seed", "site"]
    assert len(results) == 16
    assert results["train_steps"].isna().all()
    assert results.loc[results["target"] == "SW_ENDmm", "seconds_to_reach"].isna().all()
    first = pd.read_csv("c/SNOmm/window60/RMB-SSIF-seed0/metrics.csv")["train_seconds"].iloc[0]
    snow = results[(results["target"] == "SNOmm") & (results["window"] == 60)]
    assert snow["seconds_to_reach"].iloc[0] == pytest.approx(first)

    differences = pd.read_csv("c/differences.csv")
    assert set(differences["strategy"]) == {"SMB-SSIF"}
    assert sorted(zip(differences["target"], differences["window"], strict=True)) == [
        ("SNOmm", 60),
        ("SNOmm", 90),
        ("SW_ENDmm", 60),
        ("SW_ENDmm", 90),
    ]
    mean = snow.groupby("strategy")["rmse"].mean()
    row = differences[(differences["target"] == "SNOmm") & (differences["window"] == 60)].iloc[0]
    assert row["difference"] == pytest.approx(mean["SMB-SSIF"] - mean["RMB-SSIF"], rel=1e-4)
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["share"] == pytest.approx(100 * row["difference"] / mean["RMB-SSIF"], rel=1e-4)

    assert Path("c/table.md").read_text().count("after a warm-up of 365 steps") == 4
    for name in ("rmse_by_step", "rmse_by_day", "hydrograph", "learning_curves", "rmse_against_time"):
        assert Path(f"c/SNOmm/window90/{name}_SNOmm.png").exists()
    assert Path("c/SNOmm/rmse_against_window_SNOmm.png").exists()
    report = html.unescape(Path("c/report.html").read_text())
    assert "mptt compare quickstart --strategies '[RMB-SSIF, SMB-SSIF]'" in report


@pytest.mark.usefixtures("in_this_process")
def test_runs_on_different_test_parts_are_not_compared(words: list[str]) -> None:
    line = [*words, "--strategies", "[RMB-SSIF,RMB-IIF]", "--seeds", "[0]"]
    main(line)
    Path("c/table.md").unlink()
    other = ["--data.split", "[0.5,0.1,0.4]", "--out", "d"]
    main([*words, *other, "--strategies", "[RMB-IIF]", "--seeds", "[0]"])
    Path("d/RMB-IIF-seed0/predictions.nc").replace("c/RMB-IIF-seed0/predictions.nc")
    assert "RMB-SSIF-seed0 and c/RMB-IIF-seed0 were not tested on the same part" in refused(line)
    assert not Path("c/table.md").exists()


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("budget", "amount"), [("steps", "7"), ("minutes", "0.02")])
def test_other_budgets_end_in_the_midst_of_an_epoch_and_validate_what_they_trained(
    budget: str, amount: str, words: list[str]
) -> None:
    words = [*words[:-4], "--out", "c", "--strategies", "[MPTT-delta1]", "--seeds", "[0]", "--data.batch_size", "4"]
    main([*words, f"--{budget}", amount])
    metrics = pd.read_csv("c/MPTT-delta1-seed0/metrics.csv")
    assert metrics["val_loss"].notna().all()
    assert metrics["val_loss"].is_unique, "the last part of an epoch has a validation of its own"
    if budget == "steps":
        assert metrics["step"].tolist() == [4, 7]
    assert pd.read_csv("c/results.csv")["best_epoch"].iloc[0] == metrics["val_loss"].argmin() + 1
    assert f"{budget} ({amount}, now None)" in refused([*words, "--epochs", "9"])

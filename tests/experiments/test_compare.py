from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from mptt import MPTTError
from mptt.experiments import compare as comparison
from mptt.experiments.cli import main
from mptt.experiments.compare import Cell, markdown, summarise, table_of


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells here, one after another: a pool's process takes seconds to start."""
    from concurrent.futures import Future

    class Pool:
        def submit(self, function: Callable[..., object], *words: object) -> Future[object]:
            future: Future[object] = Future()
            try:
                future.set_result(function(*words))
            except Exception as error:
                future.set_exception(error)
            return future

    @contextmanager
    def pool(workers: int):  # type: ignore[no-untyped-def]
        yield Pool()

    monkeypatch.setattr(comparison, "_pool", pool)


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
    for name in ("rmse_SW_ENDmm.png", "rmse_SW_ENDmm.pdf", "learning_curves.png", "learning_curves.pdf"):
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


def test_table_is_best_first_and_fits_a_terminal() -> None:
    results = pd.DataFrame(
        {
            "strategy": ["RMB-IIF", "RMB-IIF", "MPTT-delta1", "MPTT-delta1"],
            "seed": [0, 1, 0, 1],
            "rmse": [132.0, 134.0, 110.0, 111.0],
            "nse": [-0.1, -0.3, 0.5, 0.7],
            "kge": [0.1, 0.3, 0.5, 0.7],
            "pbias": [-10.0, 30.0, 5.0, 7.0],
            "seconds_per_epoch": [1.0, 3.0, 2.0, 2.0],
        }
    )
    header, rows = table_of(results, "mm")
    assert header == ["strategy", "RMSE (mm)", "NSE", "KGE", "PBIAS (%)", "s/epoch"]
    assert rows[0][:2] == ["MPTT-delta1", "110.5 (0.7)"]
    assert rows[1] == ["RMB-IIF", "133.0 (1.4)", "-0.200 (0.141)", "0.200 (0.141)", "10.0 (28.3)", "2.00"]
    assert sum(max(map(len, column)) + 1 for column in zip(header, *rows, strict=True)) <= 80
    assert markdown(header, rows).splitlines()[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"


def test_several_sites_and_targets_have_a_table_each(tmp_path: Path) -> None:
    import xarray as xr

    from mptt.experiments.records import save_predictions

    cell = Cell(Path("x.yaml"), "RMB-IIF", 0, 2, tmp_path / "c" / "RMB-IIF-seed0")
    cell.folder.mkdir(parents=True)
    (cell.folder / "metrics.csv").write_text("epoch,train_seconds,train_loss,val_loss\n0,9.0,1,1\n1,1.0,1,0.5\n")
    (cell.folder / "scores.csv").write_text(
        "target,site,rmse,nse,kge,pbias\nSW,01,1,0.1,0,0\nSW,02,3,0.3,0,0\nSW,03,8,0.8,0,0\n"
    )
    values = {name: (("site", "time"), [[1.0]] * 3, {"units": "mm"}) for name in ("SW", "SW_observed")}
    coordinates = {"site": ["01", "02", "03"], "time": pd.date_range("2001-01-01", periods=1)}
    save_predictions(xr.Dataset(values, coordinates), cell.folder / "predictions.nc")
    shown = io.StringIO()
    summarise([cell], tmp_path / "c", Console(file=shown, width=80))
    results = pd.read_csv(tmp_path / "c" / "results.csv", dtype={"site": str})
    assert results["site"].tolist() == ["01", "02", "03"], "ids stay strings"
    assert results["best_epoch"].tolist() == [2, 2, 2]
    assert results["seconds_per_epoch"].tolist() == [1.0] * 3
    assert "median of 3 sites" in " ".join(shown.getvalue().split())
    assert "3.000" in shown.getvalue()
    assert "RMSE (mm) NSE" in " ".join(shown.getvalue().split())


def test_identity_tells_configurations_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("data: {init_args: {years: 3}}\ncompare: {seeds: [1]}\n")
    cell = Cell(path, "RMB-IIF", 0, 2, tmp_path, ("--data.window", "9"))
    assert cell.identity == {
        "data.init_args.years": 3,
        "settings": "--data.window 9",
        "strategy": "RMB-IIF",
        "seed": 0,
        "epochs": 2,
    }
    with pytest.raises(MPTTError, match="no run of a comparison"):
        comparison._check(cell)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mptt import MPTTError
from mptt.experiments.comparison.budget import Budget
from mptt.experiments.comparison.compare import command_of
from mptt.experiments.comparison.grid import Cell, Comparison, cells_of, check_plan, read_section
from mptt.experiments.strategies import STRATEGIES

TWO = Budget("epochs", 2)
PLAN = Comparison(strategies=["RMB-IIF", "SMB-SSIF"], seeds=[0, 7])


def folders(plan: Comparison) -> list[str]:
    return [str(cell.folder) for cell in cells_of(plan, TWO, Path("x.yaml"), Path("c"))]


def test_folders_have_a_level_for_each_axis_of_the_grid() -> None:
    assert folders(PLAN) == ["c/RMB-IIF-seed0", "c/SMB-SSIF-seed0", "c/RMB-IIF-seed7", "c/SMB-SSIF-seed7"]
    plan = replace(PLAN, strategies=["RMB-IIF"], seeds=[3], targets=["SW_ENDmm", "a/b c"], windows=[30, 1])
    assert folders(plan) == [
        "c/SW_ENDmm/window30/RMB-IIF-seed3",
        "c/SW_ENDmm/window1/RMB-IIF-seed3",
        "c/a_b_c/window30/RMB-IIF-seed3",
        "c/a_b_c/window1/RMB-IIF-seed3",
    ]
    plan = replace(PLAN, strategies=["RMB-IIF"], seeds=[3], training_sizes=[3650])
    assert folders(plan) == ["c/steps3650/RMB-IIF-seed3"]


def test_strategy_of_an_import_path_keeps_its_name_but_for_signs_that_no_file_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("mine.LATE", "mine:LATE"):
        monkeypatch.setitem(STRATEGIES, name, STRATEGIES["RMB-IIF"])
    assert folders(replace(PLAN, strategies=["mine.LATE"], seeds=[0])) == ["c/mine.LATE-seed0"]
    assert folders(replace(PLAN, strategies=["mine:LATE"], seeds=[0])) == ["c/mine_LATE-seed0"]


def test_two_runs_never_share_a_folder() -> None:
    with pytest.raises(MPTTError, match=r"share the folder c/a_b/RMB-IIF-seed0"):
        folders(replace(PLAN, targets=["a/b", "a b"]))


def test_cell_is_the_line_of_fit_that_it_is() -> None:
    cell = Cell(Path("x.yaml"), "SMB-SSIF", 7, TWO, Path("c/f"), ("--data.root", "r"), target="P, mm", window=7)
    assert cell.words == [
        *("fit", "--config", "x.yaml", "--data.root", "r", "--data.targets", "['P, mm']"),
        *("--data.window", "7", "--data.stride", "3", "--strategy", "SMB-SSIF", "--seed_everything", "7"),
        *("--trainer.max_epochs", "2", "--run_dir", "c/f"),
    ]
    assert yaml.safe_load(cell.words[6]) == ["P, mm"]
    assert cell.words[10] == "3"
    assert replace(cell, window=1).words[10] == "1", "a stride of none would never end"
    sized = Cell(Path("x.yaml"), "SMB-SSIF", 7, TWO, Path("c/f"), train_steps=3650)
    assert sized.words[3:5] == ["--data.train_steps", "3650"]
    assert "--data.window" not in sized.words


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget("epochs", 25), "--trainer.max_epochs 25"),
        (
            Budget("steps", 500),
            "--trainer.max_epochs -1 --trainer.callbacks+=StepLimit --trainer.callbacks.steps 500",
        ),
        (Budget("minutes", 0.5), "--trainer.max_epochs -1 --trainer.max_time 00:00:00:30"),
        (Budget("minutes", 1501.25), "--trainer.max_epochs -1 --trainer.max_time 01:01:01:15"),
    ],
    ids=["epochs", "steps", "seconds", "days"],
)
def test_budget_is_given_to_the_trainer(budget: Budget, words: str) -> None:
    assert " ".join(budget.words) == words


def test_identity_tells_configurations_axes_and_budgets_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("data: {init_args: {years: 3}}\ncompare: {seeds: [1]}\n")
    cell = Cell(path, "RMB-IIF", 0, TWO, tmp_path / "c", ("--data.batch_size", "9"))
    same = {"data.init_args.years": 3, "settings": "--data.batch_size 9", "strategy": "RMB-IIF", "seed": 0}
    assert cell.identity == {**same, "epochs": 2}
    sized = replace(cell, budget=Budget("minutes", 1.5), target="SW", window=30)
    assert sized.identity == {**same, "minutes": 1.5, "target": "SW", "window": 30}

    cell.folder.mkdir()
    cell.check_folder()
    (cell.folder / "thesis.tex").write_text("years of work")
    with pytest.raises(MPTTError, match="no run of a comparison"):
        cell.check_folder()
    (cell.folder / "cell.yaml").write_text(yaml.safe_dump(cell.identity))
    cell.check_folder()
    with pytest.raises(MPTTError, match=r"epochs \(2, now None\), steps \(None, now 4\)"):
        replace(cell, budget=Budget("steps", 4)).check_folder()
    with pytest.raises(MPTTError, match=r"window \(None, now 30\)"):
        replace(cell, window=30).check_folder()


def test_section_gives_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "compare: {targets: [SW], windows: [30], budget: {steps: 9}, reach: {SW: 3.5}, reference: SMB-SSIF}"
    )
    plan = read_section(path)
    assert plan == Comparison(
        targets=["SW"], windows=[30], budget={"steps": 9}, reach={"SW": 3.5}, reference="SMB-SSIF"
    )
    assert plan.strategies == list(STRATEGIES)
    path.write_text("data: {}\n")
    assert read_section(path) == Comparison()


def test_reference_and_reach_are_found() -> None:
    assert PLAN.reference_strategy == "RMB-IIF", "the first"
    assert Comparison().reference_strategy == "RMB-SSIF"
    assert replace(PLAN, reference="SMB-SSIF").reference_strategy == "SMB-SSIF"
    assert PLAN.reach_of("SW") is None
    assert replace(PLAN, reach=3.0).reach_of("SW") == 3.0
    reach = replace(PLAN, reach={"SOLARMJ/m2": 3.0})
    assert (reach.reach_of("SOLARMJ_per_m2"), reach.reach_of("SW")) == (3.0, None)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{strategy: [RMB-IIF]}", "has strategies, seeds, targets"),
        ("[RMB-IIF]", "compare is a mapping of names to settings"),
        ("{budget: 5}", "written like {epochs: 25}; found 5"),
        ("{seeds: 3}", "seeds of a comparison are a list of whole numbers, 0 or more; found 3"),
        ("{seeds: [-1]}", "0 or more"),
        ("{seeds: [true]}", "whole numbers"),
        ("{strategies: RMB-IIF}", "a list of names"),
        ("{targets: [3]}", "a list of names"),
        ("{windows: [9.5]}", "whole numbers, 1 or more"),
        ("{reach: SW}", "validation RMSE over 0"),
        ("{reach: {SW: no number}}", "validation RMSE over 0"),
        ("{memory: 1}", "memory is true or false; found 1"),
    ],
)
def test_bad_section_is_refused(section: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"compare: {section}\n")
    with pytest.raises(MPTTError) as error:
        check_plan(read_section(path))
    assert said in str(error.value)


def test_line_that_makes_the_comparison_has_all_of_its_plan() -> None:
    plan = replace(PLAN, targets=["P, mm"], windows=[30], reference="RMB-IIF", reach=2.5, memory=True)
    line = command_of("x.yaml", plan, Budget("minutes", 0.5), Path("c"), ["--data.root", "a b"])
    assert line == (
        "mptt compare x.yaml --strategies '[RMB-IIF, SMB-SSIF]' --seeds '[0, 7]' --targets '['\"'\"'P, mm'\"'\"']'"
        " --windows '[30]' --reference RMB-IIF --reach 2.5 --memory true --minutes 0.5 --out c --data.root 'a b'"
    )

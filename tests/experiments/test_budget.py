from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mptt import MPTTError
from mptt.callbacks import StepLimit
from mptt.experiments.cli import main
from mptt.experiments.comparison.budget import Budget, find_budget

NO_OPTIONS: dict[str, float | None] = {"epochs": None, "steps": None, "minutes": None}


def test_options_go_before_the_section_and_the_section_before_the_trainer() -> None:
    path = Path("x.yaml")
    assert find_budget({**NO_OPTIONS, "steps": 5}, {"minutes": 2}, {"max_epochs": 9}, path) == Budget("steps", 5)
    assert find_budget(NO_OPTIONS, {"minutes": 2}, {"max_epochs": 9}, path) == Budget("minutes", 2)
    assert find_budget(NO_OPTIONS, None, {"max_epochs": 9}, path) == Budget("epochs", 9)
    assert find_budget(NO_OPTIONS, None, {}, path) == Budget("epochs", 100), "as of `mptt fit`"


@pytest.mark.parametrize(
    ("options", "section", "trainer", "said"),
    [
        ({"epochs": 2, "minutes": 3.0}, None, {}, "found epochs 2, minutes 3.0"),
        ({}, {"epochs": 2, "steps": 3}, {}, "found epochs 2, steps 3"),
        ({}, {}, {}, "found none"),
        ({}, {"hours": 2}, {}, "one of epochs, steps, minutes; found 'hours'"),
        ({}, {"epochs": 2.5}, {}, "epochs are a whole number, 1 or more, found 2.5"),
        ({}, {"steps": "many"}, {}, "steps are a whole number, 1 or more, found 'many'"),
        ({}, {"steps": 0}, {}, "1 or more"),
        ({}, {"minutes": 0.001}, {}, "1/60 or more"),
        ({}, {"minutes": None}, {}, "found None"),
        ({}, None, {"max_steps": 9}, "has max_steps, which would end runs"),
        ({"epochs": 2}, None, {"max_steps": -1, "max_time": "00:01:00:00"}, "has max_time"),
    ],
)
def test_what_is_no_budget_is_refused(
    options: dict[str, float], section: dict[str, float] | None, trainer: dict[str, object], said: str
) -> None:
    with pytest.raises(MPTTError) as error:
        find_budget({**NO_OPTIONS, **options}, section, trainer, Path("x.yaml"))
    assert said in str(error.value)


def test_share_done_is_read_from_the_table_of_epochs(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    assert Budget("epochs", 4).share_done(table) == 0.0
    table.write_text("epoch,step,epoch_seconds\n0,10,6.0\n1,20,9.0\n")
    assert Budget("epochs", 4).share_done(table) == 0.5
    assert Budget("steps", 80).share_done(table) == 0.25
    assert Budget("minutes", 1.0).share_done(table) == 0.25
    assert Budget("steps", 15).share_done(table) == 1.0


def test_budgets_are_told_in_words() -> None:
    budgets = [Budget("epochs", 1), Budget("epochs", 25), Budget("steps", 500), Budget("minutes", 1.5)]
    assert list(map(str, budgets)) == ["1 epoch", "25 epochs", "500 optimizer steps", "1.5 minutes"]


def test_step_limit_of_none_is_refused() -> None:
    with pytest.raises(MPTTError, match="1 step or more, found 0"):
        StepLimit(0)


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Interrupts training once, before a step."""
    import pytorch_lightning as pl

    from mptt.experiments.records import EpochTable

    def interrupt(self: EpochTable, trainer: pl.Trainer, *batch: object) -> None:
        if trainer.global_step == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochTable, "on_train_batch_start", interrupt)


@pytest.mark.parametrize("at", [8, 10])
def test_run_with_a_step_limit_resumes_as_if_never_stopped(
    at: int, fit_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*fit_words, "--data.batch_size", "4", *Budget("steps", 15).words]
    main([*words, "--run_dir", "whole"])
    whole = pd.read_csv("whole/metrics.csv")
    assert whole["step"].tolist() == [4, 8, 12, 15]
    with monkeypatch.context() as patch:
        interrupting(patch, at)
        with pytest.raises(SystemExit):
            main([*words, "--run_dir", "parts"])
    assert len(pd.read_csv("parts/metrics.csv")) == 2
    main([*words, "--run_dir", "parts", "--ckpt_path", "last"])
    parts = pd.read_csv("parts/metrics.csv")
    clocks = ["train_seconds", "epoch_seconds"]
    pd.testing.assert_frame_equal(parts.drop(columns=clocks), whole.drop(columns=clocks), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_csv("parts/scores.csv"), pd.read_csv("whole/scores.csv"), check_exact=True)

    Path("parts/scores.csv").unlink()
    main([*words, "--run_dir", "parts", "--ckpt_path", "last"])
    assert pd.read_csv("parts/metrics.csv")["step"].tolist() == [4, 8, 12, 15], "nothing left to train, only to test"
    assert Path("parts/scores.csv").exists()


def test_run_with_minutes_counts_those_before_it_was_resumed(
    fit_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    words = [*fit_words, "--data.batch_size", "4", *Budget("minutes", 60).words, "--run_dir", "parts"]
    with monkeypatch.context() as patch:
        interrupting(patch, 10)
        with pytest.raises(SystemExit):
            main(words)
    last = Path("parts/checkpoints/last.ckpt")
    state = torch.load(last, weights_only=True)
    used = state["callbacks"]["Timer"]["time_elapsed"]
    assert used["train"] > 0
    # As if all of it had been used.
    used["train"] = 3600.0
    torch.save(state, last)
    main([*words, "--ckpt_path", "last"])
    assert pd.read_csv("parts/metrics.csv")["step"].tolist() == [4, 8]
    assert Path("parts/scores.csv").exists()

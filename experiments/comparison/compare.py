"""`mptt compare`: strategies against each other at an equal budget."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mptt.errors import MPTTError
from mptt.experiments.comparison.budget import Budget, find_budget
from mptt.experiments.comparison.grid import Comparison, cells_of, check_plan, read_section
from mptt.experiments.comparison.running import run_cells
from mptt.experiments.comparison.summary import summarise
from mptt.experiments.configs import config_label, find_config, read_config


def compare(
    experiment: str,
    strategies: list[str] | None = None,
    seeds: list[int] | None = None,
    targets: list[str] | None = None,
    windows: list[int] | None = None,
    training_sizes: list[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    reference: str | None = None,
    reach: float | dict[str, float] | None = None,
    memory: bool | None = None,
    workers: int = 1,
    out: str | None = None,
    settings: Sequence[str] = (),
) -> None:
    """Run strategies x seeds x targets x windows (or training sizes) at an equal budget; tables, figures, a report.

    What is finished is kept, and what was begun is resumed, when the same line is given again. A run that fails does
    not stop the others. Settings of the runs, such as --data.root FOLDER or --model.hidden_size 64, are given after the
    experiment as for `mptt fit`.

    Args:
        experiment: packaged name or path, as of `mptt fit`; its section `compare` has the defaults.
        strategies: names, which `mptt fit --help` lists, or import paths of your own.
        seeds: of weights and shuffling.
        targets: names; each is trained alone. By default those of the configuration, together.
        windows: window lengths in steps, each with half of it as stride.
        training_sizes: steps of the training part.
        epochs: the budget of each run; by default that of the configuration.
        steps: the budget in optimizer steps instead.
        minutes: the budget in minutes of training and validation instead.
        reference: the strategy that the others are compared to; by default RMB-SSIF, or else the first.
        reach: the validation RMSE whose time is taken, or {TARGET: RMSE}; by default the reference's best.
        memory: measure what the networks remember too, seconds for each run, and once: a section of the report.
        workers: runs at a time, each in a process with its share of the threads.
        out: folder; by default runs/compare/EXPERIMENT.
        settings: words for every run, --data.NAME VALUE and the like.

    Raises:
        MPTTError: unknown strategy, something given twice, two budgets, a folder with runs of another experiment, runs
            that failed, runs that were tested on different parts.
    """
    path = find_config(experiment)
    given: dict[str, Any] = {
        **{"strategies": strategies, "seeds": seeds, "targets": targets, "windows": windows},
        **{"training_sizes": training_sizes, "reference": reference, "reach": reach},
        "memory": memory,
    }
    plan = replace(read_section(path), **{name: value for name, value in given.items() if value is not None})
    check_plan(plan, settings)
    trainer = read_config(path).get("trainer") or {}
    budget = find_budget({"epochs": epochs, "steps": steps, "minutes": minutes}, plan.budget, trainer, path)
    if workers < 1:
        raise MPTTError(f"workers are 1 or more, found {workers}.")
    folder = Path(out or f"runs/compare/{config_label(path)}")
    cells = cells_of(plan, budget, path, folder, settings)
    for cell in cells:
        cell.check_folder()
    console = Console()
    failures = run_cells(cells, workers, console)
    if failures:
        listed = "".join(f"\n  {cell.folder}: {cause}" for cell, cause in failures.items())
        raise MPTTError(
            f"{len(failures)} of {len(cells)} runs failed:{listed}\nThe others are kept, and their log.txt says more;"
            " the same line runs what is left."
        )
    summarise(cells, folder, console, plan, command_of(experiment, plan, budget, folder, settings))


def command_of(experiment: str, plan: Comparison, budget: Budget, folder: Path, settings: Sequence[str] = ()) -> str:
    """The line that makes a comparison, with all of its plan.

    Example:
        >>> plan = Comparison(strategies=["RMB-SSIF", "MPTT-delta1"], seeds=[0])
        >>> command_of("quickstart", plan, Budget("epochs", 2), Path("c"))
        "mptt compare quickstart --strategies '[RMB-SSIF, MPTT-delta1]' --seeds '[0]' --epochs 2 --out c"
    """
    words = ["mptt", "compare", experiment]
    for name in ("strategies", "seeds", "targets", "windows", "training_sizes", "reference", "reach", "memory"):
        value = getattr(plan, name)
        if value is not None and value is not False:
            # A bare value is a document of its own, which YAML ends with dots.
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            words += [f"--{name}", text]
    return shlex.join([*words, f"--{budget.unit}", f"{budget.amount:g}", "--out", str(folder), *settings])

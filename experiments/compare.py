"""Strategies against each other: every strategy with every seed at equal budget, one table and its figures."""

from __future__ import annotations

import io
import logging
import multiprocessing
import shutil
import signal
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mptt.errors import MPTTError
from mptt.experiments import figures
from mptt.experiments.configs import config_label, find_config
from mptt.experiments.records import open_predictions, write_atomically
from mptt.experiments.strategies import STRATEGIES, find_strategy

SCORES = ("rmse", "nse", "kge", "pbias")
_IDENTITY = "cell.yaml"


@dataclass
class Comparison:
    """What `mptt compare` runs, unless told otherwise.

    Args:
        strategies: by name.
        seeds: of weights and shuffling.
    """

    strategies: list[str] = field(default_factory=lambda: list(STRATEGIES))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])


@dataclass
class _Plan(Comparison):
    epochs: int = 100


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: a strategy with a seed, in a run directory of its own."""

    config: Path
    strategy: str
    seed: int
    epochs: int
    folder: Path
    settings: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The command line that is this run."""
        return [
            *("fit", "--config", str(self.config), *self.settings, "--strategy", self.strategy),
            *("--seed_everything", str(self.seed), "--trainer.max_epochs", str(self.epochs)),
            *("--run_dir", str(self.folder)),
        ]

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.folder / "scores.csv").exists()

    @property
    def epochs_done(self) -> int:
        """Rows of its table of epochs."""
        table = self.folder / "metrics.csv"
        return self.epochs if self.finished else max(table.read_text().count("\n") - 1, 0) if table.exists() else 0

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides its result, besides the versions."""
        return {
            **_flat(yaml.safe_load(self.config.read_text(encoding="utf-8"))),
            "settings": " ".join(self.settings),
            "strategy": self.strategy,
            "seed": self.seed,
            "epochs": self.epochs,
        }


def compare(
    experiment: str,
    strategies: list[str] | None = None,
    seeds: list[int] | None = None,
    epochs: int | None = None,
    workers: int = 1,
    out: str | None = None,
    settings: Sequence[str] = (),
) -> None:
    """Run strategies x seeds at an equal number of epochs; write results.csv, table.md and figures.

    What is finished is kept, and what was begun is resumed, when the same line is given again. A run that fails does
    not stop the others. Settings of the runs, such as --data.root FOLDER or --model.hidden_size 64, are given after the
    experiment as for `mptt fit`.

    Args:
        experiment: packaged name or path, as of `mptt fit`; its section `compare` has the defaults.
        strategies: names; `mptt fit --help` lists them.
        seeds: of weights and shuffling.
        epochs: of each run.
        workers: runs at a time, each in a process with its share of the threads.
        out: folder; by default runs/compare/EXPERIMENT.
        settings: words for every run, --data.NAME VALUE and the like.

    Raises:
        MPTTError: unknown strategy, something given twice, a folder with runs of another experiment, runs that failed.
    """
    path = find_config(experiment)
    plan = _plan(path)
    names = plan.strategies if strategies is None else strategies
    seeds = plan.seeds if seeds is None else seeds
    for name in names:
        find_strategy(name)
    if not names or not seeds or len(set(seeds)) < len(seeds) or len(set(names)) < len(names):
        raise MPTTError(f"Strategies and seeds are given once each, and at least one; found {names} and {seeds}.")
    if any(word.startswith("--trainer.max_epochs") for word in settings):
        raise MPTTError("The number of epochs of a comparison is --epochs, not --trainer.max_epochs.")
    epochs = plan.epochs if epochs is None else epochs
    if epochs < 1 or workers < 1:
        raise MPTTError(f"epochs and workers are 1 or more, found {epochs} and {workers}.")
    folder = Path(out or f"runs/compare/{config_label(path)}")
    cells = [
        Cell(path, name, seed, epochs, folder / f"{name}-seed{seed}", tuple(settings))
        for seed in seeds
        for name in names
    ]
    for cell in cells:
        _check(cell)
    console = Console()
    failures = _run(cells, workers, console)
    if failures:
        listed = "".join(f"\n  {cell.folder}: {cause}" for cell, cause in failures.items())
        raise MPTTError(
            f"{len(failures)} of {len(cells)} runs failed:{listed}\nThe others are kept, and their log.txt says more;"
            " the same line runs what is left."
        )
    summarise(cells, folder, console)


def summarise(cells: Sequence[Cell], folder: Path, console: Console) -> None:
    """Write and show the results of finished cells."""
    results = pd.concat([_result(cell) for cell in cells], ignore_index=True)
    write_atomically(folder / "results.csv", results.to_csv(index=False))
    with open_predictions(cells[0].folder) as predictions:
        units = {str(name): variable.attrs.get("units", "") for name, variable in predictions.items()}
    text = []
    for target in results["target"].unique():
        here = _over_sites(results[results["target"] == target])
        header, rows = table_of(here, units[target])
        sites = results.loc[results["target"] == target, "site"].nunique()
        title = f"{target}, test part, mean (sd) over {here['seed'].nunique()} seeds, {cells[0].epochs} epochs" + (
            f", median of {sites} sites" if sites > 1 else ""
        )
        text.append(f"{title}\n\n" + markdown(header, rows))
        # Six columns in 80 characters leave no room for lines between them.
        table = Table(title=title, title_style="bold", box=None, padding=(0, 1, 0, 0), header_style="bold underline")
        for nth, column in enumerate(header):
            table.add_column(column, justify="right" if nth else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        stem = folder / f"rmse_{_file_name(target)}"
        figures.save(figures.scores_by_strategy(here, units[target], target), stem)
    write_atomically(folder / "table.md", "\n\n".join(text) + "\n")
    curves: dict[str, list[pd.DataFrame]] = {}
    for cell in cells:
        curves.setdefault(cell.strategy, []).append(pd.read_csv(cell.folder / "metrics.csv"))
    figures.save(figures.learning_curves(curves), folder / "learning_curves")
    console.print(f"results.csv, table.md and figures are in {folder}")


def table_of(results: pd.DataFrame, unit: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of a comparison: mean (sd) over seeds, best first.

    Args:
        results: a row a run: strategy, seed, rmse, nse, kge, pbias, seconds_per_epoch.
        unit: of the RMSE.
    """
    header = ["strategy", f"RMSE ({unit})" if unit else "RMSE", "NSE", "KGE", "PBIAS (%)", "s/epoch"]
    rmse_digits = 3 if results["rmse"].max() < 10 else 2 if results["rmse"].max() < 100 else 1
    groups = {str(name): group for name, group in results.groupby("strategy")}
    rows = []
    for name in sorted(groups, key=lambda name: groups[name]["rmse"].mean()):
        group = groups[name]
        scores = [_mean_sd(group[score], digits) for score, digits in zip(SCORES, (rmse_digits, 3, 3, 1), strict=True)]
        rows.append([name, *scores, f"{group['seconds_per_epoch'].median():.2f}"])
    return header, rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def _plan(path: Path) -> _Plan:
    """What a configuration asks for."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    asked = settings.get("compare") or {}
    known = {"strategies", "seeds"}
    if not isinstance(asked, dict) or set(asked) - known:
        raise MPTTError(f"The section `compare` of {path} has {', '.join(sorted(known))}; found {asked}.")
    return _Plan(**asked, epochs=(settings.get("trainer") or {}).get("max_epochs", 100))


def _run(cells: Sequence[Cell], workers: int, console: Console) -> dict[Cell, str]:
    """Run what is not finished; for each run that failed, why."""
    waiting = [cell for cell in cells if not cell.finished]
    if not waiting:
        return {}
    kept = len(cells) - len(waiting)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    threads = max(torch.get_num_threads() // workers, 1)
    failures: dict[Cell, str] = {}
    with Progress(*columns, console=console, speed_estimate_period=600) as progress, _pool(workers) as pool:

        def done() -> int:
            return sum(cell.epochs_done for cell in waiting)

        running = {pool.submit(_run_cell, cell, threads): cell for cell in waiting}
        # What is there already does not count as speed.
        bar = progress.add_task("", total=sum(cell.epochs for cell in waiting), completed=done())
        left = set(running)
        while True:
            ended = len(waiting) - len(left)
            label = f"{kept + ended} of {len(cells)} runs" + (f" ({kept} kept)" if kept else "")
            progress.update(bar, completed=done(), description=label)
            if not left:
                return failures
            ready, left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ready:
                error = future.exception()
                if cause := f"its process died ({error})" if error is not None else future.result():
                    failures[running[future]] = cause


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        yield pool
    except BaseException:
        # Without this an interrupt would wait for the runs under way. All that they write is written whole.
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_cell(cell: Cell, threads: int) -> str | None:
    """Run, or resume, one cell in a process of the pool; what went wrong, if anything."""
    from mptt.experiments.cli import run

    torch.set_num_threads(threads)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    words = [*cell.words, "--trainer.enable_progress_bar", "false"]
    if (cell.folder / "checkpoints" / "last.ckpt").exists():
        words += ["--ckpt_path", "last"]
    else:
        shutil.rmtree(cell.folder, ignore_errors=True)
        write_atomically(cell.folder / _IDENTITY, yaml.safe_dump(cell.identity, sort_keys=False))
    said = io.StringIO()
    try:
        # One process shows the progress; log.txt has the warnings.
        with redirect_stderr(said):
            run(words)
    except SystemExit:
        return said.getvalue().rpartition("error: ")[2].strip()
    except MPTTError as error:
        return str(error)
    except Exception as error:
        with (cell.folder / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        return f"{type(error).__name__}: {error}"
    return None


def _check(cell: Cell) -> None:
    """Refuse a folder that holds something else."""
    written = cell.folder / _IDENTITY
    if not written.exists():
        if cell.folder.exists() and any(path.suffix != ".partial" for path in cell.folder.iterdir()):
            raise MPTTError(f"{cell.folder} holds something that is no run of a comparison. Use another --out.")
        return
    there, here = yaml.safe_load(written.read_text(encoding="utf-8")), cell.identity
    differs = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    if differs:
        listed = ", ".join(f"{key} ({there.get(key)}, now {here.get(key)})" for key in differs[:5])
        more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
        raise MPTTError(
            f"{cell.folder} holds a run of another configuration: {listed}{more}. Use another --out, or remove it."
        )


def _result(cell: Cell) -> pd.DataFrame:
    scores = pd.read_csv(cell.folder / "scores.csv", dtype={"site": str})
    epochs = pd.read_csv(cell.folder / "metrics.csv")
    scores.insert(0, "seed", cell.seed)
    scores.insert(0, "strategy", cell.strategy)
    losses = epochs["val_loss"]
    scores["best_epoch"] = int(epochs["epoch"].iloc[int(np.nanargmin(losses))]) + 1 if losses.notna().any() else None
    # The first epoch warms up.
    scores["seconds_per_epoch"] = epochs["train_seconds"].iloc[min(1, len(epochs) - 1) :].median()
    return scores


def _over_sites(results: pd.DataFrame) -> pd.DataFrame:
    return results.groupby(["strategy", "seed"], sort=False)[[*SCORES, "seconds_per_epoch"]].median().reset_index()


def _mean_sd(values: pd.Series[float], digits: int) -> str:
    spread = f" ({values.std():.{digits}f})" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        # The plan of the comparison is not part of a run.
        if prefix or key != "compare":
            flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _file_name(target: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in target)

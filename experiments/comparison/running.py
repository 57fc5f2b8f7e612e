"""The runs of a comparison, in processes side by side, with one bar for all of them."""

from __future__ import annotations

import io
import logging
import multiprocessing
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mptt.errors import MPTTError
from mptt.experiments.comparison.grid import IDENTITY, Cell
from mptt.files import write_atomically


def run_cells(cells: Sequence[Cell], workers: int, console: Console) -> dict[Cell, str]:
    """Run what is not finished, resume what was begun.

    Args:
        cells: the runs.
        workers: how many at a time.
        console: shows how much is done, and the time left.

    Returns:
        For each run that failed, why; they do not stop the others.
    """
    waiting = [cell for cell in cells if not cell.finished]
    if not waiting:
        return {}
    kept = len(cells) - len(waiting)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    threads = max(torch.get_num_threads() // workers, 1)
    failures: dict[Cell, str] = {}
    with Progress(*columns, console=console, speed_estimate_period=600) as progress, _pool(workers) as pool:

        def done() -> float:
            return sum(cell.share_done for cell in waiting)

        running = {pool.submit(_run_cell, cell, threads): cell for cell in waiting}
        # What is there already does not count as speed.
        bar = progress.add_task("", total=len(waiting), completed=done())  # type: ignore[arg-type]
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


def _empty(folder: Path) -> None:
    """Remove what is in the folder of a run, but last what says whose it is: a kill in between blocks nobody."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != IDENTITY:
            path.unlink()


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
    words = [*cell.words, "--trainer.enable_progress_bar", "false"]
    if (cell.folder / "checkpoints" / "last.ckpt").exists():
        words += ["--ckpt_path", "last"]
    else:
        _empty(cell.folder)
        write_atomically(cell.folder / IDENTITY, yaml.safe_dump(cell.identity, sort_keys=False))
    return cause_of(lambda: run(words), cell.folder)


def cause_of(work: Callable[[], object], folder: Path) -> str | None:
    """Do something to a run, and say what went wrong, if anything; what nobody foresaw goes into its log.txt.

    Args:
        work: what to do.
        folder: of the run.
    """
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    said = io.StringIO()
    try:
        # One process shows the progress; log.txt has the warnings.
        with redirect_stderr(said):
            work()
    except SystemExit:
        return said.getvalue().rpartition("error: ")[2].strip()
    except MPTTError as error:
        return str(error)
    except Exception as error:
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        return f"{type(error).__name__}: {error}"
    return None

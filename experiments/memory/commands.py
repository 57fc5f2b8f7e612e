"""`mptt memory`: what a trained network remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli

from mptt.errors import MPTTError
from mptt.experiments import figures
from mptt.experiments.memory.export import memory_dataset, write_memory
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.trajectories import trajectories
from mptt.experiments.predictions import write_series


def run_memory(words: Sequence[str]) -> None:
    """Run `mptt memory` with the words after it.

    Raises:
        MPTTError: what a command raises.
        SystemExit: words that cannot be parsed.
    """
    auto_cli(
        {"states": states, "export": export, "plot": plot},
        args=list(words) or ["--help"],
        prog="mptt memory",
        description="What a trained network remembers, for how long, and where. RUN is the folder of a run, its"
        " config.yaml, or a configuration, whose run is runs/NAME; what is found goes into RUN/memory.",
    )


def states(
    run: str,
    part: str = "test",
    sites: str | None = None,
    variables: str | None = None,
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """Write the hidden state of every step, beside predictions and observations: RUN/memory/states_PART.nc.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        part: train, validation or test.
        sites: names with commas between; all by default.
        variables: others of the data set to put beside, with commas between.
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    opened = opened_of(run, checkpoint, data_root)
    found = trajectories(opened, part, names_of(sites), names_of(variables) or ())
    path = opened.folder / "memory" / f"states_{part}.nc"
    write_series(found.assign_attrs(title=f"Hidden states of {opened.name}, {part} part"), path)
    print(f"{dict(found.sizes)}, written to {path}")


def export(
    run: str, to: str | None = None, states: bool = False, checkpoint: str = "last", data_root: str | None = None
) -> None:
    """Write the messages with the sites and dates of their windows: RUN/memory/messages.nc, or a Zarr store.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        to: where to write; a name that ends in .zarr makes a Zarr store.
        states: put beside each message the state that a pass along the series gives, and the distance between both.
        checkpoint: last, best, or a file.
        data_root: where the data set is now, if it was moved.
    """
    opened = opened_of(run, checkpoint, data_root)
    found = memory_dataset(opened, states)
    path = opened.folder / "memory" / "messages.nc" if to is None else Path(to)
    write_memory(found, path)
    known = int((found["last_write"] >= 0).sum())
    print(f"{known} messages of {found.sizes['window']} windows, {found.sizes['unit']} units, written to {path}")
    if states:
        distance = found["distance"].values
        print(f"distance to the true state: {(distance**2).mean() ** 0.5:.3f} (1: any other window's state)")


def plot(run: str, checkpoint: str = "last", data_root: str | None = None) -> None:
    """Draw how good the messages were over the epochs, and what they hold along a series: RUN/memory/messages.png.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        checkpoint: whose messages are drawn: last, best, or a file.
        data_root: where the data set is now, if it was moved.
    """
    opened = opened_of(run, checkpoint, data_root)
    table = opened.folder / "metrics.csv"
    metrics = pd.read_csv(table) if table.is_file() else pd.DataFrame()
    if figures.STALENESS not in metrics:
        raise MPTTError(
            f"{opened.folder} has no measurements of its messages: metrics.csv has no {figures.STALENESS}. Train with"
            " `--trainer.callbacks+=MessageQuality`."
        )
    path = opened.folder / "memory" / "messages"
    figures.save(figures.messages(metrics, memory_dataset(opened)), path)
    print(f"written to {path}.png and .pdf")


def opened_of(run: str, checkpoint: str, data_root: str | None) -> OpenedRun:
    """The run that a command is given."""
    return open_run(run, checkpoint, () if data_root is None else ("--data.root", data_root))


def names_of(words: str | None) -> list[str] | None:
    """Names with commas between; None where none were given."""
    return None if words is None else [name.strip() for name in words.split(",") if name.strip()]

"""`mptt memory`: what a trained network remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import xarray as xr
from jsonargparse import auto_cli

from mptt.experiments import figures
from mptt.experiments.memory.export import memory_dataset, write_memory
from mptt.experiments.memory.horizon import Pairs
from mptt.experiments.memory.horizon import horizon as find_horizon
from mptt.experiments.memory.ofdata import data_memory, open_data, say_of_data, write_data_memory
from mptt.experiments.memory.remembered import horizon_table, sentence, short_sentence, write_horizon
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.said import steps_said, units_said
from mptt.experiments.memory.steps import step_contributions
from mptt.experiments.memory.trajectories import trajectories
from mptt.experiments.memory.truth import true_horizon
from mptt.experiments.predictions import read_table, write_series
from mptt.files import write_atomically


def run_memory(words: Sequence[str]) -> None:
    """Run `mptt memory` with the words after it.

    Raises:
        MPTTError: what a command raises.
        SystemExit: words that cannot be parsed.
    """
    auto_cli(
        [horizon, data, plot, export, units, steps, probe, view, states],
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


def units(
    run: str,
    part: str = "test",
    sites: str | None = None,
    horizon: int = 3650,
    rank: Literal["settling time", "change", "annual gain", "each alone"] = "settling time",
    seeds: int = 5,
    hold_at: Literal["mean", "zero"] = "mean",
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """Say how fast each unit by itself answers a step and a sine, and how well the run predicts without it.

    Writes RUN/memory/units.csv, unit_steps.csv, unit_frequencies.csv, unit_ablation_PART.csv, and figures.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        part: train, validation or test.
        sites: names with commas between; all by default.
        horizon: steps within which a unit settles, or does not.
        rank: the order of the table, most important first.
        seeds: random orders to compare with.
        hold_at: mean: a unit that is taken out stays at its mean; or zero.
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    from mptt.experiments.memory.unit_files import step_name, write_units  # which draws

    opened = opened_of(run, checkpoint, data_root)
    found, scores, written = write_units(opened, part, names_of(sites), horizon, rank, seeds, hold_at)
    print(units_said(found.units, scores, horizon, step_name(opened)))
    print("written to " + ", ".join(str(path) for path in written))


def steps(
    run: str,
    steps: int = 365,
    part: str = "test",
    sites: str | None = None,
    windows: int = 1000,
    beside: str | None = None,
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """Say how much the hidden state of each step of the past counts, by a linear reading of all of them.

    The head of a NeuroViewRegressor says it itself; of any other run a probe does, fitted to its training part. Writes
    RUN/memory/steps.csv, steps_summary.csv, and a figure.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        steps: that a probe reads.
        part: that readings are scored on.
        sites: names with commas between; all by default.
        windows: so many of either part, at most.
        beside: folders of other runs, with commas between, to draw into the same figure; run the command on them first.
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    from mptt.experiments.memory.unit_files import step_name, write_steps  # which draws

    opened = opened_of(run, checkpoint, data_root)
    found = step_contributions(opened, steps, windows, part=part, sites=names_of(sites))
    written = write_steps(opened, found, [Path(name) for name in names_of(beside) or ()])
    print(steps_said(found.summary, step_name(opened)))
    print("written to " + ", ".join(str(path) for path in written))


def horizon(
    run: str,
    part: str = "test",
    sites: str | None = None,
    starts: int = 50,
    steps: int | None = None,
    pairs: Pairs = "zeros",
    beside: str | None = None,
    seed: int = 0,
    most: int = 20,
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """How long the network remembers: tables and figures RUN/memory/horizon_PART_PAIRS*, and a sentence.

    Runs from two initial states through the same inputs, from many dates, and measures how the difference fades. Beside
    a simulated basin the true memory of its stores is drawn.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        part: train, validation or test.
        sites: names with commas between; by default 20, or `most`, of those that there are.
        starts: dates of each site.
        steps: to run from each; by default 3650, or half of what there is.
        pairs: the true state against zeros, against that of another date (visited), or against random numbers
            (gaussian).
        beside: another run, or several with commas between, drawn into the same figure, with a table of their own.
        seed: of the dates and the pairs.
        most: sites, where none are named.
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    opened = opened_of(run, checkpoint, data_root)
    chosen = names_of(sites)
    found = find_horizon(opened, part, chosen, starts, steps, pairs, seed, most)
    others: dict[str, xr.Dataset] = {}
    for name in names_of(beside) or ():
        other = opened_of(name, checkpoint, data_root)
        # Two runs of one strategy are told apart by their folders.
        taken = other.strategy in (None, opened.strategy, *others)
        title = other.name if taken else str(other.strategy)
        others[title] = find_horizon(other, part, chosen, starts, steps, pairs, seed, most)
    if (true := true_horizon(opened, found)) is not None:
        others["the store itself"] = true
    table, path = write_horizon(opened.folder / "memory", found, others)
    print(sentence(found, table))
    for title, one in others.items():
        beside_it = horizon_table(one)
        write_atomically(
            path.with_name(f"{path.stem}_beside_{title.replace(' ', '_')}.csv"), beside_it.to_csv(index=False)
        )
        print(f"{title}: {short_sentence(one, beside_it)}")
    print(f"written to {path} and beside it")


def data(
    run: str, part: str = "train", sites: str | None = None, lags: int | None = None, data_root: str | None = None
) -> None:
    """The memory in the data, for which no network is needed: RUN/memory/data_PART.csv, a figure, and a sentence.

    Autocorrelation and partial autocorrelation of the targets without their seasonal cycle, and of what the last year
    of inputs does not explain of them.

    Args:
        run: a configuration, the folder of a run, or its config.yaml.
        part: train, validation or test.
        sites: names with commas between; all by default.
        lags: the largest, in steps; three years by default, or a quarter of the longest record.
        data_root: where the data set is, if not where the configuration says.
    """
    opened = open_data(run, () if data_root is None else ("--data.root", data_root))
    found = data_memory(opened.data, part, names_of(sites), lags)
    path = write_data_memory(opened.folder / "memory", found)
    print(say_of_data(found))
    print(f"written to {path} and beside it")


def probe(
    run: str,
    variables: str | None = None,
    part: str = "test",
    fitted_to: Literal["train", "validation"] = "train",
    sites: str | None = None,
    untrained: int = 3,
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """Say which stores of water can be read off the hidden state, and off which unit, by linear probes.

    Beside them: what the season, the inputs, their means up to a year, and a network that was not trained know. Writes
    RUN/memory/probes.csv, probe_units.csv, probed.nc, and a figure.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        variables: of the data set, with commas between; by default the stores of a simulated basin.
        part: that probes are scored on.
        fitted_to: part that they are fitted to.
        sites: names with commas between; by default all that both parts have.
        untrained: networks with new weights to compare with.
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    from mptt.experiments.memory.probe_files import probes_said, write_probes  # which draws
    from mptt.experiments.memory.probes import probe_stores

    opened = opened_of(run, checkpoint, data_root)
    found = probe_stores(opened, names_of(variables), part, fitted_to, names_of(sites), untrained)
    written = write_probes(opened, found)
    print(probes_said(found))
    print("written to " + ", ".join(str(path) for path in written))


def view(
    run: str,
    part: str = "test",
    sites: str | None = None,
    variables: str | None = None,
    projection: Literal["pca", "tsne", "umap"] = "pca",
    points: int = 5000,
    page: bool = True,
    checkpoint: str = "best",
    data_root: str | None = None,
) -> None:
    """Show where the hidden states lie, by season, target, store and site, and what each unit does over time.

    Writes RUN/memory/view.png, view.pdf, and view.html, a page that needs no network: points that are drawn around are
    marked in the hydrograph and in the heat map of the units, and the other way round.

    Args:
        run: the folder of a run, its config.yaml, or a configuration.
        part: train, validation or test.
        sites: names with commas between; by default all, or 8 spread evenly among more.
        variables: others of the data set to colour by, with commas between; by default simulated stores, if any.
        projection: pca, or tsne or umap (pip install "mptt[embedding]").
        points: that are shown at most: the last of each site.
        page: write view.html too (pip install "mptt[view]").
        checkpoint: best, last, or a file.
        data_root: where the data set is now, if it was moved.
    """
    from mptt.experiments.memory.unit_files import step_name
    from mptt.experiments.memory.view import view_said, view_states
    from mptt.experiments.memory.view_files import plotly_library, write_view  # which draws

    if page:
        plotly_library()  # so that what is missing is said before the work
    opened = opened_of(run, checkpoint, data_root)
    found = view_states(opened, part, names_of(sites), names_of(variables), projection, points)
    written = write_view(opened.folder / "memory", found, page, step_name(opened))
    print(view_said(found))
    print("written to " + ", ".join(str(path) for path in written))


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
    metrics = read_table(opened.folder / "metrics.csv", ["epoch"])
    path = opened.folder / "memory" / "messages"
    figures.save(figures.messages(metrics, memory_dataset(opened)), path)
    if figures.STALENESS not in metrics:
        print("How good the messages were was not measured: train with `--trainer.callbacks+=MessageQuality`.")
    print(f"written to {path}.png and .pdf")


def opened_of(run: str, checkpoint: str, data_root: str | None) -> OpenedRun:
    """The run that a command is given."""
    return open_run(run, checkpoint, () if data_root is None else ("--data.root", data_root))


def names_of(words: str | None) -> list[str] | None:
    """Names with commas between; None where none were given."""
    return None if words is None else [name.strip() for name in words.split(",") if name.strip()]

"""The hidden states of a run as points and as series: where they lie, beside season, targets and stores.

After Garcia, Weiskopf et al. (2021, doi:10.1016/j.visinf.2021.04.002), who look at the states of recurrent networks as
trajectories in a projection, and link them with their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from mptt.analysis.geometry import Distances, distances, half_autocorrelation, principal_components
from mptt.errors import MPTTError
from mptt.experiments.memory.probes import STORES, described_units
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers, trajectories

Projection = Literal["pca", "tsne", "umap"]
SITES = 8  # at most, where none are named: more cannot be told apart by colour


@dataclass(frozen=True)
class View:
    """Hidden states to look at.

    Attributes:
        title: of what.
        points: on `point`, site after site, in time: `x` and `y` in the projection; each target, `TARGET_observed`,
            and each other variable; coordinates `site` and `time`. On (point, unit) `state`, each unit in standard
            deviations from its mean.
        axes: of the projection, for labels.
        units: names of the units, in the order of `half`.
        half: steps after which a unit's autocorrelation is a half or less, the median over sites.
        distances: between states, over the whole part.
        targets: names.
        others: names of the other variables.
    """

    title: str
    points: xr.Dataset
    axes: tuple[str, str]
    units: list[str]
    half: npt.NDArray[np.float64]
    distances: Distances
    targets: list[str]
    others: list[str]


def view_states(
    run: OpenedRun,
    part: str = "test",
    sites: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    projection: Projection = "pca",
    points: int = 5000,
    seed: int = 0,
) -> View:
    """Project the states of the last steps of a part, and measure all of them.

    The warm-up at the start of a site is left out, in training too; of an LSTM the outputs h are shown.

    Args:
        run: opened.
        part: train, validation or test.
        sites: names; by default all, or 8 evenly spread among more.
        variables: others of the data set to colour by; by default the stores of a simulated basin that it has.
        projection: "pca", of all states; "tsne" or "umap", of those shown.
        points: that are shown, at most: the last ones of each site, as many of each.
        seed: of t-SNE, UMAP and the pairs of `distances`.

    Raises:
        MPTTError: no such part, site, variable or projection; nothing after the warm-up; a package that is not there.
    """
    if sites is None:
        names = [run.data.sites[site] for site in site_numbers(run, None, part)]
        spread = np.linspace(0, len(names) - 1, min(SITES, len(names))).round().astype(np.int64)
        sites = [names[at] for at in spread]
    if variables is None:
        dataset = run.data.load()
        variables = [name for name in STORES if name in dataset and name not in run.data.targets]
    others = [name for name in variables if name not in run.data.targets]
    found = trajectories(run, part, sites, others)
    described = described_units(run)
    found = found.isel(unit=np.flatnonzero(described["part"] == "h"))
    described = described[described["part"] == "h"]
    there = found["state"].notnull().all("unit")
    counted = (there & (there.cumsum("time") > run.data.warmup)).values
    if counted.sum() < 3:
        raise MPTTError(
            f"The {part} part of {run.name} has {counted.sum()} steps after its warm-up of {run.data.warmup}."
        )
    per_site = max(points // len(counted), 1)
    pieces, halves, apart = [], [], []
    for row, some in enumerate(counted):
        steps = np.flatnonzero(some)
        if not len(steps):
            continue
        one = found.isel(site=row, time=steps)
        states, clock = torch.from_numpy(one["state"].values), one["time"].dt
        halves.append(half_autocorrelation(states).numpy())
        apart.append(distances(states, clock.dayofyear.values, clock.year.values, seed=seed))
        pieces.append(one.isel(time=slice(-per_site, None)).drop_vars("site").rename(time="point"))
    everything = torch.from_numpy(found["state"].values[counted])
    components = principal_components(everything, 2)
    shown = _joined(pieces, [name for name, some in zip(found["site"].values, counted, strict=True) if some.any()])
    states = torch.from_numpy(shown["state"].values)
    if projection == "pca":
        place = components.project(states).numpy()
        axes = [f"PC {nth} ({100 * share:.0f} % of variance)" for nth, share in enumerate(components.share.tolist(), 1)]
    else:
        from mptt.experiments.memory.embedding import NAMES, embed

        place = embed(states.numpy(), projection, seed)
        axes = [f"{NAMES[projection]} {nth}" for nth in (1, 2)]
    spread = everything.std(0, correction=0).clamp(min=1e-12).numpy()
    standardised = (shown["state"] - everything.mean(0).numpy()) / spread
    shown = shown.assign(x=("point", place[:, 0]), y=("point", place[:, 1]), state=standardised)
    several = len(described[["core", "layer"]].drop_duplicates()) > 1
    labels = [f"{one.core} {one.layer}.{one.unit}" if several else str(one.unit) for one in described.itertuples()]
    pooled = [np.concatenate([getattr(one, kind) for one in apart]) for kind in ("one_step", "same_day", "random")]
    title = f"Hidden states of {run.name}, {part} part"
    half = np.median(halves, axis=0)
    return View(title, shown, (axes[0], axes[1]), labels, half, Distances(*pooled), list(run.data.targets), others)


def view_said(view: View) -> str:
    """What the axes show, how much of a state is the season, and how slow its units are."""
    lines = [f"{view.points.sizes['point']} states on {view.axes[0]} and {view.axes[1]}."]
    step, same, apart = (
        float(np.median(one)) if len(one) else np.nan
        for one in (view.distances.one_step, view.distances.same_day, view.distances.random)
    )
    if np.isfinite(same) and apart > 0:
        lines.append(
            f"States of the same day of different years are {same / apart:.2f} times as far apart as those of any days,"
            f" a step and the next {step / apart:.2f} times (medians). 0 would be a state that is the season alone, 1"
            " one that does not know it."
        )
    half = np.sort(view.half)
    lines.append(
        f"The autocorrelation of half of the units is down to a half within {half[(len(half) - 1) // 2]:.0f} steps, of"
        f" the slowest within {half[-1]:.0f}."
    )
    return "\n".join(lines)


def _joined(pieces: list[xr.Dataset], names: list[str]) -> xr.Dataset:
    """Series of several sites, one after the other."""
    flat = []
    for piece, name in zip(pieces, names, strict=True):
        time = ("point", piece["point"].values)
        site = ("point", np.full(piece.sizes["point"], name, dtype=object))
        flat.append(piece.drop_vars("point").assign_coords(time=time, site=site))
    return xr.concat(flat, "point", coords="minimal", compat="override", join="override")

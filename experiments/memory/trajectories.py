"""The states of a trained network along whole series, on the calendar, beside predictions and observations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.preparing.parts import PARTS
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun


def walk(
    run: OpenedRun, part: str, sites: Collection[int] | None = None
) -> Iterator[tuple[dict[str, Any], Tensor, Tensor, Tensor]]:
    """Feed the series of a part in order, the state carried, as sequential stateful inference does.

    Args:
        run: opened.
        part: "train", "validation" or "test".
        sites: numbers of the sites to feed; by default all that the part has.

    Yields:
        A batch as of `SeriesDataModule`; the states (B, S) in which its rows begin; predictions (B, L, K),
        standardised; and the states after each step (B, L, S).

    Raises:
        MPTTError: no such part, of `evaluation_dataloader`.
    """
    loader = run.data.series_dataloader() if part == "train" else run.data.evaluation_dataloader(part)
    carried: dict[int, Tensor] = {}
    for batch in loader:
        if sites is not None:
            rows = torch.tensor([int(site) in sites for site in batch["site"]])
            batch = {name: one[rows] if isinstance(one, Tensor) else one for name, one in batch.items()}
        if not len(batch["site"]):
            continue
        fresh = run.network.zeros(len(batch["site"]))
        initial = torch.stack([carried.get(int(site), fresh[row]) for row, site in enumerate(batch["site"])])
        predictions, states = run.network.run(batch, initial)
        for row, site in enumerate(batch["site"].tolist()):
            carried[site] = states[row, int(batch["length"][row]) - 1].clone()
        yield batch, initial, predictions, states


def site_numbers(run: OpenedRun, sites: Sequence[str] | None, part: str) -> list[int]:
    """The numbers of sites by name, in the order of the part; all of the part by default.

    Raises:
        MPTTError: no such part, or a name that the part does not have.
    """
    if part not in PARTS:
        raise MPTTError(f"There is no part {part!r}; parts are {', '.join(PARTS)}.")
    there = run.data.parts[part].site.tolist()
    if sites is None:
        return there
    names = [run.data.sites[site] for site in there]
    if unknown := [name for name in sites if name not in names]:
        raise MPTTError(f"The {part} part has no site {listed(unknown)}; it has {listed(names)}.")
    return [site for site, name in zip(there, names, strict=True) if name in set(sites)]


def trajectories(
    run: OpenedRun, part: str = "test", sites: Sequence[str] | None = None, variables: Sequence[str] = ()
) -> xr.Dataset:
    """States, predictions and observations of every step.

    Args:
        run: opened.
        part: "train", "validation" or "test".
        sites: names; by default all that the part has.
        variables: others of the data set (site, time) to put beside, such as the true stores of a simulation.

    Returns:
        On (site, time): of each target NAME, `NAME` (predicted) and `NAME_observed`, in physical units, and the
        `variables`; on (site, time, unit) `state`, with coordinates `core`, `layer` and `part` (h or c) of each unit.
        NaN where a site has no data. Attributes: `part`, and `warmup_steps`, which are fed but not scored.

    Raises:
        MPTTError: no such part, site or variable.
    """
    numbers = site_numbers(run, sites, part)
    stretch = run.data.parts[part]
    low, stop = int(stretch.begin.min()), int((stretch.begin + stretch.length).max())
    begin = dict(zip(stretch.site.tolist(), (stretch.begin - low).tolist(), strict=True))
    state = np.full((len(numbers), stop - low, run.network.state_size), np.nan, dtype=np.float32)
    slot = {site: row for row, site in enumerate(numbers)}
    values, batches = [], []
    for batch, _, predictions, states in walk(run, part, numbers):
        for row, site in enumerate(batch["site"].tolist()):
            at, length = begin[site] + int(batch["start"][row]), int(batch["length"][row])
            state[slot[site], at : at + length] = states[row, :length].cpu().numpy()
        values.append(predictions.cpu())
        batches.append(batch)
    names = [run.data.sites[site] for site in numbers]
    found = run.data.predictions(part, values, batches).sel(site=names)
    core, layer, kind = zip(*run.network.units, strict=True)
    coords = {"core": ("unit", list(core)), "layer": ("unit", list(layer)), "part": ("unit", list(kind))}
    found = found.assign(state=(("site", "time", "unit"), state)).assign_coords(coords)
    return found.merge(_others(run, variables, found), join="exact") if variables else found


def _others(run: OpenedRun, variables: Sequence[str], like: xr.Dataset) -> xr.Dataset:
    dataset = run.data.load()
    if unknown := [name for name in variables if name not in dataset or set(dataset[name].dims) != {"site", "time"}]:
        there = [str(name) for name in dataset.data_vars if set(dataset[name].dims) == {"site", "time"}]
        raise MPTTError(f"The data have no variable {listed(unknown)} along time; there are {listed(there)}.")
    chosen = dataset[list(variables)].sel(site=like["site"].values)
    chosen = chosen.isel(time=dataset.indexes["time"].get_indexer(like.indexes["time"]))
    return chosen.assign_coords(time=like["time"], site=like["site"]).load()

"""How well a run predicts without some of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric

from mptt.analysis.ablation import Bools, ablations, holding
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers
from mptt.experiments.memory.units import OperatingPoint, cores_of, output_units
from mptt.metrics import NSE, RMSE

_AT_ONCE = 2**25  # numbers of states that a pass holds
_MOST_COUNTS = 33
HoldAt = Literal["mean", "zero"]


def scores_without(
    run: OpenedRun,
    held: Bools,
    point: OperatingPoint,
    part: str = "test",
    sites: Sequence[str] | None = None,
    hold_at: HoldAt = "mean",
) -> pd.DataFrame:
    """Scores with units held at a constant, in sequential stateful inference, the whole part long.

    Held at its mean a unit says nothing any more and all else stays near where it was; at zero, where it may never have
    been, the error is also that of a bias.

    Args:
        run: opened.
        held: (A, U) which units, in the order of `output_units`, in each of A passes.
        point: whose mean they are held at.
        part: "train", "validation" or "test".
        sites: names; by default all that the part has.
        hold_at: "mean" or "zero".

    Returns:
        A row for each pass and target: held (their number), target, and the medians over sites of nse and rmse, the
        latter in the target's unit.
    """
    cores = cores_of(run)
    if hold_at not in ("mean", "zero"):
        raise MPTTError(f"hold_at is mean or zero, found {hold_at!r}.")
    values = point.mean[output_units(run)] if hold_at == "mean" else torch.zeros(held.shape[1])
    numbers = site_numbers(run, sites, part)
    data = run.data
    series = len(data.sites) * len(data.targets)
    scores: dict[str, Metric] = {"nse": NSE(len(held) * series), "rmse": RMSE(len(held) * series)}
    loader = data.series_dataloader() if part == "train" else data.evaluation_dataloader(part)
    first_batch = next(iter(loader))
    rows_steps = first_batch["x"].shape[0] * first_batch["x"].shape[1]
    for first in range(0, len(held), most := max(_AT_ONCE // (rows_steps * run.network.state_size), 1)):
        which = torch.from_numpy(held[first : first + most])
        carried: dict[int, Tensor] = {}  # of a site, (A, S)
        for batch in loader:
            chosen = torch.tensor([int(site) in numbers for site in batch["site"]])
            if not chosen.any():
                continue
            batch = {name: one[chosen] for name, one in batch.items()}
            rows = len(batch["x"])
            fresh = run.network.zeros(1).expand(len(which), -1)
            initial = torch.stack([carried.get(site, fresh) for site in batch["site"].tolist()], dim=1)  # (A, B, S)
            repeated = {name: one.repeat(len(which), *[1] * (one.ndim - 1)) for name, one in batch.items()}
            with ExitStack() as stack:
                begin = 0
                for layer in cores.values():
                    columns = slice(begin, begin := begin + layer.num_layers * layer.hidden_size)
                    masks = which[:, columns].repeat_interleave(rows, dim=0)
                    stack.enter_context(holding(layer, masks, values[columns]))
                predictions, states = run.network.run(repeated, initial.flatten(0, 1))
            last = states[torch.arange(len(states)), repeated["length"] - 1].unflatten(0, (len(which), rows))
            carried.update(zip(batch["site"].tolist(), last.unbind(1), strict=True))
            _add(run, scores, repeated, predictions.cpu(), first, rows)
    found = {name: metric.compute().reshape(len(held), len(data.sites), -1) for name, metric in scores.items()}
    medians = {name: values.nanmedian(dim=1).values.numpy().ravel() for name, values in found.items()}
    index = {"held": held.sum(1).repeat(len(data.targets)), "target": [*data.targets] * len(held)}
    return pd.DataFrame({**index, **medians})


def scores_in_order(
    run: OpenedRun,
    orders: Mapping[str, npt.NDArray[np.int64]],
    point: OperatingPoint,
    part: str = "test",
    sites: Sequence[str] | None = None,
    hold_at: HoldAt = "mean",
) -> pd.DataFrame:
    """Scores with more and more units held, in given orders.

    Args:
        run: opened.
        orders: by name, each a permutation of the units.
        point: as of `scores_without`.
        part: likewise.
        sites: likewise.
        hold_at: likewise.

    Returns:
        As of `scores_without`, and `order`, its name. Of more than 32 units, 33 numbers of held ones.
    """
    units = len(output_units(run))
    counts = np.unique(np.linspace(0, units, min(units + 1, _MOST_COUNTS)).round().astype(np.int64))
    held = np.concatenate([ablations(order, counts) for order in orders.values()])
    found = scores_without(run, held, point, part, sites, hold_at)
    names = np.repeat(list(orders), len(counts) * len(run.data.targets))
    return pd.concat([pd.Series(names, name="order"), found], axis=1)


def scores_without_each(
    run: OpenedRun,
    point: OperatingPoint,
    part: str = "test",
    sites: Sequence[str] | None = None,
    hold_at: HoldAt = "mean",
) -> npt.NDArray[np.float64]:
    """(U,) how much the NSE, its mean over targets, falls where one unit alone is held."""
    units = len(output_units(run))
    held = np.concatenate([np.zeros((1, units), bool), np.eye(units, dtype=bool)])
    found = scores_without(run, held, point, part, sites, hold_at)["nse"].to_numpy().reshape(len(held), -1).mean(1)
    return found[0] - found[1:]


def random_orders(units: int, number: int, seed: int = 0) -> dict[str, npt.NDArray[np.int64]]:
    """So many permutations by chance: "random 1", "random 2", ..."""
    generator = np.random.default_rng(seed)
    return {f"random {nth + 1}": generator.permutation(units) for nth in range(number)}


def _add(
    run: OpenedRun,
    scores: Mapping[str, Metric],
    batch: dict[str, Tensor],
    predictions: Tensor,
    first: int,
    rows: int,
) -> None:
    """Add the predictions (A B, L, K) of passes from the `first` on to their sums, each target a series of its own."""
    targets, sites = predictions.shape[2], len(run.data.sites)
    scaler, site = run.data.target_scaler, batch["site"]
    ablation = first + torch.arange(len(predictions)) // rows
    series = (ablation * sites + site).unsqueeze(1) * targets + torch.arange(targets)
    simulated, observed, mask = (
        values.transpose(1, 2).flatten(0, 1)
        for values in (scaler.inverse(predictions, site), scaler.inverse(batch["y"], site), batch["mask"])
    )
    for metric in scores.values():
        metric.update(simulated, observed, site=series.flatten(), mask=mask)

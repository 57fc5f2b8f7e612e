"""Predictions put back on the calendar, in physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from mptt.datamodules.batching.ahead import ahead
from mptt.datamodules.batching.batches import Batch
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.site_scaling import SiteScaler

Table = npt.NDArray[np.float32]  # (sites of a part, steps from its first to its last, K)


def place_predictions(
    part: Part, scaler: Scaler | SiteScaler, values: Sequence[Tensor], batches: Sequence[Batch]
) -> Table:
    """The steps of standardised predictions (B, L, K) that each batch keeps, each at its site and date; else NaN."""
    table = _empty(part, scaler)
    entry = np.full(int(part.site.max()) + 1, -1)
    entry[part.site] = np.arange(len(part))
    for value, batch in zip(values, batches, strict=True):
        row, step = np.nonzero(batch["keep"].cpu().numpy())
        slot = entry[batch["site"].cpu().numpy()[row]]
        at = part.begin[slot] - part.begin.min() + batch["start"].cpu().numpy()[row] + step
        table[slot, at] = scaler.inverse(value.detach().float().cpu(), batch["site"].cpu()).numpy()[row, step]
    return table


def place_observations(part: Part, scaler: Scaler | SiteScaler, series: FlatSeries) -> Table:
    """The targets likewise, NaN where they are missing."""
    table = _empty(part, scaler)
    first, step = part.begin - part.begin.min(), part.begin - series.first[part.site]
    for slot in ahead(series, ((slot, part.site[slot : slot + 1]) for slot in range(len(part)))):
        series.require(part.site[slot : slot + 1])
        at, length, row = int(first[slot]), int(part.length[slot]), int(series.offset[part.site[slot]] + step[slot])
        site = torch.tensor(part.site[slot : slot + 1])
        true = scaler.inverse(series.targets[None, row : row + length], site)[0]
        true[~series.observed[row : row + length]] = np.nan
        table[slot, at : at + length] = true.numpy()
    return table


def on_calendar(
    part: Part,
    predicted: Table,
    observed: Table,
    sites: Sequence[str],
    time: pd.Index,
    units: Mapping[str, str],
    long_names: Mapping[str, str],
) -> xr.Dataset:
    """Both tables as variables (site, time): of each target NAME, `NAME` and `NAME_observed`.

    Args:
        part: the part of both.
        predicted: of `place_predictions`.
        observed: of `place_observations`.
        sites: names, by number.
        time: the common time axis.
        units: of each target, in the order of the tables.
        long_names: likewise.
    """
    low = int(part.begin.min())
    coords = {"site": [sites[site] for site in part.site], "time": time[low : low + predicted.shape[1]]}
    variables = {}
    for nth, name in enumerate(units):
        for label, what, table in ((name, "predicted", predicted), (f"{name}_observed", "observed", observed)):
            attrs = {"units": units[name], "long_name": f"{long_names[name]}, {what}"}
            variables[label] = (("site", "time"), table[:, :, nth], attrs)
    return xr.Dataset(variables, coords)


def _empty(part: Part, scaler: Scaler | SiteScaler) -> Table:
    steps = int((part.begin + part.length).max() - part.begin.min())
    return np.full((len(part), steps, len(scaler.names)), np.nan, dtype=np.float32)

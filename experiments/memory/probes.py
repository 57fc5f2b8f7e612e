"""Which stores of water are in the hidden state of a run: linear probes, beside what needs no network to know them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor

from mptt.analysis.probes import SPANS, correlations, fit_ridge, moving_means
from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers, trajectories

STORES = ("SNOmm", "SW_ENDmm", "SA_STmm", "DA_STmm")  # of the simulated basin and of SWAT
AT_MOST = 200_000  # steps that a probe is fitted to
BLOCKS = 10


@dataclass(frozen=True)
class Probed:
    """What probes found.

    Attributes:
        table: a row for each variable: `measured_in`; NSE, squared correlation and RMSE of the probe of all units
            (`nse`, `r2`, `rmse`); `strength` of the ridge; the best unit (`best_unit`, `best_core`, `best_layer`,
            `best_part`), its correlation (`best_r`) and the NSE of reading it alone (`nse_best_unit`); NSE of what
            knows no trained state: `nse_season`, `nse_inputs` (of the day), `nse_moving_inputs` (their means up to a
            year too), and `nse_untrained` of a network of the same shape, the median of several.
        units: a row for each variable and unit: core, layer, unit, part, `r`.
        series: on (site, time) each variable as it was, `NAME`, and as probed, `NAME_probed`; NaN in the warm-up.
    """

    table: pd.DataFrame
    units: pd.DataFrame
    series: xr.Dataset


@dataclass(frozen=True)
class _Part:
    """Steps of a part, (N, .): where they count, and what is there to read from."""

    truth: xr.Dataset
    counted: np.ndarray
    features: dict[str, Tensor]


def probe_stores(
    run: OpenedRun,
    variables: Sequence[str] | None = None,
    part: str = "test",
    fitted_to: str = "train",
    sites: Sequence[str] | None = None,
    untrained: int = 3,
) -> Probed:
    """Read variables off the hidden state by ridge regression, fitted to one part and scored on another.

    Args:
        run: opened.
        variables: of the data set (site, time); by default the stores of a simulated basin that it has.
        part: to score on.
        fitted_to: "train" or "validation"; the warm-up at its start is left out too.
        sites: names; by default all that both parts have.
        untrained: networks of the same shape with new weights to compare with.

    Raises:
        MPTTError: no such part, site or variable; a variable that does not vary; too few steps; nothing to reset in
            the network where `untrained` is 1 or more.
    """
    if part == fitted_to:
        raise MPTTError(f"A probe fitted to the {part} part is to be scored on another; choose test and train.")
    names = list(variables) if variables is not None else _stores(run)
    if sites is None:
        both = [run.data.parts[one].site.tolist() for one in (fitted_to, part)]
        sites = [run.data.sites[site] for site in both[0] if site in both[1]]
    fitted, scored = (_read(run, one, sites, names) for one in (fitted_to, part))
    for seed in range(untrained):
        with untrained_network(run.network.module, seed):
            for one, there in ((fitted_to, fitted), (part, scored)):
                there.features[f"untrained {seed}"] = _flat(trajectories(run, one, sites)["state"])
    rows, units, probed = [], [], {}
    described = described_units(run)
    for name in names:
        row, r, values = _probe(name, fitted, scored)
        best = int(np.abs(r[0]).argmax())
        which = {f"best_{key}": value for key, value in described.iloc[best].items()}
        rows.append({**row, **which, "best_r": r[1][best]})
        units.append(described.assign(variable=name, r=r[1]))
        probed[f"{name}_probed"] = scored.truth[name].copy(data=values)
    found = scored.truth[names].where(scored.truth["counted"])
    columns = ["variable", "core", "layer", "unit", "part", "r"]
    series = found.assign(
        {name: one.where(found[name.removesuffix("_probed")].notnull()) for name, one in probed.items()}
    )
    return Probed(pd.DataFrame(rows), pd.concat(units, ignore_index=True)[columns], series)


@contextmanager
def untrained_network(module: pl.LightningModule, seed: int) -> Iterator[None]:
    """Within it, a module has new weights, as its layers draw them.

    Raises:
        MPTTError: no layer of it can draw weights.
    """
    layers = [layer for layer in module.modules() if callable(getattr(layer, "reset_parameters", None))]
    if not layers:
        raise MPTTError(f"No layer of {type(module).__name__} has reset_parameters; probe it with untrained=0.")
    trained = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in layers:
                reset: Callable[[], None] = layer.reset_parameters  # type: ignore[assignment]
                reset()
        yield
    finally:
        module.load_state_dict(trained)


def _probe(
    name: str, fitted: _Part, scored: _Part
) -> tuple[dict[str, object], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The scores of every reader of a variable, correlations of the units in both parts, and the probed series."""
    here, there = (_known(one, name) for one in (fitted, scored))
    thinned = here[np.linspace(0, len(here) - 1, min(AT_MOST, len(here))).astype(np.int64)]
    y = _flat(fitted.truth[name])[thinned].unsqueeze(1)
    shape = scored.truth[name].shape
    blocks = torch.from_numpy(thinned) % shape_of(fitted)[1] * BLOCKS // shape_of(fitted)[1]
    target = _flat(scored.truth[name])[there]
    site = there // shape[1]

    def read(features: str, columns: slice | list[int] = slice(None)) -> tuple[np.ndarray, dict[str, float], float]:
        probe = fit_ridge(fitted.features[features][thinned][:, columns], y, blocks)
        values = np.full(shape[0] * shape[1], np.nan, dtype=np.float32)
        values[there] = probe.predict(scored.features[features][there][:, columns].unsqueeze(1))[:, 0].numpy()
        return values.reshape(shape), _scores(values[there], target.numpy(), site), probe.strength

    if len(here) < 2 * BLOCKS or not len(there):
        raise MPTTError(
            f"{name} is known at {len(here)} steps to fit to and {len(there)} to score on, after the warm-up."
        )
    if not float(y.std()) > 0:
        raise MPTTError(f"{name} does not vary in the part that a probe is fitted to.")
    r = [
        correlations(part.features["state"][rows], _flat(part.truth[name])[rows].unsqueeze(1))[:, 0].numpy()
        for part, rows in ((fitted, here), (scored, there))
    ]
    values, scores, strength = read("state")
    row: dict[str, object] = {
        "variable": name,
        "measured_in": scored.truth[name].attrs.get("units", ""),
        **scores,
        "strength": strength,
        "nse_best_unit": read("state", [int(np.abs(r[0]).argmax())])[1]["nse"],
    }
    for features in ("season", "inputs", "moving_inputs"):
        row[f"nse_{features}"] = read(features)[1]["nse"]
    others = [read(one)[1]["nse"] for one in fitted.features if one.startswith("untrained")]
    row["nse_untrained"] = float(np.median(others)) if others else np.nan
    return row, (r[0], r[1]), values


def shape_of(part: _Part) -> tuple[int, int]:
    """Sites and steps of a part."""
    return part.truth.sizes["site"], part.truth.sizes["time"]


def _read(run: OpenedRun, part: str, sites: Sequence[str], names: Sequence[str]) -> _Part:
    """Variables, states and inputs of a part."""
    found = trajectories(run, part, sites, [name for name in names if name not in run.data.targets])
    for name in set(names) & set(run.data.targets):
        found[name] = found[f"{name}_observed"]
    there = found["state"].notnull().all("unit")
    # A part is one stretch of its site; in training, too, the state needs a while to come from zero.
    found["counted"] = there & (there.cumsum("time") > run.data.warmup)
    inputs = _inputs(run, part, sites, found)
    day = (found["time"].dt.dayofyear.values - 1) / 365.25 * 2 * np.pi
    waves = np.stack([wave(turns * day) for turns in (1, 2, 3) for wave in (np.sin, np.cos)], axis=1)
    moving = torch.cat([moving_means(one, SPANS) for one in inputs])
    features = {
        "state": _flat(found["state"]),
        "season": torch.from_numpy(np.tile(waves, (len(sites), 1))),
        "inputs": inputs.flatten(0, 1),
        "moving_inputs": moving,
    }
    return _Part(found, found["counted"].values.ravel(), features)


def _inputs(run: OpenedRun, part: str, sites: Sequence[str], like: xr.Dataset) -> Tensor:
    """(site, time, F) what the network is fed, standardised; zeros where a site has no data."""
    stretch, numbers = run.data.parts[part], site_numbers(run, sites, part)
    low = int(stretch.begin.min())
    begin = dict(zip(stretch.site.tolist(), (stretch.begin - low).tolist(), strict=True))
    slot = {site: row for row, site in enumerate(numbers)}
    found = torch.zeros(len(numbers), like.sizes["time"], 0)
    for batch in run.data.series_dataloader() if part == "train" else run.data.evaluation_dataloader(part):
        if not found.shape[2]:
            found = torch.zeros(*found.shape[:2], batch["x"].shape[2])
        for row, site in enumerate(batch["site"].tolist()):
            if site in slot:
                at, length = begin[site] + int(batch["start"][row]), int(batch["length"][row])
                found[slot[site], at : at + length] = batch["x"][row, :length]
    return found


def _known(part: _Part, name: str) -> np.ndarray:
    return np.flatnonzero(part.counted & part.truth[name].notnull().values.ravel())


def _flat(values: xr.DataArray) -> Tensor:
    """(site x time,) or (site x time, unit)."""
    return torch.from_numpy(np.ascontiguousarray(values.values)).flatten(0, 1)


def _scores(found: np.ndarray, truth: np.ndarray, site: np.ndarray) -> dict[str, float]:
    """Median over sites of the NSE; squared correlation and RMSE over all steps."""
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    each = []
    for one in np.unique(site):
        some, error = truth[site == one], (found - truth)[site == one]
        varies = float(np.square(some - some.mean()).sum())
        each.append(1 - float(np.square(error).sum()) / varies if varies > 0 else np.nan)
    r = float(np.corrcoef(found, truth)[0, 1]) if found.std() > 0 and truth.std() > 0 else np.nan
    return {"nse": float(np.nanmedian(each)), "r2": r**2, "rmse": float(np.sqrt(np.square(found - truth).mean()))}


def described_units(run: OpenedRun) -> pd.DataFrame:
    """Core, layer, number in its layer, and part (h or c) of each number in the state."""
    units = pd.DataFrame(run.network.units, columns=["core", "layer", "part"])
    return units.assign(unit=units.groupby(["core", "layer", "part"]).cumcount())


def _stores(run: OpenedRun) -> list[str]:
    dataset = run.data.load()
    if found := [name for name in STORES if name in dataset]:
        return found
    there = [str(name) for name in dataset.data_vars if set(dataset[name].dims) == {"site", "time"}]
    raise MPTTError(f"The data of {run.name} have no simulated stores; name variables to probe, of {listed(there)}.")

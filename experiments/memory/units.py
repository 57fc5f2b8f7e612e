"""What the units of a run do: their responses by themselves, and what is lost without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from mptt.analysis.ablation import slowest_first
from mptt.analysis.decoupled import check_units, decouple
from mptt.analysis.response import (
    HORIZON,
    PERIODS,
    at_rest,
    frequency_response,
    initial_state,
    step_metrics,
    step_response,
)
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers, walk
from mptt.recurrent import RecurrentLayer, recurrent_layers

Array = npt.NDArray[np.float64]
BELOW = "layer below"


@dataclass(frozen=True)
class OperatingPoint:
    """Where the states and the inputs of a run are, over all sites and steps of a part after its warm-up.

    Attributes:
        inputs: (F,) mean of the standardised inputs.
        mean: (S,) of the states.
        covariance: (S, S) of the states.
    """

    inputs: Tensor
    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class UnitResponses:
    """Responses of the units of a run.

    Attributes:
        units: a row for each unit, in the order of the state: core, layer, unit, and of the input that moves it most
            (`input`) what `steps` has.
        steps: a row for each unit and input: change, delay, rise, settling, overshoot, as of `step_metrics`;
            and `moved`, how far it got in twice the horizon, which is the change where it settles.
        frequencies: a row for each unit, input and period: gain, lag.
        paths: (units, T) the response to the input that moves it most, from 0 to 1; NaN where it does not settle.
    """

    units: pd.DataFrame
    steps: pd.DataFrame
    frequencies: pd.DataFrame
    paths: Array


def cores_of(run: OpenedRun) -> dict[str, RecurrentLayer]:
    """The recurrent layers whose states are those of the run, by name.

    Raises:
        MPTTError: the core is another (explicit mode), or its units cannot be told apart.
    """
    layers = recurrent_layers(run.network.module)
    names = list(dict.fromkeys(core for core, _, _ in run.network.units))
    if unknown := [name for name in names if name not in layers]:
        raise MPTTError(
            f"The units of {type(run.network.module).__name__} cannot be taken apart: its core ({', '.join(unknown)})"
            " is no nn.RNN, nn.GRU or nn.LSTM."
        )
    for name in names:
        check_units(layers[name], name)
    return {name: layers[name] for name in names}


def output_units(run: OpenedRun) -> list[int]:
    """Where in the state the outputs h of the units are: of an LSTM, one number of two."""
    return [at for at, (_, _, part) in enumerate(run.network.units) if part == "h"]


def operating_point(run: OpenedRun, part: str = "test", sites: Sequence[str] | None = None) -> OperatingPoint:
    """Mean inputs and states of a part, fed in order; what is fed before it is scored does not count."""
    size = run.network.state_size
    count, inputs, total = 0, torch.zeros(1), torch.zeros(size).double()
    products = torch.zeros(size, size).double()
    warmup = run.data.warmup if part != "train" else 0
    for batch, _, _, states in walk(run, part, site_numbers(run, sites, part)):
        step = batch["start"].unsqueeze(1) + torch.arange(states.shape[1])
        counted = batch["keep"] & (step >= warmup)
        some = states.cpu().double()[counted]
        inputs = inputs + batch["x"].double()[counted].sum(0)
        count, total, products = count + len(some), total + some.sum(0), products + some.T @ some
    if not count:
        raise MPTTError(f"The {part} part of {run.name} has no step after its warm-up of {warmup}.")
    mean = total / count
    return OperatingPoint(inputs / count, mean, products / count - mean.outer(mean))


def input_names(run: OpenedRun) -> list[str]:
    """The columns of `x`, by name."""
    data = run.data
    lagged = [f"{name} before" for name in data.targets] if data.lagged_columns else []
    return [*data.input_names, *data.attribute_names, *lagged]


def unit_responses(
    run: OpenedRun, point: OperatingPoint, horizon: int = HORIZON, periods: Sequence[float] = PERIODS
) -> UnitResponses:
    """What each unit, cut off from the others, makes of a step and of sines of each of its inputs.

    Units of the first layer get each input variable by itself, one standard deviation up from its mean, the others at
    their mean. Units of a layer above get what the units below do most: all of them at once, one standard deviation
    along the first principal component of their states. Before, each comes to rest under mean inputs, from its mean.

    Args:
        run: opened.
        point: where to ask, as of `operating_point`.
        horizon: steps within which a unit settles, or does not.
        periods: of the sines; those longer than the horizon are left out.

    Raises:
        MPTTError: as of `cores_of`; another number of inputs than the data have.
    """
    periods = [period for period in periods if period <= horizon]
    tables: dict[str, list[pd.DataFrame]] = {"units": [], "steps": [], "frequencies": []}
    paths = []
    for core, layer in cores_of(run).items():
        for number in range(layer.num_layers):
            alone = decouple(layer, number, point.mean[_places(run, core, number, "h")])
            base, directions, names = _drive(run, core, layer, number, point)
            places = _places(run, core, number, "h") + _places(run, core, number, "c")
            rest = at_rest(alone, base, initial_state(alone, point.mean[places]), 2 * horizon)
            response = step_response(alone, base, directions, rest, horizon)
            found = step_metrics(response) | {"moved": response.path[:, -1] - response.start}
            sign = np.sign(np.nan_to_num(response.path[:, -1] - response.start))
            gain, lag = frequency_response(alone, base, directions, rest, sign, periods, horizon)
            where: dict[str, Any] = {"core": core, "layer": number}
            steps = pd.DataFrame({**_index(names, layer.hidden_size), **{k: v.T.ravel() for k, v in found.items()}})
            tables["steps"].append(steps.assign(**where))
            frequencies = {"gain": gain, "lag": lag}
            rows = pd.MultiIndex.from_product([range(layer.hidden_size), names, periods])
            waves = {name: values.transpose(2, 0, 1).ravel() for name, values in frequencies.items()}
            index = dict(zip(("unit", "input", "period"), map(rows.get_level_values, range(3)), strict=True))
            tables["frequencies"].append(pd.DataFrame({**index, **waves}).assign(**where))
            # Of a unit that does not settle, how far it got stands for how far it goes.
            moved = np.abs(response.path[:, -1] - response.start)
            main = moved.argmax(0)
            unit = np.arange(layer.hidden_size)
            tables["units"].append(steps.iloc[unit * len(names) + main].assign(**where))
            change = response.path[main, -1, unit] - response.start
            with np.errstate(divide="ignore", invalid="ignore"):
                paths.append((response.path[main, :, unit] - response.start[:, None]) / change[:, None])
    whole = {name: _in_order(pd.concat(parts, ignore_index=True)) for name, parts in tables.items()}
    return UnitResponses(**whole, paths=np.concatenate(paths))


def rankings(responses: UnitResponses) -> dict[str, npt.NDArray[np.int64]]:
    """Orders of the units by their responses, the first the most: to the input that moves each most.

    "settling time" is ours: what the memory of a network is made of are its slow units, and the question is whether
    they matter. "change" and "annual gain" ask which units move far, after a step and with the seasons.
    """
    units, waves = responses.units, responses.frequencies
    year = min(waves["period"].unique(), key=lambda period: abs(np.log(period / 365)))
    at_year = units.merge(waves[waves["period"] == year], on=["core", "layer", "unit", "input"], how="left")
    change = units["moved"].abs()
    return {
        "settling time": slowest_first(units["settling"], units["moved"]),
        "change": np.argsort(-change.to_numpy(), kind="stable"),
        "annual gain": np.argsort(-at_year["gain"].to_numpy(), kind="stable"),
    }


def _places(run: OpenedRun, core: str, layer: int, part: str) -> list[int]:
    return [at for at, unit in enumerate(run.network.units) if unit == (core, layer, part)]


def _drive(
    run: OpenedRun, core: str, layer: RecurrentLayer, number: int, point: OperatingPoint
) -> tuple[Tensor, Tensor, list[str]]:
    """Mean inputs (F,) of a layer, what is added to them (D, F), and the names of that."""
    if number:
        below = _places(run, core, number - 1, "h")
        variance, axes = torch.linalg.eigh(point.covariance[below][:, below])
        direction = axes[:, -1] * variance[-1].clamp(min=0).sqrt()
        # Which way round an eigenvector is found is chance.
        direction = direction * direction[direction.abs().argmax()].sign()
        return point.mean[below], direction.unsqueeze(0), [BELOW]
    names = input_names(run)
    if layer.input_size != len(names):
        raise MPTTError(
            f"{core} has {layer.input_size} inputs, and the data {len(names)} ({', '.join(names)}): what a step of a"
            " variable does to its units cannot be said. Use the functions of mptt.analysis with its own inputs."
        )
    return point.inputs, torch.eye(len(names)), names


def _index(names: Sequence[str], size: int) -> dict[str, npt.NDArray[np.object_ | np.int64]]:
    return {"unit": np.arange(size).repeat(len(names)), "input": np.array([*names] * size)}


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    first = ["core", "layer", "unit", "input"]
    return table[[*first, *(name for name in table if name not in first)]]

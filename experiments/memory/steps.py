"""How much each step of the past counts, in the hidden states of a run read linearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mptt.analysis.timesteps import NeuroViewHead, contribution, efficiency, fit_probe, lags_to
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import site_numbers, walk

_LEAST = 20  # windows


@dataclass(frozen=True)
class StepContributions:
    """How much each step counts.

    Attributes:
        lags: a row for each target and lag: weight, contribution, share (as of `Contribution`: weight, term, share),
            and the band `low` to `high` of the share, 1.645 standard errors to either side by the jackknife over ten
            blocks of time; NaN for a head.
        summary: a row for each target: reader ("head" of a `NeuroViewRegressor`, or "probe"), steps, windows, strength
            and grade of the ridge, half and nine_tenths (lags up to which so much of the contribution lies), and the
            NSE over windows of the scored part of the network itself, and of probes of the last state and of all.
    """

    lags: pd.DataFrame
    summary: pd.DataFrame


@dataclass(frozen=True)
class StateWindows:
    """Windows of a part.

    Attributes:
        states: (N, L, S) lag 0, the last step, first.
        targets: (N, K) standardised, of the last step.
        predictions: (N, K) of the network.
    """

    states: Tensor
    targets: Tensor
    predictions: Tensor


def state_windows(
    run: OpenedRun, part: str, steps: int, windows: int = 1000, sites: Sequence[str] | None = None
) -> StateWindows:
    """Hidden states of the last so many steps, at observed steps that are spread over the sites and the time of a part.

    Of several layers the last is read, of an LSTM h, of a core of another kind the whole state.

    Args:
        run: opened.
        part: "train", "validation" or "test"; fed in order, the state carried.
        steps: in a window; it ends where targets are observed, and its last step is scored.
        windows: so many at most.
        sites: names; by default all that the part has.

    Raises:
        MPTTError: too few such windows.
    """
    numbers = site_numbers(run, sites, part)
    stretch = run.data.parts[part]
    not_scored = max(steps - 1, run.data.warmup if part != "train" else 0)
    every = max(int((stretch.length[np.isin(stretch.site, numbers)] - not_scored).clip(0).sum()) // windows, 1)
    read = _read_units(run)
    ends: dict[int, Tensor] = {}
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch, _, predictions, states in walk(run, part, numbers):
        for row, site in enumerate(batch["site"].tolist()):
            start, length = int(batch["start"][row]), int(batch["length"][row])
            own = torch.cat([ends.get(site, states.new_empty(0, len(read))), states[row, :length, read]])
            ends[site] = own[max(len(own) - steps + 1, 0) :].clone()
            scored = (batch["mask"][row, :length].all(1) & batch["keep"][row, :length]).nonzero().squeeze(1)
            # Other sites at other times of the year, where each has but a few.
            scored = scored[(scored + start) % every == site * 7919 % every]
            scored = scored[scored + len(own) - length >= steps - 1]
            last = scored + len(own) - length
            lagged = own[last.unsqueeze(1) - torch.arange(steps)]
            found.append((lagged.cpu(), batch["y"][row, scored], predictions[row, scored].cpu()))
    parts = [torch.cat(tensors) for tensors in zip(*found, strict=True)]
    if len(parts[0]) < _LEAST:
        raise MPTTError(
            f"The {part} part of {run.name} has {len(parts[0])} windows of {steps} steps with targets, and at least"
            f" {_LEAST} are needed; take fewer steps."
        )
    return StateWindows(*parts)


def step_contributions(
    run: OpenedRun,
    steps: int = 365,
    windows: int = 1000,
    fitted: str = "train",
    part: str = "test",
    sites: Sequence[str] | None = None,
) -> StepContributions:
    """How much the hidden state of each step counts for the target of the last.

    Of a `NeuroViewRegressor` its own head says it. Of any other network a probe does: ridge regression of the observed
    target on the states of the last `steps` steps, the network frozen.

    Args:
        run: opened.
        steps: that a probe reads; a head has its own number.
        windows: of either part, at most.
        fitted: part that the probe is fitted to.
        part: that all are scored on.
        sites: names; by default all.

    Raises:
        MPTTError: as of `state_windows`.
    """
    head = getattr(run.network.module, "head", None)
    scored_steps = head.steps if isinstance(head, NeuroViewHead) else steps
    test = state_windows(run, part, scored_steps, windows, sites)
    own = efficiency(test.predictions.double(), test.targets)
    targets = run.data.targets
    if isinstance(head, NeuroViewHead):
        counts = contribution(head.by_lag(), test.states)
        band = torch.full((2, *counts.share.shape), torch.nan)
        about = {"reader": "head", "strength": np.nan, "grade": np.nan, "nse_last": np.nan, "nse_all": own.numpy()}
    else:
        train = state_windows(run, fitted, scored_steps, windows, sites)
        probe = fit_probe(train.states, train.targets, jackknife=True)
        last = fit_probe(train.states[:, :1], train.targets)
        counts = contribution(probe.weights, train.states)
        apart = 1.645 * probe.spread
        band = torch.stack([(counts.share - apart).clamp(min=0), counts.share + apart])
        about = {
            "reader": "probe",
            "strength": probe.strength,
            "grade": probe.grade,
            "nse_last": efficiency(last.predict(test.states[:, :1]), test.targets).numpy(),
            "nse_all": efficiency(probe.predict(test.states), test.targets).numpy(),
        }
    named = {"weight": counts.weight, "contribution": counts.term, "share": counts.share, "low": band[0]}
    columns = {name: values.T.flatten().numpy() for name, values in (named | {"high": band[1]}).items()}
    index = {"target": np.repeat(targets, scored_steps), "lag": np.tile(np.arange(scored_steps), len(targets))}
    share = counts.share.numpy().T
    summary = {
        "target": targets,
        **about,
        "steps": scored_steps,
        "windows": len(test.targets),
        "half": [lags_to(one, 0.5) for one in share],
        "nine_tenths": [lags_to(one, 0.9) for one in share],
        "nse_network": own.numpy(),
    }
    order = [
        "target",
        "reader",
        "steps",
        "windows",
        "strength",
        "grade",
        "half",
        "nine_tenths",
        "nse_network",
        "nse_last",
    ]
    return StepContributions(pd.DataFrame({**index, **columns}), pd.DataFrame(summary)[[*order, "nse_all"]])


def _read_units(run: OpenedRun) -> list[int]:
    """Where in the state the outputs of the last layers are."""
    units = run.network.units
    last = {core: max(layer for name, layer, _ in units if name == core) for core, _, _ in units}
    return [at for at, (core, layer, part) in enumerate(units) if part == "h" and layer == last[core]]

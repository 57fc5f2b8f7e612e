"""Hot start: evaluation that goes on from states of an earlier one, and leaves its own for the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor, nn

from mptt.callbacks.dates import date_text, seconds_of, step_seconds
from mptt.callbacks.states import Unit, check_states, only_finite, open_states, states_dataset
from mptt.errors import MPTTError
from mptt.fingerprint import fingerprint
from mptt.timeline import Timeline
from mptt.windows import Int64Array

States = str | Path | xr.Dataset
Missing = Literal["refuse", "zeros"]


@dataclass
class _Pass:
    """An evaluation pass over one loader, and where it has come to.

    Attributes:
        timeline: of its data; None where sites and steps are numbers only.
        units: of each number of a state.
        weights: checksum of the module.
        processes: that share it.
        site, stop, states, last: of each site, its number, the step after its last, the state (sites, S), and the last
            prediction (sites, K) where that is carried.
    """

    timeline: Timeline | None
    units: list[Unit]
    weights: str
    processes: int
    site: Int64Array
    stop: Int64Array
    states: Tensor
    last: Tensor | None = None


class HotStart:
    """What a callback takes up where an evaluation begins, and keeps where it ends.

    Args:
        owner: the callback's name, for messages.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._passes: dict[int, _Pass] = {}
        self._pass: _Pass | None = None
        self._given: xr.Dataset | None = None
        self._source = ""

    def open(self, given: States | None, missing: Missing, closed_loop: bool) -> None:
        """Before anything runs: read what is given, and forget what the last evaluation left.

        Raises:
            MPTTError: it is no states, or not those of this way of inference.
        """
        self.forget()
        self._given, self._missing = None, missing
        if given is None:
            return
        self._source = "initial_states" if isinstance(given, xr.Dataset) else str(given)
        found = check_states(given, self._source) if isinstance(given, xr.Dataset) else open_states(given)
        if closed_loop != ("prediction" in found):
            of, other = ("closed-loop", "another") if "prediction" in found else ("another", "closed-loop")
            raise MPTTError(
                f"The states of {self._source} are of {of} inference, and {self._owner} is {other}: a state goes on"
                " only in the way of inference that it came of."
            )
        self._given = found
        self._dated = "time" in found
        if self._dated:
            self._moment, self._calendar = seconds_of(found["time"].values)
        else:
            self._moment = found["stop"].values.astype(np.int64)
        self._values = torch.from_numpy(found["state"].values.copy())
        self._last = torch.from_numpy(found["prediction"].values.copy()) if closed_loop else None

    def forget(self) -> None:
        """Forget what was reached: an evaluation that broke off has nothing to go on from."""
        self._passes, self._pass = {}, None

    def begin(self, trainer: pl.Trainer, module: pl.LightningModule, units: Sequence[Unit], loader: int) -> None:
        """At the first batch of a loader: see what it is a pass over, and that the states given are for it.

        Raises:
            MPTTError: they are of another network, calendar or time step.
        """
        timeline, nothing = timeline_of(trainer, loader), np.empty(0, dtype=np.int64)
        self._pass = _Pass(timeline, list(units), "", trainer.world_size, nothing, nothing, torch.empty(0))
        if self._given is not None:
            self._pass.weights = _weights(module)
            self._check_model(self._given, self._pass)
            self._check_time(self._given, timeline)

    def initial(
        self, site: Int64Array, start: Int64Array, opens: npt.NDArray[np.bool_], fresh: Tensor | None
    ) -> Tensor | None:
        """The states (B, S) of rows that open a series; `fresh` (S,), or zeros, in the others, and where none is given.

        Raises:
            MPTTError: a site has no state, or one that is not of the step before its first.
        """
        if self._given is None:
            return fresh
        self._slot = np.full(len(site), -1)
        self._slot[opens] = self._find(site[opens], start[opens])
        return self._filled(self._values, self._values.new_zeros(1) if fresh is None else fresh)

    def last(self, observed: Tensor) -> Tensor:
        """The last predictions (B, K) of the same rows, likewise."""
        return observed if self._given is None or self._last is None else self._filled(self._last, observed)

    def keep(
        self,
        module: nn.Module,
        loader: int,
        kept: tuple[Int64Array, Int64Array, Tensor],
        last: Tensor | None,
    ) -> None:
        """Keep what was reached.

        Args:
            module: that was run.
            loader: number of the loader.
            kept: of each site its number, the step after its last, and the state (sites, S).
            last: (sites, K) its last prediction, where that is carried.
        """
        if self._pass is not None:
            one, (site, stop, states) = self._pass, kept
            # Not before it ran: lazy layers have no weights until then.
            one.weights = one.weights or _weights(module)
            one.site, one.stop, one.states, one.last = site, stop, states, last
            self._passes[loader] = one

    def dataset(self, loader: int | None) -> xr.Dataset:
        """The states reached, by site; one that was not fed, or whose state is not finite, keeps the one given.

        Raises:
            MPTTError: there are none, or those of several loaders, or of several processes.
        """
        if not self._passes:
            raise MPTTError(
                f"{self._owner} has no states: they are those at the end of a sequential stateful evaluation"
                " (trainer.validate, test or predict, or validation within fit), and none has finished yet."
            )
        if loader is None and len(self._passes) > 1:
            raise MPTTError(f"The evaluation had {len(self._passes)} loaders; say with loader= whose states, from 0.")
        if (chosen := self._passes.get(loader or 0)) is None:
            raise MPTTError(f"There is no loader {loader}; there are {', '.join(map(str, self._passes))}.")
        if chosen.processes > 1:
            raise MPTTError(
                f"The evaluation ran in {chosen.processes} processes, each of which has the states of its sites only;"
                " evaluate with Trainer(devices=1) to export them."
            )
        reached = only_finite(_as_dataset(chosen))
        if self._given is not None:
            rest = self._given.drop_sel(site=reached["site"].values, errors="ignore")
            if rest.sizes["site"]:
                alike: Any = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "override"}
                reached = xr.concat([reached, rest], "site", combine_attrs="override", **alike)
        return reached

    def _filled(self, values: Tensor, otherwise: Tensor) -> Tensor:
        taken = torch.from_numpy(self._slot)
        values, otherwise = values[taken.clamp(min=0)].to(otherwise.device), otherwise.detach()
        where = (taken >= 0).unsqueeze(1).to(otherwise.device)
        return torch.where(where, values, otherwise.to(values.dtype))

    def _find(self, site: Int64Array, start: Int64Array) -> Int64Array:
        """(B,) where the states of sites are that begin with these steps; -1 for none."""
        assert self._given is not None
        assert self._pass is not None
        timeline = self._pass.timeline
        names = np.array(_names(timeline, site), dtype=object)
        slot = self._given.indexes["site"].get_indexer(pd.Index(names))
        if (lacking := slot < 0).any() and self._missing == "refuse":
            listed = ", ".join(names[lacking][:5]) + (f" and {lacking.sum() - 5} more" if lacking.sum() > 5 else "")
            raise MPTTError(
                f"{self._source} has no state of {lacking.sum()} site(s): {listed}. Leave them out, or let them start"
                ' from the initial state, as new sites do, with missing_states="zeros".'
            )
        known = np.flatnonzero(slot >= 0)
        if timeline is None:
            self._check_steps(names[known], start[known], slot[known])
        else:
            self._check_dates(timeline, site[known], names[known], start[known], slot[known])
        return np.asarray(slot, dtype=np.int64)

    def _check_steps(self, names: npt.NDArray[Any], start: Int64Array, slot: Int64Array) -> None:
        stop = self._moment[slot]
        if (off := stop != start).any():
            row = int(off.argmax())
            raise MPTTError(
                f"The state of site {names[row]} in {self._source} is that before step {stop[row]}, but its series"
                f" begins with step {start[row]}{_others(off)}. Without dates, steps count on: let batch['start'] be"
                f" {stop[row]}; or give the data a timeline, which says what date a step is (mptt.Timeline)."
            )

    def _check_dates(
        self, timeline: Timeline, site: Int64Array, names: npt.NDArray[Any], start: Int64Array, slot: Int64Array
    ) -> None:
        """Check that each state is of the step before the first that is fed."""
        if not len(site):
            return
        at, moment = timeline.at(site, start), self._moment[slot]
        first, _ = seconds_of(timeline.time[at])
        before, _ = seconds_of(timeline.time[np.maximum(at - 1, 0)])
        shortest, longest = self._step or (1, np.iinfo(np.int64).max)
        # Of the first date on the axis, the one before it is a step away.
        fits = np.where(at > 0, moment == before, (first - moment >= shortest) & (first - moment <= longest))
        if (off := ~fits).any():
            row = int(off.argmax())
            last, begins = (date_text(int(one[row]), self._calendar) for one in (moment, first))
            why = (
                f"which the state has seen already: begin with the step after {last}, or take up an earlier state"
                if moment[row] >= first[row]
                else f"so that there is a gap: feed the steps after {last} too"
            )
            raise MPTTError(
                f"The state of site {names[row]} in {self._source} is of {last}, but its series begins with {begins}"
                f"{_others(off)}, {why}."
            )

    def _check_model(self, given: xr.Dataset, here: _Pass) -> None:
        theirs = list(zip(*(given[name].values.tolist() for name in ("core", "layer", "part")), strict=True))
        if theirs != here.units:
            raise MPTTError(
                f"The states of {self._source} are of another network: {_described(theirs)}; here it is"
                f" {_described(here.units)}."
            )
        self._check_sum("weights", here.weights, "other weights", "Load the checkpoint that they came of (ckpt_path=)")

    def _check_time(self, given: xr.Dataset, timeline: Timeline | None) -> None:
        if (timeline is not None) != self._dated:
            have, lack = (self._source, "the data") if self._dated else ("the data", self._source)
            raise MPTTError(
                f"{have} have names and dates, {lack} only numbers of sites and steps: to be taken up, both must have"
                " them. Give the evaluation loader's data set, or the DataModule, an attribute `timeline`"
                " (mptt.Timeline(sites, time))."
            )
        if timeline is None:
            return
        _, calendar = seconds_of(timeline.time[:1])
        if calendar != self._calendar:
            raise MPTTError(
                f"The states of {self._source} are of the calendar {self._calendar}, the data of {calendar}; dates of"
                " one are not those of the other. Convert the data, or make the states anew."
            )
        theirs = tuple(np.atleast_1d(given.attrs["step_seconds"]).tolist()) if "step_seconds" in given.attrs else None
        self._step = step_seconds(timeline.time) or theirs
        even = [one for one in (self._step, theirs) if one is not None and one[0] == one[1]]
        if len(even) == 2 and even[0] != even[1]:
            raise MPTTError(
                f"The states of {self._source} are of steps of {even[1][0]} s, the data have steps of {even[0][0]} s;"
                " a network goes on only in the steps that it was trained with."
            )
        why = "Load the scalers of the run with its checkpoint (ckpt_path=), and give the same inputs in the same order"
        self._check_sum("inputs", timeline.inputs, "inputs that were made in another way (names, scalers)", why)

    def _check_sum(self, name: str, here: str, what: str, way_out: str) -> None:
        assert self._given is not None
        theirs = self._given.attrs.get(name, "")
        if theirs and here and theirs != here:
            raise MPTTError(
                f"The states of {self._source} are of {what}: checksum {theirs}, here {here}. {way_out}, or make the"
                " states anew. To take them up all the same: states = mptt.callbacks.open_states(path);"
                f' del states.attrs["{name}"]; initial_states=states.'
            )


def timeline_of(trainer: pl.Trainer, loader: int) -> Timeline | None:
    """The timeline of the data of an evaluation loader, by number; else that of the DataModule; None without."""
    loaders: Any = {
        "validate": trainer.val_dataloaders,
        "sanity_check": trainer.val_dataloaders,
        "test": trainer.test_dataloaders,
        "predict": trainer.predict_dataloaders,
    }.get(str(trainer.state.stage and trainer.state.stage.value))
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        loaders = loaders[loader]
    for source in (getattr(loaders, "dataset", None), loaders, trainer.datamodule):  # type: ignore[attr-defined]
        if isinstance(found := getattr(source, "timeline", None), Timeline):
            return found
    return None


def _as_dataset(one: _Pass) -> xr.Dataset:
    timeline = one.timeline
    states = one.states.detach().cpu()
    when: dict[str, Any] = {"stop": one.stop}
    if timeline is not None:
        when = {"time": np.asarray(timeline.dates(one.site, one.stop - 1))}
        if when["time"].dtype.kind == "M":
            when["time"] = when["time"].astype("datetime64[s]")
        step = step_seconds(timeline.time)
        when |= {"step_seconds": None if step is None else np.array(step), "inputs": timeline.inputs}
    return states_dataset(
        _names(timeline, one.site),
        states.to(torch.float64 if states.dtype == torch.float64 else torch.float32).numpy(),
        one.units,
        prediction=None if one.last is None else one.last.detach().cpu().float().numpy(),
        weights=one.weights,
        **when,
    )


def _weights(module: nn.Module) -> str:
    # What else a module keeps need not come out the same in another process.
    return fingerprint({name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)})


def _names(timeline: Timeline | None, site: Int64Array) -> list[str]:
    return [str(number) for number in site] if timeline is None else timeline.names(site)


def _described(units: Sequence[Unit]) -> str:
    """As in "gru, 2 layers, 64 numbers (h)"."""
    found = []
    for core in dict.fromkeys(unit[0] for unit in units):
        own = [unit for unit in units if unit[0] == core]
        parts = "+".join(dict.fromkeys(part for _, _, part in own))
        found.append(f"{core}, {len({layer for _, layer, _ in own})} layer(s), {len(own)} numbers ({parts})")
    return "; ".join(found)


def _others(off: npt.NDArray[np.bool_]) -> str:
    more = int(off.sum()) - 1
    return f" (and so {more} more site(s))" if more else ""

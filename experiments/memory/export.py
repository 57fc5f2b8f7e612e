"""The memory of a run as a data set: a message a window, with its site and dates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from mptt.callbacks.checkpoints import in_our_form
from mptt.errors import MPTTError
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.memory.trajectories import walk
from mptt.files import cannot_write, draft_folder, written_whole
from mptt.keymap import KeyMap
from mptt.statemap import StateMap
from mptt.timeline import Timeline
from mptt.windows import WindowIndex

SAVED = "mptt_memory"  # in a checkpoint
_CHUNK = 2**22  # numbers in a chunk of a file: 16 MiB
Unit = tuple[str, int, str]


def memory_dataset(run: OpenedRun, states: bool = False) -> xr.Dataset:
    """The messages in the checkpoint of a run.

    Args:
        run: opened.
        states: walk along the training series, in order and with the weights of the checkpoint, and put beside each
            message the true state.

    Returns:
        As of `dataset_of_memory`, and with `states` on (window, unit) `state`, what the pass leaves at the start of a
        window, and on window `distance` between both, relative to the root mean square distance between the states of
        two different windows. Attributes `run` and `strategy`, too.

    Raises:
        MPTTError: the checkpoint has no memory, or one of other windows.
    """
    saved = run.checkpoint.get(SAVED)
    if saved is None:
        raise MPTTError(
            f"The checkpoint of {run.name} holds no MPTT memory: it was trained with {run.strategy}. Only runs with an"
            " MPTTCallback (--strategy MPTT-delta1 and the like) have messages."
        )
    own = None if run.training is None else run.training.windows
    windows = run.data.windows if own is None else own
    part = run.data.parts["train"]
    begin = np.zeros(len(run.data.sites), dtype=np.int64)
    begin[part.site] = part.begin
    timeline = Timeline(run.data.sites, run.data.time, begin)
    with in_our_form("memory of MPTT"):
        found = dataset_of_memory(saved, windows, timeline, run.network.units)
    found = found.assign_attrs(run=run.name, strategy=str(run.strategy))
    return _beside_states(found, _true_states(run, windows)) if states else found


def dataset_of_memory(
    state: Mapping[str, Any],
    windows: WindowIndex,
    timeline: Timeline | None = None,
    units: Sequence[Unit] | None = None,
) -> xr.Dataset:
    """The messages of a memory, such as that of a callback: `dataset_of_memory(callback.layers.state_dict(), windows)`.

    Args:
        state: of a `mptt.callbacks.memory.Memory`, as in checkpoints under "mptt_memory".
        windows: that it is of.
        timeline: names and dates of sites and steps; without, their numbers stand alone.
        units: of each number in a state, the core's name, the number of its layer, and "h" or "c".

    Returns:
        On (window, unit) `message`, float32, as a read gives it; in the middle of an epoch also `mean`, that of the
        epoch's writes so far. On window `count` of these writes, `last_write`, the epoch of the last (-1: none yet),
        and `age`, in epochs until now, NaN without a message. Coordinates of a window: `site` (a name, or a number),
        `start` and `length` in steps of the training part, and `start_time` and `end_time` of its first and last step;
        of a unit: `core`, `layer` and `part`. Attributes: `delta`, and `epoch`, the one that is read from the messages.

    Raises:
        MPTTError: the memory is of other windows.
    """
    parts = list(_layers(state, windows))
    count = next(iter(state["maps"].values()))["count"].cpu().numpy()
    written = state["last_write"].cpu().numpy()
    age = np.where(written >= 0, state["epoch"] - written, np.nan)
    variables: dict[str, Any] = {
        "message": (("window", "unit"), np.concatenate([message for message, _ in parts], axis=1)),
        "count": ("window", count, {"long_name": "writes to the message in this epoch so far"}),
        "last_write": ("window", written, {"long_name": "epoch in which the message was last written to; -1: never"}),
        "age": ("window", age, {"long_name": "epochs since the message was last written to", "units": "epochs"}),
    }
    variables["message"] += ({"long_name": "message: state in which the window starts"},)
    if count.any():
        mean = np.concatenate([mean for _, mean in parts], axis=1)
        variables["mean"] = (("window", "unit"), mean, {"long_name": "mean of the writes of this epoch so far"})
    site: Any = windows.site if timeline is None else np.array(timeline.sites)[windows.site]
    coordinates: dict[str, Any] = {
        "window": np.arange(len(windows)),
        "site": ("window", site),
        "start": ("window", windows.start, {"long_name": "first step, counted in the training part"}),
        "length": ("window", windows.length, {"long_name": "steps"}),
    }
    if timeline is not None:
        coordinates["start_time"] = "window", timeline.dates(windows.site, windows.start)
        coordinates["end_time"] = "window", timeline.dates(windows.site, windows.stop - 1)
    if units is not None:
        for nth, name in enumerate(("core", "layer", "part")):
            coordinates[name] = "unit", np.array([unit[nth] for unit in units])
    delta = float(next(iter(state["maps"].values()))["delta"])
    return xr.Dataset(variables, coordinates, {"delta": delta, "epoch": int(state["epoch"])})


def write_memory(memory: xr.Dataset, path: str | Path) -> None:
    """Write a data set of messages as NetCDF, or, where the name ends in .zarr, as a Zarr store; whole or not at all.

    Args:
        memory: of `memory_dataset`.
        path: of the file or the store; one that is there is replaced.

    Raises:
        MPTTError: it cannot be written, or the folder that is there is no Zarr store.
    """
    path = Path(path)
    memory = memory.assign_attrs(Conventions="CF-1.10", title="Messages between training windows")
    encoding: dict[str, Any] = {}
    for name in ("start_time", "end_time"):
        if name in memory:
            clock = memory[name].dt
            daily = not ((clock.hour != 0) | (clock.minute != 0) | (clock.second != 0)).any()
            encoding[name] = {"units": f"{'days' if daily else 'seconds'} since 1900-01-01", "dtype": "int64"}
    rows = max(min(_CHUNK // memory.sizes["unit"], memory.sizes["window"]), 1)
    tables = [str(name) for name, values in memory.data_vars.items() if values.ndim == 2]
    if path.suffix == ".zarr":
        # Zarr has no form yet for texts of fixed width.
        texts = [name for name in ("site", "core", "part") if name in memory and memory[name].dtype.kind == "U"]
        memory = memory.assign_coords({name: memory[name].astype(object) for name in texts})
        encoding |= {name: {"chunks": (rows, memory.sizes["unit"])} for name in tables}
        _write_store(memory, path, encoding)
        return
    encoding |= {name: {"zlib": True, "complevel": 4, "chunksizes": (rows, memory.sizes["unit"])} for name in tables}
    with written_whole(path) as draft:
        try:
            memory.to_netcdf(draft, encoding=encoding)
        except RuntimeError as error:  # of the NetCDF library, for whatever the disk says
            raise OSError(f"{error}") from error


def _layers(state: Mapping[str, Any], windows: WindowIndex) -> Any:
    """Message and mean of the epoch's writes of each layer, (N, S) in float32."""
    for one in state["maps"].values():
        kept = StateMap(windows, one["state_size"], one["delta"], dtype=one["mu"].dtype)
        kept.load_state_dict(one)
        message = kept.read_rows(torch.arange(len(windows)))
        yield message.float().numpy(), kept.mean.float().numpy()


def _true_states(run: OpenedRun, windows: WindowIndex) -> Tensor:
    """(N, S) what a pass in order leaves at the start of each window."""
    keymap, states = KeyMap(windows), run.network.zeros(len(windows)).cpu().clone()
    for batch, _, _, passed in walk(run, "train"):
        site, start, length = (batch[name].cpu().numpy() for name in ("site", "start", "length"))
        row, target, position = keymap.reach(site, start, length)
        states[target] = passed[row, position].cpu()
    return states


def _beside_states(found: xr.Dataset, states: Tensor) -> xr.Dataset:
    spread = (2 * (states - states.mean(0)).square().sum() / max(len(states) - 1, 1)).sqrt()
    distance = (torch.from_numpy(found["message"].values) - states).norm(dim=1) / spread
    about = "distance between message and state, relative to that between the states of two windows"
    return found.assign(
        state=(("window", "unit"), states.numpy(), {"long_name": "state that a pass in order leaves at the start"}),
        distance=("window", distance.numpy(), {"long_name": about}),
    )


def _write_store(memory: xr.Dataset, path: Path, encoding: dict[str, Any]) -> None:
    if path.exists() and not (path / "zarr.json").is_file():
        raise MPTTError(f"{path} is there, and is no Zarr store; give another name, or remove it.")
    try:
        with draft_folder(path) as draft:
            memory.to_zarr(draft / "store", encoding=encoding, zarr_format=3, consolidated=False)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(draft / "store", path)
    except OSError as error:
        raise cannot_write(path, error) from error

"""States of sites as a data set, and as a file: NetCDF, or safetensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from mptt.callbacks.dates import SINCE, calendar_name, dates_of, seconds_of
from mptt.errors import MPTTError, MPTTWarning
from mptt.files import written_whole
from mptt.hdf5 import check_hdf5, know_hdf5

Unit = tuple[str, int, str]  # the core that a number of the state is of, the number of its layer, and h or c
_UNIT = ("core", "layer", "part")
_FORMATS = ".nc or .safetensors"


def states_dataset(
    sites: Sequence[str],
    states: npt.NDArray[Any],
    units: Sequence[Unit],
    time: Any = None,
    stop: npt.NDArray[np.int64] | None = None,
    prediction: npt.NDArray[Any] | None = None,
    **attributes: Any,
) -> xr.Dataset:
    """States as a data set with dimensions site and unit.

    Args:
        sites: names.
        states: (site, unit).
        units: of each number, the core, the number of its layer, and "h" or "c".
        time: (site,) date of the last step that went into each; None where there are no dates.
        stop: then the number of the step after it.
        prediction: (site, target) at that step, of closed-loop inference.
        attributes: `weights`, `inputs`, `step_seconds`.
    """
    coords: dict[str, Any] = {"site": list(sites), "unit": np.arange(len(units))}
    coords |= {name: ("unit", [unit[nth] for unit in units]) for nth, name in enumerate(_UNIT)}
    variables: dict[str, Any] = {"state": (("site", "unit"), states, {"long_name": "recurrent state after the step"})}
    if time is not None:
        attributes["calendar"] = seconds_of(time)[1]
        variables["time"] = ("site", time, {"long_name": "last step that went into the state"})
    if stop is not None:
        variables["stop"] = ("site", stop, {"long_name": "number of the step after the last that went into the state"})
    if prediction is not None:
        variables["prediction"] = (("site", "target"), prediction, {"long_name": "prediction at that step"})
    attributes = {name: value for name, value in attributes.items() if np.size(value) and value is not None}
    about = {"title": "States of a recurrent network", "mptt_version": version("mptt")}
    return xr.Dataset(variables, coords, {**about, **attributes})


def only_finite(states: xr.Dataset) -> xr.Dataset:
    """The sites whose states are finite; a warning names the others.

    Raises:
        MPTTError: none is.
    """
    lost = _not_finite(states)
    if not len(lost):
        return states
    listed = _listed(lost)
    if len(lost) == states.sizes["site"]:
        raise MPTTError(
            f"The state of no site is finite ({listed}), so there is none to go on from: look at the inputs."
        )
    warnings.warn(
        f"The state of {len(lost)} site(s) is not finite, and is not kept: {listed}. An earlier one that it went on"
        " from is; feed the steps since then again, without NaN.",
        MPTTWarning,
        stacklevel=4,
    )
    return states.drop_sel(site=lost)


def save_states(states: xr.Dataset, path: str | Path) -> None:
    """Write states as NetCDF (.nc) or .safetensors, whole or not at all.

    Raises:
        MPTTError: another ending, safetensors without the package of that name, or it cannot be written.
    """
    path = Path(path)
    tensors = _is_safetensors(path)
    plain = _dates_as_numbers(states)
    with written_whole(path) as draft:
        if tensors:
            about = plain.drop_vars(list(_numbers(plain))).to_dict()
            _safetensors().torch.save_file(
                {name: torch.from_numpy(plain[name].values.copy()) for name in _numbers(plain)},
                draft,
                {"states": json.dumps(about, default=lambda value: value.tolist())},
            )
        else:
            try:
                plain.to_netcdf(draft, engine="netcdf4")
            except RuntimeError as error:  # of the NetCDF library, for whatever the disk says
                raise OSError(str(error)) from error
    know_hdf5(path)


def open_states(path: str | Path) -> xr.Dataset:
    """The states in a file of `save_states`.

    Raises:
        MPTTError: there is no such file, or it holds no states.
    """
    path = Path(path)
    tensors = _is_safetensors(path)
    if not path.is_file():
        raise MPTTError(f"There are no states {path}: callback.save_states(path) writes them after an evaluation.")
    try:
        check_hdf5(path)
        plain = _read_safetensors(path) if tensors else xr.load_dataset(path, engine="netcdf4", decode_times=False)
    except MPTTError:
        raise
    except Exception as error:  # each format and version has its own
        raise MPTTError(f"{path} cannot be read as states ({error}); it may be damaged. Make them anew.") from error
    return _dates_from_numbers(check_states(plain, str(path)))


def check_states(states: xr.Dataset, source: str) -> xr.Dataset:
    """Check that a data set is one of states.

    Raises:
        MPTTError: it lacks something, names a site twice, or has numbers that are not finite.
    """
    needed = {"state", "site", *_UNIT} - {str(name) for name in states.variables}
    if needed or not {"time", "stop"} & set(states.variables) or states["state"].dims != ("site", "unit"):
        raise MPTTError(
            f"{source} holds no states: they have state (site, unit), time or stop (site,), and {', '.join(_UNIT)} of"
            f" each unit, as callback.save_states(path) writes them; found {', '.join(map(str, states.variables))}."
        )
    sites = states.indexes["site"]
    if not sites.is_unique:
        raise MPTTError(f"{source} has several states of {_listed(sites[sites.duplicated()].unique())}; keep one each.")
    if len(lost := _not_finite(states)):
        raise MPTTError(
            f"{source} has states that are not finite, of {len(lost)} site(s): {_listed(lost)}. Leave these sites out,"
            " and make their states anew."
        )
    return states


def _not_finite(states: xr.Dataset) -> npt.NDArray[Any]:
    """Names of the sites with a state, or a prediction, that is NaN or infinite."""
    good = np.isfinite(states["state"].values).all(axis=1)
    if "prediction" in states:
        good &= np.isfinite(states["prediction"].values).all(axis=1)
    return np.asarray(states["site"].values[~good])


def _numbers(plain: xr.Dataset) -> list[str]:
    return [name for name in ("state", "time", "stop", "prediction") if name in plain]


def _dates_as_numbers(states: xr.Dataset) -> xr.Dataset:
    states = states.copy()
    states.encoding = {}
    for variable in states.variables.values():
        variable.encoding = {}
    if "time" in states:
        seconds, calendar = seconds_of(states["time"].values)
        states["time"] = ("site", seconds, {**states["time"].attrs, "units": SINCE, "calendar": calendar})
    return states.assign_attrs(Conventions="CF-1.10")


def _dates_from_numbers(plain: xr.Dataset) -> xr.Dataset:
    if "time" in plain:
        about = dict(plain["time"].attrs)
        about.pop("units", None)
        calendar = calendar_name(about.pop("calendar", "standard"))
        plain["time"] = ("site", dates_of(plain["time"].values, calendar), about)
    return plain


def _read_safetensors(path: Path) -> xr.Dataset:
    with _safetensors().safe_open(path, framework="pt") as file:
        if "states" not in (file.metadata() or {}):
            raise MPTTError(f"{path} holds no states: callback.save_states(path) writes them after an evaluation.")
        plain = xr.Dataset.from_dict(json.loads(file.metadata()["states"]))
        dims = {"state": ("site", "unit"), "prediction": ("site", "target")}
        for name in file.keys():  # noqa: SIM118
            values = file.get_tensor(name).numpy()
            plain[name] = (dims.get(name, ("site",)), values, {"calendar": plain.attrs.get("calendar", "standard")})
            if name != "time":
                plain[name].attrs = {}
    return plain


def _is_safetensors(path: Path) -> bool:
    if path.suffix not in (".nc", ".safetensors"):
        raise MPTTError(f"States are kept in files that end in {_FORMATS}, found {path.name!r}.")
    if path.suffix == ".safetensors":
        _safetensors()
        return True
    return False


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MPTTError(
            'States in .safetensors need the package safetensors: pip install "mptt[safetensors]"; or use .nc.'
        ) from error
    return safetensors


def _listed(names: Any, most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more

"""The predictions of a run: scored, written and read again, and their errors along a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mptt.errors import MPTTError
from mptt.experiments import figures
from mptt.files import written_whole
from mptt.hdf5 import check_hdf5, know_hdf5
from mptt.metrics import KGE, NSE, PBIAS, RMSE
from mptt.windows import Int64Array

METRICS = {"rmse": RMSE, "nse": NSE, "kge": KGE, "pbias": PBIAS}


def score_table(predictions: xr.Dataset) -> pd.DataFrame:
    """Scores as a long table: target, site, rmse, nse, kge, pbias; NaN for a series without scored observations.

    Args:
        predictions: as `predictions.nc`.
    """
    scored = figures.scored_steps(predictions)
    rows = []
    for target in figures.targets_of(predictions):
        simulated, observed = (torch.from_numpy(predictions[name].values) for name in (target, f"{target}_observed"))
        each: dict[str, Metric | MetricCollection] = {name: make(len(simulated)) for name, make in METRICS.items()}
        for metric in each.values():
            # One process of several may ask for this table, and has all predictions.
            metric.distributed_available_fn = lambda: False
        metrics = MetricCollection(each)
        mask = torch.from_numpy(scored.values) & ~observed.isnan()
        metrics.update(simulated, observed, site=torch.arange(len(simulated)), mask=mask)
        scores = {name: np.atleast_1d(values.numpy()) for name, values in metrics.compute().items()}
        rows += [
            {"target": target, "site": str(site), **{name: float(scores[name][row]) for name in METRICS}}
            for row, site in enumerate(predictions["site"].values)
        ]
    return pd.DataFrame(rows, columns=["target", "site", *METRICS])


def save_predictions(predictions: xr.Dataset, path: Path, outdated: Sequence[str] = ()) -> None:
    """Write predictions as NetCDF, whole or not at all.

    Args:
        predictions: as of a DataModule.
        path: of the file.
        outdated: names of files beside it that were made from the predictions of before; removed.

    Raises:
        MPTTError: it cannot be written; what was there before is kept.
    """
    write_series(predictions.assign_attrs(title="Predictions and observations"), path, outdated)


def write_series(series: xr.Dataset, path: Path, outdated: Sequence[str] = ()) -> None:
    """Write variables along (site, time) as NetCDF, whole or not at all.

    CF time in whole days or seconds, which hold any calendar.

    Args:
        series: with `site` and `time`.
        path: of the file.
        outdated: names of files beside it that were made from the series of before; removed.

    Raises:
        MPTTError: it cannot be written; what was there before is kept.
    """
    series = series.assign_attrs(Conventions="CF-1.10")
    series["site"].attrs.update(cf_role="timeseries_id", long_name="site")
    series["time"].attrs.update(standard_name="time", long_name="time")
    # NetCDF keeps the slash for groups.
    series = series.rename({name: str(name).replace("/", "_per_") for name in series.data_vars})
    encoding: dict[str, Any] = {str(name): {"zlib": True, "complevel": 4} for name in series.data_vars}
    clock = series["time"].dt
    daily = not ((clock.hour != 0) | (clock.minute != 0) | (clock.second != 0)).any()
    encoding["time"] = {"units": f"{'days' if daily else 'seconds'} since 1900-01-01", "dtype": "int64"}
    with written_whole(path) as draft:
        try:
            series.to_netcdf(draft, encoding=encoding)
        except RuntimeError as error:  # of the NetCDF library, for whatever the disk says
            raise OSError(f"{error}") from error
        # Before, so that no kill leaves them beside what they are not of.
        for name in outdated:
            path.with_name(name).unlink(missing_ok=True)
    know_hdf5(path)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table that a run wrote, such as `metrics.csv`; `site` as text.

    Args:
        path: of the file.
        columns: that it must have.

    Raises:
        MPTTError: it cannot be read, lacks a column, or is cut short.
    """
    try:
        table = pd.read_csv(path, dtype={"site": str})
        whole = path.read_bytes().endswith(b"\n")
    except (OSError, UnicodeDecodeError, ValueError, pd.errors.ParserError) as error:
        raise _damaged_table(path, str(error).strip()) from error
    if lacking := [name for name in columns if name not in table]:
        raise _damaged_table(path, f"it lacks {', '.join(lacking)}")
    if not whole:
        raise _damaged_table(path, "it is cut short")
    return table


def _damaged_table(path: Path, why: str) -> MPTTError:
    return MPTTError(
        f"{path} cannot be read ({why}). Remove the folder {path.parent} and repeat the run; metrics.csv is written by"
        f" `mptt fit`, scores.csv and steps.csv also by `mptt test --config {path.parent / 'config.yaml'}`."
    )


def open_predictions(folder: Path) -> xr.Dataset:
    """The predictions of a run; its time may run past the year 2262.

    Raises:
        MPTTError: they are not there, or damaged.
    """
    path = folder / "predictions.nc"
    try:
        check_hdf5(path)
        return xr.open_dataset(path, decode_times=xr.coders.CFDatetimeCoder(time_unit="s"))
    except MPTTError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are bytes in it
        said = str(error).partition("\n")[0]
        raise MPTTError(
            f"{path} cannot be read ({said}). Make it anew: mptt test --config {folder}/config.yaml"
        ) from error


def step_errors(
    predictions: xr.Dataset, data: Any, values: Sequence[Tensor], batches: Sequence[dict[str, Tensor]]
) -> pd.DataFrame | None:
    """Squared errors by position in the window, of inference that goes window by window.

    All steps of a window that are observed and past the warm-up count, also those that it only repeats.

    Args:
        predictions: as of `data.predictions("test", values, batches)`.
        data: the DataModule.
        values: standardised predictions (B, L, K) of each batch.
        batches: with `site` and `start`.

    Returns:
        A long table of sums over windows, in squared physical units: target, site, step (from 0), squared_error, count.
        None where the DataModule does not say that it goes window by window, or where each series begins.
    """
    lacking = [name for name in ("parts", "sites", "target_scaler") if not hasattr(data, name)]
    if getattr(data, "evaluation", "sequential") == "sequential" or lacking:
        return None
    targets, part = figures.targets_of(predictions), data.parts["test"]
    scored = _scored_observations(predictions, part.begin - part.begin.min(), part.length)
    slot = np.full(len(data.sites), -1)
    slot[part.site] = np.arange(len(part.site))
    # Along steps last, so that the rows of the table come out in order.
    squared = np.zeros((len(targets), len(part.site), max(value.shape[1] for value in values)))
    count = np.zeros(squared.shape, dtype=np.int64)
    # A batch at a time: overlapping windows together are longer than the series.
    for value, batch in zip(values, batches, strict=True):
        simulated = (
            data.target_scaler.inverse(value.float(), batch["site"]).numpy().astype(np.float64).transpose(2, 0, 1)
        )
        row, steps = slot[batch["site"].numpy()], simulated.shape[2]
        step = batch["start"].numpy()[:, None] + np.arange(steps)
        observed = scored[:, row[:, None], np.minimum(step, scored.shape[2] - 1)]  # (K, B, L)
        counted = ~np.isnan(observed) & (step < part.length[row, None])
        for nth in range(len(targets)):
            np.add.at(squared[nth, :, :steps], row, np.where(counted[nth], (simulated - observed)[nth] ** 2, 0.0))
            np.add.at(count[nth, :, :steps], row, counted[nth])
    target, site, position = np.nonzero(count)
    columns = {
        "target": np.array(targets)[target],
        "site": predictions["site"].values[site],
        "step": position,
        "squared_error": squared[target, site, position],
        "count": count[target, site, position],
    }
    return pd.DataFrame(columns)


def _scored_observations(predictions: xr.Dataset, begin: Int64Array, length: Int64Array) -> npt.NDArray[np.float64]:
    """Observations (targets, sites, step of the site's part), NaN where there is none or it is not scored."""
    observed = np.stack([predictions[f"{name}_observed"].values for name in figures.targets_of(predictions)])
    step = np.arange(length.max())
    at = np.minimum(begin[:, None] + step, observed.shape[2] - 1)
    scored = (step >= int(predictions.attrs.get("warmup_steps", 0))) & (step < length[:, None])
    here = observed[:, np.arange(len(begin))[:, None], at].astype(np.float64)
    here[:, ~scored] = np.nan
    return here

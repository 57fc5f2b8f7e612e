"""The DataModule for any set of series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader

from mptt.datamodules.batches import (
    Batch,
    LaneBatches,
    ShuffleSampler,
    Stretches,
    TrainingWindows,
    cut_windows,
    independent_stretches,
    sequential_stretches,
)
from mptt.datamodules.checks import (
    Values,
    as_float32,
    check_choice,
    check_complete,
    check_dataset,
    check_targets,
    check_whole,
    site_names,
)
from mptt.datamodules.flat import FlatSeries, lay_end_to_end
from mptt.datamodules.namespaces import LightningDataModule
from mptt.datamodules.parts import PARTS, Part, Split, split_parts
from mptt.datamodules.scaling import Scaler
from mptt.errors import MPTTError
from mptt.windows import WindowIndex

HOST = ("window", "site", "start", "length")


class SeriesDataModule(LightningDataModule):
    """Windows of many series for training, the whole series in order for evaluation.

    A site's record is the stretch in which it has inputs; sites may have different ones. Inputs must be complete in it,
    missing targets are masked. Inputs, attributes and targets are standardised over the training part.

    A training batch is a dict with `x` (B, L, F), `y` (B, L, K), `mask` (B, L, K; where y is observed) and `window`
    (B,), the ids that the memory needs. An evaluation batch has, in place of `window`, `site`, `start` and `length`
    (B,; the site's number, the first step, counted in the part, and the number of steps) and `keep` (B, L; steps that
    are new and inside the part); its mask leaves out the warm-up.

    Subclasses for a given data set override `load`.

    Args:
        dataset: dimensions (site, time), or the path of a Zarr store or NetCDF file with such.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,), repeated along time as further inputs.
        split: three fractions of each site's record, or the first and last date of each of train, validation, test.
        window: steps in a training window.
        stride: steps from one window's start to the next.
        warmup: steps at the start of validation and test that are fed but not scored.
        batch_size: windows in a training batch.
        order: "shuffled", or "lanes": row r of a batch goes on where row r of the last stopped (stride = window).
        evaluation: "sequential": each series in order; "independent": half-overlapping windows from zero state, of
            each the steps that are new.
        chunk: steps in a batch of sequential evaluation.
        sites_at_once: sites in a batch of sequential evaluation.
        seed: of the shuffling; None: the one that seed_everything set.
        num_workers: processes that cut batches; data in memory need none.

    Attributes:
        windows: from `setup` on, as all of these; the WindowIndex of the training part, its starts counted in the part.
        sites: names of the sites.
        time: the common time axis.
        units, long_names: of each target.
        parts: "train", "validation" and "test", each the stretches of the sites.
        input_scaler, attribute_scaler, target_scaler: fitted to the training part, or those of a checkpoint.

    Example:
        >>> import pandas as pd
        >>> time = pd.date_range("2000-01-01", periods=2000, unit="s")
        >>> rain = xr.DataArray(np.random.rand(1, 2000), coords={"site": ["a"], "time": time})
        >>> dataset = xr.Dataset({"rain": rain, "flow": rain.cumsum("time")})
        >>> data = SeriesDataModule(dataset, inputs=["rain"], targets=["flow"])
        >>> data.setup("fit")
        >>> data.windows
        WindowIndex(5 windows, 1 sites, length 366)
    """

    sites: list[str]
    time: pd.Index
    units: dict[str, str]
    long_names: dict[str, str]
    parts: dict[str, Part]
    windows: WindowIndex
    input_scaler: Scaler
    attribute_scaler: Scaler
    target_scaler: Scaler

    def __init__(
        self,
        dataset: xr.Dataset | str | Path | None = None,
        *,
        inputs: Sequence[str],
        targets: Sequence[str],
        attributes: Sequence[str] = (),
        split: Split = (0.5, 0.1, 0.4),
        window: int = 366,
        stride: int = 183,
        warmup: int = 0,
        batch_size: int = 64,
        order: Literal["shuffled", "lanes"] = "shuffled",
        evaluation: Literal["sequential", "independent"] = "sequential",
        chunk: int = 3650,
        sites_at_once: int = 256,
        seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        for name, names in (("inputs", inputs), ("targets", targets), ("attributes", attributes)):
            if isinstance(names, str):
                raise MPTTError(f"{name} is a list of names; for one variable, [{names!r}].")
        check_whole(1, window=window, stride=stride, batch_size=batch_size, chunk=chunk, sites_at_once=sites_at_once)
        check_whole(0, warmup=warmup, num_workers=num_workers)
        check_choice("order", order, ("shuffled", "lanes"))
        check_choice("evaluation", evaluation, ("sequential", "independent"))
        self.inputs, self.targets, self.attributes = list(inputs), list(targets), list(attributes)
        self.split, self.window, self.stride, self.warmup = split, window, stride, warmup
        self.batch_size, self.order, self.evaluation = batch_size, order, evaluation
        self.chunk, self.sites_at_once, self.seed, self.num_workers = chunk, sites_at_once, seed, num_workers
        self._dataset = dataset
        self._series: FlatSeries | None = None

    @property
    def input_size(self) -> int:
        """Inputs of the model: variables and attributes."""
        return len(self.inputs) + len(self.attributes)

    @property
    def output_size(self) -> int:
        """Outputs of the model: targets."""
        return len(self.targets)

    def load(self) -> xr.Dataset:
        """The data set, dimensions (site, time), missing values NaN."""
        if self._dataset is None:
            raise MPTTError(f"{type(self).__name__} has no dataset; pass one, or override load().")
        if isinstance(self._dataset, xr.Dataset):
            return self._dataset
        if not isinstance(self._dataset, str | Path):
            raise MPTTError(
                f"The dataset is an xarray.Dataset or a path, found a {type(self._dataset).__name__}; see"
                " DataArray.to_dataset(name=...) and xarray.Dataset.from_dataframe."
            )
        return open_dataset(self._dataset)

    def setup(self, stage: str | None = None) -> None:
        """Load, check, split, scale and cut; once, whatever the stage."""
        if self._series is not None:
            return
        dataset = self.load()
        check_dataset(dataset, self.inputs, self.targets, self.attributes)
        self.sites = site_names(dataset)
        self.time = dataset.indexes["time"]
        self.units = {name: str(dataset[name].attrs.get("units", "")) for name in self.targets}
        self.long_names = {name: str(dataset[name].attrs.get("long_name", name)) for name in self.targets}
        inputs, targets = _values(dataset, self.inputs), _values(dataset, self.targets)
        present = np.logical_or.reduce([np.isfinite(values) for values in inputs.values()])  # (site, time)
        first, last = present.argmax(axis=1), present.shape[1] - present[:, ::-1].argmax(axis=1)
        step = np.arange(present.shape[1])
        recorded = (step >= first[:, None]) & (step < last[:, None]) & present.any(axis=1, keepdims=True)
        check_complete(inputs, recorded, self.sites, self.time)
        self.parts = split_parts(self.time, first, last, self.split, self.warmup)
        check_targets(targets, self.parts, self.warmup, self.sites)
        self.windows = cut_windows(
            self.parts["train"], self.window, self.stride, self.sites, disjoint=self.order == "lanes"
        )
        y = lay_end_to_end(targets.values(), recorded)
        series = FlatSeries(
            lay_end_to_end(inputs.values(), recorded),
            torch.from_numpy(np.stack([dataset[name].values for name in self.attributes], 1).astype(np.float32))
            if self.attributes
            else torch.empty(len(self.sites), 0),
            y,
            y.isfinite(),
            (last - first).cumsum() - (last - first),
            first,
        )
        self._standardise(series)
        self._series = series

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of windows, in the order asked for."""
        dataset = TrainingWindows(self._ready(), self.parts["train"], self.windows)
        if self.order == "lanes":
            return self._loader(dataset, batch_sampler=LaneBatches(self.windows, self.batch_size))
        seed = torch.initial_seed() % 2**31 if self.seed is None else self.seed
        return self._loader(dataset, batch_size=self.batch_size, sampler=ShuffleSampler(len(dataset), seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation part."""
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test part."""
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test part."""
        return self.evaluation_dataloader("test")

    def series_dataloader(self) -> DataLoader[Batch]:
        """The training part, each series once and in order: what linkage reconstruction walks along."""
        return self._loader(self._sequential("train", warmup=0), batch_size=None)

    def evaluation_dataloader(self, part: str) -> DataLoader[Batch]:
        """One of the parts, as `evaluation` says."""
        if part not in PARTS:
            raise MPTTError(f"There is no part {part!r}; parts are {', '.join(PARTS)}.")
        warmup = 0 if part == "train" else self.warmup
        if self.evaluation == "sequential":
            return self._loader(self._sequential(part, warmup), batch_size=None)
        stretches = independent_stretches(
            self._ready(), self.parts[part], self.batch_size, self.window, max(self.window // 2, 1), warmup
        )
        return self._loader(stretches, batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, but for the integers that say what it holds: callbacks look them up on the host.

        From a GPU they would have to be waited for.
        """
        return {
            name: values if name in HOST else values.to(device, non_blocking=True) for name, values in batch.items()
        }

    def predictions(self, part: str, values: Sequence[Tensor], batches: Sequence[Batch]) -> xr.Dataset:
        """Put standardised predictions of an evaluation pass back on the calendar, in physical units.

        Args:
            part: the part that was evaluated.
            values: (B, L, K) of each batch.
            batches: with `site`, `start` and `keep`.

        Returns:
            For each target NAME, `NAME` (predicted) and `NAME_observed`, on (site, time) over the steps of the part;
            NaN where a site has no data.
        """
        stretch = self.parts[part]
        entry = np.full(len(self.sites), -1)
        entry[stretch.site] = np.arange(len(stretch))
        low, high = int(stretch.begin.min()), int((stretch.begin + stretch.length).max())
        predicted = np.full((len(stretch), high - low, self.output_size), np.nan, dtype=np.float32)
        observed = predicted.copy()
        for value, batch in zip(values, batches, strict=True):
            row, step = np.nonzero(batch["keep"].cpu().numpy())
            slot = entry[batch["site"].cpu().numpy()[row]]
            at = stretch.begin[slot] - low + batch["start"].cpu().numpy()[row] + step
            predicted[slot, at] = self.target_scaler.inverse(value.detach().float().cpu()).numpy()[row, step]
        series = self._ready()
        for slot, (row, begin, length) in enumerate(
            zip(series.rows(stretch), stretch.begin, stretch.length, strict=True)
        ):
            true = self.target_scaler.inverse(series.targets[row : row + length])
            true[~series.observed[row : row + length]] = np.nan
            observed[slot, begin - low : begin - low + length] = true.numpy()
        coords = {"site": [self.sites[site] for site in stretch.site], "time": self.time[low:high]}
        variables = {}
        for nth, name in enumerate(self.targets):
            for label, what, array in ((name, "predicted", predicted), (f"{name}_observed", "observed", observed)):
                attrs = {"units": self.units[name], "long_name": f"{self.long_names[name]}, {what}"}
                variables[label] = (("site", "time"), array[:, :, nth], attrs)
        return xr.Dataset(variables, coords, {"part": part, "warmup_steps": self.warmup if part != "train" else 0})

    def state_dict(self) -> dict[str, Any]:
        """The scalers, as tensors: a checkpoint predicts in physical units."""
        self._ready()
        return {
            "inputs": self.input_scaler.state_dict(),
            "attributes": self.attribute_scaler.state_dict(),
            "targets": self.target_scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scalers of a checkpoint, whatever this data set's own are.

        Raises:
            MPTTError: they are for other variables.
        """
        series = self._ready()
        inputs = Scaler(**state_dict["inputs"]).check(self.inputs)
        attributes = Scaler(**state_dict["attributes"]).check(self.attributes)
        targets = Scaler(**state_dict["targets"]).check(self.targets)
        inputs.change_(series.inputs, self.input_scaler)
        attributes.change_(series.static, self.attribute_scaler)
        targets.change_(series.targets, self.target_scaler)[~series.observed] = 0
        self.input_scaler, self.attribute_scaler, self.target_scaler = inputs, attributes, targets

    def _ready(self) -> FlatSeries:
        if self._series is None:
            self.setup()
        assert self._series is not None
        return self._series

    def _sequential(self, part: str, warmup: int) -> Stretches:
        return sequential_stretches(self._ready(), self.parts[part], self.sites_at_once, self.chunk, warmup)

    def _loader(self, dataset: TrainingWindows | Stretches, **order: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_whole,
            **order,
        )

    def _standardise(self, series: FlatSeries) -> None:
        """Fit the scalers to the training part, and standardise everything by them."""
        part = self.parts["train"]
        training = series.inside(part)
        self.input_scaler = Scaler.fit(self.inputs, series.inputs[training])
        self.attribute_scaler = Scaler.fit(self.attributes, series.static[torch.from_numpy(part.site)])
        self.target_scaler = Scaler.fit(self.targets, series.targets[training])
        self.input_scaler.transform_(series.inputs)
        self.attribute_scaler.transform_(series.static)
        self.target_scaler.transform_(series.targets)[~series.observed] = 0


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open a Zarr store or NetCDF file; dates are datetime64[s], or cftime where the calendar is another.

    Raises:
        MPTTError: there is nothing, or something else.
    """
    path = Path(path)
    if not path.exists():
        raise MPTTError(
            f"No data set at {path} (looked from {Path.cwd()}); give the path of a Zarr store or NetCDF file."
        )
    decoder = xr.coders.CFDatetimeCoder(time_unit="s")  # by default years after 2262 become cftime
    try:
        return xr.open_dataset(path, engine="zarr" if path.is_dir() else None, decode_times=decoder)
    except Exception as error:  # every engine has its own
        raise MPTTError(
            f"{path} cannot be read as a {'Zarr store' if path.is_dir() else 'NetCDF file'}: {error}"
        ) from error


def _values(dataset: xr.Dataset, names: Sequence[str]) -> Values:
    return {name: as_float32(dataset[name].transpose("site", "time").values) for name in names}


def _whole(batch: Any) -> Any:
    return batch

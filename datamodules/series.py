"""The DataModule for any set of series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
import xarray as xr
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mptt.datamodules.batching.ahead import evaluation_order, training_order
from mptt.datamodules.batching.batches import (
    Batch,
    Order,
    TrainingSeries,
    TrainingWindows,
    check_last_steps,
    cut_windows,
    observed_at_ends,
    warn_of_empty_lanes,
)
from mptt.datamodules.batching.lagged import FilledLags, lag_targets, last_observations, warn_of_filled
from mptt.datamodules.batching.predictions import place_observations, place_predictions
from mptt.datamodules.batching.room import room_for_sites
from mptt.datamodules.batching.stored import StoredSeries
from mptt.datamodules.batching.stretches import (
    Stretches,
    conditional_stretches,
    independent_stretches,
    sequential_stretches,
)
from mptt.datamodules.namespaces import LightningDataModule
from mptt.datamodules.preparing.checks import (
    check_choice,
    check_complete,
    check_dataset,
    check_targets,
    check_whole,
    check_within,
    site_names,
)
from mptt.datamodules.preparing.derived import Derive, check_derive, derived_sources, to_compute
from mptt.datamodules.preparing.encoding import (
    AttributesMissing,
    AttributesText,
    Encoded,
    complete_sites,
    encode_attributes,
)
from mptt.datamodules.preparing.filling import FillSettings, as_fills, filled_lines, mask_name, masked_inputs
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.memory import check_memory, is_loaded, memory_for_series, row_bytes, tell_where
from mptt.datamodules.preparing.parts import PARTS, Part, Split, TimeSplit
from mptt.datamodules.preparing.preparation import Preparation
from mptt.datamodules.preparing.records import Records
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.site_scaling import SiteScaler
from mptt.datamodules.preparing.site_split import SiteSplit, choose_sites, split_sites
from mptt.datamodules.preparing.standardised import Scalers
from mptt.datamodules.preparing.survey import PartSurvey
from mptt.datamodules.reading.opening import open_dataset
from mptt.errors import MPTTError
from mptt.windows import Int64Array, WindowIndex

Evaluation = Literal["sequential", "independent", "conditional"]
LaggedTarget = Literal["none", "step", "window"]
TargetScaling = Literal["global", "site"]
HOST = ("window", "site", "start", "length")


class SeriesDataModule(LightningDataModule):
    """Windows of many series for training, the whole series in order for evaluation.

    A site's record is the stretch in which it has inputs; sites may have different ones. Inputs must be complete in it,
    or `fill` says how gaps are filled; missing targets are masked. Inputs, attributes and targets are standardised over
    the training part; masks of filled values and columns of categories stay 0 or 1.

    A training batch is a dict with `x` (B, L, F), `y` (B, L, K), `mask` (B, L, K; where y is observed and counts) and
    `window` (B,), the ids that the memory needs. An evaluation batch has, in place of `window`, `site`, `start` and
    `length` (B,; the site's number, the first step, counted in the part, and the number of steps) and `keep` (B, L;
    steps that are new and inside the part); its mask leaves out the warm-up. Columns of `x` are `input_names`,
    `attribute_names`, and the lagged targets, if any: `x[..., -K:]`, in evaluation too the true ones.

    The target of the step before is that of the record's step before, in whatever part that is. Where it is missing,
    the last observation before it in the site's record stands in; where there is none, the training mean, which is 0.

    Subclasses for a given data set override `load`.

    Args:
        dataset: dimensions (site, time), or the path of a Zarr store or NetCDF file with such.
        inputs: variables (site, time); also doy_bent, doy_sin, doy_cos and pet_oudin, computed where there is none.
        targets: variables (site, time).
        attributes: variables (site,), repeated along time as further inputs.
        attributes_missing: what becomes of missing ones: "error"; "drop_site", "drop_attribute": left out; "mean",
            "median": that of the training sites.
        attributes_text: of those that are text: "error"; "onehot": a column for each category of the training sites;
            "drop": left out.
        fill: ways to fill gaps of inputs, one after another, each a `Fill` or a mapping like {method: interpolate,
            limit: 5}; by default gaps are refused.
        derive: what pet_oudin is computed from, {pet_oudin: {temperature: NAME or [LOWEST, HIGHEST], latitude: NAME}};
            by default variables of known names.
        lagged_target: targets as further inputs: "step": at each step those of the step before (teacher forcing);
            "window": those of the step before a window's first, or an evaluation stretch's, at all its steps.
        split: three fractions of each site's record; or the first and last date of each of train, validation, test;
            or such dates by site, or the path of a table of them; None: the whole record, with a `site_split`.
        site_split: sites of each part, by ids, files of ids, fractions or folds, as of `split_sites`; by default every
            site is in every part.
        gap: steps left out between the parts of a site; train gives way to validation, both to test.
        train_steps: use only the last so many steps of each site's training part; a site with less keeps all.
        window: steps in a training window.
        stride: steps from one window's start to the next.
        target_scaling: "global": targets are standardised over all sites; "site": each site by itself, so that all
            weigh alike in the loss.
        predict_last_n: only so many steps at the end of each training window count; all by default.
        warmup: steps at the start of validation and test that are fed but not scored.
        batch_size: windows in a training batch, or series.
        order: "shuffled"; "lanes": row r of a batch goes on where row r of the last stopped; "sequential": in order of
            site and time, one after another in a batch and from batch to batch; both need stride = window.
            "series": whole training series, shuffled, a batch padded at the end; no windows are cut.
        evaluation: "sequential": each series in order; "independent": overlapping windows, of each the steps that are
            new; "conditional": the same, a batch the next window of each of many sites, in time order.
        evaluation_stride: steps from one overlapping window to the next; half a window by default.
        chunk: steps in a batch of sequential evaluation.
        sites_at_once: sites in a batch of sequential or conditional evaluation.
        seed: of the shuffling; None: the one that seed_everything set.
        num_workers: processes that cut batches; data in memory need none, and others take none.
        memory: GiB for the series; by default half of what is free. Series that need more are read, from the store or
            file that the data set is, as batches need them.

    Attributes:
        windows: from `setup` on, as all of these; the WindowIndex of the training part, its starts counted in the part.
        sites: names of the sites that are in use.
        time: the common time axis.
        filled: a table of the gaps of inputs: site, variable, values filled by each method and in all, longest gap.
        notes: what was done to the data, a line each; also logged.
        units, long_names: of each target.
        parts: "train", "validation" and "test", each the stretches of the sites.
        input_scaler, attribute_scaler, target_scaler: fitted to the training part, or those of a checkpoint.

    Example:
        >>> import numpy as np
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
    target_scaler: Scaler | SiteScaler
    filled: pd.DataFrame
    notes: list[str]

    def __init__(
        self,
        dataset: xr.Dataset | str | Path | None = None,
        *,
        inputs: Sequence[str],
        targets: Sequence[str],
        attributes: Sequence[str] = (),
        attributes_missing: AttributesMissing = "error",
        attributes_text: AttributesText = "error",
        fill: FillSettings | Sequence[FillSettings] | None = None,
        derive: Derive | None = None,
        lagged_target: LaggedTarget = "none",
        split: Split = (0.5, 0.1, 0.4),
        site_split: SiteSplit | None = None,
        gap: int = 0,
        train_steps: int | None = None,
        window: int = 366,
        stride: int = 183,
        target_scaling: TargetScaling = "global",
        predict_last_n: int | None = None,
        warmup: int = 0,
        batch_size: int = 64,
        order: Order = "shuffled",
        evaluation: Evaluation = "sequential",
        evaluation_stride: int | None = None,
        chunk: int = 3650,
        sites_at_once: int = 256,
        seed: int | None = None,
        num_workers: int = 0,
        memory: float | None = None,
    ) -> None:
        super().__init__()
        for name, names in (("inputs", inputs), ("targets", targets), ("attributes", attributes)):
            if isinstance(names, str):
                raise MPTTError(f"{name} is a list of names; for one variable, [{names!r}].")
        check_whole(1, window=window, stride=stride, batch_size=batch_size, chunk=chunk, sites_at_once=sites_at_once)
        check_whole(0, warmup=warmup, num_workers=num_workers, gap=gap)
        check_memory(memory)
        if train_steps is not None:
            check_whole(1, train_steps=train_steps)
        check_within(window, predict_last_n=predict_last_n, evaluation_stride=evaluation_stride)
        check_choice("order", order, get_args(Order))
        check_choice("evaluation", evaluation, get_args(Evaluation))
        check_choice("lagged_target", lagged_target, get_args(LaggedTarget))
        check_choice("target_scaling", target_scaling, get_args(TargetScaling))
        check_choice("attributes_missing", attributes_missing, get_args(AttributesMissing))
        check_choice("attributes_text", attributes_text, get_args(AttributesText))
        check_derive(derive or {}, inputs)
        if order == "series" and predict_last_n is not None:
            raise MPTTError(
                f'order="series" trains on whole series, and predict_last_n={predict_last_n} counts steps of windows;'
                " leave out one of them."
            )
        self.inputs, self.targets, self.attributes = list(inputs), list(targets), list(attributes)
        self.attributes_missing, self.attributes_text = attributes_missing, attributes_text
        self.fills, self.derive = as_fills(fill, self.inputs), dict(derive or {})
        self.lagged_target, self.split, self.train_steps, self.warmup = lagged_target, split, train_steps, warmup
        self.site_split, self.gap, self.target_scaling = site_split, gap, target_scaling
        self.window, self.stride, self.predict_last_n = window, stride, predict_last_n
        self.batch_size, self.order, self.evaluation = batch_size, order, evaluation
        self.evaluation_stride = max(window // 2, 1) if evaluation_stride is None else evaluation_stride
        self.chunk, self.sites_at_once, self.seed = chunk, sites_at_once, seed
        self.num_workers, self.memory = num_workers, memory
        self._dataset = dataset
        self._series: FlatSeries | None = None

    @property
    def input_size(self) -> int:
        """Inputs of the model: variables, masks of filled values, attributes and lagged targets."""
        return len(self.input_names) + len(self.attribute_names) + self.lagged_columns

    @property
    def input_names(self) -> list[str]:
        """The inputs and their masks, NAME_missing; sets up where only the data tell which inputs have gaps."""
        masked = masked_inputs(self.fills, self.inputs)
        if masked is None:
            self._ready()
            return self.input_scaler.names
        return [*self.inputs, *map(mask_name, masked)]

    @property
    def attribute_names(self) -> list[str]:
        """The columns of attributes; sets up where only the data tell how many there are."""
        if self.attributes and (self.attributes_text != "error" or self.attributes_missing == "drop_attribute"):
            self._ready()
            return self.attribute_scaler.names
        return self.attributes

    @property
    def lagged_columns(self) -> int:
        """Lagged targets among the inputs, the last columns of `x`."""
        return 0 if self.lagged_target == "none" else len(self.targets)

    @property
    def output_size(self) -> int:
        """Outputs of the model: targets."""
        return len(self.targets)

    @property
    def needed(self) -> list[str]:
        """Variables that are used: inputs, targets, attributes, and what inputs may be computed from."""
        sources = derived_sources(self.inputs, self.derive)
        return list(dict.fromkeys([*self.inputs, *self.targets, *self.attributes, *sources]))

    def load(self) -> xr.Dataset:
        """The data set, dimensions (site, time), missing values NaN."""
        if self._dataset is None:
            raise MPTTError(f"{type(self).__name__} has no dataset; pass one, or override load().")
        return open_dataset(self._dataset)

    def setup(self, stage: str | None = None) -> None:
        """Load, check, split, scale and cut; once, whatever the stage."""
        if self._series is not None:
            return
        self.notes = []
        dataset = self.load()
        computed = to_compute(dataset, self.inputs, self.derive)
        check_dataset(dataset, self.inputs, self.targets, self.attributes, computed)
        known = site_names(dataset)
        dataset, members = self._choose(dataset)
        self.sites = site_names(dataset)
        self.time = dataset.indexes["time"]
        self.units = {name: str(dataset[name].attrs.get("units", "")) for name in self.targets}
        self.long_names = {name: str(dataset[name].attrs.get("long_name", name)) for name in self.targets}
        cuts = TimeSplit(self.time, self.split, self.sites, self.warmup, members, self.gap, known)
        preparation = Preparation(dataset, self.inputs, self.targets, cuts, self.derive, self.fills, self.train_steps)
        row = row_bytes(len(preparation.columns), len(self.targets), self.lagged_target != "none")
        loaded = is_loaded(dataset, [name for name in self.needed if name in dataset.variables])
        free = memory_for_series(self.memory)
        records = Records(preparation, None if loaded else free // row)
        found, self.filled = records.survey, records.filled
        self.notes += filled_lines(self.filled)
        check_complete(found, self.sites, self.time)
        self.parts = cuts.parts(found.first, found.last)
        if self.train_steps is not None:
            self.parts["train"] = self.parts["train"].latest(self.train_steps)
        self.windows = cut_windows(self.parts["train"], self.order, self.window, self.stride, self.sites)
        columns, by_site = preparation.columns, self.target_scaling == "site"
        survey = PartSurvey(self.parts, len(columns), len(self.targets), self.warmup, by_site)
        lags, known_last = FilledLags(), torch.zeros(len(self.targets), dtype=torch.bool)
        for series in records.pieces():
            survey.look(series)
            if self.predict_last_n is not None:
                known_last |= observed_at_ends(series, self.parts["train"], self.windows, self.predict_last_n)
            if self.lagged_target != "none":
                lags.look(series, self.parts.values())
        check_targets(found, survey.known, self.parts, self.warmup, self.targets, self.sites)
        if self.predict_last_n is not None:
            check_last_steps(known_last, self.predict_last_n, self.targets)
        if self.order == "lanes":
            warn_of_empty_lanes(self.windows, self.batch_size)
        warn_of_filled(lags, self.sites, self.time)
        self._records = records
        attributes = self._encode(dataset)
        self._static = attributes.table(len(self.sites))
        unscaled = {*preparation.masks, *attributes.categories}
        scalers = Scalers.of_survey(survey, self._static, columns, list(attributes.values), self.targets, unscaled)
        if by_site:
            scalers = scalers.by_site(survey, self.sites)
        self._series = self._store(records, free, row) if records.series is None else records.series
        self._series.static = self._static.clone()
        self._take(scalers, self._series)
        for note in self.notes:
            rank_zero_info(note)
        if not loaded:
            capacity = self._series.capacity if isinstance(self._series, StoredSeries) else None
            tell_where(len(self.sites), row * int(found.length.sum()), capacity)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of windows, in the order asked for."""
        series, part = self._ready(), self.parts["train"]
        dataset: TrainingWindows | TrainingSeries
        if self.order == "series":
            dataset = TrainingSeries(series, part, self.windows)
        else:
            dataset = TrainingWindows(series, part, self.windows, self.predict_last_n)
        seed = torch.initial_seed() % 2**31 if self.seed is None else self.seed
        return self._loader(dataset, **training_order(series, self.windows, self.order, self.batch_size, seed))

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
        return self._evaluation(self._sequential("train", warmup=0))

    def evaluation_dataloader(self, part: str) -> DataLoader[Batch]:
        """One of the parts, as `evaluation` says."""
        if part not in PARTS:
            raise MPTTError(f"There is no part {part!r}; parts are {', '.join(PARTS)}.")
        warmup = 0 if part == "train" else self.warmup
        if self.evaluation == "sequential":
            return self._evaluation(self._sequential(part, warmup))
        if self.evaluation == "conditional":
            cut, rows = conditional_stretches, self._at_once(self.sites_at_once)
        else:
            cut, rows = independent_stretches, self._at_once(self.batch_size)
        return self._evaluation(cut(self._ready(), self.parts[part], rows, self.window, self.evaluation_stride, warmup))

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
        series, stretch = self._ready(), self.parts[part]
        predicted = place_predictions(stretch, self.target_scaler, values, batches)
        observed = place_observations(stretch, self.target_scaler, series)
        low = int(stretch.begin.min())
        time = self.time[low : low + predicted.shape[1]]
        coords = {"site": [self.sites[site] for site in stretch.site], "time": time}
        variables = {}
        for nth, name in enumerate(self.targets):
            for label, what, array in ((name, "predicted", predicted), (f"{name}_observed", "observed", observed)):
                attrs = {"units": self.units[name], "long_name": f"{self.long_names[name]}, {what}"}
                variables[label] = (("site", "time"), array[:, :, nth], attrs)
        return xr.Dataset(variables, coords, {"part": part, "warmup_steps": self.warmup if part != "train" else 0})

    def state_dict(self) -> dict[str, Any]:
        """The scalers, as tensors: a checkpoint predicts in physical units."""
        self._ready()
        return self._scalers().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scalers of a checkpoint, whatever this data set's own are.

        Raises:
            MPTTError: they are for other variables.
        """
        series, own = self._ready(), self._scalers()
        used = np.unique(np.concatenate([part.site for part in self.parts.values()]))
        scalers = Scalers.of_checkpoint(state_dict, own, [self.sites[site] for site in used])
        self._take(scalers, series, own)

    def _choose(self, dataset: xr.Dataset) -> tuple[xr.Dataset, dict[str, list[str]] | None]:
        """The data set with the sites that are in a part and may be used, and the sites of each part."""
        names = site_names(dataset)
        columns = {name: dataset[name].values for name in self.attributes}
        complete = (
            complete_sites(columns, self.attributes_text)
            if columns and self.attributes_missing == "drop_site"
            else np.ones(len(names), dtype=bool)
        )
        members = None if self.site_split is None else split_sites(names, self.site_split)
        kept, notes = choose_sites(names, members, complete)
        self.notes += notes
        return (dataset if kept.all() else dataset.isel(site=np.flatnonzero(kept))), members

    def _encode(self, dataset: xr.Dataset) -> Encoded:
        """The attributes as columns, given the training part."""
        training = np.zeros(len(self.sites), dtype=bool)
        training[self.parts["train"].site] = True
        columns = {name: dataset[name].values for name in self.attributes}
        encoded = encode_attributes(columns, training, self.sites, self.attributes_missing, self.attributes_text)
        self.notes += encoded.notes
        return encoded

    def _ready(self) -> FlatSeries:
        if self._series is None:
            self.setup()
        assert self._series is not None
        return self._series

    def _sequential(self, part: str, warmup: int) -> Stretches:
        at_once = self._at_once(self.sites_at_once)
        return sequential_stretches(self._ready(), self.parts[part], at_once, self.chunk, warmup)

    def _at_once(self, sites: int) -> int:
        """So many, or as many as stored series can hold while they read as many more."""
        series = self._ready()
        return min(sites, max(series.capacity // 2, 1)) if isinstance(series, StoredSeries) else sites

    def _evaluation(self, stretches: Stretches) -> DataLoader[Batch]:
        return self._loader(stretches, batch_size=None, sampler=evaluation_order(stretches))

    def _loader(self, dataset: Dataset[Batch], **order: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_whole,
            **order,
        )

    def _scalers(self) -> Scalers:
        return Scalers(self.input_scaler, self.attribute_scaler, self.target_scaler)

    def _take(self, scalers: Scalers, series: FlatSeries, before: Scalers | None = None) -> None:
        """Keep these scalers; standardise the series, physical or as those before did, and lag their targets."""
        self.input_scaler, self.attribute_scaler, self.target_scaler = scalers
        if isinstance(series, StoredSeries):
            series.forget()
            series.static = scalers.attributes.transform(self._static)
        else:
            scalers.standardise_(series, before)
            self._lag(series)

    def _lag(self, series: FlatSeries) -> None:
        if self.lagged_target != "none":
            series.lagged = lag_targets(series, last_observations(series))
            series.held = self.lagged_target == "window"

    def _store(self, records: Records, free: int, row: int) -> StoredSeries:
        """Series that are read as they are needed, as many at a time as there are bytes for."""
        first, length = records.survey.first, records.survey.length
        record = int(length.max()) * row
        capacity = room_for_sites(self.windows, self.order, self.batch_size, self.num_workers, free, record)
        lagged, held = self.lagged_target != "none", self.lagged_target == "window"
        columns = len(records.preparation.columns)
        return StoredSeries(self._read, first, length, columns, len(self.targets), capacity, lagged, held)

    def _read(self, sites: Int64Array) -> FlatSeries:
        """The records of these sites, as those of data in memory are."""
        series = self._records.read(sites)
        series.static = self._static[:0]
        self._scalers().standardise_(series)
        self._lag(series)
        return series


def _whole(batch: Any) -> Any:
    return batch

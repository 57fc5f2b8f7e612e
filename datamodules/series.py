"""The DataModule for any set of series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from mptt.datamodules.batching.batches import (
    Batch,
    Order,
    cut_windows,
    warn_of_empty_lanes,
)
from mptt.datamodules.batching.dealing import part_of, process_of, window_owners
from mptt.datamodules.batching.loading import at_once, evaluation_loader, training_loader
from mptt.datamodules.batching.predictions import on_calendar, place_observations, place_predictions
from mptt.datamodules.batching.resuming import TrainingLoader
from mptt.datamodules.batching.room import room_for_sites
from mptt.datamodules.batching.scaled import ScaledSeries
from mptt.datamodules.batching.stretches import (
    Stretches,
    conditional_stretches,
    independent_stretches,
    sequential_stretches,
)
from mptt.datamodules.batching.surveying import survey_parts
from mptt.datamodules.namespaces import LightningDataModule
from mptt.datamodules.preparing.checks import check_complete, check_dataset, check_within, site_names
from mptt.datamodules.preparing.derived import Derive, check_derive, derived_sources, series_needed, to_compute
from mptt.datamodules.preparing.encoding import AttributesMissing, AttributesText, Encoded, encode_of
from mptt.datamodules.preparing.filling import FillSettings, as_fills, filled_lines, mask_name, masked_inputs
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.memory import Room, row_bytes
from mptt.datamodules.preparing.parts import PARTS, Part, Split, TimeSplit
from mptt.datamodules.preparing.preparation import Preparation
from mptt.datamodules.preparing.records import Records
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.preparing.site_scaling import SiteScaler
from mptt.datamodules.preparing.site_split import SiteSplit, sites_by_name
from mptt.datamodules.preparing.sites import use_sites
from mptt.datamodules.preparing.standardised import Scalers
from mptt.datamodules.preparing.survey import PartSurvey
from mptt.datamodules.reading.choosing import complete_sites
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.settings import Evaluation, LaggedTarget, Shard, TargetScaling, as_names, check_settings
from mptt.errors import MPTTError
from mptt.fingerprint import fingerprint
from mptt.keymap import KeyMap
from mptt.timeline import Timeline
from mptt.windows import Int64Array, WindowIndex

HOST = ("window", "site", "start", "length", "links", "links_of")


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

    Subclasses for a given data set override `load`.

    Args:
        dataset: dimensions (site, time), or the path of a Zarr store or NetCDF file with such.
        inputs: variables (site, time); also those of `DERIVED` (doy_sin, pet_oudin, ...), computed where not there.
        targets: variables (site, time).
        attributes: variables (site,), repeated along time as further inputs.
        attributes_missing: "error", "drop_site", "drop_attribute", "mean" or "median", as of `encode_attributes`.
        attributes_text: "error", "onehot" or "drop", likewise.
        fill: ways to fill gaps of inputs, one after another, each a `Fill` or its mapping; by default gaps are refused.
        derive: what pet_oudin is computed from, as of `add_derived`; by default variables of known names.
        lagged_target: targets of the step before as further inputs, "step": at each step (teacher forcing), "window":
            those before a window's first step, or an evaluation stretch's, at all its steps. Or "none".
        split: three fractions of each site's record, dates, dates by site, or a table of them, as of `TimeSplit`.
        site_split: sites of each part, as of `split_sites`; by default every site is in every part.
        gap: steps left out between the parts of a site; train gives way to validation, both to test.
        train_steps: use only the last so many steps of each site's training part; a site with less keeps all.
        window: steps in a training window.
        stride: steps from one window's start to the next.
        target_scaling: over all sites, "global", or each "site" by itself, so that all weigh alike in the loss.
        predict_last_n: only so many steps at the end of each training window count; all by default.
        warmup: steps at the start of validation and test that are fed but not scored.
        batch_size: windows in a training batch, or series.
        order: "shuffled"; "lanes": row r of a batch goes on where row r of the last stopped; "sequential": in order of
            site and time; both need stride = window. "series": whole training series, shuffled, as of `cut_windows`.
        evaluation: "sequential": each series in order; "independent": overlapping windows, of each the steps that are
            new; "conditional": the same, a batch the next window of each of many sites, in time order.
        evaluation_stride: steps from one overlapping window to the next; half a window by default.
        chunk: steps in a stretch of sequential evaluation; by default what makes a batch of half a million, all told.
        sites_at_once: sites in a batch of sequential or conditional evaluation.
        stretches_at_once: stretches of a site, as rows of a batch of sequential evaluation; with 1, as by default,
            only nn.RNN, nn.GRU and nn.LSTM are evaluated in parallel (see `mptt.callbacks.MPTTCallback`).
        seed: of the shuffling; None: the one that seed_everything set.
        num_workers: processes that cut batches; data in memory need none, and others take none.
        memory: GiB for the series, a process; by default half of what is free; more are read as batches need them.
        shard: what several processes (DDP) divide in training: "window", any has any; or each "site" as a whole,
            balanced by windows, so that no message goes from one to another. In evaluation they always divide sites.

    Attributes:
        windows: from `setup` on, as all of these; the WindowIndex of the training part, its starts counted in the part.
        sites: names of those that are in use.
        time: the common time axis.
        filled: a table of the gaps of inputs: site, variable, values filled by each method and in all, longest gap.
        notes: what was done to the data, a line each; also logged.
        units: of each target.
        long_names: likewise.
        parts: "train", "validation" and "test", each the stretches of the sites.
        input_scaler: fitted to the training part, or that of a checkpoint.
        attribute_scaler: likewise.
        target_scaler: likewise.
        keymap: set by who wants training batches to bring their links, as of `KeyMap.pack`; None by default.

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
        chunk: int | None = None,
        sites_at_once: int = 256,
        stretches_at_once: int = 1,
        seed: int | None = None,
        num_workers: int = 0,
        memory: float | None = None,
        shard: Shard = "window",
    ) -> None:
        super().__init__()
        self.inputs, self.targets = as_names("inputs", inputs), as_names("targets", targets)
        self.attributes = as_names("attributes", attributes)
        self.attributes_missing, self.attributes_text = attributes_missing, attributes_text
        self.fills = as_fills(fill, self.inputs)
        check_derive(derive or {}, self.inputs)
        self.derive = dict(derive or {})
        self.lagged_target, self.split, self.train_steps, self.warmup = lagged_target, split, train_steps, warmup
        self.site_split, self.gap, self.target_scaling = site_split, gap, target_scaling
        self.window, self.stride, self.predict_last_n = window, stride, predict_last_n
        self.batch_size, self.order, self.evaluation = batch_size, order, evaluation
        self.chunk, self.sites_at_once, self.seed = chunk, sites_at_once, seed
        self.stretches_at_once, self.num_workers, self.memory = stretches_at_once, num_workers, memory
        self.shard = shard
        check_settings(self)
        check_within(window, evaluation_stride=evaluation_stride)
        self.evaluation_stride = max(window // 2, 1) if evaluation_stride is None else evaluation_stride
        self.keymap: KeyMap | None = None
        self._dataset = dataset
        self._series: FlatSeries | None = None
        self._file: xr.Dataset | None = None

    @property
    def input_size(self) -> int:
        """How many inputs the model has, with masks of filled values, attributes and lagged targets."""
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
        """How many outputs the model has, one for each target."""
        return len(self.targets)

    @property
    def needed(self) -> list[str]:
        """The variables that are used, which are inputs, targets, attributes, and what inputs may be computed from."""
        sources = derived_sources(self.inputs, self.derive)
        return list(dict.fromkeys([*self.inputs, *self.targets, *self.attributes, *sources]))

    def load(self) -> xr.Dataset:
        """The data set, dimensions (site, time), missing values NaN."""
        if self._dataset is None:
            raise MPTTError(f"{type(self).__name__} has no dataset; pass one, or override load().")
        dataset = open_dataset(self._dataset)
        if dataset is not self._dataset:
            self._file = dataset
        return dataset

    def usable(self, dataset: xr.Dataset, asked: bool) -> xr.Dataset:
        """Of a reader's data set the sites that have what this module needs; a warning names the others.

        Args:
            dataset: dimensions (site, time).
            asked: whether its sites were asked for by name; one that was, here or in `site_split`, is refused if it
                lacks an input.
        """
        named = set(site_names(dataset)) if asked else sites_by_name(self.site_split)
        return complete_sites(dataset, series_needed(dataset, self.inputs, self.derive), self.targets, named)

    def setup(self, stage: str | None = None) -> None:
        """Read, derive, fill, check, split, cut, scale and lag; once.

        Where the stage is "predict", the test part need not have a value of a target: what is to come has none.
        """
        if self._series is None:
            try:
                self._set_up(predicting=stage == "predict")
            finally:
                # Left to the garbage collector, a file may be closed in one thread while another reads its like.
                if self._file is not None and (self._series is None or self._scaled.capacity is None):
                    self._file.close()

    def _set_up(self, predicting: bool) -> None:
        self.notes = []
        dataset, cuts = self._open()
        preparation = Preparation(dataset, self.inputs, self.targets, cuts, self.derive, self.fills, self.train_steps)
        row = row_bytes(len(preparation.columns), len(self.targets), self.lagged_target != "none")
        here = 1 if self.trainer is None else self.trainer.num_devices  # processes of this machine
        room = Room.beside(dataset, self.needed, row, self.memory, here)
        self._records = Records(preparation, room.steps)  # derives and fills, too
        found, self.filled = self._records.survey, self._records.filled
        self.notes += filled_lines(self.filled)
        check_complete(found, self.sites, self.time)
        self.parts = cuts.parts(found.first, found.last, self.train_steps)
        self.windows = cut_windows(self.parts["train"], self.order, self.window, self.stride, self.sites)
        if self.order == "lanes":
            warn_of_empty_lanes(self.windows, self.batch_size)
        survey = self._survey(predicting)
        missing, text = self.attributes_missing, self.attributes_text
        attributes = encode_of(dataset, self.attributes, self.parts["train"].site, missing, text)
        self.notes += attributes.notes
        self._scaled = self._scale(survey, attributes, room)
        self._series = self._scaled.series
        for note in self.notes:
            rank_zero_info(note)
        room.tell(len(self.sites), int(found.length.sum()), self._scaled.capacity)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of windows, in the order asked for."""
        series, part, process = self._ready(), self.parts["train"], process_of(self.trainer)
        seed, owner = self.seed, None
        if process.size > 1:
            assert self.trainer is not None
            # One order for all processes, each of which has a seed of its own where none was set.
            seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**31 if seed is None else seed)
            owner = window_owners(self.windows, process.size) if self.shard == "site" else None
        settings = self.order, self.batch_size, self.predict_last_n, seed, self.num_workers
        loader = training_loader(series, part, self.windows, *settings, self.keymap, process, owner)
        if isinstance(loader, TrainingLoader):
            loader.trained = self._trained
        return loader

    def _trained(self) -> int | None:
        """Batches of the epoch that the Trainer, if there is one, has trained."""
        if self.trainer is None:
            return None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return int(progress.processed)

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
        return self._dealt("train", lambda part: self._in_order(part, warmup=0))

    def stretch_batches(self, part: str, site: Int64Array, start: Int64Array, length: Int64Array) -> DataLoader[Batch]:
        """Any stretches of a part as batches of evaluation, in this order, each a row; none goes on from another.

        Args:
            part: "train", "validation" or "test".
            site: (n,) numbers of sites.
            start: (n,) first steps, counted in the part of the site.
            length: (n,) steps.

        Raises:
            MPTTError: no such part, or a stretch that is not in it.
        """
        if part not in PARTS:
            raise MPTTError(f"There is no part {part!r}; parts are {', '.join(PARTS)}.")
        series, whole = self._ready(), self.parts[part]
        entry = np.full(len(self.sites), -1)
        entry[whole.site] = np.arange(len(whole))
        known = (site >= 0) & (site < len(entry))
        entry = np.where(known, entry[np.where(known, site, 0)], -1)
        stop = start + length
        outside = (entry < 0) | (start < 0) | (length < 1) | (stop > whole.length[entry])
        if outside.any():
            row = int(outside.argmax())
            raise MPTTError(f"The {part} part has no steps {start[row]} to {stop[row] - 1} of site number {site[row]}.")
        # Each ends where it ends, as if its site had no more.
        cut, nth = Part(site, whole.begin[entry], stop), np.arange(len(site))
        rows = at_once(series, len(site))
        return evaluation_loader(Stretches(series, cut, nth, start, start, nth // rows, int(length.max()), 0), 0)

    def evaluation_dataloader(self, part: str) -> DataLoader[Batch]:
        """One of the parts, as `evaluation` says."""
        if part not in PARTS:
            raise MPTTError(f"There is no part {part!r}; parts are {', '.join(PARTS)}.")
        series, warmup = self._ready(), 0 if part == "train" else self.warmup
        if self.evaluation == "sequential":
            return self._dealt(part, lambda part: self._in_order(part, warmup))
        rows = at_once(series, self.batch_size if self.evaluation == "independent" else self.sites_at_once)
        cut = conditional_stretches if self.evaluation == "conditional" else independent_stretches
        return self._dealt(part, lambda part: cut(series, part, rows, self.window, self.evaluation_stride, warmup))

    def window_owners(self, processes: int) -> Int64Array:
        """(N,) the process of each window, where whole sites are dealt out (`shard="site"`)."""
        self._ready()
        return window_owners(self.windows, processes)

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
        placed = on_calendar(stretch, predicted, observed, self.sites, self.time, self.units, self.long_names)
        return placed.assign_attrs(part=part, warmup_steps=self.warmup if part != "train" else 0)

    def place_of(self, part: str, site: int, step: int) -> str:
        """The name of a site and the date of a step counted in its part, for messages."""
        stretch = self.parts[part]
        at = int(stretch.begin[stretch.site == site][0]) + step
        return f"{self.sites[site]}, {str(self.time[at]).removesuffix(' 00:00:00')}"

    def state_dict(self) -> dict[str, Any]:
        """The scalers, as tensors: a checkpoint predicts in physical units."""
        self._ready()
        return self._scaled.scalers.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scalers of a checkpoint, whatever this data set's own are.

        Raises:
            MPTTError: they are for other variables.
        """
        self._ready()
        used = np.unique(np.concatenate([part.site for part in self.parts.values()]))
        scalers = Scalers.of_checkpoint(state_dict, self._scaled.scalers, [self.sites[site] for site in used])
        self._scaled.change(scalers)
        self.input_scaler, self.attribute_scaler, self.target_scaler = scalers

    def _ready(self) -> FlatSeries:
        if self._series is None:
            self.setup()
        assert self._series is not None
        return self._series

    def _dealt(self, name: str, cut: Callable[[Part], Stretches]) -> DataLoader[Batch]:
        """The stretches of a part that this process has; of one without a site, a batch that does not count."""
        self._ready()
        part, process = self.parts[name], process_of(self.trainer)
        own = part_of(part, process, self.windows if name == "train" else None) if process.size > 1 else part
        idle = not len(own)
        return evaluation_loader(cut(part if idle else own), self.num_workers, process, idle)

    def _in_order(self, part: Part, warmup: int) -> Stretches:
        series = self._ready()
        rows = at_once(series, self.sites_at_once)
        found = sequential_stretches(series, part, rows, self.chunk, warmup, self.stretches_at_once)
        found.timeline = self._timeline(part)
        return found

    def _timeline(self, part: Part) -> Timeline:
        """What the sites and steps of a part are, and a checksum of the inputs' names and scaling."""
        begin = np.zeros(len(self.sites), dtype=np.int64)
        begin[part.site] = part.begin
        used = {"inputs": self.input_scaler, "attributes": self.attribute_scaler}
        if self.lagged_target != "none" and isinstance(self.target_scaler, Scaler):
            used["lagged"] = self.target_scaler
        sums = {f"{kind}.{name}": value for kind, one in used.items() for name, value in one.state_dict().items()}
        return Timeline(self.sites, self.time, begin, fingerprint({**sums, "lag": self.lagged_target}))

    def _open(self) -> tuple[xr.Dataset, TimeSplit]:
        """The data set with the sites that are used, and where their records are cut."""
        dataset = self.load()
        computed = to_compute(dataset, self.inputs, self.derive)
        check_dataset(dataset, self.inputs, self.targets, self.attributes, computed)
        known = site_names(dataset)
        used = use_sites(dataset, self.site_split, self.attributes, self.attributes_missing, self.attributes_text)
        self.notes += used.notes
        self.sites, self.time = site_names(used.dataset), used.dataset.indexes["time"]
        about = {name: dataset[name].attrs for name in self.targets}
        self.units = {name: str(attrs.get("units", "")) for name, attrs in about.items()}
        self.long_names = {name: str(attrs.get("long_name", name)) for name, attrs in about.items()}
        return used.dataset, TimeSplit(self.time, self.split, self.sites, self.warmup, used.members, self.gap, known)

    def _survey(self, predicting: bool) -> PartSurvey:
        return survey_parts(
            self._records,
            self.parts,
            self.windows,
            self.sites,
            self.time,
            warmup=self.warmup,
            last=self.predict_last_n,
            lagged=self.lagged_target != "none",
            by_site=self.target_scaling == "site",
            unscored=("test",) if predicting else (),
        )

    def _scale(self, survey: PartSurvey, attributes: Encoded, room: Room) -> ScaledSeries:
        """The series as the model sees them, by scalers of the training part."""
        records, by_site = self._records, self.target_scaling == "site"
        scalers = Scalers.of_survey(survey, records.preparation, attributes, self.sites, by_site)
        capacity = None
        if records.series is None:
            longest = int(records.survey.length.max()) * room.row
            settings = self.order, self.batch_size, self.num_workers
            capacity = room_for_sites(self.windows, *settings, room.free, longest)
        self.input_scaler, self.attribute_scaler, self.target_scaler = scalers
        lagged, held = self.lagged_target != "none", self.lagged_target == "window"
        return ScaledSeries(records, attributes.table(len(self.sites)), scalers, lagged, held, capacity)

"""A data set read in blocks of sites, as the checks and the batches take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import Values, as_float32, listed, site_names
from mptt.datamodules.preparing.derived import DERIVED, Derive, add_derived, find_sources, to_compute
from mptt.datamodules.preparing.filling import FILLED_COLUMNS, Fill, fill_gaps, mask_name, masked_inputs
from mptt.datamodules.preparing.flat import find_records
from mptt.datamodules.preparing.parts import TimeSplit
from mptt.errors import MPTTError
from mptt.windows import Int64Array

BLOCK = 32 * 2**20  # bytes of inputs and targets that are read at a time


class Preparation:
    """Reads inputs and targets of some sites, and makes of them what the rest of the program sees.

    Computed inputs are computed, then gaps are filled, each site by itself.

    Args:
        dataset: dimensions (site, time), in memory or not.
        inputs: variables (site, time), or names of computed ones.
        targets: variables (site, time).
        cuts: where the sites' training parts are, which climatology asks for.
        derive: what inputs are computed from.
        fills: ways to fill gaps, one after another.
        train_steps: only so many steps at the end of a training part.

    Attributes:
        computed: inputs that the data set does not have.
        columns: names of the inputs as read, masks of filled values after the inputs.
        masks: those of them that are masks.
        anchors: inputs that say where a record begins and ends: those that do not follow from the date alone.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        inputs: Sequence[str],
        targets: Sequence[str],
        cuts: TimeSplit,
        derive: Derive,
        fills: Sequence[Fill],
        train_steps: int | None = None,
    ) -> None:
        self.dataset, self.inputs, self.targets = dataset, list(inputs), list(targets)
        self.computed = to_compute(dataset, inputs, derive)
        self.anchors = [
            name for name in inputs if name not in self.computed or not DERIVED[name].of_date
        ] or self.inputs
        self._derive = find_sources(dataset, inputs, derive)
        sources = [name for of in self._derive.values() for names in of.values() for name in _several(names)]
        wanted = [name for name in [*inputs, *targets, *sources] if name not in self.computed]
        self._read = list(dict.fromkeys(wanted))
        self._cuts, self._fills, self._train_steps = cuts, list(fills), train_steps
        self._sites = site_names(dataset)
        self._masked = masked_inputs(fills, inputs)
        self._counts: list[pd.DataFrame] | None = []

    @property
    def masks(self) -> list[str]:
        """Names of the inputs that say where others were filled; before `settle`, all that there may be."""
        may = [name for name in self.inputs if any(one.mask and one.covers(name) for one in self._fills)]
        return [mask_name(name) for name in (may if self._masked is None else self._masked)]

    @property
    def columns(self) -> list[str]:
        """Names of the inputs as read."""
        return [*self.inputs, *self.masks]

    @property
    def threads(self) -> bool:
        """Whether a thread may read beside the main one: from Zarr. The library below NetCDF breaks down under two."""
        series = [values for values in self.dataset.data_vars.values() if "time" in values.dims]
        return all({"compressors", "compressor"} & set(values.encoding) for values in series)

    def read(self, sites: slice | Int64Array) -> tuple[Values, Values]:
        """Inputs and targets of these sites, which go up: by name, float32 (sites, time), missing NaN.

        Raises:
            MPTTError: they cannot be read.
        """
        block = self.dataset[self._read].isel(site=sites)
        try:
            block = block.load()
        except Exception as error:  # every store has its own
            raise MPTTError(f"The series of site(s) {listed(site_names(block))} cannot be read: {error}") from error
        block = add_derived(block, self.computed, self._derive)
        arrays = {
            name: as_float32(block[name].transpose("site", "time").values) for name in [*self.inputs, *self.targets]
        }
        inputs = {name: arrays[name] for name in self.inputs}
        if self._fills:
            inputs = self._filled(sites, inputs)
        return inputs, {name: arrays[name] for name in self.targets}

    def _filled(
        self, sites: slice | Int64Array, inputs: Values
    ) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        recorded = find_records({name: inputs[name] for name in self.anchors})
        training = self._cuts.training(sites, recorded, self._train_steps)
        names = np.array(self._sites)[sites]
        found = fill_gaps(inputs, recorded, training, self.dataset.indexes["time"], self._fills, names.tolist())
        if self._counts is not None:
            self._counts.append(found.counts)
        none = np.zeros(recorded.shape, np.float32)
        masks = {mask_name(name): mask.astype(np.float32) for name, mask in found.masked.items()}
        return {**found.values, **{name: masks.get(name, none) for name in self.masks}}

    def settle(self) -> tuple[pd.DataFrame, list[int]]:
        """What was filled, after all sites were read once; from then on `columns` are those of inputs with gaps.

        Returns:
            The counts of `Filled`, of all sites, and which of the columns as read so far are kept.
        """
        there = [table for table in self._counts or [] if len(table)]
        counts = pd.concat(there, ignore_index=True) if there else pd.DataFrame(columns=list(FILLED_COLUMNS))
        before = self.columns
        self._masked, self._counts = masked_inputs(self._fills, self.inputs, set(counts["variable"])), None
        return counts, [nth for nth, name in enumerate(before) if name in self.columns]

    def blocks(self) -> Iterator[slice]:
        """All sites, as many at a time as make BLOCK bytes; those of a chunk of the store are not parted."""
        count, steps = self.dataset.sizes["site"], self.dataset.sizes["time"]
        size = max(1, BLOCK // (4 * steps * (len(self.columns) + len(self.targets))))
        if self.sites_in_chunk <= size:
            size -= size % self.sites_in_chunk
        for begin in range(0, count, size):
            yield slice(begin, min(begin + size, count))

    @property
    def sites_in_chunk(self) -> int:
        """Sites that the store keeps together, so that one is not read without the others; the most of any variable."""
        chunks = [self.dataset[name].encoding.get("preferred_chunks", {}) for name in self._read]
        return max(int(chunk.get("site", 1)) for chunk in chunks)


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)

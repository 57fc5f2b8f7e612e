"""A data set read in blocks of sites, as the checks and the batches take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from mptt.datamodules.preparing.checks import Values, as_float32, listed, site_names
from mptt.errors import MPTTError
from mptt.windows import Int64Array

BLOCK = 32 * 2**20  # bytes of inputs and targets that are read at a time


class Preparation:
    """Reads inputs and targets of some sites, and makes of them what the rest of the program sees.

    Args:
        dataset: dimensions (site, time), in memory or not.
        inputs: variables (site, time).
        attributes: variables (site,).
        targets: variables (site, time).
    """

    def __init__(
        self, dataset: xr.Dataset, inputs: Sequence[str], attributes: Sequence[str], targets: Sequence[str]
    ) -> None:
        self.dataset = dataset
        self.inputs, self.attributes, self.targets = list(inputs), list(attributes), list(targets)

    def static(self) -> Tensor:
        """The attributes of all sites (sites, A)."""
        values = np.empty((self.dataset.sizes["site"], len(self.attributes)), np.float32)
        for nth, name in enumerate(self.attributes):
            values[:, nth] = as_float32(self.dataset[name].values)
        return torch.from_numpy(values)

    def read(self, sites: slice | Int64Array) -> tuple[Values, Values]:
        """Inputs and targets of these sites, which go up: by name, float32 (sites, time), missing NaN.

        Raises:
            MPTTError: they cannot be read.
        """
        names = list(dict.fromkeys([*self.inputs, *self.targets]))
        block = self.dataset[names].isel(site=sites)
        try:
            block = block.load()
        except Exception as error:  # every store has its own
            raise MPTTError(f"The series of site(s) {listed(site_names(block))} cannot be read: {error}") from error
        arrays = {name: as_float32(block[name].transpose("site", "time").values) for name in names}
        return {name: arrays[name] for name in self.inputs}, {name: arrays[name] for name in self.targets}

    def blocks(self) -> Iterator[slice]:
        """All sites, as many at a time as make BLOCK bytes; those of a chunk of the store are not parted."""
        count, steps = self.dataset.sizes["site"], self.dataset.sizes["time"]
        size = max(1, BLOCK // (4 * steps * (len(self.inputs) + len(self.targets))))
        if self.sites_in_chunk <= size:
            size -= size % self.sites_in_chunk
        for begin in range(0, count, size):
            yield slice(begin, min(begin + size, count))

    @property
    def sites_in_chunk(self) -> int:
        """Sites that the store keeps together, so that one is not read without the others; the most of any variable."""
        chunks = [self.dataset[name].encoding.get("preferred_chunks", {}) for name in [*self.inputs, *self.targets]]
        return max(int(chunk.get("site", 1)) for chunk in chunks)

"""Sites of an opened data set read one at a time, while those that lie beside them on disk come along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.places import Place
from mptt.errors import MPTTError

_BYTES = 64 * 2**20  # of the series that are read together, at most


class BlockReader:
    """Reads the series of one site of a data set.

    Sites may share chunks, and many small reads are slow: so a block of sites is read at once, and the last one is
    kept. Where each site has chunks of its own, blocks are as long as the run of sites that was asked for in order.

    Args:
        series: on time and some or all of the dimensions, not in memory.
        dims: that count sites, the last one fastest.
        sites: names, in order.
        place: where the data set is, for messages.
    """

    def __init__(self, series: xr.Dataset, dims: Sequence[str], sites: Sequence[str], place: Place) -> None:
        self.series, self.place = series, place
        *self.outer, self.last = dims
        self.width = series.sizes[self.last]
        self.position = {site: nth for nth, site in enumerate(sites)}
        a_site = 8 * series.sizes["time"] * len(series.data_vars)
        self.most = max(1, min(self.width, _BYTES // max(a_site, 1)))
        self.apart = all(_sites_apart(values) for values in series.data_vars.values())
        self.begin = self.end = -1
        self.block = series

    def __call__(self, site: str) -> xr.Dataset:
        """The series of a site, in memory."""
        nth = self.position[site]
        if not self.begin <= nth < self.end:
            self._read(nth)
        return self.block.isel({self.last: nth - self.begin}, missing_dims="ignore").copy(deep=True)

    def _read(self, nth: int) -> None:
        row, column = divmod(nth, self.width)
        if self.apart:
            count = min(2 * (self.end - self.begin), self.most) if nth == self.end else 1
        else:
            column -= column % self.most
            count = self.most
        where: dict[str, Any] = {self.last: slice(column, column + count)}
        if self.outer:
            numbers = np.unravel_index(row, [self.series.sizes[dim] for dim in self.outer])
            where |= dict(zip(self.outer, map(int, numbers), strict=True))
        self.block = load(self.series.isel(where, missing_dims="ignore"), self.place)
        self.begin = row * self.width + column
        self.end = min(self.begin + count, (row + 1) * self.width)


def load(part: xr.Dataset, place: Place) -> xr.Dataset:
    """Bring a part of a data set into memory.

    Raises:
        MPTTError: it cannot be read, as where a chunk is damaged.
    """
    try:
        return part.load()
    except MPTTError:
        raise
    except Exception as error:  # every engine has its own
        names = listed(part.data_vars)
        raise MPTTError(f"{place} cannot be read to its end ({error}), in {names}. Get an intact copy.") from error


def _sites_apart(values: xr.DataArray) -> bool:
    """Whether the series of each site lies by itself on disk."""
    if values.dims[-1] != "time":
        return False
    chunks = values.encoding.get("chunks") or values.encoding.get("chunksizes")
    return not chunks or all(length == 1 for length in chunks[:-1])

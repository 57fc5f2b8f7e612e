"""Which site and which date the numbers in an evaluation batch stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mptt.errors import MPTTError
from mptt.windows import Int64Array


@dataclass(frozen=True)
class Timeline:
    """Names of the sites and dates of the steps that evaluation batches give as numbers.

    It lets states be exported by name and date, and taken up by them: see `mptt.callbacks.RecurrentCallback`. The
    callback finds it as the attribute `timeline` of the data set that an evaluation loader reads, or of the DataModule;
    the data of SeriesDataModule have one.

    Args:
        sites: names, by number.
        time: dates of the steps, ascending: datetime64 or cftime.
        begin: (sites,) what step 0 of each site is on `time`; 0 by default. Sites without steps may have any.
        inputs: checksum of what makes inputs of data, such as scalers; empty: not known.

    Example:
        >>> timeline = Timeline(["a", "b"], np.arange("2000-01-01", "2000-02-01", dtype="datetime64[D]"), [0, 10])
        >>> timeline.dates(np.array([0, 1]), np.array([4, 4])).astype(str).tolist()
        ['2000-01-05', '2000-01-15']
    """

    sites: Sequence[str]
    time: Any
    begin: Sequence[int] | Int64Array | None = None
    inputs: str = ""

    def at(self, site: Int64Array, step: Int64Array) -> Int64Array:
        """(B,) where steps of sites, by number, are on `time`.

        Raises:
            MPTTError: there is no such site or step.
        """
        if len(unnamed := site[(site < 0) | (site >= len(self.sites))]):
            raise MPTTError(f"The timeline names {len(self.sites)} sites, found site number {unnamed[0]}.")
        at = step if self.begin is None else np.asarray(self.begin, dtype=np.int64)[site] + step
        if (outside := (at < 0) | (at >= len(self.time))).any():
            row = int(outside.argmax())
            raise MPTTError(
                f"The timeline has {len(self.time)} steps, but step {step[row]} of site {self.sites[site[row]]} would"
                f" be number {at[row]} of them; `time` has all dates, and `begin` says where each site's step 0 is."
            )
        return at

    def dates(self, site: Int64Array, step: Int64Array) -> Any:
        """(B,) dates of steps of sites, by number."""
        return self.time[self.at(site, step)]

    def names(self, site: Int64Array) -> list[str]:
        """(B,) names of sites, by number."""
        return [str(self.sites[number]) for number in site]

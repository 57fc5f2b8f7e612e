"""Sources made in memory, which count how often each site is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.datamodules.reading.source import Source


def days(count: int, start: str = "2000-01-01") -> np.ndarray:
    return np.datetime64(start, "s") + np.arange(count) * np.timedelta64(86400, "s")


def table(time: Any, **variables: Any) -> xr.Dataset:
    """One site's series; `x=values` or `x=(values, units, long name)`."""
    made = {}
    for name, given in variables.items():
        values, *words = given if isinstance(given, tuple) else (given,)
        attrs = dict(zip(("units", "long_name"), words, strict=False))
        made[name] = ("time", np.asarray(values), attrs)
    return xr.Dataset(made, {"time": time if isinstance(time, pd.Index) else pd.Index(time)})


class Counting:
    """Tables by site, read one by one; `reads` counts."""

    def __init__(self, tables: Mapping[str, xr.Dataset]) -> None:
        self.tables, self.reads = tables, Counter[str]()

    def __call__(self, site: str) -> xr.Dataset:
        self.reads[site] += 1
        return self.tables[site].copy()


def source_from(
    tables: Mapping[str, xr.Dataset], attributes: xr.Dataset | None = None, path: Path = Path("made"), **about: str
) -> Source:
    fixed = attributes if attributes is not None else xr.Dataset(coords={"site": list(tables)})
    return Source("made", path, list(tables), Counting(tables), fixed, about)


def several(count: int = 5, steps: int = 40, seed: int = 0) -> tuple[dict[str, xr.Dataset], xr.Dataset]:
    """Sites of different periods, the last without flow, with attributes of numbers and text."""
    random = np.random.default_rng(seed)
    tables = {}
    for nth in range(count):
        length = steps - 3 * (nth % 4)
        rain = random.gamma(0.5, 8.0, length).astype(np.float32)
        flow = np.where(random.random(length) < 0.2, np.nan, rain / 2).astype(np.float32)
        made = {"rain": (rain, "mm/day", "precipitation"), "flow": (flow, "mm/day", "streamflow")}
        if nth == count - 1:
            del made["flow"]
        tables[f"{nth:04d}"] = table(days(length, f"2000-01-{1 + nth % 7:02d}"), **made)
    area = np.arange(count, dtype=np.float32)
    area[0] = np.nan
    fixed = xr.Dataset(
        {
            "area": ("site", area, {"units": "km2", "long_name": "area"}),
            "river": ("site", np.array([f"Bäch {nth}" if nth else "" for nth in range(count)])),
        },
        {"site": list(tables)},
    )
    return tables, fixed

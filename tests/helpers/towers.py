"""FLUXNET files as they are downloaded, with weather that is made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

RELEASE = "2000-2001_1-4"


def product_path(root: Path, site: str, product: str, step: str, folder: bool = True) -> Path:
    inside = root / f"FLX_{site}_FLUXNET2015_FULLSET_{RELEASE}" if folder else root
    return inside / f"FLX_{site}_FLUXNET2015_{product}_{step}_{RELEASE}.csv"


def write_product(path: Path, stamps: Mapping[str, Sequence[str]], columns: Mapping[str, Sequence[float]]) -> Path:
    """A product file with these columns; NaN is written as -9999."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({**stamps, **{name: np.asarray(values, float) for name, values in columns.items()}})
    table.fillna(-9999).to_csv(path, index=False)
    return path


def write_days(root: Path, site: str, years: int) -> Path:
    """A tower whose carbon uptake follows the light of the last days."""
    random = np.random.default_rng(len(site) + years)
    days = pd.date_range("2000-01-01", f"{1999 + years}-12-31")
    light = 150 - 120 * np.cos(2 * np.pi * days.day_of_year / 365.25) + random.normal(0, 20, len(days))
    columns = {
        "TA_F": light / 10 - 5,
        "SW_IN_F": light,
        "LW_IN_F": 300 + random.normal(0, 10, len(days)),
        "VPD_F": light / 40,
        "NEE_VUT_REF_QC": random.uniform(0.3, 1, len(days)),
        "GPP_NT_VUT_REF": pd.Series(light).ewm(halflife=5).mean() / 20,
    }
    return write_product(product_path(root, site, "FULLSET", "DD"), {"TIMESTAMP": days.strftime("%Y%m%d")}, columns)


def write_store(path: Path, sites: Mapping[str, tuple[str, int]], step: str = "30min") -> Path:
    """A packed Zarr store of half-hours; each site has the stamp of its first, in universal time, and their number."""
    records = {site: pd.date_range(start, periods=count, freq=step) for site, (start, count) in sites.items()}
    first, last = min(r[0] for r in records.values()), max(r[-1] for r in records.values())
    time = pd.date_range(first, last, freq=step)
    random = np.random.default_rng(1)
    values = {}
    for name in ("ta", "sw_in", "vpd", "nee", "gpp_nt", "gpp_dt"):
        values[name] = np.full((len(sites), len(time)), np.nan)
        for row, stamps in enumerate(records.values()):
            light = np.maximum(0, np.sin(2 * np.pi * (stamps.hour - 6) / 24)) * (1 + row)
            values[name][row, time.get_indexer(stamps)] = 10 * light + random.uniform(0, 1, len(stamps))
    values |= {f"{name}_qc": np.where(np.isnan(values[name]), np.nan, 0) for name in ("ta", "sw_in", "vpd", "nee")}
    dataset = xr.Dataset(
        {name: (("site", "time"), numbers, {"long_name": name}) for name, numbers in values.items()},
        {"site": list(sites), "time": time},
    ).assign(latitude=("site", np.linspace(-30, 50, len(sites))), longitude=("site", np.linspace(-70, 10, len(sites))))
    store_packed(dataset, path)
    return path


def store_packed(dataset: xr.Dataset, path: Path) -> None:
    """As uint16 with scale and offset."""
    packing = {}
    for name, values in dataset.data_vars.items():
        low, high = float(values.min()), float(values.max())
        packing[str(name)] = {
            "dtype": "uint16",
            "_FillValue": np.uint16(65535),
            "scale_factor": max(high - low, 1.0) / 65000,
            "add_offset": low,
        }
    dataset.chunk(site=1).to_zarr(path, zarr_format=2, encoding=packing)

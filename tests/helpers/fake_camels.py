"""Small files in the layouts of CAMELS-CH and CAMELS-GB."""

from pathlib import Path

import numpy as np
import pandas as pd

CH = {
    "discharge_vol": "discharge_vol(m3/s)",
    "discharge_spec": "discharge_spec(mm/d)",
    "waterlevel": "waterlevel(m)",
    "precipitation": "precipitation(mm/d)",
    "temperature_min": "temperature_min(degC)",
    "temperature_mean": "temperature_mean(degC)",
    "temperature_max": "temperature_max(degC)",
    "rel_sun_dur": "rel_sun_dur(%)",
    "swe": "swe(mm)",
}
GB = [
    "precipitation",
    "pet",
    "temperature",
    "discharge_spec",
    "discharge_vol",
    "peti",
    "humidity",
    "shortwave_rad",
    "longwave_rad",
    "windspeed",
]


def ch_file(root, site, kind="observation"):
    """Where a Swiss series lies."""
    return Path(root) / "time_series" / f"{kind}_based" / f"CAMELS_CH_{kind[:3]}_based_{site}.csv"


def gb_file(root, site):
    """Where a British series lies."""
    return Path(root) / "timeseries" / f"CAMELS_GB_hydromet_timeseries_{site}_19701001-20150930.csv"


def write_series(path, columns, start="2000-01-01"):
    """A table with a row a day; missing is NaN, as in both data sets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    days = pd.date_range(start, periods=len(next(iter(columns.values()))), unit="s")
    pd.DataFrame(columns, index=pd.Index(days.strftime("%Y-%m-%d"), name="date")).to_csv(path, na_rep="NaN")
    return path


def write_ch_attributes(root, group, lines, folder="static_attributes"):
    """A Swiss attribute file: a line of explanation, then the table, in Latin-1."""
    path = Path(root) / folder / f"CAMELS_CH_{group}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["# Attributes, derived from this, and that", *lines]) + "\n", encoding="latin-1")
    return path


def write_gb_attributes(root, group, lines):
    """A British attribute file."""
    path = Path(root) / f"CAMELS_GB_{group}_attributes.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def random_columns(names, days, seed=0):
    """Random weather, with a streamflow and a snow pack that follow the rain."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(5, 3, days).round(2) for name in names}
    rain = random.gamma(0.3, 9.0, days).round(2)
    slow = pd.Series(rain).ewm(halflife=9).mean().to_numpy().round(3)
    follows = {"precipitation": rain, "discharge_spec": slow, "swe": 9 * slow}
    return {name: follows.get(name, values) for name, values in columns.items()}


def _attribute_lines(sites, names):
    values = [",".join([site, *(str(seed + nth) for nth in range(len(names)))]) for seed, site in enumerate(sites)]
    return [",".join(["gauge_id", *names]), *values]


def write_ch(root, sites, attributes, start="1995-01-01", years=27):
    """Swiss basins with all columns; the first has no streamflow and the last no temperature."""
    for seed, site in enumerate(sites):
        columns = random_columns(CH, 365 * years, seed)
        for name in {0: ["discharge_spec", "discharge_vol"], len(sites) - 1: ["temperature_mean"]}.get(seed, []):
            columns[name][:] = np.nan
        write_series(ch_file(root, site), {CH[name]: values for name, values in columns.items()}, start)
    write_ch_attributes(root, "climate_attributes_obs", _attribute_lines(sites, attributes))


def write_gb(root, sites, attributes, years=6):
    """British basins with all columns."""
    for seed, site in enumerate(sites):
        write_series(gb_file(root, site), random_columns(GB, 365 * years, seed), "1970-10-01")
    write_gb_attributes(root, "topographic", _attribute_lines(sites, attributes))

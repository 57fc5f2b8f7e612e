"""Small files in the layout of Caravan."""

from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd

UNITS = "total_precipitation: Total precipitation [mm]\nta_x: Air temperature of X [°C]\nno unit here\n"


def write_csv(root, source, gauge, series, start="2000-01-01", ending="\n"):
    """A CSV file; `series` are columns by name, NaN an empty field."""
    path = Path(root) / "timeseries" / "csv" / source / f"{gauge}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    days = pd.date_range(start, periods=len(next(iter(series.values()))), unit="s")
    table = pd.DataFrame(series, index=pd.Index(days.strftime("%Y-%m-%d"), name="date"))
    path.write_bytes(table.to_csv(lineterminator=ending).encode())
    return path


def write_nc(root, source, gauge, series, start="2000-01-01", day="date", calendar="standard", **said):
    """A NetCDF file of one gauge; `said` are global attributes."""
    path = Path(root) / "timeseries" / "netcdf" / source / f"{gauge}.nc"
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension(day, len(next(iter(series.values()))))
        time = file.createVariable(day, "i8", (day,))
        time.units, time.calendar = f"days since {start}", calendar
        time[:] = np.arange(time.size)
        for name, values in series.items():
            file.createVariable(name, "f4", (day,), fill_value=np.nan)[:] = values
        file.setncatts(said)
    return path


def write_attributes(root, source, group, lines):
    """The file attributes/<source>/<group>, of lines of text."""
    path = Path(root) / "attributes" / source / group
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_many(path, gauges, series, fixed, units=None, start="1981-01-01"):
    """One NetCDF file of many gauges, as bytes and with the attribute `unit`; `series` (gauge, day)."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("basin_id", len(gauges))
        file.createDimension("time", next(iter(series.values())).shape[1])
        file.createDimension("length", 64)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = f"days since {start}", "proleptic_gregorian"
        time[:] = np.arange(time.size)
        for name, values in {"basin_id": gauges, **fixed}.items():
            if isinstance(values[0], str):
                letters = file.createVariable(name, "S1", ("basin_id", "length"))
                letters[:] = netCDF4.stringtochar(np.array([value.encode() for value in values], dtype="S64"))
            else:
                file.createVariable(name, "f8", ("basin_id",))[:] = values
        for name, values in series.items():
            variable = file.createVariable(name, "f4", ("basin_id", "time"), fill_value=np.nan)
            variable[:] = values
            variable.unit = (units or {}).get(name, "-")
    return path


def random_series(names, days, seed=0):
    """Random weather, and a streamflow that follows the rain."""
    random = np.random.default_rng(seed)
    series = {name: random.normal(5, 3, days).round(2) for name in names if name != "streamflow"}
    rain = random.gamma(0.3, 9.0, days).round(2)
    return {**series, "total_precipitation_sum": rain, "streamflow": pd.Series(rain).ewm(halflife=9).mean().to_numpy()}


def write_caravan(root, inputs, attributes, years=6):
    """Two sources, one in CSV, one in NetCDF, of records that are not alike."""
    for seed, (source, gauge, write, start) in enumerate(
        [("camels", "camels_01022500", write_csv, "1990-01-01"), ("grdc", "GRDC_7", write_nc, "1991-06-01")]
    ):
        write(root, source, gauge, random_series(inputs, 365 * years, seed), start)
        lines = [
            ",".join(["gauge_id", *attributes]),
            ",".join([gauge, *(str(seed + nth) for nth in range(len(attributes)))]),
        ]
        write_attributes(root, source, f"attributes_caravan_{source}.csv", lines)

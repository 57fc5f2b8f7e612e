"""The daily table of a SWAT basin, as the MPTT paper used it: one CSV file, a column a variable."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.preparing.checks import listed, site_names
from mptt.datamodules.preparing.derived import bent_day_of_year
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.tables import TextTable, check_days, described, note_cut, read_text
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError
from mptt.files import write_atomically

SWAT_INPUTS = ("DOYbent", "PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "SOLARMJ/m2", "WINDM/s", "RHmd")

SWAT_COLUMNS = {  # column: (unit, what it is)
    "PRECIPmm": ("mm/day", "precipitation"),
    "TMP_MXdgC": ("degC", "daily maximum air temperature"),
    "TMP_MNdgC": ("degC", "daily minimum air temperature"),
    "SOLARMJ/m2": ("MJ/m2/day", "solar radiation"),
    "WINDM/s": ("m/s", "wind speed"),
    "RHmd": ("1", "relative humidity"),
    "SNOFALLmm": ("mm/day", "snowfall, water equivalent"),
    "SNOMELTmm": ("mm/day", "snow melt, water equivalent"),
    "SNOmm": ("mm", "snow on the ground, water equivalent"),
    "PETmm": ("mm/day", "potential evapotranspiration"),
    "ETmm": ("mm/day", "evapotranspiration"),
    "SW_INITmm": ("mm", "soil water at the start of the day"),
    "SW_ENDmm": ("mm", "soil water at the end of the day"),
    "PERCmm": ("mm/day", "percolation out of the soil"),
    "GW_RCHGmm": ("mm/day", "recharge of both aquifers"),
    "DA_RCHGmm": ("mm/day", "recharge of the deep aquifer"),
    "REVAPmm": ("mm/day", "water that evaporates from the shallow aquifer"),
    "SA_STmm": ("mm", "storage of the shallow aquifer"),
    "DA_STmm": ("mm", "storage of the deep aquifer"),
    "SURQ_GENmm": ("mm/day", "surface runoff generated"),
    "SURQ_CNTmm": ("mm/day", "surface runoff to the channel"),
    "TLOSSmm": ("mm/day", "transmission loss of the channel"),
    "LATQGENmm": ("mm/day", "lateral flow generated"),
    "LATQCNTmm": ("mm/day", "lateral flow to the channel"),
    "GW_Qmm": ("mm/day", "flow of the shallow aquifer to the channel"),
    "GW_Q_Dmm": ("mm/day", "flow of the deep aquifer to the channel"),
    "DAILYCN": ("1", "curve number of the day"),
    "LAI": ("m2/m2", "leaf area index"),
    "QTILEmm": ("mm/day", "tile flow"),
    "Q_pred_mm": ("mm/day", "streamflow at the outlet"),
    "DOYbent": ("day", "day of year bent at 183: 183 - |day of year - 183|"),
}


class SWATDataModule(SeriesDataModule):
    """Soil water, snow or streamflow of one simulated SWAT basin, with the set-up of the MPTT paper as default.

    The paper's 1000-year table is not distributed; `SimulatedBasin` yields one with the same columns. The file is a CSV
    whose `Date` column holds YYYY-MM-DD, one row a day; `read_swat_csv` says what else it may hold. Site is the file's
    name without its ending. Targets of different memory: SW_ENDmm (years), SNOmm (a season), Q_pred_mm (days).

    Args:
        path: of the CSV file.
        years: keep only the first so many years; all by default.
        inputs: columns, and `DOYbent`, which is computed from the date.
        targets: columns.
        warmup: days at the start of validation and test that are fed but not scored; the paper drops two years.
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Xu, Khandelwal, Renganathan and Kumar (2024), Message Propagation Through Time, SIAM Data Mining,
        arXiv:2309.16882.
        Arnold et al. (1998), Large area hydrologic modeling and assessment, doi:10.1111/j.1752-1688.1998.tb05961.x.

    Example:
        >>> SWATDataModule("basin.csv", targets=["SNOmm"], years=100).window
        366
    """

    def __init__(
        self,
        path: str | Path,
        years: int | None = None,
        inputs: Sequence[str] = SWAT_INPUTS,
        targets: Sequence[str] = ("SW_ENDmm",),
        warmup: int = 730,
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, warmup=warmup, **series)
        if years is not None and years < 1:
            raise MPTTError(f"SWATDataModule keeps the first {years} years; years is at least 1, or None for all.")
        self.path, self.years = Path(path), years

    def load(self) -> xr.Dataset:
        """Read the file, keep the first `years`, add DOYbent."""
        dataset = read_swat_csv(self.path)
        if self.years is not None:
            end = years_after(dataset["time"].values[0], self.years)
            if dataset["time"].values[-1] < end - np.timedelta64(1, "D"):
                raise MPTTError(
                    f"{self.path} has {dataset.sizes['time']} days, fewer than the {self.years} years asked for;"
                    " use years=None for all of it."
                )
            dataset = dataset.sel(time=dataset["time"] < end)
        return add_bent_day(dataset)


def read_swat_csv(path: str | Path) -> xr.Dataset:
    """Read a daily SWAT table.

    Columns may come in any order, and any of them may be absent; those of `SWAT_COLUMNS` get units, others are read
    without. Empty fields, NA and NaN are missing values. Rows must be consecutive days.

    Args:
        path: of a CSV file (comma separated, UTF-8) with a header line and a column `Date`, YYYY-MM-DD.

    Returns:
        float32 variables on (site, time); time is datetime64[s], the site is the file's name without its ending.

    Raises:
        MPTTError: no such file, not a text file, no rows, no `Date`, a line that is not a row of the table, or dates
            that do not go up a day at a time.
    """
    path = Path(path)
    _check_file(path)
    content = read_text(path)
    header = _header(path, content)
    kinds = {name: "str" if name == "Date" else "float32" for name in header}
    text = TextTable(path, content, kinds, skip=1, separator=",", date_fault=_date_fault)
    table = text.read()
    if table.empty:
        raise MPTTError(f"{path} is empty below its header line; a SWAT table has a row a day.")
    time = _time(text, table["Date"])
    note_cut(path, content)
    variables = {
        name: (("site", "time"), table[name].to_numpy()[None], _attributes(name)) for name in header if name != "Date"
    }
    return xr.Dataset(variables, {"site": [path.stem], "time": time}, _about(path))


def swat_csv_source(path: str | Path) -> Source:
    """A daily SWAT table as a data set of one site, read when asked for; `read_swat_csv` says what it may hold."""
    path = Path(path)
    _check_file(path)
    settings = {"class_path": "SWATDataModule", "init_args": {"path": str(path)}}
    sites = xr.Dataset(coords={"site": [path.stem]})
    return Source("SWAT table", path, [path.stem], lambda _: _one_site(path), sites, _about(path), settings)


def recognise_swat_csv(path: Path) -> bool:
    """Whether a path is a CSV file with a column Date and at least two of SWAT's."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(65_536)
    names = [name.strip() for name in first.decode("utf-8-sig", errors="replace").split(",")]
    return "Date" in names and len({*names} & {*SWAT_COLUMNS}) >= 2


def _one_site(path: Path) -> xr.Dataset:
    return read_swat_csv(path).isel(site=0).drop_vars("site")


LAYOUT = Layout(
    "swat_csv",
    "the MPTT paper's daily table of a SWAT basin: one CSV file, a column a variable",
    recognise_swat_csv,
    swat_csv_source,
)


def write_swat_csv(dataset: xr.Dataset, path: str | Path) -> None:
    """Write one site as the CSV table that `read_swat_csv` reads.

    float32 values come back as they were, to the last bit. DOYbent is left out: the date says it.

    Args:
        dataset: one site; daily variables on (site, time).
        path: of the file, which is overwritten.

    Raises:
        MPTTError: more or fewer sites than one.
    """
    if dataset.sizes.get("site") != 1:
        sites = site_names(dataset) if "site" in dataset.dims else []
        raise MPTTError(
            f"A SWAT table holds one site, found: {listed(sites)}. Choose one, as in dataset.sel(site=[name])."
        )
    columns = {"Date": np.datetime_as_string(dataset["time"].values, unit="D")}
    columns |= {
        str(name): values.transpose("site", "time").values[0]
        for name, values in dataset.data_vars.items()
        if name != "DOYbent" and set(values.dims) == {"site", "time"}
    }
    write_atomically(path, pd.DataFrame(columns).to_csv(index=False))


def add_bent_day(dataset: xr.Dataset) -> xr.Dataset:
    """The data set with the variable DOYbent on (site, time)."""
    bent = bent_day_of_year(dataset["time"]).expand_dims(site=dataset["site"]).copy()
    return dataset.assign(DOYbent=bent.assign_attrs(_attributes("DOYbent")))


def years_after(date: np.datetime64, years: int) -> np.datetime64:
    """The same day of the month so many calendar years on (1 March for a 29 February that is not there)."""
    month = date.astype("datetime64[M]")
    return (month + 12 * years).astype("datetime64[D]") + (date.astype("datetime64[D]") - month.astype("datetime64[D]"))


def _about(path: Path) -> dict[str, str]:
    return {
        "title": f"SWAT table {path.name}, one site",
        "source": str(path),
        "license": "Of those who ran the simulation; SWAT itself is in the public domain.",
        "references": (
            "Xu et al. (2024), Message Propagation Through Time, SIAM Data Mining, arXiv:2309.16882; Arnold et al."
            " (1998), Large area hydrologic modeling and assessment, doi:10.1111/j.1752-1688.1998.tb05961.x"
        ),
    }


def _attributes(name: str) -> dict[str, str]:
    return described(*SWAT_COLUMNS.get(name, ("", name)))


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        beside = listed(sorted(file.name for file in path.parent.glob("*.csv")))
        raise MPTTError(
            f"No SWAT table at {path}: found {found} there (looked from {Path.cwd()}; CSV files in that folder:"
            f" {beside}). The table of the MPTT paper is not distributed; SimulatedBasin makes one with the same"
            " columns."
        )


def _header(path: Path, content: bytes) -> list[str]:
    """The column names."""
    first = content.partition(b"\n")[0].decode("utf-8-sig")
    header = [name.strip() for name in next(csv.reader([first.strip("\r")]))]
    if "Date" not in header:
        raise MPTTError(
            f"{path} has no column Date (YYYY-MM-DD). Its first line holds: {', '.join(header)[:200]}. Columns are"
            " separated by commas."
        )
    if twice := sorted({name or "(no name)" for name in header if header.count(name) > 1 or not name}):
        raise MPTTError(f"{path} has columns without a name or with the same one: {', '.join(twice)}. Rename them.")
    return header


def _date_fault(row: Mapping[str, str]) -> str | None:
    text = row["Date"]
    try:
        good = len(text) == 10 and not bool(np.isnat(np.datetime64(text, "D")))
    except ValueError:
        good = False
    return None if good else f"{text!r} is not a date YYYY-MM-DD"


def _time(text: TextTable, dates: pd.Series[str]) -> npt.NDArray[np.datetime64]:
    """The rows' dates, one day apart."""
    try:
        if not dates.str.len().eq(10).all():
            raise ValueError("not all dates have ten characters")
        days: npt.NDArray[np.datetime64] = dates.to_numpy(dtype="U10").astype("datetime64[D]")
    except ValueError as error:
        text.refuse(f"a Date is not YYYY-MM-DD ({error})")
    check_days(text.path, days)
    return days.astype("datetime64[s]")

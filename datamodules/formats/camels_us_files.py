"""The text files of CAMELS-US, each a table with a row a day: weather, streamflow, and output of a calibrated model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.datamodules.reading.markers import MARKERS, without_markers
from mptt.datamodules.reading.tables import TextTable, check_days, read_text
from mptt.errors import MPTTError

FORCING = {  # variable: (unit, what it is)
    "dayl": ("s", "length of the day"),
    "prcp": ("mm/day", "precipitation"),
    "srad": ("W/m2", "shortwave radiation, mean over the daylight hours"),
    "swe": ("mm", "snow water equivalent"),
    "tmax": ("degC", "daily maximum air temperature"),
    "tmin": ("degC", "daily minimum air temperature"),
    "vp": ("Pa", "water vapour pressure"),
}

HEADER = {  # one number a line, above the table of a forcing file; the area there is in m2
    "latitude": ("degrees_north", "latitude of the basin"),
    "elevation": ("m", "elevation of the basin"),
    "area": ("km2", "area of the basin, from the header of the forcing file"),
}

MODEL = {  # column of a model output file: (variable, unit, what it is)
    "SWE": ("model_swe", "mm", "snow water equivalent, SNOW-17 model"),
    "PRCP": ("model_prcp", "mm/day", "precipitation that the model was given"),
    "RAIM": ("model_rain_plus_melt", "mm/day", "rain plus snow melt, SNOW-17 model"),
    "TAIR": ("model_tair", "degC", "air temperature that the model was given"),
    "PET": ("model_pet", "mm/day", "potential evapotranspiration, Priestley-Taylor"),
    "ET": ("model_et", "mm/day", "evapotranspiration, SAC-SMA model"),
    "MOD_RUN": ("model_streamflow", "mm/day", "streamflow, SNOW-17 and SAC-SMA model"),
    "OBS_RUN": (
        "model_observed_streamflow",
        "mm/day",
        "streamflow that the model was calibrated to; holds numbers on days without observation: use streamflow",
    ),
}

_DATE = ("year", "mnth", "day")
_SAME = {"yr": "year", "month": "mnth", "mo": "mnth", "dy": "day"}  # other names of the columns of a date
_FLOW = {"gauge": "int64", **dict.fromkeys(_DATE, "int64"), "flow": "float64", "flag": "category"}
_CUBIC_FOOT = 0.028316846592  # m3
_SPELLINGS = {"mm/day": {"mm/day", "mm/d"}, "W/m2": {"w/m2", "w/m^2"}, "degC": {"c", "degc"}}  # in small letters
_LARGEST_HEADER = 65_536  # bytes


class Stretch(NamedTuple):
    """Consecutive days of some variables."""

    start: np.datetime64
    values: npt.NDArray[np.float32]  # (variable, day)

    @property
    def stop(self) -> np.datetime64:
        """The day after the last."""
        return self.start + np.timedelta64(self.values.shape[1], "D")


def read_header(path: Path) -> dict[str, float]:
    """The three numbers above the table of a forcing file: latitude, elevation, area in m2; the table is not read.

    Raises:
        MPTTError: one is not there, or the area is not positive.
    """
    try:
        with path.open("rb") as file:
            lines = b"".join(file.readline(_LARGEST_HEADER) for _ in range(5))
    except OSError:
        lines = b""
    # A faulty file is read whole: what to say of it depends on the rest.
    good = lines.isascii() and lines.count(b"\n") >= 4 and b"\0" not in lines and lines.split(b"\n", 4)[4].strip()
    return _header(path, _top(path, lines if good else read_text(path)))


def read_weather(path: Path) -> Stretch:
    """The variables of `FORCING`, in their order.

    Raises:
        MPTTError: the file is cut short, or has a line that is not a row of the table.
    """
    content = read_text(path)
    top = _top(path, content)
    _header(path, top)
    # Products differ in case and order, in spaces or tabs, and all write the unit in brackets.
    columns = [re.sub(r"\(.*", "", name).lower() for name in top[3].split()]
    _check_units(path, top[3].split())
    table, start = _table(path, content, [_SAME.get(name, name) for name in columns], FORCING, 4, top[3])
    values = {name: table[name].to_numpy(np.float32) for name in FORCING}
    return Stretch(start, np.stack(list(without_markers(path.parent, values).values())))


def read_flow(path: Path, basin: str, area: float) -> Stretch:
    """Streamflow in mm/day over an area in m2; -999 and the like and the flag M are missing.

    Raises:
        MPTTError: a line is no row of the table, or of another basin.
    """
    text = TextTable(path, read_text(path), _FLOW, skip=0, separator=None, date_fault=_date_fault)
    table = text.read()
    if (other := table["gauge"] != int(basin)).any():
        found = f"{table['gauge'].to_numpy()[other.to_numpy().argmax()]:08d}"
        raise MPTTError(f"{path} has rows of gauge {found}, by its name it is of {basin}.")
    cubic_feet = table["flow"].to_numpy()
    missing = np.isin(cubic_feet, MARKERS) | (table["flag"] == "M").to_numpy()
    depth = cubic_feet * (_CUBIC_FOOT * 86400 * 1000 / area)
    return Stretch(_first_day(text, table), np.where(missing, np.nan, depth).astype(np.float32)[None])


def read_model(path: Path) -> Stretch:
    """The variables of `MODEL`, in their order; a negative observed streamflow is missing.

    Raises:
        MPTTError: the file is cut short, or has a line that is not a row of the table.
    """
    content = read_text(path)
    names, _, rows = content.decode("utf-8-sig").partition("\n")
    if not rows.strip():
        raise MPTTError(f"{path} is cut short: it has no row below its line of column names. Get an intact copy.")
    columns = [_SAME.get(name.lower(), name.lower()) for name in names.split()]
    table, start = _table(path, content, columns, [name.lower() for name in MODEL], 1, names)
    values = table[[name.lower() for name in MODEL]].to_numpy(np.float32).T
    observed = values[list(MODEL).index("OBS_RUN")]
    observed[observed < 0] = np.nan
    return Stretch(start, values)


def _check_units(path: Path, names: Sequence[str]) -> None:
    """Check the units in brackets after the names of columns.

    Raises:
        MPTTError: other units than those of the data set.
    """
    for name in names:
        column, _, units = name.partition("(")
        due = FORCING.get(column.lower(), ("", ""))[0]
        if due and units and units.rstrip(")").lower() not in _SPELLINGS.get(due, {due.lower()}):
            raise MPTTError(f"{path}, line 4: the column {name} is not in {due}, as it is in CAMELS-US. Convert it.")


def _top(path: Path, content: bytes) -> list[str]:
    top = content.decode("utf-8-sig").split("\n", 4)
    if len(top) < 5 or not top[4].strip():
        raise MPTTError(
            f"{path} is cut short: {len(content.splitlines())} line(s), where latitude, elevation, area, a line of"
            " column names and a row a day are due. Get an intact copy."
        )
    return top


def _header(path: Path, top: Sequence[str]) -> dict[str, float]:
    header = {name: _header_number(path, line, name, top[line - 1]) for line, name in enumerate(HEADER, start=1)}
    if header["area"] <= 0:
        raise MPTTError(
            f"{path}, line 3: the area is {header['area']:g} m2; streamflow in mm/day needs a positive one."
        )
    return header


def _header_number(path: Path, line: int, name: str, text: str) -> float:
    try:
        number = float(text)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    unit = "m2" if name == "area" else HEADER[name][0]
    raise MPTTError(f"{path}, line {line}: the {name} ({unit}), one number, is due here; found {text.strip()[:120]!r}.")


def _table(
    path: Path, content: bytes, columns: list[str], due: Sequence[str] | Mapping[str, object], line: int, names: str
) -> tuple[pd.DataFrame, np.datetime64]:
    """The rows below a line of column names, and the first of their days."""
    if missing := [name for name in dict.fromkeys([*_DATE, *due, *columns]) if columns.count(name) != 1]:
        raise MPTTError(
            f"{path}, line {line}: column(s) {', '.join(missing)} not there once. Due are Year Mnth Day Hr"
            f" {' '.join(due)}, found {names.strip()[:200]!r}."
        )
    kinds = {name: "int64" if name in _DATE else "float64" if name in due else "skip" for name in columns}
    text = TextTable(path, content, kinds, skip=line, separator=None, date_fault=_date_fault)
    table = text.read()
    _check_end(path, content)
    return table, _first_day(text, table)


def _check_end(path: Path, content: bytes) -> None:
    """Check that the last number has as many decimals as that above it, where no line end shows that it is whole.

    Raises:
        MPTTError: it has not.
    """
    if content.endswith((b"\n", b"\r")):
        return
    above, last = ([b"", b"", *content.splitlines()])[-2:]
    decimals = [len(line.split()[-1].partition(b".")[2]) if line.split() else 0 for line in (above, last)]
    if decimals[1] < decimals[0]:
        line = len(content.splitlines())
        raise MPTTError(
            f"{path}, line {line}: the file is cut short in its last line, {last.decode()[-60:]!r}. Get an intact copy."
        )


def _first_day(text: TextTable, table: pd.DataFrame) -> np.datetime64:
    """The first of the rows' dates, once they are known to be a day apart."""
    days, valid = _days(*(table[name].to_numpy() for name in _DATE))
    if not valid.all():
        text.refuse("a row has no valid date")
    check_days(text.path, days)
    first: np.datetime64 = days[0]
    return first


def _date_fault(row: Mapping[str, str]) -> str | None:
    date = np.array([[int(row[name])] for name in _DATE])
    return None if _days(*date)[1].all() else f"{'-'.join(row[name] for name in _DATE)} is not a date"


def _days(
    year: npt.NDArray[np.int64], month: npt.NDArray[np.int64], day: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.bool_]]:
    """Dates, and whether they are in the calendar; years that no gauge has seen are slips too."""
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    days: npt.NDArray[np.datetime64] = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    valid = (year >= 1800) & (year <= 2200) & (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months)
    return days, valid

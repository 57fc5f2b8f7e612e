"""CAMELS-US: daily weather and streamflow of 671 basins in the contiguous United States, as published."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.camels_us_attributes import read_attributes
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.tables import TextTable, check_days, described, read_text
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning

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

_CITATION = (
    "Newman et al. (2015), Development of a large-sample watershed-scale hydrometeorological data set for the"
    " contiguous USA, Hydrol. Earth Syst. Sci., 19, 209-223, doi:10.5194/hess-19-209-2015;"
    " Addor et al. (2017), The CAMELS data set: catchment attributes and meteorology for large-sample studies,"
    " Hydrol. Earth Syst. Sci., 21, 5293-5313, doi:10.5194/hess-21-5293-2017"
)
_LICENSE = (
    "No licence file comes with the data; the authors ask for both papers to be cited. Streamflow is of the U.S."
    " Geological Survey, public domain. Terms: doi:10.5065/D6MW2F4D"
)

_DATE = ("year", "mnth", "day")
_FLOW = {"gauge": "int64", **dict.fromkeys(_DATE, "int64"), "flow": "float64", "flag": "category"}
_FORCING_FILE = re.compile(r"(\d{8})_lump_\w+_forcing_leap\.txt")
_FLOW_FILE = re.compile(r"(\d{8})_streamflow_qc\.txt")
_NO_FLOW = -999.0
_CUBIC_FOOT = 0.028316846592  # m3
_DAY = np.timedelta64(1, "D")


class CAMELSUSDataModule(SeriesDataModule):
    """Streamflow of CAMELS-US basins from daily weather.

    CAMELS-US holds 671 basins of the contiguous United States with little human influence: daily weather averaged over
    the basin, from 1980 on, by several products (`daymet`, `maurer`, `maurer_extended`, `nldas`), gauged streamflow,
    and some sixty static attributes. It is not downloaded here; get it from doi:10.5065/D6MW2F4D (series) and
    doi:10.5065/D6G73C3Q (attributes) and lay it out as published, with or without the folders of hydrologic units::

        root/basin_mean_forcing/<product>/[<unit>/]<gauge>_lump_<product>_forcing_leap.txt
        root/usgs_streamflow/[<unit>/]<gauge>_streamflow_qc.txt
        root/camels_attributes_v2.0/camels_{clim,geol,hydro,name,soil,topo,vege}.txt

    Variables on (site, time): dayl (s), prcp (mm/day), srad (W/m2), swe (mm), tmax and tmin (degC), vp (Pa), streamflow
    (mm/day). On (site,): area (km2), elevation (m), latitude, and the columns of the attribute files. `read_camels_us`
    says more. Attributes of camels_hydro.txt are made from the streamflow of all years: as inputs they tell a model of
    the test period. In the files of `maurer` and `nldas`, tmax and tmin are both the mean temperature of the day;
    swe is 0 throughout in every file that this was tried on.

    Args:
        root: the folder.
        basins: 8-digit gauge ids, or the path of a text file with one a line; by default all.
        forcing: product of the weather.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,); the attribute files are needed only for theirs.
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Newman et al. (2015), doi:10.5194/hess-19-209-2015 (series); Addor et al. (2017), doi:10.5194/hess-21-5293-2017
        (attributes). Cite both.

    Example:
        >>> CAMELSUSDataModule("camels_us", ["01031500"], attributes=["area", "aridity"]).input_size
        7
    """

    def __init__(
        self,
        root: str | Path,
        basins: Sequence[str] | str | Path | None = None,
        forcing: str = "daymet",
        inputs: Sequence[str] = ("prcp", "srad", "tmax", "tmin", "vp"),
        targets: Sequence[str] = ("streamflow",),
        attributes: Sequence[str] = (),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.root, self.basins, self.forcing = root, basins, forcing

    def load(self) -> xr.Dataset:
        """Read the basins; the attribute files only where an attribute of theirs is asked for."""
        return read_camels_us(self.root, self.basins, self.forcing, attributes=not set(self.attributes) <= set(HEADER))


def read_camels_us(
    root: str | Path,
    basins: Sequence[str] | str | Path | None = None,
    forcing: str = "daymet",
    attributes: bool = True,
) -> xr.Dataset:
    """Read CAMELS-US basins from the files as published.

    Weather and streamflow are put together by date. The time axis runs from the first to the last day of any file; a
    variable is NaN where its file has no such day. Streamflow comes in cubic feet per second and is divided by the
    area in the forcing file's header; -999 and the flag M are missing, 0 is a dry river. Columns of a forcing file
    other than the seven are left out. An attribute missing for a basin is NaN, or "" if it is text.

    Args:
        root: the folder with `basin_mean_forcing` and `usgs_streamflow`; `CAMELSUSDataModule` shows the layout.
        basins: 8-digit gauge ids, kept in their order, or the path of a text file with one a line. By default every
            basin with both weather of that product and streamflow, sorted; a warning names those with only one.
        forcing: product of the weather, a folder in `basin_mean_forcing`.
        attributes: whether to add the columns of `camels_attributes_v2.0/camels_*.txt`.

    Returns:
        float32 variables on (site, time): dayl, prcp, srad, swe, tmax, tmin, vp, streamflow (mm/day). On (site,):
        area (km2), elevation, latitude and the attributes, float32 or text. Sites are gauge ids, time is datetime64[s]
        at the start of the day.

    Raises:
        MPTTError: a folder, file, product or basin is not there; a file is cut short, binary, of another basin, without
            a positive area, or has a line that is not a row of the table; its dates do not go up a day at a time.
    """
    root = Path(root)
    products = _folder(root, "basin_mean_forcing")
    product = _product(products, forcing)
    of_weather = _files(product, _FORCING_FILE, "<gauge>_lump_<product>_forcing_leap.txt")
    of_flow = _files(_folder(root, "usgs_streamflow"), _FLOW_FILE, "<gauge>_streamflow_qc.txt")
    chosen = _choose(basins, of_weather, of_flow, forcing)
    records = [_read_basin(basin, of_weather[basin], of_flow[basin]) for basin in chosen]
    dataset = _assemble(chosen, records)
    if attributes:
        dataset = dataset.assign(read_attributes(root, chosen, taken=dataset))
    dataset.attrs = {
        "title": f"CAMELS-US, {len(chosen)} basins, {forcing} forcing",
        "source": str(root),
        "license": _LICENSE,
        "references": _CITATION,
    }
    return dataset


class _Record(NamedTuple):
    """One basin: its header, and two stretches of days."""

    header: dict[str, float]
    weather_start: np.datetime64
    weather: npt.NDArray[np.float32]  # (variable, day)
    flow_start: np.datetime64
    flow: npt.NDArray[np.float32]  # (day,), mm/day


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    if folder.is_dir():
        return folder
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise MPTTError(
            f"No CAMELS-US folder at {root}: found {found} there (looked from {Path.cwd()}). Give the folder that holds"
            " basin_mean_forcing and usgs_streamflow; the data are at doi:10.5065/D6MW2F4D."
        )
    inside = next((path for depth in ("*", "*/*") for path in sorted(root.glob(f"{depth}/{name}"))), None)
    raise MPTTError(
        f"{root} has no folder {name}; it holds {listed(sorted(path.name for path in root.iterdir()))}."
        + (f" There is one in {inside.parent}: give that as root." if inside else " Give the folder that has it.")
    )


def _product(products: Path, forcing: str) -> Path:
    there = sorted(path.name for path in products.iterdir() if path.is_dir())
    if forcing not in there:
        raise MPTTError(f"No forcing {forcing!r} in {products}; products there: {listed(there)}.")
    return products / forcing


def _files(folder: Path, pattern: re.Pattern[str], like: str) -> dict[str, Path]:
    """The file of each basin, in the folder or in folders of hydrologic units inside it."""
    files: dict[str, Path] = {}
    for path in [*folder.glob("*.txt"), *folder.glob("*/*.txt")]:
        if match := pattern.fullmatch(path.name):
            basin = match[1]
            if basin in files:
                raise MPTTError(f"Basin {basin} has two files, {files[basin]} and {path}; keep one of them.")
            files[basin] = path
    if not files:
        raise MPTTError(f"No file {like} in {folder}, nor in folders inside it. Unpack the data there.")
    return files


def _choose(
    basins: Sequence[str] | str | Path | None, of_weather: Mapping[str, Path], of_flow: Mapping[str, Path], forcing: str
) -> list[str]:
    known = sorted(set(of_weather) | set(of_flow))
    lacks = {
        basin: f"{forcing} forcing" if basin in of_flow else "streamflow"
        for basin in known
        if not (basin in of_weather and basin in of_flow)
    }
    if basins is None:
        incomplete = [f"{basin} (no {what})" for basin, what in lacks.items()]
        if len(lacks) == len(known):
            raise MPTTError(f"No basin has both {forcing} forcing and streamflow: {listed(incomplete)}.")
        if lacks:
            warnings.warn(
                f"{len(lacks)} of {len(known)} basins left out: {listed(incomplete)}.", MPTTWarning, stacklevel=3
            )
        return [basin for basin in known if basin not in lacks]
    chosen = _basin_list(basins) if isinstance(basins, str | Path) else list(basins)
    if not chosen:
        raise MPTTError("The list of basins is empty; basins=None reads all.")
    for basin in chosen:
        if not isinstance(basin, str):
            hint = f"{basin:08d}" if isinstance(basin, int | np.integer) else "01031500"
            raise MPTTError(f"A basin is a string of 8 digits, as {hint!r}; found {basin!r} ({type(basin).__name__}).")
    if unknown := [basin for basin in chosen if basin not in of_weather and basin not in of_flow]:
        near = difflib.get_close_matches(unknown[0], known, n=3)
        hint = f"Near {unknown[0]!r}: {', '.join(near)}" if near else f"There are {listed(known)}"
        raise MPTTError(f"No file of basin {listed(unknown)}. {hint}.")
    if lacking := [f"{basin} (no {lacks[basin]})" for basin in chosen if basin in lacks]:
        raise MPTTError(f"Basins asked for are not complete: {listed(lacking)}.")
    if twice := sorted({basin for basin in chosen if chosen.count(basin) > 1}):
        raise MPTTError(f"Basins asked for more than once: {listed(twice)}.")
    return chosen


def _basin_list(path: str | Path) -> list[str]:
    if not Path(path).is_file():
        raise MPTTError(
            f"No list of basins at {path} (looked from {Path.cwd()}). Give the path of a text file with an id a line,"
            " or a list of ids, as ['01031500']."
        )
    return Path(path).read_text(encoding="utf-8-sig").split()


def _read_basin(basin: str, weather_file: Path, flow_file: Path) -> _Record:
    header, weather_start, weather = _read_weather(weather_file)
    flow_start, flow = _read_flow(flow_file, basin, header["area"])
    return _Record(header, weather_start, weather, flow_start, flow)


def _read_weather(path: Path) -> tuple[dict[str, float], np.datetime64, npt.NDArray[np.float32]]:
    content = read_text(path)
    top = content.decode("utf-8-sig").split("\n", 4)
    if len(top) < 5 or not top[4].strip():
        raise MPTTError(
            f"{path} is cut short: {len(content.splitlines())} line(s), where latitude, elevation, area, a line of"
            " column names and a row a day are due. Get an intact copy."
        )
    header = {name: _header_number(path, line, name, top[line - 1]) for line, name in enumerate(HEADER, start=1)}
    if header["area"] <= 0:
        raise MPTTError(
            f"{path}, line 3: the area is {header['area']:g} m2; streamflow in mm/day needs a positive one."
        )
    # Products differ in case and in spaces or tabs, and all write the unit in brackets.
    columns = [re.sub(r"\(.*", "", name).lower() for name in top[3].split()]
    if missing := [name for name in dict.fromkeys([*_DATE, *FORCING, *columns]) if columns.count(name) != 1]:
        raise MPTTError(
            f"{path}, line 4: column(s) {', '.join(missing)} not there once. Due are Year Mnth Day Hr"
            f" {' '.join(FORCING)}, found {top[3].strip()[:200]!r}."
        )
    kinds = {name: "int64" if name in _DATE else "float64" for name in columns}
    text = TextTable(path, content, kinds, skip=4, separator=None, date_fault=_date_fault)
    table = text.read()
    return header, _first_day(text, table), table[list(FORCING)].to_numpy(np.float32).T


def _header_number(path: Path, line: int, name: str, text: str) -> float:
    try:
        number = float(text)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    unit = "m2" if name == "area" else HEADER[name][0]
    raise MPTTError(f"{path}, line {line}: the {name} ({unit}), one number, is due here; found {text.strip()[:120]!r}.")


def _read_flow(path: Path, basin: str, area: float) -> tuple[np.datetime64, npt.NDArray[np.float32]]:
    text = TextTable(path, read_text(path), _FLOW, skip=0, separator=None, date_fault=_date_fault)
    table = text.read()
    if (other := table["gauge"] != int(basin)).any():
        found = f"{table['gauge'].to_numpy()[other.to_numpy().argmax()]:08d}"
        raise MPTTError(f"{path} has rows of gauge {found}, by its name it is of {basin}.")
    cubic_feet = table["flow"].to_numpy()
    missing = (cubic_feet == _NO_FLOW) | (table["flag"] == "M").to_numpy()
    depth = cubic_feet * (_CUBIC_FOOT * 86400 * 1000 / area)
    return _first_day(text, table), np.where(missing, np.nan, depth).astype(np.float32)


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


def _assemble(basins: list[str], records: list[_Record]) -> xr.Dataset:
    start = min(min(record.weather_start, record.flow_start) for record in records)
    stop = max(
        max(record.weather_start + record.weather.shape[1] * _DAY, record.flow_start + len(record.flow) * _DAY)
        for record in records
    )
    days = int((stop - start) // _DAY)
    weather = np.full((len(FORCING), len(records), days), np.nan, dtype=np.float32)
    flow = np.full((len(records), days), np.nan, dtype=np.float32)
    for site, record in enumerate(records):
        first = int((record.weather_start - start) // _DAY)
        weather[:, site, first : first + record.weather.shape[1]] = record.weather
        first = int((record.flow_start - start) // _DAY)
        flow[site, first : first + len(record.flow)] = record.flow
    variables: dict[str, Any] = {
        name: (("site", "time"), values, described(*FORCING[name]))
        for name, values in zip(FORCING, weather, strict=True)
    }
    variables["streamflow"] = (("site", "time"), flow, described("mm/day", "streamflow over the area of the basin"))
    for name, texts in HEADER.items():
        values = np.array([record.header[name] for record in records])
        values = (values / 1e6 if name == "area" else values).astype(np.float32)
        variables[name] = ("site", values, described(*texts))
    time = (start + np.arange(days)).astype("datetime64[s]")
    return xr.Dataset(variables, {"site": ("site", np.array(basins), {"long_name": "USGS gauge id"}), "time": time})

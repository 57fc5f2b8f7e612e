"""FLUXNET: fluxes of carbon, water and energy at towers, from the product files as downloaded."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from mptt.datamodules.formats.fluxnet_quality import Quality, check_quality, keep_good, needed_columns, trimmed
from mptt.datamodules.formats.fluxnet_variables import CITATION, FINE, LICENSE, STEPS, description, is_quality
from mptt.datamodules.preparing.checks import check_sites, listed
from mptt.datamodules.reading.frames import csv_header
from mptt.datamodules.reading.places import read_bytes
from mptt.datamodules.reading.resampling import daily as to_days
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.tables import TextTable, check_text
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError

_NAME = re.compile(
    r"[A-Z]+_(?P<site>[A-Z]{2}-[A-Za-z0-9]{3})_FLUXNET(?:2015|-CH4)?_(?:(?P<product>[A-Z0-9]+)_)?"
    r"(?P<step>HH|HR|DD|WW|MM|YY)(?:_.*)?\.csv"
)
_ARCHIVE = re.compile(r"[A-Z]+_[A-Z]{2}-[A-Za-z0-9]{3}_FLUXNET.*\.zip")
_STAMPS = ("TIMESTAMP_START", "TIMESTAMP", "TIMESTAMP_END")
_DIGITS = {"HH": 12, "HR": 12, "DD": 8, "WW": 8, "MM": 6, "YY": 4}
_MISSING = -9999


class FLUXNETDataModule(SeriesDataModule):
    """Fluxes at FLUXNET towers from the weather there.

    FLUXNET2015 holds 212 towers, the Warm Winter 2020 release 73 of Europe in the same form; ICOS and AmeriFlux publish
    it too. It is not downloaded here: get it from fluxnet.org, or doi:10.18160/2G60-ZHAK, and point `root` at the
    folder. Files may lie in it, in folders of a site each, or in the archives as they came::

        root/FLX_<site>_FLUXNET2015_FULLSET_<years>_<version>/FLX_<site>_FLUXNET2015_FULLSET_DD_<years>_<version>.csv

    Variables are the columns, on (site, time). Those mostly used, with the units of days: TA_F (degC), SW_IN_F and
    LW_IN_F (W m-2), VPD_F (hPa), PA_F (kPa), P_F (mm/day), WS_F (m s-1), TS_F_MDS_1 (degC), SWC_F_MDS_1 (%), LE_F_MDS
    and H_F_MDS (W m-2), NEE_VUT_REF, GPP_NT_VUT_REF and RECO_NT_VUT_REF (gC m-2 d-1; umolCO2 m-2 s-1 in half-hours),
    and *_ERA, the weather of a reanalysis brought to the tower. `read_fluxnet` says more.

    Args:
        root: the folder.
        product: "FULLSET", "SUBSET", "ERAI" or "ERA5".
        step: "DD", "HH" (which takes hourly files too), "WW", "MM" or "YY".
        sites: to read, as "DE-Tha"; by default all that have such a file.
        daily: whether to make days from half-hours.
        least_good: of a day's half-hours, the smallest share that must be there.
        quality: the worst quality of a value that is kept: of half-hours the largest flag, of longer steps the smallest
            share of good values. A number is for the targets, {variable: number} for any.
        inputs: variables (site, time).
        targets: variables (site, time).
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Pastorello et al. (2020), doi:10.1038/s41597-020-0534-3. Cite it, and the towers' own DOIs.

    Example:
        >>> FLUXNETDataModule("fluxnet", sites=["DE-Tha"], targets=["LE_F_MDS"]).input_size
        3
    """

    def __init__(
        self,
        root: str | Path,
        product: str = "FULLSET",
        step: str = "DD",
        sites: Sequence[str] | None = None,
        daily: bool = False,
        least_good: float = 0.8,
        quality: float | dict[str, float] | None = None,
        inputs: Sequence[str] = ("SW_IN_F", "TA_F", "VPD_F"),
        targets: Sequence[str] = ("GPP_NT_VUT_REF",),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, **series)
        self.root, self.product, self.step, self.sites_read = root, product, step, sites
        self.daily, self.least_good = daily, least_good
        self.quality = dict.fromkeys(self.targets, quality) if isinstance(quality, float | int) else quality

    def load(self) -> xr.Dataset:
        """Read the columns that are needed."""
        return fluxnet_source(
            self.root,
            self.product,
            self.step,
            self.sites_read,
            self.daily,
            self.least_good,
            self.quality,
            self.needed,
        ).dataset(self.needed)


def read_fluxnet(
    path: str | Path,
    product: str = "FULLSET",
    step: str = "DD",
    sites: Sequence[str] | None = None,
    daily: bool = False,
    least_good: float = 0.8,
    quality: Quality = None,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read FLUXNET product files.

    -9999 is missing in every column. Rows at either end that have no value, as the year 2020 of the ERAI files, are
    no part of a site's record. A date is the start of its step, in local standard time without summer time.

    Columns that end in _QC tell the quality of others: in half-hours a flag (0 measured, 1 good filling, 2 medium, or
    from ERA, 3 poor), in days and longer the share of values that are measured or well filled. GPP and RECO are judged
    by the NEE that they are computed from, LE_CORR and H_CORR by LE_F_MDS and H_F_MDS.

    Days from half-hours are means of the values that are there; precipitation is their sum, divided by the share of the
    day that is there. Fluxes of carbon stay in umolCO2 m-2 s-1, where the daily files have gC m-2 d-1 (times 1.0378);
    the columns of quality become shares, as in the daily files.

    Args:
        path: a folder, an archive, or a file; `FLUXNETDataModule` shows the layout.
        product: as in the files' names.
        step: as in the files' names; "HH" takes those of hourly towers, HR, too.
        sites: to read, in their order; by default all, sorted.
        daily: whether to make days from half-hours.
        least_good: of a day's half-hours, the smallest share that must be there and good.
        quality: the worst quality that is kept: a number, or one by variable. What has no quality is left out then.
        variables: columns to read; by default all.

    Returns:
        float32 variables on (site, time); sites have names as "DE-Tha".

    Raises:
        MPTTError: no such files, two of one site, a line that is no row of its table, dates that do not go up.
    """
    return fluxnet_source(path, product, step, sites, daily, least_good, quality, variables).dataset(variables)


def fluxnet_source(
    path: str | Path,
    product: str = "FULLSET",
    step: str = "DD",
    sites: Sequence[str] | None = None,
    daily: bool = False,
    least_good: float = 0.8,
    quality: Quality = None,
    variables: Sequence[str] | None = None,
) -> Source:
    """The same, read a site at a time."""
    if step not in STEPS:
        raise MPTTError(f"There is no step {step!r}; steps are {', '.join(STEPS)}.")
    flags = step in FINE
    if daily and not flags:
        raise MPTTError(f'daily=True makes days from half-hours (step="HH"); found step={step!r}.')
    check_quality(quality, flags)
    files = _choose(Path(path), product, step, sites)

    def read(site: str) -> xr.Dataset:
        table = trimmed(_read_file(files[site], variables, quality))
        table = keep_good(table, quality, flags, files[site], variables)
        if daily and table.sizes["time"]:
            table = trimmed(_days(table, files[site], least_good))
        kept = [name for name in table.data_vars if variables is None or name in variables]
        return table[kept]

    names = list(files)
    about = {
        "title": f"FLUXNET {product}, {'days from half-hours' if daily else f'a value a {STEPS[step]}'}",
        "source": str(path),
        "license": LICENSE,
        "references": CITATION,
        "time_zone": "local standard time of each site; a date is the start of its step",
    }
    attributes = xr.Dataset(coords={"site": ("site", np.array(names, dtype=np.str_))})
    chosen: dict[str, Any] = {
        "root": str(path),
        "product": product,
        "step": step,
        "sites": names if sites is not None else None,
    }
    chosen |= {"daily": daily or None, "quality": dict(quality) if isinstance(quality, Mapping) else quality}
    chosen |= {"least_good": least_good if daily else None}
    settings = {name: value for name, value in chosen.items() if value is not None}
    return Source(
        "FLUXNET",
        Path(path),
        names,
        read,
        attributes,
        about,
        {"class_path": "FLUXNETDataModule", "init_args": settings},
    )


@dataclass(frozen=True)
class _File:
    """A product file, in a folder or in an archive."""

    path: Path
    member: str | None
    site: str
    product: str
    step: str

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    def content(self) -> bytes:
        if self.member is None:
            return check_text(str(self), read_bytes(self.path))
        try:
            with zipfile.ZipFile(self.path) as archive:
                return check_text(str(self), archive.read(self.member))
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise MPTTError(f"{self} cannot be unpacked: {error}. Get an intact copy.") from error


def find_files(path: Path) -> list[_File]:
    """All product files at a path."""
    if path.is_file():
        candidates = [path]
    else:
        candidates = sorted(one for depth in ("*", "*/*") for one in path.glob(depth) if one.is_file())
    found = []
    for one in candidates:
        if match := _NAME.fullmatch(one.name):
            found.append(_File(one, None, match["site"], match["product"] or "FULLSET", match["step"]))
        elif _ARCHIVE.fullmatch(one.name):
            found += _members(one)
    return found


def _members(archive: Path) -> list[_File]:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise MPTTError(f"{archive} is no archive that can be read: {error}. Get an intact copy.") from error
    matches = [(name, _NAME.fullmatch(name.rpartition("/")[2])) for name in names]
    return [
        _File(archive, name, match["site"], match["product"] or "FULLSET", match["step"])
        for name, match in matches
        if match
    ]


def recognise(path: Path) -> bool:
    """Whether there are files with names of FLUXNET products."""
    return path.exists() and any(
        _NAME.fullmatch(one.name) or _ARCHIVE.fullmatch(one.name)
        for one in ([path] if path.is_file() else [*path.glob("*"), *path.glob("*/*")])
    )


LAYOUT = Layout("fluxnet", "FLUXNET product files (CSV) of towers: carbon, water, energy", recognise, fluxnet_source)


def _choose(path: Path, product: str, step: str, sites: Sequence[str] | None) -> dict[str, _File]:
    """The file of each site."""
    if not path.exists():
        raise MPTTError(f"No FLUXNET files at {path}: nothing is there (looked from {Path.cwd()}).")
    there = find_files(path)
    if not there:
        inside = sorted(one.name for one in path.iterdir()) if path.is_dir() else [path.name]
        raise MPTTError(
            f"{path} holds no file called FLX_<site>_FLUXNET2015_<product>_<step>_<years>_<version>.csv, nor folders or"
            f" archives with one; found {listed(inside)}."
        )
    steps = FINE if step in FINE else (step,)
    files: dict[str, _File] = {}
    for one in sorted(there, key=lambda each: each.site):
        if one.product != product or one.step not in steps:
            continue
        if one.site in files:
            raise MPTTError(f"Site {one.site} has two files, {files[one.site]} and {one}; keep one of them.")
        files[one.site] = one
    if not files:
        kinds = sorted({f"{one.product} {one.step} ({one.site})" for one in there})
        raise MPTTError(f"{path} has no file of the product {product} with the step {step}; there are {listed(kinds)}.")
    if sites is None:
        return files
    if isinstance(sites, str):
        raise MPTTError(f"sites is a list of names; for one site, [{sites!r}].")
    check_sites(list(sites))
    if unknown := [site for site in sites if site not in files]:
        raise MPTTError(f"No {product} {step} file of site {listed(unknown)} in {path}; there are {listed(files)}.")
    return {site: files[site] for site in sites}


def _read_file(file: _File, variables: Sequence[str] | None, quality: Quality) -> xr.Dataset:
    """The columns wanted, and their qualities, on (time,)."""
    content = file.content()
    header, _ = csv_header(str(file), content, ",")
    stamps = [name for name in _STAMPS if name in header]
    if not stamps:
        raise MPTTError(f"{file} has no column TIMESTAMP, nor TIMESTAMP_START; its first line holds {listed(header)}.")
    columns = [name for name in header if name not in _STAMPS and not name.startswith("(column ")]
    wanted = needed_columns(variables, quality, columns)
    kinds = {name: "str" if name == stamps[0] else "float32" if name in wanted else "skip" for name in header}

    def fault(row: Mapping[str, str]) -> str | None:
        good = _time(np.array([row[stamps[0]]]), file.step) is not None
        form = "yyyymmddHHMM"[: _DIGITS[file.step]]
        return None if good else f"{stamps[0]} is {row[stamps[0]]!r}, not a date {form}"

    text = TextTable(str(file), content, kinds, 1, ",", fault)
    table = text.read()
    if table.empty:
        raise MPTTError(f"{file} has no row below its header.")
    time = _time(table[stamps[0]].fillna("").to_numpy(dtype=np.str_), file.step)
    if time is None:
        text.refuse("a row has no date of its step")
    if (back := np.diff(time) <= np.timedelta64(0, "s")).any():
        nth = int(back.argmax())
        raise MPTTError(
            f"{file}: the date {time[nth + 1]} stands after {time[nth]}; dates must go up. Get an intact copy."
        )
    values = {
        name: ("time", table[name].where(table[name] != _MISSING).to_numpy(np.float32), description(name, file.step))
        for name in map(str, table.columns)
        if name != stamps[0]
    }
    return xr.Dataset(values, {"time": pd.Index(time)})


def _time(stamps: npt.NDArray[np.str_], step: str) -> npt.NDArray[np.datetime64] | None:
    """Dates from digits; None if one is none."""
    digits = _DIGITS[step]
    if (np.char.str_len(stamps) != digits).any() or not np.char.isdecimal(stamps).all():
        return None
    number = stamps.astype(np.int64) * 10 ** (12 - digits)
    year, month, day = number // 10**8, number // 10**6 % 100, number // 10**4 % 100
    month, day = (np.maximum(part, 1) if digits < least else part for part, least in ((month, 6), (day, 8)))
    hour, minute = number // 100 % 100, number % 100
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    if not (valid & (hour < 24) & (minute < 60)).all():
        return None
    seconds: npt.NDArray[np.datetime64] = days.astype("datetime64[s]")
    return seconds + (3600 * hour + 60 * minute).astype("timedelta64[s]")


def _days(table: xr.Dataset, file: _File, least_good: float) -> xr.Dataset:
    names = [str(name) for name in table.data_vars]
    sums = [name for name in names if name == "P" or (name.startswith("P_") and not is_quality(name))]
    try:
        made = to_days(table, least_good, sums, [name for name in names if is_quality(name)])
    except MPTTError as error:
        raise MPTTError(f"{file}: {error}") from error
    for name in names:
        if name in sums or is_quality(name):
            made[name].attrs = description(name, "DD")
    return made

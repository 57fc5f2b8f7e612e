"""SWAT2012 as it prints: output.rch, output.sub and output.hru of a TxtInOut folder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.formats.swat_output_files import OutputFile, open_output
from mptt.datamodules.formats.swat_output_names import describe
from mptt.datamodules.formats.swat_output_rows import UNIT_NAMES
from mptt.datamodules.preparing.checks import check_choice, listed
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.tables import described
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning

KINDS = tuple(UNIT_NAMES)  # a folder's first of these is read by default
_SITE = {"sub": "sub", "rch": "reach", "hru": "hru"}
_FLOW = "FLOW_OUTcms"
_CITATION = (
    "Arnold et al. (2012), Soil and Water Assessment Tool input/output documentation, version 2012, chapter 32, Texas"
    " Water Resources Institute TR-439; Arnold et al. (1998), Large area hydrologic modeling and assessment,"
    " doi:10.1111/j.1752-1688.1998.tb05961.x"
)


class SWATOutputDataModule(SeriesDataModule):
    """Reaches, sub-basins or HRUs of a SWAT2012 simulation, from the files that SWAT printed.

    A folder TxtInOut, where SWAT ran, with one or more of::

        output.sub    sub-basins: PRECIPmm, SNOMELTmm, PETmm, ETmm, SWmm, WYLDmm ... sites sub_1, sub_2 ...
        output.rch    reaches: FLOW_OUTcms, SED_OUTtons ... sites reach_1, reach_2 ...
        output.hru    HRUs: PRECIPmm, SW_ENDmm, LAI, ... sites hru_1, hru_2 ...
        file.cio      when the run began, and whether it printed days, months or years

    `read_swat_output` says more. By default a sub-basin's water yield is learned from the rain, snow melt and potential
    evapotranspiration that SWAT printed for it.

    Args:
        path: the folder, or one of the files.
        kind: "sub", "rch" or "hru"; by default the first of them that the folder has.
        sites: names of those to read, as ["sub_3"]; all by default.
        start: the first date printed, YYYY-MM-DD; by default of file.cio.
        step: "daily", "monthly" or "yearly"; by default of file.cio.
        inputs: variables (site, time).
        targets: variables (site, time).
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Arnold et al. (2012), SWAT input/output documentation, version 2012, chapter 32.

    Example:
        >>> SWATOutputDataModule("TxtInOut", kind="rch", inputs=["FLOW_INcms"], targets=["streamflow"]).output_size
        1
    """

    def __init__(
        self,
        path: str | Path,
        kind: str | None = None,
        sites: Sequence[str] | None = None,
        start: str | None = None,
        step: str | None = None,
        inputs: Sequence[str] = ("PRECIPmm", "SNOMELTmm", "PETmm"),
        targets: Sequence[str] = ("WYLDmm",),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, **series)
        self.path, self.kind, self.sites_wanted, self.start, self.step = path, kind, sites, start, step

    def load(self) -> xr.Dataset:
        """Read the variables needed."""
        source = swat_output_source(self.path, self.kind, self.start, self.step, variables=self.needed)
        return (source if self.sites_wanted is None else source.choose(self.sites_wanted)).dataset(self.needed)


def read_swat_output(
    path: str | Path,
    kind: str | None = None,
    start: str | None = None,
    step: str | None = None,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read an output file of SWAT2012, daily, monthly or yearly.

    Columns are found by position: values may touch each other. Totals of a year and averages over years, which stand
    between the rows of monthly output, are left out. Asterisks, printed for a value wider than its column, and NaN are
    missing, with a warning. Columns MO DA YR (ICALEN = 1) are read as MON is. Variables have the names of the header,
    a blank or slash in them as an underscore, brackets left out: TOT_Nkg, SYLDt_ha, LAT_Qmm.

    Args:
        path: the folder, or a file output.rch, output.sub, output.hru of any name.
        kind: which file of the folder: "sub", "rch" or "hru"; by default the first of them that is there.
        start: the first date printed, YYYY-MM-DD: after the years skipped (NYSKIP). By default of file.cio in the same
            folder, which must then agree with the number of rows.
        step: "daily", "monthly" or "yearly"; by default likewise.
        variables: read only these; all by default.

    Returns:
        float32 variables on (site, time), in SWAT's units; amounts are per step (mm/day, mm/month, mm/year). For
        reaches also streamflow: FLOW_OUTcms over AREAkm2, in mm/day. On (site,): area (km2); of an HRU also subbasin,
        gis and land_use (that of the first step). Sites are reach_N, sub_N and hru_N, N the number in the file; time is
        datetime64[s] at the start of each step.

    Raises:
        MPTTError: no such file, or one that is not as SWAT prints it: a row cut short, missing or out of order; dates
            that do not agree with file.cio, start and step.
    """
    return swat_output_source(path, kind, start, step, variables).dataset(variables)


def swat_output_source(
    path: str | Path,
    kind: str | None = None,
    start: str | None = None,
    step: str | None = None,
    variables: Sequence[str] | None = None,
) -> Source:
    """An output file of SWAT2012, read a unit at a time; arguments and errors are those of `read_swat_output`."""
    path = Path(path)
    output = open_output(_find(path, kind), start, step)
    if kind is not None and output.layout.kind != kind:
        raise MPTTError(f"{output.path} holds {UNIT_NAMES[output.layout.kind]} ({output.layout.kind!r}), not {kind!r}.")
    sites = [f"{_SITE[output.layout.kind]}_{number}" for number in output.numbers]
    area = output.areas()
    position = {site: nth for nth, site in enumerate(sites)}
    about = {
        "title": f"SWAT output of {len(sites)} {UNIT_NAMES[output.layout.kind]} ({output.path.name}), {output.step}",
        "source": str(output.path),
        "license": "Of those who ran the simulation; SWAT itself is in the public domain.",
        "references": _CITATION,
    }
    given = {"path": str(path), "kind": output.layout.kind, "start": start, "step": step}
    return Source(
        "SWAT output",
        path,
        sites,
        lambda site: _read(output, site, position[site], float(area[position[site]]), variables),
        _fixed(output, sites, area.astype(np.float32)),
        about,
        {"class_path": "SWATOutputDataModule", "init_args": {key: value for key, value in given.items() if value}},
    )


def recognise_swat_output(path: Path) -> bool:
    """Whether a path is an output file of SWAT, or a folder with one."""
    return path.name.lower() in _NAMES if path.is_file() else path.is_dir() and bool(_there(path))


LAYOUT = Layout(
    "swat_output",
    "SWAT2012 as it prints: TxtInOut/output.sub, output.rch or output.hru, with file.cio",
    recognise_swat_output,
    swat_output_source,
)

_NAMES = {f"output.{kind}": kind for kind in KINDS}


def _there(folder: Path) -> dict[str, Path]:
    """The output files of a folder by kind."""
    found = {_NAMES[path.name.lower()]: path for path in sorted(folder.iterdir()) if path.name.lower() in _NAMES}
    return {kind: found[kind] for kind in KINDS if kind in found}


def _find(path: Path, kind: str | None) -> Path:
    if kind is not None:
        check_choice("kind", kind, KINDS)
    if path.is_file():
        return path
    if not path.is_dir():
        raise MPTTError(
            f"No SWAT output at {path} (looked from {Path.cwd()}). Give the folder TxtInOut, or a file output.rch,"
            " output.sub or output.hru."
        )
    there = _there(path)
    wanted = kind or next(iter(there), None)
    if wanted not in there:
        missing = f"output.{kind}" if kind else "output.rch, output.sub or output.hru"
        beside = listed(file.name for file in there.values())
        raise MPTTError(f"{path} has no {missing}; of these it has: {beside}. Run SWAT, or give the folder it ran in.")
    return there[wanted]


def _read(output: OutputFile, site: str, unit: int, area: float, variables: Sequence[str] | None) -> xr.Dataset:
    with_flow = output.layout.kind == "rch" and _FLOW in output.layout.values
    wanted = [name for name in output.layout.values if variables is None or name in variables]
    read = {name: output.values(unit, name).astype(np.float32) for name in wanted}
    missing = {name: int((~np.isfinite(values)).sum()) for name, values in read.items()}
    if lacking := [f"{name} ({count})" for name, count in missing.items() if count]:
        warnings.warn(
            f"{output.path}: values of {site} that SWAT printed as asterisks or NaN are missing: {listed(lacking)}.",
            MPTTWarning,
            stacklevel=4,
        )
    found = {
        name: ("time", np.where(np.isfinite(values), values, np.nan), describe(name, output.step))
        for name, values in read.items()
    }
    if with_flow and (variables is None or "streamflow" in variables):
        if not area > 0:
            raise MPTTError(f"{output.path}: AREAkm2 of {site} is {area:g}; streamflow in mm/day needs a positive one.")
        flow = output.values(unit, _FLOW) * 86.4 / area
        text = described("mm/day", "streamflow out of the reach over the area upstream")
        found["streamflow"] = ("time", flow.astype(np.float32), text)
    return xr.Dataset(found, {"time": output.time})


def _fixed(output: OutputFile, sites: list[str], area: np.ndarray[Any, Any]) -> xr.Dataset:
    what = {"sub": "area of the sub-basin", "rch": "area upstream of the reach's end", "hru": "area of the HRU"}
    fixed: dict[str, Any] = {"area": ("site", area, described("km2", what[output.layout.kind]))}
    if output.layout.kind == "hru":
        subbasin = np.array([float(number) for number in output.labels("SUB")], np.float32)
        fixed["subbasin"] = ("site", subbasin, described("", "number of the sub-basin"))
        fixed["gis"] = ("site", np.array(output.labels("GIS"), np.str_), described("", "GIS code"))
        fixed["land_use"] = ("site", np.array(output.labels("LULC"), np.str_), described("", "land cover or crop"))
    return xr.Dataset(fixed, {"site": sites})

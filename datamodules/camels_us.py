"""CAMELS-US: daily weather and streamflow of 671 basins in the contiguous United States, as published."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.formats.camels_us_attributes import attribute_files, read_attributes
from mptt.datamodules.formats.camels_us_basins import choose_basins
from mptt.datamodules.formats.camels_us_files import (
    FORCING,
    HEADER,
    MODEL,
    Stretch,
    read_flow,
    read_header,
    read_model,
    read_weather,
)
from mptt.datamodules.formats.camels_us_folders import (
    FLOW_FILE,
    FOLDERS,
    FORCING_FILE,
    find_files,
    find_folder,
    find_model_files,
    find_product,
    product_names,
    usual_product,
)
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.reading.tables import described
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError, MPTTWarning

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
_STREAMFLOW = {"streamflow": described("mm/day", "streamflow over the area of the basin")}


class CAMELSUSDataModule(SeriesDataModule):
    """Streamflow of CAMELS-US basins from daily weather.

    CAMELS-US holds 671 basins of the contiguous United States with little human influence: daily weather averaged over
    the basin, from 1980 on, by several products (`daymet`, `maurer`, `nldas`, and the later `maurer_extended` and
    `nldas_extended`), gauged streamflow, some sixty static attributes, and the output of a calibrated model. It is not
    downloaded here; get it from doi:10.5065/D6MW2F4D (series) and doi:10.5065/D6G73C3Q (attributes) and lay it out as
    published, with or without the folders of hydrologic units::

        root/basin_mean_forcing/<product>/[<unit>/]<gauge>_lump_<product>_forcing_leap.txt
        root/usgs_streamflow/[<unit>/]<gauge>_streamflow_qc.txt
        root/camels_attributes_v2.0/camels_{clim,geol,hydro,name,soil,topo,vege}.txt
        root/model_output_<product>/model_output/flow_timeseries/<product>/[<unit>/]<gauge>_<seed>_model_output.txt

    Variables on (site, time): dayl (s), prcp (mm/day), srad (W/m2), swe (mm), tmax and tmin (degC), vp (Pa), streamflow
    (mm/day); several products: prcp_daymet, prcp_nldas and so on. On (site,): area (km2), elevation (m), latitude, and
    the columns of the attribute files. `read_camels_us` says more. Attributes of camels_hydro.txt are made from the
    streamflow of all years: as inputs they tell a model of the test period. In the files of `maurer` and `nldas`, tmax
    and tmin are both the mean temperature of the day; swe is 0 throughout in every file that this was tried on.

    Args:
        root: the folder.
        basins: 8-digit gauge ids, the path of a text file with one a line, or "531"; by default all.
        forcing: product of the weather, or a list of them; None: the one that most basins have.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,); the attribute files are needed only for theirs.
        attributes_root: the folder of the attribute files, where they are not in the root or beside it.
        model_output: whether to read the output of the calibrated model; see `read_camels_us`.
        model_seed: of the calibration; the smallest there by default.
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
        forcing: str | Sequence[str] | None = "daymet",
        inputs: Sequence[str] = ("prcp", "srad", "tmax", "tmin", "vp"),
        targets: Sequence[str] = ("streamflow",),
        attributes: Sequence[str] = (),
        attributes_root: str | Path | None = None,
        model_output: bool | str = False,
        model_seed: int | None = None,
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.root, self.basins, self.forcing, self.attributes_root = root, basins, forcing, attributes_root
        self.model_output, self.model_seed = model_output, model_seed

    def load(self) -> xr.Dataset:
        """Read the variables needed; the attribute files only where an attribute of theirs is."""
        latitudes = {str(sources["latitude"]) for sources in self.derive.values() if "latitude" in sources}
        files = not {*self.attributes, *latitudes} <= set(HEADER)
        options = (files, self.attributes_root, self.model_output, self.model_seed)
        return camels_us_source(self.root, self.basins, self.forcing, *options).dataset(self.needed)


def read_camels_us(
    root: str | Path,
    basins: Sequence[str] | str | Path | None = None,
    forcing: str | Sequence[str] | None = "daymet",
    attributes: bool = True,
    attributes_root: str | Path | None = None,
    model_output: bool | str = False,
    model_seed: int | None = None,
) -> xr.Dataset:
    """Read CAMELS-US basins from the files as published.

    Weather and streamflow are put together by date. The time axis runs from the first to the last day of any file; a
    variable is NaN where its file has no such day. Streamflow comes in cubic feet per second and is divided by the
    area in the forcing file's header; -999 and the flag M are missing, 0 is a dry river. Columns of a forcing file
    other than the seven are left out. An attribute missing for a basin is NaN, or "" if it is text.

    The model output is of SNOW-17 and SAC-SMA, calibrated to each basin from several seeds: model_swe (mm),
    model_rain_plus_melt, model_pet, model_et, model_streamflow (mm/day), and what the model was given: model_prcp,
    model_tair, model_observed_streamflow. The last holds numbers on days whose streamflow is flagged M, mostly 0, and
    is no observation then: take `streamflow` as the target.

    Args:
        root: the folder with `basin_mean_forcing` and `usgs_streamflow`; `CAMELSUSDataModule` shows the layout.
        basins: 8-digit gauge ids, kept in their order, or the path of a text file with one a line. By default every
            basin with all files asked for, sorted; a warning names those that lack one. "531" stands for the subset
            of Newman et al. (2017), doi:10.1175/JHM-D-16-0284.1: the ids in root/531_basin_list.txt (or
            basin_list_531.txt) where you have put the published list, else by their rule from camels_topo.txt: at
            most 2000 km2, and the two areas there within 10 % of each other. A warning says how many these are; of the
            published files the rule takes 558, of which 528 are in the published list of 531.
        forcing: product of the weather, a folder in `basin_mean_forcing` or in the root; or a list of them: variables
            then have names as prcp_daymet, and the area is that of the first product. None: that of most basins.
        attributes: whether to add the columns of `camels_attributes_v2.0/camels_*.txt`.
        attributes_root: the folder of these files; by default they are looked for in the root and beside it.
        model_output: whether to add the model's output for the (first) product; or the product.
        model_seed: of the calibration, as 5 for files <gauge>_05_model_output.txt; by default the smallest of each
            basin. The data set's attribute `model_seed` names those read.

    Returns:
        float32 variables on (site, time): dayl, prcp, srad, swe, tmax, tmin, vp, streamflow (mm/day). On (site,):
        area (km2), elevation, latitude and the attributes, float32 or text. Sites are gauge ids, time is datetime64[s]
        at the start of the day.

    Raises:
        MPTTError: a folder, file, product or basin is not there; a file is cut short, binary, of another basin, without
            a positive area, or has a line that is not a row of the table; its dates do not go up a day at a time.
    """
    options = (attributes, attributes_root, model_output, model_seed)
    return camels_us_source(root, basins, forcing, *options).dataset()


def camels_us_source(
    root: str | Path,
    basins: Sequence[str] | str | Path | None = None,
    forcing: str | Sequence[str] | None = None,
    attributes: bool | None = None,
    attributes_root: str | Path | None = None,
    model_output: bool | str = False,
    model_seed: int | None = None,
) -> Source:
    """CAMELS-US on disk, read a basin at a time; arguments and errors are those of `read_camels_us`, but for two.

    Args:
        root: the folder.
        basins: gauge ids.
        forcing: product of the weather, or several; by default the one that most basins have, with a note that names
            the others.
        attributes: whether to read the attribute files; by default if there are any, with a note where there are none.
        attributes_root: the folder of these files.
        model_output: whether to read the model's output, or the product.
        model_seed: of the calibration.
    """
    root = Path(root)
    elsewhere = None if attributes_root is None else Path(attributes_root)
    folder = find_folder(root, FOLDERS[0])
    if forcing is None:
        forcing = _usual(folder)
    products = [forcing] if isinstance(forcing, str) else list(forcing)
    if not products or len(set(products)) < len(products):
        raise MPTTError(f"forcing names a product, or several that differ; found {listed(products)}.")
    if attributes is None:
        attributes = elsewhere is not None or _has_attributes(root)
    weather = {
        name: find_files(find_product(folder, name), FORCING_FILE, "<gauge>_lump_<product>_forcing_leap.txt")
        for name in products
    }
    flow = find_files(find_folder(root, FOLDERS[1]), FLOW_FILE, "<gauge>_streamflow_qc.txt")
    needed: dict[str, Mapping[str, Any]] = {f"{name} forcing": files for name, files in weather.items()}
    needed["streamflow"] = flow
    simulated: dict[str, tuple[str, Path]] = {}
    if model_output:
        simulated = find_model_files(root, products[0] if model_output is True else model_output, model_seed)
        needed["model output"] = simulated
    chosen, how = choose_basins(basins, needed, root, elsewhere)
    headers = _headers(chosen, weather)
    fixed = _header_variables(chosen, headers)
    if attributes:
        fixed |= read_attributes(root, chosen, fixed, elsewhere)
    basin_files = _Files(weather, flow, simulated, {basin: headers[basin]["area"] for basin in chosen})
    about = {
        "title": f"CAMELS-US, {len(chosen)} basins, {' and '.join(products)} forcing",
        "source": str(root),
        "license": _LICENSE,
        "references": _CITATION,
        "basins": how,
    }
    if simulated:
        about["model_seed"] = listed((f"{basin} {simulated[basin][0]}" for basin in chosen), most=1000)
    given = {"root": str(root), "forcing": products[0] if len(products) == 1 else products}
    if elsewhere is not None:
        given["attributes_root"] = str(elsewhere)
    settings = {"class_path": "CAMELSUSDataModule", "init_args": given}
    coords = {"site": ("site", np.array(chosen), {"long_name": "USGS gauge id"})}
    return Source("CAMELS-US", root, chosen, basin_files.read, xr.Dataset(fixed, coords), about, settings)


def recognise_camels_us(path: Path) -> bool:
    """Whether a folder holds CAMELS-US as published."""
    return all((path / name).is_dir() for name in FOLDERS)


LAYOUT = Layout(
    "camels_us",
    "CAMELS-US as published: basin_mean_forcing/, usgs_streamflow/, camels_attributes_v2.0/",
    recognise_camels_us,
    camels_us_source,
)


def _usual(folder: Path) -> str:
    """The product that most basins have; a note names it and the others."""
    usual = usual_product(folder)
    if others := [name for name in product_names(folder) if name != usual]:
        warnings.warn(
            f"The weather of CAMELS-US is that of {usual}, which most basins have; say another with forcing:"
            f" {listed(others)}.",
            MPTTWarning,
            stacklevel=3,
        )
    return usual


def _has_attributes(root: Path) -> bool:
    try:
        return bool(attribute_files(root))
    except MPTTError as error:
        warnings.warn(f"Basins have the attributes of the forcing files only: {error}", MPTTWarning, stacklevel=3)
        return False


@dataclass(frozen=True)
class _Files:
    """The files of each basin, by product for the weather; of the model with its seed."""

    weather: Mapping[str, Mapping[str, Path]]
    flow: Mapping[str, Path]
    model: Mapping[str, tuple[str, Path]]
    area: Mapping[str, float]  # m2

    def read(self, basin: str) -> xr.Dataset:
        """One basin's series on its own days, from the first to the last of any of its files."""
        parts: list[tuple[Mapping[str, Mapping[str, str]], Stretch]] = []
        for product, files in self.weather.items():
            ending = f"_{product}" if len(self.weather) > 1 else ""
            of_product = f", {product}" if ending else ""
            texts = {f"{name}{ending}": described(unit, what + of_product) for name, (unit, what) in FORCING.items()}
            parts.append((texts, read_weather(files[basin])))
        parts.append((_STREAMFLOW, read_flow(self.flow[basin], basin, self.area[basin])))
        if self.model:
            texts = {name: described(unit, what) for name, unit, what in MODEL.values()}
            parts.append((texts, read_model(self.model[basin][1])))
        return _joined(parts)


def _joined(parts: Sequence[tuple[Mapping[str, Mapping[str, str]], Stretch]]) -> xr.Dataset:
    start = min(stretch.start for _, stretch in parts)
    days = int((max(stretch.stop for _, stretch in parts) - start) / np.timedelta64(1, "D"))
    variables = {}
    for texts, stretch in parts:
        first = int((stretch.start - start) / np.timedelta64(1, "D"))
        for (name, attrs), values in zip(texts.items(), stretch.values, strict=True):
            whole = np.full(days, np.nan, np.float32)
            whole[first : first + len(values)] = values
            variables[name] = ("time", whole, attrs)
    return xr.Dataset(variables, {"time": (start + np.arange(days)).astype("datetime64[s]")})


def _headers(basins: Sequence[str], weather: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, float]]:
    """The header of each basin's file of the first product; warns where another's area is not the same."""
    first, *others = weather.values()
    headers = {basin: read_header(first[basin]) for basin in basins}
    differ = [
        basin
        for basin in basins
        if any(abs(read_header(files[basin])["area"] / headers[basin]["area"] - 1) > 0.01 for files in others)
    ]
    if differ:
        warnings.warn(
            f"The areas in the forcing files of {len(differ)} basin(s) differ by more than 1 % between products, and"
            f" streamflow in mm/day is over that of {next(iter(weather))}: {listed(differ)}.",
            MPTTWarning,
            stacklevel=3,
        )
    return headers


def _header_variables(basins: Sequence[str], headers: Mapping[str, Mapping[str, float]]) -> dict[str, xr.Variable]:
    variables = {}
    for name, texts in HEADER.items():
        values = np.array([headers[basin][name] for basin in basins])
        values = (values / 1e6 if name == "area" else values).astype(np.float32)
        variables[name] = xr.Variable("site", values, described(*texts))
    return variables

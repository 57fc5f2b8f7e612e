"""FLUXNET: fluxes of carbon, water and energy at towers, from the product files as downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mptt.datamodules.formats.fluxnet_files import choose_products, holds_products
from mptt.datamodules.formats.fluxnet_quality import Quality, check_quality, keep_good, trimmed
from mptt.datamodules.formats.fluxnet_tables import make_days, read_product
from mptt.datamodules.formats.fluxnet_variables import CITATION, FINE, LICENSE, STEPS
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError


class FLUXNETDataModule(SeriesDataModule):
    """Fluxes at FLUXNET towers from the weather there.

    FLUXNET2015 holds 212 towers, the Warm Winter 2020 release 73 of Europe in the same form; ICOS and AmeriFlux publish
    it too. It is not downloaded here: get it from fluxnet.org, or doi:10.18160/2G60-ZHAK, and point `root` at the
    folder. Files may lie in it, in folders of a site each, or in the archives as they came::

        root/FLX_<site>_FLUXNET2015_FULLSET_<years>_<version>/FLX_<site>_FLUXNET2015_FULLSET_DD_<years>_<version>.csv

    Variables are the columns, on (site, time). Those mostly used, with the units of days: TA_F (degC), SW_IN_F and
    LW_IN_F (W m-2), VPD_F (hPa), PA_F (kPa), P_F (mm/day), WS_F (m s-1), TS_F_MDS_1 (degC), SWC_F_MDS_1 (%), LE_F_MDS
    and H_F_MDS (W m-2), NEE_VUT_REF, GPP_NT_VUT_REF and RECO_NT_VUT_REF (gC m-2 d-1; umolCO2 m-2 s-1 in half-hours),
    and `*_ERA`, the weather of a reanalysis brought to the tower. `read_fluxnet` says more.

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
        """Read the columns that are needed, of the towers that have every input."""
        read = read_fluxnet(
            self.root,
            self.product,
            self.step,
            self.sites_read,
            self.daily,
            self.least_good,
            self.quality,
            self.needed,
        )
        return self.usable(read, self.sites_read is not None)


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
    no part of a site's record. A date is the start of its step, in local standard time without summer time. A file that
    lies there unpacked and in its archive is read once; two versions of a site are refused.

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
        MPTTError: no such files, two of one site, a line that is no row of its table, dates that do not go up, weeks
            of several years, which are no equal steps.
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
    files = choose_products(Path(path), product, step, sites)

    def read(site: str) -> xr.Dataset:
        table = trimmed(read_product(files[site], variables, quality))
        table = keep_good(table, quality, flags, files[site], variables)
        if daily and table.sizes["time"]:
            table = trimmed(make_days(table, files[site], least_good))
        return table.drop_vars([name for name in table.data_vars if variables is not None and name not in variables])

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


LAYOUT = Layout(
    "fluxnet", "FLUXNET product files (CSV) of towers: carbon, water, energy", holds_products, fluxnet_source
)

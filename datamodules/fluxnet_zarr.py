"""FLUXNET2015 as one Zarr store: half-hours of all towers, in universal time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from mptt.datamodules.formats.fluxnet_quality import Quality, check_quality, keep_good, needed_columns, trimmed
from mptt.datamodules.formats.fluxnet_variables import CITATION, LICENSE, is_quality
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.arrays import open_arrays
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.reading.places import is_zarr, place_of
from mptt.datamodules.reading.resampling import daily as to_days
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.series import SeriesDataModule
from mptt.errors import MPTTError

Offset = float | Mapping[str, float]
_SUMS = ("p", "p_f", "precip", "precipitation")


class FLUXNETZarrDataModule(SeriesDataModule):
    """Carbon fluxes at FLUXNET towers from the weather there, days or half-hours, from one Zarr store.

    The store holds FLUXNET2015 put together by site and time (EXCITED-CO2, zarr-fluxnet2015): ta (degC), sw_in (W m-2),
    vpd (hPa), nee, gpp_nt and gpp_dt (umolCO2 m-2 s-1), each with a flag of quality (ta_qc, ..., nee_qc), on (site,
    time); latitude and longitude on (site,). `read_fluxnet_zarr` says what its dates mean.

    Args:
        path: of the store, or an address.
        sites: to read, as "DE-Tha"; by default all.
        daily: whether to make days; else half-hours.
        least_good: of a day's half-hours, the smallest share that must be there and good.
        quality: the largest flag of a value that is kept. A number is for the targets, {variable: number} for any.
        utc_offset: hours from universal to local standard time, or {site: hours}, by which days are cut.
        inputs: variables (site, time).
        targets: variables (site, time).
        attributes: variables (site,).
        series: the other arguments of `SeriesDataModule`: split, window, stride, batch_size and so on.

    References:
        Pastorello et al. (2020), doi:10.1038/s41597-020-0534-3. Cite it, and the towers' own DOIs.

    Example:
        >>> FLUXNETZarrDataModule("fluxnet.zarr", sites=["DE-Tha"], utc_offset={"DE-Tha": 1}).input_size
        3
    """

    def __init__(
        self,
        path: str | Path,
        sites: Sequence[str] | None = None,
        daily: bool = True,
        least_good: float = 0.8,
        quality: float | dict[str, float] | None = None,
        utc_offset: float | dict[str, float] = 0.0,
        inputs: Sequence[str] = ("sw_in", "ta", "vpd"),
        targets: Sequence[str] = ("gpp_dt",),
        attributes: Sequence[str] = (),
        **series: Any,
    ) -> None:
        super().__init__(None, inputs=inputs, targets=targets, attributes=attributes, **series)
        self.path, self.sites_read, self.daily, self.least_good = path, sites, daily, least_good
        self.quality = dict.fromkeys(self.targets, quality) if isinstance(quality, float | int) else quality
        self.utc_offset = utc_offset

    def load(self) -> xr.Dataset:
        """Read the variables that are needed, of the towers that have every input."""
        read = read_fluxnet_zarr(
            self.path, self.sites_read, self.daily, self.least_good, self.quality, self.utc_offset, self.needed
        )
        return self.usable(read, self.sites_read is not None)


def read_fluxnet_zarr(
    path: str | Path,
    sites: Sequence[str] | None = None,
    daily: bool = False,
    least_good: float = 0.8,
    quality: Quality = None,
    utc_offset: Offset = 0.0,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read FLUXNET2015 from a Zarr store.

    Dates are universal time, and the end of their half-hour: the record of DE-Tha, one hour ahead, begins with
    1995-12-31 23:30, which ends the first half-hour, by local standard time, of 1996. So the value of midnight belongs
    to the day before. Hourly towers, as US-Ha1, have each value twice, at the end of the hour and half an hour later.
    Values are packed; flags are whole to 0.0001. Steps at either end that have no value are no part of a site's record.

    Flags: 0 measured, 1 good filling, 2 medium, or from ERA, 3 poor; gpp_nt and gpp_dt are judged by nee_qc.

    Days are means of the values that are there, and of flags the share that is 0 or 1. They are cut at midnight of
    universal time: for a tower in Asia or America that is by day; `utc_offset` cuts them by local standard time.

    Args:
        path: of the store, or an address.
        sites: to read, in their order; by default all.
        daily: whether to make days.
        least_good: of a day's half-hours, the smallest share that must be there and good.
        quality: the largest flag that is kept: a number, or one by variable. What has no flag is left out then.
        utc_offset: hours from universal to local standard time, of all sites or {site: hours}.
        variables: to read; by default all.

    Returns:
        float32 variables on (site, time); latitude and longitude on (site,).

    Raises:
        MPTTError: no such store, one without sites and half-hours, a chunk that cannot be read.
    """
    return fluxnet_zarr_source(path, sites, daily, least_good, quality, utc_offset, variables).dataset(variables)


def fluxnet_zarr_source(
    path: str | Path,
    sites: Sequence[str] | None = None,
    daily: bool = False,
    least_good: float = 0.8,
    quality: Quality = None,
    utc_offset: Offset = 0.0,
    variables: Sequence[str] | None = None,
) -> Source:
    """The same, read a site at a time."""
    check_quality(quality, flags=True)
    place = place_of(path)
    dataset = open_dataset(path)
    if missing := {"site", "time"} - set(dataset.dims):
        raise MPTTError(f"{place} is no FLUXNET store: no dimension {listed(sorted(missing))}; see FilesDataModule.")
    columns = [str(name) for name, values in dataset.data_vars.items() if set(values.dims) == {"site", "time"}]
    wanted = needed_columns(variables, quality, columns)
    fixed = [name for name, values in dataset.data_vars.items() if "time" not in values.dims]
    ours = [name for name in columns if name in wanted]
    opened = open_arrays(dataset[[*(ours or columns[:1]), *fixed]], place, "", "site", "time")
    chosen = opened.sites if sites is None else list(sites)
    offset = _offsets(utc_offset, chosen)

    def read(site: str) -> xr.Dataset:
        table = keep_good(trimmed(opened.read(site)), quality, True, f"{place}, {site}", variables)
        names = [str(name) for name in table.data_vars]
        if daily and table.sizes["time"]:
            sums = [name for name in names if name in _SUMS]
            flags = [name for name in names if is_quality(name)]
            table = trimmed(to_days(table, least_good, sums, flags, stamps_end=True, offset_hours=offset[site]))
            for name in flags + sums:
                table[name].attrs["units"] = "mm/day" if name in sums else "1"
        unasked = [name for name in names if variables is not None and name not in variables]
        return table.drop_vars(unasked).astype("float32")

    about = {
        "title": f"FLUXNET2015, {'days from half-hours' if daily else 'half-hours'}",
        "source": str(path),
        "license": LICENSE,
        "references": CITATION,
        "time_zone": _time_zone(daily, offset),
    }
    given: dict[str, Any] = {
        "path": str(path),
        "sites": None if sites is None else chosen,
        "daily": daily,
        "least_good": least_good,
    }
    given |= {"quality": dict(quality) if isinstance(quality, Mapping) else quality}
    given |= {"utc_offset": dict(utc_offset) if isinstance(utc_offset, Mapping) else utc_offset}
    settings = {name: value for name, value in given.items() if value is not None}
    whole = Source(
        "FLUXNET store",
        place,
        opened.sites,
        read,
        opened.fixed,
        about,
        {"class_path": "FLUXNETZarrDataModule", "init_args": settings},
    )
    return whole if sites is None else whole.choose(chosen)


def recognise(path: Path) -> bool:
    """Whether there is a store with sites, half-hours and net ecosystem exchange."""
    return is_zarr(path) and all((path / name).is_dir() for name in ("site", "time", "nee", "nee_qc"))


ZARR_LAYOUT = Layout(
    "fluxnet_zarr", "FLUXNET2015 half-hours of towers in one Zarr store", recognise, fluxnet_zarr_source
)


def _offsets(utc_offset: Offset, sites: Sequence[str]) -> dict[str, float]:
    if not isinstance(utc_offset, Mapping):
        offsets = dict.fromkeys(sites, float(utc_offset))
    else:
        if absent := [site for site in sites if site not in utc_offset]:
            raise MPTTError(f"utc_offset names no hours for {listed(absent)}; give one of each site, or one number.")
        offsets = {site: float(utc_offset[site]) for site in sites}
    if wrong := [f"{site}: {hours}" for site, hours in offsets.items() if not -12 <= hours <= 14]:
        raise MPTTError(f"utc_offset is hours from universal to local standard time, -12 to 14; found {listed(wrong)}.")
    return offsets


def _time_zone(daily: bool, offset: Mapping[str, float]) -> str:
    if not daily:
        return "UTC; a date is the end of its half-hour"
    if not any(offset.values()):
        return "UTC; a date is the start of its day"
    hours = ", ".join(f"{site} UTC{value:+g}h" for site, value in list(offset.items())[:20])
    return f"local standard time ({hours}); a date is the start of its day"

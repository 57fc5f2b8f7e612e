"""A figure of a data set: where it has values, how they are distributed, where its sites lie."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mptt.experiments.data.survey import Survey, Variable
from mptt.experiments.figures.common import BLUE, SMALL, VERMILION, start_axes, whole_numbers

_MAPS, _HISTOGRAMS, _COLUMNS = 6, 12, 4
_NAMED_SITES = 12
_FEW_VALUES = 6
_SHADES = LinearSegmentedColormap.from_list("available", ["#f2f2f2", BLUE])


def data_set(survey: Survey) -> Figure:
    """Availability of the variables at each site over time, distributions of values, and a map of the sites.

    Variables that are available alike share a panel; the panels shown are those with most missing. A map is drawn where
    sites have attributes of latitude and longitude.

    Args:
        survey: of the data set.
    """
    groups = alike(survey)
    shown = groups[:_MAPS]
    some = survey.variables[:_HISTOGRAMS]
    place = coordinates(survey.source.attributes)
    rows = -(-(len(some)) // _COLUMNS)
    heights = [sum(_height(survey) for _ in shown) + 0.5, 1.35 * rows + 0.2, 3.0 if place is not None else 0]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    ratios = [height for height in heights if height]
    parts = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
    maps = parts[0].subplots(len(shown), squeeze=False, sharex=True)[:, 0]
    for axes, (names, share) in zip(maps, shown, strict=True):
        image = _availability(start_axes(axes), survey, names, share)
    maps[-1].set_xlabel("year")
    whole_numbers(maps[-1])
    bar = parts[0].colorbar(image, ax=list(maps), fraction=0.025, pad=0.01, ticks=[0, 0.5, 1])
    bar.set_label("share with a value", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    grid = parts[1].subplots(rows, _COLUMNS, squeeze=False).flat
    for axes, variable in zip_longest(grid, some):
        if variable is None:
            axes.set_axis_off()
        else:
            _distribution(start_axes(axes), variable)
    if place is not None:
        _site_map(start_axes(parts[2].subplots()), *place)
    return figure


def alike(survey: Survey) -> list[tuple[list[str], npt.NDArray[np.float64]]]:
    """Names of variables that are available alike, and (row, bin) the share; those with most missing first."""
    groups: dict[bytes, tuple[list[str], npt.NDArray[np.float64]]] = {}
    for variable in survey.variables:
        names, _ = groups.setdefault(variable.available.tobytes(), ([], survey.share(variable)))
        names.append(variable.name)
    return sorted(groups.values(), key=lambda group: float(np.nansum(group[1])))


def coordinates(attributes: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Latitude and longitude of the sites, where attributes are called so."""
    found = []
    for word, limit in (("lat(itude)?", 90), ("lon(g|gitude)?", 360)):
        called = re.compile(rf"(^|_){word}($|_)", re.IGNORECASE)
        good = [
            values
            for name, values in attributes.data_vars.items()
            if called.search(str(name)) and values.dtype.kind in "fiu" and (abs(values.dropna("site")) <= limit).all()
        ]
        # Of several, the one of the gauge or site itself.
        found.append(min(good, key=lambda values: len(str(values.name)), default=None))
    latitude, longitude = found
    if latitude is None or longitude is None or not (latitude.notnull() & longitude.notnull()).any():
        return None
    return latitude, longitude


def _height(survey: Survey) -> float:
    return float(np.clip(0.16 * len(survey.source.sites), 0.7, 1.6)) + 0.25


def _availability(axes: Axes, survey: Survey, names: Sequence[str], share: npt.NDArray[np.float64]) -> object:
    sites = len(survey.source.sites)
    edges = np.linspace(0, sites, len(share) + 1)
    image = axes.pcolormesh(
        survey.years, edges, np.ma.masked_invalid(share), cmap=_SHADES, vmin=0, vmax=1, rasterized=True
    )
    axes.set_ylim(sites, 0)
    axes.set_title(textwrap.shorten(", ".join(names), 110, placeholder=" ..."), fontsize=SMALL, loc="left", pad=3)
    if sites <= _NAMED_SITES:
        axes.set_yticks(np.arange(sites) + 0.5, survey.source.sites, fontsize=min(SMALL, 6.5))
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_ylabel(f"{sites} sites")
        axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    return image


def _distribution(axes: Axes, variable: Variable) -> None:
    values = variable.values
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    title = textwrap.shorten(variable.name.replace("_", " "), 60).replace(" ", "_")
    axes.set_title(title if len(title) <= 26 else title[:24] + "...", fontsize=SMALL - 0.5, loc="left", pad=3)
    axes.set_xlabel(variable.units or "no unit", fontsize=SMALL - 0.5, labelpad=1)
    axes.tick_params(labelsize=SMALL - 1.5)
    positive = values[values > 0]
    few = len(np.unique(values)) <= _FEW_VALUES
    if not len(values):
        axes.set_xticks([])
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", fontsize=SMALL)
    elif not few and (values >= 0).all() and len(positive) and np.quantile(values, 0.99) > 8 * np.median(values):
        # Rain and streamflow: most of it near zero.
        low, high = np.quantile(positive, [0.02, 1])
        axes.hist(positive, np.geomspace(low, high * 1.001, 40).tolist() if low < high else 40, color=BLUE)
        axes.set_xscale("log")
        axes.minorticks_off()
        if zero := np.mean(values == 0):
            axes.set_title(f"0: {100 * zero:.0f} %", fontsize=SMALL - 1.5, loc="right", pad=3)
    elif few:  # flags
        kinds = np.unique(values)
        axes.bar([f"{one:g}" for one in kinds], [np.mean(values == one) for one in kinds], color=BLUE, width=0.6)
    else:
        low, high = np.quantile(values, [0.001, 0.999])
        axes.hist(values, bins=40, range=(low, high) if low < high else None, color=BLUE)
        axes.locator_params(axis="x", nbins=4)


def _site_map(axes: Axes, latitude: xr.DataArray, longitude: xr.DataArray) -> None:
    east = longitude.where(longitude <= 180, longitude - 360)
    axes.plot(east, latitude, "o", color=VERMILION, markersize=float(np.clip(40 / len(east) ** 0.5, 1.5, 5)), mew=0)
    axes.set_aspect(1 / max(np.cos(np.deg2rad(float(latitude.mean()))), 0.2), adjustable="box")
    axes.margins(0.1)
    axes.set_xlabel("longitude (degrees east)")
    axes.set_ylabel("latitude (degrees north)")
    axes.grid(color="#dddddd", linewidth=0.5)

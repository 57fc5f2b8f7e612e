"""A figure of a data set: where it has values, how they are distributed, where its sites lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mptt.experiments.data.suggestion import guess_target
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
    some = telling(survey)[:_HISTOGRAMS]
    place = coordinates(survey.source.attributes)
    rows = -(-(len(some)) // _COLUMNS)
    heights = [sum(_height(survey) for _ in shown) + 0.5, 1.5 * rows + 0.2, 3.0 if place is not None else 0]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    ratios = [height for height in heights if height]
    parts = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
    maps = parts[0].subplots(len(shown), squeeze=False, sharex=True)[:, 0]
    for axes, (names, share) in zip(maps, shown, strict=True):
        image = _availability(start_axes(axes), survey, names, share)
    _years(maps[-1], survey)
    bar = parts[0].colorbar(image, ax=list(maps), fraction=0.025, pad=0.02, aspect=12 * len(shown), ticks=[0, 0.5, 1])
    bar.set_label("share of steps\nwith a value", fontsize=SMALL)
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
    if len(some) < len(survey.variables):
        parts[1].suptitle(f"{len(some)} of {len(survey.variables)} variables", fontsize=SMALL)
    return figure


def telling(survey: Survey) -> list[Variable]:
    """Variables in the order in which they are worth a look: the likely target, then others, flags and bounds last."""
    minor = re.compile(r"(^|_)(qc|flag|quality|sd|min|max|night|day|jointunc|randunc|\d\d)($|_)", re.IGNORECASE)
    target = guess_target(survey)

    def rank(one: Variable) -> tuple[bool, ...]:
        return one is not target, not one.count, not one.low < one.high, bool(minor.search(one.name))

    return sorted(survey.variables, key=rank)


def alike(survey: Survey) -> list[tuple[list[str], npt.NDArray[np.float64]]]:
    """Names of variables that are available alike, and (row, bin) the share; those with most missing first."""
    groups: dict[bytes, tuple[list[str], npt.NDArray[np.float64]]] = {}
    for variable in survey.variables:
        names, _ = groups.setdefault(variable.available.tobytes(), ([], survey.share(variable)))
        names.append(variable.name)
    return sorted(groups.values(), key=lambda group: float(np.nansum(group[1])))


def coordinates(attributes: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Latitude and longitude of the sites, where attributes are called so, of two sites at least."""
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
    if latitude is None or longitude is None or (latitude.notnull() & longitude.notnull()).sum() < 2:
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
    axes.set_title(_some_of(names, 90), fontsize=SMALL, loc="left", pad=3)
    if sites <= _NAMED_SITES:
        axes.set_yticks(np.arange(sites) + 0.5, survey.source.sites, fontsize=min(SMALL, 6.5))
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_ylabel(f"{sites} sites")
        axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    return image


def _some_of(names: Sequence[str], width: int) -> str:
    """As many names as there is room for, and how many there are more."""
    count = max((n for n in range(1, len(names) + 1) if len(", ".join(names[:n])) <= width), default=1)
    more = f" and {len(names) - count} more" if count < len(names) else ""
    return ", ".join(names[:count]) + more


def _years(axes: Axes, survey: Survey) -> None:
    """Years on the axis, or months where there are few."""
    first, last = survey.years[[0, -1]]
    if last - first > 3:
        axes.set_xlabel("year")
        whole_numbers(axes)
        return
    months = np.arange(round(12 * first), round(12 * last) + 1)
    months = months[:: max(-(-len(months) // 9), 1)]
    axes.set_xticks(months / 12, [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in months])
    axes.set_xlabel("month")


def _distribution(axes: Axes, variable: Variable) -> None:
    values = variable.values
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title(_in_lines(variable.name), fontsize=SMALL - 0.5, loc="left", pad=3)
    unit = "no unit" if variable.units in ("", "1", "-") else variable.units
    axes.set_xlabel(unit, fontsize=SMALL - 0.5, labelpad=1)
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
            axes.set_xlabel(f"{unit}, {100 * zero:.0f} % are 0", fontsize=SMALL - 0.5, labelpad=1)
    elif few:  # flags
        kinds = np.unique(values)
        axes.bar([f"{one:g}" for one in kinds], [np.mean(values == one) for one in kinds], color=BLUE, width=0.6)
    else:
        low, high = np.quantile(values, [0.001, 0.999])
        axes.hist(values, bins=40, range=(low, high) if low < high else None, color=BLUE)
        axes.locator_params(axis="x", nbins=4)


def _in_lines(name: str, width: int = 26) -> str:
    """A name in two lines at most, broken at _ where it can be; its end, which tells it from its like, is kept."""
    if len(name) <= width:
        return name
    if len(name) > 2 * width - 2:
        name = name[: width - 3] + "..." + name[-(width - 2) :]
    breaks = [at + 1 for at in range(len(name) - width - 1, width) if name[at] == "_"] or [width]
    return name[: breaks[-1]] + "\n" + name[breaks[-1] :]


def _site_map(axes: Axes, latitude: xr.DataArray, longitude: xr.DataArray) -> None:
    east = longitude.where(longitude <= 180, longitude - 360)
    axes.plot(east, latitude, "o", color=VERMILION, markersize=float(np.clip(40 / len(east) ** 0.5, 1.5, 5)), mew=0)
    axes.margins(0.1)
    if len(east) <= _NAMED_SITES:
        for site, x, y in zip(east["site"].values, east.values, latitude.values, strict=True):
            axes.annotate(str(site), (x, y), (4, 3), textcoords="offset points", fontsize=6.5)
    # A stretch of the map is as wide as it is on earth, and the map fills its place where the poles let it.
    wide = float(east.max() - east.min()) > 120
    scale = 1 / max(np.cos(np.deg2rad(float(latitude.mean()))), 0.2)
    axes.set_aspect(scale, adjustable="box" if wide else "datalim")
    axes.set_xlabel("longitude (degrees east)")
    axes.set_ylabel("latitude (degrees north)")
    axes.grid(color="#dddddd", linewidth=0.5)

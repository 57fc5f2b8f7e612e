"""What figures share: the look of a strategy, axes, legends, files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mptt.errors import MPTTError
from mptt.experiments.strategies import Strategy, find_strategy
from mptt.files import written_whole

# Okabe and Ito's palette: told apart by the colour-blind.
BLACK, BLUE, VERMILION = "#000000", "#0072B2", "#D55E00"
SMALL = 8  # points; of everything but a title
TOLD_APART = 6  # strategies that can be told apart where their lines cross


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and PDF beside each other."""
    for suffix in (".png", ".pdf"):
        # Without the date the same figure is the same file.
        metadata = {"CreationDate": None} if suffix == ".pdf" else None
        with written_whole(path.with_name(path.name + suffix)) as draft:
            figure.savefig(draft, format=suffix[1:], dpi=200, bbox_inches="tight", metadata=metadata)


def colour_of(strategy: str) -> str:
    """The colour of a strategy in every figure."""
    return _look(strategy).colour


def style_of(strategy: str) -> dict[str, Any]:
    """The colour and the line style of a strategy in every figure, as matplotlib takes them."""
    return {"color": colour_of(strategy), "linestyle": _look(strategy).line}


def _look(strategy: str) -> Strategy:
    """The strategy of a name; for one that is known elsewhere alone, what strategies look like by default."""
    try:
        return find_strategy(strategy)
    except MPTTError:
        return Strategy(strategy)


def targets_of(predictions: xr.Dataset) -> list[str]:
    """The targets of `predictions.nc`."""
    return [str(name) for name in predictions.data_vars if f"{name}_observed" in predictions]


def scored_steps(predictions: xr.Dataset) -> xr.DataArray:
    """Whether a step counts, (site, time): where the site has predictions, after its warm-up."""
    predicted = predictions[targets_of(predictions)[0]].notnull()
    warmup = int(predictions.attrs.get("warmup_steps", 0))
    # A part is one stretch of its site, and the warm-up its first steps.
    return predicted & (predicted.cumsum("time") > warmup)


def last_observed(counted: xr.DataArray, steps: int) -> slice:
    """The last so many steps up to the last with a value, of a series along time."""
    seen = np.flatnonzero(counted.notnull().values)
    stop = int(seen[-1]) + 1 if len(seen) else counted.sizes["time"]
    return slice(max(stop - steps, 0), stop)


def years(time: xr.DataArray) -> np.ndarray:
    """Dates as years with fractions: matplotlib's own dates end where nanoseconds do, and know one calendar."""
    return np.asarray(time.dt.year + (time.dt.dayofyear - 1 + time.dt.hour / 24) / 366)


def with_unit(what: str, unit: str) -> str:
    """The label of an axis."""
    return f"{what} ({unit})" if unit else what


def name_of(observed: xr.DataArray, target: str) -> str:
    """The label of an axis with a target: its long name, broken where it is long, and its unit."""
    name = observed.attrs.get("long_name", target).removesuffix("observed").rstrip(" ,") or target
    unit = observed.attrs.get("units", "")
    return textwrap.fill(name, 24) + (f"\n({unit})" if unit else "")


def start_axes(axes: Axes) -> Axes:
    """Axes as all figures have them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.xaxis.label.set_fontsize(SMALL + 1)
    axes.yaxis.label.set_fontsize(SMALL + 1)
    return axes


def one_panel(height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure of the width of a page, with room for the legend beside its axes."""
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, start_axes(figure.subplots())


def legend_beside(figure: Figure, axes: Axes) -> None:
    """A legend of what the axes have, right of them, each entry once; long enough to show a dash and a dot."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=SMALL, handlelength=4)


def line_width(points: int) -> dict[str, Any]:
    """A line that is also seen where it has a point or two."""
    return {"linewidth": 1.6, "marker": "o" if points < 3 else None, "markersize": 3}


def one_stands_apart(values: Iterable[float]) -> bool:
    """Whether the largest value would press all others together on a linear axis."""
    known = [value for value in values if np.isfinite(value)]
    return bool(known) and max(known) > 5 * float(np.median(known))


def log_scale(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis that has numbers on it also where it spans a decade or less."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axes.set(**{f"{which}scale": "log"})
    low, high = axis.get_view_interval()
    if high < 10 * low:
        axis.set_major_locator(ticker.MaxNLocator(6))
        axis.set_minor_locator(ticker.NullLocator())
    elif high < 1000 * low:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def whole_numbers(axes: Axes) -> None:
    """An x axis of years."""
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)


def mark_dates(axes: Axes, time: xr.DataArray) -> None:
    """Ticks of an x axis of years at the turn of years; where few are shown, also of months or days."""
    position = years(time)
    span = float(position[-1] - position[0])
    if span > 5:
        whole_numbers(axes)
        return
    day, month, hour = (np.asarray(getattr(time.dt, part)) for part in ("day", "month", "hour"))
    apart = 12 if span > 3 else 6 if span > 1.2 else 3 if span > 0.6 else 1
    marked = np.flatnonzero((day == 1) & (hour == 0) & ((month - 1) % apart == 0))
    labels = [f"{MONTHS[month[at] - 1]} {int(time.dt.year[at])}" for at in marked]
    if len(marked) < 2:
        marked = np.linspace(0, len(position) - 1, min(4, len(position)), dtype=int)
        labels = [f"{int(time.dt.year[at])}-{month[at]:02d}-{day[at]:02d}" for at in marked]
    axes.set_xticks(position[marked], labels)


def count_from_one(axes: Axes, last: int) -> None:
    """An x axis of epochs or steps: round numbers, but for the first, which is 1."""
    ticks = ticker.MaxNLocator(integer=True, nbins=8).tick_values(1, max(last, 2))
    axes.set_xticks([1, *(tick for tick in ticks if 1 < tick <= last)])

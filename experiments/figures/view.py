"""Figure of hidden states: projections by colour, a heat map below the hydrograph, distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mptt.experiments.figures.common import BLACK, BLUE, SMALL, VERMILION, mark_dates, start_axes, with_unit, years

if TYPE_CHECKING:
    from mptt.analysis.geometry import Distances
    from mptt.experiments.memory.view import View

Array = npt.NDArray[np.float64]

# Winter blue, spring green, summer orange, autumn purple, of a palette that the colour-blind tell apart.
SEASONS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#0072B2")
SITES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B3A400")
KINDS = {
    "one_step": ("a step later", "#009E73", "-"),
    "same_day": ("same day of another year", BLUE, "--"),
    "random": ("any day of another year", VERMILION, ":"),
}
WIDEST = 2.5  # standard deviations, at which the colours of a heat map end


def view_figure(view: View, steps: int = 1096) -> Figure:
    """Projections by colour, a heat map of the last years of the first site below its hydrograph, distances.

    Colours are season, targets, other variables, site where there are several, and year where there is room.

    Args:
        view: as of `view_states`.
        steps: of the heat map.
    """
    colours = ["season", *view.targets, *view.others]
    if len(np.unique(view.points["site"])) > 1:
        colours.append("site")
    if len(colours) % 3:
        colours.append("year")
    rows = int(np.ceil(len(colours) / 3))
    figure = Figure(figsize=(7, 2.05 * rows + 3.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(2.05 * rows, 3.4))
    upper, lower = halves
    grid = upper.subplots(rows, 3, squeeze=False, sharex=True, sharey=True)
    for nth, axes in enumerate(grid.flat):
        if nth >= len(colours):
            axes.remove()
            continue
        _cloud(upper, start_axes(axes), view, colours[nth])
        axes.label_outer()
        if nth + 3 >= len(colours):
            axes.set_xlabel(view.axes[0], fontsize=SMALL)
            axes.tick_params(labelbottom=True)
        if nth % 3 == 0:
            axes.set_ylabel(view.axes[1], fontsize=SMALL)
    left, right = lower.subfigures(1, 2, width_ratios=(2.2, 1))
    hydrograph, heat = left.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    _series(left, start_axes(hydrograph), start_axes(heat), view, steps)
    panel = start_axes(right.subplots())
    _distances(right, panel, view.distances)
    for axes, letter in zip((grid.flat[0], hydrograph, panel), "abc", strict=True):
        axes.text(0, 1.03, letter, transform=axes.transAxes, fontsize=SMALL + 1, fontweight="bold", va="bottom")
    return figure


def _cloud(figure: Any, axes: Axes, view: View, colour: str) -> None:
    x, y = view.points["x"].values, view.points["y"].values
    look: dict[str, Any] = {"s": 2, "linewidths": 0, "rasterized": True}
    # In no order of time, or the last would hide the first.
    order = np.random.default_rng(0).permutation(len(x))
    label = colour
    cmap: Colormap
    low: float
    high: float
    if colour == "season":
        values = view.points["time"].dt.dayofyear.values
        cmap, low, high = LinearSegmentedColormap.from_list("seasons", SEASONS), 1, 366
    elif colour == "year":
        values, cmap = years(view.points["time"]), colormaps["cividis"]
        low, high = float(values.min()), float(values.max())
    elif colour == "site":
        names, values = np.unique(view.points["site"].values.astype(str), return_inverse=True)
        cmap, low, high = ListedColormap([SITES[at % len(SITES)] for at in range(len(names))]), -0.5, len(names) - 0.5
    else:
        one = view.points[f"{colour}_observed" if colour in view.targets else colour]
        values, cmap = one.values, colormaps["viridis"]
        # A flood or two would take all the colours.
        low, high = np.nanpercentile(values, [1, 99]) if np.isfinite(values).any() else (0, 1)
        label = with_unit(colour, one.attrs.get("units", ""))
    found = axes.scatter(x[order], y[order], c=values[order], cmap=cmap, vmin=low, vmax=high, **look)
    bar = figure.colorbar(found, ax=axes, pad=0.02, aspect=18)
    bar.ax.tick_params(labelsize=SMALL - 1, length=2)
    bar.solids.set_rasterized(True)
    if colour == "season":
        bar.set_ticks([1, 91, 182, 274, 366], labels=["Jan", "Apr", "Jul", "Oct", "Jan"])
    elif colour == "year":
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        bar.ax.ticklabel_format(style="plain", useOffset=False)
    elif colour == "site":
        bar.set_ticks(range(len(names)), labels=names.tolist())
    axes.set_title(label, fontsize=SMALL, pad=3)


def _series(figure: Any, upper: Axes, lower: Axes, view: View, steps: int) -> None:
    first = view.points.isel(point=np.flatnonzero(view.points["site"].values == view.points["site"].values[0]))
    first = first.isel(point=slice(-steps, None))
    time, target = years(first["time"]), view.targets[0]
    observed = first[f"{target}_observed"]
    upper.plot(time, observed, color=BLACK, linewidth=0.9, label="observed")
    upper.plot(time, first[target], color=VERMILION, linewidth=0.8, label="predicted")
    unit = observed.attrs.get("units", "")
    upper.set_ylabel(f"{target}\n({unit})" if unit else target, fontsize=SMALL)
    figure.legend(
        *upper.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=SMALL - 1
    )
    order = np.argsort(-view.half, kind="stable")
    state = first["state"].values[:, order].T
    image = lower.imshow(
        state,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-WIDEST,
        vmax=WIDEST,
        interpolation="nearest",
        extent=(float(time[0]), float(time[-1]), len(order), 0),
    )
    half = view.half[order]
    marked = np.unique(np.linspace(0, len(order) - 1, min(6, len(order))).astype(int))
    lower.set_yticks(marked + 0.5, [f"{half[at]:.0f}" for at in marked])
    lower.set_ylabel("units, by steps to\nhalf autocorrelation", fontsize=SMALL)
    mark_dates(lower, first["time"])
    lower.set_xlim(time[0], time[-1])
    bar = figure.colorbar(image, ax=lower, pad=0.01, aspect=20, extend="both")
    bar.set_label("state (st. dev. from mean)", fontsize=SMALL - 1)
    bar.ax.tick_params(labelsize=SMALL - 1)


def density(found: Distances, kind: str) -> tuple[Array, Array | None]:
    """Edges of the bins, the same for each kind, and the percentage of its pairs in each; None without any pair."""
    edges = np.linspace(0, max(float(getattr(found, one).max(initial=0)) for one in KINDS) or 1.0, 61)
    values = getattr(found, kind)
    return edges, 100 * np.histogram(values, edges)[0] / len(values) if len(values) else None


def highest(found: Distances) -> float:
    """Where the axis of percentages ends: one step is a small distance, and its column so high that it may be cut."""
    shares = [share for kind in ("same_day", "random") if (share := density(found, kind)[1]) is not None]
    return 1.3 * max(float(share.max()) for share in shares) if shares else 100.0


def _distances(figure: Any, axes: Axes, found: Distances) -> None:
    for kind, (label, colour, line) in KINDS.items():
        edges, share = density(found, kind)
        if share is not None:
            axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.3, label=label)
            axes.axvline(float(np.median(getattr(found, kind))), color=colour, linewidth=0.7, linestyle=line)
    axes.set(xlabel="distance of two states", ylabel="pairs (% of each kind)", xlim=(0, edges[-1]))
    axes.set_ylim(0, highest(found))
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper right",
        frameon=False,
        fontsize=SMALL - 1,
        handlelength=2.5,
    )

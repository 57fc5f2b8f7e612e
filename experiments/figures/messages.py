"""Figures of the messages: how stale they are over the epochs, and what they hold along a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    BLACK,
    BLUE,
    SMALL,
    VERMILION,
    count_from_one,
    line_width,
    log_scale,
    start_axes,
    whole_numbers,
    with_unit,
    years,
)

STALENESS = "mptt/staleness"
_GREEN, _ORANGE, _GREY, _PURPLE = "#009E73", "#E69F00", "#777777", "#CC79A7"
_LINES = ("-", "--", "-.", ":")
_PARTS = {
    STALENESS: ("message", BLACK, "-"),
    "mptt/staleness_written": ("its writers", VERMILION, "--"),
    "mptt/staleness_age": ("its age", _GREEN, "-."),
    "mptt/staleness_drift": ("drift of weights", BLUE, ":"),
    "mptt/staleness_zero": ("zero state", _GREY, "-"),
}


def messages(metrics: pd.DataFrame, memory: xr.Dataset | None = None) -> Figure:
    """How good the messages were in each epoch; with a memory, also what they hold along the series of its first site.

    Args:
        metrics: of `metrics.csv`. Of a run without `MessageQuality` the numbers of messages alone are drawn.
        memory: of `mptt.experiments.memory.export.memory_dataset`.
    """
    measured = metrics[metrics[STALENESS].notna()] if STALENESS in metrics else None
    # A letter a panel: staleness, number, drift, map; and the height of each row.
    rows = {"nn": 2.0} if measured is None else {"ss": 2.7, "nd": 1.9}
    rows |= {"mm": 2.6} if memory is not None else {}
    figure = Figure(figsize=(7, sum(rows.values())), layout="constrained")
    axes = figure.subplot_mosaic(";".join(rows), height_ratios=list(rows.values()))
    for name in set(axes) - {"m"}:
        start_axes(axes[name])
        count_from_one(axes[name], int(metrics["epoch"].max()) + 1)
    _counts(axes["n"], metrics)
    if measured is not None:
        _staleness(axes["s"], measured)
        _line(axes["d"], measured, "mptt/weight_drift", "", BLACK, "-")
        axes["d"].set(xlabel="epoch", ylabel="relative change\nof the core's weights", ylim=(0, None))
    if memory is not None:
        _along_time(figure, start_axes(axes["m"]), memory)
    return figure


def staleness_of_runs(curves: Mapping[str, Sequence[pd.DataFrame]], unit: str = "") -> Figure:
    """Staleness over the epochs of several ways to train, and the error of the validation part below.

    Args:
        curves: for each way its name and `metrics.csv` of each seed; the mean over seeds is drawn, and their range.
        unit: of the error.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    panels = figure.subplots(2, sharex=True)
    for column, axes in zip((STALENESS, "val_rmse"), panels, strict=True):
        start_axes(axes)
        for nth, (name, tables) in enumerate(curves.items()):
            values = pd.concat([table.set_index("epoch")[column].dropna() for table in tables], axis=1).sort_index()
            colour, line = (VERMILION, BLUE, _ORANGE, _GREEN, _PURPLE)[nth % 5], _LINES[nth % 4]
            epochs, mean = values.index.to_numpy() + 1, values.mean(axis=1)
            axes.plot(epochs, mean, label=name, color=colour, linestyle=line, **line_width(len(epochs)))
            axes.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15, linewidth=0)
        log_scale(axes)
    last = max(int(table["epoch"].max()) for tables in curves.values() for table in tables) + 1
    count_from_one(panels[1], last)
    panels[0].set(ylabel="staleness of messages\n(1: any other window's state)")
    panels[1].set(xlabel="epoch", ylabel=f"validation {with_unit('RMSE', unit)}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL, handlelength=4)
    return figure


def _staleness(axes: Axes, measured: pd.DataFrame) -> None:
    for column, (label, colour, line) in _PARTS.items():
        # On this axis nothing is nowhere.
        shown = measured[measured[column] > 0]
        _line(axes, shown, column, label, colour, line)
    axes.axhline(1, color=_GREY, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.set(xlabel="epoch", ylabel="distance to the true state\n(1: any other window's state)")
    if (measured[list(_PARTS)] > 0).any().any():
        log_scale(axes)
    place = 0.5, 1.0
    axes.legend(
        frameon=False,
        fontsize=SMALL,
        handlelength=3,
        loc="lower center",
        bbox_to_anchor=place,
        ncols=5,
        columnspacing=1.2,
    )


def _counts(axes: Axes, metrics: pd.DataFrame) -> None:
    columns = {
        "mptt/writers": ("writes to a message", BLUE, "--"),
        "mptt/share": ("share with a message", BLACK, "-"),
        "mptt/age": ("age (epochs)", VERMILION, ":"),
    }
    for column, look in columns.items():
        if column in metrics:
            _line(axes, metrics, column, *look)
    axes.set(xlabel="epoch", ylabel="number", ylim=(0, 1.9 * axes.get_ylim()[1]))
    axes.legend(frameon=False, fontsize=SMALL, loc="upper left", handlelength=3, labelspacing=0.3)


def _line(axes: Axes, table: pd.DataFrame, column: str, label: str, colour: str, line: str) -> None:
    width = line_width(len(table)) | {"linewidth": 2.2 if label == "message" else 1.4}
    axes.plot(table["epoch"] + 1, table[column], label=label, color=colour, linestyle=line, **width)


def _along_time(figure: Figure, axes: Axes, memory: xr.Dataset) -> None:
    """The messages of the first site as a map of unit against time, the units in order of how slowly they change."""
    site = memory["site"].values[0]
    own = memory.isel(window=np.flatnonzero(memory["site"].values == site)).sortby("start")
    dated = "start_time" in own
    at = years(own["start_time"]) if dated else own["start"].values
    values = own["message"].values.T
    values = values[np.argsort(_persistence(values))]
    most: float = max(float(np.nanmax(np.abs(values))), 1e-30)  # of an empty memory
    edges = np.append(at, at[-1] + (at[-1] - at[-2] if len(at) > 1 else 1))
    mesh = axes.pcolormesh(
        edges, np.arange(len(values) + 1) + 0.5, values, cmap="RdBu_r", norm=TwoSlopeNorm(0, -most, most)
    )
    mesh.set_rasterized(True)
    bar = figure.colorbar(mesh, ax=axes, pad=0.01)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("message", fontsize=SMALL + 1)
    axes.set_title(f"{site}: messages at the starts of windows", fontsize=SMALL + 1, loc="left")
    axes.set(xlabel="year" if dated else "step of the training part", ylabel="units, slow ones at the top")
    if dated and at[-1] - at[0] > 5:
        whole_numbers(axes)


def _persistence(values: np.ndarray) -> np.ndarray:
    """(S,) the correlation of each row of (S, N) with itself one entry later; 0 for one that never changes."""
    apart = values - values.mean(axis=1, keepdims=True)
    size = (apart**2).sum(axis=1)
    return (apart[:, 1:] * apart[:, :-1]).sum(axis=1) / np.where(size > 0, size, 1)

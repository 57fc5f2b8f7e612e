"""Figure of the memory in data: autocorrelation and partial autocorrelation against the lag."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.figure import Figure

from mptt.analysis.autocorrelation import white_noise_band
from mptt.experiments.figures.common import BLUE, SMALL, VERMILION, start_axes

LOOKS = {"season": ("without its seasonal cycle", BLUE), "inputs": ("that the last year's inputs leave", VERMILION)}


def memory_of_data(found: xr.Dataset) -> Figure:
    """Medians over sites against the lag, bands from 10 to 90 %, and what is within the band of white noise.

    Args:
        found: of `mptt.experiments.memory.ofdata.data_memory`, one target.
    """
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    unit, longest = found.attrs["step_unit"], found.sizes["lag"] - 1
    panels = {"autocorrelation": "autocorrelation", "partial": "partial autocorrelation"}
    for axes, (name, label) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        start_axes(axes)
        noise = white_noise_band(int(found["values"].sel(of="season").median()))
        axes.axhspan(-noise, noise, color="#999999", alpha=0.3, linewidth=0, label="white noise, 95 %")
        axes.axhline(0, color="#999999", linewidth=0.8)
        for of, (words, colour) in LOOKS.items():
            values = found[name].sel(of=of).values[:, 1:]
            values = values[~np.isnan(values[:, 0])]
            if not len(values):
                continue
            low, middle, high = np.nanquantile(values, (0.1, 0.5, 0.9), axis=0)
            style = {"linewidth": 1.6} if name == "autocorrelation" else {"linestyle": "", "marker": "o", "ms": 2.2}
            axes.plot(np.arange(1, longest + 1), middle, color=colour, label=words, **style)
            if len(values) > 1:
                axes.fill_between(np.arange(1, longest + 1), low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set(xscale="log", xlim=(0.9, longest), xlabel=f"lag ({unit})", title=label)
        axes.title.set_fontsize(SMALL + 1)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        year = found.attrs["per_year"]
        if year < longest:
            axes.axvline(year, color="#999999", linewidth=0.8, linestyle="--")
            axes.annotate("a year", (year, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), va="top",
                          textcoords="offset points", fontsize=SMALL - 1, color="#555555", rotation=90)  # fmt: skip
    figure.axes[0].set_ylabel(f"correlation of {found['target'].item()}", fontsize=SMALL + 1)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL)
    return figure

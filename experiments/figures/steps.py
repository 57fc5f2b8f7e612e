"""Figure of how much each step of the past counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mptt.experiments.figures.common import BLUE, SMALL, VERMILION, log_scale, start_axes

_LOOKS = ((BLUE, "-"), (VERMILION, "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#555555", "-"), ("#E69F00", "--"))


def steps_figure(lags: Mapping[str, pd.DataFrame], per: str) -> Figure:
    """Share of the contribution by lag, with its band, and of all lags up to one.

    Args:
        lags: by the name of the line, rows of one target as of `StepContributions.lags`.
        per: what a step is: "days".
    """
    figure = Figure(figsize=(7, 3.1), layout="constrained")
    left, right = (start_axes(axes) for axes in figure.subplots(1, 2))
    for (name, table), (colour, line) in zip(lags.items(), _LOOKS, strict=False):
        lag, share = table["lag"].to_numpy(), 100 * table["share"].to_numpy()
        # Days of one month look much alike, and so many are not told apart on a logarithmic axis.
        edges = np.unique(np.round(np.geomspace(1, len(lag) + 1, 40)).astype(int))
        binned = [np.add.reduceat(100 * table[one].to_numpy(), edges[:-1] - 1) for one in ("low", "share", "high")]
        width = np.diff(edges)
        low, middle, high = (values / width for values in binned)
        centre = np.sqrt(edges[:-1] * (edges[1:] - 1))
        if np.isfinite(low).all():
            left.fill_between(centre, low, high, color=colour, alpha=0.2, lw=0)
        left.plot(centre, middle, color=colour, linestyle=line, linewidth=1.5)
        right.plot(lag + 1, share.cumsum(), color=colour, linestyle=line, linewidth=1.5, label=name)
    left.set(ylabel="share of the contribution\n(% a step)")
    right.set(ylabel="share up to there (%)", ylim=(0, 102))
    for axes, letter in ((left, "a"), (right, "b")):
        axes.set_xlabel(f"{per} read back (1: the last)")
        axes.set_title(letter, loc="left", fontsize=SMALL + 1, fontweight="bold")
        log_scale(axes, "x")
    # From one day's half of it all to the 365th's thousandth part.
    log_scale(left, "y")
    left.set_ylim(max(left.get_ylim()[0], 1e-3), None)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=SMALL, handlelength=3)
    return figure

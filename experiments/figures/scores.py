"""Figures of a comparison that show scores and predictions: by strategy, over sites, against observations."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mptt.experiments.figures.common import (
    BLACK,
    SMALL,
    legend_beside,
    log_scale,
    one_panel,
    one_stands_apart,
    style_of,
    with_unit,
)


def scores_by_strategy(results: pd.DataFrame, unit: str, title: str = "") -> Figure:
    """Test RMSE of each run, and the mean of each strategy.

    Args:
        results: a row a run: strategy, rmse; strategies in the order to draw.
        unit: of the RMSE.
        title: over the figure.
    """
    names = list(dict.fromkeys(results["strategy"]))
    figure, axes = one_panel(height=0.9 + 0.3 * len(names))
    for row, name in enumerate(names):
        values, style = results.loc[results["strategy"] == name, "rmse"].to_numpy(), style_of(name)
        axes.barh(row, values.mean(), color=style["color"], height=0.6, alpha=0.5)
        axes.plot(values, np.full(len(values), row), "o", color=style["color"], mec=BLACK, mew=0.7, ms=5, clip_on=False)
        text = f"{values.mean():#.3g}".rstrip(".")
        axes.annotate(text, (values.max(), row), textcoords="offset points", xytext=(7, 0), va="center", fontsize=SMALL)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    if one_stands_apart(results["rmse"]):
        axes.set_xlim(results["rmse"].min() / 2, results["rmse"].max() * 2)
        log_scale(axes, "x")
    else:
        axes.set_xlim(0, results["rmse"].max() * 1.12)
    axes.set_xlabel(with_unit("test RMSE", unit))
    axes.set_title(title, fontsize=10)
    return figure


def nse_distribution(results: pd.DataFrame) -> Figure:
    """The share of sites up to each NSE, of each strategy; a site's NSE is the mean over seeds.

    Args:
        results: a row a site of a run: strategy, seed, site, nse.
    """
    figure, axes = one_panel()
    for name in dict.fromkeys(results["strategy"]):
        rows = results[results["strategy"] == name]
        scores = np.sort(rows.groupby("site")["nse"].mean().dropna().to_numpy())
        share = np.arange(1, len(scores) + 1) / max(len(scores), 1)
        # From the left edge, at the share that lies below it, to the right one.
        inside = scores >= -1
        at = np.concatenate([[-1], scores[inside], [1]])
        up_to = np.concatenate([[np.mean(~inside)], share[inside], [1]])
        axes.step(at, up_to, where="post", label=name, linewidth=1.4, **style_of(name))
    axes.set(xlim=(-1, 1), ylim=(0, 1.005), ylabel="share of sites up to this NSE")
    axes.set_xlabel("NSE of a site, mean over seeds\n(curves start at the share of sites below \N{MINUS SIGN}1)")
    legend_beside(figure, axes)
    return figure

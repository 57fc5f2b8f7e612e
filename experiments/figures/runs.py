"""Figures of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
)


def learning_curve(metrics: pd.DataFrame) -> Figure:
    """Training and validation loss against epoch, the best epoch marked.

    Args:
        metrics: of `metrics.csv`: epoch, train_loss, val_loss.
    """
    figure = Figure(figsize=(5, 3.2))
    axes = start_axes(figure.subplots())
    epochs = metrics["epoch"] + 1
    axes.plot(epochs, metrics["train_loss"], color=BLUE, label="training windows", **line_width(len(metrics)))
    if "val_loss" in metrics and metrics["val_loss"].notna().any():
        axes.plot(epochs, metrics["val_loss"], color=VERMILION, label="validation part", **line_width(len(metrics)))
        best = metrics.iloc[int(np.nanargmin(metrics["val_loss"]))]
        label = f"best, epoch {int(best['epoch']) + 1}"
        axes.plot(best["epoch"] + 1, best["val_loss"], "o", color=VERMILION, mec=BLACK, ms=6, ls="", label=label)
    axes.set(xlabel="epoch", ylabel="mean squared error\n(standardised target)")
    log_scale(axes)
    count_from_one(axes, int(epochs.max()))
    axes.legend(frameon=False, fontsize=SMALL, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)
    return figure

"""Figures of a run and of a comparison: units on the axes, one look for one strategy, PNG and PDF."""

from mptt.experiments.figures.common import colour_of, save, scored_steps, style_of, targets_of
from mptt.experiments.figures.curves import learning_curves, rmse_against, rmse_against_time, rmse_by_day, rmse_by_step
from mptt.experiments.figures.hydrographs import hydrograph_of_strategies, hydrographs
from mptt.experiments.figures.messages import STALENESS, messages, staleness_of_runs
from mptt.experiments.figures.runs import learning_curve
from mptt.experiments.figures.scores import nse_distribution, scores_by_strategy

__all__ = [
    "STALENESS",
    "colour_of",
    "hydrograph_of_strategies",
    "hydrographs",
    "learning_curve",
    "learning_curves",
    "messages",
    "nse_distribution",
    "rmse_against",
    "rmse_against_time",
    "rmse_by_day",
    "rmse_by_step",
    "save",
    "scored_steps",
    "scores_by_strategy",
    "staleness_of_runs",
    "style_of",
    "targets_of",
]

"""Draws the pictures of the documentation: `python docs/pictures.py`."""

from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mptt import KeyMap, WindowIndex

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#BBBBBB"
LENGTH, STRIDE, WINDOWS = 6, 3, 5


def messages() -> Figure:
    """How a window that trains leaves messages for the windows that begin inside it."""
    figure = Figure(figsize=(8, 3.3))
    axes = figure.subplots()
    trained = 1
    for window in range(WINDOWS):
        start = window * STRIDE
        colour = VERMILION if window == trained else GREY
        axes.barh(window, LENGTH, left=start, height=0.52, color=colour, alpha=0.9 if window == trained else 0.45)
        axes.text(start + 0.4, window, f"window {window}", va="center", fontsize=9)
    begin = trained * STRIDE
    for target in (trained + 1, trained + 2):
        step = target * STRIDE
        _arrow(axes, (step, trained + 0.27), (step, target - 0.3), BLUE)
        axes.plot(step, trained, "o", color="white", markeredgecolor=BLUE, markersize=7, zorder=3)
        axes.plot(step, target, "o", color=BLUE, markersize=7, zorder=3)
    _arrow(axes, (begin - 1.6, trained), (begin - 0.05, trained), BLUE)
    axes.text(begin - 1.75, trained, "starts from\nits message", ha="right", va="center", fontsize=9, color=BLUE)
    training = "trains now, in shuffled order;\nits states pass the starts of 2 and 3"
    axes.text(begin + LENGTH + 0.3, trained, training, va="center", fontsize=9, color=VERMILION)
    filed = "filed as messages,\nread when 2 and 3 come up,\nin this epoch or the next"
    axes.text(LENGTH * 2.55, 3.62, filed, ha="left", va="bottom", fontsize=9, color=BLUE)
    axes.set(xlim=(-2.2, 22), ylim=(WINDOWS - 0.4, -0.6), xlabel="time step of one series")
    axes.set_yticks([])
    axes.set_xticks(range(0, 19, STRIDE))
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def seven() -> Figure:
    """The seven windows of docs/method.md, and who writes to whom."""
    index = WindowIndex.cut([11, 8], window=4, stride=3)
    rows, targets, positions = (one.tolist() for one in KeyMap(index).links(torch.arange(len(index))))
    figure = Figure(figsize=(9, 4.4))
    axes = figure.subplots()
    for window, (site, start) in enumerate(zip(index.site, index.start, strict=True)):
        axes.barh(window + site, 4, left=start, height=0.5, color=GREY, alpha=0.5)
        for step in range(4):
            axes.text(start + step + 0.5, window + site, f"{start + step}", ha="center", va="center", fontsize=8)
        axes.text(start + 4.1, window + site, f"window {window}", va="center", fontsize=9)
    for row, target, position in zip(rows, targets, positions, strict=True):
        site, end = index.site[row], index.start[row] + position + 1
        sideways = 0.12 * (target - row - 1)
        axes.plot(end - sideways, row + site, "o", color=BLUE, markersize=6, zorder=3)
        _arrow(axes, (end - sideways, row + site + 0.1), (end - sideways, target + site - 0.27), BLUE)
    for site, top in enumerate((0, 5)):
        axes.text(-0.3, top, f"site {site}", ha="right", va="center", fontsize=10)
    axes.text(13.2, 1.5, "each bar: the steps\nthat the window holds", fontsize=9, color="#555555")
    axes.text(
        13.2,
        3.3,
        "each arrow: the state after\nthe step left of it, filed as\nthe message of the window\nthat it points to",
        fontsize=9,
        color=BLUE,
    )
    axes.set(xlim=(-1.6, 18), ylim=(7.6, -0.6))
    axes.axis("off")
    return figure


def life() -> Figure:
    """What becomes of a row of the memory in an epoch, hook by hook."""
    figure = Figure(figsize=(10, 3.9))
    axes = figure.subplots()
    hooks = {
        1.0: "on_train_\nbatch_start",
        4.0: "training_step",
        7.0: "backward,\noptimizer step",
        10.0: "on_train_\nbatch_end",
        14.2: "validation",
        17.6: "on_train_\nepoch_end",
    }
    for at, name in hooks.items():
        colour = GREY if name.startswith(("backward", "validation")) else VERMILION
        axes.barh(3, 2.5, left=at - 1.25, height=0.8, color=colour, alpha=0.45 if colour == GREY else 0.9)
        axes.text(at, 3, name, ha="center", va="center", fontsize=9)
    for tail, head in pairwise(hooks):
        _arrow(axes, (tail + 1.3, 3), (head - 1.3, 3), "black")
    axes.plot([10, 10, 1, 1], [3.45, 3.9, 3.9, 3.5], color="black", linewidth=1.2)
    _arrow(axes, (1, 3.6), (1, 3.45), "black")
    axes.text(5.5, 4.0, "next batch, other windows", ha="center", fontsize=9)
    axes.barh(0.7, 19, left=-0.25, height=0.9, color=BLUE, alpha=0.15)
    axes.text(0, 0.7, "memory,\nrow of window v", va="center", fontsize=9, color=BLUE)
    axes.text(
        18.5, 0.7, "mu = what a read gives,\nmean = 0, count = 0", ha="right", va="center", fontsize=9, color=BLUE
    )
    axes.text(10, 0.7, "mean, count\ntake the write in", ha="center", va="center", fontsize=9, color=BLUE)
    axes.plot(1, 1.15, "o", color=BLUE, markersize=6)
    _arrow(axes, (1, 1.2), (1, 2.55), BLUE)
    axes.text(1.2, 1.85, "read: v's batch\nstarts from its message", va="center", fontsize=9, color=BLUE)
    axes.plot([4, 4, 10], [2.55, 2.32, 2.32], color=BLUE, linewidth=1.5, linestyle=":")
    axes.text(4.9, 2.12, "states caught, detached", va="center", fontsize=9, color=BLUE)
    _arrow(axes, (10, 2.55), (10, 1.2), BLUE)
    axes.text(10.2, 1.7, "write: a writer of v\npassed v's start", va="center", fontsize=9, color=BLUE)
    axes.text(14.2, 2.35, "neither reads\nnor writes", ha="center", va="center", fontsize=9, color="#555555")
    _arrow(axes, (17.6, 2.55), (17.6, 1.2), BLUE)
    axes.text(17.4, 1.7, "propagate", ha="right", va="center", fontsize=9, color=BLUE)
    axes.set(xlim=(-0.6, 19.2), ylim=(0.1, 4.4))
    axes.axis("off")
    return figure


def _arrow(axes: Axes, tail: tuple[float, float], head: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(tail, head, **style))


if __name__ == "__main__":
    for draw in (messages, seven, life):
        draw().savefig(Path(__file__).parent / "images" / f"{draw.__name__}.png", dpi=160, bbox_inches="tight")

"""Draws the pictures of the documentation: `python docs/pictures.py`."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

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


def _arrow(axes: Axes, tail: tuple[float, float], head: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(tail, head, **style))


if __name__ == "__main__":
    messages().savefig(Path(__file__).parent / "images" / "messages.png", dpi=160, bbox_inches="tight")

"""What an MPTT epoch costs against window length, batch size and hidden size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SimulatedBasin
from mptt.experiments.bench.common import Figure, Settings, epoch_seconds, interleaved, ratio

PAPER = {"window": 366, "batch_size": 64, "hidden_size": 32}
VARIED: dict[str, tuple[str, Sequence[int]]] = {
    "window": ("windows of {} steps", (14, 30, 90, 180, 366)),
    "batch_size": ("batches of {}", (8, 64, 256)),
    "hidden_size": ("{} units", (16, 32, 64, 128)),
}
MPTT, ZERO = "MPTT", "zero state"


def cost(settings: Settings) -> list[Figure]:
    """Seconds of an MPTT epoch over a short record, and its ratio to one from zero state; one setting varied a time."""
    figures = []
    for name, (words, values) in VARIED.items():
        for value in (values[0], values[-1]) if settings.quick else values:
            drawn: dict[str, Any] = {"panel": name, "at": float(value)}
            times = _times(settings, **PAPER | {name: value})
            what = "epoch, " + words.format(value)
            figures.append(Figure(f"{what}: MPTT", times[MPTT], "s"))
            figures.append(ratio(f"{what}: MPTT / zero state", times[MPTT], times[ZERO], **drawn))
    return figures


def _times(settings: Settings, window: int, batch_size: int, hidden_size: int) -> dict[str, list[float]]:
    years = settings.size(200, 60)
    data = SimulatedBasin(years=years, cache=None, window=window, stride=window // 2, batch_size=batch_size)
    data.setup("fit")
    measures = {
        MPTT: lambda: epoch_seconds(data, MPTTCallback(zero_init_epochs=0), hidden_size=hidden_size)[-1],
        ZERO: lambda: epoch_seconds(data, hidden_size=hidden_size)[-1],
    }
    return interleaved(settings, settings.at_most(5), measures)

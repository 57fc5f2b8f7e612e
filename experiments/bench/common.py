"""What the sections of the benchmark share: a measured number, clocks, repeats turn and turn about, data, quiet."""

from __future__ import annotations

import logging
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import xarray as xr
from pytorch_lightning.profilers import Profiler

from mptt.datamodules import SeriesDataModule
from mptt.experiments.regressor import SequenceRegressor

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure.

    Attributes:
        repeats: of each measurement; a section with long ones takes fewer.
        quick: small sizes, for a look.
        tell: shows how far a section is.
    """

    repeats: int
    quick: bool = False
    tell: Callable[[str], None] = lambda _: None

    def size(self, full: T, quick: T) -> T:
        """Of two sizes the one to measure."""
        return quick if self.quick else full

    def at_most(self, repeats: int) -> int:
        """Repeats of a long measurement."""
        return min(self.repeats, repeats)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        what: was measured.
        values: of the repeats.
        unit: of the values; "x" for a ratio, "%" for a share.
        target: that the median must not pass.
        panel: of the drawing in which it is a point, one of `drawing.PANELS`.
        curve: of that panel.
        at: where on its x axis.
    """

    what: str
    values: Sequence[float]
    unit: str
    target: float | None = None
    panel: str | None = None
    curve: str = ""
    at: float = 0.0

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest of the repeats."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest of the repeats."""
        return max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is at most the target; None without one. What is no number misses it."""
        return None if self.target is None else self.value <= self.target


class EpochClock(pl.Callback):
    """Seconds from the start of each training epoch to its end, the end hooks of callbacks before it included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self._start)


class ActionClock(Profiler):
    """Seconds that each action of Lightning's took; actions lie inside one another."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Start the clock of an action."""
        self._started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Stop it."""
        # Cleared meanwhile, or a generator that was left.
        if (start := self._started.pop(action_name, None)) is not None:
            self.seconds[action_name] = self.seconds.get(action_name, 0.0) + time.perf_counter() - start

    def clear(self) -> None:
        """Forget what ended until now."""
        self.seconds.clear()

    def of(self, pattern: str) -> float:
        """Seconds of all actions whose names match a regular expression."""
        return sum(seconds for name, seconds in self.seconds.items() if re.search(pattern, name))


def interleaved(
    settings: Settings, repeats: int, measures: Mapping[str, Callable[[], T]], warm_up: bool = True
) -> dict[str, list[T]]:
    """Repeat measurements turn and turn about, so that a machine that slows down slows all of them.

    Returns:
        For each name its repeats, in the order of the rounds, without the round that warms up.
    """
    found: dict[str, list[T]] = {name: [] for name in measures}
    for nth in range(0 if warm_up else 1, repeats + 1):
        settings.tell(f"repeat {nth} of {repeats}" if nth else "warming up")
        for name in measures if nth % 2 else reversed(list(measures)):
            result = measures[name]()
            if nth:
                found[name].append(result)
    return found


def ratio(what: str, one: Sequence[float], other: Sequence[float], target: float | None = None, **drawn: Any) -> Figure:
    """The ratio of two measurements, round by round."""
    return Figure(what, [a / b for a, b in zip(one, other, strict=True)], "x", target, **drawn)


def repeated(repeats: int, call: Callable[[], object]) -> list[float]:
    """Seconds of each of some calls."""
    return [seconds_of(call) for _ in range(repeats)]


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bare_trainer(*callbacks: pl.Callback, epochs: int, **settings: Any) -> pl.Trainer:
    """A Trainer on the CPU that trains and does nothing besides."""
    silent: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    silent |= {"enable_model_summary": False, "limit_val_batches": 0, "accelerator": "cpu"}
    return pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), **silent | settings)


def epoch_seconds(data: SeriesDataModule, *callbacks: pl.Callback, epochs: int = 2, **model: Any) -> list[float]:
    """Seconds of the epochs after the first, of a fresh module and the same random numbers each time."""
    pl.seed_everything(0, verbose=False)
    clock = EpochClock()
    # After the others, so that it stops after their end hooks have run.
    bare_trainer(*callbacks, clock, epochs=epochs).fit(SequenceRegressor(data.input_size, **model), datamodule=data)
    return clock.seconds[1:]


def random_dataset(sites: int, inputs: int, time_axis: np.ndarray) -> xr.Dataset:
    """Random inputs x0, x1, ... and a target y."""
    values = np.random.default_rng(0).random((inputs + 1, sites, len(time_axis)), dtype=np.float32)
    names = [*(f"x{nth}" for nth in range(inputs)), "y"]
    variables = {name: (("site", "time"), one) for name, one in zip(names, values, strict=True)}
    return xr.Dataset(variables, {"site": [f"{site:08}" for site in range(sites)], "time": time_axis})


def days(steps: int) -> np.ndarray:
    """A daily time axis of any length."""
    return np.datetime64("0000-01-01", "s") + np.arange(steps) * np.timedelta64(86400, "s")


@contextmanager
def quiet() -> Iterator[None]:
    """Neither notes nor warnings of Lightning's."""
    # Whichever namespace was imported last has the logger of both.
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

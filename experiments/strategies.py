"""The training strategies: batch order, initial state, extra input, and the inference that goes with them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl

from mptt.callbacks import (
    LearnedInitialStateCallback,
    MPTTCallback,
    NoisyInitialStateCallback,
    ScheduledSamplingCallback,
    SequentialStatefulCallback,
    StatefulCallback,
)
from mptt.errors import MPTTError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Strategy:
    """One way to train. Adding one is adding an entry to `STRATEGIES`, or naming one of your own, `module.NAME`.

    Attributes:
        summary: a line for tables and help.
        inference: how it is validated and tested, unless told otherwise; one of `INFERENCES`.
        callbacks: makes the callbacks that train. They leave evaluation (`evaluation=None`) to the inference's.
        data: settings of the DataModule that it needs, values or functions of the other settings.
        colour: together with the line its own in every figure; by default one that none of ours has.
        line: style of its lines.
    """

    summary: str
    inference: str = "SSIF"
    callbacks: Callable[[], Sequence[pl.Callback]] = tuple
    data: Mapping[str, Any] = field(default_factory=dict)
    colour: str = "#999999"
    line: str = "-"


def _window(settings: Settings) -> int:
    return int(settings["window"])


def _half_window(settings: Settings) -> int:
    return settings.get("predict_last_n") or max(_window(settings) // 2, 1)


def _three_quarters(settings: Settings) -> int:
    return settings.get("predict_last_n") or _window(settings) - _window(settings) // 4


# Colours are of Okabe and Ito's palette, a grey and Tol's wine: with the line styles the colour-blind tell them apart.
# Black is the observation's.
STRATEGIES: dict[str, Strategy] = {
    "RMB-IIF": Strategy(
        "random mini-batches: shuffled windows from zero state, in inference too",
        inference="IIF",
        colour="#555555",
        line="-",
    ),
    "RMB-SSIF": Strategy("random mini-batches: shuffled windows from zero state", colour="#56B4E9", line="--"),
    "TF-TFIF": Strategy(
        "teacher forcing: shuffled windows from zero state, the target of the step before an input",
        inference="TFIF",
        data={"lagged_target": "step"},
        colour="#CC79A7",
        line="-",
    ),
    "SSPL-TFIF": Strategy(
        "scheduled sampling: as teacher forcing, more and more with the predictions of the epoch before",
        inference="TFIF",
        callbacks=lambda: [ScheduledSamplingCallback()],
        data={"lagged_target": "step"},
        colour="#CC79A7",
        line="-.",
    ),
    "CMB-SCIF": Strategy(
        "conditional mini-batches: shuffled windows from zero state, the target before the window an input",
        inference="SCIF",
        data={"lagged_target": "window"},
        colour="#0072B2",
        line="-",
    ),
    "SMB-SSIF": Strategy(
        "stateful mini-batches: disjoint windows, each row goes on where it stopped in the batch before",
        callbacks=lambda: [StatefulCallback(evaluation=None)],
        data={"order": "lanes", "stride": _window},
        colour="#009E73",
        line="--",
    ),
    "SSMB-SSIF": Strategy(
        "sequential stateful mini-batches: disjoint windows in order of time, one after another inside a batch",
        callbacks=lambda: [SequentialStatefulCallback(evaluation=None)],
        data={"order": "sequential", "stride": _window},
        colour="#009E73",
        line=":",
    ),
    "MPTT-delta0": Strategy(
        "message propagation through time: shuffled windows from messages, delta = 0",
        callbacks=lambda: [MPTTCallback(delta=0.0, evaluation=None)],
        colour="#E69F00",
        line="-",
    ),
    "MPTT-delta1": Strategy(
        "message propagation through time: shuffled windows from messages, delta = 1",
        callbacks=lambda: [MPTTCallback(delta=1.0, evaluation=None)],
        colour="#D55E00",
        line="-",
    ),
    "Enhanced-MPTT-delta0": Strategy(
        "MPTT with linkage reconstruction after 10 epochs from zero state, delta = 0",
        callbacks=lambda: [MPTTCallback(delta=0.0, warmup_epochs=10, evaluation=None)],
        colour="#E69F00",
        line="-.",
    ),
    "Enhanced-MPTT-delta1": Strategy(
        "MPTT with linkage reconstruction after 10 epochs from zero state, delta = 1",
        callbacks=lambda: [MPTTCallback(delta=1.0, warmup_epochs=10, evaluation=None)],
        colour="#D55E00",
        line="-.",
    ),
    # What the field uses besides.
    "Spin-up": Strategy(
        "shuffled windows from zero state, the first half of a window, or all but predict_last_n, not counted",
        inference="IIF",
        data={
            "predict_last_n": _half_window,
            "evaluation_stride": lambda settings: settings.get("evaluation_stride") or _half_window(settings),
        },
        colour="#0072B2",
        line="--",
    ),
    "Burn-in": Strategy(
        "windows from messages, delta = 1, the first quarter of a window, or all but predict_last_n, not counted",
        callbacks=lambda: [MPTTCallback(delta=1.0, evaluation=None)],
        data={"predict_last_n": _three_quarters},
        colour="#0072B2",
        line=":",
    ),
    "Learned-state": Strategy(
        "shuffled windows from one learned state",
        callbacks=lambda: [LearnedInitialStateCallback(evaluation=None)],
        colour="#56B4E9",
        line=":",
    ),
    "Noisy-state": Strategy(
        "shuffled windows from zero state plus noise",
        callbacks=lambda: [NoisyInitialStateCallback(evaluation=None)],
        colour="#0072B2",
        line="-.",
    ),
    "Full-BPTT": Strategy(
        "back-propagation through each whole training series",
        data={"order": "series"},
        colour="#882255",
        line="--",
    ),
}


# What a strategy starts from.
PLAIN = {"order": "shuffled", "lagged_target": "none"}
# What a DataModule without such settings does.
_USUAL = {**PLAIN, "evaluation": "sequential"}


def find_strategy(name: str) -> Strategy:
    """The strategy of a name, or one of your own as `module.NAME`.

    Raises:
        MPTTError: there is none; lists those there are.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    module, dot, attribute = name.rpartition(".")
    if dot:
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:  # also a name such as "..x"
            raise MPTTError(f"There is no strategy {name!r}: {error}. There are {', '.join(STRATEGIES)}.") from error
        if isinstance(found, Strategy):
            return found
        raise MPTTError(f"{name} is no Strategy, but a {type(found).__name__}.")
    near = difflib.get_close_matches(name, STRATEGIES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise MPTTError(
        f"There is no strategy {name!r}.{hint} There are {', '.join(STRATEGIES)}, or module.NAME for one of your own."
    )


def settle(needed: Mapping[str, Any], settings: Any, owner: str) -> None:
    """Put what a strategy or an inference needs into the settings of a DataModule, in place.

    Args:
        needed: by name, values or functions of the settings.
        settings: of the DataModule.
        owner: who needs them.

    Raises:
        MPTTError: the DataModule has no such setting.
    """
    given = dict(settings)
    for name, value in needed.items():
        value = value(given) if callable(value) else value
        if name in settings:
            settings[name] = value
        elif _USUAL.get(name) != value:
            raise MPTTError(f"{owner} needs {name}={value!r}, a setting that the DataModule lacks.")

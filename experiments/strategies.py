"""The training strategies: batch order, initial state, extra input, inference."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl

from mptt.callbacks import MPTTCallback, StatefulCallback
from mptt.errors import MPTTError


@dataclass(frozen=True)
class Strategy:
    """One way to train and to infer. Adding one is adding an entry to `STRATEGIES`.

    Attributes:
        summary: a line for tables and help.
        callbacks: makes the callbacks that set initial states, in training and in inference.
        data: settings of the DataModule that it needs: the batch order, the windows, the inference.
        colour: its own in every figure; by default one that none of ours has.
    """

    summary: str
    callbacks: Callable[[], Sequence[pl.Callback]] = tuple
    data: Mapping[str, Any] = field(default_factory=dict)
    colour: str = "#CC79A7"


# Colours are of Okabe and Ito's palette, told apart by the colour-blind, and a grey.
SHUFFLED = {"order": "shuffled", "evaluation": "sequential"}

STRATEGIES: dict[str, Strategy] = {
    "RMB-IIF": Strategy(
        "shuffled windows from zero state; inference on half-overlapping windows from zero state",
        data={"order": "shuffled", "evaluation": "independent"},
        colour="#999999",
    ),
    "RMB-SSIF": Strategy(
        "shuffled windows from zero state; sequential stateful inference",
        callbacks=lambda: [StatefulCallback(training=False)],
        data=SHUFFLED,
        colour="#56B4E9",
    ),
    "SMB-SSIF": Strategy(
        "stateful mini-batches: each row goes on where it stopped; sequential stateful inference",
        callbacks=lambda: [StatefulCallback()],
        data={"order": "lanes", "evaluation": "sequential"},
        colour="#009E73",
    ),
    "MPTT-delta0": Strategy(
        "shuffled windows from messages, delta = 0; sequential stateful inference",
        callbacks=lambda: [MPTTCallback(delta=0.0)],
        data=SHUFFLED,
        colour="#E69F00",
    ),
    "MPTT-delta1": Strategy(
        "shuffled windows from messages, delta = 1; sequential stateful inference",
        callbacks=lambda: [MPTTCallback(delta=1.0)],
        data=SHUFFLED,
        colour="#D55E00",
    ),
}


def find_strategy(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
        MPTTError: there is none; lists those there are.
    """
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise MPTTError(f"There is no strategy {name!r}.{hint} There are {', '.join(STRATEGIES)}.")
    return STRATEGIES[name]

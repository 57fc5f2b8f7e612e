"""The ways to run a trained network over a series, and which networks each can run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl

from mptt.callbacks import ClosedLoopCallback, ConditionalCallback, StatefulCallback
from mptt.errors import MPTTError

_READS = {
    "none": "reads no target",
    "step": "reads the target of the step before (lagged_target=step)",
    "window": "reads the target before the window, held through it (lagged_target=window)",
}


@dataclass(frozen=True)
class Inference:
    """One way to infer. All are of arXiv 2309.16882.

    Attributes:
        summary: a line for help.
        lagged: the `lagged_target` that a network must have been trained with.
        callbacks: makes the callbacks that evaluate.
        data: settings of the DataModule that it needs.
    """

    summary: str
    lagged: str
    callbacks: Callable[[], Sequence[pl.Callback]]
    data: Mapping[str, Any] = field(default_factory=dict)


INFERENCES: dict[str, Inference] = {
    "IIF": Inference(
        "independent: overlapping windows from the initial state, of each the steps that are new",
        "none",
        lambda: [StatefulCallback(training=False, evaluation="independent")],
        {"evaluation": "independent"},
    ),
    "SSIF": Inference(
        "sequential stateful: each series in order, the state carried",
        "none",
        lambda: [StatefulCallback(training=False)],
        {"evaluation": "sequential"},
    ),
    "TFIF": Inference(
        "closed loop: each series in order, each prediction an input of the next step",
        "step",
        lambda: [ClosedLoopCallback()],
        {"evaluation": "sequential"},
    ),
    "SCIF": Inference(
        "sequential conditional: window by window, the prediction before a window an input of it",
        "window",
        lambda: [ConditionalCallback()],
        {"evaluation": "conditional"},
    ),
}


def find_inference(name: str, lagged: str) -> Inference:
    """The inference of a name, for a network with these inputs.

    Args:
        name: of the inference.
        lagged: the lagged target that the network reads: "none", "step" or "window".

    Raises:
        MPTTError: there is none of that name, or the network's inputs do not allow it.
    """
    if name not in INFERENCES:
        near = difflib.get_close_matches(name.upper(), INFERENCES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise MPTTError(f"There is no inference {name!r}.{hint} There are {', '.join(INFERENCES)}.")
    inference = INFERENCES[name]
    if inference.lagged != lagged:
        possible = [other for other, one in INFERENCES.items() if one.lagged == lagged]
        raise MPTTError(
            f"{name} is for a network that {_READS[inference.lagged]}, but this one {_READS[lagged]}; it can be run"
            f" with {' or '.join(possible)}."
        )
    return inference

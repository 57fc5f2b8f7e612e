"""What is said of states that are not finite: which windows or sites, from when on, why perhaps, and what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.refused import Losses, Refused, weights_not_finite
from mptt.errors import MPTTWarning
from mptt.tap import first_lost
from mptt.windows import Int64Array, WindowIndex

About = Callable[[int, int], str | None]
_PART = {"train": "train", "validate": "validation", "sanity_check": "validation", "test": "test", "predict": "test"}
_MOST = 5  # sites named


class LostStates:
    """Where the states of an evaluation pass stop being finite; collected on their device, looked at when it ends.

    Args:
        independent: rows are windows of which none goes on from another.
    """

    def __init__(self, independent: bool = False) -> None:
        self.independent = independent
        self._seen: list[tuple[Int64Array, Int64Array, Int64Array, Tensor]] = []

    def see_predictions(self, outputs: Any, batch: Any) -> None:
        """Take in the predictions (B, L, K) of a step, alone or as "prediction" in a dict, if batch and step say so."""
        predicted = outputs.get("prediction") if isinstance(outputs, dict) else outputs
        where = [batch.get(key) for key in ("site", "start", "length")] if isinstance(batch, dict) else [None]
        if not isinstance(predicted, Tensor) or predicted.ndim != 3 or not predicted.is_floating_point():
            return
        if all(isinstance(one, Tensor) and one.shape == predicted.shape[:1] for one in where):
            site, start, length = (torch.as_tensor(one).cpu().numpy().astype(np.int64) for one in where)
            self._seen.append((site, start, length, first_lost(predicted, length)))

    def see(self, site: Int64Array, start: Int64Array, length: Int64Array, step: Tensor | None, ends: Tensor) -> None:
        """Take in a batch.

        Args:
            site: (B,) of each row.
            start: (B,) likewise.
            length: (B,) likewise.
            step: (B,) of the row, the first at which its output is not finite; its length where it is to the end.
            ends: (B, S) states after the last steps, in which more may be seen: an LSTM's cells are in no output.
        """
        # Where only they tell, the last step is named.
        by = torch.from_numpy(length).to(ends.device, non_blocking=True) - (~ends.isfinite().all(1)).to(torch.int64)
        step = by if step is None else torch.minimum(step.to(by.device), by)
        self._seen.append((site, start, length, step))

    def first(self) -> dict[int, tuple[int, int]]:
        """The step from which each site is lost, of those that are, and its row's start; forgets the pass."""
        seen, self._seen = self._seen, []
        if not seen:
            return {}
        site, start, length = (np.concatenate([one[nth] for one in seen]) for nth in range(3))
        # One look at the device.
        step = torch.cat([one[3] for one in seen]).cpu().numpy()
        found: dict[int, tuple[int, int]] = {}
        for row in np.flatnonzero(step < length):
            at = int(start[row] + step[row]), int(start[row])
            found[int(site[row])] = min(at, found.get(int(site[row]), at))
        return found


def about_places(trainer: pl.Trainer, part: str | None = None) -> About:
    """What a DataModule with a `place_of(part, site, step)` says of a site and a step; of others, None.

    Args:
        trainer: of the DataModule.
        part: by default that of the evaluation which runs, if its loader is the DataModule's.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    place = getattr(data, "place_of", None)
    if part is None and place is not None and _evaluation_source(trainer) is data:
        part = _PART.get(_stage(trainer))
    return (lambda site, step: None) if place is None or part is None else (lambda site, step: place(part, site, step))


def warn_of_lost(trainer: pl.Trainer, module: pl.LightningModule, lost: LostStates) -> None:
    """Say which sites are lost in the evaluation pass that ends, and from when on, if any."""
    if not (first := lost.first()):
        return
    about, named = about_places(trainer), []
    for site, (step, start) in list(first.items())[:_MOST]:
        more = about(site, step)
        window = f" in the window that starts at step {start}" if lost.independent else ""
        named.append(f"site {site} from step {step} on{window}{f' ({more})' if more else ''}")
    rest = f" and {len(first) - _MOST} more" if len(first) > _MOST else ""
    what, where = ("Predictions", "of such windows") if lost.independent else ("States", "there from then on")
    warnings.warn(
        f"{what} are not finite in this {_stage(trainer)} pass: {', '.join(named)}{rest}. Predictions {where}, and"
        f" scores over them, mean nothing. {why_lost(module, 'the inputs of the site at that step')}",
        MPTTWarning,
        stacklevel=2,
    )


def refused_message(
    trainer: pl.Trainer, module: pl.LightningModule, windows: WindowIndex, refused: Refused, losses: Losses
) -> str | None:
    """What to say of an epoch in which states or losses were not finite; None: all were. Waits for the device."""
    count, batch, ids = refused.found()
    bad, bad_batch, bad_ids = losses.found()
    if not count and not bad:
        return None
    own = getattr(trainer.datamodule, "windows", None) is windows.whole  # type: ignore[attr-defined]
    about = about_places(trainer, "train") if own else None
    said = [f"In epoch {trainer.current_epoch}"]
    if bad:
        said += [
            f"the loss of {bad} batch(es) was not finite, first of batch {bad_batch}:",
            windows.named(bad_ids, about),
        ]
        said[-1] += ";" if count else "."
    if count:
        said += [f"{count} state(s) of {len(ids)} window(s) were not finite, first in batch {batch}:"]
        said += [f"{windows.named(ids, about)}. They were not filed, and the memory kept its messages."]
    said[0] += ","
    return " ".join([*said, why_lost(module, "the inputs and targets of these windows")])


def why_lost(module: pl.LightningModule, data: str) -> str:
    """Whether it is the weights, and what to look at."""
    bad = weights_not_finite(module)
    if not bad:
        return f"The weights are finite: look at {data}."
    listed = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    return (
        f"The weights are not finite ({listed}): the training has diverged. Go back to a checkpoint, and lower the"
        f" learning rate, clip the gradient (Trainer(gradient_clip_val=1.0)), or look at {data}."
    )


def _evaluation_source(trainer: Any) -> Any:
    """Whose loaders the evaluation that runs has: the DataModule's, the module's, or neither."""
    loops = {"test": "test_loop", "predict": "predict_loop", "validate": "validate_loop"}
    fitting = trainer.state.fn == "fit"
    loop = trainer.fit_loop.epoch_loop.val_loop if fitting else getattr(trainer, loops.get(_stage(trainer), ""), None)
    return getattr(getattr(loop, "_data_source", None), "instance", None)


def _stage(trainer: pl.Trainer) -> str:
    stage = trainer.state.stage
    return "" if stage is None else stage.value

"""What several callbacks ask of an epoch: its own random numbers, and how much of the training lies behind it."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from mptt.callbacks.limit import StepLimit
from mptt.errors import MPTTError


def epoch_generator(seed: int | None, epoch: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers fixed by seed and epoch, so that a resumed run draws what it would have.

    Args:
        seed: None: the one that seed_everything set.
        epoch: from 0.
        device: of the numbers.
    """
    seed = torch.initial_seed() % 2**31 if seed is None else seed
    return torch.Generator(device).manual_seed(seed * 1_000_003 + epoch)


def go_on(generator: torch.Generator, state: Tensor | None) -> None:
    """Draw on from a saved state; without one, or with that of another kind of device, leave the generator as it is."""
    if state is not None and len(state) == len(generator.get_state()):
        generator.set_state(state)


def training_progress(trainer: pl.Trainer) -> float:
    """The share of the training that lies behind, 0 to 1: of its epochs, steps or time, whichever is limited.

    Epochs count whole: within an epoch their share stays.

    Raises:
        MPTTError: nothing limits the training.
    """
    shares = []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        shares.append(trainer.current_epoch / trainer.max_epochs)
    limits = [one.steps for one in trainer.callbacks if isinstance(one, StepLimit)]  # type: ignore[attr-defined]
    shares += [trainer.global_step / steps for steps in (trainer.max_steps, *limits) if steps > 0]
    # By name: each Lightning namespace has its own.
    timers = [one for one in trainer.callbacks if type(one).__name__ == "Timer"]  # type: ignore[attr-defined]
    shares += [
        one.time_elapsed() / (one.time_elapsed() + one.time_remaining())
        for one in timers
        if one.time_remaining() is not None
    ]
    if not shares:
        raise MPTTError("The training has no end to count from; give the Trainer max_epochs, max_steps or max_time.")
    return min(max(shares), 1.0)

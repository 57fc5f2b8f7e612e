"""Training and inference with the lagged target among the inputs: the last K columns of `batch["x"]`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from mptt.errors import MPTTError


def lagged_columns(trainer: pl.Trainer, given: int | None, owner: str) -> int:
    """How many columns at the end of `x` are the lagged target: those given, else the DataModule's `lagged_columns`.

    Raises:
        MPTTError: there are none.
    """
    if given is not None:
        return given
    data = trainer.datamodule  # type: ignore[attr-defined]
    columns = getattr(data, "lagged_columns", 0)
    if not columns:
        found = "no DataModule" if data is None else f"{type(data).__name__} has none"
        raise MPTTError(
            f"{owner} puts predictions in the place of the lagged target, and there is none among the inputs"
            f" ({found}): use SeriesDataModule(lagged_target=...), or say with lagged_columns= how many columns at the"
            " end of batch['x'] it is."
        )
    return int(columns)


def predictions_of(outputs: Any, owner: str) -> Tensor:
    """The predictions (B, L, K) that a step returned, detached: alone, or as "prediction" in a dict.

    Raises:
        MPTTError: it returned none.
    """
    found = outputs.get("prediction") if isinstance(outputs, dict) else outputs
    if not isinstance(found, Tensor) or found.ndim != 3:
        raise MPTTError(
            f'{owner} needs the predictions of the step: return them as "prediction" (B, L, K) in a dict, beside "loss"'
            " in training."
        )
    return found.detach()

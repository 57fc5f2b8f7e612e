"""What a SeriesDataModule may be told, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from mptt.datamodules.batching.batches import Order
from mptt.datamodules.preparing.checks import check_choice, check_whole, check_within
from mptt.datamodules.preparing.encoding import AttributesMissing, AttributesText
from mptt.datamodules.preparing.memory import check_memory
from mptt.errors import MPTTError

if TYPE_CHECKING:
    from mptt.datamodules.series import SeriesDataModule

Evaluation = Literal["sequential", "independent", "conditional"]
LaggedTarget = Literal["none", "step", "window"]
TargetScaling = Literal["global", "site"]
Shard = Literal["window", "site"]

_CHOICES = {
    "order": Order,
    "shard": Shard,
    "evaluation": Evaluation,
    "lagged_target": LaggedTarget,
    "target_scaling": TargetScaling,
    "attributes_missing": AttributesMissing,
    "attributes_text": AttributesText,
}
_COUNTS = ("window", "stride", "batch_size", "sites_at_once", "stretches_at_once")
_COUNTS_OR_NONE = ("warmup", "num_workers", "gap")


def as_names(argument: str, names: Sequence[str]) -> list[str]:
    """A list of variables.

    Raises:
        MPTTError: one name alone, whose letters would be taken for names.
    """
    if isinstance(names, str):
        raise MPTTError(f"{argument} is a list of names; for one variable, [{names!r}].")
    return list(names)


def check_settings(data: SeriesDataModule) -> None:
    """Check the numbers and words of a DataModule.

    Raises:
        MPTTError: one is not as it must be, or two do not go together.
    """
    check_whole(1, **{name: getattr(data, name) for name in _COUNTS})
    check_whole(0, **{name: getattr(data, name) for name in _COUNTS_OR_NONE})
    check_memory(data.memory)
    for name in ("train_steps", "chunk"):
        if (value := getattr(data, name)) is not None:
            check_whole(1, **{name: value})
    check_within(data.window, predict_last_n=data.predict_last_n)
    for name, choices in _CHOICES.items():
        check_choice(name, getattr(data, name), get_args(choices))
    if data.order == "series" and data.predict_last_n is not None:
        raise MPTTError(
            f'order="series" trains on whole series, and predict_last_n={data.predict_last_n} counts steps of windows;'
            " leave out one of them."
        )

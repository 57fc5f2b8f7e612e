"""Training batches that a run can go on with from the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from mptt.datamodules.batching.batches import Batch
from mptt.errors import MPTTError


class EpochBatches(Sampler[list[int]]):
    """The batches of an order, epoch by epoch; an epoch may begin in its middle.

    Args:
        batches: all of an epoch. Where they are shuffled, they or their `sampler` have `seed` and `set_epoch`.
        seed: of the shuffling.
        layout: what else the batches of an epoch follow from; a run can go on in the middle of an epoch if it is alike.

    Attributes:
        epoch: that comes next.
        first: batches of it that are left out.
    """

    def __init__(self, batches: Any, seed: int, layout: Mapping[str, Any]) -> None:
        self.batches, self.seed, self.layout = batches, seed, dict(layout)
        self.sampler = self  # where Lightning looks for set_epoch
        self.epoch = self.first = 0

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from its beginning unless it is the one to go on with; Lightning does."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = next((one for one in (self.batches, self._inner()) if hasattr(one, "set_epoch")), None)
        if shuffled is not None:
            shuffled.seed = self.seed
            shuffled.set_epoch(self.epoch)
        first, self.first = self.first, 0
        self.epoch += 1
        yield from islice(self.batches, first, None)

    def _inner(self) -> Any:
        return getattr(self.batches, "sampler", None)


class TrainingLoader(DataLoader[Batch]):
    """A DataLoader over `EpochBatches` whose state is the seed, the epoch and how many of its batches were given out.

    Nothing is fetched before the first batch is asked for: Lightning makes the iterator before it says which epoch it
    is of. What was fetched ahead does not count as given out.

    Attributes:
        trained: tells how many batches of the epoch were trained, to whom a batch that was given out but not trained,
            as when a step fails, does not count either.
    """

    trained: Callable[[], int | None] | None = None
    _running: tuple[int, int] | None = None  # the epoch, and its batches that were given out
    _loaded: Mapping[str, Any] | None = None

    @property
    def order(self) -> EpochBatches:
        """Of the batches."""
        # Of several processes, the sampler is who says that batches are dealt out already.
        batches: Any = self.sampler.dataset if self.batch_sampler is None else self.batch_sampler  # type: ignore[attr-defined]
        found: EpochBatches = batches.sampler
        return found

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        order = self.order
        epoch, position = order.epoch, order.first
        if position and self._loaded is not None:
            _check_layout(self._loaded, order.layout)
        self._loaded = None
        self._running = epoch, position
        for batch in super().__iter__():
            position += 1
            self._running = epoch, position
            yield batch
        self._running = None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: plain values."""
        order = self.order
        epoch, position = (order.epoch, order.first) if self._running is None else self._running
        trained = None if self.trained is None else self.trained()
        position = position if trained is None else min(position, trained)
        return {"seed": order.seed, "epoch": epoch, "position": position, "layout": order.layout}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there with the next iterator; by another epoch, if it is set, from its beginning.

        The seed is that of the saved run.
        """
        order, self._running, self._loaded = self.order, None, state
        order.seed, order.epoch, order.first = state["seed"], state["epoch"], state["position"]


def _check_layout(state: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    there = {"processes": 1, **state["layout"]}
    differences = [
        f"{name} {there.get(name)!r} there, {value!r} here" for name, value in here.items() if there.get(name) != value
    ]
    if differences:
        raise MPTTError(
            f"The checkpoint is from the middle of epoch {state['epoch']}, after {state['position']} batches, and its"
            f" batches are not those of this training loader: {'; '.join(differences)}. Resume with the settings of"
            " that run, or from a checkpoint of the end of an epoch."
        )

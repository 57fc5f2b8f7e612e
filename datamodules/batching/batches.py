"""Training batches cut from flat series, and the orders in which they come."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import Part
from mptt.errors import MPTTError, MPTTWarning
from mptt.keymap import KeyMap
from mptt.windows import Int64Array, WindowIndex

Batch = dict[str, Tensor]
Order = Literal["shuffled", "lanes", "sequential", "series"]
DISJOINT = ("lanes", "sequential")
LONGEST_SERIES = 50_000  # back-propagation through a whole series keeps the states of all its steps


class TrainingWindows(Dataset[Batch]):
    """The windows of the training part, sliced a whole batch at a time.

    Args:
        series: the data.
        part: the training part.
        windows: cut from it, of one length; their `site` is the site number, their `start` counts from the beginning
            of the part.
        last: only so many steps at the end of each window count; all by default.
        keymap: puts the links of its windows into a batch, as of `KeyMap.pack`; None: they are not wanted.
    """

    def __init__(
        self,
        series: FlatSeries,
        part: Part,
        windows: WindowIndex,
        last: int | None = None,
        keymap: KeyMap | None = None,
    ) -> None:
        self.series = series
        self.keymap = keymap
        self.site, self.step = torch.from_numpy(windows.site), torch.from_numpy(_record_steps(series, part, windows))
        self.steps = int(windows.length[0])
        self.last = self.steps if last is None else last

    def __len__(self) -> int:
        return len(self.step)

    def __getitems__(self, ids: Sequence[int]) -> Batch:
        """The batch of windows with these ids: x (B, L, F), y (B, L, K), mask (B, L, K), window (B,)."""
        series, window = self.series, torch.as_tensor(ids)
        site = self.site[window]
        row = series.rows_of(site, self.step[window])
        lagged = None if series.lagged is None else _windows_at(row, series.lagged, 1 if series.held else self.steps)
        mask = _windows_at(row, series.observed, self.steps)
        mask[:, : self.steps - self.last] = False
        return {
            "x": series.side_by_side(_windows_at(row, series.inputs, self.steps), site, lagged),
            "y": _windows_at(row, series.targets, self.steps),
            "mask": mask,
            "window": window,
            **(self.keymap.pack(window) if self.keymap is not None else {}),
        }

    def __getitem__(self, index: int | Sequence[int]) -> Batch:
        return self.__getitems__([index] if isinstance(index, int) else index)


class TrainingSeries(Dataset[Batch]):
    """The whole training series, a batch of them padded at the end to the longest.

    Args:
        series: the data.
        part: the training part.
        windows: one a site, all of its part.
    """

    def __init__(self, series: FlatSeries, part: Part, windows: WindowIndex) -> None:
        self.series = series
        self.site, self.step = torch.from_numpy(windows.site), torch.from_numpy(_record_steps(series, part, windows))
        self.length = torch.from_numpy(windows.length)

    def __len__(self) -> int:
        return len(self.step)

    def __getitems__(self, ids: Sequence[int]) -> Batch:
        """The batch of these series: x (B, L, F) and y (B, L, K), 0 where padded, mask (B, L, K), window (B,)."""
        window = torch.as_tensor(ids)
        length = self.length[window].unsqueeze(1)
        step = torch.arange(int(length.max()))
        padded = (step >= length).unsqueeze(2)
        site = self.site[window]
        row = self.series.rows_of(site, self.step[window]).unsqueeze(1) + torch.minimum(step, length - 1)
        return {
            "x": self.series.inputs_at(row, site).masked_fill_(padded, 0),
            "y": self.series.targets[row].masked_fill_(padded, 0),
            "mask": self.series.observed[row] & ~padded,
            "window": window,
        }

    def __getitem__(self, index: int | Sequence[int]) -> Batch:
        return self.__getitems__([index] if isinstance(index, int) else index)


class ShuffleSampler(Sampler[int]):
    """All indices once an epoch, in an order that seed and epoch fix: a resumed run shuffles as it would have."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = epoch_generator(self.seed, self.epoch)
        self.epoch += 1
        yield from torch.randperm(self.size, generator=generator).tolist()


class LaneBatches(Sampler[list[int]]):
    """Batches in which row r goes on where row r of the batch before stopped.

    The windows, in order of site and start, are dealt to lanes in runs; a lane that passes from one site
    to the next starts afresh there. The first lanes may be one window longer than the last.

    Args:
        windows: disjoint, each site's in order.
        batch_size: lanes; fewer where there are fewer windows.
    """

    def __init__(self, windows: WindowIndex, batch_size: int) -> None:
        self.lanes = min(batch_size, len(windows))
        size = len(windows) // self.lanes + (np.arange(self.lanes) < len(windows) % self.lanes)
        self._first, self._size = size.cumsum() - size, size

    def __len__(self) -> int:
        return int(self._size.max())

    def __iter__(self) -> Iterator[list[int]]:
        for nth in range(len(self)):
            yield (self._first[self._size > nth] + nth).tolist()


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of one epoch, whichever epoch a run begins with."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def cut_windows(part: Part, order: Order, window: int, stride: int, names: Sequence[str]) -> WindowIndex:
    """The training windows of a part, as an order needs them.

    Args:
        part: the training part.
        order: "shuffled": one each `stride` steps, and one that ends at the last step; "lanes", "sequential":
            disjoint ones that follow one another and leave the rest of a series out; "series": all of each site's.
        window: steps in a window.
        stride: steps from one window's start to the next.
        names: of the sites, by number.

    Raises:
        MPTTError: no site has a window; disjoint windows with another stride; whole series over LONGEST_SERIES steps.
    """
    if order == "series":
        if (long := part.length > LONGEST_SERIES).any():
            found = [f"{names[part.site[nth]]} ({part.length[nth]} steps)" for nth in np.flatnonzero(long)]
            raise MPTTError(
                'order="series" trains through whole series, whose states are all kept for back-propagation: at most'
                f" {LONGEST_SERIES} steps each, found {listed(found)}. Keep the last steps only, as with"
                f" train_steps={LONGEST_SERIES}, or use another order."
            )
        return WindowIndex(part.site, np.zeros_like(part.site), part.length)
    cut = WindowIndex.cut(part.length, window, stride, [names[site] for site in part.site])
    kept = np.ones(len(cut), dtype=bool)
    if order in DISJOINT:
        if stride != window:
            raise MPTTError(f'order="{order}" needs disjoint windows: stride = window = {window}, found {stride=}.')
        kept = cut.start % window == 0
    return WindowIndex(part.site[cut.site[kept]], cut.start[kept], window)


def warn_of_empty_lanes(windows: WindowIndex, batch_size: int) -> None:
    """Say that there are fewer windows than lanes asked for: every lane has one, and no state goes on."""
    if len(windows) < batch_size:
        warnings.warn(
            f'order="lanes" finds {len(windows)} windows for batch_size={batch_size}: {len(windows)} lane(s) of one'
            " window each, so no state is carried from batch to batch. Use a smaller batch_size or a shorter window.",
            MPTTWarning,
            stacklevel=3,
        )


def observed_at_ends(series: FlatSeries, part: Part, windows: WindowIndex, last: int) -> Tensor:
    """(K,) whether each target has a value in the last steps of any window of the sites that are held."""
    held = series.offset[windows.site] >= 0
    begin = (series.offset[windows.site] + _record_steps(series, part, windows) + windows.length - last)[held]
    counted = series.covered(begin, np.full(len(begin), last))
    return (series.observed & counted.unsqueeze(1)).any(0)


def check_last_steps(known: Tensor, last: int, names: Sequence[str]) -> None:
    """Check that every target has a value in the last steps of some window.

    Raises:
        MPTTError: which has none.
    """
    for name, there in zip(names, known.tolist(), strict=True):
        if not there:
            raise MPTTError(
                f"The target {name} has no value in the last {last} step(s) of any training window; raise"
                f" predict_last_n={last}, or change window or stride."
            )


def _record_steps(series: FlatSeries, part: Part, windows: WindowIndex) -> Int64Array:
    """(N,) the first step of each window, counted in its site's record."""
    step = np.full(len(series.first), -1)
    step[part.site] = part.begin - series.first[part.site]
    return step[windows.site] + windows.start


def _windows_at(row: Tensor, values: Tensor, steps: int) -> Tensor:
    """The rows `row .. row + steps - 1` of values (T, V) for each row (B,): (B, steps, V)."""
    width = values.shape[1]
    # Every window there could be, as a view; choosing among them copies whole windows, not rows.
    every = values.as_strided((len(values) - steps + 1, steps, width), (width, width, 1))
    return every.index_select(0, row)

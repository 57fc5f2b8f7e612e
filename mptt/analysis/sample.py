"""A sample of windows whose true initial states are cheap to have: neighbours, in a few stretches of the series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptt.errors import MPTTError
from mptt.windows import Int64Array, WindowIndex


@dataclass(frozen=True)
class WindowSample:
    """Some windows, and the stretches of series along which a pass comes by the start of each.

    Attributes:
        ids: (V,) of the windows, ascending by stretch, then start.
        site: (R,) of each stretch.
        start: (R,) its first step.
        length: (R,) its steps, up to the start of its last window.
        row: (V,) the stretch of each window, int64.
        position: (V,) after which step of its stretch a window begins.
    """

    ids: Int64Array
    site: Int64Array
    start: Int64Array
    length: Int64Array
    row: Tensor
    position: Tensor


def sample_windows(
    windows: WindowIndex, count: int = 64, stretches: int = 8, spin_up: int | None = 3650, seed: int = 0
) -> WindowSample:
    """Draw windows, neighbours of each other in a few stretches, of as many sites as there are stretches.

    Windows at the first step of a series have no message, and are not drawn.

    Args:
        windows: the table.
        count: windows, at most; 2 or more.
        stretches: at most; where there are fewer sites, some have several.
        spin_up: steps of a stretch before its first window, fewer where the series begins; None: from its beginning.
        seed: of the drawing; torch's and numpy's own generators are left alone.

    Raises:
        MPTTError: an argument out of its range, or fewer than two windows that begin after their series.

    Example:
        >>> sample = sample_windows(WindowIndex.cut([40], window=8, stride=4), count=4, stretches=2, spin_up=6)
        >>> sample.start.tolist(), sample.length.tolist(), sample.position.tolist()
        ([6, 14], [10, 10], [5, 9, 5, 9])
    """
    for name, value, least in (("windows", count, 2), ("stretches", stretches, 1), ("spin_up", spin_up or 0, 0)):
        if value < least:
            raise MPTTError(f"{name} must be {least} or more, found {value}.")
    usable = np.flatnonzero(windows.start > 0)
    if len(usable) < 2:
        raise MPTTError(
            f"The quality of messages is measured on 2 windows or more that begin after the first step of their series;"
            f" of {windows} there are {len(usable)}."
        )
    usable = usable[np.lexsort((windows.start[usable], windows.site[usable]))]
    site = windows.site[usable]
    opens = np.flatnonzero(np.diff(site, prepend=site[0] - 1))
    nth = np.arange(len(usable)) - np.repeat(opens, np.diff(opens, append=len(usable)))
    each = max(count // stretches, 1)
    block = (np.diff(site, prepend=site[0]) != 0) | (nth % each == 0)
    block[0] = True
    first = np.flatnonzero(block)
    last = np.append(first[1:], len(usable))
    order = _one_a_site_first(site[first], np.random.default_rng(seed))
    enough = int(np.searchsorted((last - first)[order].cumsum(), 2)) + 1  # a stretch may have one window alone
    chosen = np.sort(order[: max(min(stretches, count), enough)])
    members = [usable[first[one] : last[one]] for one in chosen]
    ids = np.concatenate(members)
    begins = np.array([windows.start[one[0]] for one in members])
    start = np.zeros_like(begins) if spin_up is None else np.maximum(begins - spin_up, 0)
    stop = np.array([windows.start[one[-1]] for one in members])
    row = np.repeat(np.arange(len(members)), [len(one) for one in members])
    position = windows.start[ids] - start[row] - 1
    return WindowSample(
        ids,
        np.array([windows.site[one[0]] for one in members]),
        start,
        stop - start,
        torch.from_numpy(row),
        torch.from_numpy(position),
    )


def _one_a_site_first(site: Int64Array, random: np.random.Generator) -> Int64Array:
    """Entries in an order drawn at random, in which a second of a site comes only after all sites' first."""
    drawn = random.permutation(len(site))
    by_site = np.lexsort((drawn, site))
    opens = np.flatnonzero(np.diff(site[by_site], prepend=site[by_site[0]] - 1))
    nth = np.arange(len(site)) - np.repeat(opens, np.diff(opens, append=len(site)))
    return by_site[np.lexsort((drawn[by_site], nth))]

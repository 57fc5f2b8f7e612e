"""How many sites there is room for at a time, and whether that is enough for the batches asked for."""

from __future__ import annotations

import numpy as np

from mptt.datamodules.batching.ahead import block_size, stored_batches
from mptt.datamodules.batching.batches import DISJOINT, Order
from mptt.errors import MPTTError
from mptt.freememory import GIB
from mptt.windows import WindowIndex


def room_for_sites(
    windows: WindowIndex, order: Order, batch_size: int, num_workers: int, free: int, record: int
) -> int:
    """Sites that there is room for.

    Args:
        windows: of the training part.
        order: in which they come.
        batch_size: windows in a batch.
        num_workers: processes that cut batches.
        free: bytes for series.
        record: bytes of the longest series.

    Raises:
        MPTTError: there is not enough for a batch; what is needed, and the way out. Or other processes cut batches.
    """
    capacity = free // record
    needed = sites_at_once(windows, order, batch_size, max(capacity, 1))
    if needed > capacity:
        smaller = f", or batch_size={capacity} or less" if capacity and needed <= batch_size else ""
        raise MPTTError(
            f'The series do not fit into memory, and a batch of order="{order}" needs up to {needed} of them at once:'
            f" {needed * record / GIB:.3g} GiB, with {free / GIB:.3g} GiB given. Pass memory={_above(needed * record)}"
            f" or more{smaller}."
        )
    if num_workers:
        raise MPTTError(
            f"The series do not fit into the {free / GIB:.3g} GiB given, so a thread reads them as batches need them;"
            f" other processes cannot: pass num_workers=0, found {num_workers}, or a larger memory."
        )
    return capacity


def sites_at_once(windows: WindowIndex, order: Order, batch_size: int, capacity: int) -> int:
    """The most sites that one batch holds windows of, where there is room for `capacity` of them."""
    if order in DISJOINT:
        return max(len(np.unique(windows.site[ids])) for ids in stored_batches(windows, order, batch_size, 0, capacity))
    count = np.sort(np.unique(windows.site, return_counts=True)[1])
    block = block_size(capacity)
    # A batch no larger than the smallest block lies in two of them.
    enough = len(count) <= block or count[:block].sum() >= batch_size
    return min(2 * block if enough else batch_size, batch_size, len(count))


def _above(size: int) -> float:
    """Bytes in GiB, two digits, not rounded down."""
    digits = 10 ** (1 - int(np.floor(np.log10(size / GIB))))
    return float(np.ceil(size / GIB * digits) / digits)

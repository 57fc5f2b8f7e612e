"""A whole MPTT epoch against the number of windows, of one site and of many."""

from __future__ import annotations

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.bench.common import Figure, Settings, days, epoch_seconds, random_dataset

WINDOW, STRIDE, BATCH, UNITS = 8, 4, 256, 4
PER_SITE = 100  # windows of each of many sites
SHAPES = {"one site": None, "many sites": PER_SITE}


def scale(settings: Settings) -> list[Figure]:
    """Seconds of an epoch with a network so small that the rest of the epoch stands out.

    A GRU of 4 units, windows of 8 steps, one each 4, one input, batches of 256. The epochs are those of one fit, after
    the first.
    """
    figures = []
    for shape, per_site in SHAPES.items():
        each: dict[int, list[float]] = {}
        for windows in settings.size((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)):
            settings.tell(f"{windows:,} windows, {shape}")
            data = _data(windows, per_site)
            repeats = settings.at_most(3)
            found = epoch_seconds(data, MPTTCallback(zero_init_epochs=0), epochs=1 + repeats, hidden_size=UNITS)
            count = len(data.windows)
            each[count] = [1e6 * seconds / count for seconds in found]
            what = f"MPTT epoch of {count:,} windows, {shape}, tiny network"
            figures.append(Figure(what, found, "s", panel="scale", curve=shape, at=float(count)))
        last, before = sorted(each)[-1], sorted(each)[-2]
        figures.append(Figure(f"a window of {last:,}, {shape}, tiny network", each[last], "µs"))
        figures.append(Figure(f"a window of {before:,}, {shape}, tiny network", each[before], "µs"))
    return figures


def _data(windows: int, per_site: int | None) -> SeriesDataModule:
    """So many training windows, in one site or in sites of so many."""
    sites = 1 if per_site is None else windows // per_site
    train = WINDOW + (windows // sites - 1) * STRIDE
    dataset = random_dataset(sites, 1, days(train + 2 * WINDOW))
    share = WINDOW / (train + 2 * WINDOW)
    data = SeriesDataModule(
        dataset, inputs=["x0"], targets=["y"], split=(1 - 2 * share, share, share), window=WINDOW, stride=STRIDE,
        batch_size=BATCH, seed=0,
    )  # fmt: skip
    data.setup("fit")
    return data

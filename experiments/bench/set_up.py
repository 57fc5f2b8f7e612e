"""Set-up of a DataModule of many sites, from data in memory."""

from __future__ import annotations

import pandas as pd

from mptt.datamodules import SeriesDataModule
from mptt.experiments.bench.common import Figure, Settings, random_dataset, seconds_of


def set_up(settings: Settings) -> list[Figure]:
    """Seconds for sites of 35 years, 8 daily inputs."""
    sites = settings.size(671, 60)
    dataset = random_dataset(sites, 8, pd.date_range("1980-01-01", "2014-12-31", unit="s").values)
    names = [str(name) for name in dataset.data_vars if name != "y"]
    seconds = [
        seconds_of(SeriesDataModule(dataset, inputs=names, targets=["y"]).setup) for _ in range(settings.at_most(3))
    ]
    return [Figure(f"set-up of {sites} sites x 35 years x 8 inputs", seconds, "s", 10.0)]

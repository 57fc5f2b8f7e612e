from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule


@pytest.fixture
def data() -> SeriesDataModule:
    """Three sites; the second has 90 days of training, the others 120."""
    time = np.datetime64("2001-01-01", "s") + np.arange(200) * np.timedelta64(86400, "s")
    rain = np.random.default_rng(0).gamma(0.3, 9.0, (3, 200))
    rain[1, 150:] = np.nan
    dataset = xr.Dataset({"rain": (("site", "time"), rain), "flow": (("site", "time"), 0.5 * rain)})
    dataset = dataset.assign_coords(site=["a", "b", "c"], time=time)
    settings = {"split": (0.6, 0.2, 0.2), "window": 20, "stride": 10, "warmup": 0}
    return SeriesDataModule(dataset, inputs=["rain"], targets=["flow"], **settings)  # type: ignore[arg-type]


def test_stretches_are_pieces_of_the_series_in_the_order_asked_for(data: SeriesDataModule) -> None:
    data.setup("fit")
    whole = {int(batch["site"][row]): batch["x"][row] for batch in data.series_dataloader() for row in range(3)}
    site, start, length = np.array([2, 0, 0, 1]), np.array([100, 3, 50, 70]), np.array([20, 30, 7, 20])
    (batch,) = data.stretch_batches("train", site, start, length)
    assert (batch["site"].tolist(), batch["start"].tolist()) == ([2, 0, 0, 1], [100, 3, 50, 70])
    assert batch["length"].tolist() == [20, 30, 7, 20]
    assert batch["x"].shape == (4, 30, 1)
    for row in range(4):
        expected = whole[int(site[row])][start[row] : start[row] + length[row]]
        assert torch.equal(batch["x"][row, : length[row]], expected)
        assert batch["keep"][row].sum() == length[row]


@pytest.mark.parametrize(
    ("site", "start", "length"), [(3, 0, 5), (-1, 0, 5), (1, 80, 11), (0, -1, 5), (0, 110, 11), (0, 5, 0)]
)
def test_stretches_that_are_not_in_the_part_are_refused(
    data: SeriesDataModule, site: int, start: int, length: int
) -> None:
    with pytest.raises(MPTTError, match=f"has no steps {start} to {start + length - 1} of site number {site}"):
        data.stretch_batches("train", *(np.array([one]) for one in (site, start, length)))


def test_an_unknown_part_is_refused(data: SeriesDataModule) -> None:
    with pytest.raises(MPTTError, match="There is no part 'tset'"):
        data.stretch_batches("tset", *np.zeros((3, 1), dtype=np.int64))

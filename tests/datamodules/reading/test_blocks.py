from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sources import days

from mptt import MPTTError
from mptt.datamodules.reading import blocks
from mptt.datamodules.reading.blocks import BlockReader
from mptt.datamodules.reading.source import source_of

SITES = [f"{nth:02d}" for nth in range(13)]


def opened(folder: Path, sites_in_chunk: int, dims: tuple[str, str] = ("site", "time")) -> xr.Dataset:
    values = xr.DataArray(np.arange(130, dtype=np.float32).reshape(13, 10), dims=("site", "time")).transpose(*dims)
    dataset = xr.Dataset({"x": values}, {"time": days(10)})
    chunks = (sites_in_chunk, 10) if dims[0] == "site" else (10, sites_in_chunk)
    dataset.to_zarr(folder / "x.zarr", zarr_format=2, encoding={"x": {"chunks": chunks}})
    return xr.open_zarr(folder / "x.zarr", chunks=None)


def sizes(reader: BlockReader, order: list[str], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Read in an order, check every value, and say how many sites each read from disk brought."""
    found = []
    load = blocks.load

    def counted(part: xr.Dataset, place: Path) -> xr.Dataset:
        found.append(part.sizes["site"])
        return load(part, place)

    monkeypatch.setattr(blocks, "load", counted)
    for site in order:
        np.testing.assert_array_equal(reader(site)["x"], 10 * int(site) + np.arange(10))
    return found


@pytest.mark.parametrize("dims", [("site", "time"), ("time", "site")])
def test_sites_that_share_chunks_are_read_together(
    dims: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = BlockReader(opened(tmp_path, 5, dims), ["site"], SITES, tmp_path)
    assert sizes(reader, SITES, monkeypatch) == [13]


def test_blocks_of_sites_apart_grow_while_they_are_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = BlockReader(opened(tmp_path, 1), ["site"], SITES, tmp_path)
    assert sizes(reader, SITES, monkeypatch) == [1, 2, 4, 6]
    assert sizes(reader, ["07", "03", "04", "05", "12"], monkeypatch) == [1, 2, 1]


def test_blocks_are_as_large_as_memory_lets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BYTES", 4 * 80)
    assert sizes(BlockReader(opened(tmp_path, 5), ["site"], SITES, tmp_path), SITES, monkeypatch) == [4, 4, 4, 1]


def test_what_is_read_may_be_changed(tmp_path: Path) -> None:
    reader = BlockReader(opened(tmp_path, 5), ["site"], SITES, tmp_path)
    reader("03")["x"].values[:] = -1
    assert reader("03")["x"].values[0] == 30


def test_a_source_of_a_store_knows_dates_and_names_without_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(opened(tmp_path, 1).assign_coords(site=SITES), "store", tmp_path)
    monkeypatch.setattr(blocks, "load", lambda *_: pytest.fail("values are read"))
    one = source.choose(["07"]).outlined("07")
    assert list(one.data_vars) == ["x"]
    assert one.indexes["time"].equals(source.outlined("00").indexes["time"])


def test_damage_is_said_with_the_place(tmp_path: Path) -> None:
    reader = BlockReader(opened(tmp_path, 1), ["site"], SITES, tmp_path)
    (tmp_path / "x.zarr" / "x" / "3.0").write_bytes(b"nothing")
    with pytest.raises(MPTTError, match="cannot be read to its end"):
        reader("03")

"""Files and stores changed at random: read, or refused by an error of ours; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from faults import Touch

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.catalogue import open_source
from mptt.datamodules.preparing.scaling import Scaler
from mptt.datamodules.reading.opening import open_dataset

WORDS = [
    *(b"", b"\0", b"\n", b",", b'"', b"nan", b"inf", b"-1e400", b"9" * 25, b"\xff\xfe", b"{", b"]", b":"),
    *(b"1900-13-45", b"../../x", b"%s", b"\x80\x04.", b"null", b"true", b"-1", b"[[[["),
]


def made() -> xr.Dataset:
    time = np.datetime64("2001-01-01", "s") + np.arange(120) * np.timedelta64(86400, "s")
    rain = np.random.default_rng(0).random((2, 120)).astype(np.float32)
    return xr.Dataset(
        {
            "rain": (("site", "time"), rain, {"units": "mm/day"}),
            "flow": (("site", "time"), rain / 2, {"units": "mm/day", "long_name": "outflow"}),
            "area": ("site", [1.0, 2.0], {"units": "km2"}),
        },
        {"site": ["a", "b"], "time": time},
    )


def write_table(path: Path) -> None:
    table = made()[["rain", "flow"]].to_dataframe().reset_index()
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)


def write_swat(path: Path) -> None:
    one = made().isel(site=0)
    columns = {"Date": one["time"].dt.strftime("%Y-%m-%d").values, "PRECIPmm": one["rain"], "SNOmm": one["flow"]}
    pd.DataFrame(columns).to_csv(path, index=False)


# The library below NetCDF 4 files, HDF5, ends the program for some damages of them; nothing in Python can refuse that.
WRITTEN: dict[str, Callable[[Path], object]] = {
    "basins.csv": write_table,
    "basins.parquet": write_table,
    "swat.csv": write_swat,
    "classic.nc": lambda path: made().to_netcdf(path, format="NETCDF3_CLASSIC"),
    "two.zarr": lambda path: made().to_zarr(path, zarr_format=2, consolidated=True),
    "three.zarr": lambda path: made().to_zarr(path, zarr_format=3, consolidated=False),
    "scaler.yaml": lambda path: Scaler(["a", "b"], torch.ones(2), torch.ones(2)).save(path),
}


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Bits flipped, bytes left out, put in, overwritten, repeated, or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at, how = chance.randrange(len(data) + 1), chance.randrange(6)
        if how == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del data[at : at + chance.choice([1, 3, 20])]
        elif how == 2:
            data[at:at] = chance.choice(WORDS)
        elif how == 3:
            data[at : at + chance.randrange(8)] = chance.choice(WORDS)
        elif how == 4 and chance.random() < 0.3:
            del data[at:]
        elif how == 5:
            begin = chance.randrange(len(data) + 1)
            data[at:at] = data[begin : begin + chance.randrange(30)]
    return bytes(data)


def read(path: Path) -> None:
    if path.suffix == ".yaml":
        Scaler.load(path)
        return
    source = open_source(path)
    for site in source.sites:
        source.chosen(site)
    if path.suffix == ".zarr":
        parts = {"split": (0.5, 0.2, 0.3), "window": 20, "stride": 10, "warmup": 5}
        SeriesDataModule(path, inputs=["rain"], targets=["flow"], seed=0, **parts).setup()  # type: ignore[arg-type]


def check(name: str, seeds: range, folder: Path) -> None:
    (folder / "kept").mkdir()
    WRITTEN[name](folder / "kept" / name)
    refused = 0
    for seed in seeds:
        chance = random.Random(f"{name} {seed}")
        path = folder / "tried" / name
        if (folder / "kept" / name).is_dir():
            shutil.copytree(folder / "kept" / name, path)
        else:
            path.parent.mkdir()
            shutil.copy(folder / "kept" / name, path)
        files = sorted(one for one in path.rglob("*") if one.is_file()) or [path]
        changed = chance.choice(files)
        changed.write_bytes(mutate(changed.read_bytes(), chance))
        there = sorted(folder.rglob("*"))
        try:
            read(path)
        except MPTTError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: not refused as ours") from error
        assert sorted(folder.rglob("*")) == there, "nothing written"
        shutil.rmtree(folder / "tried")
    assert 0 < refused < len(seeds)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITTEN)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    check(name, range(25), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITTEN)
def test_many_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    check(name, range(25, 325), tmp_path)


@pytest.mark.parametrize("apart", [False, True], ids=["in-zmetadata", "beside-it"])
def test_a_store_of_pickles_is_refused_and_nothing_is_run(
    apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As older versions of the library had it.
    numcodecs = pytest.importorskip("numcodecs.pickles")
    monkeypatch.setattr(numcodecs, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    path = tmp_path / "a.zarr"
    made().to_zarr(path, zarr_format=2, consolidated=not apart)
    changes = {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None, "dtype": "|O", "fill_value": ""}
    alone = json.loads((path / "site" / ".zarray").read_text()) | changes
    (path / "site" / ".zarray").write_text(json.dumps(alone))
    if not apart:
        together = json.loads((path / ".zmetadata").read_text())
        together["metadata"]["site/.zarray"] = alone
        (path / ".zmetadata").write_text(json.dumps(together))
    (path / "site" / "0").write_bytes(pickle.dumps(Touch(tmp_path / "made")))
    with pytest.raises(MPTTError, match=r"keeps site as pickles"):
        open_dataset(path)
    assert not (tmp_path / "made").exists()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    WRITTEN["classic.nc"](tmp_path / "a.nc")
    content = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "a.nc").write_bytes(content.replace(b"rain", b"r\xe9in").replace(b"site", b"s\xe9te"))
    with pytest.raises(MPTTError, match=r"a\.nc"):
        open_source(tmp_path / "a.nc")

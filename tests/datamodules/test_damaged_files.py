"""Files and stores changed at random: read, or refused by an error of ours; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from fake_camels import write_ch, write_gb
from fake_caravan import write_caravan, write_many
from faults import Touch
from swat_files import write_control, write_output
from towers import write_days, write_store

from mptt import MPTTError, hdf5
from mptt.callbacks.states import open_states, save_states, states_dataset
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


def write_camels_us(root: Path) -> None:
    days = pd.date_range("2000-01-01", periods=40)
    weather = root / "basin_mean_forcing" / "nldas" / "01" / "01000001_lump_nldas_forcing_leap.txt"
    flow = root / "usgs_streamflow" / "01" / "01000001_streamflow_qc.txt"
    topography = root / "camels_attributes_v2.0" / "camels_topo.txt"
    for path in (weather, flow, topography):
        path.parent.mkdir(parents=True)
    names = "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tSWE(mm)\tTmax(C)\tTmin(C)\tVp(Pa)"
    rows = [f"{day:%Y %m %d} 12\t36000.00\t1.50\t99.00\t0.00\t9.00\t{day.day}.00\t800.00" for day in days]
    weather.write_text("\n".join(["  45.50", " 318.00", " 573600000", names, *rows]) + "\n")
    flow.write_text("".join(f"01000001 {day:%Y %m %d} {day.day:8.2f} A\n" for day in days))
    topography.write_text("gauge_id;elev_mean;slope_mean\n01000001;250.31;21.64\n")


def write_swat_output(root: Path) -> None:
    write_output(root / "output.sub", "sub", count=40)
    write_control(root / "file.cio", years=1, last=40)


def write_caravan_of_one_file(path: Path) -> None:
    rain = np.random.default_rng(0).random((2, 90))
    write_many(path, ["camels_1", "camels_2"], {"total_precipitation_sum": rain, "streamflow": rain}, {"area": [1, 2]})


def write_states(path: Path) -> None:
    units = [("gru", 0, "h")] * 3
    time = np.array(["2001-01-01"] * 2, "datetime64[s]")
    save_states(states_dataset(["a", "b"], np.ones((2, 3), np.float32), units, time=time, weights="1"), path)


PACKED = {name: {"zlib": True, "chunksizes": (1, 20)} for name in ("rain", "flow")}
WRITTEN: dict[str, Callable[[Path], object]] = {
    "basins.csv": write_table,
    "basins.parquet": write_table,
    "swat.csv": write_swat,
    "classic.nc": lambda path: made().to_netcdf(path, format="NETCDF3_CLASSIC"),
    "four.nc": lambda path: made().to_netcdf(path),
    "packed.nc": lambda path: made().to_netcdf(path, encoding=PACKED, unlimited_dims=["time"]),
    "caravan": lambda path: write_caravan(path, ["total_precipitation_sum", "streamflow"], ["area"], years=1),
    "caravan.nc": write_caravan_of_one_file,
    "camels_ch": lambda path: write_ch(path, ["2001", "2002", "2003"], ["area", "elev_mean"], years=1),
    "camels_gb": lambda path: write_gb(path, ["1001"], ["area", "elev_mean"], years=1),
    "camels_us": write_camels_us,
    "fluxnet": lambda path: write_days(path, "US-Ha1", 1),
    "towers.zarr": lambda path: write_store(path, {"US-Ha1": ("2000-01-01", 300), "US-Bo1": ("2000-01-02", 200)}),
    "swat_output": write_swat_output,
    "states.nc": write_states,
    "states.safetensors": write_states,
    "two.zarr": lambda path: made().to_zarr(path, zarr_format=2, consolidated=True),
    "three.zarr": lambda path: made().to_zarr(path, zarr_format=3, consolidated=False),
    "scaler.yaml": lambda path: Scaler(["a", "b"], torch.ones(2), torch.ones(2)).save(path),
}


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Bits flipped, bytes left out, put in, overwritten, repeated, overwritten by blocks, or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at, how = chance.randrange(len(data) + 1), chance.randrange(7)
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
        elif how == 6:
            size = chance.choice([8, 64, 512])
            data[at : at + size] = chance.choice([b"\0", b"\xff", chance.randbytes(1)]) * size
        elif how == 5:
            begin = chance.randrange(len(data) + 1)
            data[at:at] = data[begin : begin + chance.randrange(30)]
    return bytes(data)


def read(path: Path) -> None:
    if path.suffix == ".yaml":
        Scaler.load(path)
        return
    if path.stem == "states":
        open_states(path)
        return
    source = open_source(path)
    for site in source.sites:
        source.chosen(site)
    if path.name in ("two.zarr", "three.zarr", "four.nc", "packed.nc"):
        parts = {"split": (0.5, 0.2, 0.3), "window": 20, "stride": 10, "warmup": 5}
        SeriesDataModule(path, inputs=["rain"], targets=["flow"], seed=0, **parts).setup()  # type: ignore[arg-type]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
            with at_most(30):
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
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "SECONDS", 3.0)
    check(name, range(25), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITTEN)
def test_many_damaged_files_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "SECONDS", 3.0)
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

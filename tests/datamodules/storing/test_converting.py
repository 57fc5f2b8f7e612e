from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from sources import Counting, days, several, source_from, table

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.reading.opening import open_dataset
from mptt.datamodules.reading.source import Source
from mptt.datamodules.store import store_source
from mptt.datamodules.storing import converting
from mptt.datamodules.storing.converting import convert

ABOUT = {"title": "small", "source": "made", "license": "CC0", "references": "nobody"}


def small(path: Path, **about: str) -> Source:
    tables, fixed = several(7)
    return source_from(tables, fixed, path, **(about or ABOUT))


def contents(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def reads(source: Source) -> dict[str, int]:
    assert isinstance(source.read, Counting)
    return dict(source.read.reads)


@pytest.mark.filterwarnings("error")
def test_store_holds_what_the_source_does(tmp_path: Path) -> None:
    source = small(tmp_path / "made")
    with xr.open_dataset(convert(source, tmp_path / "out.zarr", group=3)) as store:
        whole = source.dataset()
        np.testing.assert_array_equal(store["site"].values.tolist(), whole["site"])
        assert store.sel(site="0003")["area"].item() == 3.0
        for name in ("rain", "flow", "area"):
            np.testing.assert_array_equal(store[name], whole[name])
            assert store[name].dtype == np.float32
            assert store[name].attrs == whole[name].attrs
            assert store[name].dims == whole[name].dims
        assert store["river"].values.tolist() == whole["river"].values.tolist()
        assert store.indexes["time"].equals(whole.indexes["time"])
        assert ABOUT.items() <= store.attrs.items()
        assert store.attrs["Conventions"] == "CF-1.11"
        assert store.attrs["featureType"] == "timeSeries"
    assert not (tmp_path / "out.zarr.partial").exists()


def test_store_is_a_source_that_makes_the_same_store(tmp_path: Path) -> None:
    first = convert(small(tmp_path / "made"), tmp_path / "first.zarr")
    second = convert(store_source(first), tmp_path / "second.zarr")
    with xr.open_dataset(first) as one, xr.open_dataset(second) as other:
        xr.testing.assert_equal(one, other)
        assert one["rain"].attrs == other["rain"].attrs
        assert other.attrs["history"].count("converted by mptt") == 2


def test_a_chunk_is_one_series_and_a_file_a_group_of_sites(tmp_path: Path) -> None:
    path = convert(small(tmp_path / "made"), tmp_path / "out.zarr", group=3)
    rain = zarr.open_group(path, mode="r")["rain"]
    assert isinstance(rain, zarr.Array)
    assert rain.chunks == (1, rain.shape[1])
    assert rain.shards == (3, rain.shape[1])
    assert rain.metadata.zarr_format == 3
    assert len(list((path / "rain").rglob("c/*/*"))) == 3
    assert json.loads((path / "zarr.json").read_text())["consolidated_metadata"]


@pytest.mark.parametrize(
    "when",
    [
        pd.Index(np.datetime64("2700-02-20", "s") + np.arange(30) * np.timedelta64(86400, "s")),
        pd.Index(np.datetime64("1990-01-01T06:30", "s") + np.arange(30) * np.timedelta64(1800, "s")),
        pd.Index(np.array([f"2000-{month:02d}-15" for month in range(1, 13)], dtype="datetime64[s]")),
        xr.date_range("2000-02-20", periods=40, calendar="noleap", use_cftime=True),
        xr.date_range("2000-02-20", periods=40, calendar="360_day", use_cftime=True),
        xr.date_range("3000-02-28", periods=40, freq="6h", calendar="360_day", use_cftime=True),
        xr.date_range("1850-01-01", periods=40, freq="MS", calendar="julian", use_cftime=True),
        xr.date_range("2000-01-01", periods=4, freq="250ms", calendar="noleap", use_cftime=True),
    ],
    ids=["2700", "half-hourly", "monthly", "noleap", "360_day", "360_day 6 h", "julian months", "parts of seconds"],
)
def test_dates_come_back_exactly(when: pd.Index, tmp_path: Path) -> None:
    tables = {"a": table(when[:-1], x=np.arange(len(when) - 1.0)), "b": table(when[1:], x=np.arange(1.0, len(when)))}
    store = open_dataset(convert(source_from(tables, path=tmp_path / "made"), tmp_path / "out.zarr"))
    assert store.indexes["time"].equals(when)
    if not isinstance(when, xr.CFTimeIndex):
        assert store["time"].dtype == "datetime64[s]"
    np.testing.assert_array_equal(store["x"][1].values[1:], np.arange(1.0, len(when)))
    assert np.isnan(store["x"].values[0, -1])


def test_numbers_of_other_types_become_float32(tmp_path: Path) -> None:
    flags = {"a": table(days(3), flag=np.array([0, 1, 2], np.int8), wet=[True, False, True], x=np.float64([1.5, 2, 3]))}
    store = open_dataset(convert(source_from(flags, path=tmp_path / "made"), tmp_path / "out.zarr"))
    assert store["flag"].values.tolist() == [[0.0, 1.0, 2.0]]
    assert store["wet"].values.tolist() == [[1.0, 0.0, 1.0]]
    assert {variable.dtype for variable in store.data_vars.values()} == {np.dtype("float32")}


def test_attributes_that_zarr_cannot_hold_are_kept_as_text(tmp_path: Path) -> None:
    one = table(days(3), x=[1.0, 2, 3])
    one["x"].attrs = {"valid_range": np.float32([0, 9]), "count": np.int64(3), "since": np.datetime64("2000-01-01")}
    store = open_dataset(convert(source_from({"a": one}, path=tmp_path / "made"), tmp_path / "out.zarr"))
    assert store["x"].attrs == {"valid_range": [0.0, 9.0], "count": 3, "since": "2000-01-01"}


def test_only_the_variables_asked_for_are_written(tmp_path: Path) -> None:
    store = open_dataset(convert(small(tmp_path / "made"), tmp_path / "out.zarr", ["rain", "area"]))
    assert set(store.data_vars) == {"rain", "area"}
    with pytest.raises(MPTTError, match=r"has no variable snow. There are rain, area, river"):
        convert(small(tmp_path / "made"), tmp_path / "other.zarr", ["rain", "snow"])
    with pytest.raises(MPTTError, match="only attributes are chosen, area"):
        convert(small(tmp_path / "made"), tmp_path / "third.zarr", ["area"])


def test_names_that_a_store_cannot_have_are_changed_with_a_note(tmp_path: Path) -> None:
    made = table(days(3), **{"SOLARMJ/m2": ([1.0, 2, 3], "MJ/m2/day"), "rain": [4.0, 5, 6]})
    fixed = xr.Dataset({"slope(m/km)": ("site", np.float32([7])), "river": ("site", ["Aare"])}, {"site": ["a"]})
    with pytest.warns(MPTTWarning, match=r"SOLARMJ/m2 is called SOLARMJ_m2, slope\(m/km\) is called slope\(m_km\)"):
        store = open_dataset(convert(source_from({"a": made}, fixed, tmp_path / "made"), tmp_path / "out.zarr"))
    assert set(store.data_vars) == {"SOLARMJ_m2", "rain", "slope(m_km)", "river"}
    assert store["SOLARMJ_m2"].values.tolist() == [[1.0, 2.0, 3.0]]
    assert store["SOLARMJ_m2"].attrs == {"units": "MJ/m2/day", "original_name": "SOLARMJ/m2"}
    assert store["slope(m_km)"].values.tolist() == [7.0]
    both = source_from({"a": made.assign(SOLARMJ_m2=made["rain"])}, path=tmp_path / "made")
    with pytest.raises(MPTTError, match="SOLARMJ/m2 would be called as another variable"):
        convert(both, tmp_path / "other.zarr")


def test_gaps_in_dates_are_noted_and_missing(tmp_path: Path) -> None:
    source = source_from({"a": table(days(5)[[0, 1, 2, 4]], x=[0.0, 1, 2, 4])}, path=tmp_path / "made")
    with pytest.warns(MPTTWarning, match=r"lack dates .* a \(1\)"):
        store = open_dataset(convert(source, tmp_path / "out.zarr"))
    np.testing.assert_array_equal(store["x"], [[0, 1, 2, np.nan, 4]])


def test_a_store_is_what_the_data_module_trains_on(tmp_path: Path) -> None:
    tables = {
        site: table(days(200), x=np.random.default_rng(0).random(200), y=np.arange(200.0)) for site in ("01", "1")
    }
    path = convert(source_from(tables, path=tmp_path / "made"), tmp_path / "out.zarr")
    data = SeriesDataModule(path, inputs=["x"], targets=["y"], window=20, stride=10)
    data.setup("fit")
    assert data.sites == ["01", "1"]


# What is refused


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    out = convert(small(tmp_path / "made"), tmp_path / "out.zarr", ["rain"])
    before = contents(out)
    with pytest.raises(MPTTError, match=r"There is something at .*out.zarr already.*--overwrite"):
        convert(small(tmp_path / "made"), out)
    assert contents(out) == before
    convert(small(tmp_path / "made"), out, overwrite=True)
    assert "flow" in open_dataset(out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.zarr"]


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(MPTTError, match="is no Zarr store"):
        convert(small(tmp_path / "made"), tmp_path / "thesis", overwrite=True)


@pytest.mark.parametrize("out", ["data", "data/made", "data/x/../made"])
def test_the_source_is_not_replaced(out: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "made").mkdir(parents=True)
    (tmp_path / "data" / "x").mkdir()
    with pytest.raises(MPTTError, match="would replace what it is made from"):
        convert(small(tmp_path / "data" / "made"), tmp_path / out, overwrite=True)


def test_urls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MPTTError, match=r"local path; found s3://bucket/x.zarr"):
        convert(small(tmp_path / "made"), "s3://bucket/x.zarr")


def test_units_that_differ_from_site_to_site_are_refused(tmp_path: Path) -> None:
    tables = {"a": table(days(3), x=([1.0, 2, 3], "mm")), "b": table(days(3), x=([1.0, 2, 3], "m"))}
    with pytest.raises(MPTTError, match="x is in 'mm' at site a and in 'm' at site b"):
        convert(source_from(tables, path=tmp_path / "made"), tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["wet", "dry", "wet"], "x at site a is not numeric"),
        ([1.0, 1e300, 2.0], "2000-01-02.* more than float32 holds"),
    ],
)
def test_what_float32_cannot_hold_is_refused(values: list, said: str, tmp_path: Path) -> None:
    source = source_from({"a": table(days(3), x=values)}, path=tmp_path / "made")
    with pytest.raises(MPTTError, match=said):
        convert(source, tmp_path / "out.zarr")


def test_one_name_for_a_series_and_an_attribute_is_refused(tmp_path: Path) -> None:
    tables, fixed = several()
    source = source_from(tables, fixed.rename(area="rain"), tmp_path / "made")
    with pytest.raises(MPTTError, match="also that of an attribute or dimension: rain"):
        convert(source, tmp_path / "out.zarr")


# Going on


class StopError(Exception):
    """What a test raises to interrupt."""


def stopping(source: Source, at: str, what: str, error: BaseException) -> converting.Progress:
    def progress(sites, doing):
        for site in sites:
            if doing == what and site == at:
                raise error
            yield site

    return progress


@pytest.mark.parametrize(
    ("what", "at", "again"),
    [
        ("dates", "0000", [2] * 7),
        ("dates", "0004", [2] * 7),
        ("values", "0000", [2] * 7),
        ("values", "0004", [2, 2, 2, 3, 2, 2, 2]),
        ("values", "0006", [2] * 7),
    ],
)
def test_an_interrupted_conversion_goes_on_where_it_was(what: str, at: str, again: list[int], tmp_path: Path) -> None:
    whole = contents(convert(small(tmp_path / "made"), tmp_path / "whole.zarr", group=3))
    source = small(tmp_path / "made")
    with pytest.raises(StopError):
        convert(source, tmp_path / "out.zarr", group=3, progress=stopping(source, at, what, StopError()))
    assert not (tmp_path / "out.zarr").exists()
    shown: dict[str, list[str]] = {}
    convert(source, tmp_path / "out.zarr", group=3, progress=lambda sites, doing: shown.setdefault(doing, list(sites)))
    assert contents(tmp_path / "out.zarr") == whole
    assert list(reads(source).values()) == again
    first = int(at) if what == "dates" else 7
    assert len(shown["dates"]) == 7 - first
    assert len(shown["values"]) == (7 if what == "dates" else 7 - int(at) // 3 * 3)


def test_an_unfinished_conversion_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    source = small(tmp_path / "made")
    with pytest.raises(StopError):
        convert(source, tmp_path / "out.zarr", progress=stopping(source, "0003", "values", StopError()))
    with pytest.raises(MPTTError, match=r"variables \(None, now \['rain'\]\).*remove the folder"):
        convert(source, tmp_path / "out.zarr", ["rain"])
    with pytest.raises(MPTTError, match="hash of sites"):
        convert(source.choose(list(source.sites)[::-1]), tmp_path / "out.zarr")
    with pytest.raises(MPTTError, match=r"path .*elsewhere"):
        convert(small(tmp_path / "elsewhere"), tmp_path / "out.zarr")


def test_a_file_that_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_text("before")
    source = small(made)
    with pytest.raises(StopError):
        convert(source, tmp_path / "out.zarr", progress=stopping(source, "0003", "values", StopError()))
    made.write_text("after it")
    with pytest.raises(MPTTError, match=r"size \(6, now 8\)"):
        convert(source, tmp_path / "out.zarr")


def test_what_lies_where_the_unfinished_store_goes_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "out.zarr.partial" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(MPTTError, match="is in the way"):
        convert(small(tmp_path / "made"), tmp_path / "out.zarr")
    assert mine.read_text() == "mine"


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small(tmp_path / "made")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(MPTTError, match=r"No space left on device.*the same line goes on"):
        convert(source, tmp_path / "out.zarr", group=3, progress=stopping(source, "0003", "values", full))
    whole = contents(convert(small(tmp_path / "made"), tmp_path / "whole.zarr", group=3))
    assert contents(convert(source, tmp_path / "out.zarr", group=3)) == whole
    assert reads(source)["0000"] == 2


def test_an_outline_cut_off_in_the_middle_of_its_line_is_made_again(tmp_path: Path) -> None:
    source = small(tmp_path / "made")
    with pytest.raises(StopError):
        convert(source, tmp_path / "out.zarr", progress=stopping(source, "0003", "dates", StopError()))
    outlines = tmp_path / "out.zarr.partial" / "outlines.jsonl"
    outlines.write_bytes(outlines.read_bytes()[:-20])
    convert(source, tmp_path / "out.zarr")
    assert reads(source) == {"0000": 2, "0001": 2, "0002": 3, "0003": 2, "0004": 2, "0005": 2, "0006": 2}


def test_variables_that_come_up_between_the_passes_are_refused(tmp_path: Path) -> None:
    source = small(tmp_path / "made")
    with pytest.raises(StopError):
        convert(source, tmp_path / "out.zarr", progress=stopping(source, "0000", "values", StopError()))
    assert isinstance(source.read, Counting)
    changed = dict(source.read.tables)
    changed["0002"] = changed["0002"].assign(snow=("time", np.zeros(changed["0002"].sizes["time"])))
    source.read.tables = changed
    with pytest.raises(MPTTError, match="changed while it was read: snow came up at site 0002"):
        convert(source, tmp_path / "out.zarr")


SLOW = """
import sys, time
from pathlib import Path
from sources import several, source_from
from mptt.datamodules.storing.converting import convert

tables, fixed = several(20)
folder = Path(sys.argv[1])
source = source_from(tables, fixed, folder / "made")
counting = source.read

def read(site):
    with (folder / "reads.txt").open("a") as file:
        file.write(site + "\\n")
    time.sleep(float(sys.argv[2]))
    return counting(site)

object.__setattr__(source, "read", read)
convert(source, folder / "out.zarr", group=4)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_gone_on_with_and_a_running_one_is_left_alone(stop: signal.Signals, tmp_path: Path) -> None:
    tables, fixed = several(20)
    source = source_from(tables, fixed, tmp_path / "made")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "helpers"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path), "0.1"], env=environment)
    finished = tmp_path / "out.zarr.partial" / "finished.txt"
    deadline = time.monotonic() + 60
    while not (finished.exists() and finished.read_text() >= "2") and time.monotonic() < deadline:
        time.sleep(0.005)
    with pytest.raises(MPTTError, match=r"Another process writes .*out.zarr at this moment"):
        convert(source, tmp_path / "out.zarr", group=4)
    assert not reads(source)
    process.send_signal(stop)
    assert process.wait(60) in (-stop, 1)  # by the signal, or as after any other error
    groups = int(finished.read_text())
    assert 2 <= groups < 5, "killed half-way"
    assert not (tmp_path / "out.zarr").exists()
    convert(source, tmp_path / "out.zarr", group=4)
    assert list(reads(source)) == [f"{nth:04d}" for nth in range(4 * groups, 20)], "finished sites are not read again"
    assert not (tmp_path / "out.zarr.lock").exists()
    whole = convert(source, tmp_path / "whole.zarr", group=4)
    assert contents(tmp_path / "out.zarr") == contents(whole)


# Memory


def peak(sites: int, folder: Path) -> int:
    """Bytes of Python and NumPy at most while that many sites of 80 kB are converted."""
    values = np.random.default_rng(0).random((4, 5000)).astype(np.float32)
    names = [f"{nth:04d}" for nth in range(sites)]

    def read(_: str) -> xr.Dataset:
        return table(days(5000), **dict(zip("abcd", values, strict=True)))

    source = Source("made", folder / "made", names, read, xr.Dataset(coords={"site": names}), {})
    tracemalloc.start()
    convert(source, folder / f"{sites}.zarr", group=10)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_number_of_sites(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peak(2, tmp_path)  # what is imported and kept once
        few, many = peak(20, tmp_path), peak(200, tmp_path)
    assert many < 1.5 * few
    assert many < 200 * 80_000 / 2


def test_a_group_is_what_fits_but_one_site_at_least() -> None:
    assert converting._fitting(variables=8, steps=12_784) == 64
    assert converting._fitting(variables=39, steps=26_700) == 32
    assert converting._fitting(variables=200, steps=420_000) == 1

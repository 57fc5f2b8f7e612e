"""Files that end the program inside HDF5 are refused, and the others are not."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError, hdf5, hdf5child
from mptt.hdf5 import check_hdf5, expect_hdf5, is_hdf5, know_hdf5

# Stands in for the library: what it does is written in the file.
CHILD = """
import json, os, signal, sys, time
print("begun", flush=True)
for line in sys.stdin:
    path, names = json.loads(line)
    with open(path + ".tried", "a") as log:
        log.write(json.dumps([os.getpid(), names]) + "\\n")
    what = open(path, "rb").read()[8:].decode()
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    print("tried", flush=True)
"""


@pytest.fixture
def acting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files that act as they say."""
    (tmp_path / "hdf5child.py").write_text(CHILD)
    monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "hdf5.py"))
    monkeypatch.setattr(hdf5, "SECONDS", 2.0)
    trial = hdf5._Trial()
    monkeypatch.setattr(hdf5, "_TRIALS", {os.getpid(): trial})
    yield
    trial.end()


def make(folder: Path, *what: str) -> list[Path]:
    paths = [folder / f"{nth}_{one}.nc" for nth, one in enumerate(what)]
    for path, one in zip(paths, what, strict=True):
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + one.encode())
    return paths


def tried(path: Path) -> list[tuple[int, list[str] | None]]:
    log = Path(f"{path}.tried")
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.usefixtures("acting")
def test_a_file_that_ends_the_process_is_refused_and_the_next_are_read(tmp_path: Path) -> None:
    good, crash, other, bad, last = paths = make(tmp_path, "good", "crash", "good", "crash", "good")
    expect_hdf5(paths)
    check_hdf5(good)
    for path in (crash, bad):
        with pytest.raises(MPTTError, match=rf"{path.name} is damaged.*SIGSEGV.*intact copy"):
            check_hdf5(path)
    check_hdf5(other)
    check_hdf5(last)
    assert len({process for path in paths for process, _ in tried(path)}) == 3, "one more past each that crashed"
    assert [len(tried(path)) for path in (good, crash, bad)] == [1, 1, 1]


@pytest.mark.usefixtures("acting")
def test_a_file_that_never_comes_back_is_refused(tmp_path: Path) -> None:
    hang, good = paths = make(tmp_path, "hang", "good")
    expect_hdf5(paths)
    with pytest.raises(MPTTError, match=r"does not come back from it within 2 seconds"):
        check_hdf5(hang)
    check_hdf5(good)


@pytest.mark.usefixtures("acting")
def test_a_file_is_tried_once_until_it_changes(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "good")
    check_hdf5(path)
    check_hdf5(path)
    assert len(tried(path)) == 1
    check_hdf5(path, ["flow"])
    assert [names for _, names in tried(path)] == [None, ["flow"]]
    make(tmp_path, "good")[0].rename(path)
    path.write_bytes(path.read_bytes() + b" ")
    check_hdf5(path)
    assert len(tried(path)) == 3
    path.write_bytes(b"\x89HDF\r\n\x1a\ncrash")
    know_hdf5(path)
    check_hdf5(path)


@pytest.mark.usefixtures("acting")
def test_files_ahead_are_tried_while_the_first_is_read_and_not_all_at_once(tmp_path: Path) -> None:
    paths = make(tmp_path, *["good"] * 40)
    expect_hdf5(paths)
    check_hdf5(paths[0])
    check_hdf5(paths[20])
    assert not tried(paths[-1])
    for path in reversed(paths):
        check_hdf5(path)
    assert {len(tried(path)) for path in paths} == {1}


@pytest.mark.usefixtures("acting")
def test_other_files_are_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(b"CDF\1crash")
    check_hdf5(path)
    assert not tried(path)


def test_a_file_with_a_block_before_it_is_one_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(bytes(1024) + b"\x89HDF\r\n\x1a\n")
    assert is_hdf5(path)
    path.write_bytes(bytes(700) + b"\x89HDF\r\n\x1a\n")
    assert not is_hdf5(path)


def test_a_process_that_cannot_begin_is_not_laid_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "hdf5.py"))
    monkeypatch.setattr(hdf5, "_TRIALS", {})
    with pytest.raises(MPTTError, match=r"did not begin \(exit code 1\)"):
        check_hdf5(make(tmp_path, "good")[0])


def whole(path: Path) -> Path:
    values = np.arange(60.0).reshape(2, 30)
    dataset = xr.Dataset({"rain": (("site", "time"), values), "name": ("site", ["a", "b"])}, {"time": np.arange(30)})
    dataset.to_netcdf(path, encoding={"rain": {"zlib": True, "chunksizes": (1, 7)}})
    return path


def test_whole_files_pass_in_this_process_and_in_a_forked_one(tmp_path: Path) -> None:
    path = whole(tmp_path / "a.nc")
    check_hdf5(path)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=check_hdf5, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    check_hdf5(path, ["rain"])


@pytest.mark.slow
def test_the_process_ends_with_the_program(tmp_path: Path) -> None:
    path = whole(tmp_path / "a.nc")
    lines = (
        "import sys, pathlib, mptt.hdf5 as h",
        "h.check_hdf5(pathlib.Path(sys.argv[1]))",
        "print(next(iter(h._TRIALS.values()))._process.pid)",
    )
    line = [sys.executable, "-c", "; ".join(lines), str(path)]
    child = int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("large", [False, True], ids=["whole", "corners"])
def test_the_child_reads_every_variable_of_every_group(large: bool, tmp_path: Path, monkeypatch: Any) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.title = "made"
        file.createDimension("time", 5)
        file.createDimension("none", None)
        file.createVariable("flow", "f4", ("time",))[:] = range(5)
        file.createVariable("scale", "f8", ())[...] = 2.0
        file.createVariable("empty", "f4", ("none",))
        file.createGroup("inner").createVariable("rain", "f4", ("time",))[:] = 1.0
    read: list[tuple[str, Any]] = []
    monkeypatch.setattr(hdf5child, "PIECE", 2)
    monkeypatch.setattr(hdf5child, "LARGE", 0 if large else 1 << 28)
    values = hdf5child._values
    monkeypatch.setattr(hdf5child, "_values", lambda one, whole: (read.append((one.name, whole)), values(one, whole)))
    hdf5child.read_through(str(tmp_path / "a.nc"), None)
    assert read == [(name, not large) for name in ("flow", "scale", "empty", "rain")]
    read.clear()
    hdf5child.read_through(str(tmp_path / "a.nc"), ["rain"])
    assert [name for name, _ in read] == ["rain"]

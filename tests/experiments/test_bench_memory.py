"""The measures of the memory measure what they say."""

import multiprocessing
from pathlib import Path

import pytest
import torch

from mptt.experiments.bench.common import Settings
from mptt.experiments.bench.memory import RAM, growth, life, table_of, verbs
from mptt.storage import Storage

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the status of a Linux process")


def test_a_hundred_windows_a_site_of_a_year_each_half_year():
    table = table_of(300)
    assert len(table) == 300
    assert table.site.max() == 2
    assert (table.start[1], table.length[0]) == (183, 366)


def test_every_place_and_precision_is_measured():
    figures = verbs(Settings(1), 1000)
    assert [(one.unit, one.target) for one in figures] == [("ms", 2.0), ("s", None)] * 4
    assert [one.what.split(" x 128 ")[1] for one in figures[::2]] == [
        "float32, cpu", "bfloat16, cpu", "float32, disk", "bfloat16, disk",
    ]  # fmt: skip
    assert all(0 < one.low <= one.value <= one.high for one in figures)


def test_growth_goes_by_powers_of_ten():
    assert [one.what for one in growth(Settings(1), 10_000)[::2]] == [
        "windows and key-map: 1,000 windows",
        "windows and key-map: 10,000 windows",
    ]


@linux
def test_ram_is_what_tensors_take_and_not_what_is_mapped(tmp_path):
    mib = 2**20
    with RAM() as taken:
        whole = torch.ones(64 * mib, dtype=torch.uint8)
    with RAM() as mapped:
        table = Storage("disk", tmp_path).zeros(64, mib, dtype=torch.uint8)
        table.fill_(1)
    assert 60 * mib < taken.most < 90 * mib
    assert whole.sum() == 64 * mib
    assert mapped.most < 10 * mib


@linux
def test_the_life_of_a_memory_takes_little_more_than_its_tables(tmp_path):
    # In processes of their own: room that another test left free would not be seen to be taken.
    shares = {}
    for where in ("cpu", "disk"):
        with multiprocessing.get_context("spawn").Pool(1) as process:
            shares[where] = process.apply(life, (50_000, where, torch.float32, str(tmp_path)))
    assert 0.9 < shares["cpu"] < 2
    assert shares["disk"] < 0.9

from types import SimpleNamespace

import pytest

from mptt.freememory import free_memory


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Of a machine with 1000 bytes available, the folder of a control group that says nothing yet."""
    names = ("memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr("mptt.freememory._CGROUPS", ((str(tmp_path), *names), (str(tmp_path / "none"), *names)))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    return tmp_path


def limit(group, most, current, stat):
    for name, text in {"memory.max": most, "memory.current": current, "memory.stat": stat}.items():
        (group / name).write_text(text)


def test_without_a_control_group_it_is_what_the_machine_has(group):
    assert free_memory() == 1000


@pytest.mark.parametrize(
    ("most", "current", "stat", "free"),
    [
        ("800\n", "500\n", "anon 3\ninactive_file 200\n", 500),
        ("800", "500", "anon 3", 300),
        ("800", "900", "inactive_file 0", 0),
        ("5000", "500", "inactive_file 0", 1000),
        ("max\n", "500", "inactive_file 0", 1000),
    ],
    ids=["cache is free", "no cache", "over the limit", "machine has less", "no limit"],
)
def test_a_container_has_what_its_limit_leaves(group, most, current, stat, free):
    limit(group, most, current, stat)
    assert free_memory() == free

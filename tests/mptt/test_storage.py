import errno
import gc
import os
from pathlib import Path

import pytest
import torch

from mptt import MPTTError, StateMap, WindowIndex, freememory, storage
from mptt.storage import Storage

WINDOWS = WindowIndex.cut([11, 8], window=4, stride=3)


def mapped(folder):
    """Files of a folder that this process has mapped."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at the maps of a Linux process")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_table_on_disk_is_a_table_of_zeros_that_can_be_written(tmp_path, dtype):
    table = Storage("disk", tmp_path).zeros(300, 7, dtype=dtype)
    assert (table.shape, table.dtype, table.device.type) == ((300, 7), dtype, "cpu")
    assert table.eq(0).all()
    table[299, 6] = 2.5
    assert table.sum().item() == 2.5


@linux
def test_files_have_no_name_and_are_gone_with_the_last_tensor_that_uses_them(tmp_path):
    folder = tmp_path / "deep" / "folder"
    memory = StateMap(WINDOWS, 1000, device=Storage("disk", folder))
    assert folder.is_dir()
    assert os.listdir(folder) == []
    assert len(mapped(folder)) == 2
    mu = memory.mu
    del memory
    gc.collect()
    assert len(mapped(folder)) == 1
    mu[6, 999] = 1
    del mu
    gc.collect()
    assert mapped(folder) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_memory_on_disk_is_that_in_ram_bit_for_bit(tmp_path, dtype):
    memories = [StateMap(WINDOWS, 3, device=where, dtype=dtype) for where in ("cpu", Storage("disk", tmp_path), "disk")]
    generator = torch.Generator().manual_seed(0)
    for epoch in range(3):
        for _ in range(4):
            ids = torch.randint(7, (5,), generator=generator)
            states = torch.randn(5, 4, 3, generator=generator)
            for memory in memories:
                memory.write(ids, states)
        if epoch < 2:
            for memory in memories:
                memory.propagate()
    for other in memories[1:]:
        for name in ("mu", "mean", "count"):
            assert torch.equal(getattr(memories[0], name), getattr(other, name)), name
        assert torch.equal(memories[0].read(range(7)), other.read(range(7)))
    assert memories[0].count.sum() > 0
    assert memories[0].mu.abs().sum() > 0


def test_a_memory_on_disk_survives_a_weights_only_file(tmp_path):
    memory, restored = (StateMap(WINDOWS, 3, device=Storage("disk", tmp_path)) for _ in range(2))
    memory.write([0, 1], torch.randn(2, 4, 3))
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    restored.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    assert torch.equal(restored.mean, memory.mean)
    assert memory.mean.abs().sum() > 0


def test_repr_says_where_the_rows_are(tmp_path):
    on_disk = StateMap(WINDOWS, 3, dtype=torch.bfloat16, device=Storage("disk", tmp_path))
    assert repr(on_disk) == f"StateMap(7 rows of 3 bfloat16, delta=1, on disk ({tmp_path}), 0.0 MiB)"


def test_too_few_bytes_on_disk_are_told_before_anything_is_made(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2 * 7 * 3 * 4 - 1})
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        MPTTError, match=r"7 windows takes 168 bytes .* on disk \(.*\), where 167 bytes .* another folder"
    ):
        StateMap(WINDOWS, 3, device=Storage("disk", tmp_path))
    StateMap(WINDOWS, 3, device=Storage("disk", tmp_path), dtype=torch.bfloat16)


def test_too_few_bytes_in_ram_are_told_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(storage, "free_memory", lambda: 167)
    with pytest.raises(MPTTError, match=r'168 bytes .* in RAM, where 167 bytes .*device="disk", dtype="bfloat16"'):
        StateMap(WINDOWS, 3)
    StateMap(WINDOWS, 3, dtype=torch.bfloat16)


def test_the_free_memory_is_that_of_the_container_too(tmp_path, monkeypatch):
    for name, text in (("memory.max", "5000\n"), ("memory.current", "4900\n"), ("memory.stat", "inactive_file 10\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(freememory, "_CGROUPS", ((str(tmp_path), "memory.max", "memory.current", "inactive_file"),))
    with pytest.raises(MPTTError, match=r"168 bytes .* where 110 bytes"):
        StateMap(WINDOWS, 3)


def test_a_disk_that_refuses_the_room_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(MPTTError, match=r"A file of 84 bytes .* free: .*quota exceeded.* may write to"):
        StateMap(WINDOWS, 3, device=Storage("disk", tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MPTTError, match=r"file/folder cannot be made: .* Choose another"):
        StateMap(WINDOWS, 3, device=Storage("disk", tmp_path / "file" / "folder"))


def test_a_folder_for_what_is_not_on_disk_and_unknown_devices_are_refused(tmp_path):
    with pytest.raises(MPTTError, match=r'Only a memory on "disk" has a folder.* "cpu"; pass device="disk"'):
        Storage("cpu", tmp_path)
    with pytest.raises(MPTTError, match="a torch device or on \"disk\", found 'dsik'"):
        Storage("dsik")

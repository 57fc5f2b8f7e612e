from __future__ import annotations

import errno
import os
import platform
import signal
from pathlib import Path

import pytest
from faults import no_file_over

from mptt import MPTTError
from mptt.files import bring_to_disk, write_atomically, written_whole

WHEN = ["draft", "disk", "place"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as draft:
        assert draft.parent == path.parent, "one disk, so that it takes its place in one step"
        draft.write_text("half")
        assert not path.exists()
        draft.write_text("all of it")
    assert path.read_text() == "all of it"
    assert names(path.parent) == ["a.txt"]


def test_what_ends_the_block_leaves_the_file_of_before(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "before")

    def stopped(error: BaseException) -> None:
        with written_whole(tmp_path / "a.txt") as draft:
            draft.write_text("half")
            raise error

    for error in (KeyError("a"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            stopped(error)
    assert (tmp_path / "a.txt").read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (errno.ENOSPC, "Make room on its disk"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "Get permission"),
        (errno.EIO, "Mend that"),
    ],
)
def test_a_disk_that_refuses_is_named_with_the_way_out(
    when: str, code: int, way_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "a.txt", "before")

    def refuse(*given: object, **settings: object) -> None:
        raise OSError(code, os.strerror(code))

    where = {"draft": (Path, "write_bytes"), "disk": (os, "fsync"), "place": (os, "replace")}[when]
    monkeypatch.setattr(*where, refuse)
    with pytest.raises(MPTTError, match=f"a.txt cannot be written: .*the file of before is kept.*{way_out}"):
        write_atomically(tmp_path / "a.txt", "after")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_that_ends_in_the_middle_leaves_the_file_of_before(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "before")
    with no_file_over(1000), pytest.raises(MPTTError, match=r"a.txt cannot be written: File too large"):
        write_atomically(tmp_path / "a.txt", "x" * 100_000)
    assert (tmp_path / "a.txt").read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MPTTError, match="choose another folder"):
        write_atomically(tmp_path / "file" / "a.txt", "a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process of its own")
@pytest.mark.parametrize("when", WHEN)
def test_a_killed_writer_leaves_the_file_of_before_and_the_next_one_sweeps(when: str, tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "before")
    child = os.fork()
    if not child:
        with written_whole(tmp_path / "a.txt") as draft:
            draft.write_text("half")
            if when == "disk":
                bring_to_disk(draft)
            if when == "place":
                os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,misc]
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "before"
    assert len(names(tmp_path)) == 2
    write_atomically(tmp_path / "a.txt", "after")
    assert (tmp_path / "a.txt").read_text() == "after"
    assert names(tmp_path) == ["a.txt"]


def test_drafts_of_living_processes_and_of_other_machines_are_left_alone(tmp_path: Path) -> None:
    here = platform.node().partition(".")[0]
    others = [f"a.txt.{here}-1.partial", "a.txt.elsewhere-99999999.partial", f"b.txt.{here}-99999999.partial"]
    for name in others:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "a.txt", "a")
    assert names(tmp_path) == sorted([*others, "a.txt"])

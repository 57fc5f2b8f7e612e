from __future__ import annotations

import io
import re
import shutil
import socket
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fileserver import FileServer, serving

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.storing.downloading import download, find_archive
from mptt.datamodules.storing.registry import ARCHIVES, Archive
from mptt.datamodules.storing.unpacking import unpack

BULK = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


def zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def entry(files: dict[str, str], root: str = "") -> dict[str, Archive]:
    return {"made": Archive("made up", "10.1/made", "CC0", "nobody", "0.3 MB", record=1, files=files, root=root)}


ONE = entry({"data.zip": ""})


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"data.zip": zipped(**{"top/a/one.bin": BULK, "top/two.txt": b"two"})}) as one:
        yield one


def fetch(server: FileServer, folder: Path, registry: dict[str, Archive] = ONE, **settings: object) -> Path:
    return download("made", folder, registry=registry, base=server.base, pause=0.001, **settings)  # type: ignore[arg-type]


def check(folder: Path) -> None:
    there = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    assert there == {"made/a/one.bin", "made/two.txt"}
    assert (folder / "made/a/one.bin").read_bytes() == BULK


def test_archive_is_downloaded_checked_and_unpacked(server: FileServer, tmp_path: Path) -> None:
    seen = []
    place = fetch(server, tmp_path, shown=lambda *one: seen.append(one))
    assert place == tmp_path / "made"
    check(tmp_path)
    size = server.sizes["data.zip"]
    assert seen[-1] == ("data.zip", size, size)
    assert server.asked == [None]


def test_broken_connection_is_gone_on_with_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("break", 131_072), ("break", 65_536)]
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == [None, "bytes=131072-", "bytes=196608-"]


def test_what_is_had_is_kept_for_the_next_time(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("break", 131_072), ("status", 500), ("status", 503)]
    with pytest.raises(MPTTError, match=r"answers 503 .*131,072 bytes are kept"):
        fetch(server, tmp_path, attempts=3)
    assert not (tmp_path / "made").exists()
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked[-1] == "bytes=131072-"


def test_attempts_are_counted_from_the_last_byte_that_came(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("break", 65_536)] * 3
    fetch(server, tmp_path, attempts=2)
    check(tmp_path)
    assert server.asked[-1] == "bytes=196608-"


def test_server_without_ranges_is_asked_for_the_whole_again(server: FileServer, tmp_path: Path) -> None:
    server.serves_ranges = False
    server.faults = [("break", 131_072)]
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == [None, "bytes=131072-"]


def test_part_of_another_version_is_not_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("break", 131_072), ("status", 500)]
    with pytest.raises(MPTTError):
        fetch(server, tmp_path, attempts=1)
    other = zipped(**{"top/two.txt": b"new" * 90_000})
    server.put("data.zip", other)
    server.tag = '"two"'
    fetch(server, tmp_path)
    assert (tmp_path / "made/two.txt").read_bytes() == b"new" * 90_000


def test_files_without_a_tag_are_gone_on_with_and_checked(server: FileServer, tmp_path: Path) -> None:
    server.tag = None
    server.faults = [("break", 131_072)]
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == [None, "bytes=131072-"]


def test_other_range_than_asked_for_is_not_put_behind_the_part(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("break", 131_072), ("range", 7)]
    fetch(server, tmp_path)
    check(tmp_path)


def test_truncated_answer_is_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("short", 1000)]
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == [None, "bytes=1000-"]


def test_file_that_is_whole_already_is_not_asked_for(server: FileServer, tmp_path: Path) -> None:
    work = tmp_path / "made.partial"
    work.mkdir()
    (work / "data.zip.part").write_bytes(server.files["data.zip"])
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == []


def test_part_longer_than_the_file_is_begun_again(server: FileServer, tmp_path: Path) -> None:
    work = tmp_path / "made.partial"
    work.mkdir()
    (work / "data.zip.part").write_bytes(BULK * 2)
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == [None]


def test_wrong_checksum_is_refused_and_not_kept(server: FileServer, tmp_path: Path) -> None:
    server.sums["data.zip"] = "0" * 32
    with pytest.raises(MPTTError, match=r"data.zip is not what its record says .*doi.org/10.1/made"):
        fetch(server, tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "made.partial"]


@pytest.mark.parametrize(("code", "asked"), [(404, 1), (403, 1), (500, 3), (503, 3), (429, 3)])
def test_refusals_are_said_and_passing_ones_tried_again(
    code: int, asked: int, server: FileServer, tmp_path: Path
) -> None:
    server.faults = [("status", code)] * 9
    with pytest.raises(MPTTError, match=f"data.zip/content .*the server answers {code}"):
        fetch(server, tmp_path, attempts=3)
    assert len(server.asked) == asked


def test_record_without_the_file_says_what_it_has(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(MPTTError, match=r"has no file other.zip; it has data.zip"):
        fetch(server, tmp_path, entry({"other.zip": ""}))


def closed_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def test_without_a_connection_it_says_what_to_do_by_hand(server: FileServer, tmp_path: Path) -> None:
    by_hand = (
        r"download data.zip by hand from https://doi.org/10.1/made \(record 1 at zenodo.org\), put it into .*partial"
    )
    with pytest.raises(MPTTError, match=by_hand):
        download("made", tmp_path, registry=ONE, base=closed_port())
    (tmp_path / "made.partial" / "data.zip").write_bytes(server.files["data.zip"])
    with pytest.warns(MPTTWarning, match="without their checksums"):
        download("made", tmp_path, registry=ONE, base=closed_port())
    check(tmp_path)


def test_file_put_there_by_hand_is_checked_where_there_is_a_connection(server: FileServer, tmp_path: Path) -> None:
    work = tmp_path / "made.partial"
    work.mkdir()
    (work / "data.zip").write_bytes(server.files["data.zip"])
    fetch(server, tmp_path)
    check(tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tar.xz"])
def test_tar_files_are_unpacked_too(name: str, tmp_path: Path) -> None:
    mode = {"tar": "w", "gz": "w:gz", "xz": "w:xz"}[name.rpartition(".")[2]]
    with serving({name: tarred({"top/a/one.bin": BULK, "./top/two.txt": b"two"}, mode)}) as server:
        fetch(server, tmp_path, entry({name: ""}))
    check(tmp_path)


def test_plain_files_go_into_their_folder_beside_the_content_of_the_root(tmp_path: Path) -> None:
    content = {"public/series/one.bin": BULK, "elsewhere/readme.txt": b"read"}
    with serving({"data.zip": zipped(**content), "topo.txt": b"gauge_id"}) as server:
        fetch(server, tmp_path, entry({"data.zip": "", "topo.txt": "attributes"}, root="public"))
    there = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*") if one.is_file()}
    assert there == {"made/series/one.bin", "made/elsewhere/readme.txt", "made/attributes/topo.txt"}


def test_broken_archive_is_said(tmp_path: Path) -> None:
    for name in ("data.zip", "data.tar.gz"):
        with serving({name: b"this is no archive"}) as server, pytest.raises(MPTTError, match="no intact archive"):
            fetch(server, tmp_path / name, entry({name: ""}))
    whole = tarred({"one.bin": BULK})
    with serving({"data.tar.gz": whole[: len(whole) // 2]}) as server, pytest.raises(MPTTError, match="no intact"):
        fetch(server, tmp_path / "cut", entry({"data.tar.gz": ""}))


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:/out.txt", "..\\out.txt"])
@pytest.mark.parametrize("kind", ["data.zip", "data.tar.gz"])
def test_paths_that_lead_out_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / kind).write_bytes(zipped(**{name: b"x"}) if kind == "data.zip" else tarred({name: b"x"}))
    with pytest.raises(MPTTError, match="leads out of its folder"):
        unpack(tmp_path / kind, tmp_path / "deep" / "deeper")
    assert not [one for one in tmp_path.rglob("*") if "out.txt" in one.name]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(MPTTError, match="'link', a link"):
        unpack(tmp_path / "data.zip", tmp_path / "out")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "data.tar", "w") as tar:
            tar.addfile(entry)
        with pytest.raises(MPTTError, match="'link', no file and no folder"):
            unpack(tmp_path / "data.tar", tmp_path / "out")


def test_nothing_is_overwritten(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(MPTTError, match=r"something at .*made already"):
        fetch(server, tmp_path)
    assert server.asked == []


def test_full_disk_is_said_before_the_download(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(MPTTError, match=r"has room for 0.0 GB"):
        fetch(server, tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("name", ["camels_gb", "fluxnet"])
def test_data_behind_a_login_say_where_to_get_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(MPTTError, match=f"login.*https://doi.org/{ARCHIVES[name].doi} and unpack it into"):
        download(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_refused_with_the_near_one() -> None:
    with pytest.raises(MPTTError, match=r"Did you mean camels_us\? There are camels_ch, camels_gb"):
        find_archive("CAMELS-US")


@pytest.mark.parametrize("name", ARCHIVES)
def test_entries_say_what_is_needed(name: str) -> None:
    archive = ARCHIVES[name]
    assert all((archive.title, archive.license, archive.references, archive.size))
    assert re.fullmatch(r"10\.\d{4,5}/\S+", archive.doi)
    assert bool(archive.record) == bool(archive.files) != bool(archive.by_hand)


@pytest.mark.parametrize("kind", ["data.zip", "data.tar"])
def test_entries_of_folders_are_folders_also_empty_ones(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "csv" / "empty").mkdir(parents=True)
    (source / "csv" / "a.csv").write_bytes(b"1,2")
    shutil.make_archive(str(tmp_path / "data"), kind.partition(".")[2], source)
    unpack(tmp_path / kind, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path.is_dir() for path in (tmp_path / "out").rglob("*")}
    assert found == {"csv": True, "csv/empty": True, "csv/a.csv": False}
    assert (tmp_path / "out" / "csv" / "a.csv").read_bytes() == b"1,2"

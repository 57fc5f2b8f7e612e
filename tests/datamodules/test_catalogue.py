from __future__ import annotations

from pathlib import Path

import pytest
from sources import several, source_from

from mptt import MPTTError
from mptt.datamodules.catalogue import LAYOUTS, find_layout, open_source
from mptt.datamodules.reading.source import Layout, Source
from mptt.datamodules.storing.converting import convert


def tables_of(path: Path, forcing: str = "daymet") -> Source:
    tables, fixed = several()
    return source_from(tables, fixed, path, title=forcing)


MADE = Layout("made", "a folder with made.txt", lambda path: (path / "made.txt").exists(), tables_of)
ANY = Layout("any", "anything", lambda path: True, tables_of)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "data" / "made").mkdir(parents=True)
    (tmp_path / "data" / "made" / "made.txt").touch()
    return tmp_path / "data" / "made"


def test_first_layout_that_recognises_a_path_is_taken(made: Path) -> None:
    assert find_layout(made, [MADE, ANY]) is MADE
    assert find_layout(made.parent, [MADE, ANY]) is ANY
    assert find_layout(made, [ANY, MADE]) is ANY


def test_options_reach_the_reader(made: Path) -> None:
    assert open_source(made, layouts=[MADE]).about == {"title": "daymet"}
    assert open_source(str(made), "made", layouts=[MADE], forcing="nldas").about == {"title": "nldas"}
    with pytest.raises(MPTTError, match="layout made has no option forcings; it has forcing"):
        open_source(made, layouts=[MADE], forcings="nldas")


def test_a_layout_can_be_named_although_another_comes_first(made: Path) -> None:
    assert open_source(made.parent, "made", layouts=[ANY, MADE]).path == made.parent


def test_unknown_layout_is_refused_with_the_near_name(made: Path) -> None:
    with pytest.raises(MPTTError, match=r"no layout 'mad'. Did you mean made. There are any, made"):
        open_source(made, "mad", layouts=[ANY, MADE])


def test_nothing_there_is_said(tmp_path: Path) -> None:
    for call in (find_layout, open_source):
        with pytest.raises(MPTTError, match=r"There is nothing at .*nowhere"):
            call(tmp_path / "nowhere")
    with pytest.raises(MPTTError, match=r"There is nothing at .*nowhere"):
        open_source(tmp_path / "nowhere", "store")


def test_what_lies_there_and_what_was_looked_for_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(MPTTError, match="it holds made/") as found:
        find_layout(made.parent, LAYOUTS)
    assert "store: a Zarr store or NetCDF file" in str(found.value)
    with pytest.raises(MPTTError, match=r"made is one .made.: give that"):
        find_layout(made.parent, [MADE])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MPTTError, match="the folder is empty"):
        find_layout(tmp_path / "empty", [MADE])
    (tmp_path / "table.txt").write_text("12345")
    with pytest.raises(MPTTError, match="a file of 5 bytes"):
        find_layout(tmp_path / "table.txt", [MADE])


def test_names_of_layouts_differ() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_converted_store_is_found(made: Path, tmp_path: Path) -> None:
    path = convert(open_source(made, layouts=[MADE]), tmp_path / "out.zarr")
    assert find_layout(path).name == "store"
    assert open_source(path).sites == open_source(made, layouts=[MADE]).sites


def test_a_pattern_names_files(tmp_path):
    (tmp_path / "a.csv").write_text("date,rain\n2000-01-01,1\n")
    (tmp_path / "b.txt").write_text("x")
    assert open_source(tmp_path / "*.csv").sites == ["a"]
    with pytest.raises(MPTTError, match="No file is called as"):
        open_source(tmp_path / "*.nc")

"""The report of a comparison: one page, complete in itself, with its tables, figures and what repeats them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from mptt.errors import MPTTError
from mptt.files import write_atomically

# A number, and then nothing, or what belongs to it: "10.02 (0.62)", "-3.1 [-4.0, -2.2]", "12 %", "> 3650".
_NUMBER = re.compile(r"\s*>?\s*([-+\N{MINUS SIGN}]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=$|[\s(\[%±])")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class _Cell:
    """What a cell shows and what it is sorted by: a number, or a text; None where the value is missing."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class _Column:
    name: str
    numeric: bool


@dataclass(frozen=True)
class _Table:
    caption: str
    columns: list[_Column]
    rows: list[list[_Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        text: paragraphs before all else.
        tables: caption and rows; the index is not shown.
        figures: caption and the path of a PNG.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    figures: Sequence[tuple[str, Path]] = ()


def write_report(
    folder: Path,
    title: str,
    tables: Sequence[tuple[str, pd.DataFrame]],
    figures: Sequence[tuple[str, Path]],
    config: str,
    versions: Mapping[str, object],
    command: str,
    more: Sequence[Section] = (),
) -> Path:
    """Write `report.html`: one page that needs no other file and no network.

    Args:
        folder: that it goes into.
        title: of the page.
        tables: caption and rows; the index is not shown. A click on a header sorts, by the first number of a cell
            where every cell of the column begins with one. Missing values come last.
        figures: caption and the path of a PNG.
        config: YAML.
        versions: name and version of what the runs were made with.
        command: that makes the page again.
        more: sections after those of tables and figures, whose tables and figures are numbered on.

    Returns:
        The path of the page.

    Raises:
        MPTTError: a figure that is not there, or no PNG.
    """
    loader = jinja2.PackageLoader("mptt.experiments", "templates")
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    parts = [Section("Tables", (), tables), Section("Figures", (), (), figures), *more]
    table_number, figure_number = count(1), count(1)
    page = templates.get_template("report.html").render(
        title=title,
        sections=[
            {
                "title": part.title,
                "text": part.text,
                "tables": [(next(table_number), _table(caption, rows)) for caption, rows in part.tables],
                "figures": [(next(figure_number), caption, _data_uri(path)) for caption, path in part.figures],
            }
            for part in parts
            if part.text or part.tables or part.figures
        ],
        config=config,
        versions=versions,
        command=command,
    )
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


def _table(caption: str, rows: pd.DataFrame) -> _Table:
    columns = [_column([_shown(value) for value in rows.iloc[:, nth]]) for nth in range(rows.shape[1])]
    named = [_Column(str(name), numeric) for name, (numeric, _) in zip(rows.columns, columns, strict=True)]
    cells = [cells for _, cells in columns]
    return _Table(caption, named, [list(row) for row in zip(*cells, strict=True)])


def _column(texts: Iterable[str | None]) -> tuple[bool, list[_Cell]]:
    """Whether a column is one of numbers, and its cells."""
    texts = list(texts)
    numbers = [_number(text) for text in texts]
    known = [number for text, number in zip(texts, numbers, strict=True) if text is not None]
    numeric = bool(known) and None not in known
    keys = numbers if numeric else texts
    return numeric, [_Cell("\N{EN DASH}" if text is None else text, key) for text, key in zip(texts, keys, strict=True)]


def _shown(value: Any) -> str | None:
    """A cell's text; None where it is missing."""
    if pd.isna(value):
        return None
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    return None if text.strip().lower() in ("", "nan", "none", "-", "\N{EN DASH}") else text


def _number(text: str | None) -> float | None:
    found = _NUMBER.match(text) if text is not None else None
    return float(found[1].replace("\N{MINUS SIGN}", "-")) if found else None


def _data_uri(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MPTTError(f"The report has no figure at {path} ({error.strerror}); give the path of a PNG.") from error
    if not content.startswith(_PNG):
        raise MPTTError(f"The report cannot show {path}, which is no PNG; figures.save writes one.")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")

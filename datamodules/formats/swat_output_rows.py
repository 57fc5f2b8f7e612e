"""How a row of SWAT's output.rch, output.sub or output.hru is laid out: found from the file, as revisions differ."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError, MPTTWarning

Field = tuple[int, int]  # first character, and the one after the last

UNIT_NAMES = {"sub": "sub-basins", "rch": "reaches", "hru": "HRUs"}
_PREFIX = {"sub": "BIGSUB", "rch": "REACH", "hru": ""}
_NAME_WIDTH = {"sub": 10, "rch": 12, "hru": 10}
_AREA = "AREAkm2"
_TOP = 65_536  # bytes in which the header is looked for
# Fortran's F10.3 has three decimals and E12.4 an exponent of two digits: a value ends there even where the next begins.
_VALUE = re.compile(r"\.\d{3,5}[ED][+-]\d{2}|\.\d{3,6}(?=\s|$)|\.\d{3}")
_WIDTHS = range(9, 14)


@dataclass(frozen=True)
class RowLayout:
    """Where the fields of a row stand.

    Attributes:
        kind: "sub", "rch" or "hru".
        prefix: that every row begins with.
        number: the unit's number.
        labels: GIS, and of an HRU its LULC and SUB.
        date: MON, or MO, DA and YR.
        area: in km2.
        values: by the header's name.
        width: characters in a row.
        body: bytes before the first row.
        lines: lines before the first row.
    """

    kind: str
    prefix: bytes
    number: Field
    labels: Mapping[str, Field]
    date: tuple[Field, ...]
    area: Field
    values: Mapping[str, Field]
    width: int
    body: int
    lines: int


def find_layout(path: Path, top: bytes) -> RowLayout:
    """The layout of a file's rows.

    Args:
        path: for messages.
        top: the first `header_size()` bytes of the file.

    Raises:
        MPTTError: there is no line of column names, no row, or one whose columns cannot be told apart.
    """
    lines = top.decode("latin-1").split("\n")
    nth = next((nth for nth, line in enumerate(lines) if _AREA in line), None)
    if nth is None or b"\0" in top:
        what = "is empty" if not top.strip() else "is not SWAT's output as text"
        raise MPTTError(
            f"{path} {what}: no line of column names with {_AREA} in its first {len(lines)} line(s). Give output.rch,"
            " output.sub or output.hru of SWAT2012 as it was printed."
        )
    header = lines[nth].rstrip("\r")
    before = header[: header.index(_AREA)]
    kind = "hru" if "LULC" in before else "sub" if "SUB" in before else "rch"
    if (kind == "rch" and "RCH" not in before) or "DET" in before:
        raise MPTTError(
            f"{path}, line {nth + 1}: columns {before.strip()!r} are not read here; RCH GIS MON, SUB GIS MON and LULC"
            " HRU GIS SUB MGT MON are, with MON or MO DA YR, of daily, monthly or yearly output."
        )
    rows = [line.rstrip("\r") for line in lines[nth + 1 :]]
    if len(top) >= header_size():
        rows = rows[:-1]
    if not any(row.strip() for row in rows):
        raise MPTTError(f"{path} has no row below its line of column names; it is cut short, or the run printed none.")
    clean = next((row for row in rows if row.strip() and not re.search(r"\*|nan|inf", row, re.IGNORECASE)), None)
    if clean is None:
        raise MPTTError(f"{path} has no row without asterisks among its first {len(rows)}: columns cannot be found.")
    line = nth + 2 + rows.index(clean)
    ends = [match.end() for match in _VALUE.finditer(clean)]
    widths = [after - end for end, after in pairwise(ends)]
    # Some revisions print the unit's number or the year once more behind the values, without a name.
    behind = clean[ends[-1] :].strip() if ends else ""
    if len(ends) < 2 or (behind and not behind.isdecimal()) or any(width not in _WIDTHS for width in widths):
        raise MPTTError(
            f"{path}, line {line}: the columns of this row cannot be told apart; values are due in widths of 10 or 12,"
            f" as SWAT prints them. Found {clean[:120]!r}. Get an intact copy, not one that was edited."
        )
    area = (ends[0] - _NAME_WIDTH[kind], ends[0])
    number, labels, date = _identity(path, line, kind, clean[: area[0]], "MO DA" in before)
    names = _names(path, nth + 1, header[header.index(_AREA) + len(_AREA) :], _NAME_WIDTH[kind], len(widths))
    return RowLayout(
        kind,
        _PREFIX[kind].encode(),
        number,
        labels,
        date,
        area,
        dict(zip(names, pairwise(ends), strict=True)),
        len(clean),
        sum(len(line) + 1 for line in lines[: nth + 1]),
        nth + 1,
    )


def header_size() -> int:
    """Bytes at the start of a file that `find_layout` needs."""
    return _TOP


def _identity(
    path: Path, line: int, kind: str, text: str, calendar: bool
) -> tuple[Field, dict[str, Field], tuple[Field, ...]]:
    """The fields before the area: right ends are fixed, as whole numbers are printed to the right."""
    prefix = _PREFIX[kind]
    begin = len(prefix) if prefix else 4
    ends = [match.end() + begin for match in re.finditer(r"\S+", text[begin:])]
    names = ["GIS"] if kind != "hru" else ["GIS", "SUB", "MGT"]
    dates = 3 if calendar else 1
    if not text.startswith(prefix) or text[:1] == " ":
        ends = []
    if kind == "hru" and not calendar and len(ends) == 1 + len(names) + dates - 1:
        # Some revisions leave no blank between HRU and GIS (a4,i4,a5,a4,i5,1x,i4,1x,i4).
        stop = len(text)
        ends = [stop - 24, stop - 15, stop - 10, stop - 5, stop]
    if len(ends) != 1 + len(names) + dates:
        due = " ".join([prefix or "LULC", "number", *names, "MO DA YR" if calendar else "MON"])
        raise MPTTError(f"{path}, line {line}: {due} are due before the area; found {text[:80]!r}.")
    ends[-1] = len(text)
    fields = list(zip([begin, *ends], ends, strict=False))
    labels = {name: field for name, field in zip(names, fields[1:], strict=False) if name != "MGT"}
    if kind == "hru":
        labels["LULC"] = (0, 4)
    return fields[0], labels, tuple(fields[-dates:])


def _names(path: Path, line: int, text: str, width: int, count: int) -> list[str]:
    """The names above the values: of fixed width, as they may touch and hold blanks."""
    text = text.rstrip()
    names = [text[first : first + width].strip() for first in range(0, len(text), width)]
    apart = [name for name in names if not name or re.search(r"\s\s", name)]  # the columns stand elsewhere
    words = text.split()
    if (apart or len(names) != count) and len(words) == count and max(map(len, words)) <= width:
        names, apart = words, []
    if apart or len(names) < count:
        raise MPTTError(
            f"{path}, line {line}: {count} names of columns are due, {width} characters each; found"
            f" {text.strip()[:200]!r}. Get an intact copy, not one that was edited."
        )
    if len(names) > count:
        warnings.warn(
            f"{path} names {len(names)} columns and has values for the first {count}; without are"
            f" {listed(names[count:])}.",
            MPTTWarning,
            stacklevel=5,
        )
    tidy = [re.sub(r"[ /]", "_", re.sub(r"[()]", "", name)) for name in names[:count]]
    if twice := sorted({name for name in tidy if tidy.count(name) > 1}):
        raise MPTTError(f"{path}, line {line}: more than one column is named {listed(twice)}. Rename them.")
    return tidy

"""Daily text tables: read fast, and line by line only to say which line is no row of the table."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from mptt.errors import MPTTError, MPTTWarning

MISSING = ("", "NA", "NaN", "nan")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TextTable:
    """A text file with a row a day.

    Attributes:
        path: of the file, for messages.
        content: of the file, as of `read_text`.
        columns: name and dtype of each: "int64" (whole, never missing), "float32", "float64", "str", "category", or
            "skip": there, but not wanted.
        skip: lines above the first row.
        separator: between fields; None: white space, and no quotes.
        date_fault: of a row, by column: what is wrong with its date; None if nothing is.
    """

    path: Path | str
    content: bytes
    columns: Mapping[str, str]
    skip: int
    separator: str | None
    date_fault: Callable[[Mapping[str, str]], str | None]

    def read(self) -> pd.DataFrame:
        """All rows.

        Raises:
            MPTTError: a line is no row of the table; which, and why.
        """
        kinds = {name: kind for name, kind in self.columns.items() if kind != "skip"}
        last = list(self.columns)[-1]
        kept = kinds if last in kinds else {**kinds, last: "str"}  # a short line shows in its last field
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)  # numbers too large for float32 are found below
            try:
                table = pd.read_csv(
                    io.BytesIO(self.content),
                    sep=self.separator or r"\s+",
                    names=list(self.columns),
                    dtype=kept,
                    usecols=None if len(kept) == len(self.columns) else list(kept),
                    header=None,
                    skiprows=self.skip,
                    index_col=False,
                    skipinitialspace=True,
                    na_values=list(MISSING),
                    keep_default_na=False,
                    quoting=csv.QUOTE_NONE if self.separator is None else csv.QUOTE_MINIMAL,
                    encoding="utf-8-sig",
                )
            except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
                self.refuse(str(error))
        # The parser fills short lines up with missing values.
        floats = [name for name, kind in kinds.items() if kind.startswith("float")]
        doubtful = len(kept) < len(self.columns) or table.iloc[:, -1].isna().any()
        if (doubtful and not self._full(len(table))) or np.isinf(table[floats].to_numpy()).any():
            self._check_lines()
        return table[list(kinds)]

    def _full(self, rows: int) -> bool:
        """Whether counting separators shows that no line is short; False may also be that counting does not tell."""
        if self.separator is None or b'"' in self.content:
            return False
        below = self.content.split(b"\n", self.skip)[self.skip :]
        return bool(below) and below[0].count(self.separator.encode()) == rows * (len(self.columns) - 1)

    def refuse(self, reason: str) -> NoReturn:
        """Name the first line that is no row of the table, or else the reason that something went wrong."""
        self._check_lines()
        raise MPTTError(f"{self.path} cannot be read as a table: {reason}.")

    def line_of(self, row: int) -> int:
        """The line of a row, counted from 0 below the header; blank lines are no rows."""
        return next(number for nth, (number, _) in enumerate(self._lines()) if nth == row)

    def _check_lines(self) -> None:
        for number, fields in self._lines():
            if fault := self._fault(fields):
                text = (self.separator or " ").join(fields)[:120]
                raise MPTTError(
                    f"{self.path}, line {number}: {fault}, in {text!r}. Correct the line, or get an intact copy."
                )

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        text = io.StringIO(self.content.decode("utf-8-sig"), newline="")
        if self.separator is None:
            rows = ((number, line.split()) for number, line in enumerate(text, start=1))
        else:
            reader = csv.reader(text, delimiter=self.separator, skipinitialspace=True)
            rows = ((reader.line_num, row) for row in reader)
        try:
            yield from ((number, fields) for number, fields in rows if number > self.skip and fields)
        except csv.Error as error:
            raise MPTTError(f"{self.path}, line {reader.line_num}: {error}. Get an intact copy.") from error

    def _fault(self, fields: list[str]) -> str | None:
        if len(fields) != len(self.columns):
            names = " ".join(self.columns)
            return f"{len(fields)} fields where {len(self.columns)} are due ({names[:120]})"
        row = dict(zip(self.columns, fields, strict=True))
        for name, text in row.items():
            kind = self.columns[name]
            try:
                if kind == "int64":
                    good = text.isdecimal() and len(text) <= 8
                else:
                    good = not kind.startswith("float") or text.strip() in MISSING or abs(float(text)) < _LARGEST
            except ValueError:
                good = False
            if not good:
                return f"{name} is {text!r}, not a{' whole' if kind == 'int64' else ''} number"
        return self.date_fault(row)


def read_text(path: Path) -> bytes:
    """The content of a UTF-8 text file.

    Raises:
        MPTTError: it cannot be opened, is empty, or something else.
    """
    return check_text(path, read_file(path))


def check_text(path: Path | str, content: bytes) -> bytes:
    """The content, if it is UTF-8 text.

    Raises:
        MPTTError: it is empty, or something else.
    """
    if not content.strip():
        raise MPTTError(f"{path} is empty. Get an intact copy.")
    try:
        if b"\0" in content:
            raise ValueError("it holds zero bytes")
        content.decode("utf-8-sig")
    except ValueError as error:
        raise MPTTError(f"{path} is not a text file in UTF-8 ({error}). Unpack it, or get an intact copy.") from error
    return content


def note_cut(path: Path | str, content: bytes) -> None:
    """Warn of a file whose last line has no end, as one that was cut inside its last value has not."""
    if not content.endswith((b"\n", b"\r")):
        line, last = content.count(b"\n") + 1, content.rpartition(b"\n")[2].decode("utf-8-sig")
        warnings.warn(
            f"{path}: its last line, {line}, has no line end. If the file was cut short there, the last value of"
            f" {last[-60:]!r} is not what it was: look at it, and end the line.",
            MPTTWarning,
            stacklevel=4,
        )


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        MPTTError: it cannot be opened.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise MPTTError(f"{path} cannot be opened: {reason}. Check the path and who may read it.") from error


def likely_separator(header: str) -> str:
    """What stands between the names in a header line: a comma, a semicolon or a tab."""
    return max(",;\t", key=header.count)


def check_days(path: Path | str, days: npt.NDArray[np.datetime64]) -> None:
    """Check that the rows of a file are consecutive days.

    Raises:
        MPTTError: the first that does not follow, and how many there are.
    """
    steps = np.diff(days).astype("timedelta64[D]").astype(np.int64)
    if (bad := np.flatnonzero(steps != 1)).size:
        before, after, step = days[bad[0]], days[bad[0] + 1], steps[bad[0]]
        what = "goes back" if step < 0 else "stands twice" if step == 0 else f"comes {step} days"
        raise MPTTError(
            f"{path}: the date {after} {what} after {before}; rows must be consecutive days in order. Found"
            f" {bad.size} such place(s). Sort the table, drop repeated rows, add the missing days with missing values,"
            " or get an intact copy."
        )


def described(units: str, meaning: str) -> dict[str, str]:
    """The attributes of a variable."""
    return {"units": units, "long_name": meaning}

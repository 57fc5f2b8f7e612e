"""SWAT's output.rch, output.sub and output.hru: which line is of which unit and date, and the values of one unit.

The files run to gigabytes and are never read whole: one pass finds where the lines begin and checks their order; a
unit's values are then picked out of the file as it lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mptt.datamodules.formats.swat_output_control import Printing, printing
from mptt.datamodules.formats.swat_output_rows import Field, RowLayout, find_layout, header_size
from mptt.errors import MPTTError

Bytes = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]

_BLOCK = 1 << 24  # bytes
_ROWS = 50_000
_SHORTER = 2  # characters by which a row of totals may be shorter than one of a step
_BLANK, _STAR, _POINT, _ZERO = b" *.0"


@dataclass(frozen=True)
class OutputFile:
    """An output file, indexed.

    Attributes:
        path: of the file.
        layout: of its rows.
        step: "daily", "monthly" or "yearly".
        time: (T,) datetime64[s], the start of each step.
        numbers: (U,) of the units, in the order of the file.
        content: the file, mapped into memory.
        rows: (T, U) where each row begins.
    """

    path: Path
    layout: RowLayout
    step: str
    time: npt.NDArray[np.datetime64]
    numbers: Int64Array
    content: Bytes
    rows: Int64Array

    def values(self, unit: int, name: str) -> npt.NDArray[np.float64]:
        """(T,) of one unit; NaN where the value was wider than its column (asterisks).

        Raises:
            MPTTError: a field is no number.
        """
        return self._floats(self.rows[:, unit], self.layout.values[name])

    def areas(self) -> npt.NDArray[np.float64]:
        """(U,) in km2, as in the first step."""
        return self._floats(self.rows[0], self.layout.area)

    def labels(self, name: str) -> list[str]:
        """GIS, SUB or LULC of each unit, as in the first step."""
        text = _texts(self._field(self.rows[0], self.layout.labels[name]))
        return [entry.decode("latin-1").strip() for entry in text.tolist()]

    def _field(self, rows: Int64Array, field: Field) -> Bytes:
        picked: Bytes = self.content[rows[:, None] + np.arange(*field)]
        return picked

    def _floats(self, rows: Int64Array, field: Field) -> npt.NDArray[np.float64]:
        text = self._field(rows, field)
        text[(text == _STAR).any(axis=1)] = np.frombuffer(b"nan".ljust(text.shape[1]), np.uint8)
        try:
            return _texts(text).astype(np.float64)
        except ValueError:
            return np.array([self._float(row, entry) for row, entry in zip(rows, _texts(text).tolist(), strict=True)])

    def _float(self, row: int, text: bytes) -> float:
        try:
            # An exponent of three digits takes the place of its letter.
            return float(re.sub(rb"(?<=\d)[Dd]?([+-]\d{2,3})$", rb"e\1", text.strip()))
        except ValueError:
            line = _line(self.content, int(row))
            raise MPTTError(
                f"{self.path}, line {line}: {text.decode('latin-1')!r} is not a number. Get an intact copy."
            ) from None


def open_output(path: Path, start: str | None = None, step: str | None = None) -> OutputFile:
    """Index an output file.

    Args:
        path: of the file.
        start: the first date printed, YYYY-MM-DD; by default of file.cio beside the file.
        step: "daily", "monthly" or "yearly"; by default likewise.

    Raises:
        MPTTError: the file is no such output; a row is cut short, missing or out of order; its dates do not fit.
    """
    try:
        content: Bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        top = content[: header_size()].tobytes()
    except OSError as error:
        reason = error.strerror or error
        raise MPTTError(f"{path} cannot be opened: {reason}. Check the path and who may read it.") from error
    layout = find_layout(path, top)
    told = printing(path.parent, start, step, len(layout.date) == 3)
    return _Index(path, layout, content).build(told)


class _Index:
    """Finds and checks the rows of an output file."""

    def __init__(self, path: Path, layout: RowLayout, content: Bytes) -> None:
        self.path, self.layout, self.content = path, layout, content
        self.begin, self.length = _lines(content, layout.body)
        short = self.length < layout.width - _SHORTER
        if short.any():
            nth = int(short.argmax())
            raise self._error(
                nth, f"{int(self.length[nth])} characters where a row has {layout.width}: it is cut short"
            )

    def build(self, told: Printing) -> OutputFile:
        number, date = self._identities()
        is_step = self._steps(date, told)
        kept = np.flatnonzero(is_step)
        if not kept.size:
            raise MPTTError(f"{self.path} has no {told.step} row; {told.told} says that its rows are {told.step}.")
        if (odd := self.length[kept] != self.layout.width).any():
            nth = int(kept[odd.argmax()])
            raise self._error(nth, f"{int(self.length[nth])} characters where a row has {self.layout.width}")
        units = self._units(number, kept)
        dates = date[kept].reshape(-1, len(units))
        if (differs := (dates != dates[:, :1]).ravel()).any():
            raise self._error(int(kept[differs.argmax()]), "another date than the rows of the same step above")
        time = self._calendar(dates[:, 0], kept, len(units), told)
        if told.step == "monthly":
            self._check_years(date, is_step, kept, len(units), time)
        if told.steps is not None and told.steps != len(time):
            raise MPTTError(
                f"{self.path} has {len(time)} {told.step} steps, from {time[0]} to {time[-1]}; {told.told} says"
                f" {told.steps} from {told.first}. It was changed after the run, or the run was not finished: give"
                f' start and step, as start="{time[0].astype("datetime64[D]")}", step="{told.step}".'
            )
        rows = self.begin[kept].reshape(-1, len(units))
        return OutputFile(self.path, self.layout, told.step, time.astype("datetime64[s]"), units, self.content, rows)

    def _identities(self) -> tuple[Int64Array, Int64Array]:
        """Of each row the number of its unit, and MON or days since 1970; -1 for an average over years."""
        numbers, dates = [], []
        width = self.layout.area[0]
        for first in range(0, len(self.begin), _ROWS):
            text: Bytes = self.content[self.begin[first : first + _ROWS, None] + np.arange(width)]
            prefix = np.frombuffer(self.layout.prefix, np.uint8)
            self._refuse(first, (text[:, : len(prefix)] != prefix).any(axis=1), "does not begin as the other rows do")
            number, good = _whole(text[:, slice(*self.layout.number)])
            self._refuse(first, ~good, "has no whole number of its unit")
            parts = [_whole(text[:, slice(*field)]) for field in self.layout.date]
            good = np.all([each[1] for each in parts], axis=0)
            if len(parts) == 1:
                field = text[:, slice(*self.layout.date[0])]
                average = ((field == _POINT) | (field == _STAR)).any(axis=1)
                self._refuse(first, ~(good | average), "has no whole number as its MON")
                date = np.where(average, -1, parts[0][0])
            else:
                (month, day, year) = (each[0] for each in parts)
                months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
                days = months.astype("datetime64[D]") + (day - 1)
                good &= (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months)
                self._refuse(first, ~good, "has no date as its MO DA YR")
                date = days.astype(np.int64)
            numbers.append(number)
            dates.append(date)
        return np.concatenate(numbers), np.concatenate(dates)

    def _steps(self, date: Int64Array, told: Printing) -> npt.NDArray[np.bool_]:
        """Which rows are of a step; the others are totals of a year and averages over years."""
        if len(self.layout.date) == 3:
            return np.ones(len(date), np.bool_)
        low, high = {"daily": (1, 366), "monthly": (1, 12), "yearly": (367, 999_999)}[told.step]
        is_step: npt.NDArray[np.bool_] = (date >= low) & (date <= high)
        if (odd := ~is_step & (date >= 0) & (date < 367)).any():
            nth = int(odd.argmax())
            raise self._error(nth, f"MON {date[nth]} is none of {told.step} output, which this is by {told.told}")
        return is_step

    def _units(self, number: Int64Array, kept: Int64Array) -> Int64Array:
        """The units of the first step, once every step is known to have the same in the same order."""
        number = number[kept]
        again = np.flatnonzero(number[1:] == number[0])
        count = int(again[0]) + 1 if again.size else len(number)
        units = number[:count]
        if (wrong := number != np.resize(units, len(number))).any():
            nth = int(wrong.argmax())
            due, found = units[nth % count], number[nth]
            raise self._error(int(kept[nth]), f"a row of number {found} where {due} is due: a row is missing or moved")
        if missing := -len(number) % count:
            raise self._error(int(kept[-1]), f"the last step ends here; {missing} of its {count} rows are missing")
        return units

    def _calendar(self, date: Int64Array, kept: Int64Array, units: int, told: Printing) -> npt.NDArray[np.datetime64]:
        """The date of each step, in the step's unit; the rows must agree with it."""
        count = np.arange(len(date))
        if len(self.layout.date) == 3:
            due, found = date[0] + count, date
            time = due.astype("datetime64[D]")
        elif told.step == "yearly":
            due, found = date[0] + count, date
            time = (due - 1970).astype("datetime64[Y]")
            if told.steps is not None and time[0] != told.first:
                raise self._error(int(kept[0]), f"year {date[0]} where {told.told} says {told.first}")
        else:
            time = told.first + count
            larger = "M" if told.step == "monthly" else "D"
            year = time.astype("datetime64[Y]").astype(f"datetime64[{larger}]")
            due, found = (time - year).astype(np.int64) + 1, date
        if (wrong := due != found).any():
            nth = int(wrong.argmax())
            where = "" if len(self.layout.date) == 3 else f"MON {found[nth]} where {due[nth]} is due, for "
            raise self._error(
                int(kept[nth * units]),
                f"{where}{time[nth]} does not follow: the first step is {time[0]} by {told.told}; rows are missing, or"
                " the start or the step is another",
            )
        return time

    def _check_years(
        self,
        date: Int64Array,
        is_step: npt.NDArray[np.bool_],
        kept: Int64Array,
        units: int,
        time: npt.NDArray[np.datetime64],
    ) -> None:
        """The totals of a year name it: it must be that of the months above."""
        totals = np.flatnonzero(~is_step & (date > 12))
        last = np.searchsorted(kept, totals) - 1
        year = time[np.maximum(last, 0) // units].astype("datetime64[Y]").astype(np.int64) + 1970
        if (wrong := date[totals] != year).any():
            nth = int(wrong.argmax())
            raise self._error(
                int(totals[nth]),
                f"total of the year {date[totals[nth]]}, below months of {year[nth]}: the start is another",
            )

    def _refuse(self, first: int, wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            raise self._error(first + int(wrong.argmax()), what)

    def _error(self, row: int, what: str) -> MPTTError:
        begin = int(self.begin[row])
        text = self.content[begin : begin + min(int(self.length[row]), 60)].tobytes().decode("latin-1")
        line = self.layout.lines + row + 1
        return MPTTError(f"{self.path}, line {line}: {what}, in {text!r}. Get an intact copy, or run SWAT again.")


def _lines(content: Bytes, begin: int) -> tuple[Int64Array, Int64Array]:
    """Where each line from some byte on begins, and its length without its end; blank lines at the end left out."""
    found = [
        first + np.flatnonzero(content[first : first + _BLOCK] == 10) for first in range(begin, len(content), _BLOCK)
    ]
    stops = np.concatenate([*found, [len(content)]]).astype(np.int64)
    starts = np.concatenate([[begin], stops[:-1] + 1]).astype(np.int64)
    length = np.maximum(stops - starts, 0)
    length -= (length > 0) & (content[np.maximum(stops - 1, 0)] == 13)
    count = len(length) - int((length[::-1] > 0).argmax()) if length.any() else 0
    return starts[:count], length[:count]


def _whole(text: Bytes) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """Whole numbers of (row, character), and which rows hold one."""
    value = np.zeros(len(text), np.int64)
    seen, ended, good = (np.zeros(len(text), np.bool_) for _ in range(3))
    good[:] = True
    for column in text.T:
        digit, blank = (column >= _ZERO) & (column < _ZERO + 10), column == _BLANK
        value = np.where(digit, 10 * value + column - _ZERO, value)
        good &= (digit & ~ended) | blank
        ended |= blank & seen
        seen |= digit
    return value, good & seen


def _texts(text: Bytes) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(text).view(f"S{text.shape[1]}").ravel()


def _line(content: Bytes, byte: int) -> int:
    blocks: Iterable[int] = range(0, byte, _BLOCK)
    return 1 + sum(int((content[first : min(first + _BLOCK, byte)] == 10).sum()) for first in blocks)

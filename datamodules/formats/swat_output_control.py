"""When SWAT printed: the period and print code of a run, from its file.cio or as given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mptt.datamodules.preparing.checks import check_choice
from mptt.datamodules.reading.tables import read_file
from mptt.errors import MPTTError

STEPS = ("daily", "monthly", "yearly")
_UNITS = {"daily": "D", "monthly": "M", "yearly": "Y"}
_CODES = {0: "monthly", 1: "daily", 2: "yearly"}
_LINES = {"NBYR": 8, "IYR": 9, "IDAF": 10, "IDAL": 11, "IPRINT": 59, "NYSKIP": 60}


class Printing(NamedTuple):
    """What a run printed."""

    step: str
    first: np.datetime64  # of the step's own unit
    steps: int | None  # how many, where that is known
    told: str  # by what


def printing(folder: Path, start: str | None, step: str | None, calendar: bool) -> Printing:
    """The step and period of the rows: as given, else of file.cio in the folder.

    Args:
        folder: of the output file.
        start: the first date printed; needs no file.cio.
        step: "daily", "monthly" or "yearly"; needs no file.cio.
        calendar: whether the rows carry dates.

    Raises:
        MPTTError: file.cio is not there or not as it must be, and the arguments do not say all.
    """
    if step is not None:
        check_choice("step", step, STEPS)
    if calendar:
        if step not in (None, "daily"):
            raise MPTTError(f"The rows have columns MO DA YR, so they are daily; found step={step!r}.")
        return Printing("daily", np.datetime64("NaT"), None, "the columns MO DA YR")
    if start is not None and step is not None:
        return Printing(
            step, _date(start).astype(f"datetime64[{_UNITS[step]}]"), None, f"start={start!r}, step={step!r}"
        )
    control = next((path for path in sorted(folder.iterdir()) if path.name.lower() == "file.cio"), None)
    if control is None:
        raise MPTTError(
            f"No file.cio in {folder}: it says when the run began and whether it printed days, months or years. Put it"
            ' there, or give start and step, as start="2000-01-01", step="daily".'
        )
    code, first, last = _read_control(control)
    if step is not None and step != code:
        raise MPTTError(
            f"{control} says that output is {code}; step={step!r} does not fit. Give start too, or neither."
        )
    unit = _UNITS[code]
    if start is not None:
        return Printing(code, _date(start).astype(f"datetime64[{unit}]"), None, f"start={start!r}, {control}")
    begin, end = first.astype(f"datetime64[{unit}]"), last.astype(f"datetime64[{unit}]")
    return Printing(code, begin, int((end - begin).astype(np.int64)) + 1, str(control))


def _date(start: str) -> np.datetime64:
    try:
        return np.datetime64(start, "D")
    except ValueError as error:
        raise MPTTError(f"start is a date YYYY-MM-DD; found {start!r}.") from error


def _read_control(path: Path) -> tuple[str, np.datetime64, np.datetime64]:
    """Print code, first and last day of the period printed."""
    lines = read_file(path).decode("latin-1").splitlines()
    setting = {name: _setting(path, lines, name, line) for name, line in _LINES.items()}
    if setting["IPRINT"] not in _CODES:
        raise MPTTError(f"{path}: IPRINT is {setting['IPRINT']}; 0 (months), 1 (days) and 2 (years) are read.")
    if not 1 <= setting["NBYR"] <= 10_000 or setting["NYSKIP"] >= setting["NBYR"] or setting["IYR"] < 1:
        raise MPTTError(f"{path}: no year is printed of NBYR={setting['NBYR']}, NYSKIP={setting['NYSKIP']}.")
    year = setting["IYR"] + setting["NYSKIP"]
    first = _day(year, 1 if setting["NYSKIP"] else max(setting["IDAF"], 1))
    final = setting["IYR"] + setting["NBYR"] - 1
    last = _day(final, setting["IDAL"]) if setting["IDAL"] else _day(final + 1, 0)
    return _CODES[setting["IPRINT"]], first, last


def _setting(path: Path, lines: list[str], name: str, line: int) -> int:
    """A number, by its name behind the bar, else by its line."""
    labelled = re.compile(rf"\s*(\S+)\s*\|\s*{name}\b")
    found = next((match[1] for text in lines if (match := labelled.match(text))), None)
    if found is None and len(lines) >= line:
        found = (lines[line - 1].split() or [""])[0]
    if found is None or not found.isdecimal():
        raise MPTTError(
            f"{path}: {name}, a whole number, is due in line {line}; found {found!r}. Get an intact copy, or give start"
            " and step."
        )
    return int(found)


def _day(year: int, day: int) -> np.datetime64:
    first: np.datetime64 = np.datetime64(f"{year:04d}", "D")
    return first + np.timedelta64(day - 1, "D")

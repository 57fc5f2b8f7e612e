"""What the benchmark leaves behind: a table, and JSON with every repeat and what it was measured on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from mptt.experiments.bench.common import Figure
from mptt.experiments.records import PACKAGES
from mptt.files import write_atomically


@dataclass(frozen=True)
class Measured:
    """What a section gave.

    Attributes:
        figures: the numbers.
        seconds: that it took.
    """

    figures: Sequence[Figure]
    seconds: float


def table_of(machine: Mapping[str, Any], measured: Mapping[str, Measured]) -> Table:
    """The medians of all sections, and which targets they miss."""
    title = f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}"
    table = Table(title=title)
    for column in ("what", "median", "range", "at most", ""):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, section in measured.items():
        table.add_section()
        table.add_row(f"[bold]{name}")
        for one in section.figures:
            target = "" if one.target is None else f"{one.target:g} {one.unit}"
            verdict = {None: "", True: "[green]met", False: "[bold red]missed"}[one.met]
            span = f"{_short(one.low)} to {_short(one.high)}"
            table.add_row(f"  {one.what}", f"{_short(one.value)} {one.unit}", span, target, verdict)
    return table


def write_json(path: Path, machine: Mapping[str, Any], measured: Mapping[str, Measured]) -> None:
    """Write what was measured so far, whole or not at all."""
    results = [
        _record(name, one) for name, section in measured.items() for one in section.figures
    ]  # a list of rows, as tables are made from
    seconds = {name: round(section.seconds, 1) for name, section in measured.items()}
    write_atomically(path, json.dumps({**machine, "seconds": seconds, "results": results}, indent=2) + "\n")


def about_machine() -> dict[str, Any]:
    """What a repetition needs to know: machine, threads, versions, date, and the commit where git knows this file."""
    machine: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    machine |= {package: importlib.metadata.version(package) for package in PACKAGES}
    commit, changed = _commit()
    return machine | {"commit": commit, "changed": changed}


def _record(section: str, one: Figure) -> dict[str, Any]:
    drawn = {} if one.panel is None else {"panel": one.panel, "curve": one.curve, "at": one.at}
    return {
        "section": section,
        "what": one.what,
        "value": one.value,
        "unit": one.unit,
        "low": one.low,
        "high": one.high,
        "target": one.target,
        "met": one.met,
        **drawn,
        "values": list(one.values),
    }


def _short(value: float) -> str:
    """Three digits that count, more of large numbers."""
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """The commit that is checked out, and whether files were changed since; None where this file is in no repository.

    An installed copy may lie inside a repository of somebody else's, which does not know it.
    """
    if _git("ls-files", "--error-unmatch", __file__) is None:
        return None, None
    return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*words: str) -> str | None:
    try:
        found = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git, or one that hangs
        return None
    return found.stdout.strip() if found.returncode == 0 else None

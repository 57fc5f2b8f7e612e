"""Of each package, how many of its lines and of its branches the tests ran: fails where a share is under 95 %.

`python covered.py REPORT.json`, a report of `coverage json`. The total that coverage.py can check itself is a mixture
of lines and branches, in which lines, being many, hide branches.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("mptt", "callbacks", "datamodules")
LEAST = 95.0
COUNTS = {"lines": ("covered_lines", "num_statements"), "branches": ("covered_branches", "num_branches")}


def share(files: dict[str, Any], package: str, what: str) -> float:
    """Percent of a package's lines or branches that ran."""
    own = [one["summary"] for path, one in files.items() if Path(path).parts[0] == package]
    covered, all_there_are = (sum(one[name] for one in own) for name in COUNTS[what])
    return 100 * covered / all_there_are


def main(report: Path) -> bool:
    """Print a row a package; whether all have enough."""
    files = json.loads(report.read_text())["files"]
    shares = {package: [share(files, package, what) for what in COUNTS] for package in PACKAGES}
    for package, found in shares.items():
        print(f"{package:12}", *(f"{percent:6.2f} % of {what}" for percent, what in zip(found, COUNTS, strict=True)))
    return all(percent >= LEAST for found in shares.values() for percent in found)


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1])))

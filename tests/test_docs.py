"""What the README and the docs show runs: Python blocks and notebooks, page by page; lines of `mptt` and `make`.

A block after the line `<!-- needs NAME -->` runs where that package is installed, after the others of its page.
"""

import contextlib
import importlib.util
import re
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from mptt.experiments.cli import MPTTCLI, main
from mptt.experiments.comparison import compare as comparing
from mptt.experiments.configs import find_config

ROOT = Path(__file__).parents[1]
ALL_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL_PAGES if "```python" in page.read_text()]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
BLOCK = re.compile(r"(?:<!-- needs (\w+) -->\n)?```(?:python|\{code-cell\} ipython3)\n(.*?)```", flags=re.DOTALL)
NEEDED = [
    (page, name)
    for page in PAGES
    for name in dict.fromkeys(need for need, _ in BLOCK.findall(page.read_text()))
    if name
]
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*no.*validation_step", "ignore:.*tensorboard"
)

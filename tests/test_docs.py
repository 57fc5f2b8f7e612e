"""Every Python block of the README and the docs runs, file by file, in the order of the page.

A block after the line `<!-- needs NAME -->` runs where that package is installed, after the others of its page.
"""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

ROOT = Path(__file__).parents[1]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in page.read_text()
]
BLOCK = re.compile(r"(?:<!-- needs (\w+) -->\n)?```python\n(.*?)```", flags=re.DOTALL)
NEEDED = [
    (page, name)
    for page in PAGES
    for name in dict.fromkeys(need for need, _ in BLOCK.findall(page.read_text()))
    if name
]
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*no.*validation_step", "ignore:.*tensorboard"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@quiet
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time = pd.date_range("1990-01-01", periods=4000, unit="s")
    values = np.random.default_rng(0).random((3, 2, 4000), dtype=np.float32)
    names = ("rain", "temperature", "flow")
    variables = {name: (("site", "time"), one) for name, one in zip(names, values, strict=True)}
    xr.Dataset(variables, {"site": [0, 1], "time": time}).to_zarr("my_basins.zarr", zarr_format=2)
    run(page, "")


@pytest.mark.parametrize(("page", "package"), NEEDED, ids=lambda one: one if isinstance(one, str) else one.name)
@quiet
def test_code_blocks_with_another_package_run(page, package, tmp_path, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package}, which {page.name} compares with, is not installed")
    monkeypatch.chdir(tmp_path)
    run(page, package)


def run(page, package):
    code = "\n".join(block for need, block in BLOCK.findall(page.read_text()) if need in ("", package))
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, heading = link.partition("#")
            there = page.parent / path if path else page
            assert link.startswith("https://") or there.exists(), f"{page.name}: {link}"
            assert link.startswith("https://") or not heading or heading in anchors(there), f"{page.name}: {link}"


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

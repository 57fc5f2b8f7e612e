"""Every Python block of the README and the docs runs, file by file, in the order of the page."""

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*no.*validation_step", "ignore:.*tensorboard"
)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time = pd.date_range("1990-01-01", periods=4000, unit="s")
    values = np.random.default_rng(0).random((3, 2, 4000), dtype=np.float32)
    names = ("rain", "temperature", "flow")
    variables = {name: (("site", "time"), one) for name, one in zip(names, values, strict=True)}
    xr.Dataset(variables, {"site": [0, 1], "time": time}).to_zarr("my_basins.zarr", zarr_format=2)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"

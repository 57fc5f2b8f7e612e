"""What the README and the docs show runs: Python blocks and notebooks, page by page; lines of `mptt` and `make`.

A block after the line `<!-- needs NAME -->` runs where that package is installed, after the others of its page.
"""

import functools
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from mptt.experiments import cli
from mptt.experiments.bench import main as bench
from mptt.experiments.cli import MPTTCLI, main, run
from mptt.experiments.comparison import compare as comparing
from mptt.experiments.comparison.grid import check_plan, read_section
from mptt.experiments.configs import find_config, read_config
from mptt.experiments.data import commands as data_commands
from mptt.experiments.memory import commands as memory_commands

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
# Files that a page tells its reader to write: blocks that begin with their name.
MODULES = {
    code.split("\n")[0].removeprefix("# "): code
    for page in PAGES
    for _, code in BLOCK.findall(page.read_text())
    if re.match(r"# \w+\.py\n", code)
}
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
    run_blocks(page, "")


@pytest.mark.parametrize(("page", "package"), NEEDED, ids=lambda one: one if isinstance(one, str) else one.name)
@quiet
def test_code_blocks_with_another_package_run(page, package, tmp_path, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package}, which {page.name} compares with, is not installed")
    monkeypatch.chdir(tmp_path)
    run_blocks(page, package)


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
@quiet
def test_notebooks_run_in_their_small_form(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    assert "SMALL = True" in page.read_text()
    run_blocks(page, "")


def run_blocks(page, package):
    code = "\n".join(block for need, block in BLOCK.findall(page.read_text()) if need in ("", package))
    code = re.sub(r"^%matplotlib inline$", "", code, flags=re.MULTILINE)  # of Jupyter alone
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


# What a reader puts in place of these words.
MEMORY = ("horizon", "data", "plot", "export", "units", "steps", "probe", "view", "states")
PLACES = {
    "RUN_OR_CONFIG": "run",
    "OTHER_RUN": "other",
    "COMMAND": "horizon",
    "RUN": "run",
    "NEW": "new",
    "NAME_OR_PATH": "quickstart",
    "NAME": "caravan",
    "$fold": "0",
}


def lines_of(page):
    """Lines of a shell on a page, without what is said beside them: indented, in a block, or whole amid a sentence."""
    text = re.sub(r"\s*\\\n\s*", " ", page.read_text())
    for line in re.findall(r"^(?: {2,}|(?=mptt |make ))(?:\.venv/bin/)?((?:mptt|make) .*)", text, flags=re.MULTILINE):
        yield re.split(r"\s{2,}", line)[0]
    for line in re.findall(r"`((?:mptt|make)\s[^`]+)`", text):
        if is_whole(line):
            yield " ".join(line.split())


def is_whole(line):
    """Whether a line can be called; amid a sentence a command may stand for all its lines."""
    command, *words = shlex.split(line)[1:]
    if command in ("fit", "test", "predict"):
        return "--config" in words[:-1]
    if command == "compare":
        return bool(words) and not words[0].startswith("-")
    return len(words) > 1 or line.startswith("make ")


LINES = sorted({line for page in ALL_PAGES for line in lines_of(page)})
CALLED = [line for line in LINES if line.startswith("mptt ")]
BENCH = re.compile(r"python -m mptt\.experiments\.bench ([^`#\n]*[^`#\s])")
MEASURED = sorted({line for page in ALL_PAGES for line in BENCH.findall(page.read_text())})


class Parsing(MPTTCLI):
    """Takes in what a line says, and finds its strategy; builds and runs nothing."""

    def before_instantiate_classes(self):
        self.run_dir = Path("run")
        self._choose(self.config[self.subcommand])

    def instantiate_classes(self):
        self.parsed = True

    def _run_subcommand(self, subcommand):
        assert self.parsed


def write_modules(monkeypatch):
    for name, code in MODULES.items():
        Path(name).write_text(code)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)


def test_there_are_lines_of_every_command():
    commands = {shlex.split(line)[1] for line in CALLED}
    assert commands == {"configs", "fit", "test", "predict", "compare", "data", "memory"}
    assert len(CALLED) > 40


@pytest.mark.parametrize("line", CALLED)
def test_lines_of_the_command_line_are_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for path in (Path("run/config.yaml"), Path("inspect/caravan/config.yaml")):
        path.parent.mkdir(parents=True)
        path.write_text(find_config("quickstart").read_text())
    write_modules(monkeypatch)
    for word, place in PLACES.items():
        line = re.sub(rf"(?<![\w.]){re.escape(word)}(?![\w.])", place, line)
    words = shlex.split(line)[1:]
    called = []

    def is_called(module, name):
        monkeypatch.setattr(module, name, functools.wraps(getattr(module, name))(lambda *_, **__: called.append(name)))

    for name in ("inspect", "convert", "download"):
        is_called(data_commands, name)
    for name in MEMORY:
        is_called(memory_commands, name)
    is_called(comparing, "summarise")
    is_called(cli, "list_configs")
    monkeypatch.setattr(comparing, "run_cells", lambda cells, *_: [run(one.words, Parsing) for one in cells[:1]] and {})
    if words[0] in ("fit", "test", "predict"):
        assert run(words, Parsing).parsed
    else:
        main(words)
        assert called == [{"compare": "summarise", "configs": "list_configs"}.get(words[0]) or words[1]]


@pytest.mark.parametrize("line", MEASURED)
def test_lines_of_the_benchmark_are_understood(line):
    assert bench._parser(bench.SECTIONS).parse_args(shlex.split(line)).out == "runs/bench.json"


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        pytest.param(section, settings, id=f"{page.name}, {section}")
        for page in ALL_PAGES
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)
        for section, settings in yaml.safe_load(block).items()
    ],
)
def test_pieces_of_configurations_are_understood(section, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_modules(monkeypatch)
    config = read_config(find_config("quickstart"))
    if section == "compare":
        config[section] = settings
    else:
        config["data"]["init_args"][section] = settings
    Path("piece.yaml").write_text(yaml.safe_dump(config))
    assert run(["fit", "--config", "piece.yaml"], Parsing).parsed
    check_plan(read_section(Path("piece.yaml")))


def test_targets_of_make_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    said = {word for line in LINES if line.startswith("make ") for word in shlex.split(line, comments=True)[1:]}
    assert {"quickstart", "test", "docs"} <= said
    assert said <= set(targets)


def test_links_between_pages_lead_somewhere():
    for page in ALL_PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, heading = link.partition("#")
            there = page.parent / path if path else page
            assert link.startswith("https://") or there.exists(), f"{page.name}: {link}"
            assert link.startswith("https://") or not heading or heading in anchors(there), f"{page.name}: {link}"


def test_the_front_page_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    contents = set(re.findall(r"^(?:\w+ <)?([a-z_/-]+)>?$", index, flags=re.MULTILINE))
    pages = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in ALL_PAGES[1:]} - {"index"}
    assert contents == pages
    assert pages == {link.removesuffix(".md") for link in re.findall(r"\]\(([a-z_/-]+\.md)", index)}


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

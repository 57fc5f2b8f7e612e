"""The distribution as a stranger gets it."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORT_ALL = """
import importlib, pathlib, sys
for name in ("mptt", "mptt.metrics", "mptt.callbacks", "mptt.datamodules", "mptt.experiments.cli",
             "mptt.experiments.configs", "mptt.experiments.figures", "mptt.experiments.report"):
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).is_relative_to(sys.argv[1]), module.__file__
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
        print(name, public)
assert (pathlib.Path(sys.argv[1]) / "mptt" / "py.typed").exists()
module.write_report(pathlib.Path(), "title", [], [], "", {}, "")
print(importlib.import_module("mptt.experiments.configs").list_configs())
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """An environment with the wheel, and the dependencies but not the editable install of this one."""
    folder = tmp_path_factory.mktemp("clean")
    source = folder / "source"
    for name in ("mptt", "callbacks", "datamodules", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True, timeout=120
    )
    venv.create(folder / "venv", with_pip=False)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, *folder.glob("*.whl")], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "python", site


def test_every_public_name_imports_from_the_wheel(clean, tmp_path):
    python, site = clean
    run = subprocess.run([python, "-c", IMPORT_ALL, site], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "mptt StateMap" in run.stdout
    assert "mptt.callbacks MPTTCallback" in run.stdout
    assert "mptt.datamodules SeriesDataModule" in run.stdout
    assert "simulated/sw" in run.stdout
    assert "mptt.experiments.figures rmse_against" in run.stdout
    assert (tmp_path / "report.html").stat().st_size > 0


def test_the_command_runs_from_the_wheel(clean, tmp_path):
    python, _ = clean
    run = subprocess.run(
        [python, "-m", "mptt.experiments", "configs"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "quickstart" in run.stdout


def test_nobodys_own_callbacks_are_shadowed(clean, tmp_path):
    python, _ = clean
    (tmp_path / "callbacks.py").write_text("MINE = True\n")
    code = "import callbacks, mptt.callbacks; print(callbacks.MINE, mptt.callbacks.MPTTCallback.__name__)"
    run = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.stdout == "True MPTTCallback\n", run.stderr


def test_the_method_imports_neither_lightning_nor_xarray():
    code = "import mptt, mptt.metrics, mptt.inference, sys; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert "torch" in loaded
    assert not loaded & {"pytorch_lightning", "lightning", "xarray", "pandas", "zarr"}


@pytest.mark.parametrize(("package", "other"), [("callbacks", "datamodules"), ("datamodules", "callbacks")])
def test_callbacks_and_datamodules_do_not_import_each_other(package, other):
    for file in (ROOT / package).glob("*.py"):
        text = file.read_text()
        assert f"mptt.{other}" not in text.replace(f"`mptt.{other}", ""), file
        assert "mptt.experiments" not in text, file


def test_the_method_imports_no_other_package_of_ours():
    for file in (ROOT / "mptt").glob("*.py"):
        imports = [line for line in file.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert not [line for line in imports if any(p in line for p in ("callbacks", "datamodules", "experiments"))]

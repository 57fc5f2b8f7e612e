"""The tests that face Lightning, with each Python, each end of the dependencies' ranges, and both namespaces.

    make test-matrix              all that can be had here
    TORCH_INDEX=URL make test-matrix    take torch from that package index, say one of CPU builds

Each environment is made under build/matrix/; a second run takes it up again. The parts of the suite that are not run
know nothing of Lightning, or start only what is run here. In the namespace `lightning` the Trainer, modules, callbacks
and strategies of the tests are those of `lightning.pytorch`; in `pytorch_lightning` the package `lightning` is not
installed, as after `pip install mptt`. The command line and its modules are of `pytorch_lightning` alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "matrix"
PYTHONS = "3.11", "3.12", "3.13"
LIGHTNINGS = "lightning", "pytorch-lightning"
BOUNDED = "fsspec", "packaging"  # from above, by each Lightning: what is pinned for another cannot hold
PARTS = "callbacks", "datamodules/test_series.py", "datamodules/batching", "experiments/test_exact_resume.py"
TESTS = {"lightning": PARTS, "pytorch_lightning": (*PARTS, "experiments/test_cli.py")}


def pins() -> dict[str, dict[str, str]]:
    """Versions by name of the package, for each environment."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    newest = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lowest = dict(match.groups() for one in needed if (match := re.match(r"([\w-]+)[^>]*>=([\d.]+)", one)))
    # A torch of the lowest version can seldom be had beside a new NumPy, or without gigabytes of CUDA packages.
    tools = "torch", "mypy", "ruff", "setuptools"
    return {
        "newest": newest,
        "lowest Lightning": {name: one for name, one in newest.items() if name not in BOUNDED}
        | {name: lowest[name] for name in LIGHTNINGS},
        "lowest of all": lowest | {name: newest[name] for name in tools if name in newest},
    }


def interpreter(version: str) -> str | None:
    """The Python of a version on the PATH, if it runs."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for name in (sys.executable, shutil.which(f"python{version}")):
        if name and run([name, "-c", ask]).stdout.strip() == version:
            return name
    return None


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """With what it says kept; `stdout` holds errors too."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def install(python: str, place: Path, versions: dict[str, str]) -> str:
    """Make an environment; why it cannot be had, or nothing."""
    if not (place / "bin" / "python").exists():
        run([python, "-m", "venv", str(place)])
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    index = os.environ.get("TORCH_INDEX")
    torch = versions["torch"] if index or sys.platform != "linux" else f"{versions['torch']}+cpu"
    done = run([*pip, "--only-binary=:all:", *(["--index-url", index] if index else []), f"torch=={torch}"])
    if done.returncode:
        return f"no torch {torch}: give a package index that has it by TORCH_INDEX"
    constraints = place / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
    done = run([*pip, "-c", str(constraints), "-e", ".[dev]"])
    (place / "install.log").write_text(done.stdout)
    return f"not installed: {place / 'install.log'}" if done.returncode else ""


def test(place: Path, namespace: str) -> tuple[str, bool]:
    """What pytest counts in an environment, and whether all is well."""
    python = str(place / "bin" / "python")
    if namespace == "pytorch_lightning":
        run([python, "-m", "pip", "uninstall", "--yes", "lightning"])
    folder = str(ROOT / "tests" / "helpers" / "lightning_namespace") if namespace == "lightning" else ""
    tests = [f"tests/{one}" for one in TESTS[namespace]]
    done = run([python, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", *sys.argv[1:], *tests], PYTHONPATH=folder)
    (place / f"{namespace}.log").write_text(done.stdout)
    print(*(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), sep="\n")
    return done.stdout.splitlines()[-1].strip("= "), done.returncode == 0


def main() -> int:
    """Run all, and print one table."""
    rows, well = [("Python", "dependencies", "namespace", "outcome")], True
    for version in PYTHONS:
        python = interpreter(version)
        if python is None:
            rows.append((version, "all", "both", "left out: no such Python on the PATH"))
            continue
        for name, versions in pins().items():
            place = PLACE / f"{version}-{name.replace(' ', '-')}"
            if left_out := install(python, place, versions):
                rows.append((version, name, "both", f"left out: {left_out}"))
                continue
            for namespace in TESTS:
                outcome, passed = test(place, namespace)
                rows.append((version, name, namespace, outcome))
                well = well and passed
    for row in rows:
        print("{:7} {:17} {:18} {}".format(*row))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

"""The tests that face Lightning, with each Python, both ends of Lightning's range, and both namespaces.

    make test-matrix                    with the CPU build of torch, for each Python for which pip finds one
    TORCH_INDEX=URL make test-matrix    take torch from that package index, say one of CPU builds
    TORCH_BUILD= make test-matrix       take any build of torch: on Linux gigabytes, with CUDA

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
OURS = "callbacks/test_deterministic.py", "callbacks/test_processes.py"  # train a module of mptt.experiments
TESTS = {"lightning": PARTS, "pytorch_lightning": (*PARTS, "experiments/test_cli.py")}


def pins() -> dict[str, dict[str, str]]:
    """Versions by name of the package, for each environment."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    newest = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lowest = dict(match.groups() for one in needed if (match := re.match(r"([\w-]+)[^>]*>=([\d.]+)", one)))
    return {
        "newest": newest,
        "lowest Lightning": {name: one for name, one in newest.items() if name not in BOUNDED}
        | {name: lowest[name] for name in LIGHTNINGS},
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


def install(python: str, place: Path, versions: dict[str, str]) -> tuple[str, bool]:
    """Make an environment; why there is none, or nothing, and whether all is well."""
    if not (place / "bin" / "python").exists():
        run([python, "-m", "venv", str(place)])
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    index, build = os.environ.get("TORCH_INDEX"), os.environ.get("TORCH_BUILD", "+cpu")
    torch = versions["torch"] + ("" if index or sys.platform != "linux" else build)
    done = run([*pip, "--only-binary=:all:", *(["--index-url", index] if index else []), f"torch=={torch}"])
    if done.returncode:
        return f"left out: no torch {torch}; TORCH_INDEX=URL or TORCH_BUILD= find others", True
    constraints = place / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
    done = run([*pip, "-c", str(constraints), "-e", ".[dev]"])
    (place / "install.log").write_text(done.stdout)
    return (f"not installed: {place / 'install.log'}", False) if done.returncode else ("", True)


def test(place: Path, namespace: str) -> tuple[str, bool]:
    """What pytest counts in an environment, and whether all is well."""
    python = str(place / "bin" / "python")
    if namespace == "pytorch_lightning":
        run([python, "-m", "pip", "uninstall", "--yes", "lightning"])
    folder = str(ROOT / "tests" / "helpers" / "lightning_namespace") if namespace == "lightning" else ""
    tests = [f"tests/{one}" for one in TESTS[namespace]]
    tests += [f"--ignore=tests/{one}" for one in OURS if namespace == "lightning"]
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
            why, well_here = install(python, place, versions)
            if why:
                rows.append((version, name, "both", why))
                well = well and well_here
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

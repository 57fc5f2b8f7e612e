"""The packaged configurations: `NAME.yaml` in this folder, its first comment line says what it is."""

from __future__ import annotations

import difflib
from pathlib import Path

from mptt.errors import MPTTError

FOLDER = Path(__file__).parent.resolve()


def config_names() -> list[str]:
    """The packaged names, such as "simulated/sw"."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find_config(name_or_path: str) -> Path:
    """The file of a packaged name, or the path itself.

    Raises:
        MPTTError: neither; says what there is.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if name_or_path in config_names():
        return FOLDER / f"{name_or_path}.yaml"
    near = difflib.get_close_matches(name_or_path, config_names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise MPTTError(
        f"There is no file {name_or_path} in {Path.cwd()} and no packaged configuration of that name.{hint}"
        f" Packaged are {', '.join(config_names())}."
    )


def config_label(path: Path) -> str:
    """What a run of a configuration is called: the packaged name, or the file's name without its ending."""
    inside = path.resolve().is_relative_to(FOLDER)
    return path.resolve().relative_to(FOLDER).with_suffix("").as_posix() if inside else path.stem


def list_configs() -> str:
    """A line for each packaged configuration."""
    width = max(map(len, config_names()))
    return "\n".join(f"{name:<{width}}  {_first_line(FOLDER / f'{name}.yaml')}" for name in config_names())


def _first_line(path: Path) -> str:
    return path.read_text().partition("\n")[0].lstrip("# ")

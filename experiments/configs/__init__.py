"""The packaged configurations: `NAME.yaml` in this folder, its first comment line says what it is; how two differ."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mptt.errors import MPTTError

FOLDER = Path(__file__).parent.resolve()
_MOST_VALUES = 100_000


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


def read_config(path: Path) -> dict[str, Any]:
    """A configuration as it is written: plain values; tags of YAML that would make Python objects are refused.

    Raises:
        MPTTError: no file, no text, no YAML, a name twice, no mapping, or one that unfolds to more than a
            configuration can be.
    """
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _EachOnce)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise MPTTError(f"{path} cannot be read as a configuration, which is YAML of plain values ({said}).") from error
    if not isinstance(config, dict):
        raise MPTTError(
            f"{path} is no configuration, which is a mapping of names to settings; it holds"
            f" {'nothing' if config is None else type(config).__name__}."
        )
    for section in ("trainer", "compare"):
        if not isinstance(value := config.get(section), dict | None):
            raise MPTTError(f"{path}: {section} is a mapping of names to settings; found {value!r:.100}.")
    if next(itertools.islice(_unfolded(config), _MOST_VALUES, None), None) is not None:
        raise MPTTError(
            f"{path} is no configuration: its aliases (*name) unfold to more than {_MOST_VALUES} values, or one holds"
            " itself. Write out what they stand for."
        )
    return config


def config_label(path: Path) -> str:
    """What a run of a configuration is called: the packaged name, or the file's name without its ending."""
    inside = path.resolve().is_relative_to(FOLDER)
    return path.resolve().relative_to(FOLDER).with_suffix("").as_posix() if inside else path.stem


def list_configs() -> str:
    """A line for each packaged configuration."""
    width = max(map(len, config_names()))
    return "\n".join(f"{name:<{width}}  {_first_line(FOLDER / f'{name}.yaml')}" for name in config_names())


def flat(settings: Mapping[str, Any], prefix: str = "", without: Sequence[str] = ()) -> dict[str, Any]:
    """Settings by dotted names, such as data.init_args.window; some sections left out."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if f"{prefix}{key}" not in without:
            found |= flat(value, f"{prefix}{key}.", without) if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def differences(there: Mapping[str, Any], here: Mapping[str, Any], most: int = 5) -> str:
    """What is different between two configurations by dotted names, in words; empty where nothing is."""
    differs = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    more = f" and {len(differs) - most} more" if len(differs) > most else ""
    return ", ".join(f"{key} ({there.get(key)}, now {here.get(key)})" for key in differs[:most]) + more


class _EachOnce(yaml.SafeLoader):
    """Plain values; of a name that stands twice YAML would silently take the second."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _unfolded(config: Any) -> Iterator[type]:
    """The kinds of all values, those in an alias each time that it stands."""
    left = [iter([config])]
    while left:
        for value in left[-1]:
            yield type(value)
            if isinstance(value, dict | list):
                left.append(iter(value.values() if isinstance(value, dict) else value))
                break
        else:
            left.pop()


def _first_line(path: Path) -> str:
    return path.read_text().partition("\n")[0].lstrip("# ")

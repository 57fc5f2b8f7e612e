"""Configurations that are no such thing: refused in a line, in a moment; nothing in them is called."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mptt import MPTTError
from mptt.experiments import cli
from mptt.experiments.configs import config_names, find_config, read_config
from mptt.experiments.strategies import find_strategy

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
MADE = {"args": ["touch", "made"]}
CLASSES = [
    *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "os.mkdir", "no.Such", "Regressor", "", "."),
    *(
        "torch.load",
        "pathlib.Path.touch",
        "importlib.import_module",
        "a b",
        "x\0y",
        "pytorch_lightning.callbacks.None_",
    ),
]


@pytest.fixture(autouse=True)
def _parsed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.MPTTCLI, "_run_subcommand", lambda *_: None)


def outcome(text: str | bytes, *words: str) -> str | int | None:
    """What the program says of a configuration and exits with; None where it is taken."""
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    code: str | int | None = None
    try:
        cli.main(["fit", "--config", "quickstart", "--config", "bad.yaml", *words])
    except SystemExit as stop:
        code = stop.code or "as if all were well"
    assert code != "as if all were well"
    assert sorted(path.name for path in Path().iterdir()) == ["bad.yaml"], "nothing made"
    return code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "unfold to more than 100000 values"),
        (f"trainer:\n  {LAUGHS.replace(chr(10), chr(10) + '  ')}", "unfold to more than 100000 values"),
        ("data: &a {init_args: *a}\n", "holds itself"),
        ("data:\n\tclass_path: x\n", "plain values"),
        ("strategy: RMB-IIF\nstrategy: MPTT-delta0\n", "strategy stands twice"),
        ("data: {init_args: {years: 3, years: 4}}\n", "years stands twice"),
        ("trainer: 5\n", "trainer is a mapping"),
        ("compare: [a]\n", "compare is a mapping"),
        ("strategy: '.'\n", "There is no strategy"),
        ("strategy: ..x\n", "There is no strategy"),
        ("strategy: os.system\n", "is no Strategy"),
        ("seed_everything: -1\n", "from 0 to 4294967295"),
        ("seed_everything: 99999999999999999999\n", "from 0 to 4294967295"),
        (f"trainer: {{max_epochs: {'9' * 5000}}}\n", "plain values"),
        ("x: !!python/object/apply:os.mkdir [made]\n", "plain values"),
        ("x: !!python/object/new:os.system [touch made]\n", "plain values"),
        (b"strategy: \xff\xfe\n", "plain values"),
        (b"\x00\x01\x02", "plain values"),
    ],
)
def test_a_bad_configuration_is_refused_in_a_line(text: str | bytes, said: str) -> None:
    code = outcome(text)
    assert isinstance(code, str)
    assert said in code


@pytest.mark.parametrize("where", ["data", "model", "callbacks", "logger", "plugins", "strategy", "profiler"])
@pytest.mark.filterwarnings("ignore:.*is not allowed, denied")
@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.eval", "no.Such"])
def test_a_class_of_another_kind_is_not_called(where: str, name: str) -> None:
    one: Any = {"class_path": name, "init_args": MADE}
    placed = {where: one} if where in ("data", "model") else {"trainer": {where: [one] if where != "strategy" else one}}
    assert outcome(yaml.safe_dump(placed)) == 2


def test_what_stands_once_and_aliases_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    assert read_config(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    for name in config_names():
        assert read_config(find_config(name))


KEYS = ["data", "model", "trainer", "strategy", "inference", "seed_everything", "run_dir", "ckpt_path", "compare"]
INNER = ["class_path", "init_args", "callbacks", "logger", "years", "window", "split", "max_epochs", "hidden_size"]
plain = st.one_of(
    *(st.none(), st.booleans(), st.floats(), st.dates(), st.binary(max_size=6), st.sampled_from(CLASSES)),
    *(st.integers(-(10**30), 10**30), st.text(string.printable, max_size=9), st.text(max_size=4)),
)
trees = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER) | plain, inner, max_size=4),
    max_leaves=12,
)
configs = st.dictionaries(st.sampled_from(KEYS), trees, min_size=1, max_size=3).map(
    lambda tree: yaml.safe_dump(tree, allow_unicode=True)
)
OFTEN = {"deadline": 20_000, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=10, derandomize=True, **OFTEN)
@given(text=configs)
def test_a_tree_of_wrong_values_is_taken_or_refused(text: str) -> None:
    outcome(text, "--trainer.fast_dev_run", "true", "--run_dir", "run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=1000, derandomize=True, **OFTEN)
@given(text=configs)
def test_many_trees_of_wrong_values_are_taken_or_refused(text: str) -> None:
    outcome(text, "--trainer.fast_dev_run", "true", "--run_dir", "run")


@settings(max_examples=300, derandomize=True, **OFTEN)
@given(content=st.binary(max_size=60) | st.text("&*!<>{}[]:-? \n\tab1'\"#|%@`", max_size=40).map(str.encode))
def test_bytes_are_a_configuration_or_refused(content: bytes) -> None:
    Path("bad.yaml").write_bytes(content)
    try:
        taken = read_config(Path("bad.yaml"))
    except MPTTError:
        return
    assert isinstance(taken, dict)


@settings(max_examples=200, derandomize=True, **OFTEN)
@given(name=st.text(max_size=12) | st.text("ox.-M ", max_size=6))
def test_a_name_of_no_strategy_is_refused(name: str) -> None:
    with pytest.raises(MPTTError):
        find_strategy(name)

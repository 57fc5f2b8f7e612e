"""The benchmark as a command: sections, one after another, each written as soon as it is measured."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from mptt.experiments.bench.closed_loop import closed_loop
from mptt.experiments.bench.common import Figure, Settings, quiet
from mptt.experiments.bench.cost import cost
from mptt.experiments.bench.data import data
from mptt.experiments.bench.drawing import draw
from mptt.experiments.bench.epochs import epochs
from mptt.experiments.bench.evaluation import evaluation
from mptt.experiments.bench.fast_gru import fast_gru
from mptt.experiments.bench.fit import fit
from mptt.experiments.bench.memory import memory
from mptt.experiments.bench.processes import processes
from mptt.experiments.bench.report import Measured, about_machine, table_of, write_json
from mptt.experiments.bench.scale import scale
from mptt.experiments.bench.set_up import set_up
from mptt.experiments.bench.step import step
from mptt.experiments.bench.ways import ways
from mptt.experiments.figures.common import save

Section = Callable[[Settings], list[Figure]]

# In the order in which they run. A new one is a function here, and where it has curves a panel in `drawing.PANELS`.
SECTIONS: dict[str, Section] = {
    "epochs": epochs,
    "evaluation": evaluation,
    "ways": ways,
    "step": step,
    "fast_gru": fast_gru,
    "fit": fit,
    "cost": cost,
    "memory": memory,
    "scale": scale,
    "processes": processes,
    "closed_loop": closed_loop,
    "set_up": set_up,
    "data": data,
}
REPEATS, QUICK_REPEATS = 15, 2


def main(words: Sequence[str] | None = None, sections: Mapping[str, Section] = SECTIONS) -> int:
    """Measure, print a table, write JSON and a figure.

    Args:
        words: of the command line.
        sections: to choose from.

    Returns:
        The exit code: 0, with `--strict` 1 where a target was missed.
    """
    asked = _parser(sections).parse_args(words)
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    names = [name for name in sections if name in (asked.only or sections)]
    repeats = asked.repeats or (QUICK_REPEATS if asked.quick else REPEATS)
    console, out = Console(), Path(asked.out)
    machine = about_machine() | {"quick": asked.quick, "repeats": repeats}
    measured: dict[str, Measured] = {}
    try:
        for nth, name in enumerate(names, 1):
            measured[name] = _measure(sections[name], f"{name} ({nth} of {len(names)})", console, repeats, asked.quick)
            # After each, so that an interrupted run keeps what it has.
            write_json(out, machine, measured)
    finally:
        if measured:
            console.print(table_of(machine, measured))
            _draw(out, measured, console)
    missed = [one.what for section in measured.values() for one in section.figures if one.met is False]
    if missed:
        console.print(f"Targets missed: {len(missed)}. Other work on the machine can do that.")
    return 1 if asked.strict and missed else 0


def _parser(sections: Mapping[str, Section]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m mptt.experiments.bench", description="Measure what things cost.")
    parser.add_argument("--only", nargs="+", choices=list(sections), metavar="NAME", help=f"of {', '.join(sections)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: a look, in two minutes")
    parser.add_argument("--repeats", type=_positive, help=f"of each measurement, by default {REPEATS}")
    parser.add_argument("--threads", type=_positive, help="of torch, by default what torch takes")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a target is missed")
    parser.add_argument("--out", default="runs/bench.json", help="the JSON file; the figure goes beside it")
    return parser


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"a number of 1 or more, found {word!r}")
    return int(word)


def _measure(section: Section, title: str, console: Console, repeats: int, quick: bool) -> Measured:
    begin = time.perf_counter()
    with console.status(title) as status, quiet():
        figures = section(Settings(repeats, quick, lambda text: status.update(f"{title}: {text}")))
    seconds = time.perf_counter() - begin
    console.print(f"{title}: {seconds:.0f} s")
    return Measured(figures, seconds)


def _draw(out: Path, measured: Mapping[str, Measured], console: Console) -> None:
    figure = draw([one for section in measured.values() for one in section.figures])
    console.print(f"{out}" if figure is None else f"{out}, {out.with_suffix('.png')}")
    if figure is not None:
        save(figure, out.with_suffix(""))

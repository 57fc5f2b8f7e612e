"""The grid of a comparison: strategies x seeds x targets x windows or training sizes, each cell a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from mptt.errors import MPTTError
from mptt.experiments.comparison.budget import Budget, refuse_limits
from mptt.experiments.configs import differences, flat, read_config
from mptt.experiments.strategies import STRATEGIES, find_strategy

IDENTITY = "cell.yaml"
_DEFAULT_REFERENCE = "RMB-SSIF"
# Settings that an axis of the grid gives to its runs.
_OF_AXIS = {"targets": ("targets",), "windows": ("window", "stride"), "training_sizes": ("train_steps",)}


@dataclass
class Comparison:
    """The section `compare` of a configuration: what `mptt compare` runs, unless told otherwise.

    Args:
        strategies: names, or import paths of one's own.
        seeds: of weights and shuffling.
        targets: each is trained alone; None: those of the configuration, together.
        windows: window lengths in steps, each with half of it as stride; None: that of the configuration.
        training_sizes: steps of the training part; None: all.
        budget: one of epochs, steps (of the optimizer) and minutes, as {epochs: 25}; None: the configuration's epochs.
        reference: the strategy that the others are compared to; None: RMB-SSIF if it is there, else the first.
        reach: the validation RMSE whose time is taken, a number or one for each target; None: the mean over seeds of
            the reference's best.
        memory: whether to measure what the networks remember, for a section of the report.
    """

    strategies: list[str] = field(default_factory=lambda: list(STRATEGIES))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    targets: list[str] | None = None
    windows: list[int] | None = None
    training_sizes: list[int] | None = None
    budget: dict[str, float] | None = None
    reference: str | None = None
    reach: float | dict[str, float] | None = None
    memory: bool = False

    @property
    def reference_strategy(self) -> str:
        """The strategy that the others are compared to."""
        if self.reference is not None:
            return self.reference
        return _DEFAULT_REFERENCE if _DEFAULT_REFERENCE in self.strategies else self.strategies[0]

    def reach_of(self, target: str) -> float | None:
        """The validation RMSE to reach, if it was given; `target` as it is called in NetCDF, without slashes."""
        if isinstance(self.reach, dict):
            return {name_in_netcdf(name): value for name, value in self.reach.items()}.get(target)
        return self.reach


@dataclass(frozen=True)
class Cell:
    """One run of a comparison, in a run directory of its own.

    Args:
        config: file of the experiment.
        strategy: its name.
        seed: of weights and shuffling.
        budget: how long it trains.
        folder: its run directory.
        settings: words that all cells have.
        target: the only one; None: those of the configuration.
        window: steps in a window, with half of it as stride; None: as the configuration.
        train_steps: steps of the training part; None: as the configuration.
    """

    config: Path
    strategy: str
    seed: int
    budget: Budget
    folder: Path
    settings: tuple[str, ...] = ()
    target: str | None = None
    window: int | None = None
    train_steps: int | None = None

    @property
    def words(self) -> list[str]:
        """The command line that is this run."""
        words = ["fit", "--config", str(self.config), *self.settings]
        if self.target is not None:
            # A name may hold what YAML reads otherwise.
            words += ["--data.targets", yaml.safe_dump([self.target], default_flow_style=True, width=10_000).strip()]
        if self.window is not None:
            words += ["--data.window", str(self.window), "--data.stride", str(max(self.window // 2, 1))]
        if self.train_steps is not None:
            words += ["--data.train_steps", str(self.train_steps)]
        words += ["--strategy", self.strategy, "--seed_everything", str(self.seed)]
        return [*words, *self.budget.words, "--run_dir", str(self.folder)]

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.folder / "scores.csv").exists()

    @property
    def share_done(self) -> float:
        """How much of it is done, 0 to 1."""
        return 1.0 if self.finished else self.budget.share_done(self.folder / "metrics.csv")

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides its result, besides the versions."""
        axes = {"target": self.target, "window": self.window, "train_steps": self.train_steps}
        return {
            # The plan of the comparison is not part of a run.
            **flat(read_config(self.config), without=("compare",)),
            "settings": " ".join(self.settings),
            "strategy": self.strategy,
            "seed": self.seed,
            **self.budget.identity,
            **{name: value for name, value in axes.items() if value is not None},
        }

    def check_folder(self) -> None:
        """See that its folder is free or holds this very run.

        Raises:
            MPTTError: it holds something else; for a run of another configuration, what differs.
        """
        written = self.folder / IDENTITY
        if not written.exists():
            if self.folder.exists() and any(path.suffix != ".partial" for path in self.folder.iterdir()):
                raise MPTTError(f"{self.folder} holds something that is no run of a comparison. Use another --out.")
            return
        there, here = read_config(written), self.identity
        if differs := differences(there, here):
            raise MPTTError(
                f"{self.folder} holds a run of another configuration: {differs}. Use another --out, or remove it."
            )


def read_section(path: Path) -> Comparison:
    """The section `compare` of a configuration.

    Raises:
        MPTTError: it is no mapping, or has a key that is not known.
    """
    asked = read_config(path).get("compare") or {}
    known = [one.name for one in fields(Comparison)]
    if not isinstance(asked, dict) or set(asked) - set(known):
        raise MPTTError(f"The section `compare` of {path} has {', '.join(known)}; found {asked}.")
    if not isinstance(asked.get("budget", {}), dict):
        raise MPTTError(f"The budget in {path} is written like {{epochs: 25}}; found {asked['budget']!r}.")
    return Comparison(**asked)


def check_plan(plan: Comparison, settings: Sequence[str] = ()) -> None:
    """Refuse a plan that makes no comparison.

    Args:
        plan: what to run.
        settings: words for every run.

    Raises:
        MPTTError: a list that is empty, has something twice or of the wrong kind, an unknown strategy, windows together
            with training sizes, a reference or a target to reach that is not there, settings that an axis gives.
    """
    _check_list("strategies", plan.strategies, str, "names")
    _check_list("seeds", plan.seeds, int, "whole numbers, 0 or more", 0)
    for axis, kind, what in (
        ("targets", str, "names"),
        ("windows", int, "whole numbers, 1 or more"),
        ("training_sizes", int, "whole numbers, 1 or more"),
    ):
        if getattr(plan, axis) is not None:
            _check_list(axis, getattr(plan, axis), kind, what)
    if plan.windows is not None and plan.training_sizes is not None:
        raise MPTTError(
            "windows and training_sizes are not given together: a run would differ from another in two ways at once."
            " Make two comparisons of it, each with an --out of its own."
        )
    for name in plan.strategies:
        find_strategy(name)
    if plan.reference_strategy not in plan.strategies:
        raise MPTTError(
            f"The reference {plan.reference!r} is not among the strategies that are run: {', '.join(plan.strategies)}."
        )
    _check_reach(plan)
    if not isinstance(plan.memory, bool):
        raise MPTTError(f"memory is true or false; found {plan.memory!r}.")
    refuse_limits(settings)
    for axis, names in _OF_AXIS.items():
        for word in settings:
            name = word.partition("=")[0].rstrip("+").removeprefix("--data.").removeprefix("init_args.")
            if word.startswith("--data.") and name in names and getattr(plan, axis) is not None:
                raise MPTTError(f"--data.{name} is given by the {axis} of the comparison; give one of the two.")


def cells_of(plan: Comparison, budget: Budget, config: Path, folder: Path, settings: Sequence[str] = ()) -> list[Cell]:
    """The runs of a plan, all of a seed before the next seed.

    Args:
        plan: as checked.
        budget: of each run.
        config: file of the experiment.
        folder: of the comparison; a level of folders for each axis that is in the plan, then STRATEGY-seedN.
        settings: words for every run.

    Raises:
        MPTTError: two of them would share a folder.
    """
    targets: list[str | None] = [None] if plan.targets is None else [*plan.targets]
    sizes: list[tuple[str, int | None]] = [
        *(("window", size) for size in plan.windows or ()),
        *(("steps", size) for size in plan.training_sizes or ()),
    ]
    cells = []
    for seed, target, (axis, size), name in product(plan.seeds, targets, sizes or [("", None)], plan.strategies):
        levels = [*([file_name(target)] if target is not None else ()), *([f"{axis}{size}"] if axis else ())]
        cells.append(
            Cell(
                config=config,
                strategy=name,
                seed=seed,
                budget=budget,
                folder=folder.joinpath(*levels, f"{_strategy_folder(name)}-seed{seed}"),
                settings=tuple(settings),
                target=target,
                window=size if axis == "window" else None,
                train_steps=size if axis == "steps" else None,
            )
        )
    shared = [str(place) for place, count in Counter(cell.folder for cell in cells).items() if count > 1]
    if shared:
        raise MPTTError(
            f"Two runs would share the folder {shared[0]}: names differ only in signs that no file can have."
        )
    return cells


def file_name(name: str) -> str:
    """A target's name as a file can have it."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def name_in_netcdf(name: str) -> str:
    """A target's name as predictions and scores have it: NetCDF keeps the slash for groups."""
    return name.replace("/", "_per_")


def _strategy_folder(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name)


def _check_list(name: str, values: Any, kind: type, what: str, least: int = 1) -> None:
    # True is an int, and no number of steps.
    if not isinstance(values, list) or any(
        type(value) is not kind or (isinstance(value, int) and value < least) for value in values
    ):
        raise MPTTError(f"The {name} of a comparison are a list of {what}; found {values!r}.")
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice or not values:
        more = f", with {' and '.join(twice)} more than once" if twice else ""
        raise MPTTError(f"The {name} of a comparison are given once each, and at least one; found {values}{more}.")


def _check_reach(plan: Comparison) -> None:
    values = plan.reach if isinstance(plan.reach, dict) else {} if plan.reach is None else {"": plan.reach}
    for value in values.values():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise MPTTError(f"reach is a validation RMSE over 0, or one for each target; found {plan.reach!r}.")
    unknown = sorted(set(values) - set(plan.targets)) if isinstance(plan.reach, dict) and plan.targets else []
    if unknown:
        raise MPTTError(f"reach has {', '.join(unknown)}, and the targets are {', '.join(plan.targets or ())}.")

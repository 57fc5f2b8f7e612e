"""The equal budget of a comparison: epochs, optimizer steps or minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mptt.errors import MPTTError
from mptt.experiments.predictions import read_table

UNITS = ("epochs", "steps", "minutes")
_LIMITS = ("max_epochs", "max_steps", "max_time")


@dataclass(frozen=True)
class Budget:
    """What every run of a comparison may use: as many epochs, optimizer steps, or minutes of training and validation.

    Args:
        unit: "epochs", "steps" or "minutes".
        amount: of those; whole but for minutes.

    Raises:
        MPTTError: another unit, or an amount that makes no run.

    Example:
        >>> Budget("minutes", 90).words
        ['--trainer.max_epochs', '-1', '--trainer.max_time', '00:01:30:00']
        >>> print(Budget("steps", 500))
        500 optimizer steps
    """

    unit: str
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise MPTTError(f"The budget is one of {', '.join(UNITS)}; found {self.unit!r}.")
        number = isinstance(self.amount, int | float) and not isinstance(self.amount, bool)
        if not number or (self.unit != "minutes" and not (self.amount >= 1 and self.amount == int(self.amount))):
            raise MPTTError(f"{self.unit} are a whole number, 1 or more, found {self.amount!r}.")
        if self._seconds < 1:
            raise MPTTError(f"minutes are 1/60 or more, found {self.amount!r}.")

    @property
    def words(self) -> list[str]:
        """The settings of `mptt fit` that it is."""
        if self.unit == "epochs":
            return ["--trainer.max_epochs", str(int(self.amount))]
        endless = ["--trainer.max_epochs", "-1"]
        if self.unit == "steps":
            return [*endless, "--trainer.callbacks+=StepLimit", "--trainer.callbacks.steps", str(int(self.amount))]
        minutes, seconds = divmod(self._seconds, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        return [*endless, "--trainer.max_time", f"{days:02}:{hours:02}:{minutes:02}:{seconds:02}"]

    @property
    def identity(self) -> dict[str, float]:
        """The unit and the amount."""
        return {self.unit: self.amount}

    def share_done(self, metrics: Path) -> float:
        """How much of it a run has used, 0 to 1.

        Args:
            metrics: the run's `metrics.csv`, which need not be there yet.
        """
        if not metrics.exists():
            return 0.0
        table = read_table(metrics, [])
        if table.empty:
            return 0.0
        if self.unit == "epochs":
            used: float = len(table)
        elif self.unit == "steps":
            used = table["step"].iloc[-1]
        else:
            used = table["epoch_seconds"].sum() / 60
        return min(used / self.amount, 1.0)

    def __str__(self) -> str:
        amount = f"{self.amount:g}"
        what = {"epochs": "epoch", "steps": "optimizer step", "minutes": "minute"}[self.unit]
        return f"{amount} {what}" + ("s" if amount != "1" else "")

    @property
    def _seconds(self) -> int:
        return round(self.amount * 60)


def find_budget(
    options: Mapping[str, float | None], section: Mapping[str, float] | None, trainer: Mapping[str, Any], path: Path
) -> Budget:
    """The budget that was asked for: by options, else by the section `compare`, else the epochs of the configuration.

    Args:
        options: `epochs`, `steps`, `minutes`; those not given None.
        section: `budget` of the section `compare`.
        trainer: the configuration's section `trainer`.
        path: of the configuration.

    Raises:
        MPTTError: several at once, an unknown one, or a limit of the trainer that would end runs at other budgets.
    """
    limits = [name for name in _LIMITS[1:] if trainer.get(name) not in (None, -1)]
    if limits:
        raise MPTTError(
            f"The trainer of {path} has {' and '.join(limits)}, which would end runs before their budget. Write it as"
            " `budget: {steps: N}` or `budget: {minutes: X}` in the section `compare`."
        )
    given = {name: amount for name, amount in options.items() if amount is not None}
    asked = given or (section if section is not None else {"epochs": trainer.get("max_epochs") or 100})
    if len(asked) != 1:
        found = ", ".join(f"{name} {amount}" for name, amount in asked.items()) or "none"
        raise MPTTError(f"The budget is exactly one of {', '.join(UNITS)}; found {found}.")
    return Budget(*next(iter(asked.items())))


def refuse_limits(settings: Sequence[str]) -> None:
    """Refuse settings of the runs that would be budgets of their own.

    Raises:
        MPTTError: there is one.
    """
    for word in settings:
        name = word.removeprefix("--trainer.").partition("=")[0]
        if name in _LIMITS:
            raise MPTTError(f"The budget of a comparison is --epochs, --steps or --minutes, not --trainer.{name}.")

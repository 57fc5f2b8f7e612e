"""What the data commands show: progress while they read, and tables of what they found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from mptt.datamodules.preparing.checks import listed
from mptt.experiments.data.survey import Survey


class Shown:
    """Progress site by site: what is done, the site, how many, how many a second. None where it goes to a file.

    Args:
        console: that it is shown on.
        quiet: whether to show none.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.off = console, quiet or not console.is_terminal

    def __call__(self, sites: Sequence[str], doing: str) -> Iterable[str]:
        """The sites, one by one."""
        return sites if self.off or not sites else self._watched(sites, doing)

    def _watched(self, sites: Sequence[str], doing: str) -> Iterator[str]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[site]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(doing, total=len(sites), site="", rate="")
            for nth, site in enumerate(sites):
                speed = progress.tasks[0].speed
                rate = f"{speed:.1f} sites/s" if speed else ""
                progress.update(task, completed=nth, site=site, rate=rate)
                yield site
            progress.update(task, completed=len(sites))


class Download:
    """Progress of files that come in. None where it goes to a file.

    Args:
        console: that it is shown on.
        quiet: whether to show none.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        off = quiet or not console.is_terminal
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=off)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Download:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, done: int, size: int | None) -> None:
        """Show how many bytes of a file there are."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=size)
        self._progress.update(self._tasks[name], completed=done)


ATTRIBUTES = 20  # shown; Caravan has hundreds


def show(survey: Survey, console: Console) -> None:
    """Print what a data set holds."""
    source, index = survey.source, survey.axis.index
    lengths = [last - first + 1 for first, last in survey.spans.values()]
    common = max(first for first, _ in survey.spans.values()), min(last for _, last in survey.spans.values())
    facts = {
        "what": source.kind + (f": {source.about['title']}" if source.about.get("title") else ""),
        "where": str(source.path),
        "sites": f"{len(source.sites)}: {listed(source.sites, 6)}",
        "period": f"{_day(index[0])} to {_day(index[-1])}, {len(index)} steps",
        "of a site": f"{min(lengths)} to {max(lengths)} steps (median {int(np.median(lengths))})",
        "of all sites": (
            f"{_day(index[common[0]])} to {_day(index[common[1]])}" if common[0] <= common[1] else "no step in common"
        ),
        "step": _step(survey),
        "calendar": str(getattr(index, "calendar", "proleptic_gregorian")),
        "licence": source.about.get("license", "not stated"),
        "cite": source.about.get("references", "not stated"),
    }
    without = [site for site in source.sites if site not in survey.spans]
    if without:
        facts["without values"] = f"{len(without)}: {listed(without)}"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        table.add_row(Text(name, style="bold"), Text(fact))
    console.print(table)
    console.print(_variables(survey))
    if len(source.attributes.data_vars):
        console.print(_attributes(survey))


def _variables(survey: Survey) -> Table:
    table = Table(title="\nVariables on (site, time)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("variable", overflow="fold")
    table.add_column("units", overflow="fold")
    for name in ("missing", "sites\nlacking", "worst site", "least", "mean", "greatest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what")
    shares = survey.missing()
    steps = np.array([last - first + 1 for first, last in (survey.spans.get(site, (0, 0)) for site in shares.index)])
    for one in survey.variables:
        share = shares[one.name]
        affected = int((share > 0).sum())
        count = sum(one.count.values())
        table.add_row(
            *map(Text, (one.name, one.units)),
            _percent(float(np.average(share, weights=steps))),
            str(affected),
            Text(f"{share.idxmax()} ({_percent(share.max())})" if affected else ""),
            *(_number(value) if count else "" for value in (one.low, one.total / max(count, 1), one.high)),
            Text(one.long_name),
        )
    return table


def _attributes(survey: Survey) -> Table:
    table = Table(title="Attributes on (site,)", title_justify="left", box=SIMPLE_HEAD)
    for column in ("attribute", "units", "values", "missing at", "what"):
        table.add_column(column, overflow="fold")
    attributes = survey.source.attributes
    for name, values in list(attributes.data_vars.items())[:ATTRIBUTES]:
        numbers = values.dtype.kind in "fiub"
        known = values.values[~pd.isna(values.values) if numbers else values.values.astype(object) != ""]
        if not len(known):
            what = ""
        elif numbers:
            what = f"{_number(known.min())} to {_number(known.max())}"
        else:
            what = f"text: {listed(sorted({str(one) for one in known}), 3)}"
        lacking = values.sizes["site"] - len(known)
        units, meaning = (str(values.attrs.get(word, "")) for word in ("units", "long_name"))
        table.add_row(*map(Text, (str(name), units, what, f"{lacking} site(s)" if lacking else "", meaning)))
    if (more := len(attributes.data_vars) - ATTRIBUTES) > 0:
        table.add_row(Text(f"and {more} more, in attributes.csv", style="italic"))
    return table


def _step(survey: Survey) -> str:
    step = survey.axis.step
    if survey.axis.monthly:
        return "a month" if step == 1 else f"{step} months"
    return str(pd.Timedelta(step, "us"))


def _day(date: object) -> str:
    return str(date).removesuffix(" 00:00:00")


def _percent(share: float) -> str:
    return "0 %" if share == 0 else f"{max(100 * share, 0.01):.2f} %"


def _number(value: float) -> str:
    return f"{value:.4g}"

"""What the networks of a comparison remember: horizons, measured once for each run, as a section of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import xarray as xr
from rich.console import Console
from rich.progress import track

from mptt.analysis.horizon import band
from mptt.errors import MPTTError
from mptt.experiments.comparison.grid import Cell, file_name
from mptt.experiments.comparison.residuals import data_settings
from mptt.experiments.comparison.results import AXES, Group
from mptt.experiments.comparison.running import cause_of
from mptt.experiments.figures.common import save
from mptt.experiments.figures.horizon import fading
from mptt.experiments.memory.horizon import horizon
from mptt.experiments.memory.remembered import horizon_table, targets_of, unit_table
from mptt.experiments.memory.runs import open_run
from mptt.experiments.memory.truth import true_horizon
from mptt.experiments.report import Section
from mptt.files import write_atomically, written_whole
from mptt.hdf5 import check_hdf5, know_hdf5

TRUTH = "the store itself"
_TRUE = "true_"
_BAND = ["q10", "median", "q90"]
_HOW = (
    "Each network ran from its true state and from zeros through the same inputs, from many dates of the test part; its"
    " state was carried, also where a strategy's own inference begins anew. The 5 % horizon is the number of steps"
    " after which the two predictions stay closer than 5 % of the target's standard deviation. The slowest units are a"
    " tenth of all: their difference takes the half-life of the table, or longer, to become half."
)
_CAPTION = "{}. How long a wrong initial state matters: median [10 to 90 %] over the dates and the runs of a strategy."
_FADING = "{}. How a wrong initial state fades: medians, and bands from 10 to 90 %."
_OF_COMMANDS = {
    "units": "what each unit by itself answers, to the input that moves it most",
    "unit_ablation_*": "its score without some of its units",
    "steps": "how much each step of the past counts",
}


def remembered(groups: Sequence[Group], folder: Path, console: Console) -> Section:
    """Measure what was not measured yet; `memory.csv`, a figure for each group, and the section of the report.

    Args:
        groups: what the tables of the comparison compare.
        folder: of the comparison; figures go into the folders of the groups.
        console: shows how far it is.
    """
    cells = list(dict.fromkeys(cell for group in groups for cell in group.cells))
    causes = {}
    for cell in track(cells, "what the networks remember", console=console, transient=True):
        if not _is_kept(cell.folder) and (cause := cause_of(partial(measure, cell.folder), cell.folder)):
            causes[cell] = cause
    text, tables, figures, rows = [], [], [], []
    for group in groups:
        runs = {
            name: [kept(cell.folder, group.target) for cell in own if cell not in causes]
            for name, own in group.by_strategy().items()
        }
        if not (runs := {name: own for name, own in runs.items() if own}):
            continue
        found = {name: pooled([one for one, _ in own]) for name, own in runs.items()}
        if (true := next(iter(runs.values()))[0][1]) is not None:
            found[TRUTH] = true
        horizons = {name: horizon_table(one) for name, one in found.items()}
        units = {name: [unit_table(one) for one, _ in own] for name, own in runs.items()}
        about = {name: group.results[name].iloc[0] for name in AXES}
        rows += [table.assign(**about, strategy=name) for name, table in horizons.items()]
        text.append(_said(group, found, horizons))
        tables.append((_CAPTION.format(group.label), _table(group.target, found, horizons, units)))
        stem = group.folder / f"memory_{file_name(group.target)}"
        save(fading(found), stem)
        figures.append((_FADING.format(group.label), stem.with_name(f"{stem.name}.png")))
    if rows:
        whole, first = pd.concat(rows, ignore_index=True), [*AXES, "strategy"]
        write_atomically(folder / "memory.csv", whole[[*first, *whole.columns.drop(first)]].to_csv(index=False))
    for cause in dict.fromkeys(causes.values()):
        names = [str(cell.folder.relative_to(folder)) for cell, of in causes.items() if of == cause]
        text.append(f"Not measured: {', '.join(names)}. {cause}")
    return Section(
        "What the networks remember", [_HOW, *text] if tables else text, tables, [*figures, *_left_by_commands(cells)]
    )


def measure(folder: Path) -> None:
    """Measure the horizon of the best epoch of a run, and the true one of a simulation, into RUN/memory/horizon.nc.

    Raises:
        MPTTError: what a network feeds back to itself is memory beside its state; what `open_run` and `horizon` raise.
    """
    if data_settings(folder).get("lagged_target", "none") != "none":
        raise MPTTError(
            "It reads targets of before, in inference its own predictions: what it remembers is not in its state alone."
        )
    run = open_run(folder)
    found = horizon(run)
    true = true_horizon(run, found)
    # Dates may be of any calendar, and are in `begin` already.
    found = found.drop_vars("date")
    if true is not None:
        found = found.assign({f"{_TRUE}{name}": true[name] for name in true if str(name).endswith("_distance")})
        found.attrs["true_compared"] = true.attrs["compared"]
    # NetCDF keeps the slash for groups.
    found = found.rename({name: str(name).replace("/", "_per_") for name in found.data_vars})
    with written_whole(_path(folder)) as draft:
        numbers = [str(name) for name, values in found.items() if values.dtype.kind in "fi"]
        found.to_netcdf(draft, encoding={name: {"zlib": True, "complevel": 4} for name in numbers})
    know_hdf5(_path(folder))


def kept(folder: Path, target: str) -> tuple[xr.Dataset, xr.Dataset | None]:
    """The measured horizon of a run, of one target, and the true one, None where there is none.

    Args:
        folder: of the run.
        target: as in `predictions.nc`.

    Returns:
        As of `horizon` and `true_horizon`, without dates.
    """
    check_hdf5(_path(folder))
    whole = xr.load_dataset(_path(folder))
    others = [name for name in targets_of(whole) if name != target]
    whole = whole.drop_vars([f"{name}_{what}" for name in others for what in ("distance", "spread")])
    truths = [name for name in whole if str(name).startswith(_TRUE)]
    found, true = whole.drop_vars(truths), f"{_TRUE}{target}_distance"
    if true not in whole:
        return found, None
    without = found.drop_vars(["state_distance", "unit_distance"])
    store = without.assign({f"{target}_distance": whole[true]})
    return found, store.assign_attrs(compared=whole.attrs["true_compared"])


def pooled(found: Sequence[xr.Dataset]) -> xr.Dataset:
    """Runs of one strategy as one: the starts of all of them side by side, without units, which are each run's own."""
    starts = [one.drop_dims("unit") for one in found]
    spread = [name for name in starts[0] if str(name).endswith("_spread")]
    whole = xr.concat([one.drop_vars(spread) for one in starts], "start", join="exact", combine_attrs="override")
    return whole.assign({name: starts[0][name] for name in spread})


def _path(folder: Path) -> Path:
    return folder / "memory" / "horizon.nc"


def _is_kept(folder: Path) -> bool:
    path, best = _path(folder), folder / "checkpoints" / "best.ckpt"
    return path.exists() and not (best.exists() and best.stat().st_mtime_ns > path.stat().st_mtime_ns)


def _table(
    target: str,
    found: Mapping[str, xr.Dataset],
    horizons: Mapping[str, pd.DataFrame],
    units: Mapping[str, Sequence[pd.DataFrame]],
) -> pd.DataFrame:
    """A row for each strategy, and for the truth."""
    rows = []
    for name, one in found.items():
        unit, steps, runs = one.attrs["step_unit"], int(one.attrs["steps"]), units.get(name, ())
        row: dict[str, object] = {"strategy": name, "runs": len(runs) or None}
        for measured, title in (("horizon_5", "5 % horizon"), ("horizon_1", "1 % horizon")):
            low, middle, high = (_span(_of(horizons[name], target, measured)[of], steps) for of in _BAND)
            row[f"{title} ({unit})"] = f"{middle} [{low}, {high}]"
        row[f"windows ({unit})"] = int(one.attrs["window"]) if runs else None
        slow = _span(float(band(pd.concat(runs)["half_life"])[2]), steps, 1) if runs else None
        rows.append(row | {f"half-life of the slowest units ({unit})": slow})
    return pd.DataFrame(rows).astype({"runs": "Int64", f"windows ({unit})": "Int64"})


def _said(group: Group, found: Mapping[str, xr.Dataset], horizons: Mapping[str, pd.DataFrame]) -> str:
    """How long a wrong initial state matters with each strategy, and what that is beside the windows."""
    attrs = next(iter(found.values())).attrs
    unit, window, steps = attrs["step_unit"], int(attrs["window"]), int(attrs["steps"])
    rows = {name: _of(table, group.target, "horizon_5") for name, table in horizons.items()}
    reach = {name: f"{_span(row['median'], steps)} {unit}".replace(">", "more than") for name, row in rows.items()}
    longest = max(rows, key=lambda name: (rows[name]["median"], rows[name]["window_share"]))
    ends = f"it takes {100 * rows[longest]['window_share']:.0f} % of the steps of windows of {window} from zeros"
    if rows[longest]["median"] >= window:
        ends += ", which are too short to see it end"
    networks = ", ".join(f"{of} with {name}" for name, of in reach.items() if name != TRUTH)
    return (
        f"{group.label}: a wrong initial state matters by more than 5 % of the target's standard deviation for"
        f" {networks}"
        + (f"; in {TRUTH}, for {reach[TRUTH]}" if TRUTH in reach else "")
        + f" (medians). Where that is longest, {'' if longest == TRUTH else 'with '}{longest}, {ends}."
    )


def _of(table: pd.DataFrame, target: str, measured: str) -> pd.Series[float]:
    """The row of a target and a measure, of all sites and seasons together."""
    rows = table[(table["season"] == "all") & (table["of"] == target) & (table["measure"] == measured)]
    return rows[[*_BAND, "window_share"]].iloc[0]


def _span(steps: float, run: int, digits: int = 0) -> str:
    return f"> {run}" if math.isinf(steps) else f"{steps:.{digits}f}"


def _left_by_commands(cells: Sequence[Cell]) -> list[tuple[str, Path]]:
    """Figures that `mptt memory units` and `steps` have left in the folders of runs."""
    return [
        (f"{cell.strategy}, seed {cell.seed}: {what}.", path)
        for cell in cells
        for stem, what in _OF_COMMANDS.items()
        for path in sorted((cell.folder / "memory").glob(f"{stem}.png"))
    ]

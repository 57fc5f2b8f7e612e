"""The memory in the data themselves, which no network is needed for: `mptt memory data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mptt.analysis.autocorrelation import (
    autocorrelation,
    first_under,
    partial_autocorrelation,
    trailing_means,
    unexplained,
    waves,
    white_noise_band,
    without_season,
)
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.preparing.checks import listed
from mptt.errors import MPTTError
from mptt.experiments.cli import MPTTCLI
from mptt.experiments.cli import run as run_words
from mptt.experiments.figures.autocorrelation import memory_of_data
from mptt.experiments.figures.common import save
from mptt.experiments.memory.horizon import unit_of_steps
from mptt.experiments.records import CONFIG
from mptt.files import write_atomically

OF = ("season", "inputs")  # what was taken out of the target
PER_YEAR = {"hours": 8766.0, "days": 365.25, "weeks": 52.18, "months": 12.0}
SPANS = (0.0, 7 / 365.25, 30 / 365.25, 90 / 365.25, 1.0)  # years over which inputs are averaged; first the step itself
YEARS = 3


@dataclass(frozen=True)
class OpenedData:
    """Data of a configuration, set up.

    Attributes:
        name: for titles.
        folder: of the run, which need not be there.
        data: its DataModule.
    """

    name: str
    folder: Path
    data: SeriesDataModule


class _OpeningData(MPTTCLI):
    """Builds all that `mptt test` would, without a checkpoint, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave it at that."""

    def _checkpoint(self, name: str) -> Path:
        """Any: it is not read."""
        return Path(name)


def open_data(run_or_config: str | Path, settings: Sequence[str] = ()) -> OpenedData:
    """Open the data of a run or of a configuration; no checkpoint is needed.

    Args:
        run_or_config: a configuration, the folder of a run, or its config.yaml.
        settings: more words of the command line, such as `--data.root`.

    Raises:
        MPTTError: it is no configuration, or its data cannot be read.
        SystemExit: settings that cannot be parsed.
    """
    path = Path(run_or_config)
    config = path / CONFIG if (path / CONFIG).is_file() else path
    words = ["test", "--config", str(config), "--seed_everything", "false", "--trainer.accelerator", "cpu", *settings]
    cli: Any = run_words(words, _OpeningData)
    if not isinstance(cli.datamodule, SeriesDataModule):
        raise MPTTError(
            f"`mptt memory data` reads the series of a SeriesDataModule, found {type(cli.datamodule).__name__}; use"
            " mptt.analysis.autocorrelation with data of another kind."
        )
    data = cli.datamodule
    data.evaluation = "sequential"
    data.prepare_data()
    data.setup("test")
    return OpenedData(cli.run_dir.resolve().name, cli.run_dir, data)


def data_memory(
    data: SeriesDataModule, part: str = "train", sites: Sequence[str] | None = None, lags: int | None = None
) -> xr.Dataset:
    """How long the targets of each site remember.

    Two series of each: the target without its mean seasonal cycle (four waves of a year), and what a linear model of
    the last year's inputs (of the step, and means over the last 7, 30, 90 and 365 days) leaves of that. What still
    correlates there after a year is memory that no window of a year can see in its inputs; or what the model, being
    linear, misses of them.

    Args:
        data: set up.
        part: "train", "validation" or "test".
        sites: names; all by default. Such as have too few values for a model of the inputs have NaN.
        lags: the largest; by default three years, or a quarter of the longest record.

    Returns:
        `autocorrelation` and `partial` on (target, of, site, lag), `of` being "season" and "inputs"; `values`
        (target, of, site), numbers of values; `explained` (target, site), the share of the anomalies' variance that the
        inputs explain. Attributes: `step_unit`, `of_part`.

    Raises:
        MPTTError: no such part or site; data that are not hourly, daily, weekly or monthly.
    """
    unit = unit_of_steps(data.time)
    if unit not in PER_YEAR:
        raise MPTTError(f"The seasons of a year are known of steps of {', '.join(PER_YEAR)}; found other ones.")
    stretch = data.parts.get(part)
    if stretch is None:
        raise MPTTError(f"There is no part {part!r}; parts are {', '.join(data.parts)}.")
    names = [data.sites[site] for site in stretch.site]
    if sites is not None and (unknown := [name for name in sites if name not in names]):
        raise MPTTError(f"The {part} part has no site {listed(unknown)}; it has {listed(names)}.")
    chosen = {
        int(site): int(begin)
        for site, begin in zip(stretch.site, stretch.begin, strict=True)
        if sites is None or data.sites[site] in sites
    }
    per_year = PER_YEAR[unit]
    lags = min(int(YEARS * per_year), int(stretch.length.max()) // 4) if lags is None else lags
    shape = len(data.targets), len(OF), len(chosen)
    found, values = np.full((2, *shape, lags + 1), np.nan), np.zeros(shape, dtype=np.int64)
    explained = np.full((len(data.targets), len(chosen)), np.nan)
    slots = {site: slot for slot, site in enumerate(chosen)}
    for site, x, y in _whole_series(data, part, slots):
        phase = _phase(data.time[chosen[site] : chosen[site] + len(y)])
        spans = sorted({max(round(years * per_year), 1) for years in SPANS})
        weather = trailing_means(x, spans)
        for nth in range(len(data.targets)):
            if np.isfinite(y[:, nth]).sum() < 2 * per_year:
                continue
            anomaly = without_season(y[:, nth], phase)
            series = [anomaly]
            if np.isfinite(anomaly[spans[-1] :]).sum() > 2 * weather.shape[1]:
                # The season of inputs is none of the anomaly's: both lose it alike.
                series.append(unexplained(anomaly, np.column_stack([weather, waves(phase)])))
                there = np.isfinite(series[1])
                explained[nth, slots[site]] = 1 - series[1][there].var() / anomaly[there].var()
            for which, one in enumerate(series):
                usable = min(lags, len(one) - 1)
                correlation = autocorrelation(one, usable)
                here = nth, which, slots[site]
                found[0][here][: usable + 1] = correlation
                found[1][here][: usable + 1] = partial_autocorrelation(correlation)
                values[here] = np.isfinite(one).sum()
    along = ("target", "of", "site", "lag")
    return xr.Dataset(
        {
            "autocorrelation": (along, found[0]),
            "partial": (along, found[1]),
            "values": (along[:3], values),
            "explained": (("target", "site"), explained),
        },
        {
            "target": list(data.targets),
            "of": list(OF),
            "site": [data.sites[site] for site in chosen],
            "lag": np.arange(lags + 1),
        },
        {"step_unit": unit, "of_part": part, "per_year": per_year},
    )


def data_table(found: xr.Dataset) -> pd.DataFrame:
    """Autocorrelation of each target and site at chosen lags.

    Args:
        found: of `data_memory`.

    Returns:
        A row for each `target`, `site` and `of` what: "season", the target without its cycle; "inputs", what the last
        year's inputs leave of that. `values`; `explained`; `acf_L` and `pacf_L` at lags of a step, a week, a month, a
        season, a year and two; `band`, what 95 % of white noise is within; `e_folding`, the first lag at which the
        autocorrelation is under 1/e, and `below_10`, under 0.1: infinite beyond the lags. `beyond_year`: the share of
        lags of one to two years at which it is over the band of a series that remembers a year and no longer
        (Bartlett's), of which 0.025 would be by chance; NaN of fewer lags.
    """
    per_year, rows = found.attrs["per_year"], []
    at = [lag for lag in sorted({max(round(years * per_year), 1) for years in (*SPANS, 2)}) if lag < found.sizes["lag"]]
    for target in found["target"].values:
        for site in found["site"].values:
            for of in found["of"].values:
                one = found.sel(target=target, site=site, of=of)
                correlation = one["autocorrelation"].values
                if np.isnan(correlation[0]):
                    continue
                row = {"target": target, "site": site, "of": of, "values": int(one["values"])}
                row |= {"explained": float(one["explained"]), "band": white_noise_band(int(one["values"]))}
                row |= {
                    "e_folding": first_under(correlation, float(np.exp(-1))),
                    "below_10": first_under(correlation, 0.1),
                }
                row |= {"beyond_year": _beyond_year(correlation, int(one["values"]), round(per_year))}
                row |= {f"acf_{lag}": correlation[lag] for lag in at}
                rows.append(row | {f"pacf_{lag}": float(one["partial"][lag]) for lag in at})
    return pd.DataFrame(rows)


def _beyond_year(correlation: np.ndarray, values: int, year: int) -> float:
    later = correlation[year : 2 * year + 1]
    if len(later) <= year:
        return np.nan
    # Bartlett's formula: what a series remembers makes its later autocorrelations vary more.
    bound = white_noise_band(values) * np.sqrt(1 + 2 * np.square(correlation[1:year]).sum())
    return float((later > bound).mean())


def say_of_data(found: xr.Dataset) -> str:
    """What the autocorrelation means for windows: a line for each target, medians over sites."""
    table, unit, lines = data_table(found), found.attrs["step_unit"], []
    longest, year = found.sizes["lag"] - 1, found.attrs["per_year"]
    for target, rows in table.groupby("target", sort=False):
        middle = rows.groupby("of")[["e_folding", "below_10", "explained", "beyond_year"]].median().T.to_dict()
        folds, fades = (_span(middle["season"][name], longest) for name in ("e_folding", "below_10"))
        said = (
            f"{target}: without its seasonal cycle it is correlated with itself by more than 1/e for {folds} {unit}, by"
            f" more than 0.1 for {fades}."
        )
        if "inputs" in middle:
            left = middle["inputs"]
            folds, fades = (_span(left[name], longest) for name in ("e_folding", "below_10"))
            said += (
                f" A linear model of the last year's inputs explains {100 * left['explained']:.0f} % of that; what it"
                f" leaves is by more than 1/e for {folds} {unit}, by more than 0.1 for {fades}."
            )
            if left["below_10"] > year:
                said += " That is longer than a year: there is memory that a window of a year does not see."
            elif max(left["beyond_year"], middle["season"]["beyond_year"]) > 0.5:
                said += " A weak memory lasts beyond a year: over chance, at most of the lags of one to two years."
            else:
                said += " Beyond a year there is none that this shows."
        lines.append(said + (f" Medians of {rows['site'].nunique()} sites." if rows["site"].nunique() > 1 else ""))
    return "\n".join(lines) or "No site has two years of values: nothing can be said."


def write_data_memory(folder: Path, found: xr.Dataset) -> Path:
    """Write the table, and the figure of each target, into a folder; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"data_{found.attrs['of_part']}.csv"
    write_atomically(path, data_table(found).to_csv(index=False))
    for target in found["target"].values:
        plain = str(target).replace("/", "_per_")
        save(memory_of_data(found.sel(target=target)), folder / f"data_{found.attrs['of_part']}_{plain}")
    return path


def _span(steps: float, longest: int) -> str:
    return f"more than {longest}" if np.isinf(steps) else f"{steps:.0f}"


def _whole_series(data: SeriesDataModule, part: str, sites: dict[int, int]) -> Any:
    """Of each site its number, inputs (T, F) that change along time, and targets (T, K), NaN where not scored."""
    length = dict(zip(data.parts[part].site.tolist(), data.parts[part].length.tolist(), strict=True))
    loader = data.series_dataloader() if part == "train" else data.evaluation_dataloader(part)
    pieces: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    inputs = len(data.input_names)
    for batch in loader:
        for row, site in enumerate(batch["site"].tolist()):
            if site not in sites:
                continue
            count = int(batch["length"][row])
            y = np.where(batch["mask"][row, :count], batch["y"][row, :count], np.nan).astype(np.float64)
            x = batch["x"][row, :count, :inputs].numpy().astype(np.float64)
            pieces.setdefault(site, []).append((x, y))
            if int(batch["start"][row]) + count == length[site]:
                xs, ys = zip(*pieces.pop(site), strict=True)
                yield site, np.concatenate(xs), np.concatenate(ys)


def _phase(time: Any) -> np.ndarray:
    """The share of its year that has passed at each date, in any calendar."""
    clock = xr.DataArray(np.asarray(time), dims="time").dt
    day = clock.dayofyear.values - 1 + clock.hour.values / 24
    return np.asarray(day / np.maximum(clock.days_in_year.values, 1), dtype=np.float64)

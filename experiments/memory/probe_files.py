"""The files of what linear probes found in a run, and what they say in sentences."""

from __future__ import annotations

from pathlib import Path

from mptt.experiments.figures.common import save
from mptt.experiments.figures.probes import probe_figure
from mptt.experiments.memory.probes import Probed
from mptt.experiments.memory.runs import OpenedRun
from mptt.experiments.predictions import write_series
from mptt.files import write_atomically


def write_probes(run: OpenedRun, found: Probed) -> list[Path]:
    """Write tables, series and figure of probes into RUN/memory; returns the paths written."""
    folder = run.folder / "memory"
    for name, table in {"probes": found.table, "probe_units": found.units}.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    write_series(found.series.assign_attrs(title=f"Stores read off the states of {run.name}"), folder / "probed.nc")
    save(probe_figure(found.table, found.units, found.series), folder / "probes")
    return [folder / name for name in ("probes.csv", "probe_units.csv", "probed.nc", "probes.png")]


def probes_said(found: Probed) -> str:
    """Of each variable, how well it is read, from which unit best, and whether inputs alone do as well."""
    lines = []
    for row in found.table.to_dict("records"):
        unit = f"{row['best_part']}{row['best_layer']}.{row['best_unit']}"
        line = (
            f"{row['variable']}: NSE {row['nse']:.2f} of all units (RMSE {row['rmse']:.3g} {row['measured_in']}),"
            f" {row['nse_best_unit']:.2f} of unit {unit} alone (r {row['best_r']:.2f}). Means of the inputs up to a"
            f" year give {row['nse_moving_inputs']:.2f}, the season {row['nse_season']:.2f}"
        )
        if row["nse_untrained"] == row["nse_untrained"]:
            line += f", a network that was not trained {row['nse_untrained']:.2f}"
        lines.append(f"{line}.")
        if row["nse_moving_inputs"] >= row["nse"]:
            lines.append("  Means of the inputs say as much of it: the state is no better place to look.")
    return "\n".join(lines)

"""What the networks of a comparison remember: measured once, pooled over seeds, and told in the report."""

from __future__ import annotations

import html
import io
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rich.console import Console

from mptt import MPTTError
from mptt.experiments import records
from mptt.experiments.cli import main
from mptt.experiments.comparison import gallery, remembering
from mptt.experiments.comparison.budget import Budget
from mptt.experiments.comparison.grid import Cell, Comparison
from mptt.experiments.comparison.remembering import TRUTH, kept, measure, remembered
from mptt.experiments.comparison.results import groups_of
from mptt.experiments.memory.horizon import horizon
from mptt.experiments.memory.remembered import horizon_table, unit_table
from mptt.experiments.memory.runs import open_run
from mptt.experiments.memory.truth import true_horizon

PLAN = ["--strategies", "[RMB-SSIF,MPTT-delta1]", "--seeds", "[0,1]", "--epochs", "1", "--out", "c"]


def test_the_report_says_what_the_networks_remember_and_measures_it_once(
    small: list[str], in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The figures that others test take longer than all else.
    monkeypatch.setattr(records, "draw_run", lambda *_: None)
    monkeypatch.setattr(gallery, "_figures_of", lambda _: [])
    main(["compare", "quickstart", *small, *PLAN, "--data.targets", "[SW_ENDmm,SNOmm]", "--memory", "true"])
    measured = [open_run(f"c/MPTT-delta1-seed{seed}") for seed in (0, 1)]
    found = [horizon(run) for run in measured]
    table = pd.read_csv("c/memory.csv")
    of_strategy = {name: rows.reset_index(drop=True) for name, rows in table.groupby("strategy")}
    assert set(of_strategy) == {"RMB-SSIF", "MPTT-delta1", TRUTH}
    assert table["window"].eq(366).all()

    # Both seeds together are as one run with twice the dates.
    spread = {f"{target}_spread": found[0][f"{target}_spread"] for target in ("SW_ENDmm", "SNOmm")}
    starts = [one.drop_dims("unit").drop_vars(spread) for one in found]
    expected = horizon_table(xr.concat(starts, "start").assign(spread))
    for target in ("SW_ENDmm", "SNOmm"):
        rows = of_strategy["MPTT-delta1"]
        rows = rows[rows["target"] == target].reset_index(drop=True)
        wanted = expected[expected["of"].isin(["state", target])].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[wanted.columns], wanted, check_dtype=False, rtol=1e-12)
    own = rows[(rows["of"] == "SNOmm") & (rows["season"] == "all") & (rows["measure"] == "horizon_1")].iloc[0]
    reaches: list[float] = []
    for one in found:
        bound = 0.01 * one["SNOmm_spread"].item()
        for distance in one["SNOmm_distance"].values[0]:
            over = [step for step in range(1, len(distance)) if distance[step] >= bound]
            reaches.append(max(over, default=0))
    reaches = sorted(math.inf if reach == one.attrs["steps"] else reach for reach in reaches)
    assert own["starts"] == len(reaches) == 100
    assert [own["q10"], own["median"], own["q90"]] == [reaches[9], reaches[49], reaches[89]]

    true = true_horizon(measured[0], found[0])
    assert true is not None
    store = kept(Path("c/RMB-SSIF-seed0"), "SNOmm")[1]
    assert store is not None, "of the first run"
    np.testing.assert_array_equal(store["SNOmm_distance"], true["SNOmm_distance"])
    assert set(store) == {"SNOmm_distance", "SNOmm_spread", "season", "begin", "partner"}

    page = Path("c/report.html").read_text()
    shown = _tables(page)
    header, *cells = shown["SW_ENDmm. How long a"]
    assert [row[0] for row in cells] == ["RMB-SSIF", "MPTT-delta1", TRUTH]
    five = expected[(expected["of"] == "SW_ENDmm") & (expected["season"] == "all")].iloc[0]
    steps = found[0].attrs["steps"]
    said = [f"> {steps}" if math.isinf(value) else f"{value:.0f}" for value in five[["median", "q10", "q90"]]]
    units = np.sort(np.concatenate([unit_table(one)["half_life"] for one in found]))[10]  # of 12
    slow = f"> {steps}" if math.isinf(units) else f"{units:.1f}"
    row = dict(zip(header, cells[1], strict=True))
    assert row["5 % horizon (days)"] == f"{said[0]} [{said[1]}, {said[2]}]"
    assert (row["runs"], row["windows (days)"]) == ("2", "366")
    assert row["half-life of the slowest units (days)"] == slow
    text = html.unescape(page)
    assert f"{said[0].replace('>', 'more than')} days with MPTT-delta1; in the store itself, for" in text
    assert "--memory true" in text
    assert Path("c/memory_SNOmm.pdf").exists()

    # Again: nothing is measured that is there, but for the run whose checkpoint is newer; what commands left is shown.
    cells = [
        Cell(Path("quickstart.yaml"), name, seed, Budget("epochs", 1), Path(f"c/{name}-seed{seed}"))
        for seed in (0, 1)
        for name in ("RMB-SSIF", "MPTT-delta1")
    ]
    groups = [group for group in groups_of(cells, Comparison()) if group.target == "SNOmm"]
    calls: list[str] = []
    monkeypatch.setattr(remembering, "save", lambda *_: None)
    monkeypatch.setattr(remembering, "measure", lambda folder: (calls.append(folder.name), measure(folder)))
    (cells[0].folder / "memory" / "units.png").touch()
    again = remembered(groups, Path("c"), Console(file=io.StringIO()))
    assert calls == []
    pd.testing.assert_frame_equal(pd.read_csv("c/memory.csv"), table[table["target"] == "SNOmm"].reset_index(drop=True))
    assert [path for _, path in again.figures] == [
        Path("c/memory_SNOmm.png"),
        Path("c/RMB-SSIF-seed0/memory/units.png"),
    ]
    calls.clear()
    (cells[0].folder / "checkpoints" / "best.ckpt").write_bytes(b"nothing")
    again = remembered(groups, Path("c"), Console(file=io.StringIO()))
    assert calls == ["RMB-SSIF-seed0"]
    assert re.search(r"^Not measured: RMB-SSIF-seed0\. .*best\.ckpt", "\n".join(again.text), re.MULTILINE)
    assert pd.read_csv("c/memory.csv").query("strategy == 'RMB-SSIF'")["starts"].max() == 50, "one seed of two"


@pytest.mark.parametrize("lagged", ["step", "window"])
def test_what_a_network_feeds_back_to_itself_is_not_left_out_in_silence(lagged: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"data: {{init_args: {{lagged_target: {lagged}}}}}")
    with pytest.raises(MPTTError, match="its own predictions: what it remembers is not in its state alone"):
        measure(tmp_path)


def _tables(page: str) -> dict[str, list[list[str]]]:
    """Rows of text by the first words of the caption."""
    found = {}
    for block in page.split('<div class="table"')[1:]:
        caption = re.search(r"</b> (.*?)</p>", block)
        assert caption is not None
        rows = [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", block, re.DOTALL)
        ]
        cells = [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in rows]
        found[" ".join(html.unescape(caption[1]).split()[:4])] = cells
    return found

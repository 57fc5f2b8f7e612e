from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from mptt import MPTTError
from mptt.callbacks import MPTTCallback, StatefulCallback
from mptt.experiments.cli import run
from mptt.experiments.strategies import STRATEGIES, Strategy, find_strategy


def test_names_are_found_and_others_refused_with_the_near_one() -> None:
    assert find_strategy("SMB-SSIF") is STRATEGIES["SMB-SSIF"]
    with pytest.raises(MPTTError, match=r"Did you mean SMB-SSIF\? There are RMB-IIF"):
        find_strategy("SMB-SIF")


def test_every_strategy_has_its_own_colour_and_a_summary() -> None:
    assert len({one.colour for one in STRATEGIES.values()}) == len(STRATEGIES)
    assert all(one.summary for one in STRATEGIES.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_trains_and_infers_as_it_says(name: str, fit_words: list[str]) -> None:
    cli = run([*fit_words, "--strategy", name, "--trainer.max_epochs", "1", "--run_dir", "r"])
    data, module = cli.datamodule, cli.model
    setters = [one for one in cli.trainer.callbacks if isinstance(one, MPTTCallback | StatefulCallback)]
    assert [type(one).__name__ for one in setters] == {
        "RMB-IIF": [],
        "RMB-SSIF": ["StatefulCallback"],
        "SMB-SSIF": ["StatefulCallback"],
        "MPTT-delta0": ["MPTTCallback"],
        "MPTT-delta1": ["MPTTCallback"],
    }[name]
    if name.startswith("MPTT"):
        assert setters[0].delta == float(name[-1])
    starts = np.sort(data.windows.start)
    if name == "SMB-SSIF":
        assert (np.diff(starts) >= 366).all(), "lanes are disjoint"
    else:
        assert (np.diff(starts)[:-1] == 183).all()

    module.eval()
    best = torch.load("r/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    module.load_state_dict(best)
    part = data.parts["test"]
    row = int(data._series.rows(part)[0])
    x = data._series.inputs[row : row + int(part.length[0])].unsqueeze(0)
    with torch.no_grad():
        if name == "RMB-IIF":
            # Windows of 366 every 183 days, each from zero state; only the steps that no earlier window had.
            whole = torch.empty(1, x.shape[1], 1)
            first, known = 0, 0
            while known < x.shape[1]:
                window = module(x[:, first : first + 366])
                whole[:, known : first + window.shape[1]] = window[:, known - first :]
                known, first = first + window.shape[1], first + 183
        else:
            whole = module(x)
    with xr.open_dataset("r/predictions.nc") as written:
        found = torch.from_numpy(written["SW_ENDmm"].values[0])
    expected = data.target_scaler.inverse(whole)[0, :, 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_strategies_differ(fit_words: list[str]) -> None:
    tables = {}
    for name in STRATEGIES:
        run([*fit_words, "--strategy", name, "--trainer.max_epochs", "3", "--run_dir", name])
        tables[name] = pd.read_csv(Path(name, "metrics.csv"))
    losses = {name: tuple(table["train_loss"]) for name, table in tables.items()}
    assert losses["RMB-IIF"] == losses["RMB-SSIF"], "they differ in inference alone"
    assert tables["RMB-IIF"]["val_loss"][0] != tables["RMB-SSIF"]["val_loss"][0]
    assert len(set(losses.values())) == len(STRATEGIES) - 1
    assert losses["MPTT-delta1"][0] == losses["RMB-SSIF"][0], "the first epoch reads no message"


def test_a_new_strategy_is_one_entry(fit_words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Strategy(
        "toy", callbacks=lambda: [MPTTCallback(evaluation="independent")], data={"evaluation": "independent"}
    )
    monkeypatch.setitem(STRATEGIES, "TOY", toy)
    cli = run([*fit_words, "--strategy", "TOY", "--trainer.max_epochs", "1"])
    assert cli.datamodule.evaluation == "independent"
    assert Path("runs/quickstart/scores.csv").exists()

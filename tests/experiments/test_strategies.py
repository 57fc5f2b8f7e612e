from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor

from mptt import MPTTError
from mptt.callbacks import ConditionalCallback, MPTTCallback, ScheduledSamplingCallback
from mptt.callbacks.base import RecurrentCallback
from mptt.experiments.cli import run
from mptt.experiments.regressor import SequenceRegressor
from mptt.experiments.strategies import STRATEGIES, Strategy, find_strategy, settle

# What a strategy says of these short data, tested where it is said.
LAGGED = "ignore:No step comes before the first"
LANES = "ignore:.*lanes"


def test_names_are_found_and_others_refused_with_the_near_one() -> None:
    assert find_strategy("SMB-SSIF") is STRATEGIES["SMB-SSIF"]
    with pytest.raises(MPTTError, match=r"Did you mean SMB-SSIF\? There are RMB-IIF"):
        find_strategy("SMB-SIF")


def test_the_papers_eleven_are_there_and_every_strategy_looks_its_own() -> None:
    paper = "RMB-IIF RMB-SSIF TF-TFIF SSPL-TFIF CMB-SCIF SMB-SSIF SSMB-SSIF MPTT-delta0 MPTT-delta1"
    assert {*paper.split(), "Enhanced-MPTT-delta0", "Enhanced-MPTT-delta1"} < set(STRATEGIES)
    assert len({(one.colour, one.line) for one in STRATEGIES.values()}) == len(STRATEGIES)
    assert all(one.summary for one in STRATEGIES.values())


# What trains (besides the callback that evaluates), and what the DataModule is asked for.
EXPECTED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "RMB-IIF": ([], {"evaluation": "independent"}),
    "RMB-SSIF": ([], {}),
    "TF-TFIF": ([], {"lagged_target": "step"}),
    "SSPL-TFIF": (["ScheduledSamplingCallback"], {"lagged_target": "step"}),
    "CMB-SCIF": ([], {"lagged_target": "window", "evaluation": "conditional"}),
    "SMB-SSIF": (["StatefulCallback"], {"order": "lanes", "stride": 366}),
    "SSMB-SSIF": (["SequentialStatefulCallback"], {"order": "sequential", "stride": 366}),
    "MPTT-delta0": (["MPTTCallback"], {}),
    "MPTT-delta1": (["MPTTCallback"], {}),
    "Enhanced-MPTT-delta0": (["MPTTCallback"], {}),
    "Enhanced-MPTT-delta1": (["MPTTCallback"], {}),
    "Spin-up": ([], {"predict_last_n": 183, "evaluation": "independent", "evaluation_stride": 183}),
    "Burn-in": (["MPTTCallback"], {"predict_last_n": 366 - 91}),
    "Learned-state": (["LearnedInitialStateCallback"], {}),
    "Noisy-state": (["NoisyInitialStateCallback"], {}),
    "Full-BPTT": ([], {"order": "series"}),
}
EVALUATES = {"IIF": "StatefulCallback", "SSIF": "StatefulCallback", "TFIF": "ClosedLoopCallback"}
EVALUATES |= {"SCIF": "ConditionalCallback"}
PLAIN = {"order": "shuffled", "stride": 183, "lagged_target": "none", "predict_last_n": None}
PLAIN |= {"evaluation": "sequential", "evaluation_stride": 183}


def by_hand(inference: str, module: Any, x: Tensor, first: float) -> Tensor:
    """Predictions (T, 1) for inputs (T, F) of one series, by the plainest loop; `first` is observed before step 0."""
    steps = len(x)
    zeros = torch.zeros(1, 1, 6)
    if inference == "SSIF":
        initial = getattr(module, "initial_state", torch.zeros(6)).reshape(1, 1, 6)
        return module.head(module.core(x[None], initial)[0])[0]
    if inference == "TFIF":
        state, last, found = zeros, torch.tensor([first]), []
        for known in x[:, :-1]:
            output, state = module.core(torch.cat([known, last])[None, None], state)
            last = module.head(output[0, 0])
            found.append(last)
        return torch.stack(found)
    # Windows of 366 every 183 days, each from zero state, and one that ends at the last step; of each the new steps.
    whole = torch.empty(steps, 1)
    known = 0
    for start in [*range(0, steps - 366, 183), steps - 366]:
        window = x[start : start + 366].clone()
        if inference == "SCIF":
            window[:, -1] = first if start == 0 else whole[start - 1, 0]
        predicted = module.head(module.core(window[None], zeros)[0])[0]
        whole[known : start + 366] = predicted[known - start :]
        known = start + 366
    return whole


@pytest.mark.filterwarnings(LAGGED, LANES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_trains_and_infers_as_it_says(name: str, fit_words: list[str]) -> None:
    cli = run([*fit_words, "--strategy", name, "--trainer.max_epochs", "1", "--run_dir", "r"])
    data, module, strategy = cli.datamodule, cli.model, STRATEGIES[name]
    kinds = (RecurrentCallback, ScheduledSamplingCallback, ConditionalCallback)
    setters = [one for one in cli.trainer.callbacks if isinstance(one, kinds)]
    trains, settings = EXPECTED[name]
    assert [type(one).__name__ for one in setters] == [*trains, EVALUATES[strategy.inference]]
    assert {setting: getattr(data, setting) for setting in PLAIN} == PLAIN | settings
    if "MPTT" in name:
        assert setters[0].delta == float(name[-1])
        assert setters[0].warmup_epochs == (10 if name.startswith("Enhanced") else 0)

    module.eval()
    best = torch.load("r/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    module.load_state_dict(best)
    part = data.parts["test"]
    row = int(data._series.rows(part)[0])
    x = data._series.inputs[row : row + int(part.length[0])]
    if data.lagged_columns:
        x = torch.cat([x, torch.full((len(x), 1), torch.nan)], dim=1)  # no observation is to be read
    with torch.no_grad():
        whole = by_hand(strategy.inference, module, x, float(data._series.targets[row - 1]))
    with xr.open_dataset("r/predictions.nc") as written:
        found = torch.from_numpy(written["SW_ENDmm"].values[0])
    expected = data.target_scaler.inverse(whole)[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-3)


@pytest.mark.filterwarnings(LAGGED, LANES)
def test_strategies_differ(fit_words: list[str]) -> None:
    tables = {}
    for name in STRATEGIES:
        run([*fit_words, "--strategy", name, "--trainer.max_epochs", "3", "--run_dir", name])
        tables[name] = pd.read_csv(Path(name, "metrics.csv"))
    losses = {name: tuple(table["train_loss"]) for name, table in tables.items()}
    assert losses["RMB-IIF"] == losses["RMB-SSIF"], "they differ in inference alone"
    assert tables["RMB-IIF"]["val_loss"][0] != tables["RMB-SSIF"]["val_loss"][0]
    assert losses["Enhanced-MPTT-delta0"] == losses["RMB-SSIF"], "before their 10 epochs are over"
    assert losses["Enhanced-MPTT-delta1"] == losses["RMB-SSIF"]
    assert len(set(losses.values())) == len(STRATEGIES) - 3
    assert losses["MPTT-delta1"][0] == losses["RMB-SSIF"][0], "the first epoch reads no message"
    assert losses["SSPL-TFIF"][0] == losses["TF-TFIF"][0], "the first epoch has no prediction"


def test_a_new_strategy_is_one_entry(fit_words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Strategy("toy", inference="IIF", callbacks=lambda: [MPTTCallback(evaluation=None)])
    monkeypatch.setitem(STRATEGIES, "TOY", toy)
    cli = run([*fit_words, "--strategy", "TOY", "--trainer.max_epochs", "1"])
    assert cli.datamodule.evaluation == "independent"
    assert Path("runs/quickstart/scores.csv").exists()


def test_a_strategy_of_ones_own_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("elsewhere.py").write_text(
        "from mptt.experiments.strategies import Strategy\nMINE = Strategy('mine')\nOTHER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_strategy("elsewhere.MINE").summary == "mine"
    with pytest.raises(MPTTError, match=r"elsewhere\.OTHER is no Strategy, but a int"):
        find_strategy("elsewhere.OTHER")
    with pytest.raises(MPTTError, match=r"no strategy 'elsewhere\.NONE': .*has no attribute 'NONE'"):
        find_strategy("elsewhere.NONE")
    with pytest.raises(MPTTError, match=r"no strategy 'nowhere\.MINE': No module named 'nowhere'"):
        find_strategy("nowhere.MINE")


def test_a_data_module_without_a_setting_is_refused_unless_it_is_the_usual_one() -> None:
    settings = {"window": 10}
    settle({"order": "shuffled", "evaluation": "sequential", "lagged_target": "none"}, settings, "RMB-SSIF")
    assert settings == {"window": 10}
    with pytest.raises(MPTTError, match="SMB-SSIF needs order='lanes', a setting that the DataModule lacks"):
        settle({"order": "lanes"}, settings, "SMB-SSIF")


@pytest.mark.parametrize("name", ["UNIFORM", "LATE"])
def test_the_strategy_of_the_docs_trains_and_is_compared(
    name: str, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own-project.md").read_text()
    (code,) = re.findall(r"```python\n(# my_strategies\.py\n.*?)```", page, flags=re.DOTALL)
    assert code.count("\n") < 40
    Path("my_strategies.py").write_text(code)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "my_strategies", raising=False)
    settings = [*small, "--trainer.max_epochs", "6", "--trainer.enable_progress_bar", "false"]
    cli = run(["fit", "--config", "quickstart", *settings, "--strategy", f"my_strategies.{name}", "--run_dir", "r"])
    assert Path("r/scores.csv").exists()
    assert (cli.datamodule.window, cli.datamodule.stride) == ((366, 183) if name == "UNIFORM" else (183, 91))
    log = pd.read_csv("r/metrics.csv")
    if name == "LATE":
        assert log["mptt/share"].iloc[-1] > 0.9


class Keeps(SequenceRegressor):
    """Does not learn; keeps what it predicts in training, by window."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(1, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0), hidden_size=5)
        self.kept: dict[int, Tensor] = {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        found = super().training_step(batch, batch_idx)
        self.kept |= dict(zip(batch["window"].tolist(), found["prediction"], strict=True))
        return found


@pytest.mark.parametrize(("name", "batch_size"), [("SMB-SSIF", 2), ("SSMB-SSIF", 3), ("SSMB-SSIF", 64)])
def test_a_carried_pass_is_one_whole_pass(name: str, batch_size: int, two_sites: Any, series: Any, quiet: Any) -> None:
    settings: dict[str, Any] = {"window": 40, "stride": 40, "targets": ["storage"], "batch_size": batch_size}
    data = series(two_sites(), order=STRATEGIES[name].data["order"], **settings)
    module = Keeps()
    quiet(*STRATEGIES[name].callbacks(), max_epochs=1, limit_val_batches=0).fit(module, datamodule=data)
    assert len(module.kept) == 2 * 11, "450 training steps of each site"
    flat, part = data._series, data.parts["train"]
    for site, row in enumerate(flat.rows(part)):
        windows = [nth for nth in range(len(data.windows)) if data.windows.site[nth] == site]
        carried = torch.cat([module.kept[nth] for nth in sorted(windows, key=lambda nth: data.windows.start[nth])])
        with torch.no_grad():
            whole = module(flat.inputs[row : row + 440].unsqueeze(0))[0]
        assert torch.allclose(carried, whole, rtol=0, atol=1e-6)

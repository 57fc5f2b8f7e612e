from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor, nn

from mptt import MPTTError
from mptt.callbacks import MPTTCallback
from mptt.experiments.cli import main
from mptt.experiments.memory.network import Network
from mptt.experiments.memory.runs import open_run
from mptt.experiments.memory.trajectories import trajectories, walk
from mptt.experiments.predictions import open_predictions
from mptt.experiments.regressor import SequenceRegressor
from mptt.recurrent import flatten_state


class Explicit(pl.LightningModule):
    """Adds its inputs up, by agreement."""

    state_size = 1

    def predict_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        states = batch["h0"].unsqueeze(1) + batch["x"].sum(2, keepdim=True).cumsum(1)
        return {"prediction": 2 * states, "states": states}


@pytest.mark.parametrize(("core", "layers"), [("gru", 1), ("gru", 2), ("lstm", 1), ("rnn", 1), ("fast_gru", 1)])
def test_network_gives_the_states_of_every_step_from_any_initial_state(core: str, layers: int) -> None:
    torch.manual_seed(0)
    module = SequenceRegressor(3, core=core, hidden_size=4, num_layers=layers)  # type: ignore[arg-type]
    network = Network(module)
    x, initial = torch.randn(2, 6, 3), torch.randn(2, network.state_size)
    predictions, states = network.run({"x": x}, initial)
    again = initial
    for step in range(6):  # one step at a time, by the layer itself
        _, again = network.run({"x": x[:, step : step + 1]}, again)
        again = again[:, 0]
        torch.testing.assert_close(states[:, step], again)
    torch.testing.assert_close(module.head(states[..., (layers - 1) * 4 : layers * 4]), predictions)


def test_network_starts_from_zeros_and_leaves_the_module_as_it_was() -> None:
    module = SequenceRegressor(3, core="lstm", hidden_size=4, dropout=0.5).train()
    x = torch.randn(2, 6, 3)
    _, states = Network(module).run({"x": x})
    assert module.training
    assert "forward" not in module.core.__dict__
    _, hidden = module.core(x)
    torch.testing.assert_close(states[:, -1], flatten_state(hidden))


def test_network_starts_from_the_learned_initial_state() -> None:
    module = SequenceRegressor(3, hidden_size=4)
    module.initial_state = nn.Parameter(torch.arange(4.0))
    network, x = Network(module), torch.randn(2, 6, 3)
    assert network.zeros(2).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    torch.testing.assert_close(network.run({"x": x})[1], network.run({"x": x}, torch.arange(4.0).expand(2, 4))[1])


def test_network_runs_an_explicit_core() -> None:
    predictions, states = Network(Explicit()).run({"x": torch.ones(1, 3, 2)}, torch.tensor([[10.0]]))
    assert states.flatten().tolist() == [12, 14, 16]
    assert predictions.flatten().tolist() == [24, 28, 32]


def test_network_says_what_predict_step_lacks() -> None:
    class Silent(SequenceRegressor):
        def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return super().predict_step(batch, batch_idx)[:, -1]

    with pytest.raises(MPTTError, match=r"\(2, 6, K\).*found \(2, 1\)"):
        Network(Silent(3)).run({"x": torch.zeros(2, 6, 3)})


def test_an_opened_run_is_what_was_trained(trained: Path) -> None:
    opened = open_run(trained)
    assert (opened.name, opened.strategy, opened.folder) == ("trained", "MPTT-delta1", trained)
    assert isinstance(opened.training, MPTTCallback)
    weights = opened.network.module.state_dict()
    assert all(weights[name].equal(value) for name, value in opened.checkpoint["state_dict"].items())


def test_the_configuration_of_a_run_stands_for_it(trained: Path) -> None:
    assert open_run(trained / "config.yaml", "last").checkpoint["epoch"] == 1


def test_trajectories_predict_what_the_test_predicted(trained: Path) -> None:
    found = trajectories(open_run(trained), variables=["SNOmm"])
    with open_predictions(trained) as written:
        xr.testing.assert_allclose(found["SW_ENDmm"].drop_attrs(), written["SW_ENDmm"].drop_attrs(), rtol=1e-4)
        np.testing.assert_array_equal(found["time"], written["time"])
    assert found["state"].dims == ("site", "time", "unit")
    assert found["state"].sizes["unit"] == 6
    assert found["part"].values.tolist() == ["h"] * 6
    assert found.attrs["warmup_steps"] == 365
    assert (found["SNOmm"] >= 0).all(), "in physical units"


def test_states_are_carried_from_stretch_to_stretch(trained: Path) -> None:
    opened = open_run(trained)
    whole = torch.cat([states for *_, states in walk(opened, "train")], dim=1)
    opened.data.chunk = 100
    pieces = list(walk(opened, "train"))
    assert len(pieces) > 3
    assert pieces[1][1].equal(pieces[0][3][:, -1])
    parts = [states[:, : int(batch["length"][0])] for batch, *_, states in pieces]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_sites_and_variables_that_are_not_there_are_named(trained: Path) -> None:
    opened = open_run(trained)
    with pytest.raises(MPTTError, match="The test part has no site nowhere; it has simulated"):
        trajectories(opened, sites=["nowhere"])
    with pytest.raises(MPTTError, match=r"no variable lava along time; there are .*SNOmm"):
        trajectories(opened, variables=["lava"])
    with pytest.raises(MPTTError, match="There is no part 'tset'"):
        trajectories(opened, "tset")


def test_what_is_no_run_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MPTTError, match=r"is no run: it holds no config\.yaml"):
        open_run(tmp_path)
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(trained / "config.yaml", half)
    with pytest.raises(MPTTError, match="There is no checkpoint"):
        open_run(half)


def test_states_are_written_by_the_command(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "states", str(trained), "--part", "validation", "--variables", "SNOmm"])
    path = trained / "memory" / "states_validation.nc"
    assert str(path) in capsys.readouterr().out
    with xr.open_dataset(path) as written:
        assert {"state", "SW_ENDmm", "SW_ENDmm_observed", "SNOmm"} <= set(written.data_vars)
        assert np.isfinite(written["state"].values).all()
        assert written.attrs["part"] == "validation"

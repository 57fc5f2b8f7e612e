from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor, nn

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.memory.network import Network
from mptt.experiments.memory.probe_files import probes_said
from mptt.experiments.memory.probes import Probed, probe_stores, untrained_network
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.trajectories import trajectories


class Reservoir(pl.LightningModule):
    """Two units: one a reservoir that is filled by the input and loses a tenth a step, one the input alone."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 2, nonlinearity="relu", batch_first=True)
        with torch.no_grad():
            self.rnn.weight_ih_l0[:] = deviation
            self.rnn.bias_ih_l0[:] = mean
            self.rnn.bias_hh_l0[:] = 0
            self.rnn.weight_hh_l0[:] = torch.tensor([[0.0, 0.0], [0.0, 0.9]])

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.rnn(batch["x"])[0][..., :1]


@pytest.fixture(scope="module")
def reservoir(two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]) -> OpenedRun:
    dataset = two_sites(steps=3000)
    rain = dataset["rain"].values
    stored = np.zeros_like(rain)
    for step in range(1, rain.shape[1]):
        stored[:, step] = 0.9 * stored[:, step - 1] + rain[:, step]
    # In other units, from another zero, and with gaps.
    dataset["bucket"] = ("site", "time"), np.where(np.arange(3000) % 5 == 0, np.nan, 40 - 2 * stored), {"units": "cm"}
    dataset["still"] = dataset["rain"] * 0 + 3
    data = series(dataset, warmup=120)
    data.setup()
    train = rain[:, :1500]
    module = Reservoir(float(train.mean()), float(train.std()))
    return OpenedRun("reservoir", Path(), {}, None, data, Network(module), None)


def test_a_store_that_a_unit_keeps_is_found_there_and_nowhere_else(reservoir: OpenedRun) -> None:
    found = probe_stores(reservoir, ["bucket"])
    row = found.table.iloc[0]
    assert row["nse"] == pytest.approx(1, abs=1e-4)
    assert row["r2"] == pytest.approx(1, abs=1e-4)
    assert row["rmse"] < 0.01 * float(reservoir.data.load()["bucket"].std())
    assert (row["best_core"], row["best_layer"], row["best_unit"], row["best_part"]) == ("rnn", 0, 1, "h")
    assert row["best_r"] == pytest.approx(-1, abs=1e-4)
    assert row["nse_best_unit"] == pytest.approx(1, abs=1e-4)
    assert row["measured_in"] == "cm"
    # A reservoir of ten days: its inflow of the day is a tenth of its variance and more; a week and a month nearly all.
    assert -0.05 < row["nse_season"] < 0.1 < row["nse_inputs"] < 0.4 < row["nse_moving_inputs"] < 0.99
    assert row["nse_untrained"] < 0.8
    assert found.units["r"].abs().round(2).tolist() == [pytest.approx(0.44, abs=0.1), 1]


def test_scores_are_those_of_the_series_after_the_warm_up(reservoir: OpenedRun) -> None:
    found = probe_stores(reservoir, ["bucket", "storage"], untrained=0)
    assert found.table["nse_untrained"].isna().all()
    for row in found.table.to_dict("records"):
        name = row["variable"]
        true, probed = found.series[name].values, found.series[f"{name}_probed"].values
        assert np.isnan(true[:, :120]).all()
        assert np.isnan(probed[:, :120]).all()
        assert (np.isnan(true) == np.isnan(probed)).all()
        error, spread = np.nanmean((true - probed) ** 2, 1), np.nanvar(true, 1)
        assert row["nse"] == pytest.approx(np.median(1 - error / spread), abs=1e-5)
        assert row["rmse"] == pytest.approx(np.sqrt(np.nanmean((true - probed) ** 2)), rel=1e-4)
    # A target is one as any other, as it was observed.
    truth = reservoir.data.load()["storage"].values[:, -900 + 120 :]
    np.testing.assert_allclose(found.series["storage"].values[:, 120:], truth, rtol=1e-5)


def test_new_weights_are_gone_afterwards(reservoir: OpenedRun) -> None:
    module = reservoir.network.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    states = []
    for seed in (0, 0, 1):
        with untrained_network(module, seed):
            assert not torch.equal(module.rnn.weight_ih_l0, before["rnn.weight_ih_l0"])
            states.append(trajectories(reservoir, "test")["state"].values)
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(MPTTError, match="untrained=0"), untrained_network(pl.LightningModule(), 0):
        pass


def test_what_cannot_be_probed_is_refused(reservoir: OpenedRun) -> None:
    with pytest.raises(MPTTError, match="still does not vary"):
        probe_stores(reservoir, ["still"], untrained=0)
    with pytest.raises(MPTTError, match="no variable snow along time"):
        probe_stores(reservoir, ["snow"], untrained=0)
    with pytest.raises(MPTTError, match=r"no simulated stores; name variables to probe, of.*bucket"):
        probe_stores(reservoir)
    with pytest.raises(MPTTError, match="fitted to the test part is to be scored on another"):
        probe_stores(reservoir, ["bucket"], part="test", fitted_to="test")


def test_the_command_probes_the_stores_of_the_simulated_basin(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["memory", "probe", str(trained), "--untrained", "1"])
    said = capsys.readouterr().out
    table = pd.read_csv(trained / "memory" / "probes.csv")
    assert table["variable"].tolist() == ["SNOmm", "SW_ENDmm", "SA_STmm", "DA_STmm"]
    assert f"SNOmm: NSE {table['nse'][0]:.2f} of all units (RMSE" in said
    units = pd.read_csv(trained / "memory" / "probe_units.csv")
    assert len(units) == 4 * 6
    opened = open_run(trained)
    states = trajectories(opened, "test", variables=["SNOmm"]).isel(site=0, time=slice(365, None))
    expected = np.corrcoef(states["state"].values.T, states["SNOmm"].values)[-1, :-1]
    np.testing.assert_allclose(units.loc[units["variable"] == "SNOmm", "r"], expected, atol=1e-4)
    with xr.open_dataset(trained / "memory" / "probed.nc") as series:
        assert {"SNOmm", "SNOmm_probed"} <= set(series.data_vars)
    assert (trained / "memory" / "probes.png").stat().st_size > 20_000
    assert (trained / "memory" / "probes.pdf").is_file()


def test_it_says_where_inputs_know_as_much() -> None:
    row = {"variable": "SNOmm", "measured_in": "mm", "nse": 0.5, "rmse": 3.21, "nse_best_unit": 0.25, "best_r": -0.5}
    row |= {"best_part": "h", "best_layer": 0, "best_unit": 7, "nse_season": 0.1, "nse_moving_inputs": 0.6}
    table = pd.DataFrame([{**row, "nse_untrained": np.nan}, {**row, "nse_moving_inputs": 0.4, "nse_untrained": 0.2}])
    said = probes_said(Probed(table, table, xr.Dataset())).splitlines()
    assert said[0].startswith("SNOmm: NSE 0.50 of all units (RMSE 3.21 mm), 0.25 of unit h0.7 alone (r -0.50).")
    assert said[0].endswith("up to a year give 0.60, the season 0.10.")
    assert "Means of the inputs say as much of it" in said[1]
    assert said[2].endswith("the season 0.10, a network that was not trained 0.20.")
    assert len(said) == 3

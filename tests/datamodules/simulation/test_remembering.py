"""The true memory of the simulated basin."""

from __future__ import annotations

import numpy as np
import pytest

from mptt import MPTTError
from mptt.datamodules.simulation.remembering import store_distances, stores_before
from mptt.datamodules.simulation.waterbalance import Basin, water_balance
from mptt.datamodules.simulation.weather import generate_weather


@pytest.fixture(scope="module")
def weather() -> dict[str, np.ndarray]:
    return generate_weather(np.arange("2001-01-01", "2005-01-01", dtype="datetime64[D]"), seed=3)


def drought(days: int) -> dict[str, np.ndarray]:
    """No rain and no demand, over frozen ground."""
    cold = {"TMP_MXdgC": np.full(days, -5.0), "TMP_MNdgC": np.full(days, -5.0)}
    return {"PRECIPmm": np.zeros(days), "PETmm": np.zeros(days), **cold}


def test_a_drained_layer_forgets_as_fast_as_it_drains() -> None:
    keeps = 1 - Basin().deep_drainage
    apart = store_distances(drought(700), [100, 200], 400, names=["SW_ENDmm"])["SW_ENDmm"]
    day = np.arange(1, 401)
    expected = [300 * (1 - keeps**start) * keeps**day for start in (100, 200)]
    np.testing.assert_allclose(apart, expected, rtol=1e-9)


def test_the_other_filling_is_that_of_another_day() -> None:
    keeps = 1 - Basin().deep_drainage
    apart = store_distances(drought(700), [100, 200], 3, [200, 100], ["SW_ENDmm", "SNOmm"])
    expected = 300 * (keeps**100 - keeps**200) * keeps ** np.arange(1, 4)
    np.testing.assert_allclose(apart["SW_ENDmm"], [expected, expected], rtol=1e-9)
    assert (apart["SNOmm"] == 0).all()


def test_a_basin_goes_on_from_its_stores(weather: dict[str, np.ndarray]) -> None:
    whole = water_balance(weather)
    stores = stores_before(weather, [400, 0, 900])
    for nth, day in enumerate((400, 0, 900)):
        after = {name: values[day : day + 60] for name, values in weather.items()}
        found = water_balance(after, initial=type(stores)(*(float(store[nth]) for store in stores)))
        for name in ("SNOmm", "SW_ENDmm", "Q_pred_mm", "LAI"):
            np.testing.assert_allclose(found[name], whole[name][day : day + 60], rtol=1e-9, atol=1e-12)


def test_snow_forgets_in_summer_and_the_soil_does_not(weather: dict[str, np.ndarray]) -> None:
    apart = store_distances(weather, [365], 365, [365 + 180], ["SNOmm", "SW_ENDmm"])
    assert apart["SNOmm"][0, 0] > 1
    assert (apart["SNOmm"][0, 210:] == 0).all()
    assert apart["SW_ENDmm"][0, -1] > 0.05


def test_weather_that_ends_before_is_refused(weather: dict[str, np.ndarray]) -> None:
    with pytest.raises(MPTTError, match="1461 days of weather after each"):
        store_distances(weather, [1], 1461)
    with pytest.raises(MPTTError, match="found day -1 to 2"):
        stores_before(weather, [2, -1])
    with pytest.raises(MPTTError, match="no lava; it has SNOFALLmm"):
        store_distances(weather, [1], 10, names=["lava"])

import numpy as np
import pytest

from mptt import MPTTError
from mptt.datamodules.simulation.waterbalance import (
    BALANCE_COLUMNS,
    Basin,
    Stores,
    autocorrelation,
    step,
    water_balance,
)
from mptt.datamodules.simulation.weather import generate_weather

EMPTY = Stores(*[0.0] * len(Stores._fields))


def days(first, last):
    return np.arange(first, last, dtype="datetime64[D]")


def one_day(before, precipitation, temperature, demand=0.0, **parameters):
    after, fluxes = step(before, precipitation, temperature, demand, Basin(**parameters), min, max)
    return after, dict(zip(BALANCE_COLUMNS, fluxes, strict=True))


@pytest.fixture(scope="module")
def weather():
    return generate_weather(days("1900", "2130"), seed=3)


@pytest.fixture(scope="module")
def table(weather):
    return water_balance(weather)


# Water


def test_balance_closes_every_day(weather, table):
    before = np.concatenate([[80 + 300.0], table["storage"][:-1]])
    lost = table["ETmm"] + table["REVAPmm"] + table["Q_pred_mm"]
    np.testing.assert_allclose(before + weather["PRECIPmm"] - lost, table["storage"], rtol=1e-12)


def test_balance_closes_over_the_whole_run(weather, table):
    gained = weather["PRECIPmm"].sum()
    lost = sum(table[name].sum() for name in ("ETmm", "REVAPmm", "Q_pred_mm"))
    assert lost + table["storage"][-1] - 380.0 == pytest.approx(gained, rel=1e-9)


def test_no_store_or_flux_is_negative(table):
    assert {name: values.min() for name, values in table.items() if values.min() < 0} == {}


def test_soil_water_of_the_day_starts_where_it_ended_the_day_before(table):
    np.testing.assert_array_equal(table["SW_INITmm"][1:], table["SW_ENDmm"][:-1])


def test_several_sites_give_what_each_gives_alone():
    alone = [generate_weather(days("1990", "1993"), seed=seed) for seed in (0, 1, 2)]
    together = water_balance({name: np.stack([site[name] for site in alone], axis=1) for name in alone[0]})
    for site, weather in enumerate(alone):
        for name, values in water_balance(weather).items():
            np.testing.assert_allclose(together[name][:, site], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_warm_day_melts_snow_by_its_degrees():
    after, fluxes = one_day(EMPTY._replace(snow=100.0), 0.0, 10.5, degree_day_factor=2.8, melt_temperature=0.5)
    assert (fluxes["SNOMELTmm"], after.snow) == (28.0, 72.0)


def test_no_more_snow_melts_than_there_is():
    after, fluxes = one_day(EMPTY._replace(snow=5.0), 0.0, 20.0)
    assert (fluxes["SNOMELTmm"], after.snow) == (5.0, 0.0)


@pytest.mark.parametrize(("temperature", "snowfall"), [(-5.0, 8.0), (-1.0, 8.0), (1.0, 4.0), (3.0, 0.0), (9.0, 0.0)])
def test_precipitation_is_snow_in_the_cold_and_half_of_it_half_way(temperature, snowfall):
    fluxes = one_day(EMPTY, 8.0, temperature, snow_below=-1.0, rain_above=3.0)[1]
    assert fluxes["SNOFALLmm"] == snowfall


def test_runoff_is_that_of_the_curve_number():
    """Curve number 50 is a retention of 254 mm: rain of 100 mm gives (100 - 50.8)^2 / (100 + 203.2) mm."""
    fluxes = one_day(EMPTY, 100.0, 20.0, dry_curve_number=50.0)[1]
    assert fluxes["DAILYCN"] == pytest.approx(50.0)
    assert fluxes["SURQ_GENmm"] == pytest.approx(49.2**2 / 303.2)


def test_full_upper_layer_has_the_wet_curve_number():
    fluxes = one_day(EMPTY._replace(upper=160.0), 0.0, 20.0, upper_capacity=160.0, wet_curve_number=90.0)[1]
    assert fluxes["DAILYCN"] == pytest.approx(90.0)


def test_evapotranspiration_stays_within_the_demand(weather, table):
    assert (table["ETmm"] <= weather["PETmm"] + 1e-12).all()


def test_initial_soil_water_is_forgotten_in_the_spin_up(weather):
    spin_up = {name: values[: 30 * 366] for name, values in weather.items()}
    dry, wet = (
        water_balance(spin_up, initial=EMPTY._replace(upper=filling * 160, deep=filling * 600))["SW_ENDmm"]
        for filling in (0.0, 1.0)
    )
    assert wet[0] - dry[0] > 500
    assert abs(wet[-1] - dry[-1]) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PETmm": None}, "found no PETmm"),
        ({"PRECIPmm": np.array([1.0, np.nan, 1.0])}, "PRECIPmm is not finite on day 1"),
        ({"TMP_MXdgC": np.ones(4)}, r"found \[\(3,\), \(4,\)\]"),
    ],
)
def test_bad_forcing_is_refused(change, message):
    forcing = dict.fromkeys(("PRECIPmm", "TMP_MXdgC", "TMP_MNdgC", "PETmm"), np.ones(3)) | change
    with pytest.raises(MPTTError, match=message):
        water_balance({name: values for name, values in forcing.items() if values is not None})


# Memory


def test_soil_remembers_years_snow_a_season_streamflow_days(table):
    spin_up = 30 * 365
    soil, snow, flow = (
        autocorrelation(table[name][spin_up:], [1, 21, 30, 180, 365, 730])
        for name in ("SW_ENDmm", "SNOmm", "Q_pred_mm")
    )
    assert 0.4 < soil[4] < 0.7
    assert soil[5] > 0.2
    assert 0.4 < snow[2] < 0.7
    assert np.abs(snow[3:]).max() < 0.2
    assert flow[0] > 0.7
    assert flow[1] < 1 / np.e
    assert (soil[1:] > snow[1:]).all()
    assert snow[2] > flow[2] + 0.3


def test_autocorrelation_is_that_of_the_anomalies_written_out():
    random = np.random.default_rng(0)
    values = random.random(20)
    anomaly = values.copy()
    for phase in range(5):
        anomaly[phase::5] -= anomaly[phase::5].mean()
    expected = [np.corrcoef(anomaly[:-lag], anomaly[lag:])[0, 1] for lag in (1, 3)]
    np.testing.assert_allclose(autocorrelation(values, [1, 3], period=5), expected)


def test_autocorrelation_sees_no_memory_in_the_seasons(weather):
    assert abs(autocorrelation(weather["TMP_MXdgC"], 365)[0]) < 0.02


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (np.r_[np.ones(900), np.nan], "without gaps"),
        (np.ones((2, 900)), "1-d series"),
        (np.ones(100), "found 100 days"),
    ],
)
def test_autocorrelation_refuses_gaps_and_short_series(series, message):
    with pytest.raises(MPTTError, match=message):
        autocorrelation(series, [1])

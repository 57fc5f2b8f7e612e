import numpy as np
import pytest

from mptt import MPTTError
from mptt.datamodules.simulation.weather import (
    Climate,
    _anomaly,
    _wet_days,
    day_of_year,
    extraterrestrial_radiation,
    generate_weather,
    reference_evapotranspiration,
)


def days(first, last):
    return np.arange(first, last, dtype="datetime64[D]")


def test_longer_period_begins_with_the_same_weather():
    short, long = generate_weather(days("1990", "1992"), seed=5), generate_weather(days("1990", "2003"), seed=5)
    for name, values in short.items():
        np.testing.assert_array_equal(values, long[name][: len(values)], err_msg=name)


def test_another_seed_draws_other_weather():
    first, second = (generate_weather(days("1990", "1991"), seed=seed) for seed in (0, 1))
    assert all((first[name] != second[name]).any() for name in first)


def test_wet_days_follow_the_chain_walked_day_by_day():
    random = np.random.default_rng(0)
    draws, after_dry = random.random(5000), random.uniform(0.05, 0.4, 5000)
    after_wet = after_dry + random.uniform(0, 0.5, 5000)
    today, expected = False, []
    for draw, dry, wet in zip(draws, after_dry, after_wet, strict=True):
        today = bool(draw < (wet if today else dry))
        expected.append(today)
    np.testing.assert_array_equal(_wet_days(draws, after_dry, after_wet), expected)


@pytest.mark.parametrize("days", [1, 2, 7, 1000])
def test_anomaly_is_the_recursion_of_its_draws(days):
    noise = np.random.default_rng(4).standard_normal(days)
    expected = [noise[0]]
    for today in noise[1:]:
        expected.append(0.9 * expected[-1] + np.sqrt(1 - 0.81) * today)
    np.testing.assert_allclose(_anomaly(np.random.default_rng(4), days, 0.9), expected, atol=1e-10)


def test_frequency_and_amount_of_wet_days_are_those_asked_for():
    climate = Climate(wet_after_dry=(0.2, 0.0), wet_after_wet=(0.6, 0.0), wet_day_amount=(7.0, 0.0), spell_strength=0.0)
    rain = generate_weather(days("1600", "2000"), climate)["PRECIPmm"]
    assert (rain > 0).mean() == pytest.approx(0.2 / (1 - 0.6 + 0.2), abs=0.01)
    assert rain[rain > 0].mean() == pytest.approx(7.0, rel=0.02)


def test_weather_is_physical():
    weather = generate_weather(days("1900", "2130"), seed=3)
    assert all(np.isfinite(values).all() for values in weather.values())
    assert (weather["TMP_MXdgC"] > weather["TMP_MNdgC"]).all()
    assert min(weather[name].min() for name in ("PRECIPmm", "SOLARMJ/m2", "WINDM/s", "PETmm")) >= 0
    assert 0 < weather["RHmd"].min() < weather["RHmd"].max() < 1


def test_wet_day_must_be_likelier_after_a_wet_one():
    with pytest.raises(MPTTError, match=r"found 0\.100 and 0\.400 on day 0"):
        generate_weather(
            days("2000", "2001"),
            Climate(wet_after_dry=(0.4, 0.0), wet_after_wet=(0.1, 0.0), spell_strength=0.0),
        )


def test_reference_evapotranspiration_of_the_worked_example():
    """Allen et al. (1998), example 18: Uccle, 6 July; relative humidity from their vapour pressures."""
    july = {"TMP_MXdgC": 21.5, "TMP_MNdgC": 12.3, "SOLARMJ/m2": 22.07, "WINDM/s": 2.078, "RHmd": 1.409 / 1.997}
    july = {name: np.array([value]) for name, value in july.items()}
    demand = reference_evapotranspiration(july, np.array([187]), Climate(latitude=50.8, elevation=100.0))
    assert demand[0] == pytest.approx(3.88, abs=0.02)


def test_radiation_above_the_atmosphere_of_the_worked_example():
    """Allen et al. (1998), example 8: 20 degrees south, 3 September."""
    assert extraterrestrial_radiation(np.array([246]), -20.0)[0] == pytest.approx(32.2, abs=0.1)


def test_day_of_year_knows_leap_years():
    assert day_of_year(np.array(["1903-12-31", "1904-12-31", "2100-03-01"], "datetime64[s]")).tolist() == [365, 366, 60]

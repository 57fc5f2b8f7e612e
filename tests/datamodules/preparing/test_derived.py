import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError
from mptt.datamodules.preparing.derived import (
    add_derived,
    bent_day_of_year,
    check_derive,
    derived_sources,
    extraterrestrial_radiation,
    oudin_evapotranspiration,
)


def days(count, start="2001-01-01"):
    return np.datetime64(start, "s") + np.arange(count) * np.timedelta64(86400, "s")


def weather(time=None, latitude=(-20.0, 50.0), **variables):
    time = days(400) if time is None else time
    variables = variables or {"tmean": 25.0}
    shape = len(latitude), len(time)
    return xr.Dataset(
        {name: (("site", "time"), np.full(shape, value, np.float32)) for name, value in variables.items()}
        | {"gauge_lat": ("site", np.array(latitude))},
        {"site": [f"s{site}" for site in range(len(latitude))], "time": time},
    )


def test_bent_day_of_year_is_smooth_over_new_year():
    dates = np.array(["2000-01-01", "2000-07-01", "2000-07-02", "2000-12-31", "2901-12-31"], "datetime64[s]")
    assert bent_day_of_year(xr.DataArray(dates, dims="time")).values.tolist() == [1, 183, 182, 0, 1]


@pytest.mark.parametrize(("calendar", "length"), [("noleap", 365), ("360_day", 360), ("all_leap", 366)])
def test_the_year_closes_in_every_calendar(calendar, length):
    time = xr.date_range("2001-01-01", periods=2 * length, calendar=calendar, use_cftime=True)
    found = add_derived(weather(time), ["doy_sin", "doy_cos"], {})
    angle = 2 * np.pi * np.arange(length) / length
    for name, expected in (("doy_sin", np.sin(angle)), ("doy_cos", np.cos(angle))):
        np.testing.assert_allclose(found[name].values, np.tile(expected, (2, 2)), atol=1e-6)
        assert found[name].dtype == np.float32


def test_leap_years_are_a_day_longer():
    found = add_derived(weather(days(731, "2003-01-01")), ["doy_cos"], {})["doy_cos"].values[0]
    assert found[0] == found[365] == 1
    np.testing.assert_allclose(found[364], np.cos(2 * np.pi * 364 / 365), rtol=1e-6)
    np.testing.assert_allclose(found[365 + 365], np.cos(2 * np.pi * 365 / 366), rtol=1e-6)


def test_radiation_is_that_of_the_example_of_fao_56():
    # Example 8: 3 September (day 246) at 20 degrees south, 32.2 MJ/m2 a day.
    assert float(extraterrestrial_radiation(np.array(246), -20.0)) == pytest.approx(32.2, abs=0.05)


def test_poles_have_night_and_day():
    june, december = extraterrestrial_radiation(np.array([172, 355]), 90.0)
    assert december == pytest.approx(0)
    # The sun never sets: 24 * 60 * 0.082 * (1 - 0.033) * sin(0.409)
    assert june == pytest.approx(24 * 60 * 0.0820 * 0.967 * np.sin(0.409), rel=1e-3)


def test_evapotranspiration_by_hand():
    # 32.2 MJ/m2 / 2.45 MJ/kg = 13.14 mm; times (25 + 5) / 100.
    found = oudin_evapotranspiration(np.array([25.0, -5.0, -30.0]), -20.0, np.array([246] * 3))
    np.testing.assert_allclose(found, [32.2 / 2.45 * 0.30, 0, 0], atol=0.01)


def test_a_year_has_as_much_as_temperate_basins_are_known_to():
    # Oudin et al. (2005) tuned the formula on basins with some 600 to 1400 mm a year; central France has 650.
    day = np.arange(1, 366)
    temperature = 11.5 + 8 * np.cos(2 * np.pi * (day - 200) / 365)
    assert 600 < oudin_evapotranspiration(temperature, 47.0, day).sum() < 750


@pytest.mark.parametrize(
    ("variables", "derive"),
    [
        ({"tmean": 10.0, "tmin": 0.0, "tmax": 4.0}, {}),
        ({"tmin": 4.0, "tmax": 16.0}, {}),
        ({"coldest": 4.0, "warmest": 16.0, "tmean": 99.0}, {"pet_oudin": {"temperature": ["coldest", "warmest"]}}),
        ({"air": 10.0, "tmean": 99.0}, {"pet_oudin": {"temperature": "air", "latitude": "gauge_lat"}}),
    ],
)
def test_temperature_is_a_mean_or_a_pair(variables, derive):
    found = add_derived(weather(**variables), ["pet_oudin"], derive)["pet_oudin"]
    day = found["time"].dt.dayofyear.values
    for site, latitude in enumerate((-20.0, 50.0)):
        np.testing.assert_allclose(found[site], oudin_evapotranspiration(np.array(10.0), latitude, day), rtol=1e-6)


def test_a_year_of_360_days_goes_round_the_sun_once():
    time = xr.date_range("2001-01-01", periods=720, calendar="360_day", use_cftime=True)
    found = add_derived(weather(time), ["pet_oudin"], {})["pet_oudin"].values
    np.testing.assert_array_equal(found[:, :360], found[:, 360:])
    middle = oudin_evapotranspiration(np.array(25.0), np.array([-20.0, 50.0]), np.array(365 / 2))
    np.testing.assert_allclose(found[:, 179], middle, rtol=1e-6)


def test_a_missing_temperature_is_a_missing_evapotranspiration():
    dataset = weather(tmin=0.0, tmax=10.0)
    dataset["tmin"][1, 7] = np.nan
    assert np.argwhere(add_derived(dataset, ["pet_oudin"], {})["pet_oudin"].isnull().values).tolist() == [[1, 7]]


def test_variables_of_the_data_set_go_before_computed_ones():
    dataset = weather(doy_sin=7.0, rain=1.0)
    assert add_derived(dataset, ["doy_sin", "rain"], {}) is dataset
    with pytest.raises(MPTTError, match="has a variable pet_oudin, which derive would compute"):
        add_derived(weather(pet_oudin=1.0), ["pet_oudin"], {"pet_oudin": {"latitude": "gauge_lat"}})


@pytest.mark.parametrize(("other", "alike"), [(-20.9, True), (-22.0, False)])
def test_latitudes_of_one_place_are_one(other, alike):
    dataset = weather(tmean=10.0)
    dataset["lat"] = ("site", [other, 50.0])
    if alike:
        found = add_derived(dataset, ["pet_oudin"], {})["pet_oudin"]
        assert found.equals(add_derived(weather(tmean=10.0), ["pet_oudin"], {})["pet_oudin"])
    else:
        with pytest.raises(
            MPTTError, match="latitude, which could be gauge_lat or lat; the data set has gauge_lat, lat"
        ):
            add_derived(dataset, ["pet_oudin"], {})


def test_sources_are_those_named_or_all_that_are_looked_for():
    assert derived_sources(["doy_sin", "rain"], {}) == []
    named = {"pet_oudin": {"temperature": ["a", "b"], "latitude": "c"}}
    assert derived_sources(["pet_oudin"], named) == ["a", "b", "c"]
    assert {"tmean", "tmin", "tmax", "gauge_lat"} <= set(derived_sources(["pet_oudin"], {}))


@pytest.mark.parametrize(
    ("changes", "derive", "message"),
    [
        ({"rain": 1.0}, {}, r"needs the temperature, which has none of the known names; the data set has rain"),
        ({"tmean": 1.0, "temperature_mean": 1.0}, {}, "could be tmean or temperature_mean"),
        ({"tmean": 285.0}, {}, r"in degC; tmean has 285 \(units not given\)"),
        ({"tmean": 1.0, "latitude": (50.0, np.nan)}, {}, r"gauge_lat is nan at 1 site\(s\): s1"),
        ({"tmean": 1.0, "latitude": (5000.0, 0.0)}, {}, r"gauge_lat is 5000 at 1 site\(s\): s0"),
        ({"tmean": 1.0}, {"pet_oudin": {"latitude": "lat"}}, "latitude 'lat', which is no numeric variable"),
        ({"tmean": 1.0}, {"pet_oudin": {"temperature": "gauge_lat"}}, "temperature 'gauge_lat', which is no numeric"),
        ({"time": days(400)[::2], "tmean": 1.0}, {}, "is a formula for days"),
    ],
)
def test_sources_that_cannot_be_used(changes, derive, message):
    with pytest.raises(MPTTError, match=message):
        add_derived(weather(**changes), ["pet_oudin"], derive)


@pytest.mark.parametrize(
    ("derive", "message"),
    [
        ({"doy_sin": {}}, "doy_bent, doy_sin, doy_cos need nothing"),
        ({"pet_oudin": {"temp": "tmean"}}, "sources of pet_oudin are temperature and latitude"),
        ({"pet_oudin": {"temperature": ["a", "b", "c"]}}, "one variable or a pair"),
        ({"pet_oudin": {"latitude": ["a"]}}, "its latitude one variable"),
        ("pet_oudin", "derive says what pet_oudin is computed from"),
    ],
)
def test_derive_of_another_form(derive, message):
    with pytest.raises(MPTTError, match=message):
        check_derive(derive, ["pet_oudin"])
    with pytest.raises(MPTTError, match="not among the inputs"):
        check_derive({"pet_oudin": {}}, ["rain"])

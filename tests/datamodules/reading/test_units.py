import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError
from mptt.datamodules.reading.units import conversion, convert_units


@pytest.mark.parametrize(
    ("unit", "to", "factor", "offset"),
    [
        ("mm/d", "mm/day", 1, 0),
        ("mm h-1", "mm/day", 24, 0),
        ("m", "mm", 1000, 0),
        ("kg m-2 s-1", "mm/day", 86400, 0),
        ("mm/day", "kg m-2 s-1", 1 / 86400, 0),
        ("kg m-2", "mm", 1, 0),
        ("W/m2", "MJ m-2 day-1", 0.0864, 0),
        ("W m**-2", "W m-2", 1, 0),
        ("K", "degC", 1, -273.15),
        ("deg C", "K", 1, 273.15),
        ("degrees_C", "degF", 1.8, 32),
        ("°C", "degC", 1, 0),
        ("degrees celsius", "degC", 1, 0),
        ("Deg. C", "K", 1, 273.15),
        ("oC", "degC", 1, 0),
        ("Kelvin", "degC", 1, -273.15),
        ("J m-2/day", "W/m2", 1 / 86400, 0),
        ("Watts/m2", "W m-2", 1, 0),
        ("mb", "hPa", 1, 0),
        ("cms", "m3/s", 1, 0),
        ("CFS", "m3 s-1", 0.028316846592, 0),
        ("cumecs", "m3/s", 1, 0),
        ("degF", "degC", 5 / 9, -160 / 9),
        ("K/day", "degC/day", 1, 0),
        ("%", "1", 0.01, 0),
        ("fraction", "%", 100, 0),
        ("ft3 s-1", "m3/s", 0.028316846592, 0),
        ("cfs", "m3 s-1", 0.028316846592, 0),
        ("hPa", "kPa", 0.1, 0),
        ("umolCO2 m-2 s-1", "gC m-2 d-1", 12.011e-6 * 86400, 0),
        ("µmolPhoton m-2 s-1", "mol m-2 d-1", 0.0864, 0),
    ],
)
def test_factor_and_offset(unit, to, factor, offset):
    found = conversion(unit, to)
    assert found == pytest.approx((factor, offset), rel=1e-9, abs=1e-9)


def test_cubic_feet_of_a_gauge_become_a_depth():
    # 175 * 0.028316846592 * 86400 * 1000 / 771486538
    assert 175 * conversion("cfs", "mm/day", 771.486538)[0] == pytest.approx(0.5549685, abs=1e-7)


def test_volume_to_depth_takes_the_area_of_each_site():
    factor, offset = conversion("m3/s", "mm/day", np.array([86.4, 8.64]))
    assert np.allclose(factor, [1, 10], rtol=1e-12)
    assert offset == 0
    assert conversion("mm/day", "m3 s-1", 86.4)[0] == pytest.approx(1)


def test_arrays_keep_their_shape_type_and_words():
    flow = xr.DataArray(
        np.array([[1, 2], [3, np.nan]], np.float32),
        coords={"site": ["a", "b"]},
        dims=("site", "time"),
        name="q",
        attrs={"units": "m3 s-1", "long_name": "flow"},
    )
    area = xr.DataArray([86.4e6, 8.64e6], coords={"site": ["a", "b"]}, dims="site", attrs={"units": "m2"})
    depth = convert_units(flow, "mm/day", area)
    assert depth.dims == ("site", "time")
    assert depth.dtype == np.float32
    assert depth.attrs == {"units": "mm/day", "long_name": "flow"}
    assert np.allclose(depth, [[1, 2], [30, np.nan]], equal_nan=True)
    assert flow.attrs["units"] == "m3 s-1"


def test_whole_numbers_become_real_ones():
    warm = xr.DataArray(np.array([0, 10], np.int16), dims="time", attrs={"units": "degC"})
    assert np.allclose(convert_units(warm, "K").values, [273.15, 283.15])


@pytest.mark.parametrize(
    ("unit", "to", "message"),
    [
        ("", "mm/day", "states no unit"),
        ("m3/s", "mm/day", "area of the site"),
        ("m3/s", "degC", "does not convert"),
        ("mm", "mm/day", "does not convert"),
        ("milimeter/day", "mm/day", "'milimeter'.*[Nn]ear it: millimeter"),
        ("mm/month", "mm/day", "months, which differ"),
        ("mm 3h-1", "mm/day", "cannot be read"),
    ],
)
def test_what_does_not_convert_is_refused_by_name(unit, to, message):
    array = xr.DataArray([1.0], dims="time", name="rain", attrs={"units": unit})
    with pytest.raises(MPTTError, match=message) as error:
        convert_units(array, to)
    assert "rain" in str(error.value)


@pytest.mark.parametrize("area", [0.0, -3.0, np.nan])
def test_an_area_is_positive(area):
    with pytest.raises(MPTTError, match="positive area"):
        conversion("m3/s", "mm/day", area)


def test_the_registry_is_imported_only_when_it_is_needed():
    code = "import sys, mptt.datamodules.reading.units; sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_common_registry_is_left_as_it_was():
    conversion("cfs", "m3/s")
    from cf_xarray.units import units

    assert "cubic_foot_per_second" not in units


@pytest.mark.parametrize(("unit", "to"), [("J m-2", "W/m2"), ("m", "mm/day"), ("kg m-2", "mm/day")])
def test_an_amount_is_no_rate_until_its_time_is_said(unit, to):
    with pytest.raises(MPTTError, match=f"It is an amount.*of a day, say '{unit}/day' in units_in_file"):
        conversion(unit, to)
    assert conversion(f"{unit}/day", to)[1] == 0


def test_a_temperature_times_something_does_not_convert():
    with pytest.raises(MPTTError, match="'grad C' does not convert to 'degC'"):
        conversion("grad C", "degC")

import netCDF4
import numpy as np
import pytest

from mptt import MPTTError
from mptt.datamodules.reading.classic import check_classic
from mptt.datamodules.reading.opening import open_dataset

FORMS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def write(path, form, kind="f4", records=False):
    """A scalar, a long variable with attributes, and dates."""
    with netCDF4.Dataset(path, "w", format=form) as file:
        file.title = "three"
        file.createDimension("time", None if records else 999)
        file.createVariable("area", "f8")[...] = 3.5
        time = file.createVariable("time", "i4", ("time",))
        time.units = "days since 2000-01-01"
        rain = file.createVariable("rain", kind, ("time",))
        rain.units = "mm"
        time[:], rain[:] = np.arange(999), np.ones(999)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("kind", ["f4", "i2"])
def test_a_whole_file_passes_and_a_shorter_one_does_not(tmp_path, form, records, kind):
    path = write(tmp_path / "x.nc", form, kind, records)
    check_classic(path)
    whole = path.read_bytes()
    for length in (len(whole) - 4, len(whole) // 2, 60):
        path.write_bytes(whole[:length])
        with pytest.raises(MPTTError, match=r"x\.nc (cannot be read to its end|is cut short)"):
            check_classic(path)


def test_what_is_cut_off_is_not_read_as_zeros(tmp_path):
    path = write(tmp_path / "x.nc", "NETCDF3_CLASSIC")
    assert (open_dataset(path)["rain"] == 1).all()
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(MPTTError, match="cannot be read to its end"):
        open_dataset(path)


def test_other_files_pass(tmp_path):
    check_classic(write(tmp_path / "x.nc", "NETCDF4"))
    (tmp_path / "y.nc").write_bytes(b"CD")
    check_classic(tmp_path / "y.nc")

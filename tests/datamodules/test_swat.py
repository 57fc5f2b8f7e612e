import gzip

import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.simulated import simulate_basin
from mptt.datamodules.swat import (
    LAYOUT,
    SWAT_COLUMNS,
    SWATDataModule,
    add_bent_day,
    read_swat_csv,
    swat_csv_source,
    write_swat_csv,
    years_after,
)

ROWS = ["1999-12-31,1.5,20", "2000-01-01,0,21.25", "2000-01-02,,-3e1"]


@pytest.fixture
def write(tmp_path):
    def writer(*lines, header="Date,PRECIPmm,SW_ENDmm", ending="\n"):
        path = tmp_path / "basin.csv"
        path.write_bytes(ending.join([header, *lines, ""]).encode())
        return path

    return writer


# Reading


def test_values_units_dates_and_site_are_read(write):
    basin = read_swat_csv(write(*ROWS))
    np.testing.assert_array_equal(basin["PRECIPmm"].values, np.array([[1.5, 0, np.nan]], np.float32))
    np.testing.assert_array_equal(basin["SW_ENDmm"].values, np.array([[20, 21.25, -30]], np.float32))
    assert basin["SW_ENDmm"].attrs == {"units": "mm", "long_name": "soil water at the end of the day"}
    assert basin["SW_ENDmm"].dtype == np.float32
    assert basin["time"].dtype == "datetime64[s]"
    assert [str(day)[:10] for day in basin["time"].values] == ["1999-12-31", "2000-01-01", "2000-01-02"]
    assert basin["site"].values.tolist() == ["basin"]


def test_source_is_the_table(write):
    path = write(*ROWS)
    source = swat_csv_source(path)
    assert list(source.sites) == ["basin"]
    assert source.settings == {"class_path": "SWATDataModule", "init_args": {"path": str(path)}}
    dataset = source.dataset()
    assert {"title", "source", "license", "references"} == set(dataset.attrs)
    xr.testing.assert_identical(dataset, read_swat_csv(path)[list(dataset.data_vars)])
    assert list(source.dataset(["SW_ENDmm"]).data_vars) == ["SW_ENDmm"]
    with pytest.raises(MPTTError, match="No SWAT table at"):
        swat_csv_source(path.with_name("other.csv"))


def test_a_last_line_without_end_is_noted(write):
    path = write(*ROWS)
    path.write_text(path.read_text().rstrip()[:-2])
    with pytest.warns(MPTTWarning, match="has no line end"):
        read_swat_csv(path)


def test_layout_is_recognised_by_the_names_of_columns(write):
    assert LAYOUT.name == "swat_csv"
    assert LAYOUT.recognise(write(*ROWS))
    assert LAYOUT.recognise(write(*ROWS, header="\ufeffDate,PRECIPmm,SW_ENDmm", ending="\r\n"))
    assert not LAYOUT.recognise(write(*ROWS, header="Date,PRECIPmm,mystery"))
    assert not LAYOUT.recognise(write(*ROWS, header="date,PRECIPmm,SW_ENDmm"))
    assert not LAYOUT.recognise(write(*ROWS).parent)


def test_simulation_comes_back_from_its_table_to_the_last_bit(tmp_path):
    basin = simulate_basin(years=3)
    write_swat_csv(add_bent_day(basin), tmp_path / "simulated.csv")
    read = read_swat_csv(tmp_path / "simulated.csv")
    xr.testing.assert_equal(read, basin)
    assert all(read[name].attrs == basin[name].attrs for name in basin.data_vars)
    assert (tmp_path / "simulated.csv").read_text().startswith("Date,PRECIPmm,TMP_MXdgC,TMP_MNdgC,SOLARMJ/m2,")


def test_dates_beyond_nanoseconds_are_read(write):
    days = read_swat_csv(write("2901-12-30,1,1", "2901-12-31,1,1"))["time"].values
    assert (days.dtype, str(days[-1])[:10]) == (np.dtype("datetime64[s]"), "2901-12-31")


def test_columns_come_in_any_order(write):
    basin = read_swat_csv(write("5,1999-12-31,1", "6,2000-01-01,2", header="SNOmm,Date,LAI"))
    assert basin["SNOmm"].values.tolist() == [[5, 6]]
    assert basin["LAI"].values.tolist() == [[1, 2]]


def test_unknown_columns_are_read_without_units(write):
    basin = read_swat_csv(write("1999-12-31,1", header="Date,NITRATEkg"))
    assert basin["NITRATEkg"].attrs == {"units": "", "long_name": "NITRATEkg"}


@pytest.mark.parametrize("text", ["", "NA", "NaN", "nan"])
def test_missing_values_are_nan_in_the_last_column_too(write, text):
    basin = read_swat_csv(write(f"1999-12-31,{text},{text}", "2000-01-01,1,2"))
    np.testing.assert_array_equal(basin["SW_ENDmm"].values, [[np.nan, 2]])


def test_byte_order_mark_spaces_windows_line_ends_and_blank_lines_are_taken(write):
    path = write("1999-12-31, 1, 2", "2000-01-01, 3, 4", "", "", header="\ufeffDate, PRECIPmm, SW_ENDmm", ending="\r\n")
    assert read_swat_csv(path)["SW_ENDmm"].values.tolist() == [[2, 4]]


# Refusing


def test_missing_file_says_what_was_looked_for_and_what_is_there(write):
    path = write(*ROWS)
    with pytest.raises(MPTTError, match=r"No SWAT table at .*other.csv.*CSV files in that folder: basin.csv"):
        read_swat_csv(path.with_name("other.csv"))


def test_folder_is_not_a_table(tmp_path):
    with pytest.raises(MPTTError, match="found a folder there"):
        read_swat_csv(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Day,PRECIPmm,SW_ENDmm", "no column Date .*first line holds: Day, PRECIPmm, SW_ENDmm"),
        ("Date;PRECIPmm;SW_ENDmm", "no column Date"),
        ("Date,SW_ENDmm,SW_ENDmm", "the same one: SW_ENDmm"),
        ("Date,,SW_ENDmm", r"\(no name\)"),
    ],
)
def test_header_that_names_no_table_is_refused(write, header, message):
    with pytest.raises(MPTTError, match=message):
        read_swat_csv(write(*ROWS, header=header))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2000-01-03,1", "line 5: 2 fields where 3 are due .Date PRECIPmm SW_ENDmm., in '2000-01-03,1'"),
        ("2000-01-03,1,2,3", "line 5: 4 fields where 3"),
        ("2000-01-03,1,2x", "line 5: SW_ENDmm is '2x', not a number"),
        ("2000-01-03,inf,2", "line 5: PRECIPmm is 'inf', not a number"),
        ("2000-01-03,1e99,2", "line 5: PRECIPmm is '1e99', not a number"),
        ("2000-1-3,1,2", "line 5: '2000-1-3' is not a date"),
        ("2000-02-30,1,2", "line 5: '2000-02-30' is not a date"),
        ("2000-01-03 00:00,1,2", "line 5: '2000-01-03 00:00' is not a date"),
        (",1,2", "line 5: '' is not a date"),
    ],
)
def test_corrupt_line_is_named_with_its_number_and_text(write, line, message):
    with pytest.raises(MPTTError, match=message) as refusal:
        read_swat_csv(write(*ROWS, line, "2000-01-04,1,2"))
    assert "basin.csv" in str(refusal.value)


def test_first_row_with_a_field_too_many_does_not_shift_the_columns(write):
    with pytest.raises(MPTTError, match="line 2: 4 fields"):
        read_swat_csv(write("1999-12-31,1,2,3", "2000-01-01,1,2,3"))


@pytest.mark.parametrize(
    ("date", "message"),
    [
        ("2000-01-04", "2000-01-04 comes 2 days after 2000-01-02"),
        ("2000-01-02", "2000-01-02 stands twice"),
        ("1999-12-31", "1999-12-31 goes back after 2000-01-02"),
    ],
)
def test_dates_must_go_up_a_day_at_a_time(write, date, message):
    with pytest.raises(MPTTError, match=message):
        read_swat_csv(write(*ROWS, f"{date},1,2"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"Date,SW_ENDmm\n", "empty below its header"),
        (gzip.compress(b"Date,SW_ENDmm\n1999-12-31,1\n", mtime=0), "is not a text file"),
        (b"Date,SW_ENDmm,\xff\xfe\n1999-12-31,1,1\n", "is not a text file"),
        (b"Date,SW_ENDmm\n" + 9999 * b"1999-12-31,1\n" + b"2000-01-01,\xe9\n", "is not a text file"),
    ],
    ids=["no-byte", "blank", "header-alone", "gzip", "utf-16", "latin-1-far-down"],
)
def test_files_that_are_no_text_table_are_refused(tmp_path, content, message):
    path = tmp_path / "basin.csv"
    path.write_bytes(content)
    with pytest.raises(MPTTError, match=message):
        read_swat_csv(path)


def test_table_of_two_sites_is_refused(tmp_path):
    basin = simulate_basin(years=1)
    both = xr.concat([basin, basin.assign_coords(site=["other"])], "site")
    with pytest.raises(MPTTError, match="found: simulated, other"):
        write_swat_csv(both, tmp_path / "both.csv")


# The calendar


def test_bent_day_stands_beside_the_columns_for_every_site():
    basin = simulate_basin(years=1)
    both = add_bent_day(xr.concat([basin, basin.assign_coords(site=["other"])], "site"))
    assert both["DOYbent"].dims == ("site", "time")
    assert both["DOYbent"].values[:, :3].tolist() == [[1, 2, 3], [1, 2, 3]]
    assert both["DOYbent"].attrs["units"] == SWAT_COLUMNS["DOYbent"][0]


@pytest.mark.parametrize(
    ("date", "years", "expected"),
    [("1902-01-01", 1000, "2902-01-01"), ("2000-02-29", 1, "2001-03-01"), ("1902-01-01", -30, "1872-01-01")],
)
def test_years_are_counted_by_the_calendar(date, years, expected):
    assert years_after(np.datetime64(date, "s"), years) == np.datetime64(expected)


# The DataModule


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("swat") / "headwater.csv"
    write_swat_csv(simulate_basin(years=12), path)
    return path


def test_data_module_has_the_paper_s_set_up(table):
    data = SWATDataModule(table, warmup=365)
    data.setup("fit")
    assert (data.window, data.stride, data.batch_size, data.split) == (366, 183, 64, (0.5, 0.1, 0.4))
    assert next(iter(data.train_dataloader()))["x"].shape == (len(data.windows), 366, 7)
    assert data.sites == ["headwater"]


def test_only_the_first_years_are_kept(table):
    days = SWATDataModule(table, years=3).load()["time"].values
    assert (len(days), str(days[-1])[:10]) == (365 + 365 + 366, "1904-12-31")


def test_all_years_can_be_asked_for_by_number(table):
    assert SWATDataModule(table, years=12).load().sizes == SWATDataModule(table).load().sizes


def test_more_years_than_there_are_are_refused(table):
    with pytest.raises(MPTTError, match="fewer than the 13 years asked for"):
        SWATDataModule(table, years=13).load()


def test_no_years_are_refused(table):
    with pytest.raises(MPTTError, match="first 0 years"):
        SWATDataModule(table, years=0)


def test_misspelt_argument_is_refused(table):
    with pytest.raises(TypeError, match="windw"):
        SWATDataModule(table, windw=30)

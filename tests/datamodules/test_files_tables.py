"""Files of any layout: tables."""

import builtins
import gzip

import numpy as np
import pandas as pd
import pytest

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import read_files

LONG = ["gauge_id,date,Q,rain", "007,2000-01-02,2,20", "12,2000-01-01,5,50", "007,2000-01-01,1,10", "12,2000-01-02,,60"]


def write(path, lines, end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def test_a_long_table_is_joined_by_site_and_date(tmp_path):
    read = read_files(write(tmp_path / "all.csv", LONG))
    assert read["site"].values.tolist() == ["007", "12"]
    assert np.array_equal(read["Q"], [[1, 2], [5, np.nan]], equal_nan=True)
    assert read["rain"].values.tolist() == [[10, 20], [50, 60]]
    assert read["rain"].dtype == np.float32
    assert read["time"].values.tolist() == np.array(["2000-01-01", "2000-01-02"], "M8[s]").tolist()


@pytest.mark.parametrize("kind", ["crlf", "bom", "semicolon", "tab", "gzip", "index", "empty column", "slashes"])
def test_tables_as_programs_write_them(tmp_path, kind):
    lines = [",".join(["date", "Q", "rain"]), "2000-01-02,2,20", "2000-01-01,1,10"]
    name, content = "a.csv", None
    if kind == "semicolon":
        lines = [line.replace(",", ";") for line in lines]
    if kind == "tab":
        name, lines = "a.tsv", [line.replace(",", "\t") for line in lines]
    if kind == "index":
        lines = [f"{'' if nth == 0 else nth},{line}" for nth, line in enumerate(lines)]
    if kind == "empty column":
        lines = [f"{line}," for line in lines]
    if kind == "slashes":
        lines = [line.replace("2000-01-", "2000/01/") for line in lines]
    content = ("\r\n" if kind == "crlf" else "\n").join([*lines, ""]).encode("utf-8-sig" if kind == "bom" else "utf-8")
    if kind == "gzip":
        name, content = "a.csv.gz", gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    read = read_files(tmp_path / name)
    assert read["site"].values.tolist() == ["a"]
    assert read["Q"].values.tolist() == [[1, 2]]
    assert read["rain"].values.tolist() == [[10, 20]]
    assert set(read.data_vars) == {"Q", "rain"}


def test_a_folder_of_tables_with_different_periods_and_columns(tmp_path):
    write(tmp_path / "01.csv", ["date,Q", "2000-01-01,1", "2000-01-02,2"])
    write(tmp_path / "1.csv", ["rain,date,Q", "7,2000-01-03,3", "8,2000-01-02,4"])
    read = read_files(tmp_path)
    assert read["site"].values.tolist() == ["01", "1"]
    assert np.array_equal(read["Q"], [[1, 2, np.nan], [np.nan, 4, 3]], equal_nan=True)
    assert np.array_equal(read["rain"], [[np.nan] * 3, [np.nan, 8, 7]], equal_nan=True)


def test_a_folder_of_long_tables(tmp_path):
    write(tmp_path / "1.csv", ["site,date,Q", "a,2000-01-03,3", "b,2000-01-01,4"])
    write(tmp_path / "2.csv", ["site,date,Q", "a,2000-01-02,2", "b,2000-01-02,5"])
    assert np.array_equal(read_files(tmp_path)["Q"], [[np.nan, 2, 3], [4, 5, np.nan]], equal_nan=True)
    write(tmp_path / "3.csv", ["site,date,Q", "a,2000-01-02,2"])
    with pytest.raises(MPTTError, match=r"Site a has 2000-01-02.*two of .*2\.csv.*3\.csv"):
        read_files(tmp_path)
    write(tmp_path / "3.csv", ["date,Q", "2000-01-02,2"])
    with pytest.raises(MPTTError, match=r"3\.csv has no column of sites"):
        read_files(tmp_path)


def test_units_missing_values_and_attributes_are_said_beside_a_table(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write(data / "007.csv", ["date,Q", "2000-01-01,1", "2000-01-02,-9999"])
    write(data / "12.csv", ["date,Q", "2000-01-01,2", "2000-01-02,3"])
    table = write(data / "attributes.csv", ["basin,area_km2,class,empty", "12,8.64,B,", "007,86.4,,", "99,1,C,"])
    read = read_files(
        data,
        attributes_file=table,
        names={"Q": "flow", "area_km2": "area"},
        units_in_file={"flow": "m3/s", "area": "km2"},
        units={"flow": "mm/day"},
        missing=[-9999],
    )
    assert np.allclose(read["flow"], [[1, np.nan], [20, 30]], equal_nan=True)
    assert read["flow"].attrs == {"units": "mm/day", "long_name": "flow"}
    assert read["area"].values.tolist() == pytest.approx([86.4, 8.64])
    assert read["class"].values.tolist() == ["", "B"]
    assert np.isnan(read["empty"]).all()


def test_sites_without_attributes_are_noted(tmp_path):
    path = write(tmp_path / "a.csv", LONG)
    with pytest.warns(MPTTWarning, match=r"no row of 1 of 2 site\(s\).*: 12"):
        read = read_files(path, attributes_file=write(tmp_path / "t.csv", ["gauge_id,area", "007,3"]))
    assert np.array_equal(read["area"], [3, np.nan], equal_nan=True)
    with pytest.raises(MPTTError, match=r"no site of the data.*holds 7, the data have 007, 12.*leading zeros"):
        read_files(path, attributes_file=write(tmp_path / "t.csv", ["gauge_id,area", "7,3"]))
    with pytest.raises(MPTTError, match=r"more than one row: 007"):
        read_files(path, attributes_file=write(tmp_path / "t.csv", ["gauge_id,area", "007,3", "007,4"]))
    with pytest.raises(MPTTError, match="No attributes_file at"):
        read_files(path, attributes_file=tmp_path / "none.csv")


def test_calendars_and_forms_of_dates(tmp_path):
    path = write(tmp_path / "a.csv", ["date,Q", "2000-02-28,1", "2000-03-01,2"])
    assert read_files(path, calendar="noleap").sizes["time"] == 2
    assert read_files(path)["time"].values[1] == np.datetime64("2000-03-01")
    thirty = write(tmp_path / "b.csv", ["date,Q", "2000-02-29,1", "2000-02-30,2"])
    assert str(read_files(thirty, calendar="360_day").indexes["time"][1]) == "2000-02-30 00:00:00"
    with pytest.raises(MPTTError, match=r"line 3: date: '2000-02-30' is not in the calendar"):
        read_files(thirty)
    german = write(tmp_path / "c.csv", ["date,Q", "31.12.2000,1", "01.01.2001,2"])
    with pytest.raises(MPTTError, match=r"line 2: date: '31\.12\.2000' is not a date.*time_format"):
        read_files(german)
    assert read_files(german, time_format="%d.%m.%Y")["Q"].values.tolist() == [[1, 2]]
    late = write(tmp_path / "d.csv", ["date,Q", "2900-01-01,1", "2900-01-02,2"])
    assert read_files(late)["time"].values[1] == np.datetime64("2900-01-02")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["date,Q", "2000-01-01,1", "2000-01-02,x"], {}, "line 3: Q is 'x', not a number.*variables="),
        (["date,Q", "d,mm/day", "2000-01-01,1"], {}, "line 2: Q is 'mm/day', not a number.*units_in_file"),
        (["date,Q", "2000-01-01,1", "2000-01-02"], {}, "line 3: 1 fields where 2 are due"),
        (["date,Q", "2000-01-01,1", "2000-01-02,2,3"], {}, "line 3: 3 fields where 2 are due"),
        (["date,Q,R", "2000-01-01,1,1", "2000-01-02,1,2,3"], {"variables": ["Q"]}, "line 3: 4 fields where 3"),
        (["date,Q,R", "2000-01-01,1,1", "2000-01-02,1"], {"variables": ["Q"]}, "line 3: 2 fields where 3"),
        (["date,Q", "2000-01-01,1", ",2"], {}, "line 3: date: '' is not a date"),
        (["date,Q", "2000-01-01,1", "2000-01-01,2"], {}, r"1 further row\(s\) of a date of site a"),
        (["date,Q,Q", "2000-01-01,1,2"], {}, "several columns of one name: Q"),
        (["Q,R", "1,2"], {}, "no column of dates; its columns are Q, R"),
        (["date,Q"], {}, "no row below its header"),
        (["date,time,Q", "2000-01-01,1,1"], {}, "which column is the time, date or time"),
        (["date,Q", "2000-01-01,1"], {"time": "when"}, "no column 'when' for the time"),
        (["date,Q", "2000-01-01,1"], {"site": "gauge"}, "no column 'gauge' for the site"),
        (["date,Q", "2000-01-01,1"], {"site": ["lat", "lon"]}, "one column that names the site"),
        (["date,Q", "2000-01-01,1"], {"calendar": "lunar"}, "no calendar 'lunar'"),
        (["date,01013500,01022500", "2000-01-01,1,2"], {}, "a column a site has.*pandas.melt"),
        (["date,Q", "2000-01-01,1"], {"units": {"Q": "mm/day"}}, "Q states no unit.*units_in_file"),
        (["site,date,Q", "a,2000-01-01,1", ",2000-01-02,1"], {}, "line 3: no site in the column site"),
    ],
)
def test_wrong_tables_are_refused_with_the_line(tmp_path, lines, options, message):
    with pytest.raises(MPTTError, match=message) as error:
        read_files(write(tmp_path / "a.csv", lines), **options)
    assert "a.csv" in str(error.value) or "Q:" in str(error.value) or "calendar" in message or "no unit" in message


def test_columns_of_text_can_be_left_out(tmp_path):
    path = write(tmp_path / "a.csv", ["date,flag,Q", "2000-01-01,A,1", "2000-01-02,B,2"])
    assert read_files(path, variables=["Q"])["Q"].values.tolist() == [[1, 2]]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\0\0\0", b"date,Q\n2000-01-01,\xff\xfe\n"])
def test_files_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(MPTTError, match=r"a\.csv is (empty|not a text file)"):
        read_files(tmp_path / "a.csv")


def test_files_that_must_not_be_read_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", ["date,Q", "2000-01-01,1"])

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(MPTTError, match=r"a\.csv cannot be read: .*Permission denied"):
        read_files(path)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame(
        {
            "gauge": ["007", "007", "12"],
            "when": pd.to_datetime(["2000-01-02", "2000-01-01", "2000-01-01"]).astype("datetime64[ms]"),
            "Q": [2.0, 1.0, 5.0],
            "flag": ["A", "B", "C"],
        }
    )
    table.to_parquet(tmp_path / "x.parquet")
    read = read_files(tmp_path / "x.parquet", site="gauge", time="when", variables=["Q"])
    assert np.array_equal(read["Q"], [[1, 2], [5, np.nan]], equal_nan=True)
    with pytest.raises(MPTTError, match="not numbers: flag"):
        read_files(tmp_path / "x.parquet", site="gauge", time="when")
    one = table[:2].set_index("when")[["Q"]].tz_localize("UTC")
    one.to_parquet(tmp_path / "00a.parquet")
    read = read_files(tmp_path / "00a.parquet", time="when")
    assert read["site"].values.tolist() == ["00a"]
    assert read["Q"].values.tolist() == [[1, 2]]
    (tmp_path / "00a.parquet").write_bytes((tmp_path / "00a.parquet").read_bytes()[:-20])
    with pytest.raises(MPTTError, match=r"00a\.parquet cannot be read as a Parquet file"):
        read_files(tmp_path / "00a.parquet", time="when")


def test_parquet_without_its_package_says_which(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    usual = builtins.__import__

    def lacking(name, *arguments, **options):
        if name == "pyarrow":
            raise ImportError(name)
        return usual(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(MPTTError, match=r"mptt\[parquet\]"):
        read_files(tmp_path / "x.parquet")


def test_a_date_twice_is_named_with_its_line(tmp_path):
    lines = ["site,date,q", "a,2000-01-02,1", "", "b,2000-01-02,1", "a,2000-01-01,2", "a,2000-01-02,3"]
    with pytest.raises(
        MPTTError, match=r"x\.csv, line 6: 1 further row\(s\) of a date of site a, the first of 2000-01-02"
    ):
        read_files(write(tmp_path / "x.csv", lines))


def test_a_last_line_without_end_is_noted(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"date,q\n2000-01-01,10.5\n2000-01-02,10.")
    with pytest.warns(MPTTWarning, match=r"x\.csv: its last line, 3, has no line end.*cut short"):
        assert read_files(tmp_path / "x.csv")["q"].values.tolist() == [[10.5, 10]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"date,q\r2000-01-01,1\r", "line 1: new-line character"),
        (b"\ndate,q\n2000-01-01,1\n", "line 1: no names of columns"),
        (b"date,USGS-01013500,USGS-01022500\n2000-01-01,1,2\n", "a column a site has"),
        (b"date,DE-Tha,US-Ha1\n2000-01-01,1,2\n", "a column a site has"),
    ],
)
def test_headers_that_name_no_variables_are_refused(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(MPTTError, match=message):
        read_files(tmp_path / "x.csv")


def test_zeros_that_a_spreadsheet_lost_are_refused(tmp_path):
    write(tmp_path / "01.csv", ["date,q", "2000-01-01,1"])
    write(tmp_path / "11.csv", ["date,q", "2000-01-01,1"])
    table = write(tmp_path / "sites.csv", ["site,area", "1,5", "11,6"])
    with pytest.raises(MPTTError, match="has no row of site 01, but one of 1: the zeros are lost"):
        read_files(tmp_path, attributes_file=table)


def test_times_with_a_zone(tmp_path):
    days = pd.date_range("2000-03-25", periods=3, tz="Europe/Berlin")  # summer time begins on the 26th
    pd.DataFrame({"date": days, "q": [1.0, 2, 3]}).to_parquet(tmp_path / "days.parquet")
    read = read_files(tmp_path / "days.parquet")
    assert read["time"].values.astype("M8[h]").astype(str).tolist() == [f"2000-03-{day}T00" for day in (25, 26, 27)]
    hours = pd.date_range("2000-03-26", periods=4, freq="h", tz="Europe/Berlin")
    pd.DataFrame({"date": hours, "q": [1.0, 2, 3, 4]}).to_parquet(tmp_path / "hours.parquet")
    read = read_files(tmp_path / "hours.parquet")
    assert str(read["time"].values[0])[:13] == "2000-03-25T23", "in universal time"
    assert read["q"].values.tolist() == [[1, 2, 3, 4]]


def test_whole_numbers_with_decimals_are_ids_without(tmp_path):
    table = pd.DataFrame({"date": pd.date_range("2000-01-01", periods=2), "site": [7.0, 8.0], "q": [1.0, 2.0]})
    table.to_parquet(tmp_path / "x.parquet")
    assert read_files(tmp_path / "x.parquet")["site"].values.tolist() == ["7", "8"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"date": [], "q": []}, r"x\.parquet has no row"),
        (
            {"date": ["2000-01-01"], "q": [1.0], "note": ["ice"]},
            r"columns that are not numbers: note \(\w+\); leave them",
        ),
        ({"site": ["a", None], "date": ["2000-01-01"] * 2, "q": [1.0, 2]}, "without a date in date or a site in site"),
        ({"date": ["2000-01-01", None], "q": [1.0, 2]}, r"rows without a date in date\."),
        ({"date": ["2000-01-01", "soon"], "q": [1.0, 2]}, r"x\.parquet, column date: .*soon"),
    ],
)
def test_parquet_that_is_no_table_of_series_is_refused(tmp_path, columns, message):
    pd.DataFrame(columns).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(MPTTError, match=message):
        read_files(tmp_path / "x.parquet")


def test_dates_as_text_in_parquet_are_dates(tmp_path):
    pd.DataFrame({"date": ["2000-01-02", "2000-01-01"], "q": [2.0, 1]}).to_parquet(tmp_path / "x.parquet")
    read = read_files(tmp_path / "x.parquet")
    assert read["q"].values.tolist() == [[1, 2]]
    assert read["time"].values.tolist() == np.array(["2000-01-01", "2000-01-02"], "M8[s]").tolist()


@pytest.mark.parametrize("damage", [lambda one: one[:-9], lambda one: b"date,Q\n" + one])
def test_a_gzipped_table_that_is_cut_short_or_none_is_refused(tmp_path, damage):
    (tmp_path / "a.csv.gz").write_bytes(damage(gzip.compress(b"date,Q\n2000-01-01,1\n2000-01-02,2\n")))
    with pytest.raises(MPTTError, match=r"a\.csv\.gz cannot be unpacked: .* Get an intact copy"):
        read_files(tmp_path / "a.csv.gz")


def test_two_tables_that_name_one_site_are_refused(tmp_path):
    lines = ["date,Q", "2000-01-01,1", ""]
    write(tmp_path / "a.csv", lines)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(MPTTError, match=r"Two files name one site: .*a\.csv, .*a\.csv\.gz\. Rename one"):
        read_files(tmp_path)


def test_tables_with_and_without_a_column_of_sites_are_not_mixed(tmp_path):
    write(tmp_path / "a.csv", ["date,Q", "2000-01-01,1"])
    write(tmp_path / "b.csv", LONG)
    with pytest.raises(MPTTError, match=r"b\.csv has a column of sites and .*a\.csv has none; read them apart"):
        read_files(tmp_path)

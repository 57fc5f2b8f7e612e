import os
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from fake_caravan import UNITS, random_series, write_attributes, write_csv, write_many, write_nc

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import CaravanDataModule, read_camels, read_caravan
from mptt.datamodules.caravan import LAYOUT, caravan_source
from mptt.datamodules.formats.caravan_variables import SERIES, about_attribute, table_of_units

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
real = pytest.mark.skipif(
    not (REAL / "caravan").is_dir(), reason=f"no real basins in {REAL / 'caravan'} (MPTT_REAL_DATA says where)"
)
RAIN, FLOW = "total_precipitation_sum", "streamflow"


@pytest.fixture
def root(tmp_path):
    """Two sources: camels with a CSV file of gauge 01, hysets with a NetCDF file of gauge 01AD, two days later."""
    write_csv(tmp_path, "camels", "camels_01", {RAIN: [1, 2, 3, 4], FLOW: [0.5, np.nan, 1.5, 2]})
    write_nc(
        tmp_path,
        "hysets",
        "hysets_01AD",
        {RAIN: [5, 6, 7], FLOW: [8, 9, np.nan], "ta_x_mean": [1, 1, 2]},
        start="2000-01-03",
        Units=UNITS,
        Timezone="America/Montreal",
    )
    for source, gauge in (("camels", "camels_01"), ("hysets", "hysets_01AD")):
        write_attributes(
            tmp_path,
            source,
            f"attributes_caravan_{source}.csv",
            ["gauge_id,p_mean,aridity", f"{source}_99,9,9", f"{gauge},3.5,0.25"],
        )
        write_attributes(
            tmp_path,
            source,
            f"attributes_other_{source}.csv",
            ["gauge_id,gauge_name,area", f'{gauge},"Creek, {source}",120.5', f"{source}_99,Far,1"],
        )
    return tmp_path


def csv_of(root):
    return root / "timeseries" / "csv" / "camels" / "camels_01.csv"


def nc_of(root):
    return root / "timeseries" / "netcdf" / "hysets" / "hysets_01AD.nc"


def test_sources_and_formats_stand_on_one_axis(root):
    dataset = read_caravan(root)
    assert dataset["site"].values.tolist() == ["camels_01", "hysets_01AD"]
    assert dataset["time"].dtype == "datetime64[s]"
    days = np.arange("2000-01-01", "2000-01-06", dtype="datetime64[D]")
    np.testing.assert_array_equal(dataset["time"], days)
    nan = np.nan
    np.testing.assert_array_equal(dataset[RAIN], [[1, 2, 3, 4, nan], [nan, nan, 5, 6, 7]])
    np.testing.assert_array_equal(dataset[FLOW], [[0.5, nan, 1.5, 2, nan], [nan, nan, 8, 9, nan]])
    np.testing.assert_array_equal(dataset["ta_x_mean"], [[nan] * 5, [nan, nan, 1, 1, 2]])
    assert {variable.dtype.str for variable in (dataset[RAIN], dataset["area"])} == {"<f4"}


def test_attributes_are_joined_by_id_and_text_stays_text(root):
    dataset = read_caravan(root)
    assert dataset["area"].values.tolist() == [120.5, 120.5]
    assert dataset["p_mean"].values.tolist() == [3.5, 3.5]
    assert dataset["gauge_name"].values.tolist() == ["Creek, camels", "Creek, hysets"]
    assert dataset["timezone"].values.tolist() == ["", "America/Montreal"]


def test_every_variable_says_what_it_is(root):
    dataset = read_caravan(root)
    for name, variable in dataset.data_vars.items():
        assert set(variable.attrs) == {"units", "long_name"}, name
    assert dataset[FLOW].attrs["units"] == dataset[RAIN].attrs["units"] == "mm/day"
    assert dataset["area"].attrs["units"] == "km2"
    assert {"title", "source", "license", "references"} == set(dataset.attrs)
    assert "10.1038/s41597-023-01975-w" in dataset.attrs["references"]


def test_unknown_variables_take_units_from_the_table_in_the_file(root):
    assert read_caravan(root)["ta_x_mean"].attrs == {"units": "degC", "long_name": "Air temperature of X"}


def test_the_table_of_units_leaves_out_lines_that_are_none():
    assert table_of_units("a: what a is [m3/m3]\nb without a colon [m]\nc: no unit\n d_2: D (0-7cm) [-]") == {
        "a": ("m3/m3", "what a is"),
        "d_2": ("", "D (0-7cm)"),
    }


def test_the_standard_variables_are_known():
    assert len(SERIES) == 12 * 3 + 1 + 3 + 1
    assert about_attribute("ele_mt_sav") == ("m", "ele_mt_sav of HydroATLAS")
    assert about_attribute("tmp_dc_s07")[0] == "0.1 degC"
    assert about_attribute("aridity_FAO_PM")[0] == "1"
    assert about_attribute("anything") == ("", "anything")


def test_other_units_than_caravans_are_warned_of_and_kept(root):
    write_nc(root, "hysets", "hysets_01AD", {"temperature_2m_mean": [280.0, 281.0]}, Units="temperature_2m: T [K]")
    with pytest.warns(
        MPTTWarning, match=r"hysets_01AD.nc gives temperature_2m_mean in 'K', in Caravan it is in 'degC'"
    ):
        assert read_caravan(root, ["hysets"])["temperature_2m_mean"].attrs["units"] == "K"


def test_netcdf_has_the_right_of_way_and_format_forces(root):
    write_nc(root, "camels", "camels_01", {RAIN: [10, 20]})
    assert read_caravan(root, ["camels"])[RAIN].values.tolist() == [[10, 20]]
    assert read_caravan(root, ["camels"], format="csv")[RAIN].values.tolist() == [[1, 2, 3, 4]]
    assert read_caravan(root, format="netcdf")["site"].values.tolist() == ["camels_01", "hysets_01AD"]
    assert read_caravan(root, format="csv")["site"].values.tolist() == ["camels_01"]
    with pytest.raises(MPTTError, match="format is 'netcdf' or 'csv'; found 'zarr'"):
        read_caravan(root, format="zarr")


def test_sources_and_sites_are_chosen_by_name(root):
    assert read_caravan(root, ["hysets"])["site"].values.tolist() == ["hysets_01AD"]
    sites = ["hysets_01AD", "camels_01"]
    assert read_caravan(root, sites=sites)["site"].values.tolist() == sites
    assert read_caravan(root, sites=sites)["p_mean"].dims == ("site",)
    (root / "mine.txt").write_text("camels_01\r\n")
    assert read_caravan(root, sites=root / "mine.txt")["site"].values.tolist() == ["camels_01"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": ["camelsgb"]}, "no series of source camelsgb. There are camels, hysets"),
        ({"sources": "camels"}, r"sources is a list of names; for one source, \['camels'\]"),
        ({"sites": ["camels_1"]}, "No series of site camels_1 in .*Near 'camels_1': camels_01"),
        ({"sites": ["camels_99"]}, "No series of site camels_99"),
        ({"sites": [True]}, r"A site is a string; found True \(bool\)"),
        ({"sites": []}, "The list of sites is empty"),
        ({"sites": ["camels_01", "camels_01"]}, "more than once: camels_01"),
        ({"sites": "nowhere.txt"}, "No list of sites at nowhere.txt"),
    ],
)
def test_what_is_not_there_is_refused(root, arguments, message):
    with pytest.raises(MPTTError, match=message):
        read_caravan(root, **arguments)


@pytest.mark.parametrize("place", ["beside/base", "Caravan", "one/two"])
def test_an_extension_may_be_unpacked_beside_or_deeper(root, place):
    extension = root / place
    write_csv(extension, "camelsdk", "camelsdk_5", {FLOW: [1, 2], "e0_emo1": [3, 4]})
    write_attributes(extension, "camelsdk", "attributes_other_camelsdk.csv", ["gauge_id,area", "camelsdk_5,7"])
    dataset = read_caravan(root)
    assert dataset["site"].values.tolist() == ["camels_01", "camelsdk_5", "hysets_01AD"]
    assert dataset["area"].values.tolist() == [120.5, 7, 120.5]
    assert dataset["e0_emo1"].attrs == {"units": "", "long_name": "e0_emo1"}


def test_files_may_lie_a_folder_deeper_in_their_source(root):
    write_csv(root, "camelsdk/camelsdk", "camelsdk_5", {FLOW: [1, 2]}).with_name("._camelsdk_5.csv").write_text(
        "hidden"
    )
    write_attributes(root, "camelsdk/camelsdk", "attributes_other_camelsdk.csv", ["gauge_id,area", "camelsdk_5,7"])
    assert read_caravan(root, ["camelsdk"])["area"].values.tolist() == [7]


def test_csv_and_netcdf_archives_side_by_side_are_one(root, tmp_path_factory):
    both = tmp_path_factory.mktemp("both")
    for name, write in (("Caravan-csv", write_csv), ("Caravan-nc", write_nc)):
        write(both / name, "camels", "camels_01", {RAIN: [1, 2]})
        write_attributes(both / name, "camels", "attributes_other_camels.csv", ["gauge_id,area", "camels_01,2.50"])
    assert read_caravan(both)["area"].values.tolist() == [2.5]
    write_csv(both / "again", "camels", "camels_01", {RAIN: [1, 2]})
    with pytest.raises(MPTTError, match=r"Gauge camels_01 has two files, .*Caravan-csv.*again"):
        read_caravan(both)


def test_rows_and_columns_may_come_in_any_order_and_with_any_line_end(root):
    text = "\ufeff" + "\r\n".join(
        ["streamflow,,date,empty,total_precipitation_sum", "2.5,x,2000-01-02,,7", ",y,2000-01-01 00:00:00,,6", ""]
    )
    csv_of(root).write_bytes(text.encode())
    dataset = read_caravan(root, ["camels"])
    np.testing.assert_array_equal(dataset[FLOW], [[np.nan, 2.5]])
    np.testing.assert_array_equal(dataset[RAIN], [[6, 7]])
    assert np.isnan(dataset["empty"]).all()
    assert set(dataset.data_vars) == {FLOW, RAIN, "empty", "p_mean", "aridity", "gauge_name", "area"}


@pytest.mark.parametrize("marker", ["-999", "-9999.0", "-99999"])
def test_markers_of_missing_values_are_missing_with_a_note(root, marker):
    csv_of(root).write_text(f"date,{FLOW},{RAIN}\n2000-01-01,{marker},1\n2000-01-02,-99,2\n")
    with pytest.warns(MPTTWarning, match=r"csv/camels -999, -9999 and -99999 are taken for missing values: streamflow"):
        dataset = read_caravan(root, ["camels"])
    np.testing.assert_array_equal(dataset[FLOW], [[np.nan, -99]])


def test_markers_in_netcdf_are_missing_and_infinite_values_refused(root):
    with netCDF4.Dataset(nc_of(root), "a") as file:
        file[FLOW][1] = -999
    with pytest.warns(MPTTWarning, match="are taken for missing values: streamflow"):
        dataset = read_caravan(root, ["hysets"])
    assert np.isnan(dataset[FLOW].values[0, 1])
    with netCDF4.Dataset(nc_of(root), "a") as file:
        file[FLOW][1] = np.inf
    with pytest.raises(MPTTError, match=rf"{nc_of(root)}: streamflow is infinite on \d{{4}}-\d\d-\d\d, 1 time"):
        read_caravan(root, ["hysets"])


def test_a_last_line_without_end_is_named(root):
    csv_of(root).write_text(f"date,{FLOW}\n2000-01-01,1.25\n2000-01-02,1.2")
    with pytest.warns(MPTTWarning, match=f"{csv_of(root)}, line 3, the last, has no end: it may be cut short"):
        read_caravan(root, ["camels"])


def test_csv_columns_that_are_not_needed_are_not_read(root):
    csv_of(root).write_text(f"date,{RAIN},{FLOW},u_component_of_wind_10m_mean\n2000-01-01,1,2,gale\n")
    dataset = caravan_source(root, ["camels"], variables=[FLOW]).dataset([FLOW])
    assert dataset[FLOW].values.tolist() == [[2]]
    with pytest.raises(MPTTError, match=f"{csv_of(root)}, line 2: u_component_of_wind_10m_mean is 'gale'"):
        read_caravan(root, ["camels"])
    csv_of(root).write_text(f"date,{RAIN},{FLOW},u_component_of_wind_10m_mean\n2000-01-01,1,2,3\n2000-01-02,1,2\n")
    with pytest.raises(MPTTError, match=f"{csv_of(root)}, line 3: 3 fields where 4 are due"):
        caravan_source(root, ["camels"], variables=[FLOW]).dataset([FLOW])


def test_what_a_mac_or_windows_leaves_behind_is_passed_over(root):
    for folder in (csv_of(root).parent, csv_of(root).parents[1], root / "attributes" / "camels", root / "attributes"):
        for name in (".DS_Store", "._camels_01.csv", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0")
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "camels_01.csv").write_bytes(b"\0")
    assert read_caravan(root).sizes["site"] == 2


@pytest.mark.parametrize("wrong", ["NULL", "2,5", "12 km2", "inf"])
def test_an_attribute_that_is_no_number_is_refused_by_line(root, wrong):
    lines = ["gauge_id,area,xyz", "camels_01,1,a", f'camels_02,"{wrong}",b']
    path = write_attributes(root, "camels", "attributes_other_camels.csv", lines)
    with pytest.raises(MPTTError, match=f"{path}, line 3: area of camels_02 is '{wrong}', not a number"):
        read_caravan(root, ["camels"])


def test_an_attribute_of_minus_999_is_missing_with_a_note(root):
    path = write_attributes(root, "camels", "attributes_other_camels.csv", ["gauge_id,area", "camels_01,-999.0"])
    with pytest.warns(MPTTWarning, match=f"{path} -999, -9999 and -99999 are taken for missing values: area"):
        assert np.isnan(read_caravan(root, ["camels"])["area"]).all()


def test_days_that_a_record_lacks_are_missing_with_a_note(root):
    lines = csv_of(root).read_text().split("\n")
    csv_of(root).write_text("\n".join([*lines[:2], *lines[3:]]))
    with pytest.warns(MPTTWarning, match=r"lack dates inside their period.*camels_01 \(1\)"):
        dataset = read_caravan(root, ["camels"])
    np.testing.assert_array_equal(dataset[RAIN], [[1, np.nan, 3, 4]])


def test_text_columns_are_left_out_with_a_note(root):
    csv_of(root).write_text("date,streamflow,flag,extra\n2000-01-01,1,good,7\n2000-01-02,2,bad,8\n")
    with pytest.warns(MPTTWarning, match=r"Columns of text among the series in .*camels are left out: flag"):
        dataset = read_caravan(root, ["camels"])
    assert "flag" not in dataset
    assert dataset["extra"].values.tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["date,streamflow", "2000-01-01,1", "2000-01-02,1", "2000-01-01,2"],
            "line 4: the date 2000-01-01 stands in an",
        ),
        (["date,streamflow", "2000-01-01,1", "2000-02-30,1"], "line 3: '2000-02-30' is not a date YYYY-MM-DD"),
        (["date,streamflow", "2000-01-01 00:00,1", "2000-01-01 01:00,1"], "line 3: '2000-01-01 01:00' is not a date"),
        (["date,streamflow", "01.01.2000,1"], "line 2: '01.01.2000' is not a date"),
        (["date,streamflow", "2000-01-31,1", "2000-02-29,1", "2000-03-31,1", "2000-05-01,1"], "usually 31 days apart"),
        (["date,streamflow", "2000-01-01,1", "2000-01-02,1x"], "line 3: streamflow is '1x', not a number"),
        (["date,streamflow,z", "2000-01-01,1,1", "2000-01-02,1,1x"], "line 3: z is '1x', not a number"),
        (["date,streamflow", "2000-01-01,1", "2000-01-02"], "line 3: 1 fields where 2 are due"),
        (["date,a,streamflow", "2000-01-01,1,", "2000-01-02,1"], "line 3: 2 fields where 3 are due"),
        (["date,streamflow", "2000-01-01,1", "2000-01-02,1,2"], "line 3: 3 fields where 2 are due"),
        (["date,a,streamflow", "2000-01-01,1", "2000-01-02,1,2,3"], "line 2: 2 fields where 3 are due"),
        (["day,streamflow", "2000-01-01,1"], "has no column date; its header, line 1, is 'day,streamflow'"),
        (["date,streamflow,streamflow", "2000-01-01,1,1"], "more than one column streamflow"),
        (["date,streamflow"], "has no row below its header"),
        ([""], "is empty"),
    ],
)
def test_a_faulty_series_is_refused_by_file_and_line(root, lines, message):
    csv_of(root).write_text("\n".join(lines) + "\n")
    with pytest.raises(MPTTError, match=rf"camels_01\.csv.*{message}"):
        read_caravan(root, ["camels"])


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n\0\0\0", b"date,streamflow\n2000-01-01,\xff\n"])
def test_binary_files_of_the_right_name_are_refused(root, content):
    csv_of(root).write_bytes(content)
    with pytest.raises(MPTTError, match=r"camels_01\.csv is not a text file"):
        read_caravan(root, ["camels"])


def test_what_is_no_netcdf_is_refused(root):
    whole = nc_of(root).read_bytes()
    for content in (b"date,streamflow\n2000-01-01,1\n", b"", whole[: len(whole) // 2]):
        nc_of(root).write_bytes(content)
        with pytest.raises(MPTTError, match=r"hysets_01AD\.nc cannot be read as a NetCDF file"):
            read_caravan(root, ["hysets"])
        with pytest.raises(MPTTError, match=r"hysets_01AD\.nc cannot be read as a NetCDF file"):
            caravan_source(root, ["hysets"], timezones=False).dataset()


def test_a_file_that_may_not_be_read_is_named(root, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(MPTTError, match=r"attributes_caravan_camels\.csv cannot be opened: Permission denied"):
        read_caravan(root)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars_in_netcdf(root, calendar):
    write_nc(root, "hysets", "hysets_01AD", {FLOW: np.arange(5)}, start="2000-02-27", calendar=calendar, day="time")
    dataset = read_caravan(root, ["hysets"])
    dates = [str(date)[:10] for date in dataset["time"].values]
    assert dates[:4] == [
        "2000-02-27",
        "2000-02-28",
        *(["2000-03-01", "2000-03-02"] if calendar == "noleap" else ["2000-02-29", "2000-02-30"]),
    ]
    assert dataset[FLOW].values.tolist() == [[0, 1, 2, 3, 4]]
    with pytest.raises(MPTTError, match="Sites have different calendars"):
        read_caravan(root)


def test_netcdf_days_in_disorder_are_sorted_and_twice_refused(root):
    file = xr.open_dataset(nc_of(root)).load()
    file.close()
    file.isel(date=[2, 0, 1]).to_netcdf(nc_of(root))
    np.testing.assert_array_equal(read_caravan(root, ["hysets"])[RAIN], [[5, 6, 7]])
    file.isel(date=[0, 1, 1]).to_netcdf(nc_of(root))
    with pytest.raises(MPTTError, match=r"hysets_01AD\.nc: the date 2000-01-04 00:00:00 comes twice"):
        read_caravan(root, ["hysets"])


def test_a_day_of_netcdf_begins_at_midnight(root):
    write_nc(root, "hysets", "hysets_01AD", {RAIN: [5, 6]}, start="2000-01-01 12:00:00")
    dataset = read_caravan(root)
    assert str(dataset["time"].values[0]) == "2000-01-01T00:00:00"
    np.testing.assert_array_equal(dataset[RAIN][1], [5, 6, np.nan, np.nan])


def test_the_source_reads_one_gauge_and_says_how_to_configure(root):
    source = caravan_source(root, ["hysets", "camels"], sites=["hysets_01AD"])
    assert source.read("hysets_01AD")[RAIN].values.tolist() == [5, 6, 7]
    assert source.settings["class_path"] == "CaravanDataModule"
    data = CaravanDataModule(**source.settings["init_args"], inputs=[RAIN])
    assert data.load()["site"].values.tolist() == ["hysets_01AD"]


def test_only_variables_that_are_needed_are_read(root):
    source = caravan_source(root, ["hysets"], variables=[RAIN, FLOW])
    assert set(source.read("hysets_01AD").data_vars) == {RAIN, FLOW}


def test_gauges_without_attributes_have_none_with_a_note(root):
    write_csv(root, "camels", "camels_02", {RAIN: [1, 2]})
    with pytest.warns(MPTTWarning, match="1 of 2 gauges are in no attribute file, and lack attributes: camels_02"):
        dataset = read_caravan(root, ["camels"])
    np.testing.assert_array_equal(dataset["area"], [120.5, np.nan])
    assert dataset["gauge_name"].values.tolist() == ["Creek, camels", ""]


def test_odd_files_and_folders_are_named_and_left_out(root):
    write_attributes(root, "camels", "readme.csv", ["column,meaning", "area,km2"])
    write_attributes(root, "camels", "atributes_soil.csv", ["gauge_id,sand", "camels_01,30"])
    write_attributes(root, "hyset", "attributes_x.csv", ["gauge_id,sand", "hysets_01AD,99"])
    (root / "attributes" / "list.csv").write_text("gauge_id,sand\ncamels_01,99\n")
    (csv_of(root).parent / "camels_01 (copy).csv").write_text("no series")
    (csv_of(root).parent / "notes.txt").write_text("no series")
    with pytest.warns(MPTTWarning) as caught:
        dataset = read_caravan(root)
    said = " ".join(str(warning.message) for warning in caught)
    for text in (
        "left out, without a column gauge_id: readme.csv",
        "does not begin with attributes_: atributes_soil.csv",
        "attributes/hyset (no series)",
        "attributes/list.csv",
        "of no gauge of it, by their names, and left out: camels_01 (copy).csv",
        "timeseries/csv/camels/notes.txt",
    ):
        assert text in said
    np.testing.assert_array_equal(dataset["sand"], np.array([30, np.nan], np.float32))
    assert dataset["site"].values.tolist() == ["camels_01", "hysets_01AD"]


def test_without_attribute_files_series_are_read_with_a_note(tmp_path):
    write_csv(tmp_path, "camels", "camels_01", {RAIN: [1, 2]})
    with pytest.warns(MPTTWarning, match="Attribute files of source camels: there is none"):
        assert set(read_caravan(tmp_path).data_vars) == {RAIN}


def test_a_column_in_two_attribute_files_is_kept_once_if_it_agrees(root):
    more = ["gauge_id,area,p_mean", "camels_01,120.50,", "camels_02,7,1"]
    write_attributes(root, "camels", "attributes_more_camels.csv", more)
    write_csv(root, "camels", "camels_02", {RAIN: [1, 2]})
    assert read_caravan(root, ["camels"])["area"].values.tolist() == [120.5, 7]
    assert read_caravan(root, ["camels"])["p_mean"].values.tolist() == [3.5, 1]
    write_attributes(root, "camels", "attributes_more_camels.csv", ["gauge_id,area", "camels_01,121"])
    with pytest.raises(
        MPTTError,
        match=r"attributes_more_camels.csv and .*other.* both have a column area.*at camels_01: '121' and '120.5'",
    ):
        read_caravan(root, ["camels"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["gauge_id,a", "camels_01,1", "camels_01,2"], "line 3: a second row of gauge_id camels_01"),
        (['# a "quotation', "gauge_id,a", "camels_01,1,2"], "line 3: 3 fields where the header names 2"),
        (["gauge_id,a", "camels_01,1,2"], "line 2: 3 fields where the header names 2"),
        (["gauge_id,a,a", "camels_01,1,2"], "more than one column a"),
        (["\0"], "is not a text file"),
        ([""], "is empty"),
    ],
)
def test_a_faulty_attribute_file_is_refused(root, lines, message):
    write_attributes(root, "camels", "attributes_bad_camels.csv", lines)
    with pytest.raises(MPTTError, match=rf"attributes_bad_camels\.csv.*{message}"):
        read_caravan(root)


@pytest.mark.parametrize("place", ["nowhere", ".", "attributes"])
def test_a_folder_without_caravan_is_refused(tmp_path, place):
    if place == "attributes":
        write_attributes(tmp_path, "camels", "attributes_other_camels.csv", ["gauge_id,area", "camels_01,1"])
    with pytest.raises(MPTTError, match=r"No Caravan at .*nowhere|has no series of Caravan"):
        read_caravan(tmp_path / place)
    assert not LAYOUT.recognise(tmp_path / place)


def test_a_folder_too_deep_says_what_to_give(root):
    with pytest.raises(MPTTError, match=rf"Give {root} as root"):
        read_caravan(root / "timeseries")
    with pytest.raises(MPTTError, match=rf"Give {root} as root"):
        read_caravan(root / "timeseries" / "csv")


def test_the_layout_is_recognised(root, tmp_path):
    many = write_many(tmp_path / "many.nc", ["camels_1"], {FLOW: np.ones((1, 3))}, {"area": [1.0]})
    assert LAYOUT.recognise(root)
    assert LAYOUT.recognise(many)
    assert not LAYOUT.recognise(csv_of(root))
    assert not LAYOUT.recognise(nc_of(root))


@pytest.fixture
def many(tmp_path):
    flow = np.array([[1, 2, 3], [4, np.nan, 6]])
    fixed = {"area": [619.1, 177.99], "name": ["Maine", "Carolina"], "high_prec_dur": [1.5, 1.25]}
    units = {FLOW: "mm/d", "temperature_2m_mean": "°C", "mystery": "kg"}
    series = {FLOW: flow, "temperature_2m_mean": flow - 5, "mystery": flow}
    return write_many(tmp_path / "many.nc", ["camels_01022500", "hysets_03439000"], series, fixed, units)


def test_one_file_of_many_basins(many):
    dataset = read_caravan(many)
    assert dataset["site"].values.tolist() == ["camels_01022500", "hysets_03439000"]
    np.testing.assert_array_equal(dataset["time"], np.arange("1981-01-01", "1981-01-04", dtype="datetime64[D]"))
    np.testing.assert_array_equal(dataset[FLOW], [[1, 2, 3], [4, np.nan, 6]])
    assert dataset["name"].values.tolist() == ["Maine", "Carolina"]
    assert dataset["area"].dtype == np.float32
    units = {name: dataset[name].attrs["units"] for name in dataset.data_vars}
    assert units == {
        **{FLOW: "mm/day", "temperature_2m_mean": "degC", "mystery": "kg"},
        **{"area": "km2", "name": "", "high_prec_dur": "day"},
    }
    assert read_caravan(many, sources=["hysets"])["area"].values.tolist() == [np.float32(177.99)]
    assert read_caravan(many, sites=["hysets_03439000"])[FLOW].shape == (1, 3)
    with pytest.raises(MPTTError, match="no gauge of source camelsgb"):
        read_caravan(many, sources=["camelsgb"])


def test_a_folder_of_one_such_file_is_read(many):
    (many.parent / ".DS_Store").write_bytes(b"\0")
    assert LAYOUT.recognise(many.parent)
    xr.testing.assert_identical(read_caravan(many.parent).drop_attrs(), read_caravan(many).drop_attrs())
    (many.parent / "more.nc").write_bytes(many.read_bytes())
    assert not LAYOUT.recognise(many.parent)


def test_markers_in_one_file_are_missing_and_ids_whole(tmp_path):
    flow = np.array([[1.0, -999.0, 2.0]])
    dataset = xr.Dataset({FLOW: (("time", "gauge_id"), flow.T)}, {"gauge_id": [2004.0], "time": np.arange(3)})
    dataset["time"].attrs["units"] = "days since 2000-01-01"
    dataset.to_netcdf(tmp_path / "one.nc")
    with pytest.warns(MPTTWarning, match="are taken for missing values: streamflow"):
        found = read_caravan(tmp_path)
    assert found["site"].values.tolist() == ["2004"]
    np.testing.assert_array_equal(found[FLOW], [[1, np.nan, 2]])


def test_one_file_without_the_dimensions_is_refused(tmp_path):
    xr.Dataset({FLOW: ("x", [1.0, 2.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(MPTTError, match=r"other\.nc has no dimension basin_id or gauge_id with a coordinate; found x"):
        read_caravan(tmp_path / "other.nc")
    (tmp_path / "text.nc").write_text("nothing")
    with pytest.raises(MPTTError, match=r"text\.nc cannot be read as a NetCDF file"):
        read_caravan(tmp_path / "text.nc")
    assert not LAYOUT.recognise(tmp_path / "text.nc")


def write_trio(root):
    """A whole gauge, one without streamflow, one without temperature."""
    for gauge, without in (("x_1", None), ("x_2", FLOW), ("x_3", "temperature_2m_mean")):
        series = random_series(["temperature_2m_mean"], 400)
        if without:
            series[without] = np.full(400, np.nan)
        write_csv(root, "x", gauge, series)
    write_attributes(root, "x", "attributes_other_x.csv", ["gauge_id,area", "x_1,1", "x_2,2", "x_3,3"])


def data_of(root, **arguments):
    return CaravanDataModule(
        root, inputs=[RAIN, "temperature_2m_mean"], attributes=["area"], window=30, stride=15, **arguments
    )


def test_sites_without_an_input_or_a_target_are_left_out_by_name(tmp_path):
    write_trio(tmp_path)
    with pytest.warns(
        MPTTWarning, match=r"2 of 3 sites left out: x_3 \(no temperature_2m_mean\), x_2 \(no streamflow\)"
    ):
        dataset = data_of(tmp_path).load()
    assert dataset["site"].values.tolist() == ["x_1"]
    assert set(dataset.data_vars) == {RAIN, "temperature_2m_mean", FLOW, "area"}


def test_a_site_asked_for_must_have_its_inputs_and_may_lack_the_target(tmp_path):
    write_trio(tmp_path)
    with pytest.raises(MPTTError, match=r"Sites asked for have no value of an input: x_3 \(no temperature_2m_mean\)"):
        data_of(tmp_path, sites=["x_1", "x_3"]).load()
    data = data_of(tmp_path, sites=["x_2", "x_1"])
    with pytest.warns(MPTTWarning, match="No value of streamflow in the .* part of 1 site.*x_2"):
        data.setup("fit")
    assert data.sites == ["x_2", "x_1"]


def test_computed_inputs_are_not_asked_of_the_files_but_what_they_are_made_from_is(tmp_path):
    write_trio(tmp_path)
    lines = ["gauge_id,gauge_lat", "x_1,47", "x_2,47", "x_3,47"]
    write_attributes(tmp_path, "x", "attributes_caravan_x.csv", lines)
    data = CaravanDataModule(tmp_path, inputs=[RAIN, "doy_sin", "pet_oudin"], window=30, stride=15)
    with pytest.warns(
        MPTTWarning, match=r"2 of 3 sites left out: x_3 \(no temperature_2m_mean\), x_2 \(no streamflow\)"
    ):
        data.setup("fit")
    assert data.sites == ["x_1"]
    assert next(iter(data.train_dataloader()))["x"].isfinite().all()


def test_a_site_that_a_split_names_may_lack_the_target(tmp_path):
    write_trio(tmp_path)
    series = random_series(["temperature_2m_mean"], 400)
    for gauge in ("x_4", "x_5"):
        write_csv(tmp_path, "x", gauge, series)
    split = {"train": ["x_1"], "validation": ["x_4"], "test": ["x_5", "x_2"]}
    data = CaravanDataModule(tmp_path, inputs=[RAIN], split=None, site_split=split, window=30, stride=15)
    with pytest.warns(MPTTWarning) as caught:
        data.setup("fit")
    assert data.sites == ["x_1", "x_2", "x_4", "x_5"]
    assert not any("left out" in str(note.message) and "x_2" in str(note.message) for note in caught)


def test_no_complete_site_is_an_error(tmp_path):
    write_csv(tmp_path, "x", "x_1", {RAIN: [np.nan] * 9, "temperature_2m_mean": [1.0] * 9, FLOW: [1.0] * 9})
    write_attributes(tmp_path, "x", "attributes_other_x.csv", ["gauge_id,area", "x_1,1"])
    with pytest.raises(MPTTError, match=rf"No site has all inputs and a target: x_1 \(no {RAIN}\)"):
        data_of(tmp_path).load()


@real
@pytest.mark.filterwarnings("ignore:Attribute files of source camelses")
@pytest.mark.parametrize("format", [None, "csv"])
def test_real_basins(format):
    dataset = read_caravan(REAL / "caravan", format=format)
    assert dataset["site"].values.tolist() == ["camelsch_4001", "camelses_1414", "camelslx_054"]
    missing = [2363, 2462, 2190]
    for site, count, days in zip(dataset["site"].values, missing, [14610, 10958, 8399], strict=True):
        one = dataset.sel(site=site)
        there = np.isfinite(one[RAIN])
        assert int(there.sum()) == days
        assert int((np.isnan(one[FLOW]) & there).sum()) == count
    assert dataset["gauge_name"].values.tolist()[0] == "Tegernau"
    for name, variable in dataset.data_vars.items():
        assert set(variable.attrs) == {"units", "long_name"}, name


@real
@pytest.mark.filterwarnings("ignore:Attribute files of source camelses")
def test_both_formats_of_the_real_basins_agree():
    one, other = (read_caravan(REAL / "caravan", ["camelsch", "camelslx"], format=form) for form in ("csv", "netcdf"))
    assert other["timezone"].values.tolist() == ["Europe/Berlin", "Europe/Luxembourg"]
    xr.testing.assert_identical(one, other.drop_vars("timezone"))


@real
@pytest.mark.parametrize("format", ["csv", "netcdf"])
def test_streamflow_is_that_of_the_source_data_set(format):
    ours = read_caravan(REAL / "caravan", sites=["camelsch_4001"], format=format)[FLOW][0]
    theirs = read_camels(REAL / "camels_ch", sites=["4001"])[FLOW][0]
    np.testing.assert_array_equal(ours["time"], theirs["time"])
    missing = np.isnan(ours.values)
    assert missing.sum() == 2363
    np.testing.assert_array_equal(missing, np.isnan(theirs.values))
    assert float(abs(ours - theirs.values).max()) <= 0.005 + 1e-5


@pytest.mark.skipif(not (REAL / "caravan_multibasin_nc").is_dir(), reason=f"no real file in {REAL} (MPTT_REAL_DATA)")
def test_real_file_of_many_basins():
    dataset = read_caravan(REAL / "caravan_multibasin_nc" / "test_caravan_file.nc")
    assert dataset["site"].values.tolist() == ["camels_01022500", "camels_03439000"]
    assert dict(dataset.sizes) == {"site": 2, "time": 366}
    assert len([name for name in dataset.data_vars if dataset[name].dims == ("site", "time")]) == 39
    assert dataset["country"].values.tolist() == ["United States of America"] * 2
    np.testing.assert_allclose(dataset["area"], [619.1026, 177.99472], rtol=1e-6)
    assert not np.isnan(dataset[FLOW]).any()

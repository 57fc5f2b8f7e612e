import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules.camels_us import FORCING, LAYOUT, CAMELSUSDataModule, camels_us_source, read_camels_us
from mptt.datamodules.formats.camels_us_files import MODEL

NAMES = "Dayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tSWE(mm)\tTmax(C)\tTmin(C)\tVp(Pa)"
PLAIN = "Year Mnth Day Hr\t" + NAMES
LOWER = "Year Mnth Day Hr dayl(s) prcp(mm/day) srad(W/m2) swe(mm) tmax(C) tmin(C) vp(Pa)"
TABS = "\t".join(["Year", "Mnth", "Day", "Hr"]) + "\t" + NAMES.lower()
AREA = 2_446_575.546  # m2; 1 cubic foot per second is 1 mm/day: 0.028316846592 * 86400 * 1000 / 1000


def weather_of(day):
    """Seven values that tell which day and variable they are of."""
    return [round(1000 * nth + day + 0.25, 2) for nth in range(1, 8)]


def write_weather(path, start="2000-01-01", days=10, header=PLAIN, area=f"{AREA:.3f}", tabs=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["  45.50", " 318.00", f" {area}", header]
    for nth, date in enumerate(pd.date_range(start, periods=days, unit="s")):
        between = "\t" if tabs else " "
        stamp = between.join(map(str, [date.year, date.month, date.day, 12])) if tabs else f"{date:%Y %m %d} 12"
        lines.append("\t".join([stamp, *(f"{value:.2f}" for value in weather_of(nth))]))
    path.write_text("\n".join(lines) + "\n")


def write_flow(path, basin, start="2000-01-01", flows=range(10), flags=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    flows = list(flows)
    flags = flags or ["A"] * len(flows)
    dates = pd.date_range(start, periods=len(flows), unit="s")
    path.write_text(
        "".join(
            f"{basin} {date:%Y %m %d} {flow:8.2f} {flag}\n"
            for date, flow, flag in zip(dates, flows, flags, strict=True)
        )
    )


def write_basin(root, basin, unit="", product="nldas", label=None, start="2000-01-01", **weather):
    name = f"{basin}_lump_{label or product}_forcing_leap.txt"
    write_weather(root / "basin_mean_forcing" / product / unit / name, start, **weather)
    write_flow(root / "usgs_streamflow" / unit / f"{basin}_streamflow_qc.txt", basin, start)


def write_attributes(root, **tables):
    folder = root / "camels_attributes_v2.0"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        (folder / f"camels_{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path):
    """Two basins in folders of hydrologic units, with attributes."""
    write_basin(tmp_path, "01000001", unit="01")
    write_basin(tmp_path, "12000002", unit="12")
    write_attributes(
        tmp_path,
        name=["gauge_id;huc_02;gauge_name", "12000002;12;Dry Creek, TX", "01000001;01;Wet River, ME"],
        vege=[
            "gauge_id;lai_max;dom_land_cover;root_depth_50",
            "01000001;4.5;    Mixed Forests;NA",
            "12000002;1.5;NA;0.3",
        ],
    )
    return tmp_path


def weather_file(root, basin="01000001"):
    return next(root.glob(f"basin_mean_forcing/*/**/{basin}_*.txt"))


def flow_file(root, basin="01000001"):
    return next(root.glob(f"usgs_streamflow/**/{basin}_*.txt"))


def replace_line(path, number, text):
    lines = path.read_text().split("\n")
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_text("\n".join(lines))


def read(root, **arguments):
    return read_camels_us(root, forcing="nldas", **arguments)


def test_reads_what_was_written(root):
    dataset = read(root)
    assert dataset["site"].values.tolist() == ["01000001", "12000002"]
    assert dataset["time"].dtype == "datetime64[s]"
    np.testing.assert_array_equal(dataset["time"], np.arange("2000-01-01", "2000-01-11", dtype="datetime64[D]"))
    expected = np.array([weather_of(day) for day in range(10)], np.float32).T
    for name, values in zip(FORCING, expected, strict=True):
        assert dataset[name].dims == ("site", "time")
        assert dataset[name].dtype == np.float32
        np.testing.assert_array_equal(dataset[name][0], values)
    np.testing.assert_allclose(dataset["streamflow"][1], np.arange(10), rtol=1e-6)
    assert dataset["streamflow"].dtype == np.float32


def test_header_gives_area_elevation_and_latitude(root):
    dataset = read(root)
    np.testing.assert_allclose(dataset["area"], AREA / 1e6, rtol=1e-7)
    assert dataset["elevation"].values.tolist() == [318, 318]
    assert dataset["latitude"].values.tolist() == [45.5, 45.5]


def test_streamflow_is_depth_over_the_area_of_the_header(root):
    write_basin(root, "05000003", unit="05", area=f"{AREA / 4:.3f}")
    with pytest.warns(MPTTWarning, match="lack attributes: 05000003"):
        dataset = read(root)
    np.testing.assert_allclose(dataset["streamflow"].sel(site="05000003"), 4 * np.arange(10), rtol=1e-6)


def test_attributes_are_joined_by_id(root):
    dataset = read(root)
    assert dataset["lai_max"].values.tolist() == [4.5, 1.5]
    assert dataset["lai_max"].dtype == np.float32
    assert dataset["gauge_name"].values.tolist() == ["Wet River, ME", "Dry Creek, TX"]
    assert dataset["huc_02"].values.tolist() == ["01", "12"]


def test_missing_attributes_are_nan_or_empty_text(root):
    dataset = read(root)
    assert dataset["dom_land_cover"].values.tolist() == ["Mixed Forests", ""]
    np.testing.assert_array_equal(dataset["root_depth_50"], np.array([np.nan, 0.3], np.float32))


def test_the_kind_of_an_attribute_does_not_depend_on_the_basins_chosen(root):
    write_attributes(root, geol=["gauge_id;geol_2nd_class", "01000001;NA", "12000002;Basalt"])
    assert read(root, basins=["01000001"])["geol_2nd_class"].values.tolist() == [""]


def test_every_variable_says_what_it_is(root):
    write_attributes(root, extra=["gauge_id;mystery", "01000001;1", "12000002;2"])
    dataset = read(root)
    for name, variable in dataset.data_vars.items():
        assert set(variable.attrs) == {"units", "long_name"}, name
    assert dataset["streamflow"].attrs["units"] == "mm/day"
    assert dataset["area"].attrs["units"] == "km2"
    assert "10.5194/hess-19-209-2015" in dataset.attrs["references"]
    assert "10.5194/hess-21-5293-2017" in dataset.attrs["references"]
    assert {"title", "license", "source"} <= set(dataset.attrs)


def test_without_attributes_no_attribute_file_is_needed(tmp_path):
    write_basin(tmp_path, "01000001")
    assert set(read(tmp_path, attributes=False).data_vars) == {*FORCING, "streamflow", "area", "elevation", "latitude"}
    with pytest.raises(MPTTError, match=r"No attribute file camels_\*.txt in .*attributes_v2.0.*attributes=False"):
        read(tmp_path)


def test_survives_netcdf(root, tmp_path):
    dataset = read(root)
    dataset.to_netcdf(tmp_path / "camels.nc")
    with xr.open_dataset(tmp_path / "camels.nc") as again:
        xr.testing.assert_identical(again, dataset)


@pytest.mark.parametrize(
    ("label", "header", "tabs"), [("cida", LOWER, False), ("nldas", PLAIN, False), ("maurer_extended", TABS, True)]
)
@pytest.mark.parametrize("unit", ["", "01"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_layouts_and_headers_of_all_products(tmp_path, label, header, tabs, unit, ending):
    write_basin(tmp_path, "01000001", unit, label=label, header=header, tabs=tabs)
    for path in (weather_file(tmp_path), flow_file(tmp_path)):
        path.write_bytes(path.read_text().rstrip().replace("\n", ending).encode())
    dataset = read(tmp_path, attributes=False)
    np.testing.assert_array_equal(dataset["vp"][0], np.array([weather_of(day)[-1] for day in range(10)], np.float32))
    np.testing.assert_allclose(dataset["streamflow"][0], np.arange(10), rtol=1e-6)


def test_columns_are_found_by_name(tmp_path):
    names = PLAIN.split()
    write_basin(tmp_path, "01000001", header=" ".join([*names[:4], *names[:3:-1]]))
    np.testing.assert_array_equal(read(tmp_path, attributes=False)["dayl"][0, 0], np.float32(7000.25))


def test_missing_flow_is_nan_and_zero_flow_is_zero(root):
    write_flow(flow_file(root), "01000001", flows=[0, -999, 5, 0, -999], flags=["A", "M", "M", "A:e", "A"])
    flow = read(root)["streamflow"][0, :5].values
    np.testing.assert_array_equal(flow, [0, np.nan, np.nan, 0, np.nan])


def test_weather_and_flow_are_joined_by_date(root):
    write_flow(flow_file(root), "01000001", start="2000-01-04", flows=range(3, 12))
    dataset = read(root)
    assert dataset["time"].values[[0, -1]].astype("datetime64[D]").astype(str).tolist() == ["2000-01-01", "2000-01-12"]
    np.testing.assert_allclose(dataset["streamflow"][0], [np.nan] * 3 + list(range(3, 12)), rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(dataset["prcp"][0]), [False] * 10 + [True] * 2)


def test_basins_of_different_periods_share_one_axis(root):
    write_basin(root, "05000003", start="1999-12-25", days=4)
    dataset = read(root, attributes=False)
    assert dataset.sizes["time"] == 17
    assert dataset["prcp"].notnull().sum("time").values.tolist() == [10, 4, 10]
    assert dataset["prcp"].sel(site="01000001", time="2000-01-01") == weather_of(0)[1]
    assert dataset["streamflow"].notnull().sum("time").values.tolist() == [10, 10, 10]


def test_missing_weather_is_nan(root):
    replace_line(weather_file(root), 6, "2000 01 02 12\t1.0\tNaN\t3\t4\t5\t6\t7")
    assert read(root)["prcp"].isnull().values.sum() == 1


def test_leap_days_are_days(tmp_path):
    write_basin(tmp_path, "01000001", start="2000-02-27", days=4)
    days = read(tmp_path, attributes=False)["time"].dt.strftime("%m-%d").values[:4]
    assert days.tolist() == ["02-27", "02-28", "02-29", "03-01"]


def test_basins_without_weather_or_flow_are_left_out_with_one_warning(root):
    write_basin(root, "02000004")
    write_basin(root, "03000005")
    flow_file(root, "02000004").unlink()
    weather_file(root, "03000005").unlink()
    with pytest.warns(MPTTWarning) as caught:
        dataset = read(root)
    assert dataset["site"].values.tolist() == ["01000001", "12000002"]
    assert [str(warning.message) for warning in caught] == [
        "2 of 4 basins left out: 02000004 (no streamflow), 03000005 (no nldas forcing)."
    ]
    with pytest.raises(MPTTError, match=r"not complete: 02000004 \(no streamflow\)"):
        read(root, basins=["01000001", "02000004"])


def test_basins_come_in_the_order_asked_for(root):
    assert read(root, basins=["12000002", "01000001"])["site"].values.tolist() == ["12000002", "01000001"]


@pytest.mark.parametrize("kind", [str, Path])
def test_basins_from_a_text_file(root, kind):
    (root / "basins.txt").write_text("12000002\r\n\n")
    assert read(root, basins=kind(root / "basins.txt"))["site"].values.tolist() == ["12000002"]


@pytest.mark.parametrize(
    ("basins", "message"),
    [
        ([1000001], "string of 8 digits, as '01000001'; found 1000001"),
        ([np.int64(1000001)], "as '01000001'; found"),
        ([None], "string of 8 digits.*NoneType"),
        (["1000001"], "No file of basin 1000001. Near '1000001': 01000001"),
        (["99999999"], "No file of basin 99999999. There are 01000001, 12000002"),
        (["01000001", "01000001"], "more than once: 01000001"),
        ([], "list of basins is empty"),
        ("01000001", r"No list of basins at 01000001.*a list of ids, as \['01031500'\]"),
    ],
)
def test_wrong_basins(root, basins, message):
    with pytest.raises(MPTTError, match=message):
        read(root, basins=basins)


def test_missing_folders(root, tmp_path_factory):
    with pytest.raises(MPTTError, match="No CAMELS-US folder at /nowhere: found nothing there"):
        read("/nowhere")
    with pytest.raises(MPTTError, match="found a file there"):
        read(weather_file(root))
    with pytest.raises(MPTTError, match=r"has no folder basin_mean_forcing; it holds none"):
        read(tmp_path_factory.mktemp("bare"))
    (root / "usgs_streamflow").rename(root / "flow")
    with pytest.raises(
        MPTTError, match=r"no folder usgs_streamflow; it holds basin_mean_forcing, camels_attributes_v2.0, flow"
    ):
        read(root)


def test_a_folder_too_high_is_pointed_down(root):
    with pytest.raises(MPTTError, match=f"There is one in {root}: give that as root"):
        read(root.parent)


def test_unknown_product(root):
    (root / "basin_mean_forcing" / "maurer").mkdir()
    with pytest.raises(MPTTError, match=r"No forcing 'daymet' in .*; products there: maurer, nldas"):
        read_camels_us(root)
    with pytest.raises(MPTTError, match=r"No file <gauge>_lump_<product>_forcing_leap.txt in .*maurer"):
        read_camels_us(root, forcing="maurer")


def test_no_basin_with_both(tmp_path):
    write_basin(tmp_path, "01000001")
    flow_file(tmp_path).rename(flow_file(tmp_path).with_name("01000002_streamflow_qc.txt"))
    with pytest.raises(MPTTError, match=r"No basin has both nldas forcing and streamflow: 01000001 \(no streamflow\)"):
        read(tmp_path)


def test_two_files_of_one_basin(root):
    write_basin(root, "01000001", unit="02")
    with pytest.raises(MPTTError, match="Basin 01000001 has two files"):
        read(root)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "north", r"line 1: the latitude \(degrees_north\), one number, is due here; found 'north'"),
        (3, PLAIN, r"line 3: the area \(m2\), one number, is due here"),
        (3, "", r"line 3: the area .* found ''"),
        (3, " 0", "line 3: the area is 0 m2; streamflow in mm/day needs a positive one"),
        (3, "-5", "line 3: the area is -5 m2"),
        (4, PLAIN.replace("PRCP", "rain"), r"line 4: column\(s\) prcp not there once"),
        (4, PLAIN + "\tmy(1)\tMy(2)", r"line 4: column\(s\) my not there once"),
        (4, PLAIN + "\tprcp(mm/day)", r"line 4: column\(s\) prcp not there once"),
        (7, "2000 01 03 12\t1\t2\tthree\t4\t5\t6\t7", "line 7: srad is 'three', not a number, in '2000 01 03"),
        (7, "2000 01 03 12\t1\t2\tinf\t4\t5\t6\t7", "line 7: srad is 'inf', not a number"),
        (
            7,
            "2000 01 03 12\t1\t2\t3",
            r"line 7: 7 fields where 11 are due \(year mnth day hr dayl .*\), in '2000 01 03",
        ),
        (7, "2000 01 03 12\t1\t2\t3\t4\t5\t6\t7\t8", "line 7: 12 fields where 11"),
        (7, "2000 02 30 12\t1\t2\t3\t4\t5\t6\t7", "line 7: 2000-02-30 is not a date"),
        (7, "2000 13 01 12\t1\t2\t3\t4\t5\t6\t7", "line 7: 2000-13-01 is not a date"),
        (7, "20000 01 03 12\t1\t2\t3\t4\t5\t6\t7", "line 7: 20000-01-03 is not a date"),
        (7, "99999999999999999999 01 03 12\t1\t2\t3\t4\t5\t6\t7", "line 7: year is '9+', not a whole number"),
        (7, "2000 01 3.5 12\t1\t2\t3\t4\t5\t6\t7", "line 7: day is '3.5', not a whole number"),
        (7, '2000 01 "03 12\t1\t2\t3\t4\t5\t6\t7', "line 7: day is '\"03', not a whole number"),
        (14, "2000 01 10 12\t1\t2", "line 14: 6 fields"),
        (7, None, r"forcing_leap.txt: the date 2000-01-04 comes 2 days after 2000-01-02; .* Found 1 such place"),
        (7, "2000 01 02 12\t1\t2\t3\t4\t5\t6\t7", "the date 2000-01-02 stands twice after 2000-01-02"),
        (7, "1999 01 02 12\t1\t2\t3\t4\t5\t6\t7", "the date 1999-01-02 goes back after 2000-01-02"),
    ],
)
def test_damaged_weather_files(root, line, text, message):
    path = weather_file(root)
    replace_line(path, line, text)
    with pytest.raises(MPTTError, match=f"(?s){path.parent}.*{message}"):
        read(root)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "01000001 2000 01 03 wet A", "line 3: flow is 'wet', not a number, in '01000001 2000"),
        (3, "01000001 2000 01 03 5.0", "line 3: 5 fields where 6 are due"),
        (3, "01000001 2000 01 03 5.0 A e", "line 3: 7 fields where 6 are due"),
        (1, "01000001 2000 01 01 5.0 A e", "line 1: 7 fields where 6 are due"),
        (3, "01000001 2000 01 33 5.0 A", "line 3: 2000-01-33 is not a date"),
        (3, "USGS0001 2000 01 03 5.0 A", "line 3: gauge is 'USGS0001', not a whole number"),
        (3, "02000009 2000 01 03 5.0 A", "has rows of gauge 02000009, by its name it is of 01000001"),
        (3, None, "the date 2000-01-04 comes 2 days after 2000-01-02"),
    ],
)
def test_damaged_flow_files(root, line, text, message):
    path = flow_file(root)
    replace_line(path, line, text)
    with pytest.raises(MPTTError, match=f"{path}.*{message}"):
        read(root)


@pytest.mark.parametrize("find", [weather_file, flow_file])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x1f\x8b\x08\x00\x00\x00", "is not a text file"),
        (b"45\n\xff\xfe\xfa\n", "is not a text file"),
    ],
)
def test_empty_and_binary_files(root, find, content, message):
    find(root).write_bytes(content)
    with pytest.raises(MPTTError, match=f"{find(root)} {message}"):
        read(root)


@pytest.mark.parametrize("lines", [1, 3, 4])
def test_weather_files_cut_short(root, lines):
    path = weather_file(root)
    path.write_text("\n".join(path.read_text().split("\n")[:lines]) + "\n")
    with pytest.raises(MPTTError, match=rf"is cut short: {lines} line\(s\), where latitude"):
        read(root)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id;a", "01000001;1"], "has no column gauge_id; its first line is 'id;a'"),
        (
            ["gauge_id;a;b", "01000001;1;2", "12000002;1"],
            "camels_vege.txt, line 3: 2 fields where the header names 3",
        ),
        (
            ["gauge_id;a", "01000001;1", "12000002;1;4"],
            "line 3: 3 fields where the header names 2, in '12000002;1;4'",
        ),
        (["gauge_id;a", "01000001;1", "01000001;2"], "camels_vege.txt, line 3: a second row of gauge_id 01000001"),
        (["gauge_id;gauge_name", "01000001;a", "12000002;b"], "column gauge_name, which another file has too"),
    ],
)
def test_damaged_attribute_files(root, lines, message):
    write_attributes(root, vege=lines)
    with pytest.raises(MPTTError, match=message):
        read(root)


def test_datamodule_makes_batches(tmp_path):
    for basin, days in (("01000001", 120), ("12000002", 90)):
        write_basin(tmp_path, basin, days=days)
        write_flow(flow_file(tmp_path, basin), basin, flows=np.arange(days) % 17)
    data = CAMELSUSDataModule(
        tmp_path, forcing="nldas", inputs=["prcp", "tmax"], attributes=["area"], window=20, stride=10, batch_size=4
    )
    data.setup("fit")
    assert data.sites == ["01000001", "12000002"]
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape == (4, 20, 3)
    assert batch["y"].shape == (4, 20, 1)
    assert torch.isfinite(batch["x"]).all()


def test_datamodule_reads_attribute_files_only_where_needed(root):
    assert "lai_max" not in CAMELSUSDataModule(root, forcing="nldas", attributes=["area"]).load()
    assert "lai_max" in CAMELSUSDataModule(root, forcing="nldas", attributes=["area", "lai_max"]).load()


# Several products


def test_products_side_by_side_have_their_names(root):
    write_basin(root, "01000001", product="daymet", label="cida", header=LOWER, start="2000-01-03")
    next(root.glob("usgs_streamflow/01000001_*")).unlink()  # the other product's is in the folder of its unit
    dataset = read_camels_us(root, ["01000001"], forcing=["daymet", "nldas"])
    assert list(dataset.data_vars)[:15] == [
        *(f"{name}_{of}" for of in ("daymet", "nldas") for name in FORCING),
        "streamflow",
    ]
    assert dataset.sizes["time"] == 12
    np.testing.assert_array_equal(
        dataset["prcp_nldas"][0], [*(np.float32(weather_of(day)[1]) for day in range(10)), *[np.nan] * 2]
    )
    np.testing.assert_array_equal(
        dataset["prcp_daymet"][0], [*[np.nan] * 2, *(np.float32(weather_of(day)[1]) for day in range(10))]
    )
    assert dataset["prcp_daymet"].attrs == {"units": "mm/day", "long_name": "precipitation, daymet"}
    assert dataset.attrs["title"] == "CAMELS-US, 1 basins, daymet and nldas forcing"


def test_a_list_of_one_product_is_that_product(root):
    assert read_camels_us(root, forcing=["nldas"]).equals(read(root))


@pytest.mark.parametrize("forcing", [[], ["nldas", "nldas"]])
def test_products_are_named_once(root, forcing):
    with pytest.raises(MPTTError, match="forcing names a product, or several that differ"):
        read_camels_us(root, forcing=forcing)


def test_depth_is_over_the_area_of_the_first_product(root):
    for basin in ("01000001", "12000002"):
        path = root / "basin_mean_forcing" / "maurer" / f"{basin}_lump_maurer_forcing_leap.txt"
        write_weather(path, area=f"{AREA / 2:.3f}")
    with pytest.warns(MPTTWarning, match="2 basin.*differ by more than 1 %.*over that of maurer: 01000001, 12000002"):
        dataset = read_camels_us(root, forcing=["maurer", "nldas"])
    np.testing.assert_allclose(dataset["streamflow"][0], 2 * np.arange(10), rtol=1e-6)
    np.testing.assert_allclose(dataset["area"], AREA / 2e6, rtol=1e-6)


@pytest.mark.parametrize(
    "place", ["basin_mean_forcing/nldas_extended/nldas_extended/01", "nldas_extended", "nldas_extended/01"]
)
def test_extended_products_may_lie_deeper_or_in_the_root(root, place):
    columns = PLAIN.replace("Mnth", "MONTH").split()
    header = "\t".join([*columns[:4], *reversed(columns[4:])])
    write_weather(root / place / "01000001_lump_nldas_forcing_leap.txt", header=header)
    dataset = read_camels_us(root, ["01000001"], "nldas_extended")
    np.testing.assert_array_equal(dataset["dayl"][0], np.array([weather_of(day)[-1] for day in range(10)], np.float32))


# Output of the calibrated model


def write_model(root, basin, seed="05", start="2000-01-02", days=5, product="nldas", unit="01", text="{:11.7f}"):
    folder = root / f"model_output_{product}" / "model_output" / "flow_timeseries" / product / unit
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{date:%Y %m %d} 12 " + " ".join(text.format(int(seed) + nth + column / 8) for column in range(8))
        for nth, date in enumerate(pd.date_range(start, periods=days, unit="s"))
    ]
    path = folder / f"{basin}_{seed}_model_output.txt"
    path.write_text("\n".join(["YR MNTH DY HR " + " ".join(MODEL), *rows]) + "\n")
    return path


@pytest.fixture
def modelled(root):
    """The two basins, both with model output."""
    write_model(root, "01000001", "11")
    write_model(root, "01000001", "05")
    write_model(root, "12000002", "11", unit="12")
    return root


def test_model_output_is_read_on_request(modelled):
    assert not any(name.startswith("model") for name in read(modelled).data_vars)
    dataset = read(modelled, model_output=True)
    names = [name for name in dataset.data_vars if name.startswith("model")]
    assert names == [
        *("model_swe", "model_prcp", "model_rain_plus_melt", "model_tair", "model_pet", "model_et"),
        *("model_streamflow", "model_observed_streamflow"),
    ]
    for nth, name in enumerate(names):
        expected = [np.nan, *(5 + nth / 8 + np.arange(5)), *[np.nan] * 4]
        np.testing.assert_array_equal(dataset[name][0], np.array(expected, np.float32))
        assert {"units", "long_name"} == set(dataset[name].attrs)
    assert dataset["model_tair"].attrs["units"] == "degC"


def test_the_smallest_seed_of_each_basin_is_read_and_named(modelled):
    dataset = read(modelled, model_output=True)
    assert dataset.attrs["model_seed"] == "01000001 05, 12000002 11"
    assert dataset["model_swe"][:, 1].values.tolist() == [5, 11]


def test_a_seed_may_be_chosen(modelled):
    dataset = read(modelled, model_output=True, model_seed=11)
    assert dataset.attrs["model_seed"] == "01000001 11, 12000002 11"
    with pytest.warns(MPTTWarning, match=r"1 of 2 basins left out: 12000002 \(no model output\)"):
        assert read(modelled, model_output=True, model_seed=5).sizes["site"] == 1
    with pytest.raises(MPTTError, match=r"No file <gauge>_07_model_output.txt in .*; seeds there: 5, 11"):
        read(modelled, model_output=True, model_seed=7)


def test_model_output_of_another_product(modelled):
    with pytest.raises(MPTTError, match=r"No folder model_output_daymet in .*there: model_output_nldas"):
        read(modelled, model_output="daymet")
    (modelled / "model_output_nldas").rename(modelled / "model_output_daymet")
    inside = modelled / "model_output_daymet" / "model_output" / "flow_timeseries"
    (inside / "nldas").rename(inside / "daymet")
    assert "model_swe" in read(modelled, model_output="daymet")


def test_observed_streamflow_of_the_model_is_no_stand_in(modelled):
    write_flow(flow_file(modelled), "01000001", flows=range(10), flags=["A"] * 3 + ["M"] * 7)
    dataset = read(modelled, model_output=True)
    assert np.isnan(dataset["streamflow"][0, 3:]).all()
    assert dataset["model_observed_streamflow"][0, 3] == 5 + 7 / 8 + 2
    assert "use streamflow" in dataset["model_observed_streamflow"].attrs["long_name"]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "YR MNTH DY HR SWE", r"line 1: column\(s\) prcp, raim, tair, pet, et, mod_run, obs_run not there once"),
        (3, "2000 01 03 12 1 2 3", "line 3: 7 fields where 12 are due"),
        (3, "2000 01 33 12 1 2 3 4 5 6 7 8", "line 3: 2000-01-33 is not a date"),
        (3, None, "the date 2000-01-04 comes 2 days after 2000-01-02"),
    ],
)
def test_damaged_model_output(modelled, line, text, message):
    path = next(modelled.rglob("01000001_05_model_output.txt"))
    replace_line(path, line, text)
    with pytest.raises(MPTTError, match=f"{path}.*{message}"):
        read(modelled, model_output=True)


def test_model_output_cut_short_or_twice(modelled):
    path = next(modelled.rglob("01000001_05_model_output.txt"))
    write_model(modelled, "01000001", "05", unit="02")
    with pytest.raises(MPTTError, match="Basin 01000001 has two files"):
        read(modelled, model_output=True)
    next(modelled.rglob("02/01000001_05_model_output.txt")).unlink()
    path.write_text("YR MNTH DY HR SWE\n")
    with pytest.raises(MPTTError, match="is cut short: it has no row below"):
        read(modelled, model_output=True)


# The subset of 531 basins


def write_areas(root, *rows):
    write_attributes(root, topo=["gauge_id;area_gages2;area_geospa_fabric", *rows])


@pytest.mark.parametrize("name", ["531", 531])
def test_subset_by_the_rule(root, name):
    for basin in ("03000003", "04000004", "05000005"):
        write_basin(root, basin)
    areas = [
        "01000001;1000;1100",
        "12000002;1000;1100.1",
        "03000003;2000;2000",
        "04000004;2000.1;2000",
        "05000005;90;NA",
    ]
    write_areas(root, *areas, "06000006;10;10")
    write_attributes(root, name=["gauge_id"], vege=["gauge_id"])
    with pytest.warns(
        MPTTWarning, match=r'"531": 3 basins by the rule of .*; 2 of them have all files here\. The rule'
    ):
        dataset = read(root, basins=name, attributes=False)
    assert dataset["site"].values.tolist() == ["01000001", "03000003"]
    assert "3 basins by the rule of Newman et al. (2017)" in dataset.attrs["basins"]


@pytest.mark.parametrize("name", ["531_basin_list.txt", "basin_list_531.txt"])
def test_subset_by_the_list_in_the_root(root, name):
    write_areas(root, "01000001;1000;1000")
    (root / name).write_text("12000002\r\n06000006\r\n")
    with pytest.warns(MPTTWarning, match=f"2 basins as listed in {name}; 1 of them have all files here"):
        assert read(root, basins="531", attributes=False)["site"].values.tolist() == ["12000002"]


def test_subset_without_areas(root):
    with pytest.raises(MPTTError, match=r'basins="531" needs camels_topo.txt.*531_basin_list.txt, an id a line'):
        read(root, basins="531")
    write_attributes(root, topo=["gauge_id;area_gages2", "01000001;wide"])
    with pytest.raises(MPTTError, match=r"camels_topo.txt, line 2: area_gages2 of 01000001 is 'wide', not a number"):
        read(root, basins="531")
    write_attributes(root, topo=["gauge_id;elev_mean", "01000001;3"])
    with pytest.raises(MPTTError, match="no column of numbers area_gages2, area_geospa_fabric"):
        read(root, basins="531")
    write_areas(root, "06000006;1000;1000")
    with pytest.raises(MPTTError, match=r"none of the 1 basins .* is complete in"):
        read(root, basins="531")


# Files that went through other hands


def weather_of_first(root):
    return next((root / "basin_mean_forcing").rglob("01000001_*"))


@pytest.mark.parametrize("marker", ["-999.00", "-9999"])
def test_markers_of_missing_weather_are_missing_with_a_note(root, marker):
    path = weather_of_first(root)
    path.write_text(path.read_text().replace("2003.25", marker))
    with pytest.warns(MPTTWarning, match=f"In {path.parent} .* are taken for missing values: prcp"):
        rain = read(root)["prcp"].values[0]
    assert np.flatnonzero(np.isnan(rain)).tolist() == [3]


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_last_number_cut_short_is_refused_by_line(root, cut):
    path = weather_of_first(root)
    path.write_text(path.read_text()[:-cut])
    with pytest.raises(MPTTError, match=f"{path}, line 14: the file is cut short in its last line, '.*70"):
        read(root)


def test_a_file_may_end_without_a_line_end(root):
    expected = read(root)
    for path in root.rglob("*.txt"):
        path.write_text(path.read_text()[:-1])
    xr.testing.assert_identical(read(root), expected)


@pytest.mark.parametrize(("column", "other"), [("PRCP(mm/day)", "PRCP(in/day)"), ("Tmax(C)", "Tmax(F)")])
def test_a_column_in_other_units_is_refused(root, column, other):
    path = weather_of_first(root)
    path.write_text(path.read_text().replace(column, other))
    with pytest.raises(MPTTError, match=f"{re.escape(f'{path}, line 4: the column {other}')} is not in"):
        read(root)


def test_further_columns_may_hold_anything(root):
    expected = read(root)
    path = weather_of_first(root)
    top, rows = path.read_text().split(PLAIN + "\n")
    path.write_text(top + PLAIN + "\tq\n" + rows.replace("\n", "\tx\n"))
    xr.testing.assert_identical(read(root), expected)


@pytest.mark.parametrize("written", ["1000001", "1000001.0", '"01000001"'])
def test_attribute_ids_may_have_lost_their_zeros(root, written):
    write_attributes(root, vege=["gauge_id;frac_forest", f"{written};0.5", "12000002;0.25"])
    assert read(root)["frac_forest"].values.tolist() == [0.5, 0.25]


def test_an_attribute_that_is_no_number_is_refused_by_line(root):
    write_attributes(root, vege=["gauge_id;frac_forest", "01000001;much"])
    with pytest.raises(MPTTError, match=r"camels_vege.txt, line 2: frac_forest of 01000001 is 'much', not a number"):
        read(root)


def test_what_a_mac_leaves_behind_is_passed_over(root):
    path = weather_of_first(root)
    for folder in (path.parent, path.parents[1], path.parents[2]):
        (folder / f"._{path.name}").write_bytes(b"\0")
        (folder / "__MACOSX" / "01").mkdir(parents=True)
        (folder / "__MACOSX" / "01" / path.name).write_bytes(b"\0")
    assert read(root).sizes["site"] == 2


def test_without_a_product_that_of_most_basins_is_taken_with_a_note(root):
    write_weather(root / "basin_mean_forcing" / "daymet" / "01000001_lump_cida_forcing_leap.txt")
    with pytest.warns(MPTTWarning, match="that of nldas, which most basins have; say another with forcing: daymet"):
        source = camels_us_source(root)
    assert source.sites == ["01000001", "12000002"]
    assert source.settings["init_args"]["forcing"] == "nldas"
    with pytest.warns(MPTTWarning, match="that of nldas"):
        assert CAMELSUSDataModule(root, forcing=None).load().sizes["site"] == 2


def test_without_attribute_files_a_source_opens_and_attributes_are_refused_when_asked_for(tmp_path):
    write_basin(tmp_path, "01000001")
    with pytest.warns(MPTTWarning, match=r"the attributes of the forcing files only: No attribute file camels_\*.txt"):
        assert set(camels_us_source(tmp_path).attributes.data_vars) == {"latitude", "elevation", "area"}
    with pytest.raises(MPTTError, match=r"No attribute file camels_\*.txt"):
        CAMELSUSDataModule(tmp_path, forcing="nldas", attributes=["aridity"]).load()


# Attribute files elsewhere, sources


def test_attribute_files_may_lie_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / "camels_attributes_v2.0").rename(elsewhere / "camels_attributes_v2.0")
    for folder in (elsewhere, elsewhere / "camels_attributes_v2.0"):
        assert read(root, attributes_root=folder)["lai_max"].values.tolist() == [4.5, 1.5]
    with pytest.raises(
        MPTTError, match=f"No attribute file camels_\\*.txt in {root}.*, nor in {root}, nor in {root.parent}"
    ):
        read(root)
    with pytest.raises(
        MPTTError, match=f"No attribute file camels_\\*.txt in {root}/camels_attributes_v2.0, nor in {root}. G"
    ):
        read(root, attributes_root=root)


def test_attribute_files_may_lie_beside_the_root(tmp_path):
    write_basin(tmp_path / "basins", "01000001")
    write_attributes(tmp_path, clim=["gauge_id;aridity", "01000001;0.5"])
    assert read(tmp_path / "basins")["aridity"].values.tolist() == [0.5]


def test_source_reads_a_basin_at_a_time(root):
    write_flow(flow_file(root), "01000001", start="2000-01-04", flows=range(3, 12))
    damaged = weather_file(root, "12000002")
    source = camels_us_source(root, forcing="nldas")
    damaged.write_text(damaged.read_text().replace("2000 01 05", "2000 01 55"))
    basin = source.read("01000001")
    assert dict(basin.sizes) == {"time": 12}
    assert source.attributes["lai_max"].values.tolist() == [4.5, 1.5]
    assert source.settings["init_args"] == {"root": str(root), "forcing": "nldas"}
    assert source.choose(["01000001"]).dataset(["prcp", "area"]).sizes == {"site": 1, "time": 12}
    with pytest.raises(MPTTError, match=f"{damaged}, line 9: 2000-01-55 is not a date"):
        source.dataset()


def test_a_file_that_may_not_be_read(root, monkeypatch):
    refused = weather_file(root)

    def refuse(self, *arguments, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MPTTError, match=f"{refused} cannot be opened: Permission denied"):
        read(root)


def test_layout_is_recognised(root):
    assert LAYOUT.name == "camels_us"
    assert LAYOUT.recognise(root)
    assert not LAYOUT.recognise(root / "usgs_streamflow")
    assert not LAYOUT.recognise(root / "nowhere")


def test_datamodule_reads_the_models_output(modelled):
    data = CAMELSUSDataModule(
        modelled, forcing=["nldas"], inputs=["prcp", "model_swe"], model_output=True, model_seed=11
    )
    assert data.load()["model_swe"][0, 1] == 11


# On the real files, where they are.

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
needs = {
    name: pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"no {name} in {REAL.resolve()} (set MPTT_REAL_DATA)")
    for name in ("camels_us", "camels_us_flat")
}


def observed_by_the_authors():
    """Streamflow in the published model output of 01031500, mm/day."""
    folder = REAL / "camels_us/model_output_daymet/model_output/flow_timeseries/daymet/01"
    table = pd.read_csv(folder / "01031500_05_model_output.txt", sep=r"\s+")
    dates = pd.to_datetime({"year": table["YR"], "month": table["MNTH"], "day": table["DY"]})
    return xr.DataArray(table["OBS_RUN"], coords={"time": dates.to_numpy("datetime64[s]")}, dims="time")


@needs["camels_us"]
def test_real_streamflow_equals_the_published_depth():
    flow = read_camels_us(REAL / "camels_us", ["01031500"])["streamflow"].sel(site="01031500")
    assert flow.sel(time="1980-10-01").item() == pytest.approx(0.5550, abs=5e-5)
    published = observed_by_the_authors()
    flow = flow.sel(time=published["time"])
    ratio = published / flow.astype(float)
    assert ratio.mean().item() == pytest.approx(0.999998, abs=1e-6)
    assert int(flow.isnull().sum()) == 92
    known = flow.notnull()
    np.testing.assert_allclose(flow[known], published[known], rtol=5e-6, atol=6e-5)


@needs["camels_us"]
def test_real_basins_of_hydrologic_units():
    with pytest.warns(MPTTWarning, match=r"1 of 6 basins left out: 01031500 \(no nldas forcing\)"):
        dataset = read_camels_us(REAL / "camels_us", forcing="nldas")
    assert dataset.sizes == {"site": 5, "time": 12784}
    zero_days = (dataset["streamflow"] == 0).sum("time")
    assert zero_days.sel(site="08023080") == 1369
    assert zero_days.sel(site="09386900") == 1517
    flow = dataset["streamflow"].sel(site="01022500")
    assert flow.isnull().sum() == 92
    assert flow.sel(time=slice("2014-10-01", None)).isnull().all()
    for name, first, last in (("prcp", "1993-09-29", "2013-10-03"), ("streamflow", "1993-10-08", "2013-10-10")):
        there = dataset["time"][dataset[name].sel(site="08023080").notnull()]
        assert np.datetime_as_string(there.values[[0, -1]], unit="D").tolist() == [first, last]
        assert len(there) == (np.datetime64(last) - np.datetime64(first)).astype(int) + 1
    assert dataset["huc_02"].values.tolist() == ["01", "05", "12", "14", "15"]
    assert dataset["gauge_lat"].sel(site="01022500").item() == pytest.approx(44.6, abs=0.1)
    assert all(dataset[name].attrs["long_name"] != name for name in dataset.data_vars)


@needs["camels_us_flat"]
@pytest.mark.parametrize("forcing", ["daymet", "maurer", "maurer_extended", "nldas"])
def test_real_basins_without_unit_folders(forcing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_camels_us(REAL / "camels_us_flat", forcing=forcing, attributes=False)
    assert dataset["site"].values.tolist() == ["01022500", "01547700", "03015500"]
    period = dataset.sel(time=slice("2000-01-01", "2002-12-31"))
    assert period.sizes["time"] == 1096
    assert not any(period[name].isnull().any() for name in period.data_vars)
    assert dataset.sizes["time"] == (1461 if forcing == "daymet" else 1096)
    first = {"daymet": -2.36, "maurer": -8.49, "maurer_extended": -2.09, "nldas": -6.44}
    assert dataset["tmax"][0, 0].item() == pytest.approx(first[forcing])


@needs["camels_us"]
def test_real_basin_through_the_datamodule():
    data = CAMELSUSDataModule(REAL / "camels_us", ["01031500"], attributes=["area", "aridity"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)  # one site: attributes are constant
        data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape[1:] == (366, 7)
    assert torch.isfinite(batch["x"]).all()


@needs["camels_us"]
def test_real_model_output_agrees_with_the_streamflow():
    dataset = read_camels_us(REAL / "camels_us", ["01031500"], model_output=True).sel(site="01031500")
    observed = dataset["model_observed_streamflow"].sel(time=slice("1980-10-01", None)).astype(float)
    flow = dataset["streamflow"].sel(time=observed["time"]).astype(float)
    assert flow[0].item() == pytest.approx(0.5550, abs=5e-5)
    assert (observed / flow).where(flow > 0).mean().item() == pytest.approx(0.999998, abs=1e-6)
    flagged = flow.isnull()
    assert int(flagged.sum()) == 92
    assert observed[flagged].notnull().all()
    assert dataset["model_swe"].sel(time="2014-12-31").item() == pytest.approx(80.208)
    assert dataset.attrs["model_seed"] == "01031500 05"


@needs["camels_us"]
def test_real_attributes_give_558_basins_by_the_rule():
    with pytest.warns(MPTTWarning, match=r"558 basins by the rule .*; 5 of them have all files here"):
        dataset = read_camels_us(REAL / "camels_us", "531", "nldas", attributes=False)
    assert dataset.sizes["site"] == 5


@needs["camels_us_flat"]
def test_real_products_side_by_side():
    products = ["daymet", "maurer", "maurer_extended", "nldas"]
    dataset = read_camels_us(REAL / "camels_us_flat", forcing=products, attributes=False)
    first = {"daymet": -2.36, "maurer": -8.49, "maurer_extended": -2.09, "nldas": -6.44}
    assert {name: dataset[f"tmax_{name}"][0, 0].item() for name in products} == pytest.approx(first)
    assert int(dataset["tmax_nldas"].notnull().sum()) == 3 * 1096
    assert int(dataset["tmax_daymet"].notnull().sum()) == 2 * 1096 + 1461


@needs["camels_us_flat"]
@needs["camels_us"]
def test_real_attributes_of_another_folder():
    dataset = read_camels_us(REAL / "camels_us_flat", forcing="maurer", attributes_root=REAL / "camels_us")
    assert dataset["huc_02"].values.tolist() == ["01", "02", "05"]


def test_a_latitude_that_is_named_is_read(root):
    write_attributes(root, topo=["gauge_id;gauge_lat", "12000002;30", "01000001;47"])
    data = CAMELSUSDataModule(
        root, forcing="nldas", inputs=["prcp", "pet_oudin"], derive={"pet_oudin": {"latitude": "gauge_lat"}}, window=3
    )
    assert "gauge_lat" in data.load()
    assert "gauge_lat" not in CAMELSUSDataModule(root, forcing="nldas", inputs=["prcp"], window=3).load()

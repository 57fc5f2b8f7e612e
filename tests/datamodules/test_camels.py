import os
from pathlib import Path

import numpy as np
import pytest
from fake_camels import (
    CH,
    GB,
    ch_file,
    gb_file,
    random_columns,
    write_ch_attributes,
    write_gb_attributes,
    write_series,
)

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import CAMELSDataModule, read_camels
from mptt.datamodules.camels import LAYOUT, camels_source

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
real = pytest.mark.skipif(
    not (REAL / "camels_ch").is_dir(), reason=f"no real basins in {REAL / 'camels_ch'} (MPTT_REAL_DATA says where)"
)
NAN = np.nan
SPEC, RAIN, MEAN = CH["discharge_spec"], CH["precipitation"], CH["temperature_mean"]


@pytest.fixture
def swiss(tmp_path):
    """Two basins of different periods."""
    write_series(ch_file(tmp_path, "2002"), {SPEC: [-1.5, NAN, 3], RAIN: [1, 2, 3], CH["swe"]: [NAN, 5, 6]})
    write_series(ch_file(tmp_path, "0301"), {SPEC: [7, 8], MEAN: [-4, -5]}, "2000-01-03")
    write_ch_attributes(
        tmp_path, "topographic_attributes", ["gauge_id,gauge_name,area", "2002,Rhône,10.5", "0301,Aare,2"]
    )
    write_ch_attributes(tmp_path, "soil_attributes", ["gauge_id,sand_perc,texture", "0301,NaN,loam", "2002,30,NaN"])
    return tmp_path


@pytest.fixture
def british(tmp_path):
    """One basin in the folder `data`."""
    data = tmp_path / "data"
    columns = {name: [float(nth), NAN if name.startswith("discharge") else nth + 0.5] for nth, name in enumerate(GB)}
    write_series(gb_file(data, "10002"), columns, "1970-10-01")
    write_gb_attributes(data, "topographic", ["gauge_id,gauge_name,area", "10003,B,2", "10002,Ugie at Inverugie,325"])
    write_gb_attributes(data, "climatic", ["gauge_id,p_mean,high_prec_timing", "10002,2.29,son"])
    return tmp_path


def test_swiss_basins_stand_on_one_axis_under_the_names_of_the_house(swiss):
    dataset = read_camels(swiss)
    assert dataset["site"].values.tolist() == ["0301", "2002"]
    assert dataset["time"].dtype == "datetime64[s]"
    np.testing.assert_array_equal(dataset["time"], np.arange("2000-01-01", "2000-01-05", dtype="datetime64[D]"))
    np.testing.assert_array_equal(dataset["streamflow"], [[NAN, NAN, 7, 8], [-1.5, NAN, 3, NAN]])
    np.testing.assert_array_equal(dataset["precipitation"], [[NAN] * 4, [1, 2, 3, NAN]])
    np.testing.assert_array_equal(dataset["temperature"], [[NAN, NAN, -4, -5], [NAN] * 4])
    np.testing.assert_array_equal(dataset["swe"], [[NAN] * 4, [NAN, 5, 6, NAN]])
    assert dataset["streamflow"].dtype == np.float32


def test_swiss_attributes_are_joined_by_id_past_the_line_of_explanation(swiss):
    dataset = read_camels(swiss)
    assert dataset["gauge_name"].values.tolist() == ["Aare", "Rhône"]
    assert dataset["area"].values.tolist() == [2, 10.5]
    np.testing.assert_array_equal(dataset["sand_perc"], [NAN, 30])
    assert dataset["texture"].values.tolist() == ["loam", ""]


def test_british_basins_have_the_same_names(british):
    dataset = read_camels(british)
    assert dataset["site"].values.tolist() == ["10002"]
    found = {
        name: dataset[name].values[0].tolist() for name in dataset.data_vars if dataset[name].dims == ("site", "time")
    }
    names = [{"discharge_spec": "streamflow", "discharge_vol": "discharge"}.get(name, name) for name in GB]
    for nth, name in enumerate(names):
        np.testing.assert_array_equal(found[name], [nth, NAN if name in ("streamflow", "discharge") else nth + 0.5])
    assert set(found) == set(names)
    assert dataset["area"].values.tolist() == [325]
    assert dataset["p_mean"].values.tolist() == [np.float32(2.29)]
    assert dataset["high_prec_timing"].values.tolist() == ["son"]
    units = {name: dataset[name].attrs["units"] for name in ("streamflow", "discharge", "humidity", "area")}
    assert units == {"streamflow": "mm/day", "discharge": "m3/s", "humidity": "g/kg", "area": "km2"}


@pytest.mark.parametrize(("country", "doi"), [("swiss", "10.5194/essd-15-5755-2023"), ("british", "10.5285/8344e4f3")])
def test_every_variable_says_what_it_is(country, doi, request):
    dataset = read_camels(request.getfixturevalue(country))
    for name, variable in dataset.data_vars.items():
        assert set(variable.attrs) == {"units", "long_name"}, name
    assert {"title", "source", "license", "references"} == set(dataset.attrs)
    assert doi in dataset.attrs["references"]


def test_columns_and_rows_come_in_any_order_with_semicolons_and_any_line_end(swiss):
    text = "\ufeff" + "\r\n".join([f"{RAIN};date;extra(kg);{SPEC}", "2;2000-01-02;9;NaN", "1;2000-01-01;8;4", ""])
    ch_file(swiss, "2002").write_bytes(text.encode())
    dataset = read_camels(swiss, sites=["2002"])
    np.testing.assert_array_equal(dataset["streamflow"], [[4, NAN]])
    assert dataset["precipitation"].values.tolist() == [[1, 2]]
    assert dataset["extra"].values.tolist() == [[8, 9]]
    assert dataset["extra"].attrs == {"units": "kg", "long_name": "extra"}


def test_another_unit_in_the_header_is_refused(swiss):
    write_series(ch_file(swiss, "2002"), {"swe(m)": [0.1]})
    with pytest.raises(MPTTError, match=r"_2002\.csv: the column swe\(m\) is in m; in CAMELS-CH swe is in mm"):
        read_camels(swiss)


def test_ids_written_as_numbers_with_a_point_are_whole(swiss):
    write_ch_attributes(swiss, "topographic_attributes", ["gauge_id,area", "2002.0,10.5", "0301,2"])
    assert read_camels(swiss)["area"].values.tolist() == [2, 10.5]


def test_streamflow_is_made_though_only_streamflow_is_asked_for(british):
    write_series(gb_file(british / "data", "10002"), {"discharge_vol": [3.25], "pet": [1.0]}, "1970-10-01")
    dataset = camels_source(british, variables=["streamflow"]).dataset(["streamflow"])
    np.testing.assert_allclose(dataset["streamflow"], [[3.25 * 86.4 / 325]], rtol=1e-6)


def test_streamflow_is_made_from_discharge_and_area_where_there_is_none(swiss):
    write_series(ch_file(swiss, "2002"), {CH["discharge_vol"]: [10.5, 21, NAN]})
    np.testing.assert_allclose(read_camels(swiss, sites=["2002"])["streamflow"], [[86.4, 172.8, NAN]], rtol=1e-6)
    write_ch_attributes(swiss, "topographic_attributes", ["gauge_id,area", "2002,NaN", "0301,1"])
    with pytest.warns(MPTTWarning, match=r"_2002\.csv has the discharge in m3/s only, and there is no attribute area"):
        assert "streamflow" not in read_camels(swiss, sites=["2002"])


def test_simulated_series_and_attributes_end_in_sim(swiss):
    simulated = {"discharge_spec_sim(mm/d)": [4, 5], "rel_humidity_sim(%)": [0.5, 1]}
    write_series(ch_file(swiss, "2002", "simulation"), simulated, "2000-01-02")
    folder = "static_attributes/simulation_based"
    write_ch_attributes(swiss, "climate_attributes_sim", ["gauge_id,area,p_mean", "2002,11,3", "0301,1,1"], folder)
    assert not [name for name in read_camels(swiss).data_vars if str(name).endswith("_sim")]
    with pytest.warns(MPTTWarning, match="1 of 2 sites have no simulated series: 0301"):
        dataset = read_camels(swiss, simulated=True)
    np.testing.assert_array_equal(dataset["streamflow_sim"], [[NAN] * 4, [NAN, 4, 5, NAN]])
    np.testing.assert_array_equal(dataset["streamflow"][1], [-1.5, NAN, 3, NAN])
    assert dataset["rel_humidity_sim"].attrs["units"] == "1"
    assert dataset["area_sim"].values.tolist() == [1, 11]
    assert dataset["area"].values.tolist() == [2, 10.5]
    assert dataset["p_mean_sim"].attrs["units"] == "mm/day"


def test_british_data_have_no_simulation(british):
    with pytest.raises(MPTTError, match="CAMELS-GB has no simulated series"):
        read_camels(british, simulated=True)


def test_country_is_recognised_or_said(swiss, british):
    with pytest.raises(MPTTError, match="holds the data of 2 countries; say which, with country='ch'"):
        read_camels(swiss)
    assert read_camels(swiss, "ch")["site"].values.tolist() == ["0301", "2002"]
    assert read_camels(swiss, "gb")["site"].values.tolist() == ["10002"]
    with pytest.raises(MPTTError, match="country is 'ch' or 'gb'; found 'us'"):
        read_camels(swiss, "us")


def test_a_folder_without_such_files_is_refused(tmp_path, swiss):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MPTTError, match=r"No files time_series/.* or timeseries/.* in .*empty .*found none"):
        read_camels(tmp_path / "empty")
    with pytest.raises(
        MPTTError, match=r"No files timeseries/\*\.csv of CAMELS-GB in .*found empty, static_attributes"
    ):
        read_camels(swiss / ".." / swiss.name, "gb")
    with pytest.raises(MPTTError, match="nothing to look into"):
        read_camels(tmp_path / "nowhere")
    assert LAYOUT.recognise(swiss)
    assert not LAYOUT.recognise(tmp_path / "empty")
    assert not LAYOUT.recognise(tmp_path / "nowhere")
    assert not LAYOUT.recognise(ch_file(swiss, "2002"))


def test_a_copy_of_the_data_inside_is_refused(swiss):
    write_series(ch_file(swiss / "copy", "2002"), {SPEC: [1, 2]})
    with pytest.raises(MPTTError, match=r"holds the data more than once, in .*copy; give one of them as root"):
        read_camels(swiss)


def test_sites_are_chosen_by_name(swiss):
    assert read_camels(swiss, sites=["2002"])["area"].values.tolist() == [10.5]
    assert read_camels(swiss, sites=[2002])["site"].values.tolist() == ["2002"]
    for wrong, message in (([2002.0], "A site is a string"), (["2001"], "No series of site 2001.*Near '2001': 2002")):
        with pytest.raises(MPTTError, match=message):
            read_camels(swiss, sites=wrong)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["date," + RAIN, "1981-01-01,1", "1981-01-01,1"], "line 3: the date 1981-01-01 stands in an earlier line"),
        (["date," + RAIN, "1981-01-01,1", "1981-01-02,"], None),
        (["date," + RAIN, "1981-01-01,1", "1981-01-02"], "line 3: 1 fields where 2 are due"),
        (["date," + RAIN, "1981-01-01,1", "1981-01"], "line 3: 1 fields where 2 are due"),
        (["date," + RAIN, "1981-01-01,one"], r"line 2: precipitation\(mm/d\) is 'one', not a number"),
        (["year," + RAIN, "1981,1"], "no column date"),
        (["date,precipitation(mm/d),precipitation", "1981-01-01,1,1"], "more than one column for precipitation"),
        ([""], "is empty"),
        (["\0\0"], "is not a text file"),
    ],
)
def test_a_faulty_series_is_refused_by_file_and_line(swiss, lines, message):
    ch_file(swiss, "2002").write_text("\n".join(lines) + "\n")
    if message is None:
        np.testing.assert_array_equal(read_camels(swiss, sites=["2002"])["precipitation"], [[1, NAN]])
        return
    with pytest.raises(MPTTError, match=rf"_2002\.csv.*{message}"):
        read_camels(swiss)


def test_a_file_that_may_not_be_read_is_named(swiss, monkeypatch):
    source = camels_source(swiss)

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(MPTTError, match=r"_0301\.csv cannot be opened: Permission denied"):
        source.dataset()


def test_what_is_not_of_the_layout_is_named(swiss):
    ch_file(swiss, "2002").with_name("readme.csv").write_text("hello\n")
    write_ch_attributes(swiss, "glacier_attributes", ["id,ice", "2002,1"])
    write_ch_attributes(swiss, "soil_attributes", ["gauge_id,sand_perc", "2002,30"])
    with pytest.warns(MPTTWarning) as caught:
        dataset = read_camels(swiss)
    said = " ".join(str(warning.message) for warning in caught)
    assert "are of no site, by their names, and left out: readme.csv" in said
    assert "without a column gauge_id are left out: CAMELS_CH_glacier_attributes.csv" in said
    assert "1 of 2 sites lack attributes: 0301 (not in CAMELS_CH_soil_attributes.csv)" in said
    np.testing.assert_array_equal(dataset["sand_perc"], [NAN, 30])
    assert "ice" not in dataset


def test_without_attribute_files_series_are_read_with_a_note(tmp_path):
    write_series(ch_file(tmp_path, "2002"), {SPEC: [1, 2]})
    with pytest.warns(MPTTWarning, match=r"there is no attribute file static_attributes/CAMELS_CH_"):
        assert set(read_camels(tmp_path).data_vars) == {"streamflow"}


def test_sites_without_streamflow_or_temperature_are_left_out(tmp_path):
    for site, without in (("1", "discharge_spec"), ("2", None), ("3", "temperature_mean")):
        columns = random_columns(CH, 400)
        if without:
            columns[without][:] = NAN
        write_series(ch_file(tmp_path, site), {CH[name]: values for name, values in columns.items()})
    write_ch_attributes(tmp_path, "topographic_attributes", ["gauge_id,area", "1,1", "2,2", "3,3"])
    data = CAMELSDataModule(tmp_path, window=30, stride=15)
    with pytest.warns(MPTTWarning, match=r"2 of 3 sites left out: 3 \(no temperature\), 1 \(no streamflow\)"):
        data.setup("fit")
    assert data.sites == ["2"]
    with pytest.raises(MPTTError, match=r"Sites asked for have no value of an input: 3 \(no temperature\)"):
        CAMELSDataModule(tmp_path, sites=["2", "3"], window=30).setup("fit")
    named = CAMELSDataModule(tmp_path, sites=["1", "2"], window=30, stride=15)
    with pytest.warns(MPTTWarning) as caught:
        named.setup("fit")
    messages = [str(one.message) for one in caught if issubclass(one.category, MPTTWarning)]
    assert [message.partition(" site(s)")[0] for message in messages] == [
        f"No value of streamflow in the {part} part of 1" for part in ("train", "validation", "test")
    ]
    assert named.sites == ["1", "2"]


@real
def test_real_basins():
    dataset = read_camels(REAL / "camels_ch")
    assert dataset["site"].values.tolist() == ["2004", "2053", "2161", "2446", "4001"]
    assert dataset["time"].values[[0, -1]].astype("M8[D]").astype(str).tolist() == ["1981-01-01", "2020-12-31"]
    assert np.isnan(dataset["streamflow"]).sum("time").values.tolist() == [14610, 3652, 0, 778, 2363]
    assert int((dataset["discharge"].sel(site="2446") < 0).sum()) == 1394
    assert np.isnan(dataset["swe"]).sum("time").values.tolist() == [6453] * 5
    assert dataset["gauge_name"].values.tolist()[3] == "Gampelen-Zihlbrücke"
    assert dataset["area"].values.tolist()[0] == np.float32(712.7)
    assert len([name for name in dataset.data_vars if dataset[name].dims == ("site",)]) == 188
    for name, variable in dataset.data_vars.items():
        assert set(variable.attrs) == {"units", "long_name"}, name


@real
def test_discharge_over_area_is_streamflow_in_the_real_basins():
    dataset = read_camels(REAL / "camels_ch", sites=["2161"])
    ours = dataset["discharge"].values * 86.4 / dataset["area"].values[:, None]
    np.testing.assert_allclose(ours, dataset["streamflow"].values, atol=0.03, rtol=0.005)

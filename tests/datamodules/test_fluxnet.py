import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from towers import product_path, write_days, write_product

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import FLUXNETDataModule, read_fluxnet
from mptt.datamodules.fluxnet import LAYOUT
from mptt.datamodules.formats.fluxnet_variables import description, quality_of

REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "fluxnet_csv"
NAN = np.nan


def days(*numbers, start="2000-01-01"):
    return {"TIMESTAMP": pd.date_range(start, periods=len(numbers)).strftime("%Y%m%d")}


def daily_file(root, site, values, start="2000-01-01", **columns):
    path = product_path(root, site, "FULLSET", "DD")
    return write_product(path, days(*values, start=start), {"TA_F": values, **columns})


def halfhours(root, site, step="HH", **columns):
    count = len(next(iter(columns.values())))
    begin = pd.date_range("2000-01-01", periods=count, freq="30min" if step == "HH" else "h")
    stamps = {"TIMESTAMP_START": begin.strftime("%Y%m%d%H%M")}
    stamps["TIMESTAMP_END"] = (begin + (begin[1] - begin[0])).strftime("%Y%m%d%H%M")
    return write_product(product_path(root, site, "FULLSET", step), stamps, columns)


def test_towers_are_joined_by_date_without_their_empty_ends(tmp_path):
    daily_file(tmp_path, "US-Ha1", [NAN, 1, NAN, 3, NAN], TA_F_QC=[0.5] * 5)
    daily_file(tmp_path, "DE-Tha", [7, 8], start="2000-01-05")
    read = read_fluxnet(tmp_path)
    assert read["site"].values.tolist() == ["DE-Tha", "US-Ha1"]
    assert read["time"].values.tolist() == np.arange("2000-01-02", "2000-01-07", dtype="M8[D]").astype("M8[s]").tolist()
    assert np.array_equal(read["TA_F"], [[NAN, NAN, NAN, 7, 8], [1, NAN, 3, NAN, NAN]], equal_nan=True)
    assert read["TA_F"].dtype == np.float32
    assert read["TA_F"].attrs["units"] == "degC"
    assert {"title", "source", "license", "references", "time_zone"} <= set(read.attrs)


@pytest.mark.parametrize(
    ("name", "step", "unit"),
    [
        ("TA_ERA", "DD", "degC"),
        ("SW_IN_F", "HH", "W m-2"),
        ("VPD_F_MDS", "DD", "hPa"),
        ("PA_F", "DD", "kPa"),
        ("P_F", "HH", "mm"),
        ("P_ERA", "DD", "mm/day"),
        ("P_F", "YY", "mm/year"),
        ("PPFD_IN", "DD", "umolPhoton m-2 s-1"),
        ("SWC_F_MDS_2", "MM", "%"),
        ("LE_CORR", "DD", "W m-2"),
        ("GPP_NT_VUT_REF", "HH", "umolCO2 m-2 s-1"),
        ("GPP_NT_VUT_REF", "DD", "gC m-2 d-1"),
        ("RECO_DT_CUT_50", "YY", "gC m-2 y-1"),
        ("NEE_VUT_REF_NIGHT", "DD", "umolCO2 m-2 s-1"),
        ("NEE_VUT_REF_QC", "DD", "1"),
        ("EBC_CF_N", "DD", None),
        ("SOMETHING", "DD", None),
    ],
)
def test_units_of_columns(name, step, unit):
    assert description(name, step).get("units") == unit


def test_fluxes_are_judged_by_what_they_are_computed_from():
    there = {"NEE_VUT_REF_QC", "NEE_CUT_50_QC", "LE_F_MDS_QC", "TA_F_QC", "nee_qc"}
    found = {
        name: quality_of(name, there) for name in ("GPP_NT_VUT_REF", "RECO_DT_CUT_50", "LE_CORR_25", "TA_F", "P_F")
    }
    assert found == {
        "GPP_NT_VUT_REF": "NEE_VUT_REF_QC",
        "RECO_DT_CUT_50": "NEE_CUT_50_QC",
        "LE_CORR_25": "LE_F_MDS_QC",
        "TA_F": "TA_F_QC",
        "P_F": None,
    }
    assert quality_of("gpp_dt", there) == "nee_qc"


def test_days_of_poor_quality_are_left_out(tmp_path):
    daily_file(
        tmp_path, "DE-Tha", [1, 2, 3], NEE_VUT_REF=[4, 5, 6], NEE_VUT_REF_QC=[1, 0.5, 0.49], GPP_NT_VUT_REF=[7, 8, 9]
    )
    read = read_fluxnet(tmp_path, quality=0.5, variables=["TA_F", "GPP_NT_VUT_REF"])
    assert set(read.data_vars) == {"TA_F", "GPP_NT_VUT_REF"}
    assert read["TA_F"].values.tolist() == [[1, 2, 3]], "no quality, no judgement"
    assert np.array_equal(read["GPP_NT_VUT_REF"], [[7, 8, NAN]], equal_nan=True)
    assert np.array_equal(
        read_fluxnet(tmp_path, quality={"NEE_VUT_REF": 1})["NEE_VUT_REF"], [[4, NAN, NAN]], equal_nan=True
    )
    with pytest.raises(MPTTError, match="TA_F has no column of quality"):
        read_fluxnet(tmp_path, quality={"TA_F": 0.5})
    with pytest.raises(MPTTError, match=r"smallest share .* 0 to 1; found 2"):
        read_fluxnet(tmp_path, quality=2)


def test_values_without_quality_are_left_out_with_a_note(tmp_path):
    daily_file(tmp_path, "DE-Tha", [1, 2], TA_F_QC=[NAN, 1])
    with pytest.warns(MPTTWarning, match=r"values without quality are left out.*TA_F \(1\)"):
        read = read_fluxnet(tmp_path, quality=0.5)
    assert np.array_equal(read["TA_F"], [[NAN, 2]], equal_nan=True)


def test_days_are_made_from_half_hours(tmp_path):
    warm = np.arange(96.0)
    warm[48:58] = NAN  # 38 of 48 are there
    rain = np.ones(96)
    rain[48:52] = NAN  # 44 of 48
    flags = np.r_[np.zeros(24), np.full(12, 1), np.full(12, 2), np.full(48, 3)]
    halfhours(tmp_path, "DE-Tha", TA_F=warm, TA_F_QC=flags, P_F=rain, NEE_VUT_REF=np.full(96, 2.0))
    read = read_fluxnet(tmp_path, step="HH", daily=True)
    assert read["time"].values.tolist() == np.array(["2000-01-01", "2000-01-02"], "M8[s]").tolist()
    assert np.array_equal(read["TA_F"], [[23.5, NAN]], equal_nan=True), "38 of 48 are less than 80 %"
    assert read["P_F"].values.tolist() == [[48, 48]], "a sum, of a whole day"
    assert read["TA_F_QC"].values.tolist() == [[0.75, 0]]
    assert read["P_F"].attrs["units"] == "mm/day"
    assert read["NEE_VUT_REF"].attrs["units"] == "umolCO2 m-2 s-1"
    assert read_fluxnet(tmp_path, step="HH", daily=True, least_good=0.79)["TA_F"].values[0, 1] == 76.5
    good = read_fluxnet(tmp_path, step="HH", daily=True, least_good=0.7, quality={"TA_F": 1}, variables=["TA_F"])
    assert good["TA_F"].values[0, 0] == 17.5, "the mean of 0 to 35"


def test_half_hours_and_hours(tmp_path):
    halfhours(tmp_path, "DE-Tha", TA_F=np.arange(4.0), TA_F_QC=[0, 1, 2, 3])
    read = read_fluxnet(tmp_path, step="HH", quality=1)
    assert np.array_equal(read["TA_F"], [[0, 1, NAN, NAN]], equal_nan=True)
    assert read["time"].values[1] == np.datetime64("2000-01-01T00:30")
    halfhours(tmp_path, "US-Ha1", "HR", TA_F=np.full(24, 3.0))
    made = read_fluxnet(tmp_path, step="HH", daily=True, sites=["US-Ha1"])
    assert made["TA_F"].values.tolist() == [[3]]
    with pytest.raises(MPTTError, match="largest flag"):
        read_fluxnet(tmp_path, step="HH", quality=0.5)
    with pytest.raises(MPTTError, match="least_good is a share"):
        read_fluxnet(tmp_path, step="HH", daily=True, least_good=80)


@pytest.mark.parametrize(("step", "stamps"), [("MM", ["200011", "200012", "200101"]), ("YY", ["2000", "2001", "2002"])])
def test_months_and_years(tmp_path, step, stamps):
    write_product(product_path(tmp_path, "DE-Tha", "FULLSET", step), {"TIMESTAMP": stamps}, {"TA_F": [1, 2, 3]})
    read = read_fluxnet(tmp_path, step=step)
    assert read["TA_F"].values.tolist() == [[1, 2, 3]]
    assert str(read["time"].values[-1])[:10] == ("2001-01-01" if step == "MM" else "2002-01-01")


@pytest.mark.parametrize("layout", ["folder", "loose", "archive", "file"])
def test_files_lie_as_they_were_downloaded(tmp_path, layout):
    path = daily_file(tmp_path / "in", "DE-Tha", [1, 2])
    root = tmp_path / "out"
    root.mkdir()
    if layout == "folder":
        shutil.copytree(path.parent, root / path.parent.name)
    elif layout == "archive":
        with zipfile.ZipFile(root / "FLX_DE-Tha_FLUXNET2015_FULLSET_2000-2001_1-4.zip", "w") as archive:
            archive.write(path, path.name)
    else:
        shutil.copy(path, root)
    assert LAYOUT.recognise(root)
    read = read_fluxnet(root / path.name if layout == "file" else root)
    assert read["TA_F"].values.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "name",
    [
        "FLX_DE-Tha_FLUXNET2015_FULLSET_DD_1996-2020_beta-3.csv",
        "ICOSETC_DE-Tha_FLUXNET_DD_L2.csv",
        "AMF_DE-Tha_FLUXNET_FULLSET_DD_1991-2020_3-5.csv",
    ],
)
def test_other_releases(tmp_path, name):
    daily_file(tmp_path, "DE-Tha", [1, 2]).rename(tmp_path / name)
    assert read_fluxnet(tmp_path)["site"].values.tolist() == ["DE-Tha"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(MPTTError, match="nothing is there"):
        read_fluxnet(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MPTTError, match=r"holds no file called FLX_.*notes\.txt"):
        read_fluxnet(tmp_path)
    assert not LAYOUT.recognise(tmp_path)
    path = daily_file(tmp_path, "DE-Tha", [1, 2])
    with pytest.raises(MPTTError, match=r"product ERAI with the step DD; there are FULLSET DD \(DE-Tha\)"):
        read_fluxnet(tmp_path, "ERAI")
    with pytest.raises(MPTTError, match="No FULLSET DD file of site US-Ha1"):
        read_fluxnet(tmp_path, sites=["US-Ha1"])
    with pytest.raises(MPTTError, match=r"\['DE-Tha'\]"):
        read_fluxnet(tmp_path, sites="DE-Tha")
    with pytest.raises(MPTTError, match="no step 'D'"):
        read_fluxnet(tmp_path, step="D")
    with pytest.raises(MPTTError, match="daily=True makes days from half-hours"):
        read_fluxnet(tmp_path, daily=True)
    shutil.copy(path, tmp_path / path.name.replace("1-4", "2-4"))
    with pytest.raises(MPTTError, match="DE-Tha has two files"):
        read_fluxnet(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TIMESTAMP,TA_F\n20000101,1\n20000102\n", "line 3: 1 fields where 2 are due"),
        ("TIMESTAMP,TA_F\n20000101,1\n20000102,x\n", "line 3: TA_F is 'x'"),
        ("TIMESTAMP,TA_F\n20000101,1\n20000230,2\n", "line 3: TIMESTAMP is '20000230', not a date yyyymmdd"),
        ("TIMESTAMP,TA_F\n20000101,1\n200002,2\n", "line 3: TIMESTAMP is '200002'"),
        ("TIMESTAMP,TA_F\n20000102,1\n\n20000101,2\n", "line 4: the date 2000-01-01.*dates must go up"),
        ("TIMESTAMP,TA_F\n20000101,1\n20000101,2\n", "dates must go up"),
        ("TIMESTAMP,TA_F\n", "no row below its header"),
        ("DATE,TA_F\n20000101,1\n", "no column TIMESTAMP"),
        ("TIMESTAMP,TA_F\n20000101,-9999\n20000102,-9999\n", "Sites without a date: DE-Tha"),
        ("TIMESTAMP;TA_F\n20000101;0,5\n", "line 2: TA_F is '0,5'"),
        ("TIMESTAMP_END,TA_F\n20000101,1\n", "no column TIMESTAMP, nor TIMESTAMP_START"),
        ("", "is empty"),
        ("TIMESTAMP\0", "is not a text file"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, text, message):
    path = daily_file(tmp_path, "DE-Tha", [1, 2])
    path.write_text(text)
    with pytest.raises(MPTTError, match=message) as error:
        read_fluxnet(tmp_path)
    assert "DE-Tha" in str(error.value)


def test_files_that_must_not_be_read_are_refused(tmp_path, monkeypatch):
    daily_file(tmp_path, "DE-Tha", [1, 2])

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(MPTTError, match=r"DE-Tha.*cannot be read: .*Permission denied"):
        read_fluxnet(tmp_path)


def test_damaged_archives_are_refused(tmp_path):
    (tmp_path / "FLX_DE-Tha_FLUXNET2015_FULLSET_2000-2001_1-4.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(MPTTError, match="no archive that can be read"):
        read_fluxnet(tmp_path)


def test_byte_order_marks_and_line_ends_of_windows(tmp_path):
    path = daily_file(tmp_path, "DE-Tha", [1, 2])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_fluxnet(tmp_path)["TA_F"].values.tolist() == [[1, 2]]


def test_semicolons_and_spaces(tmp_path):
    path = daily_file(tmp_path, "DE-Tha", [1.5, 2])
    path.write_text(path.read_text().replace(",", " ; "))
    assert read_fluxnet(tmp_path)["TA_F"].values.tolist() == [[1.5, 2]]


def test_a_last_line_without_end_is_noted(tmp_path):
    path = daily_file(tmp_path, "DE-Tha", [1, NAN])
    path.write_text(path.read_text().rstrip().removesuffix("99.0"))
    with pytest.warns(MPTTWarning, match=r"its last line, 3, has no line end"):
        read_fluxnet(tmp_path)


def test_ends_of_half_hours_date_their_starts(tmp_path):
    path = halfhours(tmp_path, "DE-Tha", TA_F=[*range(48), *range(48)])
    path.write_text("\n".join(line.partition(",")[2] for line in path.read_text().splitlines()) + "\n")
    read = read_fluxnet(tmp_path, step="HH", daily=True)
    assert read["TA_F"].values.tolist() == [[23.5, 23.5]]
    assert str(read["time"].values[0])[:16] == "2000-01-01T00:00"


def test_weeks_of_several_years_are_no_equal_steps(tmp_path):
    stamps = [
        f"{pd.Timestamp(year, 1, 1) + pd.Timedelta(7 * week, 'D'):%Y%m%d}"
        for year in (2000, 2001)
        for week in range(52)
    ]
    path = write_product(
        product_path(tmp_path, "DE-Tha", "FULLSET", "WW"), {"TIMESTAMP_START": stamps}, {"TA_F": range(104)}
    )
    with pytest.raises(MPTTError, match=r"_WW_.*: the week that begins on 2000-12-23 has 9 days.*step=\"DD\""):
        read_fluxnet(tmp_path, step="WW")
    path.write_text("\n".join(path.read_text().splitlines()[:53]) + "\n")
    assert read_fluxnet(tmp_path, step="WW")["TA_F"].values.tolist() == [list(range(52))]


def test_a_file_beside_its_archive_is_read_once(tmp_path):
    path = daily_file(tmp_path, "DE-Tha", [1, 2])
    with zipfile.ZipFile(tmp_path / "FLX_DE-Tha_FLUXNET2015_FULLSET_2000-2001_1-4.zip", "w") as archive:
        archive.write(path, path.name)
    with pytest.warns(MPTTWarning, match=r"lie unpacked and in an archive, and the unpacked ones are read: FLX_DE-Tha"):
        assert read_fluxnet(tmp_path)["TA_F"].values.tolist() == [[1, 2]]


def test_a_damaged_member_of_an_archive_is_refused(tmp_path):
    path = daily_file(tmp_path / "in", "DE-Tha", range(500))
    packed = tmp_path / "FLX_DE-Tha_FLUXNET2015_FULLSET_2000-2001_1-4.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    content = bytearray(packed.read_bytes())
    content[150:250] = bytes(100)
    packed.write_bytes(content)
    with pytest.raises(MPTTError, match=r"\.zip, FLX_DE-Tha_.*cannot be unpacked"):
        read_fluxnet(packed)


def test_columns_that_a_tower_lacks(tmp_path):
    daily_file(tmp_path, "DE-Tha", [1, 2], GPP_NT_VUT_REF=[3, 4], P_F=[5, 6])
    daily_file(tmp_path, "US-Ha1", [1, 2], GPP_NT_VUT_REF=[3, 4])
    assert not read_fluxnet(tmp_path, variables=["none"]).data_vars
    module = {"inputs": ["TA_F", "P_F"], "targets": ["GPP_NT_VUT_REF"]}
    with pytest.warns(MPTTWarning, match=r"1 of 2 sites left out: US-Ha1 \(no P_F\)"):
        assert FLUXNETDataModule(tmp_path, **module).load()["site"].values.tolist() == ["DE-Tha"]
    with pytest.raises(MPTTError, match=r"US-Ha1 \(no P_F\)"):
        FLUXNETDataModule(tmp_path, sites=["US-Ha1", "DE-Tha"], **module).load()


def test_a_configuration_reads_what_was_looked_at(tmp_path):
    halfhours(tmp_path, "DE-Tha", TA_F=range(96), TA_F_QC=[0] * 60 + [3] * 36)
    halfhours(tmp_path, "US-Ha1", TA_F=range(96), TA_F_QC=[0] * 96)
    given = {"step": "HH", "daily": True, "least_good": 0.25, "quality": {"TA_F": 1.0}, "sites": ["US-Ha1", "DE-Tha"]}
    source = LAYOUT.source(tmp_path, **given)
    assert source.settings["init_args"] == {"root": str(tmp_path), "product": "FULLSET", **given}
    module = FLUXNETDataModule(**source.settings["init_args"], inputs=["TA_F"], targets=["TA_F"])
    read = module.load()
    assert read["TA_F"].equals(source.dataset(["TA_F"])["TA_F"])
    assert read["TA_F"].values[1].tolist() == [23.5, 53.5], "the mean of the good half-hours"


def test_a_data_module_judges_its_targets(tmp_path):
    write_days(tmp_path, "DE-Tha", 2)
    data = FLUXNETDataModule(tmp_path, quality=0.5, window=60, stride=30)
    data.setup()
    assert data.sites == ["DE-Tha"]
    assert data.units == {"GPP_NT_VUT_REF": "gC m-2 d-1"}
    read = read_fluxnet(tmp_path, quality={"GPP_NT_VUT_REF": 0.5}, variables=["GPP_NT_VUT_REF"])
    share = read_fluxnet(tmp_path)["NEE_VUT_REF_QC"]
    assert np.array_equal(np.isfinite(read["GPP_NT_VUT_REF"]), share.sel(time=read["time"]) >= 0.5)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real towers in {REAL} (MPTT_REAL_DATA says where)")
def test_real_towers():
    read = read_fluxnet(REAL, "ERAI")
    assert read.sizes == {"site": 2, "time": 11322}
    assert str(read["time"].values[-1])[:10] == "2019-12-31", "2020 holds no value"
    assert read["TA_ERA"].sel(site="DE-Tha").values[0] == np.float32(3.298)
    assert not read.isnull().any().to_array().any()
    fluxes = read_fluxnet(REAL)
    assert fluxes.sizes == {"site": 1, "time": 731}
    assert int(fluxes["P_F"].isnull().sum()) == 366
    assert float(fluxes["GPP_NT_VUT_REF"].max()) == pytest.approx(17.472, abs=5e-4)
    months = read_fluxnet(REAL, step="MM", variables=["TA_F", "GPP_NT_VUT_REF"])
    assert months.sizes == {"site": 2, "time": 300}
    assert months["TA_F"].sel(site="DE-Tha").values[0] == np.float32(-4.554)
    assert months["GPP_NT_VUT_REF"].attrs["units"] == "gC m-2 d-1"

import random
from datetime import date, timedelta

import numpy as np
import pytest
from swat_files import (
    HEADERS,
    TOP,
    fixed,
    hru_row,
    rch_row,
    scientific,
    sub_row,
    value_of,
    write_control,
    write_lines,
    write_output,
)

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SWATOutputDataModule, read_swat_output
from mptt.datamodules.formats import swat_output_files
from mptt.datamodules.formats.swat_output_names import describe
from mptt.datamodules.swat_output import LAYOUT, recognise_swat_output, swat_output_source

DAILY = {"start": "2000-01-01", "step": "daily"}


def days(dataset):
    return np.datetime_as_string(dataset["time"].values, unit="D").tolist()


def change(path, line, edit, ending="\n"):
    """Edit one line, counted from 1; None takes it away."""
    lines = path.read_text().split("\n")
    new = edit(lines[line - 1])
    lines[line - 1 : line] = [] if new is None else [new]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("kind", "sites", "first", "last", "decimals"),
    [
        ("sub", ["sub_1", "sub_2", "sub_3"], "PRECIPmm", "GW_Qmm", 3),
        ("rch", ["reach_1", "reach_2", "reach_3"], "FLOW_INcms", "WTMPdegc", 1),
        ("hru", ["hru_1", "hru_2", "hru_3"], "PRECIPmm", "BACTLPct", 2),
    ],
)
def test_reads_what_swat_prints(tmp_path, kind, sites, first, last, decimals):
    write_output(tmp_path / f"output.{kind}", kind)
    write_control(tmp_path / "file.cio", years=2, last=34)
    dataset = read_swat_output(tmp_path)
    assert dataset["site"].values.tolist() == sites
    assert dataset["time"].dtype == "datetime64[s]"
    assert [days(dataset)[nth] for nth in (0, 59, 365, 366, 399)] == [
        *("2000-01-01", "2000-02-29", "2000-12-31", "2001-01-01", "2001-02-03")
    ]
    for name, column in ((first, 0), (last, 7)):
        assert dataset[name].dims == ("site", "time")
        assert dataset[name].dtype == np.float32
        expected = [[value_of(step, unit, column) for step in range(400)] for unit in (1, 2, 3)]
        np.testing.assert_allclose(dataset[name], expected, rtol=1e-6, atol=0.5001 * 10.0**-decimals)
    assert dataset["area"].values.tolist() == [10, 20, 30]


def test_every_variable_says_what_it_is(tmp_path):
    for kind in ("sub", "rch", "hru"):
        write_output(tmp_path / f"output.{kind}", kind, count=5)
        dataset = read_swat_output(tmp_path / f"output.{kind}", **DAILY)
        assert all({"units", "long_name"} == set(dataset[name].attrs) for name in dataset.data_vars)
        assert {"title", "source", "license", "references"} <= set(dataset.attrs)


def test_names_may_touch_and_hold_blanks(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=3)
    names = list(read_swat_output(tmp_path, **DAILY).data_vars)
    assert names[10:21] == [
        *("ORGNkg_ha", "ORGPkg_ha", "NSURQkg_ha", "SOLPkg_ha", "SEDPkg_ha", "LAT_Qmm", "LATNO3kg_h", "GWNO3kg_ha"),
        *("CHOLAmic_L", "CBODU_mg_L", "DOXQ_mg_L"),
    ]
    write_output(tmp_path / "output.rch", "rch", count=3)
    names = list(read_swat_output(tmp_path, "rch", **DAILY).data_vars)
    assert names[3:7] == ["SED_OUTtons", "SEDCONCmg_kg", "RESUSP_PSTmg", "TOT_Nkg"]


def test_values_that_touch_are_told_apart(tmp_path):
    touching = [-12345.678, 123456.789, -99999.999, *[0.5] * 18]
    lines = write_output(tmp_path / "output.sub", "sub", value=lambda step, unit, column: touching[column])
    assert "-12345.678123456.789-99999.999" in lines[9]
    assert "  365.10000E+02" not in lines[9]
    assert " 365.10000E+02" in lines[9 + 3 * 364]
    dataset = read_swat_output(tmp_path, **DAILY)
    for name, value in zip(("PRECIPmm", "SNOMELTmm", "PETmm"), touching, strict=False):
        np.testing.assert_array_equal(dataset[name], np.full((3, 400), value, np.float32))


@pytest.mark.parametrize("kind", ["sub", "rch", "hru"])
def test_random_values_come_back(tmp_path, kind):
    dice = random.Random(0)
    printed = {}

    def value(step, unit, column):
        number = round(dice.choice([-1, 1]) * 10 ** dice.uniform(-4, 4.9), 3)
        number = abs(number) if column in (6, 7, 18) else number  # E10.5 has no room for a sign

        return printed.setdefault((step, unit, column), number)

    write_output(tmp_path / f"output.{kind}", kind, count=30, units=4, value=value)
    dataset = read_swat_output(tmp_path, **DAILY)
    names = [name for name in dataset.data_vars if name not in ("streamflow", "area", "subbasin", "gis", "land_use")]
    for (step, unit, column), number in printed.items():
        if kind == "rch":
            text = scientific(number, 12, 4)
        else:
            wide = 18 if kind == "sub" else 6
            digits = {6: 5, 7: 5}.get(column, 3) if kind == "hru" else 5 if column == 18 else 3
            text = fixed(number) if column < wide else scientific(number, 10, digits)
        assert dataset[names[column]].values[unit - 1, step] == np.float32(text)


def test_asterisks_and_not_numbers_are_missing(tmp_path):
    path = tmp_path / "output.sub"
    write_output(path, "sub", count=4, units=1, value=lambda step, unit, column: 1e7 if (step, column) == (1, 2) else 1)
    change(path, 12, lambda line: line[:34] + "       NaN" + "  Infinity" + line[54:])
    assert "*" * 10 in path.read_text()
    with pytest.warns(MPTTWarning, match=r"values of sub_1 .* missing: PRECIPmm \(1\), SNOMELTmm \(1\), PETmm \(1\)"):
        dataset = read_swat_output(tmp_path, **DAILY)
    assert np.isnan(dataset["PRECIPmm"][0]).values.tolist() == [False, False, True, False]
    assert np.isnan(dataset["SNOMELTmm"][0]).values.tolist() == [False, False, True, False]
    assert np.isnan(dataset["PETmm"][0]).values.tolist() == [False, True, False, False]
    assert not np.isnan(dataset["ETmm"]).any()


def test_asterisks_in_the_first_row_do_not_hide_the_columns(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=3, value=lambda step, unit, column: 10.0 ** (9 * (step == 0)))
    with pytest.warns(MPTTWarning, match="printed as asterisks"):
        dataset = read_swat_output(tmp_path, **DAILY)
    np.testing.assert_array_equal(dataset["PRECIPmm"][0], [np.nan, 1, 1])


def test_exponents_of_three_digits(tmp_path):
    write_output(tmp_path / "output.rch", "rch", count=3, value=lambda step, *_: 2.5e-120 if step == 1 else -3.0)
    assert read_swat_output(tmp_path, **DAILY)["FLOW_INcms"][1].values.tolist() == [-3, 0, -3]
    change(tmp_path / "output.rch", 13, lambda line: line.replace("0.2500E-119", " 0.2500-119"))
    assert read_swat_output(tmp_path, **DAILY)["FLOW_INcms"][1].values.tolist() == [-3, 0, -3]


def test_streamflow_is_depth_over_the_area_upstream(tmp_path):
    write_output(
        tmp_path / "output.rch", "rch", count=3, value=lambda *_: 1.0, row=lambda *row: rch_row(*row[:2], 86.4, row[3])
    )
    dataset = read_swat_output(tmp_path, **DAILY)
    np.testing.assert_allclose(dataset["streamflow"], 1, rtol=1e-6)
    assert dataset["streamflow"].attrs["units"] == "mm/day"


def test_a_reach_without_area_has_no_depth(tmp_path):
    write_output(tmp_path / "output.rch", "rch", count=3, row=lambda *row: rch_row(*row[:2], 0.0, row[3]))
    with pytest.raises(MPTTError, match="AREAkm2 of reach_1 is 0; streamflow in mm/day needs a positive one"):
        read_swat_output(tmp_path, **DAILY)
    assert "FLOW_OUTcms" in read_swat_output(tmp_path, **DAILY, variables=["FLOW_OUTcms"])


@pytest.mark.parametrize("kind", ["sub", "rch", "hru"])
@pytest.mark.parametrize("totals", [True, False])
def test_totals_and_averages_are_left_out_of_monthly_output(tmp_path, kind, totals):
    write_output(tmp_path / f"output.{kind}", kind, "monthly", count=30, totals=totals)
    write_control(tmp_path / "file.cio", code=0, years=3, last=181)
    dataset = read_swat_output(tmp_path)
    assert dataset.sizes["time"] == 30
    assert [days(dataset)[nth] for nth in (0, 11, 12, 29)] == ["2000-01-01", "2000-12-01", "2001-01-01", "2002-06-01"]
    name = next(iter(dataset.data_vars))
    np.testing.assert_allclose(dataset[name][0], np.arange(30) + 0.1, rtol=1e-4)
    assert describe("PRECIPmm", "monthly")["units"] == "mm/month"


def test_an_average_over_a_hundred_years_is_left_out(tmp_path):
    lines = write_output(tmp_path / "output.sub", "sub", "monthly", count=24)
    lines = [line.replace(" 2.0.", "****.") for line in lines]
    assert sum("****" in line for line in lines) == 3
    write_lines(tmp_path / "output.sub", lines)
    assert read_swat_output(tmp_path, start="2000-01-01", step="monthly").sizes["time"] == 24


def test_monthly_output_may_begin_inside_a_year(tmp_path):
    write_output(tmp_path / "output.sub", "sub", "monthly", start=date(1999, 11, 1), count=14)
    write_control(tmp_path / "file.cio", code=0, year=1999, years=2, first=320)
    assert days(read_swat_output(tmp_path))[:3] == ["1999-11-01", "1999-12-01", "2000-01-01"]


def test_totals_of_another_year_are_refused(tmp_path):
    write_output(tmp_path / "output.sub", "sub", "monthly", count=24)
    with pytest.raises(MPTTError, match=r"output.sub, line 46: total of the year 2000, below months of 1990"):
        read_swat_output(tmp_path, start="1990-01-01", step="monthly")


def test_yearly_output(tmp_path):
    write_output(tmp_path / "output.rch", "rch", "yearly", start=date(1950, 1, 1), count=7)
    write_control(tmp_path / "file.cio", code=2, year=1948, years=9, skipped=2)
    dataset = read_swat_output(tmp_path)
    assert days(dataset) == [f"{year}-01-01" for year in range(1950, 1957)]
    np.testing.assert_allclose(dataset["FLOW_INcms"][0], np.arange(7) + 0.1, rtol=1e-4)
    write_control(tmp_path / "file.cio", code=2, year=1948, years=9, skipped=1)
    with pytest.raises(MPTTError, match=r"line 10: year 1950 where .*file.cio says 1949"):
        read_swat_output(tmp_path)


def test_skipped_years_and_a_run_inside_years(tmp_path):
    start = date(2002, 1, 1)
    write_output(tmp_path / "output.sub", "sub", start=start, count=400)
    write_control(tmp_path / "file.cio", year=2000, years=4, skipped=2, first=200, last=35)
    assert days(read_swat_output(tmp_path))[0] == "2002-01-01"
    write_output(tmp_path / "output.sub", "sub", start=date(2000, 7, 18), count=20)
    write_control(tmp_path / "file.cio", year=2000, years=1, first=200, last=219)
    assert days(read_swat_output(tmp_path))[0] == "2000-07-18"


def test_settings_without_names_are_found_by_their_lines(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=34)
    write_control(tmp_path / "file.cio", years=1, last=34)
    text = (tmp_path / "file.cio").read_text()
    (tmp_path / "file.cio").write_text(text.replace("| NYSKIP : what it is", "").replace("| IYR : what it is", ""))
    assert days(read_swat_output(tmp_path))[0] == "2000-01-01"
    change(tmp_path / "file.cio", 60, lambda _: "  x")
    with pytest.raises(MPTTError, match=r"file.cio: NYSKIP, a whole number, is due in line 60; found 'x'"):
        read_swat_output(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"years": 3}, r"has 400 daily steps, from 2000-01-01 to 2001-02-03; .*file.cio says 1096 from 2000-01-01"),
        ({"year": 2001}, r"line 1105: MON 366 where 1 is due, for 2002-01-01 does not follow: the first step is 2001"),
        ({"first": 2}, "line 10: MON 1 where 2 is due, for 2000-01-02 does not follow"),
        ({"code": 0}, r"line 46: MON 13 is none of monthly output, which this is by .*file.cio"),
        ({"code": 2}, "line 10: MON 1 is none of yearly output"),
        ({"code": 3}, r"file.cio: IPRINT is 3; 0 \(months\), 1 \(days\) and 2 \(years\) are read"),
        ({"years": 2, "skipped": 2}, "no year is printed of NBYR=2, NYSKIP=2"),
    ],
)
def test_rows_that_do_not_fit_the_control_file(tmp_path, settings, message):
    write_output(tmp_path / "output.sub", "sub")
    write_control(tmp_path / "file.cio", **settings)
    with pytest.raises(MPTTError, match=message):
        read_swat_output(tmp_path)
    assert days(read_swat_output(tmp_path, **DAILY))[-1] == "2001-02-03"


def test_a_calendar_without_leap_days_is_refused(tmp_path):
    def row(unit, mon, area, values):
        step = int(values[0])
        return sub_row(unit, str(step % 365 + 1), area, values)

    write_output(tmp_path / "output.sub", "sub", row=row)
    with pytest.raises(MPTTError, match="MON 1 where 366 is due, for 2000-12-31 does not follow"):
        read_swat_output(tmp_path, **DAILY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "No file.cio in .*give start and step"),
        ({"step": "daily"}, "No file.cio in"),
        ({"step": "hourly", "start": "2000-01-01"}, "step is 'daily' or 'monthly' or 'yearly'; found 'hourly'"),
        ({"step": "daily", "start": "1.1.2000"}, "start is a date YYYY-MM-DD; found '1.1.2000'"),
    ],
)
def test_without_a_control_file_start_and_step_are_needed(tmp_path, arguments, message):
    write_output(tmp_path / "output.sub", "sub", count=3)
    with pytest.raises(MPTTError, match=message):
        read_swat_output(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("kind", "header", "row"),
    [
        (
            "sub",
            HEADERS["sub"].replace("  MON", "  MO DA  YR"),
            lambda unit, day, area, values: (
                f"BIGSUB{unit:4d} {0:8d} {day.month:2d} {day.day:2d} {day.year:4d} "
                + sub_row(unit, "1", area, values)[24:]
            ),
        ),
        (
            "rch",
            HEADERS["rch"].replace("   MON", "  MO DA   YR"),
            lambda unit, day, area, values: (
                f"REACH {unit:4d} {0:8d}  {day.month:2d} {day.day:2d} {day.year:4d} "
                + rch_row(unit, "1", area, values)[25:]
            ),
        ),
        (
            "hru",
            HEADERS["hru"].replace("  MON", " MO DA   YR"),
            lambda unit, day, area, values: (
                f"AGRR{unit:7d} 00007{unit:04d} {7:4d} {0:4d} {day.month:2d} {day.day:2d} {day.year:4d} "
                + hru_row(unit, "1", area, values)[34:]
            ),
        ),
    ],
)
def test_rows_with_calendar_dates_need_no_control_file(tmp_path, kind, header, row):
    path = tmp_path / f"output.{kind}"

    def write(calendar):
        lines = [
            row(
                unit,
                calendar[nth],
                10.0 * unit,
                [value_of(nth, unit, column) for column in range(21)][: 8 + (kind != "rch") + 12 * (kind == "sub")],
            )
            for nth in range(len(calendar))
            for unit in (1, 2)
        ]
        write_lines(path, [*TOP, header, *lines])

    calendar = [date(1999, 12, 20) + timedelta(nth) for nth in range(90)]
    write(calendar)
    dataset = read_swat_output(path)
    assert [days(dataset)[nth] for nth in (0, 12, 71)] == ["1999-12-20", "2000-01-01", "2000-02-29"]
    name = next(iter(dataset.data_vars))
    np.testing.assert_allclose(dataset[name][1], np.arange(90) + 0.2, rtol=1e-4)
    write([*calendar[:10], *calendar[11:]])
    with pytest.raises(MPTTError, match=r"line 30: 1999-12-30 does not follow: the first step is 1999-12-20"):
        read_swat_output(path)
    with pytest.raises(MPTTError, match="columns MO DA YR, so they are daily; found step='monthly'"):
        read_swat_output(path, step="monthly")


def test_hru_number_and_code_that_touch(tmp_path):
    def row(*entries):
        return hru_row(*entries, fused=True)

    write_output(tmp_path / "output.hru", "hru", count=40, units=12, row=row)
    dataset = read_swat_output(tmp_path, **DAILY)
    assert dataset["site"].values[[0, 11]].tolist() == ["hru_1", "hru_12"]
    assert dataset["gis"].values[[0, 11]].tolist() == ["000070001", "000070012"]
    assert dataset["subbasin"].values[0] == 7
    assert dataset["land_use"].values[0] == "AGRR"
    np.testing.assert_allclose(dataset["PRECIPmm"][11], np.arange(40) + 1.2, rtol=1e-6)


def test_hru_attributes(tmp_path):
    write_output(tmp_path / "output.hru", "hru", count=2)
    dataset = read_swat_output(tmp_path, **DAILY)
    assert dataset["gis"].values.tolist() == ["000070001", "000070002", "000070003"]
    assert dataset["area"].dims == dataset["land_use"].dims == ("site",)


def test_a_number_behind_the_values_is_left_out(tmp_path):
    def row(unit, *rest):
        return rch_row(unit, *rest) + f"{unit:6d}"

    write_output(tmp_path / "output.rch", "rch", "yearly", count=8, row=row)
    dataset = read_swat_output(tmp_path, start="2000-01-01", step="yearly")
    np.testing.assert_allclose(dataset["WTMPdegc"][1], np.arange(8) + 0.207, rtol=1e-3)


def test_columns_all_in_exponents_with_calendar_dates(tmp_path):
    """As revision 670 prints sub-basins: every column E10.3 but one."""
    lines = [*TOP, HEADERS["sub"].replace("  MON", "  MO DA  YR")]
    for day in (1, 2, 3):
        for unit in (1, 2):
            row = f"BIGSUB{unit:4d}{0:9d} 12 {day:2d} 1983 {scientific(4520.1, 10, 5)}"
            row += "".join(scientific(-day / 8, 10, 3) for _ in range(18)) + " " + scientific(unit / 4, 10, 5)
            lines.append(row + scientific(1e-11, 10, 3) + scientific(2e9, 10, 3))
    write_lines(tmp_path / "output.sub", lines)
    dataset = read_swat_output(tmp_path)
    assert days(dataset) == ["1983-12-01", "1983-12-02", "1983-12-03"]
    assert dataset["PRECIPmm"][0].values.tolist() == dataset["GWNO3kg_ha"][1].values.tolist() == [-0.125, -0.25, -0.375]
    assert dataset["CHOLAmic_L"][:, 0].values.tolist() == [0.25, 0.5]
    np.testing.assert_allclose(dataset["DOXQ_mg_L"], 2e9)


def test_units_of_five_digits(tmp_path):
    write_output(
        tmp_path / "output.sub", "sub", count=3, row=lambda unit, *rest: sub_row(12344 + unit, *rest, digits=5)
    )
    assert read_swat_output(tmp_path, **DAILY)["site"].values.tolist() == ["sub_12345", "sub_12346", "sub_12347"]


@pytest.mark.parametrize("kind", ["sub", "rch", "hru"])
def test_windows_line_ends(tmp_path, kind):
    write_output(tmp_path / "unix" / f"output.{kind}", kind)
    write_output(tmp_path / "windows" / f"OUTPUT.{kind.upper()}", kind, ending="\r\n")
    unix, windows = (read_swat_output(tmp_path / name, **DAILY) for name in ("unix", "windows"))
    assert unix.equals(windows)


def test_a_last_line_without_end_is_whole(tmp_path):
    path = tmp_path / "output.sub"
    write_output(path, "sub", count=3)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_swat_output(path, **DAILY).sizes["time"] == 3
    path.write_bytes(path.read_bytes() + b"\n\n\r\n")
    assert read_swat_output(path, **DAILY).sizes["time"] == 3


def test_blocks_do_not_matter(tmp_path, monkeypatch):
    write_output(tmp_path / "output.sub", "sub", "monthly", count=30)
    whole = read_swat_output(tmp_path, start="2000-01-01", step="monthly")
    monkeypatch.setattr(swat_output_files, "_BLOCK", 101)
    monkeypatch.setattr(swat_output_files, "_ROWS", 7)
    assert whole.identical(read_swat_output(tmp_path, start="2000-01-01", step="monthly"))
    change(tmp_path / "output.sub", 40, lambda line: line[:44] + "     x.100" + line[54:])
    with pytest.raises(MPTTError, match=r"line 40: '     x.100' is not a number"):
        read_swat_output(tmp_path, start="2000-01-01", step="monthly")


@pytest.mark.parametrize(
    ("line", "edit", "message"),
    [
        (-1, lambda line: line[:-1], "line 39: 244 characters where a row has 245"),
        (-1, lambda line: line[:20], "line 39: 20 characters where a row has 245: it is cut short"),
        (15, lambda line: line + "0", "line 15: 246 characters where a row has 245"),
        (14, lambda _: None, "line 14: a row of number 3 where 2 is due: a row is missing or moved"),
        (-1, lambda _: None, r"line 38: the last step ends here; 1 of its 3 rows are missing"),
        (14, lambda line: line[:20] + "   9" + line[24:], "line 14: another date than the rows of the same step"),
        (13, lambda line: line[:20] + "   x" + line[24:], "line 13: has no whole number as its MON"),
        (13, lambda line: line[:20] + " 1 2" + line[24:], "line 13: has no whole number as its MON"),
        (13, lambda line: line[:6] + "   x" + line[10:], "line 13: has no whole number of its unit"),
        (13, lambda line: "SMALL!" + line[6:], "line 13: does not begin as the other rows do"),
        (13, lambda line: line[:34] + " " * 10 + line[44:], r"line 13: ' {10}' is not a number"),
        (13, lambda line: line[:34] + "   1.2.345" + line[44:], r"line 13: '   1.2.345' is not a number"),
        (9, lambda line: line[:100], "line 9: 21 names of columns are due, 10 characters each"),
        (9, lambda line: line.replace("PETmm", "PETmm    "), "line 9: 21 names of columns are due"),
        (9, lambda line: line.replace("SNOMELTmm", " PRECIPmm"), "line 9: more than one column is named PRECIPmm"),
        (9, lambda line: line.replace("AREAkm2", "AREAha "), "is not SWAT's output as text: no line of column names"),
        (9, lambda line: line.replace("GIS  MON", "DET  MON"), "line 9: columns 'SUB      DET  MON' are not read"),
        (10, lambda line: line[6:], "line 10: BIGSUB number GIS MON are due before the area"),
        (10, lambda line: line + " 2000", "line 11: 245 characters where a row has 250: it is cut short"),
        (10, lambda line: line + " mm", "line 10: the columns of this row cannot be told apart"),
        (10, lambda line: line[:50] + " " + line[51:], "line 10: the columns of this row cannot be told apart"),
    ],
)
def test_damaged_files(tmp_path, line, edit, message):
    path = tmp_path / "output.sub"
    lines = write_output(path, "sub", count=10)
    change(path, line if line > 0 else len(lines), edit)
    with pytest.raises(MPTTError, match=f"{path}.*{message}"):
        read_swat_output(path, **DAILY)


def test_a_day_without_rows_is_named(tmp_path):
    path = tmp_path / "output.sub"
    lines = write_output(path, "sub", count=10)
    write_lines(path, [*lines[:15], *lines[18:]])
    with pytest.raises(MPTTError, match="line 16: MON 4 where 3 is due, for 2000-01-03 does not follow"):
        read_swat_output(path, **DAILY)


def test_names_without_values_are_told(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=3)
    change(tmp_path / "output.sub", 9, lambda line: line + " TNO3kg/ha")
    with pytest.warns(MPTTWarning, match="names 22 columns and has values for the first 21; without are TNO3kg/ha"):
        read_swat_output(tmp_path, **DAILY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "is not SWAT's output as text"),
        (b"\x00AREAkm2\n", "is not SWAT's output as text"),
        (("\n".join([*TOP, HEADERS["sub"]]) + "\n").encode(), "has no row below its line of column names"),
    ],
)
def test_empty_and_binary_files(tmp_path, content, message):
    (tmp_path / "output.sub").write_bytes(content)
    with pytest.raises(MPTTError, match=f"output.sub {message}"):
        read_swat_output(tmp_path, **DAILY)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    write_output(tmp_path / "output.sub", "sub", count=3)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(MPTTError, match=r"output.sub cannot be opened: Permission denied"):
        read_swat_output(tmp_path, **DAILY)


def test_which_file_of_a_folder(tmp_path):
    with pytest.raises(MPTTError, match=r"has no output.rch, output.sub or output.hru; of these it has: none"):
        read_swat_output(tmp_path)
    with pytest.raises(MPTTError, match=r"No SWAT output at .*nowhere"):
        read_swat_output(tmp_path / "nowhere")
    write_output(tmp_path / "output.rch", "rch", count=3)
    assert read_swat_output(tmp_path, **DAILY)["site"].values[0] == "reach_1"
    with pytest.raises(MPTTError, match=r"has no output.sub; of these it has: output.rch"):
        read_swat_output(tmp_path, "sub", **DAILY)
    with pytest.raises(MPTTError, match="kind is 'sub' or 'rch' or 'hru'; found 'reach'"):
        read_swat_output(tmp_path, "reach", **DAILY)
    with pytest.raises(MPTTError, match=r"output.rch holds reaches \('rch'\), not 'sub'"):
        read_swat_output(tmp_path / "output.rch", "sub", **DAILY)
    write_output(tmp_path / "output.sub", "sub", count=3)
    assert read_swat_output(tmp_path, **DAILY)["site"].values[0] == "sub_1"
    assert read_swat_output(tmp_path, "rch", **DAILY)["site"].values[0] == "reach_1"


def test_layout_is_recognised(tmp_path):
    write_output(tmp_path / "run" / "output.rch", "rch", count=3)
    assert LAYOUT.name == "swat_output"
    assert recognise_swat_output(tmp_path / "run")
    assert recognise_swat_output(tmp_path / "run" / "output.rch")
    assert not recognise_swat_output(tmp_path)
    assert not recognise_swat_output(tmp_path / "nowhere")


def test_source_reads_a_unit_at_a_time(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=5)
    source = swat_output_source(tmp_path, **DAILY, variables=["PETmm"])
    assert list(source.read("sub_2").data_vars) == ["PETmm"]
    np.testing.assert_allclose(source.read("sub_2")["PETmm"], np.arange(5) + 0.202, rtol=1e-6)
    assert source.settings["init_args"] == {"path": str(tmp_path), "kind": "sub", **DAILY}
    chosen = source.choose(["sub_3", "sub_1"])
    module = SWATOutputDataModule(**chosen.settings["init_args"], inputs=["PETmm"], targets=["PETmm"])
    assert module.load()["site"].values.tolist() == chosen.dataset()["site"].values.tolist() == ["sub_3", "sub_1"]


def test_datamodule_reads_what_it_needs(tmp_path):
    write_output(
        tmp_path / "output.sub", "sub", count=300, value=lambda step, unit, column: (step * (unit + column)) % 7
    )
    settings = {**DAILY, "window": 40, "stride": 20, "batch_size": 4}
    data = SWATOutputDataModule(tmp_path, sites=["sub_3", "sub_1"], **settings)
    assert set(data.load().data_vars) == {"PRECIPmm", "SNOMELTmm", "PETmm", "WYLDmm"}
    data.setup("fit")
    assert data.sites == ["sub_3", "sub_1"]
    assert data.units == {"WYLDmm": "mm/day"}
    assert next(iter(data.train_dataloader()))["x"].shape == (4, 40, 3)
    with pytest.raises(MPTTError, match="has no site sub_9"):
        SWATOutputDataModule(tmp_path, sites=["sub_9"], **settings).load()


@pytest.mark.parametrize(
    ("name", "units"),
    [
        *(("SWmm", "mm"), ("ETmm", "mm/day"), ("SYLDt_ha", "t/ha/day"), ("LATNO3kg_h", "kg/ha/day")),
        *(("SED_OUTtons", "t/day"), ("FLOW_OUTcms", "m3/s"), ("WTMPdegc", "degC"), ("SOLARMJ_m2", "MJ/m2/day")),
        *(("LAI", "m2/m2"), ("NO3ConcMg_l", "mg/L"), ("WTAB_CLIm", ""), ("BACTPct", "count"), ("GW_Q_Dmm", "mm/day")),
    ],
)
def test_units_are_in_the_names(name, units):
    assert describe(name, "daily")["units"] == units


def test_of_start_and_step_one_alone_must_agree_with_the_control_file(tmp_path):
    write_output(tmp_path / "output.sub", "sub", count=3)
    write_control(tmp_path / "file.cio", years=1, last=34)
    with pytest.raises(MPTTError, match=r"file\.cio says that output is daily; step='yearly' does not fit"):
        read_swat_output(tmp_path, step="yearly")
    assert days(read_swat_output(tmp_path, start="1990-01-01")) == ["1990-01-01", "1990-01-02", "1990-01-03"]

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from rich.console import Console
from sources import days, source_from, table

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.reading.source import Source
from mptt.datamodules.storing import downloading
from mptt.datamodules.storing.converting import convert
from mptt.experiments.cli import main
from mptt.experiments.data.choosing import choose
from mptt.experiments.data.showing import Download, Shown, show
from mptt.experiments.data.suggestion import guess_attributes, guess_inputs, guess_target, suggest
from mptt.experiments.data.survey import survey
from mptt.experiments.figures.datasets import alike, coordinates, data_set


def each(sites, _):
    return sites


def three_sites() -> Source:
    """Two sites of ten and six days with a gap of each kind, one without values."""
    nan = np.nan
    tables = {
        "01": table(
            days(10),
            rain=([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "mm/day", "precipitation"),
            streamflow=([nan, nan, 2.0, 3, nan, 5, 6, 7, 8, nan], "mm/day", "streamflow"),
        ),
        "02": table(
            days(10, "2000-01-31"),
            rain=([nan, nan, 10.0, 11, 12, 13, 14, 15, nan, nan], "mm/day"),
            streamflow=([nan] * 10, "mm/day"),
        ),
        "03": table(days(2), rain=([nan, nan], "mm/day")),
    }
    fixed = xr.Dataset(
        {"area": ("site", np.float32([1, 2, np.nan]), {"units": "km2"}), "river": ("site", ["Aare", "", "Rhine"])},
        {"site": list(tables)},
    )
    return source_from(tables, fixed, title="three", license="CC0", references="nobody")


def basins(folder: Path, sites: int = 3, steps: int = 1500, calendar: str | None = None, freq: str = "D") -> Path:
    """A store of sites with complete weather and a streamflow with gaps."""
    random = np.random.default_rng(0)
    tables = {}
    for nth in range(sites):
        start = f"199{nth}-03-01"
        if calendar is None:
            time = pd.date_range(start, periods=steps, freq=freq, unit="s")
        else:
            time = xr.date_range(start, periods=steps, freq=freq, calendar=calendar, use_cftime=True)
        rain = random.gamma(0.5, 8.0, steps)
        flow = np.where(random.random(steps) < 0.2, np.nan, pd.Series(rain).ewm(halflife=5).mean())
        made = {"rain": (rain, "mm/day"), "flag_qc": np.ones(steps), "warmth": random.random(steps)}
        tables[f"{nth:03d}"] = table(time, **made, constant=np.zeros(steps), discharge_spec=(flow, "mm/day"))
    place = {"gauge_lat": ("site", np.linspace(46, 48, sites)), "gauge_lon": ("site", np.linspace(6, 9, sites))}
    source = source_from(tables, xr.Dataset(place, {"site": list(tables)}), folder / "made")
    return convert(source, folder / "basins.zarr")


# What is found out


def test_missing_is_counted_from_a_sites_first_to_its_last_value() -> None:
    found = survey(three_sites(), each)
    assert found.spans == {"01": (0, 9), "02": (32, 37)}
    expected = pd.DataFrame(
        {"rain": [0.0, 0.0, 1.0], "streamflow": [0.4, 1.0, 1.0]}, pd.Index(["01", "02", "03"], name="site")
    )
    pd.testing.assert_frame_equal(found.missing(), expected)


def test_absent_dates_are_missing_values() -> None:
    source = source_from({"a": table(days(5)[[0, 1, 2, 4]], x=[0.0, 1, 2, 4]), "b": table(days(2), x=[1.0, 2])})
    with pytest.warns(MPTTWarning, match="lack dates"):
        found = survey(source, each)
    assert found.missing()["x"].tolist() == pytest.approx([0.2, 0.0])
    assert not found.complete(found.variables[0])


def test_ranges_means_and_availability() -> None:
    found = survey(three_sites(), each)
    rain, flow = found.variables
    assert (rain.low, rain.high, rain.total) == (0.0, 15.0, 45.0 + 75.0)
    assert (flow.low, flow.high, flow.total) == (2.0, 8.0, 31.0)
    assert found.first_bin == 12 * 2000
    np.testing.assert_array_equal(found.expected, [31, 9])
    np.testing.assert_array_equal(rain.available, [[10, 0], [0, 6], [0, 0]])
    np.testing.assert_allclose(found.share(flow), [[6 / 31, 0], [0, 0], [0, 0]])
    np.testing.assert_allclose(found.years, [2000, 2000 + 1 / 12, 2000 + 2 / 12])


def test_sites_that_begin_earlier_than_the_first_one_are_counted_in_their_month() -> None:
    tables = {"late": table(days(3, "2001-05-01"), x=np.ones(3)), "early": table(days(40, "1999-12-20"), x=np.ones(40))}
    found = survey(source_from(tables), each)
    assert found.first_bin == 12 * 1999 + 11
    assert found.variables[0].available[0].nonzero()[0].tolist() == [17]
    assert found.variables[0].available[1][:3].tolist() == [12, 28, 0]


def test_many_sites_share_rows_and_long_series_are_counted_by_year() -> None:
    time = days(400 * 366, "1900-01-01")
    tables = {
        f"{nth:04d}": table(time[:400] if nth else time, x=np.ones(400 if nth else len(time))) for nth in range(600)
    }
    found = survey(source_from(tables), each)
    assert found.months == 12
    assert found.variables[0].available.shape == (256, 401)
    assert found.share(found.variables[0])[:, 0].tolist() == [1.0] * 256
    assert found.share(found.variables[0])[0, 5] == pytest.approx(1 / 3, abs=1e-6)


def test_sources_without_values_or_numbers_are_refused() -> None:
    with pytest.raises(MPTTError, match=r"None of the 1 site\(s\)"):
        survey(source_from({"a": table(days(3), x=[np.nan] * 3)}), each)
    with pytest.raises(MPTTError, match="x at site a is not numeric"):
        survey(source_from({"a": table(days(3), x=["p", "q", "r"])}), each)


# What is shown


def test_tables_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(survey(three_sites(), each), Console(width=160))
    text = re.sub(r" +", " ", capsys.readouterr().out)
    for line in (
        "what made: three",
        "sites 3: 01, 02, 03",
        "period 2000-01-01 to 2000-02-09, 40 steps",
        "of a site 6 to 10 steps (median 8)",
        "of all sites no step in common",
        "step 1 days",
        "calendar proleptic_gregorian",
        "licence CC0",
        "cite nobody",
        "without values 1: 03",
        "rain mm/day 5.88 % 1 03 (100.00 %) 0 7.5 15 precipitation",
        "streamflow mm/day 64.71 % 3 02 (100.00 %) 2 5.167 8 streamflow",
        "area km2 1 to 2 1 site(s)",
        "river text: Aare, Rhine 1 site(s)",
    ):
        assert line in text


def test_progress_is_shown_on_a_terminal_only() -> None:
    for terminal, quiet, seen in ((True, False, True), (True, True, False), (False, False, False)):
        written = StringIO()
        console = Console(file=written, force_terminal=terminal, width=200)
        assert list(Shown(console, quiet)(["a", "b"], "values")) == ["a", "b"]
        assert ("2/2" in written.getvalue()) is seen


def test_figure_shows_variables_that_are_available_alike_together(tmp_path: Path) -> None:
    found = survey(three_sites(), each)
    assert [names for names, _ in alike(found)] == [["streamflow"], ["rain"]]
    titles = [axes.get_title(loc="left") for axes in data_set(found).axes]
    assert titles[:2] == ["streamflow", "rain"]


def test_sites_are_mapped_where_they_have_coordinates() -> None:
    names = {"site": ["a", "b"]}
    for latitude, longitude in (("latitude", "longitude"), ("gauge_lat", "gauge_lon"), ("LAT", "LONG")):
        fixed = xr.Dataset({latitude: ("site", [1.0, 2.0]), longitude: ("site", [350.0, 4.0])}, names)
        place = coordinates(fixed)
        assert place is not None
        assert [one.name for one in place] == [latitude, longitude]
    assert coordinates(xr.Dataset({"plateau": ("site", [1.0, 2.0]), "lon": ("site", [1.0, 2.0])}, names)) is None
    assert coordinates(xr.Dataset({"lat": ("site", [1000.0, 2]), "lon": ("site", [1.0, 2.0])}, names)) is None


# What is suggested


@pytest.mark.parametrize(
    ("names", "target"),
    [
        ("prcp streamflow discharge_vol", "streamflow"),
        ("discharge_vol(m3/s) discharge_spec(mm/d) waterlevel", "discharge_spec(mm/d)"),
        ("prcp runoff tmax", "runoff"),
        ("rain Q_pred_mm SW_ENDmm", "Q_pred_mm"),
        ("ta nee_qc nee", "nee"),
        ("ta p snow_depth", "snow_depth"),
    ],
)
def test_targets_are_guessed_by_name_or_by_gaps(names: str, target: str) -> None:
    values = {name: np.arange(9.0) for name in names.split()}
    values[target] = np.where(np.arange(9) > 6, np.nan, values[target])
    assert guess_target(survey(source_from({"a": table(days(9), **values)}), each)).name == target


def test_inputs_are_complete_change_and_tell_nothing_of_streamflow() -> None:
    step = np.arange(9.0)
    one = table(
        days(9),
        rain=step,
        warm=step,
        gaps=np.where(step == 4, np.nan, step),
        short=np.where(step > 5, np.nan, step),
        constant=np.ones(9),
        rain_qc=step,
        discharge_vol=step,
        streamflow=step,
    )
    found = survey(source_from({"a": one}), each)
    assert [one.name for one in guess_inputs(found, guess_target(found))] == ["rain", "warm"]


def test_attributes_are_complete_differ_and_tell_nothing_of_streamflow() -> None:
    fixed = xr.Dataset(
        {
            "area": ("site", [1.0, 2.0]),
            "holes": ("site", [1.0, np.nan]),
            "same": ("site", [1.0, 1.0]),
            "q_mean": ("site", [1.0, 2.0]),
            "runoff_ratio": ("site", [1.0, 2.0]),
            "name": ("site", ["a", "b"]),
        },
        {"site": ["a", "b"]},
    )
    assert guess_attributes(fixed) == ["area"]


def test_parts_hold_their_shares_of_the_targets_values() -> None:
    days_in_all = 3653
    flow = np.where(np.arange(days_in_all) < 1826, np.nan, 1.0 + np.arange(days_in_all))
    source = source_from({"a": table(days(days_in_all), rain=np.arange(days_in_all), streamflow=flow)})
    split = yaml.safe_load(suggest(survey(source, each)))["data"]["init_args"]["split"]
    assert split == {
        "train": ["2000-01-01", "2007-12"],
        "validation": ["2008-01", "2008-09"],
        "test": ["2008-10", "2009-12-31"],
    }


def with_gaps(steps: int, *gaps: tuple[int, int]) -> np.ndarray:
    """Values but for stretches, each from a step to another."""
    values = 1.0 + np.arange(steps)
    for begin, end in gaps:
        values[begin:end] = np.nan
    return values


LINE = "on the line between their neighbours where at most {} are missing in a row"
SEASON = "by the mean of that time of the year in the site's training part"


@pytest.mark.parametrize(
    ("rain", "fill", "how"),
    [
        (with_gaps(1500, (500, 501)), [{"method": "interpolate", "limit": 1}], LINE.format(1)),
        (
            with_gaps(1500, (500, 520)),
            [{"method": "interpolate", "limit": 5}, {"method": "climatology"}],
            f"{LINE.format(5)}, else {SEASON}",
        ),
        (
            with_gaps(1500, (0, 20), (700, 701)),
            [{"method": "interpolate", "limit": 1}, {"method": "climatology"}],
            f"{LINE.format(1)}, else {SEASON}",
        ),
        (with_gaps(99, (50, 58)), [{"method": "interpolate", "limit": 8}], LINE.format(8)),
    ],
    ids=["one day", "weeks", "at the start", "less than a year"],
)
def test_gaps_of_inputs_are_filled_and_said(rain: np.ndarray, fill: list[dict], how: str) -> None:
    steps, missing = len(rain), np.isnan(rain).sum()
    warm = with_gaps(steps, (20, 21))
    source = source_from({"a": table(days(steps), rain=rain, warm=warm, streamflow=np.arange(0.0, steps))})
    text = suggest(survey(source, each))
    config = yaml.safe_load(text)["data"]["init_args"]
    assert config["inputs"] == ["rain", "warm"]
    assert config["fill"] == fill
    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert f"Missing values of inputs are filled (rain {missing}, warm 1, each of {steps}): {how}." in comments
    data = SeriesDataModule(source.dataset(), **config)
    data.setup("fit")
    assert data.filled["filled"].sum() == missing + 1


def test_inputs_with_gaps_that_others_have_not_are_left_out_and_said() -> None:
    source = source_from({"a": table(days(99), rain=np.arange(99.0), warm=with_gaps(99, (5, 6)), flow=np.ones(99))})
    text = suggest(survey(source, each))
    assert yaml.safe_load(text)["data"]["init_args"]["inputs"] == ["rain"]
    assert "# No inputs, for they have gaps that others have not: warm." in text


def test_inputs_that_cannot_be_filled_are_left_out_and_said() -> None:
    short = {
        "rain": with_gaps(99, (50, 51)),
        "late": with_gaps(99, (0, 10), (20, 21)),
        "holes": with_gaps(99, (40, 70)),
    }
    source = source_from({"a": table(days(99), **short, streamflow=np.arange(99.0))})
    text = suggest(survey(source, each))
    assert yaml.safe_load(text)["data"]["init_args"]["inputs"] == ["rain"]
    assert "# No inputs, since much of them is missing: holes (30 %)." in text
    assert "# No inputs, since they begin late or end early: late." in text


def test_sites_and_inputs_are_left_out_where_most_is_lacking() -> None:
    step = np.arange(1500.0)
    tables = {
        "dry": table(days(1500), rain=step, warm=step, sun=step),
        "a": table(days(1500), rain=step, warm=step, streamflow=step),
        "b": table(days(1500), rain=step, warm=step, streamflow=step),
        "cold": table(days(1500), rain=step, sun=step, streamflow=step),
        "bare": table(days(1500), streamflow=step),
    }
    found = survey(source_from(tables), each)
    flow = guess_target(found)
    inputs = [one for one in found.variables if one is not flow]
    choice = choose(found, flow, inputs, None, may_leave_out_sites=True)
    assert choice.sites == ["a", "b"]
    assert [one.name for one in choice.inputs] == ["rain", "warm"]
    assert choice.notes == [
        "Left out: 1 site(s) without streamflow: dry.",
        "Left out: 2 site(s) that lack an input: cold, bare.",
        "No inputs, since sites lack them: sun.",
    ]
    kept = choose(found, flow, inputs, None, may_leave_out_sites=False)
    assert kept.sites == list(tables)
    assert [one.name for one in kept.inputs] == ["rain"]
    assert kept.notes[0].startswith("Cannot be fitted as it is: bare without rain.")


def test_one_series_alone_is_no_experiment() -> None:
    with pytest.raises(MPTTError, match="Only one series, x"):
        suggest(survey(source_from({"a": table(days(9), x=np.arange(9.0))}), each))


def test_sites_that_were_chosen_or_left_out_are_those_of_the_configuration() -> None:
    step = np.arange(1500.0)
    tables = {name: table(days(1500), prcp=step, streamflow=step) for name in ("01", "02", "03")}
    tables["03"] = table(days(1500), prcp=step)
    whole = source_from(tables)
    for module, word in (("CaravanDataModule", "sites"), ("CAMELSUSDataModule", "basins")):
        source = replace(whole, settings={"class_path": module, "init_args": {"root": "here", word: None}})
        config = yaml.safe_load(suggest(survey(source, each)))["data"]["init_args"]
        assert config[word] == ["01", "02"]
        some = survey(source.choose(["02"]), each)
        assert yaml.safe_load(suggest(some))["data"]["init_args"][word] == ["02"]
        assert yaml.safe_load(suggest(some, all_sites=False))["data"]["init_args"][word] == ["02"]


# The command


@pytest.mark.filterwarnings("ignore::mptt.MPTTWarning")
@pytest.mark.parametrize(
    ("steps", "calendar", "freq"),
    [
        (1500, None, "D"),
        (1500, "noleap", "D"),
        (900, None, "30min"),
        (240, None, "MS"),
        (240, "360_day", "MS"),
        (60, None, "D"),
    ],
)
def test_suggested_configuration_trains(
    steps: int, calendar: str | None, freq: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = 3 if freq != "30min" else 1
    store = basins(tmp_path, sites, steps, calendar, freq)
    main(["data", "inspect", str(store), "--out", "look"])
    assert "mptt fit --config look/config.yaml --run_dir runs/look" in capsys.readouterr().out
    config = yaml.safe_load(Path("look/config.yaml").read_text())
    assert config["data"]["init_args"]["inputs"] == ["rain", "warmth"]
    assert config["data"]["init_args"]["targets"] == ["discharge_spec"]
    small = ["--trainer.max_epochs", "1", "--model.hidden_size", "4", "--trainer.enable_progress_bar", "false"]
    main(["fit", "--config", "look/config.yaml", "--run_dir", "run", *small])
    scores = pd.read_csv("run/scores.csv", dtype={"site": str})
    assert scores["site"].tolist() == [f"{nth:03d}" for nth in range(sites)]
    # The first record ends within the warm-up of the test dates.
    assert scores["site"][scores["rmse"].isna()].tolist() == (["000"] if steps == 1500 else [])


def test_only_the_first_of_many_attributes_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    many = {f"soil_{nth:02d}": ("site", np.array([1.0, 2.0], np.float32)) for nth in range(25)}
    series = {name: (("site", "time"), np.random.default_rng(0).random((2, 400))) for name in ("rain", "flow")}
    xr.Dataset({**series, **many}, {"site": ["a", "b"], "time": days(400)}).to_netcdf(tmp_path / "many.nc")
    main(["data", "inspect", str(tmp_path / "many.nc"), "--quiet"])
    said = capsys.readouterr().out
    assert "soil_19" in said
    assert "soil_20" not in said
    assert "and 5 more, in attributes.csv" in said
    assert pd.read_csv("inspect/many/attributes.csv")["soil_24"].tolist() == [1.0, 2.0]


def test_inspect_writes_its_files_and_leaves_edited_configurations_alone(tmp_path: Path) -> None:
    store = basins(tmp_path, steps=400)
    main(["data", "inspect", str(store), "--quiet"])
    folder = Path("inspect/basins")
    tables = {"missing.csv", "attributes.csv"}
    assert {one.name for one in folder.iterdir()} == {"inspect.png", "inspect.pdf", "config.yaml", *tables}
    attributes = pd.read_csv(folder / "attributes.csv", dtype={"site": str}, index_col="site")
    with xr.open_dataset(store) as there:
        fixed = [name for name, values in there.data_vars.items() if values.dims == ("site",)]
        assert attributes.index.tolist() == ["000", "001", "002"]
        assert sorted(attributes.columns) == sorted(fixed)
    missing = pd.read_csv(folder / "missing.csv", dtype={"site": str}, index_col="site")
    assert missing.index.tolist() == ["000", "001", "002"]
    assert missing["rain"].tolist() == [0.0, 0.0, 0.0]
    whole = xr.open_dataset(store, decode_timedelta=False)["discharge_spec"].sel(site="001").dropna("time")
    assert missing.loc["001", "discharge_spec"] == pytest.approx(1 - len(whole) / 400, abs=1e-6)
    (folder / "config.yaml").write_text("# mine\n")
    main(["data", "inspect", str(store)])
    assert (folder / "config.yaml").read_text() == "# mine\n"
    assert (folder / "config.new.yaml").exists()


def test_convert_converts_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = basins(tmp_path)
    words = ["data", "convert", str(store), "out.zarr", "--variables", "rain,gauge_lat", "--sites", "002, 000"]
    main(words)
    assert "2 site(s): written to" in capsys.readouterr().out
    with xr.open_dataset("out.zarr", engine="zarr") as made:
        assert made["site"].values.tolist() == ["002", "000"]
        assert set(made.data_vars) == {"rain", "gauge_lat"}
    with pytest.raises(SystemExit, match="--overwrite"):
        main(words)
    main([*words, "--overwrite", "--quiet"])
    Path("sites.txt").write_text("001\n\n000\n")
    main(["data", "convert", str(store), "out.zarr", "--sites", "sites.txt", "--overwrite", "true"])
    with xr.open_dataset("out.zarr", engine="zarr") as made:
        assert made["site"].values.tolist() == ["001", "000"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "nowhere"], "There is nothing at nowhere"),
        (["convert", "nowhere", "out.zarr"], "There is nothing at nowhere"),
        (["inspect", ".", "--layout", "stor"], "Did you mean store"),
        (["inspect", "."], "no data set of a known layout"),
    ],
)
def test_wrong_paths_are_one_line(words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said) as stop:
        main(["data", *words])
    assert isinstance(stop.value.code, str)


def test_options_of_the_layout_are_checked(tmp_path: Path) -> None:
    store = basins(tmp_path, 1, 100)
    with pytest.raises(SystemExit, match="layout store has no option forcing"):
        main(["data", "convert", str(store), "out.zarr", "--options.forcing", "nldas"])


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown in (
        (["data"], "inspect"),
        (["data", "--help"], "convert"),
        (["data", "inspect", "-h"], "--layout"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert shown in capsys.readouterr().out


def test_download_shows_terms_first_and_says_what_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="asks for a login"):
        main(["data", "download", "camels_gb", str(tmp_path)])
    assert "licence  Open Government Licence v3\ncite     Coxon et al. (2020)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Did you mean caravan"):
        main(["data", "download", "caravn", str(tmp_path)])
    monkeypatch.setattr(downloading, "download", lambda name, folder, shown: Path(folder, name))
    main(["data", "download", "camels_ch", "here", "--quiet"])
    assert "mptt data inspect here/camels_ch" in capsys.readouterr().out


def test_progress_of_files_is_shown_on_a_terminal_only() -> None:
    for terminal, quiet, seen in ((True, False, True), (True, True, False), (False, False, False)):
        written = StringIO()
        with Download(Console(file=written, force_terminal=terminal, width=200), quiet) as shown:
            shown("data.zip", 500, 1000)
            shown("data.zip", 1000, 1000)
        assert ("data.zip" in written.getvalue()) is seen

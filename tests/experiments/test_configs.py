"""Every packaged configuration runs, in a small form, on data in the layout that it reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_camels import write_ch, write_gb
from fake_caravan import random_series, write_caravan, write_many
from swat_files import write_control, write_output
from towers import write_days, write_store

from mptt import MPTTWarning
from mptt.datamodules import simulate_basin, write_swat_csv
from mptt.experiments.cli import main, run
from mptt.experiments.comparison.grid import Comparison
from mptt.experiments.configs import FOLDER, config_label, config_names, find_config
from mptt.experiments.strategies import STRATEGIES, find_strategy

SMALL = ["--model.hidden_size", "4", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
SHORT = ["--data.split", "[0.5,0.2,0.3]", "--data.warmup", "200", *SMALL, "--run_dir", "r"]
ALONE = ["--data.attributes", "[]"]
BASINS = ("01000001", "03000002")
ATTRIBUTES = {
    "topo": ["elev_mean", "slope_mean"],
    "clim": ["p_mean", "aridity", "frac_snow"],
    "soil": ["soil_porosity"],
    "vege": ["frac_forest"],
}
REAL = Path(os.environ.get("MPTT_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def write_camels(root: Path, years: int = 6, product: str = "nldas", folders: bool = True) -> None:
    """Two basins with random weather, and a streamflow that follows it."""
    random = np.random.default_rng(0)
    days = pd.date_range("1990-01-01", f"{1989 + years}-12-31")
    for basin in BASINS:
        rain = random.gamma(0.3, 9.0, len(days))
        unit = basin[:2] if folders else ""
        weather = root / "basin_mean_forcing" / product / unit / f"{basin}_lump_{product}_forcing_leap.txt"
        flow = root / "usgs_streamflow" / unit / f"{basin}_streamflow_qc.txt"
        for path in (weather, flow):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{day:%Y %m %d} 12\t36000.00\t{mm:.2f}\t{random.uniform(50, 400):.2f}\t0.00\t9.00\t9.00\t800.00"
            for day, mm in zip(days, rain, strict=True)
        ]
        names = "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tSWE(mm)\tTmax(C)\tTmin(C)\tVp(Pa)"
        weather.write_text("\n".join(["  45.50", " 318.00", " 573600000", names, *rows]) + "\n")
        runoff = pd.Series(rain).ewm(halflife=9).mean()
        flow.write_text(
            "".join(f"{basin} {day:%Y %m %d} {100 * mm:8.2f} A\n" for day, mm in zip(days, runoff, strict=True))
        )
    folder = root / "camels_attributes_v2.0"
    folder.mkdir()
    for table, names in ATTRIBUTES.items():
        lines = [";".join(["gauge_id", *names])]
        lines += [";".join([basin, *(f"{random.uniform(0.1, 1):.3f}" for _ in names)]) for basin in BASINS]
        (folder / f"camels_{table}.txt").write_text("\n".join(lines) + "\n")


def check_run(sites: set[str]) -> None:
    scores = pd.read_csv("r/scores.csv", dtype={"site": str})
    assert set(scores["site"]) == sites
    assert np.isfinite(scores[["rmse", "nse", "pbias"]]).all(axis=None)
    assert Path("r/hydrograph.png").exists()


SIMULATED = ("quickstart", "daily", "simulated", "paper")


@pytest.mark.parametrize("name", [name for name in config_names() if name.startswith(SIMULATED)])
def test_simulated(name: str, basin_cache: Path) -> None:
    main(["fit", "--config", name, "--data.years", "14", "--data.cache", str(basin_cache), *SHORT])
    check_run({"simulated"})


@pytest.mark.parametrize("name", [name for name in config_names() if name.startswith("swat/")])
def test_swat(name: str) -> None:
    write_swat_csv(simulate_basin(years=10), "table.csv")
    main(["fit", "--config", name, "--data.path", "table.csv", *SHORT])
    check_run({"table"})


def test_camels_us_in_its_layout(tmp_path: Path) -> None:
    write_camels(tmp_path / "camels")
    main(["fit", "--config", "camels_us", "--data.root", "camels", *SHORT])
    check_run(set(BASINS))


def test_camels_us_without_unit_folders(tmp_path: Path) -> None:
    write_camels(tmp_path / "flat", years=3, product="maurer_extended", folders=False)
    main(["fit", "--config", "camels_us_flat", "--data.root", "flat", *SMALL, "--run_dir", "r"])
    check_run(set(BASINS))


def test_camels_us_subset_by_name(tmp_path: Path) -> None:
    write_camels(tmp_path / "camels")
    (tmp_path / "camels" / "531_basin_list.txt").write_text("03000002\n")
    with pytest.warns(MPTTWarning, match=r'basins="531": 1 basins as listed in 531_basin_list.txt'):
        main(["fit", "--config", "camels_us", "--data.root", "camels", "--data.basins", "531", *ALONE, *SHORT])
    check_run({"03000002"})


def test_swat_output(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rain = random.gamma(0.3, 9.0, (4, 2000))
    water = np.stack([pd.Series(series).ewm(halflife=9).mean() for series in rain])
    column = {0: rain, 1: 0.2 * rain, 2: random.uniform(0, 5, rain.shape), 8: water}

    def value(step: int, unit: int, nth: int) -> float:
        return float(column[nth][unit, step]) if nth in column else 0.5

    write_output(tmp_path / "TxtInOut" / "output.sub", "sub", count=2000, value=value)
    write_control(tmp_path / "TxtInOut" / "file.cio", years=6, last=173)
    main(["fit", "--config", "swat_output", "--data.path", "TxtInOut", *SHORT])
    check_run({"sub_1", "sub_2", "sub_3"})


@pytest.mark.skipif(
    not (REAL / "camels_us_flat").is_dir(), reason=f"no real basins in {REAL / 'camels_us_flat'} (MPTT_REAL_DATA)"
)
def test_camels_us_flat_on_real_basins() -> None:
    main(["fit", "--config", "camels_us_flat", "--data.root", str(REAL / "camels_us_flat"), *SMALL, "--run_dir", "r"])
    check_run({"01022500", "01547700", "03015500"})


@pytest.mark.skipif(
    not (REAL / "camels_us").is_dir(), reason=f"no real basins in {REAL / 'camels_us'} (MPTT_REAL_DATA says where)"
)
@pytest.mark.filterwarnings("ignore:1 of 6 basins left out")
def test_camels_us_on_real_basins() -> None:
    main(["fit", "--config", "camels_us", "--data.root", str(REAL / "camels_us"), *SMALL, "--run_dir", "r"])
    check_run({"01022500", "03010655", "08023080", "09035900", "09386900"})


def settings_of(name: str) -> dict:
    return yaml.safe_load(find_config(name).read_text())["data"]["init_args"]


def test_caravan_in_its_layout(tmp_path: Path) -> None:
    settings = settings_of("caravan")
    write_caravan(tmp_path / "data", settings["inputs"], settings["attributes"])
    main(["fit", "--config", "caravan", "--data.root", "data", *SHORT])
    check_run({"camels_01022500", "GRDC_7"})


def test_caravan_in_one_file(tmp_path: Path) -> None:
    sites = ["camels_1", "camels_2"]
    names = settings_of("caravan_multibasin")["inputs"]
    each = [random_series(names, 400, seed) for seed in range(2)]
    series = {name: np.stack([one[name] for one in each]) for name in each[0]}
    write_many(tmp_path / "many.nc", sites, series, {"area": [1.0, 2.0]})
    main(["fit", "--config", "caravan_multibasin", "--data.root", "many.nc", *SMALL, "--run_dir", "r"])
    check_run(set(sites))


@pytest.mark.parametrize(("name", "sites"), [("camels_ch/sf", {"2002"}), ("camels_ch/swe", {"2001", "2002"})])
@pytest.mark.filterwarnings("ignore:.* of 3 sites left out")
def test_camels_ch_in_its_layout(name: str, sites: set[str], tmp_path: Path) -> None:
    write_ch(tmp_path / "data", ["2001", "2002", "2003"], settings_of(name)["attributes"])
    main(["fit", "--config", name, "--data.root", "data", *SMALL, "--run_dir", "r"])
    check_run(sites)


def test_camels_gb_in_its_layout(tmp_path: Path) -> None:
    write_gb(tmp_path / "data", ["10002", "10003"], settings_of("camels_gb")["attributes"])
    main(["fit", "--config", "camels_gb", "--data.root", "data", *SHORT])
    check_run({"10002", "10003"})


@pytest.mark.skipif(not (REAL / "caravan").is_dir(), reason=f"no real data in {REAL} (MPTT_REAL_DATA says where)")
@pytest.mark.filterwarnings("ignore:.* sites left out", "ignore:Attribute files of source camelses")
@pytest.mark.parametrize(
    ("name", "data", "sites"),
    [
        ("caravan", "caravan", {"camelsch_4001", "camelses_1414", "camelslx_054"}),
        ("caravan_multibasin", "caravan_multibasin_nc/test_caravan_file.nc", {"camels_01022500", "camels_03439000"}),
        ("camels_ch/sf", "camels_ch", {"2053", "2161", "2446"}),
        ("camels_ch/swe", "camels_ch", {"2004", "2053", "2161", "2446"}),
    ],
)
def test_on_real_basins(name: str, data: str, sites: set[str]) -> None:
    main(["fit", "--config", name, "--data.root", str(REAL / data), *SMALL, "--run_dir", "r"])
    check_run(sites)


@pytest.mark.parametrize("name", ["camels_ch/sf", "camels_gb"])
def test_streamflow_signatures_are_no_inputs_of_swiss_or_british_basins(name: str) -> None:
    signatures = "q_mean runoff_ratio stream_elas slope_fdc baseflow_index baseflow_index_ceh baseflow_index_landson"
    more = "hfd_mean Q5 Q95 high_q_freq high_q_dur low_q_freq low_q_dur zero_q_freq"
    assert not {*signatures.split(), *more.split()} & {*settings_of(name)["attributes"]}


def test_fluxnet_in_its_layout(tmp_path: Path) -> None:
    for site in ("DE-Tha", "US-Ha1"):
        write_days(tmp_path / "towers", site, years=2)
    main(["fit", "--config", "fluxnet", "--data.root", "towers", *SMALL, "--run_dir", "r"])
    check_run({"DE-Tha", "US-Ha1"})


def test_fluxnet_store_in_its_layout(tmp_path: Path) -> None:
    days = 4 * 365
    write_store(tmp_path / "x.zarr", {"DE-Tha": ("2000-01-01T00:00", 48 * days), "US-Ha1": ("2001-01-01", 48 * days)})
    main(["fit", "--config", "fluxnet_zarr", "--data.path", "x.zarr", "--data.warmup", "30", *SMALL, "--run_dir", "r"])
    check_run({"DE-Tha", "US-Ha1"})


@pytest.mark.parametrize(
    ("name", "option", "folder", "sites"),
    [
        ("fluxnet", "root", "fluxnet_csv", {"BE-Lcr"}),
        ("fluxnet_zarr", "path", "fluxnet_zarr/fluxnet.zarr", {"DE-Tha", "US-Ha1"}),
    ],
)
def test_fluxnet_on_real_towers(name: str, option: str, folder: str, sites: set[str]) -> None:
    if not (REAL / folder).is_dir():
        pytest.skip(f"no real towers in {REAL / folder} (MPTT_REAL_DATA says where)")
    main(["fit", "--config", name, f"--data.{option}", str(REAL / folder), *SMALL, "--run_dir", "r"])
    check_run(sites)


def test_files_of_somebody_are_trained_on_from_the_command_line(tmp_path: Path) -> None:
    random, days = np.random.default_rng(0), pd.date_range("1990-01-01", periods=1500)
    (tmp_path / "mine").mkdir()
    for gauge in ("007", "12"):
        rain = random.gamma(0.3, 9.0, len(days))
        flow = pd.Series(rain).ewm(halflife=9).mean()
        table = pd.DataFrame({"date": days.strftime("%Y-%m-%d"), "RR": rain, "Q": flow})
        table.to_csv(tmp_path / "mine" / f"{gauge}.csv", index=False)
    (tmp_path / "gauges.csv").write_text("gauge,area_km2\n12,864\n007,86.4\n")
    settings = {
        "path": "mine",
        "names": {"RR": "rain", "Q": "flow", "area_km2": "area"},
        "units_in_file": {"flow": "m3/s"},
        "units": {"flow": "mm/day"},
        "attributes_file": "gauges.csv",
        "inputs": ["rain"],
        "targets": ["flow"],
        "attributes": ["area"],
        "split": [0.6, 0.2, 0.2],
        "window": 100,
        "stride": 50,
    }
    config = {
        "data": {"class_path": "FilesDataModule", "init_args": settings},
        "model": {"class_path": "SequenceRegressor", "init_args": {"core": "gru"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "mine.yaml", *SMALL, "--run_dir", "r"])
    check_run({"007", "12"})


def test_streamflow_signatures_are_no_inputs() -> None:
    settings = yaml.safe_load(find_config("camels_us").read_text())["data"]["init_args"]
    signatures = "q_mean runoff_ratio slope_fdc baseflow_index stream_elas q5 q95 high_q_freq high_q_dur low_q_freq"
    assert not {*signatures.split(), "low_q_dur", "zero_q_freq", "hfd_mean"} & {*settings["attributes"]}


@pytest.mark.parametrize("name", config_names())
def test_plan_of_a_comparison_holds(name: str) -> None:
    plan = Comparison(**yaml.safe_load(find_config(name).read_text()).get("compare", {}))
    assert len(plan.seeds) >= 3
    assert all(find_strategy(one) for one in plan.strategies)


@pytest.mark.parametrize("kind", ["simulated", "swat"])
def test_set_up_is_the_papers(kind: str) -> None:
    for target in ("sw", "sno", "sf"):
        settings = yaml.safe_load(find_config(f"{kind}/{target}").read_text())
        data = settings["data"]["init_args"]
        assert [data[name] for name in ("split", "window", "stride", "warmup", "batch_size")] == [
            *([0.5, 0.1, 0.4], 366, 183, 730, 64)
        ]
        assert settings["model"]["init_args"] == {"core": "gru", "hidden_size": 32}


def test_labels_are_packaged_names_or_stems(tmp_path: Path) -> None:
    assert config_label(FOLDER / "simulated" / "sw.yaml") == "simulated/sw"
    assert config_label(tmp_path / "mine.yaml") == "mine"


def test_daily_windows_count_and_score_one_step_each(basin_cache: Path) -> None:
    cli = run(["fit", "--config", "daily", "--data.years", "14", "--data.cache", str(basin_cache), *SHORT])
    data = cli.datamodule
    assert (data.window, data.stride, data.predict_last_n, data.evaluation_stride) == (365, 1, 1, 1)
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape[1] == 365
    assert batch["mask"].sum() == len(batch["mask"])
    assert sum(int(batch["keep"].sum()) for batch in data.test_dataloader()) == int(data.parts["test"].length.sum())


@pytest.mark.parametrize("target", ["sw", "sno", "sf"])
def test_the_papers_comparison_is_whole(target: str) -> None:
    full, small = (yaml.safe_load(find_config(f"paper/{target}{size}").read_text()) for size in ("", "_small"))
    names = set(STRATEGIES)
    assert set(full["compare"]["strategies"]) == names - {"Full-BPTT"}, "500 years are too long for it"
    assert set(small["compare"]["strategies"]) == names
    assert full["compare"]["seeds"] == [0, 1, 2, 3, 4]
    data = full["data"]["init_args"]
    assert [data[name] for name in ("years", "split", "window", "stride", "warmup", "batch_size")] == [
        *(1000, [0.5, 0.1, 0.4], 366, 183, 730, 64)
    ]

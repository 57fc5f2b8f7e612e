from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule
from mptt.experiments.cli import main
from mptt.experiments.figures.view import view_figure
from mptt.experiments.memory.embedding import embed
from mptt.experiments.memory.network import Network
from mptt.experiments.memory.runs import OpenedRun, open_run
from mptt.experiments.memory.trajectories import trajectories
from mptt.experiments.memory.view import View, view_said, view_states
from mptt.experiments.memory.view_files import page_data, write_view
from mptt.experiments.regressor import SequenceRegressor

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def opened(trained: Path) -> OpenedRun:
    return open_run(trained)


@pytest.fixture(scope="module")
def view(opened: OpenedRun) -> View:
    return view_states(opened, points=700)


@pytest.fixture(scope="module")
def of_two(two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]) -> OpenedRun:
    dataset = two_sites(steps=2000)
    dataset["flow"][:, 1900:] = np.nan
    data = series(dataset)
    data.setup()
    torch.manual_seed(0)
    module = SequenceRegressor(input_size=1, output_size=2, core="lstm", hidden_size=3, num_layers=2)
    return OpenedRun("</script><b>", Path(), {}, None, data, Network(module), None)


def test_points_are_the_last_days_in_the_components_of_all(opened: OpenedRun, view: View) -> None:
    found = trajectories(opened, variables=["SNOmm"]).isel(site=0)
    states = found["state"].values[365:].astype(np.float64)
    _, values, axes = np.linalg.svd(states - states.mean(0), full_matrices=False)
    share = values**2 / (values**2).sum()
    assert view.axes[0] == f"PC 1 ({100 * share[0]:.0f} % of variance)"
    place = ((states - states.mean(0)) @ axes[:2].T)[-700:]
    np.testing.assert_allclose(np.abs(view.points["x"]), np.abs(place[:, 0]), atol=1e-4)
    np.testing.assert_allclose(np.abs(view.points["y"]), np.abs(place[:, 1]), atol=1e-4)
    np.testing.assert_array_equal(view.points["time"], found["time"][-700:])
    np.testing.assert_array_equal(view.points["SNOmm"], found["SNOmm"][-700:])
    expected = ((states - states.mean(0)) / states.std(0))[-700:]
    np.testing.assert_allclose(view.points["state"], expected, atol=1e-4)
    assert view.targets == opened.data.targets
    assert "SW_ENDmm" not in view.others, "a target is there already"
    assert len(view.distances.one_step) == len(states) - 1


def test_sites_follow_each_other_and_an_lstm_shows_its_outputs(of_two: OpenedRun) -> None:
    view = view_states(of_two, "test", variables=["rain"], points=300)
    assert view.points["site"].values.tolist() == ["a"] * 150 + ["b"] * 150
    assert view.units == [f"core {layer}.{unit}" for layer in (0, 1) for unit in (0, 1, 2)]
    assert view.points["state"].shape == (300, 6)
    found = trajectories(of_two, "test", variables=["rain"])
    np.testing.assert_array_equal(view.points["rain"][150:], found["rain"].values[1, -150:])
    assert view_states(of_two, "train", ["b"], ["rain"], points=10**6).points.sizes["point"] == 1000 - 30
    # Nothing observed in the last steps, and colours of two sites.
    assert view_figure(view_states(of_two, "test", variables=[], points=60)).axes


def test_it_says_how_much_of_a_state_is_the_season(view: View) -> None:
    lines = view_said(view).splitlines()
    assert lines[0] == f"700 states on {view.axes[0]} and {view.axes[1]}."
    ratio = np.median(view.distances.same_day) / np.median(view.distances.random)
    assert f"are {ratio:.2f} times as far apart as those of any days" in lines[1]
    assert f"of the slowest within {max(view.half):.0f}" in lines[2]


def test_what_cannot_be_shown_is_refused(opened: OpenedRun, of_two: OpenedRun) -> None:
    with pytest.raises(MPTTError, match="pca, tsne or umap, found 'lda'"):
        view_states(opened, projection="lda")  # type: ignore[arg-type]
    with pytest.raises(MPTTError, match="no site c; it has a, b"):
        view_states(of_two, sites=["c"])
    with pytest.raises(MPTTError, match="needs 5 states or more, found 4"):
        embed(np.zeros((4, 2), np.float32), "tsne")


@pytest.mark.parametrize(
    ("projection", "package"),
    # UMAP compiles for ten seconds and more.
    [("tsne", "sklearn.manifold"), pytest.param("umap", "umap", marks=pytest.mark.slow)],
)
def test_neighbours_stay_together(projection: str, package: str) -> None:
    pytest.importorskip(package)
    generator = np.random.default_rng(0)
    group = np.arange(60) % 2
    states = (generator.normal(0, 0.1, (60, 5)) + 5 * group[:, None]).astype(np.float32)
    placed = embed(states, projection)
    np.testing.assert_array_equal(placed, embed(states, projection))
    apart = np.linalg.norm(placed[:, None] - placed, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(1)] == group).all()


@pytest.mark.parametrize(("projection", "package"), [("tsne", "sklearn.manifold"), ("umap", "umap")])
def test_a_package_that_is_not_there_is_named(projection: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MPTTError, match=re.escape('pip install "mptt[embedding]", or take projection pca')):
        embed(np.zeros((9, 2), np.float32), projection)


def test_without_plotly_the_command_writes_the_figure_alone(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(SystemExit, match=re.escape('pip install "mptt[view]", or --page false')):
        main(["memory", "view", str(trained)])
    main(["memory", "view", str(trained), "--points", "400", "--page", "false"])
    assert "400 states on PC 1" in capsys.readouterr().out
    assert sorted(path.name for path in (trained / "memory").glob("view*")) == ["view.pdf", "view.png"]


def test_the_page_has_every_point_and_gaps_where_there_is_nothing(of_two: OpenedRun) -> None:
    view = view_states(of_two, "test", variables=["rain"], points=300)
    data = json.loads(json.dumps(page_data(view, "days"), allow_nan=False))
    assert data["sites"] == ["a", "b"]
    assert data["site"] == [0] * 150 + [1] * 150
    assert [one["label"] for one in data["colours"]] == [
        "season",
        "storage (mm)",
        "flow (mm/day)",
        "rain (mm/day)",
        "site",
        "year",
    ]
    flow = data["colours"][2]
    assert flow["observed"][-1] is None
    assert flow["observed"][0] == pytest.approx(float(view.points["flow_observed"][0]), abs=1e-4)
    assert flow["predicted"][-1] == pytest.approx(float(view.points["flow"][-1]), abs=1e-4)
    slowest = int(np.argmax(view.half))
    assert data["units"][0] == f"{view.units[slowest]} ({view.half[slowest]:.0f})"
    np.testing.assert_allclose(data["state"][0], view.points["state"].values[:, slowest], atol=0.006)
    assert data["month"][0] == int(view.points["time"].dt.month[0])
    assert data["time"][0] == str(view.points["time"].values[0])[:10]


def test_a_calendar_of_its_own_is_shown_in_years(
    two_sites: Callable[..., xr.Dataset], series: Callable[..., SeriesDataModule]
) -> None:
    time = xr.date_range("2000-01-01", periods=900, calendar="360_day", use_cftime=True)
    data = series(two_sites(time))
    data.setup()
    module = SequenceRegressor(input_size=1, output_size=2, hidden_size=3)
    run = OpenedRun("two sites", Path(), {}, None, data, Network(module), None)
    found = page_data(view_states(run, "test", variables=[], points=20), "days")
    assert not found["dates"]
    assert found["text"][-1] == "2002-06-30, b"
    assert found["time"][-1] == pytest.approx(2002 + 179 / 366, abs=1e-4)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs Chromium or Chrome and chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    words = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1400,1100", f"user-data-dir={profile}")
    for word in words:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(of_two: OpenedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("view")
    with pytest.MonkeyPatch.context() as patch:
        # The figure takes seconds, and is that of the command.
        patch.setattr("mptt.experiments.memory.view_files.save", lambda figure, path: None)
        write_view(folder, view_states(of_two, "test", variables=["rain"], points=300))
    return folder / "view.html"


def test_the_page_is_one_file_and_its_numbers_end_no_script(page: Path) -> None:
    assert [path.name for path in page.parent.iterdir()] == ["view.html"]
    text = page.read_text(encoding="utf-8")
    assert "<title>Hidden states of &lt;/script&gt;&lt;b&gt;, test part</title>" in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert len(json.loads(found[1])["x"]) == 300
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', text)


@pytest.fixture
def browser(driver: WebDriver, page: Path) -> WebDriver:
    driver.get(page.as_uri())
    return driver


def drag(browser: WebDriver, plot: str, corners: list[tuple[float, float]]) -> None:
    """Along corners in parts of the plot's width and height, pressed."""
    area = browser.find_element(By.CSS_SELECTOR, f"#{plot} .nsewdrag")
    width, height = area.size["width"], area.size["height"]
    moves = ActionChains(browser, duration=20)
    first, *others = [(int((x - 0.5) * width), int((y - 0.5) * height)) for x, y in corners]
    moves.move_to_element_with_offset(area, *first).click_and_hold()
    for x, y in others:
        moves.move_to_element_with_offset(area, x, y)
    moves.release().perform()


def marked(browser: WebDriver, after: str = "true") -> list[int]:
    """The points that are marked, once all has come to rest; plotly.js reports a selection a while after it."""
    WebDriverWait(browser, 20).until(lambda one: one.execute_script(f"return !busy && ({after})"))
    return browser.execute_script("return chosen")


def test_a_browser_shows_the_page_without_network_or_complaint(browser: WebDriver) -> None:
    assert browser.title == "Hidden states of </script><b>, test part"
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert not [name for name in names if not name.startswith("data:")]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return cloud.data[0].x.length") == 300
    assert browser.execute_script("return [series.data.length, series.data[2].z.length, series.data[2].x.length]") == [
        3,
        6,
        150,
    ]
    # Nothing is sent anywhere, on no button.
    buttons = browser.execute_script("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert not [name for name in buttons if "hare" in name or "loud" in name]


def test_points_drawn_around_are_marked_in_the_series(browser: WebDriver) -> None:
    x = np.array(browser.execute_script("return cloud.data[0].x"))
    low, high = browser.execute_script("return cloud.layout.xaxis.range")
    drag(browser, "cloud", [(0.5, 0.02), (0.98, 0.02), (0.98, 0.98), (0.5, 0.98)])
    points = marked(browser, "chosen.length > 0")
    expected = set(np.flatnonzero(x > (low + high) / 2).tolist())
    # The line of the mouse is as sharp as a pixel.
    edge = set(np.flatnonzero(np.abs(x - (low + high) / 2) < 0.03 * (high - low)).tolist())
    assert expected - edge <= set(points) <= expected | edge
    assert 0 < len(points) < 300
    assert browser.execute_script("return cloud.data[0].selectedpoints") == points
    assert browser.find_element(By.ID, "marked").text.startswith(f"{len(points)} of 300 days are marked")
    here = [point for point in points if point < 150]
    runs = 1 + int((np.diff(here) > 1).sum())
    shapes = browser.execute_script("return series.layout.shapes")
    assert sum(shape["name"] == "mark" for shape in shapes) == runs
    time = browser.execute_script("return data.time")
    assert next(shape["x0"] for shape in shapes if shape["name"] == "mark") == time[here[0]]
    # The other site has its own days.
    Select(browser.find_element(By.ID, "site")).select_by_visible_text("b")
    assert marked(browser) == points
    there = [point for point in points if point >= 150]
    shapes = browser.execute_script("return series.layout.shapes")
    assert sum(shape["name"] == "mark" for shape in shapes) == 1 + int((np.diff(there) > 1).sum())
    browser.find_element(By.ID, "clear").click()
    assert marked(browser) == []
    assert browser.execute_script("return [series.layout.shapes.length, cloud.data[0].selectedpoints]") == [0, None]
    assert browser.get_log("browser") == []


def test_days_marked_in_the_hydrograph_are_marked_among_the_points(browser: WebDriver) -> None:
    Select(browser.find_element(By.ID, "site")).select_by_visible_text("b")
    assert marked(browser) == []
    drag(browser, "series", [(0.25, 0.5), (0.4, 0.5), (0.5, 0.6)])
    points = marked(browser, "chosen.length > 0")
    assert points == list(range(points[0], points[-1] + 1)), "days that follow each other"
    assert all(150 <= point < 300 for point in points), "of the site that is shown"
    span = browser.execute_script("return series.layout.xaxis.range").copy()
    assert 25 <= len(points) <= 50, span
    assert browser.execute_script("return cloud.data[0].selectedpoints") == points
    names = browser.execute_script("return series.layout.shapes.map(shape => shape.name)")
    assert names == ["veil", "mark", "veil"]
    # Again, in the other plot: the first marks are gone.
    drag(browser, "cloud", [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)])
    assert len(marked(browser, "chosen.length > 100")) > 250
    assert browser.execute_script("return (series.layout.selections || []).length") == 0


def test_a_colour_is_that_of_the_hydrograph_too(browser: WebDriver) -> None:
    Select(browser.find_element(By.ID, "colour")).select_by_visible_text("rain (mm/day)")
    assert marked(browser) == []
    assert browser.execute_script("return cloud.data[0].marker.color[3] === series.data[0].y[3]")
    assert browser.execute_script("return series.layout.yaxis.title.text") == "rain (mm/day)"
    assert browser.execute_script("return series.data.length") == 2, "nothing is predicted"
    Select(browser.find_element(By.ID, "colour")).select_by_visible_text("site")
    assert marked(browser) == []
    assert browser.execute_script("return new Set(cloud.data[0].marker.color).size") == 2
    assert browser.execute_script("return series.layout.yaxis.title.text") == "storage (mm)"

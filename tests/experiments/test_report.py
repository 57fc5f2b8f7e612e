from __future__ import annotations

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from mptt import MPTTError
from mptt.experiments.report import Section, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NASTY = "<script>document.title = 'run'</script>"

SCORES = pd.DataFrame(
    {
        "strategy": ["MPTT-delta0", "RMB-IIF", "SMB-SSIF", "MPTT-delta10", "MPTT-delta2"],
        "RMSE (mm)": ["9.46 (0.62)", "32.82 (0.19)", None, "10.02 (1.10)", "10.9"],
        "gain [95 %]": [
            "-3.1 [-4.0, -2.2]",
            "\N{MINUS SIGN}0.5 [-1, 0]",
            "2.25 [1, 3]",
            "-12 [-13, -11]",
            "1e1 [9, 11]",
        ],
        "NSE": [0.91234567, -2.0, np.nan, 0.5, 1e-5],
        "best": ["epoch 9", "epoch 10", "", "epoch 1", "epoch 100"],
    }
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([1, 2])
    figure.savefig(folder / "one.png")
    wide = pd.DataFrame({f"a rather long header, number {nth}": [1.5, 2.5] for nth in range(12)})
    return write_report(
        folder,
        f"Comparison {NASTY}",
        [("Scores of the test part", SCORES), (f"Wide {NASTY}", wide)],
        [('RMSE against <window> "length" & more', folder / "one.png"), ("Again", folder / "one.png")],
        f"data:\n  root: {'a' * 300}\n  note: '</code></pre>{NASTY}'\n",
        {"python": "3.11", "platform": "Linux-" + "x" * 200, NASTY: NASTY},
        "mptt compare quickstart --seeds '[0, 1]' " + "--data.root aaaaaaaaaaaaaaaaaaaaaaaa " * 9,
    )


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_everything_is_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert NASTY not in text
    assert text.count("&lt;script&gt;") == 7, "title twice, a caption twice, configuration, a version twice"
    tags = Tags()
    tags.feed(text)
    assert [tag for tag, _ in tags.found].count("script") == 1
    alternatives = [attributes["alt"] for tag, attributes in tags.found if tag == "img"]
    assert alternatives == ['Figure 1: RMSE against <window> "length" & more', "Figure 2: Again"]


def test_the_page_points_to_nothing_outside(page: Path) -> None:
    tags = Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    targets = [attributes[name] or "" for _, attributes in tags.found for name in ("src", "href") if name in attributes]
    assert len(targets) == 1 + 5 + 2, "icon, contents, figures"
    assert all(target.startswith(("data:", "#")) for target in targets)
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)


def test_nothing_else_is_left_in_the_folder(page: Path) -> None:
    assert sorted(path.name for path in page.parent.iterdir()) == ["one.png", "report.html"]


def test_a_report_may_be_without_tables_and_figures(tmp_path: Path) -> None:
    text = write_report(tmp_path / "new", "Empty", [("None", pd.DataFrame())], [], "", {}, "").read_text()
    assert '<section aria-labelledby="figures">' not in text


def test_more_sections_come_after_the_figures_and_number_on(page: Path, tmp_path: Path) -> None:
    figure, spans = page.parent / "one.png", pd.DataFrame({"horizon (days)": ["218 [44, 713]", "> 3650 [9, > 3650]"]})
    more = Section("Memory", ["It remembers <much>."], [("Horizons", spans)], [("Fading", figure)])
    text = write_report(tmp_path, "t", [("Scores", SCORES)], [("RMSE", figure)], "", {}, "", [more]).read_text()
    assert text.index('id="figure-1"') < text.index(">Memory</h2>") < text.index("<p>It remembers &lt;much&gt;.</p>")
    assert text.index("</b> Horizons") < text.index('id="figure-2"') < text.index(">How to repeat it</h2>")
    assert "<b>Table 2.</b> Horizons" in text
    assert '<a href="#section-3">Memory</a>' in text
    assert '<td class="number" data-key="3650.0">&gt; 3650 [9, &gt; 3650]</td>' in text, (
        "sorted as the least that it is"
    )


@pytest.mark.parametrize("content", [None, b"%PDF-1.4"], ids=["missing", "PDF"])
def test_a_figure_that_is_no_png_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "rmse.png"
    if content:
        path.write_bytes(content)
    with pytest.raises(MPTTError, match=r"rmse\.png.*PNG"):
        write_report(tmp_path, "t", [], [("c", path)], "", {}, "")
    assert not (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs Chromium or Chrome and chromedriver on the path; .ci/run installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: WebDriver, page: Path) -> WebDriver:
    driver.get(page.as_uri())
    return driver


def column(browser: WebDriver, nth: int) -> list[str]:
    script = "return [...document.querySelectorAll('#table-1 tbody tr')].map(row => row.cells[arguments[0]].innerText)"
    return browser.execute_script(script, nth)


def test_a_browser_shows_the_page_without_network_or_complaint(browser: WebDriver) -> None:
    assert "<script>" in browser.title, "the title as given, not what its script makes of it"
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert not [name for name in names if not name.startswith("data:")]
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert widths == [400, 400]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("nth", "ascending", "missing"),
    [
        (0, ["MPTT-delta0", "MPTT-delta2", "MPTT-delta10", "RMB-IIF", "SMB-SSIF"], 0),
        (1, ["9.46 (0.62)", "10.02 (1.10)", "10.9", "32.82 (0.19)", "\N{EN DASH}"], 1),
        (2, ["-12 [-13, -11]", "-3.1 [-4.0, -2.2]", "\N{MINUS SIGN}0.5 [-1, 0]", "2.25 [1, 3]", "1e1 [9, 11]"], 0),
        (3, ["-2", "1e-05", "0.5", "0.9123", "\N{EN DASH}"], 1),
        (4, ["epoch 1", "epoch 9", "epoch 10", "epoch 100", "\N{EN DASH}"], 1),
    ],
    ids=["names", "mean-sd", "interval", "floats", "text"],
)
def test_a_click_on_a_header_sorts(browser: WebDriver, nth: int, ascending: list[str], missing: int) -> None:
    known = ascending[: len(ascending) - missing]
    header = browser.find_elements("css selector", "#table-1 th")[nth]
    for way, order in (("ascending", known), ("descending", known[::-1]), ("ascending", known)):
        header.find_element("tag name", "button").click()
        assert column(browser, nth) == order + ascending[len(known) :]
        sorts = [other.get_attribute("aria-sort") for other in browser.find_elements("css selector", "#table-1 th")]
        assert sorts == [way if other == nth else "none" for other in range(5)]


def test_a_header_sorts_by_keyboard(browser: WebDriver) -> None:
    browser.find_element("css selector", "#table-1 th:nth-child(3) button").send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert column(browser, 3) == ["-2", "1e-05", "0.5", "0.9123", "\N{EN DASH}"]
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(browser, 3) == ["0.9123", "0.5", "1e-05", "-2", "\N{EN DASH}"]


def test_a_figure_is_enlarged_until_the_next_click(browser: WebDriver) -> None:
    dialog = browser.find_element("tag name", "dialog")
    button = browser.find_element("css selector", "#figure-2 .enlarge")
    browser.execute_script("arguments[0].scrollIntoView()", button)
    button.click()
    assert dialog.is_displayed()
    assert dialog.find_element("tag name", "img").size["width"] > 500
    dialog.click()
    assert not dialog.is_displayed()


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_is_no_wider_than_the_screen(browser: WebDriver, width: int) -> None:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 1000}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

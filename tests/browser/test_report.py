"""The report in a real browser, at the width of a phone and of a desk: what a reader can do."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import build_report
import report_files

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"phone": (375, 812), "desk": (1280, 900)}
# Two frames: what a scroll sets off has happened then.
SETTLED = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"


@pytest.fixture(scope="module")
def chromium():
    """Chromium and its driver; without them a skip, or a failure where they are required."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        reason = (
            f"{' and '.join(missing)} not found; Debian: apt-get install chromium chromium-driver"
        )
        if os.environ.get("CI") or os.environ.get("LLM_FIGURES_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory, root, chromium):
    """The folder of a report and all it is made from."""
    folder = tmp_path_factory.mktemp("results")
    build_report.main(**report_files.make(folder, root))
    return folder


@pytest.fixture(scope="module", params=SIZES)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def driver(tmp_path_factory, chromium, size):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    os.environ["SE_OFFLINE"] = "true"  # never looks for a driver to download
    options = Options()
    options.binary_location = chromium["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromium["chromedriver"]))
    width, height = SIZES[size]
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, results):
    driver.get((results / "report.html").as_uri())
    driver.execute_async_script(SETTLED)
    return driver


def visible_rows(page):
    """The verdicts of the claims that are shown, in the order of the page."""
    return page.execute_script(
        "return [...document.querySelectorAll('.claims tbody tr')]"
        ".filter((row) => row.offsetHeight > 0).map((row) => row.dataset.verdict);"
    )


def css(page, selector):
    return page.find_elements("css selector", selector)


def point(page, figure, panel, row, column):
    """Move the pointer to the middle of a cell; returns its place in the window."""
    from selenium.webdriver.common.action_chains import ActionChains

    left, top, right, bottom = panel["box"]
    x = left + (column + 0.5) / len(panel["columns"]) * (right - left)
    y = top + (row + 0.5) / len(panel["rows"]) * (bottom - top)
    place = page.execute_async_script(
        """
        const [figure, x, y, done] = arguments;
        const image = document.querySelector(`#${figure}-image img`);
        const at = () => {
          const frame = image.getBoundingClientRect();
          return [frame.left + x * frame.width, frame.top + y * frame.height];
        };
        window.scrollBy(0, at()[1] - innerHeight / 2);
        requestAnimationFrame(() => requestAnimationFrame(() => done(at())));
        """,
        figure,
        x,
        y,
    )
    actions = ActionChains(page, duration=0)
    actions.w3c_actions.pointer_action.move_to_location(*map(round, place))
    actions.perform()
    return place


def panels_of(results, figure):
    return json.loads((results / f"{figure}.panels.json").read_text())["panels"]


def test_it_opens_without_an_error_and_with_every_image(page):
    log = page.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
    widths = page.execute_script("return [...document.images].map((image) => image.naturalWidth);")
    assert len(widths) == 7
    assert min(widths) > 200
    assert page.execute_script("return performance.getEntriesByType('resource').length;") == len(
        page.execute_script(
            "return performance.getEntriesByType('resource')"
            ".filter((entry) => entry.name.startsWith('data:'));"
        )
    )


def test_the_page_itself_never_scrolls_sideways(page, size):
    for element in css(page, "details"):
        page.execute_script("arguments[0].open = true;", element)
    scrolled, shown = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth];"
    )
    assert SIZES[size][0] - 20 < shown <= SIZES[size][0]  # a desk has a scroll bar
    assert scrolled == shown


def test_claims_stand_beside_the_figure_or_below_it_on_a_phone(page, size):
    figure, table = (
        page.execute_script(
            f"return document.querySelector('#mean_qkv {part}').getBoundingClientRect().toJSON();"
        )
        for part in (".figure", ".claims")
    )
    if size == "desk":
        assert table["left"] >= figure["right"]
        assert abs(table["top"] - figure["top"]) < 40
    else:
        assert table["top"] >= figure["bottom"]
        assert table["width"] == pytest.approx(figure["width"], abs=1)


def test_the_filter_leaves_just_the_claims_asked_for(page):
    assert visible_rows(page) == ["reproduced", "not reproduced", "not applicable"] * 5
    (button,) = css(page, ".filter button[data-verdict='not reproduced']")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert css(page, ".filter button[data-verdict='']")[0].get_attribute("aria-pressed") == "false"
    assert visible_rows(page) == ["not reproduced"] * 5
    assert css(page, ".filter output")[0].text == "5 of 15 claims shown"
    css(page, ".filter button[data-verdict='']")[0].click()
    assert len(visible_rows(page)) == 15


def test_the_search_goes_through_statements_and_reasons(page):
    (field,) = css(page, ".filter input")
    field.send_keys("single LAYER")
    assert visible_rows(page) == ["not applicable"] * 5
    field.clear()
    field.send_keys("claim about probe_auc")
    assert visible_rows(page) == ["reproduced"]
    notes = [note for note in css(page, ".no-match") if note.is_displayed()]
    assert len(notes) == 4


def test_heads_sort_by_value_with_missing_ones_last(page):
    def values():
        return [
            cell.text.split("\n")[0].removeprefix("Value: ")
            for cell in css(page, "#mean_qkv .claims tbody td:nth-child(3)")
        ]

    assert values() == ["0.800", "0.0200", "no value"]
    (head,) = css(page, "#mean_qkv .claims th:nth-child(3)")
    (button,) = head.find_elements("css selector", "button")
    button.click()
    assert values() == ["0.0200", "0.800", "no value"]
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert values() == ["0.800", "0.0200", "no value"]
    assert head.get_attribute("aria-sort") == "descending"
    assert len(css(page, "#mean_qkv .claims [aria-sort]")) == 1


def test_the_pointer_reads_a_cell(page, results):
    (panel,) = panels_of(results, "probe_auc")
    place = point(page, "probe_auc", panel, 2, 2)
    (tooltip,) = css(page, ".tooltip")
    assert tooltip.text == "layer 2 · token -1: 0.8765"
    box = tooltip.rect
    frame = page.execute_script("return [scrollX, scrollY, innerWidth, innerHeight];")
    assert 0 <= box["x"] - frame[0] <= frame[2] - box["width"]
    assert 0 <= box["y"] - frame[1] <= frame[3] - box["height"]
    outline = page.execute_script(
        "return document.querySelector('#probe_auc-image .cell').getBoundingClientRect();"
    )
    assert outline["left"] < place[0] < outline["right"]
    assert outline["top"] < place[1] < outline["bottom"]
    width = page.execute_script(
        "return document.querySelector('#probe_auc-image img').getBoundingClientRect().width;"
    )
    left, _, right, _ = panel["box"]
    assert outline["width"] == pytest.approx((right - left) / 3 * width, abs=0.5)
    point(page, "probe_auc", panel, 0, 0)
    assert tooltip.text == "layer 0 · last_q: no value"


def test_the_frame_of_cells_is_the_image_itself_even_where_it_is_tall(page):
    def gap():
        return page.execute_script(
            """
            const image = document.querySelector("#module_map-image");
            const [a, b] = [image, image.firstElementChild].map((e) =>
              e.getBoundingClientRect());
            const sides = ["left", "top", "width", "height"];
            return [...sides.map((side) => a[side] - b[side]), b.height];
            """
        )

    *gaps, height = gap()
    assert gaps == pytest.approx([0, 0, 0, 0], abs=0.1)
    page.execute_script(
        "document.querySelector('#module_map-image img').style.maxHeight = '150px';"
    )
    *gaps, limited = gap()
    assert limited == pytest.approx(150, abs=0.1)
    assert height > 200
    assert gaps == pytest.approx([0, 0, 0, 0], abs=0.1)


def test_a_cell_of_one_panel_among_many(page, results):
    panels = panels_of(results, "mean_qkv")
    point(page, "mean_qkv", panels[5], 6, 3)
    cells = pd.read_parquet(results / "mean_qkv.parquet")
    (weight,) = cells.query(
        "panel_row == 1 and panel_column == 2 and query_position == 6 and key_position == 3"
    )["weight"]
    assert css(page, ".tooltip")[0].text == (
        f"Taking the Mean of Value (Input 2)\nquery position 6 · key position 3: {weight:#.4g}"
    )
    # the margin holds no cell
    point(page, "mean_qkv", {**panels[0], "box": [0, 0, 0.004, 0.004]}, 0, 0)
    assert not css(page, ".tooltip")[0].is_displayed()


def test_keys_go_from_cell_to_cell_and_from_panel_to_panel(page, results):
    from selenium.webdriver.common.keys import Keys

    (image,) = css(page, "#module_map-image")
    (tooltip,) = css(page, ".tooltip")
    image.send_keys(Keys.ARROW_RIGHT)
    assert tooltip.text.startswith("layer 5 · attn. q: ")
    image.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert tooltip.text.startswith("layer 4 · attn. k: ")
    image.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tooltip.text.startswith("layer 4 · attn. q: ")
    image.send_keys(Keys.ESCAPE)
    assert not tooltip.is_displayed()
    (image,) = css(page, "#mean_qkv-image")
    image.send_keys(Keys.ARROW_RIGHT, *[Keys.ARROW_RIGHT] * 7)
    assert tooltip.text.startswith("Taking the Mean of Key (Input 1)\nquery position 0 · key pos")
    image.send_keys(*[Keys.ARROW_DOWN] * 7)
    assert tooltip.text.startswith("Taking the Mean of Key (Input 2)\nquery position 0 · key pos")


def test_downloads_arrive_whole(page, results, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    for kind in ("png", "parquet"):
        (link,) = css(page, f"a[download='tiny_mean_qkv.{kind}']")
        page.execute_script("arguments[0].click();", link)
        expected = Path(results / f"mean_qkv.{kind}").read_bytes()
        file = tmp_path / f"tiny_mean_qkv.{kind}"
        WebDriverWait(page, 20).until(
            lambda _, file=file, expected=expected: (
                file.is_file() and file.stat().st_size == len(expected)
            )
        )
        assert file.read_bytes() == expected


def test_without_script_everything_is_shown(page, results, tmp_path):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get((results / "report.html").as_uri())
        assert len([row for row in css(page, ".claims tbody tr") if row.is_displayed()]) == 15
        assert not css(page, ".filter")[0].is_displayed()
        assert not any(hint.is_displayed() for hint in css(page, ".hint"))
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

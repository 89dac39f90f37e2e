"""The report in Chromium, without network: on a large and a small screen, in light and dark mode."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.outputs.report.page import render_page
from etl.outputs.report.queries import load_report
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.warehouse.engine import warehouse_url
from tests.e2e.world import NOW, World, ago
from tests.extended.browser import CHROMIUM, DRIVER, MISSING, Browser

pytestmark = [pytest.mark.extended, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
QUEUES = (HOSTILE, "</script><script>document.title='owned'</script>", *(f"Queue {number}" for number in range(6)))
SCREENS = [(width, dark) for width in (1280, 360) for dark in (False, True)]

SIZES = """
return [...document.querySelectorAll('.chart')].map(chart => {
  const svg = chart.querySelector('svg');
  const marks = svg ? svg.querySelectorAll('.role-mark path').length : 0;
  return [chart.id, marks, svg ? svg.getBoundingClientRect().width / chart.getBoundingClientRect().width : 0];
})
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Map a number of days to its report: 130 days of eight queues, two of them with markup as their name."""
    folder = tmp_path_factory.mktemp("report")
    spending = Dataset.always_active(begins=ago(130), queues=QUEUES)
    with World(folder, spending, Behaviour(unknown_queue="zeros")) as world:
        world.sync(queues=[*QUEUES])
    files = {}
    for days in (3, 90, 130):
        data = load_report(warehouse_url(str(world.file)), None, days, Clock(lambda: NOW), wait=0)
        files[days] = folder / f"{days}.html"
        files[days].write_text(render_page(data), "utf-8")
    return files


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def open_report(browser: Browser, file: Path) -> None:
    """Open a report and wait until its charts are drawn."""
    browser.open(file)
    browser.wait_for("return document.documentElement.dataset.chartsDrawn > 0")


@pytest.mark.parametrize("days", [3, 90, 130])
def test_every_chart_is_drawn_and_nothing_is_loaded_or_logged(
    browser: Browser, reports: dict[int, Path], days: int
) -> None:
    for width, dark in SCREENS:
        browser.look(width, dark=dark)
        open_report(browser, reports[days])
        charts = browser.evaluate(SIZES)
        assert {name for name, _, _ in charts} == {"spend", "week", *(f"price-{place}" for place in range(8))}
        assert all(marks > 0 for _, marks, _ in charts), charts
        assert all(0.9 < part <= 1.001 for _, _, part in charts), charts
        assert browser.evaluate("const page = document.documentElement; return page.scrollWidth <= page.clientWidth")
        assert browser.log("browser") == []
        events = [json.loads(entry)["message"] for entry in browser.log("performance")]
        requested = {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }
        assert requested == {reports[days].as_uri()}


def test_dark_mode_is_dark_and_a_printed_report_is_not(browser: Browser, reports: dict[int, Path]) -> None:
    brightness = (
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    )
    bar = "return getComputedStyle(document.querySelector('#spend path[fill=\"var(--queue-0)\"]')).fill"
    seen = {}
    for dark in (False, True):
        browser.look(1280, dark=dark)
        open_report(browser, reports[90])
        seen[dark] = (browser.evaluate(brightness), browser.evaluate(bar))
    assert seen[False][0] > 600 > 150 > seen[True][0]
    assert seen[False][1] != seen[True][1]
    browser.command(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate(brightness) > 600


def test_a_name_with_markup_is_text_in_the_tooltip_too(browser: Browser, reports: dict[int, Path]) -> None:
    browser.look(1280, dark=False)
    open_report(browser, reports[90])
    text = browser.evaluate("return document.querySelector('#chart-data').textContent")
    rows = json.loads(text)["charts"][0]["rows"]["spend"]
    color = next(row["color"] for row in rows if row["queue"] == HOSTILE)
    x, y = browser.evaluate(
        f"""
        const bar = document.querySelector('#spend path[fill="var(--queue-{color})"]');
        bar.scrollIntoView({{block: 'center'}});
        const box = bar.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]
        """
    )
    browser.move_to(x - 1, y)
    browser.move_to(x, y)
    browser.wait_for("return document.querySelector('#vg-tooltip-element.visible') !== null")
    assert HOSTILE in browser.evaluate("return document.querySelector('#vg-tooltip-element').textContent")
    assert browser.evaluate("return document.querySelectorAll('img').length") == 0
    assert browser.evaluate("return document.title") == "Anti-Captcha spending"
    assert browser.log("browser") == []


def test_readers_in_other_time_zones_see_the_same_days(browser: Browser, reports: dict[int, Path]) -> None:
    def labels() -> list[str]:
        script = "return [...document.querySelectorAll('#spend .role-axis-label text')].map(text => text.textContent)"
        open_report(browser, reports[90])
        return list(browser.evaluate(script))

    browser.look(1280, dark=False)
    seen = []
    for zone in ("UTC", "Pacific/Auckland", "America/Los_Angeles"):
        browser.command("Emulation.setTimezoneOverride", timezoneId=zone)
        seen.append(labels())
    assert seen[0] == seen[1] == seen[2]
    assert any("Nov" in label for label in seen[0])

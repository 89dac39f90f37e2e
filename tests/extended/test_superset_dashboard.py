"""The dashboard of ``deploy/superset`` in a real Superset and a real browser: its charts have the numbers of DuckDB."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest

from etl.clock import Clock
from etl.outputs.publish import publish, resolve_target
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.warehouse.engine import warehouse_url
from tests.e2e.world import World, ago
from tests.extended.browser import CHROMIUM, DRIVER, MISSING, Browser
from tests.extended.environment import environment
from tests.extended.superset_server import ADMIN, Superset
from tools import superset_bundle as bundle

pytestmark = [pytest.mark.extended, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]

QUEUES = ("English ImageToText", "FunCaptcha", "Recaptcha Proxyless", "An unlisted queue")
DOCUMENTED = "/srv/bi/warehouse.duckdb"
FORECAST = f"from ({bundle.sql_of(bundle.FORECAST)})"
TIMEOUT_SECONDS = 120

EXPECTED = {
    "Month so far": f"select sum(money_so_far) {FORECAST}",
    "Month forecast": f"select sum(forecast) {FORECAST}",
    "Unattributed": "select sum(unattributed_money) / sum(money) from coverage_daily",
    "Days to sync again": "select count(*) from coverage_daily where status in ('missing', 'failed')",
    "Spend by queue": "select sum(money) from spending_daily",
    "Price per 1000 tasks": """
        select sum(price) from (
            select 1000 * sum(money) / sum(volume) as price from spending_daily where queue <> '(unattributed)'
            group by queue, date_trunc('week', day))""",
    "Queues": "select sum(money) + sum(volume) + sum(price) from (select sum(money) as money, sum(volume) as volume, "
    "1000 * sum(money) / sum(volume) as price from spending_daily group by queue)",
    "Month to date, with forecast": f"select sum(money_so_far + forecast_low + forecast + forecast_high) {FORECAST}",
    "Unattributed spend": "select sum(unattributed_money) from coverage_daily",
    "Coverage": "select count(*) from coverage_daily",
}
"""The sum of all numbers that a chart shows, by the chart's name."""

LOGIN = """
const request = new XMLHttpRequest();
request.open('POST', '/login/', false);
request.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
request.send(new URLSearchParams(arguments_).toString());
return request.status;
"""

IS_DRAWN = """
const charts = [...document.querySelectorAll('[data-test="chart-container"], .dashboard-chart')];
return charts.length >= %d && !document.querySelector('.loading, [data-test="loading-indicator"]');
"""


class Imported(NamedTuple):
    superset: Superset
    copy: Path
    archive: bytes

    @property
    def databases(self) -> list[dict[str, Any]]:
        rows = self.superset.get("database/")["result"]
        return [self.superset.get(f"database/{row['id']}/connection")["result"] for row in rows]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    programs = environment("superset", (3, 10), (3, 12))
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "bi").mkdir()
    with World(
        folder, Dataset.always_active(begins=ago(120), queues=QUEUES), Behaviour(unknown_queue="zeros")
    ) as world:
        world.sync()
    url = warehouse_url(str(world.file))
    copy = publish(url, resolve_target(url, folder / "bi"), Clock(), wait=60).path
    archive = zipped(folder, copy)
    with Superset(programs, tmp_path_factory.mktemp("superset")) as superset:
        superset.upload("dashboard/import/", "formData", archive)
        yield Imported(superset, copy, archive)


def zipped(folder: Path, copy: Path) -> bytes:
    """The bundle, for another file than the documented one, zipped as the documentation says."""
    for path, text in bundle.files().items():
        target = folder / "bundle" / path.relative_to(bundle.FOLDER.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(DOCUMENTED, str(copy)), "utf-8")
    command = [sys.executable, "-m", "zipfile", "-c", "dashboard.zip", bundle.FOLDER.name]
    subprocess.run(command, cwd=folder / "bundle", check=True)
    return (folder / "bundle" / "dashboard.zip").read_bytes()


@pytest.fixture
def browser(imported: Imported) -> Iterator[Browser]:
    """A browser that is logged in."""
    with Browser() as browser:
        browser.look(1280, dark=False)
        browser.command(
            "Emulation.setDeviceMetricsOverride", width=1280, height=1700, deviceScaleFactor=1, mobile=False
        )
        browser.open_url(f"{imported.superset.address}/login/")
        fields = json.dumps({name: ADMIN[name] for name in ("username", "password")})
        assert browser.evaluate(LOGIN.replace("arguments_", fields)) == 200
        browser.log("performance")
        yield browser


def chart_names(superset: Superset) -> dict[int, str]:
    return {row["id"]: row["slice_name"] for row in superset.get("chart/?q=(page_size:100)")["result"]}


def shown(browser: Browser, names: dict[int, str]) -> dict[str, float]:
    """The sum of all numbers that each chart received, as the browser got them from the server."""
    sums: dict[str, float] = {}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(sums) < len(EXPECTED) and time.monotonic() < deadline:
        Event().wait(1)
        for entry in browser.log("performance"):
            message = json.loads(entry)["message"]
            response = message["params"].get("response", {})
            if message["method"] != "Network.responseReceived" or "chart/data?form_data=" not in response.get(
                "url", ""
            ):
                continue
            [form_data] = parse_qs(urlsplit(response["url"]).query)["form_data"]
            body = browser.command("Network.getResponseBody", requestId=message["params"]["requestId"])["body"]
            [result] = json.loads(body)["result"]
            values = [value for row in result["data"] for name, value in row.items() if name not in bundle.TIMES]
            numbers = [value for value in values if isinstance(value, int | float)]
            sums[names[json.loads(form_data)["slice_id"]]] = sum(numbers)
    return sums


def test_each_chart_of_the_imported_dashboard_shows_the_numbers_of_duckdb(
    imported: Imported, browser: Browser, tmp_path: Path
) -> None:
    browser.open_url(f"{imported.superset.address}/superset/dashboard/anticaptcha/?standalone=1")
    found = shown(browser, chart_names(imported.superset))
    with duckdb.connect(str(imported.copy), read_only=True) as connection:
        expected = {name: float(connection.sql(sql).fetchall()[0][0]) for name, sql in EXPECTED.items()}
    assert found == pytest.approx(expected)
    assert expected["Unattributed spend"] > 0
    browser.wait_for(IS_DRAWN % len(EXPECTED))
    text = browser.evaluate("return document.body.innerText")
    assert f"${expected['Month so far']:,.2f}" in text
    assert f"${expected['Month forecast']:,.2f}" in text
    assert [name for name in EXPECTED if name not in text] == []
    assert "error" not in text.lower()
    Event().wait(3)  # the charts are animated
    picture = tmp_path / "superset.png"
    picture.write_bytes(browser.picture())
    print(f"\n{picture}")


def test_the_imported_connection_is_read_only_and_stays_so_when_the_bundle_is_imported_again(
    imported: Imported,
) -> None:
    read_only = f"duckdb:///{imported.copy}?access_mode=read_only"
    [database] = imported.databases
    assert (database["sqlalchemy_uri"], database["allow_dml"]) == (read_only, False)
    statement = {"database_id": database["id"], "sql": "create table stolen as select 1 as one", "runAsync": False}
    response = imported.superset.try_post("sqllab/execute/", statement)
    assert not response.is_success, response.text
    with duckdb.connect(str(imported.copy), read_only=True) as connection:
        assert "stolen" not in str(connection.sql("show all tables").fetchall())

    other = read_only.replace("warehouse.duckdb", "other.duckdb")
    shutil.copy(imported.copy, imported.copy.with_name("other.duckdb"))
    imported.superset.put(f"database/{database['id']}", {"sqlalchemy_uri": other})
    imported.superset.upload("dashboard/import/", "formData", imported.archive, overwrite="true")
    assert imported.databases[0]["sqlalchemy_uri"] == other, "an import of the dashboard keeps the connection"


def test_an_import_replaces_a_writable_connection_of_the_same_name_and_no_other(imported: Imported) -> None:
    for kind in ("dashboard", "chart", "dataset", "database"):
        for row in imported.superset.get(f"{kind}/?q=(page_size:100)")["result"]:
            imported.superset.delete(f"{kind}/{row['id']}")
    writable = f"duckdb:///{imported.copy}"
    for name in ("Anti-Captcha", bundle.DATABASE):
        imported.superset.post("database/", {"database_name": name, "sqlalchemy_uri": writable})
    imported.superset.upload("dashboard/import/", "formData", imported.archive)
    uris = {database["database_name"]: database["sqlalchemy_uri"] for database in imported.databases}
    assert uris == {"Anti-Captcha": writable, bundle.DATABASE: f"{writable}?access_mode=read_only"}

"""The report's page, read as a program would: its numbers are the views', its names are text, and it loads nothing."""

import hashlib
import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.cli import run
from etl.clock import Clock
from etl.config import Environment
from etl.errors import UsageError
from etl.outputs.report.page import page
from etl.outputs.report.queries import gather
from etl.warehouse.schema import accounts, day_coverage, findings, rejections, revisions, runs, series

pytestmark = pytest.mark.contract

Insert = Callable[..., None]

NOW = datetime(2026, 3, 20, 9, 30, tzinfo=UTC)
TODAY = NOW.date()
SCRIPT = "draw('everything')"
NAMES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "</table><h1>7",
    '"><b>bold',
    "&amp;",
    "O'Brien -->",
    *(f"Queue {number}" for number in range(5)),
)
"""Eleven: three more than are shown by name."""


def ago(number: int) -> date:
    return TODAY - timedelta(days=number)


BOOKED = f"""
insert into internal.facts
select 1, 3 + place, date '{TODAY}' - back::int, cast(date '{TODAY}' - back::int as timestamp) + interval '5 hours', 1000 + back,
       cast(20 - place as decimal(18, 9)) + back * 37 % 1000 * 0.0001 + 0.000000001, 1, timestamp '2026-03-20 09:00'
from generate_series(0, 59) t(back), generate_series(0, {len(NAMES) - 1}) p(place)
where back not in (10, 11);
insert into internal.facts values
    (1, 2, date '{TODAY}' - 5, date '{TODAY}' - 5 + interval '5 hours', 1, 0.000000007, 1, timestamp '2026-03-20 09:00'),
    (2, 2, date '{TODAY}' - 1, date '{TODAY}' - 1 + interval '0 hours', 5, 1000, 1, timestamp '2026-03-20 09:00');
insert into internal.facts
select account_id, 1, day, hour_start, sum(volume), sum(money), 1, max(loaded_at) from internal.facts group by account_id, day, hour_start;
insert into internal.facts
select account_id, 1, day, hour_start + interval '1 hour', 0, 0, 1, loaded_at from internal.facts where account_id = 1 and series_id = 1;
insert into internal.day_coverage
select 1, date '{TODAY}' - back::int,
       case when back < 3 then 'open' when back in (10, 11) then 'missing' when back = 20 then 'failed' else 'final' end,
       case when back not in (10, 11)
            then least(date '{TODAY}' - back::int + interval '24 hours 15 minutes', timestamp '2026-03-20 09:30') end,
       coalesce(volume, 0), coalesce(money, 0),
       case when back = 5 then 1 else 0 end, case when back = 5 then 0.000000007 else 0 end, true, true
from generate_series(0, 59) t(back)
left join (
    select day, sum(volume) as volume, sum(money) as money from internal.facts where account_id = 1 and series_id = 1 group by day
) f on f.day = date '{TODAY}' - back::int;
insert into internal.day_coverage values (2, date '{TODAY}' - 1, 'open', timestamp '2026-03-20 09:00', 5, 1000, 0, 0, true, true);
"""


@pytest.fixture
def filled(insert: Insert, warehouse: sa.Engine) -> Insert:
    """Sixty days of eleven queues and a rest, two of them missing, one failed, the last three open; and a second
    account.

    An hour of every day has spend, all nine decimals of it in use; the next is idle.
    """
    insert(accounts, {"account_id": 1, "name": "default"}, {"account_id": 2, "name": "shop <&>"})
    insert(
        series,
        {"account_id": 1, "series_id": 1, "dimension": "total"},
        {"account_id": 1, "series_id": 2, "dimension": "queue"},
        *(
            {"account_id": 1, "series_id": 3 + place, "dimension": "queue", "member": name}
            for place, name in enumerate(NAMES)
        ),
        {"account_id": 2, "series_id": 1, "dimension": "total"},
        {"account_id": 2, "series_id": 2, "dimension": "queue", "member": NAMES[0]},
    )
    with warehouse.begin() as connection:
        connection.exec_driver_sql(BOOKED)
    return insert


class Page(HTMLParser):
    """The elements with their attributes; tables by caption, a row a list of cells, a cell its exact number or else
    its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in {"th", "td"}:
            self._rows[-1].append("")
        if tag == "data" and {"th", "td"} & {*self.open}:
            self._rows[-1][-1] = attributes["value"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif inside == "caption":
            self._caption += data
        elif inside != "style":
            self.texts.append(data)
            if {"th", "td"} & {*self.open} and inside != "data":
                self._rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def values(self) -> list[Decimal]:
        return [Decimal(attributes["value"]) for tag, attributes in self.elements if tag == "data"]


def html(warehouse: sa.Engine, account: str | None = "default", days: int = 30) -> str:
    return page(gather(str(warehouse.url), account, days, Clock(lambda: NOW), wait=0), lambda: SCRIPT)


def asked(warehouse: sa.Engine, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def drawn(html: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By the element a chart is drawn in, its rows."""
    (told,) = [text for attributes, text in Page(html).scripts if attributes.get("id") == "drawn"]
    return {chart["element"]: chart["rows"] for chart in json.loads(told, parse_float=Decimal)["charts"]}


SHOWN = "account = 'default' and day > date '2026-02-18'"


# ---------------------------------------------------------------- numbers


def test_the_sums_by_queue_are_the_views_to_the_last_digit(filled: Insert, warehouse: sa.Engine) -> None:
    (rows,) = [rows for caption, rows in Page(html(warehouse)).tables.items() if caption.startswith("Spend by queue")]
    sums = asked(
        warehouse,
        "select queue, sum(money), price_per_1000(cast(sum(money) as decimal(18, 9)), cast(sum(volume) as "
        "bigint)), sum(volume)"
        f" from spending_daily where {SHOWN} group by queue order by 2 desc",
    )
    assert [(row[0], *map(Decimal, (row[1], row[3], row[4]))) for row in rows[1:9]] == sums[:8]
    assert (rows[9][0], Decimal(rows[9][1])) == ("3 other queues", sum(money for _, money, _, _ in sums[8:11]))
    assert (rows[10][0], Decimal(rows[10][1])) == ("(unattributed)", Decimal("0.000000007"))
    assert (rows[11][0], Decimal(rows[11][1])) == ("all queues", sum(money for _, money, _, _ in sums))
    assert rows[1][2] == f"{sums[0][1] * 100 / Decimal(rows[11][1]):.1f} %"


def test_each_days_numbers_and_prices_are_the_views(filled: Insert, warehouse: sa.Engine) -> None:
    tables = Page(html(warehouse)).tables
    (name, number), *_ = asked(
        warehouse, f"select queue, sum(money) from spending_daily where {SHOWN} group by queue order by 2 desc"
    )
    assert number
    daily = asked(
        warehouse,
        f"select money, price_per_1000 from spending_daily where {SHOWN} and queue = '{name}' order by day desc",
    )
    head, *rows = tables["US dollars by day and queue"]
    assert [Decimal(row[head.index(name)]) for row in rows] == [money for money, _ in daily]
    totals = asked(warehouse, f"select sum(money) from spending_daily where {SHOWN} group by day order by day desc")
    assert [(Decimal(row[head.index("all")]),) for row in rows] == totals
    head, *rows = tables["Price per 1000 by day and queue"]
    assert [Decimal(row[head.index(name)]) for row in rows] == [price for _, price in daily]


def test_what_is_drawn_is_what_the_views_hold(filled: Insert, warehouse: sa.Engine) -> None:
    charts = drawn(html(warehouse))
    assert {*charts} == {"spend", "week", *(f"price-{place}" for place in range(8))}
    ((money, volume, count),) = asked(
        warehouse, f"select sum(money), sum(volume), count(distinct day) from spending_daily where {SHOWN}"
    )
    spend = charts["spend"]["spend"]
    assert (sum(row["money"] for row in spend), sum(row["volume"] for row in spend)) == (money, volume)
    assert len({row["from"] for row in spend}) == count == 28
    assert {row["is_final"] for row in spend if row["from"] >= "2026-03-18"} == {False}
    assert [row["price"] for row in charts["price-0"]["price"]].count(None) == 2


def test_months_and_the_headline_are_the_views(filled: Insert, warehouse: sa.Engine) -> None:
    read = Page(html(warehouse))
    months = asked(
        warehouse,
        "select sum(money) from spending_monthly where account = 'default' group by month order by month desc",
    )
    assert [(Decimal(row[1]),) for row in read.tables["Spend by month"][1:]] == months
    sql = "select sum(money) from spending_daily where account = 'default' and extract(day from day) not in (9, 10) and"
    ((this,),) = asked(warehouse, f"{sql} day between date '2026-03-01' and date '2026-03-19'")
    ((last,),) = asked(warehouse, f"{sql} day between date '2026-02-01' and date '2026-02-19'")
    recipe = (Path(__file__).parents[2] / "sql/cookbook/month_to_date_with_forecast.sql").read_text()
    ((low, middle, high),) = [row[-3:] for row in asked(warehouse, recipe) if row[0] == "default"]
    (change,) = re.findall(r"[+\N{MINUS SIGN}]([\d.]+) %", read.text)
    assert Decimal(change) == (abs(this - last) * 100 / last).quantize(Decimal("0.1"))
    headline = read.values()[:8]
    assert headline[:5] == [months[0][0], middle, low, high, months[1][0]]
    assert headline[6:] == [this, last]
    assert "17 days read whole" in read.text


def test_an_hour_of_the_week_is_the_mean_of_the_hours_read(filled: Insert, warehouse: sa.Engine) -> None:
    means = asked(
        warehouse,
        "select cast(sum(money) as decimal(38, 9)), count(*), extract(isodow from hour_start), extract(hour from "
        "hour_start)"
        " from spending_total_hourly where account = 'default' and hour_start >= '2026-02-19' group by 3, 4 "
        "order by 3, 4",
    )
    rows = {(row["weekday"], row["hour"]): row for row in drawn(html(warehouse))["week"]["slots"]}
    assert {key: row["hours"] for key, row in rows.items()} == {
        (weekday, hour): count for _, count, weekday, hour in means
    }
    for money, count, weekday, hour in means:
        assert abs(rows[weekday, hour]["money"] * count - money) <= count * Decimal("5e-10")
    assert {rows[weekday, 6]["money"] for weekday in range(1, 8)} == {0}


def test_accounts_come_together_or_one_by_one(filled: Insert, warehouse: sa.Engine) -> None:
    both, one = Page(html(warehouse, None)), Page(html(warehouse, "shop <&>"))
    assert "accounts default, shop <&> together" in both.text
    assert "account shop <&>" in one.text
    (total,) = [rows[-1] for caption, rows in one.tables.items() if caption.startswith("Spend by queue")]
    assert total[0:2] == ["all queues", "1000.000000000"]
    ((money,),) = asked(warehouse, "select sum(money) from spending_daily where day > date '2026-02-18'")
    (total,) = [rows[-1] for caption, rows in both.tables.items() if caption.startswith("Spend by queue")]
    assert Decimal(total[1]) == money
    with pytest.raises(UsageError, match="'nobody'"):
        html(warehouse, "nobody")


def test_a_long_period_is_shown_by_weeks(filled: Insert, warehouse: sa.Engine) -> None:
    filled(
        day_coverage,
        {"account_id": 1, "day": date(2025, 10, 1), "status": "final", "fetched_at": datetime(2025, 10, 9)},
    )
    text = html(warehouse, days=200)
    _, *rows = Page(text).tables["US dollars by week and queue"]
    weeks = asked(
        warehouse,
        "select sum(money) from spending_daily where account = 'default' group by date_trunc('week', day) order "
        "by max(day) desc",
    )
    assert [(Decimal(row[1]),) for row in rows] == weeks
    assert {date.fromisoformat(row["from"][:10]).weekday() for row in drawn(text)["spend"]["spend"]} == {0}


# ---------------------------------------------------------------- what is plain to see


def test_missing_failed_and_open_days_are_marked_counted_and_named(filled: Insert, warehouse: sa.Engine) -> None:
    text = html(warehouse)
    cells = [attributes for tag, attributes in Page(text).elements if tag == "td" and "title" in attributes]
    by_status = {
        status: [cell["title"] for cell in cells if cell["class"] == status] for status in ("missing", "failed", "open")
    }
    assert by_status == {
        "missing": ["9 Mar 2026: missing", "10 Mar 2026: missing"],
        "failed": ["28 Feb 2026: failed"],
        "open": ["18 Mar 2026: open", "19 Mar 2026: open", "20 Mar 2026: open"],
    }
    read = Page(text).text
    assert "60 days" in read
    assert "2 days missing, not in any sum: 9 Mar 2026 to 10 Mar 2026." in read
    assert "1 day failed when last asked: 28 Feb 2026." in read
    assert [row["said"] for row in drawn(text)["spend"]["days"]] == [
        "",
        "28 Feb 2026: failed",
        "9 Mar 2026: missing",
        "10 Mar 2026: missing",
    ]


def test_findings_revisions_refusals_and_runs_are_told(filled: Insert, warehouse: sa.Engine) -> None:
    seen = datetime(2026, 3, 20, 9)
    sync = {"account_id": 1, "command": "sync", "started_at": seen, "exit_code": 5, "requests": 77}
    filled(runs, {**sync, "run": 1}, {**sync, "run": 2})
    filled(findings, {"account_id": 1, "run": 1, "severity": "blocking", "message": "of yesterday"})
    filled(findings, {"account_id": 1, "run": 2, "severity": "warning", "message": "look <at> this"})
    filled(findings, {"account_id": 1, "run": 2, "severity": "blocking", "message": "does not fit"})
    change = {
        "account_id": 1,
        "series_id": 3,
        "hour_start": datetime(2026, 3, 18, 5),
        "cause": "correction",
        "seen_at": seen,
    }
    filled(
        revisions, {**change, "money_before": Decimal("1.5"), "money_after": Decimal("1.500000001"), "volume_after": 4}
    )
    filled(rejections, {"account_id": 1, "series_id": 3, "seen_at": seen})
    read = Page(html(warehouse))
    assert "1 blocking finding: do not trust the numbers yet" in read.text
    assert "of yesterday" not in read.text
    assert read.text.index("does not fit") < read.text.index("look <at> this")
    assert "1 record of this period was refused" in read.text
    assert read.tables["The days with most unattributed money"][1:] == [["15 Mar 2026", "0.000000007", "1"]]
    assert read.tables["The last revisions"][1][:2] == ["2026-03-18 05:00", NAMES[0]]
    assert read.tables["The last revisions"][1][2:5] == ["1.500000000", "1.500000001", "0.000000001"]
    assert [row[:3] for row in read.tables["The last runs"][1:]] == [["2026-03-20 09:00", "5", "77"]] * 2


def test_neither_a_replay_nor_a_sync_that_was_stopped_hides_what_the_last_whole_sync_found(
    filled: Insert, warehouse: sa.Engine
) -> None:
    run = {"account_id": 1, "command": "sync", "started_at": datetime(2026, 3, 20, 9)}
    filled(
        runs,
        {**run, "run": 1, "exit_code": 5},
        {**run, "run": 2, "exit_code": None},
        {**run, "run": 3, "exit_code": 130},
    )
    filled(runs, {**run, "run": 4, "command": "replay", "exit_code": 0})
    filled(findings, {"account_id": 1, "run": 1, "severity": "blocking", "message": "does not fit"})
    read = Page(html(warehouse))
    assert "1 blocking finding: do not trust the numbers yet" in read.text
    assert "does not fit" in read.text
    assert [row[1] for row in read.tables["The last runs"][1:]] == ["130", "\N{EN DASH}", "5"]


def test_hours_that_were_changed_are_counted_once_however_many_queues_they_have(
    filled: Insert, warehouse: sa.Engine
) -> None:
    change = {
        "account_id": 1,
        "hour_start": datetime(2026, 3, 18, 5),
        "cause": "correction",
        "seen_at": datetime(2026, 3, 20, 9),
    }
    filled(revisions, *({**change, "series_id": number} for number in (1, 3, 4)))
    text = Page(html(warehouse)).text
    assert "Closed hours that the API changed later: 1 since" in text
    assert "The last 3 changes" in text


def test_the_largest_part_is_that_of_a_queue_and_not_of_all_the_others(filled: Insert, warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("update internal.facts set money = 1000 where series_id between 3 and 13")
    text = Page(html(warehouse)).text
    assert "3 other queues" in text
    assert re.search(r"The largest part, 9\.\d %, went to (?!3 other queues)", text)


def test_a_day_that_several_accounts_lack_is_hatched_once_and_says_whose_it_is(
    filled: Insert, warehouse: sa.Engine
) -> None:
    filled(day_coverage, {"account_id": 2, "day": ago(12), "status": "final", "fetched_at": datetime(2026, 3, 20)})
    rows = drawn(html(warehouse, None))["spend"]["days"]
    assert len({row["from"] for row in rows[1:]}) == len(rows[1:])
    assert "10 Mar 2026: missing, account default; missing, account shop <&>" in {row["said"] for row in rows}


def test_the_page_says_of_what_and_when_it_is_and_that_all_is_utc(filled: Insert, warehouse: sa.Engine) -> None:
    text = Page(html(warehouse)).text
    assert f"{Path(warehouse.url.database or '').name}, account default, 20 Mar 2026, 09:30 UTC" in text
    assert "All days, hours and months are UTC." in text
    assert "The newest reading is" not in text
    late = page(gather(str(warehouse.url), None, 30, Clock(lambda: NOW + timedelta(days=3)), wait=0), lambda: SCRIPT)
    assert "The newest reading is of 20 Mar 2026, 09:30 UTC" in Page(late).text


def test_an_empty_warehouse_gives_a_page_that_says_what_to_do(warehouse: sa.Engine, insert: Insert) -> None:
    before = html(warehouse, None)
    insert(accounts, {"account_id": 1, "name": "default"})
    for text in (before, html(warehouse, None)):
        read = Page(text)
        assert "anticaptcha-etl sync" in read.text
        assert "script" not in [tag for tag, _ in read.elements]


def test_a_history_without_spend_is_a_page_without_charts_of_it(warehouse: sa.Engine, insert: Insert) -> None:
    insert(accounts, {"account_id": 1, "name": "default"})
    insert(day_coverage, {"account_id": 1, "day": ago(1), "status": "final", "fetched_at": datetime(2026, 3, 20)})
    text = html(warehouse)
    assert "nothing was spent on the days read" in Page(text).text
    assert drawn(text) == {}


# ---------------------------------------------------------------- nothing but text, nothing from elsewhere


def test_names_with_markup_in_them_stay_text(filled: Insert, warehouse: sa.Engine) -> None:
    text = html(warehouse, None)
    read = Page(text)
    assert {tag for tag, _ in read.elements} & {"img", "b", "h1"} == {"h1", "b"}
    assert [tag for tag, _ in read.elements].count("h1") == 1
    assert {key for _, attributes in read.elements for key in attributes if key.startswith("on")} == set()
    assert len(read.scripts) == 2
    for name in NAMES[:8]:
        assert name in read.text
    queues = {row["queue"] for row in drawn(text)["spend"]["spend"]}
    assert {*NAMES[:8], "3 other queues", "(unattributed)"} == queues
    (told,) = [script for attributes, script in read.scripts if attributes.get("id") == "drawn"]
    assert "<" not in told


def test_the_page_loads_nothing_and_its_policy_lets_its_own_script_alone_run(
    filled: Insert, warehouse: sa.Engine
) -> None:
    text = html(warehouse)
    read = Page(text)
    assert "://" not in text
    assert "@import" not in text
    assert {*re.findall(r"url\([^)]*\)", text)} == {"url(#hatch)"}
    assert not [
        attributes for _, attributes in read.elements if {"src", "href", "srcset", "action", "data"} & attributes.keys()
    ]
    (policy,) = [attributes["content"] for _, attributes in read.elements if attributes.get("http-equiv")]
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy


def test_what_can_be_drawn_can_be_read(filled: Insert, warehouse: sa.Engine) -> None:
    """A title, a language, headings in order, each chart in words, each table with a caption."""
    read = Page(html(warehouse))
    tags = [tag for tag, _ in read.elements]
    assert ("html", {"lang": "en"}) in read.elements
    assert tags.count("title") == tags.count("h1") == tags.count("main") == 1
    assert tags.count("caption") == tags.count("table")
    charts = [attributes for _, attributes in read.elements if attributes.get("class", "").startswith("chart ")]
    assert {chart["id"] for chart in charts} == {*drawn(html(warehouse))}
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


# ---------------------------------------------------------------- the command


@pytest.fixture
def place(filled: Insert, tmp_path: Path) -> Environment:
    return Environment({}, tmp_path)


@pytest.mark.of_the_file
def test_the_command_writes_the_page_whole_with_its_runtime_in_it(
    place: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "report.html").write_text("of yesterday")
    assert run(["report", "-o", "report.html", "--account", "default", "--days", "5000"], place) == 2
    assert run(["report", "-o", "report.html", "--account", "nobody"], place) == 2
    assert (place.folder / "report.html").read_text() == "of yesterday"
    assert run(["report", "-o", "report.html", "--account", "default"], place) == 0
    text = (place.folder / "report.html").read_text()
    assert text.endswith("</html>\n")
    assert "report.html (" in capsys.readouterr().out
    assert sorted(file.suffix for file in place.folder.iterdir()) == [".duckdb", ".html"]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert "vegaEmbed" in script or "vega-lite" in script
    assert "://cdn" not in text
    (policy,) = [attributes["content"] for _, attributes in Page(text).elements if attributes.get("http-equiv")]
    assert f"script-src 'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


@pytest.mark.of_the_file
@pytest.mark.parametrize("where", ["warehouse.duckdb", "link.html", "warehouse.duckdb.default.lock"])
def test_the_page_never_takes_the_place_of_the_warehouse(
    place: Environment, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "link.html").symlink_to(place.folder / "warehouse.duckdb")
    before = (place.folder / "warehouse.duckdb").read_bytes()
    assert run(["report", "-o", where], place) == 2
    assert "hint: choose another file with -o" in capsys.readouterr().err
    assert (place.folder / "warehouse.duckdb").read_bytes() == before


@pytest.mark.of_the_file
def test_a_dash_is_standard_output_and_there_is_nothing_but_the_page(
    place: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "-o", "-"], place) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!doctype html>")
    assert out.endswith("</html>\n")


@pytest.mark.of_the_file
@pytest.mark.parametrize("absent", ["altair", "vl_convert"])
def test_without_the_extra_the_command_says_how_to_install_it(
    absent: str, warehouse: sa.Engine, tmp_path: Path
) -> None:
    program = f"import sys; sys.modules[{absent!r}] = None; from etl.cli import run; sys.exit(run(['report', '-o', 'r.html']))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'hint: pip install "anticaptcha-etl[report]"' in done.stderr
    assert not (tmp_path / "r.html").exists()

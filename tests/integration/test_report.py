"""The report page: its numbers are those of the views, names stay text, and it loads nothing."""

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
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.cli import run
from etl.clock import Clock
from etl.config import Environment
from etl.errors import UsageError
from etl.outputs.report.data import Ahead, DayCoverage, Period, QueueSpend, ReportData
from etl.outputs.report.page import render_page
from etl.outputs.report.queries import load_report
from etl.outputs.report.view import build_view
from etl.warehouse.schema import accounts, day_coverage, findings, rejections, revisions, runs, series
from tools import vega

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
"""Eleven: three more than are shown with a name of their own."""


def ago(number: int) -> date:
    return TODAY - timedelta(days=number)


ROWS = f"""
insert into internal.facts
select 1, 3 + place, date '{TODAY}' - back::int, cast(date '{TODAY}' - back::int as timestamp) + interval '5 hours',
       1000 + back,
       cast(20 - place as decimal(18, 9)) + back * 37 % 1000 * 0.0001 + 0.000000001, 1, timestamp '2026-03-20 09:00'
from generate_series(0, 59) t(back), generate_series(0, {len(NAMES) - 1}) p(place)
where back not in (10, 11);
insert into internal.facts values
    (1, 2, date '{TODAY}' - 5, date '{TODAY}' - 5 + interval '5 hours', 1, 0.000000007, 1,
     timestamp '2026-03-20 09:00'),
    (2, 2, date '{TODAY}' - 1, date '{TODAY}' - 1 + interval '0 hours', 5, 1000, 1, timestamp '2026-03-20 09:00');
insert into internal.facts
select account_id, 1, day, hour_start, sum(volume), sum(money), 1, max(loaded_at)
from internal.facts group by account_id, day, hour_start;
insert into internal.facts
select account_id, 1, day, hour_start + interval '1 hour', 0, 0, 1, loaded_at
from internal.facts where account_id = 1 and series_id = 1;
insert into internal.day_coverage
select 1, date '{TODAY}' - back::int,
       case when back < 3 then 'open' when back in (10, 11) then 'missing' when back = 20 then 'failed'
            else 'final' end,
       case when back not in (10, 11)
            then least(date '{TODAY}' - back::int + interval '24 hours 15 minutes', timestamp '2026-03-20 09:30') end,
       coalesce(volume, 0), coalesce(money, 0),
       case when back = 5 then 1 else 0 end, case when back = 5 then 0.000000007 else 0 end, true, true
from generate_series(0, 59) t(back)
left join (
    select day, sum(volume) as volume, sum(money) as money
    from internal.facts where account_id = 1 and series_id = 1 group by day
) f on f.day = date '{TODAY}' - back::int;
insert into internal.day_coverage values
    (2, date '{TODAY}' - 1, 'open', timestamp '2026-03-20 09:00', 5, 1000, 0, 0, true, true);
"""


@pytest.fixture
def filled(insert: Insert, warehouse: sa.Engine) -> Insert:
    """A second account, and sixty days of eleven queues: two days missing, one failed, one with unattributed spend, the
    last three open.

    One hour of each day has spend that uses all nine decimals; the next hour has none.
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
        connection.exec_driver_sql(ROWS)
    return insert


class Page(HTMLParser):
    """A parsed page. ``tables`` maps captions to rows; a cell is its exact number, or else its text."""

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
        """All text, with whitespace as a browser shows it."""
        return " ".join("".join(self.texts).split())

    def values(self) -> list[Decimal]:
        return [Decimal(attributes["value"]) for tag, attributes in self.elements if tag == "data"]


def html(warehouse: sa.Engine, account: str | None = "default", days: int = 30) -> str:
    return render_page(load_report(str(warehouse.url), account, days, Clock(lambda: NOW), wait=0), lambda: SCRIPT)


def query(warehouse: sa.Engine, sql: str) -> list[tuple[Any, ...]]:
    with warehouse.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def chart_rows(html: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Map the id of a chart's element to the rows it draws."""
    (text,) = [text for attributes, text in Page(html).scripts if attributes.get("id") == "chart-data"]
    return {chart["element"]: chart["rows"] for chart in json.loads(text, parse_float=Decimal)["charts"]}


SHOWN = "account = 'default' and day > date '2026-02-18'"


# ---------------------------------------------------------------- numbers


def test_the_biggest_change_is_said_and_marked_with_the_numbers_of_the_views(
    filled: Insert, warehouse: sa.Engine
) -> None:
    page = html(warehouse)
    data = load_report(str(warehouse.url), "default", 30, Clock(lambda: NOW), wait=0)
    change = build_view(data).change
    assert change
    sums = [
        query(
            warehouse,
            f"select coalesce(sum(money), 0) from spending_daily where account = 'default' and day >= date '{first}' "
            f"and day < date '{first}' + 7 and queue = '{change.queue.replace(chr(39), chr(39) * 2)}'",
        )[0][0]
        for first in (change.step - timedelta(days=7), change.step)
    ]
    assert sums == [change.before, change.after]
    assert "The biggest change: in the week from" in Page(page).text
    [mark] = chart_rows(page)["spend"]["changes"]
    assert (mark["from"], mark["label"].startswith(change.queue)) == (f"{change.step}T00:00:00Z", True)


def test_sections_without_anything_to_show_are_one_line(warehouse: sa.Engine, insert: Insert) -> None:
    insert(accounts, {"account_id": 1, "name": "default"})
    insert(day_coverage, {"account_id": 1, "day": TODAY, "status": "open", "fetched_at": NOW.replace(tzinfo=None)})
    text = Page(html(warehouse)).text
    assert (
        "Data complete All spend in this period is attributed to queues. The last completed sync found no problems."
        in text
    )
    assert "Findings" not in text
    assert "Revisions" not in text


def test_sums_by_queue_equal_the_views_to_the_last_digit(filled: Insert, warehouse: sa.Engine) -> None:
    (rows,) = [rows for caption, rows in Page(html(warehouse)).tables.items() if caption.startswith("Spend by queue")]
    sums = query(
        warehouse,
        "select queue, sum(money), price_per_1000(cast(sum(money) as decimal(18, 9)), cast(sum(volume) as "
        "bigint)), sum(volume)"
        f" from spending_daily where {SHOWN} group by queue order by 2 desc",
    )
    assert [(row[0], *map(Decimal, (row[1], row[3], row[4]))) for row in rows[1:9]] == sums[:8]
    assert (rows[9][0], Decimal(rows[9][1])) == ("3 other queues", sum(money for _, money, _, _ in sums[8:11]))
    assert (rows[10][0], Decimal(rows[10][1])) == ("(unattributed)", Decimal("0.000000007"))
    assert (rows[11][0], Decimal(rows[11][1])) == ("total", sum(money for _, money, _, _ in sums))
    assert rows[1][2] == f"{sums[0][1] * 100 / Decimal(rows[11][1]):.1f} %"


def test_numbers_and_prices_of_each_day_equal_the_views(filled: Insert, warehouse: sa.Engine) -> None:
    tables = Page(html(warehouse)).tables
    (name, number), *_ = query(
        warehouse, f"select queue, sum(money) from spending_daily where {SHOWN} group by queue order by 2 desc"
    )
    assert number
    daily = query(
        warehouse,
        f"select money, price_per_1000 from spending_daily where {SHOWN} and queue = '{name}' order by day desc",
    )
    head, *rows = tables["US dollars by day and queue"]
    assert [Decimal(row[head.index(name)]) for row in rows] == [money for money, _ in daily]
    totals = query(warehouse, f"select sum(money) from spending_daily where {SHOWN} group by day order by day desc")
    assert [(Decimal(row[head.index("total")]),) for row in rows] == totals
    head, *rows = tables["Price per 1000 tasks by day and queue"]
    assert [Decimal(row[head.index(name)]) for row in rows] == [price for _, price in daily]


def test_charts_draw_the_numbers_of_the_views(filled: Insert, warehouse: sa.Engine) -> None:
    charts = chart_rows(html(warehouse))
    assert {*charts} == {"spend", "week", *(f"price-{place}" for place in range(8))}
    ((money, volume, count),) = query(
        warehouse, f"select sum(money), sum(volume), count(distinct day) from spending_daily where {SHOWN}"
    )
    spend = charts["spend"]["spend"]
    assert (sum(row["money"] for row in spend), sum(row["volume"] for row in spend)) == (money, volume)
    assert len({row["from"] for row in spend}) == count == 28
    assert {row["is_final"] for row in spend if row["from"] >= "2026-03-18"} == {False}
    assert [row["price"] for row in charts["price-0"]["price"]].count(None) == 2


def test_months_and_the_summary_equal_the_views(filled: Insert, warehouse: sa.Engine) -> None:
    read = Page(html(warehouse))
    months = query(
        warehouse,
        "select sum(money) from spending_monthly where account = 'default' group by month order by month desc",
    )
    assert [(Decimal(row[1]),) for row in read.tables["Spend by month"][1:]] == months
    sql = "select sum(money) from spending_daily where account = 'default' and extract(day from day) not in (9, 10) and"
    ((this,),) = query(warehouse, f"{sql} day between date '2026-03-01' and date '2026-03-19'")
    ((last,),) = query(warehouse, f"{sql} day between date '2026-02-01' and date '2026-02-19'")
    recipe = (Path(__file__).parents[2] / "sql/cookbook/month_to_date_with_forecast.sql").read_text()
    ((low, middle, high),) = [row[-3:] for row in query(warehouse, recipe) if row[0] == "default"]
    (change,) = re.findall(r"same days of February [+\N{MINUS SIGN}]?([\d.]+) %", read.text)
    assert Decimal(change) == (abs(this - last) * 100 / last).quantize(Decimal("0.1"))
    summary = read.values()[:8]
    assert summary[:5] == [months[0][0], middle, low, high, months[1][0]]
    assert summary[6:] == [this, last]
    assert "17 complete days" in read.text


def test_an_hour_of_the_week_is_the_mean_of_the_loaded_hours(filled: Insert, warehouse: sa.Engine) -> None:
    means = query(
        warehouse,
        "select cast(sum(money) as decimal(38, 9)), count(*), extract(isodow from hour_start), extract(hour from "
        "hour_start)"
        " from spending_total_hourly where account = 'default' and hour_start >= '2026-02-19' group by 3, 4 "
        "order by 3, 4",
    )
    rows = {(row["weekday"], row["hour"]): row for row in chart_rows(html(warehouse))["week"]["hours"]}
    assert {key: row["hours"] for key, row in rows.items()} == {
        (weekday, hour): count for _, count, weekday, hour in means
    }
    for money, count, weekday, hour in means:
        assert abs(rows[weekday, hour]["money"] * count - money) <= count * Decimal("5e-10")
    assert {rows[weekday, 6]["money"] for weekday in range(1, 8)} == {0}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_days_months_and_hours_of_the_week_are_those_of_the_zone(
    filled: Insert, warehouse: sa.Engine, zone: str
) -> None:
    data = load_report(str(warehouse.url), "default", 30, Clock(lambda: NOW), wait=0, zone=zone)
    daily = f"from spending_daily_in('{zone}') where account = 'default'"
    days = dict(query(warehouse, f"select day, sum(money) {daily} group by day"))
    first, last = data.period.first, data.period.last
    assert sum(row.money for row in data.spend) == sum(money for day, money in days.items() if first <= day <= last)
    assert data.daily == {day: money for day, money in days.items() if day >= date(2026, 2, 1)}
    assert sum(month.money for month in data.months) == sum(days.values())
    local = f"(hour_start at time zone 'UTC') at time zone '{zone}'"
    hours = query(
        warehouse,
        f"select extract(isodow from {local}), extract(hour from {local}), sum(money) from spending_total_hourly "
        f"where account = 'default' and cast({local} as date) between date '{first}' and date '{last}' group by 1, 2",
    )
    assert {(row.weekday, row.hour, row.money) for row in data.week_hours} == {*hours}
    page = Page(render_page(data, lambda: SCRIPT))
    assert f"Days, hours of the week and months are in {zone}" in page.text
    assert ("begin at minute 30" in page.text) is (zone == "Asia/Kolkata")


def test_accounts_are_combined_or_shown_one_by_one(filled: Insert, warehouse: sa.Engine) -> None:
    both, one = Page(html(warehouse, None)), Page(html(warehouse, "shop <&>"))
    assert "accounts default, shop <&> (combined)," in both.text
    assert "account shop <&>," in one.text
    (total,) = [rows[-1] for caption, rows in one.tables.items() if caption.startswith("Spend by queue")]
    assert total[0:2] == ["total", "1000.000000000"]
    ((money,),) = query(warehouse, "select sum(money) from spending_daily where day > date '2026-02-18'")
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
    weeks = query(
        warehouse,
        "select sum(money) from spending_daily where account = 'default' group by date_trunc('week', day) order "
        "by max(day) desc",
    )
    assert [(Decimal(row[1]),) for row in rows] == weeks
    assert {date.fromisoformat(row["from"][:10]).weekday() for row in chart_rows(text)["spend"]["spend"]} == {0}


# ---------------------------------------------------------------- wording


def test_missing_failed_and_open_days_are_marked_counted_and_listed(filled: Insert, warehouse: sa.Engine) -> None:
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
    assert "2 days missing and not included in any sum: 9 Mar 2026 to 10 Mar 2026." in read
    assert "1 day failed at the last attempt: 28 Feb 2026." in read
    assert [row["label"] for row in chart_rows(text)["spend"]["days"]] == [
        "",
        "28 Feb 2026: failed",
        "9 Mar 2026: missing",
        "10 Mar 2026: missing",
    ]


def test_days_before_the_known_history_are_not_missing(filled: Insert, warehouse: sa.Engine) -> None:
    """A lone day of long ago: the history starts 90 days before the oldest spend, as in the status."""
    filled(
        day_coverage,
        {"account_id": 1, "day": date(2020, 1, 1), "status": "final", "fetched_at": datetime(2026, 3, 20)},
    )
    read = Page(html(warehouse, days=365))
    assert "22 Oct 2025 to 20 Mar 2026: 150 days." in read.text
    assert "92 days missing" in read.text
    assert "20 Oct 2025 to 20 Mar 2026, 152 days" in read.text  # whole weeks


def test_findings_revisions_rejections_and_syncs_are_listed(filled: Insert, warehouse: sa.Engine) -> None:
    seen = datetime(2026, 3, 20, 9)
    sync = {"account_id": 1, "command": "sync", "started_at": seen, "exit_code": 5, "requests": 77}
    filled(runs, {**sync, "run": 1}, {**sync, "run": 2})
    filled(findings, {"account_id": 1, "run": 1, "severity": "blocking", "message": "from the sync before"})
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
    assert "1 blocking finding: do not rely on these numbers yet" in read.text
    assert "from the sync before" not in read.text
    assert read.text.index("does not fit") < read.text.index("look <at> this")
    assert "1 record of this period was rejected" in read.text
    assert read.tables["Days with the most unattributed spend"][1:] == [["15 Mar 2026", "0.000000007", "1"]]
    assert read.tables["Latest revisions"][1][:2] == ["2026-03-18 05:00", NAMES[0]]
    assert read.tables["Latest revisions"][1][2:5] == ["1.500000000", "1.500000001", "0.000000001"]
    assert [row[:3] for row in read.tables["Latest syncs"][1:]] == [["2026-03-20 09:00", "5", "77"]] * 2


def test_a_replay_or_a_stopped_sync_does_not_hide_the_findings_of_the_last_completed_sync(
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
    assert "1 blocking finding: do not rely on these numbers yet" in read.text
    assert "does not fit" in read.text
    assert [row[1] for row in read.tables["Latest syncs"][1:]] == ["130", "\N{EN DASH}", "5"]


def test_a_changed_hour_is_counted_once_even_if_several_queues_changed(filled: Insert, warehouse: sa.Engine) -> None:
    change = {
        "account_id": 1,
        "hour_start": datetime(2026, 3, 18, 5),
        "cause": "correction",
        "seen_at": datetime(2026, 3, 20, 9),
    }
    filled(revisions, *({**change, "series_id": number} for number in (1, 3, 4)))
    text = Page(html(warehouse)).text
    assert "Hours that the API changed after they had ended: 1 since" in text
    assert "The latest 3 changes" in text


def test_the_largest_share_is_that_of_a_queue_and_not_of_the_other_queues(filled: Insert, warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("update internal.facts set money = 1000 where series_id between 3 and 13")
    text = Page(html(warehouse)).text
    assert "3 other queues" in text
    assert re.search(r"The largest share, 9\.\d %, went to (?!3 other queues)", text)


def test_a_day_missing_from_several_accounts_is_hatched_once_and_names_them(
    filled: Insert, warehouse: sa.Engine
) -> None:
    filled(day_coverage, {"account_id": 2, "day": ago(12), "status": "final", "fetched_at": datetime(2026, 3, 20)})
    rows = chart_rows(html(warehouse, None))["spend"]["days"]
    assert len({row["from"] for row in rows[1:]}) == len(rows[1:])
    assert "10 Mar 2026: missing, account default; missing, account shop <&>" in {row["label"] for row in rows}


def test_the_page_names_its_warehouse_account_time_and_time_zone(filled: Insert, warehouse: sa.Engine) -> None:
    text = Page(html(warehouse)).text
    assert f"{Path(warehouse.url.database or '').name}, account default, as of 20 Mar 2026, 09:30 UTC" in text
    assert "Days, hours and months are in UTC." in text
    assert "To load newer data" not in text
    late = Clock(lambda: NOW + timedelta(days=3))
    old = render_page(load_report(str(warehouse.url), None, 30, late, wait=0), lambda: SCRIPT)
    assert "Last updated 20 Mar 2026, 09:30 UTC. To load newer data" in Page(old).text


def test_the_page_of_an_empty_warehouse_says_how_to_load_data(warehouse: sa.Engine, insert: Insert) -> None:
    before = html(warehouse, None)
    insert(accounts, {"account_id": 1, "name": "default"})
    for text in (before, html(warehouse, None)):
        read = Page(text)
        assert "anticaptcha-etl sync" in read.text
        assert "script" not in [tag for tag, _ in read.elements]


def test_a_history_without_spend_gives_a_page_without_charts(warehouse: sa.Engine, insert: Insert) -> None:
    insert(accounts, {"account_id": 1, "name": "default"})
    insert(day_coverage, {"account_id": 1, "day": ago(1), "status": "final", "fetched_at": datetime(2026, 3, 20)})
    text = html(warehouse)
    assert "no spend on the days that are loaded" in Page(text).text
    assert chart_rows(text) == {}


# ---------------------------------------------------------------- only text, nothing loaded


def test_names_with_markup_in_them_stay_text(filled: Insert, warehouse: sa.Engine) -> None:
    text = html(warehouse, None)
    read = Page(text)
    assert {tag for tag, _ in read.elements} & {"img", "b", "h1"} == {"h1", "b"}
    assert [tag for tag, _ in read.elements].count("h1") == 1
    assert {key for _, attributes in read.elements for key in attributes if key.startswith("on")} == set()
    assert len(read.scripts) == 2
    for name in NAMES[:8]:
        assert name in read.text
    queues = {row["queue"] for row in chart_rows(text)["spend"]["spend"]}
    assert {*NAMES[:8], "3 other queues", "(unattributed)"} == queues
    (json_text,) = [script for attributes, script in read.scripts if attributes.get("id") == "chart-data"]
    assert "<" not in json_text


def report_named(text: str) -> ReportData:
    """A small report of two accounts in which every name and message is ``text``."""
    money = Decimal(1)
    values = {"money_before": money, "money_after": money, "volume_before": 1, "volume_after": 2}
    revision = SimpleNamespace(account=text, queue=text, hour_start=NOW, seen_at=NOW, **values)
    counts = dict.fromkeys(
        ("exit_code", "requests", "windows_good", "windows_failed", "new_values", "changed_values", "rejections"), 0
    )
    sync = SimpleNamespace(account=text, started_at=NOW, **counts)
    return ReportData(
        warehouse=text,
        now=NOW,
        zone="UTC",
        accounts=(text, "shop"),
        history_starts={text: ago(2)},
        period=Period(ago(2), TODAY, 1),
        spend=(QueueSpend(text, ago(1), 1, money, money, is_final=True),),
        week_hours=(),
        months=(),
        daily={},
        forecast=None,
        ahead=Ahead(
            (), (), (SimpleNamespace(account=text, kind="budget", message=text, began_at=NOW, ended_at=None),), ()
        ),
        coverage=(DayCoverage(text, ago(1), "open", NOW, 0, money),),
        revisions=[revision],
        revised_hours=1,
        rejected_records=0,
        syncs=[sync],
        findings=[SimpleNamespace(account=text, severity="warning", message=text)],
    )


@settings(max_examples=50)
@given(st.text(alphabet=st.one_of(st.sampled_from("<>&\"'/-! script"), st.characters())))
def test_text_never_becomes_markup(text: str) -> None:
    def markup(text: str) -> list[tuple[str, list[str]]]:
        read = Page(render_page(report_named(text), lambda: SCRIPT))
        return [(tag, [*attributes]) for tag, attributes in read.elements]

    assert markup(text) == markup("a name")


def test_the_page_loads_nothing_and_its_policy_allows_only_its_own_script(filled: Insert, warehouse: sa.Engine) -> None:
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


def test_the_shipped_script_is_exactly_what_the_bundler_makes() -> None:
    assert vega.FILE.read_text("utf-8") == vega.bundle()


def test_the_page_is_accessible(filled: Insert, warehouse: sa.Engine) -> None:
    """It has a title, a language and headings in order; every chart has a description, every table a caption."""
    read = Page(html(warehouse))
    tags = [tag for tag, _ in read.elements]
    assert ("html", {"lang": "en"}) in read.elements
    assert tags.count("title") == tags.count("h1") == tags.count("main") == 1
    assert tags.count("caption") == tags.count("table")
    charts = [attributes for _, attributes in read.elements if attributes.get("class", "").startswith("chart ")]
    assert {chart["id"] for chart in charts} == {*chart_rows(html(warehouse))}
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


# ---------------------------------------------------------------- the command


@pytest.fixture
def environment(filled: Insert, tmp_path: Path) -> Environment:
    return Environment({}, tmp_path)


@pytest.mark.of_the_file
def test_the_command_replaces_the_file_only_with_a_whole_page_that_contains_its_script(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    (environment.folder / "report.html").write_text("the old page")
    assert run(["report", "-o", "report.html", "--account", "default", "--days", "5000"], environment) == 2
    assert run(["report", "-o", "report.html", "--account", "nobody"], environment) == 2
    assert (environment.folder / "report.html").read_text() == "the old page"
    assert run(["report", "-o", "report.html", "--account", "default"], environment) == 0
    text = (environment.folder / "report.html").read_text()
    assert text.endswith("</html>\n")
    assert "report.html (" in capsys.readouterr().out
    assert sorted(file.suffix for file in environment.folder.iterdir()) == [".duckdb", ".html"]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert "vegaEmbed" in script
    assert "://cdn" not in text
    (policy,) = [attributes["content"] for _, attributes in Page(text).elements if attributes.get("http-equiv")]
    assert f"script-src 'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


@pytest.mark.of_the_file
def test_open_shows_the_page_in_a_browser(
    filled: Insert, warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    environment = Environment({}, tmp_path)
    assert run(["report", "--warehouse", str(warehouse.url), "-o", "page.html", "--open"], environment) == 0
    assert opened == [(tmp_path / "page.html").as_uri()]


@pytest.mark.of_the_file
@pytest.mark.parametrize("where", ["warehouse.duckdb", "link.html", "warehouse.duckdb.default.lock"])
def test_the_page_never_overwrites_the_warehouse(
    environment: Environment, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (environment.folder / "link.html").symlink_to(environment.folder / "warehouse.duckdb")
    before = (environment.folder / "warehouse.duckdb").read_bytes()
    assert run(["report", "-o", where], environment) == 2
    assert "hint: choose another file with -o" in capsys.readouterr().err
    assert (environment.folder / "warehouse.duckdb").read_bytes() == before


@pytest.mark.of_the_file
def test_a_dash_writes_only_the_page_to_standard_output(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "-o", "-"], environment) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!doctype html>")
    assert out.endswith("</html>\n")


@pytest.mark.of_the_file
def test_without_the_extra_the_command_says_how_to_install_it(warehouse: sa.Engine, tmp_path: Path) -> None:
    without = "import sys; sys.modules['jinja2'] = None"
    program = f"{without}; from etl.cli import run; sys.exit(run(['report', '-o', 'r.html']))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "hint: pip install '.[report]' in the folder of the repository" in done.stderr
    assert not (tmp_path / "r.html").exists()

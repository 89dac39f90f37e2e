"""Superset on the published copy: every view a dataset, its charts DuckDB's numbers, while the copy is renewed
beneath it."""

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest

from etl.clock import Clock
from etl.outputs.publish import publish, resolve_target
from etl.warehouse import views
from tests.extended.environment import environment
from tests.extended.superset_server import Superset
from tests.integration.sample_warehouse import Bank, rows

pytestmark = pytest.mark.extended

VIEWS = views.public_views()
PUBLISHES = 100
READERS = 3

_TEMPORAL = 2
"""Superset's number for the columns that are times."""

SuccessPayload = Counter[tuple[object, ...]]

ORIGINAL = (
    "create table original_facts as from internal.facts; create table original_days as from internal.day_coverage"
)

SCALED = """
begin;
delete from internal.facts;
insert into internal.facts select * replace (money * {by} as money) from original_facts;
delete from internal.day_coverage;
insert into internal.day_coverage select * replace (money * {by} as money, unattributed_money * {by} as unattributed_money) from original_days;
commit
"""
"""Every hour costs so many times what it did: the books stay in balance, and no sum of one state is a sum of
another."""


class Chart(NamedTuple):
    """What is summed of a view and by what; ``by_day`` is a time to be shown with the grain of a day."""

    view: str
    summed: tuple[str, ...]
    by: tuple[str, ...] = ()
    by_day: str | None = None

    @property
    def sql(self) -> str:
        keys = [*([f"date_trunc('day', {self.by_day})"] if self.by_day else []), *self.by]
        sums = [f"sum({column})" for column in self.summed]
        return f"select {', '.join([*keys, *sums])} from {self.view} group by {', '.join(keys)}"

    def asked(self, dataset: int) -> dict[str, Any]:
        """The same as Superset's pages ask for it."""
        day = {
            "columnType": "BASE_AXIS",
            "expressionType": "SQL",
            "timeGrain": "P1D",
            "sqlExpression": self.by_day,
            "label": "day",
        }
        sums = [
            {"expressionType": "SIMPLE", "aggregate": "SUM", "column": {"column_name": name}} for name in self.summed
        ]
        return _context(dataset, [*([day] if self.by_day else []), *self.by], sums)


CHARTS = [
    Chart("spending_hourly", ("money", "volume"), by_day="hour_start"),
    Chart("spending_hourly", ("money", "volume"), by=("account", "queue"), by_day="hour_start"),
    Chart("spending_daily", ("money", "volume"), by=("queue",)),
    Chart("spending_monthly", ("money", "volume"), by=("queue", "is_final")),
    Chart("spending_total_hourly", ("money", "volume"), by_day="hour_start"),
    Chart("spending_by_app_daily", ("money", "volume"), by=("soft_id",)),
    Chart("spending_by_ip_daily", ("money", "volume"), by=("ip",), by_day="day"),
    Chart("coverage_daily", ("money", "unattributed_money"), by=("status",), by_day="day"),
    Chart("reconciliation_hourly", ("total_money", "queues_money", "rest_money"), by=("state",)),
]


class Dashboard(NamedTuple):
    """Superset, connected to the published copy: a dataset for each view."""

    superset: Superset
    datasets: dict[str, int]
    bank: Bank
    copy: Path

    def told(self, asked: dict[str, Any]) -> SuccessPayload:
        """The rows of a chart, read from the database and not from a cache."""
        [result] = self.superset.post("chart/data", asked)["result"]
        kinds = dict(zip(result["colnames"], result["coltypes"], strict=True))
        return Counter(tuple(_read(row[name], kind) for name, kind in kinds.items()) for row in result["data"])

    def draw(self, chart: Chart) -> SuccessPayload:
        return self.told(chart.asked(self.datasets[chart.view]))


def _context(dataset: int, columns: list[Any], metrics: list[Any]) -> dict[str, Any]:
    query = {"columns": columns, "metrics": metrics, "row_limit": 50_000, "orderby": []}
    return {"datasource": {"id": dataset, "type": "table"}, "queries": [query], "force": True, "result_type": "full"}


def published(bank: Bank) -> Path:
    return publish(bank.url, resolve_target(bank.url, bank.folder / "bi"), Clock(), wait=60).path


def expected(copy: Path, sql: str) -> SuccessPayload:
    """What DuckDB itself says, with times as Superset writes them: milliseconds since 1970, UTC."""
    return Counter(tuple(map(_written, row)) for row in rows(copy, sql))


def _written(value: object) -> object:
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        return Decimal((moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)) / 1000
    return value


def _read(value: Any, kind: int) -> object:
    """Superset's times are floats and right to a quarter of a microsecond; all else is taken as it comes."""
    return round(value, 3) if kind == _TEMPORAL and value is not None else value


@pytest.fixture(scope="module")
def dashboard(synced: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    programs = environment("superset", (3, 10), (3, 12))
    bank = Bank(tmp_path_factory.mktemp("bank"))
    shutil.copy(synced, bank.file)
    bank.write(ORIGINAL)
    (bank.folder / "bi").mkdir()
    copy = published(bank)
    url = f"duckdb:///{copy}?access_mode=read_only"
    with Superset(programs, tmp_path_factory.mktemp("superset")) as superset:
        made = superset.post("database/", {"database_name": "Anti-Captcha", "sqlalchemy_uri": url})
        about = {"database": made["id"], "schema": "warehouse.main"}
        datasets = {view.name: superset.post("dataset/", {**about, "table_name": view.name})["id"] for view in VIEWS}
        yield Dashboard(superset, datasets, bank, copy)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_is_a_dataset_with_its_columns_and_their_comments_and_gives_its_rows(
    dashboard: Dashboard, view: views.View
) -> None:
    dataset = dashboard.datasets[view.name]
    columns = dashboard.superset.get(f"dataset/{dataset}")["result"]["columns"]
    assert {column["column_name"]: column["description"] for column in columns} == view.columns
    kinds = {name: kind for name, kind, *_ in rows(dashboard.copy, f"describe {view.name}")}
    assert {column["column_name"] for column in columns if column["is_dttm"]} == {
        name for name, kind in kinds.items() if kind in {"DATE", "TIMESTAMP"}
    }
    assert {column["column_name"]: column["type"] for column in columns if column["type"].startswith("NUMERIC")} == {
        name: "NUMERIC(18, 9)" for name, kind in kinds.items() if kind == "DECIMAL(18,9)"
    }
    names = [*view.columns]
    told = dashboard.told(_context(dataset, names, []))
    assert told == expected(dashboard.copy, f"select distinct {', '.join(names)} from {view.name}") != Counter()


def test_charts_are_one_published_state_to_the_last_digit_while_a_writer_publishes_a_hundred_times(
    dashboard: Dashboard,
) -> None:
    states: dict[Chart, list[SuccessPayload]] = {chart: [expected(dashboard.copy, chart.sql)] for chart in CHARTS}
    done = Event()

    def read(first: int) -> list[tuple[Chart, SuccessPayload]]:
        drawn, turn = [], first
        while not (done.is_set() and turn - first >= len(CHARTS)):
            chart = CHARTS[turn % len(CHARTS)]
            drawn.append((chart, dashboard.draw(chart)))
            turn += 1
        return drawn

    with ThreadPoolExecutor(READERS) as readers:
        snapshot = [readers.submit(read, first) for first in range(READERS)]
        try:
            for state in range(1, PUBLISHES + 1):
                dashboard.bank.write(SCALED.format(by=1000 * state + 1))
                published(dashboard.bank)
                for chart in CHARTS:
                    states[chart].append(expected(dashboard.copy, chart.sql))
        finally:
            done.set()
        told = [one.result() for one in snapshot]

    seen = [[states[chart].index(drawn) for chart, drawn in one] for one in told]  # a torn read is none of them
    assert [one for one in seen if one != sorted(one)] == []  # nor does anyone go back
    print(f"\n{PUBLISHES} publishes, {sum(map(len, seen))} charts drawn, {len(set().union(*seen))} states seen")
    assert len(set().union(*seen)) > PUBLISHES // 4
    assert all(dashboard.draw(chart) == states[chart][-1] for chart in CHARTS)

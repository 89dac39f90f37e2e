"""Superset reads the published copy: each view is a dataset, charts have exact numbers, also while it is replaced."""

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
from tests.integration.sample_warehouse import SampleWarehouse, rows

pytestmark = pytest.mark.extended

VIEWS = views.public_views()
PUBLISHES = 100
READERS = 3

_TIME_TYPE = 2
"""Superset's number for columns with dates and times."""

Rows = Counter[tuple[object, ...]]

SAVE_ORIGINAL = (
    "create table original_facts as from internal.facts; create table original_days as from internal.day_coverage"
)

SCALE_MONEY = """
begin;
delete from internal.facts;
insert into internal.facts select * replace (money * {by} as money) from original_facts;
delete from internal.day_coverage;
insert into internal.day_coverage select * replace (money * {by} as money, unattributed_money * {by} as unattributed_money) from original_days;
commit
"""
"""Multiplies all money by a factor, so that members still add up to totals and each state has other sums."""


class Chart(NamedTuple):
    """Sums over a view, grouped by columns; ``by_day`` is a time column that is truncated to days."""

    view: str
    summed: tuple[str, ...]
    by: tuple[str, ...] = ()
    by_day: str | None = None

    @property
    def sql(self) -> str:
        keys = [*([f"date_trunc('day', {self.by_day})"] if self.by_day else []), *self.by]
        sums = [f"sum({column})" for column in self.summed]
        return f"select {', '.join([*keys, *sums])} from {self.view} group by {', '.join(keys)}"

    def request_body(self, dataset: int) -> dict[str, Any]:
        """The same query as Superset's pages send it."""
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
        return _chart_query(dataset, [*([day] if self.by_day else []), *self.by], sums)


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
    """Superset, connected to the published copy, with a dataset for each view."""

    superset: Superset
    datasets: dict[str, int]
    sample: SampleWarehouse
    copy: Path

    def post_chart(self, body: dict[str, Any]) -> Rows:
        """The rows of a chart, from the database and not from a cache."""
        [result] = self.superset.post("chart/data", body)["result"]
        kinds = dict(zip(result["colnames"], result["coltypes"], strict=True))
        return Counter(tuple(_rounded(row[name], kind) for name, kind in kinds.items()) for row in result["data"])

    def query(self, chart: Chart) -> Rows:
        return self.post_chart(chart.request_body(self.datasets[chart.view]))


def _chart_query(dataset: int, columns: list[Any], metrics: list[Any]) -> dict[str, Any]:
    query = {"columns": columns, "metrics": metrics, "row_limit": 50_000, "orderby": []}
    return {"datasource": {"id": dataset, "type": "table"}, "queries": [query], "force": True, "result_type": "full"}


def publish_sample(sample: SampleWarehouse) -> Path:
    return publish(sample.url, resolve_target(sample.url, sample.folder / "bi"), Clock(), wait=60).path


def expected(copy: Path, sql: str) -> Rows:
    """The rows in DuckDB, with times as Superset writes them: milliseconds since 1970, UTC."""
    return Counter(tuple(map(_as_superset, row)) for row in rows(copy, sql))


def _as_superset(value: object) -> object:
    if isinstance(value, date):
        time_value = value if isinstance(value, datetime) else datetime.combine(value, time())
        return Decimal((time_value - datetime(1970, 1, 1)) // timedelta(microseconds=1)) / 1000
    return value


def _rounded(value: Any, kind: int) -> object:
    """Superset returns times as floats with an error of up to a quarter of a microsecond; other values are exact."""
    return round(value, 3) if kind == _TIME_TYPE and value is not None else value


@pytest.fixture(scope="module")
def dashboard(synced: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    programs = environment("superset", (3, 10), (3, 12))
    sample = SampleWarehouse(tmp_path_factory.mktemp("sample"))
    shutil.copy(synced, sample.file)
    sample.write(SAVE_ORIGINAL)
    (sample.folder / "bi").mkdir()
    copy = publish_sample(sample)
    url = f"duckdb:///{copy}?access_mode=read_only"
    with Superset(programs, tmp_path_factory.mktemp("superset")) as superset:
        database = superset.post("database/", {"database_name": "Anti-Captcha", "sqlalchemy_uri": url})
        common = {"database": database["id"], "schema": "warehouse.main"}
        datasets = {view.name: superset.post("dataset/", {**common, "table_name": view.name})["id"] for view in VIEWS}
        yield Dashboard(superset, datasets, sample, copy)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_each_view_is_a_dataset_with_its_rows_columns_and_comments(dashboard: Dashboard, view: views.View) -> None:
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
    found = dashboard.post_chart(_chart_query(dataset, names, []))
    assert found == expected(dashboard.copy, f"select distinct {', '.join(names)} from {view.name}") != Counter()


def test_charts_show_exactly_one_published_state_while_a_hundred_copies_are_published(
    dashboard: Dashboard,
) -> None:
    states: dict[Chart, list[Rows]] = {chart: [expected(dashboard.copy, chart.sql)] for chart in CHARTS}
    done = Event()

    def read(first: int) -> list[tuple[Chart, Rows]]:
        results, turn = [], first
        while not (done.is_set() and turn - first >= len(CHARTS)):
            chart = CHARTS[turn % len(CHARTS)]
            results.append((chart, dashboard.query(chart)))
            turn += 1
        return results

    with ThreadPoolExecutor(READERS) as readers:
        futures = [readers.submit(read, first) for first in range(READERS)]
        try:
            for state in range(1, PUBLISHES + 1):
                dashboard.sample.write(SCALE_MONEY.format(by=1000 * state + 1))
                publish_sample(dashboard.sample)
                for chart in CHARTS:
                    states[chart].append(expected(dashboard.copy, chart.sql))
        finally:
            done.set()
        results = [future.result() for future in futures]

    # A mix of two states is in no list. Readers never go back to an earlier state.
    seen = [[states[chart].index(found) for chart, found in one] for one in results]
    assert [one for one in seen if one != sorted(one)] == []
    print(f"\n{PUBLISHES} publishes, {sum(map(len, seen))} charts read, {len(set().union(*seen))} states seen")
    assert len(set().union(*seen)) > PUBLISHES // 4
    assert all(dashboard.query(chart) == states[chart][-1] for chart in CHARTS)

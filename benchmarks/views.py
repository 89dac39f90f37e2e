"""Cost of the views against SQL written by hand on the tables.

Both run in turn through the engine that `query` uses and must return the same rows. The SQL by hand is what someone
who knows the tables would write for this one question: without `is_final` and without prices.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import sqlalchemy as sa

from benchmarks.figure import Figure
from benchmarks.history import NEWEST, NOW, QUARTER, YEARS, Shape, fill
from etl.warehouse import checks
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade
from etl.warehouse.reading import ConnectionReader

ROUNDS = 9
_OF_QUEUES = (
    "internal.facts f join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id "
    "where s.dimension = 'queue'"
)
_QUEUE = "coalesce(s.member, '(unattributed)')"


class Question(NamedTuple):
    """A question as two queries. ``max_ratio``: limit of the time of the view by that of the tables; None: no limit."""

    name: str
    max_ratio: float | None
    view: str
    by_hand: str


QUESTIONS = (
    Question(
        "the last 90 days, by day and queue", 1.5,
        "select day, queue, sum(volume), sum(money) from spending_daily "
        f"where day > date '{NEWEST}' - 90 group by day, queue",
        f"select f.day, {_QUEUE}, sum(f.volume), sum(f.money) from {_OF_QUEUES} "
        f"and f.day > date '{NEWEST}' - 90 group by 1, 2",
    ),
    Question(
        "the whole history, by month", 3,
        "select month, sum(volume), sum(money) from spending_monthly group by month",
        "select cast(date_trunc('month', day) as date), sum(volume), sum(money) "
        f"from (select f.day, sum(f.volume) as volume, sum(f.money) as money from {_OF_QUEUES} group by f.day) d "
        "group by 1",
    ),
    Question(
        "the whole history, by month and queue", 3,
        "select month, queue, sum(volume), sum(money) from spending_monthly group by month, queue",
        "select cast(date_trunc('month', day) as date), queue, sum(volume), sum(money) "
        f"from (select f.day, {_QUEUE} as queue, sum(f.volume) as volume, sum(f.money) as money "
        f"from {_OF_QUEUES} group by 1, 2) d "
        "group by 1, 2",
    ),
    Question(
        "the whole history, by day", None,
        "select day, sum(volume), sum(money) from spending_daily group by day",
        f"select f.day, sum(f.volume), sum(f.money) from {_OF_QUEUES} group by 1",
    ),
    Question(
        "one queue, by day", None,
        "select day, sum(volume), sum(money) from spending_daily where queue = 'FunCaptcha' group by day",
        f"select f.day, sum(f.volume), sum(f.money) from {_OF_QUEUES} and s.member = 'FunCaptcha' group by 1",
    ),
    Question(
        "the newest 90 days, by day and queue", None,
        "select day, queue, sum(volume), sum(money) from spending_daily "
        "where day > (select max(day) - 90 from coverage_daily) group by day, queue",
        f"select f.day, {_QUEUE}, sum(f.volume), sum(f.money) from {_OF_QUEUES} "
        "and f.day > (select max(day) - 90 from internal.day_coverage) "
        "group by 1, 2",
    ),
    Question(
        "every hour, summed", None,
        "select sum(volume), sum(money) from spending_hourly",
        f"select sum(f.volume), sum(f.money) from {_OF_QUEUES}",
    ),
    Question(
        "days by status", None,
        "select status, count(*), sum(money) from coverage_daily group by status",
        "select status, count(*), sum(money) from internal.day_coverage group by status",
    ),
    Question(
        "the unattributed amount of every hour, summed", None,
        "select sum(total_money), sum(rest_money) from reconciliation_hourly",
        "select sum(case when s.dimension = 'total' then f.money end), "
        "sum(case when s.dimension = 'queue' then f.money end) "
        "from internal.facts f join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id "
        "where s.dimension = 'total' or (s.dimension = 'queue' and s.member is null)",
    ),
)  # fmt: skip


class Cost(NamedTuple):
    """Medians, in seconds."""

    view: float
    by_hand: float

    @property
    def ratio(self) -> float:
        return self.view / self.by_hand


def compare(connection: sa.Connection, question: Question) -> Cost:
    """Measure both queries. Raises ValueError if they return different rows."""
    spent: dict[str, list[float]] = {question.view: [], question.by_hand: []}
    for number in range(1 + ROUNDS):
        answers = []
        for sql, seconds in spent.items():
            began = perf_counter()
            answers.append(connection.exec_driver_sql(sql).all())
            if number:  # the first round has cold caches
                seconds.append(perf_counter() - began)
        if len({tuple(sorted(map(tuple, rows))) for rows in answers}) != 1:
            raise ValueError(f"the view and the tables differ: {question.name}")
    return Cost(*map(median, spent.values()))


def measured(file: Path, shape: Shape) -> dict[Question, Cost]:
    """Fill a new warehouse and measure every question. Raises ValueError if a check fails."""
    url = warehouse_url(str(file))
    engine = open_warehouse(url)
    upgrade(engine)
    with engine.begin() as connection:
        facts = fill(connection, shape)
    print(f"\n{facts:,} facts, {shape.accounts} accounts of {shape.days} days, {file.stat().st_size / 1e6:.0f} MB")
    with open_warehouse(url, read_only=True).connect() as connection:
        for broken in checks.run(ConnectionReader(connection), NOW).failures:
            raise ValueError(broken.finding.message)
        return {question: compare(connection, question) for question in QUESTIONS}


def measure(*, short: bool) -> Iterator[Figure]:
    """With --short every query takes milliseconds, so nothing is required of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        costs = measured(Path(folder) / "warehouse.duckdb", QUARTER if short else YEARS)
    for question, cost in costs.items():
        yield Figure(f"view: {question.name}", cost.ratio, None if short else question.max_ratio, floor="by hand")

"""Every recipe of the cookbook compared with results that this module computes in Python from the API's own data."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import psycopg
import pytest
import sqlalchemy as sa

from etl.outputs import cookbook
from etl.outputs.publish import publish
from etl.outputs.query import run
from etl.sandbox.dataset import Dataset
from etl.warehouse.engine import warehouse_url
from tests.e2e.world import NOW, TODAY, UNATTRIBUTED, Hours, World, ago, clock_without_waiting, warehouse_in
from tests.migrated_file import copy_migrated
from tests.postgres import migrated, new_database, run_sql

pytestmark = pytest.mark.contract

Row = tuple[Any, ...]
Measures = tuple[int, Decimal]
QueryRows = Callable[[str, str, str], list[Row]]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOTHING = (0, Decimal(0))
EARLIER = datetime(2026, 11, 15, 9, 30, tzinfo=UTC)
"""When the first account was synced before: a Sunday, so that the Monday after it is the last one before today."""
MONDAY = datetime(2026, 11, 16)
NEWEST = datetime(2026, 11, 22, 9)
"""The running hour, the newest one in the warehouse."""
APP = "1011"
MARKED = {date(2026, 11, 3): "failed", date(2026, 11, 4): "missing", date(2026, 11, 9): "missing"}
"""Statuses that the test sets for days of the second account."""


class Account(NamedTuple):
    """The API's own data of an account, and how far back it was loaded."""

    name: str
    hours: Hours
    then: Hours
    first: date
    last_final: date
    app: dict[date, Measures]

    def is_final(self, day: date) -> bool:
        return day <= self.last_final and not (self.name == "other" and day in MARKED)

    @property
    def days(self) -> list[date]:
        return [self.first + n * DAY for n in range((TODAY - self.first).days + 1)]

    def total(self) -> dict[datetime, Measures]:
        """Return every hour that was loaded."""
        start = datetime(self.first.year, self.first.month, self.first.day)
        sums = {start + n * HOUR: NOTHING for n in range((NEWEST - start) // HOUR + 1)}
        for (_, hour), value in self.hours.items():
            sums[hour] = plus(sums[hour], value)
        return sums

    def by(self, key: Callable[[date], Any]) -> dict[tuple[Any, str], Measures]:
        """Return sums by ``key(day)`` and queue."""
        return summed(((key(hour.date()), queue), value) for (queue, hour), value in self.hours.items())

    def by_day(self) -> dict[date, Measures]:
        """Return the totals of every day that was loaded."""
        return summed(
            [*((day, NOTHING) for day in self.days), *((hour.date(), value) for (_, hour), value in self.hours.items())]
        )


@dataclass(frozen=True)
class Filled:
    url: str
    accounts: tuple[Account, ...]

    def run_recipe(self, name: str) -> list[Row]:
        return self.run(cookbook.find(name).sql)

    def run(self, sql: str) -> list[Row]:
        with run(self.url, sql) as result:
            return [tuple(row) for row in result.rows]


@pytest.fixture(scope="session")
def filled_by_engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Filled]:
    """The filled warehouse of an engine, loaded once."""
    return cache(lambda engine_name: load(tmp_path_factory.mktemp("cookbook"), engine_name))


@pytest.fixture
def filled(filled_by_engine: Callable[[str], Filled], engine_name: str) -> Filled:
    return filled_by_engine(engine_name)


def load(folder: Path, engine_name: str) -> Filled:
    """Load two accounts into one warehouse: a steady one with corrections, a pause, an app and a queue that ended, and a
    young one with gaps."""
    url = new_database() if engine_name == "postgresql" else warehouse_in(folder)
    finished_queue = ("FunCaptcha", ago(96), ago(70))
    steady = Dataset(
        seed=4, begins=ago(96), queues=("FunCaptcha", "Recaptcha Proxyless", "Square Net Task"), lives=(finished_queue,), turnover=False,
        idle=((ago(40), ago(39)),), idle_hours=0, idle_weeks=0, corrections=True,
    )  # fmt: skip
    patchy = Dataset(
        seed=7,
        begins=ago(30),
        queues=("FunCaptcha", "A queue of our own"),
        turnover=False,
        idle_hours=60,
        idle_weeks=0,
        places=9,
    )
    with World(folder, steady, now=EARLIER) as world:
        world.warehouse = url
        for moment in (EARLIER, NOW):
            world.now = moment
            assert world.sync(lookback=8, soft_ids=(APP,)).exit_code == 0  # corrections end seven days after their hour
        then = steady.expected_rows(ago(200), EARLIER.date(), EARLIER)
        default = Account(
            "default",
            world.expected_rows(),
            {(queue, hour.replace(tzinfo=None)): (volume, money) for queue, hour, volume, money in then},
            world.one("select min(day) from coverage_daily"),
            ago(9),
            {day: in_app(steady, day) for day in (ago(n) for n in range(97))},
        )
    with World(folder, patchy) as world:
        world.warehouse = url
        assert world.sync(key="f" * 32, account="other").exit_code == 0
        hours = {
            (UNATTRIBUTED if queue.startswith("A ") else queue, hour): value
            for (queue, hour), value in world.expected_rows().items()
        }
        first = world.one("select min(day) from coverage_daily where account = 'other'")
        other = Account("other", hours, {}, first, ago(4), {})
        for day, status in MARKED.items():
            on_day = (
                f"where day = '{day}' and account_id = (select account_id from internal.accounts where name = 'other')"
            )
            assert world.rows(f"update internal.day_coverage set status = '{status}' {on_day} returning 1") == [(1,)]
    return Filled(url, (default, other))


def in_app(dataset: Dataset, day: date) -> Measures:
    sums = NOTHING
    for value in dataset.day((day - date(1970, 1, 1)).days, int(NOW.timestamp()), soft_id=int(APP)):
        sums = plus(sums, value)
    return sums


# ---------------------------------------------------------------- arithmetic


def plus(one: Measures, other: Measures) -> Measures:
    return one[0] + other[0], one[1] + other[1]


def summed(parts: Iterable[tuple[Any, Measures]]) -> dict[Any, Measures]:
    sums: defaultdict[Any, Measures] = defaultdict(lambda: NOTHING)
    for key, value in parts:
        sums[key] = plus(sums[key], value)
    return dict(sums)


def rounded(number: Decimal, places: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def price(value: Measures) -> Decimal | None:
    return rounded(value[1] * 1000 / value[0], 9) if value[0] else None


def percent(part: Decimal | int, totals: Decimal | int) -> Decimal | None:
    return rounded(Decimal(part) / Decimal(totals) * 100, 2) if totals else None


def quantile(values: Iterable[Decimal], part: Fraction = Fraction(1, 2)) -> Decimal:
    """Return the smallest value that is at least as large as this share of all values."""
    ordered = sorted(values)
    return ordered[ceil(part * len(ordered)) - 1]


def month(day: date) -> date:
    return day.replace(day=1)


def week(day: date) -> date:
    return day - day.weekday() * DAY


def costliest_first(sums: dict[tuple[date, str], Measures]) -> list[tuple[tuple[date, str], Measures]]:
    """Sort by period, newest first, then by money, largest first."""
    return sorted(sums.items(), key=lambda item: (-item[0][0].toordinal(), -item[1][1], item[0][1]))


# ---------------------------------------------------------------- the expected results


def spend_by_day_and_queue(account: Account) -> Iterator[Row]:
    for (day, queue), value in costliest_first(account.by(lambda day: day)):
        if day > ago(30):
            yield account.name, day, queue, *value, price(value), account.is_final(day)


def spend_by_week_and_queue(account: Account) -> Iterator[Row]:
    for (monday, queue), value in costliest_first(account.by(week)):
        yield account.name, monday, queue, *value, price(value)


def spend_by_month_and_queue(account: Account) -> Iterator[Row]:
    for (first, queue), value in costliest_first(account.by(month)):
        yield account.name, first, queue, *value, price(value), first < month(TODAY)


def spend_by_local_day(account: Account) -> Iterator[Row]:
    """The recipe uses UTC unless it is edited."""
    return local_days(account, ZoneInfo("UTC"))


def local_days(account: Account, zone: ZoneInfo) -> Iterator[Row]:
    hours = defaultdict(list)
    for hour, value in account.total().items():
        hours[hour.replace(tzinfo=UTC).astimezone(zone).date()].append(value)
    for day in sorted(hours, reverse=True):
        yield account.name, day, len(hours[day]), *summed((day, value) for value in hours[day])[day]


def price_per_1000_by_week(account: Account) -> Iterator[Row]:
    sums = account.by(week)
    for queue in sorted({queue for _, queue in sums}):
        weeks = sorted(monday for monday, other in sums if other == queue and sums[monday, queue][0])
        prices = [price(sums[monday, queue]) or Decimal(0) for monday in weeks]
        changes = [None, *(percent(now - before, before) for before, now in pairwise(prices))]
        for monday, now, change in reversed(list(zip(weeks, prices, changes, strict=True))):
            yield account.name, queue, monday, sums[monday, queue][0], now, change


def queue_shares_by_month(account: Account) -> Iterator[Row]:
    totals = summed((first, value) for (first, _), value in account.by(month).items())
    for (first, queue), (volume, money) in costliest_first(account.by(month)):
        shares = percent(money, totals[first][1]), percent(volume, totals[first][0])
        yield account.name, first, queue, money, shares[0], volume, shares[1]


def hour_of_week_pattern(account: Account) -> Iterator[Row]:
    slots = defaultdict(list)
    for hour, value in account.total().items():
        if NEWEST - 56 * DAY <= hour < NEWEST:
            slots[hour.isoweekday(), hour.hour].append(value)
    for (weekday, of_day), values in sorted(slots.items()):
        total = summed((0, value) for value in values)[0]
        yield account.name, weekday, of_day, len(values), *total, quantile(money for _, money in values)


def month_to_date_with_forecast(account: Account) -> Iterator[Row]:
    days = {day: money for day, (_, money) in account.by_day().items()}
    first_spend = min(day for day, money in days.items() if money)
    so_far = sum((money for day, money in days.items() if month(day) == month(TODAY)), Decimal(0))
    ratios = []
    for day in map(ago, range(1, 8)):
        same_weekday = [
            other for other in days if other.weekday() == day.weekday() and max(first_spend, ago(91)) <= other < TODAY
        ]
        if middle := quantile(days[other] for other in same_weekday):
            ratios.append(days[day] / middle)
    is_lasting = max(sum(one > 1 for one in ratios), sum(one < 1 for one in ratios)) >= 6
    level = rounded(quantile(ratios), 9) if is_lasting else Decimal(1)
    forecasts = []
    for part in (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)):
        forecast = so_far
        for n in range(9):  # the 22nd to the 30th of November
            day = TODAY + n * DAY
            before = [day - 7 * weeks * DAY for weeks in range(1, 15)]
            comparable = [days[other] for other in before if max(first_spend, ago(91)) <= other < TODAY]
            forecast += max(quantile(comparable, part) * level - days.get(day, Decimal(0)), Decimal(0))
        forecasts.append(rounded(forecast, 2))
    assert so_far < forecasts[0] < forecasts[1] < forecasts[2]
    yield account.name, month(TODAY), TODAY, so_far, *forecasts


def month_to_date_against_last_month(account: Account) -> Iterator[Row]:
    days = {day: money for day, (_, money) in account.by_day().items()}
    for n in range(1, TODAY.day + 1):
        now = sum((days[date(2026, 11, k)] for k in range(1, n + 1)), Decimal(0))
        last = [days.get(date(2026, 10, k)) for k in range(1, n + 1)]
        before = None if last[-1] is None else sum((money for money in last if money is not None), Decimal(0))
        yield account.name, date(2026, 11, n), now, before, None if before is None else now - before


def change_against_the_week_before(account: Account) -> Iterator[Row]:
    def which(day: date) -> str:
        return "now" if ago(7) <= day < TODAY else "before" if ago(14) <= day < ago(7) else "never"

    sums = account.by(which)
    rows = []
    for queue in {queue for period, queue in sums if period != "never"}:
        before, now = sums.get(("before", queue), NOTHING), sums.get(("now", queue), NOTHING)
        change = now[1] - before[1]
        old = price(before)
        tasks = change if old is None else rounded(old * (now[0] - before[0]) / 1000, 9)
        rows.append(
            (
                account.name,
                queue,
                before[0],
                now[0],
                before[1],
                now[1],
                change,
                tasks,
                change - tasks,
                percent(change, before[1]),
            )
        )
    yield from sorted(rows, key=lambda row: (-abs(row[6]), row[1]))


def unusual_hours(account: Account) -> Iterator[Row]:
    recent = {hour: value for hour, value in account.total().items() if NEWEST - 56 * DAY <= hour < NEWEST}
    for hour, value in sorted(recent.items(), reverse=True):
        comparable = [money for other, (_, money) in recent.items() if other.hour == hour.hour]
        usual = quantile(comparable)
        distance = quantile(abs(money - usual) for money in comparable)
        if distance and abs(value[1] - usual) > 6 * distance:
            yield account.name, hour, *value, usual, distance, rounded((value[1] - usual) / distance, 1)


def idle_stretches(account: Account) -> Iterator[Row]:
    total = account.total()
    first_spend = min(hour for hour, value in total.items() if value != NOTHING)
    periods: list[list[datetime]] = []
    for hour in sorted(hour for hour, value in total.items() if value == NOTHING and hour > first_spend):
        if periods and periods[-1][1] == hour:
            periods[-1][1] = hour + HOUR
        else:
            periods.append([hour, hour + HOUR])
    for start, end in sorted(periods, key=lambda period: (period[1] - period[0], period[0]), reverse=True)[:10]:
        yield account.name, start, end, (end - start) // HOUR


def busiest_stretches(account: Account) -> Iterator[Row]:
    total = account.total()
    best: dict[date, Row] = {}
    for hour in total:
        if hour + 23 * HOUR in total:
            volume, money = summed((0, total[hour + n * HOUR]) for n in range(24))[0]
            if money > best.get(month(hour.date()), (0, 0, 0, 0, 0, Decimal(0)))[5]:
                best[month(hour.date())] = account.name, month(hour.date()), hour, hour + DAY, volume, money
    yield from (best[first] for first in sorted(best, reverse=True))


def changed_since_last_monday(account: Account) -> Iterator[Row]:
    def by_day(hours: Hours) -> dict[Any, Measures]:
        return summed(((hour.date(), queue), value) for (queue, hour), value in hours.items() if hour < MONDAY)

    then, now = by_day(account.then), by_day(account.hours)
    for day, queue in sorted({*then, *now}, key=lambda key: (-key[0].toordinal(), key[1])):
        before, after = then.get((day, queue), NOTHING), now.get((day, queue), NOTHING)
        if before != after:
            yield account.name, day, queue, before[0], after[0], before[1], after[1], after[1] - before[1]


def how_late_numbers_change(account: Account) -> Iterator[Row]:
    then = summed((hour, value) for (_, hour), value in account.then.items())
    total, changes = account.total(), defaultdict(list)
    for hour, (volume, money) in then.items():
        if hour + HOUR <= EARLIER.replace(tzinfo=None) and total[hour] != (volume, money):
            changes[(TODAY - hour.date()).days].append((total[hour][0] - volume, total[hour][1] - money))
    for days, each in sorted(changes.items()):
        yield (
            account.name,
            days,
            len(each),
            *summed((0, change) for change in each)[0],
            max(abs(money) for _, money in each),
        )


def coverage_by_month(account: Account) -> Iterator[Row]:
    marked = MARKED if account.name == "other" else {}
    statuses = {day: marked.get(day, "final" if day <= account.last_final else "open") for day in account.days}
    totals = summed((month(day), value) for day, value in account.by_day().items())
    unattributed = {first: money for (first, queue), (_, money) in account.by(month).items() if queue == UNATTRIBUTED}
    for first in sorted(totals, reverse=True):
        counts = [sum(status == name and month(day) == first for day, status in statuses.items()) for name in STATUSES]
        left = unattributed.get(first, Decimal(0))
        yield account.name, first, *counts, totals[first][1], left, percent(left, totals[first][1])


STATUSES = ("final", "open", "missing", "failed")


def queues_that_came_and_went(account: Account) -> Iterator[Row]:
    rows = []
    for queue in {queue for queue, _ in account.hours}:
        days = {hour.date() for other, hour in account.hours if other == queue}
        total = summed((0, value) for (other, _), value in account.hours.items() if other == queue)[0]
        rows.append((account.name, queue, min(days), max(days), len(days), (TODAY - max(days)).days, *total))
    yield from sorted(rows, key=lambda row: (-row[3].toordinal(), -row[7], row[1]))


def spend_by_app_and_month(account: Account) -> Iterator[Row]:
    if not account.app:
        return
    totals = summed((month(day), value) for day, value in account.by_day().items())
    apps = summed((month(day), value) for day, value in account.app.items())
    for first in sorted(apps, reverse=True):
        unattributed = totals[first][0] - apps[first][0], totals[first][1] - apps[first][1]
        for soft_id, value in sorted([(int(APP), apps[first]), (None, unattributed)], key=lambda item: -item[1][1]):
            yield account.name, first, soft_id, *value, price(value), percent(value[1], totals[first][1])


def focus_cost_and_usage(account: Account) -> Iterator[Row]:
    for (queue, hour), (volume, money) in sorted(
        account.hours.items(), key=lambda item: (NEWEST - item[0][1], item[0][0])
    ):
        description = f"{queue}, {volume} tasks"
        final = account.is_final(hour.date())
        yield (
            "USD", "Usage", description, "Usage-Based", hour + HOUR, hour, volume, "Tasks", money, "Anti-Captcha", "Anti-Captcha", "Other",
            queue, account.name, final,
        )  # fmt: skip


def focus_1_2_conformant(account: Account) -> Iterator[Row]:
    for (queue, hour), (volume, money) in sorted(
        account.hours.items(), key=lambda item: (NEWEST - item[0][1], item[0][0])
    ):
        month = hour.replace(day=1, hour=0)
        yield (
            money, account.name, account.name, "Prepaid account", "USD", (month + timedelta(days=31)).replace(day=1), month,
            "Usage", None, f"{queue}, {volume} tasks", "Usage-Based", hour + HOUR, hour, volume, "Tasks", money, money, None,
            "Anti-Captcha", money, "Standard", volume, "Tasks", "Anti-Captcha", "Anti-Captcha", "Other", queue, "Other (Other)",
            account.is_final(hour.date()),
        )  # fmt: skip


def where_a_number_came_from(account: Account) -> Iterator[Row]:
    """Only the numbers; ``test_history`` checks the response they come from."""
    hours_of_day = {key: value for key, value in account.hours.items() if key[1].date() == account.last_final}
    for (queue, hour), value in sorted(hours_of_day.items(), key=lambda item: item[0][::-1]):
        yield account.name, queue, hour, *value


EXPECTED: Mapping[str, Callable[[Account], Iterator[Row]]] = {
    function.__name__: function
    for function in (
        focus_1_2_conformant, spend_by_day_and_queue, spend_by_week_and_queue, spend_by_month_and_queue, spend_by_local_day, price_per_1000_by_week,
        queue_shares_by_month, hour_of_week_pattern, month_to_date_with_forecast, month_to_date_against_last_month,
        change_against_the_week_before, unusual_hours, idle_stretches, busiest_stretches, changed_since_last_monday,
        how_late_numbers_change, coverage_by_month, queues_that_came_and_went, spend_by_app_and_month, focus_cost_and_usage,
        where_a_number_came_from,
    )
} | {"focus_1_4_conformant": focus_1_2_conformant}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_each_recipe_returns_the_expected_rows_of_two_accounts(filled: Filled, name: str) -> None:
    rows = filled.run_recipe(name)
    expected = [row for account in filled.accounts for row in EXPECTED[name](account)]
    assert expected
    assert [row[: len(expected[0])] for row in rows] == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_local_days_use_the_time_zone_in_the_first_line_of_the_query(filled: Filled, zone: str) -> None:
    sql = in_zone(zone)
    assert f"select '{zone}' as name" in sql
    expected = [row for account in filled.accounts for row in local_days(account, ZoneInfo(zone))]
    changes = {"Europe/Berlin": date(2026, 10, 25), "America/New_York": date(2026, 11, 1)}  # clocks go back an hour
    assert 25 in {hours for _, day, hours, *_ in expected if day == changes[zone]}
    assert filled.run(sql) == expected


def in_zone(zone: str) -> str:
    sql = cookbook.find("spend_by_local_day").sql
    assert sql.partition("\nwith ")[2].startswith("time_zone as (select 'UTC' as name),\n")
    return sql.replace("select 'UTC' as name", f"select '{zone}' as name")


def test_a_published_copy_gives_the_same_results(filled: Filled, tmp_path: Path) -> None:
    copy = publish(filled.url, tmp_path / "copy.duckdb", clock_without_waiting(lambda: NOW), wait=0, force=True)
    published = Filled(warehouse_url(str(copy.path)), ())
    for name in EXPECTED.keys() - {"where_a_number_came_from"}:
        assert published.run_recipe(name) == filled.run_recipe(name), name


def test_every_recipe_has_an_expected_result() -> None:
    assert sorted(EXPECTED) == [recipe.name for recipe in cookbook.load()]


# ---------------------------------------------------------------- special cases


RECIPES = pytest.mark.parametrize("recipe", cookbook.load(), ids=lambda recipe: recipe.name)


@pytest.fixture
def empty(engine_name: str, tmp_path: Path) -> str:
    """The URL of an empty warehouse."""
    if engine_name == "postgresql":
        return new_database(like=migrated())
    copy_migrated(tmp_path / "warehouse.duckdb")
    return warehouse_in(tmp_path)


@RECIPES
def test_recipes_return_no_rows_on_an_empty_warehouse(empty: str, recipe: cookbook.SavedQuery) -> None:
    with run(empty, recipe.sql) as result:
        assert list(result.rows) == []


_ON_A_SERVER = {"text": "VARCHAR", "timestamp": "TIMESTAMP", "bool": "BOOLEAN", "int4": "INTEGER", "int8": "BIGINT"}


def types_of(url: str, sql: str) -> dict[str, str]:
    """Return the columns of a query with their DuckDB types."""
    if url.startswith("duckdb"):
        with run(url, f"describe {sql}") as result:
            return {str(name): str(kind) for name, kind, *_ in result.rows}
    with psycopg.connect(
        sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        columns = connection.execute(sql.encode()).description or []
    kinds = {column.name: column.type_display.replace("numeric", "decimal").replace(", ", ",") for column in columns}
    return {name: _ON_A_SERVER.get(kind, kind.upper()) for name, kind in kinds.items()}


@RECIPES
def test_no_column_has_a_float_or_a_time_zone(empty: str, recipe: cookbook.SavedQuery) -> None:
    types = types_of(empty, recipe.sql)
    assert set(types.values()) <= {"VARCHAR", "DATE", "TIMESTAMP", "BOOLEAN", "INTEGER", "BIGINT", *decimals(types)}


def decimals(types: dict[str, str]) -> set[str]:
    """Return the decimal types; money has nine places, and a server's numeric has as many places as its values."""
    assert all(
        kind in ("DECIMAL(18,9)", "DECIMAL")
        for name, kind in types.items()
        if "money" in name and "percent" not in name
    )
    return {kind for kind in types.values() if kind.startswith("DECIMAL")}


@pytest.fixture
def query_rows(engine_name: str) -> QueryRows:
    """``query_rows(sql, view, rows)``: the result of a recipe or of ``sql`` when ``view`` has exactly these rows."""

    def in_a_file(sql: str, view: str, rows: str) -> list[Row]:
        with duckdb.connect() as connection:
            connection.execute(f"create table {view} as {rows}")
            return connection.execute(sql if " " in sql else cookbook.find(sql).sql).fetchall()

    def on_server(sql: str, view: str, rows: str) -> list[Row]:
        return run_sql(
            new_database(), f"create table {view} as {rows}; {sql if ' ' in sql else cookbook.find(sql).sql}"
        )

    return on_server if engine_name == "postgresql" else in_a_file


def test_the_day_when_clocks_go_forward_has_23_hours(query_rows: QueryRows) -> None:
    hours = """
        select 'a' as account, hour_start, cast(1 as bigint) as volume, cast('0.1' as decimal(18, 9)) as money
        from generate_series(timestamp '2026-03-27 23:00', timestamp '2026-03-30 21:00', interval '1 hour') t(hour_start)
    """
    assert [row[1:4] for row in query_rows(in_zone("Europe/Berlin"), "spending_total_hourly", hours)] == [
        (date(2026, 3, 30), 24, 24),
        (date(2026, 3, 29), 23, 23),
        (date(2026, 3, 28), 24, 24),
    ]


def days(first: str, last: str, money: str) -> str:
    return f"""
        select 'a' as account, cast(day as date) as day, cast(day as timestamp) as fetched_at, cast(1 as bigint) as volume,
               cast({money} as decimal(18, 9)) as money
        from generate_series(timestamp '{first}', timestamp '{last}', interval '1 day') t(day)
    """


def test_there_is_no_forecast_while_a_coming_weekday_has_no_data(query_rows: QueryRows) -> None:
    six, seven = days("2026-11-02", "2026-11-08", "'1'"), days("2026-11-02", "2026-11-09", "'1'")
    so_far = date(2026, 11, 8), Decimal(7)
    assert query_rows("month_to_date_with_forecast", "coverage_daily", six) == [
        ("a", date(2026, 11, 1), *so_far, None, None, None)
    ]
    thirty_but_one = Decimal(29)  # the first of the month was not loaded
    [(*_, low, middle, high)] = query_rows("month_to_date_with_forecast", "coverage_daily", seven)
    assert (low, middle, high) == (thirty_but_one, thirty_but_one, thirty_but_one)


def test_a_day_above_its_usual_cost_is_forecast_at_its_cost_so_far(query_rows: QueryRows) -> None:
    spent = days("2026-10-01", "2026-11-30", "case day when date '2026-11-30' then '50' else '2' end")
    [(*_, so_far, low, middle, high)] = query_rows("month_to_date_with_forecast", "coverage_daily", spent)
    assert so_far == low == middle == high == Decimal(108)


def test_an_hour_that_was_not_loaded_ends_an_idle_period(query_rows: QueryRows) -> None:
    hours = """
        select 'a' as account, hour_start, hour_start + interval '1 hour' as hour_end, 0 as volume,
               case extract(hour from hour_start) when 0 then 1.0 else 0.0 end as money
        from generate_series(timestamp '2026-03-01 00:00', timestamp '2026-03-01 09:00', interval '1 hour') t(hour_start)
        where extract(hour from hour_start) <> 4
    """
    assert [row[1:] for row in query_rows("idle_stretches", "spending_total_hourly", hours)] == [
        (datetime(2026, 3, 1, 5), datetime(2026, 3, 1, 10), 5),
        (datetime(2026, 3, 1, 1), datetime(2026, 3, 1, 4), 3),
    ]


def test_a_period_with_an_hour_that_was_not_loaded_is_not_the_busiest(query_rows: QueryRows) -> None:
    hours = """
        select 'a' as account, hour_start, cast(1 as bigint) as volume,
               cast(case hour_start when timestamp '2026-03-02 11:00' then 100 else 1 end as decimal(18, 9)) as money
        from generate_series(timestamp '2026-03-01 12:00', timestamp '2026-03-03 12:00', interval '1 hour') t(hour_start)
        where hour_start not in (timestamp '2026-03-02 10:00', timestamp '2026-03-02 12:00')
    """
    quiet = datetime(2026, 3, 2, 13), datetime(2026, 3, 3, 13), 24, Decimal(24)
    assert [row[2:] for row in query_rows("busiest_stretches", "spending_total_hourly", hours)] == [quiet]


def test_a_correction_counts_once_and_not_again_for_its_queues(query_rows: QueryRows) -> None:
    corrections = """
        select 'a' as account, queue, timestamp '2026-03-01 23:00' as hour_start, volume_before, money_before, volume_after,
               money_after, timestamp '2026-03-03 01:00' as seen_at
        from (values ('(total)', 5, 5.0, 3, 3.5), ('FunCaptcha', 2, 2.0, 1, 1.0), ('Square Net Task', 3, 3.0, 2, 2.5))
             t(queue, volume_before, money_before, volume_after, money_after)
    """
    assert query_rows("how_late_numbers_change", "spending_revisions", corrections) == [
        ("a", 2, 1, -2, Decimal("-1.5"), Decimal("1.5"))
    ]

"""``python -m tests.backtest.ahead``: errors of the month's forecast and of the runway, over account-years.

Both are computed by the product's own SQL, over a real DuckDB file.
"""

import random
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import duckdb

from etl.outputs import cookbook
from tests.backtest.accounts import BEGINS, TEMPERAMENTS, WARM_UP, YEAR, account_year
from tests.migrated_file import copy_migrated

YEARS = 10
MONTH_DAYS = (5, 10, 20)
EMPTY_DAYS = (3, 7, 14)
JUMP = "jump"
"""A weekly account whose level rises or falls for good in the month that is forecast."""

NAMES = (*TEMPERAMENTS, JUMP)
_HOUR = timedelta(hours=1)


class Case(NamedTuple):
    """An account as it was known at an hour: ``known`` hours of spend, and what it turned out to be."""

    name: str
    horizon: int
    known: list[float]
    actual: float


def hourly(name: str, seed: str) -> list[float]:
    """US dollars by hour, without incidents."""
    if name != JUMP:
        return account_year(name, seed, per_year=0).money
    money = account_year("weekly", seed, per_year=0).money
    draw = random.Random(f"jump {seed}")
    for month in range(2, 12):
        first, factor = WARM_UP + month * 30 * 24 + draw.randrange(24 * 4), draw.choice((0.4, 0.5, 2.0, 2.5))
        money[first:] = [factor * one for one in money[first:]]
    return money


def hour_of(day: date) -> int:
    return (day - BEGINS.date()).days * 24


def month_cases(years: int) -> Iterator[Case]:
    for name in NAMES:
        for number in range(years):
            money = hourly(name, f"ahead-{number}")
            first = date(2025, 4 + number % 9, 1)
            end = (first + timedelta(days=31)).replace(day=1)
            spent = sum(money[hour_of(first) : hour_of(end)])
            for day in MONTH_DAYS:
                now = hour_of(first + timedelta(days=day - 1)) + 3
                yield Case(name, day, money[:now], spent)


def runway_cases(years: int) -> Iterator[Case]:
    for name in NAMES:
        for number in range(years):
            money = hourly(name, f"ahead-{number}")
            for days in EMPTY_DAYS:
                now = WARM_UP + YEAR // 4 + number * 600 + 3
                yield Case(name, days, money[:now], sum(money[now : now + 24 * days]))


def load(file: Path, cases: list[Case], weeks: int) -> None:
    """One account for each case, with the totals of the last weeks; its balance is what was spent until it was empty."""
    with duckdb.connect(str(file)) as connection, tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "facts.csv"
        with rows.open("w") as out:
            for number, case in enumerate(cases, 1):
                first = max(0, len(case.known) - weeks * 168)
                for hour in range(first, len(case.known)):
                    at = BEGINS.replace(tzinfo=None) + hour * _HOUR
                    out.write(
                        f"{number},1,{at:%Y-%m-%d},{at:%Y-%m-%d %H:%M:%S},1,{case.known[hour]:.9f},1,2027-01-01\n"
                    )
        connection.execute("insert into internal.accounts (account_id, name, key_salt, key_hash, created_at) "
                           "select n, 'case ' || n, '', '', now() from range(1, ?) t(n)", [len(cases) + 1])  # fmt: skip
        connection.execute(
            "insert into internal.series select n, 1, 'total', null from range(1, ?) t(n)", [len(cases) + 1]
        )
        connection.execute(f"insert into internal.facts select * from read_csv('{rows}', header = false)")
        connection.execute("""
            insert into internal.day_coverage
            select account_id, day, 'final', cast(day as timestamp) + interval '2 days', sum(volume), sum(money), 0, 0, true, true
            from internal.facts group by account_id, day""")
        balances = [
            [
                number,
                datetime.combine(BEGINS.date(), datetime.min.time()) + len(case.known) * _HOUR,
                round(case.actual, 9),
            ]
            for number, case in enumerate(cases, 1)
        ]
        connection.executemany("insert into internal.balances values (?, 1, ?, ?, null)", balances)


def rows(file: Path, sql: str) -> dict[str, tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return {row[0]: row[1:] for row in connection.execute(sql).fetchall()}


def forecast_errors(years: int) -> dict[tuple[str, int], list[float]]:
    """|forecast / actual - 1| by name and day of the month."""
    cases = list(month_cases(years))
    with tempfile.TemporaryDirectory() as folder:
        file = copy_migrated(Path(folder) / "warehouse.duckdb")
        load(file, cases, 14)
        found = rows(
            file,
            f"select account, forecast from ({cookbook.find('month_to_date_with_forecast').sql.rstrip().removesuffix(';')})",
        )
    errors: dict[tuple[str, int], list[float]] = {}
    for number, case in enumerate(cases, 1):
        [forecast] = found[f"case {number}"]
        errors.setdefault((case.name, case.horizon), []).append(abs(float(forecast) / case.actual - 1))
    return errors


def runway_errors(years: int) -> dict[tuple[str, int], list[tuple[float, bool]]]:
    """Days between the expected and the actual end, and whether the range has it, by name and days before it."""
    cases = [case for case in runway_cases(years) if case.actual > 0]
    with tempfile.TemporaryDirectory() as folder:
        file = copy_migrated(Path(folder) / "warehouse.duckdb")
        load(file, cases, 5)
        found = rows(file, "select account, days_by_7_days, days_low, days_high from runway")
    errors: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    for number, case in enumerate(cases, 1):
        days, low, high = found.get(f"case {number}", (None, None, None))
        if days is not None and low is not None:
            is_in = float(low) <= case.horizon and (high is None or case.horizon <= float(high))
            errors.setdefault((case.name, case.horizon), []).append((abs(float(days) - case.horizon), is_in))
    return errors


def main() -> None:
    forecasts = forecast_errors(YEARS)
    print("| Temperament | Day 5 | Day 10 | Day 20 |\n| --- | ---: | ---: | ---: |")
    for name in NAMES:
        print(f"| {name} | " + " | ".join(f"{median(forecasts[name, day]):.1%}" for day in MONTH_DAYS) + " |")
    runways = runway_errors(YEARS)
    print("\n| Temperament | 3 days before | 7 days | 14 days | in the range |\n| --- | ---: | ---: | ---: | ---: |")
    for name in NAMES:
        found = [runways.get((name, days), []) for days in EMPTY_DAYS]
        every = [is_in for one in found for _, is_in in one]
        errors = " | ".join(f"{median(error for error, _ in one):.1f}" if one else "-" for one in found)
        print(f"| {name} | {errors} | {sum(every) / max(1, len(every)):.0%} |")


if __name__ == "__main__":
    main()

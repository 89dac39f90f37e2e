"""Days of a time zone: their sums are those of the hours, also where clocks change or hours begin at minute 30 or 45."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from etl.outputs import cookbook
from etl.outputs.report.data import DayCoverage
from etl.outputs.report.metrics import complete_days
from etl.warehouse.schema import accounts, day_coverage, facts, series
from tests.integration.conftest import Insert
from tests.integration.test_views import select

pytestmark = pytest.mark.contract

ZONES = {
    "UTC": (date(2026, 3, 5), 24),
    "Europe/Istanbul": (date(2026, 3, 5), 24),
    "America/New_York": (date(2026, 3, 8), 23),
    "Asia/Kolkata": (date(2026, 3, 5), 24),
    "Pacific/Chatham": (date(2026, 4, 5), 25),
}
"""A day of each, and how many hours it has."""
AUTUMN = ("America/New_York", date(2026, 11, 1), 25)
BEGINS = {"spring": datetime(2026, 3, 1), "autumn": datetime(2026, 10, 25)}
HOURS = 24 * 45


@pytest.fixture
def hours(insert: Insert, warehouse: sa.Engine) -> dict[datetime, Decimal]:
    """Money by UTC hour: each hour has another amount, so that a sum shows which hours it has."""
    insert(accounts, {"account_id": 1, "name": "default"})
    insert(series, {"account_id": 1, "series_id": 2, "dimension": "queue", "member": "FunCaptcha"})
    spent = {
        begins + timedelta(hours=number): Decimal(number + 1) * Decimal("0.000000001") + Decimal(2) ** (number % 24)
        for begins in BEGINS.values()
        for number in range(HOURS if begins.month == 3 else 24 * 14)
    }
    rows = [
        {
            "account_id": 1,
            "series_id": 2,
            "day": hour.date(),
            "hour_start": hour,
            "volume": 1,
            "money": money,
            "loaded_at": hour,
            "snapshot_id": 1,
        }
        for hour, money in spent.items()
    ]
    with warehouse.begin() as connection:
        connection.execute(sa.insert(facts), rows)
    insert(
        day_coverage,
        *({"account_id": 1, "day": day, "status": "final"} for day in sorted({hour.date() for hour in spent})),
    )
    return spent


def by_hand(hours: dict[datetime, Decimal], zone: str) -> dict[date, tuple[int, Decimal]]:
    sums: dict[date, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for hour, money in hours.items():
        day = hour.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
        sums[day] = sums[day][0] + 1, sums[day][1] + money
    return sums


@pytest.mark.parametrize(("zone", "day", "number"), [*((zone, *one) for zone, one in ZONES.items()), AUTUMN])
def test_a_local_day_has_its_hours_and_their_exact_sum(
    hours: dict[datetime, Decimal], warehouse: sa.Engine, zone: str, day: date, number: int
) -> None:
    rows = select(warehouse, f"select day, volume, money, is_final from spending_daily_in('{zone}')")
    found = {row[0]: (row[1], row[2]) for row in rows}
    assert found == by_hand(hours, zone)
    assert found[day][0] == number
    assert all(row[3] for row in rows)
    assert sum(money for _, money in found.values()) == sum(hours.values())


def test_columns_and_utc_rows_are_those_of_spending_daily(hours: dict[datetime, Decimal], warehouse: sa.Engine) -> None:
    columns = "account, queue, day, volume, money, price_per_1000, is_final"
    for name in ("spending_daily", "spending_daily_in('UTC')"):
        assert len(select(warehouse, f"select * from {name} limit 1")[0]) == 7
    assert select(warehouse, f"select {columns} from spending_daily order by day") == select(
        warehouse, f"select {columns} from spending_daily_in('UTC') order by day"
    )


def test_recipes_over_days_use_the_zone(hours: dict[datetime, Decimal], warehouse: sa.Engine) -> None:
    expected = by_hand(hours, "America/New_York")
    rows = select(warehouse, cookbook.find("spend_by_week_and_queue").sql_in("America/New_York"))
    assert sum(row[4] for row in rows) == sum(money for _, money in expected.values())
    first_week = {row[1]: row[4] for row in rows}[date(2026, 3, 2)]
    assert first_week == sum(expected[date(2026, 3, day)][1] for day in range(2, 9))
    for query in cookbook.load():
        assert query.sql_in("UTC") == query.sql
        select(
            warehouse,
            query.sql_in("Asia/Kolkata").replace("%", "%%")
            if warehouse.dialect.name != "duckdb"
            else query.sql_in("Asia/Kolkata"),
        )


def test_a_local_day_is_complete_if_all_its_utc_days_are() -> None:
    days = [date(2026, 3, day) for day in range(5, 8)]
    read = datetime(2026, 3, 9, tzinfo=UTC)
    coverage = [DayCoverage("a", day, "final", read, 0, Decimal(0)) for day in days]
    assert complete_days(coverage, {"a": days[0]}) == {*days}
    assert complete_days(coverage, {"a": days[0]}, "Europe/Istanbul") == {*days[1:]}
    assert complete_days(coverage, {"a": days[0]}, "America/New_York") == {*days[:-1]}

"""The exact values of the views that analysts read, over rows inserted by the tests."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.warehouse import views
from etl.warehouse.schema import accounts, day_coverage, facts, over_allocated_hours, rejections, revisions, series

pytestmark = pytest.mark.contract

Insert = Callable[..., None]

DAY = date(2026, 3, 14)
NOON = datetime(2026, 3, 14, 12)
SEEN = datetime(2026, 3, 20)
NANO = Decimal("0.000000001")

COLUMNS = {
    "spending_hourly": {
        "account": "VARCHAR", "queue": "VARCHAR", "hour_start": "TIMESTAMP", "hour_end": "TIMESTAMP", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "currency": "VARCHAR", "is_final": "BOOLEAN", "loaded_at": "TIMESTAMP",
        "day": "DATE",
    },
    "spending_daily": {
        "account": "VARCHAR", "queue": "VARCHAR", "day": "DATE", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "price_per_1000": "DECIMAL(18,9)", "is_final": "BOOLEAN",
    },
    "spending_monthly": {
        "account": "VARCHAR", "queue": "VARCHAR", "month": "DATE", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "price_per_1000": "DECIMAL(18,9)", "is_final": "BOOLEAN",
    },
    "spending_total_hourly": {
        "account": "VARCHAR", "hour_start": "TIMESTAMP", "hour_end": "TIMESTAMP", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "is_final": "BOOLEAN", "day": "DATE",
    },
    "coverage_daily": {
        "account": "VARCHAR", "day": "DATE", "status": "VARCHAR", "fetched_at": "TIMESTAMP", "unattributed_volume": "BIGINT",
        "unattributed_money": "DECIMAL(18,9)", "volume": "BIGINT", "money": "DECIMAL(18,9)", "contradicted_hours": "BIGINT",
    },
    "spending_by_app_daily": {
        "account": "VARCHAR", "soft_id": "BIGINT", "day": "DATE", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "price_per_1000": "DECIMAL(18,9)", "is_final": "BOOLEAN",
    },
    "spending_by_ip_daily": {
        "account": "VARCHAR", "ip": "VARCHAR", "day": "DATE", "volume": "BIGINT",
        "money": "DECIMAL(18,9)", "price_per_1000": "DECIMAL(18,9)", "is_final": "BOOLEAN",
    },
    "reconciliation_hourly": {
        "account": "VARCHAR", "day": "DATE", "hour_start": "TIMESTAMP", "hour_end": "TIMESTAMP", "total_volume": "BIGINT",
        "total_money": "DECIMAL(18,9)", "queues_volume": "BIGINT", "queues_money": "DECIMAL(18,9)", "rest_volume": "BIGINT",
        "rest_money": "DECIMAL(18,9)", "state": "VARCHAR",
    },
    "spending_revisions": {
        "account": "VARCHAR", "queue": "VARCHAR", "hour_start": "TIMESTAMP", "volume_before": "BIGINT",
        "money_before": "DECIMAL(18,9)", "volume_after": "BIGINT", "money_after": "DECIMAL(18,9)", "seen_at": "TIMESTAMP",
        "day": "DATE",
    },
    "spending_rejections": {
        "account": "VARCHAR", "queue": "VARCHAR", "day": "DATE", "reason": "VARCHAR", "raw": "VARCHAR", "seen_at": "TIMESTAMP",
        "hour_start": "TIMESTAMP",
    },
}  # fmt: skip


@pytest.fixture
def two_accounts(insert: Insert) -> Insert:
    """Accounts that use the same numbers: a join without account_id mixes them up."""
    insert(accounts, {"account_id": 1, "name": "default"}, {"account_id": 2, "name": "other"})
    insert(
        series,
        {"account_id": 1, "series_id": 1, "dimension": "total"},
        {"account_id": 1, "series_id": 2, "dimension": "queue"},
        {"account_id": 1, "series_id": 3, "dimension": "queue", "member": "FunCaptcha"},
        {"account_id": 1, "series_id": 4, "dimension": "app", "member": "77"},
        {"account_id": 1, "series_id": 5, "dimension": "app"},
        {"account_id": 1, "series_id": 6, "dimension": "ip", "member": "192.0.2.10"},
        {"account_id": 1, "series_id": 7, "dimension": "ip"},
        {"account_id": 2, "series_id": 1, "dimension": "queue", "member": "Other"},
        {"account_id": 2, "series_id": 3, "dimension": "total"},
    )
    return insert


def fact(series_id: int, hour_start: datetime, volume: int, money: str, account_id: int = 1) -> dict[str, object]:
    hour = {"day": hour_start.date(), "hour_start": hour_start, "loaded_at": SEEN}
    return {"account_id": account_id, "series_id": series_id, "volume": volume, "money": Decimal(money), **hour}


def select(engine: sa.Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


_ON_A_SERVER = {"text": "VARCHAR", "timestamp without time zone": "TIMESTAMP", "numeric(18,9)": "DECIMAL(18,9)"}
"""PostgreSQL's names of types, where they are not DuckDB's in lower case."""


def described(engine: sa.Engine, view: str) -> list[tuple[str, str, str]]:
    """Name, type and comment of each column, in order."""
    if engine.dialect.name == "duckdb":
        columns = f"select column_name, data_type, comment from duckdb_columns() where table_name = '{view}' order by column_index"
        return [(name, kind, comment) for name, kind, comment in select(engine, columns)]
    columns = (
        "select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute "
        f"where attrelid = '{view}'::regclass and attnum > 0 order by attnum"
    )
    return [(name, _ON_A_SERVER.get(kind, kind.upper()), comment) for name, kind, comment in select(engine, columns)]


@pytest.mark.parametrize("view", COLUMNS)
def test_columns_come_in_the_promised_order_and_types(warehouse: sa.Engine, view: str) -> None:
    assert [(name, kind) for name, kind, _ in described(warehouse, view)] == list(COLUMNS[view].items())


_COMMENT = {
    "duckdb": "select comment from duckdb_views() where view_name = '{}'",
    "postgresql": "select obj_description('{}'::regclass)",
}


@pytest.mark.parametrize("view", views.public_views(), ids=lambda view: view.name)
def test_every_view_and_column_has_its_comment_in_the_database(warehouse: sa.Engine, view: views.View) -> None:
    assert select(warehouse, _COMMENT[warehouse.dialect.name].format(view.name)) == [(view.comment,)]
    comments = [(name, comment) for name, _, comment in described(warehouse, view.name)]
    assert comments == list(view.columns.items())
    assert all(comment for _, comment in comments)


def test_each_hour_with_spend_is_one_row_of_its_own_account(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(
        day_coverage, {"account_id": 1, "day": DAY, "status": "final"}, {"account_id": 2, "day": DAY, "status": "open"}
    )
    two_accounts(
        facts,
        fact(1, NOON, 5, "1.5"),
        fact(2, NOON, 2, "0.5"),
        fact(3, NOON, 3, "1"),
        fact(3, NOON + timedelta(hours=1), 0, "0"),
        fact(3, NOON + timedelta(hours=2), 0, "-0.000000001"),
        fact(4, NOON, 5, "1.5"),
        fact(1, NOON, 9, "9", account_id=2),
        fact(3, NOON, 9, "9", account_id=2),
    )
    one, three = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    assert select(warehouse, "select * from spending_hourly order by account, queue, hour_start") == [
        ("default", "(unattributed)", NOON, one, 2, Decimal("0.5"), "USD", True, SEEN, DAY),
        ("default", "FunCaptcha", NOON, one, 3, Decimal(1), "USD", True, SEEN, DAY),
        ("default", "FunCaptcha", NOON + timedelta(hours=2), three, 0, -NANO, "USD", True, SEEN, DAY),
        ("other", "Other", NOON, one, 9, Decimal(9), "USD", False, SEEN, DAY),
    ]


def test_totals_include_hours_without_spend_and_a_day_without_status_is_not_final(
    two_accounts: Insert, warehouse: sa.Engine
) -> None:
    two_accounts(facts, fact(1, NOON, 0, "0"), fact(3, NOON, 1, "1"))
    assert select(warehouse, "select * from spending_total_hourly") == [
        ("default", NOON, NOON + timedelta(hours=1), 0, Decimal(0), False, DAY)
    ]


def test_hours_count_towards_their_stored_day(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(day_coverage, {"account_id": 1, "day": DAY, "status": "final"})
    two_accounts(
        facts,
        {**fact(3, datetime(2026, 3, 13, 23, 45), 1, "0.1"), "day": DAY},
        fact(3, NOON, 2, "0.2"),
        fact(3, NOON + timedelta(days=1), 0, "4"),
        fact(1, NOON, 7, "7"),
    )
    assert select(warehouse, "select * from spending_daily order by day") == [
        ("default", "FunCaptcha", DAY, 3, Decimal("0.3"), Decimal(100), True),
        ("default", "FunCaptcha", DAY + timedelta(days=1), 0, Decimal(4), None, False),
    ]


def test_sums_too_large_for_a_float_are_exact(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(facts, fact(3, NOON, 2**53, "9007199.254740993"), fact(3, NOON + timedelta(hours=1), 1, "0.000000001"))
    for view in ("spending_daily", "spending_monthly"):
        assert select(warehouse, f"select volume, money from {view}") == [(2**53 + 1, Decimal("9007199.254740994"))]


values = st.tuples(
    st.one_of(st.integers(0, 20), st.integers(0, 10**12)),
    st.one_of(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(-(10**7), 10**7)).map(lambda nanos: nanos * NANO),
)
halves = st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)).map(
    lambda pair: (2000 * pair[0], (2 * pair[1] + 1) * pair[0] * NANO)
)


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.one_of(values, halves), min_size=20, max_size=80))
@pytest.mark.parametrize(("view", "grain"), [("spending_daily", "day"), ("spending_monthly", "month")])
def test_the_price_is_the_exact_quotient_rounded_once(
    two_accounts: Insert, warehouse: sa.Engine, view: str, grain: str, spent: list[tuple[int, Decimal]]
) -> None:
    firsts = [date(2000 + number // 12, number % 12 + 1, 1) for number in range(len(spent))]
    with warehouse.begin() as connection:
        connection.execute(sa.delete(facts))
        connection.execute(
            sa.insert(facts).values(
                [
                    {**fact(3, datetime(day.year, day.month, 1), volume, f"{money:f}"), "snapshot_id": 1}
                    for day, (volume, money) in zip(firsts, spent, strict=True)
                ]
            )
        )
    prices = dict(select(warehouse, f"select {grain}, price_per_1000 from {view}"))
    for day, (volume, money) in zip(firsts, spent, strict=True):
        if volume or money:
            fits = volume > 0 and abs(money) / volume < 999_999
            with localcontext(prec=60):
                exact = (money * 1000 / volume).quantize(NANO, ROUND_HALF_UP) if fits else None
            assert prices[day] == exact, (volume, money)


def whole_month(status: str = "final", first: int = 1, last: int = 31) -> list[dict[str, object]]:
    return [{"account_id": 1, "day": date(2026, 3, number), "status": status} for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("days", "is_final"),
    [
        (whole_month(), True),
        (whole_month(first=14), True),  # history begins on the 14th
        (whole_month(last=30), False),  # not over, or not requested
        ([*whole_month(last=30), *whole_month("open", 31)], False),
        ([*whole_month(last=9), *whole_month("missing", 10, 10), *whole_month(first=11)], False),
        ([*whole_month(last=9), *whole_month("failed", 10, 10), *whole_month(first=11)], False),
        ([*whole_month(last=9), *whole_month(first=11)], False),  # a gap without even a row
        ([], False),
    ],
)
def test_a_month_is_final_when_none_of_its_days_may_still_change(
    two_accounts: Insert, warehouse: sa.Engine, days: list[dict[str, object]], is_final: bool
) -> None:
    two_accounts(day_coverage, *days, {"account_id": 2, "day": DAY, "status": "open"})
    two_accounts(facts, fact(3, NOON, 1, "0.001"), fact(3, NOON + timedelta(days=2), 1, "0.002"))
    assert select(warehouse, "select * from spending_monthly") == [
        ("default", "FunCaptcha", date(2026, 3, 1), 2, Decimal("0.003"), Decimal("1.5"), is_final)
    ]


def test_hours_days_and_months_sum_to_the_same(two_accounts: Insert, warehouse: sa.Engine) -> None:
    spent = [(s, NOON + timedelta(hours=7 * n), n, f"{n / 8 - 1}") for s in (2, 3) for n in range(200)]
    two_accounts(facts, *(fact(*row) for row in spent))
    whole = [(sum(n for _, _, n, _ in spent), sum((Decimal(money) for *_, money in spent), Decimal(0)))]
    for view in ("spending_hourly", "spending_daily", "spending_monthly"):
        assert select(warehouse, f"select cast(sum(volume) as bigint), sum(money) from {view}") == whole


def test_coverage_shows_what_is_stored_of_each_day(two_accounts: Insert, warehouse: sa.Engine) -> None:
    values = {"volume": 9, "money": Decimal("2.5"), "unattributed_volume": 4, "unattributed_money": Decimal("0.5")}
    two_accounts(day_coverage, {"account_id": 1, "day": DAY, "status": "open", "fetched_at": SEEN, **values})
    assert select(warehouse, "select * from coverage_daily") == [
        ("default", DAY, "open", SEEN, 4, Decimal("0.5"), 9, Decimal("2.5"), 0)
    ]


def exceeding(series_id: int, hour_start: datetime, volume: int, money: str, account_id: int = 1) -> dict[str, object]:
    hour = {"day": hour_start.date(), "hour_start": hour_start}
    return {"account_id": account_id, "series_id": series_id, "volume": volume, "money": Decimal(money), **hour}


def test_an_hour_over_allocated_in_two_dimensions_counts_once(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(
        day_coverage,
        *({"account_id": account, "day": DAY} for account in (1, 2)),
        {"account_id": 1, "day": DAY + timedelta(1)},
    )
    two_accounts(
        over_allocated_hours,
        exceeding(2, NOON, 9, "9"),
        exceeding(5, NOON, 9, "9"),
        exceeding(5, NOON + timedelta(hours=1), 9, "9"),
    )
    rows = select(warehouse, "select account, day, contradicted_hours from coverage_daily order by account, day")
    assert rows == [("default", DAY, 2), ("default", DAY + timedelta(1), 0), ("other", DAY, 0)]


def test_only_what_the_api_itself_changed_is_a_correction(two_accounts: Insert, warehouse: sa.Engine) -> None:
    change = {
        "account_id": 1,
        "day": DAY,
        "hour_start": NOON,
        "volume_before": 1,
        "money_before": Decimal(1),
        "volume_after": 2,
        "seen_at": SEEN,
    }
    for number in (1, 2, 3, 4):
        two_accounts(revisions, {**change, "series_id": number, "cause": "correction"})
        for hours, cause in enumerate(("late_arriving", "attribution"), 1):
            later = {"hour_start": NOON + timedelta(hours=hours)}
            two_accounts(revisions, {**change, **later, "series_id": number, "cause": cause})
    row = (NOON, 1, Decimal(1), 2, Decimal(0), SEEN, DAY)
    assert select(warehouse, "select * from spending_revisions order by queue") == [
        ("default", "(total)", *row),
        ("default", "(unattributed)", *row),
        ("default", "FunCaptcha", *row),
    ]


def test_rejections_name_the_queue_that_was_requested(two_accounts: Insert, warehouse: sa.Engine) -> None:
    refused = {"account_id": 1, "day": DAY, "reason": "negative volume", "raw": "{}", "seen_at": SEEN}
    two_accounts(rejections, *({**refused, "series_id": number, "hour_start": NOON} for number in (1, 3, 4)))
    row = (DAY, "negative volume", "{}", SEEN, NOON)
    assert select(warehouse, "select * from spending_rejections order by queue nulls last") == [
        ("default", "(total)", *row),
        ("default", "FunCaptcha", *row),
        ("default", None, *row),
    ]


@pytest.mark.parametrize(
    ("view", "member", "its", "unattributed"),
    [("spending_by_app_daily", 77, 4, 5), ("spending_by_ip_daily", "192.0.2.10", 6, 7)],
)
def test_apps_and_addresses_with_their_unattributed_amount_sum_to_the_total_of_the_day(
    two_accounts: Insert, warehouse: sa.Engine, view: str, member: object, its: int, unattributed: int
) -> None:
    two_accounts(day_coverage, {"account_id": 1, "day": DAY, "status": "final"})
    later = NOON + timedelta(hours=1)
    two_accounts(
        facts, fact(1, NOON, 5, "1.5"), fact(1, later, 2, "0.000000001"), fact(1, NOON + timedelta(days=1), 1, "1")
    )
    two_accounts(facts, fact(3, NOON, 5, "1.5"), fact(its, NOON, 4, "1"), fact(unattributed, NOON, 1, "0.5"))
    two_accounts(facts, fact(unattributed, later, 2, "0.000000001"), fact(3, NOON, 9, "9", account_id=2))
    other = {4: 6, 6: 4}[its]
    two_accounts(facts, fact(other, NOON, 5, "1.5"))
    assert select(warehouse, f"select * from {view} order by volume desc") == [
        ("default", member, DAY, 4, Decimal(1), Decimal(250), True),
        ("default", None, DAY, 3, Decimal("0.500000001"), Decimal("166.666667"), True),
    ]


def test_reconciliation_shows_the_unattributed_amount_of_each_hour(two_accounts: Insert, warehouse: sa.Engine) -> None:
    hours = [NOON + timedelta(hours=number) for number in range(7)]
    whole, rounding, not_requested, idle, remainder, over_allocated, refunds = hours
    two_accounts(series, {"account_id": 1, "series_id": 8, "dimension": "queue", "member": "GeeTest"})
    two_accounts(
        facts,
        *(fact(1, hour, 5, "1.5") for hour in (whole, rounding, not_requested, remainder, over_allocated)),
        fact(1, idle, 0, "0"),
        fact(1, refunds, 0, "-1"),
        *(fact(3, hour, 2, "0.5") for hour in (whole, rounding, remainder)),
        fact(8, whole, 3, "1"),
        fact(8, rounding, 3, "1.000003"),  # two queues and the total may be off by one millionth each
        fact(2, rounding, 0, "-0.000003"),
        fact(8, remainder, 3, "0.999996"),
        fact(2, remainder, 0, "0.000004"),
        fact(2, not_requested, 5, "1.5"),
        fact(2, over_allocated, 5, "1.5"),
        fact(8, refunds, 0, "-1"),
        *(fact(4, hour, 9, "9") for hour in hours),
        fact(3, whole, 9, "9", account_id=2),
    )
    two_accounts(
        over_allocated_hours,
        exceeding(2, over_allocated, 6, "1.7"),
        exceeding(5, whole, 9, "9"),
        exceeding(1, whole, 9, "9", account_id=2),
    )
    columns = "hour_start, total_volume, total_money, queues_volume, queues_money, rest_volume, rest_money, state"
    assert select(
        warehouse, f"select {columns} from reconciliation_hourly where account = 'default' order by hour_start"
    ) == [
        (whole, 5, Decimal("1.5"), 5, Decimal("1.5"), 0, Decimal(0), "explained"),
        (rounding, 5, Decimal("1.5"), 5, Decimal("1.500003"), 0, Decimal("-0.000003"), "explained"),
        (not_requested, 5, Decimal("1.5"), 0, Decimal(0), 5, Decimal("1.5"), "rest"),
        (idle, 0, Decimal(0), 0, Decimal(0), 0, Decimal(0), "explained"),
        (remainder, 5, Decimal("1.5"), 5, Decimal("1.499996"), 0, Decimal("0.000004"), "rest"),
        (over_allocated, 5, Decimal("1.5"), 6, Decimal("1.7"), -1, Decimal("-0.2"), "contradicted"),
        (refunds, 0, Decimal(-1), 0, Decimal(-1), 0, Decimal(0), "explained"),
    ]
    columns = "account, day, hour_start, hour_end, total_volume"
    assert select(warehouse, f"select {columns} from reconciliation_hourly where account = 'other'") == [
        ("other", DAY, NOON, NOON + timedelta(hours=1), 9)
    ]


ZONES = pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])


@pytest.fixture
def as_of(two_accounts: Insert, warehouse: sa.Engine) -> Callable[[str, str], int]:
    """``as_of(zone, moment)``: number of hours that a session in that zone sees; one was loaded at ``SEEN``."""
    stored_facts = {"day": DAY, "hour_start": NOON, "volume": 1, "money": Decimal(1), "loaded_at": SEEN}
    two_accounts(facts, {"account_id": 1, "series_id": 3, **stored_facts})

    def hours(zone: str, moment: str) -> int:
        with warehouse.connect() as connection:
            connection.exec_driver_sql(f"set TimeZone = '{zone}'")
            return int(connection.exec_driver_sql(f"select count(*) from spending_as_of({moment})").scalar_one())

    return hours


@ZONES
@pytest.mark.parametrize(
    ("moment", "hours"),
    [
        ("timestamp '2026-03-20 00:00:00'", 1),
        ("timestamp '2026-03-19 23:59:59'", 0),
        ("timestamptz '2026-03-20 00:00:00+00' at time zone 'UTC'", 1),
        ("timestamptz '2026-03-20 01:00:00+01' at time zone 'UTC'", 1),
        ("timestamptz '2026-03-20 00:59:59+01' at time zone 'UTC'", 0),
        ("'2026-03-20 00:00:00'", 1),
        ("date '2026-03-20'", 1),
        ("date '2026-03-19'", 0),
        ("null", 0),
    ],
)
def test_as_of_does_not_depend_on_the_time_zone_of_the_session(
    as_of: Callable[[str, str], int], zone: str, moment: str, hours: int
) -> None:
    assert as_of(zone, moment) == hours


@ZONES
@pytest.mark.parametrize(
    ("moment", "hours"), [("2026-03-20 00:00:00+00", 1), ("2026-03-19 23:59:59+00", 0), ("2026-03-20 01:00:00+01", 1)]
)
def test_as_of_a_time_with_a_zone_is_exact_or_refused(
    as_of: Callable[[str, str], int], engine_name: str, zone: str, moment: str, hours: int
) -> None:
    if engine_name == "duckdb":
        assert as_of(zone, f"timestamptz '{moment}'") == hours
    else:
        with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
            as_of(zone, f"timestamptz '{moment}'")

"""What must hold of the numbers: every check on faults put in by hand, and on none."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from etl.records import Finding, Severity
from etl.warehouse import checks
from etl.warehouse.schema import accounts, contradictions, days, series

Insert = Callable[..., None]

DAY = date(2026, 3, 14)


def found(warehouse: sa.Engine, account: str | None = None) -> list[Finding]:
    with warehouse.connect() as connection:
        return checks.run(connection, account)


def day(number: int, *, closed: bool = True, account_id: int = 1) -> dict[str, object]:
    return {"account_id": account_id, "day": date(2026, 3, number), "status": "final", "closed": closed, "explained": False}


def exceeding(number: int, hour: int, *, series_id: int = 2, account_id: int = 1) -> dict[str, object]:
    hour_start = datetime(2026, 3, number, hour)
    booked = {"day": hour_start.date(), "hour_start": hour_start, "volume": 3, "money": Decimal("0.3")}
    return {"account_id": account_id, "series_id": series_id, **booked}


@pytest.fixture
def two_accounts(insert: Insert) -> Insert:
    insert(accounts, {"account_id": 1, "name": "default"}, {"account_id": 2, "name": "other"})
    insert(
        series,
        {"account_id": 1, "series_id": 1, "cut": "total"},
        {"account_id": 1, "series_id": 2, "cut": "queue"},
        {"account_id": 1, "series_id": 3, "cut": "app"},
        {"account_id": 2, "series_id": 2, "cut": "ip"},
    )
    return insert


@pytest.mark.parametrize("check", checks.load(), ids=lambda check: check.name)
def test_every_check_selects_an_account_and_finds_nothing_in_an_empty_warehouse(warehouse: sa.Engine, check: checks.Check) -> None:
    with warehouse.connect() as connection:
        result = connection.exec_driver_sql(check.sql)
        assert "account" in result.keys()  # noqa: SIM118 - a result is no mapping
        assert result.all() == []


def test_no_check_speaks_of_a_warehouse_without_faults(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(days, day(14))
    assert found(warehouse) == []


def test_queues_beyond_the_total_of_a_closed_day_block(two_accounts: Insert, warehouse: sa.Engine) -> None:
    two_accounts(days, day(13), day(14))
    two_accounts(contradictions, exceeding(13, 5), exceeding(14, 1), exceeding(14, 2), exceeding(14, 2, series_id=3))
    (finding,) = found(warehouse, "default")
    assert finding == Finding(
        "queues are within the total",
        Severity.BLOCKING,
        "it does not hold that in every hour of a closed day the queues, the apps and the IPs each add up to no more than the "
        "account's total: 3 rows, 2026-03-14 (cut app, hours 1), 2026-03-14 (cut queue, hours 2), 2026-03-13 (cut queue, hours 1); "
        "these hours stay whole in (unattributed), so every sum is right, only its division is not known. The next "
        "anticaptcha-etl sync asks them again; reconciliation_hourly shows what the queues say",
        DAY,
    )


def test_a_day_that_is_not_closed_may_be_contradicted_and_so_may_another_account(
    two_accounts: Insert, warehouse: sa.Engine
) -> None:
    two_accounts(days, day(14, closed=False), day(14, account_id=2))
    two_accounts(contradictions, exceeding(14, 1), exceeding(14, 1, account_id=2))
    assert found(warehouse, "default") == []
    (finding,) = found(warehouse)
    assert "1 row, 2026-03-14 (account other, cut ip, hours 1);" in finding.message


def test_many_rows_are_counted_and_the_newest_spelt_out(two_accounts: Insert, warehouse: sa.Engine) -> None:
    many = checks.SHOWN + 3
    two_accounts(days, *(day(number) for number in range(1, many + 1)))
    two_accounts(contradictions, *(exceeding(number, 0) for number in range(1, many + 1)))
    (finding,) = found(warehouse, "default")
    assert f"{many} rows, 2026-03-0{many} (cut queue, hours 1), " in finding.message
    assert finding.message.count("hours 1") == checks.SHOWN
    assert "2026-03-04 (cut queue, hours 1) and 3 more; these hours" in finding.message
    assert finding.day == date(2026, 3, many)


def test_a_check_without_a_day_shows_its_other_columns(
    two_accounts: Insert, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "-- accounts have\n-- no names\n-- severity: note\n-- remedy: rename\n-- them\n"
    check = checks.parse("accounts_have_no_names", f"{head}select name as account, 0.000000001 as x from accounts;")
    monkeypatch.setattr(checks, "load", lambda: [check])
    message = "it does not hold that accounts have no names: 1 row, x 0.000000001; rename them"
    assert found(warehouse, "other") == [Finding("accounts have no names", Severity.NOTE, message)]


@pytest.mark.parametrize(
    "head", ["-- a", "-- a\n-- severity: note", "-- a\n-- remedy: b", "-- a\n-- severity: fatal\n-- remedy: b"]
)
def test_a_check_that_does_not_say_how_grave_it_is_or_what_to_do_is_refused(head: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        checks.parse("a", f"{head}\nselect 1 as account;")

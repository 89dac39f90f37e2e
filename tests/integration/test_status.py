"""The status command on rows inserted by the tests."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError
from etl.models import DAY, ZERO_MEASURES, Finding, Measures, Severity
from etl.outputs.accounts import EMPTY_DAYS
from etl.outputs.status import (
    MAX_RUNS,
    AccountStatus,
    Days,
    Run,
    Status,
    as_text,
    is_stale,
    load_status,
    to_json,
    to_ranges,
)
from etl.warehouse import migrate
from etl.warehouse.engine import name_of, open_warehouse
from etl.warehouse.schema import accounts, day_coverage, facts, findings, over_allocated_hours, runs, series
from tests.postgres import is_citus, new_database

pytestmark = pytest.mark.contract

Insert = Callable[..., None]

NOW = datetime(2026, 3, 20, 9, 30, tzinfo=UTC)
CHECKED_AT = datetime(2026, 3, 20, 9, 5)

NOTHING = AccountStatus(
    account="default", first_day=None, last_day=None, days=dict.fromkeys(("final", "open", "missing", "failed"), 0), gaps=(),
    failed=(), open=(), unattributed_days=(), unfinished=(), over_allocated_days=(),
    newest_hour=None, freshness_hours=None, spent=ZERO_MEASURES, unattributed=ZERO_MEASURES, corrections=None, spot_checks=None, balance=None, runs=(), findings=(),
    waiting_responses=0,
)  # fmt: skip


def loaded(warehouse: sa.Engine, account: str | None, *, now: datetime = NOW, empty_days: int = EMPTY_DAYS) -> Status:
    return load_status(str(warehouse.url), account, Clock(lambda: now), empty_days=empty_days)


def march(number: int) -> date:
    return date(2026, 3, number)


def day(number: int, status: str, **unattributed: object) -> dict[str, object]:
    return {
        "account_id": 1,
        "day": march(number),
        "status": status,
        "is_explained": True,
        "fetched_at": CHECKED_AT,
        **unattributed,
    }


def hour(day: int, number: int) -> dict[str, object]:
    return {"day": march(day), "hour_start": datetime(2026, 3, day, number)}


def total(hour_start: datetime, series_id: int = 1) -> dict[str, object]:
    return {"account_id": 1, "series_id": series_id, "day": hour_start.date(), "hour_start": hour_start}


@pytest.fixture
def stored(insert: Insert) -> Insert:
    """One account with a week of days, and another account."""
    insert(accounts, {"account_id": 1, "name": "default"}, {"account_id": 2, "name": "other"})
    insert(
        series,
        {"account_id": 1, "series_id": 1, "dimension": "total"},
        {"account_id": 1, "series_id": 2, "dimension": "queue", "member": "A"},
    )
    spent = {
        "volume": 10,
        "money": Decimal("0.1"),
        "unattributed_volume": 1,
        "unattributed_money": Decimal("0.000000001"),
    }
    insert(
        day_coverage,
        day(1, "final", **spent),
        day(2, "final", is_explained=False, **spent),
        day(3, "missing", is_explained=False, fetched_at=None),
        # the 4th and 5th have not even a row
        day(6, "failed", is_explained=False),
        day(7, "open", is_explained=False, is_closed=True),
        day(20, "open"),
        day(5, "missing", account_id=2, **spent),
    )
    insert(
        over_allocated_hours,
        *({"account_id": 1, "series_id": 3, **hour(7, number)} for number in (1, 2)),
        {"account_id": 1, "series_id": 3, **hour(20, 1)},  # not closed
        {"account_id": 2, "series_id": 3, **hour(1, 1)},
    )
    insert(runs, {"account_id": 2, "run": 9})
    insert(findings, {"account_id": 2, "run": 1, "severity": "blocking"})
    return insert


def test_days_are_counted_and_listed_by_status(stored: Insert, warehouse: sa.Engine) -> None:
    (account,) = loaded(warehouse, "default").accounts
    assert account == replace(
        NOTHING,
        first_day=march(1),
        last_day=march(20),
        days={"final": 2, "open": 2, "missing": 1, "failed": 1},
        gaps=(Days(march(3), march(5)), Days(march(8), march(19))),
        failed=(Days(march(6), march(6)),),
        open=(Days(march(7), march(7)), Days(march(20), march(20))),
        unattributed_days=(Days(march(2), march(2)),),
        unfinished=(Days(march(7), march(7)),),
        over_allocated_days=(Days(march(7), march(7)),),
        spent=Measures(20, Decimal("0.2")),
        unattributed=Measures(2, Decimal("0.000000002")),
    )


def test_days_before_the_known_history_are_not_gaps(insert: Insert, warehouse: sa.Engine) -> None:
    """A sync --until 2020-01-02 stored two idle days long before the history began."""
    insert(accounts, {"account_id": 1, "name": "default", "since": None})
    long_ago = [{**day(1, "final"), "day": date(2020, 1, number), "volume": 0, "money": 0} for number in (1, 2)]
    insert(day_coverage, *long_ago, {**day(10, "final"), "volume": 5}, {**day(13, "final"), "volume": 0})
    (account,) = loaded(warehouse, None, empty_days=3).accounts
    assert account.gaps == (Days(march(7), march(9)), Days(march(11), march(12)))
    assert account.first_day == date(2020, 1, 1)


def test_missing_days_after_a_saved_since_are_gaps(insert: Insert, warehouse: sa.Engine) -> None:
    insert(accounts, {"account_id": 1, "name": "default", "since": march(5)})
    insert(day_coverage, day(2, "final"), {**day(10, "final"), "volume": 5})
    (account,) = loaded(warehouse, None, empty_days=1).accounts
    assert account.gaps == (Days(march(5), march(9)),)


def test_freshness_counts_from_the_end_of_the_newest_completed_hour(stored: Insert, warehouse: sa.Engine) -> None:
    stored(
        facts,
        *(total(datetime(2026, 3, 20, hour)) for hour in range(10)),
        total(datetime(2026, 3, 20, 10), series_id=2),
    )
    (account,) = loaded(warehouse, "default").accounts
    assert account.newest_hour == datetime(2026, 3, 20, 8, tzinfo=UTC)
    assert account.freshness_hours == 0.5
    (later,) = loaded(warehouse, "default", now=NOW + timedelta(days=1)).accounts
    assert later.freshness_hours == 24.5


def test_the_last_runs_come_newest_first_with_the_findings_of_the_newest_sync(
    stored: Insert, warehouse: sa.Engine
) -> None:
    started = datetime(2026, 3, 20, 9)
    stored(
        runs,
        *(
            {"account_id": 1, "run": number, "command": "sync", "started_at": started, "exit_code": 1}
            for number in range(1, 13)
        ),
    )
    stored(runs, {"account_id": 1, "run": 13, "command": "sync", "started_at": started})
    stored(runs, {"account_id": 1, "run": 14, "command": "replay", "started_at": started})
    finding = {
        "account_id": 1,
        "check_name": "split",
        "severity": "blocking",
        "day": march(2),
        "message": "does not fit",
        "seen_at": started,
    }
    stored(findings, {**finding, "run": 12}, {**finding, "run": 13, "queue": "A"})
    (account,) = loaded(warehouse, "default").accounts
    assert [run.run for run in account.runs] == list(range(14, 14 - MAX_RUNS, -1))
    assert [run.command for run in account.runs[:2]] == ["replay", "sync"]
    assert (account.runs[0].finished_at, account.runs[0].exit_code) == (None, None)
    assert account.runs[1].started_at == started.replace(tzinfo=UTC)
    assert account.findings == (Finding("split", Severity.BLOCKING, "does not fit", march(2), "A"),)


def test_every_account_is_shown_unless_one_is_selected(stored: Insert, warehouse: sa.Engine) -> None:
    assert [account.account for account in loaded(warehouse, None).accounts] == ["default", "other"]
    with pytest.raises(UsageError, match="'nobody'") as caught:
        loaded(warehouse, "nobody")
    assert "default, other" in caught.value.hint


def test_a_warehouse_without_tables_gets_a_hint(warehouse: sa.Engine) -> None:
    if is_citus():  # which refuses the old migrations
        warehouse = open_warehouse(new_database())
    else:
        migrate.downgrade(warehouse, "base")
    with pytest.raises(WarehouseError) as caught:
        loaded(warehouse, None)
    assert "anticaptcha-etl sync" in caught.value.hint


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 2, 28))))
def test_spans_name_every_day_once_and_do_not_touch(found: set[date]) -> None:
    spans = to_ranges(found)
    assert [span.first + DAY * step for span in spans for step in range((span.last - span.first).days + 1)] == sorted(
        found
    )
    assert all(after.first - before.last > DAY for before, after in pairwise(spans))


@pytest.mark.parametrize(
    ("ages", "stale"),
    [
        ([], True),
        ([None], True),
        ([5.0], False),
        ([5.1], True),
        ([0.1, 6.0], True),
        ([0.1, None], True),
        ([0.1, 4.9], False),
    ],
)
def test_status_is_stale_if_any_account_is_too_old(ages: list[float | None], stale: bool) -> None:
    status = Status("w", NOW, tuple(replace(NOTHING, freshness_hours=age) for age in ages))
    assert is_stale(status, 5.0) is stale


# ---------------------------------------------------------------- showing


def test_the_whole_text_of_a_warehouse_in_use(stored: Insert, warehouse: sa.Engine) -> None:
    stored(facts, total(datetime(2026, 3, 20, 8)))
    stored(
        runs,
        {
            "account_id": 1,
            "run": 1,
            "command": "sync",
            "started_at": CHECKED_AT,
            "exit_code": 1,
            "requests": 1234,
            "windows_good": 1200,
            "windows_failed": 34,
        },
    )
    stored(
        findings,
        {
            "account_id": 1,
            "run": 1,
            "check_name": "split",
            "severity": "warning",
            "day": march(2),
            "message": "[does] not fit",
        },
    )
    text = as_text(loaded(warehouse, "default"), 100)
    title, body = text[: text.index("Account")], text[text.index("Account") :]
    assert "".join(title.split()) == f"{name_of(warehouse.url)},2026-03-2009:30UTC"
    assert body == (
        "Account default\n"
        "  days             2026-03-01 to 2026-03-20: 2 final, 2 open, 1 missing, 1 failed\n"
        "  newest hour      2026-03-20 08:00 to 09:00 UTC, ended 0.5 hours ago\n"
        "  spent            0.200000000 USD, 20 tasks\n"
        "  unattributed     0.000000002 USD, 2 tasks\n"
        "  open             2026-03-07, 2026-03-20\n"
        "  gaps             2026-03-03 to 2026-03-05, 2026-03-08 to 2026-03-19; anticaptcha-etl sync fills\n"
        "                   them\n"
        "  failed           2026-03-06; anticaptcha-etl sync retries them\n"
        "  unfinished       2026-03-07; queues not requested yet, run: anticaptcha-etl sync\n"
        "  over-allocated   2026-03-07; queues, apps or IPs exceed the total, run: anticaptcha-etl sync\n"
        "  unattributed on  2026-03-02; add the missing queue: anticaptcha-etl sync --queue NAME\n"
        "  run  started, UTC      exit   sent   good  failed  new  changed  rejected\n"
        "    1  2026-03-20 09:05     1  1,234  1,200      34    0        0         0\n"
        "warning: [does] not fit\n"
    )


def test_of_many_gaps_only_the_newest_and_a_count_are_shown() -> None:
    gaps = tuple(Days(march(number), march(number)) for number in range(1, 31, 2))
    account = replace(NOTHING, first_day=march(1), last_day=march(31), gaps=gaps)
    for width in (100, 80):
        text = as_text(Status("w", NOW, (account,)), width)
        assert "9 older days (--json lists all), 2026-03-19, 2026-03-21" in text
        assert max(map(len, text.splitlines())) <= width


def test_large_numbers_fit_80_columns_unbroken() -> None:
    run = Run(1234, "replay", NOW, NOW, 0, 12_345, 0, 12_345, 1_234, 0, 123_456, 1_234, 0, 123_456, None, None)
    status = Status("w", NOW, (replace(NOTHING, runs=(run,)),))
    row = as_text(status, 80).splitlines()[-1]
    assert " ".join(row.split()) == "1234 2026-03-20 09:30 replay 0 12,345 12,345 1,234 123,456 1,234 0"
    assert len(row) <= 80
    assert as_text(status, 20).splitlines()[-1] == row


def test_the_text_of_an_empty_warehouse_says_what_to_do() -> None:
    assert "anticaptcha-etl sync" in as_text(Status("w", NOW, ()), 80)
    assert "anticaptcha-etl sync" in as_text(Status("w", NOW, (NOTHING,)), 80)


def test_json_has_exact_money_and_documented_keys(stored: Insert, warehouse: sa.Engine) -> None:
    stored(facts, total(datetime(2026, 3, 20, 8)))
    stored(runs, {"account_id": 1, "run": 1, "command": "sync", "started_at": CHECKED_AT})
    stored(
        findings, {"account_id": 1, "run": 1, "check_name": "split", "severity": "warning", "message": "does not fit"}
    )
    text = to_json(loaded(warehouse, "default"))
    assert '"unattributed": {"volume": 2, "money": "0.000000002"}' in text
    assert json.loads(text, parse_float=Decimal) == {
        "warehouse": name_of(warehouse.url),
        "now": "2026-03-20T09:30:00Z",
        "accounts": [
            {
                "account": "default",
                "first_day": "2026-03-01",
                "last_day": "2026-03-20",
                "days": {"final": 2, "open": 2, "missing": 1, "failed": 1},
                "gaps": [{"first": "2026-03-03", "last": "2026-03-05"}, {"first": "2026-03-08", "last": "2026-03-19"}],
                "failed": [{"first": "2026-03-06", "last": "2026-03-06"}],
                "open": [{"first": "2026-03-07", "last": "2026-03-07"}, {"first": "2026-03-20", "last": "2026-03-20"}],
                "rest": [{"first": "2026-03-02", "last": "2026-03-02"}],
                "unfinished": [{"first": "2026-03-07", "last": "2026-03-07"}],
                "contradicted": [{"first": "2026-03-07", "last": "2026-03-07"}],
                "newest_hour": "2026-03-20T08:00:00Z",
                "freshness_hours": Decimal("0.5"),
                "spent": {"volume": 20, "money": "0.200000000"},
                "unattributed": {"volume": 2, "money": "0.000000002"},
                "corrections": None,
                "spot_checks": None,
                "balance": None,
                "runs": [
                    {
                        "run": 1, "command": "sync", "started_at": "2026-03-20T09:05:00Z", "ended_at": None, "exit_code": None,
                        "requests": 0, "retries": 0, "windows_good": 0, "windows_failed": 0, "windows_left": 0,
                        "facts_inserted": 0, "facts_changed": 0, "rejections": 0, "facts_unchanged": None,
                        "hourly_values_new": None, "hourly_values_changed": None,
                    }
                ],
                "findings": [{"check": "split", "severity": "warning", "message": "does not fit", "day": None, "queue": None}],
                "waiting_responses": 0,
            }
        ],
    }  # fmt: skip


def test_times_are_those_of_the_zone_and_days_stay_utc(stored: Insert, warehouse: sa.Engine) -> None:
    stored(facts, total(datetime(2026, 3, 20, 8)))
    text = as_text(loaded(warehouse, "default"), 80, "Asia/Kolkata")
    assert "2026-03-20 15:00 Asia/Kolkata" in text
    assert "2026-03-20 13:30 to 14:30 Asia/Kolkata" in text
    assert "UTC days" in text

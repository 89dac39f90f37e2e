"""The figures of the report: exact, from literals to literals."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.models import UNATTRIBUTED
from etl.outputs.report.data import DayCoverage, Period, QueueSpend, choose_period
from etl.outputs.report.formatting import change, date_ranges, price, usd
from etl.outputs.report.metrics import (
    MAX_NAMED_QUEUES,
    Comparison,
    compare_months,
    complete_days,
    group_queues,
    mean_per_hour,
    price_per_1000,
    spend_by_step,
    status_by_day,
)

MONEY = st.decimals("-999999", "999999", places=9)


def day(number: int, month: int = 3) -> date:
    return date(2026, month, number)


def spent(queue: str, money: str, number: int = 1, volume: int = 1000) -> QueueSpend:
    return QueueSpend(queue, day(number), volume, Decimal(money), Decimal(money) * 1000 / volume, is_final=True)


def covered(number: int, fetched_at: datetime | None, account: str = "default", status: str = "open") -> DayCoverage:
    return DayCoverage(account, day(number), status, fetched_at, 0, Decimal(0))


# ---------------------------------------------------------------- queues


def test_the_largest_queues_are_named_the_others_grouped_and_unattributed_is_last() -> None:
    rows = [spent(f"queue {number:02}", str(number)) for number in range(1, MAX_NAMED_QUEUES + 4)] + [
        spent(UNATTRIBUTED, "99")
    ]
    found = group_queues(rows)
    assert [line.label for line in found[:MAX_NAMED_QUEUES]] == [
        f"queue {number:02}" for number in range(MAX_NAMED_QUEUES + 3, 3, -1)
    ]
    assert [(line.label, line.kind, str(line.money), line.volume) for line in found[MAX_NAMED_QUEUES:]] == [
        ("3 other queues", "others", "6", 3000),
        (UNATTRIBUTED, "unattributed", "99", 1000),
    ]


def test_a_single_other_queue_keeps_its_name() -> None:
    found = group_queues([spent(f"queue {number}", str(number)) for number in range(1, MAX_NAMED_QUEUES + 2)])
    assert (found[-1].label, found[-1].kind) == ("queue 1", "others")


@given(
    st.lists(st.tuples(st.sampled_from([*map(str, range(12)), UNATTRIBUTED]), st.integers(1, 9), MONEY), max_size=40)
)
def test_groups_and_steps_add_up_to_the_whole_spend(rows: list[tuple[str, int, Decimal]]) -> None:
    spend = [QueueSpend(queue, day(number), 3, money, None, is_final=True) for queue, number, money in rows]
    groups = group_queues(spend)
    steps = spend_by_step(spend, groups)
    total = sum((money for _, _, money in rows), start=Decimal(0))
    assert sum((group.money for group in groups), start=Decimal(0)) == total
    assert sum((step.money for step in steps.values()), start=Decimal(0)) == total
    assert sum(step.volume for step in steps.values()) == 3 * len(rows)
    for number, group in enumerate(groups):
        assert (
            sum((step.money for (_, place), step in steps.items() if place == number), start=Decimal(0)) == group.money
        )


def test_the_price_of_several_queues_is_that_of_their_sum() -> None:
    others = [spent(f"queue {number}", "9") for number in range(MAX_NAMED_QUEUES)] + [
        spent("a", "1", volume=1),
        spent("b", "2", volume=2),
    ]
    step = spend_by_step(others, group_queues(others))[day(1), MAX_NAMED_QUEUES]
    assert (step.money, step.volume, step.price_per_1000) == (Decimal(3), 3, Decimal(1000))


@given(MONEY, st.integers(1, 10**12))
def test_a_price_is_rounded_once_half_away_from_zero(money: Decimal, volume: int) -> None:
    with localcontext(prec=100):
        assert price_per_1000(money, volume) == (money * 1000 / volume).quantize(Decimal("1e-9"), ROUND_HALF_UP)


def test_there_is_no_price_without_tasks() -> None:
    assert price_per_1000(Decimal(1), 0) is None
    assert mean_per_hour(Decimal(2), 3) == Decimal("0.666666667")


# ---------------------------------------------------------------- days


def test_days_without_a_row_are_missing_from_the_start_of_the_history_to_today() -> None:
    rows = [covered(2, None, status="failed"), covered(4, None, "shop", status="final")]
    assert status_by_day(rows, {"default": day(2), "shop": day(4)}, day(5)) == {
        "default": {day(2): "failed", day(3): "missing", day(4): "missing", day(5): "missing"},
        "shop": {day(4): "final", day(5): "missing"},
    }


def test_a_day_loaded_before_the_history_leaves_no_gap_behind_it() -> None:
    rows = [covered(1, None, status="final"), covered(4, None, status="final")]
    assert status_by_day(rows, {"default": day(4)}, day(5)) == {
        "default": {day(1): "final", day(4): "final", day(5): "missing"}
    }


def test_a_day_is_complete_once_every_account_with_that_history_was_requested_after_its_end() -> None:
    after, before = datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 3, 3, 0, 9, tzinfo=UTC)
    rows = [
        *(covered(1, after), covered(2, before), covered(3, after), covered(4, after), covered(5, None)),
        *(covered(3, after, "shop"), covered(5, after, "shop")),
    ]
    assert complete_days(rows, {"default": day(1), "shop": day(3)}) == {day(1), day(3)}


@pytest.mark.parametrize(
    ("complete", "expected"),
    [
        ({day(1), day(2), day(1, 2), day(2, 2)}, Comparison((1, 2), Decimal(30), Decimal(20), Decimal("50.0"))),
        ({day(1), day(2), day(2, 2)}, Comparison((2,), Decimal(20), Decimal(10), Decimal("100.0"))),
        ({day(29), day(1, 2)}, None),  # February has no 29th
        ({day(30), day(1, 2)}, None),  # that is today
        (set(), None),
    ],
)
def test_only_days_complete_in_both_months_are_compared(complete: set[date], expected: Comparison | None) -> None:
    daily: Mapping[date, Decimal] = {
        day(1): Decimal(10),
        day(2): Decimal(20),
        day(1, 2): Decimal(10),
        day(2, 2): Decimal(10),
    }
    assert compare_months(daily, complete, day(30)) == expected


def test_there_is_no_percentage_if_nothing_was_spent_the_month_before() -> None:
    compared = compare_months({day(1): Decimal(5)}, {day(1), day(1, 2)}, day(9))
    assert compared == Comparison((1,), Decimal(5), Decimal(0), None)


@pytest.mark.parametrize(
    ("days", "first", "expected"),
    [
        (3, None, Period(day(31), day(31), 1)),
        (3, day(1, 1), Period(day(29), day(31), 1)),
        (90, day(30), Period(day(30), day(31), 1)),
        (90, day(2, 4), Period(day(31), day(31), 1)),  # the history starts tomorrow if clocks differ
        (121, day(1, 1), Period(day(1, 1), day(31), 1)),
        (121, date(2025, 1, 1), Period(date(2025, 12, 1), day(31), 7)),
    ],
)
def test_a_period_is_no_longer_than_the_history_and_has_whole_weeks_if_long(
    days: int, first: date | None, expected: Period
) -> None:
    assert choose_period(day(31), days, first) == expected


# ---------------------------------------------------------------- formatting


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1234.565", "$1,234.56"),
        ("-2", "\N{MINUS SIGN}$2.00"),
        ("0", "$0.00"),
        ("0.000000001", "$0.000000001"),
        ("0.0050", "$0.005"),
    ],
)
def test_money_is_rounded_to_cents_but_never_to_zero(value: str, shown: str) -> None:
    assert usd(Decimal(value)) == shown


def test_signs_stand_before_the_dollar() -> None:
    assert price(Decimal("-0.5")) == "\N{MINUS SIGN}$0.5000"
    assert change(Decimal("5.3")) == "+5.3 %"
    assert change(Decimal("-1234.5")) == "\N{MINUS SIGN}1,234.5 %"
    assert change(Decimal("-0.0")) == "0.0 %"


def test_days_are_listed_as_ranges_and_only_the_newest_if_there_are_many() -> None:
    assert date_ranges([day(3), day(1), day(2), day(9)]) == "1 Mar 2026 to 3 Mar 2026, 9 Mar 2026"
    text = date_ranges(day(number) for number in range(1, 29, 2))
    assert text.startswith("13 Mar 2026, 15 Mar 2026")
    assert text.endswith("27 Mar 2026, and 6 older ranges")

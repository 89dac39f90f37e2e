"""What the report reckons: literals in, literals out, and no digit lost on the way."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.models import UNATTRIBUTED
from etl.outputs.report.markup import Html, cents, join, tag
from etl.outputs.report.metrics import TOP, Comparison, cells, compare, lines, mean, price, status_by_day, whole_days
from etl.outputs.report.queries import Covered, Period, Spent, period_of

MONEY = st.decimals("-999999", "999999", places=9)


def day(number: int, month: int = 3) -> date:
    return date(2026, month, number)


def spent(queue: str, money: str, number: int = 1, volume: int = 1000) -> Spent:
    return Spent(queue, day(number), volume, Decimal(money), Decimal(money) * 1000 / volume, is_final=True)


def covered(number: int, asked: datetime | None, account: str = "default", status: str = "open") -> Covered:
    return Covered(account, day(number), status, asked, 0, Decimal(0))


# ---------------------------------------------------------------- queues


def test_the_dearest_queues_have_a_name_the_others_a_line_and_the_rest_is_last() -> None:
    rows = [spent(f"queue {number:02}", str(number)) for number in range(1, TOP + 4)] + [spent(UNATTRIBUTED, "99")]
    found = lines(rows)
    assert [line.label for line in found[:TOP]] == [f"queue {number:02}" for number in range(TOP + 3, 3, -1)]
    assert [(line.label, line.kind, str(line.money), line.volume) for line in found[TOP:]] == [
        ("3 other queues", "others", "6", 3000),
        (UNATTRIBUTED, "rest", "99", 1000),
    ]


def test_a_single_other_queue_keeps_its_name() -> None:
    found = lines([spent(f"queue {number}", str(number)) for number in range(1, TOP + 2)])
    assert (found[-1].label, found[-1].kind) == ("queue 1", "others")


@given(
    st.lists(st.tuples(st.sampled_from([*map(str, range(12)), UNATTRIBUTED]), st.integers(1, 9), MONEY), max_size=40)
)
def test_lines_and_cells_hold_all_the_money_and_no_more(rows: list[tuple[str, int, Decimal]]) -> None:
    every = [Spent(queue, day(number), 3, money, None, is_final=True) for queue, number, money in rows]
    found = lines(every)
    held = cells(every, found)
    total = sum((money for _, _, money in rows), start=Decimal(0))
    assert sum((line.money for line in found), start=Decimal(0)) == total
    assert sum((cell.money for cell in held), start=Decimal(0)) == total
    assert sum(cell.volume for cell in held) == 3 * len(rows)
    for place, line in enumerate(found):
        assert sum((cell.money for cell in held if cell.line == place), start=Decimal(0)) == line.money


def test_a_price_of_several_queues_is_that_of_their_sum() -> None:
    others = [spent(f"queue {number}", "9") for number in range(TOP)] + [
        spent("a", "1", volume=1),
        spent("b", "2", volume=2),
    ]
    (cell,) = [cell for cell in cells(others, lines(others)) if cell.line == TOP]
    assert (cell.money, cell.volume, cell.price_per_1000) == (Decimal(3), 3, Decimal(1000))


@given(MONEY, st.integers(1, 10**12))
def test_a_price_is_rounded_once_half_away_from_zero(money: Decimal, volume: int) -> None:
    with localcontext(prec=100):
        assert price(money, volume) == (money * 1000 / volume).quantize(Decimal("1e-9"), ROUND_HALF_UP)


def test_there_is_no_price_without_tasks() -> None:
    assert price(Decimal(1), 0) is None
    assert mean(Decimal(2), 3) == Decimal("0.666666667")


# ---------------------------------------------------------------- days


def test_a_day_nobody_has_word_of_is_missing_up_to_today() -> None:
    rows = [covered(2, None, status="failed"), covered(4, None, "shop", status="final")]
    assert status_by_day(rows, day(5)) == {
        "default": {day(2): "failed", day(3): "missing", day(4): "missing", day(5): "missing"},
        "shop": {day(4): "final", day(5): "missing"},
    }


def test_a_day_is_whole_once_every_account_whose_history_has_it_was_asked_after_its_end() -> None:
    after, before = datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 3, 3, 0, 9, tzinfo=UTC)
    rows = [
        *(covered(1, after), covered(2, before), covered(3, after), covered(4, after), covered(5, None)),
        *(covered(3, after, "shop"), covered(5, after, "shop")),
    ]
    assert whole_days(rows) == {day(1), day(3)}


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ({day(1), day(2), day(1, 2), day(2, 2)}, Comparison((1, 2), Decimal(30), Decimal(20), Decimal("50.0"))),
        ({day(1), day(2), day(2, 2)}, Comparison((2,), Decimal(20), Decimal(10), Decimal("100.0"))),
        ({day(29), day(1, 2)}, None),  # February has no 29th
        ({day(30), day(1, 2)}, None),  # that is today
        (set(), None),
    ],
)
def test_only_days_whole_in_both_months_are_compared(whole: set[date], expected: Comparison | None) -> None:
    daily: Mapping[date, Decimal] = {
        day(1): Decimal(10),
        day(2): Decimal(20),
        day(1, 2): Decimal(10),
        day(2, 2): Decimal(10),
    }
    assert compare(daily, whole, day(30)) == expected


def test_against_nothing_there_is_no_change_in_per_cent() -> None:
    compared = compare({day(1): Decimal(5)}, {day(1), day(1, 2)}, day(9))
    assert compared == Comparison((1,), Decimal(5), Decimal(0), None)


@pytest.mark.parametrize(
    ("days", "first", "expected"),
    [
        (3, None, Period(day(31), day(31), 1)),
        (3, day(1, 1), Period(day(29), day(31), 1)),
        (90, day(30), Period(day(30), day(31), 1)),
        (90, day(2, 4), Period(day(31), day(31), 1)),  # a history that begins tomorrow is another clock's
        (121, day(1, 1), Period(day(1, 1), day(31), 1)),
        (121, date(2025, 1, 1), Period(date(2025, 12, 1), day(31), 7)),
    ],
)
def test_a_period_is_no_longer_than_history_and_of_whole_weeks_when_long(
    days: int, first: date | None, expected: Period
) -> None:
    assert period_of(day(31), days, first) == expected


# ---------------------------------------------------------------- markup


@given(st.text())
def test_text_never_becomes_markup(text: str) -> None:
    made = tag("p", text, title=text)
    assert made.count("<") == made.count(">") == 2
    assert '"' not in made.removeprefix('<p title="').partition('">')[0]
    assert join(text, Html("<b>")).count("<") == 1


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
def test_money_is_shown_to_the_cent_and_never_as_nothing(value: str, shown: str) -> None:
    assert cents(Decimal(value)) == shown

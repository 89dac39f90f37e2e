"""The biggest change of a period: the largest difference between two weeks in a row, over complete days."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

from etl.outputs.report.data import Period, QueueSpend
from etl.outputs.report.metrics import Change, biggest_change

FIRST = date(2026, 3, 2)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


PERIOD = Period(FIRST, day(27), 1)
COMPLETE = {day(number) for number in range(28)}


def spend(by_queue: Mapping[str, list[int]]) -> list[QueueSpend]:
    return [
        QueueSpend(queue, day(number), 1, Decimal(money), None, is_final=True)
        for queue, values in by_queue.items()
        for number, money in enumerate(values)
        if money
    ]


def test_a_jump_is_found_on_its_day_with_the_weeks_around_it() -> None:
    rows = spend({"A": [10] * 12 + [30] * 16, "B": [100] * 28})
    assert biggest_change(rows, PERIOD, COMPLETE) == Change("A", day(12), Decimal(70), Decimal(210), Decimal("200.0"))


def test_a_fall_is_a_change_and_a_new_queue_has_no_percent() -> None:
    rows = spend({"A": [50] * 10 + [0] * 18})
    assert biggest_change(rows, PERIOD, COMPLETE) == Change("A", day(10), Decimal(350), Decimal(0), Decimal("-100.0"))
    rows = spend({"New": [0] * 20 + [5] * 8})
    assert biggest_change(rows, PERIOD, COMPLETE) == Change("New", day(20), Decimal(0), Decimal(35), None)


def test_incomplete_days_are_never_compared() -> None:
    rows = spend({"A": [10] * 12 + [30] * 16})
    assert biggest_change(rows, PERIOD, COMPLETE - {day(8), day(16)}) is None
    found = biggest_change(rows, PERIOD, COMPLETE - {day(27)})
    assert found
    assert found.step == day(12)


def test_without_a_change_or_with_few_days_there_is_none() -> None:
    assert biggest_change(spend({"A": [10] * 28}), PERIOD, COMPLETE) is None
    assert biggest_change(spend({"A": [1, 9]}), Period(FIRST, day(1), 1), COMPLETE) is None
    assert biggest_change([], PERIOD, COMPLETE) is None


def test_a_period_shown_by_weeks_compares_weeks() -> None:
    rows = [
        QueueSpend("A", day(7 * week), 1, Decimal(money), None, is_final=True)
        for week, money in enumerate([70, 70, 210, 210])
    ]
    found = biggest_change(rows, Period(FIRST, day(27), 7), COMPLETE)
    assert found == Change("A", day(14), Decimal(70), Decimal(210), Decimal("200.0"))

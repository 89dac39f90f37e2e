from datetime import UTC, datetime, timedelta
from decimal import Decimal

from etl.models import Record, Rejection
from etl.transform.dedupe import deduplicate_hours

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def record(hour: int, volume: int, money: str) -> Record:
    return Record(MIDNIGHT + timedelta(hours=hour), volume, Decimal(money))


def test_identical_records_become_one_however_they_were_written() -> None:
    assert deduplicate_hours([(record(0, 5, "1.5"), "b"), (record(0, 5, "1.50"), "a"), (record(0, 5, "1.5"), "b")]) == (
        (record(0, 5, "1.5"),),
        (),
    )


def test_larger_volume_wins_over_larger_money_and_the_other_is_rejected() -> None:
    records, rejections = deduplicate_hours([(record(0, 5, "9"), "less"), (record(0, 6, "1"), "more")])
    assert records == (record(0, 6, "1"),)
    assert rejections == (Rejection("another record of this hour has more: volume 6, money 1", "less", MIDNIGHT),)


def test_larger_money_wins_between_equal_volumes() -> None:
    records, rejections = deduplicate_hours(
        [(record(0, 5, "2"), "more"), (record(0, 5, "-1"), "least"), (record(0, 5, "1"), "less")]
    )
    assert records == (record(0, 5, "2"),)
    assert {rejection.raw for rejection in rejections} == {"least", "less"}


def test_a_rejection_shows_money_without_an_exponent() -> None:
    _, rejections = deduplicate_hours(
        [(record(0, 5, "0E-9"), "less"), (record(0, 6, "1E-9"), "more"), (record(0, 6, "0E-9"), "middle")]
    )
    assert {rejection.reason for rejection in rejections} == {
        "another record of this hour has more: volume 6, money 0.000000001"
    }


def test_hours_are_returned_in_order_of_time() -> None:
    records, rejections = deduplicate_hours([(record(hour, 1, "1"), "") for hour in (3, 1, 2)])
    assert records == (record(1, 1, "1"), record(2, 1, "1"), record(3, 1, "1"))
    assert rejections == ()

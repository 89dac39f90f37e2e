from datetime import UTC, datetime, timedelta
from decimal import Decimal

from etl.models import Record, Rejection
from etl.transform.dedupe import deduplicate_hours

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def record(hour: int, volume: int, money: str) -> Record:
    return Record(MIDNIGHT + timedelta(hours=hour), volume, Decimal(money))


def test_identical_repeats_collapse_however_they_were_spelled() -> None:
    assert deduplicate_hours([(record(0, 5, "1.5"), "b"), (record(0, 5, "1.50"), "a"), (record(0, 5, "1.5"), "b")]) == (
        (record(0, 5, "1.5"),),
        (),
    )


def test_larger_volume_wins_before_larger_money_and_the_loser_is_kept_as_a_rejection() -> None:
    kept, lost = deduplicate_hours([(record(0, 5, "9"), "less"), (record(0, 6, "1"), "more")])
    assert kept == (record(0, 6, "1"),)
    assert lost == (Rejection("another record of this hour has more: volume 6, money 1", "less", MIDNIGHT),)


def test_of_equal_volumes_larger_money_wins() -> None:
    kept, lost = deduplicate_hours(
        [(record(0, 5, "2"), "more"), (record(0, 5, "-1"), "least"), (record(0, 5, "1"), "less")]
    )
    assert kept == (record(0, 5, "2"),)
    assert {rejection.raw for rejection in lost} == {"least", "less"}


def test_the_winners_money_is_told_as_people_write_it() -> None:
    _, lost = deduplicate_hours(
        [(record(0, 5, "0E-9"), "less"), (record(0, 6, "1E-9"), "more"), (record(0, 6, "0E-9"), "middle")]
    )
    assert {rejection.reason for rejection in lost} == {
        "another record of this hour has more: volume 6, money 0.000000001"
    }


def test_hours_come_out_in_order_of_time() -> None:
    kept, lost = deduplicate_hours([(record(hour, 1, "1"), "") for hour in (3, 1, 2)])
    assert kept == (record(1, 1, "1"), record(2, 1, "1"), record(3, 1, "1"))
    assert lost == ()

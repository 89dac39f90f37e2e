"""What a commit writes, without a warehouse."""

from datetime import UTC, datetime, timedelta

from etl.load.upsert import commit_time

NOW = datetime(2026, 3, 20, 9, 30, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def test_each_commit_is_at_least_a_microsecond_later_than_the_last_one() -> None:
    assert commit_time(NOW, None) == NOW
    assert commit_time(NOW, NOW - MICROSECOND) == NOW
    assert commit_time(NOW, NOW) == NOW + MICROSECOND
    assert commit_time(NOW, NOW + timedelta(hours=1)) == NOW + timedelta(hours=1) + MICROSECOND

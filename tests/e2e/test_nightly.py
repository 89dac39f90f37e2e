"""A sync every night: what is asked again, what is remembered, and where history is taken to begin."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl.sandbox.dataset import Dataset
from tests.e2e.world import NOW, TODAY, UNATTRIBUTED, RequestedWindow, World, ago, by_hour, midnight, small, totals

pytestmark = pytest.mark.contract

RECENT = totals(TODAY, ago(1), ago(2), ago(3))


def _oldest(world: World) -> datetime:
    return min(window.start for window in world.requested())


# ---------------------------------------------------------------- the next night


def test_the_next_nights_requests_are_the_lookback_what_grew_and_what_becomes_final(tmp_path: Path) -> None:
    dataset = Dataset.busy(begins=ago(10), queues=3)
    with World(tmp_path, dataset) as world:
        world.sync()
        world.now = NOW + timedelta(days=1)
        asked = world.requested_by(world.sync)
        grown_or_final = {
            RequestedWindow(midnight(day), name) for day in (ago(-1), TODAY, ago(3)) for name in dataset.names
        }
        assert asked == Counter(totals(ago(-1), TODAY, ago(1), ago(2), ago(3)) | grown_or_final)
        assert world.hourly() == world.expected_rows()


def test_corrections_within_the_lookback_are_followed_and_each_is_a_revision(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12, corrections=True)) as world:
        told = {}
        for night in range(4):
            world.now = NOW + timedelta(days=night)
            before = world.expected_rows()
            assert world.sync(lookback=9).exit_code == 0
            assert world.hourly() == before
            told[night] = before
        ended = NOW.replace(minute=0, tzinfo=None)
        changed = {key for key, value in told[0].items() if key[1] < ended and told[3][key] != value}
        assert changed
        for queue, hour in changed:
            steps = world.rows(
                "select volume_before, money_before, volume_after, money_after from spending_revisions "
                f"where queue = '{queue}' and hour_start = '{hour}' order by seen_at"
            )
            assert steps[0][:2] == told[0][queue, hour]
            assert steps[-1][2:] == told[3][queue, hour]


# ---------------------------------------------------------------- since, until, max-requests, totals-only


def test_since_is_the_first_day_asked_and_is_remembered_until_it_is_lifted(tmp_path: Path) -> None:
    with World(tmp_path, small(days=20)) as world:
        assert world.sync(since=ago(7)).exit_code == 0
        assert _oldest(world) == midnight(ago(7))
        assert world.hourly() == world.expected_rows(since=ago(7))
        assert world.requested_by(world.sync) == Counter(RECENT)

        assert world.sync(since=ago(12)).exit_code == 0
        assert _oldest(world) == midnight(ago(12))
        assert world.sync(since="all").exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_until_is_the_last_day_asked_and_a_later_sync_fills_what_is_newer(tmp_path: Path) -> None:
    with World(tmp_path, small(days=15)) as world:
        assert world.sync(until=ago(6)).exit_code == 0
        assert max(window.start for window in world.requested()) == midnight(ago(6))
        assert world.hourly() == world.expected_rows(until=ago(6))
        older = {window for window in world.requested_by(world.sync) if window.start <= midnight(ago(6))}
        assert older == set()
        assert world.hourly() == world.expected_rows()


def test_a_bite_of_max_requests_is_exit_code_1_and_the_next_bite_repeats_nothing(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        bites: list[Counter[RequestedWindow]] = []
        codes: list[int] = []
        while not codes or codes[-1] == 1:
            bites.append(world.requested_by(lambda: codes.append(world.sync(max_requests=20).exit_code)))
        assert codes == [1] * (len(codes) - 1) + [0]
        assert len(codes) > 2
        assert all(len(bite) <= 20 for bite in bites)
        often = {
            window
            for window, times in sum((Counter(bite.keys()) for bite in bites), Counter[RequestedWindow]()).items()
            if times > 1
        }
        assert {window.start.date() for window in often} <= {TODAY, ago(1), ago(2), ago(3)}
        assert world.hourly() == world.expected_rows()


def test_max_requests_bounds_what_is_sent_retries_included(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        world.sync(max_requests=20)
        assert len(world.requests) <= 20


def test_totals_only_books_all_as_unattributed_and_a_later_sync_attributes_it(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        assert world.sync(totals_only=True).exit_code == 0
        assert {window.queue for window in world.requested()} == {None}
        held, expected_rows = world.hourly(), world.expected_rows()
        assert {queue for queue, _ in held} == {UNATTRIBUTED}
        assert by_hour(held) == by_hour(expected_rows)

        asked = world.requested_by(lambda: world.sync(max_requests=25))
        assert asked[RequestedWindow(midnight(TODAY), None)] == 1
        assert by_hour(world.hourly()) == by_hour(expected_rows)
        more = world.requested_by(world.sync)
        assert {window for window in [*asked, *more] if window.queue is None} == RECENT
        assert world.hourly() == expected_rows


# ---------------------------------------------------------------- the start of history


def test_history_begins_after_empty_days_without_spend_and_nothing_older_is_ever_asked(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12, idle=((ago(8), ago(5)),))) as world:
        assert world.sync(empty_days=6).exit_code == 0
        oldest_spend = min(hour for _, hour in world.expected_rows()).date()
        assert oldest_spend == ago(12)
        assert {window.start.date() for window in world.requested()} == {ago(days) for days in range(12 + 6 + 1)}
        assert world.hourly() == world.expected_rows()
        assert world.requested_by(lambda: world.sync(empty_days=6)) == Counter(RECENT)


def test_a_pause_of_empty_days_is_taken_for_the_start_until_more_are_asked_for(tmp_path: Path) -> None:
    with World(tmp_path, small(days=14, idle=((ago(9), ago(5)),))) as world:
        assert world.sync(empty_days=5).exit_code == 0
        assert _oldest(world) == midnight(ago(9))
        assert world.hourly() == world.expected_rows(since=ago(4))
        assert world.sync(empty_days=6).exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_an_account_that_never_spent_is_searched_ten_times_as_far_and_a_warning_says_so(tmp_path: Path) -> None:
    with World(tmp_path, Dataset(begins=ago(-1), queues=2)) as world:
        summary = world.sync(empty_days=3)
        assert summary.exit_code == 0
        assert world.requested() == Counter(totals(*(ago(days) for days in range(30))))
        assert ["--since" in finding.message for finding in summary.findings] == [True]
        assert world.hourly() == {}

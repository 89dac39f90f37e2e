"""Nightly syncs: what is requested again, which options are remembered, where the history starts."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl.sandbox.dataset import Dataset
from tests.e2e.world import NOW, TODAY, UNATTRIBUTED, RequestedWindow, World, ago, by_hour, midnight, small, totals

pytestmark = pytest.mark.contract

RECENT = totals(TODAY, ago(1), ago(2), ago(3))


def _oldest_requested(world: World) -> datetime:
    return min(window.start for window in world.requested())


# ---------------------------------------------------------------- the next day


def test_the_next_days_sync_requests_only_days_that_can_change(tmp_path: Path) -> None:
    dataset = Dataset.always_active(begins=ago(10), queues=3)
    with World(tmp_path, dataset) as world:
        world.sync()
        world.now = NOW + timedelta(days=1)
        requested = world.requested_by(world.sync)
        grown_or_final = {
            RequestedWindow(midnight(day), name) for day in (ago(-1), TODAY, ago(3)) for name in dataset.names
        }
        assert requested == Counter(totals(ago(-1), TODAY, ago(1), ago(2), ago(3)) | grown_or_final)
        assert world.hourly() == world.expected_rows()


def test_corrections_within_the_lookback_are_loaded_and_each_is_a_revision(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12, corrections=True)) as world:
        expected = {}
        for night in range(4):
            world.now = NOW + timedelta(days=night)
            before = world.expected_rows()
            assert world.sync(lookback=9).exit_code == 0
            assert world.hourly() == before
            expected[night] = before
        end = NOW.replace(minute=0, tzinfo=None)
        changed = {key for key, value in expected[0].items() if key[1] < end and expected[3][key] != value}
        assert changed
        for queue, hour in changed:
            steps = world.rows(
                "select volume_before, money_before, volume_after, money_after from spending_revisions "
                f"where queue = '{queue}' and hour_start = '{hour}' order by seen_at"
            )
            assert steps[0][:2] == expected[0][queue, hour]
            assert steps[-1][2:] == expected[3][queue, hour]


# ---------------------------------------------------------------- since, until, max-requests, totals-only


def test_since_is_the_first_requested_day_and_is_remembered_until_it_is_changed(tmp_path: Path) -> None:
    with World(tmp_path, small(days=20)) as world:
        assert world.sync(since=ago(7)).exit_code == 0
        assert _oldest_requested(world) == midnight(ago(7))
        assert world.hourly() == world.expected_rows(since=ago(7))
        assert world.requested_by(world.sync) == Counter(RECENT)

        assert world.sync(since=ago(12)).exit_code == 0
        assert _oldest_requested(world) == midnight(ago(12))
        assert world.sync(since="all").exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_until_is_the_last_requested_day_and_a_later_sync_loads_newer_days(tmp_path: Path) -> None:
    with World(tmp_path, small(days=15)) as world:
        assert world.sync(until=ago(6)).exit_code == 0
        assert max(window.start for window in world.requested()) == midnight(ago(6))
        assert world.hourly() == world.expected_rows(until=ago(6))
        older = {window for window in world.requested_by(world.sync) if window.start <= midnight(ago(6))}
        assert older == set()
        assert world.hourly() == world.expected_rows()


def test_a_run_limited_by_max_requests_ends_with_1_and_the_next_repeats_nothing(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        requests_by_run: list[Counter[RequestedWindow]] = []
        codes: list[int] = []
        while not codes or codes[-1] == 1:
            requests_by_run.append(world.requested_by(lambda: codes.append(world.sync(max_requests=20).exit_code)))
        assert codes == [1] * (len(codes) - 1) + [0]
        assert len(codes) > 2
        assert all(len(requests) <= 20 for requests in requests_by_run)
        repeated = {
            window
            for window, times in sum(
                (Counter(requests.keys()) for requests in requests_by_run), Counter[RequestedWindow]()
            ).items()
            if times > 1
        }
        assert {window.start.date() for window in repeated} <= {TODAY, ago(1), ago(2), ago(3)}
        assert world.hourly() == world.expected_rows()


def test_max_requests_limits_the_requests_including_retries(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        world.sync(max_requests=20)
        assert len(world.requests) <= 20


def test_totals_only_leaves_all_spend_unattributed_and_a_later_sync_attributes_it(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12)) as world:
        assert world.sync(totals_only=True).exit_code == 0
        assert {window.queue for window in world.requested()} == {None}
        stored, expected_rows = world.hourly(), world.expected_rows()
        assert {queue for queue, _ in stored} == {UNATTRIBUTED}
        assert by_hour(stored) == by_hour(expected_rows)

        requested = world.requested_by(lambda: world.sync(max_requests=25))
        assert requested[RequestedWindow(midnight(TODAY), None)] == 1
        assert by_hour(world.hourly()) == by_hour(expected_rows)
        later = world.requested_by(world.sync)
        assert {window for window in [*requested, *later] if window.queue is None} == RECENT
        assert world.hourly() == expected_rows


# ---------------------------------------------------------------- the start of history


def test_the_backfill_stops_after_empty_days_without_spend(tmp_path: Path) -> None:
    with World(tmp_path, small(days=12, idle=((ago(8), ago(5)),))) as world:
        assert world.sync(empty_days=6).exit_code == 0
        oldest_spend = min(hour for _, hour in world.expected_rows()).date()
        assert oldest_spend == ago(12)
        assert {window.start.date() for window in world.requested()} == {ago(days) for days in range(12 + 6 + 1)}
        assert world.hourly() == world.expected_rows()
        assert world.requested_by(lambda: world.sync(empty_days=6)) == Counter(RECENT)


def test_a_pause_of_empty_days_counts_as_the_start_until_empty_days_is_larger(tmp_path: Path) -> None:
    with World(tmp_path, small(days=14, idle=((ago(9), ago(5)),))) as world:
        assert world.sync(empty_days=5).exit_code == 0
        assert _oldest_requested(world) == midnight(ago(9))
        assert world.hourly() == world.expected_rows(since=ago(4))
        assert world.sync(empty_days=6).exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_an_account_without_spend_is_searched_ten_times_as_far_and_warned_about(tmp_path: Path) -> None:
    with World(tmp_path, Dataset(begins=ago(-1), queues=2)) as world:
        summary = world.sync(empty_days=3)
        assert summary.exit_code == 0
        assert world.requested() == Counter(totals(*(ago(days) for days in range(30))))
        assert ["--since" in finding.message for finding in summary.findings] == [True]
        assert world.hourly() == {}

"""Regression tests for bugs that once lost or misreported data."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import AccountRejectedError, UsageError
from etl.extract.planner import KNOWN_QUEUES, NONEXISTENT_MEMBERS
from etl.load.state import SyncStateStore
from etl.load.upsert import Batch, LoadCounts
from etl.models import Dimension, MemberStatus, queue
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, LOOKBACK, NOW, TODAY, UNATTRIBUTED, Hours, World, ago, by_hour, money, small

pytestmark = pytest.mark.contract

FIRST, SECOND, OWN = "Recaptcha Proxyless", "FunCaptcha", "A queue of our own"
ONE_DAY = timedelta(days=1)
UNKNOWN_GIVES_TOTALS = Behaviour(unknown_queue="totals")
UNKNOWN_GIVES_ZEROS = Behaviour(unknown_queue="zeros")


def _recent(today: date, lookback: int = LOOKBACK) -> set[date]:
    return {today - timedelta(days=days) for days in range(lookback + 1)}


def _hours_on(hours: Hours, days: set[date]) -> Hours:
    return {key: value for key, value in hours.items() if key[1].date() in days}


def _single_queue_recently(days: int) -> Dataset:
    """Return a history where one queue has all spend since ``ago(2)``, so its responses equal the totals. Before that
    a second queue had spend too."""
    return small(days, (FIRST, SECOND), lives=((SECOND, ago(days), ago(3)),))


# ---------------------------------------------------------------- names that are verified late


class _Killed(BaseException):
    """Ends a sync like a killed process would."""


def _die_at_verification(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    commit = SyncStateStore.commit

    def commit_or_die(state_store: SyncStateStore, batch: Batch) -> LoadCounts:
        verifies = any(
            (series, member_status) == (queue(FIRST), MemberStatus.VERIFIED)
            for series, member_status, _ in batch.member_statuses
        )
        if verifies and when == "before":
            raise _Killed
        counts = commit(state_store, batch)
        if verifies:
            raise _Killed
        return counts

    monkeypatch.setattr(SyncStateStore, "commit", commit_or_die)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_name_verified_late_is_loaded_for_all_its_requested_days_wherever_the_run_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    with World(tmp_path, _single_queue_recently(4), UNKNOWN_GIVES_TOTALS) as world:
        assert world.sync(since=ago(2)).exit_code == 0
        unverified = world.hourly()
        assert {queue for queue, _ in unverified} == {UNATTRIBUTED}
        assert by_hour(unverified) == by_hour(world.expected_rows(since=ago(2)))

        with monkeypatch.context() as patch:
            _die_at_verification(patch, when)
            with pytest.raises(_Killed):
                world.sync(since="all")
        stored, expected_rows = world.hourly(), world.expected_rows()
        assert by_hour(stored) == by_hour(_hours_on(expected_rows, {hour.date() for _, hour in stored}))
        requested_days = {ago(1), ago(2)}  # for today only recently active names are requested
        assert _hours_on(stored, requested_days) == _hours_on(
            unverified if when == "before" else expected_rows, requested_days
        )

        for _ in range(2):
            assert world.sync(since="all").exit_code == 0
        assert world.hourly() == expected_rows
        request_count = len(world.requests)
        assert world.sync().exit_code == 0
        assert len(world.requests) == request_count + LOOKBACK + 1
        assert world.hourly() == expected_rows


def test_trusted_queues_are_loaded_immediately_until_they_are_no_longer_listed(
    tmp_path: Path,
) -> None:
    with World(tmp_path, small(6, (FIRST,)), UNKNOWN_GIVES_TOTALS) as world:
        assert world.sync().exit_code == 0
        assert {queue for queue, _ in world.hourly()} == {UNATTRIBUTED}
        request_count = len(world.requests)
        assert world.sync(trusted_queues=(FIRST,)).exit_code == 0
        assert len(world.requests) == request_count + LOOKBACK + 1
        stored, is_closed = world.hourly(), {ago(days) for days in range(1, 7)}
        assert by_hour(stored) == by_hour(world.expected_rows())
        assert _hours_on(stored, is_closed) == _hours_on(world.expected_rows(), is_closed)
        world.now += ONE_DAY
        assert world.sync(trusted_queues=(FIRST,)).exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.sync().exit_code == 0
        assert {queue for queue, _ in world.hourly()} == {UNATTRIBUTED}
        assert by_hour(world.hourly()) == by_hour(world.expected_rows())


def test_a_verified_queue_refused_for_one_night_keeps_its_facts_and_is_complete_after_the_next(
    tmp_path: Path,
) -> None:
    dataset = Dataset.always_active(begins=ago(6), queues=(FIRST, SECOND))
    other_names = (
        NONEXISTENT_MEMBERS[Dimension.QUEUE].member,
        *(name for name in KNOWN_QUEUES if name not in dataset.names),
    )
    unknown = Fault(FaultKind.UNKNOWN_CODE, queues=other_names)
    with World(tmp_path, dataset, faults=(unknown,)) as world:
        assert world.sync().exit_code == 0
        assert world.one("select code from internal.unknown_name_behaviours") == "ERROR_NEVER_SEEN_BEFORE"
        before = world.hourly()
        assert before == world.expected_rows()

        world.now += ONE_DAY
        world.sandbox.faults = (replace(unknown, queues=(*other_names, SECOND)),)
        summary = world.sync()
        assert summary.exit_code == 1
        stored = world.hourly()
        assert {key: value for key, value in stored.items() if key[0] == SECOND} == {
            key: value for key, value in before.items() if key[0] == SECOND
        }
        assert by_hour(stored) == by_hour(world.expected_rows())
        assert world.days("failed") == {world.now.date(), TODAY}
        assert ago(3) in world.days(
            "open"
        )  # its facts are complete, but it was not read when it would have become final

        world.sandbox.faults = (unknown,)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("open") == _recent(world.now.date())
        assert world.days("failed") == set()


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_sync_with_a_wrong_clock_makes_no_day_final_and_the_next_sync_does(tmp_path: Path, minutes: int) -> None:
    with World(tmp_path, small(7), Behaviour(date_skew_seconds=60 * minutes)) as world:
        summary = world.sync()
        assert (summary.exit_code, summary.needs_attention) == (0, True)
        assert world.days("final") == set()
        world.sandbox.behaviour = Behaviour()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("open") == _recent(TODAY)
        assert world.days("final") == {ago(days) for days in range(LOOKBACK + 1, 7 + 5 + 1)}


@pytest.mark.parametrize("days", [-5, 5])
def test_a_sync_with_a_clock_days_off_does_not_affect_the_values(tmp_path: Path, days: int) -> None:
    lookback = 9  # longer than the API corrects values
    with World(tmp_path, small(12, 2, corrections=True)) as world:
        assert world.sync(lookback=lookback).exit_code == 0
        for clock_error in (days, 0, 0):
            world.now, world.ahead = world.now + ONE_DAY, timedelta(days=clock_error)
            assert world.sync(lookback=lookback).exit_code == 0
            if not clock_error:
                assert world.hourly() == world.expected_rows()
                assert {day for day in world.days("open") if day <= world.now.date()} == _recent(
                    world.now.date(), lookback
                )


def test_server_dates_in_the_future_have_no_lasting_effect(tmp_path: Path) -> None:
    with World(tmp_path, small(5), Behaviour(date_skew_seconds=4 * 24 * 3600)) as world:
        assert world.sync().exit_code == 0
        world.sandbox.behaviour = Behaviour()
        world.now += timedelta(hours=2)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("open") == _recent(TODAY)


def test_a_shorter_lookback_makes_days_final_that_a_longer_one_left_open(tmp_path: Path) -> None:
    with World(tmp_path, small(20)) as world:
        assert world.sync(lookback=15).exit_code == 0
        assert world.days("open") == _recent(TODAY, 15)
        assert world.sync().exit_code == 0
        assert world.days("open") == _recent(TODAY)
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- corrections


def test_final_days_have_the_values_of_their_last_request_even_with_23_records(
    tmp_path: Path,
) -> None:
    dataset = small(6, 2, seed=5, corrections=True)
    with World(tmp_path, dataset, Behaviour(buckets=23)) as world:
        expected_final: Hours = {}
        final: set[date] = set()
        for night in range(8):
            world.now = NOW + night * ONE_DAY
            assert world.sync().exit_code == 0
            expected_rows = world.expected_rows()
            expected_final |= _hours_on(expected_rows, world.days("final") - final)
            final = world.days("final")
            assert world.days("open") == _recent(world.now.date())
            assert world.hourly() == expected_final | _hours_on(expected_rows, _recent(world.now.date()))
        assert any(hour.hour == 23 for _, hour in expected_final)
        assert world.rows("select * from spending_revisions where extract(hour from hour_start) = 23")


def test_days_that_the_api_no_longer_returns_become_zero_with_a_blocking_finding(tmp_path: Path) -> None:
    with World(tmp_path, small(6, (FIRST,))) as world:
        assert world.sync().exit_code == 0
        stored = world.hourly()
        world.sandbox.behaviour = Behaviour(retention_days=2)
        summary = world.sync()
        assert summary.exit_code == 5
        [finding] = [finding for finding in summary.findings if finding.severity == "blocking"]
        assert str(ago(3)) in finding.message
        forgotten = _hours_on(stored, {ago(3)})
        assert not _hours_on(world.hourly(), {ago(3)})
        revised = world.rows(f"select sum(money_before) from spending_revisions where queue = '{FIRST}'")
        assert revised == [(money(forgotten)[1] + money(_hours_on(stored, {ago(2)}))[1],)]
        assert world.sync().exit_code == 0


def test_spend_of_a_name_verified_late_is_not_reported_as_unattributed(tmp_path: Path) -> None:
    active_periods = ((SECOND, ago(8), ago(5)), (SECOND, ago(-5), ago(-9)))
    with World(tmp_path, small(8, (FIRST, SECOND), lives=active_periods), UNKNOWN_GIVES_TOTALS) as world:
        summary = world.sync()
        assert (
            world.one(f"select count(*) from spending_daily where queue = '{UNATTRIBUTED}' and day < date '{TODAY}'")
            == 0
        )
        assert not [finding.message for finding in summary.findings if "unattributed" in finding.message]


@pytest.mark.parametrize("options", [{"totals_only": True}, {"max_requests": 3}])
def test_a_limited_run_does_not_report_a_queue_as_not_requested(options: dict[str, Any], tmp_path: Path) -> None:
    with World(tmp_path, small(4, (FIRST,))) as world:
        summary = world.sync(queues=("Mine",), **options)
        assert not [finding.message for finding in summary.findings if "not asked" in finding.message]


# ---------------------------------------------------------------- keys, locks, limits


def test_a_wrong_key_in_the_first_run_is_not_stored_for_the_account(tmp_path: Path) -> None:
    wrong_key = KEY[::-1]
    with World(tmp_path, small(4), Behaviour(refused_keys=frozenset({wrong_key}))) as world:
        with pytest.raises(AccountRejectedError):
            world.sync(key=wrong_key)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        request_count = len(world.requests)
        with pytest.raises(UsageError, match="another key"):
            world.sync(key=wrong_key)
        assert len(world.requests) == request_count


@contextmanager
def _open_in_another_process(file: Path) -> Iterator[None]:
    program = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(file)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        try:
            yield
        finally:
            holder.communicate("")


@pytest.mark.of_the_file
def test_a_sync_waits_while_another_program_briefly_opens_the_file(tmp_path: Path) -> None:
    with World(
        tmp_path, small(3), UNKNOWN_GIVES_ZEROS
    ) as world:  # without the delayed retry for an unknown name, because the sync runs in real time
        with _open_in_another_process(world.file):
            sync = world.start(concurrency=4)
            threading.Event().wait(1.5)
            assert sync.poll() is None
            assert world.requests == ()
        with sync:
            stderr = sync.communicate(timeout=60)[1]
        assert (sync.returncode, stderr) == (0, "")
        assert world.hourly() == world.expected_rows()


@pytest.mark.parametrize("limit", [None, 9])
def test_an_early_since_followed_by_all_leaves_no_day_missing(tmp_path: Path, limit: int | None) -> None:
    with World(tmp_path, small(6)) as world:
        assert world.sync(since=ago(60), max_requests=limit).exit_code == (1 if limit else 0)
        assert bool(world.days("missing")) is bool(limit)
        assert world.sync(since="all").exit_code == 0
        assert world.days("missing") == set()
        assert world.days("open") == _recent(TODAY)
        assert world.hourly() == world.expected_rows()


@pytest.mark.parametrize("concurrency", [1, 8])
def test_max_requests_is_exceeded_only_by_retries_of_requests_in_flight(tmp_path: Path, concurrency: int) -> None:
    limit = 21
    with World(tmp_path, small(12), faults=(Fault(FaultKind.HTML_502, attempts=(1,)),)) as world:
        summary = world.sync(max_requests=limit, concurrency=concurrency)
        assert summary.exit_code == 1
        assert summary.requests == len(world.requests)
        assert limit - 1 <= len(world.requests) <= limit + concurrency
        assert by_hour(world.hourly()) == by_hour(
            _hours_on(world.expected_rows(), {hour.date() for _, hour in world.hourly()})
        )


def test_an_invalid_cookie_does_not_stop_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with World(tmp_path, small(3)) as world:
        respond = world.sandbox.respond
        monkeypatch.setattr(
            world.sandbox,
            "respond",
            lambda *arguments: replace(respond(*arguments), headers=(("Set-Cookie", "a=\xff"),)),
        )
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- quiet


def test_quiet_prints_only_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    dataset = Dataset.always_active(begins=now.date() - timedelta(days=1), queues=(FIRST, SECOND))
    redirected = Fault(FaultKind.REDIRECT, days=(now.date(),))
    temporary = Fault(FaultKind.HTML_502, attempts=(1,), days=(now.date(),))
    with World(tmp_path, dataset, UNKNOWN_GIVES_ZEROS, (temporary,), now=now) as world:

        def quietly() -> tuple[int, str]:
            code = world.run("sync", "--quiet", "--empty-days", "2")
            out, err = capsys.readouterr()
            assert "Traceback" not in err
            return code, out + err

        assert quietly() == (0, "")
        assert FaultKind.HTML_502 in {request.fault for request in world.requests}
        world.sandbox.faults = (redirected,)
        code, stderr = quietly()
        assert code == 1
        assert "failed" in stderr
        world.sandbox.faults = ()
        world.sandbox.behaviour = Behaviour(date_skew_seconds=3600)
        code, stderr = quietly()
        assert code == 0
        assert "clock" in stderr
        world.sandbox.behaviour = Behaviour(refused_keys=frozenset({KEY}))
        code, stderr = quietly()
        assert code == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in stderr

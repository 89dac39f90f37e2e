"""Promises that were once broken. Each is named here, so that it stays kept."""

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
from sqlalchemy import Connection

from etl.errors import AccountRejectedError, UsageError
from etl.extract.planner import KNOWN_QUEUES, NONEXISTENT_MEMBERS
from etl.load.state import SyncStateStore
from etl.load.upsert import Batch, LoadCounts
from etl.models import Dimension, MemberStatus, queue
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, LOOKBACK, NOW, TODAY, UNATTRIBUTED, Hours, World, ago, by_hour, money, small

pytestmark = pytest.mark.contract

ALONE, BESIDE, OWN = "Recaptcha Proxyless", "FunCaptcha", "A queue of our own"
NIGHT = timedelta(days=1)
GIVES_TOTALS = Behaviour(unknown_queue="totals")
GIVES_ZEROS = Behaviour(unknown_queue="zeros")


def _recent(today: date, lookback: int = LOOKBACK) -> set[date]:
    return {today - timedelta(days=days) for days in range(lookback + 1)}


def _of(hours: Hours, days: set[date]) -> Hours:
    return {key: value for key, value in hours.items() if key[1].date() in days}


def _alone_of_late(days: int) -> Dataset:
    """A queue that spends alone since ``ago(2)``: there its answers are the account's totals. Before, another did
    too."""
    return small(days, (ALONE, BESIDE), lives=((BESIDE, ago(days), ago(3)),))


# ---------------------------------------------------------------- names that are believed late


class _Killed(BaseException):
    """The end of a process, as far as the warehouse can tell."""


def _dies_at_belief(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    commit = SyncStateStore._commit

    def dying(state_store: SyncStateStore, connection: Connection, batch: Batch) -> LoadCounts:
        believes = any(
            (series, member_status) == (queue(ALONE), MemberStatus.VERIFIED)
            for series, member_status, _ in batch.member_statuses
        )
        if believes and when == "before":
            raise _Killed
        counts = commit(state_store, connection, batch)
        if believes:
            raise _Killed
        return counts

    monkeypatch.setattr(SyncStateStore, "_commit", dying)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_name_believed_late_is_booked_on_every_day_it_was_asked_for_wherever_the_run_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    with World(tmp_path, _alone_of_late(4), GIVES_TOTALS) as world:
        assert world.sync(since=ago(2)).exit_code == 0
        unverified = world.hourly()
        assert {queue for queue, _ in unverified} == {UNATTRIBUTED}
        assert by_hour(unverified) == by_hour(world.expected_rows(since=ago(2)))

        with monkeypatch.context() as patch:
            _dies_at_belief(patch, when)
            with pytest.raises(_Killed):
                world.sync(since="all")
        held, expected_rows = world.hourly(), world.expected_rows()
        assert by_hour(held) == by_hour(_of(expected_rows, {hour.date() for _, hour in held}))
        asked_for = {ago(1), ago(2)}  # on a running day only names known to be near are asked
        assert _of(held, asked_for) == _of(unverified if when == "before" else expected_rows, asked_for)

        for _ in range(2):
            assert world.sync(since="all").exit_code == 0
        assert world.hourly() == expected_rows
        asked = len(world.requests)
        assert world.sync().exit_code == 0
        assert len(world.requests) == asked + LOOKBACK + 1
        assert world.hourly() == expected_rows


def test_trusted_queues_are_booked_at_once_on_all_days_and_no_longer_when_they_are_not_listed_any_more(
    tmp_path: Path,
) -> None:
    with World(tmp_path, small(6, (ALONE,)), GIVES_TOTALS) as world:
        assert world.sync().exit_code == 0
        assert {queue for queue, _ in world.hourly()} == {UNATTRIBUTED}
        asked = len(world.requests)
        assert world.sync(trusted_queues=(ALONE,)).exit_code == 0
        assert len(world.requests) == asked + LOOKBACK + 1
        held, is_closed = world.hourly(), {ago(days) for days in range(1, 7)}
        assert by_hour(held) == by_hour(world.expected_rows())
        assert _of(held, is_closed) == _of(world.expected_rows(), is_closed)
        world.now += NIGHT
        assert world.sync(trusted_queues=(ALONE,)).exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.sync().exit_code == 0
        assert {queue for queue, _ in world.hourly()} == {UNATTRIBUTED}
        assert by_hour(world.hourly()) == by_hour(world.expected_rows())


def test_a_believed_queue_that_is_refused_as_unknown_for_a_night_keeps_its_facts_and_is_mended_by_the_next(
    tmp_path: Path,
) -> None:
    dataset = Dataset.busy(begins=ago(6), queues=(ALONE, BESIDE))
    strangers = (
        NONEXISTENT_MEMBERS[Dimension.QUEUE].member,
        *(name for name in KNOWN_QUEUES if name not in dataset.names),
    )
    unknown = Fault(FaultKind.UNKNOWN_CODE, queues=strangers)
    with World(tmp_path, dataset, faults=(unknown,)) as world:
        assert world.sync().exit_code == 0
        assert world.one("select code from internal.unknown_name_behaviours") == "ERROR_NEVER_SEEN_BEFORE"
        before = world.hourly()
        assert before == world.expected_rows()

        world.now += NIGHT
        world.sandbox.faults = (replace(unknown, queues=(*strangers, BESIDE)),)
        summary = world.sync()
        assert summary.exit_code == 1
        held = world.hourly()
        assert {key: value for key, value in held.items() if key[0] == BESIDE} == {
            key: value for key, value in before.items() if key[0] == BESIDE
        }
        assert by_hour(held) == by_hour(world.expected_rows())
        assert world.days("failed") == {world.now.date(), TODAY}
        assert ago(3) in world.days(
            "open"
        )  # what is held explains it, but was not read when it would have become final

        world.sandbox.faults = (unknown,)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("open") == _recent(world.now.date())
        assert world.days("failed") == set()


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_run_by_a_wrong_clock_makes_nothing_final_and_the_next_makes_all_final_that_should_be(
    tmp_path: Path, minutes: int
) -> None:
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
def test_a_night_by_a_clock_that_is_days_off_leaves_no_trace_in_the_numbers(tmp_path: Path, days: int) -> None:
    lookback = 9  # longer than the service corrects
    with World(tmp_path, small(12, 2, corrections=True)) as world:
        assert world.sync(lookback=lookback).exit_code == 0
        for ahead in (days, 0, 0):
            world.now, world.ahead = world.now + NIGHT, timedelta(days=ahead)
            assert world.sync(lookback=lookback).exit_code == 0
            if not ahead:
                assert world.hourly() == world.expected_rows()
                assert {day for day in world.days("open") if day <= world.now.date()} == _recent(
                    world.now.date(), lookback
                )


def test_a_run_answered_with_dates_that_lie_ahead_leaves_no_trace(tmp_path: Path) -> None:
    with World(tmp_path, small(5), Behaviour(date_skew_seconds=4 * 24 * 3600)) as world:
        assert world.sync().exit_code == 0
        world.sandbox.behaviour = Behaviour()
        world.now += timedelta(hours=2)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("open") == _recent(TODAY)


def test_days_are_not_left_open_by_a_longer_lookback_than_the_present_one(tmp_path: Path) -> None:
    with World(tmp_path, small(20)) as world:
        assert world.sync(lookback=15).exit_code == 0
        assert world.days("open") == _recent(TODAY, 15)
        assert world.sync().exit_code == 0
        assert world.days("open") == _recent(TODAY)
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- corrections


def test_days_become_final_as_the_service_then_tells_them_the_last_hour_of_answers_of_23_included(
    tmp_path: Path,
) -> None:
    dataset = small(6, 2, seed=5, corrections=True)
    with World(tmp_path, dataset, Behaviour(buckets=23)) as world:
        told: Hours = {}
        final: set[date] = set()
        for night in range(8):
            world.now = NOW + night * NIGHT
            assert world.sync().exit_code == 0
            expected_rows = world.expected_rows()
            told |= _of(expected_rows, world.days("final") - final)
            final = world.days("final")
            assert world.days("open") == _recent(world.now.date())
            assert world.hourly() == told | _of(expected_rows, _recent(world.now.date()))
        assert any(hour.hour == 23 for _, hour in told)
        assert world.rows("select * from spending_revisions where extract(hour from hour_start) = 23")


def test_days_that_the_service_forgets_are_booked_as_it_says_and_a_blocking_finding_tells(tmp_path: Path) -> None:
    with World(tmp_path, small(6, (ALONE,))) as world:
        assert world.sync().exit_code == 0
        held = world.hourly()
        world.sandbox.behaviour = Behaviour(retention_days=2)
        summary = world.sync()
        assert summary.exit_code == 5
        [finding] = [finding for finding in summary.findings if finding.severity == "blocking"]
        assert str(ago(3)) in finding.message
        lost = _of(held, {ago(3)})
        assert not _of(world.hourly(), {ago(3)})
        revised = world.rows(f"select sum(money_before) from spending_revisions where queue = '{ALONE}'")
        assert revised == [(money(lost)[1] + money(_of(held, {ago(2)}))[1],)]
        assert world.sync().exit_code == 0


def test_money_of_a_name_that_is_believed_late_is_not_called_unattributed_at_the_end(tmp_path: Path) -> None:
    lives = ((BESIDE, ago(8), ago(5)), (BESIDE, ago(-5), ago(-9)))
    with World(tmp_path, small(8, (ALONE, BESIDE), lives=lives), GIVES_TOTALS) as world:
        summary = world.sync()
        assert (
            world.one(f"select count(*) from spending_daily where queue = '{UNATTRIBUTED}' and day < date '{TODAY}'")
            == 0
        )
        assert not [finding.message for finding in summary.findings if "unattributed" in finding.message]


@pytest.mark.parametrize("given", [{"totals_only": True}, {"max_requests": 3}])
def test_a_queue_is_not_said_to_be_unasked_by_a_run_that_could_not_ask_it(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with World(tmp_path, small(4, (ALONE,))) as world:
        summary = world.sync(queues=("Mine",), **given)
        assert not [finding.message for finding in summary.findings if "not asked" in finding.message]


# ---------------------------------------------------------------- keys, locks, limits


def test_a_wrong_key_at_the_first_run_does_not_bind_the_account(tmp_path: Path) -> None:
    wrong = KEY[::-1]
    with World(tmp_path, small(4), Behaviour(refused_keys=frozenset({wrong}))) as world:
        with pytest.raises(AccountRejectedError):
            world.sync(key=wrong)
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        asked = len(world.requests)
        with pytest.raises(UsageError, match="another key"):
            world.sync(key=wrong)
        assert len(world.requests) == asked


@contextmanager
def _held_by_another(file: Path) -> Iterator[None]:
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.communicate("")


@pytest.mark.of_the_file
def test_a_program_that_has_the_file_open_for_a_moment_only_delays_a_sync(tmp_path: Path) -> None:
    with World(tmp_path, small(3), GIVES_ZEROS) as world:  # no spaced retry of an unknown name: the sync has real time
        with _held_by_another(world.file):
            waiting = world.start(concurrency=4)
            threading.Event().wait(1.5)
            assert waiting.poll() is None
            assert world.requests == ()
        with waiting:
            said = waiting.communicate(timeout=60)[1]
        assert (waiting.returncode, said) == (0, "")
        assert world.hourly() == world.expected_rows()


@pytest.mark.parametrize("most", [None, 9])
def test_since_far_back_and_then_all_leaves_no_day_missing(tmp_path: Path, most: int | None) -> None:
    with World(tmp_path, small(6)) as world:
        assert world.sync(since=ago(60), max_requests=most).exit_code == (1 if most else 0)
        assert bool(world.days("missing")) is bool(most)
        assert world.sync(since="all").exit_code == 0
        assert world.days("missing") == set()
        assert world.days("open") == _recent(TODAY)
        assert world.hourly() == world.expected_rows()


@pytest.mark.parametrize("concurrency", [1, 8])
def test_max_requests_is_exceeded_only_by_retries_of_what_was_in_the_air(tmp_path: Path, concurrency: int) -> None:
    most = 21
    with World(tmp_path, small(12), faults=(Fault(FaultKind.HTML_502, attempts=(1,)),)) as world:
        summary = world.sync(max_requests=most, concurrency=concurrency)
        assert summary.exit_code == 1
        assert summary.requests == len(world.requests)
        assert most - 1 <= len(world.requests) <= most + concurrency
        assert by_hour(world.hourly()) == by_hour(
            _of(world.expected_rows(), {hour.date() for _, hour in world.hourly()})
        )


def test_a_cookie_that_cannot_be_sent_back_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with World(tmp_path, small(3)) as world:
        respond = world.sandbox.respond
        monkeypatch.setattr(
            world.sandbox, "respond", lambda *asked: replace(respond(*asked), headers=(("Set-Cookie", "a=\xff"),))
        )
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- quiet


def test_quiet_speaks_only_when_a_person_must_act(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    dataset = Dataset.busy(begins=now.date() - timedelta(days=1), queues=(ALONE, BESIDE))
    redirected = Fault(FaultKind.REDIRECT, days=(now.date(),))
    passing = Fault(FaultKind.HTML_502, attempts=(1,), days=(now.date(),))
    with World(tmp_path, dataset, GIVES_ZEROS, (passing,), now=now) as world:

        def quietly() -> tuple[int, str]:
            with world.command("sync", "--quiet", "--empty-days", "2") as process:
                out, err = process.communicate(timeout=60)
            assert "Traceback" not in err
            return process.returncode, out + err

        assert quietly() == (0, "")
        assert FaultKind.HTML_502 in {request.fault for request in world.requests}
        world.sandbox.faults = (redirected,)
        code, said = quietly()
        assert code == 1
        assert "failed" in said
        world.sandbox.faults = ()
        world.sandbox.behaviour = Behaviour(date_skew_seconds=3600)
        code, said = quietly()
        assert code == 0
        assert "clock" in said
        world.sandbox.behaviour = Behaviour(refused_keys=frozenset({KEY}))
        code, said = quietly()
        assert code == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in said

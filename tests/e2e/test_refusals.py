"""Errors of the API and refusals by the program: no needless requests, no loss of data that was read."""

import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from etl.errors import AccountRejectedError, SchemaTooNewError, UsageError, WarehouseError, WarehouseLockedError
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from tests.e2e.world import KEY, TODAY, UNATTRIBUTED, RequestedWindow, World, ago, by_hour, midnight, small, totals

pytestmark = pytest.mark.contract

OTHER_KEY = KEY[::-1]
RECENT = totals(TODAY, ago(1), ago(2), ago(3))
UNKNOWN_ERROR = FaultKind.UNKNOWN_CODE
CODE = "ERROR_NEVER_SEEN_BEFORE"


# ---------------------------------------------------------------- by the API


def test_a_wrong_key_costs_one_request(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5), Behaviour(refused_keys=frozenset({KEY}))) as world:
        with pytest.raises(AccountRejectedError, match="ERROR_KEY_DOES_NOT_EXIST") as raised:
            world.sync()
        assert raised.value.exit_code == 3
        assert len(world.requests) == 1
        assert world.rows("select * from internal.facts") == []


def test_an_error_that_concerns_the_account_stops_the_sync_and_keeps_what_was_read(tmp_path: Path) -> None:
    concurrency, failing_request = 8, 40
    blocked = Fault(FaultKind.IP_BLOCKED, numbers=(failing_request,))
    with World(tmp_path, small(days=20), Behaviour(latency_seconds=0.02), (blocked,)) as world:
        with pytest.raises(AccountRejectedError, match="ERROR_IP_BLOCKED"):
            world.sync(concurrency=concurrency)
        requested = len(world.requests)
        assert requested < failing_request + concurrency
        saved = world.rows("select * from internal.snapshots where outcome = 'success'")
        assert len(saved) >= failing_request - concurrency
        assert world.one("select exit_code from internal.runs") == 3

        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert set(saved) <= set(world.rows("select * from internal.snapshots"))
        repeated = _windows_read(world, run=1) & world.requested(requested).keys()
        assert repeated
        assert min(window.start for window in repeated) == midnight(ago(3))  # the lookback alone


def _windows_read(world: World, run: int) -> set[RequestedWindow]:
    """Return the windows of a run that have a successful snapshot."""
    snapshots = "internal.snapshots join internal.series using (account_id, series_id)"
    rows = world.rows(f"select window_start, member from {snapshots} where run = {run} and outcome = 'success'")
    return {RequestedWindow(start.replace(tzinfo=UTC), name) for start, name in rows}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_same_unknown_error_for_five_windows_in_a_row_stops_the_sync(tmp_path: Path, concurrency: int) -> None:
    with World(tmp_path, small(days=20)) as world:
        world.sync(until=ago(12))
        before, stored = len(world.requests), world.hourly()
        world.sandbox.faults = (Fault(UNKNOWN_ERROR),)
        summary = world.sync(concurrency=concurrency)
        assert summary.exit_code == 1
        assert CODE in " ".join(summary.messages)
        requested = world.requested(before)
        assert 5 <= len(requested) < 5 + concurrency
        assert max(requested.values()) == 2  # one retry
        assert world.hourly() == stored

        world.sandbox.faults = ()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_a_failed_window_is_reported_and_only_it_is_requested_by_the_next_sync(tmp_path: Path) -> None:
    failing, day = "Russian ImageToText", ago(9)
    with World(tmp_path, small(days=15), faults=(Fault(UNKNOWN_ERROR, days=(day,), queues=(failing,)),)) as world:
        summary = world.sync()
        assert (summary.exit_code, summary.windows_failed) == (1, 1)
        assert world.days("failed") == {day}
        stored, expected_rows = world.hourly(), world.expected_rows()
        elsewhere = {key: value for key, value in expected_rows.items() if key[1].date() != day}
        assert {key: value for key, value in stored.items() if key[1].date() != day} == elsewhere

        world.sandbox.faults = ()
        requested = world.requested_by(world.sync)
        assert requested == dict.fromkeys(RECENT | {RequestedWindow(midnight(day), failing)}, 1)
        assert world.days("failed") == set()
        assert world.hourly() == expected_rows


def test_an_error_with_http_status_200_never_counts_as_no_spend(tmp_path: Path) -> None:
    failing, day, day_without_total = "Russian ImageToText", ago(9), ago(6)
    faults = (
        Fault(UNKNOWN_ERROR, days=(day,), queues=(failing,)),
        Fault(UNKNOWN_ERROR, days=(day_without_total,), queues=(None,)),
    )
    with World(tmp_path, small(days=15), faults=faults) as world:
        assert world.sync().exit_code == 1
        assert {request.status for request in world.requests if request.fault} == {200}
        assert world.days("failed") == {day, day_without_total}
        stored = {key: value for key, value in world.hourly().items() if key[1].date() == day}
        expected_rows = {key: value for key, value in world.expected_rows().items() if key[1].date() == day}
        assert by_hour(stored) == by_hour(expected_rows)  # the total was read
        assert {key[0] for key in expected_rows} - {key[0] for key in stored} == {failing}
        missing = {hour: value for (queue, hour), value in expected_rows.items() if queue == failing}
        assert {hour: value for (queue, hour), value in stored.items() if queue == UNATTRIBUTED} == missing
        assert (
            world.one(f"select count(*) from internal.facts where day = '{day_without_total}'") == 0
        )  # absent, never zero
        assert set(world.rows("select outcome, code from internal.snapshots where outcome <> 'success'")) >= {
            ("api_error", CODE)
        }


def test_a_day_whose_attempts_all_fail_is_a_gap_that_the_next_sync_fills(tmp_path: Path) -> None:
    day = ago(8)
    kinds = (
        FaultKind.RESET,
        FaultKind.HTML_502,
        FaultKind.TRUNCATED,
        FaultKind.EMPTY,
        FaultKind.HALF_SENT,
        FaultKind.HTML,
    )
    faults = tuple(Fault(kind, days=(day,), attempts=(attempt,)) for attempt, kind in enumerate(kinds, start=1))
    with World(tmp_path, small(days=15), faults=faults) as world:
        summary = world.sync()
        assert (summary.exit_code, summary.windows_failed) == (1, 1)
        assert [request.fault for request in world.requests if request.fault] == list(kinds)
        assert world.days("failed") == {day}
        assert world.hourly() == {key: value for key, value in world.expected_rows().items() if key[1].date() != day}

        world.sandbox.faults = ()
        requested = world.requested_by(world.sync)
        assert {window.start for window in requested.keys() - RECENT} == {midnight(day)}
        assert world.statuses() == {"final": world.statuses()["final"], "open": 4}
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- by the program: keys


def test_without_a_key_the_error_names_the_variable_and_nothing_is_requested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with World(tmp_path, small(days=5)) as world:
        assert world.run("sync", key=None) == 2
        err = capsys.readouterr().err
        assert "ANTICAPTCHA_CLIENT_KEY" in err
        assert "Traceback" not in err
        assert world.requests == ()
        assert list(tmp_path.iterdir()) == []


def test_another_key_for_an_account_is_refused_until_key_changed_is_given(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        world.sync()
        before = len(world.requests)
        with pytest.raises(UsageError, match="account default was loaded with another key") as raised:
            world.sync(key=OTHER_KEY)
        assert raised.value.exit_code == 2
        assert "--key-changed" in raised.value.hint
        assert len(world.requests) == before

        assert world.sync(key=OTHER_KEY, key_changed=True).exit_code == 0
        assert world.requested(before) == dict.fromkeys(RECENT, 1)
        assert world.sync(key=OTHER_KEY).exit_code == 0
        with pytest.raises(UsageError, match="with another key"):
            world.sync(key=KEY)


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        world.sync()
        before = len(world.requests)
        with pytest.raises(UsageError, match="belongs to account default"):
            world.sync(account="second")
        assert len(world.requests) == before
        assert world.rows("select name from internal.accounts") == [("default",)]


# ---------------------------------------------------------------- by the program: the warehouse


@pytest.mark.of_the_file
def test_a_warehouse_locked_by_another_program_ends_the_sync_before_any_request(tmp_path: Path) -> None:
    program = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with World(tmp_path, small(days=5)) as world:
        arguments = [sys.executable, "-c", program, str(world.file)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(WarehouseLockedError, match=str(holder.pid)) as raised:
                world.sync(lock_wait="5")
            with pytest.raises(WarehouseLockedError, match=str(holder.pid)):
                world.sync(lock_wait="0")
            holder.communicate("")
        assert raised.value.exit_code == 4
        assert world.requests == ()


@pytest.mark.of_the_file
def test_a_warehouse_with_a_newer_schema_is_not_changed(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        world.sync(until=ago(5))
        world.rows("update internal.alembic_version set version_num = '9999'")
        before, stored = len(world.requests), world.file.read_bytes()
        with pytest.raises(SchemaTooNewError, match="9999") as raised:
            world.sync()
        assert raised.value.exit_code == 4
        assert len(world.requests) == before
        assert world.file.read_bytes() == stored


def test_a_second_sync_of_an_account_is_refused_while_one_runs(tmp_path: Path) -> None:
    with (
        World(tmp_path, small(days=15), Behaviour(latency_seconds=0.02)) as world,
        World(tmp_path, small(days=15)) as second,
    ):
        with world.start(concurrency=2) as running:
            world.wait_for(running, 10)
            with pytest.raises(WarehouseError) as raised:
                second.sync(lock_wait="0")
            assert running.poll() is None
            stderr = running.communicate(timeout=120)[1]
        assert raised.value.exit_code == 4
        assert str(running.pid) in raised.value.message
        assert second.requests == ()
        assert (running.returncode, stderr) == (0, "")
        assert world.hourly() == world.expected_rows()

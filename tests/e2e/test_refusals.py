"""What is refused, by the service or by us: nothing is asked in vain, nothing read is lost."""

import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from etl.errors import AccountRejectedError, SchemaTooNewError, UsageError, WarehouseError, WarehouseLockedError
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from tests.e2e.world import KEY, TODAY, UNATTRIBUTED, Asked, World, ago, by_hour, midnight, small, totals

pytestmark = pytest.mark.contract

OTHER_KEY = KEY[::-1]
RECENT = totals(TODAY, ago(1), ago(2), ago(3))
TROUBLE = FaultKind.UNKNOWN_CODE
CODE = "ERROR_NEVER_SEEN_BEFORE"


# ---------------------------------------------------------------- by the service


def test_a_wrong_key_costs_one_request(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5), Behaviour(refused_keys=frozenset({KEY}))) as world:
        with pytest.raises(AccountRejectedError, match="ERROR_KEY_DOES_NOT_EXIST") as refusal:
            world.sync()
        assert refusal.value.exit_code == 3
        assert len(world.requests) == 1
        assert world.rows("select * from internal.facts") == []


def test_after_a_fatal_code_nothing_begins_and_what_was_read_is_kept(tmp_path: Path) -> None:
    concurrency, fatal = 8, 40
    blocked = Fault(FaultKind.IP_BLOCKED, numbers=(fatal,))
    with World(tmp_path, small(days=20), Behaviour(latency_seconds=0.02), (blocked,)) as world:
        with pytest.raises(AccountRejectedError, match="ERROR_IP_BLOCKED"):
            world.sync(concurrency=concurrency)
        asked = len(world.requests)
        assert asked < fatal + concurrency
        kept = world.rows("select * from internal.snapshots where outcome = 'success'")
        assert len(kept) >= fatal - concurrency
        assert world.one("select exit_code from internal.runs") == 3

        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert set(kept) <= set(world.rows("select * from internal.snapshots"))
        repeated = _well_read(world, run=1) & world.asked(asked).keys()
        assert repeated
        assert min(window.start for window in repeated) == midnight(ago(3))  # the lookback alone


def _well_read(world: World, run: int) -> set[Asked]:
    """The windows of a run with a good reading."""
    snapshots = "internal.snapshots join internal.series using (account_id, series_id)"
    rows = world.rows(f"select window_start, member from {snapshots} where run = {run} and outcome = 'success'")
    return {Asked(start.replace(tzinfo=UTC), name) for start, name in rows}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_same_unknown_error_on_five_windows_in_a_row_stops(tmp_path: Path, concurrency: int) -> None:
    with World(tmp_path, small(days=20)) as world:
        world.sync(until=ago(12))
        before, held = len(world.requests), world.hourly()
        world.sandbox.faults = (Fault(TROUBLE),)
        summary = world.sync(concurrency=concurrency)
        assert summary.exit_code == 1
        assert CODE in " ".join(summary.messages)
        asked = world.asked(before)
        assert 5 <= len(asked) < 5 + concurrency
        assert max(asked.values()) == 2  # one spaced retry
        assert world.hourly() == held

        world.sandbox.faults = ()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


def test_one_failed_window_is_told_kept_apart_and_mended_by_asking_exactly_it(tmp_path: Path) -> None:
    failing, day = "Russian ImageToText", ago(9)
    with World(tmp_path, small(days=15), faults=(Fault(TROUBLE, days=(day,), queues=(failing,)),)) as world:
        summary = world.sync()
        assert (summary.exit_code, summary.windows_failed) == (1, 1)
        assert world.days("failed") == {day}
        held, expected_rows = world.hourly(), world.expected_rows()
        elsewhere = {key: value for key, value in expected_rows.items() if key[1].date() != day}
        assert {key: value for key, value in held.items() if key[1].date() != day} == elsewhere

        world.sandbox.faults = ()
        asked = world.asked_by(world.sync)
        assert asked == dict.fromkeys(RECENT | {Asked(midnight(day), failing)}, 1)
        assert world.days("failed") == set()
        assert world.hourly() == expected_rows


def test_an_error_in_an_answer_of_http_200_is_never_an_empty_page(tmp_path: Path) -> None:
    failing, day, darkest = "Russian ImageToText", ago(9), ago(6)
    faults = (Fault(TROUBLE, days=(day,), queues=(failing,)), Fault(TROUBLE, days=(darkest,), queues=(None,)))
    with World(tmp_path, small(days=15), faults=faults) as world:
        assert world.sync().exit_code == 1
        assert {request.status for request in world.requests if request.fault} == {200}
        assert world.days("failed") == {day, darkest}
        held = {key: value for key, value in world.hourly().items() if key[1].date() == day}
        expected_rows = {key: value for key, value in world.expected_rows().items() if key[1].date() == day}
        assert by_hour(held) == by_hour(expected_rows)  # the total was read
        assert {key[0] for key in expected_rows} - {key[0] for key in held} == {failing}
        missed = {hour: value for (queue, hour), value in expected_rows.items() if queue == failing}
        assert {hour: value for (queue, hour), value in held.items() if queue == UNATTRIBUTED} == missed
        assert world.one(f"select count(*) from internal.facts where day = '{darkest}'") == 0  # absent, never zero
        assert set(world.rows("select outcome, code from internal.snapshots where outcome <> 'success'")) >= {
            ("api_error", CODE)
        }


def test_a_day_on_which_everything_goes_wrong_is_a_gap_and_is_filled_later(tmp_path: Path) -> None:
    day = ago(8)
    ways = (FaultKind.RESET, FaultKind.HTML_502, FaultKind.TRUNCATED, FaultKind.EMPTY, FaultKind.HALF_SENT, FaultKind.HTML)
    faults = tuple(Fault(kind, days=(day,), attempts=(attempt,)) for attempt, kind in enumerate(ways, start=1))
    with World(tmp_path, small(days=15), faults=faults) as world:
        summary = world.sync()
        assert (summary.exit_code, summary.windows_failed) == (1, 1)
        assert [request.fault for request in world.requests if request.fault] == list(ways)
        assert world.days("failed") == {day}
        assert world.hourly() == {key: value for key, value in world.expected_rows().items() if key[1].date() != day}

        world.sandbox.faults = ()
        asked = world.asked_by(world.sync)
        assert {window.start for window in asked.keys() - RECENT} == {midnight(day)}
        assert world.statuses() == {"final": world.statuses()["final"], "open": 4}
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- by us: keys


def test_without_a_key_the_variable_is_named_and_nothing_is_asked(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        with world.command("sync", key=None) as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert "ANTICAPTCHA_CLIENT_KEY" in err
        assert "Traceback" not in err
        assert world.requests == ()
        assert list(tmp_path.iterdir()) == []


def test_another_key_for_the_same_account_is_refused_until_it_is_said_to_be_rotated(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        world.sync()
        before = len(world.requests)
        with pytest.raises(UsageError, match="account default was loaded with another key") as refusal:
            world.sync(key=OTHER_KEY)
        assert refusal.value.exit_code == 2
        assert "--key-changed" in refusal.value.hint
        assert len(world.requests) == before

        assert world.sync(key=OTHER_KEY, key_changed=True).exit_code == 0
        assert world.asked(before) == dict.fromkeys(RECENT, 1)
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


# ---------------------------------------------------------------- by us: the warehouse


@pytest.mark.of_the_file
def test_a_warehouse_held_by_another_program_costs_no_request_and_names_it(tmp_path: Path) -> None:
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with World(tmp_path, small(days=5)) as world:
        words = [sys.executable, "-c", hold, str(world.file)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(WarehouseLockedError, match=str(holder.pid)) as refusal:
                world.sync()
            with pytest.raises(WarehouseLockedError, match=str(holder.pid)):
                world.sync(lock_wait="0")
            holder.communicate("")
        assert refusal.value.exit_code == 4
        assert world.requests == ()


@pytest.mark.of_the_file
def test_a_warehouse_of_a_newer_schema_is_left_byte_for_byte(tmp_path: Path) -> None:
    with World(tmp_path, small(days=5)) as world:
        world.sync(until=ago(5))
        world.rows("update internal.alembic_version set version_num = '9999'")
        before, held = len(world.requests), world.file.read_bytes()
        with pytest.raises(SchemaTooNewError, match="9999") as refusal:
            world.sync()
        assert refusal.value.exit_code == 4
        assert len(world.requests) == before
        assert world.file.read_bytes() == held


def test_a_second_sync_of_an_account_is_refused_while_one_runs(tmp_path: Path) -> None:
    with (
        World(tmp_path, small(days=15), Behaviour(latency_seconds=0.02)) as world,
        World(tmp_path, small(days=15)) as aside,
    ):
        with world.start(concurrency=2) as running:
            world.wait_for(running, 10)
            with pytest.raises(WarehouseError) as refusal:
                aside.sync(lock_wait="0")
            assert running.poll() is None
            said = running.communicate(timeout=120)[1]
        assert refusal.value.exit_code == 4
        assert str(running.pid) in refusal.value.message
        assert aside.requests == ()
        assert (running.returncode, said) == (0, "")
        assert world.hourly() == world.expected_rows()

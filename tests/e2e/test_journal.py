"""Responses that a sync has received and not committed are loaded by the next one, whatever happened in between."""

import logging
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.errors import AccountRejectedError, WarehouseError
from etl.extract.journal import FORMAT, SET_ASIDE, read_journals
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.chaos import rows
from tests.chaos.moments import (
    CLOSED,
    COMMITTED,
    DELETED,
    HALF_WRITTEN,
    LEFT_HALF_DELETED,
    LEFT_READ,
    MOMENTS,
    OF_THE_NEXT_SYNC,
    TWO_SEGMENTS,
    WRITTEN,
    Received,
    kill,
    left,
    segments,
)
from tests.e2e.test_all import hourly, start, variables, without_today, world_today, write_config
from tests.e2e.world import (
    KEY,
    LOOKBACK,
    SYNC_ONCE,
    WITHOUT_RETRIES,
    World,
    ago,
    by_hour,
    export,
    money,
    small,
    totals,
    windows,
)
from tests.postgres import new_database, replace_database

pytestmark = pytest.mark.contract

CONCURRENCY = 8
ALL_LEFT = 1_000
"""Snapshots in a commit, if nothing is to be committed before the kill."""
ONE_DAY = timedelta(days=1)


def stored(world: World) -> Counter[Received]:
    """The responses in the warehouse."""
    found = world.rows(
        "select n.window_start, s.member, n.requested_at from internal.snapshots n "
        "join internal.series s on s.account_id = n.account_id and s.series_id = n.series_id"
    )
    return Counter((start.replace(tzinfo=UTC), name, at.replace(tzinfo=UTC)) for start, name, at in found)


def assert_exact(world: World, kills: int = 1) -> None:
    """Assert that the next sync ends with the API's data, each response once, and at most CONCURRENCY requests repeated
    for each kill."""
    world.now += timedelta(minutes=1)  # a response is known by the time of its request
    received = {*left(world), *stored(world)}
    summary = world.sync(concurrency=CONCURRENCY)
    assert summary.exit_code == 0
    assert world.hourly() == world.expected_rows()
    assert received <= stored(world).keys()
    assert set(stored(world).values()) == {1}
    assert [path for path in segments(world) if not path.name.endswith(SET_ASIDE)] == []
    repeated = {window: times for window, times in world.requested().items() if window.start.date() < ago(LOOKBACK)}
    assert sum(times - 1 for times in repeated.values()) <= kills * CONCURRENCY
    hours = export(world)["facts"]
    assert world.run("replay") == 0
    assert export(world)["facts"] == hours


def assert_nothing_requested_since_the_first_kill(world: World) -> None:
    """Every sync begins with today's total. Requests of the killed process may arrive late, so they are not counted."""
    assert world.requested()[next(iter(totals(world.now.date())))] == 1


@pytest.fixture
def world(tmp_path: Path, engine_name: str) -> Iterator[World]:
    with World(tmp_path, small(14), WITHOUT_RETRIES) as world:
        world.copy_new_warehouse()
        yield world


def kill_with_all_left(world: World, responses: int = 30) -> None:
    """Kill a sync that has committed nothing."""
    kill(world, WRITTEN, responses, batch=ALL_LEFT)
    assert len(left(world)) >= responses
    assert not stored(world)


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_loses_and_doubles_nothing(world: World, moment: str) -> None:
    times = {HALF_WRITTEN: 30, WRITTEN: 30, CLOSED: 2, TWO_SEGMENTS: 5}.get(moment, 1)
    if moment in OF_THE_NEXT_SYNC:
        kill(world, TWO_SEGMENTS, 5)
        assert len(segments(world)) == 2
        kill(world, moment, times)
        assert_nothing_requested_since_the_first_kill(world)
    else:
        kill(world, moment, times)
    assert len(world.requests) - len(left(world) | stored(world).keys()) <= CONCURRENCY
    both = stored(world).keys() & left(world)
    has_damage = any(segment.damaged_bytes for segment in read_journals(_prefix(world)))
    has_uncommitted = left(world) - stored(world).keys()
    assert has_damage is (moment == HALF_WRITTEN)
    if moment in (WRITTEN, CLOSED, TWO_SEGMENTS, LEFT_READ):
        assert has_uncommitted
    if moment in (COMMITTED, LEFT_HALF_DELETED):
        assert both
    if moment == DELETED:
        assert stored(world)
    assert_exact(world, kills=1 + (moment in OF_THE_NEXT_SYNC))


def test_a_sync_killed_before_its_only_commit_is_complete_without_a_request_for_another_day(world: World) -> None:
    kill(world, CLOSED, batch=ALL_LEFT)
    assert not stored(world)
    assert len(left(world)) == len(world.requests)
    again = world.requested_by(lambda: assert_exact(world))
    assert {window.start.date() for window in again} <= {ago(days) for days in range(LOOKBACK + 1)}


def _prefix(world: World) -> Path:
    first = next((path for path in segments(world)), world.folder / "none.journal.1")
    return first.with_name(first.name.partition(".journal.")[0] + ".journal")


def test_a_sync_killed_again_and_again_while_it_takes_in_what_was_left_is_exact(world: World) -> None:
    kill_with_all_left(world, 60)
    for times in (1, 3, 7):
        for moment in OF_THE_NEXT_SYNC[:3]:
            kill(world, moment, 1 if moment == LEFT_READ else times, batch=2)
    assert_nothing_requested_since_the_first_kill(world)
    assert_exact(world, kills=10)


# ---------------------------------------------------------------- damage


def _shorten(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:-size])


def _append(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes() + data)


@pytest.mark.parametrize(
    ("damage", "missing"),
    [(_shorten(1), 1), (_shorten(9), 1), (_shorten(60), 1), (_append(b"\0"), 0), (_append(b"garbage" * 99), 0)],
)
def test_a_damaged_end_loses_only_the_response_there(
    world: World, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], missing: int
) -> None:
    kill_with_all_left(world)
    received = left(world)
    damage(segments(world)[-1])
    assert (left(world) <= received, len(left(world))) == (True, len(received) - missing)
    with caplog.at_level(logging.WARNING):
        assert_exact(world)
    assert "at its end are damaged and not loaded" in caplog.text


def _of_another_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(FORMAT, FORMAT.replace(b"1", b"2"), 1))


def _with_damaged_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(FORMAT) + 12] ^= 1
    path.write_bytes(data)


def _of_another_warehouse(path: Path) -> None:
    folder = path.parent / "another"
    folder.mkdir()
    with World(folder, small(14, seed=2), WITHOUT_RETRIES) as other:
        other.warehouse = f"duckdb:///{other.file}"
        other.copy_new_warehouse()
        kill(other, WRITTEN, 30, batch=ALL_LEFT)
        shutil.copy(segments(other)[0], path)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_of_another_version, "is not in the format of this version of the program"),
        (_with_damaged_header, "has a damaged header"),
        (_of_another_warehouse, "is of another account or warehouse (default)"),
    ],
)
def test_a_journal_that_cannot_be_used_stays_on_the_disk_and_its_windows_are_requested_again(
    world: World, caplog: pytest.LogCaptureFixture, change: Callable[[Path], object], problem: str
) -> None:
    kill_with_all_left(world)
    [segment] = segments(world)
    change(segment)
    content, received = segment.read_bytes(), len(world.requests)
    with caplog.at_level(logging.WARNING):
        assert world.sync(empty_days=30).exit_code == 0
    aside = segment.with_name(segment.name + SET_ASIDE)
    assert f"{segment} {problem}; it is kept as {aside} and not loaded" in caplog.text
    assert world.hourly() == world.expected_rows()
    assert windows(world.requests[:received]).keys() <= world.requested(received).keys()
    assert world.sync().exit_code == 0
    assert world.hourly() == world.expected_rows()
    assert [path.read_bytes() for path in segments(world)] == [content]


def test_a_journal_of_another_key_stays_on_the_disk_and_is_not_loaded(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert world.sync(until=ago(10)).exit_code == 0
    kill(world, WRITTEN, 20, batch=ALL_LEFT)
    [segment] = segments(world)
    before = stored(world)
    assert world.sync(key="9" * 32, key_changed=True).exit_code == 0
    assert world.hourly() == world.expected_rows()
    assert "is of another account or warehouse" in caplog.text
    assert segments(world) == [segment.with_name(segment.name + SET_ASIDE)]
    assert before.keys() < stored(world).keys()


# ---------------------------------------------------------------- disks and folders


def test_a_full_disk_during_a_sync_is_an_error_and_all_received_before_is_loaded_later(
    world: World, engine_name: str
) -> None:
    if engine_name == "duckdb":
        pytest.skip("the limit would also apply to the warehouse")
    limited = "import resource, runpy, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [str(SYNC_ONCE), str(world.folder), world.sandbox.url, world.now.isoformat(), str(CONCURRENCY)]
    finished = subprocess.run(
        [sys.executable, "-c", limited, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**world.variables(KEY), "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert finished.returncode == 4, finished.stderr
    assert "cannot use the journal" in finished.stderr
    assert "free disk space" in finished.stderr
    assert len(left(world) | stored(world).keys()) > CONCURRENCY
    assert_exact(world)


@pytest.mark.of_the_file
def test_a_full_disk_beside_the_warehouse_is_an_error_and_all_received_before_is_loaded_later(tmp_path: Path) -> None:
    with (
        rows.mounted(tmp_path, 16) as folder,
        World(folder, small(14), Behaviour(latency_seconds=0.02, unknown_queue="zeros")) as world,
    ):
        world.copy_new_warehouse()
        with world.start(CONCURRENCY) as process:
            world.wait_for(process, 40)
            filler = folder / "another program's file"
            rows.fill(filler)
            stderr = process.communicate(timeout=60)[1]
        assert process.returncode == 4, stderr
        assert "free disk space" in stderr
        assert len(left(world)) >= 40 - CONCURRENCY
        filler.unlink()
        world.behaviour = Behaviour()
        assert_exact(world)


@pytest.mark.of_the_file
def test_a_left_journal_in_a_read_only_folder_waits_until_the_folder_is_writable(tmp_path: Path) -> None:
    with (
        rows.read_only_folder(tmp_path) as (folder, make_read_only, make_writable),
        World(folder, small(14), WITHOUT_RETRIES) as world,
    ):
        world.copy_new_warehouse()
        kill_with_all_left(world)
        received, requests = left(world), len(world.requests)
        make_read_only()
        with pytest.raises(WarehouseError) as caught:
            world.sync()
        make_writable()
        assert caught.value.exit_code == 4
        assert (left(world), len(world.requests)) == (received, requests)
        assert_exact(world)


def test_without_a_usable_state_folder_a_sync_of_a_server_warns_and_is_exact(
    world: World, engine_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if engine_name == "duckdb":
        pytest.skip("the journal of a file is beside it")
    for folder in ("/proc/no-folder-can-be-made-here", "/dev/null"):
        caplog.clear()
        assert world.sync(state_folder=folder).exit_code == 0
        assert f"cannot use the state folder {folder}" in caplog.text
        assert world.hourly() == world.expected_rows()
    assert segments(world) == []


def test_windows_of_a_deleted_state_folder_are_requested_again(world: World, engine_name: str) -> None:
    kill(world, CLOSED, 2)
    received, before = left(world) - stored(world).keys(), stored(world)
    requests = world.requested()
    assert received
    assert before
    for path in segments(world):
        path.unlink()
    summary = world.sync(empty_days=30)
    assert summary.exit_code == 0
    assert world.hourly() == world.expected_rows()
    assert before.keys() <= stored(world).keys()
    assert set(stored(world).values()) == {1}
    again = {window for window, times in world.requested().items() if window in requests and times > requests[window]}
    assert {(start, name) for start, name, _ in received if start.date() < ago(LOOKBACK)} <= {*again}


# ---------------------------------------------------------------- copies and other machines


def _copy(world: World) -> Callable[[], object]:
    """Copy the warehouse; return the function that puts the copy back."""
    if world.is_file:
        copy = world.folder / "copy"
        shutil.copy(world.file, copy)
        return lambda: shutil.copy(copy, world.file)
    copied = new_database(like=sa.make_url(world.warehouse).database or "")
    return lambda: replace_database(world.warehouse, copied)


def test_a_copy_of_the_warehouse_put_back_beside_a_newer_journal_is_recognised(world: World) -> None:
    assert world.sync(until=ago(10)).exit_code == 0
    put_back = _copy(world)
    for moment in (WRITTEN, CLOSED):
        kill(world, moment, 2)
    received = left(world)
    assert len(received) >= 20
    put_back()
    known = {None, *(name for (name,) in world.rows("select distinct queue from spending_hourly"))}
    requests = len(world.requests)
    summary = world.sync()
    assert summary.exit_code == 0
    [finding] = [one for one in summary.findings if one.check == "the warehouse is as new as its journal"]
    assert "the journal is from run 3, but the warehouse knows no run after 1" in finding.message
    assert world.hourly() == world.expected_rows()
    assert {*received} <= stored(world).keys()
    assert set(stored(world).values()) == {1}
    requested_again = world.requested(requests)
    assert not [
        window
        for window in requested_again
        if (window.start, window.queue) in {one[:2] for one in received}
        and window.start.date() < ago(LOOKBACK)
        and window.queue in known  # the copy does not know whether a queue without spend exists
    ]
    assert not world.sync().findings
    assert world.hourly() == world.expected_rows()


def _move(paths: list[Path], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [path.rename(folder / path.name) for path in paths]


def test_a_journal_older_than_what_another_machine_has_loaded_changes_nothing(tmp_path: Path, engine_name: str) -> None:
    with World(tmp_path, small(14, corrections=True), WITHOUT_RETRIES) as world:
        world.copy_new_warehouse()
        kill_with_all_left(world, 40)
        received, folder = left(world), segments(world)[0].parent
        recent = {key: value for key, value in world.expected_rows().items() if key[1].date() >= ago(1)}
        away = _move(segments(world), tmp_path / "machine-a")  # as another machine would find it
        world.now += ONE_DAY
        assert world.sync().exit_code == 0
        before, expected = world.hourly(), world.expected_rows()
        assert {key: expected[key] for key in recent} != recent  # what the journal has is not right any more
        _move(away, folder)
        assert world.sync().exit_code == 0
        assert world.hourly() == before == world.expected_rows()
        assert {*received} <= stored(world).keys()
        assert segments(world) == []


def test_left_responses_of_days_whose_responses_were_deleted_change_nothing(tmp_path: Path, engine_name: str) -> None:
    with World(tmp_path, small(14, corrections=True), WITHOUT_RETRIES) as world:
        world.copy_new_warehouse()
        kill_with_all_left(world, 60)
        received, folder = left(world), segments(world)[0].parent
        away = _move(segments(world), tmp_path / "machine-a")
        world.now += 40 * ONE_DAY
        assert world.sync(raw_retention_days=31).exit_code == 0
        before, snapshots = world.hourly(), stored(world)
        deleted = {day for day in world.days("final") if day < world.now.date() - 31 * ONE_DAY}
        _move(away, folder)
        assert world.sync(raw_retention_days=31).exit_code == 0
        assert world.hourly() == before == world.expected_rows()
        added = stored(world).keys() - snapshots.keys()
        without_raw = {one for one in received if one[0].date() in deleted}
        assert without_raw
        assert added.isdisjoint(without_raw)
        assert {*received} - without_raw <= added
        assert segments(world) == []


def test_days_older_than_the_retention_are_taken_in_from_a_journal(tmp_path: Path, engine_name: str) -> None:
    with World(tmp_path, small(50, 2), WITHOUT_RETRIES) as world:
        assert world.sync(since=ago(36), raw_retention_days=31).exit_code == 0
        kill(world, TWO_SEGMENTS, 5, ANTICAPTCHA_SINCE="all", ANTICAPTCHA_RAW_RETENTION_DAYS="31")
        received = left(world)
        assert {one for one in received if one[0].date() < ago(36)}
        assert world.sync(raw_retention_days=31).exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert {*received} <= stored(world).keys()


# ---------------------------------------------------------------- names


KNOWN = (
    "select dimension, member, status from internal.member_statuses m where valid_from = (select max(valid_from) from "
    "internal.member_statuses o where (o.account_id, o.dimension, o.member) = (m.account_id, m.dimension, m.member))"
)
LEARNED = (
    "select dimension, behaviour, code from internal.unknown_name_behaviours",
    "select hour_offset_seconds, full_day_from_snapshot from internal.accounts",
)
FIRST, SECOND = "Recaptcha Proxyless", "FunCaptcha"
ONE_QUEUE = small(8, (FIRST, SECOND), lives=((SECOND, ago(8), ago(8)),))
"""On nearly all days the queue's responses equal the totals."""


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(unknown_queue="error"), Behaviour(unknown_queue="zeros"), Behaviour(unknown_queue="totals")],
    ids=["error", "zeros", "totals"],
)
@pytest.mark.parametrize("dataset", [small(8), ONE_QUEUE], ids=["three queues", "one queue"])
def test_names_that_only_the_journal_decides_are_known_as_in_a_sync_without_a_kill(
    tmp_path: Path, engine_name: str, behaviour: Behaviour, dataset: Dataset
) -> None:
    known, learned, hours = [], [], []
    for is_killed in (False, True):
        folder = tmp_path / str(is_killed)
        folder.mkdir()
        with World(folder, dataset, behaviour) as world:
            world.copy_new_warehouse()
            if is_killed:
                kill(world, WRITTEN, 16, batch=ALL_LEFT, concurrency=1)
                assert left(world)
            else:
                world.now += timedelta(minutes=1)
            assert world.sync(concurrency=1, empty_days=30).exit_code == 0
            known.append(sorted(world.rows(KNOWN)))
            learned.append([world.rows(sql) for sql in LEARNED])
            hours.append(world.hourly())
            assert money(world.hourly()) == money(world.expected_rows())
            probes = [window for window in world.requested() if window.queue and window.queue.startswith("no such")]
            assert len(probes) == 1
            assert world.requested()[probes[0]] == (
                2 if behaviour.unknown_queue == "error" else 1
            )  # errors are retried
    assert known[0] == known[1]
    assert learned[0] == learned[1]
    assert hours[0] == hours[1]


# ---------------------------------------------------------------- many accounts


def test_accounts_of_one_killed_process_are_exact_after_the_next_sync(tmp_path: Path, engine_name: str) -> None:
    names = ("acc01", "acc02", "acc03")
    with world_today(tmp_path, 30, 2, Behaviour(latency_seconds=0.05, unknown_queue="zeros")) as world:
        write_config(world, names)
        settings = {**world.variables(None), **variables(world, names)}
        program = f"""if True:
            from pathlib import Path
            from etl.cli import main
            from tests.chaos import moments

            def have_all_a_journal(*_):
                return len({{path.name.split(".journal.")[0] for path in Path.cwd().rglob("*.journal.*")}}) == {len(names)}

            moments.MOMENTS[moments.WRITTEN] = moments.MOMENTS[moments.WRITTEN]._replace(counts=have_all_a_journal)
            moments.kill_at(moments.WRITTEN, 10)
            main()
        """
        repository = str(Path(__file__).resolve().parents[2])
        killed = subprocess.run(
            [sys.executable, "-c", program, "sync", "--all"],
            cwd=world.folder,
            env={**settings, "PYTHONPATH": repository},
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len({path.name.split(".journal.")[0] for path in segments(world)}) == len(names)
        with start(world, "sync", "--all", names=names, **settings) as process:
            output = process.communicate(timeout=120)
        assert process.returncode == 0, output
        for name in names:
            assert without_today(hourly(world, name), world.now.date()) == without_today(
                world.expected_rows(), world.now.date()
            )
        assert segments(world) == []


# ---------------------------------------------------------------- empty responses


@pytest.mark.parametrize("totals_only", [False, True])
def test_an_empty_response_that_only_the_journal_has_is_requested_again_before_it_counts(
    world: World, totals_only: bool
) -> None:
    assert world.sync(totals_only=totals_only).exit_code == 0
    before = world.hourly()
    world.now += 5 * ONE_DAY
    world.sandbox.behaviour = replace(WITHOUT_RETRIES, retention_days=5)
    number = 8 if totals_only else 29  # the response that says that ago(1) has no spend
    kill(world, WRITTEN, number, batch=ALL_LEFT, concurrency=1, ANTICAPTCHA_TOTALS_ONLY=str(totals_only))
    assert [start.date() for start, _, _ in left(world) if start.date() <= ago(1)] == [ago(1)]
    world.sandbox.behaviour = WITHOUT_RETRIES
    summary = world.sync(totals_only=totals_only)
    assert (summary.exit_code, summary.findings) == (0, ())
    assert by_hour(world.hourly()) == by_hour(world.expected_rows())
    assert before.keys() <= world.hourly().keys()


def test_empty_responses_that_only_the_journal_has_are_a_finding_if_the_api_repeats_them(world: World) -> None:
    assert world.sync().exit_code == 0
    world.now += 5 * ONE_DAY
    world.sandbox.behaviour = replace(WITHOUT_RETRIES, retention_days=5)
    kill(world, WRITTEN, 30, batch=ALL_LEFT, concurrency=1)  # twice that ago(1) has no spend
    summary = world.sync()
    assert summary.exit_code == 5
    [finding] = [one for one in summary.findings if one.severity == "blocking"]
    assert finding.check == "closed days keep their spend"
    assert str(ago(1)) in finding.message


@pytest.mark.parametrize("number", [21, 24, 27, 30])
def test_a_run_that_the_api_stops_commits_everything_it_has_received(number: int, tmp_path: Path) -> None:
    with World(tmp_path, small(days=40), replace(WITHOUT_RETRIES, latency_seconds=0.02)) as world:
        world.sandbox.faults = (Fault(FaultKind.ZERO_BALANCE, numbers=(number,)),)
        with pytest.raises(AccountRejectedError):
            world.sync(concurrency=16)
        assert list(tmp_path.glob("*.journal.*")) == []

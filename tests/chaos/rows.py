"""Interruptions by operators, disks and other programs: each row of the README's table with its scenario.

A scenario returns the exit code of the affected command, after it has checked that the next run ends with exactly the
API's data.
``python -m tests.chaos.rows`` prints the table.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from etl.models import HOUR
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse
from tests.chaos import kills, moments
from tests.e2e.world import KEY, LOOKBACK, NOW, World, ago, export, small, windows
from tests.matrix import Matrix

KILLED_CODE = 128 + signal.SIGKILL
"""Exit code that a shell reports for a killed program."""

MATRIX = Matrix[Path]("What happens", "What the program does")
row = MATRIX.row


# ---------------------------------------------------------------- helpers


def _world(folder: Path, days: int = 20, latency: float = 0.0) -> World:
    """Return a world at the current time, for programs that use the real clock."""
    now = datetime.now(UTC)
    dataset = Dataset(seed=1, begins=now.date() - timedelta(days=days), queues=3, idle_weeks=0, turnover=False)
    return World(folder, dataset, Behaviour(latency_seconds=latency, unknown_queue="zeros"), now=now)


def _assert_next_sync_exact(world: World) -> None:
    """Assert that an undisturbed sync ends with exactly the API's data."""
    if world.now != NOW:  # the processes use the real time
        world.now = datetime.now(UTC)
    assert world.sync().exit_code == 0
    stored, expected = world.hourly(), world.expected_rows()
    end = (
        world.now.replace(tzinfo=None) - HOUR
    )  # the first hour of a day has no queues before its end, and tests also run at midnight
    assert {key: stored[key] for key in stored if key[1] <= end} == {
        key: expected[key] for key in expected if key[1] <= end
    }
    assert kills.count_duplicates(world.file) == 0


class Finished(NamedTuple):
    """Exit code and output of a program."""

    code: int
    stdout: str
    stderr: str


def _start(world: World, *arguments: str, first: str = "", **variables: str) -> "subprocess.Popen[str]":
    """Start ``anticaptcha-etl`` in the world's folder and wait until it has run the code ``first``."""
    defaults = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_RATE": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{first}\nfrom etl.cli import main\nprint(flush=True)\nmain()", *arguments],
        cwd=world.folder,
        env={**defaults, "ANTICAPTCHA_EMPTY_DAYS": "5", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _finish(process: "subprocess.Popen[str]") -> Finished:
    with process:
        stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr, stderr
    return Finished(process.returncode, stdout, stderr)


def _run(world: World, *arguments: str, first: str = "", **variables: str) -> Finished:
    return _finish(_start(world, *arguments, first=first, **variables))


def _assert_error_and_hint(finished: Finished) -> int:
    """Assert an error line and a hint line (an interrupted command without progress has no hint); return the exit code."""
    errors = [line for line in finished.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert errors == ["error: interrupted"] or len(errors) == 2, finished.stderr
    return finished.code


def _wait(done: Callable[[], bool]) -> None:
    for _ in range(6_000):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the condition was never met")


def _kill_until_log(world: World, batch: int) -> Path:
    """Kill a sync that has committed ``batch`` snapshots and not closed the warehouse; return the log beside it."""
    moments.kill(world, moments.FILE_OPEN, batch=batch)
    log = world.file.with_name(f"{world.file.name}.wal")
    assert log.stat().st_size > 1_000
    return log


def _copy(world: World, name: str) -> Path:
    """Copy the warehouse and its log into a new folder."""
    folder = world.folder / name
    folder.mkdir()
    for file in world.folder.glob("warehouse.duckdb*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, folder)
    return folder


def _restore(world: World, copy: Path, log_of: Path | None = None) -> None:
    """Put a copied file back, with the log of a copy or without one."""
    for file in world.folder.glob("warehouse.duckdb*"):
        file.unlink()
    shutil.copy(copy / world.file.name, world.file)
    if log_of:
        shutil.copy(log_of / f"{world.file.name}.wal", world.folder)


# ---------------------------------------------------------------- killed

KILLED = "ends at once, whatever it was doing"


def _assert_no_losses(losses: kills.Losses) -> int:
    assert losses.is_none, losses
    return KILLED_CODE


@row(
    "SIGKILL during sync",
    does=KILLED,
    code=KILLED_CODE,
    stored="what was received; the next run continues and repeats at most `--concurrency` requests",
)
def killed_sync(folder: Path) -> int:
    return _assert_no_losses(kills.sync(folder, 4, random.Random(1)))


@row(
    "SIGKILL during replay",
    does=KILLED,
    code=KILLED_CODE,
    stored="each day as before or as replayed; the next replay gives the same rows",
)
def killed_replay(folder: Path) -> int:
    return _assert_no_losses(kills.replay(folder, 3, random.Random(1)))


@row(
    "SIGKILL during publish",
    does=KILLED,
    code=KILLED_CODE,
    stored="the old copy or the new one, complete; the next publish removes leftovers",
)
def killed_publish(folder: Path) -> int:
    return _assert_no_losses(kills.publish(folder, 3, random.Random(1)))


@row(
    "SIGKILL during export",
    does=KILLED,
    code=KILLED_CODE,
    stored="the old folder or the new one, complete; for a moment none, and then the next export restores the old one",
)
def killed_export(folder: Path) -> int:
    return _assert_no_losses(kills.exported(folder, 3, random.Random(1)))


@row(
    "SIGKILL during a schema upgrade",
    does=KILLED,
    code=KILLED_CODE,
    stored="the old schema or the new one, with all facts",
)
def killed_migrate(folder: Path) -> int:
    return _assert_no_losses(kills.migrate_killed(folder, 3, random.Random(1)))


@row(
    "a schema upgrade ends halfway",
    does="the next program that opens the file rolls it back",
    code=KILLED_CODE,
    stored="the old schema; the next upgrade has the same facts",
)
def died_migrate(folder: Path) -> int:
    with World(folder, small(12)) as world:
        assert world.sync().exit_code == 0
        facts = export(world)["facts"]
        engine = open_warehouse(f"duckdb:///{world.file}")
        migrate.downgrade(engine, "0001")
        for statements in (3, 9, 15, 21):
            dying = f"""if True:
                import os, signal
                import sqlalchemy as sa
                left = [{statements}]

                @sa.event.listens_for(sa.Engine, "after_cursor_execute")
                def die(*_):
                    import sys
                    left[0] -= "alembic" in sys.modules
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
            """
            assert _run(world, "migrate", first=dying).code == -signal.SIGKILL
            assert migrate.current(engine) == "0001"
        migrate.upgrade(engine)
        assert export(world)["facts"] == facts
        _assert_next_sync_exact(world)
    return KILLED_CODE


# ---------------------------------------------------------------- stopped

STOPS = "stops with one sentence"


@row("Ctrl-C or SIGTERM during sync", does=STOPS, code=130, stored="what was received; the next run continues")
def stopped_sync(folder: Path) -> int:
    with _world(folder, latency=0.03) as world:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            before = len(world.requests)
            process = _start(world, "sync")
            world.wait_for(process, before + 30)
            process.send_signal(signal_number)
            finished = _finish(process)
            assert "interrupted" in finished.stderr
            assert _assert_error_and_hint(finished) == 130
        _assert_next_sync_exact(world)
    return 130


ARGUMENTS: dict[str, tuple[str, ...]] = {
    "migrate": ("migrate", "--warehouse", "old.duckdb"),
    "publish": ("publish", "bi.duckdb", "--quiet"),
    "export": ("export", "lake", "--quiet"),
    "replay": ("replay",),
    "query": ("query", "select count(*) from range(1000000000) a, range(1000) b where a.range % 7 = b.range"),
    "report": ("report", "-o", "page.html"),
    "check": ("check",),
    "doctor": ("doctor",),
}
MODULES = {
    "migrate": "etl.warehouse.migrate, alembic.command",
    "publish": "etl.outputs.publish, etl.outputs.check_report",
    "export": "etl.outputs.export",
    "replay": "etl.sync.replay",
    "query": "etl.outputs.query",
    "report": "etl.outputs.report.page, etl.outputs.report.queries",
    "check": "etl.outputs.check_report",
    "doctor": "etl.maintenance.doctor",
}


@row(
    "Ctrl-C or SIGTERM during another command: migrate, publish, export, replay, query, report, check, doctor",
    does=STOPS,
    code=130,
    stored="the state before or after it, nothing in between",
)
def stopped_others(folder: Path) -> int:
    random_source = random.Random(1)
    with _world(folder, latency=0.3) as world:
        assert world.sync().exit_code == 0
        shutil.copy(world.file, folder / "of-now.duckdb")
        migrate.downgrade(open_warehouse(f"duckdb:///{world.file}"), "0001")
        world.file.rename(folder / "first.duckdb")
        (folder / "of-now.duckdb").rename(world.file)
        for command, arguments in ARGUMENTS.items():
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                shutil.copy(folder / "first.duckdb", folder / "old.duckdb")
                process = _start(world, *arguments, first=f"import {MODULES[command]}")
                threading.Event().wait(random_source.uniform(0.005, 0.03))  # a check takes 0.1 s
                process.send_signal(signal_number)
                finished = _finish(process)
                assert (command, _assert_error_and_hint(finished)) == (command, 130)
                assert "interrupted" in finished.stderr
                assert not list(folder.glob("*.part"))
        assert not [name for name in ("bi.duckdb", "lake", "page.html") if (folder / name).exists()]
        for command in ("migrate", "publish", "export", "replay"):
            assert _run(world, *ARGUMENTS[command]).code == 0
        assert not list(folder.glob(".*.draft"))
        _assert_next_sync_exact(world)
    return 130


# ---------------------------------------------------------------- disks

_LIMIT_FILE_SIZE = (
    "import resource, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
)
"""Limits the size of files, which is like a full disk for one process and also works for the superuser.

Python 3.11 would also cut off the compiled modules it writes, and no later process could import them.
"""

FULL = "reports that the disk is full"


@row(
    "the disk is full during sync",
    does=FULL,
    code=4,
    stored="what was received; the next run with free space continues",
)
def full_sync(folder: Path) -> int:
    with _world(folder, days=60) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        before = set(world.rows("select * from internal.snapshots"))
        for bytes_left in (60_000, 250_000):
            code = _assert_error_and_hint(
                _run(world, "sync", "--since", "all", first=_LIMIT_FILE_SIZE.format(bytes_left))
            )
            assert code == 4
            stored = set(world.rows("select * from internal.snapshots"))
            assert stored >= before
            before = stored
        _assert_next_sync_exact(world)
    return code


@row(
    "the disk is full during publish, export, replay or a schema upgrade",
    does=FULL,
    code=4,
    stored="what was there before; the next run with free space completes",
)
def full_others(folder: Path) -> int:
    with _world(folder, days=60) as world:
        assert world.sync().exit_code == 0
        before = export(world)
        for arguments in (("publish", "bi.duckdb"), ("export", "lake")):
            assert _assert_error_and_hint(_run(world, *arguments, first=_LIMIT_FILE_SIZE.format(100_000))) == 4
            assert {file.name for file in folder.iterdir()} <= {world.file.name, "warehouse.duckdb.default.lock"}
        world.rows("delete from internal.facts")
        world.rows("checkpoint")
        assert _assert_error_and_hint(_run(world, "replay", first=_LIMIT_FILE_SIZE.format(60_000))) == 4
        assert _run(world, "replay").code == 0
        assert export(world) == before
        engine = open_warehouse(f"duckdb:///{world.file}")
        migrate.downgrade(engine, "0001")
        assert _assert_error_and_hint(_run(world, "migrate", first=_LIMIT_FILE_SIZE.format(20_000))) == 4
        assert migrate.current(engine) == "0001"
        for command in (["migrate"], ["publish", "bi.duckdb"], ["export", "lake"]):
            assert _run(world, *command).code == 0
        assert export(world)["facts"] == before["facts"]
        _assert_next_sync_exact(world)
    return 4


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system; only the superuser can."""
    folder_of_world = folder / "mounted"
    folder_of_world.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder_of_world)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder_of_world
    finally:
        subprocess.run(["umount", "--lazy", str(folder_of_world)], check=True)


def fill(file: Path) -> None:
    """Write until the disk of the file is full."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


@row(
    "a file system without a single free byte",
    does=FULL,
    code=4,
    stored="what was received; the next run with free space continues",
)
def full_file_system(folder: Path) -> int:
    with mounted(folder, 8) as folder_of_world, _world(folder_of_world, days=60) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        before = set(world.rows("select * from internal.snapshots"))
        fill(folder_of_world / "another's")
        for arguments in (("sync", "--since", "all"), ("publish", "bi.duckdb"), ("export", "lake")):
            assert _assert_error_and_hint(_run(world, *arguments)) == 4
        (folder_of_world / "another's").unlink()
        assert set(world.rows("select * from internal.snapshots")) >= before
        assert not list(folder_of_world.glob(".*.draft"))
        world.now = datetime.now(UTC)
        assert world.sync(since="all").exit_code == 0
        _assert_next_sync_exact(world)
    return 4


@row(
    "a read-only file system or folder",
    does="reports it; sync sends no requests",
    code=4,
    stored="what was there before; it can still be read",
)
def read_only(folder: Path) -> int:
    with (
        read_only_folder(folder) as (folder_of_world, make_read_only, make_writable),
        _world(folder_of_world) as world,
    ):
        assert world.sync().exit_code == 0
        shutil.copy(world.file, folder_of_world / "first.duckdb")
        migrate.downgrade(open_warehouse(f"duckdb:///{folder_of_world / 'first.duckdb'}"), "0001")
        requests_before = len(world.requests)
        make_read_only()
        commands = (
            ("sync",),
            ("replay",),
            ("publish", "bi.duckdb"),
            ("export", "lake"),
            ("migrate", "--warehouse", "first.duckdb"),
        )
        codes = {arguments[0]: _assert_error_and_hint(_run(world, *arguments)) for arguments in commands}
        assert codes == dict.fromkeys(codes, 4)
        assert len(world.requests) == requests_before
        assert _run(world, "query", "select count(*) from spending_daily").code == 0
        make_writable()
        _assert_next_sync_exact(world)
    return 4


@contextmanager
def read_only_folder(folder: Path) -> "Iterator[tuple[Path, Callable[[], object], Callable[[], object]]]":
    """Yield a folder with functions that make it read-only and writable. Modes do not limit the superuser, who can mount."""
    if os.geteuid() == 0:
        with mounted(folder, 16) as folder_of_world:

            def remount(how: str) -> None:
                subprocess.run(["mount", "-o", f"remount,{how}", str(folder_of_world)], check=True)

            yield folder_of_world, lambda: remount("ro"), lambda: remount("rw")
        return
    folder_of_world = folder / "shut"
    folder_of_world.mkdir()
    yield (
        folder_of_world,
        lambda: _set_modes(folder_of_world, 0o555, 0o444),
        lambda: _set_modes(folder_of_world, 0o755, 0o644),
    )


def _set_modes(folder_of_world: Path, folder: int, file: int) -> None:
    for path in folder_of_world.iterdir():
        path.chmod(file)
    folder_of_world.chmod(folder)


# ---------------------------------------------------------------- restored


@row(
    "a copy of the file is restored: taken during a killed sync, with or without its `.wal`, or from yesterday",
    does="continues from the content of the copy",
    code=0,
    stored="everything; without the `.wal`, some requests are repeated",
)
def restored(folder: Path) -> int:
    with World(folder, small(40)) as world:
        assert world.sync(until=ago(30)).exit_code == 0
        yesterday = _copy(world, "yesterday")
        _kill_until_log(world, 40)
        copy = _copy(world, "copy")
        for stored, log_of in ((copy, copy), (copy, None), (yesterday, None)):
            _restore(world, stored, log_of)
            _assert_next_sync_exact(world)
            assert (
                world.rows(
                    "select snapshot_id from internal.snapshots where snapshot_id > (select count(*) from "
                    "internal.snapshots)"
                )
                == []
            )
    return 0


@row(
    "a copy of the file is restored beside the `.wal` of another file",
    does="DuckDB applies that log to the file: sync notices and sends no requests, `check` reports it",
    code=4,
    stored="a mixture: restore the copy again, without that `.wal`",
)
def restored_beside_another_log(folder: Path) -> int:
    with World(folder, small(40)) as world:
        _kill_until_log(world, 40)
        older = _copy(world, "older")
        _kill_until_log(world, 60)
        newer = _copy(world, "newer")
        _assert_next_sync_exact(world)
        newest = _copy(world, "newest")
        for stored, log_of in ((older, newer), (newest, older)):
            _restore(world, stored, log_of)
            requests_before = len(world.requests)
            assert _run(world, "check").code in (4, 5)
            finished = _run(world, "sync")
            assert "of two states" in finished.stderr or "another file's" in finished.stderr
            assert _assert_error_and_hint(finished) == 4
            assert len(world.requests) == requests_before
            _restore(world, stored)
            _assert_next_sync_exact(world)
    return 4


# ---------------------------------------------------------------- two programs


def _keep_open(file: Path, seconds: float) -> "subprocess.Popen[str]":
    """Start a program that keeps the warehouse open."""
    program = f"import duckdb, time; connection = duckdb.connect({str(file)!r}, read_only=True); print(flush=True); time.sleep({seconds})"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@row(
    "two syncs of one account, the first one takes long",
    does="waits for `--lock-wait`, then names the other process by its PID; sends no requests",
    code=4,
    stored="what the first sync loads",
)
def two_syncs(folder: Path) -> int:
    with _world(folder, latency=0.1) as world:
        first = _start(world, "sync", "--concurrency", "2")
        world.wait_for(first, 5)
        finished = _run(world, "sync", "--lock-wait", "1")
        assert first.poll() is None
        assert f"PID {first.pid}" in finished.stderr
        assert _finish(first).code == 0
        assert max(world.requested().values()) <= 2
        _assert_next_sync_exact(world)
        return _assert_error_and_hint(finished)


@row(
    "two syncs of one account, the first ends in time",
    does="the second waits, then requests only the open days",
    code=0,
    stored="everything",
)
def two_syncs_one_after_the_other(folder: Path) -> int:
    with _world(folder, latency=0.1) as world:
        first = _start(world, "sync")
        world.wait_for(first, 5)
        usual = {"ANTICAPTCHA_SPOT_CHECKS": "0", "ANTICAPTCHA_BALANCE": "false"}
        second = _start(world, "sync", "--lock-wait", "60", **usual)
        assert _finish(first).code == 0
        requests_before = len(world.requests)
        finished = _finish(second)
        assert "waiting for it" in finished.stderr
        recent = {world.now.date() - timedelta(days=days) for days in range(LOOKBACK + 2)}
        assert {window.start.date() for window in windows(world.requests[requests_before:])} <= recent
        assert len(world.requests) - requests_before <= 3 * len(recent)
        _assert_next_sync_exact(world)
        return finished.code


@row(
    "two syncs of two accounts in one warehouse",
    does="they take turns, one commit each",
    code=0,
    stored="everything of both accounts",
)
def two_accounts(folder: Path) -> int:
    with _world(folder, latency=0.01) as world:
        other = Sandbox(
            Dataset(seed=2, begins=world.dataset.begins, queues=4, idle_weeks=0, turnover=False),
            world.behaviour,
            now=lambda: world.now,
        )
        with other:
            variables = {"ANTICAPTCHA_API_URL": other.url, "ANTICAPTCHA_CLIENT_KEY": "9" * 32}
            both = [_start(world, "sync"), _start(world, "sync", "--account", "shop", **variables)]
            codes = [_finish(process).code for process in both]
            assert len(other.requests) > 50
        yesterday = world.now.date() - timedelta(days=1)
        for account, sandbox in (("default", world.sandbox), ("shop", other)):
            stored = world.rows(
                "select queue, hour_start, volume, money from spending_hourly "
                f"where account = '{account}' and hour_start < date '{yesterday + timedelta(days=1)}'"
            )
            expected_rows = sandbox.expected_rows(world.dataset.begins, yesterday, world.now)
            assert sorted(stored) == sorted(
                (queue, hour.replace(tzinfo=None), *measures) for queue, hour, *measures in expected_rows
            )
        return max(codes)


@row(
    "a program keeps the warehouse open for minutes",
    does="sync waits for `--lock-wait` before a commit, then names the program by its PID",
    code=4,
    stored="what was committed; the next run continues",
)
def reader_for_long(folder: Path) -> int:
    with _world(folder, days=40, latency=0.02) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        with _keep_open(world.file, 60) as reader:
            requests_before = len(world.requests)
            at_start = _run(world, "sync", "--since", "all", "--lock-wait", "1")
            assert f"PID {reader.pid}" in at_start.stderr
            assert _assert_error_and_hint(at_start) == 4
            assert len(world.requests) == requests_before
            reader.kill()
        syncing = _start(world, "sync", "--since", "all", "--lock-wait", "1")
        world.wait_for(syncing, requests_before + 20)
        with _reader_between_commits(world) as reader:
            finished = _finish(syncing)
            assert f"PID {reader.pid}" in finished.stderr
            reader.kill()
        world.now = datetime.now(UTC)
        assert world.sync(since="all").exit_code == 0
        _assert_next_sync_exact(world)
        return _assert_error_and_hint(finished)


@contextmanager
def _reader_between_commits(world: World, seconds: float = 60) -> "Iterator[subprocess.Popen[str]]":
    """Start a reader that opens the file between two commits and keeps it open."""
    program = f"""if True:
        import duckdb, time
        while True:
            try:
                connection = duckdb.connect({str(world.file)!r}, read_only=True)
                break
            except duckdb.IOException:
                time.sleep(0.005)
        print(flush=True)
        time.sleep({seconds})
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        yield reader


@row(
    "a program keeps the warehouse open for some seconds", does="sync waits and continues", code=0, stored="everything"
)
def reader_for_short(folder: Path) -> int:
    with _world(folder, days=40, latency=0.02) as world:
        syncing = _start(world, "sync", "--lock-wait", "60")
        world.wait_for(syncing, 20)
        with _reader_between_commits(world, seconds=2):
            assert syncing.poll() is None
        finished = _finish(syncing)
        assert "is locked by" in finished.stderr
        assert max(times for window, times in world.requested().items() if window.start.date() < world.now.date()) <= 2
        _assert_next_sync_exact(world)
        return finished.code


@row(
    "a BI tool keeps the published copy open",
    does="neither waits: the tool keeps the copy it has open, and sees the new one when it opens the file again",
    code=0,
    stored="everything, also in the copy",
)
def reader_of_the_copy(folder: Path) -> int:
    with _world(folder) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        (folder / "bi").mkdir()
        assert _run(world, "publish", "bi").code == 0
        copy = folder / "bi" / world.file.name
        with duckdb.connect(copy, read_only=True) as tool:
            before = tool.execute("select count(*) from spending_hourly").fetchone()
            finished = _run(world, "sync", "--since", "all", "--lock-wait", "0", ANTICAPTCHA_PUBLISH="bi")
            assert tool.execute("select count(*) from spending_hourly").fetchone() == before
        with duckdb.connect(copy, read_only=True) as tool:
            assert tool.execute("select count(*) from spending_hourly").fetchall() == world.rows(
                "select count(*) from spending_hourly"
            )
        _assert_next_sync_exact(world)
        return finished.code


@row(
    "publish, query and export during a sync",
    does="they take turns; each reader sees complete commits",
    code=0,
    stored="everything",
)
def own_readers(folder: Path) -> int:
    with _world(folder, days=60, latency=0.1) as world:
        syncing = _start(world, "sync", "--concurrency", "2")
        world.wait_for(syncing, 20)
        seen: list[Sequence[Any]] = []
        while syncing.poll() is None and len(seen) < 8:
            sums = (
                "select sum(money) as money from spending_hourly union all select sum(money) from spending_total_hourly"
            )
            requests_before = _run(world, "query", sums, "--format", "csv")
            assert requests_before.code == 0, requests_before.stderr
            seen.append(re.findall(r"^[\d.]+$", requests_before.stdout, re.MULTILINE))
            assert _run(world, "publish", "bi.duckdb").code == 0
            assert _run(world, "export", "lake").code == 0
        assert any(seen)  # there is no sum before the first commit
        assert all(len({*sums_of_both}) <= 1 for sums_of_both in seen)
        finished = _finish(syncing)
        _assert_next_sync_exact(world)
        return finished.code


if __name__ == "__main__":
    print(MATRIX.table())

"""What operators, disks and other programs do: each row of the README's table with the act that shows it.

An act gives the exit code of the command that meets it, after it has seen that the next run ends at the stand-in's
own books.
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
from tests.chaos import kills
from tests.e2e.world import KEY, LOOKBACK, NOW, World, ago, export, small, windows
from tests.matrix import Matrix

DEAD = 128 + signal.SIGKILL
"""What a shell says of a program that was killed."""

MATRIX = Matrix[Path]("What happens", "What the program does")
row = MATRIX.row


# ---------------------------------------------------------------- what acts are made of


def _world(folder: Path, days: int = 20, latency: float = 0.0) -> World:
    """A history up to this very moment, for programs that have a clock of their own."""
    now = datetime.now(UTC)
    dataset = Dataset(seed=1, begins=now.date() - timedelta(days=days), queues=3, idle_weeks=0, turnover=False)
    return World(folder, dataset, Behaviour(latency_seconds=latency, unknown_queue="zeros"), now=now)


def _ends_exact(world: World) -> None:
    """The next run, with nothing in its way."""
    if world.now != NOW:  # programs of their own have asked later than that
        world.now = datetime.now(UTC)
    assert world.sync().exit_code == 0
    held, told = world.hourly(), world.expected_rows()
    ended = (
        world.now.replace(tzinfo=None) - HOUR
    )  # a day's first hour has no queues before it is over: tests run at midnight too
    assert {key: held[key] for key in held if key[1] <= ended} == {key: told[key] for key in told if key[1] <= ended}
    assert kills.doubled(world.file) == 0


class AccountOutcome(NamedTuple):
    """How a program ended, and what it said."""

    code: int
    said: str
    complaint: str


def _start(world: World, *words: str, first: str = "", **environ: str) -> "subprocess.Popen[str]":
    """``anticaptcha-etl`` in the world's folder, once it has done ``first`` and is about to begin."""
    given = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_RATE": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{first}\nfrom etl.cli import main\nprint(flush=True)\nmain()", *words],
        cwd=world.folder,
        env={**given, "ANTICAPTCHA_EMPTY_DAYS": "5", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _end(process: "subprocess.Popen[str]") -> AccountOutcome:
    with process:
        said, complaint = process.communicate(timeout=120)
    assert "Traceback" not in complaint, complaint
    return AccountOutcome(process.returncode, said, complaint)


def _run(world: World, *words: str, first: str = "", **environ: str) -> AccountOutcome:
    return _end(_start(world, *words, first=first, **environ))


def _is_a_problem(ended: AccountOutcome) -> int:
    """An error line and a hint line; a command that keeps no progress is only interrupted."""
    told = [line for line in ended.complaint.splitlines() if line.startswith(("error: ", "hint: "))]
    assert told == ["error: interrupted"] or len(told) == 2, ended.complaint
    return ended.code


def _wait(done: Callable[[], bool]) -> None:
    for _ in range(6_000):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def _killed_with_log(world: World, requests: int) -> Path:
    """Kills syncs until one leaves a log beside the warehouse; the log."""
    log = world.file.with_name(f"{world.file.name}.wal")
    for more in range(requests, requests + 300, 7):
        kills.kill_sync(world, len(world.requests) + more, 0, concurrency=8)
        if log.exists() and log.stat().st_size > 1_000:
            return log
    raise AssertionError("no kill left a log")


def _copied(world: World, name: str) -> Path:
    """The warehouse and its log, as they lie there."""
    folder = world.folder / name
    folder.mkdir()
    for file in world.folder.glob("warehouse.duckdb*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, folder)
    return folder


def _restored(world: World, copy: Path, log_of: Path | None = None) -> None:
    """Puts a copied file back, with the log of a copy or with none."""
    for file in world.folder.glob("warehouse.duckdb*"):
        file.unlink()
    shutil.copy(copy / world.file.name, world.file)
    if log_of:
        shutil.copy(log_of / f"{world.file.name}.wal", world.folder)


# ---------------------------------------------------------------- killed

KILLED = "is gone at once, with whatever it was about"


def _survives(toll: kills.Toll) -> int:
    assert toll.is_none, toll
    return DEAD


@row(
    "SIGKILL while it syncs",
    does=KILLED,
    code=DEAD,
    stored="what was committed; the next run goes on, and asks at most twice `--concurrency` requests again",
)
def killed_sync(folder: Path) -> int:
    return _survives(kills.sync(folder, 7, random.Random(1)))


@row(
    "SIGKILL while it replays",
    does=KILLED,
    code=DEAD,
    stored="each day as before or as replayed; the next replay ends with the same rows",
)
def killed_replay(folder: Path) -> int:
    return _survives(kills.replay(folder, 3, random.Random(1)))


@row(
    "SIGKILL while it publishes",
    does=KILLED,
    code=DEAD,
    stored="the copy before or the new one, whole; the next publish clears up",
)
def killed_publish(folder: Path) -> int:
    return _survives(kills.publish(folder, 3, random.Random(1)))


@row(
    "SIGKILL while it exports",
    does=KILLED,
    code=DEAD,
    stored="the folder before or the new one, whole; in the instant of the swap none, and the next export puts the "
    "one before back",
)
def killed_export(folder: Path) -> int:
    return _survives(kills.exported(folder, 3, random.Random(1)))


@row(
    "SIGKILL while it upgrades the schema",
    does=KILLED,
    code=DEAD,
    stored="the schema before or the new one, all facts with it",
)
def killed_migrate(folder: Path) -> int:
    return _survives(kills.moved(folder, 3, random.Random(1)))


@row(
    "an upgrade of the schema dies half-way",
    does="whoever opens it next takes back what was done",
    code=DEAD,
    stored="the schema before; the next upgrade has the same facts",
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
        _ends_exact(world)
    return DEAD


# ---------------------------------------------------------------- stopped

STOPS = "stops, says so in a sentence"


@row("Ctrl-C or SIGTERM while it syncs", does=STOPS, code=130, stored="what was committed; the next run goes on")
def stopped_sync(folder: Path) -> int:
    with _world(folder, latency=0.03) as world:
        for number in (signal.SIGINT, signal.SIGTERM):
            before = len(world.requests)
            process = _start(world, "sync")
            world.wait_for(process, before + 30)
            process.send_signal(number)
            ended = _end(process)
            assert "interrupted" in ended.complaint
            assert _is_a_problem(ended) == 130
        _ends_exact(world)
    return 130


WORDS: dict[str, tuple[str, ...]] = {
    "migrate": ("migrate", "--warehouse", "old.duckdb"),
    "publish": ("publish", "bi.duckdb", "--quiet"),
    "export": ("export", "lake", "--quiet"),
    "replay": ("replay",),
    "query": ("query", "select count(*) from range(1000000000) a, range(1000) b where a.range % 7 = b.range"),
    "report": ("report", "-o", "page.html"),
    "check": ("check",),
    "doctor": ("doctor",),
}
ROOMS = {
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
    "Ctrl-C or SIGTERM while it does anything else: migrate, publish, export, replay, query, report, check, doctor",
    does=STOPS,
    code=130,
    stored="what was there before, or what was about to be; nothing half",
)
def stopped_others(folder: Path) -> int:
    dice = random.Random(1)
    with _world(folder, latency=0.3) as world:
        assert world.sync().exit_code == 0
        shutil.copy(world.file, folder / "of-now.duckdb")
        migrate.downgrade(open_warehouse(f"duckdb:///{world.file}"), "0001")
        world.file.rename(folder / "first.duckdb")
        (folder / "of-now.duckdb").rename(world.file)
        for command, words in WORDS.items():
            for number in (signal.SIGINT, signal.SIGTERM):
                shutil.copy(folder / "first.duckdb", folder / "old.duckdb")
                process = _start(world, *words, first=f"import {ROOMS[command]}")
                threading.Event().wait(dice.uniform(0.05, 0.2))
                process.send_signal(number)
                ended = _end(process)
                assert (command, _is_a_problem(ended)) == (command, 130)
                assert "interrupted" in ended.complaint
                assert not list(folder.glob("*.part"))
        assert not [name for name in ("bi.duckdb", "lake", "page.html") if (folder / name).exists()]
        for command in ("migrate", "publish", "export", "replay"):
            assert _run(world, *WORDS[command]).code == 0
        assert not list(folder.glob(".*.draft"))
        _ends_exact(world)
    return 130


# ---------------------------------------------------------------- disks

_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
"""No file may grow beyond so many bytes: a full disk for one process, whoever runs it; the kernel refuses the same
writes."""

FULL = "says what to make room for"


@row("the disk is full while it syncs", does=FULL, code=4, stored="what was committed; the next run with room goes on")
def full_sync(folder: Path) -> int:
    with _world(folder, days=60) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        before = set(world.rows("select * from internal.snapshots"))
        for room in (60_000, 250_000):
            code = _is_a_problem(_run(world, "sync", "--since", "all", first=_ROOM.format(room)))
            assert code == 4
            held = set(world.rows("select * from internal.snapshots"))
            assert held >= before
            before = held
        _ends_exact(world)
    return code


@row(
    "the disk is full while it publishes, exports, replays or upgrades the schema",
    does=FULL,
    code=4,
    stored="what was there before; the next run with room ends as if nothing had been",
)
def full_others(folder: Path) -> int:
    with _world(folder, days=60) as world:
        assert world.sync().exit_code == 0
        before = export(world)
        for words in (("publish", "bi.duckdb"), ("export", "lake")):
            assert _is_a_problem(_run(world, *words, first=_ROOM.format(100_000))) == 4
            assert {file.name for file in folder.iterdir()} <= {world.file.name, "warehouse.duckdb.default.lock"}
        world.rows("delete from internal.facts")
        world.rows("checkpoint")
        assert _is_a_problem(_run(world, "replay", first=_ROOM.format(60_000))) == 4
        assert _run(world, "replay").code == 0
        assert export(world) == before
        engine = open_warehouse(f"duckdb:///{world.file}")
        migrate.downgrade(engine, "0001")
        assert _is_a_problem(_run(world, "migrate", first=_ROOM.format(20_000))) == 4
        assert migrate.current(engine) == "0001"
        for command in (["migrate"], ["publish", "bi.duckdb"], ["export", "lake"]):
            assert _run(world, *command).code == 0
        assert export(world)["facts"] == before["facts"]
        _ends_exact(world)
    return 4


@contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system of its own; only the superuser can have one."""
    place = folder / "mounted"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@row(
    "a file system that is full to the last byte",
    does=FULL,
    code=4,
    stored="what was committed; the next run with room goes on",
)
def full_file_system(folder: Path) -> int:
    with _mounted(folder, 8) as place, _world(place, days=60) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        before = set(world.rows("select * from internal.snapshots"))
        with (place / "another's").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        for words in (("sync", "--since", "all"), ("publish", "bi.duckdb"), ("export", "lake")):
            assert _is_a_problem(_run(world, *words)) == 4
        (place / "another's").unlink()
        assert set(world.rows("select * from internal.snapshots")) >= before
        assert not list(place.glob(".*.draft"))
        world.now = datetime.now(UTC)
        assert world.sync(since="all").exit_code == 0
        _ends_exact(world)
    return 4


@row(
    "a read-only file system, or a folder that one may not write in",
    does="says so; sync asks nothing",
    code=4,
    stored="what was there before; reading works",
)
def read_only(folder: Path) -> int:
    with contextmanager(_unwritable)(folder) as (place, shut, opened), _world(place) as world:
        assert world.sync().exit_code == 0
        shutil.copy(world.file, place / "first.duckdb")
        migrate.downgrade(open_warehouse(f"duckdb:///{place / 'first.duckdb'}"), "0001")
        asked = len(world.requests)
        shut()
        commands = (
            ("sync",),
            ("replay",),
            ("publish", "bi.duckdb"),
            ("export", "lake"),
            ("migrate", "--warehouse", "first.duckdb"),
        )
        codes = {words[0]: _is_a_problem(_run(world, *words)) for words in commands}
        assert codes == dict.fromkeys(codes, 4)
        assert len(world.requests) == asked
        assert _run(world, "query", "select count(*) from spending_daily").code == 0
        opened()
        _ends_exact(world)
    return 4


def _unwritable(folder: Path) -> "Iterator[tuple[Path, Callable[[], object], Callable[[], object]]]":
    """A place, and what makes it read-only and writable again: modes do not hold the superuser, who can mount."""
    if os.geteuid() == 0:
        with _mounted(folder, 16) as place:

            def remount(how: str) -> None:
                subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)

            yield place, lambda: remount("ro"), lambda: remount("rw")
        return
    place = folder / "shut"
    place.mkdir()
    yield place, lambda: _set_modes(place, 0o555, 0o444), lambda: _set_modes(place, 0o755, 0o644)


def _set_modes(place: Path, folder: int, file: int) -> None:
    for one in place.iterdir():
        one.chmod(file)
    place.chmod(folder)


# ---------------------------------------------------------------- restored


@row(
    "a copy of the file is put back, taken beside a killed sync, with its `.wal` or without; or yesterday's",
    does="goes on from what the copy holds",
    code=0,
    stored="everything; without the `.wal` some seconds' requests are asked again",
)
def restored(folder: Path) -> int:
    with World(folder, small(40)) as world:
        assert world.sync(until=ago(30)).exit_code == 0
        yesterday = _copied(world, "yesterday")
        _killed_with_log(world, 40)
        copy = _copied(world, "copy")
        for held, log_of in ((copy, copy), (copy, None), (yesterday, None)):
            _restored(world, held, log_of)
            _ends_exact(world)
            assert (
                world.rows(
                    "select snapshot_id from internal.snapshots where snapshot_id > (select count(*) from "
                    "internal.snapshots)"
                )
                == []
            )
    return 0


@row(
    "a copy of the file is put back beside another's `.wal`",
    does="DuckDB takes that log for the file's own: sync finds it out and asks nothing, `check` finds it too",
    code=4,
    stored="two states in one: put the copy back once more, without that `.wal`",
)
def restored_beside_a_strange_log(folder: Path) -> int:
    with World(folder, small(40)) as world:
        _killed_with_log(world, 40)
        older = _copied(world, "older")
        _killed_with_log(world, 60)
        newer = _copied(world, "newer")
        _ends_exact(world)
        newest = _copied(world, "newest")
        for held, log_of in ((older, newer), (newest, older)):
            _restored(world, held, log_of)
            asked = len(world.requests)
            assert _run(world, "check").code in (4, 5)
            ended = _run(world, "sync")
            assert "of two states" in ended.complaint or "another file's" in ended.complaint
            assert _is_a_problem(ended) == 4
            assert len(world.requests) == asked
            _restored(world, held)
            _ends_exact(world)
    return 4


# ---------------------------------------------------------------- two programs


def _held_open(file: Path, seconds: float) -> "subprocess.Popen[str]":
    """Somebody looks into the warehouse with a tool that keeps it open."""
    program = f"import duckdb, time; held = duckdb.connect({str(file)!r}, read_only=True); print(flush=True); time.sleep({seconds})"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@row(
    "two syncs of one account, the first takes too long",
    does="waits for `--lock-wait`, then names the other by its PID; asks nothing",
    code=4,
    stored="what the first reads",
)
def two_syncs(folder: Path) -> int:
    with _world(folder, latency=0.1) as world:
        first = _start(world, "sync", "--concurrency", "2")
        world.wait_for(first, 5)
        ended = _run(world, "sync", "--lock-wait", "1")
        assert first.poll() is None
        assert f"PID {first.pid}" in ended.complaint
        assert _end(first).code == 0
        assert max(world.requested().values()) <= 2
        _ends_exact(world)
        return _is_a_problem(ended)


@row(
    "two syncs of one account, the first ends in time",
    does="the second waits, then asks only what every sync asks",
    code=0,
    stored="everything",
)
def two_syncs_one_after_the_other(folder: Path) -> int:
    with _world(folder, latency=0.02) as world:
        first = _start(world, "sync")
        world.wait_for(first, 5)
        second = _start(world, "sync", "--lock-wait", "60")
        assert _end(first).code == 0
        asked = len(world.requests)
        ended = _end(second)
        assert "waiting for it" in ended.complaint
        recent = {world.now.date() - timedelta(days=days) for days in range(LOOKBACK + 2)}
        assert {window.start.date() for window in windows(world.requests[asked:])} <= recent
        assert len(world.requests) - asked <= 3 * len(recent)
        _ends_exact(world)
        return ended.code


@row(
    "two syncs of two accounts, one warehouse",
    does="they take turns for each commit",
    code=0,
    stored="everything of both",
)
def two_accounts(folder: Path) -> int:
    with _world(folder, latency=0.01) as world:
        other = Sandbox(
            Dataset(seed=2, begins=world.dataset.begins, queues=4, idle_weeks=0, turnover=False),
            world.behaviour,
            now=lambda: world.now,
        )
        with other:
            environ = {"ANTICAPTCHA_API_URL": other.url, "ANTICAPTCHA_CLIENT_KEY": "9" * 32}
            both = [_start(world, "sync"), _start(world, "sync", "--account", "shop", **environ)]
            codes = [_end(process).code for process in both]
            assert len(other.requests) > 50
        yesterday = world.now.date() - timedelta(days=1)
        for account, sandbox in (("default", world.sandbox), ("shop", other)):
            held = world.rows(
                "select queue, hour_start, volume, money from spending_hourly "
                f"where account = '{account}' and hour_start < date '{yesterday + timedelta(days=1)}'"
            )
            expected_rows = sandbox.expected_rows(world.dataset.begins, yesterday, world.now)
            assert sorted(held) == sorted(
                (queue, hour.replace(tzinfo=None), *unattributed) for queue, hour, *unattributed in expected_rows
            )
        return max(codes)


@row(
    "a program keeps the warehouse open for minutes",
    does="sync waits for `--lock-wait` at a commit, then names it with its PID",
    code=4,
    stored="what was committed; the next run goes on",
)
def reader_for_long(folder: Path) -> int:
    with _world(folder, days=40, latency=0.02) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        with _held_open(world.file, 60) as reader:
            asked = len(world.requests)
            at_start = _run(world, "sync", "--since", "all", "--lock-wait", "1")
            assert f"PID {reader.pid}" in at_start.complaint
            assert _is_a_problem(at_start) == 4
            assert len(world.requests) == asked
            reader.kill()
        syncing = _start(world, "sync", "--since", "all", "--lock-wait", "1")
        world.wait_for(syncing, asked + 20)
        with _let_in(world) as reader:
            ended = _end(syncing)
            assert f"PID {reader.pid}" in ended.complaint
            reader.kill()
        world.now = datetime.now(UTC)
        assert world.sync(since="all").exit_code == 0
        _ends_exact(world)
        return _is_a_problem(ended)


@contextmanager
def _let_in(world: World, seconds: float = 60) -> "Iterator[subprocess.Popen[str]]":
    """A reader that comes between two commits, as soon as the sync lets it, and stays."""
    program = f"""if True:
        import duckdb, time
        while True:
            try:
                held = duckdb.connect({str(world.file)!r}, read_only=True)
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


@row("a program keeps the warehouse open for some seconds", does="sync waits and goes on", code=0, stored="everything")
def reader_for_short(folder: Path) -> int:
    with _world(folder, days=40, latency=0.02) as world:
        syncing = _start(world, "sync", "--lock-wait", "60")
        world.wait_for(syncing, 20)
        with _let_in(world, seconds=2):
            assert syncing.poll() is None
        ended = _end(syncing)
        assert "is locked by" in ended.complaint
        assert max(times for window, times in world.requested().items() if window.start.date() < world.now.date()) <= 2
        _ends_exact(world)
        return ended.code


@row(
    "a BI tool keeps the published copy open",
    does="nobody waits for anybody: the tool keeps what it has open, and sees the next when it opens it again",
    code=0,
    stored="everything, the copy too",
)
def reader_of_the_copy(folder: Path) -> int:
    with _world(folder) as world:
        assert world.sync(since=world.now.date() - timedelta(days=3)).exit_code == 0
        (folder / "bi").mkdir()
        assert _run(world, "publish", "bi").code == 0
        copy = folder / "bi" / world.file.name
        with duckdb.connect(copy, read_only=True) as tool:
            before = tool.execute("select count(*) from spending_hourly").fetchone()
            ended = _run(world, "sync", "--since", "all", "--lock-wait", "0", ANTICAPTCHA_PUBLISH="bi")
            assert tool.execute("select count(*) from spending_hourly").fetchone() == before
        with duckdb.connect(copy, read_only=True) as tool:
            assert tool.execute("select count(*) from spending_hourly").fetchall() == world.rows(
                "select count(*) from spending_hourly"
            )
        _ends_exact(world)
        return ended.code


@row(
    "publish, query and export while it syncs",
    does="they take turns; each reader sees whole commits",
    code=0,
    stored="everything",
)
def readers_of_ours(folder: Path) -> int:
    with _world(folder, days=60, latency=0.02) as world:
        syncing = _start(world, "sync", "--concurrency", "2")
        world.wait_for(syncing, 20)
        seen: list[Sequence[Any]] = []
        while syncing.poll() is None and len(seen) < 4:
            sums = (
                "select sum(money) as money from spending_hourly union all select sum(money) from spending_total_hourly"
            )
            asked = _run(world, "query", sums, "--format", "csv")
            assert asked.code == 0, asked.complaint
            seen.append(re.findall(r"^[\d.]+$", asked.said, re.MULTILINE))
            assert _run(world, "publish", "bi.duckdb").code == 0
            assert _run(world, "export", "lake").code == 0
        assert len(seen) >= 1
        assert all(by_queue == total for by_queue, total in seen)
        ended = _end(syncing)
        _ends_exact(world)
        return ended.code


if __name__ == "__main__":
    print(MATRIX.table())

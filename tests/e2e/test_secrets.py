"""The key is in the request's body and nowhere else."""

import base64
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Behaviour, Fault, FaultKind
from tests.e2e.world import LIKELIEST, World

SECRET = "Qz7-unmistakable-client-key-9f3K"


def _traces() -> tuple[bytes, ...]:
    """The key as it could be written: plain, half of it, hex, base64 at any offset, and as a quoted URL or repr."""
    plain = SECRET.encode()
    half = len(plain) // 2
    encoded = [base64.b64encode(b"\0" * offset + plain)[4:-4] for offset in range(3)]
    return (plain, plain[:half], plain[half:], plain.hex().encode(), plain.hex().upper().encode(), *encoded)


def _world(folder: Path, *faults: Fault, behaviour: Behaviour = LIKELIEST) -> World:
    now = datetime.now(UTC)
    return World(folder, Dataset.busy(begins=now.date() - timedelta(days=3), queues=2), behaviour, faults, now)


def _everything(world: World, *said: bytes) -> Iterator[tuple[str, bytes]]:
    """All that a run left: what it said, every file as it is, and the warehouse's rows unpacked."""
    yield from (("said", text) for text in said)
    for file in world.folder.rglob("*"):
        if file.is_file():
            yield file.name, file.read_bytes()
    if not world.file.exists():
        return
    for (table,) in world.rows("select table_name from information_schema.tables where table_type = 'BASE TABLE'"):
        yield table, repr(world.rows(f"select * from {table}")).encode()
    for (body,) in world.rows("select body from answers"):
        yield "answer", zlib.decompress(body)


def _is_nowhere(world: World, *said: bytes) -> None:
    found = [(place, trace) for place, content in _everything(world, *said) for trace in _traces() if trace in content]
    assert found == []
    assert b"ANTICAPTCHA_CLIENT_KEY" not in b"".join(said)  # nor the environment it came from


def _run(world: World, *words: str, program: tuple[str, ...] = ("-m", "etl")) -> "subprocess.CompletedProcess[bytes]":
    environ = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_CLIENT_KEY": SECRET, "ANTICAPTCHA_RATE": "0"}
    command = [sys.executable, *program, "sync", "--empty-days", "2", *words]
    return subprocess.run(command, capture_output=True, cwd=world.folder, env=environ, timeout=120, check=False)


def test_the_traces_looked_for_would_be_found(tmp_path: Path) -> None:
    leaks = (SECRET, SECRET.encode().hex(), *(base64.b64encode(b"x" * n + SECRET.encode() + b"y").decode() for n in range(3)))
    assert all(any(trace in leak.encode() for trace in _traces()) for leak in leaks)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_verbose_sync_that_meets_trouble_shows_no_key(tmp_path: Path, form: str) -> None:
    kinds = (FaultKind.RESET, FaultKind.CUT, FaultKind.HTML_502)
    faults = tuple(Fault(kind, numbers=(number,)) for number, kind in enumerate(kinds, start=5))
    with _world(tmp_path, *faults) as world:
        done = _run(world, "-v", "--log-format", form)
        assert done.returncode == 0, done.stderr
        assert {request.fault for request in world.requests} == {None, *kinds}
        assert b"records" in done.stderr  # it did speak
        if form == "json":
            assert all(json.loads(line)["level"] for line in done.stderr.splitlines())
        _is_nowhere(world, done.stdout, done.stderr)


def test_a_refused_key_is_not_shown(tmp_path: Path) -> None:
    with _world(tmp_path, behaviour=Behaviour(refused_keys=frozenset({SECRET}))) as world:
        done = _run(world, "-v")
        assert done.returncode == 3
        assert len(world.requests) == 1
        assert b"ERROR_KEY_DOES_NOT_EXIST" in done.stderr
        _is_nowhere(world, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "room", ["etl.extract.wire.body", "etl.extract.wire.read", "etl.load.upsert._write_facts", "etl.load.ledger.hashed"]
)
def test_a_crash_inside_shows_a_traceback_without_the_key(tmp_path: Path, room: str) -> None:
    module, _, name = room.rpartition(".")
    program = f"import {module} as room\nroom.{name} = lambda *_, **__: 1 / 0\nfrom etl.cli import main\nmain()"
    with _world(tmp_path) as world:
        done = _run(world, "-v", program=("-c", program))
        assert done.returncode == 1
        assert b"ZeroDivisionError" in done.stderr
        _is_nowhere(world, done.stdout, done.stderr)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux shows command lines there")
def test_a_key_of_the_environment_is_not_in_the_process_list(tmp_path: Path) -> None:
    with _world(tmp_path, behaviour=Behaviour(latency_seconds=0.05)) as world:
        with world.command("sync", key=SECRET) as process:
            world.wait_for(process, 5)
            seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert b"sync" in seen
        assert not any(trace in seen for trace in _traces())

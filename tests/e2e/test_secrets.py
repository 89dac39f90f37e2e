"""The key is in the request's body and nowhere else."""

import base64
import copy
import json
import logging
import pickle
import pprint
import signal
import subprocess
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.secret import Secret
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
    for (table,) in world.rows(
        "select table_schema || '.' || table_name from information_schema.tables where table_type = 'BASE TABLE'"
    ):
        yield table, repr(world.rows(f"select * from {table}")).encode()
    for (body,) in world.rows("select body from internal.responses"):
        yield "answer", zlib.decompress(body)


def _leaks(world: World, *said: bytes) -> list[tuple[str, bytes]]:
    return [(place, trace) for place, content in _everything(world, *said) for trace in _traces() if trace in content]


def _is_nowhere(world: World, *said: bytes) -> None:
    assert _leaks(world, *said) == []
    assert b"ANTICAPTCHA_CLIENT_KEY" not in b"".join(said)  # nor the environment it came from


def _run(world: World, *words: str, program: tuple[str, ...] = ("-m", "etl")) -> "subprocess.CompletedProcess[bytes]":
    environ = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_CLIENT_KEY": SECRET, "ANTICAPTCHA_RATE": "0"}
    command = [sys.executable, *program, "sync", "--empty-days", "2", *words]
    return subprocess.run(command, capture_output=True, cwd=world.folder, env=environ, timeout=120, check=False)


def test_the_traces_looked_for_would_be_found(tmp_path: Path) -> None:
    leaks = (
        SECRET,
        SECRET.encode().hex(),
        *(base64.b64encode(b"x" * n + SECRET.encode() + b"y").decode() for n in range(3)),
    )
    assert all(any(trace in leak.encode() for trace in _traces()) for leak in leaks)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_verbose_sync_that_meets_trouble_shows_no_key(tmp_path: Path, form: str) -> None:
    kinds = (FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.HTML_502)
    faults = tuple(Fault(kind, numbers=(number,)) for number, kind in enumerate(kinds, start=5))
    with _world(tmp_path, *faults) as world:
        done = _run(world, "-v", "--log-format", form)
        assert done.returncode == 0, done.stderr
        assert {request.fault for request in world.requests} == {None, *kinds}
        assert b"records" in done.stderr  # it did speak
        if form == "json":
            assert all(json.loads(line)["level"] for line in done.stderr.splitlines())
        _is_nowhere(world, done.stdout, done.stderr)


class Life:
    """All that people do with a warehouse, each word of it heard, and its temporary folder watched too."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.temporary = world.folder / "tmp"
        self.temporary.mkdir()
        self.key = world.folder.parent / f"{world.folder.name}-key"  # outside what is searched: here it may stand
        self.key.write_text(SECRET)
        self.key.chmod(0o600)
        self.heard: list[bytes] = []

    def run(self, *words: str, code: int = 0, program: tuple[str, ...] = ("-m", "etl"), **told: str) -> None:
        environ = {
            "ANTICAPTCHA_API_URL": self.world.sandbox.url,
            "ANTICAPTCHA_CLIENT_KEY_FILE": str(self.key),
            "ANTICAPTCHA_RATE": "0",
            "ANTICAPTCHA_EMPTY_DAYS": "2",
            "TMPDIR": str(self.temporary),
            "PYTHONDEVMODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONWARNINGS": "ignore",
            **told,
        }
        command = [sys.executable, *program, *words, "-v"]
        done = subprocess.run(
            command, capture_output=True, cwd=self.world.folder, env=environ, timeout=120, check=False
        )
        self.heard += [done.stdout, done.stderr]
        assert done.returncode == code, (words, done.stderr)


def _opened(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the open formats, its rows unpacked, and every database but the warehouse itself."""
    reader = duckdb.connect()
    for file in folder.rglob("*.parquet"):
        yield (
            file.name,
            repr(reader.execute(f"select * from read_parquet('{file}', hive_partitioning = true)").fetchall()).encode(),
        )
        yield (
            file.name,
            repr(reader.execute(f"select key, value from parquet_kv_metadata('{file}')").fetchall()).encode(),
        )
    for file in (folder / "bi").rglob("*.duckdb"):
        with duckdb.connect(file, read_only=True) as published:
            for (table,) in published.execute(
                "select table_schema || '.' || table_name from information_schema.tables"
            ).fetchall():
                yield f"published {table}", repr(published.execute(f"from {table}").fetchall()).encode()


@pytest.mark.slow
def test_a_whole_life_leaves_the_key_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "life"
    folder.mkdir()
    (folder / "bi").mkdir()
    kinds = (FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.HTML_502)
    faults = tuple(Fault(kind, numbers=(number,)) for number, kind in enumerate(kinds, start=5))
    crash = "import etl.extract.protocol as room\nroom.parse_response = lambda *_, **__: 1 / 0\nfrom etl.cli import main\nmain()"
    with _world(folder, *faults) as world:
        life = Life(world)
        life.run("sync", ANTICAPTCHA_PUBLISH="bi")
        life.run("sync", "--log-format", "json", "--queue", "Nobody's queue")
        life.run("sync", "--since", "2026-11-01", "--until", "2026-11-02", code=1, program=("-c", crash))
        life.run("sync", code=2, ANTICAPTCHA_CLIENT_KEY=SECRET)  # said twice
        life.run("sync", code=2, ANTICAPTCHA_CLIENT_KEY_FILE=f"{life.key}-not")
        life.run("plan")
        life.run("doctor")
        life.run("doctor", "--probe", "--json")
        life.run("publish", "bi/again.duckdb")
        life.run("export", "lake")
        life.run("export", "sheets", "--format", "csv")
        life.run("report", "-o", "report.html")
        for form in ("csv", "json", "parquet"):
            life.run("query", "select * from internal.accounts", "--format", form, "-o", f"accounts.{form}")
        life.run("query", "select * from duckdb_settings()")
        life.run("query", "select getenv('ANTICAPTCHA_CLIENT_KEY_FILE')", code=2)
        life.run("status", "--json")
        life.run("check", "--json")
        life.run("replay")
        life.run("migrate", "--down", "--to", "0003")
        life.run("migrate")
        assert {request.fault for request in world.requests} == {None, *kinds}
        assert any(request.key_ok for request in world.requests)  # it was used, and so could have leaked
        assert len(list(folder.rglob("*.parquet"))) > 5
        unpacked = [content for _, content in _opened(folder)]
        assert unpacked
        assert b"ZeroDivisionError" in b"".join(life.heard)
        assert _leaks(world, *life.heard, *unpacked) == []


def test_a_secret_has_no_way_of_showing_itself() -> None:
    secret = Secret(SECRET)

    @dataclass(frozen=True)
    class Holder:
        key: Secret

    shown = [
        str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", f"{[secret]}", ascii(secret),
        repr(Holder(secret)), json.dumps({"key": secret}, default=str), repr(dir(secret)),
        logging.makeLogRecord({"msg": "%s", "args": (secret,)}).getMessage(), pprint.pformat(Holder(secret)),
        str(ValueError(secret)), traceback_with_locals(secret),
    ]  # fmt: skip
    assert not [text for text in shown if any(trace.decode() in text for trace in _traces())]
    assert not hasattr(secret, "__dict__")
    acts: tuple[Callable[[Any], object], ...] = (
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        vars,
        bytes,
        len,
        iter,
    )
    for act in acts:
        with pytest.raises(TypeError):
            act(secret)
    with pytest.raises(TypeError):
        asdict(Holder(secret))


def traceback_with_locals(secret: Secret) -> str:
    """As loggers of other programs write it."""
    try:
        raise ValueError(secret)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_a_refused_key_is_not_shown(tmp_path: Path) -> None:
    with _world(tmp_path, behaviour=Behaviour(refused_keys=frozenset({SECRET}))) as world:
        done = _run(world, "-v")
        assert done.returncode == 3
        assert len(world.requests) == 1
        assert b"ERROR_KEY_DOES_NOT_EXIST" in done.stderr
        _is_nowhere(world, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "room",
    [
        "etl.extract.protocol.encode_request",
        "etl.extract.protocol.parse_response",
        "etl.load.upsert._merge_facts",
        "etl.load.accounts.hash_key",
    ],
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

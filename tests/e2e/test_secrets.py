"""The API key is in the request body and nowhere else."""

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

from etl import cli
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.secret import Secret
from tests.e2e.world import WITHOUT_RETRIES, World

SECRET = "Qz7-unmistakable-client-key-9f3K"
RunSync = Callable[..., tuple[int, bytes, bytes]]


def _traces_of_the_key() -> tuple[bytes, ...]:
    """Return all forms of the key to search for: plain, each half, hex, and base64 at any offset."""
    plain = SECRET.encode()
    half = len(plain) // 2
    encoded = [base64.b64encode(b"\0" * offset + plain)[4:-4] for offset in range(3)]
    return (plain, plain[:half], plain[half:], plain.hex().encode(), plain.hex().upper().encode(), *encoded)


def _world(folder: Path, *faults: Fault, behaviour: Behaviour = WITHOUT_RETRIES) -> World:
    now = datetime.now(UTC)
    return World(folder, Dataset.always_active(begins=now.date() - timedelta(days=3), queues=2), behaviour, faults, now)


def _everything(world: World, *output: bytes) -> Iterator[tuple[str, bytes]]:
    """Return all that a run left: its output, every file, and the rows of the warehouse, decompressed."""
    yield from (("output", text) for text in output)
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
        yield "response", zlib.decompress(body)


def _leaks(world: World, *output: bytes) -> list[tuple[str, bytes]]:
    return [
        (place, trace)
        for place, content in _everything(world, *output)
        for trace in _traces_of_the_key()
        if trace in content
    ]


def _assert_not_found(world: World, *output: bytes) -> None:
    assert _leaks(world, *output) == []
    assert b"ANTICAPTCHA_CLIENT_KEY" not in b"".join(output)  # the environment is not printed either


@pytest.fixture
def run_sync(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> RunSync:
    """``run_sync(world, *arguments)``: exit code, standard output and standard error, with the key in the environment."""

    def run_sync(world: World, *arguments: str) -> tuple[int, bytes, bytes]:
        variables = {"API_URL": world.sandbox.url, "CLIENT_KEY": SECRET, "RATE": "0", "EMPTY_DAYS": "2"}
        for name, value in variables.items():
            monkeypatch.setenv(f"ANTICAPTCHA_{name}", value)
        monkeypatch.chdir(world.folder)
        code = cli.run(["sync", *arguments])
        return code, *capfdbinary.readouterr()

    return run_sync


def test_the_search_for_the_key_finds_it_in_every_form(tmp_path: Path) -> None:
    leaks = (
        SECRET,
        SECRET.encode().hex(),
        *(base64.b64encode(b"x" * n + SECRET.encode() + b"y").decode() for n in range(3)),
    )
    assert all(any(trace in leak.encode() for trace in _traces_of_the_key()) for leak in leaks)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_verbose_sync_with_failing_requests_shows_no_key(tmp_path: Path, run_sync: RunSync, form: str) -> None:
    kinds = (FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.HTML_502)
    faults = tuple(Fault(kind, numbers=(number,)) for number, kind in enumerate(kinds, start=5))
    with _world(tmp_path, *faults) as world:
        code, stdout, stderr = run_sync(world, "-v", "--log-format", form)
        assert code == 0, stderr
        assert {request.fault for request in world.requests} == {None, *kinds}
        assert b"records" in stderr  # it did log something
        if form == "json":
            assert all(json.loads(line)["level"] for line in stderr.splitlines())
        _assert_not_found(world, stdout, stderr)


class Commands:
    """Runs commands one after another and collects their output. Their temporary files are below the world's folder."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.temporary = world.folder / "tmp"
        self.temporary.mkdir()
        self.key = world.folder.parent / f"{world.folder.name}-key"  # outside the searched folder
        self.key.write_text(SECRET)
        self.key.chmod(0o600)
        self.output: list[bytes] = []

    def run(self, *arguments: str, code: int = 0, program: tuple[str, ...] = ("-m", "etl"), **variables: str) -> None:
        environment = {
            "ANTICAPTCHA_API_URL": self.world.sandbox.url,
            "ANTICAPTCHA_CLIENT_KEY_FILE": str(self.key),
            "ANTICAPTCHA_RATE": "0",
            "ANTICAPTCHA_EMPTY_DAYS": "2",
            "TMPDIR": str(self.temporary),
            "PYTHONDEVMODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONWARNINGS": "ignore",
            **variables,
        }
        command = [sys.executable, *program, *arguments, "-v"]
        finished = subprocess.run(
            command, capture_output=True, cwd=self.world.folder, env=environment, timeout=120, check=False
        )
        self.output += [finished.stdout, finished.stderr]
        assert finished.returncode == code, (arguments, finished.stderr)


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return the rows of every Parquet file and of every published copy."""
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
def test_no_command_leaves_the_key_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "bi").mkdir()
    kinds = (FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.HTML_502)
    faults = tuple(Fault(kind, numbers=(number,)) for number, kind in enumerate(kinds, start=5))
    crash = "import etl.extract.protocol as protocol\nprotocol.parse_response = lambda *_, **__: 1 / 0\nfrom etl.cli import main\nmain()"
    with _world(folder, *faults) as world:
        commands = Commands(world)
        commands.run("sync", ANTICAPTCHA_PUBLISH="bi")
        commands.run("sync", "--log-format", "json", "--queue", "An unlisted queue")
        commands.run("sync", "--since", "2026-11-01", "--until", "2026-11-02", code=1, program=("-c", crash))
        commands.run("sync", code=2, ANTICAPTCHA_CLIENT_KEY=SECRET)  # given twice
        commands.run("sync", code=2, ANTICAPTCHA_CLIENT_KEY_FILE=f"{commands.key}-not")
        commands.run("plan")
        commands.run("doctor")
        commands.run("doctor", "--probe", "--json")
        commands.run("publish", "bi/again.duckdb")
        commands.run("export", "lake")
        commands.run("export", "sheets", "--format", "csv")
        commands.run("report", "-o", "report.html")
        for form in ("csv", "json", "parquet"):
            commands.run("query", "select * from internal.accounts", "--format", form, "-o", f"accounts.{form}")
        commands.run("query", "select * from duckdb_settings()")
        commands.run("query", "select getenv('ANTICAPTCHA_CLIENT_KEY_FILE')", code=2)
        commands.run("status", "--json")
        commands.run("check", "--json")
        commands.run("replay")
        commands.run("migrate", "--down", "--to", "0003")
        commands.run("migrate")
        assert {request.fault for request in world.requests} == {None, *kinds}
        assert any(request.key_ok for request in world.requests)  # the key was used, so it could have leaked
        assert len(list(folder.rglob("*.parquet"))) > 5
        unpacked = [content for _, content in _contents(folder)]
        assert unpacked
        assert b"ZeroDivisionError" in b"".join(commands.output)
        assert _leaks(world, *commands.output, *unpacked) == []


def test_a_secret_never_shows_its_value() -> None:
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
    assert not [text for text in shown if any(trace.decode() in text for trace in _traces_of_the_key())]
    assert not hasattr(secret, "__dict__")
    operations: tuple[Callable[[Any], object], ...] = (
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        vars,
        bytes,
        len,
        iter,
    )
    for operation in operations:
        with pytest.raises(TypeError):
            operation(secret)
    with pytest.raises(TypeError):
        asdict(Holder(secret))


def traceback_with_locals(secret: Secret) -> str:
    """Return a traceback with local variables, as some loggers write it."""
    try:
        raise ValueError(secret)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_a_refused_key_is_not_shown(tmp_path: Path, run_sync: RunSync) -> None:
    with _world(tmp_path, behaviour=Behaviour(refused_keys=frozenset({SECRET}))) as world:
        code, stdout, stderr = run_sync(world, "-v")
        assert code == 3
        assert len(world.requests) == 1
        assert b"ERROR_KEY_DOES_NOT_EXIST" in stderr
        _assert_not_found(world, stdout, stderr)


@pytest.mark.parametrize(
    "function",
    [
        "etl.extract.protocol.encode_request",
        "etl.extract.protocol.parse_response",
        "etl.load.upsert.PreparedBatch.write",
        "etl.load.accounts.hash_key",
    ],
)
def test_a_crash_shows_a_traceback_without_the_key(
    tmp_path: Path, run_sync: RunSync, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(function, lambda *_, **__: 1 / 0)
    with _world(tmp_path) as world:
        code, stdout, stderr = run_sync(world, "-v")
        assert code == 1
        assert b"ZeroDivisionError" in stderr
        _assert_not_found(world, stdout, stderr)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux shows command lines there")
def test_a_key_from_the_environment_is_not_in_the_process_list(tmp_path: Path) -> None:
    with _world(tmp_path, behaviour=Behaviour(latency_seconds=0.05, unknown_queue="zeros")) as world:
        with world.command("sync", key=SECRET) as process:
            world.wait_for(process, 5)
            command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert b"sync" in command_line
        assert not any(trace in command_line for trace in _traces_of_the_key())

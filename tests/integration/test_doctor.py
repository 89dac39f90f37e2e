"""doctor checks settings, key, warehouse, API and clock; a failed check does not stop the others."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from packaging.requirements import Requirement

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract.client import Reachability
from etl.load.lock import account_lock
from etl.maintenance import diagnostics
from etl.maintenance.diagnostics import LOW_FREE_SPACE, Level, WarehouseFile
from etl.maintenance.doctor_output import as_text, to_json
from etl.outputs.publish import publish
from etl.sandbox.behaviour import Behaviour
from etl.warehouse.account_files import lock_file
from tests.e2e.world import KEY, NOW, World, ago
from tests.integration.doctor_world import diagnose, levels, new_world, text_of


@dataclass
class Listener:
    """An HTTP server with a fixed status line; records the bytes it receives."""

    url: str = ""
    head: str = ""
    requests: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    self.requests.append(peer.recv(65536))
                    peer.sendall(f"HTTP/1.1 {self.head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


@contextmanager
def listening(head: str = "404 Not Found") -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(f"http://127.0.0.1:{server.getsockname()[1]}", head)
        thread = threading.Thread(target=listener.serve, args=(server,))
        thread.start()
        yield listener
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# ---------------------------------------------------------------- the API


def test_without_probe_one_request_is_sent_without_the_key(tmp_path: Path) -> None:
    with listening() as listener, new_world(tmp_path) as world:
        found = diagnose(world, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": listener.url})
        [request] = listener.requests
        assert request.startswith(b"GET / HTTP/1.1\r\n")
        assert KEY.encode() not in request
        assert found.requests == 1
        assert levels(found, "clock") == [Level.INFO]


@pytest.mark.parametrize(
    ("head", "level"),
    [
        ("404 Not Found", Level.WARNING),
        ("302 Found\r\nLocation: /elsewhere", Level.WARNING),
        ("200 OK\r\nContent-Type: Text/HTML; charset=utf-8", Level.WARNING),
        ("200 OK\r\nContent-Type: application/json", Level.OK),
        ("200 OK", Level.OK),
    ],
)
def test_custom_url_that_may_not_be_the_api_is_a_warning(tmp_path: Path, head: str, level: Level) -> None:
    with listening(head) as listener, new_world(tmp_path) as world:
        found = diagnose(world, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": listener.url})
        assert (levels(found, "api"), found.exit_code) == ([level], 0)
        assert ("may not be the API" in text_of(found, "api")) is (level is Level.WARNING)


def test_web_page_at_the_vendors_address_is_ok() -> None:
    result = Reachability(NOW, None, 404, NOW, "text/html")
    found = diagnostics.check_api(result, "https://api.anti-captcha.com", is_custom_url=False)
    assert [(one.name, one.level) for one in found] == [("api", Level.OK), ("clock", Level.OK)]


def test_without_probe_the_api_method_is_not_called(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        found = diagnose(world)
        assert (found.exit_code, world.requests) == (0, ())
        assert "sqlalchemy 2." in text_of(found, "packages")
        assert levels(found, "api") == levels(found, "clock") == [Level.OK]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize(("ahead", "level"), [(290, Level.OK), (330, Level.WARNING), (-330, Level.WARNING)])
def test_clock_five_minutes_off_is_a_warning(tmp_path: Path, ahead: int, level: Level, probe: bool) -> None:
    with new_world(tmp_path, Behaviour(date_skew_seconds=ahead)) as world:
        found = diagnose(world, probe=probe)
        assert levels(found, "clock") == [level]
        assert found.exit_code == 0


@pytest.mark.parametrize("probe", [False, True])
def test_unreachable_api_is_a_problem_and_other_checks_still_run(tmp_path: Path, probe: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    world = new_world(tmp_path)
    found = diagnose(world, probe=probe, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url})
    assert found.exit_code == 1
    assert levels(found, "api") == [Level.PROBLEM]
    assert levels(found, "space") == [Level.OK]
    assert levels(found, "clock") == []


# ---------------------------------------------------------------- problems


def test_missing_key_is_a_problem_and_other_checks_still_run(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        found = diagnose(world, probe=True, environ={"ANTICAPTCHA_API_URL": world.sandbox.url})
        assert found.exit_code == 2
        assert levels(found, "key") == [Level.PROBLEM]
        assert "ANTICAPTCHA_CLIENT_KEY" in text_of(found, "key")
        assert levels(found, "api") == [Level.OK]
        assert world.requests == ()


def test_rejected_key_costs_one_request(tmp_path: Path) -> None:
    with new_world(tmp_path, Behaviour(accepted_keys=frozenset({"another"}))) as world:
        found = diagnose(world, probe=True)
        assert (found.exit_code, len(world.requests)) == (3, 1)


@pytest.mark.parametrize("probe", [False, True])
def test_key_of_another_account_is_rejected_before_any_request(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    other = {"ANTICAPTCHA_CLIENT_KEY": "quite-another-key", "ANTICAPTCHA_API_URL": loaded.sandbox.url}
    found = diagnose(loaded, probe=probe, environ=other)
    assert (found.exit_code, len(loaded.requests)) == (2, before)
    assert "was loaded with another key" in text_of(found, "account")
    assert diagnose(loaded, environ=other, key_changed=True).exit_code == 0
    assert diagnose(loaded, environ=other, account="other").exit_code == 0
    taken = diagnose(loaded, account="other")
    assert taken.exit_code == 2
    assert "belongs to account default" in text_of(taken, "account")
    assert loaded.rows("select name from internal.accounts") == [("default",)]


def test_invalid_configuration_is_reported_and_nothing_else_is_checked(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 'fast'\n")
    with new_world(tmp_path) as world:
        found = diagnose(world, probe=True)
        assert found.exit_code == 2
        assert "anticaptcha-etl.toml" in text_of(found, "settings")
        assert world.requests == ()


def test_misspelled_environment_variable_is_a_warning(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_LOKBACK": "7"}
        found = diagnose(world, environ=environ)
        assert levels(found, "settings") == [Level.OK, Level.WARNING]
        assert "ANTICAPTCHA_LOOKBACK" in text_of(found, "settings")
        assert found.exit_code == 0


OPEN_FILE = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("probe", [False, True])
def test_warehouse_locked_by_another_process_names_its_pid_and_sends_no_probe(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    command = [sys.executable, "-c", OPEN_FILE, str(loaded.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        found = diagnose(loaded, probe=probe)
        holder.communicate()
    assert found.exit_code == 4
    assert f"PID {holder.pid}" in text_of(found, "warehouse")
    assert levels(found, "api") == [Level.OK]
    assert len(loaded.requests) == before


@pytest.mark.parametrize("probe", [False, True])
def test_running_sync_is_a_problem_and_is_not_waited_for(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    with account_lock(loaded.warehouse, "default", Clock(), wait=0):
        found = diagnose(loaded, probe=probe)
        assert diagnose(loaded, account="other", environ={}).exit_code == 2  # no key; but the lock is another's
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    assert "another sync" in text_of(found, "lock")
    lock_file(loaded.file, "default").unlink()
    assert levels(diagnose(loaded), "lock") == []
    assert not lock_file(loaded.file, "default").exists()


def test_unusable_lock_file_is_a_problem(loaded: World) -> None:
    lock_file(loaded.file, "default").mkdir()
    found = diagnose(loaded)
    assert (found.exit_code, levels(found, "lock")) == (4, [Level.PROBLEM])


def test_until_before_the_saved_since_is_a_problem_unless_since_is_given(loaded: World) -> None:
    loaded.sync(since=ago(2))
    day = str(ago(3))
    found = diagnose(loaded, until=day)
    assert found.exit_code == 2
    assert f"--until {day} is before the saved --since {ago(2)}" in text_of(found, "settings")
    with pytest.raises(UsageError, match=f"--until {day} is before the saved --since {ago(2)}"):
        loaded.sync(until=ago(3))
    assert diagnose(loaded, until=str(ago(2))).exit_code == 0
    for since in (day, "all"):
        assert diagnose(loaded, until=day, since=since).exit_code == 0


def test_newer_schema_is_a_problem_and_stays_unchanged(loaded: World) -> None:
    with duckdb.connect(loaded.file) as connection:
        connection.execute("update internal.alembic_version set version_num = '9999'")
    before = len(loaded.requests)
    found = diagnose(loaded, probe=True)
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    assert "9999" in text_of(found, "schema")
    assert loaded.one("select version_num from internal.alembic_version") == "9999"


@pytest.mark.parametrize("probe", [False, True])
def test_published_copy_is_reported_as_one_and_never_probed(loaded: World, probe: bool) -> None:
    copy = loaded.folder / "copy.duckdb"
    publish(loaded.warehouse, copy, Clock(), wait=0)
    made = datetime(2026, 11, 20, 8, 15, tzinfo=UTC)
    os.utime(copy, (made.timestamp(), made.timestamp()))
    before = len(loaded.requests)
    found = diagnose(loaded, probe=probe, warehouse=str(copy))
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    [problem] = [one for one in found.diagnostics if one.level is Level.PROBLEM]
    assert f"{copy} is a published read-only copy, made 2026-11-20 08:15 UTC" in problem.message
    assert "the warehouse it was published from" in problem.hint
    assert "anticaptcha-etl sync" not in as_text(found)


def test_file_that_is_not_a_warehouse_is_a_problem(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        world.file.write_text("not a database\n" * 1000)
        found = diagnose(world, probe=True)
        assert found.exit_code == 4
        assert "not a DuckDB file" in text_of(found, "warehouse")
        assert "0.0 MB" in text_of(found, "file")  # reported although the file cannot be opened


def test_missing_folder_is_a_problem(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        found = diagnose(world, warehouse="nowhere/at/all.duckdb")
        assert found.exit_code == 4
        assert "mkdir -p" in text_of(found, "file")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX only")
@pytest.mark.parametrize(("mode", "level"), [(0o600, []), (0o400, []), (0o640, []), (0o604, [Level.WARNING])])
def test_world_readable_key_file_is_a_warning(tmp_path: Path, mode: int, level: list[Level]) -> None:
    file = tmp_path / "the-key"
    file.write_text(KEY)
    file.chmod(mode)
    with new_world(tmp_path) as world:
        found = diagnose(
            world, environ={"ANTICAPTCHA_CLIENT_KEY_FILE": str(file), "ANTICAPTCHA_API_URL": world.sandbox.url}
        )
        assert levels(found, "key") == [Level.OK, *level]
        assert [one.hint for one in found.diagnostics if one.name == "key"] == ["", *("chmod 600 it" for _ in level)]
        assert found.exit_code == 0
        assert "the-key" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("where", ["variable", "table", "account"])
def test_missing_key_file_names_its_setting_but_not_its_path(tmp_path: Path, where: str) -> None:
    environ = {"ANTICAPTCHA_CLIENT_KEY_FILE": "no-such-file"} if where == "variable" else {}
    title = {"table": "", "account": "[accounts.default]\n"}.get(where)
    if title is not None:
        (tmp_path / "anticaptcha-etl.toml").write_text(f'{title}client_key_file = "no-such-file"\n')
    with new_world(tmp_path) as world:
        found = diagnose(world, environ={**environ, "ANTICAPTCHA_API_URL": world.sandbox.url})
        assert found.exit_code == 2
        assert "client_key_file" in text_of(found, "key").lower()
        assert "no-such-file" not in to_json(found) + as_text(found)


# ---------------------------------------------------------------- pure functions

FILE = WarehouseFile(Path("/w/a.duckdb"), is_writable=True, size=10**6, mode=0o600, free=10**12)


@pytest.mark.parametrize(
    ("file", "name", "level", "code"),
    [
        (FILE, "space", Level.OK, 0),
        (FILE._replace(free=LOW_FREE_SPACE - 1), "space", Level.WARNING, 0),
        (FILE._replace(size=10**10, free=10**10 - 1), "space", Level.WARNING, 0),
        (FILE._replace(free=10**6), "space", Level.PROBLEM, 4),
        (FILE._replace(is_writable=False), "file", Level.PROBLEM, 4),
        (FILE._replace(size=None, is_writable=False), "file", Level.PROBLEM, 4),
        (FILE._replace(mode=0o644), "file", Level.INFO, 0),
    ],
)
def test_file_or_disk_where_sync_would_fail_is_a_problem(
    file: WarehouseFile, name: str, level: Level, code: int
) -> None:
    last = [one for one in diagnostics.check_file(file) if one.name == name][-1]
    assert (last.level, last.exit_code) == (level, code)


def test_missing_or_unsupported_package_is_a_warning_with_a_pip_command() -> None:
    required = [Requirement("a>=1,<2"), Requirement("b>=1"), Requirement("c>=3")]
    fits, *others = diagnostics.check_packages(required, {"a": "1.5", "b": "0.9"}.get)
    assert (fits.level, fits.message) == (Level.OK, "a 1.5")
    assert [one.level for one in others] == [Level.WARNING, Level.WARNING]
    assert [one.hint for one in others] == ["pip install 'b>=1'", "pip install 'c>=3'"]

"""doctor against the sandbox and real files: results, number of requests, and no secrets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.clock import Clock
from etl.config import Environment
from etl.errors import UsageError
from etl.extract import protocol
from etl.load.lock import account_lock, lock_file
from etl.maintenance import diagnostics
from etl.maintenance.diagnostics import LOW_FREE_SPACE, Level, Package, WarehouseFile
from etl.maintenance.doctor import DoctorReport, run_diagnostics
from etl.maintenance.doctor_output import as_text, to_json
from etl.maintenance.probes import ProbeRequest
from etl.models import TOTAL, Window, day_start
from etl.outputs.publish import publish
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.secret import Secret
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.e2e.world import KEY, NOW, World, ago, napless, small

MAX_REQUESTS = len(ProbeRequest)
DEFAULTS = Behaviour()


def look(
    world: World, *, probe: bool = False, environ: Mapping[str, str] | None = None, **given: object
) -> DoctorReport:
    """Run doctor in the world's folder, with a clock that does not really sleep."""
    variables = (
        {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url} if environ is None else environ
    )
    return run_diagnostics(
        given, Environment(variables, world.folder), napless(lambda: world.now + world.ahead), probe=probe
    )


def levels(found: DoctorReport, name: str) -> list[Level]:
    return [one.level for one in found.diagnostics if one.name == name]


def text_of(found: DoctorReport, name: str) -> str:
    return " ".join(f"{one.message} {one.hint}" for one in found.diagnostics if one.name == name)


def answers_of(found: DoctorReport) -> dict[str, tuple[str, str]]:
    return {probe.question: (probe.answer, probe.certainty.value) for probe in found.probes}


def world(folder: Path, behaviour: Behaviour = DEFAULTS, *faults: Fault, days: int = 40, **more: Any) -> World:
    return World(folder, small(days, 1, **more), behaviour, faults)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one excluded name, loaded once."""
    with World(tmp_path_factory.mktemp("history"), small(4, 2)) as there:
        there.sync(queues=("Mistyped",))
        return there.file


@pytest.fixture
def loaded(history: Path, tmp_path: Path) -> Iterator[World]:
    """A world with a copy of that warehouse."""
    with World(tmp_path, small(4, 2)) as there:
        shutil.copy(history, there.file)
        yield there


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


# ---------------------------------------------------------------- what probes find

MODES: list[tuple[dict[str, Any], dict[str, str]]] = [
    (
        {},
        {
            "date at midnight": "24 records, 00:00 to 23:00: the last hour is there",
            "hours begin at": "the whole UTC hour",
            "date inside an hour": "snapped back to 12:00",
            "unknown queue": "error ERROR_INCORRECT_QUEUE",
            "unknown softId": "error ERROR_ACCESS_DENIED",
            "unknown ip": "zeros",
            "date 30 days ago": "24 records with spend",
            "date 1 year ago": "24 records, all zero",
            "date in 2015": "24 records, all zero",
            "date tomorrow": "no records",
            "hours not begun": "left out",
            "running hour": "included",
            "idle hour": "zero",
            "volume is a": "number",
            "money is a": "number, up to 6 places",
            "data is": "a list",
            "an hour twice": "no",
            "error comes as": "HTTP 200, application/json; charset=utf-8; headers: "
            "content-length, content-type, date, server",
        },
    ),
    ({"buckets": 23}, {"date at midnight": "23 records, 00:00 to 22:00: the last hour is missing"}),
    ({"buckets": 25}, {"date at midnight": "25 records, 00:00 to 00:00: the next day's first hour too"}),
    (
        {"grid_seconds": -900},
        {
            "hours begin at": "45 minutes past the hour",
            "date at midnight": "24 records, 23:45 to 22:45: the last hour is there",
            "date inside an hour": "snapped back to 11:45",
            "running hour": "included",
        },
    ),
    ({"off_hour": "shift"}, {"date inside an hour": "shifted: hours begin at that very second"}),
    ({"unknown_queue": "zeros"}, {"unknown queue": "zeros"}),
    ({"unknown_queue": "zeros", "idle": "omit"}, {"unknown queue": "zeros: no records at all"}),
    ({"unknown_queue": "totals"}, {"unknown queue": "the account's total"}),
    ({"foreign_app": "zeros"}, {"unknown softId": "zeros"}),
    ({"foreign_app": "totals"}, {"unknown softId": "the account's total"}),
    ({"foreign_ip": "totals"}, {"unknown ip": "the account's total"}),
    ({"foreign_ip": "error"}, {"unknown ip": "error ERROR_ACCESS_DENIED"}),
    ({"retention_days": 100}, {"date 30 days ago": "24 records with spend", "date 1 year ago": "no records"}),
    ({"unbegun": True}, {"date tomorrow": "24 records, all zero", "hours not begun": "come as zeros"}),
    ({"running": False}, {"running hour": "left out"}),
    ({"date_skew_seconds": 3600}, {"running hour": "this machine's clock and the server's differ"}),
    ({"idle": "omit"}, {"idle hour": "left out"}),
    ({"numbers": "string"}, {"volume is a": "string", "money is a": "string, up to 6 places"}),
    ({"numbers": "noise"}, {"volume is a": "number"}),
    ({"listed": "object"}, {"data is": "an object"}),
    ({"duplicates": "identical"}, {"an hour twice": "yes, the same"}),
    ({"duplicates": "differing"}, {"an hour twice": "yes, and they differ"}),
    ({"unknown_queue": "zeros", "foreign_app": "zeros"}, {"error comes as": "no error came"}),
]


@pytest.mark.parametrize(("behaviour", "answers"), MODES, ids=str)
def test_probe_names_each_behaviour_of_the_api(
    tmp_path: Path, behaviour: dict[str, Any], answers: dict[str, str]
) -> None:
    with world(tmp_path, replace(DEFAULTS, **behaviour)) as there:
        found = look(there, probe=True)
        assert {
            question: answer for question, (answer, _) in answers_of(found).items() if question in answers
        } == answers
        assert found.exit_code == 0
        assert len(there.requests) == found.requests <= MAX_REQUESTS
        assert all(request.key_ok for request in there.requests)


def test_every_behaviour_of_the_sandbox_is_probed() -> None:
    not_in_responses = {"latency_seconds", "accepted_keys", "refused_keys"}
    assert {name for behaviour, _ in MODES for name in behaviour} == {
        setting.name for setting in fields(Behaviour)
    } - not_in_responses


def test_float_noise_in_money_is_reported(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(numbers="noise")) as there:
        assert answers_of(look(there, probe=True))["money is a"][0].endswith("places, float noise")


def test_ambiguous_observations_are_only_likely(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(running=False)) as there:
        found = answers_of(look(there, probe=True))
        assert found["running hour"] == ("left out", "likely")
        assert found["hours not begun"] == ("left out", "likely")
        assert found["date at midnight"][1] == "sure"


def test_unknown_queue_stays_open_when_no_day_has_spend(tmp_path: Path) -> None:
    with World(tmp_path, Dataset(begins=ago(0)), Behaviour(unknown_queue="totals")) as there:
        assert answers_of(look(there, probe=True))["unknown queue"] == (
            "zeros or the total: the day has no spend",
            "open",
        )


def test_later_probes_use_a_day_with_spend(tmp_path: Path) -> None:
    idle = ((ago(5), ago(0)),)
    with world(tmp_path, Behaviour(unknown_queue="totals"), idle=idle) as there:
        assert answers_of(look(there, probe=True))["unknown queue"] == ("the account's total", "sure")


def test_probes_use_a_day_and_queue_from_the_warehouse(tmp_path: Path) -> None:
    with World(tmp_path, small(6, 2, idle=((ago(3), ago(0)),))) as there:
        there.sync()
        before = len(there.requests)
        found = look(there, probe=True)
        asked = there.requests[before:]
        assert asked[0].date == int(day_start(ago(4)).timestamp())
        assert {request.queue for request in asked} & {"English ImageToText", "Russian ImageToText"}
        assert len(asked) == found.requests <= MAX_REQUESTS
        assert answers_of(found)["sum of queues"] == ("is the total on 3 of 3 closed days with spend", "sure")


def test_stored_corrections_are_reported_without_a_request(tmp_path: Path) -> None:
    with World(tmp_path, Dataset.busy(begins=ago(4), queues=2, corrections=True)) as there:
        there.sync()
        assert answers_of(look(there, probe=True))["a closed hour"][0].startswith("no change seen in ")
        there.now += timedelta(days=2)
        there.sync()
        changed = there.one("select count(distinct hour_start) from spending_revisions where queue = '(total)'")
        answer, certainty = answers_of(look(there, probe=True))["a closed hour"]
        assert changed
        assert certainty == "sure"
        assert "after its end" in answer


# ---------------------------------------------------------------- number of requests


class Ticking:
    """A monotonic clock that advances by sleeping only."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1.0), (50, 1.0), (0.25, 4.0)])
def test_probes_are_sent_at_most_once_per_second(tmp_path: Path, rate: float, seconds: float) -> None:
    ticking = Ticking()
    clock = Clock(lambda: NOW, lambda: ticking.slept, ticking.sleep)
    with world(tmp_path) as there:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": there.sandbox.url}
        found = run_diagnostics({"rate": rate}, Environment(environ, tmp_path), clock, probe=True)
        assert ticking.slept == pytest.approx((found.requests - 1) * seconds)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (FaultKind.REFUSE_KEY, "ERROR_KEY_DOES_NOT_EXIST"),
        (FaultKind.IP_BLOCKED, "ERROR_IP_BLOCKED"),
        (FaultKind.SUSPENDED, "ERROR_ACCOUNT_SUSPENDED"),
        (FaultKind.IP_NOT_ALLOWED, "ERROR_IP_NOT_ALLOWED"),
        (FaultKind.ZERO_BALANCE, "ERROR_ZERO_BALANCE"),
    ],
)
def test_account_error_stops_probing_at_once(tmp_path: Path, fault: FaultKind, code: str) -> None:
    with world(tmp_path, DEFAULTS, Fault(fault, numbers=(3,))) as there:
        found = look(there, probe=True)
        assert len(there.requests) == 3
        assert found.exit_code == 3
        assert code in text_of(found, "probe")
        assert protocol.ACCOUNT_ERROR_HINTS[code] in text_of(found, "probe")


@pytest.mark.parametrize(
    "fault",
    [
        FaultKind.HTML,
        FaultKind.HTML_502,
        FaultKind.RETRY_AFTER,
        FaultKind.RESET,
        FaultKind.EMPTY,
        FaultKind.UNKNOWN_CODE,
    ],
)
def test_probing_stops_after_three_failures_and_never_retries(tmp_path: Path, fault: FaultKind) -> None:
    with world(tmp_path, DEFAULTS, Fault(fault)) as there:
        found = look(there, probe=True)
        assert len(there.requests) == len({request.date for request in there.requests}) == 3
        assert found.exit_code == 1
        assert Level.PROBLEM in levels(found, "probe")


def test_one_failed_probe_leaves_one_question_open(tmp_path: Path) -> None:
    with world(tmp_path, DEFAULTS, Fault(FaultKind.HTML_502, numbers=(4,))) as there:
        found = look(there, probe=True)
        assert found.exit_code == 0
        assert answers_of(found)["unknown queue"] == ("no answer: http_502", "open")
        assert answers_of(found)["unknown softId"][1] == "sure"


def test_without_probe_one_request_is_sent_without_the_key(tmp_path: Path) -> None:
    with listening() as listener, world(tmp_path) as there:
        found = look(there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": listener.url})
        [request] = listener.requests
        assert request.startswith(b"GET / HTTP/1.1\r\n")
        assert KEY.encode() not in request
        assert found.requests == 1
        assert levels(found, "clock") == [Level.NOTE]


@pytest.mark.parametrize(
    ("head", "state"),
    [
        ("404 Not Found", Level.WARNING),
        ("302 Found\r\nLocation: /elsewhere", Level.WARNING),
        ("200 OK\r\nContent-Type: Text/HTML; charset=utf-8", Level.WARNING),
        ("200 OK\r\nContent-Type: application/json", Level.OK),
        ("200 OK", Level.OK),
    ],
)
def test_custom_url_that_may_not_be_the_api_is_a_warning(tmp_path: Path, head: str, state: Level) -> None:
    with listening(head) as listener, world(tmp_path) as there:
        found = look(there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": listener.url})
        assert (levels(found, "api"), found.exit_code) == ([state], 0)
        assert ("may not be the API" in text_of(found, "api")) is (state is Level.WARNING)


def test_web_page_at_the_vendors_address_is_ok() -> None:
    assert (
        diagnostics.check_reachability(
            None, 404, "text/html", "https://api.anti-captcha.com", is_custom_url=False
        ).level
        is Level.OK
    )


def test_without_probe_the_api_method_is_not_called(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there)
        assert (found.exit_code, there.requests) == (0, ())
        assert "sqlalchemy 2." in text_of(found, "packages")
        assert levels(found, "api") == levels(found, "clock") == [Level.OK]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize(("ahead", "state"), [(290, Level.OK), (330, Level.WARNING), (-330, Level.WARNING)])
def test_clock_five_minutes_off_is_a_warning(tmp_path: Path, ahead: int, state: Level, probe: bool) -> None:
    with world(tmp_path, Behaviour(date_skew_seconds=ahead)) as there:
        found = look(there, probe=probe)
        assert levels(found, "clock") == [state]
        assert found.exit_code == 0


@pytest.mark.parametrize("probe", [False, True])
def test_unreachable_api_is_a_problem_and_other_checks_still_run(tmp_path: Path, probe: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    there = world(tmp_path)
    found = look(there, probe=probe, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url})
    assert found.exit_code == 1
    assert levels(found, "api") == [Level.PROBLEM]
    assert levels(found, "space") == [Level.OK]
    assert levels(found, "clock") == []


# ---------------------------------------------------------------- storing answers


def test_probe_answers_are_stored_and_shown_later_without_requests(loaded: World) -> None:
    asked = look(loaded, probe=True)
    sure = [probe for probe in asked.probes if probe.certainty != "open"]
    before = len(loaded.requests)
    again = look(loaded)
    assert again.probes == sure
    assert len(loaded.requests) == before
    assert loaded.one("select count(*) from internal.probes") == len(sure)
    output = json.loads(to_json(again))["probes"]
    assert output[0] == {
        "question": "hours begin at", "answer": "the whole UTC hour", "certainty": "sure", "cut": "total",
        "member": None, "date": f"{ago(1)}T00:00:00Z", "status": 200, "seen_at": "2026-11-22T09:30:00Z",
    }  # fmt: skip


def test_latest_probe_answer_is_shown_and_earlier_ones_stay_stored(loaded: World) -> None:
    look(loaded, probe=True)
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(off_hour="shift")
    look(loaded, probe=True)
    assert answers_of(look(loaded))["date inside an hour"][0] == "shifted: hours begin at that very second"
    assert loaded.one("select count(*) from internal.probes where question = 'date inside an hour'") == 2


def test_probing_creates_no_warehouse(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, probe=True)
        assert list(tmp_path.iterdir()) == []
        assert levels(found, "file") == [Level.NOTE]
        assert "not stored" in text_of(found, "probe")
        assert found.exit_code == 0


def test_older_schema_is_a_note_and_probing_upgrades_it(loaded: World) -> None:
    engine = open_warehouse(warehouse_url(str(loaded.file)))
    migrate.downgrade(engine, "0002")
    assert levels(look(loaded), "schema") == [Level.NOTE]
    assert look(loaded, probe=True).exit_code == 0
    assert migrate.state(engine) == "current"
    assert loaded.one("select count(*) from internal.probes")


# ---------------------------------------------------------------- effects on sync

UNKNOWN_NAMES = "select dimension, behaviour, code from internal.unknown_name_behaviours order by dimension"


def test_probed_unknown_name_behaviour_is_not_requested_again_by_sync(tmp_path: Path) -> None:
    with World(tmp_path, small(3, 2)) as there:
        there.sync(totals_only=True)
        assert there.rows(UNKNOWN_NAMES) == []
        look(there, probe=True)
        learned = [
            ("app", "error", "ERROR_ACCESS_DENIED"),
            ("ip", "zeros", None),
            ("queue", "error", "ERROR_INCORRECT_QUEUE"),
        ]
        assert there.rows(UNKNOWN_NAMES) == learned
        before = len(there.requests)
        there.sync()
        assert not [
            request
            for request in there.requests[before:]
            if request.queue and request.queue.startswith("no such queue")
        ]
        assert there.hourly() == there.expected_rows()


def test_changed_unknown_name_behaviour_resets_excluded_names(loaded: World) -> None:
    assert loaded.rows("select status from internal.member_statuses where member = 'Mistyped'") == [("excluded",)]
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="zeros")
    found = look(loaded, probe=True)
    assert "Mistyped" in text_of(found, "names")
    assert ("queue", "zeros", None) in loaded.rows(UNKNOWN_NAMES)
    rows = loaded.rows(
        "select status, snapshot_id from internal.member_statuses where member = 'Mistyped' order by valid_from"
    )
    assert rows[0][0] == "excluded"
    assert rows[1:] == [("unverified", None)]
    loaded.sync(queues=("Mistyped",))
    assert loaded.hourly() == loaded.expected_rows()


def test_unchanged_unknown_name_behaviour_keeps_names_excluded(loaded: World) -> None:
    before = loaded.rows("select * from internal.member_statuses")
    found = look(loaded, probe=True)
    assert loaded.rows("select * from internal.member_statuses") == before
    assert levels(found, "names") == []


def test_reset_status_is_the_latest_even_if_the_clock_was_set_back(loaded: World) -> None:
    loaded.now -= timedelta(minutes=30)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="totals")
    found = look(loaded, probe=True)
    assert levels(found, "names") == [Level.WARNING]
    [(last,)] = loaded.rows(
        "select status from internal.member_statuses where member = 'Mistyped' order by valid_from desc limit 1"
    )
    assert last == "unverified"


# ---------------------------------------------------------------- problems


def test_missing_key_is_a_problem_and_other_checks_still_run(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, probe=True, environ={"ANTICAPTCHA_API_URL": there.sandbox.url})
        assert found.exit_code == 2
        assert levels(found, "key") == [Level.PROBLEM]
        assert "ANTICAPTCHA_CLIENT_KEY" in text_of(found, "key")
        assert levels(found, "api") == [Level.OK]
        assert there.requests == ()


def test_rejected_key_costs_one_request(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(accepted_keys=frozenset({"another"}))) as there:
        found = look(there, probe=True)
        assert (found.exit_code, len(there.requests)) == (3, 1)


@pytest.mark.parametrize("probe", [False, True])
def test_key_of_another_account_is_rejected_before_any_request(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    other = {"ANTICAPTCHA_CLIENT_KEY": "quite-another-key", "ANTICAPTCHA_API_URL": loaded.sandbox.url}
    found = look(loaded, probe=probe, environ=other)
    assert (found.exit_code, len(loaded.requests)) == (2, before)
    assert "was loaded with another key" in text_of(found, "account")
    assert look(loaded, environ=other, key_changed=True).exit_code == 0
    assert look(loaded, environ=other, account="other").exit_code == 0
    taken = look(loaded, account="other")
    assert taken.exit_code == 2
    assert "belongs to account default" in text_of(taken, "account")
    assert loaded.rows("select name from internal.accounts") == [("default",)]


def test_invalid_configuration_is_reported_and_nothing_else_is_checked(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 'fast'\n")
    with world(tmp_path) as there:
        found = look(there, probe=True)
        assert found.exit_code == 2
        assert "anticaptcha-etl.toml" in text_of(found, "settings")
        assert there.requests == ()


def test_misspelled_environment_variable_is_a_warning(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": there.sandbox.url, "ANTICAPTCHA_LOKBACK": "7"}
        found = look(there, environ=environ)
        assert levels(found, "settings") == [Level.OK, Level.WARNING]
        assert "ANTICAPTCHA_LOOKBACK" in text_of(found, "settings")
        assert found.exit_code == 0


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("probe", [False, True])
def test_warehouse_locked_by_another_process_names_its_pid_and_sends_no_probe(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    command = [sys.executable, "-c", HOLD, str(loaded.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        found = look(loaded, probe=probe)
        holder.communicate()
    assert found.exit_code == 4
    assert f"PID {holder.pid}" in text_of(found, "warehouse")
    assert levels(found, "api") == [Level.OK]
    assert len(loaded.requests) == before


@pytest.mark.parametrize("probe", [False, True])
def test_running_sync_is_a_problem_and_is_not_waited_for(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    with account_lock(loaded.warehouse, "default", Clock(), wait=0):
        found = look(loaded, probe=probe)
        assert look(loaded, account="other", environ={}).exit_code == 2  # no key; but the lock is another's
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    assert "another sync" in text_of(found, "lock")
    lock_file(loaded.file, "default").unlink()
    assert levels(look(loaded), "lock") == []
    assert not lock_file(loaded.file, "default").exists()


def test_unusable_lock_file_is_a_problem(loaded: World) -> None:
    lock_file(loaded.file, "default").mkdir()
    found = look(loaded)
    assert (found.exit_code, levels(found, "lock")) == (4, [Level.PROBLEM])


def test_until_before_the_saved_since_is_a_problem_unless_since_is_given(loaded: World) -> None:
    loaded.sync(since=ago(2))
    day = str(ago(3))
    found = look(loaded, until=day)
    assert found.exit_code == 2
    assert f"--until {day} is before the saved --since {ago(2)}" in text_of(found, "settings")
    with pytest.raises(UsageError, match=f"--until {day} is before the saved --since {ago(2)}"):
        loaded.sync(until=ago(3))
    assert look(loaded, until=str(ago(2))).exit_code == 0
    for since in (day, "all"):
        assert look(loaded, until=day, since=since).exit_code == 0


def test_newer_schema_is_a_problem_and_stays_unchanged(loaded: World) -> None:
    with duckdb.connect(loaded.file) as connection:
        connection.execute("update internal.alembic_version set version_num = '9999'")
    before = len(loaded.requests)
    found = look(loaded, probe=True)
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
    found = look(loaded, probe=probe, warehouse=str(copy))
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    [problem] = [one for one in found.diagnostics if one.level is Level.PROBLEM]
    assert f"{copy} is a published read-only copy, made 2026-11-20 08:15 UTC" in problem.message
    assert "the warehouse it was published from" in problem.hint
    assert "anticaptcha-etl sync" not in as_text(found)


def test_file_that_is_not_a_warehouse_is_a_problem(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.file.write_text("not a database\n" * 1000)
        found = look(there, probe=True)
        assert found.exit_code == 4
        assert "not a DuckDB file" in text_of(found, "warehouse")


def test_missing_folder_is_a_problem(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, warehouse="nowhere/at/all.duckdb")
        assert found.exit_code == 4
        assert "mkdir -p" in text_of(found, "file")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX only")
@pytest.mark.parametrize(("mode", "state"), [(0o600, []), (0o400, []), (0o640, []), (0o604, [Level.WARNING])])
def test_world_readable_key_file_is_a_warning(tmp_path: Path, mode: int, state: list[Level]) -> None:
    file = tmp_path / "the-key"
    file.write_text(KEY)
    file.chmod(mode)
    with world(tmp_path) as there:
        found = look(
            there, environ={"ANTICAPTCHA_CLIENT_KEY_FILE": str(file), "ANTICAPTCHA_API_URL": there.sandbox.url}
        )
        assert levels(found, "key") == [Level.OK, *state]
        assert [one.hint for one in found.diagnostics if one.name == "key"] == ["", *("chmod 600 it" for _ in state)]
        assert found.exit_code == 0
        assert "the-key" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("where", ["variable", "table", "account"])
def test_missing_key_file_names_its_setting_but_not_its_path(tmp_path: Path, where: str) -> None:
    environ = {"ANTICAPTCHA_CLIENT_KEY_FILE": "no-such-file"} if where == "variable" else {}
    title = {"table": "", "account": "[accounts.default]\n"}.get(where)
    if title is not None:
        (tmp_path / "anticaptcha-etl.toml").write_text(f'{title}client_key_file = "no-such-file"\n')
    with world(tmp_path) as there:
        found = look(there, environ={**environ, "ANTICAPTCHA_API_URL": there.sandbox.url})
        assert found.exit_code == 2
        assert "client_key_file" in text_of(found, "key").lower()
        assert "no-such-file" not in to_json(found) + as_text(found)


# ---------------------------------------------------------------- secrets


def test_no_secret_is_printed_or_exported(loaded: World) -> None:
    file = loaded.folder / "secret-place"
    file.write_text(KEY)
    environ = {"ANTICAPTCHA_CLIENT_KEY_FILE": str(file), "ANTICAPTCHA_API_URL": loaded.sandbox.url}
    shown = "".join(
        show(look(loaded, probe=probe, environ=environ)) for show in (as_text, to_json) for probe in (True, False)
    )
    [(salt, digest)] = loaded.rows("select key_salt, key_hash from internal.accounts")
    rows = repr(loaded.rows("select * from internal.probes"))
    assert not [trace for trace in (KEY, salt.hex(), digest.hex(), repr(salt), "secret-place") if trace in shown + rows]


def test_password_in_the_api_url_is_not_shown(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(
            there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": "https://me:hush-hush@127.0.0.1:9"}
        )
        assert found.exit_code == 2
        assert "hush-hush" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("words", [("-v",), ("--json", "-v"), ("--log-format", "json")])
def test_rejected_key_is_not_shown_in_any_output_mode(tmp_path: Path, words: tuple[str, ...]) -> None:
    with world(tmp_path, Behaviour(refused_keys=frozenset({KEY}))) as there:
        with there.command("doctor", "--probe", *words) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in out
        assert KEY not in out + err


def test_traceback_does_not_contain_the_key(tmp_path: Path) -> None:
    program = (
        "import etl.extract.protocol as room\nroom.encode_probe = lambda *_: 1 / 0\nfrom etl.cli import main\nmain()"
    )
    with world(tmp_path) as there:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": there.sandbox.url}
        command = [sys.executable, "-c", program, "doctor", "--probe"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "ZeroDivisionError" in done.stderr
        assert KEY not in done.stdout + done.stderr


# ---------------------------------------------------------------- output


def test_text_output_fits_80_columns_without_control_characters(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        environ = {
            "ANTICAPTCHA_CLIENT_KEY": KEY,
            "ANTICAPTCHA_API_URL": there.sandbox.url,
            "ANTICAPTCHA_QUEUE": "a\x1b[31mred",
        }
        text = as_text(look(there, probe=True, environ=environ))
        assert max(map(len, text.splitlines())) <= 80
        assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_json_has_every_setting_with_its_source_except_the_key(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 2\n")
    with world(tmp_path) as there:
        output = json.loads(to_json(look(there, account="shop")))
        assert output["settings"]["rate"] == {"value": "2.0", "source": f"rate in {tmp_path}/anticaptcha-etl.toml"}
        assert output["settings"]["account"] == {"value": "shop", "source": "--account"}
        assert output["settings"]["lookback"] == {"value": "3", "source": "default"}
        assert output["settings"]["keep_answers"] == output["settings"]["raw_retention_days"]
        assert "key" not in output["settings"]
        assert output["exit_code"] == 0
        assert set(output["advice"][0]) == {"name", "state", "found", "remedy", "exit_code"}


def test_quiet_prints_only_problems_that_need_attention(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.now = Clock().now()  # a command has the machine's own clock
        with there.command("doctor", "--quiet") as process:
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        with there.command("doctor", "--quiet", key=None) as process:
            assert "no client key" in process.communicate(timeout=60)[0]
        assert process.returncode == 2


# ---------------------------------------------------------------- pure functions

FILE = WarehouseFile("/w/a.duckdb", "/w", has_folder=True, can_write=True, size=10**6, mode=0o600, free=10**12)


@pytest.mark.parametrize(
    ("file", "name", "state", "code"),
    [
        (FILE, "space", Level.OK, 0),
        (replace(FILE, free=LOW_FREE_SPACE - 1), "space", Level.WARNING, 0),
        (replace(FILE, size=10**10, free=10**10 - 1), "space", Level.WARNING, 0),
        (replace(FILE, free=10**6), "space", Level.PROBLEM, 4),
        (replace(FILE, can_write=False), "file", Level.PROBLEM, 4),
        (replace(FILE, size=None, can_write=False), "file", Level.PROBLEM, 4),
        (replace(FILE, mode=0o644), "file", Level.NOTE, 0),
    ],
)
def test_file_or_disk_where_sync_would_fail_is_a_problem(
    file: WarehouseFile, name: str, state: Level, code: int
) -> None:
    last = [one for one in diagnostics.check_file(file) if one.name == name][-1]
    assert (last.level, last.exit_code) == (state, code)


def test_missing_or_unsupported_package_is_a_warning_with_a_pip_command() -> None:
    good, odd, gone = (
        Package("a", ">=1,<2", "1.5", True),
        Package("b", ">=1,<2", "2.0", False),
        Package("c", ">=3", None, False),
    )
    fits, *others = diagnostics.check_packages([good, odd, gone])
    assert (fits.level, fits.message) == (Level.OK, "a 1.5")
    assert [one.level for one in others] == [Level.WARNING, Level.WARNING]
    assert [one.hint for one in others] == ["pip install 'b>=1,<2'", "pip install 'c>=3'"]


def test_probes_can_start_at_any_second_but_sync_requests_only_at_whole_hours() -> None:
    start = datetime(2026, 11, 20, 12, 17, tzinfo=UTC)
    window = Window("default", TOTAL, date(2026, 11, 20), start, start + timedelta(days=1))
    assert json.loads(protocol.encode_probe(window, Secret(KEY)))["date"] == int(start.timestamp())
    with pytest.raises(ValueError, match="not a whole UTC hour"):
        protocol.encode_request(window, Secret(KEY))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"errorId":0,"data":[]}', "list"),
        ('{"errorId":0,"data":{}}', "object"),
        ('{"errorId":0,"data":null}', "null"),
        ('{"errorId":0}', "missing"),
        ('{"errorId":0,"data":7}', ""),
        ('{"errorId":1,"data":[]}', ""),
        ("<html>", ""),
    ],
)
def test_data_shape_of_a_success(body: str, found: str) -> None:
    assert protocol.data_shape(body.encode()) == found

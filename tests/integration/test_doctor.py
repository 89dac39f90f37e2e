"""The doctor before a real stand-in and real files: what is found, what it costs, what is never said."""

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
from etl.models import TOTAL, Secret, Window, day_start
from etl.outputs.publish import publish
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.e2e.world import KEY, NOW, World, ago, napless, small

MAX_REQUESTS = len(ProbeRequest)
HABITS = Behaviour()


def look(
    world: World, *, probe: bool = False, environ: Mapping[str, str] | None = None, **given: object
) -> DoctorReport:
    """The doctor in the world's folder; what it does not wait for is time."""
    said = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url} if environ is None else environ
    return run_diagnostics(
        given, Environment(said, world.folder), napless(lambda: world.now + world.ahead), probe=probe
    )


def states(found: DoctorReport, name: str) -> list[Level]:
    return [one.level for one in found.diagnostics if one.name == name]


def said(found: DoctorReport, name: str) -> str:
    return " ".join(f"{one.message} {one.hint}" for one in found.diagnostics if one.name == name)


def answered(found: DoctorReport) -> dict[str, tuple[str, str]]:
    return {probe.question: (probe.answer, probe.certainty.value) for probe in found.probes}


def world(folder: Path, behaviour: Behaviour = HABITS, *faults: Fault, days: int = 40, **more: Any) -> World:
    return World(folder, small(days, 1, **more), behaviour, faults)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse in which one name is set aside, loaded once."""
    with World(tmp_path_factory.mktemp("history"), small(4, 2)) as there:
        there.sync(queues=("Mistyped",))
        return there.file


@pytest.fixture
def loaded(history: Path, tmp_path: Path) -> Iterator[World]:
    """The world of that history, with a copy of its warehouse."""
    with World(tmp_path, small(4, 2)) as there:
        shutil.copy(history, there.file)
        yield there


@dataclass
class Listener:
    """Anything of HTTP on a port, and the bytes it was sent."""

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
        heard = Listener(f"http://127.0.0.1:{server.getsockname()[1]}", head)
        thread = threading.Thread(target=heard.serve, args=(server,))
        thread.start()
        yield heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# ---------------------------------------------------------------- what a visit finds

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
            "error comes as": "HTTP 200, application/json; charset=utf-8; headers: content-length, content-type, date, server",
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


@pytest.mark.parametrize(("habits", "answers"), MODES, ids=str)
def test_a_habit_of_the_service_is_found_and_named(
    tmp_path: Path, habits: dict[str, Any], answers: dict[str, str]
) -> None:
    with world(tmp_path, replace(HABITS, **habits)) as there:
        found = look(there, probe=True)
        assert {question: answer for question, (answer, _) in answered(found).items() if question in answers} == answers
        assert found.exit_code == 0
        assert len(there.requests) == found.requests <= MAX_REQUESTS
        assert all(request.key_ok for request in there.requests)


def test_every_habit_the_stand_in_can_have_is_asked_for() -> None:
    not_of_answers = {"latency_seconds", "accepted_keys", "refused_keys"}
    assert {name for habits, _ in MODES for name in habits} == {
        habit.name for habit in fields(Behaviour)
    } - not_of_answers


def test_float_noise_in_money_is_told(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(numbers="noise")) as there:
        assert answered(look(there, probe=True))["money is a"][0].endswith("places, float noise")


def test_what_could_be_something_else_is_not_called_sure(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(running=False)) as there:
        found = answered(look(there, probe=True))
        assert found["running hour"] == ("left out", "likely")
        assert found["hours not begun"] == ("left out", "likely")
        assert found["date at midnight"][1] == "sure"


def test_on_days_without_spend_zeros_are_not_told_from_the_total(tmp_path: Path) -> None:
    with World(tmp_path, Dataset(begins=ago(0)), Behaviour(unknown_queue="totals")) as there:
        assert answered(look(there, probe=True))["unknown queue"] == (
            "zeros or the total: the day has no spend",
            "open",
        )


def test_a_day_with_spend_is_taken_from_what_was_asked_before(tmp_path: Path) -> None:
    idle = ((ago(5), ago(0)),)
    with world(tmp_path, Behaviour(unknown_queue="totals"), idle=idle) as there:
        assert answered(look(there, probe=True))["unknown queue"] == ("the account's total", "sure")


def test_a_day_with_spend_and_a_queue_with_idle_hours_are_taken_from_the_warehouse(tmp_path: Path) -> None:
    with World(tmp_path, small(6, 2, idle=((ago(3), ago(0)),))) as there:
        there.sync()
        before = len(there.requests)
        found = look(there, probe=True)
        asked = there.requests[before:]
        assert asked[0].date == int(day_start(ago(4)).timestamp())
        assert {request.queue for request in asked} & {"English ImageToText", "Russian ImageToText"}
        assert len(asked) == found.requests <= MAX_REQUESTS
        assert answered(found)["sum of queues"] == ("is the total on 3 of 3 closed days with spend", "sure")


def test_what_the_warehouse_saw_change_is_told_without_a_request(tmp_path: Path) -> None:
    with World(tmp_path, Dataset.busy(begins=ago(4), queues=2, corrections=True)) as there:
        there.sync()
        assert answered(look(there, probe=True))["a closed hour"][0].startswith("no change seen in ")
        there.now += timedelta(days=2)
        there.sync()
        changed = there.one("select count(distinct hour_start) from spending_revisions where queue = '(total)'")
        answer, certainty = answered(look(there, probe=True))["a closed hour"]
        assert changed
        assert certainty == "sure"
        assert "after its end" in answer


# ---------------------------------------------------------------- what a visit costs


class Ticking:
    """A clock on which time passes by sleeping alone, so that what is slept is what is waited."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1.0), (50, 1.0), (0.25, 4.0)])
def test_a_visit_is_polite_whatever_the_rate(tmp_path: Path, rate: float, seconds: float) -> None:
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
def test_a_refused_account_ends_the_visit_at_once(tmp_path: Path, fault: FaultKind, code: str) -> None:
    with world(tmp_path, HABITS, Fault(fault, numbers=(3,))) as there:
        found = look(there, probe=True)
        assert len(there.requests) == 3
        assert found.exit_code == 3
        assert code in said(found, "probe")
        assert protocol.ACCOUNT_ERROR_HINTS[code] in said(found, "probe")


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
def test_a_service_that_is_not_well_is_left_alone_and_never_asked_twice(tmp_path: Path, fault: FaultKind) -> None:
    with world(tmp_path, HABITS, Fault(fault)) as there:
        found = look(there, probe=True)
        assert len(there.requests) == len({request.date for request in there.requests}) == 3
        assert found.exit_code == 1
        assert Level.PROBLEM in states(found, "probe")


def test_one_lost_answer_leaves_one_question_open(tmp_path: Path) -> None:
    with world(tmp_path, HABITS, Fault(FaultKind.HTML_502, numbers=(4,))) as there:
        found = look(there, probe=True)
        assert found.exit_code == 0
        assert answered(found)["unknown queue"] == ("no answer: http_502", "open")
        assert answered(found)["unknown softId"][1] == "sure"


def test_without_probe_there_is_one_request_and_it_has_no_key(tmp_path: Path) -> None:
    with listening() as heard, world(tmp_path) as there:
        found = look(there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": heard.url})
        [request] = heard.requests
        assert request.startswith(b"GET / HTTP/1.1\r\n")
        assert KEY.encode() not in request
        assert found.requests == 1
        assert states(found, "clock") == [Level.NOTE]


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
def test_what_answers_but_may_not_be_the_api_is_a_warning(tmp_path: Path, head: str, state: Level) -> None:
    with listening(head) as heard, world(tmp_path) as there:
        found = look(there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": heard.url})
        assert (states(found, "api"), found.exit_code) == ([state], 0)
        assert ("may not be the API" in said(found, "api")) is (state is Level.WARNING)


def test_the_page_of_the_vendors_own_address_is_not_doubted() -> None:
    assert (
        diagnostics.check_reachability(
            None, 404, "text/html", "https://api.anti-captcha.com", is_custom_url=False
        ).level
        is Level.OK
    )


def test_the_stand_in_meets_no_question_without_probe(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there)
        assert (found.exit_code, there.requests) == (0, ())
        assert "sqlalchemy 2." in said(found, "packages")
        assert states(found, "api") == states(found, "clock") == [Level.OK]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize(("ahead", "state"), [(290, Level.OK), (330, Level.WARNING), (-330, Level.WARNING)])
def test_a_clock_that_is_five_minutes_off_is_a_warning(tmp_path: Path, ahead: int, state: Level, probe: bool) -> None:
    with world(tmp_path, Behaviour(date_skew_seconds=ahead)) as there:
        found = look(there, probe=probe)
        assert states(found, "clock") == [state]
        assert found.exit_code == 0


@pytest.mark.parametrize("probe", [False, True])
def test_an_api_that_is_down_is_a_problem_and_the_rest_is_looked_at(tmp_path: Path, probe: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    there = world(tmp_path)
    found = look(there, probe=probe, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url})
    assert found.exit_code == 1
    assert states(found, "api") == [Level.PROBLEM]
    assert states(found, "space") == [Level.OK]
    assert states(found, "clock") == []


# ---------------------------------------------------------------- what is kept


def test_answers_are_kept_and_told_again_without_a_request(loaded: World) -> None:
    asked = look(loaded, probe=True)
    sure = [probe for probe in asked.probes if probe.certainty != "open"]
    before = len(loaded.requests)
    again = look(loaded)
    assert again.probes == sure
    assert len(loaded.requests) == before
    assert loaded.one("select count(*) from internal.probes") == len(sure)
    told = json.loads(to_json(again))["probes"]
    assert told[0] == {
        "question": "hours begin at", "answer": "the whole UTC hour", "certainty": "sure", "cut": "total", "member": None,
        "date": f"{ago(1)}T00:00:00Z", "status": 200, "seen_at": "2026-11-22T09:30:00Z",
    }  # fmt: skip


def test_the_latest_answer_to_a_question_holds_and_the_earlier_ones_stay(loaded: World) -> None:
    look(loaded, probe=True)
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(off_hour="shift")
    look(loaded, probe=True)
    assert answered(look(loaded))["date inside an hour"][0] == "shifted: hours begin at that very second"
    assert loaded.one("select count(*) from internal.probes where question = 'date inside an hour'") == 2


def test_without_a_warehouse_a_visit_makes_none(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, probe=True)
        assert list(tmp_path.iterdir()) == []
        assert states(found, "file") == [Level.NOTE]
        assert "not stored" in said(found, "probe")
        assert found.exit_code == 0


def test_an_older_schema_is_a_note_and_a_visit_brings_it_up_to_date(loaded: World) -> None:
    engine = open_warehouse(warehouse_url(str(loaded.file)))
    migrate.downgrade(engine, "0002")
    assert states(look(loaded), "schema") == [Level.NOTE]
    assert look(loaded, probe=True).exit_code == 0
    assert migrate.state(engine) == "current"
    assert loaded.one("select count(*) from internal.probes")


# ---------------------------------------------------------------- what a visit teaches the sync

LESSONS = "select dimension, behaviour, code from internal.unknown_name_behaviours order by dimension"


def test_lessons_not_learned_yet_are_stored_and_not_asked_again(tmp_path: Path) -> None:
    with World(tmp_path, small(3, 2)) as there:
        there.sync(totals_only=True)
        assert there.rows(LESSONS) == []
        look(there, probe=True)
        learned = [
            ("app", "error", "ERROR_ACCESS_DENIED"),
            ("ip", "zeros", None),
            ("queue", "error", "ERROR_INCORRECT_QUEUE"),
        ]
        assert there.rows(LESSONS) == learned
        before = len(there.requests)
        there.sync()
        assert not [
            request
            for request in there.requests[before:]
            if request.queue and request.queue.startswith("no such queue")
        ]
        assert there.hourly() == there.expected_rows()


def test_when_unknown_names_give_something_else_those_set_aside_get_another_chance(loaded: World) -> None:
    assert loaded.rows("select status from internal.member_statuses where member = 'Mistyped'") == [("excluded",)]
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="zeros")
    found = look(loaded, probe=True)
    assert "Mistyped" in said(found, "names")
    assert ("queue", "zeros", None) in loaded.rows(LESSONS)
    rows = loaded.rows(
        "select status, snapshot_id from internal.member_statuses where member = 'Mistyped' order by valid_from"
    )
    assert rows[0][0] == "excluded"
    assert rows[1:] == [("unverified", None)]
    loaded.sync(queues=("Mistyped",))
    assert loaded.hourly() == loaded.expected_rows()


def test_names_set_aside_stay_so_while_unknown_names_give_the_same(loaded: World) -> None:
    before = loaded.rows("select * from internal.member_statuses")
    found = look(loaded, probe=True)
    assert loaded.rows("select * from internal.member_statuses") == before
    assert states(found, "names") == []


def test_another_chance_is_the_last_word_even_when_the_clock_was_set_back(loaded: World) -> None:
    loaded.now -= timedelta(minutes=30)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="totals")
    found = look(loaded, probe=True)
    assert states(found, "names") == [Level.WARNING]
    [(last,)] = loaded.rows(
        "select status from internal.member_statuses where member = 'Mistyped' order by valid_from desc limit 1"
    )
    assert last == "unverified"


# ---------------------------------------------------------------- what stands in the way


def test_no_key_is_a_problem_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, probe=True, environ={"ANTICAPTCHA_API_URL": there.sandbox.url})
        assert found.exit_code == 2
        assert states(found, "key") == [Level.PROBLEM]
        assert "ANTICAPTCHA_CLIENT_KEY" in said(found, "key")
        assert states(found, "api") == [Level.OK]
        assert there.requests == ()


def test_a_key_the_api_does_not_know_costs_one_request(tmp_path: Path) -> None:
    with world(tmp_path, Behaviour(accepted_keys=frozenset({"another"}))) as there:
        found = look(there, probe=True)
        assert (found.exit_code, len(there.requests)) == (3, 1)


@pytest.mark.parametrize("probe", [False, True])
def test_the_key_of_another_account_is_refused_before_any_request(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    other = {"ANTICAPTCHA_CLIENT_KEY": "quite-another-key", "ANTICAPTCHA_API_URL": loaded.sandbox.url}
    found = look(loaded, probe=probe, environ=other)
    assert (found.exit_code, len(loaded.requests)) == (2, before)
    assert "not the key" in said(found, "account")
    assert look(loaded, environ=other, key_changed=True).exit_code == 0
    assert look(loaded, environ=other, account="other").exit_code == 0
    taken = look(loaded, account="other")
    assert taken.exit_code == 2
    assert "belongs to account default" in said(taken, "account")
    assert loaded.rows("select name from internal.accounts") == [("default",)]


def test_a_broken_configuration_is_said_and_nothing_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 'fast'\n")
    with world(tmp_path) as there:
        found = look(there, probe=True)
        assert found.exit_code == 2
        assert "anticaptcha-etl.toml" in said(found, "settings")
        assert there.requests == ()


def test_a_variable_that_is_no_setting_is_a_warning(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": there.sandbox.url, "ANTICAPTCHA_LOKBACK": "7"}
        found = look(there, environ=environ)
        assert states(found, "settings") == [Level.OK, Level.WARNING]
        assert "ANTICAPTCHA_LOOKBACK" in said(found, "settings")
        assert found.exit_code == 0


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("probe", [False, True])
def test_a_warehouse_that_another_program_holds_is_named_with_it_and_costs_no_question(
    loaded: World, probe: bool
) -> None:
    before = len(loaded.requests)
    command = [sys.executable, "-c", HOLD, str(loaded.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        found = look(loaded, probe=probe)
        holder.communicate()
    assert found.exit_code == 4
    assert f"PID {holder.pid}" in said(found, "warehouse")
    assert states(found, "api") == [Level.OK]
    assert len(loaded.requests) == before


@pytest.mark.parametrize("probe", [False, True])
def test_a_running_sync_is_a_problem_and_is_not_waited_for(loaded: World, probe: bool) -> None:
    before = len(loaded.requests)
    with account_lock(loaded.warehouse, "default", Clock(), wait=0):
        found = look(loaded, probe=probe)
        assert look(loaded, account="other", environ={}).exit_code == 2  # no key; but the lock is another's
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    assert "another sync" in said(found, "lock")
    lock_file(loaded.file, "default").unlink()
    assert states(look(loaded), "lock") == []
    assert not lock_file(loaded.file, "default").exists()


def test_a_lock_file_that_cannot_be_one_is_a_problem(loaded: World) -> None:
    lock_file(loaded.file, "default").mkdir()
    found = look(loaded)
    assert (found.exit_code, states(found, "lock")) == (4, [Level.PROBLEM])


def test_an_until_before_the_remembered_since_is_a_problem_until_another_since_is_said(loaded: World) -> None:
    loaded.sync(since=ago(2))
    day = str(ago(3))
    found = look(loaded, until=day)
    assert found.exit_code == 2
    assert f"--until {day} is before the saved --since {ago(2)}" in said(found, "settings")
    with pytest.raises(UsageError, match=f"--until {day} is before the saved --since {ago(2)}"):
        loaded.sync(until=ago(3))
    assert look(loaded, until=str(ago(2))).exit_code == 0
    for since in (day, "all"):
        assert look(loaded, until=day, since=since).exit_code == 0


def test_a_newer_schema_is_a_problem_and_left_as_it_is(loaded: World) -> None:
    with duckdb.connect(loaded.file) as connection:
        connection.execute("update internal.alembic_version set version_num = '9999'")
    before = len(loaded.requests)
    found = look(loaded, probe=True)
    assert (found.exit_code, len(loaded.requests)) == (4, before)
    assert "9999" in said(found, "schema")
    assert loaded.one("select version_num from internal.alembic_version") == "9999"


@pytest.mark.parametrize("probe", [False, True])
def test_a_published_copy_is_named_as_one_and_never_probed(loaded: World, probe: bool) -> None:
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


def test_a_file_that_is_no_warehouse_is_a_problem(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.file.write_text("not a database\n" * 1000)
        found = look(there, probe=True)
        assert found.exit_code == 4
        assert "not a DuckDB file" in said(found, "warehouse")


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(there, warehouse="nowhere/at/all.duckdb")
        assert found.exit_code == 4
        assert "mkdir -p" in said(found, "file")


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are POSIX's")
@pytest.mark.parametrize(("mode", "state"), [(0o600, []), (0o400, []), (0o640, []), (0o604, [Level.WARNING])])
def test_a_key_file_that_everybody_can_read_is_a_warning(tmp_path: Path, mode: int, state: list[Level]) -> None:
    file = tmp_path / "the-key"
    file.write_text(KEY)
    file.chmod(mode)
    with world(tmp_path) as there:
        found = look(
            there, environ={"ANTICAPTCHA_CLIENT_KEY_FILE": str(file), "ANTICAPTCHA_API_URL": there.sandbox.url}
        )
        assert states(found, "key") == [Level.OK, *state]
        assert [one.hint for one in found.diagnostics if one.name == "key"] == ["", *("chmod 600 it" for _ in state)]
        assert found.exit_code == 0
        assert "the-key" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("where", ["variable", "table", "account"])
def test_a_key_file_that_is_not_there_is_a_problem_that_names_its_setting_alone(tmp_path: Path, where: str) -> None:
    environ = {"ANTICAPTCHA_CLIENT_KEY_FILE": "no-such-file"} if where == "variable" else {}
    title = {"table": "", "account": "[accounts.default]\n"}.get(where)
    if title is not None:
        (tmp_path / "anticaptcha-etl.toml").write_text(f'{title}client_key_file = "no-such-file"\n')
    with world(tmp_path) as there:
        found = look(there, environ={**environ, "ANTICAPTCHA_API_URL": there.sandbox.url})
        assert found.exit_code == 2
        assert "client_key_file" in said(found, "key").lower()
        assert "no-such-file" not in to_json(found) + as_text(found)


# ---------------------------------------------------------------- what is never said


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


def test_a_password_in_the_apis_address_is_not_shown(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        found = look(
            there, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": "https://me:hush-hush@127.0.0.1:9"}
        )
        assert found.exit_code == 2
        assert "hush-hush" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("words", [("-v",), ("--json", "-v"), ("--log-format", "json")])
def test_a_refused_key_is_shown_by_no_way_of_asking(tmp_path: Path, words: tuple[str, ...]) -> None:
    with world(tmp_path, Behaviour(refused_keys=frozenset({KEY}))) as there:
        with there.command("doctor", "--probe", *words) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in out
        assert KEY not in out + err


def test_a_crash_inside_shows_a_traceback_without_the_key(tmp_path: Path) -> None:
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


# ---------------------------------------------------------------- how it is said


def test_the_text_fits_80_columns_and_a_terminal(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        environ = {
            "ANTICAPTCHA_CLIENT_KEY": KEY,
            "ANTICAPTCHA_API_URL": there.sandbox.url,
            "ANTICAPTCHA_QUEUE": "a\x1b[31mred",
        }
        text = as_text(look(there, probe=True, environ=environ))
        assert max(map(len, text.splitlines())) <= 80
        assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_json_tells_every_setting_with_its_source_but_the_key(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 2\n")
    with world(tmp_path) as there:
        told = json.loads(to_json(look(there, account="shop")))
        assert told["settings"]["rate"] == {"value": "2.0", "source": f"rate in {tmp_path}/anticaptcha-etl.toml"}
        assert told["settings"]["account"] == {"value": "shop", "source": "--account"}
        assert told["settings"]["lookback"] == {"value": "3", "source": "default"}
        assert "key" not in told["settings"]
        assert told["exit_code"] == 0


def test_quiet_speaks_only_when_a_person_must_act(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.now = Clock().now()  # a command has the machine's own clock
        with there.command("doctor", "--quiet") as process:
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        with there.command("doctor", "--quiet", key=None) as process:
            assert "no client key" in process.communicate(timeout=60)[0]
        assert process.returncode == 2


# ---------------------------------------------------------------- advice and spelling, without any door

SITE = WarehouseFile("/w/a.duckdb", "/w", has_folder=True, can_write=True, size=10**6, mode=0o600, free=10**12)


@pytest.mark.parametrize(
    ("site", "name", "state", "code"),
    [
        (SITE, "space", Level.OK, 0),
        (replace(SITE, free=LOW_FREE_SPACE - 1), "space", Level.WARNING, 0),
        (replace(SITE, size=10**10, free=10**10 - 1), "space", Level.WARNING, 0),
        (replace(SITE, free=10**6), "space", Level.PROBLEM, 4),
        (replace(SITE, can_write=False), "file", Level.PROBLEM, 4),
        (replace(SITE, size=None, can_write=False), "file", Level.PROBLEM, 4),
        (replace(SITE, mode=0o644), "file", Level.NOTE, 0),
    ],
)
def test_a_site_where_a_sync_would_fail_is_a_problem(site: WarehouseFile, name: str, state: Level, code: int) -> None:
    last = [one for one in diagnostics.check_file(site) if one.name == name][-1]
    assert (last.level, last.exit_code) == (state, code)


def test_a_package_out_of_bounds_or_missing_is_a_warning_with_the_way_to_mend_it() -> None:
    good, odd, gone = (
        Package("a", ">=1,<2", "1.5", True),
        Package("b", ">=1,<2", "2.0", False),
        Package("c", ">=3", None, False),
    )
    fits, *others = diagnostics.check_packages([good, odd, gone])
    assert (fits.level, fits.message) == (Level.OK, "a 1.5")
    assert [one.level for one in others] == [Level.WARNING, Level.WARNING]
    assert [one.hint for one in others] == ["pip install 'b>=1,<2'", "pip install 'c>=3'"]


def test_a_question_may_begin_at_any_second_and_a_sync_only_at_whole_hours() -> None:
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
def test_how_a_success_writes_its_records_is_told(body: str, found: str) -> None:
    assert protocol.data_shape(body.encode()) == found

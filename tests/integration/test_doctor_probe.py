"""doctor --probe: what it finds out about the API, how many requests it sends, and what sync does with the answers."""

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.clock import Clock
from etl.config import Environment
from etl.extract import protocol
from etl.maintenance.diagnostics import Level
from etl.maintenance.doctor import run_diagnostics
from etl.maintenance.doctor_output import to_json
from etl.maintenance.probes import ProbeRequest
from etl.models import TOTAL, Window, day_start
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.secret import Secret
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.e2e.world import KEY, NOW, World, ago, small
from tests.integration.doctor_world import DEFAULTS, answers_of, diagnose, levels, new_world, text_of
from tests.postgres import new_database

MAX_REQUESTS = len(ProbeRequest)


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
    with new_world(tmp_path, replace(DEFAULTS, **behaviour)) as world:
        found = diagnose(world, probe=True)
        assert {
            question: answer for question, (answer, _) in answers_of(found).items() if question in answers
        } == answers
        assert found.exit_code == 0
        assert len(world.requests) == found.requests <= MAX_REQUESTS
        assert all(request.key_ok for request in world.requests)


def test_every_behaviour_of_the_sandbox_is_probed() -> None:
    not_in_responses = {"latency_seconds", "deposits", "balance_form", "accepted_keys", "refused_keys"}
    assert {name for behaviour, _ in MODES for name in behaviour} == {
        setting.name for setting in fields(Behaviour)
    } - not_in_responses


def test_float_noise_in_money_is_reported(tmp_path: Path) -> None:
    with new_world(tmp_path, Behaviour(numbers="noise")) as world:
        assert answers_of(diagnose(world, probe=True))["money is a"][0].endswith("places, float noise")


def test_ambiguous_observations_are_only_likely(tmp_path: Path) -> None:
    with new_world(tmp_path, Behaviour(running=False)) as world:
        found = answers_of(diagnose(world, probe=True))
        assert found["running hour"] == ("left out", "likely")
        assert found["hours not begun"] == ("left out", "likely")
        assert found["date at midnight"][1] == "sure"


def test_unknown_queue_stays_open_when_no_day_has_spend(tmp_path: Path) -> None:
    with World(tmp_path, Dataset(begins=ago(0)), Behaviour(unknown_queue="totals")) as world:
        assert answers_of(diagnose(world, probe=True))["unknown queue"] == (
            "zeros or the total: the day has no spend",
            "open",
        )


def test_later_probes_use_a_day_with_spend(tmp_path: Path) -> None:
    idle = ((ago(5), ago(0)),)
    with new_world(tmp_path, Behaviour(unknown_queue="totals"), idle=idle) as world:
        assert answers_of(diagnose(world, probe=True))["unknown queue"] == ("the account's total", "sure")


def test_probes_use_a_day_and_queue_from_the_warehouse(tmp_path: Path) -> None:
    with World(tmp_path, small(6, 2, idle=((ago(3), ago(0)),))) as world:
        world.sync()
        before = len(world.requests)
        found = diagnose(world, probe=True)
        probed = world.requests[before:]
        assert probed[0].date == int(day_start(ago(4)).timestamp())
        assert {request.queue for request in probed} & {"English ImageToText", "Russian ImageToText"}
        assert len(probed) == found.requests <= MAX_REQUESTS
        assert answers_of(found)["sum of queues"] == ("is the total on 3 of 3 closed days with spend", "sure")


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("postgresql", marks=pytest.mark.server)])
def test_stored_corrections_are_reported_without_a_request(tmp_path: Path, engine: str) -> None:
    with World(tmp_path, Dataset.always_active(begins=ago(4), queues=2, corrections=True)) as world:
        if engine == "postgresql":
            world.warehouse = new_database()
        world.sync()
        found = answers_of(diagnose(world, probe=True, warehouse=world.warehouse))
        assert found["a closed hour"][0].startswith("no change seen in ")
        assert found["sum of queues"] == ("is the total on 4 of 4 closed days with spend", "sure")
        world.now += timedelta(days=2)
        world.sync()
        changed = world.one("select count(distinct hour_start) from spending_revisions where queue = '(total)'")
        report = diagnose(world, probe=True, warehouse=world.warehouse)
        answer, certainty = answers_of(report)["a closed hour"]
        assert (report.exit_code, certainty) == (0, "sure")
        assert diagnose(world, warehouse=world.warehouse).probes == [
            one for one in report.probes if one.certainty != "open"
        ]
        assert answer.startswith(f"changed in {changed} of ")
        assert answer.endswith(" h after its end")


# ---------------------------------------------------------------- number of requests


class SleepingClock:
    """A monotonic clock that advances by sleeping only."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1.0), (50, 1.0), (0.25, 4.0)])
def test_probes_are_sent_at_most_once_per_second(tmp_path: Path, rate: float, seconds: float) -> None:
    sleeping = SleepingClock()
    clock = Clock(lambda: NOW, lambda: sleeping.slept, sleeping.sleep)
    with new_world(tmp_path) as world:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url}
        found = run_diagnostics({"rate": rate}, Environment(environ, tmp_path), clock, probe=True)
        assert sleeping.slept == pytest.approx((found.requests - 1) * seconds)


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
    with new_world(tmp_path, DEFAULTS, Fault(fault, numbers=(3,))) as world:
        found = diagnose(world, probe=True)
        assert len(world.requests) == 3
        assert found.exit_code == 3
        assert code in text_of(found, "probe")
        assert protocol.ACCOUNT_ERRORS[code] in text_of(found, "probe")


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
    with new_world(tmp_path, DEFAULTS, Fault(fault)) as world:
        found = diagnose(world, probe=True)
        assert len(world.requests) == len({request.date for request in world.requests}) == 3
        assert found.exit_code == 1
        assert Level.PROBLEM in levels(found, "probe")


def test_one_failed_probe_leaves_one_question_open(tmp_path: Path) -> None:
    with new_world(tmp_path, DEFAULTS, Fault(FaultKind.HTML_502, numbers=(4,))) as world:
        found = diagnose(world, probe=True)
        assert found.exit_code == 0
        assert answers_of(found)["unknown queue"] == ("no answer: http_502", "open")
        assert answers_of(found)["unknown softId"][1] == "sure"


# ---------------------------------------------------------------- storing answers


def test_probe_answers_are_stored_and_shown_later_without_requests(loaded: World) -> None:
    probed = diagnose(loaded, probe=True)
    sure = [probe for probe in probed.probes if probe.certainty != "open"]
    before = len(loaded.requests)
    again = diagnose(loaded)
    assert again.probes == sure
    assert len(loaded.requests) == before
    assert loaded.one("select count(*) from internal.probes") == len(sure)
    output = json.loads(to_json(again))["probes"]
    assert output[0] == {
        "question": "hours begin at", "answer": "the whole UTC hour", "certainty": "sure", "cut": "total",
        "member": None, "date": f"{ago(1)}T00:00:00Z", "status": 200, "seen_at": "2026-11-22T09:30:00Z",
    }  # fmt: skip


def test_latest_probe_answer_is_shown_and_earlier_ones_stay_stored(loaded: World) -> None:
    diagnose(loaded, probe=True)
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(off_hour="shift")
    diagnose(loaded, probe=True)
    assert answers_of(diagnose(loaded))["date inside an hour"][0] == "shifted: hours begin at that very second"
    assert loaded.one("select count(*) from internal.probes where question = 'date inside an hour'") == 2


def test_probing_creates_no_warehouse(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        found = diagnose(world, probe=True)
        assert list(tmp_path.iterdir()) == []
        assert levels(found, "file") == [Level.INFO]
        assert "not stored" in text_of(found, "probe")
        assert found.exit_code == 0


def test_probing_upgrades_an_older_schema(loaded: World) -> None:
    engine = open_warehouse(warehouse_url(str(loaded.file)))
    migrate.downgrade(engine, "0002")
    assert levels(diagnose(loaded), "schema") == [Level.INFO]
    assert diagnose(loaded, probe=True).exit_code == 0
    assert migrate.state(engine) == "current"
    assert loaded.one("select count(*) from internal.probes")


# ---------------------------------------------------------------- effects on sync

UNKNOWN_NAMES = "select dimension, behaviour, code from internal.unknown_name_behaviours order by dimension"


def test_probed_unknown_name_behaviour_is_not_requested_again_by_sync(tmp_path: Path) -> None:
    with World(tmp_path, small(3, 2)) as world:
        world.sync(totals_only=True)
        assert world.rows(UNKNOWN_NAMES) == []
        diagnose(world, probe=True)
        learned = [
            ("app", "error", "ERROR_ACCESS_DENIED"),
            ("ip", "zeros", None),
            ("queue", "error", "ERROR_INCORRECT_QUEUE"),
        ]
        assert world.rows(UNKNOWN_NAMES) == learned
        before = len(world.requests)
        world.sync()
        assert not [
            request
            for request in world.requests[before:]
            if request.queue and request.queue.startswith("no such queue")
        ]
        assert world.hourly() == world.expected_rows()


def test_changed_unknown_name_behaviour_resets_excluded_names(loaded: World) -> None:
    assert loaded.rows("select status from internal.member_statuses where member = 'Mistyped'") == [("excluded",)]
    loaded.now += timedelta(hours=1)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="zeros")
    found = diagnose(loaded, probe=True)
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
    found = diagnose(loaded, probe=True)
    assert loaded.rows("select * from internal.member_statuses") == before
    assert levels(found, "names") == []


def test_reset_status_is_the_latest_even_if_the_clock_was_set_back(loaded: World) -> None:
    loaded.now -= timedelta(minutes=30)
    loaded.sandbox.behaviour = Behaviour(unknown_queue="totals")
    found = diagnose(loaded, probe=True)
    assert levels(found, "names") == [Level.WARNING]
    [(last,)] = loaded.rows(
        "select status from internal.member_statuses where member = 'Mistyped' order by valid_from desc limit 1"
    )
    assert last == "unverified"


# ---------------------------------------------------------------- the protocol


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

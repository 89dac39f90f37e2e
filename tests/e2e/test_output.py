"""What a run tells when nobody watches: its log lines, its row in the table of runs, and the ping at its end."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from etl import cli
from etl.clock import Clock
from etl.config import Environment
from etl.errors import AccountRejectedError
from etl.load.lock import account_lock
from etl.logging_setup import MAX_WARNINGS
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, NOW, World, ago, small

Line = dict[str, Any]
KNOWN = Behaviour(unknown_queue="zeros")  # an error would be asked again, five seconds of real time later


def today_s(folder: Path, *faults: Fault, behaviour: Behaviour = KNOWN) -> World:
    """A world at the machine's own time, for the program as a person starts it."""
    now = datetime.now(UTC)
    return World(folder, Dataset.busy(begins=now.date() - timedelta(days=3), queues=2), behaviour, faults, now)


def program(world: World, *words: str, **environ: str) -> int:
    given = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "2"}
    return cli.run(words, Environment({"ANTICAPTCHA_CLIENT_KEY": KEY, **given, **environ}, world.folder))


# ---------------------------------------------------------------- lines for programs


def lines(capsys: pytest.CaptureFixture[str]) -> list[Line]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_line_of_a_run_says_whose_it_is_and_those_of_a_window_say_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = (Fault(FaultKind.HTML_502, numbers=(5,)), Fault(FaultKind.EMPTY, queues=("FunCaptcha",)))
    with today_s(tmp_path, *faults) as world:
        code = program(world, "sync", "-v", "--log-format", "json", "--account", "shop")
        told = lines(capsys)
    created, *run, done = told
    assert "created" in created["message"]
    assert created["account"] == "shop"
    assert {(line["account"], line["run"]) for line in run} == {("shop", 1)}
    window = {"day", "window_start", "cut", "member", "code"}
    retried = [line for line in run if " failed, retrying in " in line["message"]]
    assert retried
    assert all(line.keys() >= window | {"attempt", "wait_seconds"} for line in retried)
    answered = [line for line in run if "requests" in line]
    assert len(answered) == done["windows_good"] + done["windows_failed"]
    assert all(line.keys() >= window | {"requests", "seconds"} for line in answered)
    assert {line["cut"] for line in answered} == {"total", "queue"}
    assert all(line["seconds"] >= 0 for line in answered)
    assert (done["message"], done["account"], done["run"], done["exit_code"]) == ("sync done", "shop", 1, code)
    assert done["seconds"] > 0
    assert done["requests"] == len(world.requests)


def test_text_lines_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with today_s(tmp_path, Fault(FaultKind.HTML_502, numbers=(1,))) as world:
        assert program(world, "sync") == 0
    [retried] = [line for line in capsys.readouterr().err.splitlines() if "attempt 1 failed" in line]
    assert "warning  default, " in retried
    assert "run" not in retried


def test_two_runs_of_one_process_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with today_s(tmp_path) as world:
        assert program(world, "sync", "-v", "--log-format", "json", "--account", "shop") == 0
        capsys.readouterr()
        assert program(world, "status", "--log-format", "json", "--account", "nobody") == 2
    [line] = lines(capsys)
    assert not {"account", "run"} & line.keys()


@pytest.mark.parametrize(
    ("words", "environ", "code"),
    [
        (("sync",), {"ANTICAPTCHA_CLIENT_KEY": ""}, 2),
        (("sync", "--lookback", "x"), {}, 2),
        (("snc",), {}, 2),
        (("query", "select nonsense"), {}, 4),
        (("sync", "--warehouse", "no/where.duckdb"), {}, 4),
    ],
    ids=["key", "value", "command", "nothing held", "folder"],
)
def test_an_error_at_the_end_is_one_line_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], environ: dict[str, str], code: int
) -> None:
    with today_s(tmp_path) as world:
        assert program(world, *words, ANTICAPTCHA_LOG_FORMAT="json", **environ) == code
    [line] = lines(capsys)
    assert (line["level"], line["exit_code"]) == ("error", code)
    assert line["message"]
    assert "remedy" in line


def test_a_defect_is_one_line_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.transform.reconcile._verdict", lambda *_: 1 // 0)
    with today_s(tmp_path) as world:
        assert program(world, "sync", "--quiet", "--log-format", "json") == 1
    [line] = lines(capsys)
    assert "internal error" in line["message"]
    assert "ZeroDivisionError" in line["exception"]
    assert (line["account"], line["run"], line["exit_code"]) == ("default", 1, 1)


def test_quiet_json_speaks_when_a_person_must_act_and_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        assert program(world, "sync", "--quiet", "--log-format", "json") == 0
        assert lines(capsys) == []
        assert program(world, "sync", "--quiet", "--log-format", "json", "--max-requests", "1", "--lookback", "3") == 1
        [line] = lines(capsys)
    assert (line["message"], line["exit_code"]) == ("sync done", 1)


# ---------------------------------------------------------------- no log without end


def test_a_service_that_fails_all_night_fills_no_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = (Fault(FaultKind.HTML_502, rate=0.5), Fault(FaultKind.RESET, rate=0.3))
    with World(tmp_path, small(days=220), faults=faults) as world, caplog.at_level(logging.INFO, "etl"):
        summary = world.sync(since=str(ago(220)))
    assert summary.windows_good + summary.windows_failed > 200
    assert summary.retries > 2 * MAX_WARNINGS
    retries = [message for message in caplog.messages if " failed, retrying in " in message]
    assert len(retries) == MAX_WARNINGS
    assert (
        caplog.messages.count(f"logged {MAX_WARNINGS} retries; further ones are suppressed (--verbose shows all)") == 1
    )
    assert len(caplog.messages) <= 2 * (MAX_WARNINGS + 1) + 10


def test_who_asks_for_every_line_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with World(tmp_path, small(days=50), faults=(Fault(FaultKind.HTML_502, rate=0.6),)) as world:
        with caplog.at_level(logging.DEBUG, "etl"):
            summary = world.sync()
        assert summary.retries > MAX_WARNINGS
        assert sum(" failed, retrying in " in message for message in caplog.messages) == summary.retries


def test_records_that_are_refused_in_every_answer_fill_no_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = Behaviour(duplicates="differing")
    with World(tmp_path, small(days=200), twice) as world, caplog.at_level(logging.INFO, "etl"):
        summary = world.sync(since=str(ago(200)), totals_only="true")
    assert summary.rejections > MAX_WARNINGS
    assert len(caplog.messages) <= 2 * (MAX_WARNINGS + 1) + 10
    assert (
        caplog.messages.count(
            f"logged {MAX_WARNINGS} rejected records; further ones are suppressed (--verbose shows all)"
        )
        == 1
    )


# ---------------------------------------------------------------- the table of runs


def runs(world: World, columns: str) -> list[tuple[Any, ...]]:
    return world.rows(f"select {columns} from sync_runs order by run")


def test_a_run_counts_facts_that_were_new_that_changed_and_that_said_the_same(tmp_path: Path) -> None:
    with World(tmp_path, small(days=6)) as world:
        first = world.sync()
        facts = "internal.facts join internal.series using (account_id, series_id)"
        held = world.one(f"select count(*) from {facts} where member is not null or dimension = 'total'")
        assert (first.facts_inserted, first.facts_changed, first.facts_unchanged) == (held, 0, 0)
        again = world.sync()
        recent = f"select count(*) from spending_total_hourly where hour_start >= '{ago(3)}'"
        assert (again.facts_inserted, again.facts_changed) == (0, 0)
        assert again.facts_unchanged == world.one(recent)  # the totals of the lookback alone were asked again
        columns = "run, exit_code, requests, retries, windows_good, windows_failed, windows_left, facts_inserted, facts_unchanged"
        assert runs(world, columns) == [
            (1, 0, first.requests, first.retries, first.windows_good, 0, 0, held, 0),
            (2, 0, 4, 0, 4, 0, 0, 0, again.facts_unchanged),
        ]


def test_hours_that_grew_are_changed_and_those_beside_them_unchanged(tmp_path: Path) -> None:
    with World(tmp_path, small(days=3)) as world:
        world.sync(totals_only="true")
        world.now = NOW + timedelta(hours=2)
        later = world.sync(totals_only="true", lookback="0")
        assert later.facts_changed == 1  # the hour that was running
        assert later.facts_inserted == 2
        assert later.facts_unchanged == NOW.hour


def test_a_run_has_its_time_its_findings_and_its_end(tmp_path: Path) -> None:
    with World(tmp_path, small(days=3)) as world:
        world.sync(queues=("FunCaptchaa",))
        world.sandbox.faults = (Fault(FaultKind.IP_BLOCKED),)
        with pytest.raises(AccountRejectedError):
            world.sync()
        columns = "9 as requests, 9 as retries, null as ended_at, null as exit_code, 3 as run"
        world.rows(
            f"insert into internal.runs by name select * replace ({columns}) from internal.runs where run = 1"
        )  # as a killed one leaves it
        told = runs(world, "account, run, started_at, seconds, exit_code, requests, notes, warnings, blocking")
        to_db_utc = NOW.replace(tzinfo=None)
        notes, warnings = told[0][6:8]
        assert notes + warnings > 0
        assert told[0] == ("default", 1, to_db_utc, Decimal(0), 0, len(world.requests) - told[1][5], notes, warnings, 0)
        assert told[1][:5] == ("default", 2, to_db_utc, Decimal(0), 3)
        assert told[2] == ("default", 3, to_db_utc, None, None, None, 0, 0, 0)


# ---------------------------------------------------------------- the ping


class Ping(NamedTuple):
    path: str
    text: str


@contextmanager
def monitor() -> Iterator[tuple[str, list[Ping]]]:
    met: list[Ping] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            met.append(Ping(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/secret-token", met
        finally:
            server.shutdown()
            thread.join()


def test_a_good_sync_tells_the_monitor_also_when_it_is_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world, monitor() as (url, met):
        assert program(world, "sync", "--quiet", ANTICAPTCHA_PING_URL=url) == 0
        assert program(world, "status", ANTICAPTCHA_PING_URL=url) == 0
    [ping] = met
    assert ping.path == "/secret-token"
    assert ping.text.startswith("Synced default: ")
    assert "new hourly value" in ping.text
    assert KEY not in ping.text
    assert "secret-token" not in "".join(capsys.readouterr())


def test_a_sync_that_could_not_begin_or_end_well_is_a_failure(tmp_path: Path) -> None:
    with today_s(tmp_path) as world, monitor() as (url, met):
        assert program(world, "sync", ANTICAPTCHA_PING_URL=url, ANTICAPTCHA_CLIENT_KEY="") == 2
        assert program(world, "sync", "--max-requests", "1", ANTICAPTCHA_PING_URL=url) == 1
        with account_lock(world.warehouse, "default", Clock(), wait=0):
            assert program(world, "sync", "--lock-wait", "0", ANTICAPTCHA_PING_URL=url) == 4
        world.sandbox.faults = (Fault(FaultKind.IP_BLOCKED),)
        assert program(world, "sync", ANTICAPTCHA_PING_URL=url) == 3
        assert (
            program(world, "sync", "--no-such-option", ANTICAPTCHA_PING_URL=url) == 2
        )  # no settings yet: nobody to tell
    assert [ping.path for ping in met] == ["/secret-token/fail"] * 4
    for ping, words in zip(met, ("client key", "--max-requests", "another sync", "IP_BLOCKED"), strict=True):
        assert words in ping.text
        assert KEY not in ping.text


def test_a_defect_and_an_interrupted_sync_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with today_s(tmp_path) as world, monitor() as (url, met):
        for failure, code in ((KeyboardInterrupt, 130), (ZeroDivisionError, 1)):

            def raises(*_: object, failure: type[BaseException] = failure) -> None:
                raise failure

            monkeypatch.setattr("etl.sync.request_loop.reconcile", raises)
            assert program(world, "sync", ANTICAPTCHA_PING_URL=url) == code
    assert [ping.path for ping in met] == ["/secret-token/fail"] * 2
    assert "interrupted" in met[0].text
    assert "internal error" in met[1].text


def test_a_monitor_that_is_gone_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with monitor() as (url, _):
        pass
    with today_s(tmp_path) as world:
        assert program(world, "sync", ANTICAPTCHA_PING_URL=url) == 0
    said = capsys.readouterr().err
    assert said.count("the ping was not delivered") == 1
    assert "secret-token" not in said


def test_each_account_has_a_monitor_of_its_own(tmp_path: Path) -> None:
    with today_s(tmp_path) as world, monitor() as (url, met):
        toml = f"ping_url = '{url}/all'\n[accounts.shop]\nping_url = '{url}/shop'\n"
        (tmp_path / "anticaptcha-etl.toml").write_text(toml)
        assert program(world, "sync", "--account", "shop") == 0
    assert [ping.path for ping in met] == ["/secret-token/shop"]


def test_a_first_sync_warns_about_nothing_it_does_on_purpose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "etl")
    with World(tmp_path, small(5), Behaviour(unknown_queue="error")) as world:
        assert world.sync().exit_code == 0
        assert any(request.queue and request.queue.startswith("no such queue") for request in world.requests)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

"""The output of unattended runs: log lines, the row in the table of runs, and the ping at the end."""

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
from tests.e2e.world import KEY, NOW, WITHOUT_RETRIES, World, ago, small

Line = dict[str, Any]


def world_today(folder: Path, *faults: Fault, behaviour: Behaviour = WITHOUT_RETRIES) -> World:
    """Return a world at the current time, for commands that use the real clock."""
    now = datetime.now(UTC)
    return World(folder, Dataset.always_active(begins=now.date() - timedelta(days=3), queues=2), behaviour, faults, now)


def run_command(world: World, *arguments: str, **environ: str) -> int:
    settings = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "2"}
    return cli.run(arguments, Environment({"ANTICAPTCHA_CLIENT_KEY": KEY, **settings, **environ}, world.folder))


# ---------------------------------------------------------------- lines for programs


def lines(capsys: pytest.CaptureFixture[str]) -> list[Line]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_have_the_account_and_the_run_and_those_of_a_window_its_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = (Fault(FaultKind.HTML_502, numbers=(5,)), Fault(FaultKind.EMPTY, queues=("FunCaptcha",)))
    with world_today(tmp_path, *faults) as world:
        code = run_command(world, "sync", "-v", "--log-format", "json", "--account", "shop")
        all_lines = lines(capsys)
    created, *run, last = all_lines
    assert "created" in created["message"]
    assert created["account"] == "shop"
    assert {(line["account"], line["run"]) for line in run} == {("shop", 1)}
    window = {"day", "window_start", "cut", "member", "code"}
    retried = [line for line in run if "; retry " in line["message"]]
    assert retried
    assert all(line.keys() >= window | {"attempt", "wait_seconds"} for line in retried)
    requests_logged = [line for line in run if "requests" in line]
    assert len(requests_logged) == last["windows_good"] + last["windows_failed"]
    assert all(line.keys() >= window | {"requests", "seconds"} for line in requests_logged)
    assert {line["cut"] for line in requests_logged} == {"total", "queue"}
    assert all(line["seconds"] >= 0 for line in requests_logged)
    assert (last["message"], last["account"], last["run"], last["exit_code"]) == ("sync done", "shop", 1, code)
    assert last["seconds"] > 0
    assert last["requests"] == len(world.requests)


def test_text_lines_have_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path, Fault(FaultKind.HTML_502, numbers=(1,))) as world:
        assert run_command(world, "sync") == 0
    [retried] = [line for line in capsys.readouterr().err.splitlines() if "; retry 1 in " in line]
    assert "warning  default " in retried
    assert "run" not in retried


def test_log_fields_of_one_command_do_not_appear_in_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        assert run_command(world, "sync", "-v", "--log-format", "json", "--account", "shop") == 0
        capsys.readouterr()
        assert run_command(world, "status", "--log-format", "json", "--account", "unused") == 2
    [line] = lines(capsys)
    assert not {"account", "run"} & line.keys()


@pytest.mark.parametrize(
    ("arguments", "environ", "code"),
    [
        (("sync",), {"ANTICAPTCHA_CLIENT_KEY": ""}, 2),
        (("sync", "--lookback", "x"), {}, 2),
        (("snc",), {}, 2),
        (("query", "select nonsense"), {}, 4),
        (("sync", "--warehouse", "no/where.duckdb"), {}, 4),
    ],
    ids=["key", "value", "command", "no warehouse", "folder"],
)
def test_an_error_is_one_json_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], environ: dict[str, str], code: int
) -> None:
    with world_today(tmp_path) as world:
        assert run_command(world, *arguments, ANTICAPTCHA_LOG_FORMAT="json", **environ) == code
    [line] = lines(capsys)
    assert (line["level"], line["exit_code"]) == ("error", code)
    assert line["message"]
    assert "remedy" in line


def test_an_internal_error_is_one_json_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.transform.reconcile._day_state", lambda *_: 1 // 0)
    with world_today(tmp_path) as world:
        assert run_command(world, "sync", "--quiet", "--log-format", "json") == 1
    [line] = lines(capsys)
    assert "internal error" in line["message"]
    assert "ZeroDivisionError" in line["exception"]
    assert (line["account"], line["run"], line["exit_code"]) == ("default", 1, 1)


def test_quiet_with_json_logs_only_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path) as world:
        assert run_command(world, "sync", "--quiet", "--log-format", "json") == 0
        assert lines(capsys) == []
        assert (
            run_command(world, "sync", "--quiet", "--log-format", "json", "--max-requests", "1", "--lookback", "3") == 1
        )
        [line] = lines(capsys)
    assert (line["message"], line["exit_code"]) == ("sync done", 1)


# ---------------------------------------------------------------- the log stays short


def test_many_retries_log_a_limited_number_of_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = (Fault(FaultKind.HTML_502, rate=0.5), Fault(FaultKind.RESET, rate=0.3))
    with World(tmp_path, small(days=220), faults=faults) as world, caplog.at_level(logging.INFO, "etl"):
        summary = world.sync(since=str(ago(220)))
    assert summary.windows_good + summary.windows_failed > 200
    assert summary.retries > 2 * MAX_WARNINGS
    retries = [message for message in caplog.messages if "; retry " in message]
    assert len(retries) == MAX_WARNINGS
    assert (
        caplog.messages.count(f"logged {MAX_WARNINGS} retries; further ones are suppressed (--verbose shows all)") == 1
    )
    assert len(caplog.messages) <= 2 * (MAX_WARNINGS + 1) + 10


def test_verbose_logs_every_retry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with World(tmp_path, small(days=50), faults=(Fault(FaultKind.HTML_502, rate=0.6),)) as world:
        with caplog.at_level(logging.DEBUG, "etl"):
            summary = world.sync()
        assert summary.retries > MAX_WARNINGS
        assert sum("; retry " in message for message in caplog.messages) == summary.retries


def test_many_rejected_records_log_a_limited_number_of_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_run_counts_new_changed_and_unchanged_facts(tmp_path: Path) -> None:
    with World(tmp_path, small(days=6)) as world:
        first = world.sync()
        facts = "internal.facts join internal.series using (account_id, series_id)"
        fact_count = world.one(f"select count(*) from {facts} where member is not null or dimension = 'total'")
        assert (first.facts_inserted, first.facts_changed, first.facts_unchanged) == (fact_count, 0, 0)
        again = world.sync()
        recent = f"select count(*) from spending_total_hourly where hour_start >= '{ago(3)}'"
        assert (again.facts_inserted, again.facts_changed) == (0, 0)
        assert again.facts_unchanged == world.one(recent)  # only the totals of the lookback were requested again
        columns = "run, exit_code, requests, retries, windows_good, windows_failed, windows_left, facts_inserted, facts_unchanged"
        assert runs(world, columns) == [
            (1, 0, first.requests, first.retries, first.windows_good, 0, 0, fact_count, 0),
            (2, 0, 4, 0, 4, 0, 0, 0, again.facts_unchanged),
        ]


def test_only_hours_that_grew_count_as_changed(tmp_path: Path) -> None:
    with World(tmp_path, small(days=3)) as world:
        world.sync(totals_only="true")
        world.now = NOW + timedelta(hours=2)
        later = world.sync(totals_only="true", lookback="0")
        assert later.facts_changed == 1  # the hour that was running
        assert later.facts_inserted == 2
        assert later.facts_unchanged == NOW.hour


def test_a_run_has_its_times_finding_counts_and_exit_code(tmp_path: Path) -> None:
    with World(tmp_path, small(days=3)) as world:
        world.sync(queues=("FunCaptchaa",))
        world.sandbox.faults = (Fault(FaultKind.IP_BLOCKED),)
        with pytest.raises(AccountRejectedError):
            world.sync()
        columns = "9 as requests, 9 as retries, null as ended_at, null as exit_code, 3 as run"
        world.rows(
            f"insert into internal.runs by name select * replace ({columns}) from internal.runs where run = 1"
        )  # like a killed run
        rows = runs(world, "account, run, started_at, seconds, exit_code, requests, notes, warnings, blocking")
        now = NOW.replace(tzinfo=None)
        info_count, warning_count = rows[0][6:8]
        assert info_count + warning_count > 0
        assert rows[0] == (
            "default",
            1,
            now,
            Decimal(0),
            0,
            len(world.requests) - rows[1][5],
            info_count,
            warning_count,
            0,
        )
        assert rows[1][:5] == ("default", 2, now, Decimal(0), 3)
        assert rows[2] == ("default", 3, now, None, None, None, 0, 0, 0)


# ---------------------------------------------------------------- the ping


class Ping(NamedTuple):
    path: str
    text: str


@contextmanager
def monitor() -> Iterator[tuple[str, list[Ping]]]:
    pings: list[Ping] = []

    class PingHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            pings.append(Ping(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), PingHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/secret-token", pings
        finally:
            server.shutdown()
            thread.join()


def test_a_successful_sync_pings_the_monitor_even_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world, monitor() as (url, pings):
        assert run_command(world, "sync", "--quiet", ANTICAPTCHA_PING_URL=url) == 0
        assert run_command(world, "status", ANTICAPTCHA_PING_URL=url) == 0
    [ping] = pings
    assert ping.path == "/secret-token"
    assert ping.text.startswith("Synced default: ")
    assert "new hourly value" in ping.text
    assert KEY not in ping.text
    assert "secret-token" not in "".join(capsys.readouterr())


def test_a_sync_that_fails_pings_the_failure_url(tmp_path: Path) -> None:
    with world_today(tmp_path) as world, monitor() as (url, pings):
        assert run_command(world, "sync", ANTICAPTCHA_PING_URL=url, ANTICAPTCHA_CLIENT_KEY="") == 2
        assert run_command(world, "sync", "--max-requests", "1", ANTICAPTCHA_PING_URL=url) == 1
        with account_lock(world.warehouse, "default", Clock(), wait=0):
            assert run_command(world, "sync", "--lock-wait", "0", ANTICAPTCHA_PING_URL=url) == 4
        world.sandbox.faults = (Fault(FaultKind.IP_BLOCKED),)
        assert run_command(world, "sync", ANTICAPTCHA_PING_URL=url) == 3
        assert (
            run_command(world, "sync", "--no-such-option", ANTICAPTCHA_PING_URL=url) == 2
        )  # no settings yet, so no ping
    assert [ping.path for ping in pings] == ["/secret-token/fail"] * 4
    for ping, arguments in zip(pings, ("client key", "--max-requests", "another sync", "IP_BLOCKED"), strict=True):
        assert arguments in ping.text
        assert KEY not in ping.text


def test_an_internal_error_and_an_interrupt_ping_the_failure_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world_today(tmp_path) as world, monitor() as (url, pings):
        for failure, code in ((KeyboardInterrupt, 130), (ZeroDivisionError, 1)):

            def raises(*_: object, failure: type[BaseException] = failure) -> None:
                raise failure

            monkeypatch.setattr("etl.sync.account_sync.add_snapshots", raises)
            assert run_command(world, "sync", ANTICAPTCHA_PING_URL=url) == code
    assert [ping.path for ping in pings] == ["/secret-token/fail"] * 2
    assert "interrupted" in pings[0].text
    assert "internal error" in pings[1].text


def test_an_unreachable_monitor_only_causes_an_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with monitor() as (url, _):
        pass
    with world_today(tmp_path) as world:
        assert run_command(world, "sync", ANTICAPTCHA_PING_URL=url) == 0
    stderr = capsys.readouterr().err
    assert stderr.count("the ping was not delivered") == 1
    assert "secret-token" not in stderr


def test_an_account_can_have_its_own_ping_url(tmp_path: Path) -> None:
    with world_today(tmp_path) as world, monitor() as (url, pings):
        toml = f"ping_url = '{url}/all'\n[accounts.shop]\nping_url = '{url}/shop'\n"
        (tmp_path / "anticaptcha-etl.toml").write_text(toml)
        assert run_command(world, "sync", "--account", "shop") == 0
    assert [ping.path for ping in pings] == ["/secret-token/shop"]


def test_a_first_sync_logs_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "etl")
    with World(tmp_path, small(5), Behaviour(unknown_queue="error")) as world:
        assert world.sync().exit_code == 0
        assert any(request.queue and request.queue.startswith("no such queue") for request in world.requests)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

"""Alert rules: what fires, what is delivered, and that it is delivered once, through a real HTTP server and a real SMTP server."""

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from etl import cli, config
from etl.clock import Clock
from etl.load import alerts as stored_alerts
from etl.maintenance import alerting
from etl.maintenance.alerting import AlertsResult, run_alerts
from etl.maintenance.delivery import DeliveryLog
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.warehouse.account_files import delivery_log_file
from etl.warehouse.engine import warehouse_url
from tests.e2e.world import KEY, NOW, World, ago

pytestmark = pytest.mark.contract

QUEUES = ("English ImageToText", "FunCaptcha")
BEGINS = 80
SECRET = "token-that-must-stay-secret"


class Hook(HTTPServer):
    """Remembers the texts it was sent, and the command lines of all processes meanwhile; ``is_down``: it answers with an
    error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: list[str] = []
        self.command_lines = set[bytes]()
        self.is_down = False

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_address[1]}/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.command_lines |= set(_command_lines())
        if not self.server.is_down:
            self.server.texts += body["message"].splitlines()
        self.send_response(500 if self.server.is_down else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _command_lines() -> Iterator[bytes]:
    """Of all processes, as every user of the machine can read them; none where there is no /proc."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield file.read_bytes()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


_synced: dict[tuple[str, ...], bytes] = {}
"""Files of synced warehouses by queues: a sync of 80 days takes two seconds."""


@contextmanager
def world_in(folder: Path, *queues: str) -> Iterator[World]:
    """An account with two queues unless others are named, synced."""
    dataset = Dataset.always_active(begins=ago(BEGINS), queues=queues or QUEUES)
    deposits = ((NOW - timedelta(days=BEGINS + 1), Decimal(7000)),)
    with World(folder, dataset, Behaviour(unknown_queue="zeros", deposits=deposits)) as world:
        if world.is_file and queues in _synced:
            world.file.write_bytes(_synced[queues])
        else:
            world.sync(balance=True)
            if world.is_file:
                _synced[queues] = world.file.read_bytes()
        yield world


def evaluate(world: World, rules: str, *urls: str) -> AlertsResult:
    notify = f"notify = {json.dumps(urls)}\n"
    (world.folder / "anticaptcha-etl.toml").write_text(notify + rules)
    variables = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url}
    environment = config.Environment(variables, world.folder)
    clock = Clock(lambda: world.now)
    settings = config.load({"warehouse": world.warehouse}, clock.now(), environment)
    return run_alerts(settings, clock)


def rule(kind: str, **keys: object) -> str:
    return "\n".join(
        ["[[alerts]]", f'kind = "{kind}"', *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
    )


def messages(result: AlertsResult) -> list[str]:
    return [alert.message for alert in result.alerts]


def raise_day(world: World, day: date) -> None:
    at = world.now - timedelta(hours=1)
    world.sandbox.dataset = replace(world.sandbox.dataset, late_corrections=((day, at), (day, at)))


def test_a_budget_fires_at_each_percentage_and_when_the_forecast_passes_it(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        spent = world.one("select sum(money) from spending_daily where day >= date '2026-11-01'")
        assert evaluate(world, rule("budget", usd=float(spent * 2))).alerts == ()
        [forecast] = messages(evaluate(world, rule("budget", usd=float(spent) * 1.3)))
        assert "is expected to spend" in forecast
        assert evaluate(world, rule("budget", usd=float(spent) * 1.3, forecast=False, at=[90])).alerts == ()
        found = messages(evaluate(world, rule("budget", usd=float(spent) * 0.99)))
        assert [text.partition(" % of")[0] for text in found] == ["the account passed 80", "the account passed 100"]
        assert all("(101 %) since 2026-11-01" in text for text in found)
        one_queue = world.one(
            "select sum(money) from spending_hourly where queue = 'FunCaptcha' and hour_start >= timestamp '2026-11-01'"
            " and hour_start < timestamp '2026-11-22 09:00:00'"
        )
        [text] = messages(evaluate(world, rule("budget", usd=float(one_queue) * 0.99, queue="FunCaptcha", at=[100])))
        assert text.endswith(f": ${one_queue:,.2f} (101 %) since 2026-11-01")


@pytest.mark.parametrize(
    ("zone", "first"), [("UTC", "2026-11-22"), ("Pacific/Kiritimati", "2026-11-22"), ("America/New_York", "2026-11-22")]
)
def test_a_day_of_a_budget_is_one_of_the_accounts_time_zone(tmp_path: Path, zone: str, first: str) -> None:
    with world_in(tmp_path) as world:
        text = f'timezone = "{zone}"\n' + rule("budget", usd=0.01, period="day", at=[100], forecast=False)
        [message] = messages(evaluate(world, text))
        spent = world.one(f"select sum(money) from spending_daily_in('{zone}') where day = date '{first}'")
        running = world.one("select money from spending_total_hourly order by hour_start desc limit 1")
        assert f"${spent - running:,.2f} " in message
        assert message.endswith(f"since {first}")


def test_the_runway_fires_when_the_balance_lasts_fewer_days(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        days = float(world.one("select days_by_7_days from runway"))
        assert evaluate(world, rule("runway", days=days - 1)).alerts == ()
        [text] = messages(evaluate(world, rule("runway", days=days + 1)))
        assert f"lasts {days} days" in text


def test_an_anomaly_is_explained_with_its_numbers_and_delivered_once_until_it_is_over(
    tmp_path: Path, hook: Hook
) -> None:
    with world_in(tmp_path) as world:
        rules = rule("anomaly")
        assert evaluate(world, rules, hook.url).alerts == ()
        raise_day(world, ago(1))
        world.sync()
        found = messages(evaluate(world, rules, hook.url))
        assert len(found) == 2
        assert all(text.startswith(QUEUES) and "in the last 8 weeks" in text for text in found)
        for _ in range(3):
            assert messages(evaluate(world, rules, hook.url)) == found
        assert sorted(hook.texts) == sorted(found)
        world.now += timedelta(days=4)
        world.sync()
        assert evaluate(world, rules, hook.url).alerts == ()
        assert sorted(hook.texts[2:]) == sorted(f"ended: {text}" for text in found)
        history = world.rows(
            "select kind, ended_at is not null, begin_sent_at is not null, end_sent_at is not null from alerts_history"
        )
        assert history == [("anomaly", True, True, True)] * 2


def test_an_account_without_a_history_has_no_anomalies(tmp_path: Path) -> None:
    dataset = Dataset.always_active(begins=ago(10), queues=QUEUES)
    with World(tmp_path, dataset, Behaviour(unknown_queue="zeros")) as world:
        world.sync()
        raise_day(world, ago(1))
        world.sync()
        assert evaluate(world, rule("anomaly")).alerts == ()


def test_a_queue_that_was_never_seen_is_reported(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        lives = (("Turnstile Proxyless", ago(0), date(2100, 1, 1)),)
        world.sandbox.dataset = replace(world.sandbox.dataset, queues=(*QUEUES, "Turnstile Proxyless"), lives=lives)
        world.now += timedelta(hours=20)
        world.sync()
        assert "Turnstile Proxyless was never seen before 2026-11-22 00:00 UTC" in messages(
            evaluate(world, rule("anomaly"))
        )


def test_old_data_fires_and_fresh_data_does_not(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        assert evaluate(world, rule("stale")).alerts == ()
        world.now += timedelta(hours=31)
        [text] = messages(evaluate(world, rule("stale")))
        assert text == "the newest hour ended 31.5 hours ago, at 2026-11-22 09:00 UTC"


def test_unattributed_spend_fires_above_its_share(tmp_path: Path) -> None:
    with world_in(tmp_path, "FunCaptcha", "An unlisted queue") as world:
        [text] = messages(evaluate(world, rule("unattributed", percent=20)))
        assert "belongs to no known queue" in text
        assert evaluate(world, rule("unattributed", percent=90)).alerts == ()


def test_a_delivery_that_is_down_for_a_week_is_made_up_for_once(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        hook.is_down = True
        rules = rule("stale", hours=1) + rule("budget", usd=1, at=[100], forecast=False)
        for _ in range(7):
            result = evaluate(world, rules, hook.url)
            assert result.undelivered == 1
            world.now += timedelta(minutes=1)
        world.now += timedelta(hours=2)
        hook.is_down = False
        result = evaluate(world, rules, hook.url)
        assert (len(hook.texts), result.undelivered) == (2, 0)
        evaluate(world, rules, hook.url)
        assert len(hook.texts) == 2


def test_an_event_that_ends_and_begins_again_while_delivery_is_down_is_delivered_three_times(
    tmp_path: Path, hook: Hook
) -> None:
    with world_in(tmp_path) as world:
        fires, silent = rule("stale", hours=1), rule("budget", usd=999_999)
        world.now += timedelta(hours=3)
        evaluate(world, fires, hook.url)
        assert len(hook.texts) == 1
        hook.is_down = True
        evaluate(world, silent, hook.url)
        evaluate(world, fires, hook.url)
        hook.is_down = False
        evaluate(world, fires, hook.url)
        assert [text.startswith("ended: ") for text in hook.texts] == [False, True, False]
        assert evaluate(world, fires, hook.url).undelivered == 0
        assert len(hook.texts) == 3


def test_one_service_that_is_down_does_not_repeat_what_another_received(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world, Hook() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        other.is_down = True
        for _ in range(3):
            assert evaluate(world, rule("budget", usd=1, at=[100]), hook.url, other.url).undelivered == 1
        other.is_down = False
        assert evaluate(world, rule("budget", usd=1, at=[100]), hook.url, other.url).undelivered == 0
        other.shutdown()
        thread.join()
        assert len(hook.texts) == len(other.texts) == 1


@pytest.mark.of_the_file
def test_an_older_copy_of_the_warehouse_delivers_nothing_again(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        older = world.file.read_bytes()
        evaluate(world, rule("budget", usd=1, at=[100]), hook.url)
        assert len(hook.texts) == 1
        world.file.write_bytes(older)
        world.sync()
        assert len(evaluate(world, rule("budget", usd=1, at=[100]), hook.url).alerts) == 1
        assert len(hook.texts) == 1


@pytest.mark.of_the_file
def test_an_event_that_an_older_copy_of_the_warehouse_does_not_have_still_ends(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        older = world.file.read_bytes()
        [alert] = evaluate(world, rule("budget", usd=1, at=[100]), hook.url).alerts
        world.file.write_bytes(older)
        for _ in range(2):
            assert evaluate(world, rule("budget", usd=999_999), hook.url).alerts == ()
            assert hook.texts == [alert.message, f"ended: {alert.message}"]


@pytest.mark.of_the_file
def test_an_event_that_goes_on_again_in_an_older_copy_after_its_end_was_delivered_begins_again(
    tmp_path: Path, hook: Hook
) -> None:
    with world_in(tmp_path) as world:
        fires, silent = rule("budget", usd=1, at=[100]), rule("budget", usd=999_999)
        evaluate(world, fires, hook.url)
        older = world.file.read_bytes()
        evaluate(world, silent, hook.url)
        world.file.write_bytes(older)
        for _ in range(2):
            evaluate(world, fires, hook.url)
            assert [text.startswith("ended: ") for text in hook.texts] == [False, True, False]
        evaluate(world, silent, hook.url)
        assert len(hook.texts) == 4


@pytest.mark.of_the_file
def test_an_older_copy_does_not_repeat_what_came_before_the_events_that_it_lacks(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        fires, silent = rule("budget", usd=1, at=[100]), rule("budget", usd=999_999)

        def play(rules: str, *, is_down: bool = False) -> None:
            hook.is_down = is_down
            world.now += timedelta(minutes=1)
            evaluate(world, rules, hook.url)

        play(fires)
        play(silent, is_down=True)
        older = world.file.read_bytes()
        for rules in (silent, fires, silent):
            play(rules)
        assert len(hook.texts) == 4
        world.file.write_bytes(older)
        play(silent)
        assert len(hook.texts) == 4
        play(silent, is_down=True)
        play(fires, is_down=True)
        play(silent)
        assert [text.startswith("ended: ") for text in hook.texts] == [False, True] * 3


def test_two_machines_that_take_turns_deliver_each_event(tmp_path: Path, hook: Hook) -> None:
    """Each machine has its own record of what was delivered."""
    with world_in(tmp_path) as world:
        fires, silent = rule("budget", usd=1, at=[100]), rule("budget", usd=999_999)
        logs: dict[str, bytes] = {}
        file = delivery_log_of(world)
        for machine, rules in (("a", fires), ("b", silent), ("b", fires), ("a", fires), ("b", silent), ("a", fires)):
            file.unlink(missing_ok=True)
            if machine in logs:
                file.write_bytes(logs[machine])
            evaluate(world, rules, hook.url)
            world.now += timedelta(seconds=1)
            if file.exists():
                logs[machine] = file.read_bytes()
        assert [text.startswith("ended: ") for text in hook.texts] == [False, True, False, True, False]


@pytest.mark.of_the_file
def test_a_record_of_deliveries_that_cannot_be_written_is_an_error_with_a_hint(
    tmp_path: Path, hook: Hook, capfd: pytest.CaptureFixture[str]
) -> None:
    with world_in(tmp_path) as world:
        (tmp_path / "anticaptcha-etl.toml").write_text(f'notify = "{hook.url}"\n{rule("budget", usd=1, at=[100])}')
        Path(f"{delivery_log_of(world)}.part").mkdir()
        assert world.run("alerts") == 4
        error = capfd.readouterr().err
        assert "error: alerts were delivered, but " in error
        assert "hint: free disk space or make its folder writable" in error
        assert world.run("sync") == 0
        assert "evaluating the alerts failed: alerts were delivered, but " in capfd.readouterr().err


@pytest.mark.of_the_file
def test_a_record_of_deliveries_of_another_form_is_not_used(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        rules = rule("budget", usd=1, at=[100])
        delivery_log_of(world).write_text(json.dumps({"budget usd=1 at=[100]\t2026-11-01 at 100 %": {"0": "end"}}))
        for _ in range(2):
            assert len(evaluate(world, rules, hook.url).alerts) == len(hook.texts) == 1


def delivery_log_of(world: World) -> Path:
    """The file with what was delivered."""
    settings = config.load(
        {"warehouse": world.warehouse}, world.now, config.Environment(world.variables(KEY), world.folder)
    )
    return delivery_log_file(warehouse_url(settings.warehouse), settings.account, settings.state_folder)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(("step", "deliveries"), [("update", 1), ("deliver", 1), ("mark", 1), ("note", 2)])
def test_a_kill_repeats_an_event_only_between_sending_and_noting(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch, step: str, deliveries: int
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise _Killed

    with world_in(tmp_path) as world:
        with monkeypatch.context() as patch:
            if step == "update":
                patch.setattr(stored_alerts, "current", killed)
            elif step == "deliver":
                patch.setattr(alerting, "_deliver", killed)
            elif step == "mark":
                patch.setattr(stored_alerts, "mark_sent", killed)
            else:
                patch.setattr(DeliveryLog, "record", killed)
            with pytest.raises(_Killed):
                evaluate(world, rule("budget", usd=1, at=[100]), hook.url)
        evaluate(world, rule("budget", usd=1, at=[100]), hook.url)
        assert len(hook.texts) == deliveries


def test_a_clock_that_jumps_back_repeats_nothing(tmp_path: Path, hook: Hook) -> None:
    with world_in(tmp_path) as world:
        evaluate(world, rule("budget", usd=1, at=[100], forecast=False), hook.url)
        world.now -= timedelta(days=1)
        evaluate(world, rule("budget", usd=1, at=[100], forecast=False), hook.url)
        assert len(hook.texts) == 1


@pytest.mark.of_the_file
def test_mail_is_delivered_and_the_url_is_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with world_in(tmp_path) as world, _smtp() as (port, mails):
        url = f"mailto://user:{SECRET}@127.0.0.1:{port}/?from=etl@example.com&to=ops@example.com&mode=insecure"
        result = evaluate(world, rule("budget", usd=1, at=[100], forecast=False), url)
        assert result.undelivered == 0
        assert any("the account passed 100 %" in text for text in mails)
        dead = f"json://127.0.0.1:9/{SECRET}"
        assert evaluate(world, rule("budget", usd=2, at=[100], forecast=False), dead).undelivered == 2
        assert SECRET.encode() not in world.file.read_bytes()
        for file in world.folder.iterdir():
            assert file.suffix == ".toml" or not file.is_file() or SECRET.encode() not in file.read_bytes()
    out, error = capfd.readouterr()
    assert SECRET not in out + error


@contextmanager
def _smtp() -> Iterator[tuple[int, list[str]]]:
    """A server that accepts any login and mail."""
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line.split(b" ")[0].strip().upper()
                if word == b"EHLO":
                    self.wfile.write(b"250-here\r\n250 AUTH PLAIN LOGIN\r\n")
                elif word == b"AUTH":
                    self.wfile.write(b"235 fine\r\n")
                elif word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    text = b""
                    while (part := self.rfile.readline()) not in (b".\r\n", b""):
                        text += part
                    mails.append(text.decode())
                    self.wfile.write(b"250 fine\r\n")
                elif word == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 fine\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1], mails
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("arguments", [("sync",), ("alerts",)])
def test_processes_at_once_deliver_an_event_once_and_no_command_line_has_the_url(
    tmp_path: Path, hook: Hook, arguments: tuple[str, ...]
) -> None:
    with world_in(tmp_path) as world:
        rules = rule("budget", usd=1, at=[100], forecast=False) + rule("stale", hours=1)
        (tmp_path / "anticaptcha-etl.toml").write_text(f'notify = "{hook.url}"\n{rules}')
        processes = [world.command(*arguments) for _ in range(3)]
        outputs = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [5 if arguments == ("alerts",) else 0] * 3, outputs
        assert len(hook.texts) == len(set(hook.texts)) == 2
        assert any(arguments[0].encode() in line for line in hook.command_lines) or sys.platform != "linux"
        assert not any(SECRET.encode() in line for line in hook.command_lines)
        assert not any(SECRET in text for pair in outputs for text in pair)


def test_the_command_ends_with_5_if_an_alert_fires(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        (tmp_path / "anticaptcha-etl.toml").write_text(rule("budget", usd=1, at=[100], forecast=False))
        assert world.run("alerts") == 5
        (tmp_path / "anticaptcha-etl.toml").write_text(rule("budget", usd=999999))
        assert world.run("alerts") == 0
        (tmp_path / "anticaptcha-etl.toml").write_text("")
        assert world.run("alerts") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alerts = 3", "is not a list of tables"),
        ('[[alerts]]\nkind = "bugdet"', "kind is 'bugdet'"),
        ('[[alerts]]\nkind = "budget"', "usd is missing"),
        ('[[alerts]]\nkind = "budget"\nusd = -1', "usd is -1: it must be an amount of US dollars above 0"),
        ('[[alerts]]\nkind = "runway"\ndays = "soon"', "days is 'soon'"),
        ('[[alerts]]\nkind = "runway"\ndays = 3\npercent = 2', "percent is not a key of kind runway"),
        ('[[alerts]]\nkind = "budget"\nusd = 5\nperiod = "year"', "period is 'year'"),
    ],
)
def test_a_wrong_rule_is_an_error_that_names_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    world = World(tmp_path, Dataset.always_active(begins=ago(2)))
    (tmp_path / "anticaptcha-etl.toml").write_text(text)
    assert world.sandbox is not None
    assert config_error(tmp_path, capsys) is not None
    assert message in config_error(tmp_path, capsys)


def config_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["alerts"], config.Environment({}, folder)) == 2
    return capsys.readouterr().err


def test_a_sync_logs_an_alert_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with world_in(tmp_path) as world:
        (tmp_path / "anticaptcha-etl.toml").write_text(rule("budget", usd=1, at=[100], forecast=False))
        logged = []
        for _ in range(2):
            assert world.run("sync") == 0
            logged.append("alert: the account passed 100 %" in capfd.readouterr().err)
        assert logged == [True, False]


def test_the_alerts_of_all_accounts_are_evaluated_though_one_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begins = datetime.now(UTC).date() - timedelta(days=3)
    with World(tmp_path, Dataset.always_active(begins=begins), now=datetime.now(UTC)) as world:
        accounts = {name: f"[accounts.{name}]\nclient_key_env = 'KEY_{name}'\n" for name in ("a", "b")}
        small, large = rule("budget", usd=1, at=[100], account="a"), rule("budget", usd=999999, account="b")
        config_file = tmp_path / "anticaptcha-etl.toml"
        config_file.write_text("\n".join(accounts.values()))
        assert world.run("alerts", "--all") == 2
        assert "hint: add [[alerts]]" in capsys.readouterr().err
        config_file.write_text("\n".join([*accounts.values(), small, large]))
        assert world.run("sync", "--all", KEY_a=f"{KEY}a", KEY_b=f"{KEY}b") == 0
        capsys.readouterr()
        assert world.run("alerts", "--all") == 5
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith("a: budget: the account passed 100 % of the budget of $1.00 a month: $")
        assert second == "No alerts for account b"
        assert world.run("alerts", "--all", "--quiet") == 5
        assert len(capsys.readouterr().out.splitlines()) == 1
        config_file.write_text("\n".join([*accounts.values(), "lookback = 'many'", small, large]))
        assert world.run("alerts", "--all", "--json") == 2
        found = json.loads(capsys.readouterr().out)
        assert [(one["account"], len(one["alerts"])) for one in found["accounts"]] == [("a", 1)]
        assert [(one["account"], one["exit_code"]) for one in found["failed"]] == [("b", 2)]
        config_file.write_text("\n".join([*accounts.values(), large]))
        assert world.run("alerts", "--all") == 0


@pytest.mark.of_the_file
def test_without_a_warehouse_alerts_are_an_error_and_create_none(tmp_path: Path) -> None:
    world = World(tmp_path, Dataset.always_active(begins=ago(2)))
    (tmp_path / "anticaptcha-etl.toml").write_text(rule("stale"))
    with world:
        assert world.run("alerts") == 4
    assert [file.name for file in tmp_path.iterdir()] == ["anticaptcha-etl.toml"]

"""``sync --all``: all accounts of the configuration at once, each as exact as alone and unaffected by the others' errors."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from etl import cli
from etl.clock import Clock
from etl.config import Environment, Shard
from etl.load.lock import account_lock
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sync import run as sync_run
from etl.sync.account_sync import AccountSync
from tests.e2e.test_output import lines, monitor
from tests.e2e.world import LOOKBACK, Hours, World

WRONG_KEY = "0000000000000000000000000000wrong"
WITHOUT_RETRIES = Behaviour(
    unknown_queue="zeros", refused_keys=frozenset({WRONG_KEY})
)  # an error would be retried after five seconds
TWELVE = tuple(f"acc{signal_number:02}" for signal_number in range(12))


def world_today(
    folder: Path, days: int = 5, queues: int = 2, behaviour: Behaviour = WITHOUT_RETRIES, *faults: Fault
) -> World:
    """Return a world at the current time, for commands that use the real clock."""
    now = datetime.now(UTC)
    return World(
        folder, Dataset.always_active(begins=now.date() - timedelta(days=days), queues=queues), behaviour, faults, now
    )


def write_config(world: World, names: Iterable[str], top: str = "", **own: str) -> None:
    """Write the configuration: a table for each account, with the additional lines of ``own``."""
    tables = [f"[accounts.{name}]\nclient_key_env = 'KEY_{name}'\n{own.get(name, '')}\n" for name in names]
    (world.folder / "anticaptcha-etl.toml").write_text("\n".join([top, *tables]))


def variables(world: World, names: Iterable[str], **more: str) -> dict[str, str]:
    keys = {f"KEY_{name}": f"key-of-{name}-0123456789" for name in names}
    settings = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "2"}
    settings |= {"ANTICAPTCHA_SPOT_CHECKS": "0", "ANTICAPTCHA_BALANCE": "false"}
    return {**settings, **keys, **more}


def run_command(world: World, *arguments: str, names: Iterable[str], **more: str) -> int:
    return cli.run(arguments, Environment(variables(world, names, **more), world.folder))


@contextmanager
def start(world: World, *arguments: str, names: Iterable[str], **more: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a command; it is killed if the block fails, so that a hanging command fails one test and not all."""
    command = [sys.executable, "-m", "etl", *arguments]
    settings = variables(world, names, **more)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=world.folder, env=settings
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def hourly(world: World, account: str) -> Hours:
    rows = world.rows(f"select queue, hour_start, volume, money from spending_hourly where account = '{account}'")
    stored: Hours = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
    assert len(stored) == len(rows), "an hour of a queue is stored twice"
    return stored


def without_today(hours: Hours, today: date) -> Hours:
    """Leave out today, whose total and queues are read at slightly different times."""
    return {(queue, hour): value for (queue, hour), value in hours.items() if hour.date() < today}


def without_running_hour(hours: Hours, world: World) -> Hours:
    """Leave out the running hour: if no other hour of today has ended, its queues are not requested."""
    running = world.now.replace(tzinfo=None) - timedelta(hours=1)
    return {(queue, hour): value for (queue, hour), value in hours.items() if hour <= running}


# ---------------------------------------------------------------- each account as if alone


def test_twelve_accounts_are_exact_and_two_others_fail_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, TWELVE, acc07="lookback = 'x'")
        assert run_command(world, "sync", "--all", names=TWELVE, KEY_acc03=WRONG_KEY) == 2
        output = capsys.readouterr()
        good = [name for name in TWELVE if name not in ("acc03", "acc07")]
        assert all(
            without_running_hour(hourly(world, name), world) == without_running_hour(world.expected_rows(), world)
            for name in good
        )
        assert (
            world.one("select count(distinct account_id) from internal.accounts") == 11
        )  # the settings of one account are invalid
        rows = [line.split() for line in output.out.splitlines() if line.startswith("acc") and ":" not in line]
        assert [(name, code) for name, code, *_ in rows[1:]] == [
            (name, {"acc03": "3", "acc07": "2"}.get(name, "0")) for name in TWELVE
        ]
    assert "acc03: error: the API refused the account" in output.out
    assert "acc03: hint: " in output.out
    assert "acc07: error: [accounts.acc07] lookback in" in output.out
    assert output.out.splitlines()[-1] == "next: anticaptcha-etl doctor --account acc07"
    assert WRONG_KEY not in output.out + output.err


def test_a_second_sync_of_all_requests_for_each_account_what_a_single_sync_would(tmp_path: Path) -> None:
    names = TWELVE[:3]
    with world_today(tmp_path) as world:
        write_config(world, names)
        assert run_command(world, "sync", "--all", names=names) == 0
        before = len(world.requests)
        assert run_command(world, "sync", "--all", names=names) == 0
        second_run = world.requests[before:]
        assert len(second_run) == len(names) * (LOOKBACK + 1)
        assert all(request.queue is None for request in second_run)
        assert Counter(world.rows("select account, exit_code from sync_runs")) == {(name, 0): 2 for name in names}


def test_accounts_can_have_their_own_warehouses(tmp_path: Path) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"), b="warehouse = 'b.duckdb'")
        assert run_command(world, "sync", "--all", names=("a", "b")) == 0
        assert without_running_hour(hourly(world, "a"), world) == without_running_hour(world.expected_rows(), world)
        world.file = tmp_path / "b.duckdb"
        assert without_running_hour(hourly(world, "b"), world) == without_running_hour(world.expected_rows(), world)
        assert world.rows("select name from internal.accounts") == [("b",)]


def test_one_key_for_two_new_accounts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"))
        assert run_command(world, "sync", "--all", names=("a", "b"), KEY_a="the-very-same", KEY_b="the-very-same") == 2
        assert world.one("select count(*) from internal.accounts") == 1
    assert "this key belongs to account" in capsys.readouterr().out


def test_an_account_locked_by_another_sync_fails_alone_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"))
        with account_lock(world.warehouse, "a", Clock(), wait=0):
            assert run_command(world, "sync", "--all", "--lock-wait", "0", names=("a", "b")) == 4
        assert without_running_hour(hourly(world, "b"), world) == without_running_hour(world.expected_rows(), world)
    assert "a: error: another sync of account a is running" in capsys.readouterr().out


def test_an_internal_error_of_one_account_is_logged_with_traceback_and_affects_only_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = AccountSync

    def fail_for_account_a(settings: object, *others: object) -> object:
        return 1 // 0 if getattr(settings, "account", "") == "a" else run(settings, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(sync_run, "AccountSync", fail_for_account_a)
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"))
        assert run_command(world, "sync", "--all", names=("a", "b")) == 1
        assert without_running_hour(hourly(world, "b"), world) == without_running_hour(world.expected_rows(), world)
    output = capsys.readouterr()
    assert "ZeroDivisionError" in output.err
    assert "[a] internal error in anticaptcha-etl" in output.err
    assert "a: error: internal error" in output.out


# ---------------------------------------------------------------- contradicting options and plans


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sync", "--all", "--account", "a"), "--account is one"),
        (("sync", "--shard", "0/2"), "requires --all"),
        (("sync", "--accounts-at-once", "2"), "requires --all"),
        (("plan", "--shard", "0/2"), "requires --all"),
        (("sync", "--all", "--shard", "2/2"), "from 0 to N-1"),
        (("sync", "--all", "--accounts-at-once", "65"), "1 to 64"),
        (("sync", "--all", "--config", "broken.toml"), "not valid TOML"),
        (("sync", "--all", "--config", "empty.toml"), "[accounts.NAME]"),
    ],
)
def test_contradicting_options_are_refused_before_any_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a",))
        (tmp_path / "broken.toml").write_text("[accounts.a\n")
        (tmp_path / "empty.toml").write_text("rate = 1\n")
        assert run_command(world, *arguments, names=("a",)) == 2
        assert not world.requests
    assert message in capsys.readouterr().err


def test_the_plan_of_all_shows_each_account_and_the_total_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b", "c"), top="since = 2026-01-01", c="lookback = 'x'")
        assert run_command(world, "plan", "--all", names=()) == 2
        output = capsys.readouterr().out
        assert run_command(world, "sync", "--all", "--dry-run", names=()) == 2
        assert capsys.readouterr().out == output
        assert not world.requests
        assert not world.file.exists()
    days = [int(found) for found in re.findall(r"^Plan for \w: (\d+) days to check", output, re.MULTILINE)]
    assert len(days) == 2
    assert f"Total for 2 accounts: {sum(days)} days to check\n" in output
    assert "c: error: [accounts.c] lookback" in output


def test_shards_split_the_accounts(tmp_path: Path) -> None:
    with world_today(tmp_path, days=1) as world:
        write_config(world, TWELVE)
        for part in range(3):
            assert run_command(world, "sync", "--all", "--shard", f"{part}/3", names=TWELVE) == 0
            stored = {name for (name,) in world.rows("select name from internal.accounts")}
            assert stored == {name for name in TWELVE if any(Shard(index, 3).has(name) for index in range(part + 1))}
        assert stored == set(TWELVE)
        assert world.one("select count(*) from internal.runs") == len(TWELVE)


# ---------------------------------------------------------------- one rate


def test_accounts_share_one_rate_equally_whatever_their_concurrency(tmp_path: Path) -> None:
    """The requested day identifies the account, because no two accounts load the same days."""
    with world_today(tmp_path, days=200) as world:
        today = world.now.date()
        spans = {
            name: (today - timedelta(days=50 * place + 50), today - timedelta(days=50 * place + 11))
            for place, name in enumerate("abc")
        }
        own = {
            name: f"since = {first}\nuntil = {last}\nconcurrency = {32 if name == 'a' else 4}"
            for name, (first, last) in spans.items()
        }
        write_config(world, spans, top="totals_only = true", **own)
        started = time.monotonic()
        assert run_command(world, "sync", "--all", names=spans, ANTICAPTCHA_RATE="20") == 0
        seconds = time.monotonic() - started
        requested_days = [datetime.fromtimestamp(request.date or 0, UTC).date() for request in world.requests]
    account_by_request = [
        next(name for name, (first, last) in spans.items() if first <= day <= last) for day in requested_days
    ]
    assert Counter(account_by_request) == dict.fromkeys("abc", 40)
    assert seconds >= 119 / 20
    first_of = [account_by_request.index(name) for name in spans]
    last_of = [len(account_by_request) - 1 - account_by_request[::-1].index(name) for name in spans]
    counts = Counter(account_by_request[max(first_of) : min(last_of) + 1])  # while all of them send requests
    assert counts.total() > 60
    assert max(counts.values()) <= 1.2 * min(counts.values()) + 1


def test_the_own_rate_of_an_account_slows_only_that_account(tmp_path: Path) -> None:
    with world_today(tmp_path, days=3) as world:
        write_config(world, ("a", "b"), top="rate = 0", a="rate = 10")
        del (settings := variables(world, ("a", "b")))["ANTICAPTCHA_RATE"]
        assert cli.run(("sync", "--all"), Environment(settings, tmp_path)) == 0
        seconds = dict(world.rows("select account, seconds from sync_runs"))
        requests = world.one("select requests from sync_runs where account = 'a'")
    assert seconds["a"] >= (requests - 1) / 10
    assert seconds["b"] < seconds["a"]


# ---------------------------------------------------------------- stopped and killed


@pytest.mark.parametrize("signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupt_ends_every_account_and_the_next_sync_continues(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    slow = Behaviour(unknown_queue="zeros", latency_seconds=0.05)
    with world_today(tmp_path, days=20, behaviour=slow) as world:
        write_config(world, TWELVE)
        with start(world, "sync", "--all", "--accounts-at-once", "4", names=TWELVE) as process:
            world.wait_for(process, 150)
            process.send_signal(signal_number)
            stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 130, stderr
        assert "Traceback" not in stderr
        ends = world.rows("select account, exit_code from sync_runs")
        assert {code for _, code in ends} <= {0, 130}
        assert 130 in {code for _, code in ends}
        assert "not started: " in stdout
        snapshots_before = set(world.rows("select * from internal.snapshots"))
        assert snapshots_before
        world.sandbox.behaviour = WITHOUT_RETRIES
        assert run_command(world, "sync", "--all", names=TWELVE) == 0
        assert snapshots_before <= set(world.rows("select * from internal.snapshots"))
        today = world.now.date()
        assert all(
            without_today(hourly(world, name), today) == without_today(world.expected_rows(), today) for name in TWELVE
        )


def test_an_interrupt_does_not_wait_for_a_slow_server(tmp_path: Path) -> None:
    with world_today(tmp_path, behaviour=Behaviour(latency_seconds=5)) as world:
        write_config(world, TWELVE)
        with start(world, "sync", "--all", names=TWELVE) as process:
            world.wait_for(process, 8 * 4 - 8)
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        assert time.monotonic() - started < 3  # including the end of the interpreter
        assert process.returncode == 130, stderr
        assert set(world.rows("select exit_code from internal.runs")) == {(130,)}


def test_a_second_interrupt_ends_the_program_immediately(tmp_path: Path) -> None:
    with world_today(tmp_path, behaviour=Behaviour(latency_seconds=5)) as world:
        write_config(world, TWELVE)
        with start(world, "sync", "--all", names=TWELVE) as process:
            world.wait_for(process, 8)
            process.send_signal(signal.SIGINT)
            threading.Event().wait(0.05)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=10)
        assert process.returncode == 130, stderr


def test_an_interrupt_ends_accounts_that_wait_for_a_lock(tmp_path: Path) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"))
        with account_lock(world.warehouse, "a", Clock(), wait=0), account_lock(world.warehouse, "b", Clock(), wait=0):
            with start(world, "sync", "--all", names=("a", "b")) as process:
                for line in process.stderr or ():
                    if "waiting for it" in line:
                        break
                process.send_signal(signal.SIGINT)
                started = time.monotonic()
                process.communicate(timeout=30)
            assert time.monotonic() - started < 3
        assert process.returncode == 130
        assert not world.requests


@pytest.mark.long
def test_after_a_kill_unfinished_accounts_run_first_and_everything_is_exact(tmp_path: Path) -> None:
    slow = Behaviour(unknown_queue="zeros", latency_seconds=0.02)
    with world_today(tmp_path, days=8, behaviour=slow) as world:
        write_config(world, TWELVE)
        with start(world, "sync", "--all", "--accounts-at-once", "3", names=TWELVE) as process:
            world.wait_for(process, 220)
            process.kill()
            process.communicate(timeout=30)
        done = {name for (name,) in world.rows("select account from sync_runs where exit_code = 0")}
        started_accounts = {name for (name,) in world.rows("select name from internal.accounts")}
        assert done < started_accounts < set(TWELVE)
        world.sandbox.behaviour = WITHOUT_RETRIES
        assert run_command(world, "sync", "--all", "--accounts-at-once", "1", names=TWELVE) == 0
        order = [
            name for (name,) in world.rows("select account from sync_runs group by account order by max(started_at)")
        ]
        assert order[: len(TWELVE) - len(done)] == [name for name in TWELVE if name not in done]
        assert set(order[len(TWELVE) - len(done) :]) == done
        today = world.now.date()
        assert all(
            without_today(hourly(world, name), today) == without_today(world.expected_rows(), today) for name in TWELVE
        )


# ---------------------------------------------------------------- output


def test_json_logs_have_a_line_for_each_account_and_a_last_one_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b", "c"), c="lookback = 'x'")
        assert run_command(world, "sync", "--all", "--log-format", "json", names=("a", "b", "c"), KEY_b=WRONG_KEY) == 2
        all_lines = lines(capsys)
        requests = len(world.requests)
    done = [line for line in all_lines if line["message"] == "sync done"]
    assert [(line["account"], line["run"], line["exit_code"]) for line in done] == [("a", 1, 0)]
    errors = {
        line["account"]: line for line in all_lines if line["level"] == "error" and line["message"] != "all synced"
    }
    assert {name: line["exit_code"] for name, line in errors.items()} == {"b": 3, "c": 2}
    assert all(line["remedy"] for line in errors.values())
    last = all_lines[-1]
    assert (last["message"], last["accounts"], last["exit_code"]) == ("all synced", 3, 2)
    assert last["requests"] == done[0]["requests"] == requests - 1
    assert "account" not in last


def test_text_lines_name_the_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path, 3, 2, WITHOUT_RETRIES, Fault(FaultKind.HTML_502, numbers=(3,))) as world:
        write_config(world, ("a", "b"))
        assert run_command(world, "sync", "--all", names=("a", "b")) == 0
    output = capsys.readouterr().err.splitlines()
    [retried] = [line for line in output if "; retry 1 in " in line]
    assert re.search(r"warning  \[(\w)\] \1 ", retried)
    assert all(any(f"[{name}] exit code 0: " in line for line in output) for name in "ab")
    assert sum("created a new warehouse" in line for line in output) == 1


def test_quiet_prints_only_accounts_with_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"))
        assert run_command(world, "sync", "--all", "--quiet", names=("a", "b")) == 0
        assert capsys.readouterr() == ("", "")
        assert run_command(world, "sync", "--all", "--quiet", names=("a", "b"), KEY_b="another-key") == 2
    output = capsys.readouterr()
    assert output.err == ""
    assert "b: error: account b was loaded with another key" in output.out
    assert not [line for line in output.out.splitlines() if line.startswith("a ")]


def test_account_pings_report_one_account_and_the_general_ping_all(tmp_path: Path) -> None:
    with world_today(tmp_path) as world, monitor() as (url, pings):
        write_config(
            world,
            ("a", "b", "c"),
            top=f"ping_url = '{url}/all'",
            a=f"ping_url = '{url}/a'",
            b=f"ping_url = '{url}/b'\nlookback = 'x'",
        )
        assert run_command(world, "sync", "--all", names=("a", "b", "c"), KEY_a=WRONG_KEY) == 2
        write_config(world, ("c",), top=f"ping_url = '{url}/all'", c=f"ping_url = '{url}/c'")
        assert run_command(world, "sync", "--all", names=("c",)) == 0
    assert [ping.path.removeprefix("/secret-token") for ping in pings] == ["/a/fail", "/all/fail", "/c", "/all"]
    assert "the API refused the account" in pings[0].text
    assert "b: error: " in pings[1].text
    assert "a: error: " in pings[1].text
    assert pings[2].text.startswith("Synced c: ")
    assert pings[3].text.startswith("account ")


def test_the_copy_is_published_once_and_only_if_something_was_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        (tmp_path / "bi").mkdir()
        write_config(world, ("a", "b", "c"), top="publish = 'bi'")
        assert run_command(world, "sync", "--all", names=("a", "b", "c"), KEY_c=WRONG_KEY) == 3
        assert capsys.readouterr().err.count("info     published") == 1
        copy = tmp_path / "bi" / "warehouse.duckdb"
        with duckdb.connect(copy, read_only=True) as reader:
            assert reader.execute("select count(distinct account) from spending_hourly").fetchall() == [(2,)]
        before = copy.stat().st_ino
        write_config(world, ("c",), top="publish = 'bi'")
        assert run_command(world, "sync", "--all", names=("c",), KEY_c=WRONG_KEY) == 3
        assert copy.stat().st_ino == before


def test_a_failed_publish_is_reported_in_addition_to_the_accounts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path) as world:
        write_config(world, ("a", "b"), top="publish = 'no/where.duckdb'")
        assert run_command(world, "sync", "--all", names=("a", "b")) == 4
        assert without_running_hour(hourly(world, "a"), world) == without_running_hour(world.expected_rows(), world)
    output = capsys.readouterr()
    assert "data is loaded, but not published" in output.err
    assert "2 accounts          4" in output.out


# ---------------------------------------------------------------- one file and many threads


@pytest.mark.slow
@pytest.mark.long
def test_eight_accounts_can_load_a_new_warehouse_at_the_same_time(tmp_path: Path) -> None:
    names = TWELVE[:8]
    with world_today(tmp_path, days=25, queues=5) as world:
        write_config(world, names, top="concurrency = 8")
        for night in range(2):
            assert run_command(world, "sync", "--all", names=names) == 0
            assert all(
                without_running_hour(hourly(world, name), world) == without_running_hour(world.expected_rows(), world)
                for name in names
            ), night
        assert sorted(world.rows("select account_id from internal.accounts")) == [
            (signal_number,) for signal_number in range(1, 9)
        ]
        runs = world.rows("select started_at, ended_at from internal.runs where run = 1 order by started_at")
        assert any(later < end for (_, end), (later, _) in pairwise(runs))  # they ran at the same time


@pytest.mark.slow
@pytest.mark.long
def test_another_program_can_read_while_many_accounts_write(tmp_path: Path) -> None:
    names = TWELVE[:6]
    with world_today(tmp_path, days=25, queues=4) as world:
        write_config(world, names, top="concurrency = 8")
        with start(world, "sync", "--all", names=names) as process:
            world.wait_for(process, 100)
            waited: list[float] = []
            while process.poll() is None and len(waited) < 3:
                started = time.monotonic()
                with start(world, "query", "select count(*) from spending_hourly", names=()) as query:
                    _, stderr = query.communicate(timeout=60)
                assert query.returncode == 0, stderr
                waited.append(time.monotonic() - started)
            assert waited
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert max(waited) < 15

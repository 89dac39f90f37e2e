"""``sync --all``: every account of the TOML side by side in one process, each as exact and as alone with its troubles
as one."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
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

WRONG = "0000000000000000000000000000wrong"
KNOWN = Behaviour(
    unknown_queue="zeros", refused_keys=frozenset({WRONG})
)  # an error would be asked again, five seconds later
TWELVE = tuple(f"acc{number:02}" for number in range(12))


def today_s(folder: Path, days: int = 5, queues: int = 2, behaviour: Behaviour = KNOWN, *faults: Fault) -> World:
    """A world at one moment of today, for the program as a person starts it."""
    now = datetime.now(UTC)
    return World(folder, Dataset.busy(begins=now.date() - timedelta(days=days), queues=queues), behaviour, faults, now)


def toml(world: World, names: Iterable[str], top: str = "", **own: str) -> None:
    """A table for each account, with more below those that are ``own``."""
    tables = [f"[accounts.{name}]\nclient_key_env = 'KEY_{name}'\n{own.get(name, '')}\n" for name in names]
    (world.folder / "anticaptcha-etl.toml").write_text("\n".join([top, *tables]))


def environ(world: World, names: Iterable[str], **more: str) -> dict[str, str]:
    keys = {f"KEY_{name}": f"key-of-{name}-0123456789" for name in names}
    given = {"ANTICAPTCHA_API_URL": world.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "2"}
    return {**given, **keys, **more}


def program(world: World, *words: str, names: Iterable[str], **more: str) -> int:
    return cli.run(words, Environment(environ(world, names, **more), world.folder))


def start(world: World, *words: str, names: Iterable[str], **more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "etl", *words]
    given = environ(world, names, **more)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=world.folder, env=given
    )


def hourly(world: World, account: str) -> Hours:
    rows = world.rows(f"select queue, hour_start, volume, money from spending_hourly where account = '{account}'")
    held: Hours = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
    assert len(held) == len(rows), "an hour of a queue stands there twice"
    return held


def is_closed(hours: Hours, today: date) -> Hours:
    """Without the day that is still running: its total and its queues are read at slightly different moments."""
    return {(queue, hour): value for (queue, hour), value in hours.items() if hour.date() < today}


# ---------------------------------------------------------------- each as by itself


def test_twelve_accounts_are_exact_and_two_that_cannot_be_read_fail_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, TWELVE, acc07="lookback = 'x'")
        assert program(world, "sync", "--all", names=TWELVE, KEY_acc03=WRONG) == 2
        said = capsys.readouterr()
        good = [name for name in TWELVE if name not in ("acc03", "acc07")]
        assert all(hourly(world, name) == world.expected_rows() for name in good)
        assert (
            world.one("select count(distinct account_id) from internal.accounts") == 11
        )  # of one the settings were not read
        rows = [line.split() for line in said.out.splitlines() if line.startswith("acc") and ":" not in line]
        assert [(name, code) for name, code, *_ in rows[1:]] == [
            (name, {"acc03": "3", "acc07": "2"}.get(name, "0")) for name in TWELVE
        ]
    assert "acc03: error: the API refused the account" in said.out
    assert "acc03: hint: " in said.out
    assert "acc07: error: [accounts.acc07] lookback in" in said.out
    assert said.out.splitlines()[-1] == "next: anticaptcha-etl doctor --account acc07"
    assert WRONG not in said.out + said.err


def test_a_second_night_asks_of_each_account_what_a_single_sync_would(tmp_path: Path) -> None:
    names = TWELVE[:3]
    with today_s(tmp_path) as world:
        toml(world, names)
        assert program(world, "sync", "--all", names=names) == 0
        before = len(world.requests)
        assert program(world, "sync", "--all", names=names) == 0
        again = world.requests[before:]
        assert len(again) == len(names) * (LOOKBACK + 1)
        assert all(request.queue is None for request in again)
        assert Counter(world.rows("select account, exit_code from sync_runs")) == {(name, 0): 2 for name in names}


def test_accounts_may_have_warehouses_of_their_own(tmp_path: Path) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"), b="warehouse = 'b.duckdb'")
        assert program(world, "sync", "--all", names=("a", "b")) == 0
        assert hourly(world, "a") == world.expected_rows()
        world.file = tmp_path / "b.duckdb"
        assert hourly(world, "b") == world.expected_rows()
        assert world.rows("select name from internal.accounts") == [("b",)]


def test_one_key_under_two_names_is_refused_also_when_both_are_new_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"))
        assert program(world, "sync", "--all", names=("a", "b"), KEY_a="the-very-same", KEY_b="the-very-same") == 2
        assert world.one("select count(*) from internal.accounts") == 1
    assert "this key belongs to account" in capsys.readouterr().out


def test_an_account_that_another_sync_holds_is_exit_code_4_of_that_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"))
        with account_lock(world.warehouse, "a", Clock(), wait=0):
            assert program(world, "sync", "--all", "--lock-wait", "0", names=("a", "b")) == 4
        assert hourly(world, "b") == world.expected_rows()
    assert "a: error: another sync of account a is running" in capsys.readouterr().out


def test_a_defect_is_one_account_s_and_has_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = AccountSync

    def broken(settings: object, *others: object) -> object:
        return 1 // 0 if getattr(settings, "account", "") == "a" else run(settings, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(sync_run, "AccountSync", broken)
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"))
        assert program(world, "sync", "--all", names=("a", "b")) == 1
        assert hourly(world, "b") == world.expected_rows()
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.err
    assert "[a] internal error in anticaptcha-etl" in said.err
    assert "a: error: internal error" in said.out


# ---------------------------------------------------------------- what is not meant


@pytest.mark.parametrize(
    ("words", "why"),
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
def test_a_command_line_that_contradicts_itself_asks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a",))
        (tmp_path / "broken.toml").write_text("[accounts.a\n")
        (tmp_path / "empty.toml").write_text("rate = 1\n")
        assert program(world, *words, names=("a",)) == 2
        assert not world.requests
    assert why in capsys.readouterr().err


def test_the_plan_of_all_is_each_one_s_and_the_sum_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b", "c"), top="since = 2026-01-01", c="lookback = 'x'")
        assert program(world, "plan", "--all", names=()) == 2
        planned = capsys.readouterr().out
        assert program(world, "sync", "--all", "--dry-run", names=()) == 2
        assert capsys.readouterr().out == planned
        assert not world.requests
        assert not world.file.exists()
    days = [int(found) for found in re.findall(r"^Plan for \w: (\d+) days to check", planned, re.MULTILINE)]
    assert len(days) == 2
    assert f"Total for 2 accounts: {sum(days)} days to check\n" in planned
    assert "c: error: [accounts.c] lookback" in planned


def test_shards_share_the_accounts_between_them(tmp_path: Path) -> None:
    with today_s(tmp_path, days=1) as world:
        toml(world, TWELVE)
        for part in range(3):
            assert program(world, "sync", "--all", "--shard", f"{part}/3", names=TWELVE) == 0
            held = {name for (name,) in world.rows("select name from internal.accounts")}
            assert held == {name for name in TWELVE if any(Shard(one, 3).has(name) for one in range(part + 1))}
        assert held == set(TWELVE)
        assert world.one("select count(*) from internal.runs") == len(TWELVE)


# ---------------------------------------------------------------- one pace


def test_the_rate_is_of_all_and_goes_round_by_account_however_much_each_asks_at_once(tmp_path: Path) -> None:
    """Which account asked is told by the days it is asked for: no two have one in common."""
    with today_s(tmp_path, days=200) as world:
        today = world.now.date()
        spans = {
            name: (today - timedelta(days=50 * place + 50), today - timedelta(days=50 * place + 11))
            for place, name in enumerate("abc")
        }
        own = {
            name: f"since = {first}\nuntil = {last}\nconcurrency = {32 if name == 'a' else 4}"
            for name, (first, last) in spans.items()
        }
        toml(world, spans, top="totals_only = true", **own)
        began = time.monotonic()
        assert program(world, "sync", "--all", names=spans, ANTICAPTCHA_RATE="20") == 0
        seconds = time.monotonic() - began
        asked = [datetime.fromtimestamp(request.date or 0, UTC).date() for request in world.requests]
    whose = [next(name for name, (first, last) in spans.items() if first <= day <= last) for day in asked]
    assert Counter(whose) == dict.fromkeys("abc", 40)
    assert seconds >= 119 / 20
    first_of = [whose.index(name) for name in spans]
    last_of = [len(whose) - 1 - whose[::-1].index(name) for name in spans]
    counts = Counter(whose[max(first_of) : min(last_of) + 1])  # as long as all of them ask
    assert counts.total() > 60
    assert max(counts.values()) <= 1.2 * min(counts.values()) + 1


def test_an_account_s_own_rate_slows_that_account_alone(tmp_path: Path) -> None:
    with today_s(tmp_path, days=3) as world:
        toml(world, ("a", "b"), top="rate = 0", a="rate = 10")
        del (given := environ(world, ("a", "b")))["ANTICAPTCHA_RATE"]
        assert cli.run(("sync", "--all"), Environment(given, tmp_path)) == 0
        seconds = dict(world.rows("select account, seconds from sync_runs"))
        requests = world.one("select requests from sync_runs where account = 'a'")
    assert seconds["a"] >= (requests - 1) / 10
    assert seconds["b"] < seconds["a"]


# ---------------------------------------------------------------- stopped and killed


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_stop_ends_every_account_as_a_single_sync_and_the_next_night_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    slow = Behaviour(unknown_queue="zeros", latency_seconds=0.05)
    with today_s(tmp_path, days=20, behaviour=slow) as world:
        toml(world, TWELVE)
        with start(world, "sync", "--all", "--accounts-at-once", "4", names=TWELVE) as process:
            world.wait_for(process, 150)
            process.send_signal(number)
            told, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        ends = world.rows("select account, exit_code from sync_runs")
        assert {code for _, code in ends} <= {0, 130}
        assert 130 in {code for _, code in ends}
        assert "not started: " in told
        kept = set(world.rows("select * from internal.snapshots"))
        assert kept
        world.sandbox.behaviour = KNOWN
        assert program(world, "sync", "--all", names=TWELVE) == 0
        assert kept <= set(world.rows("select * from internal.snapshots"))
        today = world.now.date()
        assert all(is_closed(hourly(world, name), today) == is_closed(world.expected_rows(), today) for name in TWELVE)


def test_a_stop_does_not_wait_for_a_slow_server(tmp_path: Path) -> None:
    with today_s(tmp_path, behaviour=Behaviour(latency_seconds=5)) as world:
        toml(world, TWELVE)
        with start(world, "sync", "--all", names=TWELVE) as process:
            world.wait_for(process, 8 * 4 - 8)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert time.monotonic() - began < 3  # the interpreter's end included
        assert process.returncode == 130, said
        assert set(world.rows("select exit_code from internal.runs")) == {(130,)}


def test_a_second_stop_leaves_at_once(tmp_path: Path) -> None:
    with today_s(tmp_path, behaviour=Behaviour(latency_seconds=5)) as world:
        toml(world, TWELVE)
        with start(world, "sync", "--all", names=TWELVE) as process:
            world.wait_for(process, 8)
            process.send_signal(signal.SIGINT)
            threading.Event().wait(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=10)
        assert process.returncode == 130, said


def test_a_stop_reaches_accounts_that_wait_for_what_another_program_holds(tmp_path: Path) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"))
        with account_lock(world.warehouse, "a", Clock(), wait=0), account_lock(world.warehouse, "b", Clock(), wait=0):
            with start(world, "sync", "--all", names=("a", "b")) as process:
                for line in process.stderr or ():
                    if "waiting for it" in line:
                        break
                process.send_signal(signal.SIGINT)
                began = time.monotonic()
                process.communicate(timeout=30)
            assert time.monotonic() - began < 3
        assert process.returncode == 130
        assert not world.requests


@pytest.mark.long
def test_after_a_kill_those_that_were_not_done_go_first_and_everything_is_exact(tmp_path: Path) -> None:
    slow = Behaviour(unknown_queue="zeros", latency_seconds=0.02)
    with today_s(tmp_path, days=8, behaviour=slow) as world:
        toml(world, TWELVE)
        with start(world, "sync", "--all", "--accounts-at-once", "3", names=TWELVE) as process:
            world.wait_for(process, 220)
            process.kill()
            process.communicate(timeout=30)
        done = {name for (name,) in world.rows("select account from sync_runs where exit_code = 0")}
        begun = {name for (name,) in world.rows("select name from internal.accounts")}
        assert done < begun < set(TWELVE)
        world.sandbox.behaviour = KNOWN
        assert program(world, "sync", "--all", "--accounts-at-once", "1", names=TWELVE) == 0
        order = [
            name for (name,) in world.rows("select account from sync_runs group by account order by max(started_at)")
        ]
        assert order[: len(TWELVE) - len(done)] == [name for name in TWELVE if name not in done]
        assert set(order[len(TWELVE) - len(done) :]) == done
        today = world.now.date()
        assert all(is_closed(hourly(world, name), today) == is_closed(world.expected_rows(), today) for name in TWELVE)


# ---------------------------------------------------------------- what is told


def test_programs_have_a_line_for_each_account_and_a_last_one_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b", "c"), c="lookback = 'x'")
        assert program(world, "sync", "--all", "--log-format", "json", names=("a", "b", "c"), KEY_b=WRONG) == 2
        told = lines(capsys)
        requests = len(world.requests)
    done = [line for line in told if line["message"] == "sync done"]
    assert [(line["account"], line["run"], line["exit_code"]) for line in done] == [("a", 1, 0)]
    errors = {line["account"]: line for line in told if line["level"] == "error" and line["message"] != "all synced"}
    assert {name: line["exit_code"] for name, line in errors.items()} == {"b": 3, "c": 2}
    assert all(line["remedy"] for line in errors.values())
    last = told[-1]
    assert (last["message"], last["accounts"], last["exit_code"]) == ("all synced", 3, 2)
    assert last["requests"] == done[0]["requests"] == requests - 1
    assert "account" not in last


def test_text_lines_say_whose_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with today_s(tmp_path, 3, 2, KNOWN, Fault(FaultKind.HTML_502, numbers=(3,))) as world:
        toml(world, ("a", "b"))
        assert program(world, "sync", "--all", names=("a", "b")) == 0
    said = capsys.readouterr().err.splitlines()
    [retried] = [line for line in said if "attempt 1 failed" in line]
    assert re.search(r"warning  \[(\w)\] \1, ", retried)
    assert all(any(f"[{name}] exit code 0: " in line for line in said) for name in "ab")
    assert sum("created a new warehouse" in line for line in said) == 1


def test_quiet_speaks_of_those_alone_for_whom_a_person_must_act(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"))
        assert program(world, "sync", "--all", "--quiet", names=("a", "b")) == 0
        assert capsys.readouterr() == ("", "")
        assert program(world, "sync", "--all", "--quiet", names=("a", "b"), KEY_b="another-key") == 2
    said = capsys.readouterr()
    assert said.err == ""
    assert "b: error: account b was loaded with another key" in said.out
    assert not [line for line in said.out.splitlines() if line.startswith("a ")]


def test_a_monitor_of_one_account_hears_of_it_and_the_general_one_of_all(tmp_path: Path) -> None:
    with today_s(tmp_path) as world, monitor() as (url, met):
        toml(
            world,
            ("a", "b", "c"),
            top=f"ping_url = '{url}/all'",
            a=f"ping_url = '{url}/a'",
            b=f"ping_url = '{url}/b'\nlookback = 'x'",
        )
        assert program(world, "sync", "--all", names=("a", "b", "c"), KEY_a=WRONG) == 2
        toml(world, ("c",), top=f"ping_url = '{url}/all'", c=f"ping_url = '{url}/c'")
        assert program(world, "sync", "--all", names=("c",)) == 0
    assert [ping.path.removeprefix("/secret-token") for ping in met] == ["/a/fail", "/all/fail", "/c", "/all"]
    assert "the API refused the account" in met[0].text
    assert "b: error: " in met[1].text
    assert "a: error: " in met[1].text
    assert met[2].text.startswith("Synced c: ")
    assert met[3].text.startswith("account ")


def test_a_copy_is_published_once_and_not_when_nothing_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        (tmp_path / "bi").mkdir()
        toml(world, ("a", "b", "c"), top="publish = 'bi'")
        assert program(world, "sync", "--all", names=("a", "b", "c"), KEY_c=WRONG) == 3
        assert capsys.readouterr().err.count("info     published") == 1
        copy = tmp_path / "bi" / "warehouse.duckdb"
        with duckdb.connect(copy, read_only=True) as reader:
            assert reader.execute("select count(distinct account) from spending_hourly").fetchall() == [(2,)]
        before = copy.stat().st_ino
        toml(world, ("c",), top="publish = 'bi'")
        assert program(world, "sync", "--all", names=("c",), KEY_c=WRONG) == 3
        assert copy.stat().st_ino == before


def test_that_nothing_could_be_published_is_told_beside_what_became_of_the_accounts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with today_s(tmp_path) as world:
        toml(world, ("a", "b"), top="publish = 'no/where.duckdb'")
        assert program(world, "sync", "--all", names=("a", "b")) == 4
        assert hourly(world, "a") == world.expected_rows()
    said = capsys.readouterr()
    assert "data is loaded, but not published" in said.err
    assert "2 accounts          4" in said.out


# ---------------------------------------------------------------- one file, many threads


@pytest.mark.slow
@pytest.mark.long
def test_eight_accounts_of_a_new_warehouse_meet_in_every_commit_and_none_is_in_another_s_way(tmp_path: Path) -> None:
    names = TWELVE[:8]
    with today_s(tmp_path, days=25, queues=5) as world:
        toml(world, names, top="concurrency = 8")
        for night in range(2):
            assert program(world, "sync", "--all", names=names) == 0
            assert all(hourly(world, name) == world.expected_rows() for name in names), night
        assert sorted(world.rows("select account_id from internal.accounts")) == [(number,) for number in range(1, 9)]
        runs = world.rows("select started_at, ended_at from internal.runs where run = 1 order by started_at")
        assert any(later < ended for (_, ended), (later, _) in pairwise(runs))  # they did run side by side


@pytest.mark.slow
@pytest.mark.long
def test_another_program_has_its_turns_while_many_accounts_write(tmp_path: Path) -> None:
    names = TWELVE[:6]
    with today_s(tmp_path, days=25, queues=4) as world:
        toml(world, names, top="concurrency = 8")
        with start(world, "sync", "--all", names=names) as process:
            world.wait_for(process, 100)
            waited: list[float] = []
            while process.poll() is None and len(waited) < 3:
                began = time.monotonic()
                asked = start(world, "query", "select count(*) from spending_hourly", names=())
                _, said = asked.communicate(timeout=60)
                assert asked.returncode == 0, said
                waited.append(time.monotonic() - began)
            assert waited
            _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert max(waited) < 15

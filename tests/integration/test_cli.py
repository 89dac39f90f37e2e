import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import get_args

import click
import pytest

from etl import __version__
from etl.cli import cli, run
from etl.config import Environment
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox

PYTHON = (sys.executable, "-m", "etl")
TODAY = datetime.now(UTC).date()


@dataclass
class Seat:
    """A folder, an environment, and what the last command said."""

    folder: Path
    environ: dict[str, str]
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def run(self, *words: str) -> int:
        code = run(words, Environment(self.environ, self.folder))
        self.out, self.err = self.capsys.readouterr()
        return code


@pytest.fixture
def seat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Seat:
    return Seat(tmp_path, {}, capsys)


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    with Sandbox(Dataset.busy(begins=TODAY - timedelta(days=3), queues=2), Behaviour(unknown_queue="zeros")) as sandbox:
        yield sandbox


@pytest.fixture
def connected(seat: Seat, service: Sandbox) -> Seat:
    seat.environ |= {"ANTICAPTCHA_API_URL": service.url, "ANTICAPTCHA_CLIENT_KEY": "any-text", "ANTICAPTCHA_RATE": "0"}
    return seat


@pytest.fixture
def loaded(connected: Seat) -> Seat:
    assert connected.run("sync", "--since", f"{TODAY - timedelta(days=1)}", "--totals-only") == 0
    return connected


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("words", [("--version",), ("sync", "--version")])
def test_the_version_is_told_before_and_after_the_command(seat: Seat, words: tuple[str, ...]) -> None:
    assert seat.run(*words) == 0
    assert seat.out == f"anticaptcha-etl {__version__}\n"


@pytest.mark.parametrize(
    "words", [("--warehouse", "there.duckdb", "status"), ("status", "--warehouse", "there.duckdb")]
)
def test_common_options_work_before_and_after_the_command(seat: Seat, words: tuple[str, ...]) -> None:
    assert seat.run(*words) == 4
    assert f"error: there is no warehouse at {seat.folder}/there.duckdb" in seat.err
    assert "hint: " in seat.err


def test_the_later_word_holds_when_an_option_is_given_twice(seat: Seat) -> None:
    assert seat.run("--warehouse", "a.duckdb", "status", "--warehouse", "b.duckdb") == 4
    assert "b.duckdb" in seat.err


@pytest.mark.parametrize("words", ["snc", "sync --lokback 3", "query", "sync --lookback x", "query 1 --format xml"])
def test_a_command_line_that_cannot_be_is_exit_code_2(seat: Seat, words: str) -> None:
    assert seat.run(*words.split()) == 2
    assert seat.err
    assert not seat.out


def test_the_key_is_no_option_of_any_command() -> None:
    options = {flag for command in cli.commands.values() for parameter in command.params for flag in parameter.opts}
    assert not [flag for flag in options if re.fullmatch(r"--.*key", flag)]


def test_sync_without_a_key_is_exit_code_2_and_creates_nothing(seat: Seat) -> None:
    assert seat.run("sync") == 2
    assert "ANTICAPTCHA_CLIENT_KEY" in seat.err
    assert list(seat.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["sync", "plan"])
def test_apps_and_addresses_are_options_that_name_their_view(seat: Seat, name: str) -> None:
    assert seat.run(name, "--help") == 0
    text = " ".join(seat.out.split())
    assert re.search(r"--soft-id N softId to report[^\[]*spending_by_app_daily[^\[]*\[env: ANTICAPTCHA_SOFT_ID\]", text)
    assert re.search(r"--ip ADDR IP address to report[^\[]*spending_by_ip_daily[^\[]*\[env: ANTICAPTCHA_IP\]", text)


@pytest.mark.parametrize(
    ("words", "told"), [("--soft-id 7 --soft-id x", "'7', 'x': 'x' is no"), ("--ip ::1 --ip ::/8", "'::1', '::/8'")]
)
def test_apps_and_addresses_repeat_and_each_is_checked(seat: Seat, words: str, told: str) -> None:
    assert seat.run("plan", *words.split()) == 2
    assert told in seat.err


def test_several_in_one_option_are_told_to_be_repeated(seat: Seat) -> None:
    assert seat.run("plan", "--soft-id", "1011,1022") == 2
    assert "hint: repeat --soft-id for each value; see `anticaptcha-etl sync --help`" in seat.err


def test_a_variable_that_is_no_setting_is_told_of_once_on_standard_error(loaded: Seat) -> None:
    loaded.environ |= {"ANTICAPTCHA_QUEU": "FunCaptcha", "ANTICAPTCHA_CLIENTKEY": "0123abcd"}
    for words in (("sync", "--totals-only"), ("status",), ("query", "select 1")):
        assert loaded.run(*words) == 0
        assert (
            loaded.err.count("ANTICAPTCHA_QUEU is not a setting and is ignored; did you mean ANTICAPTCHA_QUEUE?") == 1
        )
        assert loaded.err.count("ANTICAPTCHA_CLIENTKEY") == 1
        assert "0123abcd" not in loaded.out + loaded.err


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are POSIX's")
def test_a_key_file_that_everybody_can_read_is_told_of_with_its_remedy(connected: Seat) -> None:
    file = connected.folder / "key"
    file.write_text(connected.environ.pop("ANTICAPTCHA_CLIENT_KEY"))
    file.chmod(0o644)
    connected.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert connected.run("sync", "--since", f"{TODAY - timedelta(days=1)}", "--totals-only") == 0
    assert (
        connected.err.count("every user of this machine can read the file with the client key (mode 644): chmod 600 it")
        == 1
    )


def test_quiet_is_silent_on_a_variable_that_may_be_another_programs(loaded: Seat) -> None:
    loaded.environ["ANTICAPTCHA_QUEU"] = "FunCaptcha"
    assert loaded.run("sync", "--quiet", "--totals-only") == 0
    assert (loaded.out, loaded.err) == ("", "")


def test_a_sync_without_a_key_tells_of_the_misspelt_variable_once(seat: Seat) -> None:
    seat.environ["ANTICAPTCHA_CLIENTKEY"] = "0123abcd"
    assert seat.run("sync") == 2
    assert seat.err.count("ANTICAPTCHA_CLIENTKEY") == 1
    assert "0123abcd" not in seat.err


# ---------------------------------------------------------------- sync, plan


def test_sync_says_what_it_did_where_the_warehouse_is_and_what_to_do_next(connected: Seat) -> None:
    assert connected.run("sync", "-v", "--since", f"{TODAY - timedelta(days=1)}") == 0
    assert f"created a new warehouse at {connected.folder}/warehouse.duckdb" in connected.err
    assert re.match(r"Synced default: .* \(2 days\), \d+ requests", connected.out)
    assert "requests needed at least" in connected.out
    assert connected.out.endswith("next: anticaptcha-etl status\n")
    assert "any-text" not in connected.out + connected.err


def test_a_quiet_sync_that_went_well_says_nothing(loaded: Seat) -> None:
    assert loaded.run("-q", "sync", "--totals-only") == 0
    assert (loaded.out, loaded.err) == ("", "")


def test_what_is_left_is_exit_code_1_and_says_to_run_again(connected: Seat) -> None:
    assert connected.run("sync", "--max-requests", "2") == 1
    assert "for the next sync" in connected.out
    assert connected.out.endswith("next: anticaptcha-etl sync\n")


def test_a_refused_key_is_exit_code_3_after_one_request(seat: Seat) -> None:
    with Sandbox(Dataset(), faults=(Fault(FaultKind.REFUSE_KEY),)) as sandbox:
        seat.environ |= {"ANTICAPTCHA_API_URL": sandbox.url, "ANTICAPTCHA_CLIENT_KEY": "any-text"}
        assert seat.run("sync") == 3
        assert len(sandbox.requests) == 1
    assert "ERROR_KEY_DOES_NOT_EXIST" in seat.err
    assert "hint: " in seat.err


def test_plan_says_when_some_of_its_days_need_no_request(connected: Seat) -> None:
    since = ("--since", f"{TODAY - timedelta(days=9)}", "--totals-only")
    assert connected.run("sync", *since, "--max-requests", "5") == 1
    assert connected.run("plan", *since) == 0
    found = re.match(
        r"Plan for default: (\d+) days? to check(; some need no request)?\n  requests  (?:at least )?(\d+)",
        connected.out,
    )
    assert found
    assert bool(found[2]) is (int(found[3]) < int(found[1]))


def test_plan_needs_no_key_and_touches_nothing(seat: Seat) -> None:
    assert seat.run("plan", "--since", f"{TODAY - timedelta(days=9)}") == 0
    assert "10 days to check\n" in seat.out
    assert "requests" in seat.out
    assert "minutes" in seat.out
    assert list(seat.folder.iterdir()) == []
    plan = seat.out
    assert seat.run("sync", "--dry-run", "--since", f"{TODAY - timedelta(days=9)}") == 0
    assert seat.out == plan


def test_json_logs_are_one_object_a_line_the_error_included(connected: Seat) -> None:
    assert connected.run("--log-format", "json", "sync", "--max-requests", "1") == 1
    assert {"time", "level", "logger", "message"} <= json.loads(connected.err.splitlines()[0]).keys()
    assert connected.run("--log-format", "json", "query", "select nonsense") == 2
    assert json.loads(connected.err)["exit_code"] == 2
    connected.environ["ANTICAPTCHA_CLIENT_KEY"] = "another-key"
    assert connected.run("--log-format", "json", "sync") == 2
    said = json.loads(connected.err.splitlines()[-1])
    assert (said["level"], said["exit_code"]) == ("error", 2)
    assert "--key-changed" in said["message"] + said["remedy"]


# ---------------------------------------------------------------- status, query, migrate


def test_status_tells_people_and_machines(loaded: Seat) -> None:
    assert loaded.run("status") == 0
    assert "Account default" in loaded.out
    assert loaded.run("status", "--json", "--account", "default") == 0
    assert json.loads(loaded.out)["accounts"][0]["account"] == "default"


def test_a_stale_warehouse_is_exit_code_5_with_its_status_still_shown(loaded: Seat) -> None:
    assert loaded.run("status", "--json", "--max-age", "48") == 0
    assert loaded.run("status", "--json", "--max-age", "0") == 5
    assert json.loads(loaded.out)
    assert "hint: run anticaptcha-etl sync" in loaded.err


def test_an_account_that_is_not_held_is_named(loaded: Seat) -> None:
    assert loaded.run("status", "--account", "other") == 2
    assert "'other'" in loaded.err


def test_query_takes_a_text_a_file_or_standard_input(loaded: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    (loaded.folder / "q.sql").write_text("select 2 as n")
    monkeypatch.setattr(sys, "stdin", StringIO("select 3 as n"))
    for said, answer in (("select 1 as n", "1"), ("@q.sql", "2"), ("-", "3")):
        assert loaded.run("query", said, "--format", "csv") == 0
        assert loaded.out == f"n\n{answer}\n"


def test_query_writes_a_file_whole_or_not_at_all(loaded: Seat) -> None:
    assert loaded.run("query", "select count(*) as n from spending_daily", "--format", "json", "-o", "n.json") == 0
    assert loaded.out == ""
    assert json.loads((loaded.folder / "n.json").read_text()) == [{"n": 2}]
    assert loaded.run("query", "select nonsense", "-o", "n.json") == 2
    assert json.loads((loaded.folder / "n.json").read_text()) == [{"n": 2}]
    assert not list(loaded.folder.glob(".*.part"))
    for place in ("nowhere/n.json", "n.json/n.json", "n" * 300, "."):
        assert loaded.run("query", "select 1", "-o", place) == 2
        assert "error: cannot write " in loaded.err


def test_query_shows_a_table_unless_told_otherwise(loaded: Seat) -> None:
    assert loaded.run("query", "select 'x' as word") == 0
    assert "(1 row)" in loaded.out


def test_query_without_a_warehouse_creates_none(seat: Seat) -> None:
    assert seat.run("query", "select 1") == 4
    assert list(seat.folder.iterdir()) == []


def test_migrate_goes_down_and_up_again_but_drops_all_only_when_told(loaded: Seat) -> None:
    assert loaded.run("migrate") == 0
    assert "nothing to do" in loaded.out
    assert loaded.run("migrate", "--to", "9999") == 2
    assert loaded.run("migrate", "--down", "--to", "base") == 0
    assert "-> base" in loaded.out
    assert loaded.run("migrate", "--down") == 2
    assert loaded.run("migrate") == 0
    assert "schema base ->" in loaded.out
    assert loaded.run("query", "select count(*) as n from spending_daily", "--format", "csv") == 0
    assert loaded.out == "n\n0\n"


def test_migrate_creates_no_warehouse(seat: Seat) -> None:
    assert seat.run("migrate") == 4
    assert list(seat.folder.iterdir()) == []


def own_files(seat: Seat) -> dict[str, bytes]:
    (seat.folder / "anticaptcha-etl.toml").write_text("lookback = 3\n")
    files = sorted(file for file in seat.folder.iterdir() if file.is_file())
    assert {"warehouse.duckdb", "warehouse.duckdb.default.lock", "anticaptcha-etl.toml"} <= {
        file.name for file in files
    }
    return {file.name: file.read_bytes() for file in files}


def test_query_writes_over_nothing_the_program_lives_on(loaded: Seat) -> None:
    before = own_files(loaded)
    (loaded.folder / "links").mkdir()
    (loaded.folder / "links" / "out.csv").symlink_to("../warehouse.duckdb")
    others = ("warehouse.duckdb.wal", "links/../warehouse.duckdb", "links/out.csv")
    for name in (*before, *others):
        assert loaded.run("query", "select 1", "-o", name) == 2, name
        assert re.search(
            r"error: \S+ (is the warehouse|is the configuration file|belongs to the warehouse)\n", loaded.err
        )
        assert "hint: choose another file with -o" in loaded.err
    assert own_files(loaded) == before
    assert not (loaded.folder / "warehouse.duckdb.wal").exists()


def test_query_guards_the_configuration_and_warehouse_that_are_named(loaded: Seat) -> None:
    (loaded.folder / "mine.toml").write_text("warehouse = 'mine.duckdb'\n")
    (loaded.folder / "warehouse.duckdb").rename(loaded.folder / "mine.duckdb")
    for name in ("mine.toml", "mine.duckdb", "mine.duckdb.shop.lock"):
        assert loaded.run("query", "select 1", "--config", "mine.toml", "-o", name) == 2
        assert "choose another file with -o" in loaded.err
    assert loaded.run("query", "select 1", "--config", "mine.toml", "-o", "mine.duckdb.csv") == 0


def test_query_follows_a_link_and_replaces_what_it_points_to(loaded: Seat) -> None:
    (loaded.folder / "elsewhere").mkdir()
    link = loaded.folder / "n.csv"
    link.symlink_to("elsewhere/n.csv")
    for n in ("1", "2"):  # first it points to nothing
        assert loaded.run("query", f"select {n} as n", "-o", "n.csv") == 0
        assert link.is_symlink()
        assert (loaded.folder / "elsewhere" / "n.csv").read_text() == f"n\n{n}\n"


def test_query_writes_into_a_pipe_and_leaves_it_one(loaded: Seat) -> None:
    pipe = loaded.folder / "pipe.csv"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert loaded.run("query", "select 1 as n", "-o", "pipe.csv") == 0
        assert reader.communicate()[0] == "n\n1\n"
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no such device")
def test_query_into_a_device_that_takes_nothing_is_a_usage_error(loaded: Seat) -> None:
    # a link, so that a slip harms the link alone
    (loaded.folder / "full").symlink_to("/dev/full")
    assert loaded.run("query", "select 1", "-o", "full") == 2
    assert "No space left" in loaded.err
    assert Path("/dev/full").is_char_device()


def test_query_to_the_name_of_a_stream_leaves_the_file_behind_it(loaded: Seat) -> None:
    query = f"{sys.executable} -m etl query 'select 1 as n' --format csv -o"
    command = ["bash", "-c", f"{{ echo before; {query} /dev/stdout; {query} both; echo after; }} > both"]
    subprocess.run(command, check=True, cwd=loaded.folder, env={"PATH": "/usr/bin:/bin"})
    assert (loaded.folder / "both").read_text() == "before\nn\n1\nn\n1\nafter\n"


def test_query_to_a_dash_is_standard_output(loaded: Seat) -> None:
    assert loaded.run("query", "select 1 as n", "--format", "csv", "-o", "-") == 0
    assert loaded.out == "n\n1\n"
    assert not (loaded.folder / "-").exists()


def test_query_refuses_file_endings_it_does_not_know(loaded: Seat) -> None:
    for name in ("n.xlsx", "n.parq", "n.html"):
        assert loaded.run("query", "select 1 as n", "-o", name) == 2
        assert f"{name}: unknown file ending" in loaded.err
        assert "hint: use .txt, .csv, .json, .parquet, or choose a format with --format" in loaded.err
        assert not (loaded.folder / name).exists()
    for words in (("-o", "n.txt"), ("-o", "n"), ("-o", "n.csv"), ("-o", "n.dat", "--format", "csv")):
        assert loaded.run("query", "select 1 as n", *words) == 0
        assert loaded.err == ""


@pytest.mark.parametrize("sql", ["-- this month\nselect 1 as n", "--month=this\nselect 1 as n", "--\nselect 1 as n"])
def test_sql_may_begin_with_a_comment(loaded: Seat, sql: str) -> None:
    for words in ((sql, "--format", "csv"), ("--format", "csv", sql), ("--format", "csv", "--", sql)):
        assert loaded.run("query", *words) == 0, loaded.err
        assert loaded.out == "n\n1\n"


def test_an_option_of_query_that_does_not_exist_is_still_told_of(loaded: Seat) -> None:
    assert loaded.run("query", "select 1", "--formt", "csv") == 2
    assert "--formt" in loaded.err
    assert "--format" in loaded.err


def test_a_file_of_sql_that_cannot_be_read_is_named_once(seat: Seat) -> None:
    (seat.folder / "bytes.sql").write_bytes(b"\xff")
    for name, why in (("nofile.sql", "No such file or directory"), ("bytes.sql", "it is not UTF-8 text")):
        assert seat.run("query", f"@{name}") == 2
        assert f"error: cannot read {seat.folder}/{name}: {why}\n" in seat.err


@pytest.mark.parametrize("words", ["sync", "plan", "status", "query 1", "check", "replay", "migrate"])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("duckdb:///", "the warehouse must be a file"),
        ("duckdb:///:memory:", "the warehouse must be a file"),
        ("sqlite:///x.db", "no warehouse is kept in sqlite"),
        ("mysql://me:hush@localhost/x", "no warehouse is kept in mysql"),
    ],
)
def test_what_can_be_no_warehouse_is_refused_in_the_same_words_everywhere(
    seat: Seat, words: str, url: str, told: str
) -> None:
    seat.environ["ANTICAPTCHA_CLIENT_KEY"] = "any-text"
    assert seat.run(*words.split(), "--warehouse", url) == 2
    assert seat.err.startswith(f"error: {told}\nhint: ")
    assert "path" in seat.err
    assert "hush" not in seat.err
    assert list(seat.folder.iterdir()) == []


def test_a_folder_of_checks_typed_by_hand_must_be_one(loaded: Seat) -> None:
    (loaded.folder / "file").touch()
    for name in ("nowhere", "file"):
        assert loaded.run("check", "--checks-folder", name) == 2
        assert f"--checks-folder {loaded.folder}/{name} is not a folder" in loaded.err
        assert loaded.out == ""
    (loaded.folder / "anticaptcha-etl.toml").write_text("checks_folder = 'nowhere'\n")
    assert loaded.run("check") == 0
    assert "FAIL the checks folder is there" in " ".join(loaded.out.split())


@pytest.mark.parametrize(("columns", "most"), [("60", 60), ("90", 90), ("200", 100), (None, 80)])
def test_status_and_check_are_as_wide_as_the_terminal_but_no_wider_than_100(
    loaded: Seat, monkeypatch: pytest.MonkeyPatch, columns: str | None, most: int
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)  # the terminal of who runs this test
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    (loaded.folder / "own").mkdir()
    (loaded.folder / "own" / "long.sql").write_text("-- " + "word " * 100 + "\nselect 1")
    assert loaded.run("check", "--checks-folder", "own") == 0
    assert most - 10 < max(map(len, loaded.out.splitlines()[1:])) <= most
    assert loaded.run("status") == 0
    facts = [line for line in loaded.out.splitlines() if line.startswith("  ") and "started" not in line]
    assert max(map(len, facts[:-1])) <= most


# ---------------------------------------------------------------- sandbox, demo


def test_every_unknown_of_the_sandbox_is_an_option_with_all_its_values() -> None:
    choices = {option.name: option.type for option in cli.commands["sandbox"].params}
    apart = {"latency_seconds", "accepted_keys", "refused_keys"}  # --latency; any text is a key
    for field in fields(Behaviour):
        if field.name in apart:
            continue
        assert field.name in choices
        if literal := get_args(field.type):
            offered = choices[field.name]
            if isinstance(offered, click.Choice):
                assert tuple(offered.choices) == literal


@pytest.mark.parametrize("fault", ["html_502=2", "html_502=x", "nonsense=0.1", "=1"])
def test_a_fault_that_cannot_be_is_refused_with_the_kinds_there_are(seat: Seat, fault: str) -> None:
    assert seat.run("sandbox", "--port", "0", "--fault", fault) == 2
    assert "retry_after" in seat.err


def test_a_taken_port_is_a_usage_error(seat: Seat, service: Sandbox) -> None:
    assert seat.run("sandbox", "--port", service.url.rpartition(":")[2]) == 2
    assert "--port" in seat.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*PYTHON, "sandbox", "--port", "0", "--days", "5"], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert re.search(r"export ANTICAPTCHA_API_URL=http://127\.0\.0\.1:\d+\n", lines[1])
        process.send_signal(number)
        assert "Answered 0 requests" in process.stdout.read()
    assert process.returncode == 0


@pytest.mark.slow
def test_demo_teaches_by_typing_and_leaves_nothing_behind(seat: Seat) -> None:
    assert seat.run("demo") == 0
    for typed in (
        "export ANTICAPTCHA_CLIENT_KEY=",
        "anticaptcha-etl sync",
        "anticaptcha-etl status",
        "anticaptcha-etl query",
    ):
        assert f"$ {typed}" in seat.out
    place = re.search(r"\$ cd (\S+)", seat.out)
    assert place
    assert not Path(place[1]).exists()
    assert list(seat.folder.iterdir()) == []


def test_demo_never_mixes_with_a_warehouse_that_is_there(loaded: Seat) -> None:
    before = (loaded.folder / "warehouse.duckdb").read_bytes()
    assert loaded.run("demo", "--keep", ".") == 2
    assert (loaded.folder / "warehouse.duckdb").read_bytes() == before


# ---------------------------------------------------------------- the way out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sync_is_130_keeps_what_it_had_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    slow = Behaviour(latency_seconds=0.05, unknown_queue="zeros")
    with Sandbox(Dataset.busy(begins=TODAY - timedelta(days=400), queues=1), slow) as service:
        environ = {"ANTICAPTCHA_API_URL": service.url, "ANTICAPTCHA_CLIENT_KEY": "any-text"}
        command = [*PYTHON, "sync", "--rate", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environ) as process:
            while len(service.requests) < 12:
                assert process.poll() is None
            process.send_signal(number)
            said = process.stderr.read() if process.stderr else ""
        assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("is_closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_sync_runs_with_its_streams_closed(connected: Seat, is_closed: str) -> None:
    environ = {**connected.environ, "PATH": "/usr/bin:/bin"}
    command = ["bash", "-c", f"{sys.executable} -m etl sync --since {TODAY} --totals-only {is_closed}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=connected.folder, env=environ, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert connected.run("query", "select count(*) as n from spending_daily", "--format", "csv") == 0
    assert connected.out == "n\n1\n"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_reader_that_has_seen_enough_is_no_error(loaded: Seat, form: str) -> None:
    query = f"{sys.executable} -m etl query 'select unnest(range(20000)) as n' --format {form}"
    command = ["bash", "-c", f"{query} | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=loaded.folder, env={"PATH": "/usr/bin:/bin"}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_defect_keeps_its_traceback_and_never_shows_what_was_in_hand(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat.environ["ANTICAPTCHA_CLIENT_KEY"] = "0123abcd"

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("etl.sync.run.sync_account", broken)
    assert seat.run("sync") == 1
    assert "ZeroDivisionError: a defect" in seat.err
    assert "error: internal error in anticaptcha-etl" in seat.err
    assert "0123abcd" not in seat.err

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
class Workspace:
    """A working directory, its variables, and the output of the last command."""

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
def workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Workspace:
    return Workspace(tmp_path, {}, capsys)


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    with Sandbox(
        Dataset.always_active(begins=TODAY - timedelta(days=3), queues=2), Behaviour(unknown_queue="zeros")
    ) as sandbox:
        yield sandbox


@pytest.fixture
def connected(workspace: Workspace, service: Sandbox) -> Workspace:
    workspace.environ |= {
        "ANTICAPTCHA_API_URL": service.url,
        "ANTICAPTCHA_CLIENT_KEY": "any-text",
        "ANTICAPTCHA_RATE": "0",
    }
    return workspace


@pytest.fixture
def loaded(connected: Workspace) -> Workspace:
    assert connected.run("sync", "--since", f"{TODAY - timedelta(days=1)}", "--totals-only") == 0
    return connected


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("words", [("--version",), ("sync", "--version")])
def test_the_version_option_works_before_and_after_the_command(workspace: Workspace, words: tuple[str, ...]) -> None:
    assert workspace.run(*words) == 0
    assert workspace.out == f"anticaptcha-etl {__version__}\n"


@pytest.mark.parametrize(
    "words", [("--warehouse", "there.duckdb", "status"), ("status", "--warehouse", "there.duckdb")]
)
def test_common_options_work_before_and_after_the_command(workspace: Workspace, words: tuple[str, ...]) -> None:
    assert workspace.run(*words) == 4
    assert f"error: there is no warehouse at {workspace.folder}/there.duckdb" in workspace.err
    assert "hint: " in workspace.err


def test_the_later_of_two_equal_options_wins(workspace: Workspace) -> None:
    assert workspace.run("--warehouse", "a.duckdb", "status", "--warehouse", "b.duckdb") == 4
    assert "b.duckdb" in workspace.err


@pytest.mark.parametrize("words", ["snc", "sync --lokback 3", "query", "sync --lookback x", "query 1 --format xml"])
def test_an_invalid_command_line_is_exit_code_2(workspace: Workspace, words: str) -> None:
    assert workspace.run(*words.split()) == 2
    assert workspace.err
    assert not workspace.out


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_fits_80_columns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert workspace.run(*command.split(), "--help") == 0
    assert max(map(len, workspace.out.splitlines())) <= 80


def test_the_old_name_of_an_option_works_and_is_hidden(workspace: Workspace) -> None:
    assert workspace.run("plan", "--keep-answers", "30") == 2
    assert "error: --keep-answers is '30'" in workspace.err
    assert workspace.run("plan", "--help") == 0
    assert "\n  --raw-retention-days DAYS" in workspace.out
    assert "\n  --keep-answers" not in workspace.out


def test_no_command_has_an_option_for_the_key() -> None:
    options = {flag for command in cli.commands.values() for parameter in command.params for flag in parameter.opts}
    assert not [flag for flag in options if re.fullmatch(r"--.*key", flag)]


def test_sync_without_a_key_is_exit_code_2_and_creates_nothing(workspace: Workspace) -> None:
    assert workspace.run("sync") == 2
    assert "ANTICAPTCHA_CLIENT_KEY" in workspace.err
    assert list(workspace.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["sync", "plan"])
def test_the_help_of_soft_id_and_ip_names_their_views(workspace: Workspace, name: str) -> None:
    assert workspace.run(name, "--help") == 0
    text = " ".join(workspace.out.split())
    assert re.search(r"--soft-id N softId to report[^\[]*spending_by_app_daily[^\[]*\[env: ANTICAPTCHA_SOFT_ID\]", text)
    assert re.search(r"--ip ADDR IP address to report[^\[]*spending_by_ip_daily[^\[]*\[env: ANTICAPTCHA_IP\]", text)


@pytest.mark.parametrize(
    ("words", "message"), [("--soft-id 7 --soft-id x", "'7', 'x': 'x' is no"), ("--ip ::1 --ip ::/8", "'::1', '::/8'")]
)
def test_every_repeated_soft_id_and_ip_is_checked(workspace: Workspace, words: str, message: str) -> None:
    assert workspace.run("plan", *words.split()) == 2
    assert message in workspace.err


def test_a_comma_in_a_repeatable_option_gets_a_hint_to_repeat_it(workspace: Workspace) -> None:
    assert workspace.run("plan", "--soft-id", "1011,1022") == 2
    assert "hint: repeat --soft-id for each value; see `anticaptcha-etl sync --help`" in workspace.err


def test_an_unknown_variable_is_reported_once_on_standard_error(loaded: Workspace) -> None:
    loaded.environ |= {"ANTICAPTCHA_QUEU": "FunCaptcha", "ANTICAPTCHA_CLIENTKEY": "0123abcd"}
    for words in (("sync", "--totals-only"), ("status",), ("query", "select 1")):
        assert loaded.run(*words) == 0
        assert (
            loaded.err.count("ANTICAPTCHA_QUEU is not a setting and is ignored; did you mean ANTICAPTCHA_QUEUE?") == 1
        )
        assert loaded.err.count("ANTICAPTCHA_CLIENTKEY") == 1
        assert "0123abcd" not in loaded.out + loaded.err


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are POSIX's")
def test_a_key_file_that_everyone_can_read_gets_a_warning_with_a_hint(connected: Workspace) -> None:
    file = connected.folder / "key"
    file.write_text(connected.environ.pop("ANTICAPTCHA_CLIENT_KEY"))
    file.chmod(0o644)
    connected.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert connected.run("sync", "--since", f"{TODAY - timedelta(days=1)}", "--totals-only") == 0
    assert (
        connected.err.count("every user of this machine can read the file with the client key (mode 644): chmod 600 it")
        == 1
    )


def test_quiet_hides_the_warning_about_an_unknown_variable(loaded: Workspace) -> None:
    loaded.environ["ANTICAPTCHA_QUEU"] = "FunCaptcha"
    assert loaded.run("sync", "--quiet", "--totals-only") == 0
    assert (loaded.out, loaded.err) == ("", "")


def test_a_sync_without_a_key_reports_a_misspelt_variable_once(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_CLIENTKEY"] = "0123abcd"
    assert workspace.run("sync") == 2
    assert workspace.err.count("ANTICAPTCHA_CLIENTKEY") == 1
    assert "0123abcd" not in workspace.err


# ---------------------------------------------------------------- sync, plan


def test_sync_prints_its_result_the_warehouse_and_the_next_step(connected: Workspace) -> None:
    assert connected.run("sync", "-v", "--since", f"{TODAY - timedelta(days=1)}") == 0
    assert f"created a new warehouse at {connected.folder}/warehouse.duckdb" in connected.err
    assert re.match(r"Synced default: .* \(2 days\), \d+ requests", connected.out)
    assert "requests needed at least" in connected.out
    assert connected.out.endswith("next: anticaptcha-etl status\n")
    assert "any-text" not in connected.out + connected.err


def test_a_successful_quiet_sync_prints_nothing(loaded: Workspace) -> None:
    assert loaded.run("-q", "sync", "--totals-only") == 0
    assert (loaded.out, loaded.err) == ("", "")


def test_an_incomplete_sync_is_exit_code_1_and_says_to_run_again(connected: Workspace) -> None:
    assert connected.run("sync", "--max-requests", "2") == 1
    assert "for the next sync" in connected.out
    assert connected.out.endswith("next: anticaptcha-etl sync\n")


def test_a_refused_key_is_exit_code_3_after_one_request(workspace: Workspace) -> None:
    with Sandbox(Dataset(), faults=(Fault(FaultKind.REFUSE_KEY),)) as sandbox:
        workspace.environ |= {"ANTICAPTCHA_API_URL": sandbox.url, "ANTICAPTCHA_CLIENT_KEY": "any-text"}
        assert workspace.run("sync") == 3
        assert len(sandbox.requests) == 1
    assert "ERROR_KEY_DOES_NOT_EXIST" in workspace.err
    assert "hint: " in workspace.err


def test_plan_mentions_days_that_need_no_request(connected: Workspace) -> None:
    since = ("--since", f"{TODAY - timedelta(days=9)}", "--totals-only")
    assert connected.run("sync", *since, "--max-requests", "5") == 1
    assert connected.run("plan", *since) == 0
    found = re.match(
        r"Plan for default: (\d+) days? to check(; some need no request)?\n  requests  (?:at least )?(\d+)",
        connected.out,
    )
    assert found
    assert bool(found[2]) is (int(found[3]) < int(found[1]))


def test_plan_needs_no_key_and_creates_no_file(workspace: Workspace) -> None:
    assert workspace.run("plan", "--since", f"{TODAY - timedelta(days=9)}") == 0
    assert "10 days to check\n" in workspace.out
    assert "requests" in workspace.out
    assert "minutes" in workspace.out
    assert list(workspace.folder.iterdir()) == []
    plan = workspace.out
    assert workspace.run("sync", "--dry-run", "--since", f"{TODAY - timedelta(days=9)}") == 0
    assert workspace.out == plan


def test_json_logs_are_one_object_per_line_including_errors(connected: Workspace) -> None:
    assert connected.run("--log-format", "json", "sync", "--max-requests", "1") == 1
    assert {"time", "level", "logger", "message"} <= json.loads(connected.err.splitlines()[0]).keys()
    assert connected.run("--log-format", "json", "query", "select nonsense") == 2
    assert json.loads(connected.err)["exit_code"] == 2
    connected.environ["ANTICAPTCHA_CLIENT_KEY"] = "another-key"
    assert connected.run("--log-format", "json", "sync") == 2
    event = json.loads(connected.err.splitlines()[-1])
    assert (event["level"], event["exit_code"]) == ("error", 2)
    assert "--key-changed" in event["message"] + event["remedy"]


# ---------------------------------------------------------------- status, query, migrate


def test_status_is_printed_as_text_or_json(loaded: Workspace) -> None:
    assert loaded.run("status") == 0
    assert "Account default" in loaded.out
    assert loaded.run("status", "--json", "--account", "default") == 0
    assert json.loads(loaded.out)["accounts"][0]["account"] == "default"


def test_a_stale_warehouse_is_exit_code_5_and_its_status_is_shown(loaded: Workspace) -> None:
    assert loaded.run("status", "--json", "--max-age", "48") == 0
    assert loaded.run("status", "--json", "--max-age", "0") == 5
    assert json.loads(loaded.out)
    assert json.loads(loaded.err)["hint"] == "run anticaptcha-etl sync"


def test_an_unknown_account_is_named_in_the_error(loaded: Workspace) -> None:
    assert loaded.run("status", "--account", "other") == 2
    assert "'other'" in loaded.err


def test_query_reads_sql_from_its_argument_a_file_or_standard_input(
    loaded: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (loaded.folder / "q.sql").write_text("select 2 as n")
    monkeypatch.setattr(sys, "stdin", StringIO("select 3 as n"))
    for argument, value in (("select 1 as n", "1"), ("@q.sql", "2"), ("-", "3")):
        assert loaded.run("query", argument, "--format", "csv") == 0
        assert loaded.out == f"n\n{value}\n"


def test_query_writes_its_file_completely_or_not_at_all(loaded: Workspace) -> None:
    assert loaded.run("query", "select count(*) as n from spending_daily", "--format", "json", "-o", "n.json") == 0
    assert loaded.out == ""
    assert json.loads((loaded.folder / "n.json").read_text()) == [{"n": 2}]
    assert loaded.run("query", "select nonsense", "-o", "n.json") == 2
    assert json.loads((loaded.folder / "n.json").read_text()) == [{"n": 2}]
    assert not list(loaded.folder.glob(".*.part"))
    for place in ("nowhere/n.json", "n.json/n.json", "n" * 300, "."):
        assert loaded.run("query", "select 1", "-o", place) == 2
        assert "error: cannot write " in loaded.err


def test_query_prints_a_table_by_default(loaded: Workspace) -> None:
    assert loaded.run("query", "select 'x' as word") == 0
    assert "(1 row)" in loaded.out


def test_query_without_a_warehouse_creates_none(workspace: Workspace) -> None:
    assert workspace.run("query", "select 1") == 4
    assert list(workspace.folder.iterdir()) == []


def test_migrate_downgrades_and_upgrades_but_drops_tables_only_with_to_base(loaded: Workspace) -> None:
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


def test_migrate_creates_no_warehouse(workspace: Workspace) -> None:
    assert workspace.run("migrate") == 4
    assert list(workspace.folder.iterdir()) == []


def own_files(workspace: Workspace) -> dict[str, bytes]:
    (workspace.folder / "anticaptcha-etl.toml").write_text("lookback = 3\n")
    files = sorted(file for file in workspace.folder.iterdir() if file.is_file())
    assert {"warehouse.duckdb", "warehouse.duckdb.default.lock", "anticaptcha-etl.toml"} <= {
        file.name for file in files
    }
    return {file.name: file.read_bytes() for file in files}


def test_query_never_overwrites_the_warehouse_or_the_configuration(loaded: Workspace) -> None:
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


def test_query_protects_a_named_configuration_file_and_its_warehouse(loaded: Workspace) -> None:
    (loaded.folder / "mine.toml").write_text("warehouse = 'mine.duckdb'\n")
    (loaded.folder / "warehouse.duckdb").rename(loaded.folder / "mine.duckdb")
    for name in ("mine.toml", "mine.duckdb", "mine.duckdb.shop.lock"):
        assert loaded.run("query", "select 1", "--config", "mine.toml", "-o", name) == 2
        assert "choose another file with -o" in loaded.err
    assert loaded.run("query", "select 1", "--config", "mine.toml", "-o", "mine.duckdb.csv") == 0


def test_query_keeps_a_symbolic_link_and_replaces_its_target(loaded: Workspace) -> None:
    (loaded.folder / "elsewhere").mkdir()
    link = loaded.folder / "n.csv"
    link.symlink_to("elsewhere/n.csv")
    for n in ("1", "2"):  # first it points to nothing
        assert loaded.run("query", f"select {n} as n", "-o", "n.csv") == 0
        assert link.is_symlink()
        assert (loaded.folder / "elsewhere" / "n.csv").read_text() == f"n\n{n}\n"


def test_query_writes_into_a_named_pipe(loaded: Workspace) -> None:
    pipe = loaded.folder / "pipe.csv"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert loaded.run("query", "select 1 as n", "-o", "pipe.csv") == 0
        assert reader.communicate()[0] == "n\n1\n"
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no such device")
def test_query_into_a_full_device_is_a_usage_error(loaded: Workspace) -> None:
    # a link, so that a bug replaces only the link
    (loaded.folder / "full").symlink_to("/dev/full")
    assert loaded.run("query", "select 1", "-o", "full") == 2
    assert "No space left" in loaded.err
    assert Path("/dev/full").is_char_device()


def test_query_to_dev_stdout_does_not_replace_a_redirected_file(loaded: Workspace) -> None:
    query = f"{sys.executable} -m etl query 'select 1 as n' --format csv -o"
    command = ["bash", "-c", f"{{ echo before; {query} /dev/stdout; {query} both; echo after; }} > both"]
    subprocess.run(command, check=True, cwd=loaded.folder, env={"PATH": "/usr/bin:/bin"})
    assert (loaded.folder / "both").read_text() == "before\nn\n1\nn\n1\nafter\n"


def test_query_to_a_dash_is_standard_output(loaded: Workspace) -> None:
    assert loaded.run("query", "select 1 as n", "--format", "csv", "-o", "-") == 0
    assert loaded.out == "n\n1\n"
    assert not (loaded.folder / "-").exists()


def test_query_refuses_unknown_file_endings(loaded: Workspace) -> None:
    for name in ("n.xls", "n.parq", "n.html"):
        assert loaded.run("query", "select 1 as n", "-o", name) == 2
        assert f"{name}: unknown file ending" in loaded.err
        assert "hint: use .txt, .csv, .json, .parquet, .xlsx, or choose a format with --format" in loaded.err
        assert not (loaded.folder / name).exists()
    for words in (("-o", "n.txt"), ("-o", "n"), ("-o", "n.csv"), ("-o", "n.dat", "--format", "csv")):
        assert loaded.run("query", "select 1 as n", *words) == 0
        assert loaded.err == ""


@pytest.mark.parametrize("sql", ["-- this month\nselect 1 as n", "--month=this\nselect 1 as n", "--\nselect 1 as n"])
def test_sql_may_begin_with_a_comment(loaded: Workspace, sql: str) -> None:
    for words in ((sql, "--format", "csv"), ("--format", "csv", sql), ("--format", "csv", "--", sql)):
        assert loaded.run("query", *words) == 0, loaded.err
        assert loaded.out == "n\n1\n"


def test_an_unknown_option_of_query_is_refused(loaded: Workspace) -> None:
    assert loaded.run("query", "select 1", "--formt", "csv") == 2
    assert "--formt" in loaded.err
    assert "--format" in loaded.err


def test_an_unreadable_sql_file_is_named_once(workspace: Workspace) -> None:
    (workspace.folder / "bytes.sql").write_bytes(b"\xff")
    for name, why in (("nofile.sql", "No such file or directory"), ("bytes.sql", "it is not UTF-8 text")):
        assert workspace.run("query", f"@{name}") == 2
        assert f"error: cannot read {workspace.folder}/{name}: {why}\n" in workspace.err


@pytest.mark.parametrize("words", ["sync", "plan", "status", "query 1", "check", "replay", "migrate"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("duckdb:///", "the warehouse must be a file"),
        ("duckdb:///:memory:", "the warehouse must be a file"),
        ("sqlite:///x.db", "a warehouse cannot be in sqlite"),
        ("mysql://me:hush@localhost/x", "a warehouse cannot be in mysql"),
    ],
)
def test_every_command_refuses_an_invalid_warehouse_with_the_same_message(
    workspace: Workspace, words: str, url: str, message: str
) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = "any-text"
    assert workspace.run(*words.split(), "--warehouse", url) == 2
    assert workspace.err.startswith(f"error: {message}\nhint: ")
    assert "path" in workspace.err
    assert "hush" not in workspace.err
    assert list(workspace.folder.iterdir()) == []


def test_the_checks_folder_option_must_name_a_folder(loaded: Workspace) -> None:
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
    loaded: Workspace, monkeypatch: pytest.MonkeyPatch, columns: str | None, most: int
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)  # the terminal of the person who runs this test
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


def test_every_behaviour_of_the_sandbox_is_an_option_with_all_its_values() -> None:
    choices = {option.name: option.type for option in cli.commands["sandbox"].params}
    apart = {"latency_seconds", "deposits", "accepted_keys", "refused_keys"}  # --latency, --deposit; any text is a key
    for field in fields(Behaviour):
        if field.name in apart:
            continue
        assert field.name in choices
        if literal := get_args(field.type):
            offered = choices[field.name]
            if isinstance(offered, click.Choice):
                assert tuple(offered.choices) == literal


@pytest.mark.parametrize("fault", ["html_502=2", "html_502=x", "nonsense=0.1", "=1"])
def test_an_invalid_fault_is_refused_with_the_known_kinds(workspace: Workspace, fault: str) -> None:
    assert workspace.run("sandbox", "--port", "0", "--fault", fault) == 2
    assert "retry_after" in workspace.err


def test_a_taken_port_is_a_usage_error(workspace: Workspace, service: Sandbox) -> None:
    assert workspace.run("sandbox", "--port", service.url.rpartition(":")[2]) == 2
    assert "--port" in workspace.err


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
def test_demo_shows_its_commands_and_leaves_no_file(workspace: Workspace) -> None:
    assert workspace.run("demo") == 0
    for typed in (
        "export ANTICAPTCHA_CLIENT_KEY=",
        "anticaptcha-etl sync",
        "anticaptcha-etl status",
        "anticaptcha-etl query",
    ):
        assert f"$ {typed}" in workspace.out
    place = re.search(r"\$ cd (\S+)", workspace.out)
    assert place
    assert not Path(place[1]).exists()
    assert list(workspace.folder.iterdir()) == []


def test_demo_refuses_a_folder_with_a_warehouse(loaded: Workspace) -> None:
    before = (loaded.folder / "warehouse.duckdb").read_bytes()
    assert loaded.run("demo", "--keep", ".") == 2
    assert (loaded.folder / "warehouse.duckdb").read_bytes() == before


# ---------------------------------------------------------------- how a command ends


def test_an_interrupt_while_a_module_is_imported_is_one(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        class Interrupted:
            def __set_name__(self, owner: type, name: str) -> None:
                raise KeyboardInterrupt

        type("Imported", (), {"field": Interrupted()})  # Python 3.11 raises a RuntimeError with the interrupt as its cause

    monkeypatch.setattr("etl.outputs.status.load_status", fail)
    assert workspace.run("status") == 130
    assert workspace.err == "error: interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_is_exit_code_130(tmp_path: Path, number: signal.Signals) -> None:
    slow = Behaviour(latency_seconds=0.05, unknown_queue="zeros")
    with Sandbox(Dataset.always_active(begins=TODAY - timedelta(days=400), queues=1), slow) as service:
        environ = {"ANTICAPTCHA_API_URL": service.url, "ANTICAPTCHA_CLIENT_KEY": "any-text"}
        command = [*PYTHON, "sync", "--rate", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environ) as process:
            while len(service.requests) < 12:
                assert process.poll() is None
            process.send_signal(number)
            output = process.stderr.read() if process.stderr else ""
        assert process.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("is_closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_sync_runs_with_closed_standard_streams(connected: Workspace, is_closed: str) -> None:
    environ = {**connected.environ, "PATH": "/usr/bin:/bin"}
    command = ["bash", "-c", f"{sys.executable} -m etl sync --since {TODAY} --totals-only {is_closed}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=connected.folder, env=environ, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert connected.run("query", "select count(*) as n from spending_daily", "--format", "csv") == 0
    assert connected.out == "n\n1\n"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_closed_pipe_is_not_an_error(loaded: Workspace, form: str) -> None:
    query = f"{sys.executable} -m etl query 'select unnest(range(20000)) as n' --format {form}"
    command = ["bash", "-c", f"{query} | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=loaded.folder, env={"PATH": "/usr/bin:/bin"}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_internal_error_prints_its_traceback_without_secrets(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = "0123abcd"

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("etl.sync.run.sync_account", broken)
    assert workspace.run("sync") == 1
    assert "ZeroDivisionError: a defect" in workspace.err
    assert "error: internal error in anticaptcha-etl" in workspace.err
    assert "0123abcd" not in workspace.err

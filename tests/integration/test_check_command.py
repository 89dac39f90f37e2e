"""The command ``check``: what it says, to whom, and with which exit code."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from etl.cli import run
from etl.config import Environment
from etl.warehouse import checks

NUMBER = len(checks.load())


@dataclass
class Workspace:
    """A folder with an empty warehouse of two accounts, and the output of the last command."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    environ: dict[str, str] = field(default_factory=dict)
    out: str = ""
    err: str = ""

    @property
    def file(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def check(self, *words: str) -> int:
        code = run(["check", *words], Environment(self.environ, self.folder))
        self.out, self.err = self.capsys.readouterr()
        return code

    def plant(self, sql: str) -> None:
        with duckdb.connect(self.file) as connection:
            connection.execute(sql)


@pytest.fixture
def workspace(migrated_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Workspace:
    workspace = Workspace(tmp_path, capsys)
    shutil.copy(migrated_file, workspace.file)
    for number, name in enumerate(("default", "other"), 1):
        columns = "account_id, name, key_salt, key_hash, created_at"
        workspace.plant(f"insert into internal.accounts ({columns}) values ({number}, '{name}', '', '', now())")
    return workspace


TWICE = "insert into internal.series values (2, 1, 'queue', 'FunCaptcha'), (2, 2, 'queue', 'FunCaptcha');"
STALE = "update internal.accounts set created_at = timestamp '2026-01-01' where account_id = 1;"


def test_without_findings_the_number_of_checks_is_printed(workspace: Workspace) -> None:
    assert workspace.check() == 0
    first, _, last = workspace.out.splitlines()
    assert first.startswith(f"{workspace.file}, all accounts, 20")
    assert last == f"{NUMBER} checks, 0 findings"


def test_a_warning_does_not_fail_the_command(workspace: Workspace) -> None:
    workspace.plant(STALE)
    assert workspace.check() == 0
    assert workspace.out.splitlines()[2] == "warning"
    assert workspace.out.splitlines()[-1] == f"{NUMBER} checks, 1 finding: 1 warning"


def test_a_blocking_finding_is_exit_code_5_and_comes_first_with_a_hint(workspace: Workspace) -> None:
    workspace.plant(TWICE + STALE)
    assert workspace.check() == 5
    lines = workspace.out.splitlines()
    blocking, warning = lines.index("blocking"), lines.index("warning")
    assert blocking < warning
    assert lines[blocking + 1].startswith("  FAIL every filter has one series: 1 row, account other, ")
    (expected,) = [number for number, line in enumerate(lines) if "expected: the account's total" in line]
    assert any(line.startswith("    hint: ") for line in lines[expected : lines.index("warning")])
    assert lines[-1] == f"{NUMBER} checks, 2 findings: 1 blocking, 1 warning"
    assert max(map(len, lines[1:])) <= 80


def test_only_findings_of_the_selected_account_are_shown(workspace: Workspace) -> None:
    workspace.plant(TWICE + STALE)
    assert workspace.check("--account", "default") == 0
    assert "every filter has one series" not in workspace.out
    assert workspace.check("--account", "other") == 5
    assert "fresh" not in workspace.out
    assert workspace.check("--account", "nobody") == 2
    assert "accounts in it: default, other" in workspace.err


def test_json_has_every_row(workspace: Workspace) -> None:
    workspace.plant(TWICE + STALE)
    (workspace.folder / "own").mkdir()
    cents = "-- severity: note\nselect 'other' as account, date '2026-03-14' as day, 0.000000001 as money"
    (workspace.folder / "own" / "cents.sql").write_text(cents)
    assert workspace.check("--json", "--checks-folder", "own") == 5
    report = json.loads(workspace.out)
    assert (report["warehouse"], report["account"], report["checks"]) == (str(workspace.file), None, NUMBER + 1)
    twice, stale, cents_finding = report["findings"]
    assert twice["rows"] == [{"account": "other", "cut": "queue", "member": "FunCaptcha", "series": 2}]
    assert [finding["severity"] for finding in (twice, stale, cents_finding)] == ["blocking", "warning", "note"]
    assert stale["rows"] == [{"account": "default", "held_until": "2026-01-01T00:00:00Z"}]
    assert (cents_finding["day"], cents_finding["remedy"], cents_finding["has_more"]) == ("2026-03-14", "", False)
    assert cents_finding["rows"][0]["money"] == "0.000000001"


def test_quiet_prints_only_findings_that_need_attention(workspace: Workspace) -> None:
    assert workspace.check("-q") == 0
    assert (workspace.out, workspace.err) == ("", "")
    workspace.plant(STALE)
    assert workspace.check("-q") == 0
    assert "the newest total is fresh" in workspace.out


def test_quiet_hides_findings_without_a_problem(workspace: Workspace) -> None:
    (workspace.folder / "own").mkdir()
    (workspace.folder / "own" / "a.sql").write_text("-- severity: note\nselect 1 as one")
    assert workspace.check("-q", "--checks-folder", "own") == 0
    assert workspace.out == ""


@pytest.mark.parametrize("source", ["option", "variable", "toml"])
def test_the_checks_folder_can_be_an_option_a_variable_or_a_toml_key(workspace: Workspace, source: str) -> None:
    (workspace.folder / "etc" / "own").mkdir(parents=True)
    (workspace.folder / "etc" / "own" / "always.sql").write_text(
        "-- it is never true\n-- severity: blocking\nselect 1 as one"
    )
    words = []
    if source == "option":
        words = ["--checks-folder", "etc/own"]
    elif source == "variable":
        workspace.environ["ANTICAPTCHA_CHECKS_FOLDER"] = "etc/own"
    else:
        (workspace.folder / "etc" / "a.toml").write_text("checks_folder = 'own'\nwarehouse = '../warehouse.duckdb'\n")
        words = ["--config", "etc/a.toml"]
    assert workspace.check(*words) == 5
    assert "  FAIL always: 1 row, one 1\n    expected: it is never true\n\n" in workspace.out
    assert f"{NUMBER + 1} checks, 1 finding" in workspace.out


def test_check_writes_nothing(workspace: Workspace) -> None:
    (workspace.folder / "own").mkdir()
    (workspace.folder / "own" / "a.sql").write_text("delete from internal.accounts")
    before = workspace.file.read_bytes()
    assert workspace.check("--checks-folder", "own") == 0
    assert "DELETE is not allowed" in workspace.out
    assert workspace.file.read_bytes() == before
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["own", "warehouse.duckdb"]


def test_check_waits_for_a_running_commit(workspace: Workspace) -> None:
    hold = f"import duckdb, sys; connection = duckdb.connect({str(workspace.file)!r}); print('open', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        program, pipe = [sys.executable, "-m", "etl", "check"], subprocess.PIPE
        with subprocess.Popen(program, cwd=workspace.folder, env={}, text=True, stdout=pipe, stderr=pipe) as checking:
            assert checking.stderr
            assert "waiting for it" in checking.stderr.readline()
            holder.communicate("\n")
            out, _ = checking.communicate()
    assert checking.returncode == 0
    assert f"{NUMBER} checks, 0 findings" in out


def test_without_a_warehouse_it_is_exit_code_4(workspace: Workspace) -> None:
    assert workspace.check("--warehouse", "gone.duckdb") == 4
    assert "there is no warehouse" in workspace.err

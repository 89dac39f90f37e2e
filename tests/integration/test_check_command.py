"""The command ``check``: what it says, to whom, and with which exit code."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from etl.cli import run
from etl.config import Environment
from etl.warehouse import checks

NUMBER = len(checks.load())


@dataclass
class Desk:
    """A folder with an empty warehouse of two accounts, and what the last command said."""

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
def desk(migrated_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)
    shutil.copy(migrated_file, desk.file)
    for number, name in enumerate(("default", "other"), 1):
        columns = "account_id, name, key_salt, key_hash, created_at"
        desk.plant(f"insert into internal.accounts ({columns}) values ({number}, '{name}', '', '', now())")
    return desk


TWICE = "insert into internal.series values (2, 1, 'queue', 'FunCaptcha'), (2, 2, 'queue', 'FunCaptcha');"
STALE = "update internal.accounts set created_at = timestamp '2026-01-01' where account_id = 1;"


def test_nothing_found_is_said_with_how_much_was_looked_at(desk: Desk) -> None:
    assert desk.check() == 0
    first, _, last = desk.out.splitlines()
    assert first.startswith(f"{desk.file}, all accounts, 20")
    assert last == f"{NUMBER} checks, 0 findings"


def test_a_warning_alone_is_no_failure(desk: Desk) -> None:
    desk.plant(STALE)
    assert desk.check() == 0
    assert desk.out.splitlines()[2] == "warning"
    assert desk.out.splitlines()[-1] == f"{NUMBER} checks, 1 finding: 1 warning"


def test_a_blocking_finding_is_exit_code_5_and_stands_first_with_what_to_do(desk: Desk) -> None:
    desk.plant(TWICE + STALE)
    assert desk.check() == 5
    lines = desk.out.splitlines()
    blocking, warning = lines.index("blocking"), lines.index("warning")
    assert blocking < warning
    assert lines[blocking + 1].startswith("  FAIL every filter has one series: 1 row, account other, ")
    (expected,) = [number for number, line in enumerate(lines) if "expected: the account's total" in line]
    assert any(line.startswith("    hint: ") for line in lines[expected : lines.index("warning")])
    assert lines[-1] == f"{NUMBER} checks, 2 findings: 1 blocking, 1 warning"
    assert max(map(len, lines[1:])) <= 80


def test_one_account_is_told_of_its_own_alone(desk: Desk) -> None:
    desk.plant(TWICE + STALE)
    assert desk.check("--account", "default") == 0
    assert "every filter has one series" not in desk.out
    assert desk.check("--account", "other") == 5
    assert "fresh" not in desk.out
    assert desk.check("--account", "nobody") == 2
    assert "accounts in it: default, other" in desk.err


def test_json_has_every_row(desk: Desk) -> None:
    desk.plant(TWICE + STALE)
    (desk.folder / "own").mkdir()
    cents = "-- severity: note\nselect 'other' as account, date '2026-03-14' as day, 0.000000001 as money"
    (desk.folder / "own" / "cents.sql").write_text(cents)
    assert desk.check("--json", "--checks-folder", "own") == 5
    told = json.loads(desk.out, parse_float=Decimal)
    assert (told["warehouse"], told["account"], told["checks"]) == (str(desk.file), None, NUMBER + 1)
    twice, stale, note = told["findings"]
    assert twice["rows"] == [{"account": "other", "cut": "queue", "member": "FunCaptcha", "series": 2}]
    assert [finding["severity"] for finding in (twice, stale, note)] == ["blocking", "warning", "note"]
    assert stale["rows"] == [{"account": "default", "held_until": "2026-01-01T00:00:00Z"}]
    assert (note["day"], note["remedy"], note["has_more"]) == ("2026-03-14", "", False)
    assert note["rows"][0]["money"] == Decimal("0.000000001")


def test_quiet_speaks_only_when_a_person_must_act(desk: Desk) -> None:
    assert desk.check("-q") == 0
    assert (desk.out, desk.err) == ("", "")
    desk.plant(STALE)
    assert desk.check("-q") == 0
    assert "the newest total is fresh" in desk.out


def test_a_note_is_not_for_quiet(desk: Desk) -> None:
    (desk.folder / "own").mkdir()
    (desk.folder / "own" / "a.sql").write_text("-- severity: note\nselect 1 as one")
    assert desk.check("-q", "--checks-folder", "own") == 0
    assert desk.out == ""


@pytest.mark.parametrize("said", ["option", "variable", "toml"])
def test_the_folder_of_ones_own_checks_is_a_setting(desk: Desk, said: str) -> None:
    (desk.folder / "etc" / "own").mkdir(parents=True)
    (desk.folder / "etc" / "own" / "always.sql").write_text("-- it never holds\n-- severity: blocking\nselect 1 as one")
    words = []
    if said == "option":
        words = ["--checks-folder", "etc/own"]
    elif said == "variable":
        desk.environ["ANTICAPTCHA_CHECKS_FOLDER"] = "etc/own"
    else:
        (desk.folder / "etc" / "a.toml").write_text("checks_folder = 'own'\nwarehouse = '../warehouse.duckdb'\n")
        words = ["--config", "etc/a.toml"]
    assert desk.check(*words) == 5
    assert "  FAIL always: 1 row, one 1\n    expected: it never holds\n\n" in desk.out
    assert f"{NUMBER + 1} checks, 1 finding" in desk.out


def test_nothing_is_written(desk: Desk) -> None:
    (desk.folder / "own").mkdir()
    (desk.folder / "own" / "a.sql").write_text("delete from internal.accounts")
    before = desk.file.read_bytes()
    assert desk.check("--checks-folder", "own") == 0
    assert "DELETE is not allowed" in desk.out
    assert desk.file.read_bytes() == before
    assert sorted(path.name for path in desk.folder.iterdir()) == ["own", "warehouse.duckdb"]


def test_a_commit_of_a_running_sync_is_waited_for(desk: Desk) -> None:
    hold = f"import duckdb, sys; held = duckdb.connect({str(desk.file)!r}); print('held', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        program, pipe = [sys.executable, "-m", "etl", "check"], subprocess.PIPE
        with subprocess.Popen(program, cwd=desk.folder, env={}, text=True, stdout=pipe, stderr=pipe) as checking:
            assert checking.stderr
            assert "waiting for it" in checking.stderr.readline()
            holder.communicate("\n")
            out, _ = checking.communicate()
    assert checking.returncode == 0
    assert f"{NUMBER} checks, 0 findings" in out


def test_without_a_warehouse_it_is_exit_code_4(desk: Desk) -> None:
    assert desk.check("--warehouse", "gone.duckdb") == 4
    assert "there is no warehouse" in desk.err

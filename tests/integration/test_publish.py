"""The published copy: whole, verified, read-only, without secrets; and whoever reads it sees the old state or the
new."""

import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from etl.cli import run
from etl.clock import Clock
from etl.config import Environment
from etl.errors import ChecksFailedError, UsageError, WarehouseError, WarehouseLockedError
from etl.outputs import atomic
from etl.outputs.publish import PUBLISHED_COLUMNS, publish, resolve_target
from etl.warehouse import views
from tests.integration.sample_warehouse import BROKEN, FILLED, HOURS, SECRETS, Bank, rows

CLOCK = Clock()


@pytest.fixture
def bank(migrated_file: Path, tmp_path: Path) -> Bank:
    bank = Bank(tmp_path)
    shutil.copy(migrated_file, bank.file)
    bank.write(FILLED)
    (tmp_path / "bi").mkdir()
    return bank


def put(bank: Bank, *, force: bool = False) -> Path:
    target = resolve_target(bank.url, bank.folder / "bi")
    return publish(bank.url, target, CLOCK, wait=5, force=force).path


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# ---------------------------------------------------------------- what is in it


def test_every_view_and_function_gives_what_the_warehouse_gives(bank: Bank) -> None:
    copy = put(bank)
    asked = [f"select * from {view.name} order by all" for view in views.public_views()]
    asked += [
        f"select * from spending_as_of(timestamp '{moment}') order by all" for moment in ("2026-11-04", "2026-11-06")
    ]
    asked += ["select price_per_1000(cast(1.5 as decimal(18, 9)), 7)"]
    of_views = f"from duckdb_columns() where table_name in {tuple(view.name for view in views.public_views())}"
    asked += [f"select table_name, column_name, data_type, comment {of_views} order by table_name, column_index"]
    asked += [
        f"select comment from duckdb_views() where view_name in (select table_name {of_views}) order by view_name"
    ]
    for sql in asked:
        assert rows(copy, sql) == rows(bank.file, sql)
    assert rows(copy, "select count(*), sum(money) from spending_hourly") == [(HOURS, HOURS * Decimal("1.000000001"))]
    assert rows(copy, "select count(*) from spending_revisions") == [(1,)]


def test_it_holds_what_readers_need_and_nothing_else(bank: Bank) -> None:
    with duckdb.connect(bank.file) as connection:  # out of the log, where they would be found as well
        connection.execute("checkpoint")
    assert all(secret in bank.file.read_bytes() for secret in SECRETS)
    copy = put(bank)
    held = rows(
        copy, "select table_name, column_name from duckdb_columns() where not internal and schema_name = 'internal'"
    )
    tables = rows(copy, "select table_name from duckdb_tables()")
    assert {name for (name,) in tables} == PUBLISHED_COLUMNS.keys()
    assert {column for table, column in held if table == "accounts"} == {"account_id", "name"}
    assert [secret for secret in SECRETS if secret in copy.read_bytes()] == []


def test_a_view_that_is_there_for_the_checks_alone_is_not_published(bank: Bank) -> None:
    private = {view.name for view in views.load()} - {view.name for view in views.public_views()}
    assert private == {"closed_days"}  # it reads what is not copied
    held = {name for (name,) in rows(put(bank), "select view_name from duckdb_views() where not internal")}
    assert held == {view.name for view in views.public_views()} | {views.MARKER}


def test_it_is_one_read_only_file_of_the_format_bi_tools_read(bank: Bank) -> None:
    copy = put(bank)
    assert names(bank.folder / "bi") == ["warehouse.duckdb"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o444
    assert "v1.2.0" in str(rows(copy, "select tags from duckdb_databases() where database_name = 'warehouse'"))


def test_the_warehouse_itself_is_read_and_not_changed(bank: Bank) -> None:
    before = bank.file.read_bytes()
    put(bank)
    assert bank.file.read_bytes() == before


def test_a_log_left_beside_the_copy_is_not_replayed_into_the_next(bank: Bank) -> None:
    copy = put(bank)
    copy.with_name("warehouse.duckdb.wal").write_bytes(b"of another file")
    put(bank)
    assert names(copy.parent) == ["warehouse.duckdb"]


def test_no_program_of_ours_takes_the_copy_for_a_warehouse_to_write_into(bank: Bank) -> None:
    copy = put(bank)
    before = copy.read_bytes()
    words = ["sync", "--warehouse", str(copy)]
    environ = {"ANTICAPTCHA_CLIENT_KEY": "any-text", "ANTICAPTCHA_API_URL": "http://127.0.0.1:9"}
    assert run(words, Environment(environ, bank.folder)) == 4
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["report", "-o", "r.html"],
        ["status"],
        ["check"],
        ["publish", "bi/x.duckdb"],
        ["export", "lake"],
        ["migrate"],
        ["replay"],
    ],
)
def test_what_needs_the_warehouse_itself_says_that_this_is_a_copy(
    bank: Bank, command: Callable[..., tuple[int, str, str]], words: list[str]
) -> None:
    copy = put(bank)
    before = copy.read_bytes()
    code, _, told = command(*words, "--warehouse", str(copy))
    assert (code, "is a published copy" in told, "--warehouse" in told) == (4, True, True)
    assert copy.read_bytes() == before
    assert [name for name in names(bank.folder) if name not in ("bi", "warehouse.duckdb")] == []


# ---------------------------------------------------------------- where it goes


def test_a_folder_keeps_the_warehouses_name_and_a_file_has_its_own(bank: Bank) -> None:
    assert resolve_target(bank.url, bank.folder / "bi") == bank.folder / "bi" / "warehouse.duckdb"
    assert resolve_target(bank.url, bank.folder / "bi" / "spending.duckdb") == bank.folder / "bi" / "spending.duckdb"


@pytest.mark.parametrize("where", [".", "warehouse.duckdb", "link.duckdb", "notes.txt", "no/such/x.duckdb", "no/such"])
def test_a_place_that_is_not_for_a_copy_is_refused_and_left_alone(bank: Bank, where: str) -> None:
    (bank.folder / "notes.txt").write_text("mine")
    (bank.folder / "link.duckdb").symlink_to(bank.file)
    before = {file: file.read_bytes() for file in bank.folder.iterdir() if file.is_file()}
    with pytest.raises(UsageError) as caught:
        publish(bank.url, resolve_target(bank.url, bank.folder / where), CLOCK, wait=5)
    assert caught.value.hint
    assert {file: file.read_bytes() for file in bank.folder.iterdir() if file.is_file()} == before


@pytest.mark.parametrize(
    "where", [".", "warehouse.duckdb", "link.duckdb", "hard.duckdb", "archive.duckdb", "notes.txt"]
)
def test_a_file_that_was_made_read_only_to_keep_it_is_not_taken_for_a_copy(bank: Bank, where: str) -> None:
    shutil.copy(bank.file, bank.folder / "archive.duckdb")
    (bank.folder / "notes.txt").write_text("mine")
    for file in (bank.file, bank.folder / "archive.duckdb", bank.folder / "notes.txt"):
        file.chmod(0o444)
    (bank.folder / "link.duckdb").symlink_to(bank.file)
    (bank.folder / "hard.duckdb").hardlink_to(bank.file)
    with pytest.raises(UsageError, match=r"is the warehouse itself|publish did not write this file"):
        resolve_target(bank.url, bank.folder / where)


@pytest.mark.parametrize("path", ["new", "new/", "links/bi"])
def test_a_new_folder_is_created_in_an_existing_one(
    bank: Bank, command: Callable[..., tuple[int, str, str]], path: str
) -> None:
    (bank.folder / "real").mkdir()
    (bank.folder / "links").symlink_to(bank.folder / "real")
    assert command("publish", path, "-q") == (0, "", "")
    assert names(bank.folder / path) == ["warehouse.duckdb"]
    assert command("publish", path, "-q") == (0, "", "")


@pytest.mark.parametrize("link", ["link.duckdb", "folder/warehouse.duckdb"])
def test_a_symbolic_link_is_kept_and_its_target_is_replaced(bank: Bank, link: str) -> None:
    real, named = bank.folder / "bi" / "real.duckdb", bank.folder / link
    named.parent.mkdir(exist_ok=True)
    named.symlink_to(real)
    for _ in range(2):  # the link's target does not exist before the first time
        target = resolve_target(bank.url, named.parent if "folder" in link else named)
        assert publish(bank.url, target, CLOCK, wait=5).path == real
        assert named.readlink() == real
        assert rows(named, "select count(*) from spending_hourly") == [(HOURS,)]
    assert names(real.parent) == ["real.duckdb"]


@pytest.mark.parametrize("name", ["what?.duckdb", f"{'x' * 300}.duckdb", f"{'x' * 245}.duckdb"])
def test_a_name_that_no_copy_can_have_is_told_and_nothing_is_left(bank: Bank, name: str) -> None:
    with pytest.raises((UsageError, WarehouseError)) as caught:
        publish(bank.url, resolve_target(bank.url, bank.folder / "bi" / name), CLOCK, wait=5)
    assert caught.value.hint
    assert names(bank.folder / "bi") == []


# ---------------------------------------------------------------- when it is refused


def test_a_blocking_finding_leaves_the_copy_before_unless_told_otherwise(bank: Bank) -> None:
    copy = put(bank)
    before = copy.read_bytes()
    bank.write(BROKEN)
    with pytest.raises(ChecksFailedError, match=r"add up to exactly the account's total.*: 1 row, 2026-10-31"):
        put(bank)
    assert copy.read_bytes() == before
    assert names(copy.parent) == ["warehouse.duckdb"]
    put(bank, force=True)
    assert rows(copy, "select count(*) from spending_hourly where queue = '(unattributed)'") == [(1,)]


def test_ones_own_blocking_check_blocks_too(bank: Bank) -> None:
    (bank.folder / "own").mkdir()
    (bank.folder / "own" / "never.sql").write_text("-- it never holds\n-- severity: blocking\nselect 1 as one")
    target = resolve_target(bank.url, bank.folder / "bi")
    with pytest.raises(ChecksFailedError, match="it never holds"):
        publish(bank.url, target, CLOCK, wait=5, checks_folder=bank.folder / "own")
    assert not target.exists()


def test_views_of_another_version_are_renewed_first(bank: Bank) -> None:
    bank.write("create or replace view internal.warehouse_version as select '0004' as revision, 'other' as views")
    with pytest.raises(WarehouseError) as caught:
        put(bank)
    assert "anticaptcha-etl migrate" in caught.value.hint


def test_a_disk_that_does_not_take_the_copy_leaves_the_one_before(bank: Bank) -> None:
    copy = put(bank)
    before = copy.read_bytes()
    program = """if True:
        import resource, signal, sys
        from etl.cli import run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        sys.exit(run(["publish", "bi"]))
    """
    assert bank.file.stat().st_size > 200_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", program], cwd=bank.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "hint:" in done.stderr
    assert copy.read_bytes() == before
    assert names(copy.parent) == ["warehouse.duckdb"]


def test_a_second_publish_to_the_same_place_waits_and_then_says_so(bank: Bank) -> None:
    target = resolve_target(bank.url, bank.folder / "bi")
    with (
        atomic.temporary_beside(target, CLOCK, wait=0),
        pytest.raises(WarehouseLockedError, match="another process is writing"),
        atomic.temporary_beside(target, CLOCK, wait=0.1),
    ):
        pass
    assert put(bank) == target


# ---------------------------------------------------------------- who reads meanwhile

READER = """
import sys, time, duckdb
seen = []
print("reading", flush=True)
while not seen or seen[-1] < int(sys.argv[2]):
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        by_queue = connection.execute("select sum(money), min(money), max(money) from spending_hourly").fetchone()
        total = connection.execute("select sum(money), min(money), max(money) from spending_total_hourly").fetchone()
        days = connection.execute("select sum(money) / 24, min(money) / 24, max(money) / 24 from coverage_daily").fetchone()
    assert by_queue == total and by_queue[1] == by_queue[2] == days[1] == days[2], (by_queue, total, days)
    seen.append(int(by_queue[1]))
    time.sleep(0.01)
assert seen == sorted(seen), seen
print(len(seen), len(set(seen)))
"""
"""Reads until it has seen the last state. Every read must be one whole state, and never an earlier one than before."""


@pytest.mark.slow
def test_readers_see_one_published_state_or_the_next_and_never_an_error(bank: Bank) -> None:
    bank.set_price(Decimal(1))
    copy = put(bank)
    command = [sys.executable, "-c", READER, str(copy), "21"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        try:
            for state in range(2, 22):
                bank.set_price(Decimal(state))
                put(bank, force=True)  # which would take most of the time
            said, complaint = reader.communicate(timeout=60)
        finally:
            reader.kill()  # else a publish that fails would be waited for without end
    assert (reader.returncode, complaint) == (0, "")
    reads, states = map(int, said.split())
    assert reads >= states > 10


def test_who_has_the_old_copy_open_keeps_reading_it(bank: Bank) -> None:
    copy = put(bank)
    with duckdb.connect(copy, read_only=True) as old:
        bank.set_price(Decimal(2))
        put(bank)
        assert old.execute("select max(money) from spending_hourly").fetchone() == (Decimal("1.000000001"),)
    assert rows(copy, "select max(money) from spending_hourly") == [(Decimal(2),)]


@pytest.mark.slow
def test_killed_publishes_leave_the_old_copy_or_the_new_and_the_next_clears_up(bank: Bank) -> None:
    dice = random.Random(5)
    bank.set_price(Decimal(0))
    copy = put(bank)
    state, killed = Decimal(0), 0
    for price in map(Decimal, range(1, 16)):
        bank.set_price(price)
        program = "import etl.outputs.publish, sys; from etl.cli import run; print(flush=True); sys.exit(run(['publish', 'bi', '-q']))"
        with subprocess.Popen([sys.executable, "-c", program], cwd=bank.folder, stdout=subprocess.PIPE) as publisher:
            assert publisher.stdout is not None
            publisher.stdout.readline()
            threading.Event().wait(dice.uniform(0, 0.5))
            publisher.send_signal(signal.SIGKILL)
        killed += publisher.returncode == -signal.SIGKILL
        [(seen,)] = rows(copy, "select distinct money from spending_hourly")
        assert seen in (state, price)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o444
        state = seen
    assert killed >= 5
    put(bank)
    assert names(copy.parent) == ["warehouse.duckdb"]
    assert rows(copy, "select distinct money from spending_hourly") == [(Decimal(15),)]


@pytest.mark.parametrize("left", ["a draft", "a draft of a folder that was half swapped"])
def test_what_a_killed_maker_left_is_cleared_or_put_back(tmp_path: Path, left: str) -> None:
    target = tmp_path / "out"
    draft = tmp_path / ".out.draft"
    (draft / "made" / "out").mkdir(parents=True)
    (draft / "made" / "out" / "half").write_text("half")
    if "swapped" in left:
        (draft / "before").mkdir()
        (draft / "before" / "whole").write_text("whole")
    with atomic.temporary_beside(target, CLOCK, wait=0) as made:
        assert list(made.iterdir()) == []
        assert names(tmp_path) == [".out.draft", *(["out"] if "swapped" in left else [])]
    assert names(tmp_path) == (["out"] if "swapped" in left else [])


# ---------------------------------------------------------------- the command


@pytest.fixture
def command(bank: Bank, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str, **environ: str) -> tuple[int, str, str]:
        code = run(words, Environment(environ, bank.folder))
        return code, *capsys.readouterr()

    return command


def test_the_command_says_where_the_copy_is_and_the_setting_stands_for_its_path(
    bank: Bank, command: Callable[..., tuple[int, str, str]]
) -> None:
    copy = bank.folder / "bi" / "spending.duckdb"
    code, told, _ = command("publish", "bi/spending.duckdb")
    assert (code, told) == (0, f"Published {copy}: {HOURS} rows in spending_hourly, {copy.stat().st_size:,} bytes\n")
    assert command("publish", "-q", ANTICAPTCHA_PUBLISH="bi") == (0, "", "")
    assert names(bank.folder / "bi") == ["spending.duckdb", "warehouse.duckdb"]
    code, _, told = command("publish")
    assert code == 2
    assert "publish = PATH" in told


def test_a_refusal_is_exit_code_5_with_the_findings_words(
    bank: Bank, command: Callable[..., tuple[int, str, str]]
) -> None:
    bank.write(BROKEN)
    code, _, told = command("publish", "bi")
    assert code == 5
    assert "add up to exactly the account's total" in told
    assert "publish --force" in told
    assert command("publish", "bi", "--force")[0] == 0

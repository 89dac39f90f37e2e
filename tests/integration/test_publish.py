"""The published copy: complete, checked, read-only and without secrets. Readers see the old state or the new one."""

import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
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
from tests.integration.sample_warehouse import BROKEN, FILLED, HOURS, SECRETS, SampleWarehouse, rows
from tests.postgres import migrated, new_database, run_sql

CLOCK = Clock()


@pytest.fixture
def sample(migrated_file: Path, tmp_path: Path) -> SampleWarehouse:
    sample = SampleWarehouse(tmp_path)
    shutil.copy(migrated_file, sample.file)
    sample.write(FILLED)
    (tmp_path / "bi").mkdir()
    return sample


def publish_sample(sample: SampleWarehouse, *, force: bool = False) -> Path:
    target = resolve_target(sample.url, sample.folder / "bi")
    return publish(sample.url, target, CLOCK, wait=5, force=force).path


def file_names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# ---------------------------------------------------------------- content


def test_every_view_and_function_returns_what_the_warehouse_returns(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    queries = [f"select * from {view.name} order by all" for view in views.public_views()]
    queries += [
        f"select * from spending_as_of(timestamp '{moment}') order by all" for moment in ("2026-11-04", "2026-11-06")
    ]
    queries += ["select price_per_1000(cast(1.5 as decimal(18, 9)), 7)"]
    from_columns = f"from duckdb_columns() where table_name in {tuple(view.name for view in views.public_views())}"
    queries += [f"select table_name, column_name, data_type, comment {from_columns} order by table_name, column_index"]
    queries += [
        f"select comment from duckdb_views() where view_name in (select table_name {from_columns}) order by view_name"
    ]
    for sql in queries:
        assert rows(copy, sql) == rows(sample.file, sql)
    assert rows(copy, "select count(*), sum(money) from spending_hourly") == [(HOURS, HOURS * Decimal("1.000000001"))]
    assert rows(copy, "select count(*) from spending_revisions") == [(1,)]


@pytest.mark.server
def test_a_copy_from_a_server_has_every_character_null_digit_and_microsecond(tmp_path: Path) -> None:
    texts = [
        "",
        " x ",
        '"',
        'a"",b',
        "\\N",
        "NULL",
        "#",
        "\r",
        "line\nline\r\n",
        "\N{BOM}\N{PILE OF POO}",
        '",\n' * 10**6,
    ]
    url = new_database(migrated())
    for number, text in enumerate(texts):
        run_sql(
            url,
            "insert into internal.rejections values (1, %s, 1, '2026-11-01', %s, 'reason', %s, %s)",
            number,
            None if number % 2 else datetime(2026, 11, 1, 5, 0, 0, number),
            text,
            datetime(2026, 11, 1, 5, 0, 0, 999_999 - number),
        )
    run_sql(
        url,
        """
        insert into internal.accounts (account_id, name, key_salt, key_hash, created_at) values (1, '', '', '', now());
        insert into internal.series values (1, 1, 'total', null), (1, 2, 'queue', '');
        insert into internal.facts values
            (1, 1, '2026-11-01', '2026-11-01 05:00', 9223372036854775807, 999999999.999999999, 1, now()),
            (1, 2, '2026-11-01', '2026-11-01 05:00', -1, -0.000000001, 2, now());
        insert into internal.day_coverage values (1, '2026-11-01', 'open', null, 1, 0.1, 0, 0, true, false)
        """,
    )
    copy = publish(url, tmp_path / "copy.duckdb", CLOCK, wait=5, force=True)
    for table, columns in PUBLISHED_COLUMNS.items():
        sql = f"select {', '.join(columns)} from internal.{table} order by {', '.join(columns[:4])}"
        assert rows(copy.path, sql) == run_sql(url, sql), table
    assert copy.rows["spending_rejections"] == len(texts)
    assert file_names(tmp_path) == ["copy.duckdb"]


def test_the_copy_has_only_the_published_columns_and_no_secrets(sample: SampleWarehouse) -> None:
    with duckdb.connect(sample.file) as connection:  # so that the secrets are in the file and not only in its log
        connection.execute("checkpoint")
    assert all(secret in sample.file.read_bytes() for secret in SECRETS)
    copy = publish_sample(sample)
    columns = rows(
        copy, "select table_name, column_name from duckdb_columns() where not internal and schema_name = 'internal'"
    )
    tables = rows(copy, "select table_name from duckdb_tables()")
    assert {name for (name,) in tables} == PUBLISHED_COLUMNS.keys()
    assert {column for table, column in columns if table == "accounts"} == {"account_id", "name"}
    assert [secret for secret in SECRETS if secret in copy.read_bytes()] == []


def test_a_view_used_only_by_checks_is_not_published(sample: SampleWarehouse) -> None:
    private = {view.name for view in views.load()} - {view.name for view in views.public_views()}
    assert private == {"closed_days"}  # it reads tables that are not copied
    published = {
        name for (name,) in rows(publish_sample(sample), "select view_name from duckdb_views() where not internal")
    }
    assert published == {view.name for view in views.public_views()} | {views.MARKER}


def test_the_copy_is_one_read_only_file_in_a_format_that_bi_tools_read(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    assert file_names(sample.folder / "bi") == ["warehouse.duckdb"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o444
    assert "v1.2.0" in str(rows(copy, "select tags from duckdb_databases() where database_name = 'warehouse'"))


def test_publishing_does_not_change_the_warehouse(sample: SampleWarehouse) -> None:
    before = sample.file.read_bytes()
    publish_sample(sample)
    assert sample.file.read_bytes() == before


def test_an_old_write_ahead_log_is_not_applied_to_a_new_copy(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    copy.with_name("warehouse.duckdb.wal").write_bytes(b"log of another file")
    publish_sample(sample)
    assert file_names(copy.parent) == ["warehouse.duckdb"]


def test_sync_does_not_write_into_a_copy(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    before = copy.read_bytes()
    arguments = ["sync", "--warehouse", str(copy)]
    variables = {"ANTICAPTCHA_CLIENT_KEY": "any-text", "ANTICAPTCHA_API_URL": "http://127.0.0.1:9"}
    assert run(arguments, Environment(variables, sample.folder)) == 4
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
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
def test_commands_that_need_the_warehouse_report_that_the_file_is_a_copy(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]], arguments: list[str]
) -> None:
    copy = publish_sample(sample)
    before = copy.read_bytes()
    code, _, error = command(*arguments, "--warehouse", str(copy))
    assert (code, "is a published copy" in error, "--warehouse" in error) == (4, True, True)
    assert copy.read_bytes() == before
    assert [name for name in file_names(sample.folder) if name not in ("bi", "warehouse.duckdb")] == []


# ---------------------------------------------------------------- the path


def test_a_copy_in_a_folder_has_the_name_of_the_warehouse_and_a_file_path_is_used_as_given(
    sample: SampleWarehouse,
) -> None:
    assert resolve_target(sample.url, sample.folder / "bi") == sample.folder / "bi" / "warehouse.duckdb"
    assert (
        resolve_target(sample.url, sample.folder / "bi" / "spending.duckdb") == sample.folder / "bi" / "spending.duckdb"
    )


@pytest.mark.parametrize("path", [".", "warehouse.duckdb", "link.duckdb", "notes.txt", "no/such/x.duckdb", "no/such"])
def test_a_path_that_is_not_a_copy_is_rejected_and_not_changed(sample: SampleWarehouse, path: str) -> None:
    (sample.folder / "notes.txt").write_text("mine")
    (sample.folder / "link.duckdb").symlink_to(sample.file)
    before = {file: file.read_bytes() for file in sample.folder.iterdir() if file.is_file()}
    with pytest.raises(UsageError) as caught:
        publish(sample.url, resolve_target(sample.url, sample.folder / path), CLOCK, wait=5)
    assert caught.value.hint
    assert {file: file.read_bytes() for file in sample.folder.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("path", [".", "warehouse.duckdb", "link.duckdb", "hard.duckdb", "archive.duckdb", "notes.txt"])
def test_a_read_only_file_that_publish_did_not_write_is_not_replaced(sample: SampleWarehouse, path: str) -> None:
    shutil.copy(sample.file, sample.folder / "archive.duckdb")
    (sample.folder / "notes.txt").write_text("mine")
    for file in (sample.file, sample.folder / "archive.duckdb", sample.folder / "notes.txt"):
        file.chmod(0o444)
    (sample.folder / "link.duckdb").symlink_to(sample.file)
    (sample.folder / "hard.duckdb").hardlink_to(sample.file)
    with pytest.raises(UsageError, match=r"is the warehouse itself|publish did not write this file"):
        resolve_target(sample.url, sample.folder / path)


@pytest.mark.parametrize("path", ["new", "new/", "links/bi"])
def test_a_new_folder_is_created_in_an_existing_one(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]], path: str
) -> None:
    (sample.folder / "real").mkdir()
    (sample.folder / "links").symlink_to(sample.folder / "real")
    assert command("publish", path, "-q") == (0, "", "")
    assert file_names(sample.folder / path) == ["warehouse.duckdb"]
    assert command("publish", path, "-q") == (0, "", "")


@pytest.mark.parametrize("link", ["link.duckdb", "folder/warehouse.duckdb"])
def test_a_symbolic_link_stays_and_its_target_is_replaced(sample: SampleWarehouse, link: str) -> None:
    real, link_path = sample.folder / "bi" / "real.duckdb", sample.folder / link
    link_path.parent.mkdir(exist_ok=True)
    link_path.symlink_to(real)
    for _ in range(2):  # the link's target does not exist before the first time
        target = resolve_target(sample.url, link_path.parent if "folder" in link else link_path)
        assert publish(sample.url, target, CLOCK, wait=5).path == real
        assert link_path.readlink() == real
        assert rows(link_path, "select count(*) from spending_hourly") == [(HOURS,)]
    assert file_names(real.parent) == ["real.duckdb"]


@pytest.mark.parametrize("name", ["what?.duckdb", f"{'x' * 300}.duckdb", f"{'x' * 245}.duckdb"])
def test_an_impossible_file_name_is_reported_and_no_file_is_left(sample: SampleWarehouse, name: str) -> None:
    with pytest.raises((UsageError, WarehouseError)) as caught:
        publish(sample.url, resolve_target(sample.url, sample.folder / "bi" / name), CLOCK, wait=5)
    assert caught.value.hint
    assert file_names(sample.folder / "bi") == []


# ---------------------------------------------------------------- refusals


def test_a_blocking_finding_keeps_the_previous_copy_unless_forced(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    before = copy.read_bytes()
    sample.write(BROKEN)
    with pytest.raises(ChecksFailedError, match=r"add up to exactly the account's total.*: 1 row, 2026-10-31"):
        publish_sample(sample)
    assert copy.read_bytes() == before
    assert file_names(copy.parent) == ["warehouse.duckdb"]
    publish_sample(sample, force=True)
    assert rows(copy, "select count(*) from spending_hourly where queue = '(unattributed)'") == [(1,)]


def test_a_blocking_check_of_the_user_blocks_too(sample: SampleWarehouse) -> None:
    (sample.folder / "checks").mkdir()
    (sample.folder / "checks" / "never.sql").write_text("-- it is never true\n-- severity: blocking\nselect 1 as one")
    target = resolve_target(sample.url, sample.folder / "bi")
    with pytest.raises(ChecksFailedError, match="it is never true"):
        publish(sample.url, target, CLOCK, wait=5, checks_folder=sample.folder / "checks")
    assert not target.exists()


def test_views_of_another_version_have_to_be_migrated_first(sample: SampleWarehouse) -> None:
    sample.write("create or replace view internal.warehouse_version as select '0004' as revision, 'other' as views")
    with pytest.raises(WarehouseError) as caught:
        publish_sample(sample)
    assert "anticaptcha-etl migrate" in caught.value.hint


def test_a_full_disk_keeps_the_previous_copy(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    before = copy.read_bytes()
    program = """if True:
        import resource, signal, sys
        sys.dont_write_bytecode = True
        from etl.cli import run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        sys.exit(run(["publish", "bi"]))
    """
    assert sample.file.stat().st_size > 200_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=sample.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "hint:" in done.stderr
    assert copy.read_bytes() == before
    assert file_names(copy.parent) == ["warehouse.duckdb"]


def test_a_second_publish_to_the_same_path_waits_and_then_fails(sample: SampleWarehouse) -> None:
    target = resolve_target(sample.url, sample.folder / "bi")
    with (
        atomic.temporary_beside(target, CLOCK, wait=0),
        pytest.raises(WarehouseLockedError, match="another process is writing"),
        atomic.temporary_beside(target, CLOCK, wait=0.1),
    ):
        pass
    assert publish_sample(sample) == target


# ---------------------------------------------------------------- readers and killed processes

READER = """
import sys, time, duckdb
seen = []
print("ready", flush=True)
while not seen or seen[-1] < int(sys.argv[2]):
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        by_queue = connection.execute("select sum(money), min(money), max(money) from spending_hourly").fetchone()
        total = connection.execute("select sum(money), min(money), max(money) from spending_total_hourly").fetchone()
        days = connection.execute("select sum(money) / 24, min(money) / 24, max(money) / 24 from coverage_daily").fetchone()
    assert by_queue == total and by_queue[1] == by_queue[2] == days[1] == days[2], (by_queue, total, days)
    seen.append(int(by_queue[1]))
    time.sleep(0.03)
assert seen == sorted(seen), seen
print(len(seen), len(set(seen)))
"""
"""Read until the last state is seen. Each read must see exactly one state, and never an earlier one than before."""


@pytest.mark.slow
def test_readers_see_one_published_state_or_the_next_and_never_an_error(sample: SampleWarehouse) -> None:
    sample.set_price(Decimal(1))
    copy = publish_sample(sample)
    command = [sys.executable, "-c", READER, str(copy), "21"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        try:
            for state in range(2, 22):
                sample.set_price(Decimal(state))
                publish_sample(sample, force=True)  # the checks would take most of the time
            output, error = reader.communicate(timeout=60)
        finally:
            reader.kill()  # otherwise a failed publish would leave it waiting forever
    assert (reader.returncode, error) == (0, "")
    reads, states = map(int, output.split())
    assert reads >= states > 10


def test_a_reader_with_the_old_copy_open_keeps_reading_it(sample: SampleWarehouse) -> None:
    copy = publish_sample(sample)
    with duckdb.connect(copy, read_only=True) as old:
        sample.set_price(Decimal(2))
        publish_sample(sample)
        assert old.execute("select max(money) from spending_hourly").fetchone() == (Decimal("1.000000001"),)
    assert rows(copy, "select max(money) from spending_hourly") == [(Decimal(2),)]


@pytest.mark.slow
def test_a_killed_publish_leaves_the_old_copy_or_the_new_and_the_next_one_cleans_up(sample: SampleWarehouse) -> None:
    random_numbers = random.Random(5)
    sample.set_price(Decimal(0))
    copy = publish_sample(sample)
    state, killed = Decimal(0), 0
    for price in map(Decimal, range(1, 16)):
        sample.set_price(price)
        program = "import etl.outputs.publish, sys; from etl.cli import run; print(flush=True); sys.exit(run(['publish', 'bi', '-q']))"
        with subprocess.Popen([sys.executable, "-c", program], cwd=sample.folder, stdout=subprocess.PIPE) as publisher:
            assert publisher.stdout is not None
            publisher.stdout.readline()
            threading.Event().wait(random_numbers.uniform(0, 0.5))
            publisher.send_signal(signal.SIGKILL)
        killed += publisher.returncode == -signal.SIGKILL
        [(seen,)] = rows(copy, "select distinct money from spending_hourly")
        assert seen in (state, price)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o444
        state = seen
    assert killed >= 5
    publish_sample(sample)
    assert file_names(copy.parent) == ["warehouse.duckdb"]
    assert rows(copy, "select distinct money from spending_hourly") == [(Decimal(15),)]


@pytest.mark.parametrize("state", ["unfinished", "unfinished, and the old folder moved away"])
def test_leftovers_of_a_killed_process_are_deleted_or_rolled_back(tmp_path: Path, state: str) -> None:
    target = tmp_path / "out"
    temporary = tmp_path / ".out.draft"
    (temporary / "made" / "out").mkdir(parents=True)
    (temporary / "made" / "out" / "half").write_text("half")
    if "moved" in state:
        (temporary / "before").mkdir()
        (temporary / "before" / "whole").write_text("whole")
    with atomic.temporary_beside(target, CLOCK, wait=0) as new:
        assert list(new.iterdir()) == []
        assert file_names(tmp_path) == [".out.draft", *(["out"] if "moved" in state else [])]
    assert file_names(tmp_path) == (["out"] if "moved" in state else [])


# ---------------------------------------------------------------- the command


@pytest.fixture
def command(sample: SampleWarehouse, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str, **variables: str) -> tuple[int, str, str]:
        code = run(arguments, Environment(variables, sample.folder))
        return code, *capsys.readouterr()

    return command


def test_the_command_reports_the_path_of_the_copy_which_a_setting_may_give(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]]
) -> None:
    copy = sample.folder / "bi" / "spending.duckdb"
    code, output, _ = command("publish", "bi/spending.duckdb")
    assert (code, output) == (0, f"Published {copy}: {HOURS} rows in spending_hourly, {copy.stat().st_size:,} bytes\n")
    assert command("publish", "-q", ANTICAPTCHA_PUBLISH="bi") == (0, "", "")
    assert file_names(sample.folder / "bi") == ["spending.duckdb", "warehouse.duckdb"]
    code, _, error = command("publish")
    assert code == 2
    assert "publish = PATH" in error


def test_a_blocking_finding_is_exit_code_5_and_printed(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]]
) -> None:
    sample.write(BROKEN)
    code, _, error = command("publish", "bi")
    assert code == 5
    assert "add up to exactly the account's total" in error
    assert "publish --force" in error
    assert command("publish", "bi", "--force")[0] == 0

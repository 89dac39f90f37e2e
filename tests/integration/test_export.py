"""Exported views and query results as files: exact values, types that other engines read, atomic replacement."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.cli import run
from etl.clock import Clock
from etl.config import Environment
from etl.errors import UsageError, WarehouseError
from etl.outputs.export import MANIFEST, export
from etl.outputs.query import write_parquet
from etl.warehouse import views
from tests.integration.sample_warehouse import FILLED, HOURS, SampleWarehouse, rows
from tests.integration.test_query import REFUSED

NOW = datetime(2026, 11, 22, 9, 30, 0, 7, tzinfo=UTC)
VIEWS = [view.name for view in views.public_views()]
EXACT = {
    "DECIMAL(18,1)",
    "VARCHAR",
    "INTEGER",
    "BIGINT",
    "DECIMAL(12,3)",
    "DECIMAL(18,9)",
    "TIMESTAMP",
    "DATE",
    "BOOLEAN",
}
"""Types that Spark, Trino and ClickHouse read without conversion."""


@pytest.fixture
def sample(migrated_file: Path, tmp_path: Path) -> SampleWarehouse:
    return filled(migrated_file, tmp_path)


@pytest.fixture(scope="module")
def untouched_sample(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleWarehouse:
    """A warehouse that no test changes."""
    return filled(migrated_file, tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def exported_sample(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleWarehouse:
    """A warehouse and its export in the folder `out`, which tests only read."""
    sample = filled(migrated_file, tmp_path_factory.mktemp("exported"))
    export_sample(sample)
    return sample


@pytest.fixture(scope="module")
def exported_without_revisions(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleWarehouse:
    sample = filled(migrated_file, tmp_path_factory.mktemp("exported"))
    sample.write("delete from internal.revisions")
    export_sample(sample)
    return sample


def filled(migrated_file: Path, folder: Path) -> SampleWarehouse:
    sample = SampleWarehouse(folder)
    shutil.copy(migrated_file, sample.file)
    sample.write(FILLED)
    return sample


def export_sample(sample: SampleWarehouse, file_format: Any = "parquet", account: str | None = None) -> Path:
    export(sample.url, sample.folder / "out", file_format, Clock(now=lambda: NOW), wait=5, account=account)
    return sample.folder / "out"


def parquet(folder: Path, view: str) -> str:
    return f"read_parquet('{folder}/{view}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"


def query(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def column_types(sql: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in query(f"describe from {sql}")}


def list_files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# ---------------------------------------------------------------- parquet


@pytest.mark.parametrize("view", VIEWS)
def test_parquet_has_the_rows_of_the_view(exported_sample: SampleWarehouse, view: str) -> None:
    sample, out = exported_sample, exported_sample.folder / "out"
    names = ", ".join(name for name, *_ in rows(sample.file, f"describe {view}"))
    found = query(f"select {names} from {parquet(out, view)} order by all")
    assert found == rows(sample.file, f"select {names} from {view} order by all")


def test_sums_over_parquet_are_exact(sample: SampleWarehouse) -> None:
    out = export_sample(sample)
    sums = "select account, cast(hour_start as date) as day, sum(money), sum(volume) from {} group by all order by all"
    assert query(sums.format(parquet(out, "spending_hourly"))) == rows(sample.file, sums.format("spending_hourly"))
    assert query(f"select sum(money) from {parquet(out, 'spending_hourly')}")[0] == (HOURS * Decimal("1.000000001"),)


@pytest.mark.parametrize("view", VIEWS)
def test_column_types_are_exact_even_without_rows(exported_without_revisions: SampleWarehouse, view: str) -> None:
    sample, out = exported_without_revisions, exported_without_revisions.folder / "out"
    expected = {name: kind for name, kind, *_ in rows(sample.file, f"describe {view}")}
    of_files = column_types(parquet(out, view))
    assert set(expected.values()) <= EXACT
    assert {name: kind for name, kind in of_files.items() if name in expected} == expected
    assert of_files.keys() - expected.keys() <= {"month"}
    parquet_types = query(f"select distinct type, logical_type from parquet_schema('{out}/{view}/**/*.parquet')")
    assert {kind for kind, _ in parquet_types if kind} <= {"BYTE_ARRAY", "INT64", "INT32", "BOOLEAN"}
    assert [kind for _, kind in parquet_types if kind and "Timestamp" in kind and "isAdjustedToUTC=0" not in kind] == []


def test_files_are_partitioned_by_account_and_month(sample: SampleWarehouse) -> None:
    out = export_sample(sample)
    name = "20261122T093000000007_0.parquet"
    exported = list_files(out)
    assert [file for file in exported if file.startswith("spending_hourly/")] == [
        f"spending_hourly/account={account}/month=2026-{month}/{name}"
        for account in ("default", "shop")
        for month in ("10", "11")
    ]
    assert [file for file in exported if file.startswith("spending_daily/")] == [
        f"spending_daily/account={account}/{name}" for account in ("default", "shop")
    ]
    stored_columns = column_types(
        f"read_parquet('{out}/spending_hourly/account=shop/month=2026-11/{name}', hive_partitioning = false)"
    )
    assert not {"account", "month"} & stored_columns.keys()


@pytest.mark.parametrize("name", ["a=b", "a?b", "%", "..", "x/../../../../gone", "ü 漢"])
def test_an_account_with_any_name_has_one_folder_per_view_even_without_rows(sample: SampleWarehouse, name: str) -> None:
    sample.write(
        f"update internal.accounts set name = '{name}' where account_id = 1; update internal.accounts set name = "
        "'zz' where account_id = 2"
    )
    out = export_sample(sample, account=name)
    assert sorted(file.name for file in sample.folder.iterdir()) == ["out", "warehouse.duckdb"]
    for view in ("spending_daily", "spending_rejections"):
        assert len(list((out / view).iterdir())) == 1
        [(account,)] = query(f"select distinct account from {parquet(out, view)}") or [(name,)]
        assert account == name


def test_the_manifest_has_the_time_the_account_and_the_row_counts(sample: SampleWarehouse) -> None:
    manifest = json.loads((export_sample(sample, account="shop") / MANIFEST).read_text())
    assert (manifest["exported_at"], manifest["account"], manifest["format"]) == (
        "2026-11-22T09:30:00.000007Z",
        "shop",
        "parquet",
    )
    assert manifest["rows"] == {view: len(rows(sample.file, f"from {view} where account = 'shop'")) for view in VIEWS}
    assert manifest["rows"]["spending_hourly"] == HOURS // 2


def test_one_account_can_be_exported_and_an_unknown_one_is_rejected(sample: SampleWarehouse) -> None:
    out = export_sample(sample, account="shop")
    assert not [file for file in list_files(out) if "account=default" in file]
    with pytest.raises(UsageError) as caught:
        export_sample(sample, account="unknown")
    assert caught.value.hint == "accounts in it: default, shop"


# ---------------------------------------------------------------- csv


def test_csv_has_one_sorted_file_per_view_with_exact_values(sample: SampleWarehouse) -> None:
    out = export_sample(sample, "csv")
    assert list_files(out) == sorted([MANIFEST, *(f"{view}.csv" for view in VIEWS)])
    with (out / "spending_hourly.csv").open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert len(exported) == HOURS
    assert {row["money"] for row in exported} == {"1.000000001"}
    assert {row["queue"] for row in exported} == {"FunCaptcha", 'O\'Brien "x"'}
    assert exported == sorted(exported, key=lambda row: (row["account"], row["queue"], row["hour_start"]))
    assert exported[0]["hour_start"] == "2026-10-31T00:00:00Z"
    assert (out / "spending_rejections.csv").read_text() == "account,queue,day,reason,raw,seen_at,hour_start\n"


# ---------------------------------------------------------------- replacing


def test_an_export_replaces_the_previous_one_completely(sample: SampleWarehouse) -> None:
    export_sample(sample)
    out = export_sample(sample, "csv")
    assert not [file for file in list_files(out) if file.endswith(".parquet")]
    assert sorted(file.name for file in sample.folder.iterdir()) == ["out", "warehouse.duckdb"]


def test_an_empty_folder_can_be_exported_to(sample: SampleWarehouse) -> None:
    (sample.folder / "out").mkdir()
    assert list_files(export_sample(sample))


@pytest.mark.parametrize(
    "existing", ["a file", "notes", "notes in an export", "a view's name alone", "a link", "a missing parent"]
)
def test_files_that_no_export_wrote_are_not_replaced(sample: SampleWarehouse, existing: str) -> None:
    out = sample.folder / "out"
    if existing == "a file":
        out.write_text("mine")
    elif existing == "a link":
        (sample.folder / "elsewhere").mkdir()
        out.symlink_to(sample.folder / "elsewhere")
    elif existing == "a missing parent":
        out = out / "further"
    else:
        export_sample(sample) if "export" in existing else out.mkdir()
        (out / ("spending_hourly.csv" if "view" in existing else "notes.txt")).write_text("mine")
    before = list_files(sample.folder)
    with pytest.raises(UsageError) as caught:
        export(sample.url, out, "parquet", Clock(), wait=5)
    assert caught.value.hint
    assert list_files(sample.folder) == before


def test_a_locked_warehouse_is_reported_and_no_file_is_left(sample: SampleWarehouse) -> None:
    code = f"import duckdb, time; c = duckdb.connect({str(sample.file)!r}); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match="is locked by"):
            export(sample.url, sample.folder / "out", "csv", Clock(), wait=0.1)
        other.kill()
    assert sorted(file.name for file in sample.folder.iterdir()) == ["warehouse.duckdb"]


@pytest.mark.slow
def test_a_killed_export_leaves_the_previous_one_or_none_but_never_a_part(sample: SampleWarehouse) -> None:
    export_sample(sample)
    for number in range(8):
        program = "import etl.outputs.export, sys; from etl.cli import run; print(flush=True); sys.exit(run(['export', 'out', '-q']))"
        with subprocess.Popen([sys.executable, "-c", program], cwd=sample.folder, stdout=subprocess.PIPE) as exporter:
            assert exporter.stdout is not None
            exporter.stdout.readline()
            threading.Event().wait(number * 0.1)
            exporter.send_signal(signal.SIGKILL)
        if (sample.folder / "out").exists():
            assert len(list((sample.folder / "out").iterdir())) == len(VIEWS) + 1  # and the manifest
            assert query(f"select count(*) from {parquet(sample.folder / 'out', 'spending_hourly')}") == [(HOURS,)]
    export_sample(sample)
    assert sorted(file.name for file in sample.folder.iterdir()) == ["out", "warehouse.duckdb"]


# ---------------------------------------------------------------- query --format parquet


def test_a_query_writes_parquet_with_exact_values(sample: SampleWarehouse) -> None:
    target = sample.folder / "x.parquet"
    write_parquet(
        sample.url,
        "select queue, sum(volume) as n, sum(money) as m, max(hour_end) as t from spending_hourly group by 1;",
        target,
    )
    assert list(column_types(f"'{target}'").values()) == ["VARCHAR", "DECIMAL(38,0)", "DECIMAL(38,9)", "TIMESTAMP"]
    first = query(f"from '{target}' order by queue limit 1")[0]
    assert first == ("FunCaptcha", Decimal(216), Decimal("72.000000072"), datetime(2026, 11, 3))


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("cast('99999999999999999999999999999999999999' as hugeint)", "DECIMAL(38,0)", Decimal(10**38 - 1)),
        ("9007199254740993::uhugeint", "DECIMAL(38,0)", Decimal(9007199254740993)),
        ("cast('0b1e5f4e-0000-0000-0000-000000000001' as uuid)", "VARCHAR", "0b1e5f4e-0000-0000-0000-000000000001"),
        ("time '10:00:00'", "VARCHAR", "10:00:00"),
        ("interval 1 day", "VARCHAR", "1 day"),
        ("[1.5, null]", "DECIMAL(2,1)[]", [Decimal("1.5"), None]),
    ],
)
def test_types_that_parquet_cannot_store_exactly_are_converted(
    sample: SampleWarehouse, sql: str, kind: str, value: object
) -> None:
    target = sample.folder / "x.parquet"
    write_parquet(sample.url, f'select {sql} as "a ""b"""', target)
    assert column_types(f"'{target}'") == {'a "b"': kind}
    assert query(f"from '{target}'")[0] == (value,)


def test_a_nested_type_that_parquet_cannot_store_exactly_is_rejected(sample: SampleWarehouse) -> None:
    with pytest.raises(UsageError, match="HUGEINT, which is inside column 'a'"):
        write_parquet(sample.url, "select {'n': 1::hugeint} as a", sample.folder / "x.parquet")


def test_a_symbolic_link_stays_and_its_target_is_replaced(sample: SampleWarehouse) -> None:
    link, real = sample.folder / "link.parquet", sample.folder / "real.parquet"
    link.symlink_to(real)
    write_parquet(sample.url, "select 1 as a", link)
    assert link.is_symlink()
    assert query(f"from '{real}'") == [(1,)]


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to a pipe"])
def test_a_path_that_is_not_a_regular_file_is_not_replaced(sample: SampleWarehouse, kind: str) -> None:
    existing = sample.folder / "there"
    existing.mkdir() if kind == "a folder" else os.mkfifo(existing)
    target = sample.folder / "x.parquet" if "link" in kind else existing
    if "link" in kind:
        target.symlink_to(existing)
    with pytest.raises(UsageError, match="not a regular file"):
        write_parquet(sample.url, "select 1 as a", target)
    assert not existing.is_file()
    assert target.is_symlink() == ("link" in kind)


def test_a_full_disk_is_reported_and_the_previous_file_stays(sample: SampleWarehouse) -> None:
    (sample.folder / "x.parquet").write_text("previous")
    program = """if True:
        import resource, signal, sys
        sys.dont_write_bytecode = True
        from etl.cli import run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        sys.exit(run(["query", "select hash(range) as a from range(100000)", "-o", "x.parquet"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=sample.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "hint:" in done.stderr
    assert (sample.folder / "x.parquet").read_text() == "previous"
    assert sorted(file.name for file in sample.folder.iterdir()) == ["warehouse.duckdb", "x.parquet"]


REJECTED_ONLY_AS_TEXT = {
    "select * from read_blob('{folder}/warehouse.duckdb')": "the warehouse itself, as bytes",
}
"""Rejected by the text formats because they cannot show bytes; Parquet can store them."""


@pytest.mark.parametrize("sql", [sql for sql in REFUSED if sql not in REJECTED_ONLY_AS_TEXT])
def test_a_query_for_parquet_reads_only_the_warehouse_and_writes_only_its_file(
    untouched_sample: SampleWarehouse, sql: str
) -> None:
    sample = untouched_sample
    before = sample.file.read_bytes()
    with pytest.raises(UsageError):
        write_parquet(sample.url, sql.format(folder=sample.folder), sample.folder / "x.parquet")
    assert list_files(sample.folder) == ["warehouse.duckdb"]
    assert sample.file.read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "select 1) to '{folder}/evil.parquet' (format parquet); --",
        "select 1; copy (select 1) to '{folder}/evil.csv'",
        "select 1 /*",
        'select 1 as "a""; copy (select 1) to \'{folder}/evil.csv\'; --',
        "select * from read_text('{folder}/.x.parquet.draft/../warehouse.duckdb')",
        "select * from read_text('{folder}/.x.parquet.draft/made/../../../../etc/passwd')",
        "select * from glob('{folder}/*')",
        "select * from '{folder}/warehouse.duckdb'",
        "select * from parquet_source",
        "select getenv('HOME')",
    ],
)
def test_no_query_text_reads_or_writes_other_files(sample: SampleWarehouse, sql: str) -> None:
    with pytest.raises(UsageError):
        write_parquet(sample.url, sql.format(folder=sample.folder), sample.folder / "x.parquet")
    assert list_files(sample.folder) == ["warehouse.duckdb"]


def test_a_comment_at_the_end_of_a_query_does_not_break_the_statement(sample: SampleWarehouse) -> None:
    write_parquet(sample.url, "select 1 as one; -- a comment", sample.folder / "x.parquet")
    assert query(f"from '{sample.folder}/x.parquet'") == [(1,)]


# ---------------------------------------------------------------- the commands


@pytest.fixture
def command(sample: SampleWarehouse, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments, Environment({}, sample.folder))
        return code, *capsys.readouterr()

    return command


def test_export_reports_its_folder_and_the_number_of_rows(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]]
) -> None:
    number = sum(len(rows(sample.file, f"from {view}")) for view in VIEWS)
    assert command("export", "out") == (0, f"Exported {len(VIEWS)} views, {number} rows to {sample.folder}/out\n", "")
    assert command("export", "--format", "csv", "--account", "shop", "out", "-q") == (0, "", "")
    assert command("export", "--account", "unknown", "out")[0] == 2


def test_parquet_is_chosen_by_the_file_name_or_by_format(
    sample: SampleWarehouse, command: Callable[..., tuple[int, str, str]]
) -> None:
    assert command("query", "select 1 as a", "-o", "a.parquet") == (0, "", "")
    assert command("query", "select 2 as a", "-o", "b", "--format", "parquet") == (0, "", "")
    assert query(f"from read_parquet(['{sample.folder}/a.parquet', '{sample.folder}/b'])") == [(1,), (2,)]
    code, _, error = command("query", "select 1", "--format", "parquet")
    assert (code, "-o FILE.parquet" in error) == (2, True)
    assert command("query", "select 1", "-o", "no/such.parquet")[0] == 2

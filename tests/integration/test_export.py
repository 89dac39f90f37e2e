"""Open files of the views, and of a query: exact to the last digit, in types that other engines read, whole or not
there."""

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
from tests.integration.sample_warehouse import FILLED, HOURS, Bank, rows
from tests.integration.test_query import REFUSED

NOW = datetime(2026, 11, 22, 9, 30, 0, 7, tzinfo=UTC)
VIEWS = [view.name for view in views.shared()]
EXACT = {"VARCHAR", "INTEGER", "BIGINT", "DECIMAL(12,3)", "DECIMAL(18,9)", "TIMESTAMP", "DATE", "BOOLEAN"}
"""What Spark, Trino and ClickHouse read as it is."""


@pytest.fixture
def bank(migrated_file: Path, tmp_path: Path) -> Bank:
    bank = Bank(tmp_path)
    shutil.copy(migrated_file, bank.file)
    bank.write(FILLED)
    return bank


def written(bank: Bank, form: Any = "parquet", account: str | None = None) -> Path:
    return export(bank.url, bank.folder / "out", form, Clock(now=lambda: NOW), wait=5, account=account).path


def read(folder: Path, view: str) -> str:
    return f"read_parquet('{folder}/{view}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"


def memory(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def columns(sql: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in memory(f"describe from {sql}")}


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# ---------------------------------------------------------------- parquet


@pytest.mark.parametrize("view", VIEWS)
def test_parquet_gives_back_the_rows_of_the_view(bank: Bank, view: str) -> None:
    out = written(bank)
    names = ", ".join(name for name, *_ in rows(bank.file, f"describe {view}"))
    again = memory(f"select {names} from {read(out, view)} order by all")
    assert again == rows(bank.file, f"select {names} from {view} order by all")


def test_sums_are_the_same_to_the_last_digit(bank: Bank) -> None:
    out = written(bank)
    sums = "select account, cast(hour_start as date) as day, sum(money), sum(volume) from {} group by all order by all"
    assert memory(sums.format(read(out, "spending_hourly"))) == rows(bank.file, sums.format("spending_hourly"))
    assert memory(f"select sum(money) from {read(out, 'spending_hourly')}")[0] == (HOURS * Decimal("1.000000001"),)


@pytest.mark.parametrize("view", VIEWS)
def test_types_are_exact_everywhere_also_where_there_is_no_row(bank: Bank, view: str) -> None:
    bank.write("delete from internal.revisions")
    out = written(bank)
    promised = {name: kind for name, kind, *_ in rows(bank.file, f"describe {view}")}
    held = columns(read(out, view))
    assert set(promised.values()) <= EXACT
    assert {name: kind for name, kind in held.items() if name in promised} == promised
    assert held.keys() - promised.keys() <= {"month"}
    told = memory(f"select distinct type, logical_type from parquet_schema('{out}/{view}/**/*.parquet')")
    assert {kind for kind, _ in told if kind} <= {"BYTE_ARRAY", "INT64", "INT32", "BOOLEAN"}
    assert [kind for _, kind in told if kind and "Timestamp" in kind and "isAdjustedToUTC=0" not in kind] == []


def test_files_stand_in_folders_by_account_and_month(bank: Bank) -> None:
    out = written(bank)
    name = "20261122T093000000007_0.parquet"
    held = files(out)
    assert [file for file in held if file.startswith("spending_hourly/")] == [
        f"spending_hourly/account={account}/month=2026-{month}/{name}"
        for account in ("default", "shop")
        for month in ("10", "11")
    ]
    assert [file for file in held if file.startswith("spending_daily/")] == [
        f"spending_daily/account={account}/{name}" for account in ("default", "shop")
    ]
    inside = columns(
        f"read_parquet('{out}/spending_hourly/account=shop/month=2026-11/{name}', hive_partitioning = false)"
    )
    assert not {"account", "month"} & inside.keys()


@pytest.mark.parametrize("name", ["a=b", "a?b", "%", "..", "x/../../../../gone", "ü 漢"])
def test_whatever_an_account_is_called_its_files_stand_in_one_folder_with_or_without_rows(
    bank: Bank, name: str
) -> None:
    bank.write(
        f"update internal.accounts set name = '{name}' where account_id = 1; update internal.accounts set name = "
        "'zz' where account_id = 2"
    )
    out = written(bank, account=name)
    assert sorted(file.name for file in bank.folder.iterdir()) == ["out", "warehouse.duckdb"]
    for view in ("spending_daily", "spending_rejections"):
        assert len(list((out / view).iterdir())) == 1
        [(told,)] = memory(f"select distinct account from {read(out, view)}") or [(name,)]
        assert told == name


def test_the_export_says_what_it_holds_and_as_of_when(bank: Bank) -> None:
    about = json.loads((written(bank, account="shop") / MANIFEST).read_text())
    assert (about["exported_at"], about["account"], about["format"]) == (
        "2026-11-22T09:30:00.000007Z",
        "shop",
        "parquet",
    )
    assert about["rows"] == {view: len(rows(bank.file, f"from {view} where account = 'shop'")) for view in VIEWS}
    assert about["rows"]["spending_hourly"] == HOURS // 2


def test_one_account_is_written_alone_and_a_strange_one_is_refused(bank: Bank) -> None:
    out = written(bank, account="shop")
    assert not [file for file in files(out) if "account=default" in file]
    with pytest.raises(UsageError) as caught:
        written(bank, account="nobody")
    assert caught.value.hint == "accounts in it: default, shop"


# ---------------------------------------------------------------- csv


def test_csv_is_a_file_a_view_in_order_with_every_digit(bank: Bank) -> None:
    out = written(bank, "csv")
    assert files(out) == sorted([MANIFEST, *(f"{view}.csv" for view in VIEWS)])
    with (out / "spending_hourly.csv").open(newline="") as file:
        held = list(csv.DictReader(file))
    assert len(held) == HOURS
    assert {row["money"] for row in held} == {"1.000000001"}
    assert {row["queue"] for row in held} == {"FunCaptcha", 'O\'Brien "x"'}
    assert held == sorted(held, key=lambda row: (row["account"], row["queue"], row["hour_start"]))
    assert held[0]["hour_start"] == "2026-10-31T00:00:00Z"
    assert (out / "spending_rejections.csv").read_text() == "account,queue,day,reason,raw,seen_at,hour_start\n"


# ---------------------------------------------------------------- whole or not there


def test_an_export_takes_the_place_of_the_one_before_and_leaves_nothing_else(bank: Bank) -> None:
    written(bank)
    out = written(bank, "csv")
    assert not [file for file in files(out) if file.endswith(".parquet")]
    assert sorted(file.name for file in bank.folder.iterdir()) == ["out", "warehouse.duckdb"]


def test_an_empty_folder_is_taken(bank: Bank) -> None:
    (bank.folder / "out").mkdir()
    assert files(written(bank))


@pytest.mark.parametrize(
    "what", ["a file", "notes", "notes in an export", "a view's name alone", "a link", "a missing parent"]
)
def test_what_no_export_wrote_is_not_replaced(bank: Bank, what: str) -> None:
    out = bank.folder / "out"
    if what == "a file":
        out.write_text("mine")
    elif what == "a link":
        (bank.folder / "elsewhere").mkdir()
        out.symlink_to(bank.folder / "elsewhere")
    elif what == "a missing parent":
        out = out / "further"
    else:
        written(bank) if "export" in what else out.mkdir()
        (out / ("spending_hourly.csv" if "view" in what else "notes.txt")).write_text("mine")
    before = files(bank.folder)
    with pytest.raises(UsageError) as caught:
        export(bank.url, out, "parquet", Clock(), wait=5)
    assert caught.value.hint
    assert files(bank.folder) == before


def test_a_warehouse_that_is_held_is_told_and_nothing_is_left(bank: Bank) -> None:
    code = f"import duckdb, time; c = duckdb.connect({str(bank.file)!r}); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match="is locked by"):
            export(bank.url, bank.folder / "out", "csv", Clock(), wait=0.1)
        other.kill()
    assert sorted(file.name for file in bank.folder.iterdir()) == ["warehouse.duckdb"]


@pytest.mark.slow
def test_a_killed_export_leaves_the_one_before_or_none_and_never_half(bank: Bank) -> None:
    written(bank)
    for number in range(8):
        program = "import etl.outputs.export, sys; from etl.cli import run; print(flush=True); sys.exit(run(['export', 'out', '-q']))"
        with subprocess.Popen([sys.executable, "-c", program], cwd=bank.folder, stdout=subprocess.PIPE) as exporter:
            assert exporter.stdout is not None
            exporter.stdout.readline()
            threading.Event().wait(number * 0.1)
            exporter.send_signal(signal.SIGKILL)
        if (bank.folder / "out").exists():
            assert len(list((bank.folder / "out").iterdir())) == len(VIEWS) + 1  # and what the export says of itself
            held = memory(f"select count(*) from {read(bank.folder / 'out', 'spending_hourly')}")[0]
            assert held == (HOURS,)
    written(bank)
    assert sorted(file.name for file in bank.folder.iterdir()) == ["out", "warehouse.duckdb"]


# ---------------------------------------------------------------- query --format parquet


def test_a_query_writes_parquet_with_every_digit(bank: Bank) -> None:
    target = bank.folder / "x.parquet"
    write_parquet(
        bank.url,
        "select queue, sum(volume) as n, sum(money) as m, max(hour_end) as t from spending_hourly group by 1;",
        target,
    )
    assert list(columns(f"'{target}'").values()) == ["VARCHAR", "DECIMAL(38,0)", "DECIMAL(38,9)", "TIMESTAMP"]
    held = memory(f"from '{target}' order by queue limit 1")[0]
    assert held == ("FunCaptcha", Decimal(216), Decimal("72.000000072"), datetime(2026, 11, 3))


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
def test_what_parquet_does_not_hold_exactly_is_written_as_what_it_does(
    bank: Bank, sql: str, kind: str, value: object
) -> None:
    target = bank.folder / "x.parquet"
    write_parquet(bank.url, f'select {sql} as "a ""b"""', target)
    assert columns(f"'{target}'") == {'a "b"': kind}
    assert memory(f"from '{target}'")[0] == (value,)


def test_what_is_lost_inside_a_column_is_refused(bank: Bank) -> None:
    with pytest.raises(UsageError, match="HUGEINT, which is inside column 'a'"):
        write_parquet(bank.url, "select {'n': 1::hugeint} as a", bank.folder / "x.parquet")


def test_a_link_stays_and_what_it_points_to_is_replaced(bank: Bank) -> None:
    link, real = bank.folder / "link.parquet", bank.folder / "real.parquet"
    link.symlink_to(real)
    write_parquet(bank.url, "select 1 as a", link)
    assert link.is_symlink()
    assert memory(f"from '{real}'") == [(1,)]


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to a pipe"])
def test_what_is_no_file_is_not_replaced_by_one(bank: Bank, kind: str) -> None:
    there = bank.folder / "there"
    there.mkdir() if kind == "a folder" else os.mkfifo(there)
    target = bank.folder / "x.parquet" if "link" in kind else there
    if "link" in kind:
        target.symlink_to(there)
    with pytest.raises(UsageError, match="not a regular file"):
        write_parquet(bank.url, "select 1 as a", target)
    assert not there.is_file()
    assert target.is_symlink() == ("link" in kind)


def test_a_disk_that_does_not_take_the_file_is_told_as_such_and_leaves_the_one_before(bank: Bank) -> None:
    (bank.folder / "x.parquet").write_text("of yesterday")
    program = """if True:
        import resource, signal, sys
        from etl.cli import run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        sys.exit(run(["query", "select hash(range) as a from range(100000)", "-o", "x.parquet"]))
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=bank.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "hint:" in done.stderr
    assert (bank.folder / "x.parquet").read_text() == "of yesterday"
    assert sorted(file.name for file in bank.folder.iterdir()) == ["warehouse.duckdb", "x.parquet"]


TAKEN = {
    "select * from read_blob('{folder}/warehouse.duckdb')": "the warehouse itself, as bytes",
}
"""Refused as text, for what Python cannot show."""


@pytest.mark.parametrize("sql", [sql for sql in REFUSED if sql not in TAKEN])
def test_a_query_for_parquet_reads_nothing_but_the_warehouse_and_writes_nothing_but_its_file(
    bank: Bank, sql: str
) -> None:
    before = bank.file.read_bytes()
    with pytest.raises(UsageError):
        write_parquet(bank.url, sql.format(folder=bank.folder), bank.folder / "x.parquet")
    assert files(bank.folder) == ["warehouse.duckdb"]
    assert bank.file.read_bytes() == before


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
def test_no_text_of_a_query_breaks_out_of_its_file(bank: Bank, sql: str) -> None:
    with pytest.raises(UsageError):
        write_parquet(bank.url, sql.format(folder=bank.folder), bank.folder / "x.parquet")
    assert files(bank.folder) == ["warehouse.duckdb"]


def test_a_comment_at_the_end_comments_out_nothing_of_ours(bank: Bank) -> None:
    write_parquet(bank.url, "select 1 as one; -- the end", bank.folder / "x.parquet")
    assert memory(f"from '{bank.folder}/x.parquet'") == [(1,)]


# ---------------------------------------------------------------- the commands


@pytest.fixture
def command(bank: Bank, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str) -> tuple[int, str, str]:
        code = run(words, Environment({}, bank.folder))
        return code, *capsys.readouterr()

    return command


def test_export_says_where_and_how_much(bank: Bank, command: Callable[..., tuple[int, str, str]]) -> None:
    number = sum(len(rows(bank.file, f"from {view}")) for view in VIEWS)
    assert command("export", "out") == (0, f"Exported {len(VIEWS)} views, {number} rows to {bank.folder}/out\n", "")
    assert command("export", "--format", "csv", "--account", "shop", "out", "-q") == (0, "", "")
    assert command("export", "--account", "nobody", "out")[0] == 2


def test_parquet_goes_to_a_file_by_its_ending_or_by_format(
    bank: Bank, command: Callable[..., tuple[int, str, str]]
) -> None:
    assert command("query", "select 1 as a", "-o", "a.parquet") == (0, "", "")
    assert command("query", "select 2 as a", "-o", "b", "--format", "parquet") == (0, "", "")
    assert memory(f"from read_parquet(['{bank.folder}/a.parquet', '{bank.folder}/b'])") == [(1,), (2,)]
    code, _, told = command("query", "select 1", "--format", "parquet")
    assert (code, "-o FILE.parquet" in told) == (2, True)
    assert command("query", "select 1", "-o", "no/such.parquet")[0] == 2

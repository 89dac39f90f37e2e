"""SQL of people and programs: exact on the way out, and no way to anything but the warehouse."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from etl.errors import UsageError, WarehouseError, WarehouseLockedError
from etl.outputs.query import MAX_TERMINAL_ROWS, Result, run, write_csv, write_json, write_parquet, write_table
from etl.warehouse import checks
from etl.warehouse.duckdb import file_of
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.reading import open_for_reading
from etl.warehouse.schema import day_coverage

pytestmark = pytest.mark.contract

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

Write = Callable[[Result, io.StringIO], None]

EVERYTHING = """
select 7 as n, cast('0.000000001' as decimal(18, 9)) as money,
       cast('170141183460469231731687303715884105727' as {whole}) as big, timestamp '2026-11-21 03:00:00' as at,
       date '2026-11-21' as day, 'a "b", c' as text, true as yes, null as nothing, cast('nan' as double precision) as nan,
       {list} as list, {pair} as pair, cast('\\xFF' as bytea) as bytes
"""
SPELT = {
    "duckdb": {"whole": "hugeint", "list": "[1.5, null]", "pair": "{'a': cast(0.1 as decimal(38, 20))}"},
    "postgresql": {"whole": "numeric", "list": "array[1.5, null]", "pair": "json '{\"a\": 0.10000000000000000000}'"},
}


@pytest.fixture
def everything(engine_name: str) -> str:
    """A select of a row of every kind of value."""
    return EVERYTHING.format(**SPELT[engine_name])


def printed(warehouse: sa.Engine, sql: str, write: Write) -> str:
    out = io.StringIO()
    with run(str(warehouse.url), sql) as result:
        write(result, out)
    return out.getvalue()


def test_csv_keeps_every_digit(warehouse: sa.Engine, everything: str) -> None:
    header, row = csv.reader(io.StringIO(printed(warehouse, everything, write_csv)))
    assert dict(zip(header, row, strict=True)) == {
        "n": "7", "money": "0.000000001", "big": "170141183460469231731687303715884105727", "at": "2026-11-21T03:00:00Z",
        "day": "2026-11-21", "text": 'a "b", c', "yes": "true", "nothing": "", "nan": "nan", "list": "[1.5, null]",
        "pair": '{"a": 0.10000000000000000000}', "bytes": "ff",
    }  # fmt: skip


def test_json_numbers_keep_every_digit(warehouse: sa.Engine, everything: str) -> None:
    text = printed(warehouse, everything, write_json)
    assert '"money": 0.000000001,' in text
    assert '"a": 0.10000000000000000000}' in text
    assert json.loads(text, parse_float=Decimal, parse_constant=pytest.fail) == [
        {
            "n": 7, "money": Decimal("0.000000001"), "big": 2**127 - 1, "at": "2026-11-21T03:00:00Z", "day": "2026-11-21",
            "text": 'a "b", c', "yes": True, "nothing": None, "nan": "nan", "list": [Decimal("1.5"), None],
            "pair": {"a": Decimal("0.1")}, "bytes": "ff",
        }
    ]  # fmt: skip


def test_no_rows_are_a_header_in_csv_and_an_empty_array_in_json(warehouse: sa.Engine) -> None:
    assert printed(warehouse, "select day, status from internal.day_coverage", write_csv) == "day,status\n"
    assert json.loads(printed(warehouse, "select day from internal.day_coverage", write_json)) == []
    assert "(0 rows)" in printed(warehouse, "select day from internal.day_coverage", write_table)


def test_json_refuses_duplicate_column_names_and_csv_allows_them(warehouse: sa.Engine) -> None:
    with pytest.raises(UsageError, match="'a'"):
        printed(warehouse, "select 1 as a, 2 as a", write_json)
    assert printed(warehouse, "select 1 as a, 2 as a", write_csv) == "a,a\n1,2\n"


def test_a_table_aligns_numbers_right_and_shortens_nothing(warehouse: sa.Engine) -> None:
    lines = printed(warehouse, "select * from (values ('x', 5), ('y', 12345)) t(word, n)", write_table).splitlines()
    assert lines == ["word      n", "───────────", "x         5", "y     12345", "(2 rows)"]
    assert "abcdefghij" * 30 in printed(warehouse, "select repeat('abcdefghij', 30) as long", write_table)


def test_a_terminal_table_is_limited_and_says_so(warehouse: sa.Engine) -> None:
    on_terminal = partial(write_table, width=80)
    numbers = "select * from generate_series(1, {}) t"
    exact, one_more = numbers.format(MAX_TERMINAL_ROWS), numbers.format(MAX_TERMINAL_ROWS + 1)
    assert f"({MAX_TERMINAL_ROWS:,} rows)" in printed(warehouse, exact, on_terminal)
    assert "--format csv shows all" in printed(warehouse, one_more, on_terminal)
    assert f"({MAX_TERMINAL_ROWS + 1:,} rows)" in printed(warehouse, one_more, write_table)


WIDE = """
select 'default' as account, 'Image to text, a long name of a queue' as queue, timestamp '2026-11-21 09:00:00' as hour_start,
       timestamp '2026-11-22 09:30:00.000001' as loaded_at, cast('0.304900000' as decimal(18, 9)) as money,
       cast('12.5' as decimal(18, 9)) as total
"""


def test_a_table_is_shortened_to_the_terminal_without_losing_a_digit_of_money(warehouse: sa.Engine) -> None:
    full = printed(warehouse, WIDE, write_table)
    assert all(text in full for text in ("2026-11-21T09:00:00Z", "2026-11-22T09:30:00.000001Z", "0.304900000"))
    for width in (120, 90, 40):
        *lines, summary = printed(warehouse, WIDE, partial(write_table, width=width)).splitlines()
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        assert all(text.count(word) == 1 for word in ("2026-11-21 09:00", "2026-11-22 09:30:00", "0.3049", "12.50"))
        assert "shortened, --format csv shows every digit" in summary
    assert printed(warehouse, WIDE, partial(write_table, width=200)) == full


def test_the_hourly_view_fits_a_terminal_of_120_columns_as_a_table_and_one_of_80_as_blocks(
    warehouse: sa.Engine,
) -> None:
    row = WIDE.replace(
        "as total", "as total, 'USD' as currency, false as is_final, timestamp '2026-11-21 10:00:00' as hour_end"
    )
    wide, narrow = (printed(warehouse, row, partial(write_table, width=width)).splitlines() for width in (120, 80))
    assert wide[0].split() == [
        *("account", "queue", "hour_start", "loaded_at", "money", "total", "currency", "is_final", "hour_end")
    ]
    assert narrow[0].split() == ["account", "default"]
    assert max(map(len, wide)) <= 120
    assert max(map(len, narrow)) <= 80


ZONED = "timestamptz '2026-11-21 03:00:00+02'"


def test_times_with_a_zone_are_shown_in_utc(warehouse: sa.Engine, tmp_path: Path) -> None:
    for write in (write_csv, write_json, write_table):
        text = printed(warehouse, f"select {ZONED} as at, array[{ZONED}] as several, now() as now", write)
        assert text.count("2026-11-21T01:00:00Z") == 2
    write_parquet(str(warehouse.url), f"select {ZONED} as at, now() as now", tmp_path / "out.parquet")
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        [(at, kind)] = connection.execute(f"select \"at\", typeof(now) from '{tmp_path}/out.parquet'").fetchall()
    assert (at, kind) == (datetime(2026, 11, 21, 1, tzinfo=UTC), "TIMESTAMP WITH TIME ZONE")


def test_control_characters_in_values_do_not_reach_the_terminal(warehouse: sa.Engine) -> None:
    text = printed(warehouse, "select '[bold]' || chr(27) || '[2J' as a", write_table)
    assert "\x1b" not in text
    assert "[bold]\\x1b[2J" in text


def test_a_large_result_is_streamed_in_order(warehouse: sa.Engine) -> None:
    many = "generate_series(1, 1000000) a(n)"
    with run(str(warehouse.url), f"select a.n from {many} where a.n <> 7 order by a.n") as result:
        assert [next(result.rows)[0] for _ in range(25_000)] == [n for n in range(1, 25_002) if n != 7]


def test_the_warehouse_is_released_at_the_end_of_the_block(warehouse: sa.Engine) -> None:
    with run(str(warehouse.url), "select * from generate_series(1, 50000) t") as result:
        next(result.rows)
    with warehouse.begin() as connection:
        connection.execute(sa.delete(day_coverage))


REFUSED = [
    "select 1; select 2",
    "",
    "-- only a comment",
    "select",
    "attach '{folder}/new.duckdb' as other",
    "detach warehouse",
    "copy internal.day_coverage to '{folder}/out.csv'",
    "copy (select 1) to '{folder}/out.parquet' (format parquet)",
    "export database '{folder}/out'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set threads = 1",
    "reset all",
    "pragma enable_profiling",
    "call pragma_version()",
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_text('/etc/passwd')",
    "select content from read_text('/proc/self/environ')",
    "select content from read_text(['/etc/passwd'])",
    "select content from read_text('fd://0')",
    "select content from read_blob('/dev/stdin')",
    "select content from read_blob('{folder}/')",
    "select * from glob('/etc/*')",
    "select * from glob('{folder}/**')",
    'select * from "/etc/passwd"',
    "select * from 'file:///etc/passwd'",
    "select * from 's3://bucket/x.parquet'",
    "select * from read_csv_auto('/etc/passwd')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from read_json('/etc/passwd')",
    "select * from read_json_objects('/etc/passwd')",
    "select * from read_ndjson_objects('/etc/passwd')",
    "select * from parquet_metadata('/etc/passwd')",
    "select * from parquet_schema('/etc/passwd')",
    "select * from parquet_kv_metadata('/etc/passwd')",
    "select * from parquet_file_metadata('/etc/passwd')",
    "select * from read_duckdb('{folder}/other.duckdb')",
    "select * from sqlite_scan('{folder}/other.sqlite', 't')",
    "select * from postgres_scan('host=127.0.0.1', 'public', 't')",
    "select * from iceberg_scan('/tmp')",
    "select * from delta_scan('/tmp')",
    "select * from query_table('/etc/passwd')",
    "select * from query('from read_text(''/etc/passwd'')')",
    "select * from query('from query_table(''/etc/passwd'')')",
    "select * from json_execute_serialized_sql(json_serialize_sql('from read_text(''/etc/passwd'')'))",
    "select * from json_execute_serialized_sql(json_serialize_sql('copy (select 1) to ''{folder}/out.csv'''))",
    "select * from arrow_scan(1, 2, 3)",
    "select * from pandas_scan(1)",
    "select * from path",
    "select getenv('HOME')",
    "select pg_read_file('/etc/passwd')",
    "select * from duckdb_secrets()",
    "select * from which_secret('s3://bucket', 's3')",
    "select * from duckdb_extensions()",
    "select * from enable_logging()",
    "select * from enable_profiling()",
    "select * from load_aws_credentials()",
    "from (copy internal.day_coverage to '{folder}/out.csv')",
    "from (delete from internal.day_coverage returning *)",
    "with x as (copy internal.day_coverage to '{folder}/out.csv') select 1",
    "with x as (insert into internal.day_coverage select * from internal.day_coverage returning *) select * from x",
    "with x as (delete from internal.day_coverage returning *) select * from x",
    "with x as (update internal.day_coverage set status = 'final' returning *) select * from x",
    "select 1 /* ; */ ; copy internal.day_coverage to '{folder}/out.csv'",
    "select 1 \x00; copy internal.day_coverage to '{folder}/out.csv'",
    "select 1\uff1b copy internal.day_coverage to '{folder}/out.csv'",
    "/* select 1 */ copy internal.day_coverage to '{folder}/out.csv'",
    "-- select 1\ncopy internal.day_coverage to '{folder}/out.csv'",
    "copy internal.day_coverage to '/dev/stdout'",
    "copy internal.day_coverage from '/etc/passwd'",
    "copy from database warehouse to memory",
    "import database '{folder}'",
    "explain copy internal.day_coverage to '{folder}/out.csv'",
    "explain analyze set threads = 1",
    "explain (analyze, format json) create table mine (a integer)",
    "attach ':memory:' as other",
    "use memory",
    "force install httpfs",
    "update extensions",
    "load '{folder}/evil.duckdb_extension'",
    "create secret (type s3)",
    "create persistent secret mine (type s3)",
    "create or replace temp macro money() as 1",
    "set variable mine = 1",
    "set session threads = 1",
    "set lock_configuration = false",
    "pragma memory_limit = '1TB'",
    "pragma add_parquet_key('k', '0123456789112345')",
    "call pragma_database_size()",
    "execute p",
    "deallocate p",
    (
        "merge into internal.day_coverage using internal.day_coverage as d on false when not matched then insert "
        "values (1)"
    ),
    "alter table internal.day_coverage add column mine integer",
    "truncate internal.day_coverage",
    "analyze",
    "select * from read_parquet('https://127.0.0.1:9/x.parquet')",
    "select * from query('copy internal.day_coverage to ''{folder}/out.csv''')",
    "explain analyze copy internal.day_coverage to '{folder}/out.csv'",
    "explain analyze delete from internal.day_coverage",
    "with x as (select 1) delete from internal.day_coverage",
    "insert into internal.day_coverage select * from internal.day_coverage",
    "update internal.day_coverage set status = 'final'",
    "delete from internal.day_coverage",
    "create table mine (a integer)",
    "create temp table mine as select 1",
    "create macro m() as 1",
    "drop view spending_daily",
    "comment on table internal.day_coverage is 'x'",
    "checkpoint",
    "vacuum",
    "begin",
    "prepare p as select 1",
    "select nothing from internal.day_coverage",
    "select * from result",
    "select cast('x' as integer)",
]


@pytest.mark.of_the_file
@pytest.mark.parametrize("sql", REFUSED)
def test_a_query_reads_only_the_warehouse_and_writes_nothing(warehouse: sa.Engine, sql: str) -> None:
    path = file_of(warehouse.url)
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        printed(warehouse, sql.format(folder=path.parent), write_csv)
    assert caught.value.message
    assert caught.value.hint
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.of_the_file
def test_a_users_check_reads_only_the_warehouse(warehouse: sa.Engine, tmp_path: Path) -> None:
    attempts = [sql for sql in REFUSED if sql and not sql.startswith("--") and "\n" not in sql]
    own = tmp_path / "own"
    own.mkdir()
    for number, sql in enumerate(attempts):
        (own / f"attempt_{number:03}.sql").write_text(f"-- attempt {number}\n{sql.format(folder=tmp_path)}\n")
    path = file_of(warehouse.url)
    before = path.read_bytes()
    with open_for_reading(str(warehouse.url)) as reader:
        broken = checks.run_of_user(reader, NOW, None, own).failures
    refused = [one for one in broken if one.check.name.startswith("attempt")]
    assert len(refused) == len(attempts)
    assert all("check of the checks folder can be run" in one.finding.message for one in refused)
    assert {file.name for file in tmp_path.iterdir()} == {path.name, "own"}
    assert path.read_bytes() == before


@pytest.mark.of_the_file
def test_the_warehouse_is_the_only_readable_file(warehouse: sa.Engine) -> None:
    path = file_of(warehouse.url)
    path.with_name("other.duckdb").write_bytes(path.read_bytes())
    sql = "select size from read_blob('{}')"
    assert printed(warehouse, sql.format(path), write_csv) == f"size\n{path.stat().st_size}\n"
    for other in (
        path.with_name("other.duckdb"),
        path.parent / "warehouse.duckdb.more",
        path.parent / "x" / ".." / "other.duckdb",
    ):
        with pytest.raises(UsageError, match="disabled"):
            printed(warehouse, sql.format(other), write_csv)


ENDLESS = "with recursive a(n) as (select 1 union all select n + 1 from a) select count(*) as n from a"


@pytest.mark.of_the_file
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_signal_interrupts_an_endless_query(warehouse: sa.Engine, tmp_path: Path, form: str, number: int) -> None:
    path = file_of(warehouse.url)
    words = ["query", ENDLESS, "--warehouse", str(path), "--format", form, "-o", "out", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "etl", *words], cwd=tmp_path, stderr=subprocess.PIPE)
    while not _is_open(path):
        assert process.poll() is None, process.communicate()
        threading.Event().wait(0.1)
    threading.Event().wait(0.3)  # it is in the midst of it
    process.send_signal(number)
    _, error_output = process.communicate(timeout=20)
    assert (process.returncode, error_output.splitlines()[0]) == (130, b"error: interrupted"), error_output.decode()
    assert list(tmp_path.iterdir()) == [path]


def _is_open(path: Path) -> bool:
    """Whether another process has the warehouse open, as it has for as long as it runs SQL."""
    try:
        with open_warehouse(warehouse_url(str(path))).connect():
            return False
    except WarehouseLockedError:
        return True


@pytest.mark.parametrize("words", ["Corrupt", "Permission denied", "No space left on device", "sqlite_scanner"])
def test_an_error_message_with_words_of_the_query_is_not_a_file_error(warehouse: sa.Engine, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        printed(warehouse, f"select cast('{words}' as integer)", write_csv)


@pytest.mark.of_the_file
def test_the_database_refuses_what_the_statement_check_misses(warehouse: sa.Engine) -> None:
    sealed = open_warehouse(str(warehouse.url), read_only=True)
    folder = file_of(warehouse.url).parent
    for sql in (
        "create table mine (a integer)",
        f"copy internal.day_coverage to '{folder}/out.csv'",
        f"attach '{folder}/new.duckdb'",
        "set threads = 1",
    ):
        with sealed.connect() as connection, pytest.raises(sa.exc.DBAPIError):
            connection.exec_driver_sql(sql)
    assert [file.name for file in folder.iterdir()] == ["warehouse.duckdb"]


@pytest.mark.of_the_file
@pytest.mark.parametrize(
    "sql",
    [
        "from internal.day_coverage",
        "with x as (select 1) select * from x",
        "show tables",
        "describe spending_daily",
        "explain select 1",
        "select 1;",
    ],
)
def test_every_reading_statement_is_allowed(warehouse: sa.Engine, sql: str) -> None:
    assert printed(warehouse, sql, write_csv)


def test_an_invalid_query_shows_the_engines_message_and_position(warehouse: sa.Engine) -> None:
    with pytest.raises(UsageError, match=r'"statuss" (not found|does not exist)[\s\S]*LINE 1: select statuss[\s\S]*\^'):
        printed(warehouse, "select statuss from internal.day_coverage", write_csv)


def test_an_error_while_fetching_rows_is_a_usage_error(warehouse: sa.Engine) -> None:
    sql = "select cast(case when n = 300000 then 'x' else '1' end as integer) as n from generate_series(1, 400000) t(n)"
    with pytest.raises(UsageError, match=r"Could not convert|invalid input syntax"):
        printed(warehouse, sql, write_csv)


@pytest.mark.of_the_file
def test_a_missing_warehouse_is_named_and_not_created(tmp_path: Path) -> None:
    with (
        pytest.raises(WarehouseError, match=str(tmp_path)) as caught,
        run(warehouse_url(str(tmp_path / "w.duckdb")), "select 1"),
    ):
        pass
    assert "anticaptcha-etl sync" in caught.value.hint


def test_an_exception_of_the_caller_is_passed_on_unchanged(warehouse: sa.Engine) -> None:
    with pytest.raises(BrokenPipeError), run(str(warehouse.url), "select 1"):
        raise BrokenPipeError

"""A warehouse on a server as users see it: names, errors, permissions, and several programs at once."""

import json
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from etl.errors import UsageError, WarehouseError
from etl.load.accounts import open_account
from etl.outputs.query import run as query
from etl.outputs.query import write_parquet
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.server import Sandbox
from etl.secret import Secret
from etl.warehouse import migrate, views
from etl.warehouse.engine import name_of, open_warehouse, warehouse_url
from tests.e2e.world import DEFAULT_BEHAVIOUR, World, ago, small
from tests.integration.scripted_server import respond, serving
from tests.postgres import create_role, migrated, new_database, run_sql, server

pytestmark = pytest.mark.server

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
USER, PASSWORD = "hidden_user", "hidden-password-9f"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait at most a minute, then fail."""
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.1)
    raise AssertionError("waited a minute in vain")


def world_on_a_server(folder: Path, days: int, behaviour: Behaviour = DEFAULT_BEHAVIOUR) -> World:
    world = World(folder, small(days), behaviour)
    world.warehouse = new_database()
    return world


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_a_url_needs_no_driver_and_keeps_its_parameters(driver: str) -> None:
    url = sa.make_url(warehouse_url(f"{driver}://{USER}:{PASSWORD}@/spending?host=/run/pg&sslmode=require"))
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.database) == (USER, PASSWORD, "spending")
    assert url.query == {"host": "/run/pg", "sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg2://{}@db/spending", "psycopg2"),
        ("postgresql+asyncpg://{}@db/spending", "asyncpg"),
        ("postgresql://{}@db", "no database"),
        ("postgresql://{}@db/", "no database"),
        ("postgres://{}@db/spending", "a warehouse cannot be in postgres"),
        ("mysql://{}@db/spending", "a warehouse cannot be in mysql"),
        ("postgresql://{}@db:x/spending", "neither a path nor"),
    ],
)
def test_a_wrong_url_is_rejected_without_showing_the_password(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        warehouse_url(url.format(f"{USER}:{PASSWORD}"))
    assert PASSWORD not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:p@db.example/spending", "postgresql://db.example/spending"),
        ("postgresql://u:p@db.example:6432/spending", "postgresql://db.example:6432/spending"),
        ("postgresql://u:p@/spending?host=/run/pg&password=p&user=u", "postgresql:///run/pg/spending"),
        ("postgresql:///spending?host=one:5432&host=two:5432", "postgresql://one:5432,two:5432/spending"),
    ],
)
def test_a_warehouse_is_named_by_host_and_database_only(url: str, name: str) -> None:
    assert name_of(warehouse_url(url)) == name


# ---------------------------------------------------------------- errors


@pytest.fixture
def locked_out() -> Iterator[sa.URL]:
    """The URL of a user who needs a password, with a wrong one."""
    [(file,)] = run_sql(server(), "show hba_file")
    before = Path(file).read_text()
    create_role(server(), USER, "login password 'another'")
    asks = "".join(f"{kind} {USER} scram-sha-256\n" for kind in ("local all", "host all"))
    Path(file).write_text(asks.replace(f"host all {USER}", f"host all {USER} 127.0.0.1/32") + before)
    run_sql(server(), "select pg_reload_conf()")
    url = server().set(username=USER, password=PASSWORD)
    wait_until(lambda: "password" in _refusal(url))
    yield url
    Path(file).write_text(before)
    run_sql(server(), "select pg_reload_conf()")


def _refusal(url: sa.URL) -> str:
    try:
        run_sql(url, "select 1")
    except Exception as error:  # noqa: BLE001 - any error
        return str(error)
    return ""


def etl(
    folder: Path, warehouse: sa.URL, *arguments: str, api: str = "http://127.0.0.1:9/"
) -> "subprocess.CompletedProcess[str]":
    url = warehouse.render_as_string(hide_password=False)
    environ = {"ANTICAPTCHA_WAREHOUSE": url, "ANTICAPTCHA_CLIENT_KEY": "k" * 32, "ANTICAPTCHA_API_URL": api}
    command = [sys.executable, "-m", "etl", *arguments]
    return subprocess.run(command, check=False, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


WRONG: dict[str, tuple[Callable[[sa.URL], sa.URL], str, str]] = {
    "a wrong password": (lambda url: url, "the password is wrong", "correct it in the URL"),
    "an unknown user": (lambda url: url.set(username="nobody_at_all"), "does not admit this user", "check the user"),
    "an unknown database": (lambda url: server().set(database="nowhere"), "there is no such database", "createdb"),
    "an unknown host": (
        lambda url: url.set(host="nowhere.invalid", query={}),
        "cannot reach postgresql://nowhere.invalid",
        "check the server",
    ),
    "a closed port": (
        lambda url: url.set(host="127.0.0.1", port=1, query={}),
        "Connection refused",
        "check the server",
    ),
    "a password among the parameters": (
        lambda url: url.set(username=None, password=None).update_query_dict({"user": USER, "password": PASSWORD}),
        "the password is wrong",
        "correct it in the URL",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_unreachable_server_is_exit_4_with_a_hint_and_no_user_name(
    tmp_path: Path, locked_out: sa.URL, wrong: str
) -> None:
    change, message, hint = WRONG[wrong]
    for command in ("sync", "query select"):
        done = etl(tmp_path, change(locked_out), *command.split())
        output = done.stdout + done.stderr
        assert done.returncode == 4, output
        assert message in output
        assert hint in output
        assert "Traceback" not in output
        assert not any(secret in output for secret in (USER, PASSWORD, "nobody_at_all"))


def test_no_output_or_log_shows_the_user_or_the_password(tmp_path: Path) -> None:
    url = sa.make_url(new_database(like=migrated()))
    create_role(url, f"{USER}_2", "superuser login")
    mine = url.set(username=f"{USER}_2", password=PASSWORD)
    refusal = respond(b'{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST","errorDescription":"no such key"}')
    with serving(refusal) as service, Sandbox(small(2)) as sandbox:
        for arguments in ("sync --verbose", "status", "status --json", "doctor --json", "check", "migrate"):
            done = etl(
                tmp_path, mine, *arguments.split(), api=service.url if arguments.startswith("sync") else sandbox.url
            )
            output = done.stdout + done.stderr
            assert str(url.database) in output or arguments.startswith("sync"), output
            assert not any(secret in output for secret in (USER, PASSWORD)), output
    assert json.loads(etl(tmp_path, mine, "status", "--json").stdout)["warehouse"] == name_of(url)


def test_a_missing_driver_is_exit_2_and_names_the_extra(tmp_path: Path) -> None:
    program = "import sys; sys.modules['psycopg'] = None; from etl.cli import main; sys.argv[1:] = ['status']; main()"
    environ = {"ANTICAPTCHA_WAREHOUSE": new_database()}
    arguments = [sys.executable, "-c", program]
    done = subprocess.run(arguments, check=False, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "pip install '.[postgres]' in the folder of the repository" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_read_only_user_can_query_and_learns_what_a_sync_needs(tmp_path: Path) -> None:
    url = sa.make_url(new_database(like=migrated()))
    create_role(url, "reader")
    run_sql(url, "grant usage on schema internal to reader")
    run_sql(url, "grant select on all tables in schema public, internal to reader")
    reader = url.set(username="reader")
    for arguments in (["query", "select count(*) as n from spending_daily", "--format", "csv"], ["status"], ["check"]):
        done = etl(tmp_path, reader, *arguments)
        assert done.returncode == 0, done.stderr
    done = etl(tmp_path, reader, "sync")
    assert done.returncode == 4, done.stderr
    assert "a sync creates and writes tables, a reader needs select: grant it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_failure_during_a_sync_is_exit_4_and_the_next_sync_continues(tmp_path: Path) -> None:
    with world_on_a_server(tmp_path, 60) as world:
        database = sa.make_url(world.warehouse).database
        with world.start(concurrency=2) as process:
            world.wait_for(process, 60)
            wait_until(
                lambda: world.one(
                    "select to_regclass('internal.snapshots') is not null and exists (select from internal.snapshots)"
                )
            )
            run_sql(server(), f"alter database {database} allow_connections false")
            run_sql(server(), f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")
            _, output = process.communicate(timeout=60)
        assert process.returncode == 4, output
        assert "postgresql://" in output
        assert "Traceback" not in output
        run_sql(server(), f"alter database {database} allow_connections true")
        before = world.one("select count(*) from internal.snapshots")
        assert world.sync().exit_code == 0
        assert world.one("select count(*) from internal.snapshots where run = 1") == before > 0
        assert world.hourly() == world.expected_rows()


def test_an_interrupted_query_ends_immediately_on_the_server_too(tmp_path: Path) -> None:
    url = new_database(like=migrated())
    running = "select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    arguments = [sys.executable, "-m", "etl", "query", "select pg_sleep(60)"]
    environ = {"ANTICAPTCHA_WAREHOUSE": url}
    with subprocess.Popen(arguments, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: run_sql(url, running))
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert output.startswith("error: interrupted")
    wait_until(lambda: not run_sql(url, running))


# ---------------------------------------------------------------- users' SQL


WRITING = [
    "",
    "-- only a comment",
    "select 1; select 2",
    "select 1; delete from internal.day_coverage",
    "select 1 /* ; */ ; delete from internal.day_coverage",
    "select 1; commit; delete from internal.day_coverage",
    "values (1); truncate days",
    "table internal.day_coverage; drop view spending_daily",
    "explain select 1; delete from internal.day_coverage",
    "show timezone; delete from internal.day_coverage",
    "set default_transaction_read_only = off",
    "set transaction read write",
    "reset all",
    "begin read write",
    "commit",
    "insert into internal.day_coverage select * from internal.day_coverage",
    "update internal.day_coverage set status = 'final'",
    "delete from internal.day_coverage",
    "merge into internal.day_coverage using internal.day_coverage d on false when not matched then do nothing",
    "truncate days",
    "with x as (delete from internal.day_coverage returning *) select * from x",
    "with x as (insert into internal.day_coverage select * from internal.day_coverage returning *) select * from x",
    "with x as (select 1) delete from internal.day_coverage",
    "explain analyze delete from internal.day_coverage",
    "explain (analyze) insert into internal.day_coverage select * from internal.day_coverage",
    "(select 1) union all (delete from internal.day_coverage returning 1)",
    "select * into mine from internal.day_coverage",
    "select * from internal.day_coverage for update",
    "create table mine (a integer)",
    "create temp table mine as select 1",
    "create function mine() returns integer language sql as 'select 1'",
    "alter table internal.day_coverage add column mine integer",
    "drop view spending_daily",
    "comment on table internal.day_coverage is 'x'",
    "grant select on internal.day_coverage to public",
    "copy days to stdout",
    "copy days to '{folder}/out.csv'",
    "copy days to program 'touch {folder}/out.csv'",
    "copy internal.day_coverage from program 'true'",
    "do $$ begin delete from internal.day_coverage; end $$",
    "call nothing()",
    "prepare p as delete from internal.day_coverage",
    "execute p",
    "declare c cursor for select 1",
    "lock table internal.day_coverage",
    "vacuum",
    "analyze",
    "listen x",
    "notify x",
    "load 'plpgsql'",
    "select lo_from_bytea(0, 'x')",
    "select setval('nowhere', 1)",
    "select nextval('nowhere')",
    "select set_config('transaction_read_only', 'off', true) from (delete from internal.day_coverage) x",
    "select statuss from internal.day_coverage",
    "select 'a\x00b'",
]


@pytest.fixture(scope="module")
def read_only_url() -> str:
    """The URL of a database with one day, which tests only read."""
    url = new_database(like=migrated())
    run_sql(url, "insert into internal.day_coverage values (1, '2026-11-21', 'open', null, 0, 0, 0, 0, true, true)")
    return url


def everything(url: str) -> list[tuple[object, ...]]:
    """All tables with their permissions, and the stored days."""
    return run_sql(url, "select relname, relacl::text from pg_class order by 1") + run_sql(
        url, "select * from internal.day_coverage"
    )


def rows_of(url: str, sql: str) -> list[object]:
    with query(url, sql) as result:
        return list(result.rows)


@pytest.mark.parametrize("form", ["rows", "parquet"])
@pytest.mark.parametrize("sql", WRITING)
def test_everything_but_one_reading_statement_is_refused_and_changes_nothing(
    read_only_url: str, tmp_path: Path, form: str, sql: str
) -> None:
    before, statement = everything(read_only_url), sql.format(folder=tmp_path)
    run: Callable[[str, str], object] = (
        rows_of if form == "rows" else partial(write_parquet, target=tmp_path / "out.parquet")
    )
    with pytest.raises(UsageError) as caught:
        run(read_only_url, statement)
    assert caught.value.message
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert everything(read_only_url) == before


def test_a_table_created_by_explain_analyze_is_rolled_back(read_only_url: str) -> None:
    before = everything(read_only_url)
    assert rows_of(read_only_url, "explain analyze create table mine as select 1")
    assert everything(read_only_url) == before


@pytest.mark.parametrize(
    "sql",
    ["table internal.day_coverage", "values (1)", "(select 1)", "with x as (select 1 as n) select * from x", "show timezone", "explain select 1",
     "/* a; b */ select 1;", "select '%' as percent, ';' as text"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["rows", "parquet"])
def test_every_kind_of_reading_statement_is_allowed(read_only_url: str, tmp_path: Path, form: str, sql: str) -> None:
    rows = rows_of(read_only_url, sql)
    assert rows
    if form == "parquet":
        write_parquet(read_only_url, sql, tmp_path / "out.parquet")
        assert len(duckdb.read_parquet(str(tmp_path / "out.parquet")).fetchall()) == len(rows)


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("cast('0.000000001' as numeric(18, 9))", "DECIMAL(18,9)", Decimal("0.000000001")),
        (
            "cast('-99999999999999999999999999999.123456789' as numeric)",
            "DECIMAL(38,9)",
            Decimal("-99999999999999999999999999999.123456789"),
        ),
        ("sum(cast(9223372036854775807 as bigint)) * 2", "DECIMAL(38,0)", Decimal(2**64 - 2)),
        ("cast(9223372036854775807 as bigint)", "BIGINT", 2**63 - 1),
        ("timestamp '2026-11-21 03:00:00.000001'", "TIMESTAMP", datetime(2026, 11, 21, 3, 0, 0, 1)),
        ("date '2026-11-21'", "DATE", date(2026, 11, 21)),
        ("array[1.50, null]", "VARCHAR", '["1.50", null]'),
        ("json '{\"a\": 0.10000000000000000000}'", "VARCHAR", '{"a": "0.10000000000000000000"}'),
        ("cast(null as numeric)", "DECIMAL(38,0)", None),
        ("'\\xff00'::bytea", "BLOB", b"\xff\x00"),
        ("interval '1 day 02:00'", "VARCHAR", "1 day, 2:00:00"),
        ("'a'::name", "VARCHAR", "a"),
    ],
)
def test_parquet_from_a_server_keeps_every_digit(
    read_only_url: str, tmp_path: Path, sql: str, kind: str, value: object
) -> None:
    write_parquet(read_only_url, f"select {sql} as n", tmp_path / "out.parquet")
    made = duckdb.read_parquet(str(tmp_path / "out.parquet"))
    assert (str(made.types[0]), made.fetchall()) == (kind, [(value,)])


# ---------------------------------------------------------------- several programs at once


def at_once(act: Callable[[int], object], number: int) -> list[object]:
    """The results, or usage errors, of some threads that start at the same moment."""
    all_started = threading.Barrier(number)

    def one(place: int) -> object:
        all_started.wait()
        try:
            return act(place)
        except UsageError as error:
            return error

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


def test_several_programs_can_migrate_a_new_database_at_once() -> None:
    url = new_database()
    at_once(lambda _: migrate.upgrade(open_warehouse(url)), 4)
    assert migrate.state(open_warehouse(url)) == "current"


def _open(url: str, name: str, key: str) -> int:
    with open_warehouse(url).connect() as connection:
        return open_account(connection, name, Secret(key), NOW).account_id


def test_accounts_created_at_once_get_different_numbers() -> None:
    url = new_database(like=migrated())
    numbers = at_once(lambda place: _open(url, f"account {place}", f"key {place}"), 8)
    assert sorted(map(str, numbers)) == [str(number) for number in range(1, 9)]


def test_one_key_under_two_names_at_once_creates_one_account() -> None:
    url = new_database(like=migrated())
    results = at_once(lambda place: _open(url, f"account {place}", "the key"), 2)
    assert {type(result) for result in results} == {int, UsageError}
    assert run_sql(url, "select count(*) from internal.accounts") == [(1,)]


def test_primary_keys_stop_a_second_sync_after_the_lock_was_dropped(tmp_path: Path) -> None:
    slow = Behaviour(latency_seconds=0.03, unknown_queue="zeros")  # so that there are several commits
    with world_on_a_server(tmp_path, 120, slow) as world:
        with world.start(concurrency=1) as first:
            world.wait_for(first, 60)
            wait_until(lambda: world.one("select count(*) from internal.snapshots"))
            holder = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database = (select oid from "
            assert world.rows(f"{holder} pg_database where datname = current_database())")
            second = world.start(concurrency=1)
            codes, output = [], ""
            for process in (first, second):
                _, arguments = process.communicate(timeout=120)
                codes.append(process.returncode)
                output += arguments
        assert 4 in codes, output
        assert set(codes) <= {0, 4}, output
        assert "another program wrote rows of the same account meanwhile" in output
        assert "Traceback" not in output
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- users' views


def test_users_views_that_block_a_rebuild_are_named_and_nothing_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = new_database(like=migrated())
    run_sql(
        url,
        "create view my_days as select * from spending_daily; create view my_months as select * from spending_monthly",
    )
    engine = open_warehouse(url)
    migrate.upgrade(engine)  # nothing to do
    monkeypatch.setattr(views, "fingerprint", lambda engine: "of another version")
    with pytest.raises(WarehouseError) as refused:
        migrate.upgrade(engine)
    assert "view my_days depends on view spending_daily" in refused.value.message
    assert "view my_months depends on view spending_monthly" in refused.value.message
    assert (
        "save their SQL, drop them, run anticaptcha-etl migrate and create them again; nothing was changed"
        in refused.value.hint
    )
    assert run_sql(url, "select count(*) from my_days") == [(0,)]
    run_sql(url, "drop view my_days; drop view my_months")
    migrate.upgrade(engine)
    assert migrate.state(engine) == "current"


# ---------------------------------------------------------------- characters that PostgreSQL cannot store


ODD = rb"""{"errorId": 0, "data": [
    {"dateFrom": "\ud800", "dateTill": 2, "volume": "\u0000", "money": 1, "\u0000": "\udfff"},
    {"dateFrom": "\u0000", "dateTill": 2, "volume": 3, "money": 1}
]}"""
REFUSED = rb"""{"errorId": 9, "errorCode": "ERROR_\u0000\ud800", "errorDescription": "no \u0000 such \udfff thing"}"""


def test_characters_that_postgresql_cannot_store_are_stored_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body in (ODD, REFUSED):
        with serving(respond(body)) as service, world_on_a_server(tmp_path, 3) as world:
            monkeypatch.setattr(type(world.sandbox), "url", service.url)
            assert world.sync(since=ago(1)).exit_code == 1
            [compressed_body] = {
                bytes(compressed_body) for (compressed_body,) in world.rows("select body from internal.responses")
            }
            assert zlib.decompress(compressed_body) == body
            if body is REFUSED:
                messages = world.rows(
                    "select distinct code, message from internal.snapshots where outcome <> 'success'"
                )
                assert ("ERROR_", "no such thing") in messages
            else:
                raw = {raw for (raw,) in world.rows("select raw from spending_rejections")}
                assert raw == {
                    r'{"dateFrom":"\ud800","dateTill":2,"volume":"\u0000","money":1,"\u0000":"\udfff"}',
                    r'{"dateFrom":"\u0000","dateTill":2,"volume":3,"money":1}',
                }

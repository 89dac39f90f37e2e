"""A warehouse of the first release (revision 0006) is upgraded, and downgraded again, without losing a row."""

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.warehouse import migrate, views
from etl.warehouse.duckdb import file_of
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.postgres import create_role, is_citus, migrated, new_database, run_sql

OLD_ROWS = """
insert into accounts (account_id, name, key_salt, key_hash, since, grid_seconds, created_at, reaches_end, answers_since)
values (1, 'default', 'salt', 'hash', '2026-11-01', 0, '2026-11-01', 2, '2026-11-02');
insert into series values
    (1, 1, 'total', null), (1, 2, 'queue', null), (1, 3, 'queue', 'FunCaptcha'), (1, 4, 'app', '7'), (1, 5, 'app', null),
    (1, 6, 'ip', '192.0.2.10');
insert into names values
    (1, 'queue', 'FunCaptcha', 'doubted', 2, '2026-11-05 09:00'), (1, 'queue', 'FunCaptcha', 'believed', 3, '2026-11-05 09:01'),
    (1, 'app', '8', 'set aside', 4, '2026-11-05 09:02'), (1, 'ip', '192.0.2.10', 'ended', null, '2026-11-05 09:03');
insert into lessons values (1, 'queue', 'totals', null, '2026-11-05'), (1, 'app', 'error', 'E_7', '2026-11-05');
insert into runs values
    (1, 1, 'sync', '0.1.0', '2026-11-05 09:00', '2026-11-05 09:01', 0, 9, 1, 7, 1, 0, 50, 3, 1, 2, 40);
insert into answers values (1, 'h', 'body');
insert into readings
select 1, n, 1, 1, date '2026-11-03', timestamp '2026-11-03', timestamp '2026-11-04', timestamp '2026-11-05 09:00',
       timestamp '2026-11-05 09:00', o, '', '', 200, 'h'
  from (values (1, 'good'), (2, 'partial'), (3, 'refused'), (4, 'broken')) as v(n, o);
insert into facts
select 1, s, date '2026-11-03', timestamp '2026-11-03' + h * interval '1 hour', 3, 1.000000001, 1, timestamp '2026-11-05 09:00'
  from (values (3), (1), (4), (5)) as x(s), (values (2), (0), (1)) as y(h);
insert into contradictions values (1, 2, '2026-11-03', '2026-11-03 05:00', 4, 2.5, 1);
insert into revisions
select 1, 1, date '2026-11-03', timestamp '2026-11-03 02:00', 2, 1, 3, 1.000000001, c, 3, timestamp '2026-11-04', 2,
       timestamp '2026-11-05 09:00' + n * interval '1 minute'
  from (values ('source', 1), ('growth', 2), ('attribution', 3)) as v(c, n);
insert into rejections values (1, 2, 1, '2026-11-03', null, 'negative volume', '{}', '2026-11-05 09:00');
insert into days values
    (1, '2026-11-03', 'final', '2026-11-09', 9, 3.000000003, 0, 0, true, true),
    (1, '2026-11-04', 'open', '2026-11-05', 0, 0, 0, 0, false, false);
insert into probes values (1, 'the running hour', 'included', 'sure', 'total', null, '2026-11-05', 200, '2026-11-05');
insert into findings values (1, 1, 'a check', 'warning', '2026-11-03', 'FunCaptcha', 'look', '2026-11-05');
"""

NEW_TABLES = {
    "names": "member_statuses",
    "lessons": "unknown_name_behaviours",
    "answers": "responses",
    "readings": "snapshots",
    "contradictions": "over_allocated_hours",
    "days": "day_coverage",
}
NEW_WORDS = {
    "believed": "verified",
    "doubted": "unverified",
    "set aside": "excluded",
    "ended": "retired",
    "good": "success",
    "refused": "api_error",
    "broken": "failed",
    "source": "correction",
    "growth": "late_arriving",
}
OLD_TABLES = ("accounts", "series", "runs", "facts", "revisions", "rejections", "findings", "probes", *NEW_TABLES)


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.server)])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
    """A warehouse of revision 0006 with at least one row in every table and every stored word."""
    url = warehouse_url(str(tmp_path / "w.duckdb")) if request.param == "duckdb" else new_database()
    engine = open_warehouse(url)
    migrate.upgrade(engine, "0006")
    with engine.begin() as connection:
        for statement in OLD_ROWS.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    return engine


def rows_of(engine: sa.Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def table(engine: sa.Engine, name: str) -> list[tuple[Any, ...]]:
    return rows_of(engine, f"select * from {name}")


def everything(engine: sa.Engine, *, is_new: bool) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table, in their order in a file and sorted on a server, with the current names and words."""
    found = {}
    for old_name in OLD_TABLES:
        name = NEW_TABLES.get(old_name, old_name)
        rows = table(engine, f"internal.{name}" if is_new else old_name)
        if not is_new and name == "runs":
            rows = [(*row, *[None] * 6) for row in rows]  # columns that revision 0008 added
        if not is_new and old_name in ("names", "readings", "revisions"):
            rows = [
                tuple(NEW_WORDS.get(value, value) if isinstance(value, str) else value for value in row) for row in rows
            ]
        found[name] = rows if engine.dialect.name == "duckdb" else sorted(rows, key=repr)
    return found


def test_an_upgrade_preserves_every_row_and_translates_stored_words(old: sa.Engine) -> None:
    before = everything(old, is_new=False)
    assert all(before.values())
    migrate.upgrade(old)
    assert migrate.state(old) == "current"
    assert everything(old, is_new=True) == before


STRUCTURE = {
    "duckdb": """
        select table_name, cast(column_index as varchar), column_name, data_type, cast(is_nullable as varchar),
               coalesce(column_default, ''), coalesce(comment, '')
          from duckdb_columns() where schema_name = 'internal'
        union all
        select table_name, '', constraint_type, constraint_text, '', '', '' from duckdb_constraints()
         where schema_name = 'internal'
        union all
        select table_name, '', index_name, sql, '', '', '' from duckdb_indexes()
        union all
        select table_name, '', comment, '', '', '', '' from duckdb_tables() where schema_name = 'internal'
    """,
    "postgresql": """
        select c.relname, a.attname,
               cast(row_number() over (partition by c.oid order by a.attnum) as text),  -- without dropped columns
               format_type(a.atttypid, a.atttypmod),
               cast(a.attnotnull as text), coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
               coalesce(col_description(c.oid, a.attnum), '')
          from pg_class as c
          join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relnamespace = 'internal'::regnamespace and c.relkind = 'r'
        union all
        select conrelid::regclass::text, case contype when 'n' then '' else conname end, '', pg_get_constraintdef(oid), '', '', '' from pg_constraint
         where connamespace = 'internal'::regnamespace
        union all
        select tablename, indexname, '', indexdef, '', '', '' from pg_indexes where schemaname = 'internal'
        union all
        select relname, '', '', coalesce(obj_description(oid), ''), '', '', '' from pg_class
         where relnamespace = 'internal'::regnamespace and relkind = 'r'
    """,
}


def test_a_new_warehouse_has_the_tables_that_all_migrations_make(old: sa.Engine, tmp_path: Path) -> None:
    migrate.upgrade(old)
    name = old.dialect.name
    new = open_warehouse(warehouse_url(str(tmp_path / "new.duckdb")) if name == "duckdb" else new_database())
    migrate.upgrade(new)
    migrated, created = (sorted(rows_of(engine, STRUCTURE[name]), key=repr) for engine in (old, new))
    assert len(created) > 100
    assert created == migrated


def test_a_downgrade_restores_the_old_rows(old: sa.Engine) -> None:
    before = {name: sorted(table(old, name), key=repr) for name in OLD_TABLES}
    migrate.upgrade(old)
    migrate.downgrade(old, "0006")
    assert migrate.current(old) == "0006"
    assert {name: sorted(table(old, name), key=repr) for name in OLD_TABLES} == before


def test_the_views_show_what_the_first_release_loaded(old: sa.Engine) -> None:
    migrate.upgrade(old)
    (total,) = table(old, "(select count(*), sum(volume), sum(money) from spending_total_hourly) as t")
    assert [str(value) for value in total] == ["3", "9", "3.000000003"]
    assert len(table(old, "spending_hourly")) == 3
    assert len(table(old, "spending_by_app_daily")) == 2
    assert len(table(old, "spending_revisions")) == 1  # of three causes, the correction alone
    assert {row[2] for row in table(old, "coverage_daily")} == {"final", "open"}


def test_the_schema_of_the_views_has_only_the_public_views(old: sa.Engine) -> None:
    public = {view.name for view in views.public_views()}
    assert len(public) == 15
    migrate.upgrade(old)
    with old.connect() as connection:
        listed = "select table_name from information_schema.tables where table_schema = current_schema()"
        others = {"citus_tables", "citus_schemas"} if is_citus() else set()
        assert set(connection.exec_driver_sql(listed).scalars()) - others == public
        if connection.dialect.name == "duckdb":
            assert set(connection.exec_driver_sql("show tables").scalars()) == public


def kills() -> Iterator[float]:
    dice = random.Random(7)
    yield from (dice.uniform(0.0, 1.0) for _ in range(6))


def test_an_upgrade_killed_at_any_moment_leaves_the_old_warehouse_or_the_new_one(tmp_path: Path) -> None:
    engine = open_warehouse(warehouse_url(str(tmp_path / "w.duckdb")))
    migrate.upgrade(engine, "0006")
    with engine.begin() as connection:
        for statement in OLD_ROWS.split(";\n"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            "insert into facts select 1, 3 + i, date '2020-01-01', timestamp '2020-01-01' + to_hours(h), 1, 1, 1, "
            "timestamp '2026-11-05' from range(100) s(i), range(10000) t(h)"
        )
    before = {name: table(engine, f"(select count(*) from {name}) as n") for name in OLD_TABLES}
    code = f"""if True:
        from etl.warehouse import engine, migrate
        print("start", flush=True)
        migrate.upgrade(engine.open_warehouse({str(engine.url)!r}))
    """
    for moment in kills():
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            threading.Event().wait(moment)
            process.send_signal(signal.SIGKILL)
        if migrate.current(engine) != "0006":
            break
        assert {name: table(engine, f"(select count(*) from {name}) as n") for name in OLD_TABLES} == before
    migrate.upgrade(engine)
    assert migrate.state(engine) == "current"
    after = {
        name: table(engine, f"(select count(*) from internal.{NEW_TABLES.get(name, name)}) as n") for name in OLD_TABLES
    }
    assert after == before
    assert list(file_of(engine.url).parent.glob("w.duckdb*")) == [file_of(engine.url)]


# ---------------------------------------------------------------- read-only users of a server

GRANTS = (
    "grant usage on schema public to {role}",
    "grant select on all tables in schema public to {role}",
)
"""All that a user of a BI tool needs; ``spending_as_of`` needs its own grant."""

GRANTS_ON_CITUS = (
    "grant usage on schema internal to {role}",
    "grant select on all tables in schema internal to {role}",
)
"""Workers read the tables behind a view as the user who asks."""


@pytest.mark.server
def test_a_reader_with_two_grants_reads_all_views_and_no_table() -> None:
    url = sa.make_url(new_database(like=migrated()))
    create_role(url, "analyst")
    for grant in (*GRANTS, *(GRANTS_ON_CITUS if is_citus() else ())):
        run_sql(url, grant.format(role="analyst"))
    reader = url.set(username="analyst")
    for view in views.public_views():
        assert run_sql(reader, f"select count(*) from {view.name}") == [(0,)]
    if is_citus():
        return
    for name in ("facts", "accounts", "responses", "alembic_version", "closed_days"):
        with pytest.raises(Exception, match="permission denied"):
            run_sql(reader, f"select * from internal.{name}")


@pytest.mark.server
def test_spending_as_of_needs_its_own_grant() -> None:
    url = sa.make_url(new_database(like=migrated()))
    create_role(url, "analyst")
    run_sql(url, "grant usage on schema public to analyst")
    reader, past = url.set(username="analyst"), "select count(*) from spending_as_of(timestamp '2026-11-05')"
    with pytest.raises(Exception, match="permission denied"):
        run_sql(reader, past)
    run_sql(url, "grant execute on function spending_as_of(timestamp) to analyst")
    assert run_sql(reader, past) == [(0,)]

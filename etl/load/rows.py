"""Rows as the tables store them, and statements for many rows at once."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, text

from etl.warehouse.bulk_params import list_params, unnest_select
from etl.warehouse.upserts import Upsert

Row = tuple[object, ...]
"""A row in the order of its table's columns, without ``account_id``."""


class RunKey(NamedTuple):
    account_id: int
    run: int


def to_db_utc(moment: datetime) -> datetime:
    """UTC without a zone, as columns store it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def to_db_utc_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else to_db_utc(moment)


def columns_of(table: Table) -> list[Column[object]]:
    """The columns of a ``Row``."""
    return [column for column in table.columns if column.name != "account_id"]


def names_of(columns: Iterable[Column[object]]) -> str:
    return ", ".join(column.name for column in columns)


class Statement(NamedTuple):
    """SQL, or an upsert that becomes the SQL of the engine, with its parameters."""

    sql: str | Upsert
    params: dict[str, object]


def bulk_statement(
    sql: str | Upsert, account_id: int, columns: Sequence[Column[Any]], rows: Sequence[Row], **params: object
) -> list[Statement]:
    """A statement that reads rows from ``unnest_select(columns)``; none without rows."""
    return [Statement(sql, {"a": account_id, **params, **list_params(columns, rows)})] if rows else []


def insert_statement(table: Table, account_id: int, rows: Sequence[Row]) -> list[Statement]:
    columns = columns_of(table)
    sql = f"insert into {table} (account_id, {names_of(columns)}) select :a, b.* from ({unnest_select(columns)}) as b"
    return bulk_statement(sql, account_id, columns, rows)


def execute(connection: Connection, statements: Iterable[Statement]) -> list[Any]:
    """Execute statements in order; return the rows of those that return rows."""
    results = [
        connection.execute(text(sql if isinstance(sql, str) else sql.sql(connection)), params)
        for sql, params in statements
    ]
    return [row for result in results if result.returns_rows for row in result]


def insert(connection: Connection, table: Table, account_id: int, rows: Sequence[Row]) -> None:
    execute(connection, insert_statement(table, account_id, rows))


def delete_days(connection: Connection, table: Table, account_id: int, days: Iterable[date]) -> None:
    statement = text(f"delete from {table} where account_id = :a and day in (select unnest(cast(:days as date[])))")
    connection.execute(statement, {"a": account_id, "days": list(days)})

"""Rows as the tables store them, and statements for many rows at once."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from sqlalchemy import Column, Connection, Table, text

from etl.warehouse.bulk_params import list_params, unnest_select

Row = tuple[object, ...]
"""A row in the order of its table's columns, without ``account_id``."""


class RunKey(NamedTuple):
    account_id: int
    run: int


def to_db_utc(moment: datetime) -> datetime:
    """UTC without a zone, as columns store it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def from_db_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def columns_of(table: Table) -> list[Column[object]]:
    """The columns of a ``Row``."""
    return [column for column in table.columns if column.name != "account_id"]


def insert(connection: Connection, table: Table, account_id: int, rows: Sequence[Row]) -> None:
    if rows:
        columns = columns_of(table)
        names = ", ".join(column.name for column in columns)
        source = unnest_select(columns)
        statement = f"insert into {table} (account_id, {names}) select :account_id, {names} from ({source}) as b"
        connection.execute(text(statement), {"account_id": account_id, **list_params(columns, rows)})


def delete_days(connection: Connection, table: Table, account_id: int, days: Iterable[date]) -> None:
    connection.execute(
        text(f"delete from {table} where account_id = :account_id and day in (select unnest(cast(:days as date[])))"),
        {"account_id": account_id, "days": list(days)},
    )

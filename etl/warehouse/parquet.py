"""Rows of SQL that strangers wrote, as a Parquet file: the database that reads cannot write, the one that writes sees
no SQL."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa

from etl.warehouse.sql_guard import gives_rows

_ASKED = "asked_for_parquet"

_LACKING = {
    **dict.fromkeys(("HUGEINT", "UHUGEINT"), "decimal(38, 0)"),  # DuckDB would write a DOUBLE
    **dict.fromkeys(("UUID", "INTERVAL", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP_NS", "BIT", "BIGNUM"), "varchar"),
}
"""Types that Parquet does not hold exactly, or that make the whole file unreadable for Spark, and what is written
instead."""

_LACKING_INSIDE = re.compile(r"\b(U?HUGEINT|UUID|INTERVAL|TIME(?! ZONE)|TIMESTAMP_NS|BIT|BIGNUM)\b")


class _Stream:
    """Rows on their way from one database to another, a batch at a time."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


def write(connection: sa.Connection, sql: str, path: Path) -> None:
    """Writes the rows of one reading statement to a new file. Whole numbers beyond 64 bits come out as DECIMAL(38, 0).

    ``connection`` is sealed, and so the statement reaches nothing but the warehouse. Raises ValueError for a column
    that Parquet cannot hold, SQLAlchemy's or DuckDB's error for SQL that is wrong.
    """
    if connection.dialect.name == "postgresql":
        _write_from_server(connection, sql, path)
        return
    connection.exec_driver_sql(f"create temp view {_ASKED} as\n{sql}")
    columns = [_exact(str(name), str(kind)) for name, kind, *_ in connection.exec_driver_sql(f"describe {_ASKED}")]
    driver: Any = connection.connection.driver_connection
    relation = driver.sql(f"select {', '.join(columns)} from {_ASKED}")  # noqa: S608 - names are quoted
    with duckdb.connect() as writer:
        writer.from_arrow(_Stream(relation)).write_parquet(str(path))


def _exact(name: str, kind: str) -> str:
    """The column as Parquet holds it in every digit."""
    column = _quoted(name)
    if kind in _LACKING:
        return f"cast({column} as {_LACKING[kind]}) as {column}"
    if found := _LACKING_INSIDE.search(kind):
        raise ValueError(f"Parquet does not hold {found[0]}, which is inside column {name!r}")
    return column


# ---------------------------------------------------------------- from a server

_SERVERS = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "oid": "bigint", "float4": "float",
    "float8": "double", "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz", "bytea": "blob",
}  # fmt: skip
"""PostgreSQL's types and those in which DuckDB holds them exactly. All others come as texts; of numerics see
``_decimal``."""

MOST_DIGITS = 38
_AT_ONCE = 10_000


def _write_from_server(connection: sa.Connection, sql: str, path: Path) -> None:
    """By way of a DuckDB file beside ``path``, column by column in a type that holds it exactly."""
    options = {"stream_results": gives_rows(sql)}
    with (
        connection.execution_options(**options).exec_driver_sql(sql) as result,
        duckdb.connect(path.with_name("rows.duckdb")) as writer,
    ):
        told: Any = result.cursor.description
        driver: Any = connection.connection.driver_connection
        kinds = [_kind(driver.adapters.types, column.type_code) for column in told]
        types = [_type(kind, column) for kind, column in zip(kinds, told, strict=True)]
        places = [f"c{place}" for place in range(len(told))]
        writer.execute(
            f"create table rows ({', '.join(f'{place} {kind}' for place, kind in zip(places, types, strict=True))})"
        )
        add = f"insert into rows select {', '.join(f'unnest(?::{kind}[])' for kind in types)}"
        for part in result.partitions(_AT_ONCE):
            columns = zip(*part, strict=True)
            writer.execute(add, [_told(column, kind) for column, kind in zip(columns, types, strict=True)])
        selected = [
            f"{_decimal(writer, place) if (kind, held) == ('numeric', 'varchar') else place} as {_quoted(column.name)}"
            for place, kind, held, column in zip(places, kinds, types, told, strict=True)
        ]
        writer.table("rows").project(", ".join(selected)).write_parquet(str(path))


def _kind(types: Any, number: int) -> str:
    """The name of a type that is known, and is no array: an array is found under its items' name."""
    found = types.get(number)
    return str(found.name) if found and found.oid == number else ""


def _type(kind: str, column: Any) -> str:
    """The type that holds a column until it is written: of a numeric its own, where it says one."""
    if (
        kind == "numeric"
        and column.precision
        and column.precision <= MOST_DIGITS
        and 0 <= column.scale <= column.precision
    ):
        return f"decimal({column.precision}, {column.scale})"
    return _SERVERS.get(kind, "varchar")


def _told(column: Sequence[object], kind: str) -> list[object]:
    return list(column) if kind != "varchar" else [None if value is None else _text(value) for value in column]


def _text(value: object) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _decimal(writer: duckdb.DuckDBPyConnection, place: str) -> str:
    """A column of numerics whose places only its values tell, as where they were summed. Raises ValueError where
    Parquet has no such number."""
    rows = writer.table("rows")
    whole, part = f"split_part(ltrim({place}, '-'), '.', 1)", f"split_part({place}, '.', 2)"
    special = f"count(*) filter (where {place} in ('NaN', 'Infinity', '-Infinity'))"
    measured = f"max(length({whole})), max(length({part})), {special}"
    [(digits, scale, strange)] = rows.aggregate(measured).fetchall()
    if strange:
        raise ValueError("Parquet's decimals hold no NaN and no Infinity")
    if (digits or 0) + (scale or 0) > MOST_DIGITS:
        raise ValueError(f"Parquet's decimals hold {MOST_DIGITS} digits, a column has {digits + scale}: round it")
    return f"cast({place} as decimal({MOST_DIGITS}, {scale or 0}))"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""Write the rows of users' SQL to a Parquet file. The database that runs the SQL is sealed and cannot write files;
a second one, which runs no SQL of the user, writes them."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa

from etl.warehouse.sql_guard import gives_rows

_VIEW = "parquet_source"

_REPLACED_TYPES = {
    **dict.fromkeys(("HUGEINT", "UHUGEINT"), "decimal(38, 0)"),  # DuckDB would write a DOUBLE
    **dict.fromkeys(("UUID", "INTERVAL", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP_NS", "BIT", "BIGNUM"), "varchar"),
}
"""Types that Parquet stores inexactly, or that make the file unreadable for Spark, and what is written instead."""

_UNSUPPORTED_INSIDE = re.compile(r"\b(U?HUGEINT|UUID|INTERVAL|TIME(?! ZONE)|TIMESTAMP_NS|BIT|BIGNUM)\b")


class ArrowStream:
    """Passes rows from one database to another in batches."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


def write(connection: sa.Connection, sql: str, path: Path) -> None:
    """Write the rows of one statement that reads to a new file. Integers beyond 64 bits become DECIMAL(38, 0).

    ``connection`` must be sealed. Raises ValueError for a column that Parquet cannot store, SQLAlchemy's or DuckDB's
    error for SQL that is wrong.
    """
    if connection.dialect.name == "postgresql":
        _write_from_server(connection, sql, path)
        return
    connection.exec_driver_sql(f"create temp view {_VIEW} as\n{sql}")
    columns = [_exact(str(name), str(kind)) for name, kind, *_ in connection.exec_driver_sql(f"describe {_VIEW}")]
    driver: Any = connection.connection.driver_connection
    relation = driver.sql(f"select {', '.join(columns)} from {_VIEW}")  # noqa: S608 - names are quoted
    with duckdb.connect() as writer:
        writer.from_arrow(ArrowStream(relation)).write_parquet(str(path))


def _exact(name: str, kind: str) -> str:
    """The expression that selects a column so that Parquet stores it exactly."""
    column = _quoted(name)
    if kind in _REPLACED_TYPES:
        return f"cast({column} as {_REPLACED_TYPES[kind]}) as {column}"
    if found := _UNSUPPORTED_INSIDE.search(kind):
        raise ValueError(f"Parquet cannot store {found[0]}, which is inside column {name!r}")
    return column


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ---------------------------------------------------------------- from a server

_SERVER_TYPES = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "oid": "bigint", "float4": "float",
    "float8": "double", "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz", "bytea": "blob",
}  # fmt: skip
"""PostgreSQL's types and the DuckDB types that store them exactly. Others become text; for numeric see ``_decimal``."""

MAX_DIGITS = 38
_BATCH_SIZE = 10_000


def _write_from_server(connection: sa.Connection, sql: str, path: Path) -> None:
    """Copies the rows to a DuckDB file beside ``path`` first, because the type of a numeric depends on all values."""
    options = {"stream_results": gives_rows(sql)}
    with (
        connection.execution_options(**options).exec_driver_sql(sql) as result,
        duckdb.connect(path.with_name("rows.duckdb")) as writer,
    ):
        columns: Any = result.cursor.description
        driver: Any = connection.connection.driver_connection
        kinds = [_server_type(driver.adapters.types, column.type_code) for column in columns]
        types = [_stored_type(kind, column) for kind, column in zip(kinds, columns, strict=True)]
        writer.execute(f"create table rows ({', '.join(f'c{place} {type_}' for place, type_ in enumerate(types))})")
        insert = f"insert into rows select {', '.join(f'unnest(?::{type_}[])' for type_ in types)}"
        for batch in result.partitions(_BATCH_SIZE):
            values = zip(zip(*batch, strict=True), types, strict=True)
            writer.execute(insert, [_as_stored(column, type_) for column, type_ in values])
        selected = []
        for place, (column, kind, type_) in enumerate(zip(columns, kinds, types, strict=True)):
            has_unknown_scale = kind == "numeric" and type_ == "varchar"
            value = _decimal(writer, f"c{place}") if has_unknown_scale else f"c{place}"
            selected.append(f"{value} as {_quoted(column.name)}")
        writer.table("rows").project(", ".join(selected)).write_parquet(str(path))


def _server_type(types: Any, number: int) -> str:
    """The name of a type; empty if it is unknown or an array (the driver finds arrays under their items' name)."""
    found = types.get(number)
    return str(found.name) if found and found.oid == number else ""


def _stored_type(kind: str, column: Any) -> str:
    """The DuckDB type that stores a column until it is written."""
    precision, scale = column.precision, column.scale
    if kind == "numeric" and precision and precision <= MAX_DIGITS and 0 <= scale <= precision:
        return f"decimal({precision}, {scale})"
    return _SERVER_TYPES.get(kind, "varchar")


def _as_stored(column: Sequence[object], type_: str) -> list[object]:
    return list(column) if type_ != "varchar" else [None if value is None else _text(value) for value in column]


def _text(value: object) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _decimal(writer: duckdb.DuckDBPyConnection, column: str) -> str:
    """The cast of a numeric without a scale, such as a sum, which fits all its values.

    Raises ValueError if Parquet has no such number.
    """
    whole, part = f"split_part(ltrim({column}, '-'), '.', 1)", f"split_part({column}, '.', 2)"
    special = f"count(*) filter (where {column} in ('NaN', 'Infinity', '-Infinity'))"
    aggregates = f"max(length({whole})), max(length({part})), {special}"
    [(digits, scale, special_count)] = writer.table("rows").aggregate(aggregates).fetchall()
    if special_count:
        raise ValueError("Parquet's decimals cannot be NaN or Infinity")
    if (digits or 0) + (scale or 0) > MAX_DIGITS:
        raise ValueError(
            f"Parquet's decimals have at most {MAX_DIGITS} digits, a column has {digits + scale}: round it"
        )
    return f"cast({column} as decimal({MAX_DIGITS}, {scale or 0}))"

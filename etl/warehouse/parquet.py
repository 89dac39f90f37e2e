"""Rows of SQL that strangers wrote, as a Parquet file: the database that reads cannot write, the one that writes sees no SQL."""

import re
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa

_ASKED = "asked_for_parquet"

_LACKING = {
    **dict.fromkeys(("HUGEINT", "UHUGEINT"), "decimal(38, 0)"),  # DuckDB would write a DOUBLE
    **dict.fromkeys(("UUID", "INTERVAL", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP_NS", "BIT", "BIGNUM"), "varchar"),
}
"""Types that Parquet does not hold exactly, or that make the whole file unreadable for Spark, and what is written instead."""

_LACKING_INSIDE = re.compile(r"\b(U?HUGEINT|UUID|INTERVAL|TIME(?! ZONE)|TIMESTAMP_NS|BIT|BIGNUM)\b")


class _Stream:
    """Rows on their way from one database to another, a batch at a time."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


def write(connection: sa.Connection, sql: str, path: Path) -> None:
    """Writes the rows of one reading statement to a new file. Whole numbers beyond 64 bits come out as DECIMAL(38, 0).

    ``connection`` is sealed, and so the statement reaches nothing but the warehouse. Raises ValueError for a column that
    Parquet cannot hold, SQLAlchemy's or DuckDB's error for SQL that is wrong.
    """
    connection.exec_driver_sql(f"create temp view {_ASKED} as\n{sql}")
    columns = [_exact(str(name), str(kind)) for name, kind, *_ in connection.exec_driver_sql(f"describe {_ASKED}")]
    driver: Any = connection.connection.driver_connection
    relation = driver.sql(f"select {', '.join(columns)} from {_ASKED}")  # noqa: S608 - names are quoted
    with duckdb.connect() as writer:
        writer.from_arrow(_Stream(relation)).write_parquet(str(path))


def _exact(name: str, kind: str) -> str:
    """The column as Parquet holds it in every digit."""
    column = '"' + name.replace('"', '""') + '"'
    if kind in _LACKING:
        return f"cast({column} as {_LACKING[kind]}) as {column}"
    if found := _LACKING_INSIDE.search(kind):
        raise ValueError(f"Parquet does not hold {found[0]}, which is inside column {name!r}")
    return column

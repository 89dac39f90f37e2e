"""From a URL to an engine: a DuckDB file or a PostgreSQL database. What differs is in ``duckdb`` and ``postgres``.

There is no pool: each ``connect`` opens the file, or connects to the server, again.
"""

from pathlib import Path

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import UsageError
from etl.warehouse import duckdb, postgres
from etl.warehouse.connecting import missing_warehouse

_FORMS = "--warehouse takes a path, duckdb:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


def warehouse_url(text: str) -> str:
    """The SQLAlchemy URL of a warehouse, from a URL or from the path of a DuckDB file. Paths become absolute.

    Raises UsageError if it cannot be a warehouse.
    """
    if "://" not in text:
        return duckdb.file_url(text)
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # ValueError: the port is not a number
        raise UsageError("the warehouse is neither a path nor a SQLAlchemy URL", _FORMS) from None
    if url.get_backend_name() == "postgresql":
        return postgres.database_url(url)
    if url.get_backend_name() != "duckdb":
        raise UsageError(f"a warehouse cannot be in {url.get_backend_name()}", _FORMS)
    if url.query:
        raise UsageError(
            f"the warehouse's URL takes no settings: {', '.join(url.query)}", "remove the ? and what follows it"
        )
    return duckdb.file_url(url.database or "")


def warehouse_path(url: str) -> Path | None:
    """The absolute path of a DuckDB file, without links; None for a warehouse on a server."""
    parts = sa.make_url(url)
    return None if postgres.is_postgresql(parts) else duckdb.file_of(parts)


def name_of(url: str | sa.URL) -> str:
    """A warehouse as messages name it: the file's path, or host and database, never a user or a password."""
    parts = sa.make_url(url)
    return postgres.name_of(parts) if postgres.is_postgresql(parts) else parts.database or ""


def open_warehouse(
    url: str,
    *,
    read_only: bool = False,
    wait: float = 0.0,
    clock: Clock | None = None,
    writable_folder: Path | None = None,
) -> sa.Engine:
    """The engine of a warehouse; a missing DuckDB file is created, unless ``read_only``.

    ``read_only`` also prevents SQL from reaching anything outside the warehouse, and gives each connection one
    consistent snapshot; only in the absolute folder ``writable_folder`` can our own SQL still read and write files.
    Every ``connect`` waits up to ``wait`` seconds for other programs.
    """
    parts, clock = sa.make_url(url), clock or Clock()
    if postgres.is_postgresql(parts):
        return postgres.open_database(parts, read_only=read_only, wait=wait, clock=clock)
    return duckdb.open_file(parts, read_only=read_only, wait=wait, clock=clock, writable_folder=writable_folder)


def exists(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> bool:
    """True if there is a file, or our tables in the database."""
    path = warehouse_path(url)
    if path is not None:
        return path.exists()
    with open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection:
        return postgres.has_tables(connection)


def require_warehouse(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> None:
    """Raise WarehouseError if there is no warehouse."""
    if not exists(url, wait=wait, clock=clock):
        raise missing_warehouse(name_of(url))


# ---------------------------------------------------------------- what each engine does its own way


def _is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def merge_action(connection: sa.Connection) -> str:
    """The expression in the RETURNING of a MERGE that says what it did with a row."""
    return "merge_action()" if _is_postgresql(connection) else "merge_action"


def stop(connection: sa.Connection) -> None:
    """Make the statement that the connection is running fail, from another thread. No effect if none is running."""
    (postgres if _is_postgresql(connection) else duckdb).stop(connection)


def disable_nested_loops(connection: sa.Connection) -> None:
    """Plan joins for many rows until the transaction ends. Needed on PostgreSQL only."""
    if _is_postgresql(connection):
        postgres.disable_nested_loops(connection)


def lock_schema_changes(connection: sa.Connection) -> None:
    """Let no other transaction create tables or accounts until this one ends. A DuckDB file has one writer anyway."""
    if _is_postgresql(connection):
        postgres.lock_schema_changes(connection)

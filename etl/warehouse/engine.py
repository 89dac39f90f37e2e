"""From a URL to an engine: a DuckDB file or a PostgreSQL database. What differs between them is in ``duckdb`` and
``postgres``.

Nothing is pooled: each ``connect`` opens the file, or connects to the server, again.
"""

from pathlib import Path

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError
from etl.warehouse import duckdb, postgres

_FORM = "--warehouse takes a path, duckdb:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


def warehouse_url(text: str) -> str:
    """The SQLAlchemy URL of ``text``: itself one, or a path, which means a DuckDB file. File names come out absolute.

    Raises UsageError for what names no warehouse.
    """
    if "://" not in text:
        return duckdb.file_url(text)
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # the latter of a port that is no number
        raise UsageError("the warehouse is neither a path nor a SQLAlchemy URL", _FORM) from None
    if url.get_backend_name() == "postgresql":
        return postgres.database_url(url)
    if url.get_backend_name() != "duckdb":
        raise UsageError(f"no warehouse is kept in {url.get_backend_name()}", _FORM)
    if url.query:
        raise UsageError(
            f"the warehouse's URL takes no settings: {', '.join(url.query)}", "leave out what stands after the ?"
        )
    return duckdb.file_url(url.database or "")


def warehouse_path(url: str) -> Path | None:
    """The absolute path of a DuckDB warehouse's file itself, whatever link names it; None for one on a server."""
    parts = sa.make_url(url)
    return None if postgres.is_ours(parts) else duckdb.file_of(parts)


def name_of(url: str | sa.URL) -> str:
    """A warehouse as people are told of it: the file's path, or host and database, never a user or a password."""
    parts = sa.make_url(url)
    return postgres.name_of(parts) if postgres.is_ours(parts) else parts.database or ""


def open_warehouse(
    url: str, *, read_only: bool = False, wait: float = 0.0, clock: Clock | None = None, atomic: Path | None = None
) -> sa.Engine:
    """The engine of a warehouse; a DuckDB file that is not there is created, unless ``read_only``.

    ``read_only`` also seals it against what SQL can do outside the warehouse, and what one connection reads is of one
    moment.
    ``atomic`` is for SQL of our own on a file: an absolute folder below which it may write and read all the same.
    What another program holds is tried again for ``wait`` seconds at every ``connect`` and ``begin``.

    The engine itself raises WarehouseLockedError and WarehouseError in place of the driver's errors about locks, files,
    servers, permissions and disks; errors in SQL stay SQLAlchemy's. Raises UsageError where a server's driver is not
    installed.
    """
    parts, clock = sa.make_url(url), clock or Clock()
    if postgres.is_ours(parts):
        return postgres.open_database(parts, read_only=read_only, wait=wait, clock=clock)
    return duckdb.open_file(parts, read_only=read_only, wait=wait, clock=clock, atomic=atomic)


def exists(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> bool:
    """Whether there is anything to read: the file, or tables of ours in the database."""
    path = warehouse_path(url)
    if path is not None:
        return path.exists()
    with open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection:
        return postgres.holds_tables(connection)


def require_warehouse(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> None:
    """Raises WarehouseError when there is no warehouse."""
    if not exists(url, wait=wait, clock=clock):
        raise WarehouseError(
            f"there is no warehouse at {name_of(url)}",
            "create one with anticaptcha-etl sync, or choose another with --warehouse",
        )


def merge_action(connection: sa.Connection) -> str:
    """What a MERGE did with a row, as its ``returning`` writes it: the one word that the two spell differently."""
    return "merge_action()" if connection.dialect.name == "postgresql" else "merge_action"


def stop(connection: sa.Connection) -> None:
    """Makes the statement that the connection is at fail; from another thread. None is no error."""
    (postgres if connection.dialect.name == "postgresql" else duckdb).stop(connection)


def expect_many(connection: sa.Connection) -> None:
    """Until the transaction ends joins are planned for many rows. A file's engine knows how many there are."""
    if connection.dialect.name == "postgresql":
        postgres.expect_many(connection)


def take_turns(connection: sa.Connection) -> None:
    """Until the transaction ends no other makes tables or accounts. A file has one writer in any case."""
    if connection.dialect.name == "postgresql":
        postgres.take_turns(connection)

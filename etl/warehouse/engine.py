"""From a URL to an engine: a DuckDB file or a PostgreSQL database. What differs is in ``duckdb`` and ``postgres``.

There is no pool: each ``connect`` opens the file, or connects to the server, again.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from etl.clock import Clock
from etl.errors import UsageError
from etl.warehouse import duckdb
from etl.warehouse.connecting import missing_warehouse

if TYPE_CHECKING:
    import sqlalchemy as sa

_FORMS = "--warehouse takes a path, duckdb:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


def warehouse_url(text: str) -> str:
    """The SQLAlchemy URL of a warehouse, from a URL or from the path of a DuckDB file. Paths become absolute.

    Raises UsageError if it cannot be a warehouse.
    """
    path = text.removeprefix(duckdb.URL_PREFIX)
    if "://" not in text or (path != text and "?" not in path):
        return duckdb.file_url(path)
    import sqlalchemy as sa

    from etl.warehouse import postgres

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
    return duckdb.file_of(url) if url.startswith(duckdb.URL_PREFIX) else None


def name_of(url: "str | sa.URL") -> str:
    """A warehouse as messages name it: the file's path, or host and database, never a user or a password."""
    name = str(url).removeprefix(duckdb.URL_PREFIX)
    if name != str(url):
        return name
    from sqlalchemy import make_url

    from etl.warehouse import postgres

    return postgres.name_of(make_url(url))


def open_warehouse(
    url: str,
    *,
    read_only: bool = False,
    wait: float = 0.0,
    clock: Clock | None = None,
    writable_folder: Path | None = None,
) -> "sa.Engine":
    """The engine of a warehouse; a missing DuckDB file is created, unless ``read_only``.

    ``read_only`` also prevents SQL from reaching anything outside the warehouse, and gives each connection one
    consistent snapshot; only in the absolute folder ``writable_folder`` can our own SQL still read and write files.
    Every ``connect`` waits up to ``wait`` seconds for other programs.
    """
    clock = clock or Clock()
    if path := warehouse_path(url):
        opener = duckdb.FileOpener(path, read_only=read_only, wait=wait, clock=clock, writable_folder=writable_folder)
        return duckdb.open_file(opener)
    from sqlalchemy import make_url

    from etl.warehouse import postgres

    return postgres.open_database(make_url(url), read_only=read_only, wait=wait, clock=clock)


def exists(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> bool:
    """True if there is a file, or our tables in the database."""
    path = warehouse_path(url)
    if path is not None:
        return path.exists()
    from etl.warehouse import postgres

    with open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection:
        return postgres.has_tables(connection)


def require_warehouse(url: str, *, wait: float = 0.0, clock: Clock | None = None) -> None:
    """Raise WarehouseError if there is no warehouse."""
    if not exists(url, wait=wait, clock=clock):
        raise missing_warehouse(name_of(url))


# ---------------------------------------------------------------- what each engine does its own way


def lock_schema_changes(connection: "sa.Connection") -> None:
    """Let no other transaction create tables or accounts until this one ends. A DuckDB file has one writer anyway."""
    if connection.dialect.name == "postgresql":
        from etl.warehouse import postgres

        postgres.lock_schema_changes(connection)

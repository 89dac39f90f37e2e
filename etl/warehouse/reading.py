"""Read a warehouse: a DuckDB file through its driver, a PostgreSQL database through SQLAlchemy.

Importing SQLAlchemy takes longer than most commands that read a file.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from etl.clock import Clock
from etl.warehouse.duckdb import FileOpener
from etl.warehouse.engine import name_of, open_warehouse, warehouse_path
from etl.warehouse.sql_guard import gives_rows

if TYPE_CHECKING:
    import sqlalchemy as sa

_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


class SqlError(Exception):
    """The engine refused a statement; the message is the engine's."""


class Result(NamedTuple):
    """Column names, and a function that fetches the next rows, at most as many as it is told; none at the end."""

    columns: tuple[str, ...]
    fetch: Callable[[int], Sequence[Sequence[object]]]

    def batches(self, size: int) -> Iterator[Sequence[Sequence[object]]]:
        return iter(partial(self.fetch, size), [])


@contextmanager
def open_for_reading(url: str, *, wait: float = 0, clock: Clock | None = None) -> "Iterator[Reader]":
    """Open a warehouse as ``open_warehouse`` does with ``read_only``."""
    path = warehouse_path(url)
    if path is None:
        with open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection:
            yield ConnectionReader(connection)
        return
    opener = FileOpener(path, read_only=True, wait=wait, clock=clock or Clock())
    driver = opener.connect()
    try:
        yield FileReader(driver, opener)
    finally:
        opener.close(driver.close)


def reader_of(connection: "Reader | sa.Connection") -> "Reader":
    """A reader for an open connection."""
    return connection if isinstance(connection, (FileReader, ConnectionReader)) else ConnectionReader(connection)


def from_db_utc(moment: datetime) -> datetime:
    """Columns store UTC without a zone."""
    return moment.replace(tzinfo=UTC)


def from_db_utc_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else from_db_utc(moment)


# ---------------------------------------------------------------- a file


class FileReader:
    """A DuckDB file. It is open alone and without a transaction: nothing can change it meanwhile."""

    engine = "duckdb"

    def __init__(self, driver: duckdb.DuckDBPyConnection, opener: FileOpener) -> None:
        self.name = str(opener.path)
        """What messages call the warehouse."""
        self.driver, self._translate = driver, opener.translate

    def rows(self, sql: str, **params: object) -> Sequence[Any]:
        """All rows, as named tuples. ``:name`` in ``sql`` stands for a parameter; other parameters are ignored."""
        names = {*_PARAMETER.findall(sql)}
        with self._errors():
            self.driver.execute(_PARAMETER.sub(r"$\1", sql), {name: params[name] for name in names})
            return list(map(_row_type(self._columns)._make, self.driver.fetchall()))

    @contextmanager
    def stream(self, sql: str) -> Iterator[Result]:
        """Run a statement without parameters. It and fetching raise SqlError for what the SQL does wrong."""
        with self._errors():
            self.driver.execute(sql)
        yield Result(self._columns, self._fetch)

    def stop(self) -> None:
        """Make the statement that runs in another thread fail. No effect if none is running."""
        self.driver.interrupt()

    def recover(self) -> None:
        """Continue after a statement that failed."""

    def _fetch(self, size: int) -> Sequence[Sequence[object]]:
        with self._errors():
            return self.driver.fetchmany(size)

    @property
    def _columns(self) -> tuple[str, ...]:
        return tuple(name for name, *_ in self.driver.description or ())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, RuntimeError) as error:  # RuntimeError: a signal handler raised
            if (found := self._translate(error)) is None and isinstance(error, RuntimeError):
                raise
            raise found or SqlError(str(error)) from error


@lru_cache
def _row_type(columns: tuple[str, ...]) -> Any:
    return namedtuple("Row", columns, rename=True)


# ---------------------------------------------------------------- a connection of SQLAlchemy


class ConnectionReader:
    """A connection of SQLAlchemy, to either engine; otherwise like ``FileReader``."""

    def __init__(self, connection: "sa.Connection") -> None:
        self.name, self.engine = name_of(connection.engine.url), connection.dialect.name
        self.recover = connection.rollback
        self.connection = connection

    def rows(self, sql: str, **params: object) -> Sequence[Any]:
        from sqlalchemy import text

        with self.errors():
            return self.connection.execute(text(sql), params).all()

    @contextmanager
    def stream(self, sql: str) -> Iterator[Result]:
        def fetch(size: int) -> Sequence[Sequence[object]]:
            with self.errors():
                return result.fetchmany(size)

        with self.errors():
            result = self.connection.exec_driver_sql(sql, execution_options={"stream_results": gives_rows(sql)})
            columns = tuple(result.keys())
        with result:
            yield Result(columns, fetch)

    @property
    def driver(self) -> Any:
        return self.connection.connection.driver_connection

    def stop(self) -> None:
        (self.driver.cancel if self.engine == "postgresql" else self.driver.interrupt)()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise SqlError in place of SQLAlchemy's errors."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            raise SqlError(str(error.orig if isinstance(error, DBAPIError) else error)) from error


Reader = FileReader | ConnectionReader

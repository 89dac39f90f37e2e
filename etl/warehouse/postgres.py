"""A warehouse on a PostgreSQL server: everything that is specific to PostgreSQL, including the translation of errors.

Several programs write at once, each the rows of its own account. An advisory lock of the database prevents two syncs
of one account; primary keys detect it if the lock was lost.
"""

import hashlib
import json
import os
import re
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError, WarehouseLockedError
from etl.warehouse.connecting import Connect, LockWait, create_engine

NAME = "anticaptcha-etl"
"""What the server's administrator sees of our connections."""

OLDEST = 17
"""The oldest version that the SQL of this program is written for; older ones have not been tried."""

_POLL_SECONDS = 0.5

_FORM = "write postgresql+psycopg://USER@HOST/DATABASE"

_WRITE_SETTINGS = ("timezone = 'UTC'", "datestyle = 'ISO'")
"""Otherwise current_date is the server's day, and dates are written in the server's style."""

_READ_SETTINGS = (
    *_WRITE_SETTINGS,
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'repeatable read'",  # all queries of a connection see the same data
)


def database_url(url: sa.URL) -> str:
    """The URL with its driver. Raises UsageError for another driver, or if the database is missing."""
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise UsageError(f"the PostgreSQL driver {url.drivername} is not supported", _FORM)
    if not url.database:
        raise UsageError("the warehouse's URL names no database", _FORM)
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def name_of(url: sa.URL) -> str:
    host = url.host or ",".join(url.normalized_query.get("host", ()))
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database}"


def open_database(url: sa.URL, *, read_only: bool, wait: float, clock: Clock) -> sa.Engine:
    """See ``engine.open_warehouse``. A server that is starting, or has no free connection, is tried again.

    Users' SQL can read everything on the server that the user of the URL can: create a separate user for it.
    """
    try:
        import psycopg
    except ImportError as error:
        raise UsageError(
            "PostgreSQL needs psycopg, which is not installed or lacks libpq",
            "pip install '.[postgres]' in the folder of the repository",
        ) from error
    place = name_of(url)
    lock_wait = LockWait(wait, _POLL_SECONDS, clock)

    def connect(driver_connect: Connect) -> DBAPIConnection:
        def attempt() -> DBAPIConnection:
            try:
                return _configured(driver_connect(), place, _READ_SETTINGS if read_only else _WRITE_SETTINGS)
            except psycopg.Error as error:
                raise problem(error, place) or error from error

        return lock_wait.call(attempt)

    def translate(error: BaseException) -> BaseException | None:
        if not isinstance(error, psycopg.Error):
            return None
        is_write_refused = read_only and error.sqlstate == _READ_ONLY  # about the SQL, not about the server
        return None if is_write_refused else problem(error, place)

    arguments: dict[str, Any] = {"application_name": f"{NAME} (PID {os.getpid()})"}
    if read_only:
        arguments["prepare_threshold"] = 0  # a prepared statement cannot be followed by a second one
    return create_engine(
        sa.make_url(database_url(url)),
        connect,
        translate,
        connect_args=arguments,
        execution_options={"no_parameters": True},  # a percent sign in SQL without parameters is a percent sign
        json_deserializer=partial(json.loads, parse_float=Decimal),
    )


def _configured(connection: DBAPIConnection, place: str, settings: tuple[str, ...]) -> DBAPIConnection:
    driver: Any = connection
    version = driver.info.server_version // 10_000
    if version < OLDEST:
        driver.close()
        raise WarehouseError(
            f"{place} is PostgreSQL {version}, which is not supported", f"upgrade the server to {OLDEST} or later"
        )
    driver.autocommit = True
    for setting in settings:
        driver.execute(f"set {setting}")
    driver.autocommit = False
    return connection


# ---------------------------------------------------------------- errors

_READ_ONLY = "25006"
_RUN_AGAIN = "run it again; what was committed is kept"
_REBUILD = "save their SQL, drop them, run anticaptcha-etl migrate and create them again; nothing was changed"

_HINTS = {
    "08006": ("a server cannot be reached", f"check the servers of the cluster; {_RUN_AGAIN}"),
    "23505": (
        "another program wrote rows of the same account meanwhile",
        f"{_RUN_AGAIN}, one sync of an account at a time",
    ),
    _READ_ONLY: ("it is read-only, as a standby is", "name the primary server with --warehouse"),
    "28000": ("it does not admit this user", "check the user, the password and pg_hba.conf"),
    "28P01": ("the password is wrong or missing", "correct it in the URL, in PGPASSWORD or in ~/.pgpass"),
    "2BP01": ("views of yours depend on views that must be rebuilt", _REBUILD),
    "3D000": ("there is no such database", "create it (createdb), or choose another with --warehouse"),
    "40001": ("another program wrote the same rows meanwhile", _RUN_AGAIN),
    "40P01": ("another program and this one waited for each other", _RUN_AGAIN),
    "42501": ("this user may not do that", "a sync creates and writes tables, a reader needs select: grant it"),
    "53100": ("the server's disk is full", f"free some space; {_RUN_AGAIN}"),
    "53200": ("the server is out of memory", _RUN_AGAIN),
    "57P01": ("the server was shut down", _RUN_AGAIN),
    "57P02": ("the server crashed", _RUN_AGAIN),
}
"""By SQLSTATE: what happened, and what to do."""

_NOT_READY = ("too many clients", "remaining connection slots", "starting up", "shutting down", "recovery mode")
"""Words of a server that will accept connections soon."""

_REFUSED = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("authentication failed", "28000"),
    ("pg_hba.conf", "28000"),
    ('role "', "28000"),
    ('database "', "3D000"),
)
"""Words of a refused connection, for which the driver has no SQLSTATE."""

_EXTRA_LINES = ("HINT", "- ", "Is the server running")
_USER = re.compile(r'\b(user|role) "[^"]*"')


def problem(error: Any, place: str) -> WarehouseError | None:
    """The error to show if the driver's error is not about the SQL; None if it is."""
    text, code = str(error), error.sqlstate
    if code in ("53300", "57P03") or (code is None and any(words in text for words in _NOT_READY)):
        return WarehouseLockedError(
            f"{place} takes no more connections now: {_details(error)}", "wait for it with --lock-wait SECONDS"
        )
    is_about_connection = code is None and type(error).__name__ == "OperationalError"
    if is_about_connection:
        code = next((code for words, code in _REFUSED if words in text), None)
    if code in _HINTS:
        what, hint = _HINTS[code]
        return WarehouseError(f"cannot use {place}: {what} ({_details(error)})", hint)
    if is_about_connection:
        hint = f"check the server, its address and its log; {_RUN_AGAIN}"
        return WarehouseError(f"cannot reach {place}: {_details(error)}", hint)
    return None


def _details(error: Any) -> str:
    """The server's details, or the driver's message for the last address that it tried, without a user's name."""
    if error.diag.message_detail:
        text = "; ".join(error.diag.message_detail.splitlines())
    else:
        lines = [line.strip() for line in str(error).splitlines()]
        text = next((line for line in reversed(lines) if line and not line.startswith(_EXTRA_LINES)), "no response")
    return _USER.sub(r"this \1", text)


# ---------------------------------------------------------------- what the server knows and does


def has_tables(connection: sa.Connection) -> bool:
    sql = "select coalesce(to_regclass('internal.alembic_version'), to_regclass('alembic_version')) is not null"
    return bool(connection.exec_driver_sql(sql).scalar_one())


class Server(NamedTuple):
    """``may_write``: whether the user may write our tables, or create them if there are none."""

    version: str
    may_write: bool


def describe(connection: sa.Connection) -> Server:
    sql = """
        select current_setting('server_version'),
               coalesce(has_table_privilege(to_regclass('internal.facts'), 'insert'),
                        has_schema_privilege(current_schema(), 'create')
                        and (to_regnamespace('internal') is not null
                             or has_database_privilege(current_database(), 'create')),
                        false)
    """
    return Server(*connection.exec_driver_sql(sql).one())


def copy_to_file(connection: sa.Connection, copy: str, path: Path) -> int:
    """Write what a ``COPY ... TO STDOUT`` sends to a file, and return the number of rows."""
    import psycopg  # an extra

    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, path.open("wb") as file:
            with cursor.copy(copy) as rows:
                file.writelines(rows)
            return int(cursor.rowcount)
    except psycopg.Error as error:
        raise problem(error, name_of(connection.engine.url)) or error from error


# ---------------------------------------------------------------- locks


def _lock_number(name: str) -> int:
    """The number of an advisory lock: 63 bits of a hash of its name."""
    return int.from_bytes(hashlib.sha256(f"{NAME} {name}".encode()).digest()[:8], "big") >> 1


def lock_schema_changes(connection: sa.Connection) -> None:
    # On Citus, functions and tables can then change in one transaction; other servers ignore the setting.
    connection.exec_driver_sql("set local citus.multi_shard_modify_mode = 'sequential'")
    connection.exec_driver_sql(f"select pg_advisory_xact_lock({_lock_number('accounts')})")


def try_lock(connection: sa.Connection, account: str) -> bool:
    """Lock the account until the connection ends; False if another connection has the lock."""
    sql = f"select pg_try_advisory_lock({_lock_number(f'sync {account}')})"
    return bool(connection.exec_driver_sql(sql).scalar_one())


def unlock(connection: sa.Connection, account: str) -> None:
    """Release the account's lock immediately; a server notices only later that a connection has ended."""
    connection.exec_driver_sql(f"select pg_advisory_unlock({_lock_number(f'sync {account}')})")


_HOLDER = """
    select concat(a.application_name, ' ', coalesce('at ' || host(a.client_addr), 'on the server itself'),
                  ', since ', to_char(a.backend_start, 'YYYY-MM-DD HH24:MI'), ' UTC')
      from pg_locks         as l
      join pg_stat_activity as a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 1
       and l.classid = cast(:high as bigint) and l.objid = cast(:low as bigint)
       and l.database = (select oid from pg_database where datname = current_database())
"""


def holder(connection: sa.Connection, account: str) -> str | None:
    """Which program has the account's lock, where, and since when; None if it was released meanwhile."""
    number = _lock_number(f"sync {account}")
    return connection.execute(sa.text(_HOLDER), {"high": number >> 32, "low": number & 0xFFFFFFFF}).scalar_one_or_none()

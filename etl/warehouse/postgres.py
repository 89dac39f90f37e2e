"""A warehouse on a PostgreSQL server: all that holds for PostgreSQL alone. Its errors become ours at this border.

Several programs write at once, each its own account's rows: an advisory lock of the database keeps two syncs of one
account apart, and primary keys those that it could not.
"""

import hashlib
import json
import logging
import os
import re
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError, WarehouseLockedError

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

NAME = "anticaptcha-etl"
"""What the server's administrator sees of our connections."""

OLDEST = 17
"""The first version whose MERGE returns what it did."""

_POLL_SECONDS = 0.5

_BUSY = ("too many clients", "remaining connection slots", "starting up", "shutting down", "recovery mode")
"""Words of a server that will take us in a moment."""

_WRITING = (
    "timezone = 'UTC'",
    "datestyle = 'ISO'",
)  # else current_date is the server's day, and a date's text its habit
_READING = (
    *_WRITING,
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'repeatable read'",  # all that one connection reads is of one moment
)


def is_ours(url: sa.URL) -> bool:
    return url.get_backend_name() == "postgresql"


def database_url(url: sa.URL) -> str:
    """The URL with its driver. Raises UsageError for another driver, or where no database is named."""
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise UsageError(
            f"PostgreSQL is not reached by {url.drivername}", "write postgresql+psycopg://USER@HOST/DATABASE"
        )
    if not url.database:
        raise UsageError("the warehouse's URL names no database", "write postgresql+psycopg://USER@HOST/DATABASE")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def name_of(url: sa.URL) -> str:
    host = url.host or ",".join(url.normalized_query.get("host", ()))
    place = f"{host}:{url.port}" if url.port else host
    return f"postgresql://{place}/{url.database}"


def open_database(url: sa.URL, *, read_only: bool, wait: float, clock: Clock) -> sa.Engine:
    """As ``engine.open_warehouse``. A server that starts, or has no connection free, is tried again for ``wait``
    seconds.

    What SQL of strangers may read on the server is what the user of the URL may: give it one of its own.
    """
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            "PostgreSQL is reached by psycopg, which is not installed or lacks libpq",
            'pip install "anticaptcha-etl[postgres]"',
        ) from error
    engine = sa.create_engine(
        database_url(url),
        poolclass=sa.NullPool,
        # Prepared at once, SQL of strangers is one statement or none: the server takes no second behind a semicolon.
        connect_args={
            "application_name": f"{NAME} (PID {os.getpid()})",
            **({"prepare_threshold": 0} if read_only else {}),
        },
        execution_options={"no_parameters": True},  # a percent sign in SQL without parameters is a percent sign
        json_deserializer=partial(json.loads, parse_float=Decimal),
        hide_parameters=True,  # an error's text must not show what was written, a key's hash among it
    )
    place = name_of(url)

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _entry: "ConnectionPoolEntry", args: list[Any], options: dict[str, Any]) -> object:
        began, has_told = clock.monotonic(), False
        while True:
            try:
                return _set_up(dialect.connect(*args, **options), place, _READING if read_only else _WRITING)
            except psycopg.Error as error:
                found = problem(error, place)
                if not isinstance(found, WarehouseLockedError) or clock.monotonic() >= began + wait:
                    raise (found or error) from error
                if not has_told:
                    has_told = True
                    log.info("%s; waiting for it, at most %d seconds", found, wait)
            clock.sleep(_POLL_SECONDS)

    @sa.event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, psycopg.Error):
            is_refused = read_only and context.original_exception.sqlstate == _READ_ONLY  # about SQL that would write
            found = None if is_refused else problem(context.original_exception, place)
            if found is not None:
                raise found from context.original_exception

    return engine


def _set_up(connection: DBAPIConnection, place: str, settings: tuple[str, ...]) -> DBAPIConnection:
    driver: Any = connection
    version = driver.info.server_version // 10_000
    if version < OLDEST:
        driver.close()
        raise WarehouseError(
            f"{place} is PostgreSQL {version}", f"upgrade the server: {OLDEST} is the oldest that does"
        )
    driver.autocommit = True
    for setting in settings:
        driver.execute(f"set {setting}")
    driver.autocommit = False
    return connection


class _Remedy(NamedTuple):
    what: str
    hint: str


_READ_ONLY = "25006"
_ANYWAY = "run it again; what was committed is kept"
_REMEDIES = {
    "23505": _Remedy(
        "another program wrote rows of the same account meanwhile", f"{_ANYWAY}, one sync of an account at a time"
    ),
    _READ_ONLY: _Remedy("it is read-only, as a standby is", "name the primary server with --warehouse"),
    "28000": _Remedy("it does not admit this user", "check the user, the password and pg_hba.conf"),
    "28P01": _Remedy("the password is wrong or missing", "correct it in the URL, in PGPASSWORD or in ~/.pgpass"),
    "2BP01": _Remedy(
        "views of yours depend on views that must be rebuilt",
        "save their SQL, drop them, run anticaptcha-etl migrate and create them again; nothing was changed",
    ),
    "3D000": _Remedy("there is no such database", "create it (createdb), or choose another with --warehouse"),
    "40001": _Remedy("another program wrote the same rows meanwhile", _ANYWAY),
    "40P01": _Remedy("another program and this one waited for each other", _ANYWAY),
    "42501": _Remedy("this user may not do that", "a sync creates and writes tables, a reader needs select: grant it"),
    "53100": _Remedy("the server's disk is full", f"free some space; {_ANYWAY}"),
    "53200": _Remedy("the server is out of memory", _ANYWAY),
    "57P01": _Remedy("the server was shut down", _ANYWAY),
    "57P02": _Remedy("the server crashed", _ANYWAY),
}


_UNCODED = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("authentication failed", "28000"),
    ("pg_hba.conf", "28000"),
    ('role "', "28000"),
    ('database "', "3D000"),
)
"""Words of a connection that was refused, for which the driver has no code."""

_HINTS = ("HINT", "- ", "Is the server running")
_USER = re.compile(r'\b(user|role) "[^"]*"')


def problem(error: Any, place: str) -> WarehouseError | None:
    """What a person can do about an error of the driver's, when it is not about the SQL."""
    said, code = str(error), error.sqlstate
    if code in ("53300", "57P03") or (code is None and any(word in said for word in _BUSY)):
        return WarehouseLockedError(
            f"{place} takes no more connections now: {_told(error)}", "wait for it with --lock-wait SECONDS"
        )
    is_of_connection = code is None and type(error).__name__ == "OperationalError"  # and not of a statement
    if is_of_connection:
        code = next((code for words, code in _UNCODED if words in said), None)
    if code in _REMEDIES:
        what, hint = _REMEDIES[code]
        return WarehouseError(f"cannot use {place}: {what} ({_told(error)})", hint)
    if is_of_connection:
        hint = f"check the server, its address and its log; {_ANYWAY}"
        return WarehouseError(f"cannot reach {place}: {_told(error)}", hint)
    return None


def _told(error: Any) -> str:
    """The server's details, or the driver's own words for the last address that it tried; no user's name."""
    if error.diag.message_detail:
        text = "; ".join(error.diag.message_detail.splitlines())
    else:
        lines = [line.strip() for line in str(error).splitlines()]
        text = next((line for line in reversed(lines) if line and not line.startswith(_HINTS)), "no answer")
    return _USER.sub(r"this \1", text)


def holds_tables(connection: sa.Connection) -> bool:
    return bool(
        connection.exec_driver_sql(
            "select coalesce(to_regclass('internal.alembic_version'), to_regclass('alembic_version')) is not null"
        ).scalar_one()
    )


class Server(NamedTuple):
    """``may_write``: whether the user may write our tables or, where there are none, make them."""

    version: str
    may_write: bool


def describe(connection: sa.Connection) -> Server:
    may_write = (
        "coalesce(has_table_privilege(to_regclass('internal.facts'), 'insert'), "
        "has_schema_privilege(current_schema(), 'create'), false)"
    )
    version, allowed = connection.exec_driver_sql(f"select current_setting('server_version'), {may_write}").one()
    return Server(version, allowed)


def stop(connection: sa.Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.cancel()


def expect_many(connection: sa.Connection) -> None:
    """An account that is new is in no statistics yet, and for one row, as is then expected, a nested loop looks best:
    a check of half a year took 35 seconds so, and takes 0.2 without (measured)."""
    connection.exec_driver_sql("set local enable_nestloop = off")


# ---------------------------------------------------------------- locks


def _number(words: str) -> int:
    """The number by which PostgreSQL knows an advisory lock: 63 bits of a hash."""
    return int.from_bytes(hashlib.sha256(f"{NAME} {words}".encode()).digest()[:8], "big") >> 1


def take_turns(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"select pg_advisory_xact_lock({_number('accounts')})")


_HOLDER = """
    select a.application_name,
           coalesce('at ' || host(a.client_addr), 'on the server itself'),
           to_char(a.backend_start, 'YYYY-MM-DD HH24:MI')
      from pg_locks         as l
      join pg_stat_activity as a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 1
       and l.classid = cast(:high as bigint) and l.objid = cast(:low as bigint)
       and l.database = (select oid from pg_database where datname = current_database())
"""


class Holder(NamedTuple):
    """Whose connection holds a lock, as the server tells: which program, where, since when (UTC)."""

    program: str
    place: str
    since: str


def try_lock(connection: sa.Connection, account: str) -> bool:
    """Takes the account's lock for as long as the connection lasts; False when another connection has it."""
    return bool(connection.exec_driver_sql(f"select pg_try_advisory_lock({_number(f'sync {account}')})").scalar_one())


def unlock(connection: sa.Connection, account: str) -> None:
    """Gives the account's lock up at once; a server takes its time to notice that a connection is gone."""
    connection.exec_driver_sql(f"select pg_advisory_unlock({_number(f'sync {account}')})")


def holder(connection: sa.Connection, account: str) -> Holder | None:
    """Who has the account's lock; None when nobody does any more."""
    number = _number(f"sync {account}")
    row = connection.execute(sa.text(_HOLDER), {"high": number >> 32, "low": number & 0xFFFFFFFF}).one_or_none()
    return None if row is None else Holder(*row)

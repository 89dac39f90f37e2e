"""A warehouse in a DuckDB file: all that holds for DuckDB alone. Its errors become ours at this border.

The file is locked only while a transaction runs: the engine pools nothing, each ``connect`` opens it anew.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError, WarehouseLockedError
from etl.warehouse.file_access import FileAccess, file_access

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

STORAGE_VERSION = "v1.2.0"
"""The file format of new warehouses: read by DuckDB 1.2.2 and later, and so by the drivers of today's BI tools."""

_POLL_SECONDS = 0.05

_CLOSING = "Unique file handle conflict"
"""DuckDB's word while another thread of this process closes its last connection to the file: over in milliseconds
(measured)."""

_CLOSING_SECONDS, _CLOSING_POLL = 5.0, 0.005

_QUIET = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""Without these DuckDB goes to the network by itself, for instance to read a SQLite file it was given by mistake."""

_SHUT = "enable_external_access"
"""Once it is false nothing is allowed any more: with exceptions, it comes after them and not with the configuration."""

_SEALED = _QUIET | {
    "access_mode": "read_only",
    _SHUT: "false",
    "python_enable_replacements": "false",
}
"""SQL of strangers sees the warehouse and nothing else: no files, no network, no variables of this program, no
settings."""

_LOCKED = re.compile(r"Conflicting lock is held(?: in (?P<program>.+?))?(?: \(PID (?P<pid>\d+)\))")


def file_url(path: str) -> str:
    """The URL of the file at ``path``, made absolute. Raises UsageError if that is not a file."""
    if path in {"", ":memory:"}:
        raise UsageError("the warehouse must be a file", "use a path, for example --warehouse warehouse.duckdb")
    if path.startswith(("md:", "motherduck:")):
        raise UsageError(
            "a warehouse cannot be in MotherDuck", "sync into a file and upload a copy: see docs/explanation/scale.md"
        )
    if "?" in path:  # DuckDB would put .wal in front of the question mark, in a folder that may not exist
        raise UsageError(
            f"DuckDB cannot write its log for a path with a question mark: {path}", "rename the file or folder"
        )
    return sa.URL.create("duckdb", database=str(Path(path).expanduser().absolute())).render_as_string()


def file_of(url: sa.URL) -> Path:
    """The absolute path without links: DuckDB would keep another log beside each link."""
    return Path(os.path.realpath(url.database or ""))


def _is_interrupt(error: BaseException) -> bool:
    """Whether DuckDB raised it because a signal handler raised during a query."""
    return isinstance(error, RuntimeError) and str(error) == "Query interrupted"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Keep KeyboardInterrupt one where SQLAlchemy does not translate errors: connecting, rolling back and closing."""
    try:
        yield
    except RuntimeError as error:
        if not _is_interrupt(error):
            raise
        raise KeyboardInterrupt from error


@_interruptible()
def open_file(url: sa.URL, *, read_only: bool, wait: float, clock: Clock, atomic: Path | None) -> sa.Engine:
    """As ``engine.open_warehouse``."""
    path = file_of(url)
    access = file_access(path)
    _require(path) if read_only else _create_missing(path)
    config = _SEALED if read_only else _QUIET
    engine = sa.create_engine(
        url.set(database=str(path)),
        poolclass=sa.NullPool,
        connect_args={"config": {name: value for name, value in config.items() if not (atomic and name == _SHUT)}},
        hide_parameters=True,  # an error must not show what was written, for example a key's hash
    )
    dialect = engine.dialect
    dialect.supports_native_decimal = True  # duckdb-engine does not set it, and SQLAlchemy would turn money into floats
    close, roll_back = dialect.do_close, dialect.do_rollback

    def close_and_release(connection: DBAPIConnection) -> None:
        try:
            with _interruptible():
                close(connection)
        finally:
            access.release()

    setattr(dialect, "do_close", close_and_release)  # noqa: B010 - mypy refuses an assignment to a method
    setattr(dialect, "do_rollback", _interruptible()(roll_back))  # noqa: B010

    connector = _Connector(path, access, sealed=read_only, atomic=atomic, wait=wait, clock=clock)

    @sa.event.listens_for(engine, "do_connect")
    @_interruptible()
    def connect(dialect: Dialect, _entry: "ConnectionPoolEntry", args: list[Any], options: dict[str, Any]) -> object:
        return connector.connect(dialect, args, options)

    @sa.event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        error = _translated(context.original_exception, atomic or path)
        if error is not None:
            raise error from context.original_exception

    return engine


class _Connector:
    """Opens one file, and waits for programs that have it open."""

    def __init__(
        self, path: Path, access: FileAccess, *, sealed: bool, atomic: Path | None, wait: float, clock: Clock
    ) -> None:
        self._path, self._access, self._sealed, self._atomic = path, access, sealed, atomic
        self._wait, self._clock = wait, clock
        self._logged: set[str] = set()
        """Whoever is waited for at every commit is logged once."""

    def connect(self, dialect: Dialect, args: list[Any], options: dict[str, Any]) -> DBAPIConnection:
        began = self._clock.monotonic()
        while True:
            self._access.acquire(exclusive=self._sealed)
            try:
                return self._configured(dialect.connect(*args, **options))
            except BaseException as error:
                self._access.release()
                if not isinstance(error, duckdb.Error):
                    raise
                poll = self._seconds_to_next_attempt(error, self._clock.monotonic() - began)
            self._clock.sleep(poll)

    def _seconds_to_next_attempt(self, error: duckdb.Error, waited: float) -> float:
        """Raises the error if another attempt is of no use or waiting took too long."""
        if _CLOSING in str(error) and waited < _CLOSING_SECONDS:
            return _CLOSING_POLL
        problem_ = problem(error, self._path)
        if not isinstance(problem_, WarehouseLockedError) or waited >= self._wait:
            raise (problem_ or error) from error
        if str(problem_) not in self._logged:
            self._logged.add(str(problem_))
            log.info("%s; waiting for it, at most %d seconds", problem_, self._wait)
        return _POLL_SECONDS

    def _configured(self, connection: DBAPIConnection) -> DBAPIConnection:
        settings = ["TimeZone = 'UTC'"]  # otherwise current_date is the server's day
        if self._sealed:
            if self._atomic:
                settings += [f"allowed_directories = [{quoted(self._atomic)}]", f"{_SHUT} = false"]
            settings.append("lock_configuration = true")
        try:
            for setting in settings:
                connection.cursor().execute(f"set {setting}")
        except BaseException:
            connection.close()
            raise
        return connection


def _require(path: Path) -> None:
    if not path.exists():
        raise WarehouseError(
            f"there is no warehouse at {path}",
            "create one with anticaptcha-etl sync, or choose another with --warehouse",
        )


def _create_missing(path: Path) -> None:
    """Puts an empty database where there is none, readable by its owner alone: whole or not at all, never over
    another's."""
    if path.exists():
        return
    if not path.parent.is_dir():
        raise WarehouseError(
            f"cannot create {path}: the folder {path.parent} does not exist", f"mkdir -p '{path.parent}'"
        )
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            seed = Path(folder) / "seed.duckdb"
            with duckdb.connect(config=dict(_QUIET)) as memory:
                memory.execute(f"attach {quoted(seed)} as seed (storage_version '{STORAGE_VERSION}')")
            seed.chmod(0o600)
            with suppress(FileExistsError):
                path.hardlink_to(seed)
    except (OSError, duckdb.Error) as error:
        raise problem(error, path) or WarehouseError(f"cannot create {path}: {error}") from error


def stop(connection: sa.Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.interrupt()


def attach_draft(connection: sa.Connection, path: Path) -> None:
    """Makes a new database at ``path``, of the format that BI tools read, and names it ``draft`` on this connection.

    ``path`` is below the ``atomic`` of the connection's engine.
    """
    connection.exec_driver_sql(f"attach {quoted(path)} as draft (storage_version '{STORAGE_VERSION}', read_write)")


def quoted(text: Path | str) -> str:
    """``text`` as SQL writes it."""
    return "'" + str(text).replace("'", "''") + "'"


_LOAD_AGAIN = "restore it from a copy, or move it away and load again with anticaptcha-etl sync"
PUT_BACK = (
    "restore it from a copy, with that copy's own .wal or with none beside it; or move it away and load again with "
    "anticaptcha-etl sync"
)
_REMEDIES = (
    ("No space left on device", "the disk is full", "free some space and run it again; what was committed is kept"),
    (
        "Disk quota exceeded",
        "the disk quota is used up",
        "free some space and run it again; what was committed is kept",
    ),
    (
        "File too large",
        "files may not grow so large here",
        "raise the limit (ulimit -f); what was committed is kept, run it again",
    ),
    (
        "Read-only file system",
        "its file system is read-only",
        "mount it for writing, or name another place with --warehouse",
    ),
    (
        "Permission denied",
        "permission denied",
        "run as the owner of the file, or change the permissions of the file and its folder",
    ),
    (
        "database does not exist",
        "it does not exist",
        "create one with anticaptcha-etl sync, or choose another with --warehouse",
    ),
    ("not a valid DuckDB database file", "it is not a DuckDB file", "name another file with --warehouse"),
    ("sqlite_scanner", "it is a SQLite file, not a DuckDB file", "name another file with --warehouse"),
    (
        "Loading external extensions is disabled",
        "it is a SQLite file, not a DuckDB file",
        "name another file with --warehouse",
    ),
    ("Is a directory", "it is a folder", "name a file in it with --warehouse"),
    ("Failure while replaying WAL", "the log beside it (.wal) is damaged or another file's", PUT_BACK),
    ("Corrupt", "it is damaged", _LOAD_AGAIN),
    ("Could not read enough bytes", "it is cut short", _LOAD_AGAIN),
    ("created with a newer version", "a newer DuckDB wrote it", "upgrade this program"),
)


_UNWRITTEN = "Could not write file"
"""Of a commit this is no IOException but a TransactionException, whatever the disk says."""

_OF_SQL = (duckdb.ProgrammingError, duckdb.DataError, duckdb.PermissionException)
"""About a statement and never about the file, whatever words it quotes: a cast of 'Corrupt' is no damaged warehouse."""


def _translated(error: BaseException, path: Path) -> BaseException | None:
    """What is raised in place of an error of the driver's, when it is not about the SQL."""
    if _is_interrupt(error):
        return KeyboardInterrupt()
    return None if isinstance(error, _OF_SQL) else problem(error, path)


def command_of(pid: str) -> str:
    """What a process was started as, where the system tells; program and first words are enough."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return " ".join(Path(word).name if word.startswith("/") else word for word in words[:3] if word.isprintable())


def problem(error: BaseException, path: Path) -> WarehouseError | None:
    """What a person can do about ``error``, when it is about the file and not about the SQL."""
    text = str(error)
    if lock := _LOCKED.search(text):
        holder = f"{command_of(lock['pid']) or lock['program'] or 'another program'} (PID {lock['pid']})"
        return WarehouseLockedError(
            f"{path} is locked by {holder}",
            "close that program, or wait for it with --lock-wait SECONDS",
        )
    if not isinstance(error, (OSError, duckdb.Error)):
        return None
    for sign, what, hint in _REMEDIES:
        if sign in text:
            return WarehouseError(f"cannot use {path}: {what}", hint)
    if isinstance(error, (duckdb.IOException, duckdb.FatalException)) or _UNWRITTEN in text:
        return WarehouseError(f"cannot use {path}: {text}", "check the disk and the file; what was committed is kept")
    return None

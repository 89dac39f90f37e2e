"""A warehouse in a DuckDB file: everything that is specific to DuckDB, including the translation of its errors.

The file is locked only while a transaction runs: the engine has no pool, so each ``connect`` opens it again.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError, WarehouseLockedError
from etl.warehouse.connecting import LockWait, create_engine, missing_warehouse
from etl.warehouse.file_access import file_access

if TYPE_CHECKING:
    import sqlalchemy as sa

URL_PREFIX = "duckdb:///"
"""SQLAlchemy's URL of a file is this and the path, as it is."""

STORAGE_VERSION = "v1.2.0"
"""File format of new warehouses: DuckDB 1.2.2 and later read it, and so do the drivers of current BI tools."""

_POLL_SECONDS = 0.05

_NO_EXTENSIONS: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""Otherwise DuckDB goes to the network by itself, for example to read a SQLite file given by mistake."""

_EXTERNAL_ACCESS = "enable_external_access"

_SEALED = _NO_EXTENSIONS | {
    "access_mode": "read_only",
    _EXTERNAL_ACCESS: "false",
    "python_enable_replacements": "false",
}
"""Users' SQL can read the warehouse and nothing else: no files, network, settings or variables of this program."""

_LOCKED = re.compile(r"Conflicting lock is held(?: in (?P<program>.+?))?(?: \(PID (?P<pid>\d+)\))")


def file_url(path: str) -> str:
    """The URL of the file at ``path``, made absolute. Raises UsageError if it cannot be a warehouse."""
    if path in {"", ":memory:"}:
        raise UsageError("the warehouse must be a file", "use a path, for example --warehouse warehouse.duckdb")
    if path.startswith(("md:", "motherduck:")):
        raise UsageError(
            "a warehouse cannot be in MotherDuck", "sync into a file and upload a copy: see docs/explanation/scale.md"
        )
    if "?" in path:  # DuckDB inserts .wal before it, so the log has another name, or is in a folder that does not exist
        raise UsageError(
            f"DuckDB cannot write its log for a path with a question mark: {path}", "rename the file or folder"
        )
    require_usable_name(Path(path))
    return f"{URL_PREFIX}{Path(path).expanduser().absolute()}"


def require_usable_name(path: Path) -> None:
    """Raise UsageError for ``internal.duckdb``: DuckDB names a database after its file, and so would confuse it with
    the schema ``internal``."""
    if path.stem.lower() == "internal":
        raise UsageError(f"a DuckDB file cannot be named {path.name}, like the schema of its tables", "rename the file")


def file_of(url: "sa.URL | str") -> Path:
    """The absolute path without links: DuckDB would write a separate log beside each link."""
    return Path(os.path.realpath(str(url).removeprefix(URL_PREFIX)))


def quoted(text: Path | str) -> str:
    """A string literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


# ---------------------------------------------------------------- opening


def _is_interrupt(error: BaseException) -> bool:
    """True if DuckDB raised it because a signal handler raised during a query."""
    return isinstance(error, RuntimeError) and str(error) == "Query interrupted"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where SQLAlchemy does not translate errors: connecting, rolling back and closing."""
    try:
        yield
    except RuntimeError as error:
        if not _is_interrupt(error):
            raise
        raise KeyboardInterrupt from error


class FileOpener:
    """How to open one file: its configuration, the waiting for other users of the file, and what errors mean."""

    @_interruptible()
    def __init__(
        self, path: Path, *, read_only: bool, wait: float, clock: Clock, writable_folder: Path | None = None
    ) -> None:
        """See ``engine.open_warehouse``."""
        self.path, self._read_only = path, read_only
        self._access, self._lock_wait = file_access(path), LockWait(wait, _POLL_SECONDS, clock)
        self._writable_folder = writable_folder
        if not path.exists():
            if read_only:
                raise missing_warehouse(str(path))
            _create(path)
        self.config = dict(_SEALED if read_only else _NO_EXTENSIONS)
        self._settings = ["TimeZone = 'UTC'"]  # otherwise current_date is the machine's day
        if read_only and writable_folder:  # exceptions must be set before external access is turned off
            self.config.pop(_EXTERNAL_ACCESS)
            self._settings += [f"allowed_directories = [{quoted(writable_folder)}]", f"{_EXTERNAL_ACCESS} = false"]
        if read_only:
            self._settings.append("lock_configuration = true")

    @_interruptible()
    def connect(self) -> duckdb.DuckDBPyConnection:
        """A configured connection. It must end with ``close``."""
        return self._lock_wait.call(self._connect)

    def close(self, close: Callable[[], object]) -> None:
        try:
            with _interruptible(), self._access.changing:
                close()
        finally:
            self._access.release()

    def translate(self, error: BaseException) -> BaseException | None:
        """What to raise in place of an error of a statement; None: the error is about its SQL."""
        if _is_interrupt(error):
            return KeyboardInterrupt()
        return None if isinstance(error, _SQL_ERRORS) else problem(error, self._writable_folder or self.path)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self._access.acquire(exclusive=self._read_only)
        try:
            with self._access.changing:
                return self._configured(duckdb.connect(str(self.path), config=self.config))
        except BaseException as error:
            self._access.release()
            if found := problem(error, self.path):
                raise found from error
            raise

    def _configured(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        try:
            for setting in self._settings:
                connection.execute(f"set {setting}")
        except BaseException:
            connection.close()
            raise
        return connection


@_interruptible()
def open_file(opener: FileOpener) -> "sa.Engine":
    """An engine that opens the file."""
    from duckdb_engine import ConnectionWrapper
    from sqlalchemy import URL

    url = URL.create("duckdb", database=str(opener.path))
    # duckdb-engine's own function would open another database first, to learn which settings there are
    engine = create_engine(url, lambda _: ConnectionWrapper(opener.connect()), opener.translate)
    dialect: Any = engine.dialect
    dialect.supports_native_decimal = True  # duckdb-engine does not set it; money would become floats
    close = dialect.do_close
    dialect.do_close = lambda connection: opener.close(partial(close, connection))
    dialect.do_rollback = _interruptible()(dialect.do_rollback)
    return engine


def _create(path: Path) -> None:
    """Create an empty database that only its owner can read. Atomic, and never replaces an existing file."""
    if not path.parent.is_dir():
        raise WarehouseError(
            f"cannot create {path}: the folder {path.parent} does not exist", f"mkdir -p '{path.parent}'"
        )
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            new = Path(folder) / "new.duckdb"
            with duckdb.connect(config=dict(_NO_EXTENSIONS)) as memory:
                memory.execute(f"attach {quoted(new)} as new (storage_version '{STORAGE_VERSION}')")
            new.chmod(0o600)
            with suppress(FileExistsError):
                path.hardlink_to(new)
    except (OSError, duckdb.Error) as error:
        raise problem(error, path) or WarehouseError(f"cannot create {path}: {error}") from error


def attach_new_file(connection: "sa.Connection", path: Path, name: str) -> None:
    """Create a database at ``path``, in the format that BI tools read, and attach it to the connection as ``name``.

    ``path`` must be inside the folder given to ``open_warehouse`` as ``writable_folder``.
    """
    connection.exec_driver_sql(f"attach {quoted(path)} as {name} (storage_version '{STORAGE_VERSION}', read_write)")


# ---------------------------------------------------------------- errors

RESTORE_HINT = (
    "restore a copy together with its own .wal, or without any .wal; or move the file away and load again with "
    "anticaptcha-etl sync"
)
_LOAD_AGAIN = "restore it from a copy, or move it away and load again with anticaptcha-etl sync"
_FREE_SPACE = "free some space and run it again; what was committed is kept"
_RAISE_LIMIT = "raise the limit (ulimit -f); what was committed is kept, run it again"
_MOUNT = "mount it for writing, or name another place with --warehouse"
_PERMISSIONS = "run as the owner of the file, or change the permissions of the file and its folder"
_CREATE = "create one with anticaptcha-etl sync, or choose another with --warehouse"
_OTHER_FILE = "name another file with --warehouse"

_HINTS = (
    ("No space left on device", "the disk is full", _FREE_SPACE),
    ("Disk quota exceeded", "the disk quota is used up", _FREE_SPACE),
    ("File too large", "files may not grow so large here", _RAISE_LIMIT),
    ("Read-only file system", "its file system is read-only", _MOUNT),
    ("Permission denied", "permission denied", _PERMISSIONS),
    ("database does not exist", "it does not exist", _CREATE),
    ("not a valid DuckDB database file", "it is not a DuckDB file", _OTHER_FILE),
    ("sqlite_scanner", "it is a SQLite file, not a DuckDB file", _OTHER_FILE),
    ("Loading external extensions is disabled", "it is a SQLite file, not a DuckDB file", _OTHER_FILE),
    ("Is a directory", "it is a folder", "name a file in it with --warehouse"),
    ("Failure while replaying WAL", "the log beside it (.wal) is damaged or another file's", RESTORE_HINT),
    ("Corrupt", "it is damaged", _LOAD_AGAIN),
    ("Could not read enough bytes", "it is truncated", _LOAD_AGAIN),
    ("created with a newer version", "a newer DuckDB wrote it", "upgrade this program"),
)
"""Words of DuckDB's message, what happened, and what to do."""

_COMMIT_FAILED = "Could not write file"
"""While committing, DuckDB raises TransactionException instead of IOException."""

_SQL_ERRORS = (duckdb.ProgrammingError, duckdb.DataError, duckdb.PermissionException)
"""Never about the file, whatever their message quotes: casting the text 'Corrupt' is no damaged warehouse."""


def problem(error: BaseException, path: Path) -> WarehouseError | None:
    """The error to show if ``error`` is about the file; None if it is about the SQL."""
    text = str(error)
    if lock := _LOCKED.search(text):
        holder = command_of(lock["pid"]) or lock["program"] or "another program"
        return WarehouseLockedError(
            f"{path} is locked by {holder} (PID {lock['pid']})",
            "close that program, or wait for it with --lock-wait SECONDS",
        )
    if not isinstance(error, (OSError, duckdb.Error)):
        return None
    for words, what, hint in _HINTS:
        if words in text:
            return WarehouseError(f"cannot use {path}: {what}", hint)
    if isinstance(error, (duckdb.IOException, duckdb.FatalException)) or _COMMIT_FAILED in text:
        return WarehouseError(f"cannot use {path}: {text}", "check the disk and the file; what was committed is kept")
    return None


def command_of(pid: str) -> str:
    """The first words of a process's command line; empty if the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    printable = (Path(word).name if word.startswith("/") else word for word in words[:3] if word.isprintable())
    return " ".join(filter(None, printable))

"""Allow one sync per account at a time: a lock file beside a DuckDB file, or an advisory lock in PostgreSQL."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
from sqlalchemy.exc import SQLAlchemyError

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError
from etl.warehouse import postgres
from etl.warehouse.account_files import lock_file
from etl.warehouse.connecting import LockWait
from etl.warehouse.duckdb import command_of
from etl.warehouse.engine import open_warehouse, warehouse_path

POLL_SECONDS = 1


@contextmanager
def account_lock(url: str, account: str, clock: Clock, *, wait: float) -> Iterator[None]:
    """Lock the account until the block ends.

    Raises WarehouseLockedError if another sync has the lock for longer than ``wait`` seconds, WarehouseError if
    locking fails.
    """
    path = warehouse_path(url)
    with _file_lock(path, account, clock, wait) if path else _advisory_lock(url, account, clock, wait):
        yield


def _acquire(
    try_lock: Callable[[], bool], holder: Callable[[], str], account: str, clock: Clock, wait: float, look_at: str
) -> None:
    def attempt() -> None:
        if not try_lock():
            raise WarehouseLockedError(f"another sync of account {account} is running{holder()}")

    try:
        LockWait(wait, POLL_SECONDS, clock).call(attempt)
    except WarehouseLockedError as error:
        hint = f"wait until it ends (--lock-wait SECONDS waits longer), or look at {look_at}"
        raise WarehouseLockedError(f"{error.message}; no requests were sent", hint) from None


@contextmanager
def _file_lock(warehouse: Path, account: str, clock: Clock, wait: float) -> Iterator[None]:
    path = lock_file(warehouse, account)
    lock = filelock.FileLock(path, mode=0o600)

    def try_lock() -> bool:
        with suppress(filelock.Timeout):
            lock.acquire(blocking=False)
        return lock.is_locked

    try:
        _acquire(try_lock, lambda: _file_holder(path), account, clock, wait, str(path))
    except OSError as error:
        raise WarehouseError(
            f"cannot lock {path}: {error.strerror or error}; no requests were sent",
            f"make the folder {path.parent} writable for this user; if the lock file belongs to another user, because "
            "of a sync as root, or is not a file, remove it",
        ) from error
    try:
        _write_holder(path, f"{os.getpid()}\n{clock.now():%Y-%m-%d %H:%M} UTC\n")
        yield
    finally:
        _write_holder(path, "")
        lock.release()


@contextmanager
def _advisory_lock(url: str, account: str, clock: Clock, wait: float) -> Iterator[None]:
    """Uses a separate connection, so that the server releases the lock even if this program is killed."""
    with open_warehouse(url, wait=wait, clock=clock).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")  # no transaction stays open during a long run

        def holder() -> str:
            other = postgres.holder(connection, account)
            return f" ({other})" if other else ""

        _acquire(lambda: postgres.try_lock(connection, account), holder, account, clock, wait, "pg_stat_activity")
        try:
            yield
        finally:
            with suppress(WarehouseError, SQLAlchemyError):  # the lock ended with its connection
                postgres.unlock(connection, account)


def _write_holder(path: Path, holder: str) -> None:
    """For people only, so a full disk does not stop the sync."""
    with suppress(OSError):
        path.write_text(holder, encoding="ascii")


def _file_holder(path: Path) -> str:
    """Who has the lock and since when, if the lock file and this machine tell."""
    try:
        pid, _, since = path.read_text(encoding="ascii", errors="replace").strip().partition("\n")
    except OSError:
        return ""
    parts = (command_of(pid), pid and f"PID {pid}", since and f"since {since}")
    return f" ({', '.join(part for part in parts if part)})" if pid else ""

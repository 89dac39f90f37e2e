"""One sync per account at a time, for the whole run: a lock file beside a DuckDB file, an advisory lock in
PostgreSQL."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import filelock
from sqlalchemy.exc import SQLAlchemyError

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError
from etl.warehouse import postgres
from etl.warehouse.duckdb import command_of
from etl.warehouse.engine import open_warehouse, warehouse_path

log = logging.getLogger(__name__)

POLL_SECONDS = 1

MAX_NAME_LENGTH = 64
"""Characters of an account's name in a file name. File systems allow 255 bytes, including the warehouse's name."""


def lock_file(warehouse: Path, account: str) -> Path:
    """The file that a sync of the account locks. ``warehouse`` is the real path: each link would get a lock of its
    own."""
    name = quote(account, safe="")
    if len(name) > MAX_NAME_LENGTH:
        name = hashlib.sha256(account.encode()).hexdigest()
    return warehouse.with_name(f"{warehouse.name}.{name}.lock")


@contextmanager
def account_lock(url: str, account: str, clock: Clock, *, wait: float) -> Iterator[None]:
    """Hold the account's lock.

    Raises WarehouseLockedError if another sync holds it for longer than ``wait`` seconds, WarehouseError if it cannot
    be created or requested.
    """
    path = warehouse_path(url)
    with _file_lock(path, account, clock, wait) if path else _advisory_lock(url, account, clock, wait):
        yield


def _acquire(
    try_lock: Callable[[], bool], holder: Callable[[], str], account: str, clock: Clock, wait: float, look_at: str
) -> None:
    began, is_logged = clock.monotonic(), False
    while not try_lock():
        left = began + wait - clock.monotonic()
        running = f"another sync of account {account} is running{holder()}"
        if left <= 0:
            hint = f"wait until it ends (--lock-wait SECONDS waits longer), or look at {look_at}"
            raise WarehouseLockedError(f"{running}; no requests were sent", hint)
        if not is_logged:
            is_logged = True
            log.info("%s; waiting for it, at most %d seconds", running, wait)
        clock.sleep(min(left, POLL_SECONDS))


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
            f"a sync keeps a lock file beside the warehouse: make {path.parent} writable, and remove what is in "
            "its place",
        ) from error
    try:
        _write_holder(path, f"{os.getpid()}\n{clock.now():%Y-%m-%d %H:%M} UTC\n")
        yield
    finally:
        _write_holder(path, "")
        lock.release()


@contextmanager
def _advisory_lock(url: str, account: str, clock: Clock, wait: float) -> Iterator[None]:
    """Held by a connection of its own, so that the server releases it however this program dies."""
    with open_warehouse(url, wait=wait, clock=clock).connect() as connection:

        def try_lock() -> bool:
            is_locked = postgres.try_lock(connection, account)
            connection.commit()  # no transaction stays open during a long run
            return is_locked

        def holder() -> str:
            other = postgres.holder(connection, account)
            connection.commit()
            return f" ({other.program} {other.place}, since {other.since} UTC)" if other else ""

        _acquire(try_lock, holder, account, clock, wait, "pg_stat_activity")
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
    """Who holds the lock and since when, as far as the lock file and this machine tell."""
    try:
        pid, _, since = path.read_text(encoding="ascii", errors="replace").strip().partition("\n")
    except OSError:
        return ""
    parts = (command_of(pid), pid and f"PID {pid}", since and f"since {since}")
    return f" ({', '.join(part for part in parts if part)})" if pid else ""

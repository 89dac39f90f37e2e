"""One sync of an account at a time, for a whole run: a lock file beside a DuckDB file, an advisory lock on a server."""

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

LONGEST = 64
"""Characters of an account's name that a file's name takes; a file system allows 255 bytes, the warehouse's name among them."""


def lock_file(warehouse: Path, account: str) -> Path:
    """The file that a sync of the account holds; ``warehouse`` is the real file, for a link to it would have a lock of its own."""
    name = quote(account, safe="")
    if len(name) > LONGEST:
        name = hashlib.sha256(account.encode()).hexdigest()
    return warehouse.with_name(f"{warehouse.name}.{name}.lock")


@contextmanager
def account_lock(url: str, account: str, clock: Clock, *, wait: float) -> Iterator[None]:
    """Holds the account's lock on the warehouse.

    Raises WarehouseLockedError when another sync holds it for longer than ``wait`` seconds, WarehouseError when it cannot be
    made, opened or asked for.
    """
    path = warehouse_path(url)
    with _file_locked(path, account, clock, wait) if path else _server_locked(url, account, clock, wait):
        yield


def _await(
    taken: Callable[[], bool], holder: Callable[[], str], account: str, clock: Clock, wait: float, see: str
) -> None:
    """Tries until the lock is had; ``holder`` is asked only when another has it."""
    began, said = clock.monotonic(), False
    while not taken():
        left = began + wait - clock.monotonic()
        running = f"another sync of account {account} is running{holder()}"
        if left <= 0:
            hint = f"wait for it, now or longer (--lock-wait SECONDS), or {see}"
            raise WarehouseLockedError(f"{running}; nothing was asked", hint)
        if not said:
            said = True
            log.info("%s; waiting for it, at most %d seconds", running, wait)
        clock.sleep(min(left, POLL_SECONDS))


@contextmanager
def _file_locked(warehouse: Path, account: str, clock: Clock, wait: float) -> Iterator[None]:
    path = lock_file(warehouse, account)
    lock = filelock.FileLock(path, mode=0o600)
    try:
        _await(lambda: _taken(lock), lambda: _holder(path), account, clock, wait, f"look at {path}")
    except OSError as error:
        raise WarehouseError(
            f"cannot lock {path}: {error.strerror or error}; nothing was asked",
            f"a sync keeps that file beside the warehouse: let it write in {path.parent}, and nothing else stand in its place",
        ) from error
    try:
        _write(path, f"{os.getpid()}\n{clock.now():%Y-%m-%d %H:%M} UTC\n")
        yield
    finally:
        _write(path, "")
        lock.release()


@contextmanager
def _server_locked(url: str, account: str, clock: Clock, wait: float) -> Iterator[None]:
    """The lock lasts as long as a connection of its own: the server gives it up when this program dies, however it does."""
    with open_warehouse(url, wait=wait, clock=clock).connect() as connection:

        def taken() -> bool:
            is_taken = postgres.try_lock(connection, account)
            connection.commit()  # no transaction stays open over a long run
            return is_taken

        def holder() -> str:
            other = postgres.holder(connection, account)
            connection.commit()
            return f" ({other.program} {other.place}, since {other.since} UTC)" if other else ""

        _await(taken, holder, account, clock, wait, "look at pg_stat_activity")
        try:
            yield
        finally:
            with suppress(WarehouseError, SQLAlchemyError):  # the lock went with its connection
                postgres.unlock(connection, account)


def _taken(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def _write(path: Path, holder: str) -> None:
    """Says who holds the lock: it is for people, so that a full disk is no reason to stop."""
    with suppress(OSError):
        path.write_text(holder, encoding="ascii")


def _holder(path: Path) -> str:
    """Who holds the lock and since when, as far as its file and this machine tell."""
    try:
        number, _, since = path.read_text(encoding="ascii", errors="replace").strip().partition("\n")
    except OSError:
        return ""
    parts = (command_of(number), number and f"PID {number}", since and f"since {since}")
    return f" ({', '.join(part for part in parts if part)})" if number else ""

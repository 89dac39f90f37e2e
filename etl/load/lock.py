"""One sync of an account at a time: a lock file beside the warehouse, held for a whole run."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import filelock

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError
from etl.warehouse.engine import command_of

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
def one_sync(warehouse: Path, account: str, clock: Clock, *, wait: float) -> Iterator[None]:
    """Holds the account's lock file beside the warehouse.

    Raises WarehouseLockedError when another sync holds it for longer than ``wait`` seconds, WarehouseError when it cannot be
    made or opened.
    """
    path = lock_file(warehouse, account)
    lock = filelock.FileLock(path, mode=0o600)
    began, said = clock.ticks(), False
    try:
        while not _taken(lock):
            left = began + wait - clock.ticks()
            running = f"another sync of account {account} is running{_holder(path)}"
            if left <= 0:
                raise WarehouseLockedError(
                    f"{running}; nothing was asked", f"wait for it, now or longer (--lock-wait SECONDS), or look at {path}"
                )
            if not said:
                said = True
                log.info("%s; waiting for it, at most %d seconds", running, wait)
            clock.sleep(min(left, POLL_SECONDS))
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

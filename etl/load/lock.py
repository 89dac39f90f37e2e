"""One sync of an account at a time: a lock file beside the warehouse, held for a whole run."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import filelock

from etl.errors import WarehouseError, WarehouseLockedError

LONGEST = 64
"""Characters of an account's name that a file's name takes; a file system allows 255 bytes, the warehouse's name among them."""


def lock_file(warehouse: Path, account: str) -> Path:
    """The file that a sync of the account holds; ``warehouse`` is the real file, for a link to it would have a lock of its own."""
    name = quote(account, safe="")
    if len(name) > LONGEST:
        name = hashlib.sha256(account.encode()).hexdigest()
    return warehouse.with_name(f"{warehouse.name}.{name}.lock")


@contextmanager
def one_sync(warehouse: Path, account: str) -> Iterator[None]:
    """Holds the account's lock file beside the warehouse.

    Raises WarehouseLockedError at once when another sync holds it, WarehouseError when it cannot be made or opened.
    """
    path = lock_file(warehouse, account)
    lock = filelock.FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = _holder(path)
        raise WarehouseLockedError(
            f"another sync of account {account} is running{holder}; nothing was asked", f"wait for it, or look at {path}"
        ) from None
    except OSError as error:
        raise WarehouseError(
            f"cannot lock {path}: {error.strerror or error}; nothing was asked",
            f"a sync keeps that file beside the warehouse: let it write in {path.parent}, and nothing else stand in its place",
        ) from error
    try:
        _write(path, f"{os.getpid()}\n")
        yield
    finally:
        _write(path, "")
        lock.release()


def _write(path: Path, holder: str) -> None:
    """Says who holds the lock: it is for people, so that a full disk is no reason to stop."""
    with suppress(OSError):
        path.write_text(holder, encoding="ascii")


def _holder(path: Path) -> str:
    try:
        number = path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f" (process {number})" if number else ""

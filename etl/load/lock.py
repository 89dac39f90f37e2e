"""One sync of an account at a time: a lock file beside the warehouse, held for a whole run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import filelock

from etl.errors import WarehouseLockedError


@contextmanager
def one_sync(warehouse: Path, account: str) -> Iterator[None]:
    """Holds the account's lock file beside the warehouse. Raises WarehouseLockedError at once when another sync holds it."""
    path = warehouse.with_name(f"{warehouse.name}.{quote(account, safe='')}.lock")
    lock = filelock.FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = _holder(path)
        raise WarehouseLockedError(
            f"another sync of account {account} is running{holder}; nothing was asked", f"wait for it, or look at {path}"
        ) from None
    try:
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        with suppress(OSError):
            path.write_text("", encoding="ascii")
        lock.release()


def _holder(path: Path) -> str:
    try:
        number = path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f" (process {number})" if number else ""

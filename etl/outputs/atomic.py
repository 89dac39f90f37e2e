"""Replace a file or folder atomically: make the new one in a temporary folder beside it, then rename.

Readers see the old state or the new one; a reader that has the old one open keeps it. Replacing a folder takes two
renames. If the process dies between them, the next call puts the old folder back.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_NEW, _OLD, _DELETED = "made", "before", "gone"
"""Inside the temporary folder: the new state, the old one, and the old one after the replacement is complete."""


@contextmanager
def temporary_beside(target: Path, clock: Clock, *, wait: float) -> Iterator[Path]:
    """An empty folder beside ``target`` for its new content, deleted at the end of the block.

    Also cleans up after processes that were killed. Raises WarehouseLockedError if another process is still writing
    ``target`` after ``wait`` seconds, and WarehouseError instead of any OSError in the block.
    """
    temporary = target.parent.resolve() / f".{target.name}.draft"
    try:
        lock = _acquire(temporary, target, clock, wait)
        try:
            _roll_back(temporary, target)
            for leftover in temporary.iterdir():
                shutil.rmtree(leftover)
            (temporary / _NEW).mkdir()
            yield temporary / _NEW
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        raise WarehouseError(
            f"cannot write {target}: {error.strerror or error}; nothing was changed",
            "free disk space or fix the permissions of the folder",
        ) from error


def replace_with(new: Path, target: Path, mode: int) -> None:
    """Flush ``new`` to disk and rename it to ``target``. Files get ``mode``; folders may be entered by the same
    users."""
    for path in (new, *new.rglob("*")):
        with suppress(PermissionError):  # file systems without modes
            path.chmod(mode | (mode & 0o444) >> 2 if path.is_dir() else mode)
        _flush(path)
    temporary = new.parent.parent
    if new.is_dir() and target.exists():
        target.rename(temporary / _OLD)
    try:
        new.replace(target)
    except OSError:
        _roll_back(temporary, target)
        raise
    _flush(target.parent)
    with suppress(FileNotFoundError):
        (temporary / _OLD).rename(temporary / _DELETED)  # from here on it must not be put back


def _roll_back(temporary: Path, target: Path) -> None:
    if (temporary / _OLD).exists() and not target.exists():
        (temporary / _OLD).rename(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _acquire(temporary: Path, target: Path, clock: Clock, wait: float) -> int:
    """Create and lock the temporary folder; the lock ends with the process."""
    deadline, is_logged = clock.monotonic() + wait, False
    while True:
        temporary.mkdir(0o700, exist_ok=True)  # other users must not read or change unfinished files
        with suppress(FileNotFoundError):  # the previous owner has just deleted it
            descriptor = os.open(temporary, os.O_RDONLY)
            if _try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0:  # it was not deleted before it was locked
                return descriptor
            os.close(descriptor)
        if clock.monotonic() >= deadline:
            raise WarehouseLockedError(f"another process is writing {target}", "wait for it, then run this again")
        if not is_logged:
            is_logged = True
            log.info("another process is writing %s; waiting at most %d seconds", target, wait)
        clock.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system cannot lock folders: of two writers at once, one may fail
        return True
    return True

"""Something new takes its place whole or not at all: made in a draft folder beside the place, then renamed into it.

A name changes in one step, so who looks sees the old or the new, and who has the old open keeps it. A folder takes two: for
an instant nothing is there, and if that instant is the last one, the next maker begins by putting the old folder back.
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
_MADE, _BEFORE, _GONE = "made", "before", "gone"
"""Inside the draft folder: what is made, what it takes the place of, and that again once nobody needs it."""


@contextmanager
def temporary_beside(target: Path, clock: Clock, *, wait: float) -> Iterator[Path]:
    """An empty folder beside ``target``, for its next maker alone; gone when the block ends. What killed makers left is cleared.

    Raises WarehouseLockedError when another maker of ``target`` is still at it after ``wait`` seconds; WarehouseError in place
    of every OSError of the block.
    """
    draft = target.parent.resolve() / f".{target.name}.draft"
    try:
        lock = _locked(draft, target, clock, wait)
        try:
            _put_back(draft, target)
            for left in draft.iterdir():
                shutil.rmtree(left)
            (draft / _MADE).mkdir()
            yield draft / _MADE
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        what = f"{target} cannot be written: {error.strerror or error}"
        raise WarehouseError(
            what, "make room or mend the folder's permissions; what was there before is as it was"
        ) from error


def replace_with(made: Path, target: Path, mode: int) -> None:
    """Renames a file or folder of ``target``'s draft folder to ``target``, all of it on the disk first.

    ``mode`` is of each file; who may read a file may enter its folder.
    """
    for file in (made, *made.rglob("*")):
        with suppress(PermissionError):  # a file system that keeps no modes
            file.chmod(mode | (mode & 0o444) >> 2 if file.is_dir() else mode)
        _flush(file)
    draft = made.parent.parent
    if made.is_dir() and target.exists():
        target.rename(draft / _BEFORE)
    try:
        made.replace(target)
    except OSError:
        _put_back(draft, target)
        raise
    _flush(target.parent)
    with suppress(FileNotFoundError):
        (draft / _BEFORE).rename(draft / _GONE)  # no longer to be put back, whatever comes


def _put_back(draft: Path, target: Path) -> None:
    before = draft / _BEFORE
    if before.exists() and not target.exists():
        before.rename(target)


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _locked(draft: Path, target: Path, clock: Clock, wait: float) -> int:
    """The draft folder itself, made and locked; the lock dies with its process."""
    until, said = clock.monotonic() + wait, False
    while True:
        draft.mkdir(0o700, exist_ok=True)  # what is not yet whole is nobody else's to read, or to write
        with suppress(FileNotFoundError):  # the one before has just removed it
            held = os.open(draft, os.O_RDONLY)
            if _lock(held) and _is_there(held):
                return held
            os.close(held)
        if clock.monotonic() >= until:
            raise WarehouseLockedError(f"another program is just writing {target}", "wait for it and run this again")
        if not said:
            said = True
            log.info("another program is just writing %s; waiting for it, at most %d seconds", target, wait)
        clock.sleep(_POLL_SECONDS)


def _lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that cannot lock a folder: of two makers at once, one may fail
        return True
    return True


def _is_there(held: int) -> bool:
    """Whether the folder was not removed before it was locked."""
    return os.fstat(held).st_nlink > 0

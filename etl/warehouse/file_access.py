"""Decide which threads of this process may have a DuckDB file open.

DuckDB allows one way of opening a file at a time in each process. Connections that may write can be open together. A
read-only one is open alone, because its configuration differs and is locked. Threads enter in the order they came, so
that none starves.

A thread that waits here has no other connection to the same file open, or only ones that may write while no other
thread wants the file; so no two threads wait for each other.
"""

import threading
from collections import deque
from pathlib import Path

from etl.clock import Clock

MAX_OPEN_SECONDS = 2.0
"""How long a file stays open while threads wait for it: other programs wait for it too."""

PAUSE_SECONDS = 0.075
"""How long the file then stays closed: longer than DuckDB's retry interval in programs that wait to read it."""


class FileAccess:
    """The queue of threads for one file."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()
        self._open = 0
        self._is_exclusive = False
        self._opened_at = self._closed_at = -PAUSE_SECONDS
        self._was_contended = False
        """Whether threads were waiting when the file was closed, so that the pause applies to the next one."""

    def acquire(self, *, exclusive: bool) -> None:
        """Wait until this thread may open the file. Call ``release`` after closing it, or if opening failed."""
        ticket = object()
        with self._change:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or not self._may_open(exclusive=exclusive):
                    is_next = self._waiting[0] is ticket and not self._open
                    self._change.wait(PAUSE_SECONDS if is_next else None)
                if not self._open and not (self._was_contended and not self._is_open_too_long):
                    self._opened_at = self._monotonic()
                self._open += 1
                self._is_exclusive = exclusive
            finally:
                self._waiting.remove(ticket)
                self._change.notify_all()

    def release(self) -> None:
        with self._change:
            self._open -= 1
            if not self._open:
                self._closed_at, self._was_contended = self._monotonic(), bool(self._waiting)
            self._change.notify_all()

    def _may_open(self, *, exclusive: bool) -> bool:
        if self._open:
            return not exclusive and not self._is_exclusive and not self._is_open_too_long
        needs_pause = self._was_contended and self._is_open_too_long
        return not needs_pause or self._monotonic() >= self._closed_at + PAUSE_SECONDS

    @property
    def _is_open_too_long(self) -> bool:
        return self._monotonic() >= self._opened_at + MAX_OPEN_SECONDS


_accesses: dict[Path, FileAccess] = {}
_lock = threading.Lock()


def file_access(file: Path) -> FileAccess:
    """The one ``FileAccess`` of a file in this process; ``file`` is the real path, without links."""
    with _lock:
        return _accesses.setdefault(file, FileAccess(Clock()))

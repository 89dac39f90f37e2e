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


class FileAccess:
    """The queue of threads for one file."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()
        self._open = 0
        self._is_exclusive = False
        self.changing = threading.Lock()
        """To be held while the file is opened or closed: DuckDB cannot do both at once. The file then seems to be
        attached already, until all its connections are closed (measured)."""

    def acquire(self, *, exclusive: bool) -> None:
        """Wait until this thread may open the file. Call ``release`` after closing it, or if opening failed."""
        ticket = object()
        with self._change:
            self._waiting.append(ticket)
            try:
                self._change.wait_for(lambda: self._waiting[0] is ticket and self._may_open(exclusive=exclusive))
                self._open += 1
                self._is_exclusive = exclusive
            finally:
                self._waiting.remove(ticket)
                self._change.notify_all()

    def release(self) -> None:
        with self._change:
            self._open -= 1
            self._change.notify_all()

    def _may_open(self, *, exclusive: bool) -> bool:
        return not self._open or not (exclusive or self._is_exclusive)


_accesses: dict[Path, FileAccess] = {}
_lock = threading.Lock()


def file_access(file: Path) -> FileAccess:
    """The one ``FileAccess`` of a file in this process; ``file`` is the real path, without links."""
    with _lock:
        return _accesses.setdefault(file, FileAccess())

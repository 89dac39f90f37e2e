"""One file, many threads: in one process DuckDB has a file open in one way at a time.

Connections that may write are open together. A sealed one is open alone: its configuration is another than theirs, and it is
locked, so that not even a second one like it could set its time zone.

Nobody waits here who holds a connection to the same file and is waited for in turn: a thread has one connection at a time, or
several that may write while nothing else of its process wants the file; who holds one for a row of commits closes it after two
seconds; and what a connection does waits for no other thread's.
"""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from etl.clock import Clock

STRETCH = 2.0
"""Seconds after which no further connection joins those that are open: other programs want the file too."""

PAUSE_SECONDS = 0.075
"""Seconds for which the file is then left alone: longer than programs that wait to read it look away."""


Opened = TypeVar("Opened")


class FileAccess:
    """Who may have one file open now. Threads are let in in the order they came, so that neither kind starves."""

    def __init__(self, clock: Clock) -> None:
        self._ticks = clock.monotonic
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()
        self._open = 0
        self._is_alone = False
        self._began = self._ended = -PAUSE_SECONDS
        self._goes_on = False
        """Whether the next to open goes on with the stretch before: it waited already when that ended."""

    def entered_by(self, opening: Callable[[], Opened], *, alone: bool) -> Opened:
        """What ``opening`` gives, in its turn, for which it waits as long as it takes others to close. Where it raises the turn is
        over; else whoever closes what was opened does so ``left_by``."""
        self._enter(alone=alone)
        try:
            return opening()
        except BaseException:
            self._leave()
            raise

    def left_by(self, closing: Callable[[Opened], None]) -> Callable[[Opened], None]:
        """``closing``, which ends the turn of what it closes, whatever comes of it."""

        def close(opened: Opened) -> None:
            try:
                closing(opened)
            finally:
                self._leave()

        return close

    def _enter(self, *, alone: bool) -> None:
        ticket = object()
        with self._change:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or not self._has_room(alone=alone):
                    is_next = self._waiting[0] is ticket and not self._open
                    self._change.wait(PAUSE_SECONDS if is_next else None)
                self._began = self._began if self._open or (self._goes_on and not self._is_tired) else self._ticks()
                self._open += 1
                self._is_alone = alone
            finally:
                self._waiting.remove(ticket)
                self._change.notify_all()

    def _leave(self) -> None:
        with self._change:
            self._open -= 1
            if not self._open:
                self._ended, self._goes_on = self._ticks(), bool(self._waiting)
            self._change.notify_all()

    def _has_room(self, *, alone: bool) -> bool:
        if self._open:
            return not alone and not self._is_alone and not self._is_tired
        return not (self._goes_on and self._is_tired) or self._ticks() >= self._ended + PAUSE_SECONDS

    @property
    def _is_tired(self) -> bool:
        return self._ticks() >= self._began + STRETCH


_gates: dict[Path, FileAccess] = {}
_making = threading.Lock()


def gate(file: Path) -> FileAccess:
    """The one gate of a file in this process; ``file`` is the real file, by whatever name it is opened."""
    with _making:
        return _gates.setdefault(file, FileAccess(Clock()))

"""Who may have one file open when. The threads are real, the file is not: what DuckDB says to it is tested in e2e."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.clock import Clock
from etl.warehouse.file_access import MAX_OPEN_SECONDS, PAUSE_SECONDS, FileAccess, file_access


class Time:
    """A clock that is set by hand."""

    tick = 100.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.tick)


class Crowd:
    """Threads that open and close one file when they are told."""

    def __init__(self, turns: FileAccess) -> None:
        self._turns = turns
        self._change = threading.Condition()
        self._may_close: set[str] = set()
        self.open: list[str] = []
        self.most: list[frozenset[str]] = []
        self._threads: dict[str, threading.Thread] = {}

    def send(self, name: str, *, alone: bool) -> None:
        self._threads[name] = threading.Thread(target=self._live, args=(name, alone), daemon=True)
        self._threads[name].start()
        self._threads[name].join(0.05)  # so that it stands in the queue before the next one

    def _live(self, name: str, alone: bool) -> None:
        self._turns.acquire(exclusive=alone)
        with self._change:
            self.open.append(name)
            self.most.append(frozenset(self.open))
            self._change.notify_all()
            self._change.wait_for(lambda: name in self._may_close, 10)
            self.open.remove(name)
        self._turns.release()

    def close(self, *names: str) -> None:
        with self._change:
            self._may_close.update(names)
            self._change.notify_all()
        for name in names:
            self._threads[name].join(10)

    def holds(self, *names: str) -> bool:
        """Whether those have it open soon, and no other has."""
        with self._change:
            return self._change.wait_for(lambda: sorted(self.open) == sorted(names), 5)


@contextmanager
def crowd(turns: FileAccess) -> Iterator[Crowd]:
    people = Crowd(turns)
    yield people
    people.close(*people._threads)


def test_those_that_write_are_open_together_and_a_sealed_one_alone() -> None:
    with crowd(FileAccess(Time().clock())) as people:
        people.send("a", alone=False)
        people.send("b", alone=False)
        people.send("sealed", alone=True)
        assert people.holds("a", "b")
        people.close("a")
        assert people.holds("b")
        people.close("b")
        assert people.holds("sealed")
        people.send("second sealed", alone=True)
        assert people.holds("sealed")
        people.close("sealed")
        assert people.holds("second sealed")


def test_nobody_overtakes_so_that_neither_kind_starves() -> None:
    with crowd(FileAccess(Time().clock())) as people:
        people.send("a", alone=False)
        people.send("sealed", alone=True)
        people.send("b", alone=False)
        assert people.holds("a")
        people.close("a")
        assert people.holds("sealed")
        people.close("sealed")
        assert people.holds("b")


def test_after_a_stretch_nobody_joins_and_the_file_is_left_alone_for_a_breath() -> None:
    time = Time()
    with crowd(FileAccess(time.clock())) as people:
        people.send("a", alone=False)
        time.tick += MAX_OPEN_SECONDS / 2
        people.send("b", alone=False)
        assert people.holds("a", "b")
        time.tick += MAX_OPEN_SECONDS / 2
        people.send("late", alone=False)
        assert people.holds("a", "b")
        people.close("a", "b")
        people._threads["late"].join(3 * PAUSE_SECONDS)
        assert people.holds()  # no time has passed
        time.tick += PAUSE_SECONDS
        assert people.holds("late")


def test_a_stretch_goes_on_where_somebody_waited_and_begins_anew_where_nobody_did() -> None:
    time = Time()
    with crowd(FileAccess(time.clock())) as people:
        people.send("a", alone=False)
        time.tick += MAX_OPEN_SECONDS * 2
        people.close("a")
        people.send("b", alone=False)
        assert people.holds("b")  # nobody waited: other programs had their moment
        people.send("sealed", alone=True)
        time.tick += MAX_OPEN_SECONDS / 2
        people.close("b")
        assert people.holds("sealed")
        people.send("c", alone=False)
        time.tick += MAX_OPEN_SECONDS / 2
        people.close("sealed")
        people._threads["c"].join(3 * PAUSE_SECONDS)
        assert people.holds()
        time.tick += PAUSE_SECONDS
        assert people.holds("c")


def test_a_file_has_one_file_access() -> None:
    assert file_access(Path("/a.duckdb")) is file_access(Path("/a.duckdb"))
    assert file_access(Path("/a.duckdb")) is not file_access(Path("/b.duckdb"))

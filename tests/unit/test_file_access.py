"""Which threads may have a file open when. The threads are real, the file is not; DuckDB itself is tested in e2e."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.warehouse.file_access import FileAccess, file_access


class Threads:
    """Threads that open and close one file when the test says so."""

    def __init__(self, access: FileAccess) -> None:
        self._access = access
        self._change = threading.Condition()
        self._may_close: set[str] = set()
        self.open: list[str] = []
        self._threads: dict[str, threading.Thread] = {}

    def start(self, name: str, *, exclusive: bool) -> None:
        self._threads[name] = threading.Thread(target=self._run, args=(name, exclusive), daemon=True)
        self._threads[name].start()
        self._threads[name].join(0.05)  # so that it is in the queue before the next one

    def _run(self, name: str, exclusive: bool) -> None:
        self._access.acquire(exclusive=exclusive)
        with self._change:
            self.open.append(name)
            self._change.notify_all()
            self._change.wait_for(lambda: name in self._may_close, 10)
            self.open.remove(name)
        self._access.release()

    def close(self, *names: str) -> None:
        with self._change:
            self._may_close.update(names)
            self._change.notify_all()
        for name in names:
            self._threads[name].join(10)

    def become_open(self, *names: str) -> bool:
        """True as soon as exactly these threads have the file open; False after 5 seconds."""
        with self._change:
            return self._change.wait_for(lambda: sorted(self.open) == sorted(names), 5)


@contextmanager
def started(access: FileAccess) -> Iterator[Threads]:
    threads = Threads(access)
    yield threads
    threads.close(*threads._threads)


def test_writers_share_the_file_and_a_reader_has_it_alone() -> None:
    with started(FileAccess()) as threads:
        threads.start("a", exclusive=False)
        threads.start("b", exclusive=False)
        threads.start("reader", exclusive=True)
        assert threads.become_open("a", "b")
        threads.close("a")
        assert threads.become_open("b")
        threads.close("b")
        assert threads.become_open("reader")
        threads.start("second reader", exclusive=True)
        assert threads.become_open("reader")
        threads.close("reader")
        assert threads.become_open("second reader")


def test_threads_enter_in_the_order_they_came() -> None:
    with started(FileAccess()) as threads:
        threads.start("a", exclusive=False)
        threads.start("reader", exclusive=True)
        threads.start("b", exclusive=False)
        assert threads.become_open("a")
        threads.close("a")
        assert threads.become_open("reader")
        threads.close("reader")
        assert threads.become_open("b")


def test_a_file_has_one_file_access() -> None:
    assert file_access(Path("/a.duckdb")) is file_access(Path("/a.duckdb"))
    assert file_access(Path("/a.duckdb")) is not file_access(Path("/b.duckdb"))

"""Named moments of a sync: where it can be killed, and where other threads run meanwhile. No change to the program."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import ENOSPC
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from sqlalchemy.engine.base import RootTransaction

from etl.errors import WarehouseError
from etl.extract import journal
from etl.load import alerts
from etl.load.state import SyncStateStore
from etl.maintenance import alerting
from etl.maintenance.delivery import DeliveryLog
from etl.sync import account_sync, recovery, writer
from etl.warehouse import checks, migrate
from etl.warehouse.duckdb import FileOpener
from tests.simulator.memory import MemoryStore

TORN = "a record is half written"
BEFORE_COMMIT = "before the store commits"


class Place(NamedTuple):
    """A call of the program with a moment before and one after it. ``gives_way``: other threads may run there."""

    owner: Any
    name: str
    text: str
    gives_way: bool = True
    counts: Callable[[Any], bool] = lambda argument: True


def _is_segment(path: Path) -> bool:
    return ".journal." in path.name


PLACES = (
    Place(journal, "_write", "a record is written", gives_way=False),
    Place(journal.Journal, "append", "a response is appended"),
    Place(journal.Journal, "rotate", "the segment is closed"),
    Place(journal.Journal, "committed", "segments are deleted"),
    Place(Path, "unlink", "a segment is unlinked", gives_way=False, counts=_is_segment),
    Place(recovery, "set_aside", "a segment is set aside"),
    Place(account_sync, "usable_segments", "the journal is read"),
    Place(writer.Writer, "submit", "updates are submitted"),
    Place(writer.Writer, "_commit", "a batch is committed"),
    *(
        Place(store, name, text)
        for store in (SyncStateStore, MemoryStore)
        for name, text in (
            ("commit", "the store commits"),
            ("start_run", "the run is started"),
            ("finish_run", "the run is finished"),
        )
    ),
    Place(RootTransaction, "commit", "a transaction ends"),
    Place(FileOpener, "connect", "the file is opened"),
    Place(FileOpener, "close", "the file is closed"),
    Place(checks, "run", "the checks run"),
    Place(migrate, "upgrade", "the schema is upgraded"),
)

ALERT_PLACES = (
    Place(alerts, "update", "events are stored"),
    Place(alerting, "send", "a message is sent"),
    Place(DeliveryLog, "record", "a delivery is recorded"),
    Place(alerts, "mark_sent", "a delivery is stored"),
)


def _names(places: Sequence[Place]) -> Iterator[str]:
    return (f"{when} {place.text}" for place in places for when in ("before", "after"))


NAMES = (TORN, *dict.fromkeys(_names(PLACES)))
ALERT_NAMES = (*_names(ALERT_PLACES),)


class Moments:
    """Counts the moments of one run and calls ``kill`` at the chosen one.

    ``full_after``: after this many records the disk has no room for another one in the journal.
    """

    def __init__(self, kill: Callable[[str], None], give_way: Callable[[], None], is_dead: Callable[[], bool]) -> None:
        self._kill, self._give_way, self._is_dead = kill, give_way, is_dead
        self.on_written: Callable[[], None] = lambda: None
        self.on_append: Callable[[Any], None] = lambda response: None
        self._opened: list[Any] = []
        self.begin()

    def close_files(self) -> None:
        """Close every connection that a killed run has left: this process lives on, and would share it with the next."""
        for connection in self._opened:
            with suppress(Exception):
                connection.close()
        self._opened.clear()

    def begin(
        self, chosen: tuple[str, int] | None = None, full_after: int | None = None, full_commit: int | None = None
    ) -> None:
        """Count from 0. ``full_commit``: the number of the transaction for which the disk has no room."""
        self._opened.clear()
        self._chosen, self._full_after, self._full_commit = chosen, full_after, full_commit
        self.passed: Counter[str] = Counter()
        self.disk_was_full = 0

    def pass_by(self, name: str, *, gives_way: bool = True) -> None:
        if self._is_dead():
            return
        self.passed[name] += 1
        if self._chosen == (name, self.passed[name]):
            self._kill(name)
        if name == BEFORE_COMMIT and self.passed[name] == self._full_commit:
            self.disk_was_full += 1
            raise WarehouseError("cannot use the warehouse: the disk is full")
        if gives_way:
            self._give_way()

    def _is_torn(self) -> bool:
        self.passed[TORN] += 1
        return self._chosen == (TORN, self.passed[TORN])

    def write(self, original: Callable[..., Any], descriptor: int, data: bytes) -> None:
        """One write of the journal: whole, torn by a kill, or refused by a full disk."""
        if self._is_dead():
            return
        if self._full_after is not None and self.passed["before a record is written"] > self._full_after:
            self.disk_was_full += 1
            original(descriptor, data[: len(data) // 3])
            raise OSError(ENOSPC, "No space left on device")
        if self._is_torn():
            original(descriptor, data[: len(data) // 2])
            self._kill(TORN)
        original(descriptor, data)
        self.on_written()

    @contextmanager
    def installed(self) -> Iterator[None]:
        with _patches(self._patch(place) for place in (*PLACES, *ALERT_PLACES)):
            yield

    def _patch(self, place: Place) -> Any:
        original = getattr(place.owner, place.name)
        before, after = f"before {place.text}", f"after {place.text}"

        def replacement(*arguments: Any, **options: Any) -> Any:
            if not place.counts(arguments[0] if arguments else None):
                return original(*arguments, **options)
            if place.name == "append":
                self.on_append(arguments[1])
            self.pass_by(before, gives_way=place.gives_way)
            if place.name == "_write":
                self.write(original, *arguments)
                result = None
            else:
                result = original(*arguments, **options)
                if place.owner is FileOpener and place.name == "connect":
                    self._opened.append(result)
            self.pass_by(after, gives_way=place.gives_way)
            return result

        return patch.object(place.owner, place.name, replacement)


@contextmanager
def _patches(patches: Iterator[Any]) -> Iterator[None]:
    entered = []
    try:
        for one in patches:
            one.start()
            entered.append(one)
        yield
    finally:
        for one in reversed(entered):
            one.stop()

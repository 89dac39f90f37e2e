"""The hand that writes: one thread that commits what has come in, rows and ledger together."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from etl.clock import Clock
from etl.load.ledger import Ledger
from etl.load.upsert import Batch, Counts, DayRow, Learned
from etl.records import Belief, Reading
from etl.transform.fold import Changes, Folded, diff

BURST = 1.0
"""Seconds of commits in a row for which the warehouse stays open: opening and closing the file costs as much as a commit."""

BREATH = 0.075
"""Seconds for which it is then left alone: longer than programs that wait to read it look away."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to write: a reading with the fold of its day, or a day whose status or beliefs alone changed.

    ``held`` is what the warehouse had of the day when the run first touched it. After its ``is_last`` note a day is forgotten.
    """

    day: DayRow
    folded: Folded
    held: Folded
    reading: Reading | None = None
    beliefs: tuple[tuple[str, Belief, int | None], ...] = ()
    learned: Learned | None = None
    is_last: bool = False


class Writer:
    """The one thread that writes. It commits whatever has come in since its last commit, in one transaction.

    ``tell`` is called after every commit with None, or with what went wrong; then nothing more is written.
    """

    def __init__(self, ledger: Ledger, clock: Clock, tell: Callable[["BaseException | None"], None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tell = tell
        self._notes: queue.SimpleQueue[Note | None] = queue.SimpleQueue()
        self._committed: dict[date, Folded] = {}
        self._change = threading.Condition()
        self._uncommitted: list[int] = [0, 0]
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)
        self.counts = Counts()

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Readings handed over and not yet committed."""
        return self._uncommitted[1]

    def put(self, *notes: Note) -> None:
        """Hands notes over; they are committed in their order."""
        self._count(notes, 1)
        for note in notes:
            self._notes.put(note)

    def flush(self) -> None:
        """Waits until all that was put is committed."""
        with self._change:
            self._change.wait_for(lambda: self._failure or not self._uncommitted[0])
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Commits what is left and ends the thread."""
        self.abandon()
        if self._failure:
            raise self._failure

    def abandon(self) -> None:
        """As ``close``, when the run has failed already: what goes wrong now is not raised."""
        self._notes.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while notes := self._come_in():
                began = self._clock.ticks()
                with self._ledger.open() as commit:
                    while notes:
                        self._commit(notes, commit)
                        is_tired = self._clock.ticks() - began > BURST
                        notes = [] if is_tired or self._notes.empty() else self._come_in()
                if is_tired:
                    self._clock.sleep(BREATH)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the thread that asks must hear of it
            with self._change:
                self._failure = error
                self._change.notify_all()
            self._tell(error)

    def _come_in(self) -> list[Note]:
        """All that has come in, at least one note; none when the end has come."""
        notes: list[Note] = []
        while not notes or not self._notes.empty():
            note = self._notes.get()
            if note is None:
                self._notes.put(None)  # seen again, alone, after this commit
                break
            notes.append(note)
        return notes

    def _commit(self, notes: list[Note], commit: Callable[[Batch], Counts]) -> None:
        latest = {note.day.verdict.day: note for note in notes}
        for note in notes:
            self._committed.setdefault(note.day.verdict.day, note.held)
        changes = {day: diff(self._committed[day], note.folded) for day, note in latest.items()}
        counts = commit(_batch(notes, latest, changes))
        for day, note in latest.items():
            self._committed[day] = note.folded
            if note.is_last:
                del self._committed[day]
        self.counts = Counts(self.counts.inserted + counts.inserted, self.counts.changed + counts.changed)
        self._count(notes, -1)
        self._tell(None)

    def _count(self, notes: Sequence[Note], sign: int) -> None:
        with self._change:
            self._uncommitted[0] += sign * len(notes)
            self._uncommitted[1] += sign * sum(note.reading is not None for note in notes)
            self._change.notify_all()


def _batch(notes: list[Note], latest: Mapping[date, Note], changes: Mapping[date, Changes]) -> Batch:
    return Batch(
        readings=tuple(note.reading for note in notes if note.reading),
        facts=tuple((day, fact) for day, change in changes.items() for fact in change.facts),
        revisions=tuple((day, row) for day, change in changes.items() for row in change.revisions),
        days=tuple(note.day for note in latest.values()),
        beliefs=tuple(belief for note in notes for belief in note.beliefs),
        learned=next((note.learned for note in reversed(notes) if note.learned), None),
    )

"""The hand that writes: one thread that commits what has come in, rows and ledger together."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import date

from etl.clock import Clock
from etl.load.state import SyncStateStore
from etl.load.upsert import AccountTraits, Batch, CoverageRow, LoadCounts
from etl.models import MemberStatus, SeriesKey, Snapshot
from etl.transform.reconcile import ReconciledDay, diff
from etl.warehouse.file_access import MAX_OPEN_SECONDS, PAUSE_SECONDS

BATCH_WAIT_SECONDS = 0.05
"""Seconds that a commit waits for more readings to share it: one of a single reading costs most of what one of
sixteen does."""

NewMemberStatus = tuple[SeriesKey, MemberStatus, int | None]
"""A cut's member, what is thought of it from now on, and the reading that decided it (None: the user did)."""


@dataclass(frozen=True, slots=True)
class DayUpdate:
    """One thing to write: a reading with the fold of its day, or a day whose status or attribution alone changed.

    ``stored`` is what the warehouse had of the day when the run first touched it. After its ``is_last`` note a day is
    forgotten.
    """

    day: CoverageRow
    reconciled: ReconciledDay
    stored: ReconciledDay
    snapshot: Snapshot | None = None
    learned: AccountTraits | None = None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """Notes that are true together, and so are committed together."""

    notes: Sequence[DayUpdate]
    member_statuses: Sequence[NewMemberStatus]


class Writer:
    """The one thread that writes. It commits whatever has come in since its last commit, in one transaction; it waits
    a little where that is fewer than ``enough`` readings.

    ``tell`` is called after every commit with None, or with what went wrong; then nothing more is written.
    """

    def __init__(
        self, state_store: SyncStateStore, clock: Clock, tell: Callable[["BaseException | None"], None], enough: int
    ) -> None:
        self._ledger = state_store
        self._enough = enough
        self._clock = clock
        self._tell = tell
        self._groups: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._committed: dict[date, ReconciledDay] = {}
        self._change = threading.Condition()
        self._uncommitted: list[int] = [0, 0]
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="write", daemon=True)
        self.counts = LoadCounts()
        self.unchanged = 0
        """Facts that were read again and stayed as they were."""

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Readings handed over and not yet committed."""
        return self._uncommitted[1]

    def put(self, notes: Sequence[DayUpdate], member_statuses: Sequence[NewMemberStatus] = ()) -> None:
        """Hands over what is true together: it is committed in one transaction, in the order of the calls."""
        if notes or member_statuses:
            self._count(notes, 1)
            self._groups.put(_Batch(notes, member_statuses))

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
        self._groups.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while groups := self._come_in():
                began = self._clock.monotonic()
                with self._ledger.open() as commit:
                    while groups:
                        self._commit(groups, commit)
                        is_tired = self._clock.monotonic() - began > MAX_OPEN_SECONDS
                        groups = (
                            [] if is_tired else self._come_in(BATCH_WAIT_SECONDS if self._has_enough(groups) else 0)
                        )
                if is_tired:
                    self._clock.sleep(PAUSE_SECONDS)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the thread that asks must hear of it
            with self._change:
                self._failure = error
                self._change.notify_all()
            self._tell(error)

    def _come_in(self, wait: float | None = None) -> list[_Batch]:
        """All that has come in; none when the end has come, or nothing in ``wait`` seconds (None: however long it
        takes)."""
        groups: list[_Batch] = []
        with suppress(queue.Empty):
            while group := self._groups.get(timeout=wait):
                groups.append(group)
                wait = 0 if self._has_enough(groups) else BATCH_WAIT_SECONDS
            self._groups.put(None)  # seen again, alone, after this commit
        return groups

    def _has_enough(self, groups: Sequence[_Batch]) -> bool:
        """Whether a commit of these is worth its while: so many readings, or as many notes."""
        return sum(len(group.notes) for group in groups) >= self._enough

    def _commit(self, groups: list[_Batch], commit: Callable[[Batch], LoadCounts]) -> None:
        notes = [note for group in groups for note in group.notes]
        member_statuses = [member_status for group in groups for member_status in group.member_statuses]
        latest = {note.day.day_state.day: note for note in notes}
        for note in notes:
            self._committed.setdefault(note.day.day_state.day, note.stored)
        counts = commit(_batch(notes, member_statuses, latest, self._committed))
        for snapshot in (note.snapshot for note in notes if note.snapshot):
            day = snapshot.window.day
            self.unchanged += _unchanged(snapshot, self._committed[day], latest[day].reconciled)
        for day, note in latest.items():
            self._committed[day] = note.reconciled
            if note.is_last:
                del self._committed[day]
        self.counts = LoadCounts(self.counts.inserted + counts.inserted, self.counts.changed + counts.changed)
        self._count(notes, -1)
        self._tell(None)

    def _count(self, notes: Sequence[DayUpdate], sign: int) -> None:
        with self._change:
            self._uncommitted[0] += sign * len(notes)
            self._uncommitted[1] += sign * sum(note.snapshot is not None for note in notes)
            self._change.notify_all()


def _batch(
    notes: list[DayUpdate],
    member_statuses: list[NewMemberStatus],
    latest: Mapping[date, DayUpdate],
    committed: Mapping[date, ReconciledDay],
) -> Batch:
    changes = {day: diff(committed[day], note.reconciled) for day, note in latest.items()}
    is_over_allocated = [day for day, note in latest.items() if _may_be_contradicted(committed[day], note)]
    return Batch(
        snapshots=tuple(note.snapshot for note in notes if note.snapshot),
        facts=tuple((day, fact) for day, change in changes.items() for fact in change.facts),
        revisions=tuple((day, row) for day, change in changes.items() for row in change.revisions),
        days=tuple(note.day for note in latest.values()),
        over_allocations=tuple(
            (day, claim) for day in is_over_allocated for claim in latest[day].reconciled.over_allocations.values()
        ),
        is_over_allocated=tuple(is_over_allocated),
        member_statuses=tuple(member_statuses),
        learned=next((note.learned for note in reversed(notes) if note.learned), None),
    )


def _may_be_contradicted(committed: ReconciledDay, note: DayUpdate) -> bool:
    """Of a day first written in this run the warehouse may hold contradictions of what was thought of names before."""
    is_first = committed is note.stored and bool(committed.facts)
    return is_first or bool(committed.over_allocations) or bool(note.reconciled.over_allocations)


def _unchanged(snapshot: Snapshot, before: ReconciledDay, after: ReconciledDay) -> int:
    """Facts of a reading's own records that were held and stayed as they were."""
    keys = [(snapshot.window.series, record.hour_start) for record in snapshot.records]
    pairs = ((before.facts.get(key), after.facts.get(key)) for key in keys)
    return sum(stored is not None and now is not None and stored.value == now.value for stored, now in pairs)

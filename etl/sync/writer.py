"""The writer thread: commits facts and sync state in one transaction, many windows at a time."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import date

from etl.clock import Clock
from etl.extract.journal import Journal
from etl.hour_values import HOURS_PER_DAY, NO_FACTS
from etl.load.state import SyncStateStore
from etl.load.stored_account import AccountTraits
from etl.load.upsert import Batch, CoverageRow, LoadCounts, NewFacts
from etl.models import Dimension, MemberStatus, SeriesKey, Snapshot
from etl.transform.reconcile import ReconciledDay, diff

BATCH_SNAPSHOTS = 1_000
"""Opening and closing the file takes 20 ms, writing a snapshot about 0.1 ms (measured)."""

BATCH_SECONDS = 5.0
"""The longest time from an update to its commit. Between commits, readers find the file free."""

NewMemberStatus = tuple[SeriesKey, MemberStatus, int | None]
"""A member, its new status, and the snapshot that decided it (None if the user set it)."""


@dataclass(frozen=True, slots=True)
class DayUpdate:
    """One change to write: a snapshot with its reconciled day, or a day whose status or attribution changed.

    ``stored`` is the day as the warehouse had it when the run first used it. After its ``is_last`` update, the writer
    forgets the day.
    """

    day: CoverageRow
    reconciled: ReconciledDay
    stored: ReconciledDay
    snapshot: Snapshot | None = None
    traits: AccountTraits | None = None
    is_last: bool = False
    segment: int | None = None
    """The journal segment that has the snapshot's response."""


@dataclass(frozen=True, slots=True)
class _Submission:
    """Updates that are committed together; without any, what waits is committed at once."""

    updates: Sequence[DayUpdate] = ()
    member_statuses: Sequence[NewMemberStatus] = ()


class Writer:
    """Commits what was submitted: after BATCH_SNAPSHOTS or BATCH_SECONDS, and when someone waits for it.

    ``on_commit`` is called after each commit with None, or once with the error; after an error nothing more is written.
    """

    def __init__(
        self,
        store: SyncStateStore,
        journal: Journal | None,
        clock: Clock,
        on_commit: Callable[["BaseException | None"], None],
    ) -> None:
        self._store = store
        self._monotonic = clock.monotonic
        self._journal = journal
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()  # None ends the thread
        self._committed: dict[date, ReconciledDay] = {}
        self._changed = threading.Condition()
        self._waiting_updates = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="writer", daemon=True)
        self.waiting_snapshots = 0
        """Snapshots submitted and not yet committed."""
        self.counts = LoadCounts()
        self.hourly_values = 0
        """By how many rows spending_hourly has grown."""
        self.unchanged = 0
        """Facts that were read again with the same value."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, updates: Sequence[DayUpdate], member_statuses: Sequence[NewMemberStatus] = ()) -> None:
        """Queue updates for one transaction. Transactions keep the order of the calls."""
        if updates or member_statuses:
            self._count(updates, 1)
            self._queue.put(_Submission(updates, member_statuses))

    def flush(self) -> None:
        """Wait until everything submitted is committed."""
        self._queue.put(_Submission())
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._waiting_updates)
        if self._error:
            raise self._error

    def close(self) -> None:
        """Commit what is queued and end the thread. Raises what the thread failed with."""
        self.stop()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Commit what is queued and end the thread, after the run has failed: further errors are not raised."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            is_running = True
            while is_running:
                batch, is_running = self._next_batch()
                if batch:
                    self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - the requesting thread must learn of any error
            with self._changed:
                self._error = error
                self._changed.notify_all()
            self._on_commit(error)

    def _next_batch(self) -> tuple[list[_Submission], bool]:
        """The next submissions, and whether others may follow."""
        batch: list[_Submission] = []
        deadline, snapshots = None, 0
        with suppress(queue.Empty):
            while snapshots < BATCH_SNAPSHOTS:
                submission = self._queue.get(
                    timeout=None if deadline is None else max(0.0, deadline - self._monotonic())
                )
                if submission is None:
                    return batch, False
                if not submission.updates and not submission.member_statuses:
                    break
                batch.append(submission)
                snapshots += sum(update.snapshot is not None for update in submission.updates)
                deadline = deadline or self._monotonic() + BATCH_SECONDS
        return batch, True

    def _commit(self, batch: Sequence[_Submission]) -> None:
        updates = [update for submission in batch for update in submission.updates]
        statuses = [status for submission in batch for status in submission.member_statuses]
        latest = {update.day.day_state.day: update for update in updates}
        for update in updates:
            self._committed.setdefault(update.day.day_state.day, update.stored)
        if self._journal:
            self._journal.rotate()
        counts = self._store.commit(_batch(updates, statuses, latest, self._committed))
        if self._journal:
            self._journal.committed(update.segment for update in updates if update.segment is not None)
        for snapshot in (update.snapshot for update in updates if update.snapshot):
            day = snapshot.window.day
            self.unchanged += _count_unchanged(snapshot, self._committed[day], latest[day].reconciled)
        for day, update in latest.items():
            self.hourly_values += _count_hourly_values(update.reconciled) - _count_hourly_values(self._committed[day])
            self._committed[day] = update.reconciled
            if update.is_last:
                del self._committed[day]
        self.counts = LoadCounts(self.counts.inserted + counts.inserted, self.counts.changed + counts.changed)
        self._count(updates, -1)
        self._on_commit(None)

    def _count(self, updates: Sequence[DayUpdate], sign: int) -> None:
        with self._changed:
            self._waiting_updates += sign * len(updates)
            self.waiting_snapshots += sign * sum(update.snapshot is not None for update in updates)
            self._changed.notify_all()


def _batch(
    updates: Sequence[DayUpdate],
    member_statuses: Sequence[NewMemberStatus],
    latest: Mapping[date, DayUpdate],
    committed: Mapping[date, ReconciledDay],
) -> Batch:
    changes = {day: diff(committed[day], update.reconciled) for day, update in latest.items()}
    over_allocated = [day for day, update in latest.items() if _may_be_over_allocated(committed[day], update)]
    over_allocations = ((day, fact) for day in over_allocated for fact in latest[day].reconciled.over_allocations)
    return Batch(
        snapshots=tuple(update.snapshot for update in updates if update.snapshot),
        new_facts=tuple(
            NewFacts(day, series, latest[day].reconciled.inputs.first_hour_start, values)
            for day, change in changes.items()
            for series, values in change.new.items()
        ),
        changed_facts=tuple((day, fact) for day, change in changes.items() for fact in change.changed),
        revisions=tuple((day, row) for day, change in changes.items() for row in change.revisions),
        days=tuple(update.day for update in latest.values()),
        over_allocations=tuple(over_allocations),
        over_allocated_days=tuple(over_allocated),
        member_statuses=tuple(member_statuses),
        traits=next((update.traits for update in reversed(updates) if update.traits), None),
    )


def _may_be_over_allocated(committed: ReconciledDay, update: DayUpdate) -> bool:
    """True also for a day's first update in a run: the warehouse may have rows for it from earlier statuses."""
    is_first = committed is update.stored and bool(committed.facts)
    return is_first or bool(committed.over_allocations) or bool(update.reconciled.over_allocations)


def _count_hourly_values(day: ReconciledDay) -> int:
    """The day's rows of spending_hourly: hours of queues, and unattributed amounts."""
    queues = (facts for series, facts in day.facts.items() if series.dimension is Dimension.QUEUE)
    return sum(HOURS_PER_DAY - facts.volumes.count(None) for facts in queues)


def _count_unchanged(snapshot: Snapshot, before: ReconciledDay, after: ReconciledDay) -> int:
    """Stored facts of a snapshot's own records that keep their value."""
    old, new = (day.facts.get(snapshot.window.series, NO_FACTS) for day in (before, after))
    hours = snapshot.values.hours
    if old[:2] == new[:2] and None not in old.volumes:  # nearly always
        return len(hours)
    return sum(
        old.volumes[hour] is not None
        and (old.volumes[hour], old.nanodollars[hour]) == (new.volumes[hour], new.nanodollars[hour])
        for hour in hours
    )

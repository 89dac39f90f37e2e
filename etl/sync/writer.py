"""The writer thread: commits facts and sync state in one transaction."""

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
"""How long to wait for a fuller batch. A commit of 1 snapshot costs nearly as much as one of 16 (measured)."""

NewMemberStatus = tuple[SeriesKey, MemberStatus, int | None]
"""A member, its new status, and the snapshot that decided it (None: the user did)."""


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


@dataclass(frozen=True, slots=True)
class _Submission:
    """Updates that are committed together."""

    updates: Sequence[DayUpdate]
    member_statuses: Sequence[NewMemberStatus]


class Writer:
    """Commits everything submitted since its last commit in one transaction.

    It waits a little if that is fewer than ``min_batch`` updates. ``on_commit`` is called after each commit with None,
    or once with the error; after an error nothing more is written.
    """

    def __init__(
        self,
        store: SyncStateStore,
        clock: Clock,
        on_commit: Callable[["BaseException | None"], None],
        min_batch: int,
    ) -> None:
        self._store = store
        self._min_batch = min_batch
        self._clock = clock
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
            while batch := self._next_batch():
                opened_at = self._clock.monotonic()
                with self._store.open() as commit:
                    while batch:
                        self._commit(batch, commit)
                        must_pause = self._clock.monotonic() - opened_at > MAX_OPEN_SECONDS
                        wait = BATCH_WAIT_SECONDS if self._is_full(batch) else 0
                        batch = [] if must_pause else self._next_batch(wait)
                if must_pause:
                    self._clock.sleep(PAUSE_SECONDS)
        except BaseException as error:  # noqa: BLE001 - the requesting thread must learn of any error
            with self._changed:
                self._error = error
                self._changed.notify_all()
            self._on_commit(error)

    def _next_batch(self, wait: float | None = None) -> list[_Submission]:
        """What was submitted; empty at the end, or if nothing comes within ``wait`` seconds (None: no limit)."""
        batch: list[_Submission] = []
        with suppress(queue.Empty):
            while submission := self._queue.get(timeout=wait):
                batch.append(submission)
                wait = 0 if self._is_full(batch) else BATCH_WAIT_SECONDS
            self._queue.put(None)  # so that the next call returns an empty batch
        return batch

    def _is_full(self, batch: Sequence[_Submission]) -> bool:
        return sum(len(submission.updates) for submission in batch) >= self._min_batch

    def _commit(self, batch: list[_Submission], commit: Callable[[Batch], LoadCounts]) -> None:
        updates = [update for submission in batch for update in submission.updates]
        statuses = [status for submission in batch for status in submission.member_statuses]
        latest = {update.day.day_state.day: update for update in updates}
        for update in updates:
            self._committed.setdefault(update.day.day_state.day, update.stored)
        counts = commit(_batch(updates, statuses, latest, self._committed))
        for snapshot in (update.snapshot for update in updates if update.snapshot):
            day = snapshot.window.day
            self.unchanged += _count_unchanged(snapshot, self._committed[day], latest[day].reconciled)
        for day, update in latest.items():
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
    return Batch(
        snapshots=tuple(update.snapshot for update in updates if update.snapshot),
        facts=tuple((day, fact) for day, change in changes.items() for fact in change.facts),
        revisions=tuple((day, row) for day, change in changes.items() for row in change.revisions),
        days=tuple(update.day for update in latest.values()),
        over_allocations=tuple(
            (day, fact) for day in over_allocated for fact in latest[day].reconciled.over_allocations.values()
        ),
        is_over_allocated=tuple(over_allocated),
        member_statuses=tuple(member_statuses),
        learned=next((update.traits for update in reversed(updates) if update.traits), None),
    )


def _may_be_over_allocated(committed: ReconciledDay, update: DayUpdate) -> bool:
    """True also for a day's first update in a run: the warehouse may have rows for it from earlier statuses."""
    is_first = committed is update.stored and bool(committed.facts)
    return is_first or bool(committed.over_allocations) or bool(update.reconciled.over_allocations)


def _count_unchanged(snapshot: Snapshot, before: ReconciledDay, after: ReconciledDay) -> int:
    """Stored facts of a snapshot's own records that keep their value."""
    keys = [(snapshot.window.series, record.hour_start) for record in snapshot.records]
    pairs = ((before.facts.get(key), after.facts.get(key)) for key in keys)
    return sum(old is not None and new is not None and old.value == new.value for old, new in pairs)

"""Bugs of the nastiest kind, as patches of the program: the simulator must find each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from etl.maintenance import alerting
from etl.maintenance.delivery import DeliveryLog
from etl.sync import account_sync, writer
from etl.transform import parse, reconcile
from tests.simulator.nights import StoreKind


@dataclass(frozen=True)
class Bug:
    """``text`` says what goes wrong; ``patches`` are the owner, the name and what is made of the original."""

    text: str
    patches: Sequence[tuple[Any, str, Callable[[Any], Any]]]
    store: StoreKind = "memory"

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, change in self.patches:
                stack.enter_context(patch.object(owner, name, change(getattr(owner, name))))
            yield


def _deleted_before_the_commit(original: Any) -> Any:
    """Segments are deleted before the transaction instead of after it."""

    def commit(self: Any, batch: Any) -> None:
        updates = [update for submission in batch for update in submission.updates]
        if self._journal:
            self._journal.rotate()
            self._journal.committed(update.segment for update in updates if update.segment is not None)
        late, self._journal = self._journal, None
        try:
            original(self, batch)
        finally:
            self._journal = late

    return commit


def _one_hour_late(original: Any) -> Any:
    """With hours that begin before the whole hour, the day's records count one hour later."""

    def parsed(response: Any, number: int, offset: int | None) -> Any:
        snapshot = original(response, number, offset)
        if not (offset or 0) < 0 or snapshot.values.is_empty:
            return snapshot
        values = snapshot.values
        shifted = values._replace(volumes=(None, *values.volumes[:-1]), nanodollars=(None, *values.nanodollars[:-1]))
        return replace(snapshot, values=shifted)

    return parsed


def _unattributed_twice(original: Any) -> Any:
    """What no queue explains is stored a second time when it grows."""

    def diff(before: Any, after: Any) -> Any:
        changes = original(before, after)
        doubled = tuple(
            fact._replace(volume=fact.volume * 2, nanodollars=fact.nanodollars * 2)
            if fact.series.is_unattributed and not fact.is_delete
            else fact
            for fact in changes.changed
        )
        return replace(changes, changed=doubled)

    return diff


def _no_revision_after_a_kill(original: Any) -> Any:
    """What is taken in from the journal changes facts and leaves no revisions."""

    def take_in(self: Any) -> None:
        real = reconcile.diff

        def diff(before: Any, after: Any) -> Any:
            return replace(real(before, after), revisions=())

        with patch.object(writer, "diff", diff):
            original(self)

    return take_in


def _first_entry_skipped(original: Any) -> Any:
    """Recovery skips the first response of each segment but the first."""

    def usable(prefix: Any, identity: str) -> Any:
        segments = original(prefix, identity)
        return segments[:1] + [one._replace(responses=one.responses[1:]) for one in segments[1:]]

    return usable


def _torn_record_ends_all(original: Any) -> Any:
    """A segment with a damaged end is not read at all."""

    def usable(prefix: Any, identity: str) -> Any:
        return [one._replace(responses=()) if one.damaged_bytes else one for one in original(prefix, identity)]

    return usable


def _final_too_early(original: Any) -> Any:
    """A day is final one hour before the end of its lookback."""

    def status(self: Any, day_state: Any) -> str:
        found = original(self, day_state)
        is_near = day_state.day in self._finished and self._is_clock_right and not day_state.outstanding
        return (
            "final" if found == "open" and is_near and not self._options.is_in_lookback(day_state.day) else str(found)
        )

    return status


def _nothing_delivered(original: Any) -> Any:
    """The record of deliveries is not read."""
    return lambda self, place: {}


def _restored_is_not_noticed(original: Any) -> Any:
    """What was delivered of an event counts only for the same row of the warehouse."""

    def new_messages(delivered: Any, current: Any, stored: Any) -> Any:
        return original(delivered, current, {*stored, *((key, one.began_at) for key, one in delivered.items())})

    return new_messages


BUGS = {
    "journal-deleted-before-commit": Bug(
        "an update is lost between journal and commit", [(writer.Writer, "_commit", _deleted_before_the_commit)]
    ),
    "one-hour-late-on-a-grid": Bug("off by one hour at a grid", [(parse, "parse_snapshot", _one_hour_late)]),
    "unattributed-twice": Bug("an unattributed amount is stored twice", [(writer, "diff", _unattributed_twice)]),
    "revision-lost-after-kill": Bug(
        "a revision is lost after a kill", [(account_sync.AccountSync, "_take_in_left", _no_revision_after_a_kill)]
    ),
    "journal-entry-skipped": Bug(
        "recovery skips a journal entry", [(account_sync, "usable_segments", _first_entry_skipped)]
    ),
    "torn-segment-ignored": Bug(
        "a segment with a torn end is not read", [(account_sync, "usable_segments", _torn_record_ends_all)]
    ),
    "final-too-early": Bug(
        "a day is final before its lookback has passed", [(account_sync.AccountSync, "_status", _final_too_early)]
    ),
    "alert-told-again": Bug("an alert is delivered again", [(DeliveryLog, "at", _nothing_delivered)], "duckdb"),
    "alert-told-again-after-restoring": Bug(
        "an older copy of the warehouse repeats alerts",
        [(alerting, "_new_messages", _restored_is_not_noticed)],
        "duckdb",
    ),
}

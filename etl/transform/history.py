"""Replay a day's commits, to find its facts and revisions with their times. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from etl.models import Fact, Revision
from etl.transform.reconcile import DaySnapshots, Key, ReconciledDay, diff, reconcile, single_facts


class Commit(NamedTuple):
    """A commit: its time, and the day's snapshots at that time."""

    at: datetime
    day_snapshots: DaySnapshots


class FactVersion(NamedTuple):
    """A fact and the time its value was loaded."""

    fact: Fact
    loaded_at: datetime


class RevisionVersion(NamedTuple):
    """A revision, the time it was seen, and the load time and snapshot of the value before.

    The last two are None if that value was zero, which no fact stores.
    """

    revision: Revision
    seen_at: datetime
    loaded_before: datetime | None
    snapshot_before: int | None


@dataclass(frozen=True, slots=True)
class DayHistory:
    """A day after its commits: the facts, all revisions on the way, and the last reconciled state."""

    facts: tuple[FactVersion, ...]
    revisions: tuple[RevisionVersion, ...]
    reconciled: ReconciledDay


def replay_commits(commits: Iterable[Commit], before: ReconciledDay) -> DayHistory:
    """Apply commits in order, starting from the day as it was ``before`` them."""
    stored: dict[Key, FactVersion] = {}
    revisions: list[RevisionVersion] = []
    for at, day_snapshots in commits:
        reconciled = reconcile(day_snapshots)
        changes = diff(before, reconciled)
        for revision in changes.revisions:
            earlier = stored.get((revision.series, revision.hour_start))
            source = (earlier.loaded_at, earlier.fact.snapshot) if earlier else (None, None)
            revisions.append(RevisionVersion(revision, at, *source))
        first = reconciled.inputs.first_hour_start
        new = (fact for series, values in changes.new.items() for fact in single_facts(series, values, first))
        for fact in (*new, *changes.changed):
            key = (fact.series, fact.hour_start)
            if fact.is_delete:
                stored.pop(key, None)
            else:
                stored[key] = FactVersion(fact, at)
        before = reconciled
    return DayHistory(tuple(stored.values()), tuple(revisions), before)

"""How a day came to be what it is: the same fold, once for every commit that touched the day. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from etl.models import Fact, Revision
from etl.transform.reconcile import DaySnapshots, Key, ReconciledDay, diff, reconcile


class Commit(NamedTuple):
    """A commit: when, and the day's book as it stood then."""

    at: datetime
    day_snapshots: DaySnapshots


class FactVersion(NamedTuple):
    """A fact and since when its value has been believed."""

    fact: Fact
    loaded_at: datetime


class RevisionVersion(NamedTuple):
    """A revision with the commit that made it, and the earlier value's; None where that was a zero, which no fact
    keeps."""

    revision: Revision
    seen_at: datetime
    loaded_before: datetime | None
    snapshot_before: int | None


@dataclass(frozen=True, slots=True)
class DayHistory:
    """What the warehouse holds of a day after its commits: facts, every revision on the way, and the last fold."""

    facts: tuple[FactVersion, ...]
    revisions: tuple[RevisionVersion, ...]
    reconciled: ReconciledDay


def replay_commits(moments: Iterable[Commit], before: ReconciledDay) -> DayHistory:
    """Plays commits in their order; ``before`` is the fold before the first of them: nothing."""
    stored: dict[Key, FactVersion] = {}
    revisions: list[RevisionVersion] = []
    for at, day_snapshots in moments:
        reconciled = reconcile(day_snapshots)
        changes = diff(before, reconciled)
        for revision in changes.revisions:
            earlier = stored.get((revision.series, revision.hour_start))
            revisions.append(
                RevisionVersion(revision, at, earlier.loaded_at, earlier.fact.snapshot)
                if earlier
                else RevisionVersion(revision, at, None, None)
            )
        for fact in changes.facts:
            key = (fact.series, fact.hour_start)
            if fact.is_delete:
                stored.pop(key, None)
            else:
                stored[key] = FactVersion(fact, at)
        before = reconciled
    return DayHistory(tuple(stored.values()), tuple(revisions), before)

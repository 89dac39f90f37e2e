"""How a day came to be what it is: the same fold, once for every commit that touched the day. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from etl.records import Fact, Revision
from etl.transform.fold import Book, Folded, Key, diff, fold


class Moment(NamedTuple):
    """A commit: when, and the day's book as it stood then."""

    at: datetime
    book: Book


class HeldFact(NamedTuple):
    """A fact and since when its value has been believed."""

    fact: Fact
    loaded_at: datetime


class SeenRevision(NamedTuple):
    """A revision with the commit that made it, and the earlier value's; None where that was a zero, which no fact keeps."""

    revision: Revision
    seen_at: datetime
    loaded_before: datetime | None
    reading_before: int | None


@dataclass(frozen=True, slots=True)
class History:
    """What the warehouse holds of a day after its commits: facts, every revision on the way, and the last fold."""

    facts: tuple[HeldFact, ...]
    revisions: tuple[SeenRevision, ...]
    folded: Folded


def history(moments: Iterable[Moment], before: Folded) -> History:
    """Plays commits in their order; ``before`` is the fold before the first of them: nothing."""
    held: dict[Key, HeldFact] = {}
    revisions: list[SeenRevision] = []
    for at, book in moments:
        folded = fold(book)
        changes = diff(before, folded)
        for revision in changes.revisions:
            earlier = held.get((revision.filter, revision.hour_start))
            revisions.append(
                SeenRevision(revision, at, earlier.loaded_at, earlier.fact.reading)
                if earlier
                else SeenRevision(revision, at, None, None)
            )
        for fact in changes.facts:
            key = (fact.filter, fact.hour_start)
            if fact.leaves_nothing:
                held.pop(key, None)
            else:
                held[key] = HeldFact(fact, at)
        before = folded
    return History(tuple(held.values()), tuple(revisions), before)

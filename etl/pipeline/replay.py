"""Replay: facts and revisions made anew from the kept answers, without the API, through the same fold."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby

from etl import __version__, errors
from etl.clock import Clock
from etl.load import ledger as books
from etl.load.ledger import Ledger, StoredReading, Thought
from etl.load.lock import one_sync
from etl.load.rebuild import Difference, Found, Rebuilt
from etl.load.upsert import DayRow
from etl.pipeline.gather import Light, read_again
from etl.pipeline.hall import LOCK_WAIT
from etl.records import Belief, Filter, Reading
from etl.settings import Settings
from etl.transform.fold import Book, nothing
from etl.transform.history import Moment, history
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

log = logging.getLogger(__name__)

DAYS_AT_ONCE = 31
"""Days that are rebuilt in one transaction."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay of one account found. ``gone`` are days whose answers were dropped: they are left as they are."""

    account: str
    days: int = 0
    readings: int = 0
    facts: int = 0
    differences: tuple[Difference, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    gone: tuple[date, ...] = ()


def replay(settings: Settings, clock: Clock) -> Replayed:
    """Rebuilds one account. Raises UsageError, WarehouseError."""
    url = warehouse.warehouse_url(settings.warehouse)
    path = warehouse.warehouse_path(url)
    warehouse.require_file(path)
    engine = warehouse.open_warehouse(url, wait=LOCK_WAIT, clock=clock)
    with one_sync(path, settings.account):
        migrate.upgrade(engine)
        account = books.find_account(engine, settings.account)
        if account is None:
            raise errors.UsageError(f"the warehouse holds no account {settings.account!r}", "name one it holds with --account")
        ledger = Ledger(engine, account, clock.now)
        ledger.start_run("replay", __version__, date.min, ())
        result = _replayed(ledger, Light(account.grid, account.reaches_end, {}, account.lessons))
        ledger.finish_run(0, {"facts_changed": len(result.differences)}, ())
    return result


def _replayed(ledger: Ledger, light: Light) -> Replayed:
    statuses, thoughts = ledger.statuses(), ledger.thoughts()
    days = sorted(statuses)
    result = Replayed(ledger.account.name, days=len(days))
    for start in range(0, len(days), DAYS_AT_ONCE):
        some = days[start : start + DAYS_AT_ONCE]
        stored = {day: list(of_day) for day, of_day in groupby(_by_day(ledger.readings(some)), lambda one: one.window.day)}
        gone = [day for day, of_day in stored.items() if any(one.is_gone for one in of_day)]
        rebuilt = [_rebuilt(stored[day], thoughts, light, statuses[day]) for day in some if day in stored and day not in gone]
        found = ledger.rebuild(rebuilt) if rebuilt else Found()
        result = _with(result, rebuilt, found, gone)
    return result


def _by_day(stored: Iterable[StoredReading]) -> list[StoredReading]:
    return sorted(stored, key=lambda one: (one.window.day, one.number))


def _rebuilt(stored: Sequence[StoredReading], thoughts: Sequence[Thought], light: Light, status: str) -> Rebuilt:
    """One day from its readings, and from what was thought of its filters when."""
    readings = [(read_again(one, light.grid), one.committed_at) for one in stored]
    day = stored[0].window.day
    told = history(_moments(day, readings, thoughts, light), nothing(day))
    is_mended = status == "failed" and not told.folded.verdict.is_failed
    return Rebuilt(
        day=DayRow(told.folded.verdict, "open" if is_mended else status),
        readings=tuple(readings),
        facts=told.facts,
        revisions=told.revisions,
        contradictions=tuple(told.folded.contradictions.values()),
    )


def _moments(
    day: date, readings: Sequence[tuple[Reading, datetime]], thoughts: Sequence[Thought], light: Light
) -> Iterator[Moment]:
    """Every commit that touched the day: its readings, and changes of mind about what was asked of it."""
    asked = {reading.window.filter for reading, _ in readings}
    own = [thought for thought in thoughts if thought.filter in asked]
    first = min(committed_at for _, committed_at in readings)
    commits = {committed_at for _, committed_at in readings} | {thought.since for thought in own if thought.since > first}
    for commit in sorted(commits):
        beliefs: dict[Filter, Belief] = {thought.filter: thought.belief for thought in own if thought.since <= commit}
        read = tuple(reading for reading, committed_at in readings if committed_at <= commit)
        yield Moment(commit, replace(light, beliefs=beliefs).on(Book(day, readings=read)))


def _with(result: Replayed, rebuilt: Sequence[Rebuilt], found: Found, gone: Sequence[date]) -> Replayed:
    others = {table: result.others.get(table, 0) + found.others.get(table, 0) for table in {*result.others, *found.others}}
    return replace(
        result,
        readings=result.readings + sum(len(day.readings) for day in rebuilt),
        facts=result.facts + sum(len(day.facts) for day in rebuilt),
        differences=(*result.differences, *found.facts),
        others=others,
        gone=(*result.gone, *gone),
    )

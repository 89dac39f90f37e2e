"""Replay: facts and revisions made anew from the kept answers, without the API, through the same fold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

from etl import __version__, errors, logs
from etl.clock import Clock
from etl.load import ledger as books
from etl.load.ledger import Ledger, StoredReading
from etl.load.lock import one_sync
from etl.load.rebuild import Difference, Found, Rebuilt
from etl.load.upsert import DayRow, Thought
from etl.pipeline.gather import Light, read_again
from etl.records import Belief, Cut, Filter, Lesson, Reading
from etl.settings import Settings
from etl.transform.fold import Book, nothing
from etl.transform.history import Moment, history
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

DAYS_AT_ONCE = 31
"""Days that are rebuilt in one transaction."""


class Past(NamedTuple):
    """What was ever thought of names, and learned of strangers, each with the moment since when."""

    thoughts: Sequence[Thought]
    lessons: Sequence[tuple[datetime, Cut, Lesson]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay of one account found, and mended. Days are left as they are whose answers were ``dropped`` by
    keep_answers, or are ``lost``: not kept though they should be, or not what their hash says."""

    account: str
    days: int = 0
    readings: int = 0
    facts: int = 0
    differences: tuple[Difference, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[date, ...] = ()
    lost: tuple[date, ...] = ()


def replay(settings: Settings, clock: Clock) -> Replayed:
    """Rebuilds one account. Raises UsageError, WarehouseError; KeyboardInterrupt becomes InterruptedRunError."""
    url = warehouse.warehouse_url(settings.warehouse)
    warehouse.require_warehouse(url, wait=settings.lock_wait, clock=clock)
    engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
    with one_sync(url, settings.account, clock, wait=settings.lock_wait):
        migrate.upgrade(engine)
        account = books.find_account(engine, settings.account)
        if account is None:
            raise errors.UsageError(f"the warehouse holds no account {settings.account!r}", "name one it holds with --account")
        ledger = Ledger(engine, account, clock.now)
        ledger.start_run("replay", __version__, date.min, ())
        logs.about(account=account.name, run=ledger.run)
        result = Replayed(account.name)
        try:
            for result in _replayed(ledger, Light(account.grid, account.reaches_end)):  # noqa: B007  # the last one counts
                pass
        except KeyboardInterrupt:
            _close(ledger, result, errors.InterruptedRunError.exit_code)
            raise errors.InterruptedRunError(
                f"account {account.name}: interrupted after {result.days} days; the {len(result.differences)} facts mended so far "
                "are kept",
                "run it again",
            ) from None
        _close(ledger, result, errors.FindingsError.exit_code if result.lost else 0)
    return result


def _close(ledger: Ledger, result: Replayed, exit_code: int) -> None:
    ledger.finish_run(exit_code, {"facts_changed": len(result.differences)}, ())


def _replayed(ledger: Ledger, light: Light) -> Iterator[Replayed]:
    """What was found so far, after each transaction."""
    frozen = ledger.coverage(()).frozen
    statuses, past = ledger.statuses(), Past(ledger.thoughts(), ledger.lessons())
    days = sorted(statuses)
    result = Replayed(ledger.account.name)
    for start in range(0, len(days), DAYS_AT_ONCE):
        some = days[start : start + DAYS_AT_ONCE]
        stored = {day: list(of_day) for day, of_day in groupby(_by_day(ledger.readings(some)), lambda one: one.window.day)}
        gone = [day for day, of_day in stored.items() if any(one.is_gone for one in of_day)]
        rebuilt = [_rebuilt(day, stored.get(day, ()), statuses[day], past, light) for day in some if day not in gone]
        found = ledger.rebuild(rebuilt) if rebuilt else Found()
        result = _with(result, rebuilt, found, {day: day in frozen for day in gone})
        result = replace(result, days=result.days + len(some))
        yield result


def _by_day(stored: Iterable[StoredReading]) -> list[StoredReading]:
    return sorted(stored, key=lambda one: (one.window.day, one.number))


def _rebuilt(day: date, stored: Sequence[StoredReading], status: str | None, past: Past, light: Light) -> Rebuilt:
    """One day from its readings, and from what was thought of its filters when."""
    if status is None:
        return Rebuilt(day)
    readings = [(read_again(one, light.grid), one.committed_at) for one in stored]
    told = history(_moments(day, readings, past, light), nothing(day))
    is_mended = status == "failed" and not told.folded.verdict.is_failed
    return Rebuilt(
        day=day,
        coverage=DayRow(told.folded.verdict, "open" if is_mended else status),
        readings=tuple(readings),
        facts=told.facts,
        revisions=told.revisions,
        contradictions=tuple(told.folded.contradictions.values()),
    )


def _moments(day: date, readings: Sequence[tuple[Reading, datetime]], past: Past, light: Light) -> Iterator[Moment]:
    """Every commit that touched the day: its readings, and changes of mind about what was asked of it."""
    asked = {reading.window.filter for reading, _ in readings}
    own = [thought for thought in past.thoughts if thought.filter in asked]
    commits = {committed_at for _, committed_at in readings}
    commits |= {thought.since for thought in own if thought.since > min(commits)}
    for commit in sorted(commits):
        beliefs: dict[Filter, Belief] = {thought.filter: thought.belief for thought in own if thought.since <= commit}
        taught = {cut: lesson for since, cut, lesson in past.lessons if since <= commit}
        read = tuple(reading for reading, committed_at in readings if committed_at <= commit)
        yield Moment(commit, replace(light, beliefs=beliefs, lessons=taught).on(Book(day, readings=read)))


def _with(result: Replayed, rebuilt: Sequence[Rebuilt], found: Found, gone: Mapping[date, bool]) -> Replayed:
    rows = {table: result.rows.get(table, 0) + found.rows.get(table, 0) for table in {*result.rows, *found.rows}}
    return replace(
        result,
        readings=result.readings + sum(len(day.readings) for day in rebuilt),
        facts=result.facts + sum(len(day.facts) for day in rebuilt),
        differences=(*result.differences, *found.facts),
        rows=rows,
        dropped=(*result.dropped, *(day for day, is_dropped in gone.items() if is_dropped)),
        lost=(*result.lost, *(day for day, is_dropped in gone.items() if not is_dropped)),
    )

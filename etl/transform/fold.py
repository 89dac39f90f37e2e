"""Readings of a day to facts, rest and revisions: one pure function for loading and for replay.

    facts(day) = fold(every reading of that day)          what is believed
    changes    = diff(fold before a commit, fold after)   what that commit writes

Per filter and hour the reading that was asked last and speaks for the hour gives its source value. A reading speaks for
the span from its first to its last record: inside it a missing hour is zero, outside it nothing is said. Sums are the
total's by construction: a queue counts only beside a held total, and what no believed queue explains is the rest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import chain, groupby
from typing import NamedTuple

from etl.records import (
    DAY,
    HOUR,
    TOTAL,
    ZERO,
    Cause,
    Cut,
    Fact,
    Filter,
    Outcome,
    Reading,
    Revision,
    Value,
    Verdict,
    Window,
    day_start,
)

CLOSED_AFTER = timedelta(minutes=10)
"""A day is closed when its total was asked this long after its end."""

CRUMB = Decimal("0.000001")
"""Each of an hour's numbers may be off by half of the API's last place; so may their sum, once a number."""

REST = Filter(Cut.QUEUE, None)

Key = tuple[Filter, datetime]


class Source(NamedTuple):
    """One hour as the API gave it: the value, the reading it came from and when that was asked."""

    value: Value
    reading: int
    asked_at: datetime

    def had_ended(self, hour_start: datetime) -> bool:
        """Whether the hour was over when it was read."""
        return hour_start + HOUR <= self.asked_at


@dataclass(frozen=True, slots=True)
class Book:
    """All readings of one day of an account, in the order of their numbers.

    ``grid`` is the account's first second after the asked hour. ``doubted`` names are not believed, ``ignored`` ones
    (a name that cannot exist, names set aside) are no queues at all.
    """

    day: date
    grid: int = 0
    readings: tuple[Reading, ...] = ()
    doubted: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def with_reading(self, reading: Reading) -> "Book":
        return replace(self, readings=(*self.readings, reading))


@dataclass(frozen=True, slots=True)
class Folded:
    """What a day's readings amount to. Facts are complete: an hour of a queue that is not among them is zero."""

    verdict: Verdict
    facts: Mapping[Key, Fact] = field(default_factory=dict)
    sources: Mapping[Filter, Mapping[datetime, Source]] = field(default_factory=dict)
    last_reading: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What one commit writes of one day. A fact of value zero, unless it is the total's, leaves the warehouse."""

    facts: tuple[Fact, ...] = ()
    revisions: tuple[Revision, ...] = ()


def nothing(day: date) -> Folded:
    """The fold of a day of which nothing was ever read."""
    return Folded(Verdict(day))


def fold(book: Book) -> Folded:
    """What the readings of a day amount to."""
    kept = [reading for reading in book.readings if reading.window.filter.member not in book.ignored]
    by_filter: dict[Filter, list[Reading]] = {}
    for reading in sorted(kept, key=lambda reading: (reading.asked_at, reading.number)):
        by_filter.setdefault(reading.window.filter, []).append(reading)
    sources = {filter: _sources(readings, book.grid) for filter, readings in by_filter.items()}
    totals = sources.get(TOTAL, {})
    queues = {filter: hours for filter, hours in sources.items() if filter.cut is Cut.QUEUE and filter.member not in book.doubted}
    splits = {hour: _split(hour, total, queues) for hour, total in totals.items()}
    facts = {(fact.filter, fact.hour_start): fact for fact in chain.from_iterable(split.facts for split in splits.values())}
    return Folded(
        verdict=_verdict(book, by_filter, totals, queues, splits),
        facts=facts,
        sources=sources,
        last_reading=max((reading.number for reading in kept), default=0),
    )


def diff(before: Folded, after: Folded) -> Changes:
    """What has to be written so that the facts of ``before`` become those of ``after``, and why each changed."""
    facts: list[Fact] = []
    revisions: list[Revision] = []
    for key in before.facts.keys() | after.facts.keys():
        filter, hour = key
        held, now = before.facts.get(key), after.facts.get(key)
        value_before = Value(held.volume, held.money) if held else ZERO
        value_after = Value(now.volume, now.money) if now else ZERO
        if value_before == value_after and (now is not None) == (held is not None):
            continue
        facts.append(now or Fact(filter, hour, 0, ZERO.money, after.last_reading))
        if value_before != value_after and (cause := _cause(filter, hour, before, after)):
            revisions.append(Revision(filter, hour, value_before, value_after, cause, after.last_reading))
    order = _by_time_then_filter
    return Changes(tuple(sorted(facts, key=order)), tuple(sorted(revisions, key=order)))


def _by_time_then_filter(row: Fact | Revision) -> tuple[datetime, str, str]:
    return row.hour_start, row.filter.cut, row.filter.member or ""


def _cause(filter: Filter, hour: datetime, before: Folded, after: Folded) -> Cause | None:
    """Why a held value changed; None where no value had been held."""
    asked = TOTAL if filter.is_rest else filter
    earlier = before.sources.get(asked, {}).get(hour)
    if earlier is None:
        return None
    later = after.sources.get(asked, {}).get(hour)
    if filter.is_rest or later is None or later.value == earlier.value:
        return Cause.ATTRIBUTION
    return Cause.SOURCE if earlier.had_ended(hour) else Cause.GROWTH


# ---------------------------------------------------------------- one filter: what was said of each hour


def _sources(readings: Iterable[Reading], grid: int) -> dict[datetime, Source]:
    """Source values of one filter's hours; ``readings`` in the order they were asked, the later wins."""
    held: dict[datetime, Source] = {}
    doubted_emptiness: set[datetime] = set()
    for reading in readings:
        if reading.outcome not in (Outcome.GOOD, Outcome.PARTIAL):
            continue
        said = {record.hour_start: record.value for record in reading.records}
        for hour in _own_hours(reading.window, grid):
            value = said.get(hour)
            if value is None and not _is_zero(reading, hour, hour in held and hour not in doubted_emptiness):
                if not reading.records:
                    doubted_emptiness.add(hour)
                continue
            held[hour] = Source(value or ZERO, reading.number, reading.asked_at)
            doubted_emptiness.discard(hour)
    return held


def _is_zero(reading: Reading, hour: datetime, held: bool) -> bool:
    """Whether an answer without a record of this hour says that the hour is zero.

    Inside its span it does. Before its first record, or with no record at all, it proves an hour idle of which nothing is
    held; a held value stays, until a second empty answer in a row confirms the first.
    """
    if any(rejection.hour_start in (None, hour) for rejection in reading.rejections):
        return False
    if not reading.records:
        return not held and hour + HOUR <= reading.asked_at
    first, last = reading.records[0].hour_start, reading.records[-1].hour_start
    return first < hour < last or (hour < first and not held)


def _own_hours(window: Window, grid: int) -> list[datetime]:
    first = window.start + timedelta(seconds=grid)
    return [first + HOUR * n for n in range((window.end - window.start) // HOUR)]


# ---------------------------------------------------------------- one hour: what the queues explain of the total


class _Split(NamedTuple):
    facts: tuple[Fact, ...]
    rest: Value
    explained: bool
    contradicted: bool


def _split(hour: datetime, total: Source, queues: Mapping[Filter, Mapping[datetime, Source]]) -> _Split:
    whole = Fact(TOTAL, hour, *total.value, total.reading)
    rows = [
        Fact(filter, hour, *source.value, source.reading)
        for filter, hours in queues.items()
        if (source := hours.get(hour)) and source.value != ZERO
    ]
    rest = Value(
        total.value.volume - sum(row.volume for row in rows),
        total.value.money - sum((row.money for row in rows), Decimal(0)),
    )
    rounding = CRUMB * (len(rows) + 1)
    explained = rest.volume == 0 and abs(rest.money) <= rounding
    contradicted = bool(rows) and not explained and (rest.volume < 0 or rest.money < -rounding)
    if contradicted:
        rows, rest = [], total.value
    unattributed = [Fact(REST, hour, *rest, total.reading)] if rest != ZERO else []
    return _Split((whole, *rows, *unattributed), rest, explained, contradicted)


# ---------------------------------------------------------------- the day


def _verdict(
    book: Book,
    by_filter: Mapping[Filter, list[Reading]],
    totals: Mapping[datetime, Source],
    queues: Mapping[Filter, Mapping[datetime, Source]],
    splits: Mapping[datetime, _Split],
) -> Verdict:
    end = day_start(book.day) + DAY
    good = [reading.asked_at for reading in by_filter.get(TOTAL, ()) if reading.is_good]
    asked_at = good[-1] if good else None
    ended = [hour for hour, source in totals.items() if source.had_ended(hour)]
    explained = asked_at is not None and all(splits[hour].explained for hour in ended)
    return Verdict(
        day=book.day,
        total=_sum(source.value for source in totals.values()),
        rest=_sum(split.rest for split in splits.values()),
        total_asked=asked_at,
        closed=asked_at is not None and asked_at >= end + CLOSED_AFTER,
        explained=explained,
        contradicted=any(splits[hour].contradicted for hour in ended),
        failed=_failed(by_filter),
        owed=_owed(book, by_filter, asked_at, totals, queues, splits),
        hours={hour: source.value for hour, source in totals.items()},
        rests={hour: splits[hour].rest for hour in ended if not splits[hour].explained},
        asked={
            filter.member: max(reading.asked_at for reading in readings if reading.is_good)
            for filter, readings in by_filter.items()
            if filter.cut is Cut.QUEUE and filter.member and any(reading.is_good for reading in readings)
        },
        active=frozenset(
            filter.member
            for filter, hours in queues.items()
            if filter.member and any(source.value != ZERO for source in hours.values())
        ),
    )


def _failed(by_filter: Mapping[Filter, list[Reading]]) -> frozenset[Filter]:
    """Filters of which some window's last attempt failed."""
    failed = set()
    for filter, readings in by_filter.items():
        by_window = sorted(readings, key=lambda reading: (reading.window.start, reading.asked_at, reading.number))
        for _, attempts in groupby(by_window, key=lambda reading: reading.window.start):
            if not list(attempts)[-1].is_good:
                failed.add(filter)
    return frozenset(failed)


def _owed(
    book: Book,
    by_filter: Mapping[Filter, list[Reading]],
    asked_at: datetime | None,
    totals: Mapping[datetime, Source],
    queues: Mapping[Filter, Mapping[datetime, Source]],
    splits: Mapping[datetime, _Split],
) -> tuple[tuple[Filter, datetime], ...]:
    """The ``date`` of the first hour each answered filter owes: of the total any ended hour, of a queue one with a rest."""
    if asked_at is None:
        return ()
    grid = timedelta(seconds=book.grid)
    hours = [hour for hour in _own_hours(Window.whole_day("", TOTAL, book.day), book.grid) if hour + HOUR <= asked_at]
    unread = [hour for hour in hours if hour not in totals]
    if unread:
        return ((TOTAL, unread[0] - grid),)
    with_rest = [hour for hour in hours if not splits[hour].explained]
    owed = []
    for filter in queues:
        if any(reading.is_good for reading in by_filter[filter]):
            owed += [(filter, hour - grid) for hour in with_rest if hour not in queues[filter]][:1]
    return tuple(owed)


def _sum(values: Iterable[Value]) -> Value:
    volume, money = 0, Decimal(0)
    for value in values:
        volume += value.volume
        money += value.money
    return Value(volume, money)

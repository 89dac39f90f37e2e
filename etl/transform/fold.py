"""Readings of a day to facts, rest and revisions: one pure function for loading and for replay.

    facts(day) = fold(every reading of that day)          what is believed
    changes    = diff(fold before a commit, fold after)   what that commit writes

Per filter and hour the reading that was asked last and speaks for the hour gives its source value. A reading speaks for
the span from its first to its last record: inside it a missing hour is zero, outside it nothing is said. Every cut sums to
the total by construction: a member counts only beside a held total, and what no believed member explains is the cut's rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import NamedTuple

from etl.records import (
    CUTS,
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
    Source,
    Split,
    Value,
    Verdict,
    Window,
    day_start,
)

CLOSED_AFTER = timedelta(minutes=10)
"""A day is closed when its total was asked this long after its end."""

CRUMB = Decimal("0.000001")
"""Each of an hour's numbers may be off by half of the API's last place; so may their sum, once a number."""

Key = tuple[Filter, datetime]


Hours = Mapping[datetime, Source]
"""One filter's hours, as the API gave them."""


@dataclass(frozen=True, slots=True)
class Book:
    """All readings of one day of an account, in the order of their numbers.

    ``grid`` is the account's first second after the asked hour. ``reaches_end``: from this reading on answers are known to
    reach the last hour of the day asked for, so that one without any record speaks for it too. ``doubted`` filters are not
    believed, ``ignored`` ones (a member that cannot exist, those set aside) are nobody's. Of ``ended`` ones what is held stays,
    and no more is asked.
    """

    day: date
    grid: int = 0
    reaches_end: int | None = None
    readings: tuple[Reading, ...] = ()
    doubted: frozenset[Filter] = frozenset()
    ignored: frozenset[Filter] = frozenset()
    ended: frozenset[Filter] = frozenset()

    def with_readings(self, readings: Iterable[Reading]) -> "Book":
        return replace(self, readings=(*self.readings, *readings))


class _HourSplit(NamedTuple):
    """What a cut's members explain of one hour of the total: what they ``claimed`` together, and what that leaves."""

    claimed: Value
    rest: Value
    explained: bool
    contradicted: bool


Splits = Mapping[Cut, Mapping[datetime, _HourSplit]]


@dataclass(frozen=True)
class Folded:
    """What a day's readings amount to.

    ``booked`` are the facts as they stand in the warehouse, where that is not what the readings amount to; None: they do.
    """

    verdict: Verdict
    sources: Mapping[Filter, Hours] = field(default_factory=dict)
    members: Mapping[Cut, Mapping[Filter, Hours]] = field(default_factory=dict)
    splits: Splits = field(default_factory=dict)
    last_reading: int = 0
    booked: Mapping[Key, Fact] | None = None

    @cached_property
    def facts(self) -> Mapping[Key, Fact]:
        """Facts are complete: an hour of a member that is not among them is zero. Made when they are first asked for: a day is
        folded with every answer, and written with every commit."""
        rows = _facts(self.sources, self.members, self.splits) if self.booked is None else self.booked.values()
        return {(fact.filter, fact.hour_start): fact for fact in rows}

    @cached_property
    def contradictions(self) -> Mapping[Key, Fact]:
        """Hours in which a cut's members exceed the total, by the cut's rest: what they claim together."""
        found: dict[Key, Fact] = {}
        for cut, hours in self.splits.items():
            rest_of_cut = Filter(cut, None)
            for hour, split in hours.items():
                if split.contradicted:
                    number = max(source.reading for _, source in _with_spend(self.members[cut], hour))
                    found[rest_of_cut, hour] = Fact(rest_of_cut, hour, *split.claimed, number)
        return found


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
    kept = [reading for reading in book.readings if reading.window.filter not in book.ignored]
    by_filter: dict[Filter, list[Reading]] = {}
    for reading in sorted(kept, key=lambda reading: (reading.asked_at, reading.number)):
        by_filter.setdefault(reading.window.filter, []).append(reading)
    totals = _sources(by_filter.get(TOTAL, ()), book.grid, lambda reading: _beyond(book, reading))
    tails = {reading.number for reading in by_filter.get(TOTAL, ()) if reading.window.is_tail}
    out_of_reach = frozenset(hour for hour, source in totals.items() if source.reading in tails)
    sources = {
        filter: _sources(readings, book.grid, lambda _: out_of_reach) for filter, readings in by_filter.items() if filter != TOTAL
    }
    members = {cut: _believed(book, sources, cut) for cut in CUTS}
    splits = {cut: _split(totals, members[cut]) for cut in CUTS if cut is Cut.QUEUE or any(members[cut].values())}
    return Folded(
        verdict=_verdict(book, by_filter, totals, members, splits, out_of_reach),
        sources={**sources, TOTAL: totals} if totals else sources,
        members=members,
        splits=splits,
        last_reading=max((reading.number for reading in kept), default=0),
    )


def _believed(book: Book, sources: Mapping[Filter, Hours], cut: Cut) -> dict[Filter, Hours]:
    return {filter: hours for filter, hours in sources.items() if filter.cut is cut and filter not in book.doubted}


def diff(before: Folded, after: Folded) -> Changes:
    """What has to be written so that the facts of ``before`` become those of ``after``, and what was different before.

    A revision's values are those of the fact that changed, or where the API's own number did, those numbers.
    """
    facts: list[Fact] = []
    revisions: dict[Key, Revision] = {}
    for key in before.facts.keys() | after.facts.keys():
        held, now = before.facts.get(key), after.facts.get(key)
        if held == now or (held and now and held.value == now.value):
            continue
        facts.append(now or Fact(*key, *ZERO, after.last_reading))
        if held and held.value != _value(now):
            revisions[key] = Revision(*key, held.value, _value(now), Cause.ATTRIBUTION, after.last_reading)
    for filter, hours in before.sources.items():
        then = after.sources.get(filter, {})
        if then is hours:
            continue
        for hour, earlier in hours.items():
            later = then.get(hour)
            if later and later.value != earlier.value:
                cause = Cause.SOURCE if earlier.had_ended(hour) else Cause.GROWTH
                revisions[filter, hour] = Revision(filter, hour, earlier.value, later.value, cause, later.reading)
    order = _by_time_then_filter
    return Changes(tuple(sorted(facts, key=order)), tuple(sorted(revisions.values(), key=order)))


def _value(fact: Fact | None) -> Value:
    return ZERO if fact is None else Value(fact.volume, fact.money)


def _by_time_then_filter(row: Fact | Revision) -> tuple[datetime, str, str]:
    return row.hour_start, row.filter.cut, row.filter.member or ""


# ---------------------------------------------------------------- one filter: what was said of each hour


def _beyond(book: Book, reading: Reading) -> Set[datetime]:
    """The day's last hour, where 23 records may be all that comes."""
    is_known = book.reaches_end is not None and reading.number >= book.reaches_end
    return frozenset() if is_known else frozenset([day_start(book.day) + DAY - HOUR + timedelta(seconds=book.grid)])


def _sources(readings: Sequence[Reading], grid: int, out_of_reach: Callable[[Reading], Set[datetime]]) -> Hours:
    """Source values of one filter's hours; ``readings`` in the order they were asked, the later wins.

    For hours ``out_of_reach`` of it an answer to the whole day that has no record at all does not speak; of queues and other
    members, for those that the total's own answer did not speak for.
    """
    if readings and _is_complete(readings[-1], grid):  # as nearly all are
        return readings[-1].said
    held: dict[datetime, Source] = {}
    once_empty: set[datetime] = set()
    for reading in readings:
        if reading.outcome not in (Outcome.GOOD, Outcome.PARTIAL):
            continue
        for hour in _own_hours(reading.window, grid):
            source = reading.said.get(hour)
            if not reading.records and not reading.window.is_tail and hour in out_of_reach(reading):
                continue
            if source is None and not _is_zero(reading, hour, is_held=hour in held and hour not in once_empty):
                if not reading.records:
                    once_empty.add(hour)
                continue
            held[hour] = source or Source(ZERO, reading.number, reading.asked_at)
            once_empty.discard(hour)
    return held


def _is_complete(reading: Reading, grid: int) -> bool:
    """Whether it speaks for the whole day, with a record an hour: what was said before does not count."""
    hours = _own_hours(reading.window, grid)
    has_all = len(reading.records) == len(hours) and reading.records[0].hour_start == hours[0]
    return has_all and reading.is_good and not reading.window.is_tail


def _is_zero(reading: Reading, hour: datetime, is_held: bool) -> bool:
    """Whether an answer without a record of this hour says that the hour is zero.

    Inside its span it does. An answer that starts later proves an hour idle that it was asked for by itself (a tail), or of
    which nothing is held. So does an answer with no record at all; a held value falls only to the second of them in a row.
    """
    if any(rejection.hour_start in (None, hour) for rejection in reading.rejections):
        return False
    if not reading.records:
        return not is_held and hour + HOUR <= reading.asked_at
    first, last = reading.records[0].hour_start, reading.records[-1].hour_start
    return first < hour < last or (hour < first and (reading.window.is_tail or not is_held))


@lru_cache(maxsize=1_000)
def _own_hours(window: Window, grid: int) -> tuple[datetime, ...]:
    first = window.start + timedelta(seconds=grid)
    return tuple(first + HOUR * n for n in range((window.end - window.start) // HOUR))


# ---------------------------------------------------------------- one cut: what its members explain of the total


def _split(totals: Hours, members: Mapping[Filter, Hours]) -> dict[datetime, _HourSplit]:
    volumes, moneys, rows = dict.fromkeys(totals, 0), dict.fromkeys(totals, Decimal(0)), dict.fromkeys(totals, 0)
    for hours in members.values():
        for hour, source in hours.items():
            volume, money = source.value
            if (volume or money) and hour in rows:
                volumes[hour] += volume
                moneys[hour] += money
                rows[hour] += 1
    return {hour: _hour_split(total.value, Value(volumes[hour], moneys[hour]), rows[hour]) for hour, total in totals.items()}


def _hour_split(total: Value, claimed: Value, rows: int) -> _HourSplit:
    rest = Value(total.volume - claimed.volume, total.money - claimed.money)
    rounding = CRUMB * (rows + 1)
    explained = rest.volume == 0 and abs(rest.money) <= rounding
    contradicted = rows > 0 and not explained and (rest.volume < 0 or rest.money < -rounding)
    return _HourSplit(claimed, total if contradicted else rest, explained, contradicted)


def _with_spend(members: Mapping[Filter, Hours], hour: datetime) -> Iterator[tuple[Filter, Source]]:
    """The members that an hour has spend of."""
    for filter, hours in members.items():
        source = hours.get(hour)
        if source and source.value != ZERO:
            yield filter, source


def _facts(sources: Mapping[Filter, Hours], members: Mapping[Cut, Mapping[Filter, Hours]], splits: Splits) -> Iterator[Fact]:
    """The total's hours, and of each cut its members' and the rest; where members exceed the total all of it is rest."""
    totals = sources.get(TOTAL, {})
    for hour, total in totals.items():
        yield Fact(TOTAL, hour, *total.value, total.reading)
    for cut, hours in splits.items():
        rest_of_cut = Filter(cut, None)
        for hour, split in hours.items():
            total = totals[hour]
            if not split.contradicted:
                for filter, source in _with_spend(members[cut], hour):
                    yield Fact(filter, hour, *source.value, source.reading)
            if split.rest != ZERO:
                yield Fact(rest_of_cut, hour, *split.rest, total.reading)


# ---------------------------------------------------------------- the day


def _verdict(
    book: Book,
    by_filter: Mapping[Filter, list[Reading]],
    totals: Hours,
    members: Mapping[Cut, Mapping[Filter, Hours]],
    splits: Splits,
    out_of_reach: frozenset[datetime],
) -> Verdict:
    end = day_start(book.day) + DAY
    asked = {filter: at for filter, readings in by_filter.items() if (at := _last_asked(readings))}
    asked_at = asked.get(TOTAL)
    ended = [hour for hour, source in totals.items() if source.had_ended(hour)]
    active = (
        filter
        for hours_of in members.values()
        for filter, hours in hours_of.items()
        if any(source.value != ZERO for source in hours.values())
    )
    return Verdict(
        day=book.day,
        total=_sum(source.value for source in totals.values()),
        total_asked=asked_at,
        closed=asked_at is not None and asked_at >= end + CLOSED_AFTER,
        splits={cut: _day_split(by_hour, ended, is_told=asked_at is not None) for cut, by_hour in splits.items()},
        failed=_failed(by_filter) - book.ended,
        owed=_owed(book, asked, totals, members, splits),
        hours={hour: source.value for hour, source in totals.items()},
        asked=asked,
        active=frozenset(active) - book.ended,
        out_of_reach=out_of_reach,
    )


def _day_split(by_hour: Mapping[datetime, _HourSplit], ended: Sequence[datetime], is_told: bool) -> Split:
    return Split(
        rest=_sum(split.rest for split in by_hour.values()),
        explained=is_told and all(by_hour[hour].explained for hour in ended),
        contradicted=any(by_hour[hour].contradicted for hour in ended),
        rests={hour: by_hour[hour].rest for hour in ended if not by_hour[hour].explained},
    )


def _last_asked(readings: Iterable[Reading]) -> datetime | None:
    """When the filter's whole day was last asked for with success."""
    return max((reading.asked_at for reading in readings if reading.is_good and not reading.window.is_tail), default=None)


def _failed(by_filter: Mapping[Filter, list[Reading]]) -> frozenset[Filter]:
    """Filters of which some window's last attempt failed, and no later answer covers its hours."""
    failed = set()
    for filter, readings in by_filter.items():
        since_good: datetime | None = None
        for reading in reversed(readings):
            if reading.is_good:
                since_good = min(since_good or reading.window.start, reading.window.start)
            elif since_good is None or reading.window.start < since_good:
                failed.add(filter)
    return frozenset(failed)


def _owed(
    book: Book,
    asked: Mapping[Filter, datetime],
    totals: Hours,
    members: Mapping[Cut, Mapping[Filter, Hours]],
    splits: Splits,
) -> tuple[tuple[Filter, datetime], ...]:
    """The ``date`` of the first hour each answered filter owes: of the total any ended hour, of a member one with a rest."""
    if TOTAL not in asked:
        return ()
    grid = timedelta(seconds=book.grid)
    whole = Window.whole_day("", TOTAL, book.day)
    hours = [hour for hour in _own_hours(whole, book.grid) if hour + HOUR <= asked[TOTAL]]
    if unread := [hour for hour in hours if _is_unsaid(totals.get(hour), asked[TOTAL])]:
        return ((TOTAL, unread[0] - grid),)
    owed = []
    for cut, by_hour in splits.items():
        with_rest = [hour for hour in hours if not by_hour[hour].explained]
        for filter in members[cut].keys() & asked.keys() - book.ended:
            hours_of, at = members[cut][filter], asked[filter]
            first = next((hour for hour in with_rest if _is_unsaid(hours_of.get(hour), at)), None)
            if first is not None:
                owed.append((filter, first - grid))
    return tuple(sorted(owed))


def _is_unsaid(source: Source | None, asked_at: datetime) -> bool:
    """Whether nothing is held of an hour, or spend that the filter's last answer did not speak for."""
    return source is None or (source.asked_at < asked_at and source.value != ZERO)


def _sum(values: Iterable[Value]) -> Value:
    volume, money = 0, Decimal(0)
    for value in values:
        volume += value.volume
        money += value.money
    return Value(volume, money)

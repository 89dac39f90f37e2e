"""Readings of a day to facts, rest and revisions: one pure function for loading and for replay.

    facts(day) = fold(every reading of that day)          what is believed
    changes    = diff(fold before a commit, fold after)   what that commit writes

Per filter and hour the reading that was asked last and speaks for the hour gives its source value. A reading speaks for
the span from its first to its last record: inside it a missing hour is zero, outside it nothing is said. Every cut
sums to the total by construction: a member counts only beside a held total, and what no believed member explains is
the cut's rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import NamedTuple

from etl.models import (
    DAY,
    HOUR,
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    Breakdown,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Measures,
    Outcome,
    Revision,
    SeriesKey,
    Snapshot,
    SourcedMeasures,
    Window,
    day_start,
)

CLOSED_AFTER = timedelta(minutes=10)
"""A day is closed when its total was asked this long after its end."""

ROUNDING_TOLERANCE = Decimal("0.000001")
"""Each of an hour's numbers may be off by half of the API's last place; so may their sum, once a number."""

Key = tuple[SeriesKey, datetime]


Hours = Mapping[datetime, SourcedMeasures]
"""One filter's hours, as the API gave them."""


@dataclass(frozen=True, slots=True)
class DaySnapshots:
    """All readings of one day of an account, in the order of their numbers.

    ``grid`` is the account's first second after the asked hour. ``reaches_end``: from this reading on answers are
    known to reach the last hour of the day asked for, so that one without any record speaks for it too.
    ``unverified`` filters are not believed, ``ignored`` ones (a member that cannot exist, those set aside) are
    nobody's. Of ``ended`` ones what is held stays, and no more is asked.
    """

    day: date
    hour_offset_seconds: int = 0
    full_day_from_snapshot: int | None = None
    snapshots: tuple[Snapshot, ...] = ()
    unverified: frozenset[SeriesKey] = frozenset()
    ignored: frozenset[SeriesKey] = frozenset()
    retired: frozenset[SeriesKey] = frozenset()

    def with_snapshots(self, snapshots: Iterable[Snapshot]) -> "DaySnapshots":
        return replace(self, snapshots=(*self.snapshots, *snapshots))


class HourBreakdown(NamedTuple):
    """What a cut's members explain of one hour of the total: what they ``allocated`` together, and what that leaves."""

    allocated: Measures
    unattributed: Measures
    is_explained: bool
    is_over_allocated: bool


Breakdowns = Mapping[Dimension, Mapping[datetime, HourBreakdown]]


@dataclass(frozen=True)
class ReconciledDay:
    """What a day's readings amount to.

    ``stored_facts`` are the facts as they stand in the warehouse, where that is not what the readings amount to;
    None: they do.
    """

    day_state: DayState
    sources: Mapping[SeriesKey, Hours] = field(default_factory=dict)
    members: Mapping[Dimension, Mapping[SeriesKey, Hours]] = field(default_factory=dict)
    breakdowns: Breakdowns = field(default_factory=dict)
    last_snapshot: int = 0
    stored_facts: Mapping[Key, Fact] | None = None

    @cached_property
    def facts(self) -> Mapping[Key, Fact]:
        """Facts are complete: an hour of a member that is not among them is zero. Made when they are first asked for:
        a day is folded with every answer, and written with every commit."""
        rows = (
            _facts(self.sources, self.members, self.breakdowns)
            if self.stored_facts is None
            else self.stored_facts.values()
        )
        return {(fact.series, fact.hour_start): fact for fact in rows}

    @cached_property
    def over_allocations(self) -> Mapping[Key, Fact]:
        """Hours in which a cut's members exceed the total, by the cut's rest: what they claim together."""
        found: dict[Key, Fact] = {}
        for dimension, hours in self.breakdowns.items():
            unattributed_key = SeriesKey(dimension, None)
            for hour, breakdown in hours.items():
                if breakdown.is_over_allocated:
                    number = max(source.snapshot for _, source in _with_spend(self.members[dimension], hour))
                    found[unattributed_key, hour] = Fact(unattributed_key, hour, *breakdown.allocated, number)
        return found


@dataclass(frozen=True, slots=True)
class DayChanges:
    """What one commit writes of one day. A fact of value zero, unless it is the total's, leaves the warehouse."""

    facts: tuple[Fact, ...] = ()
    revisions: tuple[Revision, ...] = ()


def empty_day(day: date) -> ReconciledDay:
    """The fold of a day of which nothing was ever read."""
    return ReconciledDay(DayState(day))


def reconcile(day_snapshots: DaySnapshots) -> ReconciledDay:
    """What the readings of a day amount to."""
    kept = [snapshot for snapshot in day_snapshots.snapshots if snapshot.window.series not in day_snapshots.ignored]
    by_filter: dict[SeriesKey, list[Snapshot]] = {}
    for snapshot in sorted(kept, key=lambda snapshot: (snapshot.requested_at, snapshot.number)):
        by_filter.setdefault(snapshot.window.series, []).append(snapshot)
    totals = _sources(
        by_filter.get(TOTAL, ()),
        day_snapshots.hour_offset_seconds,
        lambda snapshot: _uncertain_hours(day_snapshots, snapshot),
    )
    tails = {snapshot.number for snapshot in by_filter.get(TOTAL, ()) if snapshot.window.is_partial_day}
    hours_without_full_day_response = frozenset(hour for hour, source in totals.items() if source.snapshot in tails)
    sources = {
        series: _sources(snapshots, day_snapshots.hour_offset_seconds, lambda _: hours_without_full_day_response)
        for series, snapshots in by_filter.items()
        if series != TOTAL
    }
    members = {dimension: _verified_members(day_snapshots, sources, dimension) for dimension in SPLIT_DIMENSIONS}
    breakdowns = {
        dimension: _split(totals, members[dimension])
        for dimension in SPLIT_DIMENSIONS
        if dimension is Dimension.QUEUE or any(members[dimension].values())
    }
    return ReconciledDay(
        day_state=_verdict(day_snapshots, by_filter, totals, members, breakdowns, hours_without_full_day_response),
        sources={**sources, TOTAL: totals} if totals else sources,
        members=members,
        breakdowns=breakdowns,
        last_snapshot=max((snapshot.number for snapshot in kept), default=0),
    )


def _verified_members(
    day_snapshots: DaySnapshots, sources: Mapping[SeriesKey, Hours], dimension: Dimension
) -> dict[SeriesKey, Hours]:
    return {
        series: hours
        for series, hours in sources.items()
        if series.dimension is dimension and series not in day_snapshots.unverified
    }


def diff(before: ReconciledDay, after: ReconciledDay) -> DayChanges:
    """What has to be written so that the facts of ``before`` become those of ``after``, and what was different before.

    A revision's values are those of the fact that changed, or where the API's own number did, those numbers.
    """
    facts: list[Fact] = []
    revisions: dict[Key, Revision] = {}
    for key in before.facts.keys() | after.facts.keys():
        stored, now = before.facts.get(key), after.facts.get(key)
        if stored == now or (stored and now and stored.value == now.value):
            continue
        facts.append(now or Fact(*key, *ZERO_MEASURES, after.last_snapshot))
        if stored and stored.value != _value(now):
            revisions[key] = Revision(*key, stored.value, _value(now), ChangeReason.REATTRIBUTION, after.last_snapshot)
    for series, hours in before.sources.items():
        then = after.sources.get(series, {})
        if then is hours:
            continue
        for hour, earlier in hours.items():
            later = then.get(hour)
            if later and later.value != earlier.value:
                cause = ChangeReason.CORRECTION if earlier.was_complete(hour) else ChangeReason.LATE_ARRIVING
                revisions[series, hour] = Revision(series, hour, earlier.value, later.value, cause, later.snapshot)
    order = _by_time_then_filter
    return DayChanges(tuple(sorted(facts, key=order)), tuple(sorted(revisions.values(), key=order)))


def _value(fact: Fact | None) -> Measures:
    return ZERO_MEASURES if fact is None else Measures(fact.volume, fact.money)


def _by_time_then_filter(row: Fact | Revision) -> tuple[datetime, str, str]:
    return row.hour_start, row.series.dimension, row.series.member or ""


# ---------------------------------------------------------------- one filter: what was said of each hour


def _uncertain_hours(day_snapshots: DaySnapshots, snapshot: Snapshot) -> Set[datetime]:
    """The day's last hour, where 23 records may be all that comes."""
    is_known = (
        day_snapshots.full_day_from_snapshot is not None and snapshot.number >= day_snapshots.full_day_from_snapshot
    )
    return (
        frozenset()
        if is_known
        else frozenset(
            [day_start(day_snapshots.day) + DAY - HOUR + timedelta(seconds=day_snapshots.hour_offset_seconds)]
        )
    )


def _sources(
    snapshots: Sequence[Snapshot], grid: int, hours_without_full_day_response: Callable[[Snapshot], Set[datetime]]
) -> Hours:
    """Source values of one filter's hours; ``snapshots`` in the order they were asked, the later wins.

    For hours ``hours_without_full_day_response`` of it an answer to the whole day that has no record at all does not
    speak; of queues and other members, for those that the total's own answer did not speak for.
    """
    if snapshots and _is_complete(snapshots[-1], grid):  # as nearly all are
        return snapshots[-1].values_by_hour
    stored: dict[datetime, SourcedMeasures] = {}
    once_empty: set[datetime] = set()
    for snapshot in snapshots:
        if snapshot.outcome not in (Outcome.SUCCESS, Outcome.PARTIAL):
            continue
        for hour in _own_hours(snapshot.window, grid):
            source = snapshot.values_by_hour.get(hour)
            if (
                not snapshot.records
                and not snapshot.window.is_partial_day
                and hour in hours_without_full_day_response(snapshot)
            ):
                continue
            if source is None and not _is_zero(snapshot, hour, is_held=hour in stored and hour not in once_empty):
                if not snapshot.records:
                    once_empty.add(hour)
                continue
            stored[hour] = source or SourcedMeasures(ZERO_MEASURES, snapshot.number, snapshot.requested_at)
            once_empty.discard(hour)
    return stored


def _is_complete(snapshot: Snapshot, grid: int) -> bool:
    """Whether it speaks for the whole day, with a record an hour: what was said before does not count."""
    hours = _own_hours(snapshot.window, grid)
    has_all = len(snapshot.records) == len(hours) and snapshot.records[0].hour_start == hours[0]
    return has_all and snapshot.is_success and not snapshot.window.is_partial_day


def _is_zero(snapshot: Snapshot, hour: datetime, is_held: bool) -> bool:
    """Whether an answer without a record of this hour says that the hour is zero.

    Inside its span it does. An answer that starts later proves an hour idle that it was asked for by itself (a tail),
    or of which nothing is held. So does an answer with no record at all; a held value falls only to the second of
    them in a row.
    """
    if any(rejection.hour_start in (None, hour) for rejection in snapshot.rejections):
        return False
    if not snapshot.records:
        return not is_held and hour + HOUR <= snapshot.requested_at
    first, last = snapshot.records[0].hour_start, snapshot.records[-1].hour_start
    return first < hour < last or (hour < first and (snapshot.window.is_partial_day or not is_held))


@lru_cache(maxsize=1_000)
def _own_hours(window: Window, grid: int) -> tuple[datetime, ...]:
    first = window.start + timedelta(seconds=grid)
    return tuple(first + HOUR * n for n in range((window.end - window.start) // HOUR))


# ---------------------------------------------------------------- one cut: what its members explain of the total


def _split(totals: Hours, members: Mapping[SeriesKey, Hours]) -> dict[datetime, HourBreakdown]:
    volumes, moneys, rows = dict.fromkeys(totals, 0), dict.fromkeys(totals, Decimal(0)), dict.fromkeys(totals, 0)
    for hours in members.values():
        for hour, source in hours.items():
            volume, money = source.value
            if (volume or money) and hour in rows:
                volumes[hour] += volume
                moneys[hour] += money
                rows[hour] += 1
    return {
        hour: _hour_split(total.value, Measures(volumes[hour], moneys[hour]), rows[hour])
        for hour, total in totals.items()
    }


def _hour_split(total: Measures, allocated: Measures, rows: int) -> HourBreakdown:
    unattributed = Measures(total.volume - allocated.volume, total.money - allocated.money)
    rounding = ROUNDING_TOLERANCE * (rows + 1)
    is_explained = unattributed.volume == 0 and abs(unattributed.money) <= rounding
    is_over_allocated = rows > 0 and not is_explained and (unattributed.volume < 0 or unattributed.money < -rounding)
    return HourBreakdown(allocated, total if is_over_allocated else unattributed, is_explained, is_over_allocated)


def _with_spend(members: Mapping[SeriesKey, Hours], hour: datetime) -> Iterator[tuple[SeriesKey, SourcedMeasures]]:
    """The members that an hour has spend of."""
    for series, hours in members.items():
        source = hours.get(hour)
        if source and source.value != ZERO_MEASURES:
            yield series, source


def _facts(
    sources: Mapping[SeriesKey, Hours], members: Mapping[Dimension, Mapping[SeriesKey, Hours]], breakdowns: Breakdowns
) -> Iterator[Fact]:
    """The total's hours, and of each cut its members' and the rest; where members exceed the total all of it is
    rest."""
    totals = sources.get(TOTAL, {})
    for hour, total in totals.items():
        yield Fact(TOTAL, hour, *total.value, total.snapshot)
    for dimension, hours in breakdowns.items():
        unattributed_key = SeriesKey(dimension, None)
        for hour, breakdown in hours.items():
            total = totals[hour]
            if not breakdown.is_over_allocated:
                for series, source in _with_spend(members[dimension], hour):
                    yield Fact(series, hour, *source.value, source.snapshot)
            if breakdown.unattributed != ZERO_MEASURES:
                yield Fact(unattributed_key, hour, *breakdown.unattributed, total.snapshot)


# ---------------------------------------------------------------- the day


def _verdict(
    day_snapshots: DaySnapshots,
    by_filter: Mapping[SeriesKey, list[Snapshot]],
    totals: Hours,
    members: Mapping[Dimension, Mapping[SeriesKey, Hours]],
    breakdowns: Breakdowns,
    hours_without_full_day_response: frozenset[datetime],
) -> DayState:
    end = day_start(day_snapshots.day) + DAY
    asked = {series: at for series, snapshots in by_filter.items() if (at := _last_asked(snapshots))}
    requested_at = asked.get(TOTAL)
    ended = [hour for hour, source in totals.items() if source.was_complete(hour)]
    active = (
        series
        for hours_of in members.values()
        for series, hours in hours_of.items()
        if any(source.value != ZERO_MEASURES for source in hours.values())
    )
    return DayState(
        day=day_snapshots.day,
        total=_sum(source.value for source in totals.values()),
        total_requested_at=requested_at,
        is_closed=requested_at is not None and requested_at >= end + CLOSED_AFTER,
        breakdowns={
            dimension: _day_split(by_hour, ended, is_told=requested_at is not None)
            for dimension, by_hour in breakdowns.items()
        },
        failed=_failed(by_filter) - day_snapshots.retired,
        outstanding=_owed(day_snapshots, asked, totals, members, breakdowns),
        total_by_hour={hour: source.value for hour, source in totals.items()},
        requested_at=asked,
        active_members=frozenset(active) - day_snapshots.retired,
        hours_without_full_day_response=hours_without_full_day_response,
    )


def _day_split(by_hour: Mapping[datetime, HourBreakdown], ended: Sequence[datetime], is_told: bool) -> Breakdown:
    return Breakdown(
        unattributed=_sum(breakdown.unattributed for breakdown in by_hour.values()),
        is_explained=is_told and all(by_hour[hour].is_explained for hour in ended),
        is_over_allocated=any(by_hour[hour].is_over_allocated for hour in ended),
        unattributed_by_hour={hour: by_hour[hour].unattributed for hour in ended if not by_hour[hour].is_explained},
    )


def _last_asked(snapshots: Iterable[Snapshot]) -> datetime | None:
    """When the filter's whole day was last asked for with success."""
    return max(
        (snapshot.requested_at for snapshot in snapshots if snapshot.is_success and not snapshot.window.is_partial_day),
        default=None,
    )


def _failed(by_filter: Mapping[SeriesKey, list[Snapshot]]) -> frozenset[SeriesKey]:
    """Filters of which some window's last attempt failed, and no later answer covers its hours."""
    failed = set()
    for series, snapshots in by_filter.items():
        since_good: datetime | None = None
        for snapshot in reversed(snapshots):
            if snapshot.is_success:
                since_good = min(since_good or snapshot.window.start, snapshot.window.start)
            elif since_good is None or snapshot.window.start < since_good:
                failed.add(series)
    return frozenset(failed)


def _owed(
    day_snapshots: DaySnapshots,
    asked: Mapping[SeriesKey, datetime],
    totals: Hours,
    members: Mapping[Dimension, Mapping[SeriesKey, Hours]],
    breakdowns: Breakdowns,
) -> tuple[tuple[SeriesKey, datetime], ...]:
    """The ``date`` of the first hour each answered filter owes: of the total any ended hour, of a member one with a
    rest."""
    if TOTAL not in asked:
        return ()
    grid = timedelta(seconds=day_snapshots.hour_offset_seconds)
    whole = Window.whole_day("", TOTAL, day_snapshots.day)
    hours = [hour for hour in _own_hours(whole, day_snapshots.hour_offset_seconds) if hour + HOUR <= asked[TOTAL]]
    if unread := [hour for hour in hours if _is_unsaid(totals.get(hour), asked[TOTAL])]:
        return ((TOTAL, unread[0] - grid),)
    outstanding = []
    for dimension, by_hour in breakdowns.items():
        with_rest = [hour for hour in hours if not by_hour[hour].is_explained]
        for series in members[dimension].keys() & asked.keys() - day_snapshots.retired:
            hours_of, at = members[dimension][series], asked[series]
            first = next((hour for hour in with_rest if _is_unsaid(hours_of.get(hour), at)), None)
            if first is not None:
                outstanding.append((series, first - grid))
    return tuple(sorted(outstanding))


def _is_unsaid(source: SourcedMeasures | None, requested_at: datetime) -> bool:
    """Whether nothing is held of an hour, or spend that the filter's last answer did not speak for."""
    return source is None or (source.requested_at < requested_at and source.value != ZERO_MEASURES)


def _sum(values: Iterable[Measures]) -> Measures:
    volume, money = 0, Decimal(0)
    for value in values:
        volume += value.volume
        money += value.money
    return Measures(volume, money)

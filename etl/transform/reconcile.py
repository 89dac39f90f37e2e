"""Reconcile a day's snapshots into facts and revisions: one pure function, used for loading and for replay.

    facts   = reconcile(all snapshots of the day).facts
    changes = diff(day before a commit, day after it)     what the commit writes

In each dimension, facts add up to the total by construction: members count only in hours with a total, and what no
verified member explains is the dimension's unattributed amount.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from etl.models import (
    DAY,
    HOUR,
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Revision,
    SeriesKey,
    Snapshot,
    SourcedMeasures,
    Window,
    day_start,
)
from etl.transform.breakdown import HourBreakdown, break_down_hours, day_breakdown, sum_measures, with_spend
from etl.transform.hours import Hours, hours_of, merge_snapshots

CLOSED_AFTER = timedelta(minutes=10)
"""A day is closed if its total was requested this long after its end."""

Key = tuple[SeriesKey, datetime]
MembersByDimension = Mapping[Dimension, Mapping[SeriesKey, Hours]]
BreakdownsByDimension = Mapping[Dimension, Mapping[datetime, HourBreakdown]]


@dataclass(frozen=True, slots=True)
class DaySnapshots:
    """All snapshots of one day of an account, in the order of their numbers, and what is known about the account.

    ``full_day_from_snapshot``: from this snapshot on, responses are known to include the last hour of the requested
    day, so that an empty response covers it too. Series in ``ignored`` are excluded or do not exist, those in
    ``unverified`` do not count yet, those in ``retired`` keep their stored values and are not requested.
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

    @property
    def hours(self) -> tuple[datetime, ...]:
        return hours_of(Window.whole_day("", TOTAL, self.day), self.hour_offset_seconds)


@dataclass(frozen=True)
class ReconciledDay:
    """What a day's snapshots amount to.

    ``stored_facts`` are the facts in the warehouse, if they may differ from those of the snapshots.
    """

    day_state: DayState
    sources: Mapping[SeriesKey, Hours] = field(default_factory=dict)
    members: MembersByDimension = field(default_factory=dict)
    breakdowns: BreakdownsByDimension = field(default_factory=dict)
    last_snapshot: int = 0
    stored_facts: Mapping[Key, Fact] | None = None

    @cached_property
    def facts(self) -> Mapping[Key, Fact]:
        """The facts of the day; a member's hour without a fact is zero.

        Computed on first use, because a day is reconciled with each response, and written with each commit.
        """
        facts = self._facts() if self.stored_facts is None else self.stored_facts.values()
        return {(fact.series, fact.hour_start): fact for fact in facts}

    def _facts(self) -> Iterator[Fact]:
        """The total, its members and the unattributed amounts; all is unattributed where members exceed the total."""
        totals = self.sources.get(TOTAL, {})
        for hour, total in totals.items():
            yield Fact(TOTAL, hour, *total.value, total.snapshot)
        for dimension, by_hour in self.breakdowns.items():
            for hour, breakdown in by_hour.items():
                if not breakdown.is_over_allocated:
                    for series, source in with_spend(self.members[dimension], hour):
                        yield Fact(series, hour, *source.value, source.snapshot)
                if breakdown.unattributed != ZERO_MEASURES:
                    yield Fact(SeriesKey(dimension, None), hour, *breakdown.unattributed, totals[hour].snapshot)

    @cached_property
    def over_allocations(self) -> Mapping[Key, Fact]:
        """Hours whose members exceed the total in a dimension, with what they add up to."""
        found: dict[Key, Fact] = {}
        for dimension, by_hour in self.breakdowns.items():
            series = SeriesKey(dimension, None)
            for hour, breakdown in by_hour.items():
                if breakdown.is_over_allocated:
                    number = max(source.snapshot for _, source in with_spend(self.members[dimension], hour))
                    found[series, hour] = Fact(series, hour, *breakdown.allocated, number)
        return found


@dataclass(frozen=True, slots=True)
class DayChanges:
    """What one commit writes for one day. A fact of value zero is deleted, except of the total."""

    facts: tuple[Fact, ...] = ()
    revisions: tuple[Revision, ...] = ()


def empty_day(day: date) -> ReconciledDay:
    """Return a day without any snapshot."""
    return ReconciledDay(DayState(day))


def reconcile(day: DaySnapshots) -> ReconciledDay:
    """Return the facts and the state that a day's snapshots amount to."""
    counted = [snapshot for snapshot in day.snapshots if snapshot.window.series not in day.ignored]
    by_series: dict[SeriesKey, list[Snapshot]] = {}
    for snapshot in sorted(counted, key=lambda snapshot: (snapshot.requested_at, snapshot.number)):
        by_series.setdefault(snapshot.window.series, []).append(snapshot)
    offset, total_snapshots = day.hour_offset_seconds, by_series.get(TOTAL, [])
    totals = merge_snapshots(total_snapshots, offset, lambda snapshot: _uncertain_hours(day, snapshot))
    partial = {snapshot.number for snapshot in total_snapshots if snapshot.window.is_partial_day}
    without_full_day = frozenset(hour for hour, source in totals.items() if source.snapshot in partial)
    sources = {
        series: merge_snapshots(snapshots, offset, lambda _: without_full_day)
        for series, snapshots in by_series.items()
        if series != TOTAL
    }
    members: MembersByDimension = {
        dimension: {
            series: hours
            for series, hours in sources.items()
            if series.dimension is dimension and series not in day.unverified
        }
        for dimension in SPLIT_DIMENSIONS
    }
    breakdowns = {
        dimension: break_down_hours(totals, members[dimension])
        for dimension in SPLIT_DIMENSIONS
        if dimension is Dimension.QUEUE or any(members[dimension].values())
    }
    return ReconciledDay(
        day_state=_day_state(day, by_series, totals, members, breakdowns, without_full_day),
        sources={**sources, TOTAL: totals} if totals else sources,
        members=members,
        breakdowns=breakdowns,
        last_snapshot=max((snapshot.number for snapshot in counted), default=0),
    )


def _uncertain_hours(day: DaySnapshots, snapshot: Snapshot) -> frozenset[datetime]:
    """The day's last hour, as long as the API may leave it out of every response."""
    is_full_day = day.full_day_from_snapshot is not None and snapshot.number >= day.full_day_from_snapshot
    return frozenset() if is_full_day else frozenset(day.hours[-1:])


def diff(before: ReconciledDay, after: ReconciledDay) -> DayChanges:
    """Return what has to be written to get from the facts of ``before`` to those of ``after``, and what changed.

    A revision has the values of the fact that changed, or the API's own numbers if those changed.
    """
    facts: list[Fact] = []
    revisions: dict[Key, Revision] = {}
    for key in before.facts.keys() | after.facts.keys():
        old, new = before.facts.get(key), after.facts.get(key)
        if old and new and old.value == new.value:
            continue
        facts.append(new or Fact(*key, *ZERO_MEASURES, after.last_snapshot))
        new_value = new.value if new else ZERO_MEASURES
        if old and old.value != new_value:
            revisions[key] = Revision(*key, old.value, new_value, ChangeReason.REATTRIBUTION, after.last_snapshot)
    for series, hours in before.sources.items():
        new_hours = after.sources.get(series, {})
        if new_hours is hours:
            continue
        for hour, earlier in hours.items():
            later = new_hours.get(hour)
            if later and later.value != earlier.value:
                cause = ChangeReason.CORRECTION if earlier.was_complete(hour) else ChangeReason.LATE_ARRIVING
                revisions[series, hour] = Revision(series, hour, earlier.value, later.value, cause, later.snapshot)
    return DayChanges(tuple(sorted(facts, key=_order)), tuple(sorted(revisions.values(), key=_order)))


def _order(row: Fact | Revision) -> tuple[datetime, str, str]:
    return row.hour_start, row.series.dimension, row.series.member or ""


# ---------------------------------------------------------------- the day's state


def _day_state(
    day: DaySnapshots,
    by_series: Mapping[SeriesKey, list[Snapshot]],
    totals: Hours,
    members: MembersByDimension,
    breakdowns: BreakdownsByDimension,
    hours_without_full_day_response: frozenset[datetime],
) -> DayState:
    requested_at = {series: at for series, snapshots in by_series.items() if (at := _last_full_read(snapshots))}
    total_at = requested_at.get(TOTAL)
    complete = [hour for hour, source in totals.items() if source.was_complete(hour)]
    active = (
        series
        for hours_by_series in members.values()
        for series, hours in hours_by_series.items()
        if any(source.value != ZERO_MEASURES for source in hours.values())
    )
    return DayState(
        day=day.day,
        total=sum_measures(source.value for source in totals.values()),
        total_requested_at=total_at,
        is_closed=total_at is not None and total_at >= day_start(day.day) + DAY + CLOSED_AFTER,
        breakdowns={
            dimension: day_breakdown(by_hour, complete, has_total=total_at is not None)
            for dimension, by_hour in breakdowns.items()
        },
        failed=_failed(by_series) - day.retired,
        outstanding=_outstanding(day, requested_at, totals, members, breakdowns),
        total_by_hour={hour: source.value for hour, source in totals.items()},
        requested_at=requested_at,
        active_members=frozenset(active) - day.retired,
        hours_without_full_day_response=hours_without_full_day_response,
    )


def _last_full_read(snapshots: Iterable[Snapshot]) -> datetime | None:
    """When the whole day of a series was last requested with success."""
    full_reads = (one.requested_at for one in snapshots if one.is_success and not one.window.is_partial_day)
    return max(full_reads, default=None)


def _failed(by_series: Mapping[SeriesKey, list[Snapshot]]) -> frozenset[SeriesKey]:
    """Series with a window whose last attempt failed, unless a later response covers its hours."""
    failed = set()
    for series, snapshots in by_series.items():
        covered_from: datetime | None = None
        for snapshot in reversed(snapshots):
            if snapshot.is_success:
                covered_from = min(covered_from or snapshot.window.start, snapshot.window.start)
            elif covered_from is None or snapshot.window.start < covered_from:
                failed.add(series)
    return frozenset(failed)


def _outstanding(
    day: DaySnapshots,
    requested_at: Mapping[SeriesKey, datetime],
    totals: Hours,
    members: MembersByDimension,
    breakdowns: BreakdownsByDimension,
) -> tuple[tuple[SeriesKey, datetime], ...]:
    """Per series, the ``date`` to request for its first hour that is not covered.

    Of the total, any complete hour counts; of a member, one with an unattributed amount. Members wait for the total.
    """
    if TOTAL not in requested_at:
        return ()
    offset = timedelta(seconds=day.hour_offset_seconds)
    hours = [hour for hour in day.hours if hour + HOUR <= requested_at[TOTAL]]
    for hour in hours:
        if _is_uncovered(totals.get(hour), requested_at[TOTAL]):
            return ((TOTAL, hour - offset),)
    outstanding = []
    for dimension, by_hour in breakdowns.items():
        unexplained = [hour for hour in hours if not by_hour[hour].is_explained]
        for series in members[dimension].keys() & requested_at.keys() - day.retired:
            own, at = members[dimension][series], requested_at[series]
            first = next((hour for hour in unexplained if _is_uncovered(own.get(hour), at)), None)
            if first is not None:
                outstanding.append((series, first - offset))
    return tuple(sorted(outstanding))


def _is_uncovered(source: SourcedMeasures | None, requested_at: datetime) -> bool:
    """True if nothing is stored for an hour, or spend that the last response did not cover."""
    return source is None or (source.requested_at < requested_at and source.value != ZERO_MEASURES)

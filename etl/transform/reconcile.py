"""Reconcile a day's snapshots into facts and revisions: one pure function, used for loading and for replay.

    facts   = reconcile(all snapshots of the day).facts
    changes = diff(day before a commit, day after it)     what the commit writes

``add_snapshots`` gives the same result as ``reconcile`` without merging earlier snapshots again.

In each dimension, facts add up to the total by construction: members count only in hours with a total, and what no
verified member explains is the dimension's unattributed amount.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from etl.hour_values import HOURS_PER_DAY, NO_FACTS, FactValues, HourValues
from etl.models import (
    DAY,
    HOUR,
    SPLIT_DIMENSIONS,
    TOTAL,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Measures,
    Revision,
    SeriesKey,
    Snapshot,
    day_start,
)
from etl.transform.breakdown import Allocation, DimensionHours, break_down_hours, day_breakdown
from etl.transform.hours import NO_HOURS, SeriesHours, add_snapshot, completed_hours

CLOSED_AFTER = timedelta(minutes=10)
"""A day is closed if its total was requested this long after its end."""

Key = tuple[SeriesKey, datetime]


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
    def first_hour_start(self) -> datetime:
        return day_start(self.day) + timedelta(seconds=self.hour_offset_seconds)

    @property
    def counted(self) -> Iterator[Snapshot]:
        return (snapshot for snapshot in self.snapshots if snapshot.window.series not in self.ignored)


def single_facts(series: SeriesKey, values: FactValues, first_hour_start: datetime) -> Iterator[Fact]:
    """Yield the facts of a series one by one."""
    for hour, (volume, nanodollars, snapshot) in enumerate(zip(*values, strict=True)):
        if volume is not None and nanodollars is not None and snapshot is not None:
            yield Fact(series, first_hour_start + hour * HOUR, volume, nanodollars, snapshot)


@dataclass(frozen=True)
class ReconciledDay:
    """The facts and the state computed from a day's snapshots.

    ``series`` are those that count and those that are unverified. ``stored_facts``, if set, are the facts of a day that
    was loaded; otherwise they are computed.
    """

    inputs: DaySnapshots
    day_state: DayState
    series: Mapping[SeriesKey, SeriesHours] = field(default_factory=dict)
    dimensions: Mapping[Dimension, DimensionHours] = field(default_factory=dict)
    stored_facts: Mapping[SeriesKey, FactValues] | None = None

    @cached_property
    def facts(self) -> Mapping[SeriesKey, FactValues]:
        """The facts by series, if it has any; a member's hour without a fact is zero.

        Computed on first use, because a day is reconciled with each response, and written with each commit.
        """
        if self.stored_facts is not None:
            return self.stored_facts
        return {series: facts for series, facts in self._facts() if facts != NO_FACTS}

    def _facts(self) -> Iterator[tuple[SeriesKey, FactValues]]:
        """The total, its members and the unattributed amounts; all is unattributed where members exceed the total."""
        totals = self.series.get(TOTAL, NO_HOURS)
        numbers = tuple(source.number if source else None for source in totals.sources)
        yield TOTAL, FactValues(*totals.values, numbers)
        has_total = frozenset(totals.values.hours)
        for series, hours in self.series.items():
            dimension = self.dimensions.get(series.dimension)
            if dimension and series not in self.inputs.unverified:
                yield series, _facts_of(hours.values, hours.sources, has_total - dimension.over_allocated)
        for name, dimension in self.dimensions.items():
            yield SeriesKey(name, None), _facts_of(dimension.unattributed, totals.sources, has_total)

    @cached_property
    def over_allocations(self) -> list[Fact]:
        """Hours whose members exceed the total in a dimension, with what they add up to."""
        found = []
        for name, dimension in self.dimensions.items():
            for hour in sorted(dimension.over_allocated):
                members = [one for series, one in self.series.items() if self._counts_in(name, series)]
                sources = (one.sources[hour] for one in members if one.values.at(hour) != (0, 0))
                number = max(source.number for source in sources if source)
                allocation = dimension.allocation
                start = self.inputs.first_hour_start + hour * HOUR
                sums = allocation.volumes[hour], allocation.nanodollars[hour]
                found.append(Fact(SeriesKey(name, None), start, *sums, number))
        return found

    def _counts_in(self, dimension: Dimension, series: SeriesKey) -> bool:
        return series.dimension is dimension and series not in self.inputs.unverified

    @property
    def last_snapshot(self) -> int:
        return max((snapshot.number for snapshot in self.inputs.counted), default=0)


def _facts_of(values: HourValues, sources: Sequence[Snapshot | None], hours: frozenset[int]) -> FactValues:
    """The facts of the hours with spend, among some hours."""
    if all(values.volumes) and len(hours) == HOURS_PER_DAY:  # frequent
        return FactValues(*values, tuple(source.number if source else None for source in sources))
    volumes, nanodollars, snapshots = map(list, NO_FACTS)
    for hour, volume, money in values.with_spend():
        source = sources[hour]
        if hour in hours and source:
            volumes[hour], nanodollars[hour], snapshots[hour] = volume, money, source.number
    return FactValues(tuple(volumes), tuple(nanodollars), tuple(snapshots))


@dataclass(frozen=True, slots=True)
class DayChanges:
    """What one commit writes for one day.

    ``new`` are the facts of series that had none, ``changed`` those of other series with another value than before;
    there, facts of value zero are deleted, except those of the total.
    """

    new: Mapping[SeriesKey, FactValues] = field(default_factory=dict)
    changed: tuple[Fact, ...] = ()
    revisions: tuple[Revision, ...] = ()


def empty_day(day: date) -> ReconciledDay:
    """Return a day without any snapshot."""
    return ReconciledDay(DaySnapshots(day), DayState(day))


def reconcile(day: DaySnapshots) -> ReconciledDay:
    """Compute the facts and the state of a day."""
    return _add(replace(empty_day(day.day), inputs=replace(day, snapshots=())), day, day.counted)


def add_snapshots(before: ReconciledDay, day: DaySnapshots) -> ReconciledDay:
    """Return ``reconcile(day)``; ``day`` is that of ``before`` with more snapshots at its end."""
    added = [one for one in day.snapshots[len(before.inputs.snapshots) :] if one.window.series not in day.ignored]
    if not _counts_the_same(before, day) or any(_is_earlier(snapshot, before) for snapshot in added):
        return reconcile(day)
    after = _add(before, day, added)
    is_same = after.day_state.hours_without_full_day_response == before.day_state.hours_without_full_day_response
    return after if is_same or len(after.series) == 1 else reconcile(day)


def _counts_the_same(before: ReconciledDay, day: DaySnapshots) -> bool:
    """True if the snapshots of ``before`` count in ``day`` as they did."""
    old = before.inputs
    if (old.hour_offset_seconds, old.full_day_from_snapshot) != (day.hour_offset_seconds, day.full_day_from_snapshot):
        return False
    changed = (old.unverified ^ day.unverified) | (old.ignored ^ day.ignored) | (old.retired ^ day.retired)
    return changed.isdisjoint(before.series) and changed.isdisjoint(old.ignored)


def _is_earlier(snapshot: Snapshot, day: ReconciledDay) -> bool:
    last = day.series.get(snapshot.window.series, NO_HOURS).last
    return last is not None and snapshot.requested_at < last.requested_at


def _add(before: ReconciledDay, day: DaySnapshots, added: Iterable[Snapshot]) -> ReconciledDay:
    """Merge snapshots that are later than those of ``before``, all totals first."""
    series, first = dict(before.series), day.first_hour_start
    in_order = sorted(added, key=lambda one: (one.window.series != TOTAL, one.requested_at, one.number))
    for snapshot in in_order:
        key = snapshot.window.series
        totals = series.get(TOTAL, NO_HOURS)
        may_omit = _uncertain_hours(day, snapshot) if key == TOTAL else totals.from_partial_day
        series[key] = add_snapshot(series.get(key, NO_HOURS), snapshot, first, may_omit)
    changed = {snapshot.window.series for snapshot in in_order if snapshot.window.series != TOTAL}
    allocations = {name: hours.allocation for name, hours in before.dimensions.items()} or {
        Dimension.QUEUE: Allocation()
    }
    for name in SPLIT_DIMENSIONS:
        members = [key for key in changed if key.dimension is name and key not in day.unverified]
        values = [series[key].values for key in members]
        if not all(one.is_empty for one in values):
            earlier = (before.series[key].values for key in members if key in before.series)
            allocations[name] = allocations.get(name, Allocation()).replace_members(earlier, values)
    totals = series.get(TOTAL, NO_HOURS)
    dimensions = {
        name: break_down_hours(totals.values, allocations[name]) for name in SPLIT_DIMENSIONS if name in allocations
    }
    return ReconciledDay(day, _day_state(day, series, dimensions), series, dimensions)


def _uncertain_hours(day: DaySnapshots, snapshot: Snapshot) -> frozenset[int]:
    """The day's last hour, until it is known that the API returns it."""
    is_full_day = day.full_day_from_snapshot is not None and snapshot.number >= day.full_day_from_snapshot
    return frozenset() if is_full_day else frozenset({HOURS_PER_DAY - 1})


# ---------------------------------------------------------------- changes


def diff(before: ReconciledDay, after: ReconciledDay) -> DayChanges:
    """Return what has to be written to get from the facts of ``before`` to those of ``after``, and what changed.

    A revision has the API's values if the API changed them, otherwise those of the fact.
    """
    first = after.inputs.first_hour_start
    last_snapshot, changed, revisions = after.last_snapshot, list[Fact](), dict[Key, Revision]()
    for series in sorted(before.facts.keys() | after.facts.keys(), key=_order):
        old, new = before.facts.get(series), after.facts.get(series, NO_FACTS)
        if old is None or old[:2] == new[:2]:
            continue
        for hour, old_volume, new_volume, old_money, new_money, snapshot in zip(
            range(HOURS_PER_DAY), old.volumes, new.volumes, old.nanodollars, new.nanodollars, new.snapshots, strict=True
        ):
            if (old_volume, old_money) == (new_volume, new_money):
                continue
            start, number = first + hour * HOUR, snapshot or last_snapshot
            fact = Fact(series, start, new_volume or 0, new_money or 0, number)
            changed.append(fact)
            if old_volume is not None and old_money is not None and (old_volume, old_money) != fact[2:4]:
                values = Measures.of(old_volume, old_money), Measures.of(fact.volume, fact.nanodollars)
                revisions[series, start] = Revision(series, start, *values, ChangeReason.REATTRIBUTION, last_snapshot)
    for series, hours in before.series.items():
        later = after.series.get(series, NO_HOURS)
        if later is not hours:
            revisions |= {(series, one.hour_start): one for one in _changes(series, hours, later, first)}
    new_series = {series: after.facts[series] for series in after.facts if series not in before.facts}
    return DayChanges(new_series, tuple(changed), tuple(revisions.values()))


def _changes(series: SeriesKey, before: SeriesHours, after: SeriesHours, first: datetime) -> Iterator[Revision]:
    """Values that the API changed."""
    for hour, (earlier, later) in enumerate(zip(before.sources, after.sources, strict=True)):
        if earlier is None or later is None or before.values.at(hour) == after.values.at(hour):
            continue
        was_complete = hour < completed_hours(first, earlier.requested_at)
        cause = ChangeReason.CORRECTION if was_complete else ChangeReason.LATE_ARRIVING
        values = Measures.of(*before.values.at(hour)), Measures.of(*after.values.at(hour))
        yield Revision(series, first + hour * HOUR, *values, cause, later.number)


def _order(series: SeriesKey) -> tuple[str, str]:
    return series.dimension, series.member or ""


# ---------------------------------------------------------------- the day's state


def _day_state(
    day: DaySnapshots, series: Mapping[SeriesKey, SeriesHours], dimensions: Mapping[Dimension, DimensionHours]
) -> DayState:
    totals = series.get(TOTAL, NO_HOURS)
    total_at = totals.full_read_at
    members = {key: hours for key, hours in series.items() if key != TOTAL and key not in day.unverified}
    return DayState(
        day=day.day,
        total=Measures.of(*totals.values.total),
        total_requested_at=total_at,
        is_closed=total_at is not None and total_at >= day_start(day.day) + DAY + CLOSED_AFTER,
        breakdowns={
            name: day_breakdown(hours, totals.complete, has_total=total_at is not None)
            for name, hours in dimensions.items()
        },
        failed=frozenset(key for key, hours in series.items() if hours.failed_starts) - day.retired,
        outstanding=tuple(sorted(_outstanding(day, totals, members, dimensions))),
        total_by_hour=totals.values,
        requested_at={key: hours.full_read_at for key, hours in series.items() if hours.full_read_at},
        active_members=frozenset(key for key, hours in members.items() if hours.values.has_spend) - day.retired,
        hours_without_full_day_response=totals.from_partial_day,
    )


def _outstanding(
    day: DaySnapshots,
    totals: SeriesHours,
    members: Mapping[SeriesKey, SeriesHours],
    dimensions: Mapping[Dimension, DimensionHours],
) -> Iterator[tuple[SeriesKey, datetime]]:
    """Per series, the ``date`` to request for its first hour that is not covered.

    Total: any ended hour. Members: hours with an unattributed amount, once the total has no outstanding hour.
    """
    if totals.full_read_at is None:
        return
    past, midnight = completed_hours(day.first_hour_start, totals.full_read_at), day_start(day.day)
    if uncovered := [hour for hour in totals.uncovered if hour < past]:
        yield TOTAL, midnight + min(uncovered) * HOUR
        return
    for series, hours in members.items():
        if not hours.uncovered or hours.full_read_at is None or series in day.retired:
            continue
        dimension = dimensions.get(series.dimension)
        unexplained = dimension.unexplained if dimension else frozenset()
        if found := [hour for hour in hours.uncovered & unexplained if hour < past]:
            yield series, midnight + min(found) * HOUR

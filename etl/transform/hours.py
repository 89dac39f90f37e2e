"""Decide which value each hour of one series has, from all its snapshots of a day. Pure.

The latest snapshot that covers an hour gives its value. A snapshot covers the span from its first to its last record:
inside it a missing hour is zero. Hours outside are covered only in the cases of ``_means_zero``.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime

from etl.hour_values import HOURS_PER_DAY, NO_VALUES, HourValues
from etl.models import HOUR, Outcome, Snapshot

ALL_HOURS = frozenset(range(HOURS_PER_DAY))


def completed_hours(first_hour_start: datetime, moment: datetime) -> int:
    """Return how many hours of a day had ended at a moment."""
    return min(max((moment - first_hour_start) // HOUR, 0), HOURS_PER_DAY)


@dataclass(frozen=True, slots=True)
class SeriesHours:
    """What the snapshots of one series say about a day.

    ``sources`` has the snapshot that each value comes from, ``last`` is the latest of all. ``full_read_at`` is when the
    whole day was last requested with success. ``uncovered`` are hours without a value, and those that this last full
    response left out although they had spend, or because such responses omit them. ``complete`` hours had ended when
    their value was requested; those in ``from_partial_day`` have it from a partial-day window. ``failed_starts`` are
    the starts of windows whose last attempt failed. ``once_empty`` are hours that the last response, without any
    record, did not confirm.
    """

    values: HourValues = NO_VALUES
    sources: tuple[Snapshot | None, ...] = (None,) * HOURS_PER_DAY
    last: Snapshot | None = None
    full_read_at: datetime | None = None
    uncovered: frozenset[int] = ALL_HOURS
    complete: frozenset[int] = frozenset()
    from_partial_day: frozenset[int] = frozenset()
    failed_starts: frozenset[datetime] = frozenset()
    once_empty: frozenset[int] = frozenset()


NO_HOURS = SeriesHours()


def add_snapshot(hours: SeriesHours, snapshot: Snapshot, first_hour_start: datetime, may_omit: Set[int]) -> SeriesHours:
    """Return the hours of a series after one more snapshot, which was requested after all others.

    Whole-day responses say nothing about the hours they ``may_omit``, unless they have a record of them.
    """
    start, is_partial_day = snapshot.window.start, snapshot.window.is_partial_day
    if not snapshot.is_success:
        failed = hours.failed_starts | {start}
    else:
        failed = frozenset(earlier for earlier in hours.failed_starts if earlier < start)
    full_read_at = snapshot.requested_at if snapshot.is_success and not is_partial_day else hours.full_read_at
    if snapshot.is_success and snapshot.values.is_complete:  # nearly always, and never for a partial day
        past = completed_hours(first_hour_start, snapshot.requested_at)
        complete = ALL_HOURS if past == HOURS_PER_DAY else frozenset(range(past))
        sources = (snapshot,) * HOURS_PER_DAY
        return SeriesHours(snapshot.values, sources, snapshot, full_read_at, frozenset(), complete)
    if snapshot.outcome in (Outcome.SUCCESS, Outcome.PARTIAL):
        hours = _merge(hours, snapshot, first_hour_start, may_omit)
    uncovered = frozenset(hour for hour in range(HOURS_PER_DAY) if _is_uncovered(hours, hour, full_read_at, may_omit))
    return replace(hours, last=snapshot, full_read_at=full_read_at, failed_starts=failed, uncovered=uncovered)


def _merge(hours: SeriesHours, snapshot: Snapshot, first_hour_start: datetime, may_omit: Set[int]) -> SeriesHours:
    volumes, nanodollars = map(list, hours.values)
    sources, once_empty = list(hours.sources), {*hours.once_empty}
    span = snapshot.values.hours
    is_empty_day = not span and not snapshot.window.is_partial_day
    past = completed_hours(first_hour_start, snapshot.requested_at)
    rejected = {one.hour_start and (one.hour_start - first_hour_start) // HOUR for one in snapshot.rejections}
    for hour in range(snapshot.window.first_hour, HOURS_PER_DAY):
        if is_empty_day and hour in may_omit:
            continue
        if snapshot.values.volumes[hour] is None:
            has_spend = sources[hour] is not None and hours.values.at(hour) != (0, 0) and hour not in once_empty
            is_rejected = hour in rejected or None in rejected
            if is_rejected or not _means_zero(snapshot, hour, span, has_spend=has_spend, is_past=hour < past):
                if not span:
                    once_empty.add(hour)
                continue
        volumes[hour], nanodollars[hour] = snapshot.values.at(hour)
        sources[hour] = snapshot
        once_empty.discard(hour)
    known = [(hour, source) for hour, source in enumerate(sources) if source is not None]
    return replace(
        hours,
        values=HourValues(tuple(volumes), tuple(nanodollars)),
        sources=tuple(sources),
        complete=frozenset(hour for hour, one in known if hour < completed_hours(first_hour_start, one.requested_at)),
        from_partial_day=frozenset(hour for hour, one in known if one.window.is_partial_day),
        once_empty=frozenset(once_empty),
    )


def _means_zero(snapshot: Snapshot, hour: int, span: list[int], *, has_spend: bool, is_past: bool) -> bool:
    """True if a snapshot without a record for an hour says that the hour is zero.

    * Inside its span: yes.
    * Before its span: for a partial-day window, which requested the hour itself, or if no spend is stored for the hour.
    * After its span: no.
    * Without any record: yes, but stored spend becomes zero only with the second such snapshot in a row.
    """
    if not span:
        return not has_spend and is_past
    first, last = span[0], span[-1]
    return first < hour < last or (hour < first and (snapshot.window.is_partial_day or not has_spend))


def _is_uncovered(hours: SeriesHours, hour: int, full_read_at: datetime | None, may_omit: Set[int]) -> bool:
    source = hours.sources[hour]
    if source is None:
        return True
    is_earlier = full_read_at is not None and source.requested_at < full_read_at
    return is_earlier and (hour in may_omit or hours.values.at(hour) != (0, 0))

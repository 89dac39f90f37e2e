"""Decide which value each hour of one series has, from all its snapshots of a day. Pure.

The latest snapshot that covers an hour gives its value. A snapshot covers the span from its first to its last record:
inside it a missing hour is zero. Hours outside are covered only in the cases of ``_means_zero``.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import lru_cache

from etl.models import HOUR, ZERO_MEASURES, Outcome, Snapshot, SourcedMeasures, Window

Hours = Mapping[datetime, SourcedMeasures]
"""The hours of one series, as returned by the API."""


@lru_cache(maxsize=1_000)
def hours_of(window: Window, hour_offset: int) -> tuple[datetime, ...]:
    """Return the first second of each hour of a window."""
    first = window.start + timedelta(seconds=hour_offset)
    return tuple(first + HOUR * n for n in range((window.end - window.start) // HOUR))


def merge_snapshots(
    snapshots: Sequence[Snapshot],
    hour_offset: int,
    hours_an_empty_response_may_omit: Callable[[Snapshot], Set[datetime]],
) -> Hours:
    """Return the hours of one series; ``snapshots`` are in the order of their requests.

    A whole-day response without any record is ignored for the hours that ``hours_an_empty_response_may_omit`` returns.
    """
    if snapshots and _is_complete(snapshots[-1], hour_offset):  # nearly always: earlier snapshots do not matter
        return snapshots[-1].values_by_hour
    hours: dict[datetime, SourcedMeasures] = {}
    once_empty: set[datetime] = set()
    for snapshot in snapshots:
        if snapshot.outcome not in (Outcome.SUCCESS, Outcome.PARTIAL):
            continue
        is_empty_day = not snapshot.records and not snapshot.window.is_partial_day
        for hour in hours_of(snapshot.window, hour_offset):
            if is_empty_day and hour in hours_an_empty_response_may_omit(snapshot):
                continue
            value = snapshot.values_by_hour.get(hour)
            if value is None and not _means_zero(snapshot, hour, is_stored=hour in hours and hour not in once_empty):
                if not snapshot.records:
                    once_empty.add(hour)
                continue
            hours[hour] = value or SourcedMeasures(ZERO_MEASURES, snapshot.number, snapshot.requested_at)
            once_empty.discard(hour)
    return hours


def _is_complete(snapshot: Snapshot, hour_offset: int) -> bool:
    """True if the snapshot has a record for each hour of the day."""
    hours = hours_of(snapshot.window, hour_offset)
    has_all = len(snapshot.records) == len(hours) and snapshot.records[0].hour_start == hours[0]
    return has_all and snapshot.is_success and not snapshot.window.is_partial_day


def _means_zero(snapshot: Snapshot, hour: datetime, is_stored: bool) -> bool:
    """True if a snapshot without a record for an hour says that the hour is zero.

    * Inside its span: yes.
    * Before its span: for a partial-day window, which requested the hour itself, or if nothing is stored for the hour.
    * After its span: no.
    * Without any record: yes, but a stored value becomes zero only with the second such snapshot in a row.
    """
    if any(rejection.hour_start in (None, hour) for rejection in snapshot.rejections):
        return False
    if not snapshot.records:
        return not is_stored and hour + HOUR <= snapshot.requested_at
    first, last = snapshot.records[0].hour_start, snapshot.records[-1].hour_start
    return first < hour < last or (hour < first and (snapshot.window.is_partial_day or not is_stored))

"""Rows of the tables as domain values."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from etl.models import TOTAL, Breakdown, DayState, Dimension, Measures, MemberStatus, Outcome, SeriesKey, Window
from etl.warehouse.reading import from_db_utc, from_db_utc_or_none

ACTIVITY_WINDOW = timedelta(days=31)
"""Spending is loaded for this many days before and after the days that are requested."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A row of ``snapshots`` with its response body; None if there was no response, or it was deleted or is damaged."""

    number: int
    window: Window
    requested_at: datetime
    committed_at: datetime
    outcome: Outcome
    code: str
    message: str
    status: int | None
    body: bytes | None

    @property
    def is_raw_missing(self) -> bool:
        """True if the response may have had records and is no longer stored."""
        return self.body is None and self.status is not None and self.outcome is not Outcome.API_ERROR


@dataclass(frozen=True, slots=True)
class Coverage:
    """Days as their rows describe them, without hours, and the statuses of members.

    ``without_raw``: days whose responses may have been deleted, so that they cannot be reconciled again.
    ``trusted_by_user``: members that are verified only because the user listed them.
    """

    known: dict[date, DayState]
    final: frozenset[date]
    without_raw: frozenset[date]
    member_statuses: dict[SeriesKey, MemberStatus]
    trusted_by_user: frozenset[SeriesKey]


def stored_snapshot(account: str, row: Any) -> StoredSnapshot:
    series = SeriesKey(Dimension(row.dimension), row.member)
    return StoredSnapshot(
        row.snapshot_id,
        Window(account, series, row.day, from_db_utc(row.window_start), from_db_utc(row.window_end)),
        from_db_utc(row.requested_at),
        from_db_utc(row.committed_at),
        Outcome(row.outcome),
        row.code,
        row.message,
        row.status,
        _body(row.body, row.hash),
    )


def _body(compressed: bytes | None, sha256: str | None) -> bytes | None:
    """A response body; None if it is not stored or does not match its hash."""
    if compressed is None:
        return None
    with suppress(zlib.error):
        body = zlib.decompress(compressed)
        return body if hashlib.sha256(body).hexdigest() == sha256 else None
    return None


def dimensions_by_day(rows: Iterable[Any]) -> dict[date, set[Dimension]]:
    found: dict[date, set[Dimension]] = defaultdict(set)
    for day, dimension in rows:
        found[day].add(Dimension(dimension))
    return found


def day_state(
    row: Any,
    requested: Mapping[SeriesKey, datetime],
    unattributed: Set[Dimension],
    over_allocated: Set[Dimension],
) -> DayState:
    """A row of ``day_coverage`` as a day state without hours."""
    breakdowns = {
        dimension: Breakdown(
            is_explained=dimension not in unattributed | over_allocated,
            is_over_allocated=dimension in over_allocated,
        )
        for dimension in {series.dimension for series in requested} | over_allocated
    }
    unattributed_measures = Measures(row.unattributed_volume, row.unattributed_money)
    is_over_allocated = Dimension.QUEUE in over_allocated
    breakdowns[Dimension.QUEUE] = Breakdown(unattributed_measures, row.is_explained, is_over_allocated)
    return DayState(
        day=row.day,
        total=Measures(row.volume, row.money),
        total_requested_at=from_db_utc_or_none(row.fetched_at),
        is_closed=row.is_closed,
        breakdowns=breakdowns,
        failed=frozenset({TOTAL}) if row.status == "failed" else frozenset(),
        requested_at=requested,
    )


def daily_spending(rows: Iterable[Any]) -> list[tuple[SeriesKey, date, Measures]]:
    return [
        (SeriesKey(Dimension(dimension), member), day, Measures(volume, money))
        for dimension, member, day, volume, money in rows
    ]


def activity_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """The ranges of ``ACTIVITY_WINDOW`` around some days, merged where they touch."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        first, last = day - ACTIVITY_WINDOW, day + ACTIVITY_WINDOW
        if ranges and first <= ranges[-1][1]:
            first, _ = ranges.pop()
        ranges.append((first, last))
    return ranges

"""The stored days of one account, their snapshots and facts, as domain values."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from etl.hour_values import FactValues
from etl.load import state_sql as sql
from etl.load.stored_account import Account, MemberStatusChange, load_member_statuses, load_unknown_name_behaviours
from etl.models import (
    TOTAL,
    Breakdown,
    DayState,
    Dimension,
    Measures,
    MemberStatus,
    Outcome,
    SeriesKey,
    UnknownNameBehaviour,
    Window,
    day_start,
)
from etl.warehouse.reading import Reader, from_db_utc, from_db_utc_or_none

ACTIVITY_WINDOW = timedelta(days=31)
"""Spending is loaded for this many days before and after the days that are requested."""

_HOUR_SECONDS = 3_600


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


class StoredStateReader:
    """Reads the rows of one account."""

    def __init__(self, account: Account, reading: Callable[[], AbstractContextManager[Reader]]) -> None:
        """``reading`` gives the open warehouse; calls may be nested."""
        self.account = account
        self._reading = reading

    def _rows(self, statement: str, **params: object) -> Sequence[Any]:
        with self._reading() as reader:
            return reader.rows(statement, a=self.account.account_id, **params)

    def coverage(self, dimensions: Collection[Dimension]) -> Coverage:
        """Every day that was requested, and the statuses of members.

        For final days it includes which queues were requested if they do not explain the day, and which members of
        ``dimensions`` in any case.
        """
        wanted = sorted(dimensions)
        with self._reading():
            rows = self._rows(sql.DAYS)
            current = {change.series: change for change in self.member_status_history()}
            requested: dict[date, dict[SeriesKey, datetime]] = defaultdict(dict)
            has_requested = wanted or any(row.status == "final" and not row.is_explained for row in rows)
            requested_rows = self._rows(sql.REQUESTED_ON_FINAL_DAYS, dimensions=wanted) if has_requested else ()
            for day, dimension, member, at in requested_rows:
                requested[day][SeriesKey(Dimension(dimension), member)] = from_db_utc(at)
            over_allocated = dimensions_by_day(self._rows(sql.OVER_ALLOCATED))
            unattributed = dimensions_by_day(self._rows(sql.UNATTRIBUTED, dimensions=wanted) if dimensions else ())
        final = frozenset(row.day for row in rows if row.status == "final")
        pruned_before = self.account.raw_since or date.min
        return Coverage(
            known={
                row.day: day_state(row, requested[row.day], unattributed[row.day], over_allocated[row.day])
                for row in rows
            },
            final=final,
            without_raw=frozenset(day for day in final if day < pruned_before and not over_allocated[day]),
            member_statuses={series: change.member_status for series, change in current.items()},
            trusted_by_user=frozenset(
                series
                for series, change in current.items()
                if change.member_status is MemberStatus.VERIFIED and change.snapshot is None
            ),
        )

    def snapshots(self, days: Iterable[date]) -> list[StoredSnapshot]:
        """All snapshots of some days with their responses, in the order of their numbers."""
        rows = self._rows(sql.SNAPSHOTS, days=sorted(days))
        return [stored_snapshot(self.account.name, row) for row in rows]

    def facts(self, days: Iterable[date], hour_offset: int) -> dict[date, dict[SeriesKey, FactValues]]:
        """The facts of some days. ``hour_offset``: seconds past the full hour at which the account's hours begin."""
        facts: dict[date, dict[SeriesKey, FactValues]] = defaultdict(dict)
        for day, dimension, member, starts, *columns in self._rows(sql.FACTS, days=sorted(days)):
            first = int(day_start(day).timestamp()) + hour_offset
            hours = [(start - first) // _HOUR_SECONDS for start in starts]
            facts[day][SeriesKey(Dimension(dimension), member)] = FactValues.of(hours, *columns)
        return facts

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        """What members spent per day, on days around some days, in the order of days."""
        with self._reading():
            ranges = activity_ranges(days)
            rows = [row for first, last in ranges for row in self._rows(sql.SPENDING, first=first, last=last)]
        return daily_spending(rows)

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        """For each queue its last day with tasks that cost money, and what it spent on it."""
        return daily_spending(self._rows(sql.LAST_SPENDING))

    def balance_read_at(self) -> datetime | None:
        """When the balance was last read."""
        [(read_at,)] = self._rows(sql.BALANCE_READ_AT)
        return from_db_utc_or_none(read_at)

    def days_changed_by_unfinished_runs(self) -> list[date]:
        """Days whose total has changed since the last sync that read everything it wanted."""
        return [day for (day,) in self._rows(sql.CHANGED_BY_UNFINISHED_RUNS)]

    def days_with_members(self, series_keys: Iterable[SeriesKey]) -> list[date]:
        """Days with a successful response for one of some members, newest first."""
        wanted = sorted(series_keys)
        dimensions, members = [series.dimension for series in wanted], [series.member for series in wanted]
        return [day for (day,) in self._rows(sql.DAYS_WITH_MEMBERS, dimensions=dimensions, members=members)]

    def member_status_history(self) -> list[MemberStatusChange]:
        """All changes of members' statuses, oldest first."""
        with self._reading() as reader:
            return load_member_statuses(reader, self.account.account_id)

    def unknown_name_behaviours(self) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
        """Each behaviour and the time since when it applies, oldest first."""
        with self._reading() as reader:
            return load_unknown_name_behaviours(reader, self.account.account_id)

    def statuses(self) -> dict[date, str | None]:
        """Days that were requested, with their status; None for a day that has facts and was never requested."""
        with self._reading():
            never_requested: dict[date, str | None] = {day: None for (day,) in self._rows(sql.DAYS_WITHOUT_COVERAGE)}
            return never_requested | {row.day: row.status for row in self._rows(sql.DAYS)}


# ---------------------------------------------------------------- rows as domain values


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
    breakdowns: Mapping[Dimension, Breakdown] = _EXPLAINED
    is_usual = row.is_explained and not (row.unattributed_volume or row.unattributed_money or over_allocated)
    if requested or not is_usual:
        breakdowns = _breakdowns(row, requested, unattributed, over_allocated)
    return DayState(
        day=row.day,
        total=Measures(row.volume, row.money),
        total_requested_at=from_db_utc_or_none(row.fetched_at),
        is_closed=row.is_closed,
        breakdowns=breakdowns,
        failed=frozenset({TOTAL}) if row.status == "failed" else frozenset(),
        requested_at=requested,
    )


_EXPLAINED = {Dimension.QUEUE: Breakdown(is_explained=True)}
"""Nearly every day has this breakdown; one for all of them saves time and memory."""


def _breakdowns(
    row: Any, requested: Iterable[SeriesKey], unattributed: Set[Dimension], over_allocated: Set[Dimension]
) -> dict[Dimension, Breakdown]:
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
    return breakdowns


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

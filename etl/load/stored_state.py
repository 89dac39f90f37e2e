"""The stored days of one account, their snapshots and facts."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Any

from etl.hour_values import to_nanodollars
from etl.load import state_sql as sql
from etl.load import stored
from etl.load.stored import Coverage, StoredSnapshot
from etl.load.stored_account import Account, MemberStatusChange, load_member_statuses, load_unknown_name_behaviours
from etl.models import Dimension, Fact, Measures, MemberStatus, SeriesKey, UnknownNameBehaviour
from etl.warehouse.reading import Reader, from_db_utc


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
            for day, dimension, member, at in self._rows(sql.REQUESTED_ON_FINAL_DAYS, dimensions=wanted):
                requested[day][SeriesKey(Dimension(dimension), member)] = from_db_utc(at)
            over_allocated = stored.dimensions_by_day(self._rows(sql.OVER_ALLOCATED))
            unattributed = stored.dimensions_by_day(
                self._rows(sql.UNATTRIBUTED, dimensions=wanted) if dimensions else ()
            )
        final = frozenset(row.day for row in rows if row.status == "final")
        pruned_before = self.account.raw_since or date.min
        return Coverage(
            known={
                row.day: stored.day_state(row, requested[row.day], unattributed[row.day], over_allocated[row.day])
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
        return [stored.stored_snapshot(self.account.name, row) for row in rows]

    def facts(self, days: Iterable[date]) -> dict[date, list[Fact]]:
        """The facts of some days."""
        facts: dict[date, list[Fact]] = defaultdict(list)
        for day, dimension, member, hour_start, volume, money, number in self._rows(sql.FACTS, days=sorted(days)):
            series = SeriesKey(Dimension(dimension), member)
            facts[day].append(Fact(series, from_db_utc(hour_start), volume, to_nanodollars(money), number))
        return facts

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        """What members spent per day, on days around some days, in the order of days."""
        with self._reading():
            ranges = stored.activity_ranges(days)
            rows = [row for first, last in ranges for row in self._rows(sql.SPENDING, first=first, last=last)]
        return stored.daily_spending(rows)

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        """For each queue its last day with tasks that cost money, and what it spent on it."""
        return stored.daily_spending(self._rows(sql.LAST_SPENDING))

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

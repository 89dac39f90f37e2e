"""Count what a sync does."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TypedDict

from etl.extract.client import Client
from etl.models import TOTAL, DayState, SeriesKey, Snapshot
from etl.sync.writer import Writer


class DaysRead(TypedDict):
    """Days with a successful response in this run, and their spend."""

    first_day: date | None
    last_day: date | None
    days: int
    money: Decimal


@dataclass(slots=True)
class RunCounts:
    """Counts of one sync.

    ``money`` is the spend of the days read. ``totals`` and ``active`` are the fewest windows that could give this
    result.
    """

    windows_good: int = 0
    windows_failed: int = 0
    rejections: int = 0
    outside: int = 0
    money: Decimal = Decimal(0)
    money_by_day: dict[date, Decimal] = field(default_factory=dict)
    totals: set[date] = field(default_factory=set)
    active: set[tuple[date, SeriesKey]] = field(default_factory=set)
    requested: set[SeriesKey] = field(default_factory=set)
    first_failure: Snapshot | None = None

    @property
    def lower_bound(self) -> int:
        return len(self.totals) + len(self.active)

    def add(self, snapshot: Snapshot, day_state: DayState, *, is_expected_error: bool) -> None:
        """Count a snapshot; ``day_state`` includes it."""
        series, day = snapshot.window.series, day_state.day
        self.windows_good += snapshot.is_success
        if not snapshot.is_success and not is_expected_error:
            self.windows_failed += 1
            self.first_failure = self.first_failure or snapshot
        self.rejections += len(snapshot.rejections)
        self.outside += snapshot.out_of_window
        if snapshot.is_success or day in self.money_by_day:
            self.money += day_state.total.money - self.money_by_day.get(day, Decimal(0))
            self.money_by_day[day] = day_state.total.money
        self.requested.add(series)
        if series == TOTAL:
            self.totals.add(day)
        elif series in day_state.active_members:
            self.active.add((day, series))

    def days_read(self) -> DaysRead:
        days = self.money_by_day.keys()
        return DaysRead(
            first_day=min(days, default=None), last_day=max(days, default=None), days=len(days), money=self.money
        )

    def numbers(self, client: Client, writer: Writer) -> dict[str, int]:
        """Counts of the run that have the same name in SyncResult and in its row."""
        return {
            "requests": client.requests,
            "retries": client.retries,
            "windows_good": self.windows_good,
            "windows_failed": self.windows_failed,
            "facts_inserted": writer.counts.inserted,
            "facts_changed": writer.counts.changed,
            "facts_unchanged": writer.unchanged,
            "hourly_values_new": writer.hourly_values,
            "rejections": self.rejections,
        }

"""Count what a sync does."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from etl.models import TOTAL, DayState, SeriesKey, Snapshot


@dataclass(slots=True)
class RunCounts:
    """Counts of one sync.

    ``money`` is the spend of the days read. ``totals`` and ``active`` are the windows that a sync which knows all
    responses in advance would request.
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

    @property
    def lower_bound(self) -> int:
        return len(self.totals) + len(self.active)

    def add(self, snapshot: Snapshot, day_state: DayState, *, is_expected_error: bool) -> None:
        """Count a snapshot; ``day_state`` includes it."""
        series = snapshot.window.series
        self.windows_good += snapshot.is_success
        self.windows_failed += not snapshot.is_success and not is_expected_error
        self.rejections += len(snapshot.rejections)
        self.outside += snapshot.out_of_window
        self.money += day_state.total.money - self.money_by_day.get(day_state.day, Decimal(0))
        self.money_by_day[day_state.day] = day_state.total.money
        self.requested.add(series)
        if series == TOTAL:
            self.totals.add(day_state.day)
        elif series in day_state.active_members:
            self.active.add((day_state.day, series))

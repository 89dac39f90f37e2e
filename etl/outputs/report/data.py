"""What a report shows, as read from the warehouse. Times are aware UTC, money is exact US dollars."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from etl.outputs.alerts.evaluate import Budget
from etl.outputs.spot_checks import SpotCheckSummary

MIN_DAYS_BY_WEEK = 121
"""Periods of at least this many days are shown by week: on a phone, a bar per day would be thinner than a pixel."""


class Period(NamedTuple):
    """Days of the report's time zone, both ends included, shown in steps of 1 or 7 days. Weeks begin on Monday."""

    first: date
    last: date
    step_days: int

    @property
    def unit(self) -> str:
        return "day" if self.step_days == 1 else "week"

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def steps(self) -> list[date]:
        """The first day of every step, oldest first."""
        return [self.first + timedelta(days=offset) for offset in range(0, self.days, self.step_days)]

    @property
    def end(self) -> date:
        """The day after the last step."""
        return self.steps[-1] + timedelta(days=self.step_days)


def choose_period(today: date, days: int, history_start: date | None) -> Period:
    """The last ``days`` days, but none before the history starts; a long period is extended to whole weeks."""
    first = min(today, max(today - timedelta(days=days - 1), history_start or today))
    if (today - first).days + 1 < MIN_DAYS_BY_WEEK:
        return Period(first, today, 1)
    return Period(first - timedelta(days=first.weekday()), today, 7)


class QueueSpend(NamedTuple):
    """One queue in one step of the period."""

    queue: str
    step: date
    volume: int
    money: Decimal
    price_per_1000: Decimal | None
    is_final: bool


class WeekHour(NamedTuple):
    """Sums over all loaded hours of one hour of the week. ``weekday`` is 1 for Monday; ``hours`` counts the hours."""

    weekday: int
    hour: int
    hours: int
    volume: int
    money: Decimal


class MonthSpend(NamedTuple):
    month: date
    volume: int
    money: Decimal
    is_final: bool


class Forecast(NamedTuple):
    """Expected spend of the whole month, from the cookbook's month_to_date_with_forecast."""

    low: Decimal
    expected: Decimal
    high: Decimal


class DayCoverage(NamedTuple):
    """A row of coverage_daily."""

    account: str
    day: date
    status: str
    fetched_at: datetime | None
    unattributed_volume: int
    unattributed_money: Decimal


@dataclass(frozen=True, slots=True)
class Ahead:
    """Rows of the views runway and alerts_history, budgets, and what spot checks show, by account."""

    runways: Sequence[Any]
    budgets: Sequence[Budget]
    alerts: Sequence[Any]
    checks: Sequence[tuple[str, SpotCheckSummary]]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows. Days, months and hours of the week are those of ``zone``; ``coverage`` has UTC days.

    ``spend``, ``week_hours``, ``revised_hours`` and ``rejected_records`` cover the period only; ``daily`` covers this
    month and the one before. ``history_starts`` maps accounts to the first day of their known history. ``forecast`` is
    None unless every account has one for the current month. ``revisions``, ``syncs`` and ``findings`` are rows of the
    queries of the same names, for the templates.
    """

    warehouse: str
    now: datetime
    zone: str
    accounts: tuple[str, ...]
    history_starts: dict[str, date]
    period: Period
    spend: tuple[QueueSpend, ...]
    week_hours: tuple[WeekHour, ...]
    months: tuple[MonthSpend, ...]
    daily: dict[date, Decimal]
    forecast: Forecast | None
    ahead: Ahead
    coverage: tuple[DayCoverage, ...]
    revisions: Sequence[Any]
    revised_hours: int
    rejected_records: int
    syncs: Sequence[Any]
    findings: Sequence[Any]

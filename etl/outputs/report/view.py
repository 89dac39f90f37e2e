"""Values for the templates, calculated from report data. All wording is in the templates."""

from calendar import Calendar
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from etl.models import DAY
from etl.outputs.report import metrics
from etl.outputs.report.data import DayCoverage, MonthSpend, Period, ReportData
from etl.outputs.report.formatting import long_date
from etl.outputs.report.metrics import STATUSES, Comparison, QueueGroup, StepSpend

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAX_UNATTRIBUTED_DAYS = 10

_OUTDATED_AFTER = timedelta(hours=48)

WeekHourKey = tuple[int, int]
"""Weekday (1 is Monday) and hour."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One day or week of a table; ``groups`` has an entry per queue group, None where it has no spend."""

    label: str
    total: Decimal
    groups: list[StepSpend | None]


@dataclass(frozen=True, slots=True)
class WeekView:
    """Mean spend per hour of the week."""

    means: dict[WeekHourKey, Decimal]
    lowest: WeekHourKey
    highest: WeekHourKey


@dataclass(frozen=True, slots=True)
class AccountCoverage:
    """The days of one account. ``counts`` are of the known history: all days from ``start`` to today."""

    account: str
    start: date
    status: dict[date, str]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """What the templates show in addition to the report data."""

    data: ReportData
    today: date
    zone_minutes: int
    """By how many minutes the hours of the time zone begin later than those of UTC."""
    last_loaded: datetime | None
    is_outdated: bool
    this_month: MonthSpend
    month_before: MonthSpend
    change: metrics.Change | None
    comparison: Comparison | None
    groups: list[QueueGroup]
    spent: Decimal
    spend: dict[tuple[date, int], StepSpend]
    week: WeekView | None
    coverage: list[AccountCoverage]
    calendar: list[tuple[date, list[list[date]]]]
    unattributed_days: list[DayCoverage]

    @property
    def period(self) -> Period:
        return self.data.period

    @property
    def has_many_accounts(self) -> bool:
        return len(self.data.accounts) > 1

    @property
    def volume(self) -> int:
        return sum(group.volume for group in self.groups)

    @property
    def largest_group(self) -> QueueGroup:
        return max((group for group in self.groups if group.kind != "others"), key=lambda group: group.money)

    @property
    def queue_groups(self) -> list[tuple[int, QueueGroup]]:
        """The groups of a single queue, with their places in ``groups``."""
        return [(number, group) for number, group in enumerate(self.groups) if group.kind == "queue"]

    @property
    def unattributed(self) -> QueueGroup | None:
        return next((group for group in self.groups if group.kind == "unattributed"), None)

    @property
    def step_rows(self) -> list[StepRow]:
        """The steps with spend, newest first."""
        rows = []
        for step in reversed(self.period.steps):
            groups = [self.spend.get((step, number)) for number in range(len(self.groups))]
            found = [spend.money for spend in groups if spend]
            if found:
                rows.append(StepRow(step_label(self.period, step), sum(found, start=Decimal(0)), groups))
        return rows

    def days_with(self, status: str) -> set[date]:
        return {day for account in self.coverage for day, found in account.status.items() if found == status}

    @property
    def sparkline(self) -> str:
        """The spend of the last 30 days as points of an SVG line, 100 wide and 24 high, without today."""
        days = [self.today - DAY * number for number in range(30, 0, -1)]
        values = [self.data.daily.get(day, Decimal(0)) for day in days]
        top = max(values) if max(values) > 0 else Decimal(1)
        points = enumerate(float(max(value, Decimal(0)) / top) for value in values)
        return " ".join(f"{place * 100 / 29:.1f},{23 - 22 * value:.1f}" for place, value in points)

    @property
    def is_complete(self) -> dict[str, bool]:
        """Which sections have nothing to show; they are one line together."""
        return {
            "unattributed": not self.unattributed,
            "findings": not self.data.findings and not self.data.rejected_records,
            "revisions": not self.data.revisions,
        }

    def prices(self, number: int) -> list[Decimal]:
        """All prices of a group by step."""
        found = [spend.price_per_1000 for (_, group), spend in self.spend.items() if group == number]
        return [price for price in found if price is not None]


def build_view(data: ReportData) -> View:
    today = data.now.astimezone(ZoneInfo(data.zone)).date()
    groups = metrics.group_queues(data.spend)
    loaded = [row.fetched_at for row in data.coverage if row.fetched_at is not None]
    last_loaded = max(loaded, default=None)
    complete = metrics.complete_days(data.coverage, data.history_starts, data.zone)
    return View(
        data=data,
        today=today,
        zone_minutes=(data.now.astimezone(ZoneInfo(data.zone)).minute - data.now.minute) % 60,
        last_loaded=last_loaded,
        is_outdated=last_loaded is not None and data.now - last_loaded > _OUTDATED_AFTER,
        this_month=metrics.find_month(data.months, today),
        month_before=metrics.find_month(data.months, today.replace(day=1) - DAY),
        change=metrics.biggest_change(data.spend, data.period, complete),
        comparison=metrics.compare_months(data.daily, complete, today),
        groups=groups,
        spent=sum((group.money for group in groups), start=Decimal(0)),
        spend=metrics.spend_by_step(data.spend, groups),
        week=_week(data),
        coverage=_coverage(data, data.now.date()),
        calendar=_calendar(data.period),
        unattributed_days=_unattributed_days(data),
    )


def _week(data: ReportData) -> WeekView | None:
    means = {(row.weekday, row.hour): metrics.mean_per_hour(row.money, row.hours) for row in data.week_hours}
    if not means:
        return None
    return WeekView(means, min(means, key=means.__getitem__), max(means, key=means.__getitem__))


def _coverage(data: ReportData, today: date) -> list[AccountCoverage]:
    accounts = []
    for account, status in metrics.status_by_day(data.coverage, data.history_starts, today).items():
        start = data.history_starts[account]
        known = [found for day, found in status.items() if day >= start]
        accounts.append(AccountCoverage(account, start, status, {name: known.count(name) for name in STATUSES}))
    return accounts


def _calendar(period: Period) -> list[tuple[date, list[list[date]]]]:
    """The months of the period with their weeks. The first and last week of a month have days of other months."""
    months = [period.first.replace(day=1)]
    while (following := (months[-1] + DAY * 31).replace(day=1)) <= period.last:
        months.append(following)
    return [(month, Calendar().monthdatescalendar(month.year, month.month)) for month in months]


def _unattributed_days(data: ReportData) -> list[DayCoverage]:
    """Days of the period with unattributed spend, largest first."""
    days = [row for row in data.coverage if row.unattributed_money or row.unattributed_volume]
    days = [row for row in days if row.day >= data.period.first]
    return sorted(days, key=lambda row: (-abs(row.unattributed_money), row.day, row.account))


def step_label(period: Period, step: date) -> str:
    if period.step_days == 1:
        return f"{WEEKDAYS[step.weekday()]}, {long_date(step)}"
    return f"{long_date(step)} to {long_date(step + DAY * 6)}"


def week_hour_label(weekday: int, hour: int) -> str:
    return f"{WEEKDAYS[weekday - 1]}, {hour:02}:00 to {(hour + 1) % 24:02}:00"

"""Figures calculated from report data. Pure and exact; a day that is missing never counts as a day without spend."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import NamedTuple
from zoneinfo import ZoneInfo

from etl.models import DAY, UNATTRIBUTED
from etl.outputs.report.data import DayCoverage, MonthSpend, Period, QueueSpend

MAX_NAMED_QUEUES = 8
"""More colors than this cannot be told apart."""

OTHERS_COLOR, UNATTRIBUTED_COLOR = MAX_NAMED_QUEUES, MAX_NAMED_QUEUES + 1

STATUSES = ("final", "open", "missing", "failed")

_ZERO, _TENTH, _NINE_PLACES = Decimal(0), Decimal("0.1"), Decimal("0.000000001")

_CLOSED_AFTER = timedelta(minutes=10)
"""As in the view closed_days: a total requested this long after the end of its day is that of the whole day."""


class QueueGroup(NamedTuple):
    """Queues shown together in one color.

    ``kind`` is queue (a single queue), others (all queues beyond the largest) or unattributed. ``color`` is a place in
    the palette.
    """

    label: str
    kind: str
    color: int
    queues: frozenset[str]
    volume: int
    money: Decimal
    price_per_1000: Decimal | None


class StepSpend(NamedTuple):
    """One group in one step of the period."""

    volume: int
    money: Decimal
    price_per_1000: Decimal | None
    is_final: bool


class Comparison(NamedTuple):
    """Spend of the same days of this month and the one before; only days complete in both.

    ``days`` are days of the month. ``percent`` is the change; None if nothing was spent in the month before.
    """

    days: tuple[int, ...]
    this_month: Decimal
    month_before: Decimal
    percent: Decimal | None

    @property
    def is_consecutive(self) -> bool:
        return len(self.days) == self.days[-1] - self.days[0] + 1


class Change(NamedTuple):
    """A queue that cost more or less from ``step`` on: its spend in the seven days before it and from it on.

    ``percent`` is None if nothing was spent before.
    """

    queue: str
    step: date
    before: Decimal
    after: Decimal
    percent: Decimal | None


# ---------------------------------------------------------------- queues


def price_per_1000(money: Decimal, volume: int) -> Decimal | None:
    """US dollars per 1000 tasks, rounded like the views: once, half away from zero."""
    return _divide(money * 1000, volume) if volume > 0 else None


def mean_per_hour(total: Decimal | int, hours: int) -> Decimal:
    return _divide(total, hours)


def _divide(value: Decimal | int, count: int) -> Decimal:
    with localcontext(prec=60):
        return (Decimal(value) / count).quantize(_NINE_PLACES, ROUND_HALF_UP)


def group_queues(spend: Iterable[QueueSpend]) -> list[QueueGroup]:
    """The queues with the most spend, then the other queues as one group, then the unattributed spend."""
    sums: dict[str, tuple[int, Decimal]] = defaultdict(lambda: (0, _ZERO))
    for row in spend:
        volume, money = sums[row.queue]
        sums[row.queue] = volume + row.volume, money + row.money
    queues = sorted(sums.keys() - {UNATTRIBUTED}, key=lambda queue: (-sums[queue][1], queue))
    others = queues[MAX_NAMED_QUEUES:]
    groups = [_group(queue, "queue", color, [queue], sums) for color, queue in enumerate(queues[:MAX_NAMED_QUEUES])]
    if others:
        label = others[0] if len(others) == 1 else f"{len(others)} other queues"
        groups.append(_group(label, "others", OTHERS_COLOR, others, sums))
    if UNATTRIBUTED in sums:
        groups.append(_group(UNATTRIBUTED, "unattributed", UNATTRIBUTED_COLOR, [UNATTRIBUTED], sums))
    return groups


def _group(
    label: str, kind: str, color: int, queues: Sequence[str], sums: Mapping[str, tuple[int, Decimal]]
) -> QueueGroup:
    volume = sum(sums[queue][0] for queue in queues)
    money = sum((sums[queue][1] for queue in queues), start=_ZERO)
    return QueueGroup(label, kind, color, frozenset(queues), volume, money, price_per_1000(money, volume))


def spend_by_step(spend: Iterable[QueueSpend], groups: Sequence[QueueGroup]) -> dict[tuple[date, int], StepSpend]:
    """Map (first day of the step, index of the group) to spend, oldest first; only steps with spend."""
    group_of = {queue: number for number, group in enumerate(groups) for queue in group.queues}
    steps: dict[tuple[date, int], StepSpend] = {}
    for row in spend:
        key = row.step, group_of[row.queue]
        before = steps.get(key)
        if before is None:
            steps[key] = StepSpend(row.volume, row.money, row.price_per_1000, row.is_final)
            continue
        volume, money = before.volume + row.volume, before.money + row.money
        steps[key] = StepSpend(volume, money, price_per_1000(money, volume), before.is_final and row.is_final)
    return {key: steps[key] for key in sorted(steps)}


def biggest_change(spend: Iterable[QueueSpend], period: Period, complete: set[date]) -> Change | None:
    """The largest difference of a queue between two weeks in a row; only complete days count. None if there is none."""
    money: dict[str, dict[date, Decimal]] = defaultdict(dict)
    for row in spend:
        money[row.queue][row.step] = row.money
    week, length = 7 // period.step_days, timedelta(days=period.step_days)
    steps = [one for one in period.steps if all(one + DAY * day in complete for day in range(period.step_days))]
    found = []
    for place in range(week, len(steps) - week + 1):
        around = steps[place - week : place + week]
        if around[-1] - around[0] != length * (2 * week - 1):  # a day between them is not complete
            continue
        for queue, by_step in money.items():
            values = [by_step.get(step, _ZERO) for step in around]
            before, after = (sum(part, start=_ZERO) for part in (values[:week], values[week:]))
            percent = ((after - before) * 100 / before).quantize(_TENTH) if before > 0 else None
            found.append(Change(queue, steps[place], before, after, percent))
    biggest = max(found, key=lambda one: (abs(one.after - one.before), one.step, one.queue), default=None)
    return biggest if biggest and biggest.after != biggest.before else None


# ---------------------------------------------------------------- days


def status_by_day(
    coverage: Iterable[DayCoverage], history_starts: Mapping[str, date], today: date
) -> dict[str, dict[date, str]]:
    """Map every account to its days: all stored days, and all days from the start of its history to today."""
    statuses: dict[str, dict[date, str]] = {
        account: {start + DAY * number: "missing" for number in range((today - start).days + 1)}
        for account, start in history_starts.items()
    }
    for row in coverage:
        statuses[row.account][row.day] = row.status
    return statuses


def complete_days(coverage: Iterable[DayCoverage], history_starts: Mapping[str, date], zone: str = "UTC") -> set[date]:
    """Days of a time zone that were requested after their end, for every account whose history reaches back to them."""
    closed: dict[str, set[date]] = defaultdict(set)
    for row in coverage:
        day_end = datetime.combine(row.day + DAY, time(), UTC)
        if row.fetched_at is not None and row.fetched_at >= day_end + _CLOSED_AFTER:
            closed[row.account].add(row.day)
    complete = {
        day
        for day in set[date]().union(*closed.values())
        if all(day < start or day in closed[account] for account, start in history_starts.items())
    }
    return {day for day in complete if _utc_days(day, ZoneInfo(zone)) <= complete}


def _utc_days(day: date, zone: ZoneInfo) -> set[date]:
    """The UTC days that have hours of a local day."""
    begins, ends = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + DAY))
    return {begins.date(), (ends - timedelta(seconds=1)).date()}


def find_month(months: Iterable[MonthSpend], day: date) -> MonthSpend:
    """The month that contains ``day``; zero spend if it has no row."""
    first = day.replace(day=1)
    return next((month for month in months if month.month == first), MonthSpend(first, 0, _ZERO, is_final=False))


def compare_months(daily: Mapping[date, Decimal], complete: set[date], today: date) -> Comparison | None:
    """Compare this month with the same days of the month before; None if no day is complete in both."""
    first = today.replace(day=1)
    first_before = (first - DAY).replace(day=1)
    pairs = [
        (day, first_before + (day - first))
        for day in sorted(complete)
        if first <= day < today and first_before + (day - first) in complete and first_before + (day - first) < first
    ]
    if not pairs:
        return None
    this, before = (sum((daily.get(day, _ZERO) for day in days), start=_ZERO) for days in zip(*pairs, strict=True))
    percent = ((this - before) * 100 / before).quantize(_TENTH) if before > 0 else None
    return Comparison(tuple(day.day for day, _ in pairs), this, before, percent)

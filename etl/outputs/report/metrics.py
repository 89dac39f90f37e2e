"""What is reckoned from what is held: pure, and exact to the last digit. A missing day is never a day without spend."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import NamedTuple

from etl.models import DAY, UNATTRIBUTED
from etl.outputs.report.queries import Covered, Month, Spent

TOP = 8
"""Queues shown by name; more colours than that cannot be told apart."""

_ZERO, _TENTH, _PLACES = Decimal(0), Decimal("0.1"), Decimal("0.000000001")

STATUSES = ("final", "open", "missing", "failed")


class Line(NamedTuple):
    """One line of the legend, in one colour. ``names`` are the queues it stands for; ``kind`` is queue, others or
    rest."""

    label: str
    kind: str
    names: frozenset[str]
    volume: int
    money: Decimal
    price_per_1000: Decimal | None


class Cell(NamedTuple):
    """A line in one step of the period."""

    start: date
    line: int
    volume: int
    money: Decimal
    price_per_1000: Decimal | None
    is_final: bool


class Comparison(NamedTuple):
    """Days read whole in this month and in the last, by their number. ``per_cent`` is None where nothing was spent in
    the last."""

    days: tuple[int, ...]
    this: Decimal
    last: Decimal
    per_cent: Decimal | None


# ---------------------------------------------------------------- queues


def price(money: Decimal, volume: int) -> Decimal | None:
    """US dollars per 1000 tasks, rounded once, half away from zero, as the views do it."""
    if volume <= 0:
        return None
    with localcontext(prec=60):
        return (money * 1000 / volume).quantize(_PLACES, ROUND_HALF_UP)


def mean(value: Decimal, hours: int) -> Decimal:
    """Of so many hours each, rounded once to 9 places."""
    with localcontext(prec=60):
        return (value / hours).quantize(_PLACES, ROUND_HALF_UP)


def lines(spent: Iterable[Spent]) -> list[Line]:
    """The dearest queues by name, what is left of them as one line, and last what no queue explains."""
    sums: dict[str, tuple[int, Decimal]] = defaultdict(lambda: (0, _ZERO))
    for row in spent:
        volume, money = sums[row.queue]
        sums[row.queue] = volume + row.volume, money + row.money
    named = sorted(sums.keys() - {UNATTRIBUTED}, key=lambda name: (-sums[name][1], name))
    shown, others = named[:TOP], named[TOP:]
    found = [_line(name, "queue", [name], sums) for name in shown]
    if others:
        label = others[0] if len(others) == 1 else f"{len(others)} other queues"
        found.append(_line(label, "others", others, sums))
    if UNATTRIBUTED in sums:
        found.append(_line(UNATTRIBUTED, "rest", [UNATTRIBUTED], sums))
    return found


def _line(label: str, kind: str, names: Sequence[str], sums: Mapping[str, tuple[int, Decimal]]) -> Line:
    volume = sum(sums[name][0] for name in names)
    money = sum((sums[name][1] for name in names), start=_ZERO)
    return Line(label, kind, frozenset(names), volume, money, price(money, volume))


def cells(spent: Iterable[Spent], shown: Sequence[Line]) -> list[Cell]:
    """Each line in each step in which it spent, in order of time."""
    place = {name: number for number, line in enumerate(shown) for name in line.names}
    sums: dict[tuple[date, int], Cell] = {}
    for row in spent:
        key = row.start, place[row.queue]
        before = sums.get(key)
        if before is None:
            sums[key] = Cell(*key, row.volume, row.money, row.price_per_1000, row.is_final)
            continue
        volume, money = before.volume + row.volume, before.money + row.money
        sums[key] = Cell(*key, volume, money, price(money, volume), before.is_final and row.is_final)
    return [sums[key] for key in sorted(sums)]


# ---------------------------------------------------------------- days


def status_by_day(coverage: Iterable[Covered], until: date) -> dict[str, dict[date, str]]:
    """Of each account every day from its first to ``until``; a day the warehouse has no word of is missing."""
    found: dict[str, dict[date, str]] = defaultdict(dict)
    for row in coverage:
        found[row.account][row.day] = row.status
    for held in found.values():
        first = min(held)
        for step in range((until - first).days + 1):
            held.setdefault(first + DAY * step, "missing")
    return dict(found)


def whole_days(coverage: Iterable[Covered]) -> set[date]:
    """Days whose total was asked after their end, for every account whose history reaches back to them."""
    is_closed: dict[str, set[date]] = defaultdict(set)
    firsts: dict[str, date] = {}
    for row in coverage:
        firsts[row.account] = min(row.day, firsts.get(row.account, row.day))
        if row.fetched_at is not None and row.fetched_at >= _closed_from(row.day):
            is_closed[row.account].add(row.day)
    days = set[date]().union(*is_closed.values())
    return {day for day in days if all(day < first or day in is_closed[account] for account, first in firsts.items())}


def _closed_from(day: date) -> datetime:
    return datetime.combine(day + DAY, time(0, 10), UTC)


def month_of(months: Iterable[Month], day: date) -> Month:
    """The month that ``day`` lies in; nothing spent where there is no row."""
    first = day.replace(day=1)
    return next((month for month in months if month.month == first), Month(first, 0, _ZERO, is_final=False))


def compare(daily: Mapping[date, Decimal], whole: set[date], today: date) -> Comparison | None:
    """This month against the same days of the last, as far as both were read whole; None when there is no such day."""
    first = today.replace(day=1)
    before = (first - DAY).replace(day=1)
    pairs = [
        (day, before + (day - first))
        for day in sorted(whole)
        if first <= day < today and before + (day - first) in whole and before + (day - first) < first
    ]
    if not pairs:
        return None
    this, last = (sum((daily.get(day, _ZERO) for day in days), start=_ZERO) for days in zip(*pairs, strict=True))
    change = ((this - last) * 100 / last).quantize(_TENTH) if last > 0 else None
    return Comparison(tuple(day.day for day, _ in pairs), this, last, change)

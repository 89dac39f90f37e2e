"""Evaluate alert rules: which events go on now. Reads the warehouse, writes nothing."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from etl.config.alert_rules import AlertRule
from etl.events import Event
from etl.models import DAY, HOUR
from etl.money import to_dollars, to_nanodollars
from etl.outputs.alerts.habits import WEEKS, expected_days, find_anomalies, find_price_jump
from etl.outputs.status_sql import NEWEST_HOUR
from etl.warehouse.reading import Reader, from_db_utc, from_db_utc_or_none

UNATTRIBUTED = "(unattributed)"
RECENT_HOURS = 48
"""An anomaly is an event until its hours are this old, so that a nightly sync sees every hour and reports it once."""

MIN_HISTORY = timedelta(days=14)
"""In a younger history every queue is new."""

_LOADED = timedelta(weeks=WEEKS, hours=RECENT_HOURS) + timedelta(days=8)

_HOURS = """
    select s.dimension, s.member, f.hour_start, f.volume, f.money
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and f.hour_start >= :since and f.hour_start <= :newest
       and (s.member is not null or s.dimension in ('total', 'queue'))
"""
_FIRST_HOURS = """
    select s.dimension, s.member, min(f.hour_start)
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and (f.volume <> 0 or f.money <> 0) and (s.member is not null or s.dimension = 'total')
     group by s.dimension, s.member
"""
_RUNWAY = """
    select w.read_at, w.balance, w.days_by_7_days, w.days_low, w.days_high
      from runway as w
     where w.account = :name
"""


class Budget(NamedTuple):
    """What was spent of a budget since the first day of its period, in nanodollars."""

    rule: AlertRule
    since: date
    last: date
    spent: int

    @property
    def share(self) -> float:
        return self.spent / to_nanodollars(self.rule.usd)


class _Series(NamedTuple):
    """Hours without gaps, the last one is the newest."""

    name: str
    money: list[int]
    volumes: list[int]


def find_events(
    reader: Reader, account_id: int, account: str, rules: Sequence[AlertRule], now: datetime, zone: str
) -> list[Event]:
    """The events that go on, in the order of the rules. Budgets have the days, weeks and months of ``zone``."""
    evaluation = _Evaluation(reader, account_id, account, now, ZoneInfo(zone))
    return [event for rule in rules for event in evaluation.events(rule)]


def find_budgets(
    reader: Reader, account_id: int, account: str, rules: Sequence[AlertRule], now: datetime, zone: str
) -> list[Budget]:
    """How much of each budget is spent, in the order of the rules."""
    evaluation = _Evaluation(reader, account_id, account, now, ZoneInfo(zone))
    return [budget for rule in rules if rule.kind == "budget" if (budget := evaluation.budget(rule))]


class _Evaluation:
    def __init__(self, reader: Reader, account_id: int, account: str, now: datetime, zone: ZoneInfo) -> None:
        self._reader, self._id, self._account, self._now, self._zone = reader, account_id, account, now, zone
        [(newest,)] = reader.rows(NEWEST_HOUR, a=account_id)
        self._newest = from_db_utc_or_none(newest)
        self._all: dict[str, dict[str | None, _Series]] | None = None

    def events(self, rule: AlertRule) -> Iterator[Event]:
        if self._newest is None and rule.kind not in ("stale", "runway"):
            return
        found = {
            "budget": self._budget, "runway": self._runway, "anomaly": self._anomaly, "stale": self._stale,
            "price": self._price, "unattributed": self._unattributed,
        }[rule.kind]  # fmt: skip
        for subject, message in found(rule):
            yield Event(rule.kind, rule.text, subject, message)

    # ---------------------------------------------------------------- hours

    @property
    def _newest_end(self) -> datetime:
        """When the newest hour ended; only called if there is one."""
        return (self._newest or self._now) + HOUR

    def _hours(self, dimension: str) -> dict[str | None, _Series]:
        if self._all is None:
            self._all = {"total": {}, "queue": {}, "app": {}, "ip": {}}
            first = self._newest_end - _LOADED
            count = int(_LOADED / HOUR)
            rows = self._reader.rows(
                _HOURS, a=self._id, since=first.replace(tzinfo=None), newest=self._db(self._newest)
            )
            for one, member, hour_start, volume, money in rows:
                series = self._all[one].setdefault(member, _Series(_name(one, member), [0] * count, [0] * count))
                place = int((from_db_utc(hour_start) - first) / HOUR)
                series.money[place] += to_nanodollars(money)
                series.volumes[place] += int(volume)
            self._trim_before_history()
        return self._all[dimension]

    def _trim_before_history(self) -> None:
        """Hours before the account's first spend are no habit."""
        found = self._all or {}
        total = next(iter(found["total"].values()), None)
        begin = (
            next((place for place, tasks in enumerate(total.volumes) if tasks or total.money[place]), 0) if total else 0
        )
        for series in (one for of_dimension in found.values() for one in of_dimension.values()):
            del series.money[:begin], series.volumes[:begin]

    @staticmethod
    def _db(moment: datetime | None) -> datetime | None:
        return moment and moment.replace(tzinfo=None)

    def _local_days(self, series: _Series) -> dict[date, int]:
        """Spend by local day."""
        days: dict[date, int] = {}
        first = self._newest_end - len(series.money) * HOUR
        for place, money in enumerate(series.money):
            day = (first + place * HOUR).astimezone(self._zone).date()
            days[day] = days.get(day, 0) + money
        return days

    def _between(self, last: int, hours: int, count: int) -> str:
        end = self._newest_end - (count - 1 - last) * HOUR
        start = end - hours * HOUR
        to = f"{end:%H:%M}" if hours < 24 else f"{end:%Y-%m-%d %H:%M}"
        return f"between {start:%Y-%m-%d %H:%M} and {to} UTC"

    # ---------------------------------------------------------------- rules

    def _series_of(self, rule: AlertRule) -> _Series | None:
        return self._hours("queue").get(rule.queue) if rule.queue else self._hours("total").get(None)

    @property
    def _today(self) -> date:
        return (self._newest_end - HOUR).astimezone(self._zone).date()

    def budget(self, rule: AlertRule) -> Budget | None:
        series = self._series_of(rule) if self._newest else None
        if series is None:
            return None
        first, last = _period(self._today, rule.period)
        spent = sum(money for day, money in self._local_days(series).items() if first <= day <= last)
        return Budget(rule, first, last, spent)

    def _budget(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        found, series = self.budget(rule), self._series_of(rule)
        if found is None or series is None:
            return
        (_, first, last, spent), budget, what = found, to_nanodollars(rule.usd), rule.queue or "the account"
        of_budget = f"the budget of ${rule.usd:,.2f} a {rule.period}"
        for percent in rule.at:
            if spent * 100 >= budget * percent:
                amount = f"{_usd(spent)} ({spent * 100 / budget:.0f} %)"
                yield f"{first} at {percent} %", f"{what} passed {percent} % of {of_budget}: {amount} since {first}"
        days = self._local_days(series)
        expected = self._expected(days, self._today, last) if rule.forecast and spent < budget else None
        if expected is not None and spent + expected >= budget:
            text = f"{what} is expected to spend {_usd(spent + expected)} from {first} to {last}"
            yield f"{first} forecast", f"{text}, more than {of_budget}"

    def _expected(self, days: dict[date, int], today: date, last: date) -> float | None:
        """Expected spend from now to the end of the local day ``last``, in nanodollars."""
        complete = [day for day in sorted(days)[1:] if day < today]
        ahead = [today + n * DAY for n in range((last - today).days + 1)]
        found = expected_days(
            [days[day] for day in complete], [day.weekday() for day in complete], [day.weekday() for day in ahead]
        )
        return max(0.0, found[0] - days.get(today, 0)) + sum(found[1:]) if found else None

    def _runway(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        for read_at, balance, days, low, high in self._reader.rows(_RUNWAY, name=self._account):
            if days is not None and days <= rule.days:
                range_text = f"{low} to {high}" if high is not None else f"at least {low}"
                text = f"the balance of ${balance:,.2f} lasts {days} days at the pace of the last 7 days ({range_text})"
                yield "", f"{text}; read {read_at:%Y-%m-%d %H:%M} UTC"

    def _anomaly(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        yield from self._new_members()
        for dimension in ("queue", "app", "ip"):
            for series in self._hours(dimension).values():
                found = find_anomalies(series.money, RECENT_HOURS, to_nanodollars(rule.usd))
                if not found:
                    continue
                worst = max(found, key=lambda one: one.excess)
                when = self._between(worst.last, worst.hours, len(series.money))
                hours = "that hour" if worst.hours == 1 else f"these {worst.hours} hours"
                usual = f"in {hours} it cost {_usd(worst.lowest)} to {_usd(worst.highest)} in the last {WEEKS} weeks"
                yield series.name, f"{series.name} cost {_usd(worst.money)} {when}; {usual}"

    def _new_members(self) -> Iterator[tuple[str, str]]:
        """Queues, apps and addresses whose first spend ever is recent: a stolen key looks like that."""
        first_hours = {
            (one, member): from_db_utc(at) for one, member, at in self._reader.rows(_FIRST_HOURS, a=self._id)
        }
        begins = first_hours.pop(("total", None), None)
        if begins is None or self._newest_end - begins < MIN_HISTORY:
            return
        for (dimension, member), at in sorted(first_hours.items()):
            if at >= self._newest_end - RECENT_HOURS * HOUR:
                name = _name(dimension, member)
                yield f"new: {name}", f"{name} was never seen before {at:%Y-%m-%d %H:%M} UTC"

    def _stale(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        age = None if self._newest is None else (self._now - self._newest_end) / HOUR
        if age is None:
            yield "", "nothing is loaded yet"
        elif age > rule.hours:
            yield "", f"the newest hour ended {age:,.1f} hours ago, at {self._newest_end:%Y-%m-%d %H:%M} UTC"

    def _price(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        for member, series in self._hours("queue").items():
            if member is None or rule.queue not in (None, member):
                continue
            jump = find_price_jump(series.money, series.volumes, RECENT_HOURS, rule.percent)
            if jump:
                when, change = self._between(jump.last, 1, len(series.money)), (jump.price / jump.usual - 1) * 100
                price, usual = (f"${one / 10**9:,.4f}" for one in (jump.price, jump.usual))
                yield series.name, f"1000 tasks of {series.name} cost {price} {when}, {change:+.0f} %; usually {usual}"

    def _unattributed(self, rule: AlertRule) -> Iterator[tuple[str, str]]:
        week = 7 * 24
        total, left = self._hours("total").get(None), self._hours("queue").get(None)
        spent = sum(total.money[-week:]) if total else 0
        unknown = sum(left.money[-week:]) if left else 0
        if spent > 0 and unknown * 100 > spent * Decimal(str(rule.percent)):
            share = f"{unknown * 100 / spent:.1f} % of the spend of the last 7 days ({_usd(unknown)})"
            yield "", f"{share} belongs to no known queue; add it with --queue NAME"


def _period(day: date, period: str) -> tuple[date, date]:
    """First and last day of the period that a day is in; weeks begin on Monday."""
    if period == "day":
        return day, day
    if period == "week":
        return day - timedelta(days=day.weekday()), day + timedelta(days=6 - day.weekday())
    return day.replace(day=1), (day.replace(day=28) + timedelta(days=4)).replace(day=1) - DAY


def _name(dimension: str, member: str | None) -> str:
    return (member or UNATTRIBUTED) if dimension in ("queue", "total") else f"{dimension} {member}"


def _usd(nanodollars: float) -> str:
    return f"${to_dollars(round(nanodollars)):,.2f}"

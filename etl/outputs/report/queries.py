"""What the report shows, read in one connection and so of one moment. The warehouse is free again before anything is
drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from etl.clock import Clock
from etl.models import DAY
from etl.outputs import cookbook
from etl.outputs.accounts import select_accounts
from etl.warehouse.engine import name_of, open_warehouse
from etl.warehouse.migrate import require_readable

WEEKS_FROM = 121
"""A period of so many days or more is shown week by week: a bar a day would be thinner than a pixel on a phone."""

RUNS_SHOWN, REVISIONS_SHOWN, MONTHS_SHOWN = 10, 20, 13


class Period(NamedTuple):
    """UTC days, both ends included, shown in steps of 1 or 7 days; weeks begin on Mondays."""

    first: date
    last: date
    step: int

    @property
    def word(self) -> str:
        return "day" if self.step == 1 else "week"

    @property
    def end(self) -> date:
        """The first day after the last step."""
        return self.starts()[-1] + timedelta(days=self.step)

    def start(self, day: date) -> date:
        """The first day of the step that ``day`` lies in."""
        return day if self.step == 1 else day - timedelta(days=day.weekday())

    def starts(self) -> list[date]:
        count = (self.last - self.start(self.first)).days // self.step + 1
        return [self.start(self.first) + timedelta(days=self.step * place) for place in range(count)]


class Spent(NamedTuple):
    """A queue in one step of the period."""

    queue: str
    start: date
    volume: int
    money: Decimal
    price_per_1000: Decimal | None
    is_final: bool


class Slot(NamedTuple):
    """All hours read of one hour of the week; ``weekday`` counts from Monday, 1. ``hours`` is how many there are."""

    weekday: int
    hour: int
    hours: int
    volume: int
    money: Decimal


class Month(NamedTuple):
    month: date
    volume: int
    money: Decimal
    is_final: bool


class Forecast(NamedTuple):
    """What this month will have come to, as the cookbook's month_to_date_with_forecast has it."""

    low: Decimal
    middle: Decimal
    high: Decimal


class Covered(NamedTuple):
    """A row of coverage_daily."""

    account: str
    day: date
    status: str
    fetched_at: datetime | None
    unattributed_volume: int
    unattributed_money: Decimal


class Correction(NamedTuple):
    """A row of spending_revisions."""

    account: str
    queue: str
    hour_start: datetime
    volume_before: int
    money_before: Decimal
    volume_after: int
    money_after: Decimal
    seen_at: datetime


class Sync(NamedTuple):
    """``exit_code`` is None while it goes on, and for good when it was killed."""

    account: str
    run: int
    started_at: datetime
    exit_code: int | None
    requests: int
    windows_good: int
    windows_failed: int
    facts_inserted: int
    facts_changed: int
    rejections: int


class Found(NamedTuple):
    """A finding of an account's last sync that came to its end."""

    account: str
    severity: str
    day: date | None
    queue: str | None
    message: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the page shows. Times are aware UTC.

    ``spent``, ``slots``, ``corrected`` (hours) and ``refused`` are of the period alone, ``daily`` of this month and
    the last.
    ``forecast`` is None unless every account has one for the month that ``now`` lies in.
    """

    warehouse: str
    now: datetime
    accounts: tuple[str, ...]
    period: Period
    spent: tuple[Spent, ...]
    slots: tuple[Slot, ...]
    months: tuple[Month, ...]
    daily: dict[date, Decimal]
    forecast: Forecast | None
    coverage: tuple[Covered, ...]
    corrections: tuple[Correction, ...]
    corrected: int
    refused: int
    syncs: tuple[Sync, ...]
    findings: tuple[Found, ...]


_HISTORY = "select min(day) as first from coverage_daily where account in :accounts"

_SPENT = """
select queue,
       {start}                                                                              as start,
       cast(sum(volume) as bigint)                                                          as volume,
       cast(sum(money) as decimal(18, 9))                                                   as money,
       price_per_1000(cast(sum(money) as decimal(18, 9)), cast(sum(volume) as bigint))      as price_per_1000,
       bool_and(is_final)                                                                   as is_final
  from spending_daily
 where account in :accounts and day between :first and :last
 group by 1, 2
 order by 2, 1
"""
_DAY, _WEEK = "day", "cast(date_trunc('week', cast(day as timestamp)) as date)"

# An hour still running when it was read would pass for a cheap one.
_SLOTS = """
with reached as (
    select account, max(fetched_at) as until from coverage_daily group by account
)
select cast(extract(isodow from t.hour_start) as integer) as weekday,
       cast(extract(hour from t.hour_start) as integer)   as hour,
       count(distinct t.hour_start)                       as hours,
       cast(sum(t.volume) as bigint)                      as volume,
       cast(sum(t.money) as decimal(18, 9))               as money
  from spending_total_hourly t
  join reached r on r.account = t.account
 where t.account in :accounts
   and t.hour_start >= cast(:first as date) and t.hour_start < cast(:last as date) + 1 and t.hour_end <= r.until
 group by 1, 2
 order by 1, 2
"""

_MONTHS = """
select month,
       cast(sum(volume) as bigint)        as volume,
       cast(sum(money) as decimal(18, 9)) as money,
       bool_and(is_final)                 as is_final
  from spending_monthly
 where account in :accounts
 group by month
 order by month desc
 limit :most
"""

_DAILY = """
select day, cast(sum(money) as decimal(18, 9)) as money
  from spending_daily
 where account in :accounts and day >= :since
 group by day
"""

_FORECAST = """
select cast(sum(forecast_low) as decimal(18, 2))  as low,
       cast(sum(forecast) as decimal(18, 2))      as middle,
       cast(sum(forecast_high) as decimal(18, 2)) as high
  from ({recipe}) forecast
 where account in :accounts and month = :month
having count(forecast) = :count
"""

_COVERAGE = """
select account, day, status, fetched_at, unattributed_volume, unattributed_money
  from coverage_daily
 where account in :accounts
 order by account, day
"""

_CORRECTIONS = """
select account, queue, hour_start, volume_before, money_before, volume_after, money_after, seen_at
  from spending_revisions
 where account in :accounts
 order by seen_at desc, hour_start desc, queue
 limit :most
"""

_CORRECTED = """
select count(*)
  from (select distinct account, hour_start
          from spending_revisions
         where account in :accounts and seen_at >= cast(:first as date)) hours
"""

_REFUSED = "select count(*) from spending_rejections where account in :accounts and seen_at >= cast(:first as date)"

_SYNCS = """
select a.name as account, r.run, r.started_at, r.exit_code, r.requests, r.windows_good, r.windows_failed,
       r.facts_inserted,
       r.facts_changed, r.rejections
  from internal.runs r
  join internal.accounts a on a.account_id = r.account_id
 where a.name in :accounts and r.command = 'sync'
 order by r.started_at desc, a.name, r.run desc
 limit :most
"""

# A replay finds none, and a sync that was stopped or refused did not look: neither says that all is well.
_FINDINGS = """
with last as (
    select account_id, max(run) as run
    from internal.runs
    where command = 'sync' and exit_code in (0, 1, 5)
    group by account_id
)
select a.name as account, f.severity, f.day, f.queue, f.message
  from internal.findings f
  join last l     on l.account_id = f.account_id and l.run = f.run
  join internal.accounts a on a.account_id = f.account_id
 where a.name in :accounts
 order by case f.severity when 'blocking' then 1 when 'warning' then 2 else 3 end, f.day desc, f.message
"""


def gather(url: str, account: str | None, days: int, clock: Clock, *, wait: float) -> ReportData:
    """One account's report, or that of all together, with the last ``days`` days in detail.

    Raises UsageError for an account that the warehouse does not hold, WarehouseError for a warehouse that is not
    there, not readable, or held for longer than ``wait`` seconds.
    """
    engine = open_warehouse(url, read_only=True, wait=wait, clock=clock)
    require_readable(engine)
    now = clock.now()
    with engine.connect() as connection:
        names = tuple(select_accounts(connection, account))
        first = _one(connection, _HISTORY, accounts=names)
        month = now.date().replace(day=1)
        period = period_of(now.date(), days, first)
        span = {"accounts": names, "first": period.first, "last": period.last}
        return ReportData(
            warehouse=name_of(engine.url).rpartition("/")[2],
            now=now,
            accounts=names,
            period=period,
            spent=_all(connection, Spent, _SPENT.format(start=_DAY if period.step == 1 else _WEEK), **span),
            slots=_all(connection, Slot, _SLOTS, **span),
            months=_all(connection, Month, _MONTHS, accounts=names, most=MONTHS_SHOWN),
            daily=dict(_all(connection, _Daily, _DAILY, accounts=names, since=(month - DAY).replace(day=1))),
            forecast=next(
                iter(_all(connection, Forecast, _forecast(), accounts=names, month=month, count=len(names))), None
            ),
            coverage=_all(connection, Covered, _COVERAGE, accounts=names),
            corrections=_all(connection, Correction, _CORRECTIONS, accounts=names, most=REVISIONS_SHOWN),
            corrected=_one(connection, _CORRECTED, accounts=names, first=period.first),
            refused=_one(connection, _REFUSED, accounts=names, first=period.first),
            syncs=_all(connection, Sync, _SYNCS, accounts=names, most=RUNS_SHOWN),
            findings=_all(connection, Found, _FINDINGS, accounts=names),
        )


def _forecast() -> str:
    return _FORECAST.format(recipe=cookbook.find("month_to_date_with_forecast").sql.rstrip().removesuffix(";"))


class _Daily(NamedTuple):
    day: date
    money: Decimal


def period_of(today: date, days: int, first: date | None) -> Period:
    """The last ``days`` days up to ``today``, no further back than history goes; whole weeks when it is long."""
    start = max(today - timedelta(days=days - 1), first or today)
    start = min(start, today)
    if (today - start).days + 1 < WEEKS_FROM:
        return Period(start, today, 1)
    return Period(start - timedelta(days=start.weekday()), today, 7)


def _statement(sql: str) -> sa.TextClause:
    return sa.text(sql).bindparams(sa.bindparam("accounts", type_=sa.Text, expanding=True))


def _one(connection: sa.Connection, sql: str, **given: Any) -> Any:
    return connection.execute(_statement(sql), given).scalar_one()


_Row = TypeVar("_Row", bound=tuple[Any, ...])


def _all(connection: sa.Connection, kind: Callable[..., _Row], sql: str, **given: Any) -> tuple[_Row, ...]:
    """Moments come without a zone, and are UTC."""
    rows = connection.execute(_statement(sql), given)
    return tuple(
        kind(*(cell.replace(tzinfo=UTC) if isinstance(cell, datetime) else cell for cell in row)) for row in rows
    )

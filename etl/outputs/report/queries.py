"""Read what a report shows, in one connection, so that all numbers are from the same moment."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import sqlalchemy as sa

from etl.clock import Clock
from etl.models import DAY
from etl.outputs import cookbook
from etl.outputs.accounts import EMPTY_DAYS, history_starts, select_accounts
from etl.outputs.report.data import (
    AccountFinding,
    DailySpend,
    DayCoverage,
    Forecast,
    MonthSpend,
    Period,
    QueueSpend,
    ReportData,
    Revision,
    SyncRun,
    WeekHour,
    choose_period,
)
from etl.warehouse.engine import name_of, open_warehouse
from etl.warehouse.migrate import require_readable

MAX_SYNCS, MAX_REVISIONS, MAX_MONTHS = 10, 20, 13

_FIRST_SPEND = "select min(day) from spending_daily where account in :accounts"

_SPEND = """
select queue,
       {step}                                                                              as step,
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

# An hour that had not ended when it was loaded would look cheaper than it is.
_WEEK_HOURS = """
with loaded as (
    select account, max(fetched_at) as until from coverage_daily group by account
)
select cast(extract(isodow from t.hour_start) as integer) as weekday,
       cast(extract(hour from t.hour_start) as integer)   as hour,
       count(distinct t.hour_start)                       as hours,
       cast(sum(t.volume) as bigint)                      as volume,
       cast(sum(t.money) as decimal(18, 9))               as money
  from spending_total_hourly t
  join loaded l on l.account = t.account
 where t.account in :accounts
   and t.hour_start >= cast(:first as date) and t.hour_start < cast(:last as date) + 1 and t.hour_end <= l.until
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
 limit :limit
"""

_DAILY = """
select day, cast(sum(money) as decimal(18, 9)) as money
  from spending_daily
 where account in :accounts and day >= :since
 group by day
"""

_FORECAST = """
select cast(sum(forecast_low) as decimal(18, 2))  as low,
       cast(sum(forecast) as decimal(18, 2))      as expected,
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

_REVISIONS = """
select account, queue, hour_start, volume_before, money_before, volume_after, money_after, seen_at
  from spending_revisions
 where account in :accounts
 order by seen_at desc, hour_start desc, queue
 limit :limit
"""

_REVISED_HOURS = """
select count(*)
  from (select distinct account, hour_start
          from spending_revisions
         where account in :accounts and seen_at >= cast(:first as date)) hours
"""

_REJECTED_RECORDS = """
select count(*) from spending_rejections where account in :accounts and seen_at >= cast(:first as date)
"""

_SYNCS = """
select a.name as account, r.run, r.started_at, r.exit_code, r.requests, r.windows_good, r.windows_failed,
       r.facts_inserted, r.facts_changed, r.rejections
  from internal.runs r
  join internal.accounts a on a.account_id = r.account_id
 where a.name in :accounts and r.command = 'sync'
 order by r.started_at desc, a.name, r.run desc
 limit :limit
"""

# A replay records no findings; a sync that was stopped or refused did not check. Neither means that all is well.
_FINDINGS = """
with last as (
    select account_id, max(run) as run
    from internal.runs
    where command = 'sync' and exit_code in (0, 1, 5)
    group by account_id
)
select a.name as account, f.severity, f.message
  from internal.findings f
  join last l     on l.account_id = f.account_id and l.run = f.run
  join internal.accounts a on a.account_id = f.account_id
 where a.name in :accounts
 order by case f.severity when 'blocking' then 1 when 'warning' then 2 else 3 end, f.day desc, f.message
"""


def load_report(
    url: str, account: str | None, days: int, clock: Clock, *, wait: float, empty_days: int = EMPTY_DAYS
) -> ReportData:
    """Load the report of one account, or of all accounts combined, with the last ``days`` days in detail.

    Raises UsageError for an account that is not in the warehouse, WarehouseError for a warehouse that does not exist,
    cannot be read or stays locked for longer than ``wait`` seconds.
    """
    engine = open_warehouse(url, read_only=True, wait=wait, clock=clock)
    require_readable(engine)
    now = clock.now()
    with engine.connect() as connection:
        accounts = tuple(select_accounts(connection, account))
        starts = {name: day for name, day in history_starts(connection, empty_days).items() if name in accounts}
        # With --since, older days with spend may be stored that are not part of the known history.
        oldest = [*starts.values(), _value(connection, _FIRST_SPEND, accounts)]
        period = choose_period(now.date(), days, min((day for day in oldest if day), default=None))
        return ReportData(
            warehouse=name_of(engine.url).rpartition("/")[2],
            now=now,
            accounts=accounts,
            history_starts=starts,
            period=period,
            spend=_rows(connection, QueueSpend, _spend_by_step(period), accounts, first=period.first, last=period.last),
            week_hours=_rows(connection, WeekHour, _WEEK_HOURS, accounts, first=period.first, last=period.last),
            months=_rows(connection, MonthSpend, _MONTHS, accounts, limit=MAX_MONTHS),
            daily=_daily(connection, accounts, now.date()),
            forecast=_forecast(connection, accounts, now.date()),
            coverage=_rows(connection, DayCoverage, _COVERAGE, accounts),
            revisions=_rows(connection, Revision, _REVISIONS, accounts, limit=MAX_REVISIONS),
            revised_hours=_value(connection, _REVISED_HOURS, accounts, first=period.first),
            rejected_records=_value(connection, _REJECTED_RECORDS, accounts, first=period.first),
            syncs=_rows(connection, SyncRun, _SYNCS, accounts, limit=MAX_SYNCS),
            findings=_rows(connection, AccountFinding, _FINDINGS, accounts),
        )


def _spend_by_step(period: Period) -> str:
    return _SPEND.format(step=_DAY if period.step_days == 1 else _WEEK)


def _daily(connection: sa.Connection, accounts: tuple[str, ...], today: date) -> dict[date, Decimal]:
    month_before = (today.replace(day=1) - DAY).replace(day=1)
    return dict(_rows(connection, DailySpend, _DAILY, accounts, since=month_before))


def _forecast(connection: sa.Connection, accounts: tuple[str, ...], today: date) -> Forecast | None:
    recipe = cookbook.find("month_to_date_with_forecast").sql.rstrip().removesuffix(";")
    sql = _FORECAST.format(recipe=recipe)
    rows = _rows(connection, Forecast, sql, accounts, month=today.replace(day=1), count=len(accounts))
    return rows[0] if rows else None


def _execute(
    connection: sa.Connection, sql: str, accounts: tuple[str, ...], **parameters: Any
) -> sa.CursorResult[Any]:
    statement = sa.text(sql).bindparams(sa.bindparam("accounts", type_=sa.Text, expanding=True))
    return connection.execute(statement, {"accounts": accounts, **parameters})


def _value(connection: sa.Connection, sql: str, accounts: tuple[str, ...], **parameters: Any) -> Any:
    return _execute(connection, sql, accounts, **parameters).scalar_one()


_Row = TypeVar("_Row", bound=tuple[Any, ...])


def _rows(
    connection: sa.Connection, kind: Callable[..., _Row], sql: str, accounts: tuple[str, ...], **parameters: Any
) -> tuple[_Row, ...]:
    """Rows as ``kind``. The database returns times without a zone; they are UTC."""
    rows = _execute(connection, sql, accounts, **parameters)
    return tuple(
        kind(*(cell.replace(tzinfo=UTC) if isinstance(cell, datetime) else cell for cell in row)) for row in rows
    )

"""Read what a report shows, in one connection, so that all numbers are from the same moment."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from etl.clock import Clock
from etl.models import DAY
from etl.outputs import cookbook
from etl.outputs.accounts import EMPTY_DAYS, history_starts, select_accounts
from etl.outputs.report import data
from etl.outputs.report.data import ReportData
from etl.warehouse.engine import name_of, open_warehouse
from etl.warehouse.migrate import require_readable

MAX_SYNCS, MAX_REVISIONS, MAX_MONTHS = 10, 20, 13

_SQL = Path(__file__).with_name("sql")


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
        known = history_starts(connection, empty_days)
        starts = {name: known[name] for name in accounts if name in known}
        # With --since, older days with spend may be stored that are not part of the known history.
        oldest = [*starts.values(), _value(connection, "first_spend", accounts)]
        period = data.choose_period(now.date(), days, min((day for day in oldest if day), default=None))
        span = {"first": period.first, "last": period.last}
        return ReportData(
            warehouse=name_of(engine.url).rpartition("/")[2],
            now=now,
            accounts=accounts,
            history_starts=starts,
            period=period,
            spend=_rows(connection, data.QueueSpend, "spend", accounts, **span, step_days=period.step_days),
            week_hours=_rows(connection, data.WeekHour, "week_hours", accounts, **span),
            months=_rows(connection, data.MonthSpend, "months", accounts, limit=MAX_MONTHS),
            daily=_daily(connection, accounts, now.date()),
            forecast=_forecast(connection, accounts, now.date()),
            coverage=_rows(connection, data.DayCoverage, "coverage", accounts),
            revisions=_rows(connection, data.Revision, "revisions", accounts, limit=MAX_REVISIONS),
            revised_hours=_value(connection, "revised_hours", accounts, first=period.first),
            rejected_records=_value(connection, "rejected_records", accounts, first=period.first),
            syncs=_rows(connection, data.SyncRun, "syncs", accounts, limit=MAX_SYNCS),
            findings=_rows(connection, data.AccountFinding, "findings", accounts),
        )


def _daily(connection: sa.Connection, accounts: tuple[str, ...], today: date) -> dict[date, Decimal]:
    month_before = (today.replace(day=1) - DAY).replace(day=1)
    return dict(_rows(connection, data.DailySpend, "daily", accounts, since=month_before))


def _forecast(connection: sa.Connection, accounts: tuple[str, ...], today: date) -> data.Forecast | None:
    """The sum over the accounts; None unless each of them has a forecast for this month."""
    month = today.replace(day=1)
    recipe = cookbook.find("month_to_date_with_forecast").sql
    rows = [row for row in connection.exec_driver_sql(recipe) if row.account in accounts and row.month == month]
    if not rows or len(rows) < len(accounts) or any(row.forecast is None for row in rows):
        return None
    return data.Forecast(
        low=sum((row.forecast_low for row in rows), start=Decimal(0)),
        expected=sum((row.forecast for row in rows), start=Decimal(0)),
        high=sum((row.forecast_high for row in rows), start=Decimal(0)),
    )


def _execute(connection: sa.Connection, query: str, accounts: tuple[str, ...], **values: Any) -> sa.CursorResult[Any]:
    """Run a query of the folder ``sql``."""
    sql = (_SQL / f"{query}.sql").read_text("utf-8")
    statement = sa.text(sql).bindparams(sa.bindparam("accounts", type_=sa.Text, expanding=True))
    return connection.execute(statement, {"accounts": accounts, **values})


def _value(connection: sa.Connection, query: str, accounts: tuple[str, ...], **values: Any) -> Any:
    return _execute(connection, query, accounts, **values).scalar_one()


_Row = TypeVar("_Row", bound=tuple[Any, ...])


def _rows(
    connection: sa.Connection, kind: Callable[..., _Row], query: str, accounts: tuple[str, ...], **values: Any
) -> tuple[_Row, ...]:
    """Rows as ``kind``. The database returns times without a zone; they are UTC."""
    rows = _execute(connection, query, accounts, **values)
    return tuple(
        kind(*(cell.replace(tzinfo=UTC) if isinstance(cell, datetime) else cell for cell in row)) for row in rows
    )

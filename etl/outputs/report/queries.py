"""Read what a report shows, in one connection, so that all numbers are from the same moment."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from etl.clock import Clock
from etl.config.alert_rules import AlertRule
from etl.models import DAY
from etl.outputs import cookbook
from etl.outputs.accounts import EMPTY_DAYS, history_starts, select_accounts
from etl.outputs.alerts.evaluate import find_budgets
from etl.outputs.report import data
from etl.outputs.report.data import ReportData
from etl.outputs.spot_checks import load_spot_checks
from etl.warehouse.engine import warehouse_url
from etl.warehouse.migrate import require_readable
from etl.warehouse.reading import Reader, from_db_utc, open_for_reading

MAX_SYNCS, MAX_REVISIONS, MAX_MONTHS = 10, 20, 13

_SQL = Path(__file__).with_name("sql")


def load_report(
    url: str,
    account: str | None,
    days: int,
    clock: Clock,
    *,
    wait: float,
    empty_days: int = EMPTY_DAYS,
    zone: str = "UTC",
    rules: Sequence[AlertRule] = (),
) -> ReportData:
    """Load the report of one account, or of all accounts combined, with the last ``days`` days of ``zone`` in detail.

    Raises UsageError for an account that is not in the warehouse, WarehouseError for a warehouse that does not exist,
    cannot be read or stays locked for longer than ``wait`` seconds.
    """
    now = clock.now()
    today = now.astimezone(ZoneInfo(zone)).date()
    with open_for_reading(warehouse_url(url), wait=wait, clock=clock) as reader:
        require_readable(reader)
        accounts = tuple(select_accounts(reader, account))
        known = history_starts(reader, empty_days)
        starts = {name: known[name] for name in accounts if name in known}
        # With --since, older days with spend may be stored that are not part of the known history.
        oldest = [*starts.values(), _value(reader, "first_spend", accounts, zone=zone)]
        period = data.choose_period(today, days, min((day for day in oldest if day), default=None))
        span = {"first": period.first, "last": period.last, "zone": zone}
        month_before = (today.replace(day=1) - DAY).replace(day=1)
        return ReportData(
            warehouse=reader.name.rpartition("/")[2],
            now=now,
            zone=zone,
            accounts=accounts,
            history_starts=starts,
            period=period,
            spend=_rows(reader, data.QueueSpend, "spend", accounts, **span, step_days=period.step_days),
            week_hours=_rows(reader, data.WeekHour, "week_hours", accounts, **span),
            months=_rows(reader, data.MonthSpend, "months", accounts, limit=MAX_MONTHS, zone=zone),
            daily=dict(_read(reader, "daily", accounts, since=month_before, zone=zone)),
            forecast=_forecast(reader, accounts, today),
            ahead=_ahead(reader, accounts, rules, now, zone),
            coverage=_rows(reader, data.DayCoverage, "coverage", accounts),
            revisions=_read(reader, "revisions", accounts, limit=MAX_REVISIONS),
            revised_hours=_value(reader, "revised_hours", accounts, first=period.first),
            rejected_records=_value(reader, "rejected_records", accounts, first=period.first),
            syncs=_read(reader, "syncs", accounts, limit=MAX_SYNCS),
            findings=_read(reader, "findings", accounts),
        )


def _ahead(
    reader: Reader, accounts: tuple[str, ...], rules: Sequence[AlertRule], now: datetime, zone: str
) -> data.Ahead:
    """A rule for every account has a budget only in the report of one account."""
    numbers = {name: number for name, number in select_accounts(reader, None).items() if name in accounts}
    budgets, checks = [], []
    for name, number in numbers.items():
        own = [rule for rule in rules if rule.account == name or (rule.account is None and len(accounts) == 1)]
        budgets += find_budgets(reader, number, name, own, now, zone)
        if found := load_spot_checks(reader, number):
            checks.append((name, found))
    since = (now - 30 * DAY).replace(tzinfo=None)
    alerts = _read(reader, "alerts", accounts, since=since)
    return data.Ahead(_read(reader, "runway", accounts), budgets, alerts, checks)


def _forecast(reader: Reader, accounts: tuple[str, ...], today: date) -> data.Forecast | None:
    """The sum over the accounts; None unless each of them has a forecast for this month."""
    month = today.replace(day=1)
    recipe = cookbook.find("month_to_date_with_forecast").sql
    rows = [row for row in reader.rows(recipe) if row.account in accounts and row.month == month]
    if not rows or len(rows) < len(accounts) or any(row.forecast is None for row in rows):
        return None
    return data.Forecast(
        low=sum((row.forecast_low for row in rows), start=Decimal(0)),
        expected=sum((row.forecast for row in rows), start=Decimal(0)),
        high=sum((row.forecast_high for row in rows), start=Decimal(0)),
    )


def _read(reader: Reader, query: str, accounts: tuple[str, ...], **values: object) -> Sequence[Any]:
    """The rows of a query of the folder ``sql``."""
    sql = (_SQL / f"{query}.sql").read_text("utf-8")
    if values.get("zone") == "UTC":
        sql = sql.replace("spending_daily_in(:zone)", "spending_daily")  # stored per day, so it is faster
    return reader.rows(sql, accounts=list(accounts), **values)


def _value(reader: Reader, query: str, accounts: tuple[str, ...], **values: object) -> Any:
    [(value,)] = _read(reader, query, accounts, **values)
    return value


_Row = TypeVar("_Row", bound=tuple[Any, ...])


def _rows(
    reader: Reader, kind: Callable[..., _Row], query: str, accounts: tuple[str, ...], **values: object
) -> tuple[_Row, ...]:
    """Rows as ``kind``. The database returns times without a zone; they are UTC."""
    rows = _read(reader, query, accounts, **values)
    return tuple(kind(*(from_db_utc(cell) if isinstance(cell, datetime) else cell for cell in row)) for row in rows)

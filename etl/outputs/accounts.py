"""Which accounts to show, and since when their history is known."""

from datetime import date

import sqlalchemy as sa

from etl.errors import UsageError
from etl.models import DAY
from etl.warehouse.schema import accounts, day_coverage

EMPTY_DAYS = 90
"""Default of ``--empty-days``."""


def select_accounts(connection: sa.Connection, account: str | None) -> dict[str, int]:
    """Map account names to their numbers, by name: one account, or all of them if ``account`` is None.

    Raises UsageError for an account that is not in the warehouse.
    """
    rows = connection.execute(sa.select(accounts.c.name, accounts.c.account_id).order_by(accounts.c.name))
    stored = {row.name: row.account_id for row in rows}
    if account is None:
        return stored
    if account not in stored:
        raise UsageError(
            f"account {account!r} is not in the warehouse", f"accounts in it: {', '.join(stored) or 'none'}"
        )
    return {account: stored[account]}


def history_starts(connection: sa.Connection, empty_days: int = EMPTY_DAYS) -> dict[str, date]:
    """Map accounts to the first day of their known history; earlier days are not expected to be stored.

    The same rule as the planner's: the remembered ``--since``, else ``empty_days`` before the oldest day that has spend
    or failed, but not before the first stored day. A lone day requested long before the history does not count.
    """
    has_spend = (day_coverage.c.volume != 0) | (day_coverage.c.money != 0) | (day_coverage.c.status == "failed")
    oldest_spend = sa.func.min(sa.case((has_spend, day_coverage.c.day)))
    rows = connection.execute(
        sa.select(accounts.c.name, accounts.c.since, sa.func.min(day_coverage.c.day), oldest_spend)
        .join(day_coverage, day_coverage.c.account_id == accounts.c.account_id)
        .group_by(accounts.c.name, accounts.c.since)
    )
    starts = {}
    for name, since, first, oldest in rows:
        start = since or (oldest - DAY * empty_days if oldest else first)
        starts[name] = max(first, start)
    return starts

"""Which accounts to show, and since when their history is known."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING

from etl.clock import Clock
from etl.config import Environment, accounts, load
from etl.errors import AppError, UsageError
from etl.models import DAY
from etl.warehouse.engine import warehouse_url
from etl.warehouse.reading import Reader, open_for_reading, reader_of

if TYPE_CHECKING:
    import sqlalchemy as sa

EMPTY_DAYS = 90
"""Default of ``--empty-days``."""

_ACCOUNTS = "select name, account_id from internal.accounts order by name"

_OLDEST_DAYS = """
    select a.name, a.since, min(d.day) as first,
           min(case when d.volume <> 0 or d.money <> 0 or d.status = 'failed' then d.day end) as oldest
      from internal.accounts     as a
      join internal.day_coverage as d on d.account_id = a.account_id
     group by a.name, a.since
"""


def select_accounts(connection: "Reader | sa.Connection", account: str | None) -> dict[str, int]:
    """Map account names to their numbers, by name: one account, or all of them if ``account`` is None.

    Raises UsageError for an account that is not in the warehouse.
    """
    stored = {row.name: row.account_id for row in reader_of(connection).rows(_ACCOUNTS)}
    if account is None:
        return stored
    if account not in stored:
        raise UsageError(
            f"account {account!r} is not in the warehouse", f"accounts in it: {', '.join(stored) or 'none'}"
        )
    return {account: stored[account]}


def known_accounts(given: Mapping[str, object], environment: Environment, clock: Clock) -> list[str]:
    """Names in the configuration file and in the warehouse, as far as they can be read without waiting."""
    names = set[str]()
    with suppress(AppError):
        names |= {*accounts(given, environment).names}
    with suppress(AppError):
        settings = load(given, clock.now(), environment)
        with open_for_reading(warehouse_url(settings.warehouse), wait=0, clock=clock) as reader:
            names |= {*select_accounts(reader, None)}
    return sorted(names)


def history_starts(connection: "Reader | sa.Connection", empty_days: int = EMPTY_DAYS) -> dict[str, date]:
    """Map accounts to the first day of their known history; earlier days are not expected to be stored.

    The same rule as the planner's: the remembered ``--since``, else ``empty_days`` before the oldest day that has spend
    or failed, but not before the first stored day. A lone day requested long before the history does not count.
    """
    starts = {}
    for name, since, first, oldest in reader_of(connection).rows(_OLDEST_DAYS):
        start = since or (oldest - DAY * empty_days if oldest else first)
        starts[name] = max(first, start)
    return starts

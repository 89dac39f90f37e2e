"""Which days of which accounts a lake lacks: those with a response or a correction since the last shipment.

Where a lake is, is read from the lake alone, so that neither can be restored without the other noticing.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from etl.outputs.lake.tables import POSITIONS
from etl.warehouse.duckdb import quoted
from etl.warehouse.reading import Reader

_ACCOUNTS = """
    select a.account_id, a.name, coalesce(n.snapshot_id, 0), n.committed_at, greatest(n.committed_at, r.seen_at),
           coalesce(u.run, 0), coalesce(d.missing, 0)
      from internal.accounts as a
      left join (select account_id, max(snapshot_id) as snapshot_id, max(committed_at) as committed_at
                   from internal.snapshots group by account_id) as n on n.account_id = a.account_id
      left join (select account_id, max(seen_at) as seen_at
                   from internal.revisions group by account_id) as r on r.account_id = a.account_id
      left join (select account_id, max(run) as run
                   from internal.runs where command = 'replay' group by account_id) as u on u.account_id = a.account_id
      left join (select account_id,
                        cast(sum((day - date '2000-01-01') * (day - date '2000-01-01') + 1) as bigint) as missing
                   from internal.day_coverage
                  where status = 'missing' group by account_id) as d on d.account_id = a.account_id
"""

_RESPONSES = """
    (select unnest(cast(:accounts as bigint[]))   as account_id,
            unnest(cast(:snapshots as bigint[]))  as snapshot_id,
            unnest(cast(:at as timestamp[]))      as committed_at) as p
"""

_KNOWN = f"""
    select n.account_id, n.snapshot_id, n.committed_at
      from internal.snapshots as n
      join {_RESPONSES}
        on p.account_id = n.account_id and p.snapshot_id = n.snapshot_id and p.committed_at = n.committed_at
"""

_SHIPPED = """
    (select unnest(cast(:accounts as bigint[]))   as account_id,
            unnest(cast(:snapshots as bigint[]))  as snapshot_id,
            unnest(cast(:until as timestamp[]))   as complete_until) as p
"""

_CHANGED = f"""
    select n.account_id, n.day
      from internal.snapshots as n join {_SHIPPED} on p.account_id = n.account_id
     where n.snapshot_id > p.snapshot_id
     union
    select r.account_id, r.day
      from internal.revisions as r join {_SHIPPED} on p.account_id = r.account_id
     where r.seen_at > p.complete_until
"""


class Position(NamedTuple):
    """A row of the lake's table ``accounts``, without its bucket. Times are UTC without a zone."""

    account: str
    warehouse: str
    shipment: int
    snapshot_id: int
    snapshot_at: datetime | None
    started_id: int
    started_at: datetime | None
    complete_until: datetime | None
    replay: int
    missing: int
    pushed_at: datetime


class Stored(NamedTuple):
    """An account as the warehouse has it; names as in ``Position``."""

    account_id: int
    account: str
    snapshot_id: int
    snapshot_at: datetime | None
    complete_until: datetime | None
    replay: int
    missing: int


class Change(NamedTuple):
    """What to ship of an account: these days, or all of it if ``days`` is None."""

    stored: Stored
    days: frozenset[date] | None
    has_other_missing_days: bool = False
    """Days that were never read are rows of ``coverage_daily`` that can appear and disappear without a commit time."""


def positions_of(rows: Iterable[Sequence[Any]]) -> dict[str, Position]:
    """Rows of the lake's table ``accounts``, whose last column is the bucket, by account."""
    return {row[0]: Position(*row[:-1]) for row in rows}


def stored_accounts(reader: Reader, names: Iterable[str] | None) -> list[Stored]:
    """The accounts of a warehouse, or those of them with these names."""
    wanted = None if names is None else {*names}
    found = [Stored(*row) for row in reader.rows(_ACCOUNTS)]
    return sorted(one for one in found if wanted is None or one.account in wanted)


def warehouse_id(reader: Reader) -> str:
    [(found,)] = reader.rows("select id from internal.warehouse")
    return str(found)


def diverged(reader: Reader, stored: Sequence[Stored], positions: dict[str, Position]) -> list[str]:
    """Accounts of which the lake has a response that the warehouse does not have, as after restoring a backup."""
    named: dict[tuple[int, int, datetime | None], str] = {}
    for one in stored:
        if at := positions.get(one.account):
            # A shipment that was interrupted is in some tables.
            for snapshot_id, committed in ((at.snapshot_id, at.snapshot_at), (at.started_id, at.started_at)):
                if snapshot_id:
                    named[one.account_id, snapshot_id, committed] = one.account
    known = {tuple(row) for row in reader.rows(_KNOWN, **_params(named))} if named else set()
    return sorted({account for response, account in named.items() if response not in known})


def changes(reader: Reader, stored: Sequence[Stored], positions: dict[str, Position]) -> list[Change]:
    """What the lake lacks of these accounts; those that it has completely are left out."""
    found, partly = list[Change](), list[tuple[Stored, Position]]()
    for one in stored:
        before = positions.get(one.account)
        if before is None or not before.shipment or one.replay > before.replay:
            found.append(Change(one, None))
        elif (one.complete_until, one.missing) != (before.complete_until, before.missing):
            partly.append((one, before))
    responses = [(one.account_id, before.snapshot_id, before.snapshot_at) for one, before in partly]
    params = _params(responses) | {"until": [before.complete_until for _, before in partly]}
    days: dict[int, set[date]] = {}
    for account_id, day in reader.rows(_CHANGED, **params) if partly else ():
        days.setdefault(account_id, set()).add(day)
    for one, before in partly:
        found.append(Change(one, frozenset(days.get(one.account_id, ())), one.missing != before.missing))
    return found


def _params(responses: Iterable[tuple[int, int, datetime | None]]) -> dict[str, object]:
    rows = [*responses]
    return {
        "accounts": [account_id for account_id, _, _ in rows],
        "snapshots": [snapshot_id for _, snapshot_id, _ in rows],
        "at": [committed for _, _, committed in rows],
    }


def condition(table: str, found: Sequence[Change], buckets: Iterable[int] = ()) -> str:
    """SQL that is true for the rows of a table to ship, in the engines of warehouses and in deltalake. ``buckets``, and
    the months of the days, spare deltalake other files."""
    by_days: dict[frozenset[date] | None, list[str]] = {}
    for one in found:
        by_days.setdefault(None if table == POSITIONS else one.days, []).append(one.stored.account)
    rows = [
        names if days is None else f"({names} and day in ({_list(_date(day) for day in days)}))"
        for days, accounts in by_days.items()
        for names in [_accounts(accounts)]
        if days is None or days
    ]
    missing = [one.stored.account for one in found if one.has_other_missing_days and table == "coverage_daily"]
    if missing:
        rows.append(f"({_accounts(missing)} and status = 'missing')")
    limits = [f"bucket in ({_list(map(str, {*buckets}))})"] if buckets else []
    if buckets and not missing and None not in by_days:
        months = {f"'{day:%Y-%m}'" for days in by_days for day in days or ()}
        limits += [f"month in ({_list(months)})"] if months else []
    return " and ".join([*limits, f"({' or '.join(rows) or 'false'})"])


def _accounts(names: Iterable[str]) -> str:
    return f"account in ({_list(map(quoted, names))})"


def _list(items: Iterable[str]) -> str:
    return ", ".join(sorted(items))


def _date(day: date) -> str:
    return f"date '{day}'"

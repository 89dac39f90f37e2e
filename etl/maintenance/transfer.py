"""A warehouse from one engine to another, with all that it remembers: facts, readings, answers, revisions and the ledger."""

from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError
from etl.models import Measures
from etl.warehouse import migrate
from etl.warehouse.copy import Checksum, copy_table, table_checksum
from etl.warehouse.engine import name_of, open_warehouse, take_turns, warehouse_path, warehouse_url
from etl.warehouse.schema import accounts, metadata


class Transferred(NamedTuple):
    """What both sides hold now: rows by table, and what each account spent."""

    source: str
    target: str
    rows: dict[str, int]
    spent: dict[str, Measures]


def transfer(source: str, target: str, clock: Clock, *, wait: float) -> Transferred:
    """Copies the warehouse ``source`` into ``target``, which must hold no account; both are paths or URLs.

    All is of one moment, and committed at once after both sides were weighed and found alike: what dies half way leaves
    ``target`` without an account. What a sync loads into ``source`` meanwhile is not in it. Raises UsageError for a target that
    is the source or holds accounts, WarehouseError where either cannot be used or the two sides differ.
    """
    urls = warehouse_url(source), warehouse_url(target)
    if _are_one(*urls):
        raise UsageError(f"{name_of(urls[0])} is both source and target", "name another target")
    stored = open_warehouse(urls[0], read_only=True, wait=wait, clock=clock)
    migrate.require_readable(stored)
    made = open_warehouse(urls[1], wait=wait, clock=clock)
    if migrate.current(made):  # an older version's warehouse with accounts is not upgraded on the way to being refused
        with made.connect() as connection:
            _refuse_accounts(connection, name_of(urls[1]))
    migrate.upgrade(made)
    with stored.connect() as snapshot, made.begin() as writing:
        take_turns(writing)
        _refuse_accounts(writing, name_of(urls[1]))
        for table in metadata.sorted_tables:
            copy_table(snapshot, writing, table.fullname, list(table.columns))
        before, after = _weighed(snapshot), _weighed(writing)
        spent = _spent(snapshot)
        differing = sorted(name for name in before if before[name] != after[name])
        if differing or spent != _spent(writing):
            raise WarehouseError(
                f"{name_of(urls[1])} came out differing from {name_of(urls[0])} in {', '.join(differing) or 'its sums'}; "
                "nothing was kept of it",
                "look at the target's disk and its log, run it again",
            )
    return Transferred(name_of(urls[0]), name_of(urls[1]), {name: weight.rows for name, weight in after.items()}, spent)


def _are_one(source: str, target: str) -> bool:
    """Whether both name one warehouse, by whatever link. A server by another name of its own holds the source's accounts."""
    files = warehouse_path(source), warehouse_path(target)
    if files[0] and files[1] and files[0].exists() and files[1].exists():
        return files[0].samefile(files[1])
    return name_of(source) == name_of(target)


def _refuse_accounts(connection: sa.Connection, target: str) -> None:
    names = connection.execute(sa.select(accounts.c.name).limit(3)).scalars().all()
    if names:
        raise UsageError(
            f"{target} already holds accounts: {', '.join(names)}", "transfer into a new or an empty warehouse"
        )


def _weighed(connection: sa.Connection) -> dict[str, Checksum]:
    return {
        table.name: table_checksum(connection, table.fullname, list(table.columns)) for table in metadata.sorted_tables
    }


def _spent(connection: sa.Connection) -> dict[str, Measures]:
    """By account, as the views tell it: an account without spend is among them."""
    rows = connection.exec_driver_sql(
        "select a.name, cast(coalesce(sum(m.volume), 0) as bigint), cast(coalesce(sum(m.money), 0) as decimal(38, 9)) "
        "from internal.accounts a left join spending_monthly m on m.account = a.name group by a.name order by a.name"
    )
    return {name: Measures(volume, Decimal(money)) for name, volume, money in rows}

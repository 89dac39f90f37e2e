"""Copy a whole warehouse to another engine or file, verified before the commit."""

from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError
from etl.models import Measures
from etl.warehouse import migrate
from etl.warehouse.copy import Checksum, copy_table, table_checksum
from etl.warehouse.engine import lock_schema_changes, name_of, open_warehouse, warehouse_path, warehouse_url
from etl.warehouse.schema import accounts, metadata

_SPEND_BY_ACCOUNT = """
    select a.name, cast(coalesce(sum(m.volume), 0) as bigint), cast(coalesce(sum(m.money), 0) as decimal(38, 9))
      from internal.accounts      as a
      left join spending_monthly as m on m.account = a.name
     group by a.name
     order by a.name
"""


class CopyResult(NamedTuple):
    """Both sides after the copy: rows by table, spend by account."""

    source: str
    target: str
    rows: dict[str, int]
    spent: dict[str, Measures]


def transfer(source: str, target: str, clock: Clock, *, wait: float) -> CopyResult:
    """Copy the warehouse ``source`` to ``target``, which must have no accounts; both are paths or URLs.

    Reads one snapshot of the source and commits once, after comparing both sides; an interrupted copy leaves ``target``
    without accounts. Raises UsageError if the target is the source or has accounts, WarehouseError if either cannot be
    used or the two sides differ.
    """
    source_url, target_url = warehouse_url(source), warehouse_url(target)
    source_name, target_name = name_of(source_url), name_of(target_url)
    if _is_same(source_url, target_url):
        raise UsageError(f"{source_name} is both source and target", "name another target")
    source_engine = open_warehouse(source_url, read_only=True, wait=wait, clock=clock)
    migrate.require_readable(source_engine)
    target_engine = open_warehouse(target_url, wait=wait, clock=clock)
    if migrate.current(target_engine):  # checked before the upgrade, so that a refused target stays unchanged
        with target_engine.connect() as connection:
            _require_no_accounts(connection, target_name)
    migrate.upgrade(target_engine)
    with source_engine.connect() as reading, target_engine.begin() as writing:
        lock_schema_changes(writing)
        _require_no_accounts(writing, target_name)
        for table in metadata.sorted_tables:
            writing.exec_driver_sql(f"delete from {table}")  # without accounts it has an id of its own, at most
            copy_table(reading, writing, table.fullname, list(table.columns))
        before, after = _checksums(reading), _checksums(writing)
        spent = _spend_by_account(reading)
        differing = sorted(name for name in before if before[name] != after[name])
        if differing or spent != _spend_by_account(writing):
            tables = ", ".join(differing) or "spend"
            raise WarehouseError(
                f"the copy in {target_name} differs from {source_name} ({tables}); rolled back",
                "check the target's disk and log, then run transfer again",
            )
    return CopyResult(source_name, target_name, {name: checksum.rows for name, checksum in after.items()}, spent)


def _is_same(source: str, target: str) -> bool:
    """Whether both are one file or server. A server under another name is rejected later, by its accounts."""
    files = warehouse_path(source), warehouse_path(target)
    if files[0] and files[1] and files[0].exists() and files[1].exists():
        return files[0].samefile(files[1])
    return name_of(source) == name_of(target)


def _require_no_accounts(connection: sa.Connection, target: str) -> None:
    is_current = sa.inspect(connection).has_table(accounts.name, schema=accounts.schema)
    schema = accounts.schema if is_current else None  # before revision 0007 the tables were in the default schema
    name = sa.table(accounts.name, sa.column("name"), schema=schema).c.name
    names = connection.execute(sa.select(name).order_by(name).limit(3)).scalars().all()
    if names:
        message = f"{target} already has accounts: {', '.join(names)}"
        raise UsageError(message, "use a new or empty warehouse as target")


def _checksums(connection: sa.Connection) -> dict[str, Checksum]:
    return {
        table.name: table_checksum(connection, table.fullname, list(table.columns)) for table in metadata.sorted_tables
    }


def _spend_by_account(connection: sa.Connection) -> dict[str, Measures]:
    """Return the spend of every account, from the views; zero for accounts without spend."""
    rows = connection.exec_driver_sql(_SPEND_BY_ACCOUNT)
    return {name: Measures(volume, Decimal(money)) for name, volume, money in rows}

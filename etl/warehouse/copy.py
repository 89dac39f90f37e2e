"""Tables from one warehouse into another, whatever the two engines are, and whether all came: both weigh rows by one sum."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from etl.warehouse.bulk_params import kinds, lists, unnested

_AT_ONCE = 10_000

Columns = Sequence[sa.Column[object]]


class Checksum(NamedTuple):
    """How many rows, and the sum of their hashes: rows alike weigh alike, in whatever order they stand."""

    rows: int
    sum: int


def copy_table(source: sa.Connection, target: sa.Connection, table: str, columns: Columns) -> None:
    """Reads all rows of a table on one side and adds them on the other, in the transaction of ``target``."""
    names = ", ".join(column.name for column in columns)
    add = sa.text(f"insert into {table} ({names}) select {names} from ({unnested(kinds(columns))}) as b")
    with source.execution_options(stream_results=True).exec_driver_sql(f"select {names} from {table}") as read:
        for part in read.partitions(_AT_ONCE):
            target.execute(add, lists(kinds(columns), part))


def table_checksum(connection: sa.Connection, table: str, columns: Columns) -> Checksum:
    """The weight of a table's rows, as the database itself computes it from what it holds."""
    words = ", ".join(_words(column) for column in columns)
    hashes = f"cast('0x' || substr(md5(concat_ws('|', {words})), 1, 15) as bigint)"
    sums = f"count(*), cast(coalesce(sum({hashes}), 0) as decimal(38, 0))"
    count, total = connection.exec_driver_sql(f"select {sums} from {table}").one()
    return Checksum(count, int(total))


def _words(column: sa.Column[object]) -> str:
    """A value as both engines write it; of texts and answers a hash, in which no separator stands."""
    told = (
        f"md5({column.name})" if isinstance(column.type, (sa.Text, sa.LargeBinary)) else f"cast({column.name} as text)"
    )
    return f"coalesce({told}, '~')"

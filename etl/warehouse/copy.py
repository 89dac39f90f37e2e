"""Copy tables from one warehouse to another, of either engine, and compare the two by checksum."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from etl.warehouse.bulk_params import list_params, unnest_select

_BATCH_SIZE = 10_000

Columns = Sequence[sa.Column[object]]


class Checksum(NamedTuple):
    """Number of rows and sum of their hashes; the order of the rows does not matter."""

    rows: int
    sum: int


def copy_table(source: sa.Connection, target: sa.Connection, table: str, columns: Columns) -> None:
    """Insert all rows of a table of ``source`` into that of ``target``, in the transaction of ``target``."""
    names = ", ".join(column.name for column in columns)
    insert = sa.text(f"insert into {table} ({names}) select {names} from ({unnest_select(columns)}) as b")
    with source.execution_options(stream_results=True).exec_driver_sql(f"select {names} from {table}") as rows:
        for batch in rows.partitions(_BATCH_SIZE):
            target.execute(insert, list_params(columns, batch))


def table_checksum(connection: sa.Connection, table: str, columns: Columns) -> Checksum:
    """Checksum of a table, computed by the database; both engines give the same for the same rows."""
    texts = ", ".join(_as_text(column) for column in columns)
    row_hash = f"cast('0x' || substr(md5(concat_ws('|', {texts})), 1, 15) as bigint)"
    sums = f"count(*), cast(coalesce(sum({row_hash}), 0) as decimal(38, 0))"
    count, total = connection.exec_driver_sql(f"select {sums} from {table}").one()
    return Checksum(count, int(total))


def _as_text(column: sa.Column[object]) -> str:
    """A value as both engines write it. Texts and bytes are hashed, so that they cannot contain the separator."""
    is_free_text = isinstance(column.type, (sa.Text, sa.LargeBinary))
    text = f"md5({column.name})" if is_free_text else f"cast({column.name} as text)"
    return f"coalesce({text}, '~')"

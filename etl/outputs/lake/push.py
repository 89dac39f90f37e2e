"""Ship to a lake what changed in a warehouse, one commit a table; the table ``accounts`` is the first and the last.

A shipment replaces the days that changed, so repeating it changes nothing. It first writes to ``accounts`` what it is
about to ship. If it is interrupted, ``accounts`` still has the earlier position, and the next one ships the same days
and later ones. Of two shipments of one bucket at a time only one can commit; the other begins again with what is then
in the warehouse.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from etl.clock import Clock
from etl.config.values import part_of
from etl.errors import LakeConflictError, WarehouseError
from etl.outputs.lake import delta
from etl.outputs.lake.changes import (
    Change,
    Position,
    Stored,
    changes,
    condition,
    diverged,
    positions_of,
    stored_accounts,
    warehouse_id,
)
from etl.outputs.lake.delta import Lake
from etl.outputs.lake.tables import POSITIONS, LakeTable, duckdb_type
from etl.warehouse import postgres
from etl.warehouse.duckdb import quoted
from etl.warehouse.engine import require_warehouse, warehouse_url
from etl.warehouse.migrate import require_readable
from etl.warehouse.parquet import ArrowStream
from etl.warehouse.reading import FileReader, Reader, open_for_reading

ATTEMPTS = 8
"""Of shipments in a row that others are faster than."""

MAX_ACCOUNTS = 500
"""In a shipment of several buckets, so that its conditions stay short and its rows fit on the disk."""


class Shipped(NamedTuple):
    """What one call shipped: accounts, days of those that the lake had before, and rows by table."""

    accounts: int
    days: int
    rows: Mapping[str, int]


def push(
    url: str,
    location: str,
    clock: Clock,
    *,
    wait: float,
    names: Iterable[str] | None = None,
    is_replacement: bool = False,
) -> Shipped:
    """Ship what changed in a warehouse since the last time, of all accounts or those with these names.

    ``is_replacement`` ships accounts from the beginning that the lake has from another warehouse, or from a newer state
    of this one; without it these raise WarehouseError. So does a lake that cannot be used.
    """
    require_warehouse(warehouse_url(url), wait=wait, clock=clock)
    wanted, shipped, failures = None if names is None else [*names], list[Change](), 0
    rows: Counter[str] = Counter()
    while True:
        try:
            part, remaining, counts = _ship_next(
                url, location, clock, wait, wanted, shipped, is_replacement=is_replacement
            )
        except LakeConflictError:
            failures += 1
            if failures == ATTEMPTS:
                raise
            clock.sleep(random.uniform(0, 0.2 * failures))  # noqa: S311 - so that two processes do not meet again
            continue
        shipped, rows, failures = [*shipped, *part], rows + counts, 0
        if not remaining:
            return Shipped(len(shipped), sum(len(one.days or ()) for one in shipped), rows)


def _ship_next(
    url: str,
    location: str,
    clock: Clock,
    wait: float,
    names: Sequence[str] | None,
    shipped: Sequence[Change],
    *,
    is_replacement: bool,
) -> tuple[Sequence[Change], int, Counter[str]]:
    """One shipment of accounts that were not ``shipped`` before; return them, how many are left, and the number of rows
    by table."""
    lake = delta.open_lake(location, create=True)
    positions = positions_of(delta.read(lake.tables[POSITIONS], location))
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(f"{folder}/rows.duckdb") as connection:
        # The warehouse is read after the lake, so that it has no less than any shipment in the lake.
        with open_for_reading(warehouse_url(url), wait=wait, clock=clock) as reader:
            require_readable(reader)
            found = _changes(reader, lake, positions, names, is_replacement=is_replacement)
            done = {one.stored.account for one in shipped}
            left = [one for one in found if one.stored.account not in done]
            part = _next_part(left, lake.buckets)
            if not part:
                return (), 0, Counter()
            warehouse = warehouse_id(reader)
            for table in lake.tables.values():
                if table.schema.name != POSITIONS:
                    _load(connection, reader, table.schema, condition(table.schema.name, part), Path(folder))
        before = {name: one for name, one in positions.items() if one.warehouse == warehouse}
        return part, len(left) - len(part), Counter(_ship(connection, lake, part, before, warehouse, clock))


def _changes(
    reader: Reader, lake: Lake, positions: dict[str, Position], names: Sequence[str] | None, *, is_replacement: bool
) -> list[Change]:
    """What the lake lacks. Raises WarehouseError for what another warehouse, or a newer state of this one, shipped."""
    stored, warehouse = stored_accounts(reader, names), warehouse_id(reader)
    others = {name for name, one in positions.items() if one.warehouse != warehouse}
    foreign = [one.account for one in stored if one.account in others]
    ahead = diverged(reader, [one for one in stored if one.account not in others], positions)
    if (foreign or ahead) and not is_replacement:
        raise _refusal(lake.location, foreign, ahead)
    return changes(reader, stored, {name: one for name, one in positions.items() if name not in {*foreign, *ahead}})


def _next_part(found: Iterable[Change], buckets: int) -> list[Change]:
    """What the next shipment contains: accounts from the beginning first, because they concern other files, and all
    accounts of a bucket, because its files are written once in a shipment."""
    by_bucket: dict[tuple[bool, int], list[Change]] = {}
    for one in found:
        by_bucket.setdefault((one.days is not None, part_of(one.stored.account, buckets)), []).append(one)
    part: list[Change] = []
    for (is_partly, _), accounts in sorted(by_bucket.items()):
        if part and (len(part) + len(accounts) > MAX_ACCOUNTS or is_partly != (part[0].days is not None)):
            break
        part += accounts
    return part


def _ship(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    part: Sequence[Change],
    positions: Mapping[str, Position],
    warehouse: str,
    clock: Clock,
) -> dict[str, int]:
    """Commit each table; return the number of rows by table. ``positions``: those that this warehouse shipped."""
    buckets = {one.stored.account: part_of(one.stored.account, lake.buckets) for one in part}
    numbers = dict.fromkeys(buckets.values(), 1)
    for name, position in positions.items():
        bucket = part_of(name, lake.buckets)
        if bucket in numbers:
            numbers[bucket] = max(numbers[bucket], position.shipment + 1)
    apps = {f"{warehouse}/{bucket}": number for bucket, number in numbers.items()}
    _load_rows(connection, "buckets", {"account": "varchar", "bucket": "integer"}, list(buckets.items()))
    now = clock.now().replace(tzinfo=None)
    complete = [_position(one.stored, warehouse, numbers[buckets[one.stored.account]], now) for one in part]
    begun = [
        ((one.days is not None and positions.get(new.account)) or _nothing(new))._replace(
            started_id=new.started_id, started_at=new.started_at
        )
        for one, new in zip(part, complete, strict=True)
    ]
    counts = {}

    def replace(table: LakeTable) -> None:
        predicate = condition(table.name, part, buckets.values())
        delta.replace(lake.location, lake.tables[table.name], connection.sql(_selected(table)), predicate, apps)

    schemas = [table.schema for table in lake.tables.values()]
    _load_positions(connection, begun)
    replace(schemas[-1])
    _load_positions(connection, complete)
    for schema in schemas:
        replace(schema)
        [(counts[schema.name],)] = connection.table(schema.name).aggregate("count(*)").fetchall()
    return counts


def _load_positions(connection: duckdb.DuckDBPyConnection, positions: Sequence[Position]) -> None:
    connection.execute(f"drop table if exists {POSITIONS}")
    _load_rows(connection, POSITIONS, {name: duckdb_type(name) for name in Position._fields}, positions)


def _position(one: Stored, warehouse: str, shipment: int, now: datetime) -> Position:
    newest = one.snapshot_id, one.snapshot_at
    return Position(
        one.account, warehouse, shipment, *newest, *newest, one.complete_until, one.replay, one.missing, now
    )


def _nothing(new: Position) -> Position:
    """The position of an account of which the lake has nothing, or nothing that can be trusted."""
    return new._replace(shipment=0, snapshot_id=0, snapshot_at=None, complete_until=None, replay=0, missing=0)


def _load(connection: duckdb.DuckDBPyConnection, reader: Reader, table: LakeTable, where: str, folder: Path) -> None:
    """Copy the rows of a view to a table of its name: those of a file by Arrow, of a server as CSV."""
    select = f"select {', '.join(table.columns)} from {table.name} where {where}"
    if isinstance(reader, FileReader):
        connection.from_arrow(ArrowStream(reader.driver.sql(select))).create(table.name)
        return
    text = folder / f"{table.name}.csv"
    postgres.copy_to_file(reader.connection, f"copy ({select}) to stdout (format csv, force_quote *)", text)
    types = ", ".join(f"{quoted(name)}: {quoted(duckdb_type(name))}" for name in table.columns)
    options = "header = false, auto_detect = false, allow_quoted_nulls = false, parallel = false"
    connection.execute(f"create table {table.name} as from read_csv({quoted(text)}, columns = {{{types}}}, {options})")
    text.unlink()


def _load_rows(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]]
) -> None:
    connection.execute(f"create table {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"insert into {name} values ({marks})", [list(row) for row in rows])


def _selected(table: LakeTable) -> str:
    month = ", strftime(l.day, '%Y-%m') as month" if "month" in table.partition else ""
    return f"select l.*{month}, b.bucket from {table.name} as l join buckets as b on b.account = l.account order by all"


def _refusal(location: str, foreign: Sequence[str], ahead: Sequence[str]) -> WarehouseError:
    hint = "if this warehouse is right, anticaptcha-etl lake push --replace ships these accounts from the beginning"
    if foreign:
        what = f"accounts of another warehouse: {', '.join(foreign)}"
    else:
        what = f"a newer state of {', '.join(ahead)} than this warehouse, as after restoring a backup"
    return WarehouseError(f"the lake {location} has {what}; nothing was shipped", hint)

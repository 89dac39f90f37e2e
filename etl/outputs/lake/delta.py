"""Open, read and write the Delta tables of a lake: the only module that knows deltalake."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb

from etl.config.environment import set_default
from etl.errors import LakeConflictError, UsageError, WarehouseError
from etl.outputs.lake.tables import BUCKETS, POSITIONS, VERSION, LakeTable, delta_type, tables
from etl.warehouse.parquet import ArrowStream

RETENTION_HOURS = 168
"""Files that no version of a table needs are kept for a week, so that readers with an older version can finish."""

_HEADER = "anticaptcha-etl lake, version {}, {} buckets"
_HEADER_PATTERN = re.compile(r"anticaptcha-etl lake, version (\d+), (\d+) buckets")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class Table(NamedTuple):
    """An open table at its newest version."""

    schema: LakeTable
    delta: Any


class Lake(NamedTuple):
    """Open tables by name; ``accounts`` is the last one."""

    location: str
    buckets: int
    tables: Mapping[str, Table]


def open_lake(location: str, *, create: bool) -> Lake:
    """Open all tables of a lake, which is created if it is missing and ``create``.

    Raises WarehouseError if it is missing, cannot be reached, is newer than this program or belongs to others.
    """
    with errors(location) as delta:
        places = {schema.name: f"{location.rstrip('/')}/{schema.name}" for schema in tables()}
        options = storage_options(location)
        if not delta.DeltaTable.is_deltatable(places[POSITIONS], options):
            if not create:
                raise WarehouseError(f"there is no lake at {location}", "anticaptcha-etl lake push creates it")
            for schema in tables():
                _create(delta, places[schema.name], schema, options)
        opened = {
            schema.name: Table(schema, delta.DeltaTable(places[schema.name], storage_options=options))
            for schema in tables()
        }
    found = _HEADER_PATTERN.search(opened[POSITIONS].delta.metadata().description or "")
    if not found or int(found[1]) != VERSION:
        raise _refusal(location, int(found[1]) if found else None)
    return Lake(location, int(found[2]), opened)


def _refusal(location: str, version: int | None) -> WarehouseError:
    if version is None:
        return WarehouseError(f"{location} is not a lake of this program", "choose another place with --lake")
    if version > VERSION:
        return WarehouseError(f"{location} is from a newer version of this program", "upgrade anticaptcha-etl")
    hint = "delete it, or choose another place with --lake; lake push ships everything from the beginning"
    return WarehouseError(f"{location} is from an older version of this program", hint)


def _create(delta: Any, place: str, schema: LakeTable, options: dict[str, str]) -> None:
    fields = [
        delta.Field(name, delta.schema.PrimitiveType(delta_type(name)), metadata={"comment": comment})
        for name, comment in schema.all_columns.items()
    ]
    comment = schema.comment + (f" ({_HEADER.format(VERSION, BUCKETS)})" if schema.name == POSITIONS else "")
    delta.DeltaTable.create(
        place,
        delta.Schema(fields),
        mode="ignore",
        partition_by=list(schema.partition),
        name=schema.name,
        description=comment,
        configuration={"delta.checkpointInterval": "10"},  # an open reads all commits since the last checkpoint
        storage_options=options,
    )


def replace(
    location: str, table: Table, rows: duckdb.DuckDBPyRelation, predicate: str, shipments: Mapping[str, int]
) -> None:
    """Replace the rows that meet a predicate in one commit. ``shipments``: its number by application id.

    Raises LakeConflictError if the table got rows of one of the applications since it was opened.
    """
    with errors(location) as delta:
        transactions = [delta.Transaction(app, number) for app, number in shipments.items()]
        delta.write_deltalake(
            table.delta,
            ArrowStream(rows),
            mode="overwrite",
            predicate=predicate,
            commit_properties=delta.CommitProperties(app_transactions=transactions),
        )


def read(table: Table, location: str) -> Sequence[Any]:
    """All rows of a small table, with its columns in the order of its schema."""
    columns = ", ".join(table.schema.all_columns)
    with errors(location) as delta:
        found = delta.QueryBuilder().register("t", table.delta).execute(f"select {columns} from t").read_all()
    with duckdb.connect() as connection:
        return connection.from_arrow(ArrowStream(found)).fetchall()


def sizes(table: Table, location: str) -> tuple[int, int]:
    """Number and bytes of the files that the newest version consists of."""
    with errors(location), duckdb.connect() as connection:
        files = connection.from_arrow(ArrowStream(table.delta.get_add_actions(flatten=True)))
        [(number, size)] = files.aggregate("count(*), cast(coalesce(sum(size_bytes), 0) as bigint)").fetchall()
    return number, size


def optimize(table: Table, location: str) -> tuple[int, int]:
    """Join small files and delete those that nobody needs any more; return how many were replaced and deleted."""
    with errors(location):
        joined = table.delta.optimize.compact()
        deleted = table.delta.vacuum(retention_hours=RETENTION_HOURS, dry_run=False)
        table.delta.create_checkpoint()
        table.delta.cleanup_metadata()
    return joined["numFilesRemoved"], len(deleted)


def storage_options(location: str) -> dict[str, str]:
    """S3 refuses a second writer of one version; all else is in the usual variables, which deltalake reads itself."""
    return {"aws_conditional_put": "etag"} if location.startswith(("s3://", "s3a://")) else {}


@contextmanager
def errors(location: str) -> Iterator[Any]:
    """Give the package deltalake, and raise WarehouseError for its errors, without colours and details."""
    set_default("RUST_LOG", "off")  # deltalake logs by itself; what matters is in its errors
    try:
        import deltalake  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install '.[lake]' in the folder of the repository"
        raise UsageError("a lake needs deltalake, which is not installed", hint) from error
    try:
        yield deltalake
    except deltalake.exceptions.CommitFailedError as error:
        raise _conflict(location) from error
    except (deltalake.exceptions.DeltaError, OSError) as error:
        lines = [line.strip(" ↳") for line in _COLOUR.sub("", str(error)).splitlines()]
        text = " ".join(line for line in lines if line)[:300]
        hint = "check the place, its credentials and the network; the next sync or lake push ships what is missing"
        raise WarehouseError(f"cannot use the lake {location}: {text}", hint) from error


def _conflict(location: str) -> LakeConflictError:
    hint = "run anticaptcha-etl lake push again when the other one has ended"
    return LakeConflictError(f"another process ships the same accounts to {location}", hint)

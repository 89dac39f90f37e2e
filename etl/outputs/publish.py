"""Publish a read-only copy of the warehouse for BI tools, replaced atomically.

The copy contains the views and functions and the tables they read, but no raw responses and no key data.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import ChecksFailedError, UsageError, WarehouseError
from etl.models import Severity
from etl.outputs import atomic
from etl.outputs.check_report import run_checks
from etl.warehouse import migrate, postgres, schema, views
from etl.warehouse.copy import Checksum
from etl.warehouse.duckdb import attach_new_file, quoted, require_usable_name
from etl.warehouse.engine import name_of, open_warehouse, warehouse_path, warehouse_url

PUBLISHED_COLUMNS: dict[str, tuple[str, ...]] = {
    "accounts": ("account_id", "name"),  # without the key's hash
    **{
        table.name: tuple(table.columns.keys())
        for table in (
            schema.series,
            schema.day_coverage,
            schema.facts,
            schema.over_allocated_hours,
            schema.revisions,
            schema.rejections,
            schema.runs,
            schema.day_checks,
            schema.balances,
            schema.alerts,
        )
    },
    "findings": ("account_id", "run", "severity"),  # their number; the messages are for the warehouse's owner
}
"""The tables in a copy, each with its columns."""

MODE = 0o444
FOLDER_MODE = 0o755  # BI tools run as other users
_DUCKDB_SIGNATURE = b"DUCK"
"""In the first 16 bytes of every DuckDB file."""


class Published(NamedTuple):
    """A published copy. ``rows`` by table and view; ``size`` in bytes."""

    path: Path
    rows: dict[str, int]
    size: int


def is_folder(path: Path) -> bool:
    """True if a copy goes into the folder ``path``: an existing one, or a new one, which has no file ending."""
    return path.is_dir() or not (path.suffix or path.exists())


def resolve_target(url: str, path: Path) -> Path:
    """The file to publish to: ``path``, or a file with the warehouse's name in the folder ``path``.

    Symbolic links are followed. Raises UsageError if the copy would replace a file that is not a published copy.
    """
    warehouse = warehouse_path(warehouse_url(url))
    name = warehouse.name if warehouse else f"{Path(name_of(warehouse_url(url))).name}.duckdb"
    try:
        target = Path(os.path.realpath(path / name if is_folder(path) else path))
        parent = target.parent.parent if is_folder(path) and not path.exists() else target.parent
        if not parent.is_dir():
            raise UsageError(f"cannot publish to {target}: there is no folder {parent}", f"mkdir -p '{parent}'")
        require_usable_name(target)
        if warehouse and warehouse.exists() and target.exists() and target.samefile(warehouse):
            raise UsageError(f"cannot publish to {target}: it is the warehouse itself", "choose another path")
        if target.exists() and not _is_published_copy(target):
            raise UsageError(f"cannot publish to {target}: publish did not write this file", "choose another path")
    except OSError as error:
        raise UsageError(f"cannot publish to {path}: {error.strerror}", "choose another path") from error
    return target


def _is_published_copy(file: Path) -> bool:
    """True for a read-only DuckDB file that is not a warehouse (a warehouse may have been made read-only).

    A file that DuckDB cannot open, because a tool has it open or left a log beside it, counts as a copy.
    """
    if not file.is_file() or file.stat().st_mode & 0o222:
        return False
    with file.open("rb") as opened:
        if _DUCKDB_SIGNATURE not in opened.read(16):
            return False
    try:
        return migrate.is_copy(open_warehouse(warehouse_url(str(file)), read_only=True))
    except (WarehouseError, sa.exc.DBAPIError):
        return True


def publish(
    url: str, target: Path, clock: Clock, *, wait: float, checks_folder: Path | None = None, force: bool = False
) -> Published:
    """Write a verified, read-only copy to ``target`` (see ``resolve_target``). On any error ``target`` is unchanged.

    Raises ChecksFailedError if a blocking check fails, unless ``force``; WarehouseError if the warehouse does not
    exist, has another schema version or stays locked for longer than ``wait`` seconds, and if the disk is full.
    """
    if not force:
        report = run_checks(warehouse_url(url), None, checks_folder, clock, wait=wait)
        failures = [one for one in report.checked.failures if one.check.severity is Severity.BLOCKING]
        if failures:
            messages = "; ".join(failure.finding.message for failure in failures)
            raise ChecksFailedError(f"not published: {messages}", "run anticaptcha-etl check, or publish --force")
    try:
        if not target.parent.exists():
            target.parent.mkdir()
            target.parent.chmod(FOLDER_MODE)
    except OSError as error:
        raise WarehouseError(f"cannot create {target.parent}: {error.strerror}", "choose another path") from error
    with atomic.temporary_beside(target, clock, wait=wait) as folder:
        new = folder / target.name
        rows = {name: checksum.rows for name, checksum in copy(url, new, clock, wait=wait).items()}
        _log_of(target).unlink(missing_ok=True)  # it belongs to another file, and DuckDB would replay it into this one
        atomic.replace_with(new, target, MODE)
    return Published(target, rows, target.stat().st_size)


def copy(url: str, to: Path, clock: Clock, *, wait: float) -> dict[str, Checksum]:
    """Write the published tables and views to a new file, then read it and compare checksums by table; from a file
    also by view.

    All rows are from one moment: nothing can be committed meanwhile. Raises WarehouseError as ``publish`` does.
    """
    is_file = warehouse_path(warehouse_url(url)) is not None
    copy_all, checksums = (_copy_from_file, _row_checksums) if is_file else (_copy_from_server, _text_checksums)
    source = open_warehouse(
        warehouse_url(url), read_only=True, wait=wait, clock=clock, writable_folder=to.parent if is_file else None
    )
    migrate.require_readable(source)
    if migrate.state(source) != "current":
        raise WarehouseError(
            f"the views of {name_of(source.url)} are from another version of this program",
            "run anticaptcha-etl migrate",
        )
    new = warehouse_url(str(to))
    with source.connect() as connection:
        expected = copy_all(connection, to)
    with open_warehouse(new).begin() as connection:
        views.rebuild(connection, migrate.revisions()[-1], views.public_views())
    if _log_of(to).exists():  # on a full disk DuckDB closes without an error and leaves the log
        raise WarehouseError(f"cannot write the whole copy to {to.parent}", "free disk space and run this again")
    with open_warehouse(new, read_only=True, writable_folder=to.parent).connect() as connection:
        copied = checksums(connection, to)
    if different := sorted(name for name in expected if copied[name] != expected[name]):
        raise WarehouseError(
            f"the copy of {name_of(source.url)} differs in {', '.join(different)}", "check the disk and run this again"
        )
    return copied


def _copy_from_file(source: sa.Connection, to: Path) -> dict[str, Checksum]:
    attach_new_file(source, to, "draft")
    source.exec_driver_sql("create schema draft.internal")
    for table in PUBLISHED_COLUMNS:
        source.exec_driver_sql(f"create table draft.internal.{table} as {_select(table)}")
    source.commit()
    return _row_checksums(source, to)


def _copy_from_server(source: sa.Connection, to: Path) -> dict[str, Checksum]:
    """Copy the tables as CSV, which is faster than rows through this program, and return checksums of these texts."""
    checksums = {}
    with open_warehouse(warehouse_url(str(to))).begin() as target:
        target.exec_driver_sql("create schema internal")
        for table in PUBLISHED_COLUMNS:
            columns = (sa.Column(column.name, column.type) for column in _columns(table))
            target.execute(sa.schema.CreateTable(sa.Table(table, sa.MetaData(schema="internal"), *columns)))
            text = to.with_name(f"{table}.csv")
            rows = postgres.copy_to_file(source, f"copy ({_text_select(table)}) to stdout ({_csv(table)})", text)
            target.exec_driver_sql(f"copy internal.{table} from {quoted(text)} ({_READ_CSV})")
            checksums[table] = _checksum_of(text, rows)
    return checksums


def _columns(table: str) -> list[sa.Column[Any]]:
    return [schema.metadata.tables[f"internal.{table}"].c[name] for name in PUBLISHED_COLUMNS[table]]


def _select(table: str) -> str:
    return f"select {', '.join(PUBLISHED_COLUMNS[table])} from internal.{table}"


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.wal")


def _row_checksums(connection: sa.Connection, _: Path) -> dict[str, Checksum]:
    """Checksums of tables and views with DuckDB's row hash."""
    selects = {table: _select(table) for table in PUBLISHED_COLUMNS}
    selects |= {view.name: f"select * from {view.name}" for view in views.public_views()}
    sums = "count(*), cast(coalesce(sum(cast(hash(r) as hugeint)), 0) as hugeint)"
    return {
        name: Checksum(*connection.exec_driver_sql(f"select {sums} from ({select}) as r").one())
        for name, select in selects.items()
    }


# ---------------------------------------------------------------- from a server

_READ_CSV = (
    "format csv, header false, auto_detect false, allow_quoted_nulls false, max_line_size 16777216, parallel false"
)
"""Lines of up to 16 MB, because a rejected record can be as large as a response. Not in parallel, because then a line
break inside a text might be taken for the end of a row."""


def _csv(table: str) -> str:
    """How both engines write the same text: all texts in quotes, null without."""
    texts = ", ".join(column.name for column in _columns(table) if isinstance(column.type, sa.Text))
    return "format csv, header false" + (f", force_quote ({texts})" if texts else "")


def _text_select(table: str) -> str:
    """The engines write booleans differently, unless they are cast."""
    values = (
        f"cast({c.name} as text) as {c.name}" if isinstance(c.type, sa.Boolean) else c.name for c in _columns(table)
    )
    return f"select {', '.join(values)} from internal.{table}"


def _text_checksums(connection: sa.Connection, to: Path) -> dict[str, Checksum]:
    """Checksums of the tables as CSV, in the order of their rows; only row counts of views."""
    checksums = {}
    for table in PUBLISHED_COLUMNS:
        text = to.with_name(f"{table}.csv")
        copied = connection.exec_driver_sql(f"copy ({_text_select(table)}) to {quoted(text)} ({_csv(table)})")
        checksums[table] = _checksum_of(text, copied.scalar_one())
    for view in views.public_views():
        count = connection.exec_driver_sql(f"select count(*) from {view.name}").scalar_one()
        checksums[view.name] = Checksum(count, 0)
    return checksums


def _checksum_of(text: Path, rows: int) -> Checksum:
    """The checksum of a file, which is deleted."""
    with text.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    text.unlink()
    return Checksum(rows, int.from_bytes(digest))

"""A read-only copy of the warehouse for BI tools, swapped in whole: readers see the old state or the new, never a lock.

The copy holds what the views and functions of ``sql`` read, and those with it. No answer, nothing of a key.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import ChecksFailedError, UsageError, WarehouseError
from etl.models import Severity
from etl.outputs import atomic, check_report
from etl.warehouse import checks, migrate, schema, views
from etl.warehouse.copy import Checksum, copy_table, table_checksum
from etl.warehouse.duckdb import attach_draft
from etl.warehouse.engine import name_of, open_warehouse, warehouse_path, warehouse_url

PUBLISHED_COLUMNS: dict[str, tuple[str, ...]] = {
    "accounts": ("account_id", "name"),  # and nothing that tells a key
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
        )
    },
    "findings": ("account_id", "run", "severity"),  # how many there were; what they say is for the warehouse's owner
}
"""The tables that readers need, and of each the columns."""

MODE = 0o444
_SIGN = b"DUCK"
"""In the first bytes of each DuckDB file."""

Weighed = dict[str, Checksum]
"""By table or view."""


class Published(NamedTuple):
    """A copy in its place. ``rows`` by table or view, ``size`` in bytes."""

    path: Path
    rows: dict[str, int]
    size: int


def place(url: str, path: Path) -> Path:
    """Where the copy of a warehouse goes: ``path`` itself, or in that folder under the warehouse's own name (on a server its
    database's).

    Raises UsageError where a copy would take the place of something that is none.
    """
    own = warehouse_url(url)
    warehouse = warehouse_path(own)
    try:
        return _place(warehouse, path, warehouse.name if warehouse else f"{Path(name_of(own)).name}.duckdb")
    except OSError as error:
        raise UsageError(f"{path} is no place for a copy: {error.strerror}", "name another place") from error


def _place(warehouse: Path | None, path: Path, name: str) -> Path:
    target = path / name if path.is_dir() else path
    target = target.parent.resolve() / target.name
    if not target.suffix:
        raise UsageError(
            f"{target} is neither a folder nor a file's name with an ending", f"mkdir -p '{target}', or name a file"
        )
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", f"mkdir -p '{target.parent}'")
    if not target.exists():
        return target
    if warehouse and warehouse.exists() and target.samefile(warehouse):
        raise UsageError(f"{target} is the warehouse itself", "name another place")
    if not _is_copy(target):
        raise UsageError(f"{target} was not made by publish", "name another place, or move that file away")
    return target


def _is_copy(file: Path) -> bool:
    """Whether a publish made it: read-only, of DuckDB, and no warehouse, which somebody may have made read-only to keep it.

    Where DuckDB cannot look inside, for a tool holds it or left a log beside it, the rest is proof enough.
    """
    if not file.is_file() or file.stat().st_mode & 0o222:
        return False
    with file.open("rb") as opened:
        if _SIGN not in opened.read(16):
            return False
    try:
        return migrate.is_copy(open_warehouse(warehouse_url(str(file)), read_only=True))
    except (WarehouseError, sa.exc.DBAPIError):
        return True


def publish(
    url: str, target: Path, clock: Clock, *, wait: float, own: Path | None = None, despite_findings: bool = False
) -> Published:
    """Puts a verified copy of the warehouse at ``target`` (see ``place``), read-only. The warehouse is held while it is copied.

    Raises FindingsError when a check, ``own`` ones among them, blocks; WarehouseError for a warehouse that is not there, not
    of this version, or held for longer than ``wait`` seconds, and for a disk that does not take the copy. ``target`` then is
    as it was.
    """
    if not despite_findings:
        _refuse_findings(check_report.gather(warehouse_url(url), None, own, clock, wait=wait).checked.broken)
    with atomic.temporary_beside(target, clock, wait=wait) as draft:
        made = draft / target.name
        weighed = copy(url, made, clock, wait=wait)
        made.chmod(MODE)
        _log_of(target).unlink(missing_ok=True)  # of another file, and DuckDB would replay it into ours
        atomic.replace_with(made, target, MODE)
    return Published(target, {name: rows for name, (rows, _) in weighed.items()}, target.stat().st_size)


def copy(url: str, to: Path, clock: Clock, *, wait: float) -> Weighed:
    """Writes what readers need to a new file, and reads it again: every table and view must hold what it was made from.

    Nothing is committed meanwhile. Raises WarehouseError as ``publish`` does, UsageError for a name that no URL can hold.
    """
    made = warehouse_url(str(to))
    is_file = warehouse_path(warehouse_url(url)) is not None
    weighed = _weighed if is_file else _weighed_tables
    source = open_warehouse(
        warehouse_url(url), read_only=True, wait=wait, clock=clock, atomic=to.parent if is_file else None
    )
    _require_current(source)
    with source.connect() as connection:
        (_attached if is_file else _poured)(connection, to)
        expected = weighed(connection)
    with open_warehouse(made).begin() as connection:
        views.rebuild(connection, migrate.revisions()[-1], views.shared())
    if _log_of(to).exists():  # a disk that is full: DuckDB says nothing when it cannot take in its log on closing
        raise WarehouseError(f"the copy could not be written whole to {to.parent}", "make room, run it again")
    with open_warehouse(made, read_only=True).connect() as connection:
        held = weighed(connection)
    if differing := sorted(name for name in expected if held[name] != expected[name]):
        raise WarehouseError(
            f"the copy of {name_of(source.url)} differs in {', '.join(differing)}", "check the disk, run it again"
        )
    return held


def _attached(source: sa.Connection, to: Path) -> None:
    """A file's tables go straight into another."""
    attach_draft(source, to)
    source.exec_driver_sql("create schema draft.internal")
    for table, columns in PUBLISHED_COLUMNS.items():
        source.exec_driver_sql(
            f"create table draft.internal.{table} as select {', '.join(columns)} from internal.{table}"
        )
    source.commit()


def _poured(source: sa.Connection, to: Path) -> None:
    with open_warehouse(warehouse_url(str(to))).begin() as target:
        target.exec_driver_sql("create schema internal")
        for table, columns in PUBLISHED_COLUMNS.items():
            copied = sa.Table(
                table,
                sa.MetaData(schema="internal"),
                *(sa.Column(column.name, column.type) for column in _columns(table, columns)),
            )
            target.execute(sa.schema.CreateTable(copied))
            copy_table(source, target, f"internal.{table}", _columns(table, columns))


def _columns(table: str, names: Iterable[str]) -> list[sa.Column[Any]]:
    return [schema.metadata.tables[f"internal.{table}"].c[name] for name in names]


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.wal")


def _require_current(source: sa.Engine) -> None:
    """The views of the copy are those of this program, and so must the warehouse's be."""
    migrate.require_readable(source)
    if migrate.state(source) != "current":
        raise WarehouseError(
            f"the views of {name_of(source.url)} are another version's", "anticaptcha-etl migrate renews them"
        )


def _refuse_findings(broken: Iterable[checks.CheckFailure]) -> None:
    if blocking := [one.finding.message for one in broken if one.check.severity is Severity.BLOCKING]:
        said = "; ".join(blocking)
        raise ChecksFailedError(
            f"nothing was copied: {said}", "look into that first; publish --despite-findings copies all the same"
        )


def _weighed(connection: sa.Connection) -> Weighed:
    """Views too, by DuckDB's own hash of whole rows, which is quicker than the sum that both engines know."""
    parts = {
        table: f"select {', '.join(columns)} from internal.{table}" for table, columns in PUBLISHED_COLUMNS.items()
    }
    parts |= {view.name: f"select * from {view.name}" for view in views.shared()}
    sums = "count(*), cast(coalesce(sum(cast(hash(r) as hugeint)), 0) as hugeint)"
    return {
        name: Checksum(*connection.exec_driver_sql(f"select {sums} from ({part}) as r").one())
        for name, part in parts.items()
    }


def _weighed_tables(connection: sa.Connection) -> Weighed:
    """Of views the rows are counted: what they make of the tables is the work of two engines."""
    weights = {
        table: table_checksum(connection, f"internal.{table}", _columns(table, columns))
        for table, columns in PUBLISHED_COLUMNS.items()
    }
    counts = {
        view.name: connection.exec_driver_sql(f"select count(*) from {view.name}").scalar_one()
        for view in views.shared()
    }
    return {**weights, **{name: Checksum(count, 0) for name, count in counts.items()}}

"""Export the views to a folder of Hive-partitioned Parquet or CSV files, or to an Excel workbook; replaced atomically.

    DIR/spending_hourly/account=NAME/month=2026-11/TIME_0.parquet    hourly views
    DIR/spending_daily/account=NAME/TIME_0.parquet                   other views
    DIR/spending_daily.csv                                           CSV: one file per view, with an account column
    DIR/_export.json                                                 contents and time of the export
    FILE.xlsx                                                        workbook: one sheet per view

Parquet files do not repeat the partition columns. TIME is the time of the export, so files of two exports never have
the same name: a reader that still has the old list of files gets an error, not a mixture.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa

from etl import __version__
from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import atomic, publish
from etl.outputs.accounts import select_accounts
from etl.outputs.query import BATCH_SIZE, Result, regular_file, write_csv
from etl.outputs.serialize import as_json
from etl.outputs.workbook import Sheet, write_workbook
from etl.warehouse import views
from etl.warehouse.duckdb import quoted
from etl.warehouse.engine import open_warehouse, warehouse_url

Format = Literal["parquet", "csv", "xlsx"]

WORKBOOK_VIEWS = ("spending_monthly", "spending_daily", "coverage_daily")
"""Sheets of a workbook unless others are asked for: hours have too many rows to look through."""

MANIFEST = "_export.json"
"""Readers of Parquet folders ignore names that begin with an underscore."""


def export(
    url: str,
    target: Path,
    file_format: Format,
    clock: Clock,
    *,
    wait: float,
    account: str | None = None,
    names: Sequence[str] = (),
    is_safe: bool = True,
    mode: int = 0o600,
) -> dict[str, int]:
    """Write views, of one account or of all, to ``target``, and return the number of rows by view.

    ``target`` is a folder, or the file of a workbook; ``names`` are views, without them all (a workbook: the usual
    ones). ``is_safe`` is as in ``write_csv``. All rows are from one moment. The warehouse is locked while it is copied,
    not while files are written; files get ``mode``. On any error ``target`` is unchanged. Raises UsageError for an
    unknown account or view and for a ``target`` that contains other files; WarehouseError as ``publish`` does.
    """
    chosen = _views(names or (WORKBOOK_VIEWS if file_format == "xlsx" else ()))
    if file_format == "xlsx":
        target = regular_file(target)
    else:
        _reject_foreign_files(target)
    with atomic.temporary_beside(target, clock, wait=wait) as temporary:
        folder, warehouse = temporary / target.name, temporary / "copy" / "warehouse.duckdb"
        warehouse.parent.mkdir()
        exported_at = clock.now().astimezone(UTC)
        publish.copy(url, warehouse, clock, wait=wait)
        with open_warehouse(
            warehouse_url(str(warehouse)), read_only=True, writable_folder=folder
        ).connect() as connection:
            accounts = list(select_accounts(connection, account))
            if file_format == "xlsx":
                opened = {view.name: partial(_rows, connection, view, accounts) for view in chosen}
                rows = write_workbook([Sheet(name, one) for name, one in opened.items()], folder)
                atomic.replace_with(folder, target, mode)
                return rows
            folder.mkdir()
            rows = {
                view.name: _write_view(connection, view, accounts, folder, file_format, exported_at, is_safe=is_safe)
                for view in chosen
            }
        _write_manifest(folder, exported_at, account, file_format, rows)
        atomic.replace_with(folder, target, mode)
    return rows


def _write_manifest(
    folder: Path, exported_at: datetime, account: str | None, file_format: str, rows: Mapping[str, int]
) -> None:
    manifest = {
        "program": f"anticaptcha-etl {__version__}",
        "exported_at": exported_at,
        "account": account,
        "format": file_format,
        "rows": rows,
    }
    (folder / MANIFEST).write_text(as_json(manifest) + "\n", "utf-8")


def _views(names: Sequence[str]) -> list[views.View]:
    known = {view.name: view for view in views.public_views()}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no view {unknown[0]}", f"known: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or [*known.values()]


def _source(view: views.View, accounts: list[str]) -> str:
    return f"(from {view.name} where account in ({', '.join(map(quoted, accounts)) or 'null'}))"


@contextmanager
def _rows(connection: sa.Connection, view: views.View, accounts: list[str]) -> Iterator[Result]:
    with connection.exec_driver_sql(f"from {_source(view, accounts)} order by all") as result:
        batches = result.partitions(BATCH_SIZE)
        yield Result(tuple(result.keys()), (tuple(row) for batch in batches for row in batch))


def _reject_foreign_files(target: Path) -> None:
    hint = "choose a folder that is new, empty, or an earlier export"
    if not target.parent.is_dir():
        raise UsageError(
            f"cannot export to {target}: there is no folder {target.parent}", f"mkdir -p '{target.parent}'"
        )
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"cannot export to {target}: it is not a folder", hint)
    if not target.exists():
        return
    exported = {MANIFEST, *(name for view in views.public_views() for name in (view.name, f"{view.name}.csv"))}
    present = {file.name for file in target.iterdir()}
    if MANIFEST not in present:
        exported = set()
    if foreign := sorted(present - exported):
        raise UsageError(f"cannot export to {target}: other files would be lost ({', '.join(foreign[:3])})", hint)


def _write_view(
    connection: sa.Connection,
    view: views.View,
    accounts: list[str],
    folder: Path,
    file_format: Format,
    exported_at: datetime,
    *,
    is_safe: bool,
) -> int:
    """Write the rows of these accounts and return their number. A view without rows still gets a file with its
    columns."""
    source = _source(view, accounts)
    rows: int = connection.exec_driver_sql(f"select count(*) from {source}").scalar_one()
    if file_format == "csv":
        with (
            _rows(connection, view, accounts) as result,
            (folder / f"{view.name}.csv").open("w", encoding="utf-8", newline="") as file,
        ):
            write_csv(result, file, is_safe=is_safe)
        return rows
    is_hourly = "hour_end" in view.columns
    path, name = folder / view.name, f"{exported_at:%Y%m%dT%H%M%S%f}"
    if rows:
        month = ", strftime(hour_start, '%Y-%m') as month" if is_hourly else ""
        select = f"select *{month} from {source} order by all"
        partitions = "account, month" if is_hourly else "account"
        options = f"format parquet, partition_by ({partitions}), filename_pattern '{name}_{{i}}'"
    else:
        select, options = f"select * exclude (account) from {source}", "format parquet"
        path /= f"account={quote((accounts or ['none'])[0], safe='')}"
        path = path / (f"month={exported_at:%Y-%m}" if is_hourly else "") / f"{name}_0.parquet"
        path.parent.mkdir(parents=True)
    connection.exec_driver_sql(f"copy ({select}) to {quoted(path)} ({options})")
    return rows

"""Export the views to a folder of Hive-partitioned Parquet or CSV files. The folder is replaced atomically.

    DIR/spending_hourly/account=NAME/month=2026-11/TIME_0.parquet    hourly views
    DIR/spending_daily/account=NAME/TIME_0.parquet                   other views
    DIR/spending_daily.csv                                           CSV: one file per view, with an account column
    DIR/_export.json                                                 contents and time of the export

Parquet files do not repeat the partition columns. TIME is the time of the export, so files of two exports never have
the same name: a reader that still has the old list of files gets an error, not a mixture.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa

from etl import __version__
from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import atomic, publish
from etl.outputs.accounts import select_accounts
from etl.outputs.query import BATCH_SIZE, Result, write_csv
from etl.outputs.serialize import as_json
from etl.warehouse import views
from etl.warehouse.duckdb import quoted
from etl.warehouse.engine import open_warehouse, warehouse_url

Format = Literal["parquet", "csv"]

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
    mode: int = 0o600,
) -> dict[str, int]:
    """Write every view, of one account or of all, to the folder ``target``, and return its number of rows by view.

    All rows are from one moment. The warehouse is locked while it is copied, not while files are written; files get
    ``mode``. On any error ``target`` is unchanged. Raises UsageError for an unknown account and for a ``target`` that
    contains other files; WarehouseError as ``publish`` does.
    """
    _reject_foreign_files(target)
    with atomic.temporary_beside(target, clock, wait=wait) as temporary:
        folder, warehouse = temporary / target.name, temporary / "copy" / "warehouse.duckdb"
        folder.mkdir()
        warehouse.parent.mkdir()
        exported_at = clock.now().astimezone(UTC)
        publish.copy(url, warehouse, clock, wait=wait)
        with open_warehouse(
            warehouse_url(str(warehouse)), read_only=True, writable_folder=folder
        ).connect() as connection:
            accounts = list(select_accounts(connection, account))
            rows = {
                view.name: _write_view(connection, view, accounts, folder, file_format, exported_at)
                for view in views.public_views()
            }
        manifest = {
            "program": f"anticaptcha-etl {__version__}",
            "exported_at": exported_at,
            "account": account,
            "format": file_format,
            "rows": rows,
        }
        (folder / MANIFEST).write_text(as_json(manifest) + "\n", "utf-8")
        atomic.replace_with(folder, target, mode)
    return rows


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
) -> int:
    """Write the rows of these accounts and return their number. A view without rows still gets a file with its
    columns."""
    source = f"(from {view.name} where account in ({', '.join(map(quoted, accounts)) or 'null'}))"
    rows: int = connection.exec_driver_sql(f"select count(*) from {source}").scalar_one()
    if file_format == "csv":
        result = connection.exec_driver_sql(f"from {source} order by all")
        with result, (folder / f"{view.name}.csv").open("w", encoding="utf-8", newline="") as file:
            batches = result.partitions(BATCH_SIZE)
            write_csv(Result(tuple(result.keys()), (tuple(row) for batch in batches for row in batch)), file)
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

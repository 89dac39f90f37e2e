"""The views as open files: Hive-partitioned Parquet, or CSV. A folder that is replaced whole.

    DIR/spending_hourly/account=NAME/month=2026-11/TIME.parquet    views by the hour
    DIR/spending_daily/account=NAME/TIME.parquet                   the other views
    DIR/spending_daily.csv                                         CSV: a file a view, with its account in each row
    DIR/_export.json                                               what is in it, and as of when

Partitions are not repeated inside the files. TIME is when the export was made: a file of one export is never taken for one of
another, so whoever still reads the folder before fails and does not mix them.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import sqlalchemy as sa

from etl import __version__
from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import atomic, publish
from etl.outputs.accounts import chosen
from etl.outputs.query import Result, write_csv
from etl.outputs.serialize import as_json
from etl.warehouse import views
from etl.warehouse.duckdb import quoted
from etl.warehouse.engine import open_warehouse, warehouse_url

Format = Literal["parquet", "csv"]

ABOUT = "_export.json"
"""Readers of a folder of Parquet pass over names that begin with an underscore."""

_AT_ONCE = 10_000


class Exported(NamedTuple):
    """A folder in its place, and how many rows it has by view."""

    path: Path
    rows: dict[str, int]


def export(
    url: str, target: Path, form: Format, clock: Clock, *, wait: float, account: str | None = None, mode: int = 0o600
) -> Exported:
    """Writes every view, of one account or of all, into ``target``, which is replaced whole. All rows are of one moment.

    ``mode`` is of each file. The warehouse is held while it is copied, not while files are written. Raises UsageError for an
    account that is not held and for a ``target`` with files that no export wrote; WarehouseError as ``publish`` does. ``target``
    then is as it was.
    """
    _refuse_strangers(target)
    with atomic.temporary_beside(target, clock, wait=wait) as draft:
        made, warehouse = draft / target.name, draft / "copy" / "warehouse.duckdb"
        made.mkdir()
        warehouse.parent.mkdir()
        at = clock.now().astimezone(UTC)
        publish.copy(url, warehouse, clock, wait=wait)
        with open_warehouse(warehouse_url(str(warehouse)), read_only=True, atomic=made).connect() as connection:
            accounts = list(chosen(connection, account))
            rows = {view.name: _write(connection, view, accounts, made, form, at) for view in views.shared()}
        about = {
            "program": f"anticaptcha-etl {__version__}",
            "exported_at": at,
            "account": account,
            "format": form,
            "rows": rows,
        }
        (made / ABOUT).write_text(as_json(about) + "\n", "utf-8")
        atomic.replace_with(made, target, mode)
    return Exported(target, rows)


def _refuse_strangers(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", f"mkdir -p '{target.parent}'")
    if not target.exists():
        return
    if not target.is_dir() or target.is_symlink():
        raise UsageError(f"{target} is not a folder", "name a folder that is new, empty, or of an earlier export")
    ours = {ABOUT, *(name for view in views.shared() for name in (view.name, f"{view.name}.csv"))}
    there = {file.name for file in target.iterdir()}
    if strange := sorted(there - ours) or sorted(there - {ABOUT} if ABOUT not in there else ()):
        raise UsageError(
            f"{target} holds what no export wrote: {', '.join(strange[:3])}; it would be gone",
            "name a folder that is new, empty, or of an earlier export",
        )


def _write(
    connection: sa.Connection, view: views.View, accounts: list[str], folder: Path, form: Format, at: datetime
) -> int:
    """Writes the view's rows of these accounts; their number. Without a row there is still a file that has its columns."""
    source = f"(from {view.name} where account in ({', '.join(map(quoted, accounts)) or 'null'}))"
    rows: int = connection.exec_driver_sql(f"select count(*) from {source}").scalar_one()
    if form == "csv":
        _write_csv(connection, source, folder / f"{view.name}.csv")
        return rows
    by, month = (
        ("account, month", ", strftime(hour_start, '%Y-%m') as month")
        if "hour_end" in view.columns
        else ("account", "")
    )
    path, name = folder / view.name, f"{at:%Y%m%dT%H%M%S%f}"
    if rows:
        copied = f"select *{month} from {source} order by all"
        options = f"format parquet, partition_by ({by}), filename_pattern '{name}_{{i}}'"
    else:
        copied, options = f"select * exclude (account) from {source}", "format parquet"
        path = (
            path
            / f"account={quote((accounts or ['none'])[0], safe='')}"
            / (f"month={at:%Y-%m}" if month else "")
            / f"{name}_0.parquet"
        )
        path.parent.mkdir(parents=True)
    connection.exec_driver_sql(f"copy ({copied}) to {quoted(path)} ({options})")
    return rows


def _write_csv(connection: sa.Connection, source: str, path: Path) -> None:
    with (
        connection.exec_driver_sql(f"from {source} order by all") as result,
        path.open("w", encoding="utf-8", newline="") as to,
    ):
        write_csv(
            Result(tuple(result.keys()), (tuple(row) for part in result.partitions(_AT_ONCE) for row in part)), to
        )

"""The commands ``publish`` and ``export``, and publishing after a sync."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from etl.cli.context import CliContext, selected_account
from etl.cli.options import NAME, common, complete_view, one_account, safe_csv, setting
from etl.cli.output import output_target, show
from etl.config import CONFIG_NAME, Settings
from etl.errors import ChecksFailedError, UsageError, WarehouseError
from etl.sync.summary import count

if TYPE_CHECKING:
    from etl.clock import Clock
    from etl.sync.results import FleetResult


@click.command()
@click.argument("path", required=False)
@click.option("--force", is_flag=True, help="Publish even if a blocking check fails.")
@click.option("--despite-findings", "force", is_flag=True, hidden=True, help="Old name of --force.")
@setting("checks_folder", "Folder with your own SQL checks, run as well.", metavar="DIR")
@common
@click.pass_obj
def publish(context: CliContext, path: str | None, force: bool) -> None:
    """Write a read-only copy for BI tools.

    Replaces the previous copy atomically: readers see the old state or the new one and never block a sync. The copy
    contains the views and their tables, but no raw responses and no key data. If a blocking check fails, the
    previous copy stays (exit code 5). PATH is a file or a folder; without it the setting publish is used, and
    sync then publishes by itself.

    \b
    anticaptcha-etl publish /srv/bi
    anticaptcha-etl publish /srv/bi/spending.duckdb
    """
    from etl.outputs.publish import publish as write_copy
    from etl.outputs.publish import resolve_target

    if path is not None:
        context.given["publish"] = path
    settings = context.settings()
    if settings.publish is None:
        raise UsageError("no path to publish to", f"{NAME} publish PATH, or set publish = PATH in {CONFIG_NAME}")
    target = resolve_target(settings.warehouse, settings.publish)
    wait, checks = settings.lock_wait, settings.checks_folder
    made = write_copy(settings.warehouse, target, context.clock, wait=wait, checks_folder=checks, force=force)
    hours = count(made.rows["spending_hourly"], "row")
    text = f"Published {made.path}: {hours} in spending_hourly, {made.size:,} bytes"
    show(context, {"path": made.path, "bytes": made.size, "rows": made.rows}, text, quiet=settings.quiet)


@click.command()
@click.argument("target", metavar="DIR|FILE.xlsx")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "xlsx"]),
    help="File format.  [default: xlsx for FILE.xlsx, else parquet]",
)
@click.option(
    "--view",
    "names",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_view,
    help="Only this view. Repeatable. Without it: all views; in a workbook the daily and monthly ones.",
)
@safe_csv(default=True)
@one_account
@common
@click.pass_obj
def export(
    context: CliContext,
    target: str,
    file_format: Literal["parquet", "csv", "xlsx"] | None,
    names: tuple[str, ...],
    safe: bool,
) -> None:
    """Write views to a folder as Parquet or CSV files, or to an Excel workbook.

    Parquet files are Hive-partitioned. DIR is replaced as a whole, so readers never see a half-written export. It must
    be new, empty, or an earlier export. A workbook has a sheet for each view, and requires the extra `excel`:
    pip install '.[excel]'. Excel keeps 15 digits of a number; numbers with more are written as text.

    \b
    anticaptcha-etl export lake
    anticaptcha-etl export --format csv --account shop sheets
    anticaptcha-etl export spending.xlsx --view spending_daily
    """
    from etl.outputs.export import export as write_files
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    path = (context.environment.folder / Path(target).expanduser()).absolute()
    output_target(target, warehouse_url(settings.warehouse), context)  # refuses the warehouse itself
    rows = write_files(
        settings.warehouse,
        path,
        file_format or ("xlsx" if path.suffix.lower() == ".xlsx" else "parquet"),
        context.clock,
        wait=settings.lock_wait,
        account=selected_account(settings),
        names=names,
        is_safe=safe,
        mode=context.file_mode,
    )
    text = f"Exported {count(len(rows), 'view')}, {count(sum(rows.values()), 'row')} to {path}"
    show(context, {"path": path, "rows": rows}, text, quiet=settings.quiet)


def publish_after_sync(settings: Settings, path: Path, clock: "Clock", *, is_changed: bool) -> None:
    """Publish if the sync read something or there is no copy yet. Errors outrank the result of the sync itself."""
    import logging

    from etl.outputs.publish import publish as write_copy
    from etl.outputs.publish import resolve_target

    try:
        target = resolve_target(settings.warehouse, path)
        if target.exists() and not is_changed:
            return
        write_copy(settings.warehouse, target, clock, wait=settings.lock_wait, checks_folder=settings.checks_folder)
    except ChecksFailedError as error:
        reason = error.message.removeprefix("not published: ")
        raise ChecksFailedError(f"data is loaded, but not published: {reason}", error.hint) from error
    except (UsageError, WarehouseError) as error:
        raise WarehouseError(f"data is loaded, but not published: {error.message}", error.hint) from error
    logging.getLogger(__name__).info("published %s", target)


def publish_after_fleet(defaults: Settings, result: "FleetResult", clock: "Clock") -> None:
    """Publish each warehouse once, if that is set; usually all accounts share one."""
    from etl.outputs.publish import is_folder

    path = defaults.publish
    if path is None:
        return

    changed: dict[str, bool] = {}
    for outcome in result.outcomes:
        if outcome.settings:
            found = outcome.result
            is_changed = found is not None and bool(found.requests or found.facts_changed)
            warehouse = outcome.settings.warehouse
            changed[warehouse] = changed.get(warehouse, False) or is_changed
    if len(changed) > 1 and not is_folder(path):
        raise WarehouseError(
            f"data is loaded, but not published: {len(changed)} warehouses cannot share the file {path}",
            "set publish to a folder",
        )
    for warehouse, is_changed in changed.items():
        publish_after_sync(replace(defaults, warehouse=warehouse), path, clock, is_changed=is_changed)

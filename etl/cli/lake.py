"""The commands ``lake push``, ``lake status`` and ``lake optimize``, and shipping after a sync."""

from collections.abc import Iterable
from dataclasses import replace as changed
from typing import TYPE_CHECKING

import click

from etl.cli.context import CliContext
from etl.cli.options import NAME, common, setting
from etl.cli.output import show
from etl.config import CONFIG_NAME, Settings
from etl.errors import UsageError, WarehouseError
from etl.sync.summary import count

if TYPE_CHECKING:
    from etl.clock import Clock
    from etl.sync.results import FleetResult

location = setting("lake", "Folder or URL (s3://, gs://, az://) of the Delta lake.", metavar="URL")


@click.group()
def lake() -> None:
    """Ship the views to a Delta lake, for engines that read many accounts.

    \b
    anticaptcha-etl lake push --lake s3://bucket/spending
    anticaptcha-etl lake status
    """


@lake.command()
@location
@click.option("--replace", is_flag=True, help="Ship accounts from the beginning that the lake has from elsewhere.")
@common
@click.pass_obj
def push(context: CliContext, replace: bool) -> None:
    """Ship the days that changed since the last shipment.

    With the setting lake, sync ships by itself. Repeating a shipment changes nothing. If the lake has a newer state of
    an account than the warehouse, as after restoring a backup, nothing is shipped (exit code 4); --replace makes the
    lake like the warehouse.

    \b
    anticaptcha-etl lake push --lake s3://bucket/spending
    """
    from etl.outputs.lake.push import push as ship

    settings = context.settings()
    target = _location(settings)
    made = ship(settings.warehouse, target, context.clock, wait=settings.lock_wait, is_replacement=replace)
    rows = count(sum(made.rows.values()), "row")
    text = f"Shipped {count(made.accounts, 'account')}, {rows} to {target}" if made.accounts else "Nothing to ship"
    show(context, {"lake": target, **made._asdict()}, text, quiet=settings.quiet)


@lake.command()
@location
@common
@click.pass_obj
def status(context: CliContext) -> None:
    """Show how far the lake is behind the warehouse, its files and bytes.

    \b
    anticaptcha-etl lake status
    """
    from etl.outputs.lake.status import load_status

    settings = context.settings()
    found = load_status(settings.warehouse, _location(settings), context.clock, wait=settings.lock_wait)
    until = f"{found.complete_until:%Y-%m-%d %H:%M} UTC" if found.complete_until else "nothing"
    lines = [
        f"Lake {found.location}: {count(found.files, 'file')}, {found.bytes:,} bytes, {found.buckets} buckets",
        f"  {count(found.shipped, 'account')}, complete until {until}",
    ]
    if found.behind:
        lines.append(f"  behind: {count(found.behind, 'account')}, {count(found.days_behind, 'day')}; {NAME} lake push")
    for number, what in ((found.foreign, "shipped by another warehouse"), (found.diverged, "newer in the lake")):
        if number:
            lines.append(f"  {count(number, 'account')} {what}; {NAME} lake push explains it")
    show(context, found, "\n".join(lines))


@lake.command()
@location
@common
@click.pass_obj
def optimize(context: CliContext) -> None:
    """Join small files, and delete files that nobody has needed for a week.

    \b
    anticaptcha-etl lake optimize
    """
    from etl.outputs.lake import delta

    settings = context.settings()
    target = _location(settings)
    results = [delta.optimize(table, target) for table in delta.open_lake(target, create=False).tables.values()]
    joined, deleted = (sum(column) for column in zip(*results, strict=True))
    text = f"Joined {count(joined, 'file')}, deleted {count(deleted, 'file')} in {target}"
    show(context, {"lake": target, "joined": joined, "deleted": deleted}, text, quiet=settings.quiet)


def _location(settings: Settings) -> str:
    if settings.lake is None:
        raise UsageError("no lake is set", f"--lake URL, or set lake = URL in {CONFIG_NAME}")
    return settings.lake


def ship_after_sync(settings: Settings, clock: "Clock", names: Iterable[str]) -> None:
    """Ship these accounts if a lake is set. Errors outrank the result of the sync itself."""
    if settings.lake is None:
        return
    import logging

    from etl.outputs.lake.push import push as ship

    try:
        ship(settings.warehouse, settings.lake, clock, wait=settings.lock_wait, names=names)
    except (UsageError, WarehouseError) as error:
        raise WarehouseError(f"data is loaded, but not shipped to the lake: {error.message}", error.hint) from error
    logging.getLogger(__name__).info("shipped to %s", settings.lake)


def ship_after_fleet(defaults: Settings, result: "FleetResult", clock: "Clock") -> None:
    """Ship the accounts of each warehouse together."""
    names: dict[str, list[str]] = {}
    for outcome in result.outcomes:
        if outcome.settings and outcome.result:
            names.setdefault(outcome.settings.warehouse, []).append(outcome.account)
    for warehouse, accounts in names.items():
        ship_after_sync(changed(defaults, warehouse=warehouse), clock, accounts)

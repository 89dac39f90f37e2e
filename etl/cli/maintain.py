"""The commands ``replay``, ``migrate``, ``transfer`` and ``doctor``."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.cli.context import CliContext
from etl.cli.options import common, setting
from etl.cli.output import show
from etl.errors import ChecksFailedError, UsageError
from etl.sync.summary import count

if TYPE_CHECKING:
    from etl.models import Measures
    from etl.sync.replay import ReplayResult

MAX_DIFFERENCES = 20
"""Differences that a replay lists."""


@click.command()
@setting("account", "Name of the account in the warehouse.", metavar="NAME")
@common
@click.pass_obj
def replay(context: CliContext) -> None:
    """Rebuild facts from stored raw responses, without the API.

    Recomputes every fact and revision with the rules that loaded it and reports differences. There are none unless
    the warehouse was damaged or this version reads a response better. Days whose raw responses were deleted stay
    as they are. It can be stopped at any time and run again.

    \b
    anticaptcha-etl replay
    anticaptcha-etl replay --account shop
    """
    from etl.sync.replay import replay as replay_account

    context.keeps_progress = True
    settings = context.settings()
    result = replay_account(settings, context.clock)
    context.code = ChecksFailedError.exit_code if result.unreadable else 0
    quiet = settings.quiet and not (result.rows or result.unreadable)
    show(context, result, "\n".join(_replay_lines(result)), quiet=quiet)


def _replay_lines(result: "ReplayResult") -> Iterable[str]:
    counts = (count(result.days, "day"), count(result.snapshots, "snapshot"), count(result.facts, "fact"))
    yield f"Replayed {result.account}: {', '.join(counts)}"
    for found in result.differences[:MAX_DIFFERENCES]:
        stored, expected = _format_measures(found.stored), _format_measures(found.recomputed)
        yield f"  {found.hour_start:%Y-%m-%d %H:%M} {found.series}: stored {stored}, its response says {expected}"
    if len(result.differences) > MAX_DIFFERENCES:
        yield f"  and {count(len(result.differences) - MAX_DIFFERENCES, 'more difference')}"
    for table, rows in sorted(result.rows.items()):
        yield f"  {count(rows, 'row')} of {table} corrected"
    if not result.rows:
        yield "  no differences"
    for days, reason in (
        (result.dropped, "their raw responses were deleted (raw retention)"),
        (result.unreadable, "their raw responses are missing or damaged; restore them from a backup"),
    ):
        if days:
            yield f"  {count(len(days), 'day')} ({min(days)} to {max(days)}) left unchanged: {reason}"


def _format_measures(value: "Measures | None") -> str:
    return "nothing" if value is None else f"{value.volume:,} tasks, ${value.money:f}"


@click.command()
@click.option(
    "--to", "revision", metavar="REVISION", help="Target revision. Without it: the newest, or with --down the previous."
)
@click.option("--down", is_flag=True, help="Downgrade; data that only newer tables hold is lost.")
@common
@click.pass_obj
def migrate(context: CliContext, revision: str | None, down: bool) -> None:
    """Upgrade or downgrade the schema; sync upgrades by itself.

    Creates the schema in an empty PostgreSQL database, but no DuckDB file. --down --to base drops all tables.

    \b
    anticaptcha-etl migrate
    anticaptcha-etl migrate --down --to 0001
    """
    from etl.warehouse.engine import name_of, open_warehouse, require_warehouse, warehouse_path, warehouse_url
    from etl.warehouse.migrate import current, downgrade, revisions, upgrade

    settings = context.settings()
    url = warehouse_url(settings.warehouse)
    if warehouse_path(url):  # a mistyped path must not become a new warehouse
        require_warehouse(url, wait=settings.lock_wait, clock=context.clock)
    engine = open_warehouse(url, wait=settings.lock_wait, clock=context.clock)
    before = current(engine) or "base"
    target = _target_revision(["base", *revisions()], before, revision, down=down)
    if down:
        downgrade(engine, target)
    else:
        upgrade(engine, target)
    change = f"{before} -> {target}" if before != target else f"{target}, nothing to do"
    result = {"warehouse": name_of(url), "before": before, "after": target}
    show(context, result, f"{name_of(url)}: schema {change}", quiet=settings.quiet)


def _target_revision(known: list[str], before: str, revision: str | None, *, down: bool) -> str:
    """The revision to migrate to. If the warehouse has an unknown revision, the migration itself refuses it."""
    if revision and revision not in known:
        raise UsageError(f"unknown revision {revision}", f"known: {', '.join(known)}")
    if before not in known:
        return revision or known[-1]
    index = known.index(before)
    if down and not revision and index <= 1:
        raise UsageError(
            f"schema {before} is the first; going further back drops every table", "add --to base if you want that"
        )
    target = revision or (known[index - 1] if down else known[-1])
    is_wrong_way = known.index(target) > index if down else known.index(target) < index
    if is_wrong_way:
        relation = "newer" if down else "older"
        raise UsageError(
            f"revision {target} is {relation} than the current schema {before}",
            "leave out --down" if down else "add --down to downgrade",
        )
    return target


@click.command()
@click.argument("source")
@click.argument("target")
@common
@click.pass_obj
def transfer(context: CliContext, source: str, target: str) -> None:
    """Copy a warehouse to another engine or file, verified.

    Copies everything: facts, snapshots, raw responses, revisions and sync state. Row counts and checksums of both
    sides are compared before the commit, so TARGET is exactly equal or unchanged. TARGET must be new or have no
    accounts. Stop syncs into SOURCE first; afterwards use TARGET with --warehouse.

    \b
    anticaptcha-etl transfer warehouse.duckdb postgresql+psycopg://db.example/etl
    anticaptcha-etl transfer postgresql+psycopg://db.example/etl archive.duckdb
    """
    from etl.maintenance.transfer import transfer as copy_warehouse

    settings = context.settings()

    def resolve(text: str) -> str:
        return text if "://" in text else str(context.environment.folder / Path(text).expanduser())

    made = copy_warehouse(resolve(source), resolve(target), context.clock, wait=settings.lock_wait)
    tables = [f"  {table:<23} {count(rows, 'row')}" for table, rows in made.rows.items()]
    totals = [f"  {account}: {_format_measures(total)} on both sides" for account, total in made.spent.items()]
    show(context, made, "\n".join([f"{made.source} -> {made.target}", *tables, *totals]), quiet=settings.quiet)


@click.command()
@setting("account", "Account whose key and history to check.", metavar="NAME")
@click.option("--probe", is_flag=True, help="Probe undocumented API behaviour (at most 11 requests, one per second).")
@common
@click.pass_obj
def doctor(context: CliContext, probe: bool) -> None:
    """Check settings, API key, warehouse and API; suggest fixes.

    Sends one API request without the key; with --probe at most 11 with it, and stores what they show. The exit code
    is the one a sync would end with; 0 if there are only warnings. The output contains no secrets.

    \b
    anticaptcha-etl doctor
    anticaptcha-etl doctor --probe
    anticaptcha-etl doctor --json > doctor.json
    """
    from etl.maintenance.doctor import run_diagnostics
    from etl.maintenance.doctor_output import as_text, to_json

    with suppress(UsageError):  # reported below as a diagnostic
        context.settings()
    found = run_diagnostics(context.given, context.environment, context.clock, probe=probe)
    context.code = found.exit_code
    if found.needs_attention or not found.quiet:
        click.echo(to_json(found) if context.as_json else as_text(found), nl=False)

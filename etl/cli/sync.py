"""The commands ``sync`` and ``plan``."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from etl.cli.alerts import alerts_after_sync
from etl.cli.context import CliContext
from etl.cli.lake import ship_after_fleet, ship_after_sync
from etl.cli.options import common, setting, sync_options
from etl.cli.output import INTERNAL_ERROR_MESSAGE, log_event, outcome_fields, print_error, show
from etl.cli.publish import publish_after_fleet, publish_after_sync
from etl.config import SETTINGS, Settings
from etl.errors import AppError, UsageError, most_severe
from etl.sync.summary import (
    count,
    format_fleet_plan,
    format_fleet_result,
    format_outcome,
    format_plan,
    format_result,
    total_counts,
)

if TYPE_CHECKING:
    from etl.clock import Clock
    from etl.progress import ProgressLine
    from etl.sync.results import AccountOutcome


@click.command()
@sync_options
@setting("accounts_at_once", "With --all: number of accounts to sync at the same time, 1 to 64.", metavar="N")
@click.option("--dry-run", is_flag=True, help="Only show which requests sync would make; the same as plan.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "off"]),
    default="auto",
    show_default=True,
    help="On standard error: a redrawn line in a terminal, else log lines; one JSON object a second; or nothing.",
)
@common
@click.pass_obj
def sync(context: CliContext, all_accounts: bool, dry_run: bool, progress: str) -> None:
    """Bring the warehouse up to date.

    Pages backward day by day, fills gaps and re-reads recent days. It can be stopped at any time; the next
    run continues. All days are UTC days.

    \b
    anticaptcha-etl sync                         the whole history
    anticaptcha-etl sync --since 2024-01-01      from that day on
    anticaptcha-etl sync --queue "Recaptcha Proxyless" --queue FunCaptcha
    anticaptcha-etl sync --soft-id 1011 --soft-id 1022 --ip 192.0.2.10
    anticaptcha-etl sync --max-requests 1000     stop early; run again to continue
    anticaptcha-etl sync --all                   every configured account
    """
    _check_fleet_options(context, all_accounts)
    if dry_run:
        _plan(context, all_accounts)
        return
    context.keeps_progress = True
    if all_accounts:
        _sync_fleet(context, progress)
    else:
        _sync_account(context, progress)


@click.command()
@sync_options
@common
@click.pass_obj
def plan(context: CliContext, all_accounts: bool) -> None:
    """Show which requests sync would make, without making them.

    Days, requests (lower and upper bound) and the time they take at the given --rate.

    \b
    anticaptcha-etl plan
    anticaptcha-etl plan --since 2024-01-01 --rate 2
    anticaptcha-etl plan --all
    """
    _check_fleet_options(context, all_accounts)
    _plan(context, all_accounts)


def _check_fleet_options(context: CliContext, all_accounts: bool) -> None:
    for name in ("shard", "accounts_at_once"):
        if name in context.given and not all_accounts:
            raise UsageError(f"{SETTINGS[name].flag} requires --all", "add --all, or leave the option out")


def _plan(context: CliContext, all_accounts: bool) -> None:
    if all_accounts:
        from etl.sync import fleet

        accounts, defaults = context.accounts()
        plans, failed = fleet.plan_accounts(accounts, defaults, context.clock)
        context.code = most_severe([outcome.exit_code for outcome in failed])
        result = {"accounts": plans, "failed": [outcome_fields(outcome) for outcome in failed]}
        show(context, result, "\n".join(format_fleet_plan(plans, failed, defaults.rate)))
        return
    from etl.sync.plan import plan_account

    settings = context.settings()
    found = plan_account(settings, context.clock)
    show(context, found, "\n".join(format_plan(found)))


def _sync_account(context: CliContext, form: str) -> None:
    from etl import progress
    from etl.sync.run import sync_account

    line = progress.ProgressLine(sys.stderr)
    settings = context.settings(needs_key=True, stream=line)
    watch = _reporter(form, settings, context.clock, line, progress.describe, lambda state: state.days_done)
    try:
        result = sync_account(settings, context.clock, watch)
    finally:
        line.erase()
    context.code = result.exit_code
    context.report_lines += format_result(result, verbose=settings.verbose)
    if settings.log_format == "json":
        log_event("sync done", asdict(result), needs_attention=result.needs_attention)
    if context.as_json or settings.log_format != "json":
        quiet = settings.quiet and not result.needs_attention
        show(context, result, "\n".join(context.report_lines), quiet=quiet)
    if settings.publish:
        is_changed = bool(result.requests or result.facts_changed)
        publish_after_sync(settings, settings.publish, context.clock, is_changed=is_changed)
    ship_after_sync(settings, context.clock, [settings.account])
    alerts_after_sync(settings, context.clock)


def _sync_fleet(context: CliContext, form: str) -> None:
    from etl import progress
    from etl.sync import fleet

    line = progress.ProgressLine(sys.stderr)
    accounts, defaults = context.accounts(stream=line)
    context.ping_url = defaults.ping_url
    watch = _reporter(form, defaults, context.clock, line, progress.describe_fleet, lambda state: state.requests)
    try:
        report = partial(_report_outcome, context)
        result = fleet.sync_accounts(accounts, defaults, context.clock, watch, report)
    finally:
        line.erase()
    context.code = result.exit_code
    if not result.was_interrupted:
        for pass_on in (publish_after_fleet, ship_after_fleet):
            try:
                pass_on(defaults, result, context.clock)
            except AppError as error:
                print_error(error, context)
                context.code = most_severe([context.code, error.exit_code])
    for outcome in result.outcomes:
        if outcome.settings and outcome.result:
            alerts_after_sync(outcome.settings, context.clock)
    context.report_lines += format_fleet_result(result, context.code)
    needs_attention = context.code != 0 or any(outcome.needs_attention for outcome in result.outcomes)
    if defaults.log_format == "json":
        counts = {"accounts": len(result.outcomes), "not_begun": result.not_started, **total_counts(result.results)}
        log_event("all synced", counts | {"exit_code": context.code}, needs_attention=needs_attention)
    if context.as_json or defaults.log_format != "json":
        fields = {
            "exit_code": context.code,
            "accounts": [outcome_fields(outcome) for outcome in result.outcomes],
            "not_started": result.not_started,
        }
        text = "\n".join(format_fleet_result(result, context.code, only_attention=defaults.quiet))
        show(context, fields, text, quiet=defaults.quiet and not needs_attention)


def _reporter(
    form: str,
    settings: Settings,
    clock: "Clock",
    line: "ProgressLine",
    describe: Callable[[Any], str],
    steps: Callable[[Any], int],
) -> Callable[[Any], None]:
    """Report progress on one redrawn line in a terminal, otherwise as log lines, or as ``form`` says."""
    from etl import progress

    if form != "auto":
        return progress.json_reporter(line, clock.monotonic) if form == "json" else lambda _: None
    if sys.stderr.isatty() and not settings.quiet and settings.log_format == "text":
        return progress.terminal_reporter(line, clock.monotonic, describe)
    return progress.log_reporter(clock.monotonic, describe, steps)


def _report_outcome(context: CliContext, outcome: "AccountOutcome") -> None:
    """Log the outcome of one of several accounts when it ends, and call its own health check."""
    import logging

    log, is_json = logging.getLogger(__name__), context.log_format == "json"
    if outcome.crash:
        log.error("%s", INTERNAL_ERROR_MESSAGE, exc_info=outcome.crash, extra={"exit_code": outcome.exit_code})
    elif outcome.problem and is_json:
        extra = {"remedy": outcome.problem.hint, "exit_code": outcome.exit_code}
        log.error(outcome.problem.message, extra=extra)
    elif outcome.problem:  # the hint follows in the summary
        log.warning("exit code %d: %s", outcome.exit_code, outcome.problem.message)
    elif outcome.result and is_json:
        log_event("sync done", asdict(outcome.result), needs_attention=outcome.needs_attention)
    elif outcome.result:
        days, requests = count(outcome.result.days, "day"), count(outcome.result.requests, "request")
        log.info("exit code %d: %s, %s", outcome.exit_code, days, requests)
    settings = outcome.settings
    if settings and settings.ping_url and settings.sources["ping_url"].startswith("[accounts."):
        from etl.maintenance.notify import ping

        text = format_result(outcome.result) if outcome.result else format_outcome(outcome)
        ping(settings.ping_url, outcome.exit_code, "\n".join(text))

"""The command ``alerts``, and evaluating alerts after a sync."""

from typing import TYPE_CHECKING

import click

from etl.cli.context import CliContext
from etl.cli.options import NAME, all_accounts, common, setting
from etl.cli.output import outcome_fields, show
from etl.config import CONFIG_NAME, Settings
from etl.errors import AppError, ChecksFailedError, UsageError, most_severe

if TYPE_CHECKING:
    from etl.clock import Clock
    from etl.maintenance.alerting import AlertsResult


@click.command()
@setting("account", "Account in the warehouse and in the configuration file.", metavar="NAME")
@all_accounts
@common
@click.pass_obj
def alerts(context: CliContext, all_accounts: bool) -> None:
    """Evaluate the alert rules; exit code 5 if one fires.

    The rules are the [[alerts]] of the configuration file: budgets, runway, anomalies, prices, stale and unattributed
    data. sync evaluates them after loading. Each event is delivered to the URLs of notify once when it begins and once
    when it ends.

    \b
    anticaptcha-etl alerts
    anticaptcha-etl alerts --account shop --json
    anticaptcha-etl alerts --all                 every configured account
    """
    if all_accounts:
        _evaluate_all(context)
        return
    from etl.maintenance.alerting import run_alerts

    settings = context.settings()
    if not settings.alerts:
        raise UsageError(f"no alert rules for account {settings.account}", f"add [[alerts]] to {CONFIG_NAME}")
    result = run_alerts(settings, context.clock)
    show(context, result, _as_text(result), quiet=settings.quiet and not result.alerts)
    if result.alerts:
        context.code = ChecksFailedError.exit_code


def _evaluate_all(context: CliContext) -> None:
    """Evaluate the rules of each account. One that cannot be evaluated does not stop the others."""
    from etl.maintenance.alerting import AlertsResult, run_alerts
    from etl.sync.results import AccountOutcome
    from etl.sync.summary import format_outcome

    accounts, defaults = context.accounts()
    results, failed = list[AlertsResult](), list[AccountOutcome]()
    for name in accounts.names:
        try:
            settings = accounts.settings(name, context.clock.now())
            if settings.alerts:
                results.append(run_alerts(settings, context.clock))
        except AppError as problem:
            failed.append(AccountOutcome(name, problem.exit_code, problem=problem))
    if not results and not failed:
        raise UsageError("no account has alert rules", f"add [[alerts]] to {CONFIG_NAME}")
    firing = [result for result in results if result.alerts]
    codes = [outcome.exit_code for outcome in failed]
    context.code = most_severe([*codes, ChecksFailedError.exit_code] if firing else codes)
    lines = [_as_text(result, f"{result.account}: ") for result in (firing if defaults.quiet else results)]
    lines += [line for outcome in failed for line in format_outcome(outcome)]
    fields = {"accounts": results, "failed": [outcome_fields(outcome) for outcome in failed]}
    show(context, fields, "\n".join(lines), quiet=defaults.quiet and not lines)


def _as_text(result: "AlertsResult", start: str = "") -> str:
    lines = [
        f"{start}{alert.kind}: {alert.message} (since {alert.began_at:%Y-%m-%d %H:%M} UTC)" for alert in result.alerts
    ]
    return "\n".join(lines or [f"No alerts for account {result.account}"])


def alerts_after_sync(settings: Settings, clock: "Clock") -> None:
    """Evaluate the rules of an account that was just synced. Nothing here changes how the sync ended."""
    if not settings.alerts:
        return
    import logging

    from etl.maintenance.alerting import run_alerts

    log = logging.getLogger(__name__)
    try:
        result = run_alerts(settings, clock)
    except AppError as error:
        log.warning("evaluating the alerts failed: %s; %s alerts does it again", error.message, NAME)
        return
    for alert in result.alerts:
        if alert.is_new:
            log.warning("alert: %s", alert.message)

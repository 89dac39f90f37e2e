"""The command ``alerts``, and evaluating alerts after a sync."""

from typing import TYPE_CHECKING

import click

from etl.cli.context import CliContext
from etl.cli.options import NAME, common, setting
from etl.cli.output import show
from etl.config import CONFIG_NAME, Settings
from etl.errors import AppError, ChecksFailedError, UsageError

if TYPE_CHECKING:
    from etl.clock import Clock


@click.command()
@setting("account", "Account in the warehouse and in the configuration file.", metavar="NAME")
@common
@click.pass_obj
def alerts(context: CliContext) -> None:
    """Evaluate the alert rules; exit code 5 if one fires.

    The rules are the [[alerts]] of the configuration file: budgets, runway, anomalies, prices, stale and unattributed
    data. sync evaluates them after loading. Each event is delivered to the URLs of notify once when it begins and once
    when it ends.

    \b
    anticaptcha-etl alerts
    anticaptcha-etl alerts --account shop --json
    """
    from etl.maintenance.alerting import run_alerts

    settings = context.settings()
    if not settings.alerts:
        raise UsageError(f"no alert rules for account {settings.account}", f"add [[alerts]] to {CONFIG_NAME}")
    result = run_alerts(settings, context.clock)
    lines = [f"{alert.kind}: {alert.message} (since {alert.began_at:%Y-%m-%d %H:%M} UTC)" for alert in result.alerts]
    text = "\n".join(lines or [f"No alerts for account {settings.account}"])
    show(context, result, text, quiet=settings.quiet and not result.alerts)
    if result.alerts:
        context.code = ChecksFailedError.exit_code


def alerts_after_sync(settings: Settings, clock: "Clock") -> None:
    """Evaluate the rules of an account that was just synced. Nothing here changes how the sync ended."""
    if not settings.alerts:
        return
    import logging

    from etl.maintenance.alerting import run_alerts

    log = logging.getLogger(__name__)
    try:
        result = run_alerts(settings, clock)
    except (AppError, OSError) as error:
        log.warning("the alerts were not evaluated: %s; %s alerts does it again", error, NAME)
        return
    for alert in result.alerts:
        if alert.is_new:
            log.warning("alert: %s", alert.message)

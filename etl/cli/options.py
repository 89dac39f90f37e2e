"""Options that commands share. Values are checked in ``etl.config``, the same for every source."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from etl import __version__
from etl.config import CONFIG_NAME, PREFIX, SETTINGS

NAME = "anticaptcha-etl"
COMPLETE_VARIABLE = "_ANTICAPTCHA_ETL_COMPLETE"
"""Set by the script of ``completion``; click reads it."""

Function = TypeVar("Function", bound=Callable[..., Any])


def store(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Save a value from the command line. Options before and after the command share one store; the later one wins."""
    if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
        context.obj.given[parameter.name] = value


def setting(name: str, help_text: str, *flags: str, **more: Any) -> Callable[[Function], Function]:
    """An option that can also be set in the environment and in the configuration file, with its old name hidden."""
    found = SETTINGS[name]
    default = f"{found.default:g}" if isinstance(found.default, float) else found.default
    shown = f"default: {default}, " if default not in (None, False, ()) else ""
    text = f"{help_text}  [{shown}env: {found.variable}]"
    more |= {"expose_value": False, "callback": store, "help": text}
    option = click.option(found.flag, *flags, name, **more)
    if not found.old_name:
        return option
    return _all_of(option, click.option(found.old_flag, found.old_name, hidden=True, **more))


def _all_of(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """One decorator for several options, in the order of the help text."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


common = _all_of(
    setting("warehouse", "DuckDB file or SQLAlchemy URL.", metavar="URL"),
    setting("lock_wait", "Seconds to wait for a locked warehouse; 0 fails immediately.", metavar="SECONDS"),
    click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=store,
        help="Configuration file (TOML). Paths in it start at its folder.  "
        f"[default: {CONFIG_NAME} if it exists, env: {PREFIX}CONFIG]",
    ),
    setting("verbose", "Print debug messages.", "-v", is_flag=True),
    setting("quiet", "Print only problems that need attention.", "-q", is_flag=True),
    setting("log_format", "Format of log lines on standard error: text or json.", metavar="FORMAT"),
    click.option(
        "--json", "as_json", is_flag=True, expose_value=False, help="Print the result, or the error, as JSON."
    ),
    click.version_option(
        __version__, prog_name=NAME, message="%(prog)s %(version)s", help="Print the version and exit."
    ),
)


def complete_account(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the configuration file and of the warehouse, for a shell; none if they cannot be read at once."""
    from etl.outputs.accounts import known_accounts

    del parameter
    names = known_accounts({**context.obj.given, **context.params}, context.obj.environment, context.obj.clock)
    return [name for name in names if name.startswith(incomplete)]


def complete_view(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from etl.warehouse.views import public_views

    del context, parameter
    return [view.name for view in public_views() if view.name.startswith(incomplete)]


timezone = setting(
    "timezone",
    "Time zone of the days to show, such as Europe/Istanbul; stored days and views stay UTC. If its hours begin at "
    "minute 30 or 45, an hour belongs to the day it begins on.",
    metavar="ZONE",
)

one_account = click.option(
    "--account",
    metavar="NAME",
    shell_complete=complete_account,
    expose_value=False,
    callback=store,
    help=f"Only this account. Without it: all accounts in the warehouse.  [env: {PREFIX}ACCOUNT]",
)


def safe_csv(*, default: bool) -> Callable[[Function], Function]:
    return click.option(
        "--safe-for-spreadsheets/--not-safe-for-spreadsheets",
        "safe",
        default=default,
        show_default=True,
        help="CSV: put an apostrophe before texts that a spreadsheet would run as a formula.",
    )


all_accounts = click.option("--all", "all_accounts", is_flag=True, help="All accounts in the configuration file.")

REPEATABLE = "Repeatable; comma-separated in the environment."

sync_options = _all_of(
    setting(
        "account",
        "Name of the account in the warehouse and in the configuration file.",
        metavar="NAME",
        shell_complete=complete_account,
    ),
    setting("since", "First UTC day to load, or 'all'. Saved for later runs; overrides --empty-days.", metavar="DATE"),
    setting("until", "Last UTC day to load, inclusive. Without it: today.", metavar="DATE"),
    setting("queues", f"Queue name as shown in the account's statistics. {REPEATABLE}", metavar="NAME", multiple=True),
    setting(
        "soft_ids",
        f"softId to report separately in spending_by_app_daily. {REPEATABLE}",
        metavar="N",
        multiple=True,
    ),
    setting(
        "ips", f"IP address to report separately in spending_by_ip_daily. {REPEATABLE}", metavar="ADDR", multiple=True
    ),
    setting("lookback", "Days before today to re-read on every sync; recent values may still change.", metavar="DAYS"),
    setting("spot_checks", "Read this many final days again, chosen at random. 0: none.", metavar="N"),
    setting("empty_days", "Stop looking further back after this many consecutive days without spend.", metavar="DAYS"),
    setting("concurrency", "Number of requests to send at the same time, 1 to 64.", metavar="N"),
    setting(
        "rate",
        "Maximum requests per second, of all processes if the warehouse is on a server; 0 = no limit.",
        metavar="PER_SECOND",
    ),
    setting("max_requests", "Stop after this many requests (exit code 1); run again to continue.", metavar="N"),
    setting(
        "raw_retention_days",
        "Days to keep raw responses, at least 31. Without it: all are kept. Old name: --keep-answers.",
        metavar="DAYS",
    ),
    setting(
        "state_folder",
        "Folder for responses that are not yet committed to a warehouse on a server (for a file they are beside it). "
        "Without it: $XDG_STATE_HOME/anticaptcha-etl or ~/.local/state/anticaptcha-etl.",
        metavar="DIR",
    ),
    setting("totals_only", "Load account totals only: one request per day, no queues, apps or IPs.", is_flag=True),
    setting("key_changed", "Accept a new key for an account with history, after a key rotation.", is_flag=True),
    all_accounts,
    setting("shard", "With --all: only part I of N of the accounts, I from 0 to N-1.", metavar="I/N"),
)

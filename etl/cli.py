"""The front door: parse, call, print, exit code. Each command imports its rooms when it runs, so that --help imports none."""

import errno
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import Context
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO, TypeVar

import click

from etl import __version__
from etl.config import CONFIG_NAME, PREFIX, SETTINGS, Accounts, Environment, Settings, accounts, config_path, load
from etl.errors import AppError, ChecksFailedError, InterruptedRunError, UsageError, WarehouseError, most_severe
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
    from etl.logging_setup import TextStream
    from etl.models import Measures, Secret
    from etl.sandbox.server import Fault
    from etl.sync.replay import ReplayResult
    from etl.sync.results import AccountOutcome, FleetResult

NAME = "anticaptcha-etl"
WIDEST = 100
"""Columns of a terminal that are used at most: longer lines are hard to read."""
SHOWN = 20
"""Differences that a replay spells out."""
COMMENT = re.compile(r"--(\s|.*\n)")
"""How SQL begins that begins with a comment; no option has a space after its dashes, or a line end."""
INTERNAL_ERROR = 1
"""Exit code of a defect of the program: with a traceback, so never mistaken for "windows failed"."""
DEFECT_TOLD = f"this is a defect of {NAME} {__version__}; please report it with its exception"

EPILOGUE = """\b
Exit codes:
    0  done, everything asked for is held
    1  finished, but windows failed or were left for later: run it again
    2  usage or configuration: read the message
    3  the API refused the account (key, IP, suspended): mend that first
    4  the warehouse: locked, unreadable, newer schema, disk
    5  loaded, but a blocking check or --max-age failed
  130  interrupted; what was committed stays: run it again

\b
Settings: command line over environment over anticaptcha-etl.toml over
defaults. Every --some-name is also ANTICAPTCHA_SOME_NAME, and some_name =
in the TOML, there also under [accounts.NAME]. The key is never an option:
    export ANTICAPTCHA_CLIENT_KEY=...        or
    export ANTICAPTCHA_CLIENT_KEY_FILE=PATH  or, in the TOML,
    client_key_file = "PATH" under [accounts.NAME]

\b
No key at hand?   anticaptcha-etl demo
"""


@dataclass(slots=True)
class Call:
    """One invocation: what the command line said so far, where it runs, and the exit code it is about to give."""

    place: Environment
    given: dict[str, object] = field(default_factory=dict)
    code: int = 0
    log_format: str = ""
    """Empty until the settings are read."""
    ping_url: "Secret | None" = None
    """Whom to tell how it ended: set by a command that asks the API, a sync."""
    said: list[str] = field(default_factory=list)
    """What a ping tells of the end."""
    mode: int = 0o600
    """Of the files that are made for the user: exports, reports, answers. It follows the umask."""

    def settings(self, clock: "Clock", *, needs_key: bool = False, sink: "TextStream | None" = None) -> Settings:
        """The settings, and log lines going to ``sink`` as they say; to standard error without one."""
        settings = load(self.given, clock.now(), self.place)
        self._set_up(settings, sink)
        if needs_key:
            self.ping_url = settings.ping_url  # that there is no key is told too
            settings = load(self.given, clock.now(), self.place, needs_key=True)
        _doubt(settings)
        return settings

    def accounts(self, clock: "Clock", *, sink: "TextStream | None" = None) -> tuple[Accounts, Settings]:
        """Every account of the TOML, and the settings that are no account's own; log lines as above, each saying whose it is."""
        every = accounts(self.given, self.place)
        general = every.general(clock.now())
        self._set_up(general, sink, fleet=True)
        _doubt(general)
        return every, general

    def _set_up(self, settings: Settings, sink: "TextStream | None", *, fleet: bool = False) -> None:
        from etl import logging_setup

        self.log_format = settings.log_format
        form, quiet, verbose = settings.log_format, settings.quiet, settings.verbose
        logging_setup.configure_logging(sink or sys.stderr, form=form, quiet=quiet, verbose=verbose, fleet=fleet)


def _doubt(settings: Settings) -> None:
    if doubts := [*settings.ignored, *filter(None, [settings.exposed])]:
        import logging

        # Warnings, so --quiet is silent on them: the variable may be another program's, and every night would tell of it.
        for sentence in doubts:
            logging.getLogger(__name__).warning("%s", sentence)


# ---------------------------------------------------------------- options

Function = TypeVar("Function", bound=Callable[..., Any])


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Options before and after the command meet in one place; the later word holds."""
    if value not in (None, (), False):
        context.obj.given[parameter.name] = value


def _setting(name: str, help_text: str, *flags: str, **more: Any) -> Callable[[Function], Function]:
    """An option that is also a variable and a key of the TOML. Its text is checked where all of them are: in settings."""
    setting = SETTINGS[name]
    default = setting.default
    said = (
        ""
        if default in (None, False, ())
        else f"default: {default:g}, "
        if isinstance(default, float)
        else f"default: {default}, "
    )
    text = f"{help_text}  [{said}env: {setting.variable}]"
    return click.option(setting.flag, *flags, name, expose_value=False, callback=_keep, help=text, **more)


def _common(function: Function) -> Function:
    for option in reversed(
        (
            _setting(
                "warehouse",
                "SQLAlchemy URL, or a path meaning a DuckDB file; in the TOML, a path from the TOML's folder.",
                metavar="URL",
            ),
            _setting("lock_wait", "Wait so long for what another program holds; 0: not at all.", metavar="SECONDS"),
            click.option(
                "--config",
                metavar="FILE",
                expose_value=False,
                callback=_keep,
                help=f"The TOML file.  [default: {CONFIG_NAME} in the working directory, when there, env: {PREFIX}CONFIG]",
            ),
            _setting("verbose", "Say more.", "-v", is_flag=True),
            _setting("quiet", "Speak only when a person must act.", "-q", is_flag=True),
            _setting("log_format", "text or json: log lines, on standard error.", metavar="FORMAT"),
            click.version_option(
                __version__, prog_name=NAME, message="%(prog)s %(version)s", help="Print the version."
            ),
        )
    ):
        function = option(function)
    return function


_one_account = click.option(
    "--account",
    metavar="NAME",
    expose_value=False,
    callback=_keep,
    help=f"Only this account; without it, every account held.  [env: {PREFIX}ACCOUNT]",
)


def _span(function: Function) -> Function:
    """What sync and plan share."""
    for option in reversed(
        (
            _setting("account", "Which account: its own name in the warehouse and in the TOML.", metavar="NAME"),
            _setting(
                "since",
                "First UTC day, or all; remembered until another is given, and wins over --empty-days.",
                metavar="DATE",
            ),
            _setting("until", "Last UTC day, inclusive; without it, today.", metavar="DATE"),
            _setting(
                "queues",
                "A queue as the account's statistics name it; repeat for more; the variable takes several with commas between.",
                metavar="NAME",
                multiple=True,
            ),
            _setting(
                "soft_ids",
                "An app of yours, whose part of the spend fills spending_by_app_daily; repeat for more; commas in the variable.",
                metavar="N",
                multiple=True,
            ),
            _setting(
                "ips",
                "An address that calls came from; its part fills spending_by_ip_daily; repeat for more; commas in the variable.",
                metavar="ADDR",
                multiple=True,
            ),
            _setting(
                "lookback", "Days before today that are read again, because they may still change.", metavar="DAYS"
            ),
            _setting(
                "empty_days", "History is taken to begin after this many days in a row without spend.", metavar="DAYS"
            ),
            _setting("concurrency", "Requests at once, 1 to 64.", metavar="N"),
            _setting("rate", "Requests per second at most; 0 = no limit.", metavar="PER_SECOND"),
            _setting("max_requests", "Stop after so many requests; the next run goes on (exit code 1).", metavar="N"),
            _setting("keep_answers", "Days for which answers are kept as they came; without it, all.", metavar="DAYS"),
            _setting(
                "totals_only",
                "Ask the account's totals alone: one request a day, no queues, apps or IPs.",
                is_flag=True,
            ),
            _setting("key_changed", "The account's key was rotated: accept the new one for its history.", is_flag=True),
            click.option(
                "--all", "every", is_flag=True, help="Every account that has a table [accounts.NAME] in the TOML."
            ),
            _setting(
                "shard", "With --all: one of N parts of the accounts, I from 0 to N-1; for N machines.", metavar="I/N"
            ),
        )
    ):
        function = option(function)
    return function


# ---------------------------------------------------------------- commands


@click.group(epilog=EPILOGUE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@_common
def cli() -> None:
    """Your Anti-Captcha spending history in a local warehouse.

    \b
    anticaptcha-etl demo                 see it work, no key needed
    anticaptcha-etl sync                 fetch what is missing
    anticaptcha-etl status               what is held, and how fresh
    anticaptcha-etl query "select day, queue, money from spending_daily"
    """


@cli.command()
@_span
@_setting("accounts_at_once", "With --all: so many accounts side by side, 1 to 64.", metavar="N")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked for: the same as plan.")
@_common
@click.pass_obj
def sync(call: Call, every: bool, dry_run: bool) -> None:
    """Bring the warehouse up to date.

    Pages backward day by day, fills gaps, reads recent days again. May be stopped at any moment and
    run again: what was committed stays. All days are UTC days.

    \b
    anticaptcha-etl sync                              everything, until spend ends
    anticaptcha-etl sync --since 2024-01-01           from that day on
    anticaptcha-etl sync --queue "Recaptcha Proxyless" --queue FunCaptcha
    anticaptcha-etl sync --soft-id 1011 --soft-id 1022 --ip 192.0.2.10
    anticaptcha-etl sync --max-requests 1000          a first bite; run again for more
    anticaptcha-etl sync --all                        every account of the TOML, side by side
    """
    _require_all(call, every)
    if dry_run:
        _plan(call, every)
        return
    if every:
        _sync_all(call)
        return
    from etl import progress
    from etl.clock import Clock
    from etl.sync.run import sync_account

    clock = Clock()
    line = progress.ProgressLine(sys.stderr)
    settings = call.settings(clock, needs_key=True, sink=line)
    if _is_watched(settings):
        watch = progress.terminal_reporter(line, clock.monotonic, progress.describe)
    else:
        watch = progress.log_reporter(clock.monotonic, progress.describe, lambda far: far.days_done)
    try:
        summary = sync_account(settings, clock, watch)
    finally:
        line.erase()
    call.code = summary.exit_code
    call.said += format_result(summary, verbose=settings.verbose)
    if settings.log_format == "json":
        _log("sync done", asdict(summary), needs_attention=summary.needs_attention)
    elif not settings.quiet or summary.needs_attention:
        click.echo("\n".join(call.said))
    if settings.publish:
        _renew(settings, settings.publish, clock, has_news=bool(summary.requests or summary.facts_changed))


def _require_all(call: Call, every: bool) -> None:
    """Raises UsageError for what means something with --all alone."""
    for name in ("shard", "accounts_at_once"):
        if name in call.given and not every:
            raise UsageError(f"{SETTINGS[name].flag} is about several accounts", "say --all too")


def _is_watched(settings: Settings) -> bool:
    """Whether somebody looks on who likes to see a line that is redrawn."""
    return sys.stderr.isatty() and not settings.quiet and settings.log_format == "text"


def _log(event: str, counts: Mapping[str, object], *, needs_attention: bool) -> None:
    import logging

    level = logging.ERROR if needs_attention else logging.INFO  # --quiet hears errors alone
    logging.getLogger(__name__).log(level, event, extra=counts)


def _sync_all(call: Call) -> None:
    from etl import progress
    from etl.clock import Clock
    from etl.sync import fleet

    clock = Clock()
    line = progress.ProgressLine(sys.stderr)
    every, general = call.accounts(clock, sink=line)
    call.ping_url = general.ping_url
    if _is_watched(general):
        watch = progress.terminal_reporter(line, clock.monotonic, progress.describe_fleet)
    else:
        watch = progress.log_reporter(clock.monotonic, progress.describe_fleet, lambda far: far.requests)
    try:
        together = fleet.sync_accounts(every, general, clock, watch, lambda ended: _tell_end(ended, call))
    finally:
        line.erase()
    call.code = together.exit_code
    if general.publish and not together.was_interrupted:
        try:
            _renew_all(general, general.publish, together, clock)
        except AppError as error:
            _tell(error, call)
            call.code = most_severe([call.code, error.exit_code])
    call.said += format_fleet_result(together, call.code)
    needs_attention = call.code != 0 or any(one.needs_attention for one in together.outcomes)
    if general.log_format == "json":
        counts = {"accounts": len(together.outcomes), "not_begun": together.not_started, **total_counts(together.results)}
        _log("all synced", counts | {"exit_code": call.code}, needs_attention=needs_attention)
    elif not general.quiet or needs_attention:
        click.echo("\n".join(format_fleet_result(together, call.code, only_attention=general.quiet)))


def _tell_end(ended: "AccountOutcome", call: Call) -> None:
    """What is told of one of several accounts as soon as it ends, in its own context: a log line, and the ping that is its own."""
    import logging

    log, is_json = logging.getLogger(__name__), call.log_format == "json"
    if ended.crash:
        log.error("%s", DEFECT_TOLD, exc_info=ended.crash, extra={"exit_code": ended.exit_code})
    elif ended.problem and is_json:
        log.error(ended.problem.message, extra={"remedy": ended.problem.hint, "exit_code": ended.exit_code})
    elif ended.problem:
        log.warning(
            "exit code %d: %s", ended.exit_code, ended.problem.message
        )  # at the end it stands there with its remedy
    elif ended.result and is_json:
        _log("sync done", asdict(ended.result), needs_attention=ended.needs_attention)
    elif ended.result:
        days, requests = count(ended.result.days, "day"), count(ended.result.requests, "request")
        log.info("exit code %d: %s, %s", ended.exit_code, days, requests)
    settings = ended.settings
    if settings and settings.ping_url and settings.sources["ping_url"].startswith("[accounts."):
        from etl.maintenance.notify import ping

        said = format_result(ended.result) if ended.result else format_outcome(ended)
        ping(settings.ping_url, ended.exit_code, "\n".join(said))


def _renew_all(general: Settings, path: Path, together: "FleetResult", clock: "Clock") -> None:
    """Publishes each warehouse once; most often there is one."""
    news: dict[str, bool] = {}
    for one in together.outcomes:
        if one.settings:
            has_news = one.result is not None and bool(one.result.requests or one.result.facts_changed)
            news[one.settings.warehouse] = news.get(one.settings.warehouse, False) or has_news
    if len(news) > 1 and not path.is_dir():
        raise WarehouseError(
            f"the data is loaded, but not published: {len(news)} warehouses do not go into the one file {path}",
            "let publish name a folder",
        )
    for warehouse, has_news in news.items():
        _renew(replace(general, warehouse=warehouse), path, clock, has_news=has_news)


def _renew(settings: Settings, path: Path, clock: "Clock", *, has_news: bool) -> None:
    """Publishes after a sync that read something. What it raises is graver than what the sync itself had to say."""
    import logging

    from etl.outputs.publish import place, publish

    try:
        target = place(settings.warehouse, path)
        if target.exists() and not has_news:
            return
        publish(settings.warehouse, target, clock, wait=settings.lock_wait, own=settings.checks_folder)
    except ChecksFailedError as error:
        raise ChecksFailedError(f"the data is loaded, but not published: {error.message}", error.hint) from error
    except (UsageError, WarehouseError) as error:
        raise WarehouseError(f"the data is loaded, but not published: {error.message}", error.hint) from error
    logging.getLogger(__name__).info("published %s", target)


@cli.command()
@_span
@_common
@click.pass_obj
def plan(call: Call, every: bool) -> None:
    """Say what sync would ask for, and touch nothing.

    Days, requests (lower and upper bound) and the time they take at the present --rate and --concurrency.

    \b
    anticaptcha-etl plan
    anticaptcha-etl plan --since 2024-01-01 --rate 2
    anticaptcha-etl plan --all
    """
    _require_all(call, every)
    _plan(call, every)


def _plan(call: Call, every: bool) -> None:
    from etl.clock import Clock
    from etl.sync import fleet
    from etl.sync.plan import plan_account

    clock = Clock()
    if every:
        several, general = call.accounts(clock)
        forecasts, failed = fleet.plan_accounts(several, general, clock)
        call.code = most_severe([one.exit_code for one in failed])
        click.echo("\n".join(format_fleet_plan(forecasts, failed, general.rate)))
        return
    settings = call.settings(clock)
    click.echo("\n".join(format_plan(plan_account(settings, clock))))


@cli.command()
@_one_account
@_setting("max_age", "Exit 5 when the newest total is older than this.", metavar="HOURS")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@_common
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show what is held: coverage, gaps, freshness, open and failed windows, last runs.

    \b
    anticaptcha-etl status
    anticaptcha-etl status --json --max-age 26        for a monitor: exit 5 when stale
    """
    from etl.clock import Clock
    from etl.outputs.status import as_text, gather, is_stale, to_json
    from etl.warehouse.engine import open_warehouse, warehouse_url

    clock = Clock()
    settings = call.settings(clock)
    engine = open_warehouse(warehouse_url(settings.warehouse), read_only=True, wait=settings.lock_wait, clock=clock)
    only = None if settings.sources["account"] == "default" else settings.account
    held = gather(engine, only, clock.now())
    is_late = settings.max_age is not None and is_stale(held, settings.max_age)
    call.code = ChecksFailedError.exit_code if is_late else 0
    if is_late or not settings.quiet:
        click.echo(to_json(held) if as_json else as_text(held, _width()), nl=False)
    if is_late:
        raise ChecksFailedError(
            f"the newest hour ended more than {settings.max_age:g} hours ago, or there is none", f"run {NAME} sync"
        )


def _width() -> int:
    """Columns for people: the terminal's, 80 without one."""
    return min(WIDEST, shutil.get_terminal_size((80, 24)).columns)


@cli.command()
@_one_account
@_setting("checks_folder", "A folder of SQL files of your own, each selecting the rows that are wrong.", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@_common
@click.pass_obj
def check(call: Call, as_json: bool) -> None:
    """Check what is held: sums, coverage, prices, freshness. Exit 5 when the numbers cannot be trusted.

    sync runs the same checks at its end. Nothing is asked of the API and nothing is written.

    \b
    anticaptcha-etl check
    anticaptcha-etl check --account shop --json
    anticaptcha-etl check --checks-folder my-checks
    """
    from etl.clock import Clock
    from etl.outputs.check_report import as_text, gather, to_json
    from etl.warehouse.engine import warehouse_url

    clock = Clock()
    settings = call.settings(clock)
    own = settings.checks_folder
    if (
        own and "checks_folder" in call.given and not own.is_dir()
    ):  # elsewhere it was said long ago: then a warning among others
        raise UsageError(f"--checks-folder {own} is not a folder", "name the folder that holds your SQL files")
    only = None if settings.sources["account"] == "default" else settings.account
    found = gather(warehouse_url(settings.warehouse), only, own, clock, wait=settings.lock_wait)
    call.code = ChecksFailedError.exit_code if found.is_blocking else 0
    if found.needs_attention or not settings.quiet:
        click.echo(to_json(found) if as_json else as_text(found, _width()), nl=False)


@cli.command()
@_setting("account", "Which account: its own name in the warehouse.", metavar="NAME")
@_common
@click.pass_obj
def replay(call: Call) -> None:
    """Rebuild the facts from the kept answers, without the API.

    Every fact and revision is made anew by the same rules that loaded it, and what differs is said:
    nothing, unless the warehouse was damaged or this version reads an answer better (a record once
    refused, say). Days whose answers were dropped (keep_answers) stay as they are. May be stopped at
    any moment and run again.

    \b
    anticaptcha-etl replay
    anticaptcha-etl replay --account shop
    """
    from etl.clock import Clock
    from etl.sync.replay import replay as run_replay

    clock = Clock()
    settings = call.settings(clock)
    replayed = run_replay(settings, clock)
    call.code = ChecksFailedError.exit_code if replayed.lost else 0
    if not settings.quiet or replayed.rows or replayed.lost:
        click.echo("\n".join(_replay_lines(replayed)))


def _replay_lines(replayed: "ReplayResult") -> Iterable[str]:
    counts = (count(replayed.days, "day"), count(replayed.snapshots, "reading"), count(replayed.facts, "fact"))
    yield f"{replayed.account}: {', '.join(counts)}"
    for one in replayed.differences[:SHOWN]:
        yield f"  {one.hour_start:%Y-%m-%d %H:%M}, {one.series}: held {_value(one.stored)}, its answer says {_value(one.said)}"
    if len(replayed.differences) > SHOWN:
        yield f"  and {count(len(replayed.differences) - SHOWN, 'more fact')} that differed"
    for table, number in sorted(replayed.rows.items()):
        yield f"  {count(number, 'row')} of {table} mended"
    if not replayed.rows:
        yield "  nothing differs"
    for days, stop_reason in (
        (replayed.dropped, "their answers were dropped, as keep_answers says"),
        (replayed.lost, "their answers are gone or damaged; restore them from a copy of the warehouse"),
    ):
        if days:
            yield f"  {count(len(days), 'day')} ({min(days)} to {max(days)}) left as they are: {stop_reason}"


def _value(value: "Measures | None") -> str:
    return "nothing" if value is None else f"{value.volume:,} tasks, {value.money:f} USD"


class _Query(click.Command):
    """Its SQL may begin with a comment, which is no option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        sql = [word for word in args[:end] if COMMENT.match(word)]
        others = [word for word in args[:end] if not COMMENT.match(word)]
        return super().parse_args(context, [*others, "--", *sql, *args[end + 1 :]])


@cli.command(cls=_Query)
@click.argument("sql", required=False)
@click.option(
    "--list", "lists", is_flag=True, help="Name the recipes of the cookbook, each with what a row of its answer is."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    help="How rows are written.  [default: by the ending of -o, else table]",
)
@click.option("-o", "--output", metavar="FILE", help="Write to this file; without it, or with -, to standard output.")
@_common
@click.pass_obj
def query(call: Call, sql: str | None, lists: bool, form: str | None, output: str | None) -> None:
    """Run read-only SQL: a text, @FILE.sql, a recipe of the cookbook, or - for standard input.

    \b
    anticaptcha-etl query "select month, sum(money) from spending_monthly group by month order by month"
    anticaptcha-etl query @report.sql --format csv -o report.csv
    anticaptcha-etl query --list
    anticaptcha-etl query @cookbook/month_to_date_with_forecast
    """
    if lists:
        from etl.outputs.cookbook import listing

        click.echo(listing(), nl=False)
        return
    if sql is None:
        raise UsageError(
            "there is nothing to run", "give the SQL, @FILE.sql, @cookbook/NAME, or - for standard input; see --list"
        )
    from etl.clock import Clock
    from etl.outputs.query import TABLE_ROWS, write_csv, write_json, write_parquet, write_table
    from etl.outputs.query import run as answer
    from etl.warehouse.engine import warehouse_path, warehouse_url

    clock = Clock()
    settings = call.settings(clock)
    url = warehouse_url(settings.warehouse)
    target = call.place.folder / output if output and output != "-" else None
    if target:
        _refuse_own(target, warehouse_path(url), config_path(call.given, call.place)[0])
    form = form or _form(target)
    asked = _sql(sql, call.place.folder)
    if form == "parquet":
        if target is None:
            raise UsageError("Parquet is written to a file", "name it: -o FILE.parquet")
        write_parquet(url, asked, target, wait=settings.lock_wait, clock=clock, mode=call.mode)
        return
    with _opened(target, call.mode) as to, answer(url, asked, wait=settings.lock_wait, clock=clock) as result:
        if form == "table":
            write_table(result, to, most=TABLE_ROWS if to.isatty() else None)
        else:
            {"csv": write_csv, "json": write_json}[form](result, to)


def _sql(said: str, folder: Path) -> str:
    """The statement itself: as said, from ``@FILE`` or ``@cookbook/NAME``, or from standard input for ``-``.

    A file that is there comes before the recipe.
    """
    if said == "-":
        return sys.stdin.read()
    if not said.startswith("@"):
        return said
    from etl.outputs import cookbook

    path = folder / Path(said[1:]).expanduser()
    if said.startswith(f"@{cookbook.PLACE}") and not path.is_file():
        return cookbook.find(said.removeprefix(f"@{cookbook.PLACE}")).sql
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        stop_reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(
            f"{path} cannot be read: {stop_reason}", "give @FILE.sql, the statement itself, or - for standard input"
        ) from error


def _form(target: Path | None) -> str:
    """How rows are written when nothing was said: by the file's ending."""
    ending = target.suffix.lower() if target else ""
    if ending not in ("", ".txt", ".csv", ".json", ".parquet"):
        import logging

        logging.getLogger(__name__).warning(
            "%s is written as a table; --format csv, json or parquet writes another", target
        )
    return {".csv": "csv", ".json": "json", ".parquet": "parquet"}.get(ending, "table")


def _refuse_own(target: Path, warehouse: Path | None, config: Path) -> None:
    """Raises UsageError for a file that this program lives on, by whatever name or link."""
    real = Path(os.path.realpath(target))
    for own, what in ((warehouse, "the warehouse"), (config, "the configuration")):
        is_same = real == own
        with suppress(OSError):  # one of them is not there
            is_same = is_same or (own is not None and real.samefile(own))
        if is_same:
            raise UsageError(f"{target} is {what}", "give -o another place")
    if (
        warehouse
        and real.parent == warehouse.parent
        and re.fullmatch(re.escape(warehouse.name) + r"\.(wal|.*\.lock)", real.name)
    ):
        raise UsageError(f"{target} belongs to the warehouse", "give -o another place")


def _stream(target: Path) -> TextIO | None:
    """The stream that ``/dev/stdout`` and the like mean: the file behind it is the caller's and is not replaced."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # no such file, or a stream that is none of the system's
            if os.path.samestat(target.stat(), os.fstat(stream.fileno())):
                return stream
    return None


@contextmanager
def _opened(target: Path | None, mode: int) -> Iterator[TextIO]:
    """Standard output, or a file that takes the target's place once it is whole: a failed query leaves the old one.

    A link stays, and what it points to is replaced. A device or a pipe is no file that could be: it is written into.
    """
    if target is None:
        yield sys.stdout
        return
    if stream := _stream(target):
        yield stream
        return
    real = Path(os.path.realpath(target))
    draft = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        is_plain = target.is_file() or not target.exists()
        with (draft if is_plain else target).open("w", encoding="utf-8", newline="") as to:
            yield to
        if is_plain:
            with suppress(PermissionError):  # a file system that keeps no modes
                draft.chmod(mode)
            draft.replace(real)
    except BrokenPipeError:  # whoever reads the pipe has seen enough
        raise
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", "give -o another place") from error
    finally:
        with suppress(OSError):
            draft.unlink()


@cli.command()
@click.option(
    "-o", "--output", metavar="FILE", required=True, help="The page, whole or not at all; - is standard output."
)
@_one_account
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=90,
    show_default=True,
    help="How many days, up to today, are shown in detail.",
)
@_common
@click.pass_obj
def report(call: Call, output: str, days: int) -> None:
    """Write one HTML page of charts: for those who would rather look than read.

    It needs no network and no other file. Needs the extra: pip install "anticaptcha-etl[report]"

    \b
    anticaptcha-etl report -o report.html
    anticaptcha-etl report -o year.html --days 365 --account shop
    """
    from etl.clock import Clock
    from etl.warehouse.engine import warehouse_path, warehouse_url

    clock = Clock()
    settings = call.settings(clock)
    target = None if output == "-" else call.place.folder / output
    if target:
        _refuse_own(target, warehouse_path(warehouse_url(settings.warehouse)), config_path(call.given, call.place)[0])
    try:
        from etl.outputs.report.page import page
    except ModuleNotFoundError as error:
        if error.name not in {"altair", "vl_convert"}:
            raise
        raise UsageError(
            "the report draws with Altair, which is not installed", f'pip install "{NAME}[report]"'
        ) from error
    from etl.outputs.report.queries import gather

    only = None if settings.sources["account"] == "default" else settings.account
    text = page(gather(settings.warehouse, only, days, clock, wait=settings.lock_wait))
    with _opened(target, call.mode) as to:
        to.write(text)
    if target and not settings.quiet:
        click.echo(f"{target}: {len(text.encode()) / 1_000_000:.1f} MB, open it in a browser")


@cli.command()
@click.argument("path", required=False)
@click.option("--despite-findings", is_flag=True, help="Publish also while a blocking check fails.")
@_setting("checks_folder", "A folder of SQL files of your own, run with the checks.", metavar="DIR")
@_common
@click.pass_obj
def publish(call: Call, path: str | None, despite_findings: bool) -> None:
    """Put a read-only copy of the warehouse at PATH, a file or a folder, for BI tools.

    It takes the place of the copy before in one step: readers see the old state or the new, and never keep a
    sync waiting. It holds the views and what they read, no answers and nothing of a key. While a blocking check
    fails, the copy before stays (exit code 5). Without PATH: where the setting publish says; sync then renews it.

    \b
    anticaptcha-etl publish /srv/bi
    anticaptcha-etl publish /srv/bi/spending.duckdb
    """
    from etl.clock import Clock
    from etl.outputs.publish import place
    from etl.outputs.publish import publish as put

    clock = Clock()
    call.given["publish"] = path
    settings = call.settings(clock)
    if settings.publish is None:
        raise UsageError("where to publish is not said", f"{NAME} publish PATH, or publish = PATH in {CONFIG_NAME}")
    target = place(settings.warehouse, settings.publish)
    own = settings.checks_folder
    made = put(settings.warehouse, target, clock, wait=settings.lock_wait, own=own, despite_findings=despite_findings)
    if not settings.quiet:
        click.echo(f"{made.path}: {count(made.rows['spending_hourly'], 'hour')} with spend, {made.size:,} bytes")


@cli.command()
@click.argument("folder", metavar="DIR")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Which open format.",
)
@_one_account
@_common
@click.pass_obj
def export(call: Call, folder: str, form: Literal["parquet", "csv"]) -> None:
    """Write every view into DIR as open files: Hive-partitioned Parquet, or CSV.

    DIR is replaced whole, so a half-written export is never seen. It must be new, empty, or of an earlier export.

    \b
    anticaptcha-etl export lake
    anticaptcha-etl export --format csv --account shop sheets
    """
    from etl.clock import Clock
    from etl.outputs.export import export as write

    clock = Clock()
    settings = call.settings(clock)
    only = None if settings.sources["account"] == "default" else settings.account
    target = (call.place.folder / Path(folder).expanduser()).absolute()
    made = write(settings.warehouse, target, form, clock, wait=settings.lock_wait, account=only, mode=call.mode)
    if not settings.quiet:
        click.echo(f"{made.path}: {count(len(made.rows), 'view')}, {count(sum(made.rows.values()), 'row')}")


@cli.command()
@click.option(
    "--to",
    "revision",
    metavar="REVISION",
    help="The revision to go to; without it the newest, or with --down the one before.",
)
@click.option(
    "--down",
    is_flag=True,
    help="Go back; what only newer tables hold is lost. All tables are dropped by --down --to base.",
)
@_common
@click.pass_obj
def migrate(call: Call, revision: str | None, down: bool) -> None:
    """Move the warehouse's schema up or down. sync upgrades by itself.

    \b
    anticaptcha-etl migrate
    anticaptcha-etl migrate --down --to 0001
    """
    from etl.clock import Clock
    from etl.warehouse.engine import name_of, open_warehouse, require_warehouse, warehouse_url
    from etl.warehouse.migrate import current, downgrade, revisions, upgrade

    clock = Clock()
    settings = call.settings(clock)
    url = warehouse_url(settings.warehouse)
    require_warehouse(url, wait=settings.lock_wait, clock=clock)
    engine = open_warehouse(url, wait=settings.lock_wait, clock=clock)
    steps = ["base", *revisions()]
    before = current(engine) or "base"
    target = _target(steps, before, revision, down=down)
    if down:
        downgrade(engine, target)
    else:
        upgrade(engine, target)
    if not settings.quiet:
        name = name_of(url)
        click.echo(
            f"{name}: schema {before} -> {target}" if before != target else f"{name}: schema {target}, nothing to do"
        )


def _target(steps: list[str], before: str, revision: str | None, *, down: bool) -> str:
    """The revision that was meant. A revision this program does not know is left to migrate, which refuses it."""
    if revision and revision not in steps:
        raise UsageError(f"there is no revision {revision}", f"known: {', '.join(steps)}")
    if before not in steps:
        return revision or steps[-1]
    at = steps.index(before)
    if down and not revision and at <= 1:
        raise UsageError(
            f"schema {before} is the first: one further back drops every table", "say --down --to base if that is meant"
        )
    target = revision or (steps[at - 1] if down else steps[-1])
    if (steps.index(target) > at) if down else (steps.index(target) < at):
        raise UsageError(
            f"the schema is {before}, {target} lies the other way",
            "leave out --down" if down else "add --down to go back",
        )
    return target


@cli.command()
@click.argument("source")
@click.argument("target")
@_common
@click.pass_obj
def transfer(call: Call, source: str, target: str) -> None:
    """Copy the warehouse SOURCE to TARGET, between engines too: paths or SQLAlchemy URLs.

    All that a warehouse holds goes over: facts, readings, answers, revisions, the ledger. Both sides are weighed
    before anything is committed, so that TARGET holds exactly the same or nothing. TARGET must be new or hold no account.
    What a sync loads into SOURCE meanwhile is not in it: stop the syncs, transfer, then name TARGET with --warehouse.

    \b
    anticaptcha-etl transfer warehouse.duckdb postgresql+psycopg://etl@db.example/spending
    anticaptcha-etl transfer postgresql+psycopg://etl@db.example/spending archive.duckdb
    """
    from etl.clock import Clock
    from etl.maintenance.transfer import transfer as copy

    clock = Clock()
    settings = call.settings(clock)

    def place(said: str) -> str:
        return said if "://" in said else str(call.place.folder / Path(said).expanduser())

    made = copy(place(source), place(target), clock, wait=settings.lock_wait)
    if not settings.quiet:
        click.echo(f"{made.source} -> {made.target}")
        for table, rows in made.rows.items():
            click.echo(f"  {table:<14} {count(rows, 'row')}")
        for account, spent in made.spent.items():
            click.echo(f"  {account}: {_value(spent)} on both sides")


@cli.command()
@_setting("account", "Whose key and whose history.", metavar="NAME")
@click.option(
    "--probe", is_flag=True, help="Ask the service what nobody has written down: at most 15 requests, one a second."
)
@click.option("--json", "as_json", is_flag=True, help="For machines, and to be passed on: it holds no key.")
@_common
@click.pass_obj
def doctor(call: Call, probe: bool, as_json: bool) -> None:
    """Look at everything a sync leans on, and say what to mend.

    Package versions, settings and where each came from, the key's presence, the warehouse, the API and its clock, in
    that order. The API meets one request, without the key; with --probe at most 15, and their answers are kept.
    The exit code is the one a sync would end with; 0 when there are warnings at most.

    \b
    anticaptcha-etl doctor
    anticaptcha-etl doctor --probe
    anticaptcha-etl doctor --json > doctor.json       to be passed on: no secrets
    """
    from etl.clock import Clock
    from etl.maintenance.doctor import run_diagnostics
    from etl.maintenance.doctor_output import as_text, to_json

    clock = Clock()
    with suppress(UsageError):  # found again below, as advice
        call.settings(clock)
    found = run_diagnostics(call.given, call.place, clock, probe=probe)
    call.code = found.exit_code
    if found.needs_attention or not found.quiet:
        click.echo(to_json(found) if as_json else as_text(found), nl=False)


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8484,
    show_default=True,
    help="Port on 127.0.0.1; 0 = any free one.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another history.")
@click.option(
    "--days", type=click.IntRange(0, 20000), default=400, show_default=True, help="Days of history before today."
)
@click.option("--queues", type=click.IntRange(1, 500), default=6, show_default=True, help="How many queues spend.")
@click.option("--corrections", is_flag=True, help="Some closed hours change 1 h, 24 h or 7 days after their end.")
@click.option(
    "--latency", type=click.FloatRange(0, 60), default=0, show_default=True, help="Seconds each answer takes."
)
@click.option(
    "--fault",
    "faults",
    metavar="KIND=RATE",
    multiple=True,
    help="A fault on this part of requests, 0 to 1; repeat for more. An unknown KIND lists all.",
)
@click.option(
    "--idle",
    type=click.Choice(["zero", "omit"]),
    default="zero",
    show_default=True,
    help="Hours without spend: zeros, or left out.",
)
@click.option(
    "--buckets", type=click.Choice(["23", "24", "25"]), default="24", show_default=True, help="Records an answer spans."
)
@click.option(
    "--numbers",
    type=click.Choice(["number", "string", "noise"]),
    default="number",
    show_default=True,
    help="How numbers are written.",
)
@click.option(
    "--listed",
    type=click.Choice(["array", "object"]),
    default="array",
    show_default=True,
    help='data as [...] or as {"0":...}.',
)
@click.option(
    "--unknown-queue",
    type=click.Choice(["error", "zeros", "totals"]),
    default="error",
    show_default=True,
    help="What an unknown queue gives.",
)
@click.option(
    "--off-hour", type=click.Choice(["snap", "shift"]), default="snap", show_default=True, help="A date inside an hour."
)
@click.option(
    "--grid-seconds",
    type=click.IntRange(-3599, 3599),
    default=0,
    show_default=True,
    help="Where hours begin; -900 is :45.",
)
@click.option("--running/--no-running", default=True, show_default=True, help="Whether the running hour is in answers.")
@click.option("--unbegun/--no-unbegun", default=False, show_default=True, help="Whether hours not begun are, as zeros.")
@click.option(
    "--foreign-app",
    type=click.Choice(["error", "zeros", "totals"]),
    default="error",
    show_default=True,
    help="What a softId not the account's gives.",
)
@click.option(
    "--foreign-ip",
    type=click.Choice(["zeros", "totals", "error"]),
    default="zeros",
    show_default=True,
    help="What an IP that never called gives.",
)
@click.option("--retention-days", type=click.IntRange(1), help="Older dates give an empty answer.")
@click.option(
    "--duplicates",
    type=click.Choice(["none", "identical", "differing"]),
    default="none",
    show_default=True,
    help="One record comes twice.",
)
@click.option("--date-skew-seconds", type=int, default=0, show_default=True, help="How wrong the server's clock is.")
@_common
@click.pass_obj
def sandbox(
    call: Call,
    /,
    port: int,
    seed: int,
    days: int,
    queues: int,
    corrections: bool,
    latency: float,
    faults: tuple[str, ...],
    buckets: str,
    **unknowns: Any,
) -> None:
    """Serve a stand-in for the API on 127.0.0.1, until Ctrl-C.

    Years of seeded spending; what nobody has written down about the real service is an option, and so are its faults.
    Its apps are 1011, 1022 and 1033, its addresses 192.0.2.10, 192.0.2.20 and 198.51.100.7.

    \b
    anticaptcha-etl sandbox
    anticaptcha-etl sandbox --days 1000 --queues 12 --latency 0.05
    anticaptcha-etl sandbox --fault html_502=0.05 --fault cut=0.02 --idle omit
    """
    from datetime import timedelta

    from etl.clock import Clock
    from etl.sandbox.dataset import Dataset
    from etl.sandbox.server import Behaviour, Sandbox, run_forever

    clock = Clock()
    call.settings(clock)
    begins = clock.now().date() - timedelta(days=days)
    unknowns["buckets"] = int(buckets)
    behaviour = Behaviour(latency_seconds=latency, **unknowns)
    served = Sandbox(
        Dataset(seed=seed, begins=begins, queues=queues, corrections=corrections),
        behaviour,
        tuple(map(_fault, faults)),
        port=port,
    )

    def announce(url: str) -> None:
        click.echo(f"The sandbox serves {url}, {days} days of history, until Ctrl-C. In another terminal:")
        click.echo(f"  export {PREFIX}API_URL={url}\n  export {PREFIX}CLIENT_KEY=any-text\n  {NAME} sync --rate 0")
        sys.stdout.flush()

    try:
        run_forever(served, announce)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(
            f"port {port} of 127.0.0.1 cannot be had: {error.strerror}", "give another --port, or 0 for any"
        ) from error
    click.echo(f"\n{count(len(served.requests), 'request')} {'was' if len(served.requests) == 1 else 'were'} answered")


def _fault(text: str) -> "Fault":
    from etl.sandbox.server import Fault, FaultKind

    kind, _, rate = text.partition("=")
    try:
        part = float(rate or "1")
    except ValueError:
        part = -1.0
    if kind not in list(FaultKind) or not 0 <= part <= 1:
        raise UsageError(f"--fault {text} is not KIND=RATE with a rate from 0 to 1", f"kinds: {', '.join(FaultKind)}")
    return Fault(FaultKind(kind), rate=part)


FIRST_QUERY = (
    "select queue, sum(volume) as tasks, sum(money) as usd from spending_daily group by queue order by usd desc"
)


@cli.command()
@click.option("--keep", metavar="DIR", help="Keep the warehouse in this directory; without it nothing is left behind.")
@_common
@click.pass_obj
def demo(call: Call, keep: str | None) -> None:
    """See it work: sandbox, sync, status and a first query, in a throw-away place. No key needed, nothing leaves this machine.

    \b
    anticaptcha-etl demo
    anticaptcha-etl demo --keep try-out               then look around in try-out/warehouse.duckdb
    """
    import tempfile
    from datetime import timedelta

    from etl.clock import Clock
    from etl.sandbox.dataset import Dataset
    from etl.sandbox.server import Behaviour, Sandbox

    with ExitStack() as stack:
        folder = (
            call.place.folder / keep
            if keep
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{NAME}-demo-")))
        )
        if (folder / "warehouse.duckdb").exists():
            raise UsageError(
                f"{folder} already holds a warehouse",
                "give --keep a new directory: invented spending is never mixed with real",
            )
        folder.mkdir(parents=True, exist_ok=True)
        now = Clock().now()  # the service stands still, so that the running hour reads the same for every queue
        spending = Dataset(begins=now.date() - timedelta(days=120), queues=5, turnover=False)
        sandbox = stack.enter_context(Sandbox(spending, Behaviour(unknown_queue="zeros"), now=lambda: now))
        words = {f"{PREFIX}API_URL": sandbox.url, f"{PREFIX}CLIENT_KEY": "any-text-will-do"}
        click.echo(
            "A stand-in for the API runs on this machine, with 120 days of invented spending. What you would type:\n"
        )
        click.echo("\n".join([f"$ cd {folder}", *(f"$ export {name}={value}" for name, value in words.items())]))
        for command in (["sync", "--rate", "0"], ["status"], ["query", FIRST_QUERY]):
            click.echo(f"\n$ {NAME} {_typed(command)}")
            sys.stdout.flush()
            call.code = most_severe([call.code, run(command, Environment(words, folder))])
            if call.code:
                return
    if keep:
        click.echo(
            f'\nKept: {folder}/warehouse.duckdb. Go on with: {NAME} query --warehouse {folder}/warehouse.duckdb "select ..."'
        )
    click.echo(f"\nWith your own key: export {PREFIX}CLIENT_KEY=... and then {NAME} sync")


def _typed(command: Sequence[str]) -> str:
    return " ".join(f'"{word}"' if " " in word else word for word in command)


# ---------------------------------------------------------------- the way out


def _is_json(call: Call) -> bool:
    """Whether log lines are for machines; of a run whose settings could not be read, as its words or its environment say."""
    if not call.log_format and "json" in (
        call.given.get("log_format"),
        call.place.environ.get(SETTINGS["log_format"].variable),
    ):
        from etl import logging_setup

        call.log_format = "json"
        logging_setup.configure_logging(sys.stderr, form="json", quiet=False, verbose=False)
    return call.log_format == "json"


def _tell(error: AppError, call: Call) -> None:
    call.said += [f"error: {error.message}", *([f"what now: {error.hint}"] if error.hint else [])]
    if _is_json(call):
        import logging

        logging.getLogger(__name__).error(error.message, extra={"remedy": error.hint, "exit_code": error.exit_code})
        return
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"what now: {error.hint}", err=True)


def _tell_defect(error: Exception, call: Call) -> None:
    """With its traceback, in which no values of variables stand."""
    call.said += ["error: a defect of the program; its log has the traceback"]
    if _is_json(call):
        import logging

        logging.getLogger(__name__).error("%s", DEFECT_TOLD, exc_info=error, extra={"exit_code": INTERNAL_ERROR})
        return
    import traceback

    traceback.print_exception(error)
    click.echo(f"error: this is a defect of {NAME} {__version__}; please report it with the lines above", err=True)


def run(arguments: Sequence[str], place: Environment | None = None) -> int:
    """Run one command and give its exit code; never raises."""
    umask = os.umask(0o077)  # the warehouse, and whatever DuckDB puts beside it and spills, are for their owner alone
    try:
        call = Call(place or Environment.here(), mode=0o666 & ~umask)
        return Context().run(_run, arguments, call)  # what its log lines carry ends with it
    finally:
        os.umask(umask)


def _run(arguments: Sequence[str], call: Call) -> int:
    code = _exit_code(arguments, call)
    if call.ping_url:
        from etl.maintenance.notify import ping

        ping(call.ping_url, code, "\n".join(call.said))
    return code


def _exit_code(arguments: Sequence[str], call: Call) -> int:
    try:
        with cli.make_context(NAME, list(arguments), obj=call) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        if _is_json(call):
            _tell(UsageError(error.format_message()), call)
        else:
            error.show()
        return error.exit_code
    except AppError as error:
        _tell(error, call)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _tell(InterruptedRunError("interrupted; what was committed stays", "run it again: it goes on from there"), call)
        return InterruptedRunError.exit_code
    except (
        BrokenPipeError
    ):  # the reader has seen enough, as in `query ... | head`; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - the last door: a traceback, and an exit code of the contract
        _tell_defect(error, call)
        return INTERNAL_ERROR
    return call.code


def _open_closed_streams() -> None:
    """A stream that the caller closed (``2>&-``) goes nowhere, and its number is taken, or a file would be opened under it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def main() -> NoReturn:
    """The console script. A SIGTERM ends a run as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    _open_closed_streams()
    signal.signal(signal.SIGTERM, interrupt)
    code = run(sys.argv[1:])
    if code == InterruptedRunError.exit_code and threading.active_count() > 1:
        # Who stops twice does not wait for threads that commit. DuckDB aborts the process when a plain exit meets them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

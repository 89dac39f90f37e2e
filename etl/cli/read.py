"""The commands that read the warehouse: ``status``, ``check``, ``query``, ``report``."""

import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click

from etl.cli.context import CliContext, selected_account
from etl.cli.options import NAME, common, one_account, safe_csv, setting, timezone
from etl.cli.output import open_output, output_target, show, terminal_width
from etl.errors import ChecksFailedError, UsageError, WarehouseError

SQL_COMMENT = re.compile(r"--(\s|.*\n)")
"""SQL that starts with a comment. No option has a space after its dashes, or a line break."""
ENDINGS = {"": "table", ".txt": "table", ".csv": "csv", ".json": "json", ".parquet": "parquet", ".xlsx": "xlsx"}
"""File endings of ``query -o`` and the format each one means."""


@click.command()
@one_account
@timezone
@setting("max_age", "Exit 5 if the newest total is older than this.", metavar="HOURS")
@common
@click.pass_obj
def status(context: CliContext) -> None:
    """Show coverage, gaps, freshness, failed windows, last runs.

    \b
    anticaptcha-etl status
    anticaptcha-etl status --json --max-age 26     for monitoring: exit 5 if stale
    """
    from etl.extract.journal import count_responses
    from etl.outputs.status import as_text, is_stale, load_status, to_json
    from etl.warehouse.account_files import journal_prefix
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    url, account = warehouse_url(settings.warehouse), selected_account(settings)

    def count_waiting(name: str) -> int:
        with suppress(WarehouseError):  # another user's folder: nothing is known
            return count_responses(journal_prefix(url, name, settings.state_folder))
        return 0

    found = load_status(
        url,
        account,
        context.clock,
        wait=settings.lock_wait,
        empty_days=settings.empty_days,
        count_waiting=count_waiting,
    )
    is_late = settings.max_age is not None and is_stale(found, settings.max_age)
    context.code = ChecksFailedError.exit_code if is_late else 0
    if is_late or not settings.quiet:
        click.echo(to_json(found) if context.as_json else as_text(found, terminal_width(), settings.timezone), nl=False)
    if is_late:
        raise ChecksFailedError(
            f"the newest hour ended more than {settings.max_age:g} hours ago, or there is none", f"run {NAME} sync"
        )


@click.command()
@one_account
@setting("checks_folder", "Folder with your own SQL checks; each selects the rows that are wrong.", metavar="DIR")
@common
@click.pass_obj
def check(context: CliContext) -> None:
    """Run data-quality checks: sums, coverage, prices, freshness.

    Exits 5 if a blocking check fails. sync runs the same checks at its end. Makes no requests and writes nothing.

    \b
    anticaptcha-etl check
    anticaptcha-etl check --account shop --json
    anticaptcha-etl check --checks-folder my-checks
    """
    from etl.outputs.check_report import as_text, run_checks, to_json
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    folder = settings.checks_folder
    # A folder from the environment or the file may be gone for a while: then it is a warning among the results.
    if folder and "checks_folder" in context.given and not folder.is_dir():
        raise UsageError(f"--checks-folder {folder} is not a folder", "name the folder that contains your SQL files")
    account = selected_account(settings)
    found = run_checks(warehouse_url(settings.warehouse), account, folder, context.clock, wait=settings.lock_wait)
    context.code = ChecksFailedError.exit_code if found.is_blocking else 0
    if found.needs_attention or not settings.quiet:
        click.echo(to_json(found) if context.as_json else as_text(found, terminal_width()), nl=False)


class _QueryCommand(click.Command):
    """Accepts SQL that starts with a comment, which looks like an option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        sql = [word for word in args[:end] if SQL_COMMENT.match(word)]
        others = [word for word in args[:end] if not SQL_COMMENT.match(word)]
        return super().parse_args(context, [*others, "--", *sql, *args[end + 1 :]])


def _complete_cookbook(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from etl.outputs.cookbook import PREFIX, load

    del context, parameter
    return [name for one in load() if (name := f"@{PREFIX}{one.name}").startswith(incomplete)]


@click.command(cls=_QueryCommand)
@click.argument("sql", required=False, shell_complete=_complete_cookbook)
@click.option("--list", "lists", is_flag=True, help="List the cookbook queries, each with what one row is.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["table", "csv", "json", "parquet", "xlsx"]),
    help="Output format.  [default: by the ending of -o, else table]",
)
@click.option("-o", "--output", metavar="FILE", help="Output file. Without it, or with -: standard output.")
@safe_csv(default=False)
@timezone
@common
@click.pass_obj
def query(
    context: CliContext, sql: str | None, lists: bool, file_format: str | None, output: str | None, safe: bool
) -> None:
    """Run read-only SQL: text, @FILE.sql, @cookbook/NAME, or -.

    \b
    anticaptcha-etl query "select month, queue, money from spending_monthly"
    anticaptcha-etl query @report.sql -o report.csv
    anticaptcha-etl query "from spending_daily" -o spending.xlsx
    anticaptcha-etl query --list
    anticaptcha-etl query @cookbook/month_to_date_with_forecast
    """
    if lists:
        from etl.outputs.cookbook import listing, load

        show(context, [{"name": one.name, "grain": one.grain} for one in load()], listing().rstrip())
        return
    if sql is None:
        raise UsageError("no SQL given", "give SQL, @FILE.sql, @cookbook/NAME (see --list), or - for standard input")
    from etl.outputs.query import run as run_query
    from etl.outputs.query import write_csv, write_excel, write_json, write_parquet, write_table
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    url = warehouse_url(settings.warehouse)
    target = output_target(output, url, context)
    file_format = file_format or ("json" if context.as_json else _format_of(target))
    statement = _read_sql(sql, context.environment.folder, settings.timezone)
    if file_format in ("parquet", "xlsx"):
        if target is None:
            raise UsageError(f"the format {file_format} needs an output file", f"add -o FILE.{file_format}")
        write = write_parquet if file_format == "parquet" else write_excel
        write(url, statement, target, wait=settings.lock_wait, clock=context.clock, mode=context.file_mode)
        return
    with (
        open_output(target, context.file_mode) as file,
        run_query(url, statement, wait=settings.lock_wait, clock=context.clock) as result,
    ):
        if file_format == "table":
            write_table(result, file, shutil.get_terminal_size().columns if file.isatty() else None)
        elif file_format == "json":
            write_json(result, file, decimals_as_text=context.as_json)
        else:
            write_csv(result, file, is_safe=safe)


def _read_sql(text: str, folder: Path, zone: str) -> str:
    """The statement: as given, from ``@FILE`` or ``@cookbook/NAME``, or from standard input for ``-``.

    An existing file wins over a cookbook query of the same name. A cookbook query shows the days of ``zone``.
    """
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    from etl.outputs import cookbook

    path = folder / Path(text[1:]).expanduser()
    if text.startswith(f"@{cookbook.PREFIX}") and not path.is_file():
        return cookbook.find(text.removeprefix(f"@{cookbook.PREFIX}")).sql_in(zone)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"cannot read {path}: {reason}", "give @FILE.sql, the statement itself, or - for standard input"
        ) from error


def _format_of(target: Path | None) -> str:
    """The format that the ending of the output file means."""
    ending = target.suffix.lower() if target else ""
    if ending not in ENDINGS:
        known = ", ".join(filter(None, ENDINGS))
        raise UsageError(
            f"cannot write {target}: unknown file ending {ending}", f"use {known}, or choose a format with --format"
        )
    return ENDINGS[ending]


@click.command()
@click.option(
    "-o", "--output", metavar="FILE", required=True, help="Output file (written atomically), or - for standard output."
)
@one_account
@timezone
@click.option(
    "--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="Days up to today to show in detail."
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@common
@click.pass_obj
def report(context: CliContext, output: str, days: int, opens: bool) -> None:
    """Write a self-contained HTML report with charts.

    The page needs no network and no other file. Requires the extra `report`: pip install '.[report]'

    \b
    anticaptcha-etl report -o report.html --open
    anticaptcha-etl report -o year.html --days 365 --account shop
    """
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    target = output_target(output, warehouse_url(settings.warehouse), context)
    try:
        from etl.outputs.report.page import render_page
    except ModuleNotFoundError as error:
        if error.name != "jinja2":
            raise
        hint = "pip install '.[report]' in the folder of the repository"
        raise UsageError("the report needs Jinja2, which is not installed", hint) from error
    from etl.outputs.report.queries import load_report

    account, wait = selected_account(settings), settings.lock_wait
    data = load_report(
        settings.warehouse,
        account,
        days,
        context.clock,
        wait=wait,
        empty_days=settings.empty_days,
        zone=settings.timezone,
        rules=settings.alerts,
    )
    text = render_page(data)
    with open_output(target, context.file_mode) as file:
        file.write(text)
    if target:
        size = len(text.encode())
        message = f"Wrote {target} ({size / 1_000_000:.1f} MB); open it in a browser"
        show(context, {"path": target, "bytes": size}, message, quiet=settings.quiet)
        if opens:
            import webbrowser

            webbrowser.open(target.absolute().as_uri())

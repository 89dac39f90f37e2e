"""The command ``init``."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.cli.context import CliContext
from etl.cli.options import NAME, common, setting, timezone
from etl.cli.output import show
from etl.config import PREFIX, Environment, config_path, load
from etl.errors import UsageError
from etl.secret import Secret

if TYPE_CHECKING:
    from etl.maintenance.first_setup import Answers


@click.command()
@setting("account", "Name of the account in the warehouse and in the configuration file.", metavar="NAME")
@click.option(
    "--key-file", metavar="FILE", help="File to write the key to.  [default: ACCOUNT.key beside the configuration]"
)
@timezone
@click.option("--check/--no-check", default=True, help="Check the key with one request.  [default: check]")
@click.option("--sync/--no-sync", "syncs", default=None, help="Start the first sync, or do not.  [default: ask]")
@click.option("--force", is_flag=True, help="Replace an existing configuration or key file.")
@click.option("--yes", is_flag=True, help="Ask nothing: take options and defaults, and the key from standard input.")
@common
@click.pass_obj
def init(context: CliContext, key_file: str | None, check: bool, syncs: bool | None, force: bool, yes: bool) -> None:
    """Set up: ask for the key, write the configuration, start the first sync.

    Asks for an account name, the key (not shown), where the warehouse goes, and the time zone of the days you want to
    see. Writes anticaptcha-etl.toml and a file with the key that only you can read, shows what a sync will request, and
    how to run it every night. Nothing is written before all is answered and the key is checked.

    \b
    anticaptcha-etl init
    anticaptcha-etl init --yes --account shop --sync < key.txt
    """
    from etl.maintenance import first_setup
    from etl.sync.plan import plan_account
    from etl.sync.summary import format_plan
    from etl.warehouse.engine import name_of, warehouse_url

    config = _new_config(context)
    answers = _ask(context, config.parent, yes=yes)
    place = context.environment.folder if key_file else config.parent
    key_path = place / Path(key_file or f"{answers.account}.key").expanduser()
    _confirm_replacement([config, key_path], yes=yes, force=force)
    settings = load(_given(context, answers), context.clock.now(), context.environment)
    checked = first_setup.check_key(settings.api_url, answers, context.clock) if check else "The key was not checked."
    warning = first_setup.write_files(config, key_path, answers, context.file_mode)
    plan = plan_account(settings, context.clock)
    text = [checked, f"Wrote {config}", f"Wrote {key_path}{'' if warning else ' (only you can read it)'}", warning]
    _say(context, "\n".join([*filter(None, text), *list(format_plan(plan))[:-1]]))
    if syncs is None:
        syncs = not yes and click.confirm("Start the first sync now?", default=True, err=True)
    if syncs:
        context.code = _sync(context, config)
    scheduler, lines = first_setup.nightly_lines(shutil.which(NAME) or sys.argv[0], config)
    warehouse = name_of(warehouse_url(settings.warehouse))
    result = {
        "config": config, "key_file": key_path, "account": answers.account, "warehouse": warehouse,
        "timezone": answers.timezone, "plan": plan, "sync_exit_code": context.code if syncs else None,
        "scheduler": scheduler, "schedule": lines,
    }  # fmt: skip
    command = "status" if syncs else "sync"
    show(context, result, f"\nTo sync every night, with {scheduler}:\n\n{lines}\n\nnext: {NAME} {command}")


def _new_config(context: CliContext) -> Path:
    """The file to write, which need not exist yet: settings are loaded without it."""
    config = config_path(context.given, context.environment)[0].absolute()
    context.given.pop("config", None)
    environ = {name: value for name, value in context.environment.environ.items() if name != f"{PREFIX}CONFIG"}
    context.environment = Environment(environ, context.environment.folder)
    return config


def _confirm_replacement(paths: Sequence[Path], *, yes: bool, force: bool) -> None:
    for path in paths:
        if path.exists() and not force and (yes or not click.confirm(f"{path} exists. Replace it?", err=True)):
            raise UsageError(f"{path} exists; nothing was changed", "edit it, or replace it with --force")


def _say(context: CliContext, text: str) -> None:
    """Print progress: with --json only the result is on standard output."""
    click.echo(text, err=context.as_json)
    sys.stdout.flush()


def _ask(context: CliContext, folder: Path, *, yes: bool) -> "Answers":
    from etl.config import values
    from etl.maintenance.first_setup import Answers, local_zone

    settings = context.settings()

    def answer(name: str, question: str, default: str, read: Callable[[object], str]) -> str:
        if settings.sources[name].startswith(("--", PREFIX)) or yes:
            return default

        def checked(text: str) -> str:
            try:
                return read(text)
            except ValueError as error:
                raise click.BadParameter(str(error)) from error

        return str(click.prompt(question, default=default, value_proc=checked, err=True))

    account = answer("account", "Account name", settings.account, values.name)
    key = _key(context, yes=yes)
    given = context.given.get("warehouse") or context.environment.environ.get(f"{PREFIX}WAREHOUSE")
    stored = settings.warehouse if settings.sources["warehouse"] != "default" else "warehouse.duckdb"
    place = str(given or stored)
    warehouse = answer("warehouse", "Warehouse (a file, or the URL of a server)", place, values.text)
    if "://" not in warehouse and folder != context.environment.folder:  # paths in the file start at its folder
        warehouse = str(context.environment.folder / Path(warehouse).expanduser())
    known = settings.timezone if settings.sources["timezone"] != "default" else local_zone()
    zone = answer("timezone", "Time zone of the days you want to see", known, values.timezone)
    more = {"api_url": settings.api_url} if settings.sources["api_url"] != "default" else {}
    return Answers(account, warehouse, zone, key, more)


def _key(context: CliContext, *, yes: bool) -> Secret:
    from etl.config.client_key import clean_key

    variable = f"{PREFIX}CLIENT_KEY"
    if found := context.environment.environ.get(variable):
        return clean_key(found, variable)
    if not yes:
        return clean_key(
            click.prompt("Key (from your account settings; not shown)", hide_input=True, err=True), "your answer"
        )
    if sys.stdin.isatty():
        raise UsageError("there is no key", f"write it to standard input, or export {variable}=...")
    return clean_key(sys.stdin.readline(), "standard input")


def _given(context: CliContext, answers: "Answers") -> dict[str, object]:
    names = {"account": answers.account, "warehouse": answers.warehouse, "timezone": answers.timezone}
    return {**context.given, **names}


def _sync(context: CliContext, config: Path) -> int:
    """Run the sync as the user would: this also tests the files."""
    from etl.cli.app import run

    _say(context, f"\n$ {NAME} sync")
    return run(["--config", str(config), "sync", *(["--quiet"] if context.as_json else [])], context.environment)

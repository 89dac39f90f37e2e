"""The command group, the exit codes and the entry point. Commands import what they need when they run."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from itertools import takewhile
from typing import NoReturn

import click

from etl.cli import alerts, demo, init, lake, maintain, publish, read, setup, sync
from etl.cli.context import CliContext
from etl.cli.options import COMPLETE_VARIABLE, NAME, common
from etl.cli.output import INTERNAL_ERROR, print_error, print_internal_error
from etl.config import Environment
from etl.errors import AppError, InterruptedRunError, UsageError

EPILOGUE = """\b
Exit codes:
    0  success, everything requested is stored
    1  finished, but some windows failed or were left for later: run it again
    2  usage or configuration error: read the message
    3  the API refused the account (key, IP, suspended): fix that first
    4  the warehouse: locked, unreadable, newer schema, disk
    5  data is loaded, but a blocking check, --max-age or an alert failed
  130  interrupted; run it again to continue

\b
Settings: command line, then environment, then anticaptcha-etl.toml, then
defaults. Every option --some-name is also ANTICAPTCHA_SOME_NAME in the
environment and some_name = in the file, there also per account under
[accounts.NAME]. The API key is never an option. Use one of:
    export ANTICAPTCHA_CLIENT_KEY=...
    export ANTICAPTCHA_CLIENT_KEY_FILE=PATH
    client_key_file = "PATH" under [accounts.NAME] in anticaptcha-etl.toml

\b
No key yet?   anticaptcha-etl demo
"""


@click.group(epilog=EPILOGUE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@common
def cli() -> None:
    """Load your Anti-Captcha spending history into a local warehouse.

    \b
    anticaptcha-etl demo                 see it work, no key needed
    anticaptcha-etl sync                 load what is missing
    anticaptcha-etl status               coverage and freshness
    anticaptcha-etl query "select day, queue, money from spending_daily"
    """


for command in (
    init.init, sync.sync, sync.plan, read.status, read.check, read.query, read.report, publish.publish,
    publish.export, lake.lake, maintain.replay, maintain.migrate, maintain.transfer, maintain.doctor,
    alerts.alerts, setup.config, setup.completion, setup.mcp, demo.sandbox, demo.demo,
):  # fmt: skip
    cli.add_command(command)


def run(arguments: Sequence[str], environment: Environment | None = None) -> int:
    """Run one command and return its exit code. Never raises."""
    umask = os.umask(0o077)  # the warehouse and its temporary files are private to their owner
    try:
        context = CliContext(environment or Environment.here(), file_mode=0o666 & ~umask)
        context.as_json = "--json" in takewhile("--".__ne__, arguments)  # also for errors in other options
        return Context().run(_run, arguments, context)  # log context variables end with it
    finally:
        os.umask(umask)


def _run(arguments: Sequence[str], context: CliContext) -> int:
    code = _exit_code(arguments, context)
    if context.ping_url:
        from etl.maintenance.notify import ping

        ping(context.ping_url, code, "\n".join(context.report_lines))
    return code


def _exit_code(arguments: Sequence[str], context: CliContext) -> int:
    try:
        with cli.make_context(NAME, list(arguments), obj=context) as click_context:
            cli.invoke(click_context)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else NAME
        message = error.format_message()
        print_error(UsageError(f"{message[:1].lower()}{message[1:].rstrip('.')}", f"see {path} --help"), context)
        return error.exit_code
    except AppError as error:
        print_error(error, context)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(context)
    except BrokenPipeError:  # the reader closed the pipe, as in `query ... | head`; nothing is flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - last resort: a traceback and an exit code of the contract
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11, while a class is created
            return _interrupted(context)
        print_internal_error(error, context)
        return INTERNAL_ERROR
    return context.code


def _interrupted(context: CliContext) -> int:
    error = InterruptedRunError("interrupted", "")
    if context.keeps_progress:
        error = InterruptedRunError("interrupted; everything committed so far is kept", "run it again to continue")
    print_error(error, context)
    return error.exit_code


def main() -> NoReturn:
    """Console script. SIGTERM ends a run like Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    _reopen_closed_streams()
    environment = Environment.here()
    if instruction := environment.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {"obj": CliContext(environment)}, NAME, COMPLETE_VARIABLE, instruction))
    signal.signal(signal.SIGTERM, interrupt)
    code = run(sys.argv[1:])
    if code == InterruptedRunError.exit_code or threading.active_count() == 1:
        # A second interrupt does not wait for threads that commit. A plain exit would then abort inside DuckDB, and
        # otherwise spend 0.04 s on unloading it (measured).
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _reopen_closed_streams() -> None:
    """Open closed standard streams (``2>&-``) on /dev/null, so that no other file gets their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))

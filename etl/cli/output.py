"""Write results and errors for people and for machines."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from etl import __version__
from etl.cli.context import CliContext
from etl.cli.options import NAME
from etl.config import SETTINGS, config_path
from etl.errors import AppError, UsageError

if TYPE_CHECKING:
    from etl.sync.results import AccountOutcome

MAX_WIDTH = 100
"""Terminal columns used at most: longer lines are hard to read."""
INTERNAL_ERROR = 1
"""Exit code of a bug. It comes with a traceback, so it cannot be mistaken for failed windows."""
INTERNAL_ERROR_MESSAGE = f"internal error in {NAME} {__version__}; please report it with its traceback"


def terminal_width() -> int:
    """Columns to use: the terminal's width, 80 without a terminal."""
    return min(MAX_WIDTH, shutil.get_terminal_size((80, 24)).columns)


def log_event(event: str, counts: Mapping[str, object], *, needs_attention: bool) -> None:
    """Log a result as one line; with --quiet only errors are logged."""
    import logging

    level = logging.ERROR if needs_attention else logging.INFO
    logging.getLogger("etl.cli").log(level, event, extra=counts)


def show(context: CliContext, result: object, text: str, *, quiet: bool = False) -> None:
    """Print a result as text or, with --json, as JSON."""
    if quiet:
        return
    if context.as_json:
        from etl.outputs.serialize import as_json, plain

        text = as_json(plain(result))
    click.echo(text)


def outcome_fields(outcome: "AccountOutcome") -> dict[str, object]:
    """An account of several as ``--json`` prints it."""
    problem = outcome.problem
    return {
        "account": outcome.account,
        "exit_code": outcome.exit_code,
        "result": outcome.result,
        "error": problem.message if problem else INTERNAL_ERROR_MESSAGE if outcome.crash else None,
        "hint": problem.hint if problem else None,
    }


def print_error(error: AppError, context: CliContext) -> None:
    """Print an error and its hint to standard error, or log both as JSON."""
    context.report_lines += [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]
    if context.as_json:
        _print_json_error(error.message, error.hint, error.exit_code)
        return
    if wants_json(context):
        import logging

        extra = {"remedy": error.hint, "exit_code": error.exit_code}
        logging.getLogger("etl.cli").error(error.message, extra=extra)
        return
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def print_internal_error(error: Exception, context: CliContext) -> None:
    """Print a bug with its traceback. Tracebacks contain no values of variables, so no secrets."""
    context.report_lines += ["error: internal error; see the log for its traceback"]
    if context.as_json:
        import traceback

        traceback.print_exception(error)
        _print_json_error(INTERNAL_ERROR_MESSAGE, "the lines above are its traceback", INTERNAL_ERROR)
        return
    if wants_json(context):
        import logging

        logging.getLogger("etl.cli").error(
            "%s", INTERNAL_ERROR_MESSAGE, exc_info=error, extra={"exit_code": INTERNAL_ERROR}
        )
        return
    import traceback

    traceback.print_exception(error)
    click.echo(f"error: internal error in {NAME} {__version__}; please report it with the lines above", err=True)


def _print_json_error(message: str, hint: str, exit_code: int) -> None:
    from etl.outputs.serialize import as_json

    click.echo(as_json({"error": message, "hint": hint, "exit_code": exit_code}), err=True)


def wants_json(context: CliContext) -> bool:
    """True if log lines are JSON. Without loaded settings the command line and the environment decide."""
    requested = (context.given.get("log_format"), context.environment.environ.get(SETTINGS["log_format"].variable))
    if not context.log_format and "json" in requested:
        from etl import logging_setup

        context.log_format = "json"
        logging_setup.configure_logging(sys.stderr, form="json", quiet=False, verbose=False)
    return context.log_format == "json"


def output_target(output: str | None, warehouse_url: str, context: CliContext) -> Path | None:
    """Return the output file, None for standard output.

    Raises UsageError if it is the warehouse, a file that belongs to the warehouse, or the configuration file.
    """
    if not output or output == "-":
        return None
    from etl.warehouse.engine import warehouse_path

    target = context.environment.folder / output
    warehouse, config = warehouse_path(warehouse_url), config_path(context.given, context.environment)[0]
    real = Path(os.path.realpath(target))
    for protected, what in ((warehouse, "the warehouse"), (config, "the configuration file")):
        is_same = real == protected
        with suppress(OSError):  # one of the two does not exist
            is_same = is_same or (protected is not None and real.samefile(protected))
        if is_same:
            raise UsageError(f"{target} is {what}", "choose another file with -o")
    pattern = re.escape(warehouse.name) + r"\.(wal|.*\.lock)" if warehouse else ""
    if warehouse and real.parent == warehouse.parent and re.fullmatch(pattern, real.name):
        raise UsageError(f"{target} belongs to the warehouse", "choose another file with -o")
    return target


@contextmanager
def open_output(target: Path | None, mode: int) -> Iterator[TextIO]:
    """Open standard output, or a file that replaces ``target`` when it is complete; a failure leaves the old file.

    A symbolic link is kept and its target replaced. Devices and pipes are written to directly.
    """
    if target is None:
        yield sys.stdout
        return
    if stream := _standard_stream(target):
        yield stream
        return
    real = Path(os.path.realpath(target))
    temporary = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        is_regular = target.is_file() or not target.exists()
        with (temporary if is_regular else target).open("w", encoding="utf-8", newline="") as file:
            yield file
        if is_regular:
            with suppress(PermissionError):  # file systems without modes
                temporary.chmod(mode)
            temporary.replace(real)
    except BrokenPipeError:  # the reader closed the pipe
        raise
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", "choose another file with -o") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _standard_stream(target: Path) -> TextIO | None:
    """The stream behind ``/dev/stdout`` and the like; the caller's file behind it is not replaced."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # no such file, or a stream without a file descriptor
            if os.path.samestat(target.stat(), os.fstat(stream.fileno())):
                return stream
    return None

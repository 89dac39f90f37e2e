"""The commands ``sandbox`` and ``demo``."""

import errno
import shlex
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.cli.context import CliContext
from etl.cli.options import NAME, common
from etl.cli.output import show
from etl.config import PREFIX, Environment
from etl.errors import UsageError, most_severe
from etl.sync.summary import count

if TYPE_CHECKING:
    from etl.sandbox.behaviour import Fault

FIRST_QUERY = (
    "select queue, sum(volume) as tasks, sum(money) as usd from spending_daily group by queue order by usd desc"
)

DEPOSIT = 20_000
"""US dollars."""

DATASET_OPTIONS = ("seed", "queues", "corrections")
"""Options of the generated history."""

SANDBOX_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "port": (click.IntRange(0, 65535), 8484, "Port on 127.0.0.1; 0 = any."),
    "seed": (int, 1, "Seed of the generated history."),
    "days": (click.IntRange(0, 20000), 400, "Days of history before today."),
    "queues": (click.IntRange(1, 500), 6, "Number of queues; some of them start later or stop earlier."),
    "corrections": (bool, False, "Correct some closed hours 1 h, 24 h or 7 days after their end."),
    "latency": (click.FloatRange(0, 60), 0, "Seconds per response."),
    "idle": (["zero", "omit"], "zero", "Hours without spend: records of zero, or omitted."),
    "buckets": ([23, 24, 25], 24, "Number of hourly records per response."),
    "numbers": (["number", "string", "noise"], "number", "How numbers are written."),
    "listed": (["array", "object"], "array", 'Form of data: [...] or {"0":...}.'),
    "unknown-queue": (["error", "zeros", "totals"], "error", "Response for an unknown queue."),
    "off-hour": (["snap", "shift"], "snap", "Response for a date that is not on a whole hour."),
    "grid-seconds": (click.IntRange(-3599, 3599), 0, "Where hours begin; -900 means at minute 45."),
    "running/--no-running": (bool, True, "Include the running hour."),
    "unbegun/--no-unbegun": (bool, False, "Include hours that have not begun, as zeros."),
    "foreign-app": (["error", "zeros", "totals"], "error", "Response for a softId of another account."),
    "foreign-ip": (["zeros", "totals", "error"], "zeros", "Response for an IP that never called."),
    "retention-days": (click.IntRange(1), None, "Older dates get an empty response."),
    "duplicates": (["none", "identical", "differing"], "none", "Send one record twice."),
    "balance-form": (["number", "string", "noise", "missing", "error"], "number", "Response of getBalance."),
    "deposit": (click.FloatRange(0), DEPOSIT, "US dollars paid in before the history begins."),
    "date-skew-seconds": (int, 0, "Error of the server's clock."),
}
"""Allowed values, default, help text. Most options are about what is unknown about the real API."""


def _sandbox_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (kind, default, text) in reversed(SANDBOX_OPTIONS.items()):
        choice = click.Choice(kind) if isinstance(kind, list) else kind
        is_flag = kind is bool
        option = click.option(f"--{name}", type=choice, is_flag=is_flag, default=default, show_default=True, help=text)
        function = option(function)
    return function


@click.command()
@_sandbox_options
@click.option(
    "--fault",
    "faults",
    metavar="KIND=RATE",
    multiple=True,
    help="Fault for this share of requests, 0 to 1. Repeatable. An unknown KIND lists all.",
)
@common
@click.pass_obj
def sandbox(
    context: CliContext,
    /,
    port: int,
    days: int,
    latency: float,
    deposit: float,
    faults: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve a local stand-in for the API until Ctrl-C.

    Generates years of spending from a seed. Options choose its faults and what is unknown about the real API.
    Its apps are 1011, 1022 and 1033, its addresses 192.0.2.10, 192.0.2.20 and 198.51.100.7.

    \b
    anticaptcha-etl sandbox
    anticaptcha-etl sandbox --days 1000 --queues 12 --latency 0.05
    anticaptcha-etl sandbox --fault html_502=0.05 --fault cut=0.02 --idle omit
    """
    from etl.sandbox.behaviour import Behaviour
    from etl.sandbox.dataset import Dataset
    from etl.sandbox.server import Sandbox, run_forever

    context.settings()
    begins = context.clock.now().date() - timedelta(days=days)
    dataset = Dataset(begins=begins, **{name: options.pop(name) for name in DATASET_OPTIONS})
    deposits = ((datetime.combine(begins, time(), UTC), Decimal(str(deposit))),)
    behaviour = Behaviour(latency_seconds=latency, deposits=deposits, **options)
    server = Sandbox(dataset, behaviour, tuple(map(_parse_fault, faults)), port=port)

    def announce(url: str) -> None:
        if context.as_json:
            show(context, {"url": url, "days": days}, "")
            return
        click.echo(f"The sandbox serves {url} with {days} days of history until Ctrl-C. In another terminal:")
        click.echo(f"  export {PREFIX}API_URL={url}\n  export {PREFIX}CLIENT_KEY=any-text\n  {NAME} sync")
        sys.stdout.flush()

    try:
        run_forever(server, announce)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(
            f"cannot use port {port} of 127.0.0.1: {error.strerror}", "choose another --port, or 0 for any free one"
        ) from error
    click.echo(f"\nAnswered {count(len(server.requests), 'request')}")


def _parse_fault(text: str) -> "Fault":
    from etl.sandbox.behaviour import Fault, FaultKind

    kind, _, rate = text.partition("=")
    try:
        share = float(rate or "1")
    except ValueError:
        share = -1.0
    if kind not in list(FaultKind) or not 0 <= share <= 1:
        raise UsageError(
            f"--fault {text} is not KIND=RATE with a rate from 0 to 1", f"known kinds: {', '.join(FaultKind)}"
        )
    return Fault(FaultKind(kind), rate=share)


@click.command()
@click.option("--keep", metavar="DIR", help="Keep the warehouse in this folder. Without it nothing is left behind.")
@common
@click.pass_obj
def demo(context: CliContext, keep: str | None) -> None:
    """Try it without a key: sandbox, sync, status, first query.

    Runs in a temporary folder; nothing leaves this machine. With --json it prints the three results only.

    \b
    anticaptcha-etl demo
    anticaptcha-etl demo --keep try-out     keeps try-out/warehouse.duckdb
    """
    from etl.cli.app import run
    from etl.sandbox.behaviour import Behaviour
    from etl.sandbox.dataset import Dataset
    from etl.sandbox.server import Sandbox

    with ExitStack() as stack:
        if keep:
            folder = context.environment.folder / keep
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{NAME}-demo-")))
        if (folder / "warehouse.duckdb").exists():
            raise UsageError(
                f"{folder} already contains a warehouse",
                "choose a new folder, so that demo data never mixes with yours",
            )
        folder.mkdir(parents=True, exist_ok=True)
        now = context.clock.now()  # fixed, so that the running hour is the same in every response
        dataset = Dataset(begins=now.date() - timedelta(days=120), queues=5, turnover=False)
        behaviour = Behaviour(unknown_queue="zeros", deposits=((now - timedelta(days=121), Decimal(DEPOSIT)),))
        server = stack.enter_context(Sandbox(dataset, behaviour, now=lambda: now))
        variables = {f"{PREFIX}API_URL": server.url, f"{PREFIX}CLIENT_KEY": "any-text-will-do"}
        say: Callable[[str], object] = (lambda _: None) if context.as_json else click.echo  # then only commands print
        say("A local stand-in for the API serves 120 days of generated spending. You would type:\n")
        say("\n".join([f"$ cd {folder}", *(f"$ export {name}={value}" for name, value in variables.items())]))
        as_json = ["--json"] if context.as_json else []
        for command in (["sync"], ["status"], ["query", FIRST_QUERY]):
            say(f"\n$ {NAME} {shlex.join(command)}")
            sys.stdout.flush()
            context.code = most_severe([context.code, run([*command, *as_json], Environment(variables, folder))])
            if context.code:
                return
    if keep:
        warehouse = folder / "warehouse.duckdb"
        say(f'\nKept {warehouse}. Next: {NAME} query --warehouse {warehouse} "select ..."')
    say(f"\nWith your own key: export {PREFIX}CLIENT_KEY=... and then {NAME} sync")

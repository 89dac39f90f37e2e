"""Cost of commands as whole processes: ``--help``, ``status``, ``query``, ``report``, and a sync with nothing to do."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cost import cost, etl, in_turn
from benchmarks.figure import Figure
from benchmarks.service import Account, serving
from benchmarks.windows import backfill

BARE_CLICK = (
    "import click; click.Group('bare', commands=[click.Command(name) for name in 'abcdefghijklmn'])(['--help'])"
)
BARE_DUCKDB = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('select 1').fetchall())"


def measure(*, short: bool) -> Iterator[Figure]:
    rounds = 3 if short else 5
    bare, ours = in_turn(
        rounds,
        lambda: cost(sys.executable, "-c", BARE_CLICK).cpu,
        lambda: cost(sys.executable, "-m", "etl", "--help").cpu,
    )
    yield Figure("--help, processor time", ours / bare, None, floor="bare click", of="s")
    yield Figure("--help, processor time", ours, 0.15, "s")
    account = Account.today(10 if short else 61, queues=9)
    with tempfile.TemporaryDirectory() as folder, serving(account) as url:
        backfill(url, account, 16, folder)
        yield from _commands(folder, url, account, rounds)


def _commands(folder: str, url: str, account: Account, rounds: int) -> Iterator[Figure]:
    file, page = Path(folder) / "warehouse.duckdb", Path(folder) / "report.html"
    sync, query, bare, status, report = in_turn(
        rounds,
        lambda: backfill(url, account, 16, folder).seconds,
        lambda: etl(folder, "query", "select 1").seconds,
        lambda: cost(sys.executable, "-c", BARE_DUCKDB, str(file)).seconds,
        lambda: etl(folder, "status").seconds,
        lambda: etl(folder, "report", "-o", page).seconds,
    )
    yield Figure("sync with nothing to do", sync, 1.3, "s", remark=f"{account.days} days of {account.queues} queues")
    yield Figure('query "select 1"', query / bare, 1.8, floor="bare duckdb", remark=f"{query:.2f} s / {bare:.2f} s")
    yield Figure("status", status, 0.8, "s")
    yield Figure("report", report, 2.5, "s")

"""Share of read-only opens of the warehouse that succeed at once while a backfill runs: what a BI tool would see."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import duckdb

from benchmarks.cost import etl, write_settings
from benchmarks.figure import Figure
from benchmarks.service import Account, serving

EVERY = 0.05
"""Seconds between attempts."""


def measure(*, short: bool) -> Iterator[Figure]:
    days = 10 if short else 121
    fast = ("--rate", 0, "--concurrency", 8)
    yield _during(
        "9 queues, 30 ms, 8 at once", fast, Account.today(days, queues=9), target=95, rounds=1 if short else 3
    )
    slow = ("--concurrency", 4)
    account = Account.today(3 if short else 15, queues=5)
    yield _during("5 queues, 30 ms, 5 requests per second", slow, account, target=95, rounds=1 if short else 3)


def _during(name: str, limits: tuple[object, ...], account: Account, target: float, rounds: int) -> Figure:
    opened = attempts = 0
    with serving(account, 0.03) as url:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                write_settings(folder, queues=account.dataset.names)
                sync = ("sync", "--since", account.begins)
                # the first day, so that there is something to open from the beginning
                etl(folder, *sync, "--until", account.begins, "--rate", 0, ANTICAPTCHA_API_URL=url)
                with attempts_on(Path(folder) / "warehouse.duckdb") as found:
                    etl(folder, *sync, *limits, ANTICAPTCHA_API_URL=url)
            opened, attempts = opened + found["opened"], attempts + found["attempts"]
    share = 100 * opened / attempts
    remark = f"{opened} of {attempts}"
    return Figure(f"opens that succeed at once, {name}", share, target, "%", remark=remark, more_is_better=True)


@contextmanager
def attempts_on(file: Path) -> Iterator[dict[str, int]]:
    """Open the file again and again, from another process, until the end of the block; yields the counts after it."""
    found: dict[str, int] = {}
    command = [sys.executable, "-m", "benchmarks.opens", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdout.readline()  # after the first attempt
            yield found
        finally:
            process.stdin.close()
            found |= json.loads(process.stdout.read())


def main(file: str) -> None:
    """Attempt at regular times until standard input is closed."""
    is_over = Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        is_over.set()

    Thread(target=wait_for_end, daemon=True).start()
    attempts = opened = 0
    began = monotonic()
    while not is_over.wait(max(0, began + attempts * EVERY - monotonic())):
        attempts += 1
        try:
            duckdb.connect(file, read_only=True).close()
            opened += 1
        except duckdb.IOException:
            pass
        if attempts == 1:
            print("started", flush=True)
    print(json.dumps({"attempts": attempts, "opened": opened}))


if __name__ == "__main__":
    main(*sys.argv[1:])

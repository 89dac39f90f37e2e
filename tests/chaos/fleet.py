"""Sync many accounts into one PostgreSQL or Citus cluster with several processes, and kill one of them now and then.

``python -m tests.chaos.fleet ACCOUNTS --days N --queues N --processes N --kills N --seed N`` prints the result; exit
code 1 if an account is not exact or has no finished sync.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.warehouse.engine import open_warehouse
from tests.postgres import is_citus, migrated, new_database, run_sql

ACCOUNTS_AT_ONCE, CONCURRENCY = 4, 4
"""Accounts that a process syncs at the same time, and concurrent requests of each."""


class FleetRun(NamedTuple):
    """The result. ``wrong``: accounts whose hours differ from the API's data; ``unfinished``: those without a finished sync."""

    accounts: int
    facts: int
    hours: int
    requests: int
    minimum_requests: int
    kills: int
    wrong: tuple[str, ...]
    unfinished: tuple[str, ...]
    seconds: float
    size: int

    @property
    def is_exact(self) -> bool:
        return not self.wrong and not self.unfinished


class Fleet:
    """Accounts with a sandbox each, and the processes that sync them."""

    def __init__(
        self,
        folder: Path,
        accounts: int,
        days: int,
        queues: int,
        processes: int,
        seed: int,
        warehouse: str | None = None,
    ) -> None:
        now = datetime.now(UTC)  # the sandboxes stay at this time; the processes use the real clock
        begins = now.date() - timedelta(days=days)
        self.sandboxes = {
            f"agency-{number:04}": Sandbox(
                Dataset(seed=seed * 10_000 + number, begins=begins, queues=queues, idle_weeks=0, turnover=False),
                Behaviour(unknown_queue="zeros"),
                now=lambda: now,
            )
            for number in range(accounts)
        }
        self.warehouse = warehouse or (new_database(like=migrated()) if is_citus() else new_database())
        self.begins, self.today, self.processes = begins, now.date(), processes
        self.last_hour = now.replace(tzinfo=None) - timedelta(hours=1)
        """Hours that began later have not ended: if no hour of today has, its queues are not requested."""
        self._folder = folder

    def write_toml(self) -> None:
        tables = [
            f'[accounts.{name}]\napi_url = "{sandbox.url}"\nclient_key_env = "KEY_{number}"\n'
            for number, (name, sandbox) in enumerate(self.sandboxes.items())
        ]
        (self._folder / "anticaptcha-etl.toml").write_text("\n".join(tables))

    def start(self, part: int) -> "subprocess.Popen[bytes]":
        keys = {f"KEY_{number}": f"key-of-{name}" for number, name in enumerate(self.sandboxes)}
        variables = {
            "ANTICAPTCHA_WAREHOUSE": self.warehouse, "ANTICAPTCHA_SHARD": f"{part}/{self.processes}", "ANTICAPTCHA_RATE": "0",
            "ANTICAPTCHA_CONCURRENCY": str(CONCURRENCY), "ANTICAPTCHA_ACCOUNTS_AT_ONCE": str(ACCOUNTS_AT_ONCE),
            "ANTICAPTCHA_SINCE": str(self.begins), "ANTICAPTCHA_LOG_FORMAT": "json",
        }  # fmt: skip
        command = [sys.executable, "-m", "etl", "sync", "--all"]
        with (self._folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self._folder, env={**keys, **variables}, stdout=log, stderr=log)

    def finished(self) -> int:
        return int(
            run_sql(self.warehouse, "select count(distinct account_id) from internal.runs where exit_code = 0")[0][0]
        )

    def wrong(self) -> tuple[str, ...]:
        """Return the accounts whose hours differ from the data of their sandbox."""
        stored: dict[str, Counter[tuple[object, ...]]] = {name: Counter() for name in self.sandboxes}
        with open_warehouse(self.warehouse, read_only=True).connect() as connection:
            rows = connection.execution_options(stream_results=True).exec_driver_sql(
                "select account, queue, hour_start, volume, money from spending_hourly"
            )
            for account, *hour in rows:
                if hour[1] <= self.last_hour:
                    stored[account][tuple(hour)] += 1
        return tuple(name for name, sandbox in self.sandboxes.items() if stored[name] != self._expected(sandbox))

    def _expected(self, sandbox: Sandbox) -> Counter[tuple[object, ...]]:
        rows = sandbox.expected_rows(self.begins, self.today)
        hours = ((queue, hour.replace(tzinfo=None), volume, money) for queue, hour, volume, money in rows)
        return Counter(hour for hour in hours if hour[1] <= self.last_hour)


def run(
    folder: Path,
    accounts: int,
    days: int,
    queues: int,
    *,
    processes: int = 4,
    kills: int = 0,
    seed: int = 1,
    pause: float = 4,
) -> FleetRun:
    """Sync all accounts, kill processes ``kills`` times at random and restart them, until every process ends by itself."""
    random_source = random.Random(seed)
    fleet = Fleet(folder, accounts, days, queues, processes, seed)
    with ExitStack() as stack:
        for sandbox in fleet.sandboxes.values():
            stack.enter_context(sandbox)
        fleet.write_toml()
        started, left = time.monotonic(), kills
        running = {part: fleet.start(part) for part in range(processes)}
        codes: dict[int, int] = {}
        until = time.monotonic() + random_source.uniform(0.5, 1.5) * pause
        while running:
            threading.Event().wait(0.1)
            for part, process in list(running.items()):
                if process.poll() is not None:
                    codes[part] = process.returncode
                    del running[part]
            if left and running and time.monotonic() > until:
                part = random_source.choice(sorted(running))
                running[part].send_signal(signal.SIGKILL)
                running[part].wait()
                running[part] = fleet.start(part)
                left, until = left - 1, time.monotonic() + random_source.uniform(0.5, 1.5) * pause
        seconds = time.monotonic() - started
        assert set(codes.values()) == {0}, (codes, [(folder / f"{part}.log").read_text()[-2000:] for part in codes])
        unfinished = {*fleet.sandboxes} - {
            name for (name,) in run_sql(fleet.warehouse, "select account from sync_runs where exit_code = 0")
        }
        [(facts, hours, size)] = run_sql(
            fleet.warehouse,
            "select (select count(*) from internal.facts), (select count(*) from spending_hourly), "
            "pg_database_size(current_database())",
        )
        requests = sum(len(sandbox.requests) for sandbox in fleet.sandboxes.values())
        minimum_requests = sum(
            len({(request.date, request.queue) for request in sandbox.requests}) for sandbox in fleet.sandboxes.values()
        )
        return FleetRun(
            accounts,
            facts,
            hours,
            requests,
            minimum_requests,
            kills - left,
            fleet.wrong(),
            tuple(sorted(unfinished)),
            round(seconds, 1),
            size,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fleet", description=__doc__)
    parser.add_argument("accounts", type=int, nargs="?", default=200)
    for name, default in (("days", 60), ("queues", 3), ("processes", 4), ("kills", 12), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            Path(folder),
            options.accounts,
            options.days,
            options.queues,
            processes=options.processes,
            kills=options.kills,
            seed=options.seed,
        )
    for name, value in result._asdict().items():
        print(f"{name:<11} {value if isinstance(value, tuple) else f'{value:,}'}")
    return 0 if result.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())

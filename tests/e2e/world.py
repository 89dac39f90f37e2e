"""One account for end-to-end tests: a sandbox API, a temporary folder, a fixed time and syncs between them."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import duckdb

from etl import cli, config
from etl.clock import Clock
from etl.sandbox.behaviour import Behaviour, Fault, Request
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.sync.results import SyncResult
from etl.sync.run import sync_account
from etl.warehouse.engine import warehouse_path, warehouse_url
from etl.warehouse.schema import metadata
from tests import postgres
from tests.migrated_file import copy_migrated

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TODAY = NOW.date()
KEY = "5e1f0c2b9a8d47630123456789abcdef"
UNATTRIBUTED = "(unattributed)"
DEFAULT_BEHAVIOUR = Behaviour()
WITHOUT_RETRIES = Behaviour(unknown_queue="zeros")
"""For commands with real time: by default the API returns an error for unknown queues, which is retried after 5 s."""

LOOKBACK = 3
"""The default: every sync requests today and this many days before it again."""

Hours = dict[tuple[str, datetime], tuple[int, Decimal]]
"""(queue, hour_start without zone) → (volume, money)."""


class RequestedWindow(NamedTuple):
    """One window as the sandbox saw it: the hour sent as ``date``, and the queue (None: the total)."""

    start: datetime
    queue: str | None


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def totals(*days: date) -> set[RequestedWindow]:
    return {RequestedWindow(midnight(day), None) for day in days}


def windows(requests: Iterable[Request]) -> Counter[RequestedWindow]:
    return Counter(
        RequestedWindow(datetime.fromtimestamp(request.date or 0, UTC), request.queue) for request in requests
    )


class _SleptTime(threading.local):
    """Seconds a thread has slept. Kept per thread, so that a sleep does not time out another thread's request."""

    seconds = 0.0


def clock_without_waiting(now: Callable[[], datetime]) -> Clock:
    """Return a clock whose sleeps take no time: they only advance the monotonic time of the sleeping thread."""
    thread = _SleptTime()

    def sleep(seconds: float) -> None:
        thread.seconds += seconds

    return Clock(now, lambda: time.monotonic() + thread.seconds, sleep)


def small(days: int, queues: int | tuple[str, ...] = 3, seed: int = 1, **more: Any) -> Dataset:
    """Return a history of ``days`` days before today. It has no idle weeks, which a small ``empty_days`` would take for
    the start of the history."""
    return Dataset(seed=seed, begins=ago(days), queues=queues, **{"idle_weeks": 0, "turnover": False, **more})


def warehouse_in(folder: Path) -> str:
    """Return the URL of the warehouse of a world in this folder."""
    return warehouse_url(str(folder / "warehouse.duckdb"))


@dataclass
class World:
    """One account with its own sandbox API, which runs inside the ``with`` block.

    ``now`` is the time of the API and, plus ``ahead``, of the syncs; tests may change both.
    """

    folder: Path
    dataset: Dataset
    behaviour: Behaviour = DEFAULT_BEHAVIOUR
    faults: tuple[Fault, ...] = ()
    now: datetime = NOW
    ahead: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(self.dataset, self.behaviour, self.faults, now=lambda: self.now)
        self.file = self.folder / "warehouse.duckdb"
        self.warehouse = warehouse_in(self.folder)

    def __enter__(self) -> Self:
        self.sandbox.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sandbox.__exit__(kind, error, trace)

    # -- syncing

    @property
    def _state_home(self) -> dict[str, str]:
        """The journal of a warehouse on a server is in the world's folder, too."""
        return {"XDG_STATE_HOME": str(self.folder.resolve() / "state")}

    def sync(self, key: str = KEY, **options: object) -> SyncResult:
        """Run one sync in this process, at ``now`` and without real waiting. A new warehouse is copied, not migrated."""
        self.copy_new_warehouse()
        variables = {"ANTICAPTCHA_CLIENT_KEY": key, "ANTICAPTCHA_API_URL": self.sandbox.url, **self._state_home}
        environment = config.Environment(variables, self.folder)
        options = {
            "warehouse": self.warehouse,
            "rate": 0,
            "concurrency": 8,
            "empty_days": 5,
            "spot_checks": 0,
            "balance": False,
            **options,
        }
        clock = clock_without_waiting(lambda: self.now + self.ahead)
        settings = config.load(options, clock.now(), environment, needs_key=True)
        return Context().run(sync_account, settings, clock, lambda progress: None)  # the log context ends with it

    def copy_new_warehouse(self) -> None:
        """Put a migrated warehouse where there is none yet, which is faster than migrating it."""
        path = warehouse_path(self.warehouse)
        if path is not None and not path.exists():
            copy_migrated(path)

    def start(self, concurrency: int) -> "subprocess.Popen[str]":
        """Start one sync at ``now`` in a process of its own, with real waiting."""
        arguments = [str(self.folder), self.sandbox.url, self.now.isoformat(), str(concurrency)]
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_WAREHOUSE": self.warehouse, **self._state_home}
        return subprocess.Popen(
            [sys.executable, str(SYNC_ONCE), *arguments], stderr=subprocess.PIPE, text=True, env=environ
        )

    def run(self, *arguments: str, key: str | None = KEY, **environment: str) -> int:
        """Run a command in this process, in this folder and with real time; return its exit code."""
        return cli.run(arguments, config.Environment({**self.variables(key), **environment}, self.folder))

    def command(self, *arguments: str, key: str | None = KEY) -> "subprocess.Popen[str]":
        """Start ``anticaptcha-etl`` in a process of its own, in this folder, with real time."""
        return subprocess.Popen(
            [sys.executable, "-m", "etl", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.variables(key),
        )

    def variables(self, key: str | None) -> dict[str, str]:
        """Environment variables of a command for this account."""
        variables = {"ANTICAPTCHA_API_URL": self.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "5"}
        variables |= {"ANTICAPTCHA_SPOT_CHECKS": "0", "ANTICAPTCHA_BALANCE": "false"}
        variables |= {"ANTICAPTCHA_WAREHOUSE": self.warehouse, **self._state_home}
        return variables if key is None else {**variables, "ANTICAPTCHA_CLIENT_KEY": key}

    def wait_for(self, process: "subprocess.Popen[str]", requests: int) -> None:
        """Wait until the sandbox has received this many requests; fail if the process ends before."""
        while len(self.requests) < requests:
            assert process.poll() is None, process.communicate()
            threading.Event().wait(0.01)

    # -- what the sandbox received

    @property
    def requests(self) -> tuple[Request, ...]:
        return self.sandbox.requests

    def requested(self, since: int = 0) -> Counter[RequestedWindow]:
        """Count the requests of each window, without the first ``since`` requests."""
        return windows(self.requests[since:])

    def requested_by(self, action: Callable[[], object]) -> Counter[RequestedWindow]:
        """Count the requests of each window while ``action`` runs."""
        before = len(self.requests)
        action()
        return self.requested(before)

    # -- expected and stored rows, which must agree

    def expected_rows(self, since: date = date(2015, 1, 1), until: date | None = None) -> Hours:
        """Return the hours of the sandbox's own dataset at ``now``."""
        rows = self.sandbox.expected_rows(since, until or self.now.date(), self.now)
        return {(queue, hour.replace(tzinfo=None)): (volume, money) for queue, hour, volume, money in rows}

    def hourly(self) -> Hours:
        """Return the rows of the view ``spending_hourly``."""
        rows = self.rows("select queue, hour_start, volume, money from spending_hourly")
        stored: Hours = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
        assert len(stored) == len(rows), "an hour of a queue is stored twice"
        return stored

    @property
    def is_file(self) -> bool:
        return self.warehouse.startswith("duckdb")

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that both engines understand; parameters are written %s."""
        if not self.is_file:
            return postgres.run_sql(self.warehouse, sql, *parameters)
        with duckdb.connect(self.file) as connection:
            return connection.execute(sql.replace("%s", "?"), list(parameters)).fetchall()

    def one(self, sql: str) -> Any:
        """Return the single value of a query."""
        [[value]] = self.rows(sql)
        return value

    def statuses(self) -> Counter[str]:
        return Counter(dict(self.rows("select status, count(*) from coverage_daily group by status")))

    def days(self, status: str) -> set[date]:
        return {day for (day,) in self.rows(f"select day from coverage_daily where status = '{status}'")}


SYNC_ONCE = Path(__file__).with_name("sync_once.py")


def money(hours: Hours) -> tuple[int, Decimal]:
    """Return volume and money summed over all hours."""
    return sum(volume for volume, _ in hours.values()), sum((paid for _, paid in hours.values()), Decimal(0))


def by_hour(hours: Hours) -> dict[datetime, tuple[int, Decimal]]:
    """Return the hours of the account, summed over its queues."""
    sums: dict[datetime, tuple[int, Decimal]] = {}
    for (_, hour), (volume, paid) in hours.items():
        sum_volume, sum_paid = sums.get(hour, (0, Decimal(0)))
        sums[hour] = sum_volume + volume, sum_paid + paid
    return sums


def export(world: World) -> dict[str, list[tuple[object, ...]]]:
    """Return the sorted rows of every table that a replay rebuilds."""
    columns_by_table = {"day_coverage": "t.*", "snapshots": "t.*"}
    for table in ("facts", "revisions", "over_allocated_hours", "rejections"):
        columns = (column.name for column in metadata.tables[f"internal.{table}"].columns if column.name != "series_id")
        columns_by_table[table] = ", ".join(["s.dimension", "s.member", *(f"t.{name}" for name in columns)])
    joined = "left join internal.series s on s.account_id = t.account_id and s.series_id = t.series_id"
    return {
        table: sorted(
            world.rows(f"select {columns} from internal.{table} t {'' if columns == 't.*' else joined}"), key=repr
        )
        for table, columns in columns_by_table.items()
    }

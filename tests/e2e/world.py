"""A whole small world: the stand-in API, a throw-away folder, a clock that stands still, and a sync between them."""

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

from etl import config
from etl.clock import Clock
from etl.sandbox.behaviour import Behaviour, Fault, Request
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.sync.results import SyncResult
from etl.sync.run import sync_account
from etl.warehouse.engine import warehouse_url
from etl.warehouse.schema import metadata
from tests import postgres

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TODAY = NOW.date()
KEY = "5e1f0c2b9a8d47630123456789abcdef"
UNATTRIBUTED = "(unattributed)"
LIKELIEST = Behaviour()

LOOKBACK = 3
"""The default: with it, today and so many days before it are read again by every sync."""

Hours = dict[tuple[str, datetime], tuple[int, Decimal]]
"""(queue, hour_start without zone) → (volume, money)."""


class Asked(NamedTuple):
    """One window as the stand-in saw it: the hour sent as ``date``, and the queue; None is the total."""

    start: datetime
    queue: str | None


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def totals(*days: date) -> set[Asked]:
    return {Asked(midnight(day), None) for day in days}


def windows(requests: Iterable[Request]) -> Counter[Asked]:
    return Counter(Asked(datetime.fromtimestamp(request.date or 0, UTC), request.queue) for request in requests)


class _Naps(threading.local):
    """Seconds a thread has slept. Its own, so that one thread's patience is not the end of another's request."""

    slept = 0.0


def napless(now: Callable[[], datetime]) -> Clock:
    """A clock on which waiting takes no time: who sleeps only sees its own ticks go on."""
    naps = _Naps()

    def sleep(seconds: float) -> None:
        naps.slept += seconds

    return Clock(now, lambda: time.monotonic() + naps.slept, sleep)


def small(days: int, queues: int | tuple[str, ...] = 3, seed: int = 1, **more: Any) -> Dataset:
    """A history of so many days before today, without idle weeks: a small ``empty_days`` would take one for its
    start."""
    return Dataset(seed=seed, begins=ago(days), queues=queues, **{"idle_weeks": 0, "turnover": False, **more})


def place(folder: Path) -> str:
    """The URL of the warehouse that a world of this folder has."""
    return warehouse_url(str(folder / "warehouse.duckdb"))


@dataclass
class World:
    """One account against one stand-in, from ``with`` to the end of the block. ``now`` is everyone's time and may be
    moved.

    By ``ahead`` this machine's own clock runs before everyone's.
    """

    folder: Path
    dataset: Dataset
    behaviour: Behaviour = LIKELIEST
    faults: tuple[Fault, ...] = ()
    now: datetime = NOW
    ahead: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(self.dataset, self.behaviour, self.faults, now=lambda: self.now)
        self.file = self.folder / "warehouse.duckdb"
        self.warehouse = place(self.folder)

    def __enter__(self) -> Self:
        self.sandbox.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sandbox.__exit__(kind, error, trace)

    # -- syncing

    def sync(self, key: str = KEY, **given: object) -> SyncResult:
        """One sync in this process, at ``now``; what it does not wait for is time."""
        place = config.Environment(
            {"ANTICAPTCHA_CLIENT_KEY": key, "ANTICAPTCHA_API_URL": self.sandbox.url}, self.folder
        )
        said = {"warehouse": self.warehouse, "rate": 0, "concurrency": 8, "empty_days": 5, **given}
        clock = napless(lambda: self.now + self.ahead)
        chosen = config.load(said, clock.now(), place, needs_key=True)
        return Context().run(sync_account, chosen, clock, lambda progress: None)  # its log lines' fields end with it

    def start(self, concurrency: int) -> "subprocess.Popen[str]":
        """The same in a process of its own, with real waiting."""
        words = [str(self.folder), self.sandbox.url, self.now.isoformat(), str(concurrency)]
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_WAREHOUSE": self.warehouse}
        return subprocess.Popen(
            [sys.executable, str(SYNC_ONCE), *words], stderr=subprocess.PIPE, text=True, env=environ
        )

    def command(self, *words: str, key: str | None = KEY) -> "subprocess.Popen[str]":
        """``anticaptcha-etl`` as a person starts it, in this folder, with real time."""
        environ = {"ANTICAPTCHA_API_URL": self.sandbox.url, "ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "5"}
        environ["ANTICAPTCHA_WAREHOUSE"] = self.warehouse
        return subprocess.Popen(
            [sys.executable, "-m", "etl", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environ if key is None else {**environ, "ANTICAPTCHA_CLIENT_KEY": key},
        )

    def wait_for(self, process: "subprocess.Popen[str]", requests: int) -> None:
        """Until the stand-in has met so many requests; the process must live to make them."""
        while len(self.requests) < requests:
            assert process.poll() is None, process.communicate()
            threading.Event().wait(0.01)

    # -- the log of the stand-in

    @property
    def requests(self) -> tuple[Request, ...]:
        return self.sandbox.requests

    def asked(self, since: int = 0) -> Counter[Asked]:
        """How often each window was asked, from the request after the first ``since`` on."""
        return windows(self.requests[since:])

    def asked_by(self, act: Callable[[], object]) -> Counter[Asked]:
        """The windows that an act asks for."""
        before = len(self.requests)
        act()
        return self.asked(before)

    # -- the two sides that must agree

    def expected_rows(self, since: date = date(2015, 1, 1), until: date | None = None) -> Hours:
        """What the stand-in itself has in its books at ``now``."""
        told = self.sandbox.expected_rows(since, until or self.now.date(), self.now)
        return {(queue, hour.replace(tzinfo=None)): (volume, money) for queue, hour, volume, money in told}

    def hourly(self) -> Hours:
        """What analysts read."""
        rows = self.rows("select queue, hour_start, volume, money from spending_hourly")
        held: Hours = {(queue, hour): (volume, money) for queue, hour, volume, money in rows}
        assert len(held) == len(rows), "an hour of a queue stands there twice"
        return held

    @property
    def is_file(self) -> bool:
        return self.warehouse.startswith("duckdb")

    def rows(self, sql: str, *given: object) -> list[tuple[Any, ...]]:
        """What SQL gives, in words that both engines know; a parameter is written %s."""
        if not self.is_file:
            return postgres.ask(self.warehouse, sql, *given)
        with duckdb.connect(self.file) as connection:
            return connection.execute(sql.replace("%s", "?"), list(given)).fetchall()

    def one(self, sql: str) -> Any:
        """The one value that a query gives."""
        [[value]] = self.rows(sql)
        return value

    def statuses(self) -> Counter[str]:
        return Counter(dict(self.rows("select status, count(*) from coverage_daily group by status")))

    def days(self, status: str) -> set[date]:
        return {day for (day,) in self.rows(f"select day from coverage_daily where status = '{status}'")}


SYNC_ONCE = Path(__file__).with_name("sync_once.py")


def money(hours: Hours) -> tuple[int, Decimal]:
    """Volume and money over all hours."""
    return sum(volume for volume, _ in hours.values()), sum((paid for _, paid in hours.values()), Decimal(0))


def by_hour(hours: Hours) -> dict[datetime, tuple[int, Decimal]]:
    """The account's hours: every queue together."""
    sums: dict[datetime, tuple[int, Decimal]] = {}
    for (_, hour), (volume, paid) in hours.items():
        held_volume, held_paid = sums.get(hour, (0, Decimal(0)))
        sums[hour] = held_volume + volume, held_paid + paid
    return sums


def export(world: World) -> dict[str, list[tuple[object, ...]]]:
    """Everything that a replay makes anew, in order."""
    own = {"day_coverage": "t.*", "snapshots": "t.*"}
    for table in ("facts", "revisions", "over_allocated_hours", "rejections"):
        columns = (column.name for column in metadata.tables[f"internal.{table}"].columns if column.name != "series_id")
        own[table] = ", ".join(["s.dimension", "s.member", *(f"t.{name}" for name in columns)])
    joined = "left join internal.series s on s.account_id = t.account_id and s.series_id = t.series_id"
    return {
        table: sorted(
            world.rows(f"select {columns} from internal.{table} t {'' if columns == 't.*' else joined}"), key=repr
        )
        for table, columns in own.items()
    }

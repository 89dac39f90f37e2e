"""The warehouses a life can have: what a night runs on, what a kill leaves, and what is stored after it."""

import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import duckdb

from etl import config
from etl.clock import Clock
from etl.config import Settings
from etl.config.alert_rules import read_rules
from etl.extract import journal
from etl.extract.client import Client
from etl.extract.rate_limit import RateLimiter
from etl.hour_values import FactValues
from etl.load.stored import StoredSnapshot, StoredStateReader
from etl.load.stored_account import Account, account_of, account_row
from etl.maintenance.alerting import AlertsResult, run_alerts
from etl.models import ChangeReason, Dimension, Fact, Measures, MemberStatus, Revision, SeriesKey, day_start
from etl.secret import Secret
from etl.sync import run as sync_run
from etl.sync.account_sync import AccountSync
from etl.sync.replay import replay
from etl.sync.results import SyncResult
from etl.transform.reconcile import single_facts
from etl.warehouse import migrate
from etl.warehouse.account_files import journal_prefix
from etl.warehouse.checks import CheckFailure
from etl.warehouse.duckdb import _NO_EXTENSIONS, file_of
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.reading import ConnectionReader, Reader, from_db_utc, open_for_reading
from tests import postgres
from tests.migrated_file import copy_migrated
from tests.simulator.memory import MemoryStore, MemoryWarehouse, StoredRevision
from tests.simulator.nights import Night, StoreKind

HELD_OPEN: set[Path] = set()
"""The file that stays open: reading it then needs the configuration of writers."""

API_URL = "http://127.0.0.1:9"
KEY = "5e1f0c2b9a8d47630123456789abcdef"
OLD_REVISION = "0001"

URLS = (Secret("0"), Secret("1"))
"""Where alerts are delivered to; each is its own place in the list."""
RULES = read_rules(
    [
        {"kind": "budget", "usd": 0.5, "period": "day"},
        {"kind": "budget", "usd": 10},
        {"kind": "runway", "days": 20},
        {"kind": "anomaly", "usd": 0.05},
        {"kind": "price"},
        {"kind": "stale"},
        {"kind": "unattributed"},
    ],
    "the simulator",
)


@dataclass(frozen=True)
class View:
    """What is stored after a night: of the days asked for, and of the account as a whole."""

    snapshots: list[StoredSnapshot]
    facts: dict[date, list[Fact]]
    doubled: int
    statuses: dict[date, str]
    members: dict[SeriesKey, MemberStatus]
    revisions: list[StoredRevision]
    needs_verification: frozenset[Dimension]
    hour_offset: int
    over_allocated: frozenset[date]
    balances: tuple[Decimal, ...]
    """In the order of the runs."""


class Store(Protocol):
    """One warehouse in a folder, with its journal."""

    folder: Path
    alerts: AlertsResult | None
    """Of the last run; None if they were not evaluated."""

    def run(self, night: Night, key: str, clock: Clock, cancelled: threading.Event) -> SyncResult | None: ...
    def copy(self, target: Path) -> None: ...
    def restore(self, source: Path, *, with_journal: bool) -> None: ...
    def view(self, after: int, days: Iterable[date], revisions_after: int) -> View: ...
    def close(self) -> None: ...
    @property
    def journal(self) -> Path: ...


def settings_of(folder: Path, warehouse: str, night: Night, now: datetime, key: str) -> Settings:
    base = _base_settings(warehouse, str(folder))
    return replace(
        base,
        lookback=night.lookback,
        spot_checks=2,
        concurrency=night.concurrency,
        max_requests=night.max_requests,
        totals_only=night.totals_only,
        queues=night.queues,
        soft_ids=night.soft_ids,
        ips=night.ips,
        trusted_queues=night.trusted_queues,
        key=Secret(key),
        key_changed=night.key_changed,
        balance=night.balance,
        alerts=RULES,
        notify=URLS,
    )


_settings: dict[tuple[str, str], Settings] = {}


def _base_settings(warehouse: str, folder: str) -> Settings:
    key = warehouse, folder
    if key not in _settings:
        _settings.clear()
        variables = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": API_URL, "XDG_STATE_HOME": f"{folder}/state"}
        options = {"warehouse": warehouse, "rate": 0, "empty_days": 5}
        environment = config.Environment(variables, Path(folder))
        _settings[key] = config.load(options, datetime(2026, 1, 1, tzinfo=UTC), environment, needs_key=True)
    return _settings[key]


def _copy_files(source: Path, target: Path, keep: Callable[[Path], bool] = lambda path: True) -> None:
    for path in source.iterdir():
        if path.is_file() and keep(path) and not path.name.endswith(".lock"):
            shutil.copy(path, target / path.name)


def _is_beside(path: Path) -> bool:
    """A file that stays when an older copy of the warehouse is put back: of the journal, or the record of deliveries."""
    return ".journal." in path.name or path.name.endswith(".alerts.json")


# ---------------------------------------------------------------- memory


class _MemorySync(AccountSync):
    """Without the checks, which are SQL."""

    def _run_checks(self, reader: Reader) -> Sequence[CheckFailure]:
        return ()


class MemoryFolder:
    """A warehouse in memory; its journal is in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = MemoryWarehouse(Account(1, "default", "ab" * 32, None, None, None, None, {}))
        self._copies: dict[Path, MemoryWarehouse] = {}
        self.alerts: AlertsResult | None = None

    @property
    def journal(self) -> Path:
        return self.folder / "warehouse.duckdb.default.journal"

    def run(self, night: Night, key: str, clock: Clock, cancelled: threading.Event) -> SyncResult | None:
        settings = settings_of(self.folder, str(self.folder / "warehouse.duckdb"), night, clock.now(), key)
        assert settings.key
        if night.key_changed:
            self.rows.account = replace(self.rows.account, identity=hashlib.sha256(key.encode()).hexdigest())
        jitter = random.Random(0).random
        with Client(API_URL, settings.key, RateLimiter(settings.rate, clock), clock, jitter) as client:
            store: Any = self.open(clock, settings.key)
            sync = _MemorySync(settings, clock, lambda progress: None, store, client, self.journal, cancelled)
            return sync.run()

    def open(self, clock: Clock, key: Secret) -> MemoryStore:
        return MemoryStore(self.rows, clock.now)

    def close(self) -> None:
        self._copies.clear()

    def copy(self, target: Path) -> None:
        _copy_files(self.folder, target)
        self._copies[target] = self.rows.copied()

    def restore(self, source: Path, *, with_journal: bool) -> None:
        self.rows = self._copies[source].copied()
        if with_journal:
            for path in self.folder.iterdir():
                path.unlink()
            _copy_files(source, self.folder)

    def view(self, after: int, days: Iterable[date], revisions_after: int) -> View:
        rows = self.rows
        wanted = {*days} | {day for day, found in rows.snapshots.items() if found and found[-1].number > after}
        wanted |= {one.day for one in rows.revisions[revisions_after:]}
        store = MemoryStore(rows, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        return View(
            snapshots=store.snapshots(wanted),
            facts={day: [*rows.facts[day].values()] for day in wanted if rows.facts.get(day)},
            doubled=rows.doubled,
            statuses={day: row.status for day, row in rows.days.items()},
            members={change.series: change.member_status for change in rows.statuses},
            revisions=rows.revisions[revisions_after:],
            needs_verification=_needing_verification(rows.behaviours),
            hour_offset=rows.account.hour_offset_seconds or 0,
            over_allocated=frozenset(rows.over_allocated),
            balances=tuple(balance for _, balance in rows.balances),
        )


def _needing_verification(behaviours: Iterable[tuple[datetime, Dimension, Any]]) -> frozenset[Dimension]:
    current = {dimension: item for _, dimension, item in behaviours}
    return frozenset(dimension for dimension, item in current.items() if item.answer.value == "totals")


# ---------------------------------------------------------------- databases


class DatabaseFolder:
    """A DuckDB file in the folder, or a PostgreSQL database whose journal is in the folder."""

    def __init__(self, folder: Path, kind: StoreKind, *, starts_old: bool = False) -> None:
        self.folder, self._is_file = folder, kind == "duckdb"
        if self._is_file:
            self._url = warehouse_url(str(copy_migrated(folder / "warehouse.duckdb")))
            if starts_old:
                migrate.downgrade(open_warehouse(self._url), OLD_REVISION)
        else:
            self._url = postgres.new_database(postgres.migrated())
        self._settings = _base_settings(self._url, str(folder))
        self._anchor: Any = None
        self.alerts: AlertsResult | None = None

    def _hold_open(self, is_held: bool) -> None:
        """Keep the file open between the program's own openings, which then cost little, or let go of it."""
        if self._anchor and not is_held:
            self._anchor.close()
            self._anchor = None
        elif is_held and not self._anchor and self._is_file:
            path = file_of(self._url)
            self._anchor = duckdb.connect(str(path), config=dict(_NO_EXTENSIONS))
        HELD_OPEN.clear()
        HELD_OPEN.update({file_of(self._url)} if self._anchor else ())

    def close(self) -> None:
        self._hold_open(False)

    @property
    def journal(self) -> Path:
        return journal_prefix(self._url, "default", self._settings.state_folder)

    def run(self, night: Night, key: str, clock: Clock, cancelled: threading.Event) -> SyncResult | None:
        settings = settings_of(self.folder, self._url, night, clock.now(), key)
        self._hold_open(night.is_held_open)
        self.alerts = None
        if night.replay:
            Context().run(replay, settings, clock)
            return None
        result = Context().run(sync_run.sync_account, settings, clock, lambda progress: None, None, cancelled)
        if night.has_alerts:
            self.alerts = Context().run(run_alerts, settings, clock)
        return result

    def copy(self, target: Path) -> None:
        _copy_files(self.folder, target)
        if not self._is_file and self.journal.parent.exists():
            _copy_files(self.journal.parent, target, _is_beside)

    def restore(self, source: Path, *, with_journal: bool) -> None:
        self._hold_open(False)
        if not self._is_file:
            for path in self.journal.parent.iterdir() if self.journal.parent.exists() else ():
                path.unlink()
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            _copy_files(source, self.journal.parent)
            return
        for path in self.folder.iterdir():
            if path.is_file() and (with_journal or not _is_beside(path)):
                path.unlink()
        _copy_files(source, self.folder, lambda path: with_journal or not _is_beside(path))

    def view(self, after: int, days: Iterable[date], revisions_after: int) -> View:
        with self._reader() as reader:
            if migrate.state(reader) != "current" or account_row(reader, "default") is None:
                return View([], {}, 0, {}, {}, [], frozenset(), 0, frozenset(), ())
            account = account_of(reader, account_row(reader, "default"))

            @contextmanager
            def reading() -> Iterator[Any]:
                yield reader

            stored = StoredStateReader(account, reading)
            new = reader.rows("select distinct day from internal.snapshots where snapshot_id > :after", after=after)
            revisions = _revisions(reader)[revisions_after:]
            wanted = {*days} | {day for (day,) in new} | {one.day for one in revisions}
            offset = account.hour_offset_seconds or 0
            return View(
                snapshots=stored.snapshots(wanted),
                facts=_single(stored.facts(wanted, offset), offset),
                doubled=_count_doubled(reader),
                statuses=dict(reader.rows("select day, status from internal.day_coverage")),
                members={change.series: change.member_status for change in stored.member_status_history()},
                revisions=revisions,
                needs_verification=_needing_verification(stored.unknown_name_behaviours()),
                hour_offset=offset,
                over_allocated=frozenset(
                    day for (day,) in reader.rows("select day from internal.over_allocated_hours")
                ),
                balances=tuple(
                    balance for (balance,) in reader.rows("select balance from internal.balances order by run")
                ),
            )

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        if self._is_file:
            with open_for_reading(self._url) as reader:
                yield reader
        else:
            with open_warehouse(self._url).connect() as connection:
                yield ConnectionReader(connection)


def _single(facts: dict[date, dict[SeriesKey, FactValues]], offset: int) -> dict[date, list[Fact]]:
    return {
        day: [
            fact
            for series, values in by_series.items()
            for fact in single_facts(series, values, day_start(day) + timedelta(seconds=offset))
        ]
        for day, by_series in facts.items()
    }


def _count_doubled(reader: Any) -> int:
    keys = {"facts": "series_id, hour_start", "snapshots": "snapshot_id", "day_coverage": "day", "series": "series_id"}
    sums = " + ".join(
        f"(select count(*) - count(distinct ({key})) from internal.{table})" for table, key in keys.items()
    )
    [(count,)] = reader.rows(f"select {sums}")
    return int(count)


def _revisions(reader: Any) -> list[StoredRevision]:
    rows = reader.rows(
        "select r.day, s.dimension, s.member, r.hour_start, r.volume_before, r.money_before, r.volume_after, r.money_after, "
        "r.cause, r.snapshot_id, r.seen_at from internal.revisions as r join internal.series as s "
        "on s.account_id = r.account_id and s.series_id = r.series_id order by r.seen_at, r.hour_start, s.series_id"
    )
    return [
        StoredRevision(
            day,
            Revision(
                SeriesKey(Dimension(dimension), member),
                from_db_utc(hour),
                Measures(volume, money),
                Measures(new_volume, new_money),
                ChangeReason(cause),
                snapshot,
            ),
            from_db_utc(seen),
        )
        for day, dimension, member, hour, volume, money, new_volume, new_money, cause, snapshot, seen in rows
    ]


def left_in(prefix: Path) -> list[journal.Segment]:
    """The segments in the journal, set aside or not usable ones too."""
    return journal.read_journals(prefix)

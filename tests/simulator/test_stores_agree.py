"""The warehouse in memory is itself held against DuckDB: every read of a night gives the same from both."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl.clock import Clock
from etl.hour_values import FactValues
from etl.load import accounts
from etl.load.state import SyncStateStore
from etl.load.stored import Coverage, StoredSnapshot
from etl.load.upsert import Batch, LoadCounts
from etl.models import Dimension, Finding, Measures, SeriesKey
from etl.secret import Secret
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.migrated_file import copy_migrated
from tests.simulator.life import Player
from tests.simulator.memory import MemoryStore, MemoryWarehouse
from tests.simulator.nights import Life
from tests.simulator.stores import MemoryFolder

NIGHTS = 4
ABRUPT = ("kill", "full", "replay", "put_back", "key")
"""Events after which only one of the two would be put back."""


class TwinStore(MemoryStore):
    """Writes to both, and reads from both."""

    def __init__(self, rows: MemoryWarehouse, clock: Clock, real: SyncStateStore) -> None:
        super().__init__(rows, clock.now)
        self._real = real

    def coverage(self, dimensions: Collection[Dimension]) -> Coverage:
        found = super().coverage(dimensions)
        assert found == self._real.coverage(dimensions)
        return found

    def snapshots(self, days: Iterable[date]) -> list[StoredSnapshot]:
        wanted = [*days]
        found, real = super().snapshots(wanted), self._real.snapshots(wanted)
        assert list(map(_without_commit, found)) == list(map(_without_commit, real))
        return found

    def facts(self, days: Iterable[date], hour_offset: int) -> dict[date, dict[SeriesKey, FactValues]]:
        wanted = [*days]
        found = super().facts(wanted, hour_offset)
        assert found == self._real.facts(wanted, hour_offset)
        return found

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        wanted = [*days]
        found = super().spending(wanted)
        assert sorted(found, key=str) == sorted(self._real.spending(wanted), key=str)
        return found

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        found = super().last_spending()
        assert sorted(found) == sorted(self._real.last_spending())
        return found

    def days_with_members(self, series_keys: Iterable[SeriesKey]) -> list[date]:
        wanted = [*series_keys]
        found = super().days_with_members(wanted)
        assert found == self._real.days_with_members(wanted)
        return found

    def start_run(self, command: str, version: str, first: date, missing: Sequence[date]) -> int:
        found = super().start_run(command, version, first, missing)
        assert found == self._real.start_run(command, version, first, missing)
        return found

    def days_changed_by_unfinished_runs(self) -> list[date]:
        found = super().days_changed_by_unfinished_runs()
        assert found == sorted(self._real.days_changed_by_unfinished_runs())
        return found

    def add_spot_checks(self, days: Mapping[date, bool]) -> None:
        super().add_spot_checks(days)
        self._real.add_spot_checks(days)

    def balance_read_at(self) -> datetime | None:
        found = super().balance_read_at()
        assert found == self._real.balance_read_at()
        return found

    def set_hour_offset(self, seconds: int) -> None:
        super().set_hour_offset(seconds)
        self._real.set_hour_offset(seconds)

    def add_balance(self, read_at: datetime, balance: Decimal, captcha_credits: int | None) -> None:
        super().add_balance(read_at, balance, captcha_credits)
        self._real.add_balance(read_at, balance, captcha_credits)

    def commit(self, batch: Batch) -> LoadCounts:
        found = super().commit(batch)
        assert found == self._real.commit(batch)
        return found

    def finish_run(self, exit_code: int, results: Mapping[str, object], findings: Sequence[Finding]) -> int:
        super().finish_run(exit_code, results, findings)
        return self._real.finish_run(exit_code, results, findings)


def _without_commit(one: StoredSnapshot) -> StoredSnapshot:
    """Other threads may run between the two commits, so their times differ."""
    return replace(one, committed_at=one.requested_at)


class TwinFolder(MemoryFolder):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._engine: Any = open_warehouse(warehouse_url(str(copy_migrated(folder / "twin.duckdb"))))

    def open(self, clock: Clock, key: Secret) -> MemoryStore:
        with self._engine.connect() as connection:
            account = accounts.open_account(connection, "default", key, clock.now())
        return TwinStore(self.rows, clock, SyncStateStore(self._engine, account, clock.now))


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    ["agree-1", pytest.param("agree-2", marks=pytest.mark.long), pytest.param("agree-3", marks=pytest.mark.long)],
)
def test_memory_and_duckdb_give_the_same_at_every_read(tmp_path: Path, seed: str) -> None:
    without = frozenset(f"{number}:{event}" for number in range(1, NIGHTS + 1) for event in ABRUPT)
    player = Player(Life(seed, "memory", NIGHTS, without, 1), tmp_path)
    player.store = TwinFolder(tmp_path / "w")
    with player.simulation.installed(), closing(player.store):
        player.play()
    assert player.tally.snapshots

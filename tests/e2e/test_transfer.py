"""Transfer copies a whole warehouse to another engine or nothing; every row is equal, and syncs continue there."""

import shutil
import signal
import subprocess
import sys
import threading
import zlib
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import UsageError, WarehouseError
from etl.maintenance.transfer import transfer
from etl.outputs.publish import publish
from etl.sandbox.behaviour import Fault, FaultKind
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.schema import accounts, facts, metadata, rejections, responses, runs, series, snapshots
from tests.e2e.test_history import eventful, run_replay, sync_nightly
from tests.e2e.world import LOOKBACK, World, ago, small, totals
from tests.postgres import is_citus, migrated, new_database, run_sql

pytestmark = pytest.mark.server

TableRows = dict[str, list[tuple[Any, ...]]]


def copied(source: str, target: str) -> str:
    transfer(source, target, Clock(), wait=5)
    return target


def rows(url: str) -> TableRows:
    """Return every row of every table, as Python values."""
    with open_warehouse(url, read_only=True).connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def file(folder: Path, name: str = "archive.duckdb") -> str:
    return warehouse_url(str(folder / name))


def is_empty(url: str) -> bool:
    """True without accounts; a warehouse has its id from the beginning."""
    return not any(stored for name, stored in rows(url).items() if name != "warehouse")


def accounts_of(url: str) -> list[str]:
    with open_warehouse(url).connect() as connection:
        return list(connection.execute(sa.select(accounts.c.name)).scalars())


def test_an_eventful_history_copied_to_a_server_and_back_is_equal_and_replays_without_differences(
    tmp_path: Path,
) -> None:
    with eventful(tmp_path) as world:
        world.sandbox.faults += (Fault(FaultKind.NEGATIVE_VOLUME, rate=0.3),)
        sync_nightly(world)
        world.sync(spot_checks=2, balance=True)
        world.rows(
            "insert into internal.alerts values (1, 1, 'stale', 'stale', '', 'old', now(), null, null, null) returning 1"
        )
        before = rows(world.warehouse)
        may_be_empty = {"probes", "over_allocated_hours", "rate_limits"}
        assert {name for name, stored in before.items() if not stored} <= may_be_empty, "too little happened"
        on_a_server = copied(world.warehouse, new_database())
        assert rows(on_a_server) == before
        again = copied(on_a_server, file(tmp_path))
        assert rows(again) == before
        for world.warehouse in (on_a_server, again):
            result = run_replay(world)
            assert (result.differences, result.rows, result.dropped, result.unreadable) == ((), {}, (), ())
            assert result.facts == len(before["facts"])


@pytest.mark.parametrize("to", ["postgresql", "duckdb"])
def test_the_next_sync_continues_where_the_last_one_stopped(tmp_path: Path, to: str) -> None:
    with World(tmp_path, small(9, ("FunCaptcha",))) as world:
        world.file = tmp_path / "moved.duckdb"
        warehouses = [file(tmp_path, "moved.duckdb"), new_database()]
        world.warehouse, target = (
            warehouses[::-1] if to == "duckdb" else (file(tmp_path, "first.duckdb"), warehouses[1])
        )
        world.sync()
        world.warehouse = copied(world.warehouse, target)
        requested = world.requested_by(world.sync)
        assert {window for window in requested if window.queue is None} == totals(
            *(ago(n) for n in range(LOOKBACK + 1))
        )
        assert {window.start.date() for window in requested} == {ago(n) for n in range(LOOKBACK + 1)}
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- rejected transfers


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with World(tmp_path_factory.mktemp("synced"), small(3, 2)) as world:
        world.sync()
        return world.file


@pytest.fixture
def loaded(synced: Path, tmp_path: Path) -> str:
    """The URL of a warehouse file with a few days of an account."""
    return warehouse_url(str(shutil.copy(synced, tmp_path / "warehouse.duckdb")))


def test_a_target_with_accounts_is_rejected_and_stays_unchanged(loaded: str, tmp_path: Path) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    before = rows(target)
    with pytest.raises(UsageError, match="already has accounts: another"):
        copied(loaded, target)
    assert rows(target) == before


def test_a_rejected_target_of_an_older_schema_is_not_upgraded(loaded: str) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    engine = open_warehouse(target)
    migrate.downgrade(engine, "0005")
    with pytest.raises(UsageError, match="already has accounts: another"):
        copied(loaded, target)
    assert migrate.current(engine) == "0005"


def test_a_warehouse_is_not_transferred_into_itself_under_any_name(loaded: str, tmp_path: Path) -> None:
    path = Path(sa.make_url(loaded).database or "")
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    hard = tmp_path / "hard.duckdb"
    hard.hardlink_to(path)
    on_a_server = copied(loaded, new_database())
    url = sa.make_url(on_a_server)
    by_address = url.set(query={**url.query, "application_name": "other"}).render_as_string(hide_password=False)
    for source, target in ((loaded, loaded), (loaded, str(link)), (str(link), str(hard)), (on_a_server, by_address)):
        before = rows(warehouse_url(source))
        with pytest.raises(UsageError, match="is both source and target"):
            copied(source, target)
        assert rows(warehouse_url(source)) == before


def test_a_source_of_an_older_schema_is_rejected_with_the_command_that_upgrades_it(loaded: str) -> None:
    migrate.downgrade(open_warehouse(loaded), "0005")
    target = new_database()
    with pytest.raises(WarehouseError) as error:
        copied(loaded, target)
    assert "anticaptcha-etl migrate" in error.value.hint


def test_a_published_copy_is_rejected_as_source(loaded: str, tmp_path: Path) -> None:
    copy = publish(loaded, tmp_path / "copy.duckdb", Clock(), wait=0).path
    with pytest.raises(WarehouseError, match="published copy"):
        copied(str(copy), new_database())


def test_a_missing_source_is_rejected_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        copied(str(tmp_path / "nowhere.duckdb"), new_database())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- failures during a transfer


CHANGES = {
    "facts": "new.money := new.money + 0.000000001",
    "snapshots": "new.message := new.message || ' '",
    "responses": "new.body := new.body || '\\x00'",
    "accounts": "new.since := date '2020-01-01'",
    "runs": "new.exit_code := null",
}


@pytest.mark.skipif(is_citus(), reason="Citus has no triggers")
@pytest.mark.parametrize("table", CHANGES)
def test_a_row_changed_while_copied_is_found_and_everything_is_rolled_back(loaded: str, table: str) -> None:
    target = new_database(like=migrated())
    is_first = f"(select count(*) from internal.{table}) = 0"
    body = f"begin if {is_first} then {CHANGES[table]}; end if; return new; end"
    run_sql(target, f"create function change() returns trigger language plpgsql as $$ {body} $$")
    run_sql(target, f"create trigger change before insert on internal.{table} for each row execute function change()")
    with pytest.raises(WarehouseError, match=rf"differs from .* \({table}\); rolled back") as error:
        copied(loaded, target)
    assert error.value.exit_code == 4
    assert is_empty(target)


def test_a_killed_transfer_leaves_no_account_and_the_next_one_succeeds(loaded: str, tmp_path: Path) -> None:
    target = new_database(like=migrated())
    with open_warehouse(target).connect() as holder:
        holder.exec_driver_sql("lock table internal.facts in share mode")  # the transfer waits here
        command = [sys.executable, "-m", "etl", "transfer", str(sa.make_url(loaded).database), target]
        with subprocess.Popen(command, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            waiting = "select count(*) from pg_locks where not granted"
            while run_sql(target, waiting) == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert accounts_of(target) == []
    copied(loaded, target)
    assert rows(target) == rows(loaded)


def test_a_killed_transfer_into_a_file_leaves_no_account(loaded: str, tmp_path: Path) -> None:
    source = copied(loaded, new_database())
    with duckdb.connect() as none, open_warehouse(source).connect() as holder:
        none.close()
        holder.exec_driver_sql("lock table internal.revisions in access exclusive mode")
        command = [sys.executable, "-m", "etl", "transfer", source, "target.duckdb"]
        with subprocess.Popen(command, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            while run_sql(source, "select count(*) from pg_locks where not granted") == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.kill()
    target = file(tmp_path, "target.duckdb")
    assert accounts_of(target) == []
    copied(source, target)
    assert rows(target) == rows(loaded)


# ---------------------------------------------------------------- extreme values


AT = datetime(2026, 11, 22, 9, 30, 0, 123456)
LARGEST = Decimal("999999999.999999999")
COUNTS = (
    "requests",
    "retries",
    "windows_good",
    "windows_failed",
    "windows_left",
    "facts_inserted",
    "facts_changed",
    "rejections",
)
VALUES = (
    (2**63 - 1, LARGEST), (0, -LARGEST), (-(2**63), Decimal("-0.000000001")), (1, Decimal("0.000000001")), (0, Decimal(0)),
    (10**15, Decimal("100000000.000000001")),
)  # fmt: skip
EXTREMES: dict[sa.Table, list[dict[str, object]]] = {
    accounts: [
        {"account_id": 1, "name": "Ünï 漢字 🧩 'so' \"said\" | a\\b", "key_salt": bytes(range(256)), "key_hash": b"",
         "created_at": AT},
        {"account_id": 2, "name": "~", "key_salt": b"", "key_hash": b"\0", "since": date(1, 1, 1), "created_at": datetime(1, 1, 1)},
    ],
    series: [
        {"account_id": 1, "series_id": 1, "dimension": "total"},
        {"account_id": 1, "series_id": 2, "dimension": "queue", "member": ""},
        {"account_id": 1, "series_id": 3, "dimension": "queue", "member": "\N{RIGHT-TO-LEFT OVERRIDE}x\r\n\ty"},
    ],
    runs: [
        {"account_id": 1, "run": 2**31 - 1, "command": "sync", "version": "1", "started_at": AT, "out_of_window": 1,
         **dict.fromkeys(COUNTS, 0)},
    ],
    responses: [
        {"account_id": 1, "hash": "empty", "body": b""},
        {"account_id": 1, "hash": "huge", "body": zlib.compress(bytes(range(256)) * 40_000, 0)},
    ],
    snapshots: [
        {"account_id": 1, "snapshot_id": 1, "run": 1, "series_id": 1, "day": date(9999, 12, 31), "window_start": AT, "window_end": AT,
         "requested_at": AT, "committed_at": datetime(9999, 12, 31, 23, 59, 59, 999999), "outcome": "success", "code": "",
         "message": "a|b~"},
    ],
    facts: [
        {"account_id": 1, "series_id": 2, "day": AT.date(), "hour_start": AT.replace(hour=hour), "volume": volume, "money": money,
         "snapshot_id": 1, "loaded_at": AT}
        for hour, (volume, money) in enumerate(VALUES)
    ],
    rejections: [
        {"account_id": 1, "snapshot_id": 1, "series_id": 1, "day": AT.date(), "reason": "odd", "raw": r'{"a":"\u0000"}' * 9_000,
         "seen_at": AT},
    ],
}  # fmt: skip


def test_extreme_values_are_equal_on_both_sides(tmp_path: Path) -> None:
    source = file(tmp_path, "source.duckdb")
    migrate.upgrade(open_warehouse(source))
    with open_warehouse(source).begin() as connection:
        for table, table_rows in EXTREMES.items():
            for row in table_rows:
                connection.execute(sa.insert(table).values(row))
    before = rows(source)
    assert all(before[table.name] for table in EXTREMES)
    on_a_server = copied(source, new_database())
    assert rows(on_a_server) == before
    assert rows(copied(on_a_server, file(tmp_path))) == before


def test_an_empty_warehouse_is_transferred_too(tmp_path: Path) -> None:
    migrate.upgrade(open_warehouse(file(tmp_path, "empty.duckdb")))
    target = new_database()
    assert transfer(file(tmp_path, "empty.duckdb"), target, Clock(), wait=0).spent == {}
    assert is_empty(target)

"""Transfers between engines: all rows or none, equal on both sides, and syncs continue in the target."""

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
from tests.postgres import migrated, new_database, run_sql

pytestmark = pytest.mark.server

TableRows = dict[str, list[tuple[Any, ...]]]


def transferred(source: str, target: str) -> str:
    transfer(source, target, Clock(), wait=5)
    return target


def rows(url: str) -> TableRows:
    """Return the rows of every table."""
    with open_warehouse(url, read_only=True).connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def file(folder: Path, name: str = "archive.duckdb") -> str:
    return warehouse_url(str(folder / name))


def accounts_of(url: str) -> list[str]:
    with open_warehouse(url).connect() as connection:
        return list(connection.execute(sa.select(accounts.c.name)).scalars())


def test_an_eventful_history_is_the_same_on_a_server_and_back_in_a_file(
    tmp_path: Path,
) -> None:
    with eventful(tmp_path) as world:
        world.sandbox.faults += (Fault(FaultKind.NEGATIVE_VOLUME, rate=0.3),)
        sync_nightly(world)
        before = rows(world.warehouse)
        assert {name for name, stored in before.items() if not stored} <= {"probes", "over_allocated_hours"}, (
            "the history has too few events"
        )
        on_server = transferred(world.warehouse, new_database())
        assert rows(on_server) == before
        back_in_a_file = transferred(on_server, file(tmp_path))
        assert rows(back_in_a_file) == before
        for world.warehouse in (on_server, back_in_a_file):
            result = run_replay(world)
            assert (result.differences, result.rows, result.dropped, result.lost) == ((), {}, (), ())
            assert result.facts == len(before["facts"])


@pytest.mark.parametrize("to", ["postgresql", "duckdb"])
def test_the_next_sync_in_the_target_continues_after_the_last_one(tmp_path: Path, to: str) -> None:
    with World(tmp_path, small(9, ("FunCaptcha",))) as world:
        world.file = tmp_path / "moved.duckdb"
        urls = [file(tmp_path, "moved.duckdb"), new_database()]
        world.warehouse, target = urls[::-1] if to == "duckdb" else (file(tmp_path, "first.duckdb"), urls[1])
        world.sync()
        world.warehouse = transferred(world.warehouse, target)
        requested = world.requested_by(world.sync)
        assert {window for window in requested if window.queue is None} == totals(
            *(ago(n) for n in range(LOOKBACK + 1))
        )
        assert {window.start.date() for window in requested} == {ago(n) for n in range(LOOKBACK + 1)}
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- refused transfers


@pytest.fixture(scope="module")
def synced_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with World(tmp_path_factory.mktemp("synced"), small(3, 2)) as world:
        world.sync()
        return world.file


@pytest.fixture
def source_url(synced_file: Path, tmp_path: Path) -> str:
    """The URL of a file with some days of an account."""
    return warehouse_url(str(shutil.copy(synced_file, tmp_path / "warehouse.duckdb")))


def test_a_target_with_accounts_is_refused_and_not_changed(source_url: str, tmp_path: Path) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    before = rows(target)
    with pytest.raises(UsageError, match="already has accounts: another"):
        transferred(source_url, target)
    assert rows(target) == before


def test_a_refused_target_with_an_older_schema_is_not_upgraded(source_url: str) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    engine = open_warehouse(target)
    migrate.downgrade(engine, "0005")
    with pytest.raises(UsageError, match="already has accounts: another"):
        transferred(source_url, target)
    assert migrate.current(engine) == "0005"


def test_a_warehouse_cannot_be_transferred_into_itself_under_another_name(source_url: str, tmp_path: Path) -> None:
    path = Path(sa.make_url(source_url).database or "")
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    hard_link = tmp_path / "hard.duckdb"
    hard_link.hardlink_to(path)
    on_server = transferred(source_url, new_database())
    url = sa.make_url(on_server)
    by_address = url.set(query={**url.query, "application_name": "other"}).render_as_string(hide_password=False)
    for source, target in (
        (source_url, source_url),
        (source_url, str(link)),
        (str(link), str(hard_link)),
        (on_server, by_address),
    ):
        before = rows(warehouse_url(source))
        with pytest.raises(UsageError, match="is both source and target"):
            transferred(source, target)
        assert rows(warehouse_url(source)) == before


def test_a_source_with_an_older_schema_is_refused_with_a_hint_to_migrate(source_url: str) -> None:
    migrate.downgrade(open_warehouse(source_url), "0005")
    target = new_database()
    with pytest.raises(WarehouseError) as raised:
        transferred(source_url, target)
    assert "anticaptcha-etl migrate" in raised.value.hint


def test_a_published_copy_cannot_be_a_source(source_url: str, tmp_path: Path) -> None:
    copy = publish(source_url, tmp_path / "copy.duckdb", Clock(), wait=0).path
    with pytest.raises(WarehouseError, match="published copy"):
        transferred(str(copy), new_database())


def test_a_missing_source_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        transferred(str(tmp_path / "nowhere.duckdb"), new_database())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- failures during a transfer


CHANGED_ON_INSERT = {
    "facts": "new.money := new.money + 0.000000001",
    "snapshots": "new.message := new.message || ' '",
    "responses": "new.body := new.body || '\\x00'",
    "accounts": "new.since := date '2020-01-01'",
    "runs": "new.exit_code := null",
}


@pytest.mark.parametrize("table", CHANGED_ON_INSERT)
def test_a_row_changed_during_the_transfer_is_detected_and_everything_is_rolled_back(
    source_url: str, table: str
) -> None:
    target = new_database(like=migrated())
    table_is_empty = f"(select count(*) from internal.{table}) = 0"
    body = f"begin if {table_is_empty} then {CHANGED_ON_INSERT[table]}; end if; return new; end"
    run_sql(target, f"create function falsify() returns trigger language plpgsql as $$ {body} $$")
    run_sql(target, f"create trigger falsify before insert on internal.{table} for each row execute function falsify()")
    with pytest.raises(WarehouseError, match=rf"differs from .* \({table}\); rolled back") as raised:
        transferred(source_url, target)
    assert raised.value.exit_code == 4
    assert not any(rows(target).values())


def test_a_killed_transfer_to_a_server_leaves_no_account_and_the_next_one_succeeds(
    source_url: str, tmp_path: Path
) -> None:
    target = new_database(like=migrated())
    with open_warehouse(target).connect() as holder:
        holder.exec_driver_sql("lock table internal.revisions in share mode")  # the transfer has to wait here
        arguments = [sys.executable, "-m", "etl", "transfer", str(sa.make_url(source_url).database), target]
        with subprocess.Popen(arguments, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            waiting_locks = "select count(*) from pg_locks where not granted"
            while run_sql(target, waiting_locks) == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert accounts_of(target) == []
    transferred(source_url, target)
    assert rows(target) == rows(source_url)


def test_a_killed_transfer_to_a_file_leaves_no_account_and_the_next_one_succeeds(
    source_url: str, tmp_path: Path
) -> None:
    source = transferred(source_url, new_database())
    with duckdb.connect() as unused, open_warehouse(source).connect() as holder:
        unused.close()
        holder.exec_driver_sql("lock table internal.revisions in access exclusive mode")
        arguments = [sys.executable, "-m", "etl", "transfer", source, "target.duckdb"]
        with subprocess.Popen(arguments, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            while run_sql(source, "select count(*) from pg_locks where not granted") == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.kill()
    target = file(tmp_path, "target.duckdb")
    assert accounts_of(target) == []
    transferred(source, target)
    assert rows(target) == rows(source_url)


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
EXTREME_MEASURES = (
    (2**63 - 1, LARGEST), (0, -LARGEST), (-(2**63), Decimal("-0.000000001")), (1, Decimal("0.000000001")), (0, Decimal(0)),
    (10**15, Decimal("100000000.000000001")),
)  # fmt: skip
EXTREME_ROWS: dict[sa.Table, list[dict[str, object]]] = {
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
        for hour, (volume, money) in enumerate(EXTREME_MEASURES)
    ],
    rejections: [
        {"account_id": 1, "snapshot_id": 1, "series_id": 1, "day": AT.date(), "reason": "odd", "raw": r'{"a":"\u0000"}' * 9_000,
         "seen_at": AT},
    ],
}  # fmt: skip


def test_extreme_values_are_the_same_on_both_sides(tmp_path: Path) -> None:
    source = file(tmp_path, "source.duckdb")
    migrate.upgrade(open_warehouse(source))
    with open_warehouse(source).begin() as connection:
        for table, new_rows in EXTREME_ROWS.items():
            for row in new_rows:
                connection.execute(sa.insert(table).values(row))
    before = rows(source)
    assert all(before[table.name] for table in EXTREME_ROWS)
    on_server = transferred(source, new_database())
    assert rows(on_server) == before
    assert rows(transferred(on_server, file(tmp_path))) == before


def test_an_empty_warehouse_can_be_transferred(tmp_path: Path) -> None:
    migrate.upgrade(open_warehouse(file(tmp_path, "empty.duckdb")))
    target = new_database()
    assert transfer(file(tmp_path, "empty.duckdb"), target, Clock(), wait=0).spent == {}
    assert not any(rows(target).values())

"""A warehouse from one engine to the other: all of it or nothing, equal to the last row, and the syncs go on there."""

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
from tests.e2e.test_history import eventful, live, replayed
from tests.e2e.world import LOOKBACK, World, ago, small, totals
from tests.postgres import migrated, new_database, run_sql

pytestmark = pytest.mark.server

SuccessPayload = dict[str, list[tuple[Any, ...]]]


def moved(source: str, target: str) -> str:
    transfer(source, target, Clock(), wait=5)
    return target


def rows(url: str) -> SuccessPayload:
    """Every row of every table, as Python's values."""
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


def test_an_eventful_history_goes_to_a_server_and_back_row_for_row_and_a_replay_there_finds_nothing(
    tmp_path: Path,
) -> None:
    with eventful(tmp_path) as world:
        world.sandbox.faults += (Fault(FaultKind.NEGATIVE_VOLUME, rate=0.3),)
        live(world)
        before = rows(world.warehouse)
        assert {name for name, held in before.items() if not held} <= {"probes", "over_allocated_hours"}, (
            "too little happened"
        )
        on_a_server = moved(world.warehouse, new_database())
        assert rows(on_a_server) == before
        again = moved(on_a_server, file(tmp_path))
        assert rows(again) == before
        for world.warehouse in (on_a_server, again):
            result = replayed(world)
            assert (result.differences, result.rows, result.dropped, result.lost) == ((), {}, (), ())
            assert result.facts == len(before["facts"])


@pytest.mark.parametrize("to", ["postgresql", "duckdb"])
def test_the_next_sync_goes_on_where_the_last_one_stopped(tmp_path: Path, to: str) -> None:
    with World(tmp_path, small(9, ("FunCaptcha",))) as world:
        world.file = tmp_path / "moved.duckdb"
        places = [file(tmp_path, "moved.duckdb"), new_database()]
        world.warehouse, target = places[::-1] if to == "duckdb" else (file(tmp_path, "first.duckdb"), places[1])
        world.sync()
        world.warehouse = moved(world.warehouse, target)
        asked = world.requested_by(world.sync)
        assert {window for window in asked if window.queue is None} == totals(*(ago(n) for n in range(LOOKBACK + 1)))
        assert {window.start.date() for window in asked} == {ago(n) for n in range(LOOKBACK + 1)}
        assert world.hourly() == world.expected_rows()


# ---------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with World(tmp_path_factory.mktemp("synced"), small(3, 2)) as world:
        world.sync()
        return world.file


@pytest.fixture
def held(synced: Path, tmp_path: Path) -> str:
    """The URL of a file that holds some days of an account."""
    return warehouse_url(str(shutil.copy(synced, tmp_path / "warehouse.duckdb")))


def test_a_target_with_accounts_is_refused_and_stays_as_it_is(held: str, tmp_path: Path) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    before = rows(target)
    with pytest.raises(UsageError, match="already has accounts: another"):
        moved(held, target)
    assert rows(target) == before


def test_a_target_with_accounts_of_an_older_schema_is_not_upgraded_on_the_way_to_being_refused(held: str) -> None:
    target = new_database(like=migrated())
    run_sql(target, "insert into internal.accounts values (7, 'another', '', '', null, null, now(), null, null)")
    engine = open_warehouse(target)
    migrate.downgrade(engine, "0005")
    with pytest.raises(UsageError, match="already has accounts: another"):
        moved(held, target)
    assert migrate.current(engine) == "0005"


def test_a_warehouse_is_not_transferred_into_itself_by_whatever_name(held: str, tmp_path: Path) -> None:
    path = Path(sa.make_url(held).database or "")
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    hard = tmp_path / "hard.duckdb"
    hard.hardlink_to(path)
    on_a_server = moved(held, new_database())
    url = sa.make_url(on_a_server)
    by_address = url.set(query={**url.query, "application_name": "other"}).render_as_string(hide_password=False)
    for source, target in ((held, held), (held, str(link)), (str(link), str(hard)), (on_a_server, by_address)):
        before = rows(warehouse_url(source))
        with pytest.raises(UsageError, match="is both source and target"):
            moved(source, target)
        assert rows(warehouse_url(source)) == before


def test_a_source_of_an_older_schema_is_told_how_to_upgrade_it(held: str) -> None:
    migrate.downgrade(open_warehouse(held), "0005")
    target = new_database()
    with pytest.raises(WarehouseError) as refused:
        moved(held, target)
    assert "anticaptcha-etl migrate" in refused.value.hint


def test_a_published_copy_is_no_source(held: str, tmp_path: Path) -> None:
    copy = publish(held, tmp_path / "copy.duckdb", Clock(), wait=0).path
    with pytest.raises(WarehouseError, match="published copy"):
        moved(str(copy), new_database())


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        moved(str(tmp_path / "nowhere.duckdb"), new_database())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what goes wrong on the way


FALSIFIED = {
    "facts": "new.money := new.money + 0.000000001",
    "snapshots": "new.message := new.message || ' '",
    "responses": "new.body := new.body || '\\x00'",
    "accounts": "new.since := date '2020-01-01'",
    "runs": "new.exit_code := null",
}


@pytest.mark.parametrize("table", FALSIFIED)
def test_a_row_that_is_falsified_on_the_way_is_found_and_nothing_is_kept(held: str, table: str) -> None:
    target = new_database(like=migrated())
    once = f"(select count(*) from internal.{table}) = 0"
    body = f"begin if {once} then {FALSIFIED[table]}; end if; return new; end"
    run_sql(target, f"create function falsify() returns trigger language plpgsql as $$ {body} $$")
    run_sql(target, f"create trigger falsify before insert on internal.{table} for each row execute function falsify()")
    with pytest.raises(WarehouseError, match=rf"differs from .* \({table}\); rolled back") as found:
        moved(held, target)
    assert found.value.exit_code == 4
    assert not any(rows(target).values())


def test_a_transfer_killed_half_way_leaves_no_account_and_the_next_one_succeeds(held: str, tmp_path: Path) -> None:
    target = new_database(like=migrated())
    with open_warehouse(target).connect() as holder:
        holder.exec_driver_sql("lock table internal.revisions in share mode")  # the transfer waits half way
        words = [sys.executable, "-m", "etl", "transfer", str(sa.make_url(held).database), target]
        with subprocess.Popen(words, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            waiting = "select count(*) from pg_locks where not granted"
            while run_sql(target, waiting) == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert accounts_of(target) == []
    moved(held, target)
    assert rows(target) == rows(held)


def test_a_transfer_into_a_file_killed_half_way_leaves_no_account(held: str, tmp_path: Path) -> None:
    source = moved(held, new_database())
    with duckdb.connect() as none, open_warehouse(source).connect() as holder:
        none.close()
        holder.exec_driver_sql("lock table internal.revisions in access exclusive mode")
        words = [sys.executable, "-m", "etl", "transfer", source, "target.duckdb"]
        with subprocess.Popen(words, cwd=tmp_path, env={}, stderr=subprocess.PIPE) as process:
            while run_sql(source, "select count(*) from pg_locks where not granted") == [(0,)]:
                assert process.poll() is None, process.communicate()
                threading.Event().wait(0.05)
            process.kill()
    target = file(tmp_path, "target.duckdb")
    assert accounts_of(target) == []
    moved(source, target)
    assert rows(target) == rows(held)


# ---------------------------------------------------------------- values at the edges


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
EDGES: dict[sa.Table, list[dict[str, object]]] = {
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


def test_values_at_the_edges_are_the_same_on_both_sides(tmp_path: Path) -> None:
    source = file(tmp_path, "source.duckdb")
    migrate.upgrade(open_warehouse(source))
    with open_warehouse(source).begin() as connection:
        for table, held in EDGES.items():
            for row in held:
                connection.execute(sa.insert(table).values(row))
    before = rows(source)
    assert all(before[table.name] for table in EDGES)
    on_a_server = moved(source, new_database())
    assert rows(on_a_server) == before
    assert rows(moved(on_a_server, file(tmp_path))) == before


def test_an_empty_warehouse_is_transferred_too(tmp_path: Path) -> None:
    migrate.upgrade(open_warehouse(file(tmp_path, "empty.duckdb")))
    target = new_database()
    assert transfer(file(tmp_path, "empty.duckdb"), target, Clock(), wait=0).spent == {}
    assert not any(rows(target).values())

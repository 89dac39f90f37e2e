"""The lake has the rows of the views, whatever happens between a warehouse and it."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable, QueryBuilder

from etl.clock import Clock
from etl.errors import WarehouseError
from etl.outputs.lake import delta
from etl.outputs.lake.push import Shipped, push
from etl.outputs.lake.status import LakeStatus, load_status
from etl.outputs.lake.tables import POSITIONS, tables
from etl.warehouse.parquet import ArrowStream
from tests.e2e.test_all import world_today
from tests.e2e.test_history import eventful, run_replay
from tests.e2e.world import World, ago, small

pytestmark = pytest.mark.contract

VIEWS = [table for table in tables() if table.name != POSITIONS]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def ship(world: World, lake: Path, names: Iterable[str] | None = None, *, is_replacement: bool = False) -> Shipped:
    return push(world.warehouse, str(lake), Clock(), wait=5, names=names, is_replacement=is_replacement)


def status_of(world: World, lake: Path) -> LakeStatus:
    return load_status(world.warehouse, str(lake), Clock(), wait=5)


def rows_of(lake: Path, table: str, columns: Iterable[str]) -> Counter[tuple[Any, ...]]:
    delta = DeltaTable(str(lake / table))
    found = QueryBuilder().register("t", delta).execute(f"select {', '.join(columns)} from t").read_all()
    with duckdb.connect() as connection:
        return Counter(connection.from_arrow(ArrowStream(found)).fetchall())


def assert_equal(world: World, lake: Path) -> None:
    for table in VIEWS:
        columns = ", ".join(table.columns)
        stored = Counter(tuple(row) for row in world.rows(f"select {columns} from {table.name}"))
        assert rows_of(lake, table.name, table.columns) == stored, table.name


def test_after_each_night_the_lake_has_the_rows_of_the_views(tmp_path: Path, lake: Path, engine_name: str) -> None:
    with eventful(tmp_path) as world:
        for night in range(4):
            world.sync()
            shipped = ship(world, lake)
            assert shipped.accounts == 1
            assert_equal(world, lake)
            assert ship(world, lake) == Shipped(0, 0, {})
            assert (shipped.days == 0) is (night == 0)
            world.now += timedelta(days=1)


def test_interrupted_between_any_two_tables_the_next_shipment_completes_it(
    tmp_path: Path, lake: Path, engine_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = delta.replace
    with World(tmp_path, small(3, queues=1, corrections=True)) as world:
        for completed in (0, 1, 2, 4, len(tables())):
            world.sync()
            left = [completed]

            def fail_later(*arguments: Any, left: list[int] = left) -> None:
                if not left[0]:
                    raise WarehouseError("the connection was lost")
                left[0] -= 1
                write(*arguments)

            monkeypatch.setattr(delta, "replace", fail_later)
            with pytest.raises(WarehouseError, match="the connection was lost"):
                ship(world, lake)
            monkeypatch.setattr(delta, "replace", write)
            assert status_of(world, lake).behind == 1
            world.sync()  # so that there is more to ship than the first time
            ship(world, lake)
            assert_equal(world, lake)
            assert status_of(world, lake).behind == 0
            world.now += timedelta(days=1)


@pytest.mark.of_the_file
def test_each_table_says_which_shipment_it_has_and_accounts_says_which_is_complete(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(4)) as world:
        for number in (1, 2, 3):
            world.sync()
            ship(world, lake)
            world.now += timedelta(days=1)
            [(warehouse, bucket, shipment)] = rows_of(lake, POSITIONS, ["warehouse", "bucket", "shipment"])
            assert shipment == number
            app = f"{warehouse}/{bucket}"
            assert {DeltaTable(str(lake / table.name)).transaction_version(app) for table in tables()} == {number}


@pytest.mark.of_the_file
def test_a_warehouse_that_was_restored_from_a_copy_ships_nothing_without_replace(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(6)) as world:
        world.sync()
        ship(world, lake)
        backup = tmp_path / "backup"
        shutil.copy(world.file, backup)
        world.now += timedelta(days=1)
        world.sync()
        ship(world, lake)
        shutil.copy(backup, world.file)
        for journal in tmp_path.glob("*.journal*"):
            journal.unlink()
        for _ in range(2):  # also once the copy has grown and has as many responses as the lake
            with pytest.raises(WarehouseError, match="newer state of default") as refused:
                ship(world, lake)
            assert "lake push --replace" in refused.value.hint
            assert status_of(world, lake).diverged == 1
            world.now += timedelta(hours=1)
            world.sync()
        ship(world, lake, is_replacement=True)
        assert_equal(world, lake)
        assert ship(world, lake).accounts == 0


@pytest.mark.of_the_file
def test_days_of_an_interrupted_shipment_are_not_forgotten_when_the_warehouse_is_restored(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = delta.replace
    with World(tmp_path, small(6)) as world:
        world.sync()
        ship(world, lake)
        backup = tmp_path / "backup"
        shutil.copy(world.file, backup)
        world.now += timedelta(days=1)
        world.sync()

        left = [len(tables())]

        def fail_at_the_last(*arguments: Any) -> None:
            if not left[0]:
                raise WarehouseError("the connection was lost")
            left[0] -= 1
            write(*arguments)

        monkeypatch.setattr(delta, "replace", fail_at_the_last)
        with pytest.raises(WarehouseError, match="the connection was lost"):
            ship(world, lake)
        monkeypatch.setattr(delta, "replace", write)
        assert status_of(world, lake).diverged == 0
        shutil.copy(backup, world.file)
        for journal in tmp_path.glob("*.journal*"):
            journal.unlink()
        with pytest.raises(WarehouseError, match="newer state of default"):
            ship(world, lake)
        assert status_of(world, lake).diverged == 1
        ship(world, lake, is_replacement=True)
        assert_equal(world, lake)
        assert ship(world, lake).accounts == 0


def test_an_account_belongs_to_one_warehouse(tmp_path: Path, lake: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with World(tmp_path / "first", small(3)) as first, World(tmp_path / "second", small(4, seed=2)) as second:
        for world in (first, second):
            world.sync()
        second.rows("update internal.warehouse set id = 'another'")  # tests copy a warehouse with its id
        second.sync(account="other", key="another-key-0123456789")
        ship(first, lake)
        with pytest.raises(WarehouseError, match="accounts of another warehouse: default"):
            ship(second, lake)
        assert ship(second, lake, ["other"]).accounts == 1
        assert status_of(second, lake).foreign == 1
        ship(second, lake, is_replacement=True)
        assert_equal(second, lake)
        assert ship(second, lake).accounts == 0


def test_two_shipments_at_once_end_with_the_rows_of_the_views(tmp_path: Path, lake: Path, engine_name: str) -> None:
    with World(tmp_path, small(3, queues=1)) as world:
        names = [f"account-{number}" for number in range(4)]
        for _ in range(2):
            for name in names:
                world.sync(account=name, key=f"key-of-{name}-0123456789")
            with ThreadPoolExecutor(4) as pool:
                everything = [pool.submit(ship, world, lake) for _ in range(2)]
                parts = [pool.submit(ship, world, lake, names[start::2]) for start in range(2)]
                for future in (*everything, *parts):
                    future.result()
            assert_equal(world, lake)
            world.now += timedelta(days=1)


def test_days_that_no_longer_belong_to_the_history_leave_the_lake(tmp_path: Path, lake: Path, engine_name: str) -> None:
    with World(tmp_path, small(3)) as world:
        world.sync(since=str(ago(40)), until=str(ago(35)))
        world.sync(since=str(ago(60)), max_requests=3)
        ship(world, lake)
        assert_equal(world, lake)
        assert "missing" in world.statuses()
        world.sync(since=str(ago(5)))
        ship(world, lake)
        assert_equal(world, lake)


@pytest.mark.of_the_file
def test_after_a_replay_all_days_are_shipped_again(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(6)) as world:
        world.sync()
        ship(world, lake)
        world.rows(
            "update internal.facts set money = money + 1 where day = %s", ago(4)
        )  # as a version that reads a response differently
        run_replay(world)
        assert ship(world, lake).accounts == 1
        assert_equal(world, lake)


@pytest.mark.of_the_file
def test_any_name_of_an_account_is_shipped(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(2, queues=1)) as world:
        for _ in range(2):
            for number, name in enumerate(["o'brien", "a b=c", "данные", 'quo"te', "null", "2026-01-01"]):
                world.sync(account=name, key=f"key-of-account-{number}-0123456789")
            ship(world, lake)
            assert_equal(world, lake)
            world.now += timedelta(days=1)


def test_a_sync_ships_and_a_lake_that_fails_does_not_fail_the_load(tmp_path: Path, lake: Path) -> None:
    with world_today(tmp_path, days=3) as world:
        assert world.run("sync", ANTICAPTCHA_LAKE="lake") == 0
        assert_equal(world, lake)
        shutil.rmtree(lake)
        lake.write_text("not a folder")
        before = world.one("select count(*) from internal.snapshots")
        assert world.run("sync", ANTICAPTCHA_LAKE="lake") == 4
        assert world.one("select count(*) from internal.snapshots") > before
        lake.unlink()
        assert world.run("lake", "push", "--lake", str(lake)) == 0
        assert_equal(world, lake)


@pytest.mark.of_the_file
def test_commands_of_a_lake(tmp_path: Path, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path, days=3) as world:
        assert world.run("lake", "push") == 2
        assert world.run("lake", "push", "--lake", str(lake)) == 4  # no warehouse
        assert world.run("sync") == 0
        assert world.run("lake", "status", "--lake", str(lake)) == 4
        assert world.run("lake", "optimize", "--lake", str(lake)) == 4
        for _ in range(2):
            assert world.run("lake", "push", "--lake", str(lake)) == 0
        capsys.readouterr()
        assert world.run("lake", "status", "--lake", str(lake), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["shipped"], found["behind"], found["diverged"]) == (1, 0, 0)
        assert found["files"] >= 4
        assert world.run("lake", "optimize", "--lake", str(lake)) == 0
        assert world.run("lake", "status", "--lake", str(lake)) == 0
        assert "complete until" in capsys.readouterr().out
        assert_equal(world, lake)


def test_columns_have_the_comments_of_the_views_and_money_is_exact(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(2)) as world:
        world.sync()
        ship(world, lake)
    fields = {field.name: field for field in DeltaTable(str(lake / "spending_hourly")).schema().fields}
    assert fields["money"].metadata["comment"].startswith("US dollars, exact")
    assert str(fields["money"].type) == 'PrimitiveType("decimal(18,9)")'
    assert str(fields["hour_start"].type) == 'PrimitiveType("timestamp_ntz")'


def test_lakes_of_other_versions_and_tables_of_others_are_refused(tmp_path: Path, lake: Path) -> None:
    with World(tmp_path, small(2)) as world:
        world.sync()
        ship(world, lake)
        accounts = DeltaTable(str(lake / POSITIONS))
        for text, message in (
            ("anticaptcha-etl lake, version 99, 16 buckets", "newer version"),
            ("anticaptcha-etl lake, version 1, 16 buckets", "older version"),
            ("mine", "not a lake"),
        ):
            accounts.alter.set_table_description(text)
            with pytest.raises(WarehouseError, match=message):
                ship(world, lake)

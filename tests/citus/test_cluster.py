"""What a distributed warehouse must withstand. Run by `make citus`, which also runs all tests of a server on the cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.errors import WarehouseError
from etl.outputs import cookbook
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse
from tests import postgres
from tests.e2e import world as worlds
from tests.e2e.world import World, ago, small

if TYPE_CHECKING:
    from tests.citus.cluster import Cluster

pytestmark = pytest.mark.citus

NAMES = ("shop", "lab", "archive", "studio", "agency")


@pytest.fixture
def cluster() -> "Iterator[Cluster]":
    """A cluster of the test's own, whose servers it may end."""
    started = postgres.start_cluster()
    yield started
    started.stop()


def new_warehouse(cluster: "Cluster") -> str:
    url = cluster.create_database("warehouse").render_as_string()
    migrate.upgrade(open_warehouse(url))
    postgres.distribute(url)
    return url


@contextmanager
def accounts(folder: Path, url: str, days: int = 20) -> Iterator[list[World]]:
    """Accounts that share a warehouse, each with a sandbox of its own."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "warehouse_in", lambda folder: url)
        found = []
        for number, name in enumerate(NAMES):
            (folder / name).mkdir()
            found.append(stack.enter_context(World(folder / name, small(days, seed=number))))
        yield found


def sync(world: World, **options: object) -> int:
    name = world.folder.name
    return world.sync(key=f"key-of-{name}-0123456789", account=name, since=str(ago(20)), **options).exit_code


def exit_code_of_sync(world: World) -> int:
    try:
        return sync(world)
    except WarehouseError as error:
        return error.exit_code


def hourly_of(world: World) -> worlds.Hours:
    sql = "select queue, hour_start, volume, money from spending_hourly where account = %s"
    return {(queue, hour): (volume, money) for queue, hour, volume, money in world.rows(sql, world.folder.name)}


def test_the_file_that_distributes_the_tables_may_run_again_and_places_each_account_on_one_worker(
    cluster: "Cluster", tmp_path: Path
) -> None:
    url = new_warehouse(cluster)
    postgres.distribute(url)
    groups = "select count(distinct colocationid), count(*) from pg_dist_partition where partmethod = 'h'"
    assert postgres.run_sql(url, groups) == [(1, 16)]
    with accounts(tmp_path, url) as worlds_:
        for world in worlds_:
            assert sync(world) == 0
        assert [hourly_of(world) == world.expected_rows() for world in worlds_] == [True] * len(NAMES)
    nodes = """
        select count(distinct (nodeport, shardid)), count(distinct nodeport)
          from citus_shards
         where table_name = 'internal.facts'::regclass and shard_size > 8192
    """
    [(shards, workers)] = postgres.run_sql(url, nodes)
    assert shards > 1
    assert workers == 2


def test_a_later_migration_works_on_distributed_tables(cluster: "Cluster", tmp_path: Path) -> None:
    url = new_warehouse(cluster)
    with accounts(tmp_path, url) as worlds_:
        assert sync(worlds_[0]) == 0
        before = hourly_of(worlds_[0])
        engine = open_warehouse(url)
        migrate.downgrade(engine, "0007")
        assert postgres.run_sql(url, "select count(*) from pg_dist_partition where partmethod = 'h'") == [(13,)]
        migrate.upgrade(engine)
        assert hourly_of(worlds_[0]) == before
        assert sync(worlds_[0]) == 0


def test_while_a_worker_is_down_accounts_on_others_are_loaded_and_afterwards_all_are_exact(
    cluster: "Cluster", tmp_path: Path
) -> None:
    url = new_warehouse(cluster)
    with accounts(tmp_path, url) as worlds_:
        for world in worlds_:
            assert sync(world) == 0
            world.now += timedelta(days=1)
        cluster.workers[1].kill()
        codes = {exit_code_of_sync(world) for world in worlds_}
        assert codes == {WarehouseError.exit_code}  # checks read all workers
        cluster.workers[1].start()
        assert len({hourly_of(world) == world.expected_rows() for world in worlds_}) == 2
        for world in worlds_:
            assert sync(world) == 0
            assert hourly_of(world) == world.expected_rows()


@pytest.mark.parametrize("moment", [40, 90, 140])
def test_a_worker_that_ends_during_a_sync_costs_no_money_and_no_cent_twice(
    cluster: "Cluster", tmp_path: Path, moment: int
) -> None:
    url = new_warehouse(cluster)
    with accounts(tmp_path, url, days=60) as (world, *_), world.start(concurrency=4) as process:
        world.wait_for(process, moment)
        for worker in cluster.workers:
            worker.kill()
        process.communicate()
        assert process.returncode != 0
        for worker in cluster.workers:
            worker.start()
        with world.start(concurrency=4) as again:
            stderr = again.communicate()[1]
        assert (again.returncode, stderr) == (0, "")
        assert world.hourly() == world.expected_rows()


def test_a_worker_is_added_and_shards_are_rebalanced_between_syncs(cluster: "Cluster", tmp_path: Path) -> None:
    url = new_warehouse(cluster)
    with accounts(tmp_path, url) as worlds_:
        for world in worlds_[:4]:
            assert sync(world) == 0
        added = cluster.add_worker()
        added.run_sql("create database warehouse")
        added.run_sql("create extension citus", database="warehouse")
        postgres.run_sql(url, f"select citus_add_node('127.0.0.1', {added.port})")
        postgres.run_sql(url, "select rebalance_table_shards(shard_transfer_mode => 'block_writes')")
        shards = f"select count(*) from citus_shards where nodeport = {added.port}"
        assert postgres.run_sql(url, shards)[0][0] > 0
        for world in worlds_:
            assert sync(world) == 0
            assert hourly_of(world) == world.expected_rows()


def test_every_cookbook_question_over_all_accounts_has_the_same_answer_as_in_duckdb(
    cluster: "Cluster", tmp_path: Path
) -> None:
    url = new_warehouse(cluster)
    with accounts(tmp_path, url) as worlds_:
        for world in worlds_:
            assert sync(world) == 0
        world = worlds_[0]
        file = tmp_path / "copy.duckdb"
        assert world.run("transfer", url, str(file)) == 0
        for recipe in cookbook.load():
            answers = []
            for warehouse in (url, str(file)):
                target = tmp_path / "answer.csv"
                assert world.run("query", f"@cookbook/{recipe.name}", "-o", str(target), "--warehouse", warehouse) == 0
                answers.append(sorted(target.read_text().splitlines()))
            assert answers[0] == answers[1], recipe.name

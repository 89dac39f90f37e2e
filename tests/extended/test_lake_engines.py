"""Engines that people use read a lake with exactly the sums of DuckDB."""

import json
import subprocess
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.outputs.lake.push import push
from tests.e2e.world import World, small
from tests.extended.environment import environment

pytestmark = pytest.mark.extended

ENGINES = ("duckdb", "polars", "pandas", "clickhouse", "sail")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A lake of several shipments, and its warehouse."""
    folder = tmp_path_factory.mktemp("lake")
    with World(folder, small(20, corrections=True)) as world:
        for _ in range(3):
            world.sync()
            push(world.warehouse, str(folder / "lake"), Clock(), wait=5)
            world.now += timedelta(days=1)
    return world, folder / "lake"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_reads_the_sums_of_the_warehouse(lake: tuple[World, Path], engine: str) -> None:
    world, folder = lake
    command = [
        environment("lake", (3, 10), (3, 13)) / "python",
        Path(__file__).with_name("lake_engines.py"),
        engine,
        folder,
    ]
    finished = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    rows = json.loads(finished.stdout.strip().splitlines()[-1])
    found = {(queue, day): (Decimal(money), int(volume)) for queue, day, money, volume in rows}
    assert len(found) == len(rows)
    stored = world.rows("select queue, day, money, volume from spending_daily")
    assert found == {(queue, str(day)): (money, volume) for queue, day, money, volume in stored}

"""Engines that people use read a lake with exactly the sums of DuckDB."""

import json
import subprocess
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.outputs.lake.push import push
from tests.e2e.world import World, small
from tests.extended.environment import environment

pytestmark = pytest.mark.extended

ENGINES = ("duckdb", "polars", "pandas", "clickhouse", "sail", "sail_cluster")
COOKBOOK = Path(__file__).resolve().parents[2] / "sql" / "cookbook"


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
    rows = run(engine, folder)
    found = {(queue, day): (Decimal(money), int(volume)) for queue, day, money, volume in rows}
    assert len(found) == len(rows)
    stored = world.rows("select queue, day, money, volume from spending_daily")
    assert found == {(queue, str(day)): (money, volume) for queue, day, money, volume in stored}


@pytest.mark.parametrize("question", ["busiest_stretches", "coverage_by_month", "queues_that_came_and_went"])
def test_a_question_of_the_cookbook_has_the_same_answer_on_a_cluster(lake: tuple[World, Path], question: str) -> None:
    world, folder = lake
    file = COOKBOOK / f"{question}.sql"
    stored = [tuple(map(comparable, row)) for row in world.rows(file.read_text())]
    assert [tuple(map(comparable, row)) for row in run("sail_cluster", folder, file)] == stored
    assert stored


def run(engine: str, *arguments: Path) -> list[list[str]]:
    program = environment("lake", (3, 10), (3, 13)) / "python"
    command = [str(part) for part in (program, Path(__file__).with_name("lake_engines.py"), engine, *arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    rows: list[list[str]] = json.loads(finished.stdout.strip().splitlines()[-1])
    return rows


def comparable(value: object) -> object:
    """Numbers as numbers, whatever their zeros; all else as text."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return str(value)

"""A real, migrated warehouse for each test: made once, copied as a closed file."""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade
from tests.e2e.world import World, small
from tests.postgres import migrated, new_database

Insert = Callable[..., None]

_FILLERS = {
    sa.Integer: 0,
    sa.BigInteger: 0,
    sa.Text: "",
    sa.LargeBinary: b"",
    sa.Numeric: Decimal(0),
    sa.Boolean: False,
    sa.Date: date(2026, 1, 1),
    sa.DateTime: datetime(2026, 1, 1),
}


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "warehouse.duckdb"
    upgrade(open_warehouse(warehouse_url(str(path))))
    return path


@pytest.fixture
def warehouse(kept_in: str, migrated_file: Path, tmp_path: Path) -> sa.Engine:
    """The engine of an empty warehouse with all tables and views."""
    if kept_in == "postgresql":
        return open_warehouse(new_database(like=migrated()))
    return open_warehouse(warehouse_url(str(shutil.copy(migrated_file, tmp_path / "warehouse.duckdb"))))


@pytest.fixture
def insert(warehouse: sa.Engine) -> Insert:
    """``insert(table, {...}, {...})``: what a row does not say is zero, empty, or null where that is allowed."""

    def insert(table: sa.Table, *rows: dict[str, object]) -> None:
        fillers = {column.name: None if column.nullable else _FILLERS[type(column.type)] for column in table.columns}
        with warehouse.begin() as connection:
            for row in rows:
                assert row.keys() <= fillers.keys()
                connection.execute(sa.insert(table).values({**fillers, **row}))

    return insert


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one excluded name, loaded once."""
    with World(tmp_path_factory.mktemp("history"), small(4, 2)) as world:
        world.sync(queues=("Mistyped",))
        return world.file


@pytest.fixture
def loaded(history: Path, tmp_path: Path) -> Iterator[World]:
    """A world with a copy of that warehouse."""
    with World(tmp_path, small(4, 2)) as world:
        shutil.copy(history, world.file)
        yield world

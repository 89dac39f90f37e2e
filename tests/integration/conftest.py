"""A migrated warehouse for each test, copied from a template."""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.e2e.world import World, small
from tests.migrated_file import copy_migrated, migrated_file
from tests.postgres import migrated, new_database

Insert = Callable[..., None]

_DEFAULTS = {
    sa.Integer: 0,
    sa.BigInteger: 0,
    sa.Text: "",
    sa.LargeBinary: b"",
    sa.Numeric: Decimal(0),
    sa.Boolean: False,
    sa.Date: date(2026, 1, 1),
    sa.DateTime: datetime(2026, 1, 1),
}


@pytest.fixture(scope="session", name="migrated_file")
def _migrated_file() -> Path:
    return migrated_file()


@pytest.fixture
def warehouse(engine_name: str, tmp_path: Path) -> sa.Engine:
    """The engine of an empty warehouse with all tables and views."""
    if engine_name == "postgresql":
        return open_warehouse(new_database(like=migrated()))
    return open_warehouse(warehouse_url(str(copy_migrated(tmp_path / "warehouse.duckdb"))))


@pytest.fixture
def insert(warehouse: sa.Engine) -> Insert:
    """``insert(table, {...}, {...})``: columns that a row leaves out are null if allowed, otherwise zero or empty."""

    def insert(table: sa.Table, *rows: dict[str, object]) -> None:
        defaults = {column.name: None if column.nullable else _DEFAULTS[type(column.type)] for column in table.columns}
        with warehouse.begin() as connection:
            for row in rows:
                assert row.keys() <= defaults.keys()
                connection.execute(sa.insert(table).values({**defaults, **row}))

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

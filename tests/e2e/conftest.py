"""Worlds use the engine that the test runs on."""

from pathlib import Path

import pytest

from tests.e2e import world
from tests.postgres import migrated, new_database


@pytest.fixture(autouse=True)
def _warehouse_on_the_tests_engine(engine_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    databases: dict[Path, str] = {}

    def database_of(folder: Path) -> str:
        if folder not in databases:
            databases[folder] = new_database(like=migrated())
        return databases[folder]

    if engine_name == "postgresql":
        monkeypatch.setattr(world, "warehouse_in", database_of)

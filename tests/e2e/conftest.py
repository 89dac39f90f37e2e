"""Worlds keep their warehouses in the engine that the test is run on."""

from pathlib import Path

import pytest

from tests.e2e import world
from tests.postgres import new_database


@pytest.fixture(autouse=True)
def _in_its_place(kept_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    databases: dict[Path, str] = {}

    def database(folder: Path) -> str:
        if folder not in databases:
            databases[folder] = new_database()
        return databases[folder]

    if kept_in == "postgresql":
        monkeypatch.setattr(world, "place", database)

"""A warehouse as syncs make it, with something in each view, for programs that read what comes out of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox.behaviour import Fault, FaultKind
from tests.e2e.world import World, ago, small

DAYS = 60
"""Across a change of the clocks in New York: readers there must not move an hour."""


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two months of three queues, cut by app and IP too, with corrections and a record that was refused."""
    folder = tmp_path_factory.mktemp("synced")
    spending = small(DAYS, idle_hours=20, places=9, corrections=True)
    refused = Fault(FaultKind.NEGATIVE_VOLUME, days=(ago(9),), soft_ids=(None,), ips=(None,))
    dimensions: dict[str, Any] = {"soft_ids": ["1011", "1022"], "ips": ["192.0.2.10"]}
    with World(folder, spending, faults=(refused,)) as world:
        world.sync(**dimensions)
        world.sandbox.faults = ()
        world.now += timedelta(days=1)
        world.sync(**dimensions)
    return world.file

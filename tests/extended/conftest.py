"""A synced warehouse with rows in each view, for tests with programs that read its copies and exports."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox.behaviour import Fault, FaultKind
from tests.e2e.world import World, ago, small

DAYS = 60
"""Includes a clock change in New York: readers there must not shift an hour."""


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two months of three queues, also by app and IP, with corrections and a rejected record."""
    folder = tmp_path_factory.mktemp("synced")
    spending = small(DAYS, idle_hours=20, places=9, corrections=True)
    rejected = Fault(FaultKind.NEGATIVE_VOLUME, days=(ago(9),), soft_ids=(None,), ips=(None,))
    members: dict[str, Any] = {"soft_ids": ["1011", "1022"], "ips": ["192.0.2.10"]}
    with World(folder, spending, faults=(rejected,)) as world:
        world.sync(**members)
        world.sandbox.faults = ()
        world.now += timedelta(days=1)
        world.sync(**members)
    return world.file

"""The fault matrix: failures of networks and of the API; each row of the README's table is a test."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.faults import MATRIX, Scene
from tests.e2e.world import World, by_hour, small
from tests.integration.scripted_server import needs_openssl

_NEED_OPENSSL = {"self_signed", "wrong_host"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_openssl if name in _NEED_OPENSSL else ()) for name in MATRIX.rows]
)
def test_a_fault_is_handled_as_documented_and_the_next_sync_ends_exact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = MATRIX.rows[name]
    with World(tmp_path, small(days=12)) as world:
        with monkeypatch.context() as patched:
            assert row.run(Scene(world, patched)) == row.code
        _assert_stored_hours_are_exact(world)
        if row.code == 0:
            assert world.hourly() == world.expected_rows() or name == "clock_behind"
        world.sandbox.faults = ()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("failed") == set()


def _assert_stored_hours_are_exact(world: World) -> None:
    """Assert that every stored hour equals the API's data to the last digit; hours that were not read have no row."""
    expected_rows = by_hour(world.expected_rows())
    for hour, value in by_hour(world.hourly()).items():
        assert value == expected_rows.get(hour, (0, Decimal(0)))

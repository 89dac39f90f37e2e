"""The fault matrix: what networks and the API do, against real files; each row of the README's table is a test."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.faults import MATRIX, Scene
from tests.e2e.world import World, by_hour, small
from tests.integration.scripted_server import needs_openssl

_BY_OPENSSL = {"self_signed", "wrong_host"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_openssl if name in _BY_OPENSSL else ()) for name in MATRIX.rows]
)
def test_a_fault_is_met_as_the_table_says_and_the_next_run_ends_exact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = MATRIX.rows[name]
    with World(tmp_path, small(days=12)) as world:
        with monkeypatch.context() as patched:
            assert row.run(Scene(world, patched)) == row.code
        _holds_nothing_untrue(world)
        if row.code == 0:
            assert world.hourly() == world.expected_rows() or name == "clock_behind"
        world.sandbox.faults = ()
        assert world.sync().exit_code == 0
        assert world.hourly() == world.expected_rows()
        assert world.days("failed") == set()


def _holds_nothing_untrue(world: World) -> None:
    """Every hour that is held is the account's own, to the last digit; what was not read is absent."""
    expected_rows = by_hour(world.expected_rows())
    for hour, value in by_hour(world.hourly()).items():
        assert value == expected_rows.get(hour, (0, Decimal(0)))

"""The matrix of interruptions: each row of the README's table is a test."""

from pathlib import Path

import pytest

from tests.chaos.rows import MATRIX

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MATRIX.rows)
def test_an_interruption_is_handled_as_documented_and_the_next_sync_ends_exact(name: str, tmp_path: Path) -> None:
    row = MATRIX.rows[name]
    assert row.run(tmp_path) == row.code

"""The matrix of crashes and of two programs at once: each row of the README's table is a test."""

from pathlib import Path

import pytest

from tests.chaos.rows import MATRIX

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MATRIX.rows)
def test_a_run_is_cut_off_or_crossed_as_the_table_says_and_the_next_ends_exact(name: str, tmp_path: Path) -> None:
    row = MATRIX.rows[name]
    assert row.run(tmp_path) == row.code

"""The README's tables of faults, of crashes and of two programs are those that the tests are made of."""

from pathlib import Path

import pytest

from tests.chaos import rows
from tests.e2e import faults

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize(
    ("module", "table"),
    [("tests.e2e.faults", faults.MATRIX.table()), ("tests.chaos.rows", rows.MATRIX.table())],
    ids=["faults", "chaos"],
)
def test_the_readme_prints_the_rows_that_are_tested(module: str, table: str) -> None:
    _, _, section = README.read_text().partition("\n## Reliability\n")
    section, _, _ = section.partition("\n## ")
    assert f"\n\n{table}\n" in section, f"make the README's table anew, for instance with python -m {module}"
